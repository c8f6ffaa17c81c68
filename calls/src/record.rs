//! What is kept of a call for each person in it.

use isthmus_protocol::{CallId, PersonId};
use serde::{Deserialize, Serialize};

use crate::call::LegEnd;

/// Who rang whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// They called.
    Outgoing,
    /// They were called.
    Incoming,
}

/// A call as one person remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The call.
    pub call: CallId,
    /// Whose record it is.
    pub person: PersonId,
    /// The others, the caller first.
    pub with: Vec<PersonId>,
    /// Whether they called or were called.
    pub direction: Direction,
    /// Whether it was to be a video call.
    pub video: bool,
    /// When they were rung, or called, in milliseconds since the epoch.
    pub begun_ms: u64,
    /// How long they were in it with somebody else, in milliseconds; none if they never were.
    pub talked_ms: Option<u64>,
    /// How it ended for them.
    pub end: LegEnd,
}

impl Record {
    /// Whether they were called and somebody should tell them.
    pub fn is_missed(&self) -> bool {
        let unanswered = matches!(self.end, LegEnd::NoAnswer | LegEnd::Cancelled | LegEnd::Busy);
        self.direction == Direction::Incoming && unanswered
    }
}
