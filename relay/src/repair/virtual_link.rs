//! Both sides of repair over a link that loses, delays, reorders and duplicates, on a virtual clock: one seed, one run.
#![expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use bytes::Bytes;
use isthmus_protocol::media::{Codec, Datagram, MediaPacket, decode, encode_loss};
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    Path as SenderPath, Receiver, Sender,
    receiver::{Counts, How, MAX_MISSING},
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

/// A packet of speech.
pub(crate) fn voice(sequence: u16, payload_bytes: usize) -> MediaPacket {
    MediaPacket { codec: Codec::Opus, timestamp: u32::from(sequence) * 960, ..packet(sequence, payload_bytes) }
}

#[derive(Debug, Clone)]
struct Path {
    seed: u64,
    loss: f64,
    /// How many datagrams in a row are lost from the sender to the receiver, in the mean (Gilbert); 1 makes each loss
    /// independent of the one before.
    run: f64,
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
    is_losing: bool,
    spacing: Duration,
    /// Bytes of datagrams from the sender to the receiver.
    forward_bytes: usize,
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
            is_losing: false,
            spacing: SPACING,
            forward_bytes: 0,
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

    /// Sends speech for that many packets of 20 ms, as Opus of 32 kbit/s; a pause of half a second in every ten.
    fn speak(mut self, count: u16, packet_of: impl Fn(u16) -> MediaPacket) -> Self {
        self.spacing = Duration::from_millis(20);
        for sequence in (0..count).filter(|sequence| sequence % 500 < 475) {
            self.advance(self.start + self.spacing * u32::from(sequence));
            let mut out = Vec::new();
            self.sender.set_path(SenderPath { rtt: self.path.one_way * 2, takes_redundancy: true });
            self.sender.send(STREAM, &packet_of(sequence), MAX_DATAGRAM, self.now, &mut out).expect("fits");
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
            let (mut out, mut others) = (Vec::new(), Vec::new());
            self.sender.handle_timeout(self.now, &mut out, &mut others);
            out.append(&mut others);
            self.fly(out, true);
            let mut out = Vec::new();
            self.receiver.handle_timeout(self.now, self.path.one_way * 2, &mut out);
            out.extend(self.receiver.take_report(self.now).map(encode_loss));
            self.fly(out, false);
        }
        self.now = until;
        assert!(self.sender.held_bytes() <= MAX_HELD_BYTES && self.receiver.held().0 <= MAX_MISSING);
    }

    fn arrive(&mut self) {
        let Some(Reverse((_, _, _, datagram))) = self.flying.pop() else { return };
        let mut packets = Vec::new();
        match decode(&datagram).expect("own datagrams") {
            Datagram::Media { stream, link_sequence, split, repair, packet } => {
                let how = How::Media { split, repair };
                self.receiver.media(stream, link_sequence, how, packet, self.now, &mut packets);
            }
            Datagram::Speech { stream, link_sequence, packet, plain, parities, .. } => {
                let how = How::Speech { plain, parities };
                self.receiver.media(stream, link_sequence, how, packet, self.now, &mut packets);
            }
            Datagram::Rest { stream, link_sequence, payload } => {
                packets.extend(self.receiver.rest(stream, link_sequence, payload, self.now));
            }
            Datagram::Nack { stream, missing } => {
                let mut out = Vec::new();
                self.sender.repeat(stream, &missing, self.now, &mut out);
                self.fly(out, true);
            }
            Datagram::Loss(report) => self.sender.handle_report(report, self.now),
        }
        for got in packets {
            if got.codec == Codec::Vp8 {
                assert_eq!(got, self::packet(got.sequence, got.payload.len()), "a packet was changed");
            }
            let age = self.now - (self.start + self.spacing * u32::from(got.sequence));
            self.delivered.entry(got.sequence).or_insert((0, age)).0 += 1;
        }
        let counts = self.receiver.take_counts();
        self.counts.repaired += counts.repaired;
        self.counts.lost += counts.lost;
        self.counts.speech.restored += counts.speech.restored;
    }

    fn fly(&mut self, datagrams: Vec<Bytes>, forward: bool) {
        for datagram in datagrams {
            self.forward_bytes += if forward { datagram.len() } else { 0 };
            if self.is_unlucky(forward) && self.may_lose(&datagram) {
                continue;
            }
            for _ in 0..=u8::from(self.random.random_bool(self.path.duplicate)) {
                let delay = self.path.one_way + self.path.jitter.mul_f64(self.random.random());
                self.order += 1;
                self.flying.push(Reverse((self.now + delay, self.order, forward, datagram.clone())));
            }
        }
    }

    fn is_unlucky(&mut self, forward: bool) -> bool {
        let Path { loss, run, .. } = self.path;
        if !forward || run <= 1.0 {
            return self.random.random_bool(loss);
        }
        let goes_on = if self.is_losing { 1.0 - 1.0 / run } else { loss / run / (1.0 - loss) };
        self.is_losing = self.random.random_bool(goes_on);
        self.is_losing
    }

