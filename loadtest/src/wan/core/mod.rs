//! The emulated network as a value: packets and the time go in, due packets and counters come out.
//!
//! No sockets, no clock, no randomness but what a seed gives: one seed and one sequence of packets is one run.
//! `link` is one direction between two hosts; `fabric` is all of them; `packet` reads the few header fields that
//! routing needs; `counters` is what the links saw.

mod counters;
mod fabric;
mod link;
mod packet;

pub use counters::{Counters, Drops, LinkCounters, SourceDrops, Tally};
pub use fabric::{Departure, Fabric, HostId, MAX_IN_FLIGHT_PACKETS};
pub use link::{Block, DropReason, Link, LinkParameters, ParameterError};
pub use packet::{PacketError, Route, Transport};
