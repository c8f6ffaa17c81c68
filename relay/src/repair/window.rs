//! What a receiver keeps of one stream's speech to find lost packets in the sums that later ones carry.

use std::collections::VecDeque;

use isthmus_protocol::{
    media::{MAX_REACH, Parity},
    peer::StreamId,
};

use super::protection::MAX_BYTES;

/// Datagrams kept: a sum that reaches as far back as it may is good for as long again. Full: the oldest goes.
const MAX_KNOWN: usize = 2 * MAX_REACH as usize;
/// Sums of which two or more are missing. Full: the oldest goes.
const MAX_OPEN: usize = MAX_REACH as usize;

/// The latest datagrams of a stream and the sums not yet used.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Number and MEDIA datagram, in order of arrival.
    known: VecDeque<(u64, Vec<u8>)>,
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    carrier: u64,
    parity: Parity,
}

impl Window {
    /// Takes a datagram and what it carries; returns number and MEDIA datagram of each that could be restored, in order.
    pub(crate) fn insert(
        &mut self,
        stream: StreamId,
        number: u64,
        plain: Vec<u8>,
        parities: Vec<Parity>,
    ) -> Vec<(u64, Vec<u8>)> {
        let mut restored = Vec::new();
        self.learn(stream, number, plain, &mut restored);
        for mut parity in parities {
            if parity.encoded_bytes() > 2 * MAX_BYTES {
                continue;
            }
            for (known, plain) in &self.known {
                take_out(&mut parity, number, *known, plain);
            }
            self.open.push_back(Open { carrier: number, parity });
            self.settle(stream, &mut restored);
        }
        if self.open.len() > MAX_OPEN {
            self.open.drain(..self.open.len() - MAX_OPEN);
        }
        restored.sort_unstable_by_key(|(number, _)| *number);
        restored
    }

    fn learn(&mut self, stream: StreamId, number: u64, plain: Vec<u8>, restored: &mut Vec<(u64, Vec<u8>)>) {
        if plain.len() > MAX_BYTES || self.known.iter().any(|(known, _)| *known == number) {
            return;
        }
        for open in &mut self.open {
            take_out(&mut open.parity, open.carrier, number, &plain);
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((number, plain));
        self.settle(stream, restored);
    }

    /// Uses the sums that have come down to one datagram.
    fn settle(&mut self, stream: StreamId, restored: &mut Vec<(u64, Vec<u8>)>) {
        self.open.retain(|open| open.parity.mask != 0);
        let Some(index) = self.open.iter().position(|open| open.parity.mask.is_power_of_two()) else { return };
        let Some(Open { carrier, parity }) = self.open.remove(index) else { return };
        let Some(number) = carrier.checked_sub(u64::from(parity.mask.trailing_zeros()) + 1) else { return };
        let Some(plain) = parity.restore(stream, number as u16) else { return };
        restored.push((number, plain.clone()));
        // Each call uses up a sum, of which there are at most a dozen.
        self.learn(stream, number, plain, restored);
        self.settle(stream, restored);
    }
}

fn take_out(parity: &mut Parity, carrier: u64, number: u64, plain: &[u8]) {
    let back = carrier.checked_sub(number).and_then(|back| u16::try_from(back).ok());
    if let Some(back) = back.filter(|back| (1..=MAX_REACH).contains(back) && parity.mask & 1 << (back - 1) != 0) {
        parity.toggle(back, plain);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repair::{protection::Level, virtual_link::voice};

    const STREAM: StreamId = 4;
    const BASE: u64 = 70_000;

    fn plain(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        voice(number as u16, 60 + (number % 7) as usize * 10).encode(STREAM, number as u16, 1200, &mut out);
        out.remove(0).to_vec()
    }

    fn parities(number: u64, level: Level) -> Vec<Parity> {
        let of = |mask: &u8| {
            let mut parity = Parity::default();
            for back in (1..=MAX_REACH).filter(|back| mask & 1 << (back - 1) != 0) {
                parity.toggle(back, &plain(number - u64::from(back)));
            }
            parity
        };
        level.masks(false).iter().map(of).collect()
    }

    /// What is restored of datagrams that come but for `lost`, and with which one it came.
    fn restored(level: Level, lost: &[u64]) -> Vec<(u64, u64)> {
        let mut window = Window::default();
        let mut all = Vec::new();
        for number in (0..40).map(|i| BASE + i).filter(|number| !lost.contains(&(number - BASE))) {
            for (found, bytes) in window.insert(STREAM, number, plain(number), parities(number, level)) {
                assert_eq!(bytes, plain(found));
                all.push((found - BASE, number - BASE));
            }
        }
        all.retain(|(found, _)| lost.contains(found));
        all
    }

    #[test]
    fn a_single_loss_comes_with_the_next_packet() {
        for level in [Level::One, Level::Two] {
            assert_eq!(restored(level, &[20]), [(20, 21)]);
        }
    }

    #[test]
    fn one_sum_brings_runs_of_three_and_two_bring_four() {
        assert_eq!(restored(Level::One, &[20, 21]), [(21, 22), (20, 23)]);
        assert_eq!(restored(Level::One, &[20, 21, 22]).len(), 3);
        assert_eq!(restored(Level::Two, &[20, 21]), [(20, 22), (21, 22)]);
        assert_eq!(restored(Level::Two, &[20, 21, 22, 23]).len(), 4);
    }

    proptest! {
        #[test]
        fn whatever_is_restored_is_right_and_the_window_is_bounded(
            lost in prop::collection::vec(5u64..35, 0..12), two: bool,
        ) {
            // The checks are inside.
            restored(if two { Level::Two } else { Level::One }, &lost);
        }

        #[test]
        fn a_peer_that_breaks_the_rules_gets_no_more_memory(
            sums in prop::collection::vec((any::<u8>(), 0u64..30, 0usize..700), 0..100),
        ) {
            let mut window = Window::default();
            for (mask, number, length) in sums {
                let mut parity = Parity::default();
                parity.toggle(1, &vec![7; length]);
                parity.mask = mask;
                window.insert(STREAM, number, vec![1; length], vec![parity.clone(), parity]);
                prop_assert!(window.known.len() <= MAX_KNOWN && window.open.len() <= MAX_OPEN);
            }
        }
    }
}
