//! When each phase of joining ended.

use std::time::Instant;

use crate::client::report::{JoinPhases, millis};

/// When each phase of joining ended; none for one that has not.
#[derive(Debug, Clone, Copy)]
pub struct PhaseTimes {
    /// Just before the first request.
    pub start: Instant,
    /// The list of PoPs was there and the best were probed.
    pub pops: Option<Instant>,
    /// The token was there.
    pub token: Option<Instant>,
    /// The signalling socket was open.
    pub socket: Option<Instant>,
    /// The node had welcomed the client.
    pub welcome: Option<Instant>,
    /// The answer to the offer was there.
    pub answer: Option<Instant>,
    /// ICE had a pair.
    pub ice: Option<Instant>,
    /// The DTLS handshake was done.
    pub dtls: Option<Instant>,
}

impl PhaseTimes {
    /// Joining begins.
    pub fn begin(start: Instant) -> Self {
        Self { start, pops: None, token: None, socket: None, welcome: None, answer: None, ice: None, dtls: None }
    }

    pub(super) fn report(&self, first_packet: Option<Instant>, first_frame: Option<Instant>) -> JoinPhases {
        let since = |at: Option<Instant>| at.map(|at| millis(at - self.start));
        JoinPhases {
            pops_ms: since(self.pops),
            token_ms: since(self.token),
            socket_ms: since(self.socket),
            welcome_ms: since(self.welcome),
            answer_ms: since(self.answer),
            ice_ms: since(self.ice),
            dtls_ms: since(self.dtls),
            first_packet_ms: since(first_packet),
            first_frame_ms: since(first_frame),
        }
    }
}
