//! The sending side: numbers, holds, answers what is asked for again.

use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;
use isthmus_protocol::{
    media::{LossReport, MAX_REACH, MediaPacket, Parity, encode_speech, mark_repair},
    peer::StreamId,
    red,
};
use rustc_hash::FxHashMap;

use super::{
    MAX_AGE, MAX_STREAMS, TICK,
    protection::{self, Level, Protection},
};

/// Datagrams held of one stream: [`HOLD`] at 15 Mbit/s. Full: the oldest goes.
pub(crate) const MAX_HELD: usize = 2048;
/// How long a datagram is held: what the receiver asks for within [`MAX_AGE`], and half a second for the request to
/// come.
const HOLD: Duration = MAX_AGE.saturating_add(Duration::from_millis(500));
/// Bytes held of all streams of a link: [`HOLD`] at 170 Mbit/s. Full: the oldest of the stream that sends goes.
pub(crate) const MAX_HELD_BYTES: usize = 32 * 1024 * 1024;
/// A datagram is repeated at most this often, whoever asks.
const MAX_REPEATS: u8 = 8;
/// Repairs of a stream may take one byte for every two it sends: loss of 20 % takes one in four, and bursts take more.
const REPAIR_SHARE: usize = 2;
/// Repairs that may come at once, in bytes: one keyframe.
const REPAIR_BURST_BYTES: usize = 64 * 1024;
/// A pause this long makes the last datagram repeat; the second time after three times as long. Longer than the gap
/// between frames at 10 per second, so that a stream that flows costs nothing.
const PROBE_AFTER: Duration = Duration::from_millis(100);
const MAX_PROBES: u32 = 2;
/// The least pause that makes a protected voice repeat its last packet; otherwise one and a half of the time between its
/// packets. It has no next packet that would bring what was lost.
const SPEECH_PROBE_AFTER: Duration = Duration::from_millis(30);
/// Speech from longer ago than this is not carried ahead: its player has gone on.
const STALE: Duration = Duration::from_millis(200);
/// A stream that sent nothing for this long is forgotten and begins again at 0. Longer than the receiver remembers
/// ([`super::receiver::FORGET_AFTER`]), so that a new beginning is never taken for old news.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// The sending side of a link.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    streams: FxHashMap<StreamId, Sent>,
    held_bytes: usize,
    next_pass: Option<Instant>,
    protection: Protection,
    /// Of the packets from now on.
    level: Level,
    /// Sent ahead, or repeated unasked, and not yet taken.
    redundant_bytes: u64,
}

/// What decides whether speech is carried ahead, beside its loss.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// The round trip.
    pub(crate) rtt: Duration,
    /// Whether the peer reads it and the path carries it: what did not get out in time gains nothing by being more.
    pub(crate) takes_redundancy: bool,
}

/// Why a packet was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// [`MAX_STREAMS`] are there already.
    TooManyStreams,
    /// It does not fit two datagrams.
    Oversize,
}

/// What became of one request for repair, in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Answered {
    pub(crate) sent: u64,
    /// Not held any more.
    pub(crate) gone: u64,
    /// Repeated too often, or over the share of repairs.
    pub(crate) capped: u64,
}

#[derive(Debug)]
struct Sent {
    /// The next datagram's number.
    next: u16,
    /// Without gaps; the back has number `next - 1`.
    held: VecDeque<Held>,
    credit_bytes: usize,
    latest: Instant,
    probes: u32,
    /// The pause after which the last datagram is repeated.
    probe_after: Duration,
}

#[derive(Debug)]
struct Held {
    datagram: Bytes,
    at: Instant,
    repeats: u8,
    /// A whole packet of speech, small enough to be carried ahead.
    is_speech: bool,
    /// It brings the packet before it along by itself.
    has_predecessor: bool,
}

