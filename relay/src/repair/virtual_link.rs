//! Both sides of repair over a link that loses, delays, reorders and duplicates, on a virtual clock: one seed, one run.
#![expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use bytes::Bytes;
use isthmus_protocol::media::{Codec, Datagram, MediaPacket, decode};
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    Receiver, Sender,
    receiver::{Counts, MAX_MISSING},
    sender::MAX_HELD_BYTES,
};

const STREAM: u32 = 9;
const MAX_DATAGRAM: usize = 1200;
const SPACING: Duration = Duration::from_millis(3);

pub(crate) fn packet(sequence: u16, payload_bytes: usize) -> MediaPacket {
    MediaPacket {
        sequence,
        timestamp: u32::from(sequence) * 3000,
        marker: false,
        codec: Codec::Vp8,
        level: None,
        orientation: None,
        captured_us: None,
        descriptor: None,
        payload: (0..payload_bytes).map(|i| (i as u8) ^ (sequence as u8)).collect::<Vec<_>>().into(),
    }
}

#[derive(Debug, Clone)]
struct Path {
    seed: u64,
    loss: f64,
    duplicate: f64,
    one_way: Duration,
    jitter: Duration,
    /// How often the same datagram, or a request for it, may be lost.
    unlucky: u32,
}

struct VirtualLink {
    path: Path,
    random: StdRng,
    start: Instant,
    now: Instant,
    order: u64,
    /// By due time, then by order of sending: what arrives at the receiver (true) or at the sender.
    flying: BinaryHeap<Reverse<(Instant, u64, bool, Bytes)>>,
    lost: BTreeMap<(bool, u16), u32>,
    sender: Sender,
    receiver: Receiver,
    counts: Counts,
    delivered: BTreeMap<u16, (u32, Duration)>,
}

impl VirtualLink {
    fn new(path: Path) -> Self {
        let start = Instant::now();
        Self {
            random: StdRng::seed_from_u64(path.seed),
            path,
            start,
            now: start,
            order: 0,
            flying: BinaryHeap::new(),
            lost: BTreeMap::new(),
            sender: Sender::default(),
            receiver: Receiver::default(),
            counts: Counts::default(),
            delivered: BTreeMap::new(),
        }
    }

    /// Sends `count` packets, some of them split, and lets the link come to rest.
    fn run(mut self, count: u16) -> Self {
        for sequence in 0..count {
            let until = self.start + SPACING * u32::from(sequence);
            self.advance(until);
            let bytes = if sequence % 10 == 0 { 1400 } else { 300 };
            let mut out = Vec::new();
            self.sender.send(STREAM, &packet(sequence, bytes), MAX_DATAGRAM, self.now, &mut out).expect("fits");
            self.fly(out, true);
        }
        let rest = self.now + Duration::from_secs(3);
        self.advance(rest);
        self
    }

    fn advance(&mut self, until: Instant) {
        loop {
            let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
            let next = [arrival, self.sender.poll_timeout(), self.receiver.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                self.arrive();
            }
            let mut out = Vec::new();
            self.sender.handle_timeout(self.now, &mut out);
            self.fly(out, true);
            let mut out = Vec::new();
            self.receiver.handle_timeout(self.now, self.path.one_way * 2, &mut out);
            self.fly(out, false);
        }
        self.now = until;
        assert!(self.sender.held_bytes() <= MAX_HELD_BYTES && self.receiver.held().0 <= MAX_MISSING);
    }

    fn arrive(&mut self) {
        let Some(Reverse((_, _, _, datagram))) = self.flying.pop() else { return };
        let packet = match decode(&datagram).expect("own datagrams") {
            Datagram::Media { stream, link_sequence, split, packet, .. } => {
                self.receiver.media(stream, link_sequence, split, packet, self.now)
            }
            Datagram::Rest { stream, link_sequence, payload } => {
                self.receiver.rest(stream, link_sequence, payload, self.now)
            }
            Datagram::Nack { stream, missing } => {
                let mut out = Vec::new();
                self.sender.repeat(stream, &missing, self.now, &mut out);
                self.fly(out, true);
                None
            }
        };
        if let Some(got) = packet {
            assert_eq!(got, self::packet(got.sequence, got.payload.len()), "a packet was changed");
            let age = self.now - (self.start + SPACING * u32::from(got.sequence));
            self.delivered.entry(got.sequence).or_insert((0, age)).0 += 1;
        }
        let counts = self.receiver.take_counts();
        self.counts.repaired += counts.repaired;
        self.counts.lost += counts.lost;
    }

