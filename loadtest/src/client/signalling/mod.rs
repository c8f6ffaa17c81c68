//! How a client and a server agree on media: one folder for every kind of server that can be tested. A dialogue is sans-IO:
//! it is told what came over the signalling socket and what time it is, and says what to send through the client's
//! [`Output`](super::session::Output).
//!
//! | module    | does                                                                                              |
//! |-----------|---------------------------------------------------------------------------------------------------|
//! | `isthmus` | `isthmus-protocol`'s messages over a WebSocket: the client offers, once                          |
//! | `janus`   | the Janus API over a WebSocket, with the videoroom plugin: who watches is offered to              |
//! | `whip`    | WHIP and WHEP: one exchange over HTTP, after which nothing is said                                |

pub mod isthmus;
pub mod janus;
pub mod whip;

use std::time::Instant;

use super::session::{ClientError, Facts, Media};

/// One client's dialogue with its server.
pub enum Signalling {
    /// Isthmus.
    Isthmus(isthmus::Dialogue),
    /// Janus's videoroom.
    Janus(janus::Dialogue),
    /// WHIP or WHEP.
    Whip(whip::Dialogue),
}

impl Signalling {
    /// The signalling socket is open.
    pub(super) fn begin(&mut self, media: &mut Media) {
        match self {
            Self::Isthmus(dialogue) => dialogue.begin(media),
            Self::Janus(dialogue) => dialogue.begin(media),
            Self::Whip(_) => {}
        }
    }

    /// The server said something.
    pub(super) fn handle_text(&mut self, media: &mut Media, now: Instant, text: &str) -> Result<(), ClientError> {
        match self {
            Self::Isthmus(dialogue) => dialogue.handle_text(media, now, text),
            Self::Janus(dialogue) => dialogue.handle_text(media, now, text),
            Self::Whip(_) => Ok(()),
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, media: &mut Media, now: Instant) {
        if let Self::Janus(dialogue) = self {
            dialogue.handle_timeout(media, now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        match self {
            Self::Janus(dialogue) => dialogue.next_due(),
            Self::Isthmus(_) | Self::Whip(_) => None,
        }
    }

    /// Says goodbye. A WHIP session is deleted by HTTP.
    pub(super) fn leave(&mut self, media: &mut Media) {
        match self {
            Self::Isthmus(_) => isthmus::leave(media),
            Self::Janus(dialogue) => dialogue.leave(media),
            Self::Whip(_) => {}
        }
    }

    /// What the server told of itself and of others.
    pub(super) fn facts(&self) -> Facts {
        match self {
            Self::Isthmus(dialogue) => dialogue.facts(),
            Self::Janus(dialogue) => dialogue.facts(),
            Self::Whip(dialogue) => dialogue.facts(),
        }
    }
}
