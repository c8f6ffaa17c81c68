//! The receiving side: finds gaps, asks, joins split packets, hands nothing on twice.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use isthmus_protocol::{
    media::{Datagram, LossReport, MAX_PAYLOAD_BYTES, MediaPacket, Parity, decode, encode_nack},
    peer::StreamId,
    red,
};
use rustc_hash::FxHashMap;

use super::{MAX_AGE, MAX_STREAMS, TICK, window::Window};

/// Datagrams missed of one stream. Full: the oldest are given up.
pub(crate) const MAX_MISSING: usize = 256;
/// Split packets of one stream of which one part is there. Full: the oldest is given up.
const MAX_HALVES: usize = 32;
/// A gap is asked for after this long: a datagram that was only overtaken has come by then.
const REORDER: Duration = Duration::from_millis(10);
/// What is missing of protected speech is asked for after this long: by then the next packets have brought what they can.
const CARRIED_WAIT: Duration = Duration::from_millis(70);
/// How soon the first loss of speech is reported: soon, since it turns protection on.
const REPORT_LOSS_AFTER: Duration = Duration::from_millis(100);
/// How often speech is reported that nothing was lost of.
const REPORT_AFTER: Duration = Duration::from_secs(2);
/// The most datagrams that one gap in speech counts for: a longer one is an interruption.
const MAX_GAP: u64 = 50;
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
    speech: Tally,
}

/// What was missed of speech since the last report.
#[derive(Debug, Default)]
struct Tally {
    expected: u64,
    lost: u64,
    runs: u64,
    due: Option<Instant>,
}

/// How a datagram came.
#[derive(Debug)]
pub(crate) enum How {
    /// A MEDIA datagram that holds a whole packet, or the first part of one.
    Media {
        /// Whether it is a part.
        split: bool,
        /// Whether it was sent again.
        repair: bool,
    },
    /// With what repairs the loss of others.
    Speech {
        /// The MEDIA datagram in it.
        plain: Vec<u8>,
        /// Of datagrams before it.
        parities: Vec<Parity>,
    },
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
    /// The same for speech alone, each datagram once.
    pub(crate) speech: SpeechCounts,
}

