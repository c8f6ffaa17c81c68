//! A headless client: it joins a room by the public API as the browser does, publishes real VP8 and Opus, and measures
//! what it receives.
//!
//! A client is one value, [`Client`](session::Client), driven by the time and by what arrives; it does no IO. So a test
//! runs it on a virtual network, and one process can run many.
//!
//! ```text
//!   door --(HTTP: pops, probes, token)--> join ---+
//!   server <-(WebSocket, or one exchange)-> drive +-> session::Client -> publish (media/) -> str0m -> UDP or TCP
//!                            ^                    |   with its        <- measure/          <- str0m <-
//!                          entry                  |   signalling
//!                                                 +-> report (JSON, live line)
//! ```
//!
//! | module    | does                                                                                    |
//! |-----------|-----------------------------------------------------------------------------------------|
//! | `media`   | the clips that are published: VP8 in IVF, speech as Opus packets with levels            |
//! | `vp8`     | VP8 in RTP: reading and writing payload descriptors                                     |
//! | `publish` | what to send when: layers, keyframes on request                                         |
//! | `redundancy` | each packet of a voice with the one before (RFC 2198)                                  |
//! | `measure` | what arrived: loss, jitter, delays, whole frames, freezes                               |
//! | `stamp`   | when speech was sent, in its packets: how long it was under way                         |
//! | `session` | one client: negotiation, transport, publishing and measuring together                   |
//! | `signalling` | how it agrees on media with a server: Isthmus, Janus's videoroom, WHIP and WHEP      |
//! | `entry`   | the way into a room of each kind of server                                              |
//! | `report`  | what it measured, as JSON                                                               |
//! | `join`    | the HTTP part of joining: nearest PoP and token                                         |
//! | `impairment` | a bad network for one client, in its own socket layer                               |
//! | `framing` | RTP over TCP (RFC 4571)                                                                 |
//! | `drive`   | sockets and clock around one client                                                     |
//! | `command` | `loadtest join`                                                                         |

pub mod command;
pub mod drive;
pub mod entry;
pub mod framing;
pub mod impairment;
pub mod join;
pub mod measure;
pub mod media;
pub mod publish;
pub mod redundancy;
pub mod report;
pub mod session;
pub mod signalling;
pub mod stamp;
pub mod vp8;
