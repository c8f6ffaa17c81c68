//! What was sent, until the receiver has said what became of it.

use std::collections::VecDeque;

use super::probe::Part;

/// The most packets remembered: at 24 bytes each, 96 KiB where so many are sent within [`KEPT_US`].
pub(super) const MOST_PACKETS: usize = 4_096;
/// How long a packet is remembered: feedback that takes longer says nothing about now.
const KEPT_US: i64 = 3_000_000;
/// A packet reported missing is given up once another that was sent this much later has arrived: reordering within it
/// is no loss.
const REORDERING_US: i64 = 40_000;

/// The number that each packet of a transport carries in its header extension
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2). One count per transport, whatever streams it
/// carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportSequence(pub u16);

/// What the caller knows a packet by; nothing here depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(pub u32);

/// A packet as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// On this node's clock, in microseconds.
    pub(super) at_us: i64,
    pub(super) bytes: u16,
    /// Whether it was part of a probe, or had to do with one.
    pub(super) part: Part,
    pub(super) label: Label,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing has been said of it; if the feedback that spoke of it is lost, nothing ever will be.
    Unknown,
    Missing,
    Arrived,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sent: Sent,
    fate: Fate,
}

/// The packets sent lately, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    /// The number of the first of `entries`, counted without wrapping.
    first: u64,
    /// Up to here (exclusive) it is settled what was lost.
    settled: u64,
    /// When the latest of those packets was sent that have arrived.
    newest_arrived_us: Option<i64>,
}

impl History {
    /// Remembers a packet and gives it its number.
    pub(super) fn sent(&mut self, packet: Sent) -> TransportSequence {
        let is_old = |entry: &Entry| packet.at_us - entry.sent.at_us > KEPT_US;
        while self.entries.len() >= MOST_PACKETS || self.entries.front().is_some_and(is_old) {
            self.entries.pop_front();
            self.first += 1;
        }
        let sequence = self.first + self.entries.len() as u64;
        self.entries.push_back(Entry { sent: packet, fate: Fate::Unknown });
        TransportSequence(sequence as u16)
    }

    /// Takes what feedback says of one packet. The packet if it has arrived and that is news.
    pub(super) fn reported(&mut self, sequence: TransportSequence, has_arrived: bool) -> Option<Sent> {
        let next = self.first + self.entries.len() as u64;
        // A number that was never sent looks like one of long ago.
        let back = u64::from((next as u16).wrapping_sub(sequence.0).wrapping_sub(1)) + 1;
        let place = next.checked_sub(back)?.checked_sub(self.first)?;
        let entry = self.entries.get_mut(place as usize)?;
        match (entry.fate, has_arrived) {
            (Fate::Arrived, _) | (Fate::Missing, false) => None,
            (Fate::Unknown, false) => {
                entry.fate = Fate::Missing;
                None
            }
            (Fate::Unknown | Fate::Missing, true) => {
                entry.fate = Fate::Arrived;
                self.newest_arrived_us = self.newest_arrived_us.max(Some(entry.sent.at_us));
                Some(entry.sent)
            }
        }
    }

    /// The next packet of which it is settled whether it was lost, each once and in order. Those that no feedback spoke
    /// of are passed over; one that arrives after it was given up stays lost, since it came too late for a picture.
    pub(super) fn settle(&mut self) -> Option<(Sent, bool)> {
        let newest_us = self.newest_arrived_us?;
        self.settled = self.settled.max(self.first);
        loop {
            let entry = self.entries.get((self.settled - self.first) as usize)?;
            if entry.sent.at_us + REORDERING_US > newest_us {
                return None;
            }
            self.settled += 1;
            match entry.fate {
                Fate::Unknown => {}
                Fate::Missing => return Some((entry.sent, true)),
                Fate::Arrived => return Some((entry.sent, false)),
            }
        }
    }

    /// When the latest of those packets was sent that have arrived, in microseconds.
    pub(super) fn newest_arrived_us(&self) -> Option<i64> {
        self.newest_arrived_us
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(at_us: i64) -> Sent {
        Sent { at_us, bytes: 1_200, part: Part::None, label: Label(0) }
    }

    fn settled(history: &mut History) -> Vec<(i64, bool)> {
        std::iter::from_fn(|| history.settle()).map(|(sent, lost)| (sent.at_us, lost)).collect()
    }

    #[test]
    fn arrived_missing_and_unknown_are_told_apart() {
        let mut history = History::default();
        let numbers: Vec<_> = (0..6).map(|step| history.sent(packet(step * 20_000))).collect();
        assert_eq!(history.reported(numbers[0], true), Some(packet(0)));
        assert_eq!(history.reported(numbers[0], true), None, "said twice");
        history.reported(numbers[1], false);
        // Nothing is said of the third.
        history.reported(numbers[3], false);
        assert_eq!(history.reported(numbers[3], true), Some(packet(60_000)), "reordered");
        assert_eq!(settled(&mut history), [(0, false), (20_000, true)]);
        history.reported(numbers[5], true);
        assert_eq!(settled(&mut history), [(60_000, false)], "each once, and the unknown one never");
        assert_eq!(history.reported(numbers[1], true), Some(packet(20_000)), "late");
        assert_eq!(settled(&mut history), []);
    }

    #[test]
    fn numbers_wrap_and_the_old_is_forgotten() {
        let mut history = History::default();
        let first = history.sent(packet(0));
        for step in 1..70_000i64 {
            let number = history.sent(packet(step * 1_000));
            assert_eq!(usize::from(number.0), step as usize % 65_536);
            assert_eq!(history.reported(number, true), Some(packet(step * 1_000)));
            while history.settle().is_some() {}
        }
        assert_eq!(history.reported(first, true), None);
        assert!(history.entries.len() <= 3_001);
    }

    #[test]
    fn a_number_that_was_never_sent_is_nothing() {
        let mut history = History::default();
        assert_eq!(history.reported(TransportSequence(0), true), None);
        history.sent(packet(0));
        assert_eq!(history.reported(TransportSequence(1), true), None);
        assert_eq!(history.reported(TransportSequence(65_535), true), None);
    }

    proptest! {
        #[test]
        fn any_report_leaves_it_bounded(reports: Vec<(u16, bool)>, step_us in 1usize..5_000) {
            let mut history = History::default();
            for (at_us, (number, has_arrived)) in (0..).step_by(step_us).zip(reports) {
                history.sent(packet(at_us));
                history.reported(TransportSequence(number), has_arrived);
                while history.settle().is_some() {}
                prop_assert!(history.entries.len() <= MOST_PACKETS);
            }
        }
    }
}
