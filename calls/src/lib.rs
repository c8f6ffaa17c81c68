//! Calls between people: who is rung, who answers, who is in it, and how it ends. Sans-IO: what happens and the time come in,
//! what is to be done comes out.
//!
//! # The contract
//! - **One owner**: the door that the caller called from decides ([`Call`]). Everyone else tells it what happened and is told
//!   what became of it, so two who answer at once are told apart by one.
//! - **A call is legs**: one for each person, who is rung, in it with one device, or out of it. A call between two people and one
//!   among many are the same; adding somebody is another leg.
//! - **No media before an answer**: a person's device may join the call's room from its [`Effect::Admit`] on, and not before.
//!   A callee has that only after one of their devices accepted.
//! - **Everything may come twice, late or not at all**: what was said already changes nothing, what comes too late is refused
//!   with what became of the call, and what never comes is covered by a time-out.
//! - **It always ends**: whoever is alone in a call without anyone being rung is let out of it.

mod call;
mod record;
#[cfg(test)]
mod tests;

pub use call::{Call, Effect, Input, Invitation, LegEnd, Quiet, RING_FOR, Refused, precedes};
pub use record::{Direction, Record};
