//! What has come before. The peer connection's library takes an RTCP packet twice; a browser drops the second (RFC 3711
//! section 3.3.2), and a server may send it twice on purpose where much is lost.

use std::collections::VecDeque;

/// How many datagrams are remembered: as many as a receiver must tell apart (RFC 3711 section 3.3.2).
const REMEMBERED: usize = 64;
/// An SRTCP packet ends with its index and its tag, in either order: no two of one sender end alike.
const END_BYTES: usize = 14;

/// The newest RTCP datagrams.
#[derive(Debug, Default)]
pub(super) struct Replays {
    ends: VecDeque<[u8; END_BYTES]>,
}

impl Replays {
    /// Whether this datagram is RTCP that has come before. It has from now on.
    pub(super) fn is_one(&mut self, datagram: &[u8]) -> bool {
        // RFC 7983 section 7, RFC 5761 section 4.
        let is_rtcp = matches!(datagram, [128..192, 192..224, ..]);
        let Some(end) = datagram.last_chunk::<END_BYTES>().filter(|_| is_rtcp) else { return false };
        if self.ends.contains(end) {
            return true;
        }
        if self.ends.len() >= REMEMBERED {
            self.ends.pop_front();
        }
        self.ends.push_back(*end);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_once_and_media_as_often_as_it_likes() {
        let datagram = |second: u8, index: u8| [&[128, second][..], &[7; 20], &[index; END_BYTES]].concat();
        let mut replays = Replays::default();
        assert!(!replays.is_one(&datagram(205, 1)));
        assert!(!replays.is_one(&datagram(205, 2)));
        assert!(replays.is_one(&datagram(205, 1)));
        assert!(!replays.is_one(&datagram(96, 3)) && !replays.is_one(&datagram(96, 3)));
        assert!(!replays.is_one(&[128, 205]), "it is too short to be one");
        for index in 3..=66 {
            assert!(!replays.is_one(&datagram(205, index)));
        }
        assert!(!replays.is_one(&datagram(205, 1)), "it is forgotten");
    }
}