impl Sender {
    /// Appends the datagrams that carry `packet` to `out`, and holds them.
    pub(crate) fn send(
        &mut self,
        stream: StreamId,
        packet: &MediaPacket,
        max_datagram: usize,
        now: Instant,
        out: &mut Vec<Bytes>,
    ) -> Result<(), NotSent> {
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&stream) {
            return Err(NotSent::TooManyStreams);
        }
        let sent = self.streams.entry(stream).or_insert_with(|| Sent::new(now));
        let begin = out.len();
        let pause = now.saturating_duration_since(sent.latest);
        let count = packet.encode(stream, sent.next, max_datagram, out);
        if count == 0 {
            return Err(NotSent::Oversize);
        }
        sent.next = sent.next.wrapping_add(count);
        (sent.latest, sent.probes) = (now, 0);
        let is_small = count == 1 && out[begin].len() <= protection::MAX_BYTES;
        let is_speech = packet.codec.is_audio() && is_small;
        let has_predecessor = is_speech && red::has_predecessor(packet);
        for datagram in &out[begin..] {
            self.held_bytes += datagram.len();
            sent.credit_bytes = (sent.credit_bytes + datagram.len() / REPAIR_SHARE).min(REPAIR_BURST_BYTES);
            let datagram = datagram.clone();
            sent.held.push_back(Held { datagram, at: now, repeats: 0, is_speech, has_predecessor });
        }
        sent.probe_after = PROBE_AFTER;
        if is_speech && self.level > Level::Off {
            sent.probe_after = (pause * 3 / 2).clamp(SPEECH_PROBE_AFTER, PROBE_AFTER);
            if let Some(speech) = sent.protected(self.level).filter(|speech| speech.len() <= max_datagram) {
                self.redundant_bytes += (speech.len() - out[begin].len()) as u64;
                out[begin] = speech;
            }
        }
        while sent.held.len() > MAX_HELD || self.held_bytes > MAX_HELD_BYTES || sent.oldest_is_over(now) {
            let Some(oldest) = sent.held.pop_front() else { break };
            self.held_bytes -= oldest.datagram.len();
        }
        let due = now + sent.probe_after;
        self.next_pass = Some(self.next_pass.map_or(due, |next| next.min(due)));
        Ok(())
    }

    /// The peer says what it missed of this side's speech.
    pub(crate) fn handle_report(&mut self, report: LossReport, now: Instant) {
        self.protection.handle_report(report, now);
    }

    /// How the path is now; decides about the packets from here on.
    pub(crate) fn set_path(&mut self, path: Path) {
        let level = self.protection.level(path.rtt);
        self.level = if path.takes_redundancy { level } else { Level::Off };
    }

    /// The share of speech that the path loses before any repair.
    pub(crate) fn loss(&self) -> f64 {
        self.protection.loss()
    }

    /// Bytes that were sent ahead since the last call.
    pub(crate) fn take_redundant_bytes(&mut self) -> u64 {
        mem::take(&mut self.redundant_bytes)
    }

    /// Appends what the receiver asks for again to `out`, as far as it is held and may be repeated.
    pub(crate) fn repeat(&mut self, stream: StreamId, missing: &[u16], now: Instant, out: &mut Vec<Bytes>) -> Answered {
        let mut answered = Answered::default();
        let Some(sent) = self.streams.get_mut(&stream) else {
            answered.gone = missing.len() as u64;
            return answered;
        };
        for number in missing {
            let behind = usize::from(sent.next.wrapping_sub(*number));
            let index = sent.held.len().checked_sub(behind).filter(|_| behind > 0);
            let held = index.and_then(|index| sent.held.get_mut(index)).filter(|held| held.is_young(now));
            let Some(held) = held else {
                answered.gone += 1;
                continue;
            };
            if held.repeats >= MAX_REPEATS || sent.credit_bytes < held.datagram.len() {
                answered.capped += 1;
                continue;
            }
            held.repeats += 1;
            sent.credit_bytes -= held.datagram.len();
            out.push(mark_repair(&held.datagram));
            answered.sent += 1;
        }
        answered
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_pass
    }

    /// Whether the stream's latest packet was speech.
    pub(crate) fn is_speech(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).and_then(|sent| sent.held.back()).is_some_and(|held| held.is_speech)
    }

    /// Repeats the last datagram of streams that fell silent, lets go of what is too old.
    pub(crate) fn handle_timeout(&mut self, now: Instant, speech: &mut Vec<Bytes>, others: &mut Vec<Bytes>) {
        if self.next_pass.is_none_or(|at| at > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for sent in self.streams.values_mut() {
            if sent.next_probe().is_some_and(|at| at <= now)
                && let Some(last) = sent.held.back()
            {
                let repeat = if last.is_speech { sent.protected(self.level) } else { None };
                let repeat = repeat.unwrap_or_else(|| mark_repair(&last.datagram));
                if last.is_speech {
                    self.redundant_bytes += repeat.len() as u64;
                    speech.push(repeat);
                } else {
                    others.push(repeat);
                }
                sent.probes += 1;
            }
            while sent.oldest_is_over(now) {
                let Some(oldest) = sent.held.pop_front() else { break };
                self.held_bytes -= oldest.datagram.len();
            }
            let due = sent.next_probe().unwrap_or(sent.latest + FORGET_AFTER);
            let due = sent.held.front().map_or(due, |oldest| due.min(oldest.at + HOLD));
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        self.streams.retain(|_, sent| now.saturating_duration_since(sent.latest) < FORGET_AFTER);
        self.next_pass = next.filter(|_| !self.streams.is_empty()).map(|at| at.max(now + TICK));
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        assert_eq!(
            self.held_bytes,
            self.streams.values().flat_map(|s| &s.held).map(|h| h.datagram.len()).sum::<usize>()
        );
        self.held_bytes
    }
}

impl Sent {
    fn new(now: Instant) -> Self {
        Self {
            next: 0,
            held: VecDeque::new(),
            credit_bytes: REPAIR_BURST_BYTES,
            latest: now,
            probes: 0,
            probe_after: PROBE_AFTER,
        }
    }

    /// The last datagram with what it carries ahead; none if that is nothing.
    fn protected(&self, level: Level) -> Option<Bytes> {
        let (last, before) = self.held.iter().next_back().zip(self.held.len().checked_sub(1))?;
        let masks = level.masks(last.has_predecessor);
        if masks.is_empty() {
            return None;
        }
        let is_fresh = |held: &Held| held.is_speech && last.at.saturating_duration_since(held.at) < STALE;
        let sum = |mask: &u8| {
            let mut parity = Parity::default();
            for back in (1..=MAX_REACH).filter(|back| mask & 1 << (back - 1) != 0) {
                let held = before.checked_sub(usize::from(back)).map(|index| &self.held[index]);
                if let Some(held) = held.filter(|held| is_fresh(held)) {
                    parity.toggle(back, &held.datagram);
                }
            }
            parity
        };
        // Without anything to carry yet it says that the next ones will: the receiver then keeps this one for their sums.
        let parities: Vec<Parity> = masks.iter().map(sum).filter(|parity| parity.mask != 0).collect();
        Some(encode_speech(&last.datagram, &parities))
    }

    fn oldest_is_over(&self, now: Instant) -> bool {
        self.held.front().is_some_and(|oldest| !oldest.is_young(now))
    }

    fn next_probe(&self) -> Option<Instant> {
        (self.probes < MAX_PROBES && !self.held.is_empty())
            .then(|| self.latest + self.probe_after * 3u32.pow(self.probes))
    }
}

impl Held {
    fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < HOLD
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use isthmus_protocol::media::{Datagram, decode};

    use super::*;
    use crate::repair::virtual_link::{packet, voice};

    const MAX_DATAGRAM: usize = 1300;

    fn sent(sender: &mut Sender, stream: StreamId, count: u16, bytes: usize, now: Instant) -> Vec<Bytes> {
        let mut out = Vec::new();
        for sequence in 0..count {
            sender.send(stream, &packet(sequence, bytes), MAX_DATAGRAM, now, &mut out).expect("small enough");
        }
        out
    }

    /// Sends speech, says whether any of it carried something ahead.
    fn carries_ahead(sender: &mut Sender, rtt_ms: u64, takes_redundancy: bool, now: Instant) -> bool {
        sender.set_path(Path { rtt: Duration::from_millis(rtt_ms), takes_redundancy });
        let mut out = Vec::new();
        for sequence in 0..5 {
            sender.send(7, &voice(sequence, 80), MAX_DATAGRAM, now, &mut out).expect("small enough");
        }
        out.iter().any(|datagram| matches!(decode(datagram), Ok(Datagram::Speech { .. })))
    }

    #[test]
    fn speech_is_carried_ahead_where_the_path_is_long_and_loses_and_the_peer_reads_it() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        assert!(!carries_ahead(&mut sender, 250, true, now), "nobody knows of loss");
        sender.handle_report(LossReport { expected: 1000, lost: 20, runs: 20 }, now);
        assert!(carries_ahead(&mut sender, 250, true, now));
        assert!(!carries_ahead(&mut sender, 20, true, now), "asking is quick");
        assert!(!carries_ahead(&mut sender, 250, false, now), "the peer or the path takes none");
        sender.set_path(Path { rtt: Duration::from_millis(250), takes_redundancy: true });
        let mut out = Vec::new();
        sender.send(8, &packet(0, 80), MAX_DATAGRAM, now, &mut out).expect("small enough");
        assert!(matches!(decode(&out[0]), Ok(Datagram::Media { .. })), "pictures are asked for");
    }

    #[test]
    fn redundancy_is_bounded_and_counted() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        sender.handle_report(LossReport { expected: 1000, lost: 60, runs: 20 }, now);
        sender.set_path(Path { rtt: Duration::from_millis(250), takes_redundancy: true });
        let (mut bytes, mut plain) = (0, 0);
        for sequence in 0..500u16 {
            let mut out = Vec::new();
            let size = 40 + usize::from(sequence % 7) * 40;
            sender.send(7, &voice(sequence, size), MAX_DATAGRAM, now, &mut out).expect("small enough");
            let Ok(Datagram::Speech { plain: alone, .. }) = decode(&out[0]) else { panic!("not protected") };
            assert!(out[0].len() - alone.len() <= 2 * (protection::MAX_BYTES + 3), "two sums at most");
            (bytes, plain) = (bytes + out[0].len(), plain + alone.len());
        }
        assert_eq!(sender.take_redundant_bytes(), (bytes - plain) as u64);
        let share = (bytes - plain) as f64 / plain as f64;
        assert!(share < 2.5, "{share}: the longer one of two decides the length of their sum");
    }

    #[test]
    fn what_is_asked_for_comes_again_marked_as_a_repair() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        sent(&mut sender, 7, 10, 100, now);
        let mut out = Vec::new();
        let answered = sender.repeat(7, &[3, 9, 10, 65_535], now, &mut out);
        assert_eq!(answered, Answered { sent: 2, gone: 2, capped: 0 });
        let numbers: Vec<_> = out.iter().map(|d| decode(d).expect("own datagram")).collect();
        assert!(matches!(numbers[0], Datagram::Media { link_sequence: 3, repair: true, .. }));
        assert!(matches!(numbers[1], Datagram::Media { link_sequence: 9, repair: true, .. }));
    }

    #[test]
    fn requests_cannot_multiply_traffic() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        let original: usize = sent(&mut sender, 7, 400, 1000, now).iter().map(Bytes::len).sum();
        let all: Vec<u16> = (0..400).collect();
        let mut out = Vec::new();
        for _ in 0..100 {
            sender.repeat(7, &all, now, &mut out);
        }
        let repeated: usize = out.iter().map(Bytes::len).sum();
        assert!(
            repeated <= REPAIR_BURST_BYTES.min(original / 2 + REPAIR_BURST_BYTES),
            "{repeated} of {original} bytes"
        );
    }

    #[test]
    fn one_datagram_is_repeated_a_few_times_at_most() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        sent(&mut sender, 7, 1, 20, now);
        let mut out = Vec::new();
        for _ in 0..100 {
            sender.repeat(7, &[0], now, &mut out);
        }
        assert_eq!(out.len(), usize::from(MAX_REPEATS));
    }

    #[test]
    fn nothing_is_held_longer_than_its_time_or_beyond_its_bounds() {
        let (mut sender, start) = (Sender::default(), Instant::now());
        for stream in 0..100 {
            sent(&mut sender, stream, 2100, 300, start);
        }
        assert!(sender.held_bytes() <= MAX_HELD_BYTES);
        assert!(sender.streams.values().all(|s| s.held.len() <= MAX_HELD));
        sender.handle_timeout(start + HOLD, &mut Vec::new(), &mut Vec::new());
        assert_eq!(sender.held_bytes(), 0);
        sender.handle_timeout(start + FORGET_AFTER, &mut Vec::new(), &mut Vec::new());
        assert!(sender.streams.is_empty());
        assert_eq!(sender.poll_timeout(), None);
    }

    #[test]
    fn streams_are_bounded() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        for stream in 0..MAX_STREAMS as u32 {
            sent(&mut sender, stream, 1, 1, now);
        }
        let refused = sender.send(u32::MAX, &packet(0, 1), MAX_DATAGRAM, now, &mut Vec::new());
        assert_eq!(refused, Err(NotSent::TooManyStreams));
    }

    #[test]
    fn a_stream_that_falls_silent_repeats_its_last_datagram_twice_and_then_rests() {
        let (mut sender, start) = (Sender::default(), Instant::now());
        sent(&mut sender, 7, 3, 100, start);
        let (mut probes, mut now) = (Vec::new(), start);
        while let Some(at) = sender.poll_timeout().filter(|at| *at < start + FORGET_AFTER) {
            now = at.max(now);
            let mut out = Vec::new();
            sender.handle_timeout(now, &mut Vec::new(), &mut out);
            for datagram in out {
                let Ok(Datagram::Media { link_sequence, .. }) = decode(&datagram) else { panic!("not media") };
                probes.push((link_sequence, (now - start).as_millis()));
            }
        }
        assert_eq!(probes, [(2, 100), (2, 300)]);
    }
}
