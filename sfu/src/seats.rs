//! The one thing that the threads of a node share: who sits where. Taken when a stay begins or ends, when one is taken up
//! again, and once a second when a shard says how busy it is; never for a packet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isthmus_protocol::{ParticipantId, RoomId};

use crate::core::seating::Seating;

/// Who sits where; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Mutex<Seating>>);

impl Seats {
    pub(crate) fn new(seating: Seating) -> Self {
        Self(Arc::new(Mutex::new(seating)))
    }

    /// Counts are whole at every moment, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Seating> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard that takes a newcomer.
    pub(crate) fn place(&self, room: &RoomId, participant: &ParticipantId, replaces: Option<&ParticipantId>) -> u8 {
        self.lock().place(room, participant, replaces)
    }

    /// The shard where a stay is.
    pub(crate) fn find(&self, participant: &ParticipantId) -> Option<u8> {
        self.lock().find(participant)
    }

    /// A stay has begun on `shard`.
    pub(crate) fn take(&self, room: &RoomId, participant: &ParticipantId, shard: u8) {
        self.lock().take(room, participant, shard);
    }

    /// A stay is over, or did not begin.
    pub(crate) fn leave(&self, participant: &ParticipantId) {
        self.lock().leave(participant);
    }

    /// How many of `room` are on the node.
    pub(crate) fn room_size(&self, room: &RoomId) -> usize {
        self.lock().room_size(room)
    }

    /// The rooms with someone on the node.
    pub(crate) fn rooms(&self) -> Vec<RoomId> {
        self.lock().rooms().cloned().collect()
    }

    /// `shard`'s thread was at work for this share of the last second.
    pub(crate) fn set_busy(&self, shard: u8, busy: f64) {
        self.lock().set_busy(shard, busy);
    }

    /// The mean of what the shards were at work.
    pub(crate) fn mean_busy(&self) -> f64 {
        self.lock().mean_busy()
    }
}
