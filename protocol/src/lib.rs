//! What crosses a boundary in Isthmus, and nothing else: identifiers, client messages, the messages between a
//! door and a media node, the messages and datagrams between media nodes, tokens and problem documents.
//!
//! Every type here is a value: no IO, no clock, no global state. The TypeScript the web app compiles against is
//! generated from these types (`tests/typescript.rs`), so that a message has one definition.
//!
//! | module      | boundary                                                             | form              |
//! |-------------|----------------------------------------------------------------------|-------------------|
//! | [`signal`]  | client and door (WebSocket), handed on unchanged to the media node   | JSON, versioned   |
//! | [`node`]    | door and media node, one QUIC stream per session                     | JSON frames       |
//! | [`peer`]    | media node and media node, control stream                            | JSON frames       |
//! | [`media`]   | media node and media node, datagrams                                 | binary, versioned |
//! | [`red`]     | the payloads of voices with redundancy                               | RFC 2198          |
//! | [`pops`]    | client and door, finding the nearest PoP                             | JSON over HTTP    |
//! | [`accounts`] | client and door, accounts and devices                               | JSON over HTTP    |
//! | [`person`]  | client and door, people and what they are called                    | JSON over HTTP    |
//! | [`guest`]   | client and door, a token for someone without an account              | JSON over HTTP    |
//! | [`token`]   | whoever issues tokens, people's devices and the doors                | JWT, EdDSA        |
//! | [`problem`] | any error an HTTP or signalling client can see                       | RFC 9457          |

pub mod accounts;
pub mod guest;
pub mod id;
pub mod media;
pub mod node;
pub mod peer;
pub mod person;
pub mod pops;
pub mod problem;
pub mod red;
pub mod signal;
pub mod token;

pub use id::{CallId, DeviceId, NodeId, ParticipantId, PersonId, PopId, RoomId, TrackId};
