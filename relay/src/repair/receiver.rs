//! The receiving side: finds gaps, asks, joins split packets, hands nothing on twice.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use isthmus_protocol::{
    media::{MAX_PAYLOAD_BYTES, MediaPacket, encode_nack},
    peer::StreamId,
};
use rustc_hash::FxHashMap;

use super::{MAX_AGE, MAX_STREAMS, TICK};

/// Datagrams missed of one stream. Full: the oldest are given up.
pub(crate) const MAX_MISSING: usize = 256;
/// Split packets of one stream of which one part is there. Full: the oldest is given up.
const MAX_HALVES: usize = 32;
/// A gap is asked for after this long: a datagram that was only overtaken has come by then.
const REORDER: Duration = Duration::from_millis(10);
/// Each missing datagram is asked for at most this often.
const MAX_ASKS: u8 = 6;
/// A stream that begins below this number began at 0: what came before it is missing too.
const BEGINNING: u16 = 64;
/// A stream from which nothing came for this long is forgotten. See [`super::sender`].
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(5);

/// The receiving side of a link.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    streams: FxHashMap<StreamId, Heard>,
    next_pass: Option<Instant>,
    counts: Counts,
}

/// What happened, in datagrams, since it was last taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Missed, asked for, received.
    pub(crate) repaired: u64,
    /// Missed and given up.
    pub(crate) lost: u64,
    /// Received twice, or after being given up.
    pub(crate) duplicates: u64,
    /// Parts of split packets whose other part did not come.
    pub(crate) incomplete: u64,
    /// Of a stream beyond [`MAX_STREAMS`].
    pub(crate) refused: u64,
}

/// Numbers here are link sequences extended to 64 bits, so that they never wrap.
#[derive(Debug)]
struct Heard {
    /// The highest received. What is below is either in `missing`, or received, or given up.
    highest: u64,
    /// In order.
    missing: VecDeque<Missing>,
    /// In order of arrival.
    halves: VecDeque<Half>,
    last: Instant,
}

#[derive(Debug)]
struct Missing {
    number: u64,
    since: Instant,
    ask_at: Instant,
    asks: u8,
}

#[derive(Debug)]
struct Half {
    /// Of the first part.
    number: u64,
    since: Instant,
    part: Part,
}

#[derive(Debug)]
enum Part {
    First(MediaPacket),
    Rest(Arc<[u8]>),
}

impl Receiver {
    /// Takes a MEDIA datagram, returns the packet that is whole by it.
    pub(crate) fn media(
        &mut self,
        stream: StreamId,
        link_sequence: u16,
        split: bool,
        packet: MediaPacket,
        now: Instant,
    ) -> Option<MediaPacket> {
        let number = self.arrive(stream, link_sequence, now)?;
        if split { self.join(stream, number, Part::First(packet), now) } else { Some(packet) }
    }

    /// Takes a REST datagram, returns the packet that is whole by it.
    pub(crate) fn rest(
        &mut self,
        stream: StreamId,
        link_sequence: u16,
        payload: Arc<[u8]>,
        now: Instant,
    ) -> Option<MediaPacket> {
        let number = self.arrive(stream, link_sequence, now)?;
        self.join(stream, number.checked_sub(1)?, Part::Rest(payload), now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_pass
    }

    /// Appends requests for what is missing to `out`; gives up what is too old.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rtt: Duration, out: &mut Vec<Bytes>) {
        if self.next_pass.is_none_or(|at| at > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        let mut asked = Vec::new();
        for (stream, heard) in &mut self.streams {
            heard.give_up(now, &mut self.counts);
            heard.ask(now, rtt, &mut asked);
            let mut rest = &asked[..];
            while !rest.is_empty() {
                let (datagram, taken) = encode_nack(*stream, rest);
                out.push(datagram);
                rest = &rest[taken..];
            }
            asked.clear();
            let due = heard.next_due();
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        self.streams.retain(|_, heard| now.saturating_duration_since(heard.last) < FORGET_AFTER);
        self.next_pass = next.filter(|_| !self.streams.is_empty()).map(|at| at.max(now + TICK));
    }

    /// What happened since the last call.
    pub(crate) fn take_counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    /// Notes that a datagram arrived; its number if it is the first time.
    fn arrive(&mut self, stream: StreamId, link_sequence: u16, now: Instant) -> Option<u64> {
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&stream) {
            self.counts.refused += 1;
            return None;
        }
        let heard = self.streams.entry(stream).or_insert_with(|| Heard::before(link_sequence, now));
        heard.last = now;
        let (number, due) = heard.arrive(link_sequence, now, &mut self.counts)?;
        self.wake_at(due);
        Some(number)
    }

    fn wake_at(&mut self, due: Instant) {
        self.next_pass = Some(self.next_pass.map_or(due, |next| next.min(due)));
    }

    fn join(&mut self, stream: StreamId, number: u64, part: Part, now: Instant) -> Option<MediaPacket> {
        let heard = self.streams.get_mut(&stream)?;
        let Some(index) = heard.halves.iter().position(|half| half.number == number) else {
            if heard.halves.len() >= MAX_HALVES {
                heard.halves.pop_front();
                self.counts.incomplete += 1;
            }
            heard.halves.push_back(Half { number, since: now, part });
            self.wake_at(now + MAX_AGE);
            return None;
        };
        let (mut packet, rest) = match (heard.halves.remove(index)?.part, part) {
            (Part::First(packet), Part::Rest(rest)) | (Part::Rest(rest), Part::First(packet)) => (packet, rest),
            // A number comes once, so two parts of one kind are a peer that breaks the protocol.
            (Part::First(_), Part::First(_)) | (Part::Rest(_), Part::Rest(_)) => {
                self.counts.incomplete += 2;
                return None;
            }
        };
        if packet.payload.len() + rest.len() > MAX_PAYLOAD_BYTES {
            self.counts.incomplete += 2;
            return None;
        }
        packet.payload = packet.payload.iter().chain(rest.iter()).copied().collect();
        Some(packet)
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        let missing = self.streams.values().map(|heard| heard.missing.len()).max().unwrap_or(0);
        (missing, self.streams.values().map(|heard| heard.halves.len()).max().unwrap_or(0))
    }
}

impl Heard {
    /// The state before the first datagram of a stream.
    fn before(link_sequence: u16, now: Instant) -> Self {
        let first = if link_sequence < BEGINNING { 0 } else { link_sequence };
        // One turn of the 16 bits ahead of zero, so that earlier ones still have a number.
        let highest = u64::from(u16::MAX) + u64::from(first);
        Self { highest, missing: VecDeque::new(), halves: VecDeque::new(), last: now }
    }

