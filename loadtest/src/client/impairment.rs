//! A bad network for one client, in its own socket layer: what it sends and receives by UDP is lost, delayed and slowed as on a
//! link of `loadtest wan`, without namespaces and root. Signalling goes unhindered.
//!
//! Sans-IO: packets and the time go in, due packets come out.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::wan::core::{Link, LinkParameters, Transport};

/// IPv4 and UDP headers of a packet, which count against a rate.
const HEADER_BYTES: usize = 28;
/// The most packets under way in one direction: 4 s of 10 Mbit/s. One beyond is dropped and counted.
const MAX_UNDER_WAY: usize = 4096;

/// How a client's network behaves each way.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// From the client.
    pub up: LinkParameters,
    /// To the client.
    pub down: LinkParameters,
    /// What losses and jitter are drawn from.
    pub seed: u64,
}

/// Packets that went through, and those that did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Taken in.
    pub packets: u64,
    /// Of those: lost, or dropped before a full queue.
    pub dropped: u64,
}

/// Both directions of one client's network. `U` and `D` are packets up and down.
#[derive(Debug)]
pub struct Impairment<U, D> {
    /// From the client.
    pub up: Way<U>,
    /// To the client.
    pub down: Way<D>,
}

impl<U, D> Impairment<U, D> {
    /// Nothing under way.
    pub fn new(network: &Network) -> Self {
        // Both directions draw, and not the same.
        let (up, down) = (Link::new(network.up, network.seed), Link::new(network.down, !network.seed));
        Self { up: Way::new(up), down: Way::new(down) }
    }

    /// When the next packet is due, either way.
    pub fn next_due(&self) -> Option<Instant> {
        [self.up.next_due(), self.down.next_due()].into_iter().flatten().min()
    }

    /// Both ways together.
    pub fn counted(&self) -> Counted {
        let (up, down) = (self.up.counted, self.down.counted);
        Counted { packets: up.packets + down.packets, dropped: up.dropped + down.dropped }
    }
}

/// One direction.
#[derive(Debug)]
pub struct Way<P> {
    link: Link,
    packets: BinaryHeap<Reverse<UnderWay<P>>>,
    counted: Counted,
}

#[derive(Debug)]
struct UnderWay<P> {
    due: Instant,
    /// Of two that are due at once, the first that came.
    number: u64,
    packet: P,
}

impl<P> Way<P> {
    fn new(link: Link) -> Self {
        Self { link, packets: BinaryHeap::new(), counted: Counted::default() }
    }

    /// A packet with so many bytes of payload sets out.
    pub fn accept(&mut self, now: Instant, payload_bytes: usize, packet: P) {
        let number = self.counted.packets;
        self.counted.packets += 1;
        let due = self.link.accept(now, payload_bytes + HEADER_BYTES, Transport::Udp);
        match due.ok().filter(|_| self.packets.len() < MAX_UNDER_WAY) {
            Some(due) => self.packets.push(Reverse(UnderWay { due, number, packet })),
            None => self.counted.dropped += 1,
        }
    }

    /// A packet that is due.
    pub fn poll(&mut self, now: Instant) -> Option<P> {
        let first = self.packets.peek_mut().filter(|first| first.0.due <= now)?;
        Some(PeekMut::pop(first).0.packet)
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.packets.peek().map(|Reverse(first)| first.due)
    }
}

impl<P> PartialEq for UnderWay<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<P> Eq for UnderWay<P> {}

impl<P> PartialOrd for UnderWay<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for UnderWay<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn network(up: LinkParameters) -> Network {
        Network { up, down: LinkParameters::default(), seed: 7 }
    }

    fn impairment(up: LinkParameters) -> Impairment<u32, u32> {
        Impairment::new(&network(up))
    }

    #[test]
    fn a_delay_holds_packets_back_one_way_alone() {
        let now = Instant::now();
        let mut both = impairment(LinkParameters { delay: 50 * MS, ..LinkParameters::default() });
        both.up.accept(now, 100, 1);
        both.down.accept(now, 100, 2);
        assert_eq!((both.up.poll(now), both.down.poll(now)), (None, Some(2)));
        assert_eq!(both.next_due(), Some(now + 50 * MS));
        assert_eq!((both.up.poll(now + 49 * MS), both.up.poll(now + 50 * MS)), (None, Some(1)));
        assert_eq!(both.next_due(), None);
    }

    #[test]
    fn losses_are_counted_and_are_their_share() {
        let now = Instant::now();
        let mut both = impairment(LinkParameters { loss: 0.05, ..LinkParameters::default() });
        for number in 0..10_000 {
            both.up.accept(now, 100, number);
            both.up.poll(now);
        }
        let Counted { packets, dropped } = both.counted();
        assert!(packets == 10_000 && (400..600).contains(&dropped), "{dropped}");
    }

    #[test]
    fn a_rate_counts_headers_and_a_full_queue_drops() {
        let now = Instant::now();
        let rate_bps = Some(1_000_000);
        let mut both = impairment(LinkParameters { rate_bps, queue: 100 * MS, ..LinkParameters::default() });
        // 972 and 28 bytes take 8 ms each.
        for number in 0..30 {
            both.up.accept(now, 972, number);
        }
        let arrived = (0..300u32).filter(|ms| both.up.poll(now + MS * *ms).is_some()).count();
        assert_eq!((arrived, both.counted().dropped), (13, 17), "12 wait at most 100 ms, and one is being sent");
    }

    proptest! {
        #[test]
        fn what_is_not_dropped_comes_out_once_and_without_reordering_in_order(
            jitter_ms in 0u32..50, loss in 0.0..0.5f64, reorder: bool, count in 1u32..200,
        ) {
            let now = Instant::now();
            let parameters = LinkParameters { jitter: MS * jitter_ms, loss, reorder, ..LinkParameters::default() };
            let mut both = impairment(parameters);
            for number in 0..count {
                both.up.accept(now + MS * number, 100, number);
            }
            let end = now + MS * (count + jitter_ms);
            let out: Vec<_> = std::iter::from_fn(|| both.up.poll(end)).collect();
            prop_assert_eq!(out.len() as u64 + both.counted().dropped, u64::from(count));
            prop_assert!(reorder || out.is_sorted());
        }
    }
}
