//! The load tester of Isthmus: what a reliability engineer runs to see how the platform does.
//!
//! It shares only `isthmus-protocol` with the product and reaches it by the public API alone, so what it measures is
//! what a client gets.
//!
//! - [`wan`]: an emulated wide-area network of network namespaces in which PoPs, clients and browsers run.
//! - [`client`]: a headless client that joins a room like the browser does, and measures what it receives.

pub mod client;
pub mod exit;
pub mod wan;
