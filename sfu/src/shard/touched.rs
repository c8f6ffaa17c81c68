//! Whose turn it is: what is to be done about which clients when a round is settled, or soon after.

use isthmus_protocol::media::MediaPacket;

use super::client::Client;
use crate::core::room::ClientKey;

/// What is to be done about a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    #[default]
    Nothing,
    /// Packets of a picture wait to go out, and the rest of the picture may soon be here.
    Gather,
    /// What waits to go out is to be sent.
    Flush,
    /// And its peer connection is to be woken and polled before.
    Poll,
}

impl Due {
    /// When a packet was queued.
    pub(super) fn for_sending(packet: &MediaPacket) -> Self {
        if packet.codec.is_audio() || packet.marker { Self::Flush } else { Self::Gather }
    }
}

/// Whom something is to be done about, in this round or soon.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// When the round is settled.
    pub(super) now: Vec<ClientKey>,
    /// When the pictures of which they were sent a part are complete, or have been waited for long enough. Some have been
    /// touched again since, ...
    pub(super) gathering: Vec<ClientKey>,
    /// ... so many have not.
    pub(super) still_gathering: usize,
}

impl Touched {
    pub(super) fn add(&mut self, key: ClientKey, client: &mut Client, due: Due) {
        let before = client.due;
        client.due = before.max(due);
        if before == Due::Nothing && client.due == Due::Gather {
            self.gathering.push(key);
            self.still_gathering += 1;
        }
        if before < Due::Flush && client.due >= Due::Flush {
            self.now.push(key);
            if before == Due::Gather {
                self.no_longer_gathers();
            }
        }
    }

    fn no_longer_gathers(&mut self) {
        self.still_gathering -= 1;
        if self.still_gathering == 0 {
            self.gathering.clear();
        }
    }

    pub(super) fn forget(&mut self, key: ClientKey, due: Due) {
        match due {
            Due::Nothing => {}
            Due::Gather => {
                self.gathering.retain(|touched| *touched != key);
                self.no_longer_gathers();
            }
            Due::Flush | Due::Poll => self.now.retain(|touched| *touched != key),
        }
    }
}
