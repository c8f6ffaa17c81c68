//! The last offers of WHIP and WHEP sessions. An ICE restart brings only credentials (RFC 9725 section 4.3.3), and a
//! media node is told of it by a whole offer; so the door that took the offer keeps it.
//!
//! **Bound and full rule.** At most [`MAX_BYTES`] of offers; the one kept longest makes room. A session whose offer is
//! gone cannot restart ICE and is told to begin anew; nothing else changes for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use isthmus_protocol::ParticipantId;

/// About two thousand sessions of usual size.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A session's offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Counts the session's offers from 1.
    pub(super) revision: u32,
    /// The description.
    pub(super) sdp: Arc<str>,
}

impl Offer {
    /// A session's first offer.
    pub(super) fn first(sdp: String) -> Self {
        Self { revision: 1, sdp: sdp.into() }
    }

    /// The offer that follows this one.
    pub(super) fn next(&self, sdp: String) -> Self {
        Self { revision: self.revision.wrapping_add(1), sdp: sdp.into() }
    }
}

/// Offers by session.
#[derive(Default)]
pub(crate) struct Offers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_session: HashMap<ParticipantId, Offer>,
    /// Each session in `by_session` once, the one kept longest first.
    order: VecDeque<ParticipantId>,
    bytes: usize,
}

impl Offers {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, session: ParticipantId, offer: Offer) {
        let mut kept = self.lock();
        kept.forget(&session);
        kept.bytes += offer.sdp.len();
        kept.order.push_back(session.clone());
        kept.by_session.insert(session, offer);
        while kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.order.front().cloned() else { break };
            kept.forget(&oldest);
        }
    }

    pub(super) fn get(&self, session: &ParticipantId) -> Option<Offer> {
        self.lock().by_session.get(session).cloned()
    }

    pub(super) fn forget(&self, session: &ParticipantId) {
        self.lock().forget(session);
    }
}

impl Kept {
    fn forget(&mut self, session: &ParticipantId) {
        if let Some(offer) = self.by_session.remove(session) {
            self.bytes -= offer.sdp.len();
            self.order.retain(|other| other != session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u8) -> ParticipantId {
        ParticipantId::from_random([n; 10])
    }

    #[test]
    fn the_offer_kept_longest_makes_room() {
        let offers = Offers::default();
        for n in 0..3 {
            offers.keep(session(n), Offer::first("x".repeat(MAX_BYTES / 2)));
        }
        assert!(offers.get(&session(0)).is_none());
        assert!(offers.get(&session(1)).is_some() && offers.get(&session(2)).is_some());
    }

    #[test]
    fn a_session_has_one_offer_its_last() {
        let offers = Offers::default();
        let first = Offer::first("one".to_owned());
        offers.keep(session(1), first.clone());
        offers.keep(session(1), first.next("three".to_owned()));
        assert_eq!(offers.get(&session(1)).map(|offer| offer.revision), Some(2));
        assert_eq!(offers.lock().bytes, "three".len());
        offers.forget(&session(1));
        let kept = offers.lock();
        assert_eq!((kept.bytes, kept.order.len()), (0, 0));
    }
}