/// How speech came, in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SpeechCounts {
    /// As it was sent.
    pub(crate) arrived: u64,
    /// Out of what later ones carried.
    pub(crate) restored: u64,
    /// Asked for.
    pub(crate) repaired: u64,
    /// Not at all.
    pub(crate) lost: u64,
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
    is_audio: bool,
    /// While the stream is protected.
    window: Option<Box<Window>>,
    /// The latest number and the RTP sequence number that it had.
    latest: Option<(u64, u16)>,
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
    /// Takes a packet of a MEDIA or SPEECH datagram. Appends what is whole by it to `out`: what was lost before it, if it
    /// brings that, and then the packet.
    pub(crate) fn media(
        &mut self,
        stream: StreamId,
        link_sequence: u16,
        how: How,
        packet: MediaPacket,
        now: Instant,
        out: &mut Vec<MediaPacket>,
    ) {
        let is_audio = packet.codec.is_audio();
        let is_repair = matches!(how, How::Media { repair: true, .. });
        let arrival = self.arrive(stream, link_sequence, is_audio, is_repair, now);
        let Some(heard) = self.streams.get_mut(&stream) else { return };
        let number = heard.number(link_sequence);
        let split = match how {
            How::Media { split, repair } => {
                if !repair {
                    heard.window = None;
                }
                split
            }
            How::Speech { plain, parities } => {
                // Repeated ones bring something too: what they carry may have been lost with the first.
                if let Some(number) = number {
                    heard.restore(stream, number, plain, parities, &mut self.counts, out);
                }
                false
            }
        };
        let Some(number) = arrival else { return };
        if split {
            out.extend(self.join(stream, number, Part::First(packet), now));
            return;
        }
        out.extend(heard.take_predecessor(number, &packet, &mut self.counts));
        if number == heard.highest {
            heard.latest = Some((number, packet.sequence));
        }
        out.push(packet);
    }

    /// Takes a REST datagram, returns the packet that is whole by it.
    pub(crate) fn rest(
        &mut self,
        stream: StreamId,
        link_sequence: u16,
        payload: Arc<[u8]>,
        now: Instant,
    ) -> Option<MediaPacket> {
        let number = self.arrive(stream, link_sequence, false, false, now)?;
        self.join(stream, number.checked_sub(1)?, Part::Rest(payload), now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_pass.into_iter().chain(self.speech.due).min()
    }

    /// What the peer should know of its speech, when it is time.
    pub(crate) fn take_report(&mut self, now: Instant) -> Option<LossReport> {
        if self.speech.due.is_none_or(|due| due > now) {
            return None;
        }
        let Tally { expected, lost, runs, .. } = mem::take(&mut self.speech);
        let in_report = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        Some(LossReport { expected: in_report(expected), lost: in_report(lost), runs: in_report(runs.min(lost)) })
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
    fn arrive(
        &mut self,
        stream: StreamId,
        link_sequence: u16,
        is_audio: bool,
        is_repair: bool,
        now: Instant,
    ) -> Option<u64> {
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&stream) {
            self.counts.refused += 1;
            return None;
        }
        let heard = self.streams.entry(stream).or_insert_with(|| Heard::before(link_sequence, is_audio, now));
        heard.last = now;
        let before = heard.highest;
        let arrived = heard.arrive(link_sequence, is_repair, now, &mut self.counts);
        if heard.is_audio {
            let advance = heard.highest - before;
            self.speech.note(advance, arrived.is_some() && !is_repair, now);
        }
        let (number, due) = arrived?;
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
    fn before(link_sequence: u16, is_audio: bool, now: Instant) -> Self {
        let first = if link_sequence < BEGINNING { 0 } else { link_sequence };
        // One turn of the 16 bits ahead of zero, so that earlier ones still have a number.
        let highest = u64::from(u16::MAX) + u64::from(first);
        Self {
            highest,
            missing: VecDeque::new(),
            halves: VecDeque::new(),
            last: now,
            is_audio,
            window: None,
            latest: None,
        }
    }

    /// What a link sequence near the highest stands for.
    fn number(&self, link_sequence: u16) -> Option<u64> {
        let ahead = link_sequence.wrapping_sub(self.highest as u16).cast_signed();
        self.highest.checked_add_signed(i64::from(ahead))
    }

    /// Takes out of `parities` what is missing, and appends it to `out`.
    fn restore(
        &mut self,
        stream: StreamId,
        number: u64,
        plain: Vec<u8>,
        parities: Vec<Parity>,
        counts: &mut Counts,
        out: &mut Vec<MediaPacket>,
    ) {
        let window = self.window.get_or_insert_default();
        for (number, media) in window.insert(stream, number, plain, parities) {
            if let Ok(Datagram::Media { split: false, packet, .. }) = decode(&media)
                && self.fill(number, counts)
            {
                out.push(packet);
            }
        }
    }

    /// The packet before `packet`, if it is missing and `packet` brings it along. Only if the publisher's numbers say that
    /// it is what the link lost: otherwise it was lost before, and another one here.
    fn take_predecessor(&mut self, number: u64, packet: &MediaPacket, counts: &mut Counts) -> Option<MediaPacket> {
        let (latest, latest_sequence) = self.latest?;
        let behind = number.checked_sub(latest).filter(|behind| *behind > 1)?;
        if u64::from(packet.sequence.wrapping_sub(latest_sequence)) != behind {
            return None;
        }
        let before = red::predecessor(packet)?;
        self.fill(number - 1, counts).then_some(before)
    }

    /// Notes that a missing datagram was restored; false if it was not missing.
    fn fill(&mut self, number: u64, counts: &mut Counts) -> bool {
        let Ok(index) = self.missing.binary_search_by_key(&number, |missing| missing.number) else { return false };
        self.missing.remove(index);
        counts.speech.restored += 1;
        true
    }

    /// The datagram's number if it is the first time, and when the stream wants to be looked at.
    fn arrive(
        &mut self,
        link_sequence: u16,
        is_repair: bool,
        now: Instant,
        counts: &mut Counts,
    ) -> Option<(u64, Instant)> {
        let number = self.number(link_sequence)?;
        if number > self.highest {
            self.note_gap(number, now, counts);
            self.highest = number;
            counts.speech.arrived += u64::from(self.is_audio);
            let due = if self.missing.is_empty() { now + FORGET_AFTER } else { now + REORDER };
            return Some((number, due));
        }
        let Ok(index) = self.missing.binary_search_by_key(&number, |missing| missing.number) else {
            counts.duplicates += 1;
            return None;
        };
        let asks = self.missing.remove(index).map_or(0, |missing| missing.asks);
        counts.repaired += u64::from(asks > 0);
        if self.is_audio {
            let how = if asks > 0 || is_repair { &mut counts.speech.repaired } else { &mut counts.speech.arrived };
            *how += 1;
        }
        Some((number, now + FORGET_AFTER))
    }

    /// Everything between the highest and `number` is missing; of a long gap only the latest is worth asking for.
    fn note_gap(&mut self, number: u64, now: Instant, counts: &mut Counts) {
        let first = (self.highest + 1).max(number.saturating_sub(MAX_MISSING as u64));
        self.lose(first - (self.highest + 1), counts);
        let wait = if self.window.is_some() { CARRIED_WAIT } else { REORDER };
        for number in first..number {
            self.missing.push_back(Missing { number, since: now, ask_at: now + wait, asks: 0 });
        }
        let over = self.missing.len().saturating_sub(MAX_MISSING);
        self.missing.drain(..over);
        self.lose(over as u64, counts);
    }

    fn lose(&self, datagrams: u64, counts: &mut Counts) {
        counts.lost += datagrams;
        counts.speech.lost += if self.is_audio { datagrams } else { 0 };
    }

    fn give_up(&mut self, now: Instant, counts: &mut Counts) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= MAX_AGE;
        let before = (self.missing.len(), self.halves.len());
        self.missing.retain(|missing| !(is_over(missing.since) || missing.asks >= MAX_ASKS && missing.ask_at <= now));
        self.halves.retain(|half| !is_over(half.since));
        self.lose((before.0 - self.missing.len()) as u64, counts);
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

impl Tally {
    /// The stream's highest number has gone on by `advance`; if by none, and the datagram `was_overtaken`, then what was
    /// counted lost is not.
    fn note(&mut self, advance: u64, was_overtaken: bool, now: Instant) {
        if advance == 0 {
            self.lost = self.lost.saturating_sub(u64::from(was_overtaken));
            return;
        }
        let lost = (advance - 1).min(MAX_GAP);
        self.expected += 1 + lost;
        self.lost += lost;
        self.runs += u64::from(lost > 0);
        let due = now + if self.lost > 0 { REPORT_LOSS_AFTER } else { REPORT_AFTER };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
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

    fn take(
        receiver: &mut Receiver,
        stream: StreamId,
        sequence: u16,
        split: bool,
        packet: MediaPacket,
        now: Instant,
    ) -> Option<MediaPacket> {
        let mut out = Vec::new();
        receiver.media(stream, sequence, How::Media { split, repair: false }, packet, now, &mut out);
        assert!(out.len() <= 1, "nothing is carried ahead here");
        out.pop()
    }

    fn arrive(receiver: &mut Receiver, sequence: u16, now: Instant) -> bool {
        take(receiver, 1, sequence, false, packet(sequence, 10), now).is_some()
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
                take(&mut receiver, 1, 900, true, head, now)
            } else {
                assert_eq!(take(&mut receiver, 1, 900, true, head, now), None);
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
            take(&mut receiver, stream, 0, false, packet(0, 10), now);
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
