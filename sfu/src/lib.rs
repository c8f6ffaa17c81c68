//! The media node: it takes each client's media over one peer connection, decides who gets which of it, and sends it on,
//! to clients here and, once per link, to the nodes that have others of the room.
//!
//! Two halves. [`core`] decides: values and the time in, effects out, no IO. `shard` moves packets: one thread per core
//! with its own sockets, peer connections (str0m) and rooms, so that no lock and no task switch stands on the packet
//! path. Around them, [`Node`] takes sessions from doors and news from peer nodes off the relay.
//!
//! A room lives on the shard that its name hashes to, and a large one on others too: its shards are each other's peers, as
//! nodes are. Nothing here knows HTTP, accounts or telephone numbers.

mod config;
pub mod core;
mod metrics;
mod node;
mod seats;
mod session;
mod shard;

pub use config::Config;
pub use metrics::Metrics;
pub use node::{Node, StartError};
