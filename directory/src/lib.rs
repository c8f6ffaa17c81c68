//! Who and what is where: points of presence, media nodes, rooms, and which PoP is nearest to whom.
//!
//! # The contract
//! - **What is stored**: PoPs, media nodes with load and state, rooms (home PoP, member nodes), and round trips by
//!   network prefix; people: their accounts, devices and profiles. No media, no address that a person was seen at.
//! - **Where**: behind the DynamoDB API, one replica per PoP. In production that is one DynamoDB global table per kind;
//!   in development each PoP runs an [`embedded`] store in a file, which sends its writes to the others. The tables and
//!   keys stand in [`tables`].
//! - **Consistency**: a PoP reads its own writes at once and those of others later (about a second between AWS
//!   regions). Of two writes to one item the later stands, everywhere ([`tables`] says who writes what: only a room's
//!   home has writers in several PoPs). Conditions are checked against the own replica alone, so two PoPs may claim a
//!   room at the same moment; the later claim stands. What must happen only once is written by one PoP alone ([`home`]).
//! - **What may be lost**: a write that its PoP took and had not sent when its store was lost for good; of two PoPs'
//!   claims to a room, one. Everything else is said again by who owns it: nodes every [`HEARTBEAT_INTERVAL`], rooms
//!   every [`MEMBER_REFRESH`], measurements by the next client.
//! - **When the store is down**: every call fails within [`Config::timeout_ms`] with a [`StoreError`] that says what to
//!   look at. Calls between people do not need it: a door ranks PoPs from its last [`Snapshot`], nodes know each other
//!   by their links.
//!
//! # The parts
//! - [`Directory`]: the calls services make.
//! - [`ranking`]: which PoP is nearest, sans-IO: [`rank`].
//! - [`home`]: which PoP may do what must happen only once. [`People`]: what is guarded by it, and what others see of people.
//! - [`embedded`]: the store of a development PoP, and its replicator.

pub mod embedded;
pub mod home;
pub mod ranking;

mod config;
mod directory;
mod error;
mod guarded;
mod hearing;
mod item;
mod metrics;
mod people;
mod records;
mod schema;
mod store;
pub mod tables;
mod time;
mod version;

pub use config::{Config, CredentialSource, Leases, PeerStore, StoreConfig};
pub use directory::Directory;
pub use embedded::{StoreFailure, run_store};
pub use error::StoreError;
pub use guarded::{NotWritten, Standing};
pub use metrics::Metrics;
pub use people::People;
pub use ranking::{Caller, LatencyRecord, Place, Places, Prefix, Reporter, rank};
pub use records::{HEARTBEAT_INTERVAL, NODE_SILENT_AFTER, NodeRecord, PopRecord, RoomMember, RoomRecord, Snapshot};
pub use tables::{HOME_LIFETIME, MEMBER_LIFETIME, MEMBER_REFRESH, NODE_LIFETIME, POP_LIFETIME};
pub use time::UnixMicros;