    /// The datagram's number if it is the first time, and when the stream wants to be looked at.
    fn arrive(&mut self, link_sequence: u16, now: Instant, counts: &mut Counts) -> Option<(u64, Instant)> {
        let ahead = link_sequence.wrapping_sub(self.highest as u16).cast_signed();
        let number = self.highest.checked_add_signed(i64::from(ahead))?;
        if ahead > 0 {
            self.note_gap(number, now, counts);
            self.highest = number;
            let due = if self.missing.is_empty() { now + FORGET_AFTER } else { now + REORDER };
            return Some((number, due));
        }
        let Ok(index) = self.missing.binary_search_by_key(&number, |missing| missing.number) else {
            counts.duplicates += 1;
            return None;
        };
        let asks = self.missing.remove(index).map_or(0, |missing| missing.asks);
        counts.repaired += u64::from(asks > 0);
        Some((number, now + FORGET_AFTER))
    }

    /// Everything between the highest and `number` is missing; of a long gap only the latest is worth asking for.
    fn note_gap(&mut self, number: u64, now: Instant, counts: &mut Counts) {
        let first = (self.highest + 1).max(number.saturating_sub(MAX_MISSING as u64));
        counts.lost += first - (self.highest + 1);
        for number in first..number {
            self.missing.push_back(Missing { number, since: now, ask_at: now + REORDER, asks: 0 });
        }
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_front();
            counts.lost += 1;
        }
    }

