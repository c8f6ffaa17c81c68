//! The load tester of Isthmus: what a reliability engineer runs to see how the platform does.
//!
//! It shares only `isthmus-protocol` with the product and reaches it by the public API alone, so what it measures is
//! what a client gets.
//!
//! - [`wan`]: an emulated wide-area network of network namespaces in which PoPs, clients and browsers run.
//! - [`floor`]: what this machine could do at best, for the figures of a media node to be held against.
//! - [`run`]: many clients by a scenario: what they measured together, thresholds, reports.
//! - [`bench`]: what carrying media costs, beside the floor and another media server, in one run.
//! - [`client`]: a headless client that joins a room like the browser does, and measures what it receives.

pub mod bench;
pub mod client;
pub mod duration;
pub mod exit;
pub mod floor;
pub mod run;
mod signals;
pub mod toml_source;
pub mod wan;
