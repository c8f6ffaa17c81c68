//! What this machine could do at best: media packets are sealed and sent, and nothing is decided about them. A media node
//! cannot be cheaper than that, so its cost is told as a multiple of this floor.
//!
//! | module      | does                                                                       |
//! |-------------|----------------------------------------------------------------------------|
//! | `plan`      | what is sent when, and the figures made of what was measured               |
//! | `seal`      | RTP packets sealed as SRTP seals them with AES-256-GCM (RFC 7714)          |
//! | `sending`   | the sending thread: waits, seals, sends, reads how much CPU time it had    |
//! | `receiving` | receivers on loopback, which read and count                                |
//! | `command`   | `loadtest floor`                                                           |

pub mod command;
pub mod plan;
mod receiving;
mod seal;
pub(crate) mod sending;