    fn give_up(&mut self, now: Instant, counts: &mut Counts) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= MAX_AGE;
        let before = (self.missing.len(), self.halves.len());
        self.missing.retain(|missing| !(is_over(missing.since) || missing.asks >= MAX_ASKS && missing.ask_at <= now));
        self.halves.retain(|half| !is_over(half.since));
        counts.lost += (before.0 - self.missing.len()) as u64;
        counts.incomplete += (before.1 - self.halves.len()) as u64;
    }

    /// Appends what is to be asked for now.
    fn ask(&mut self, now: Instant, rtt: Duration, asked: &mut Vec<u16>) {
        // An answer takes a round trip and its variation.
        let again = now + rtt + rtt / 4 + REORDER;
        for missing in self.missing.iter_mut().filter(|missing| missing.ask_at <= now) {
            missing.asks += 1;
            missing.ask_at = again;
            asked.push(missing.number as u16);
        }
    }

    fn next_due(&self) -> Instant {
        let asks = self.missing.iter().map(|missing| missing.ask_at.min(missing.since + MAX_AGE));
        let halves = self.halves.front().map(|half| half.since + MAX_AGE);
        asks.chain(halves).min().unwrap_or(self.last + FORGET_AFTER)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use isthmus_protocol::media::{Datagram, decode};

    use super::*;
    use crate::repair::virtual_link::packet;

    const RTT: Duration = Duration::from_millis(40);

    fn asked(receiver: &mut Receiver, now: Instant) -> Vec<u16> {
        let mut out = Vec::new();
        receiver.handle_timeout(now, RTT, &mut out);
        out.iter()
            .flat_map(|datagram| match decode(datagram) {
                Ok(Datagram::Nack { missing, .. }) => missing,
                other => panic!("not a request: {other:?}"),
            })
            .collect()
    }

    fn arrive(receiver: &mut Receiver, sequence: u16, now: Instant) -> bool {
        receiver.media(1, sequence, false, packet(sequence, 10), now).is_some()
    }

    #[test]
    fn a_gap_is_asked_for_after_the_reorder_window_and_again_after_a_round_trip() {
        let (mut receiver, start) = (Receiver::default(), Instant::now());
        assert!(arrive(&mut receiver, 1000, start));
        assert!(arrive(&mut receiver, 1003, start), "packets are handed on at once");
        assert_eq!(asked(&mut receiver, start + REORDER / 2), Vec::<u16>::new(), "it may only have been overtaken");
        assert!(arrive(&mut receiver, 1002, start + REORDER / 2));
        assert_eq!(asked(&mut receiver, start + REORDER), [1001]);
        assert_eq!(asked(&mut receiver, start + REORDER + RTT), Vec::<u16>::new(), "the answer is on its way");
        assert_eq!(asked(&mut receiver, start + REORDER * 2 + RTT * 2), [1001]);
        assert!(arrive(&mut receiver, 1001, start + RTT * 3));
        assert!(!arrive(&mut receiver, 1001, start + RTT * 3), "nothing is handed on twice");
        assert_eq!(receiver.take_counts(), Counts { repaired: 1, duplicates: 1, ..Counts::default() });
    }

    #[test]
    fn asking_ends() {
        let (mut receiver, start) = (Receiver::default(), Instant::now());
        arrive(&mut receiver, 1000, start);
        arrive(&mut receiver, 1002, start);
        let mut asks = 0;
        let mut now = start;
        while now < start + MAX_AGE * 3 {
            asks += asked(&mut receiver, now).len();
            now += TICK;
        }
        assert_eq!((asks, receiver.take_counts().lost), (usize::from(MAX_ASKS), 1));
    }

    #[test]
    fn the_beginning_of_a_stream_is_asked_for_too() {
        let (mut receiver, start) = (Receiver::default(), Instant::now());
        arrive(&mut receiver, 2, start);
        assert_eq!(asked(&mut receiver, start + REORDER), [0, 1]);
    }

    #[test]
    fn numbers_wrap() {
        let (mut receiver, start) = (Receiver::default(), Instant::now());
        arrive(&mut receiver, 65_534, start);
        arrive(&mut receiver, 1, start);
        assert_eq!(asked(&mut receiver, start + REORDER), [65_535, 0]);
        assert!(arrive(&mut receiver, 0, start + RTT) && arrive(&mut receiver, 65_535, start + RTT));
        assert!(!arrive(&mut receiver, 65_534, start + RTT), "before the wrap and already here");
    }

    #[test]
    fn a_split_packet_is_whole_in_either_order_and_only_then() {
        for rest_first in [false, true] {
            let (mut receiver, now) = (Receiver::default(), Instant::now());
            let whole = packet(5, 1400);
            let (first, rest) = whole.payload.split_at(1200);
            let head = MediaPacket { payload: first.into(), ..whole.clone() };
            let got = if rest_first {
                assert_eq!(receiver.rest(1, 901, rest.into(), now), None);
                receiver.media(1, 900, true, head, now)
            } else {
                assert_eq!(receiver.media(1, 900, true, head, now), None);
                receiver.rest(1, 901, rest.into(), now)
            };
            // With the rest first, 900 came before the stream was known: the packet is not to be had, nor kept.
            assert_eq!(got, (!rest_first).then_some(whole));
            receiver.handle_timeout(now + MAX_AGE, RTT, &mut Vec::new());
            assert_eq!(receiver.held().1, 0);
        }
    }

    #[test]
    fn a_peer_that_breaks_the_rules_gets_no_more_memory_than_one_that_does_not() {
        let (mut receiver, now) = (Receiver::default(), Instant::now());
        for sequence in (0..u16::MAX).step_by(7) {
            receiver.rest(1, sequence, Arc::from([0; 10]), now);
        }
        let (missing, halves) = receiver.held();
        assert!(missing <= MAX_MISSING && halves <= MAX_HALVES);
        for stream in 0..2 * MAX_STREAMS as u32 {
            receiver.media(stream, 0, false, packet(0, 10), now);
        }
        assert!(receiver.streams.len() <= MAX_STREAMS);
        assert!(receiver.take_counts().refused > 0);
    }

    #[test]
    fn a_stream_that_pauses_is_forgotten() {
        let (mut receiver, start) = (Receiver::default(), Instant::now());
        arrive(&mut receiver, 0, start);
        let due = receiver.poll_timeout().expect("something is remembered");
        receiver.handle_timeout(due, RTT, &mut Vec::new());
        assert!(receiver.streams.is_empty());
        assert_eq!(receiver.poll_timeout(), None);
    }
}