    /// Whether losing this datagram keeps to `unlucky`; if so it is noted.
    fn may_lose(&mut self, datagram: &Bytes) -> bool {
        let numbers = match decode(datagram).expect("own datagrams") {
            Datagram::Media { link_sequence, .. }
            | Datagram::Speech { link_sequence, .. }
            | Datagram::Rest { link_sequence, .. } => vec![(true, link_sequence)],
            Datagram::Loss(_) => Vec::new(),
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
            run: 1.0,
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
            run: 1.0,
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
        run: 1.0,
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

/// How speech fared on a path.
#[derive(Debug)]
struct Heard {
    /// The share that came more than [`IN_TIME`] later than without loss, or not at all.
    missed: f64,
    /// By how much those came later that were lost at first and came all the same: 95 of 100 by no more.
    p95_of_lost: Duration,
    /// Bytes more than without protection and loss.
    more: f64,
}

/// What speech may be late by: more than a hundred milliseconds a player does not wait.
const IN_TIME: Duration = Duration::from_millis(100);

fn hear(path: &Path, packet_of: impl Fn(u16) -> MediaPacket + Copy) -> Heard {
    const COUNT: u16 = 20_000;
    let (mut sent, mut late_by, mut in_time, mut bytes, mut plain_bytes) = (0, Vec::new(), 0, 0, 0);
    for seed in 0..4 {
        let link = VirtualLink::new(Path { seed, ..path.clone() }).speak(COUNT, packet_of);
        assert!(link.delivered.values().all(|(times, _)| *times == 1), "each once");
        // Without the first five seconds: nobody knew the path yet.
        let known = link.delivered.range(250..);
        let added = known.map(|(_, (_, age))| age.saturating_sub(path.one_way));
        let (quick, late): (Vec<_>, Vec<_>) = added.partition(|added| *added <= path.jitter);
        in_time += quick.len() + late.iter().filter(|late| **late <= IN_TIME).count();
        late_by.extend(late);
        sent += (250..COUNT).filter(|sequence| sequence % 500 < 475).count();
        bytes += link.forward_bytes;
        let clean = Path { seed, loss: 0.0, ..path.clone() };
        plain_bytes += VirtualLink::new(clean).speak(COUNT, packet_of).forward_bytes;
    }
    late_by.sort_unstable();
    let p95_of_lost = late_by.get(late_by.len() * 95 / 100).copied().unwrap_or_default();
    let (missed, more) = (1.0 - in_time as f64 / sent as f64, bytes as f64 / plain_bytes as f64 - 1.0);
    Heard { missed, p95_of_lost, more }
}

fn far(loss: f64, run: f64) -> Path {
    let (one_way, jitter) = (Duration::from_millis(125), Duration::from_millis(2));
    Path { seed: 0, loss, run, duplicate: 0.0, one_way, jitter, unlucky: u32::MAX }
}

/// Opus with the packet before it as RFC 2198 has it: offset 960, the length in ten bits.
fn red(sequence: u16) -> MediaPacket {
    let block = |sequence: u16| voice(sequence, 80).payload;
    let header: u32 = (0x80 | 0x6f) << 24 | 0x3c0 << 10 | 0x50;
    let payload = [&header.to_be_bytes()[..], &[111], &block(sequence.wrapping_sub(1)), &block(sequence)].concat();
    MediaPacket { codec: Codec::Red, payload: payload.into(), ..voice(sequence, 0) }
}

#[test]
fn speech_around_the_world_comes_in_time_whatever_the_path_loses() {
    // Loss, mean run of losses; what may be missed, by how much later 95 in 100 of the lost ones may come, bytes more.
    let cases = [
        (0.0, 1.0, 0.0, 0, 0.0),
        (0.01, 1.0, 0.0005, 30, 1.1),
        (0.02, 1.0, 0.0005, 30, 1.1),
        (0.02, 1.5, 0.002, 90, 2.1),
        (0.02, 2.0, 0.004, 450, 2.1),
        (0.05, 1.0, 0.002, 70, 2.1),
        (0.1, 1.0, 0.005, 70, 2.1),
    ];
    for (loss, run, missed, p95_ms, more) in cases {
        let heard = hear(&far(loss, run), |sequence| voice(sequence, 80));
        println!("{:.0} % lost in runs of {run}: {heard:?}", 100.0 * loss);
        assert!(heard.missed <= missed, "{loss} in runs of {run}: {heard:?}");
        assert!(heard.p95_of_lost <= Duration::from_millis(p95_ms), "{loss} in runs of {run}: {heard:?}");
        assert!(heard.more <= more, "{loss} in runs of {run}: {heard:?}");
    }
}

#[test]
fn speech_that_has_redundancy_needs_no_more_of_it() {
    let heard = hear(&far(0.02, 1.0), red);
    println!("RED, 2 % lost: {heard:?}");
    assert!(heard.missed <= 0.001 && heard.more < 0.05, "{heard:?}");
    assert!(heard.p95_of_lost <= Duration::from_millis(30), "{heard:?}");
}

#[test]
fn on_a_short_link_speech_is_asked_for() {
    let path = Path { one_way: Duration::from_millis(10), ..far(0.02, 1.0) };
    let heard = hear(&path, |sequence| voice(sequence, 80));
    println!("20 ms, 2 % lost: {heard:?}");
    assert!(heard.missed <= 0.0005 && heard.more < 0.05, "{heard:?}");
}