    fn fly(&mut self, datagrams: Vec<Bytes>, forward: bool) {
        for datagram in datagrams {
            if self.random.random_bool(self.path.loss) && self.may_lose(&datagram) {
                continue;
            }
            for _ in 0..=u8::from(self.random.random_bool(self.path.duplicate)) {
                let delay = self.path.one_way + self.path.jitter.mul_f64(self.random.random());
                self.order += 1;
                self.flying.push(Reverse((self.now + delay, self.order, forward, datagram.clone())));
            }
        }
    }

    /// Whether losing this datagram keeps to `unlucky`; if so it is noted.
    fn may_lose(&mut self, datagram: &Bytes) -> bool {
        let numbers = match decode(datagram).expect("own datagrams") {
            Datagram::Media { link_sequence, .. } | Datagram::Rest { link_sequence, .. } => vec![(true, link_sequence)],
            Datagram::Nack { missing, .. } => missing.into_iter().map(|number| (false, number)).collect(),
        };
        let unlucky = self.path.unlucky;
        if numbers.iter().any(|number| self.lost.get(number).is_some_and(|times| *times >= unlucky)) {
            return false;
        }
        for number in numbers {
            *self.lost.entry(number).or_default() += 1;
        }
        true
    }
}

fn paths() -> impl Strategy<Value = Path> {
    (any::<u64>(), 0.0..0.2, 0.0..0.1, 1u64..60, 0u64..8).prop_map(|(seed, loss, duplicate, one_way_ms, jitter_ms)| {
        Path {
            seed,
            loss,
            duplicate,
            one_way: Duration::from_millis(one_way_ms),
            jitter: Duration::from_millis(jitter_ms),
            unlucky: 2,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn everything_lost_comes_through_once_and_in_time(path in paths()) {
        let round_trip = path.one_way * 2 + path.jitter * 2;
        let link = VirtualLink::new(path).run(700);
        prop_assert_eq!(link.counts.lost, 0);
        prop_assert_eq!(link.delivered.len(), 700);
        for (sequence, (times, age)) in &link.delivered {
            prop_assert_eq!(*times, 1, "packet {} came {} times", sequence, times);
            // Two losses of the datagram, two of requests: four rounds of asking, or a pause of the stream before them.
            let worst = Duration::from_millis(400) + (round_trip * 5 / 4 + Duration::from_millis(15)) * 5;
            prop_assert!(*age < worst, "packet {} took {:?}", sequence, age);
        }
    }
}

#[test]
fn at_one_in_five_lost_both_ways_hardly_anything_stays_lost() {
    let (mut sent, mut delivered, mut repaired) = (0, 0, 0);
    for seed in 0..8 {
        let path = Path {
            seed,
            loss: 0.2,
            duplicate: 0.0,
            one_way: Duration::from_millis(40),
            jitter: Duration::from_millis(3),
            unlucky: u32::MAX,
        };
        let link = VirtualLink::new(path).run(2000);
        assert!(link.delivered.values().all(|(times, _)| *times == 1));
        sent += 2000;
        delivered += link.delivered.len();
        repaired += link.counts.repaired;
    }
    let residual = 1.0 - delivered as f64 / f64::from(sent);
    assert!(residual < 0.005, "{residual} stayed lost, {repaired} were repaired");
}

#[test]
fn a_link_that_loses_nothing_carries_nothing_more() {
    let path = Path {
        seed: 1,
        loss: 0.0,
        duplicate: 0.0,
        one_way: Duration::from_millis(80),
        jitter: Duration::ZERO,
        unlucky: 0,
    };
    let link = VirtualLink::new(path).run(2000);
    assert_eq!((link.delivered.len(), link.counts), (2000, Counts::default()));
    let datagrams = 2000 + 2000 / 10;
    assert!(link.order <= datagrams + 2, "{} datagrams for {datagrams}", link.order);
}
