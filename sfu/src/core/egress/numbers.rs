//! The numbers of sealed packets: under one key none is ever used twice. With AES-GCM a second use would give the key stream
//! away, and with it the key that authenticates (RFC 7714 section 8.1).

use rustc_hash::FxHashSet;

/// How far behind the newest packet of a stream another may still be sent.
const WINDOW: u64 = 1_024;
const WORD_BITS: u64 = u64::BITS as u64;
/// SRTP packet indices have 48 bits: 16 of the sequence number, 32 of its rollovers (RFC 3711 section 3.3.1).
const MAX_INDEX: u64 = (1 << 48) - 1;

/// The number of one packet of one stream, good for sealing one packet: it cannot be copied, and sealing takes it.
#[derive(Debug)]
pub struct PacketNumber {
    ssrc: u32,
    index: u64,
}

impl PacketNumber {
    /// What stands in the packet's header.
    pub fn sequence(&self) -> u16 {
        self.index as u16
    }

    /// SSRC and index, and the number is used up.
    pub(super) fn spend(self) -> (u32, u64) {
        (self.ssrc, self.index)
    }

    /// The stream's SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }
}

/// The streams that have been begun under a key. Each is handed out once.
#[derive(Debug, Default)]
pub struct Streams {
    begun: FxHashSet<u32>,
}

impl Streams {
    /// The numbers of the stream `ssrc`; none if somebody has them already.
    pub fn begin(&mut self, ssrc: u32) -> Option<StreamNumbers> {
        self.begun.insert(ssrc).then_some(StreamNumbers { ssrc, next: 0, used: [0; (WINDOW / WORD_BITS) as usize] })
    }
}

/// Hands out the numbers of one stream, each once.
#[derive(Debug)]
pub struct StreamNumbers {
    ssrc: u32,
    /// One more than the highest that was handed out.
    next: u64,
    /// Which of the last [`WINDOW`] below `next` were: a ring of bits, one for each index modulo its length.
    used: [u64; (WINDOW / WORD_BITS) as usize],
}

impl StreamNumbers {
    /// The number with this extended sequence number (its part above 16 bits counts rollovers, from 0 on). None if it has been
    /// handed out before or may have been, being more than 1,024 behind the newest.
    pub fn take(&mut self, index: u64) -> Option<PacketNumber> {
        if index > MAX_INDEX {
            return None;
        }
        if index >= self.next {
            self.forget(self.next, index);
            self.next = index + 1;
        } else if self.next - index > WINDOW || self.is_used(index) {
            return None;
        }
        let (word, bit) = place(index);
        self.used[word] |= bit;
        Some(PacketNumber { ssrc: self.ssrc, index })
    }

    /// The stream's SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The number after the newest.
    pub fn take_next(&mut self) -> Option<PacketNumber> {
        self.take(self.next)
    }

    fn is_used(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        self.used[word] & bit != 0
    }

    /// Nothing from `first` to `last` has been used yet: what stands in their places is of 1,024 before.
    fn forget(&mut self, first: u64, last: u64) {
        if last - first >= WINDOW {
            self.used = Default::default();
            return;
        }
        for index in first..=last {
            let (word, bit) = place(index);
            self.used[word] &= !bit;
        }
    }
}

fn place(index: u64) -> (usize, u64) {
    let place = index % WINDOW;
    ((place / WORD_BITS) as usize, 1 << (place % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stream_is_begun_once() {
        let mut streams = Streams::default();
        assert!(streams.begin(7).is_some());
        assert!(streams.begin(7).is_none());
        assert!(streams.begin(8).is_some());
    }

    #[test]
    fn late_packets_have_their_number_and_very_late_ones_none() {
        let mut numbers = Streams::default().begin(1).expect("new");
        assert!(numbers.take(5_000).is_some());
        assert!(numbers.take(5_000 - 1_023).is_some());
        assert!(numbers.take(5_000 - 1_024).is_none());
        assert!(numbers.take(MAX_INDEX + 1).is_none());
        assert_eq!(numbers.take_next().map(|number| number.index), Some(5_001));
        let rolled_over = numbers.take((1 << 16) + 3).expect("later");
        assert_eq!((rolled_over.sequence(), rolled_over.ssrc()), (3, 1));
    }

    proptest! {
        /// Whatever is asked for in whatever order, nothing is handed out twice, and what is new and not too late is handed out.
        #[test]
        fn no_number_is_handed_out_twice(
            start in 0u64..1 << 40,
            steps in prop::collection::vec(prop_oneof![-2_000i64..2_000, -3i64..4, Just(70_000i64)], 1..400)
        ) {
            let mut numbers = Streams::default().begin(1).expect("new");
            let mut handed_out = HashSet::new();
            let (mut index, mut newest) = (start, None::<u64>);
            for step in steps {
                index = index.saturating_add_signed(step);
                let in_time = newest.is_none_or(|newest| index + WINDOW > newest);
                let expected = in_time && !handed_out.contains(&index);
                let taken = numbers.take(index);
                prop_assert_eq!(taken.is_some(), expected, "{} after {:?}", index, newest);
                if let Some(number) = taken {
                    prop_assert!(handed_out.insert(number.index));
                    newest = newest.max(Some(index));
                }
            }
        }
    }
}
