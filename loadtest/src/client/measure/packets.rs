//! Loss, order, jitter and rate of one RTP stream (RFC 3550 sections 6.4.1, A.3 and A.8).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The live rate is measured over this long.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Measures one stream.
#[derive(Debug)]
pub struct PacketMeter {
    clock_hz: u32,
    packets: u64,
    bytes: u64,
    out_of_order: u64,
    range: Option<(u64, u64)>,
    /// Packets that earlier ranges lacked: a stream that starts anew under another SSRC begins another range.
    lost_before: u64,
    in_range: u64,
    transit: Option<(Instant, u32)>,
    jitter_s: f64,
    arrived: Option<(Instant, Instant)>,
    recent: VecDeque<(Instant, usize)>,
    recent_bytes: usize,
}

impl PacketMeter {
    /// A meter for a stream whose timestamps count at `clock_hz`.
    pub fn new(clock_hz: u32) -> Self {
        Self {
            clock_hz,
            packets: 0,
            bytes: 0,
            out_of_order: 0,
            range: None,
            lost_before: 0,
            in_range: 0,
            transit: None,
            jitter_s: 0.0,
            arrived: None,
            recent: VecDeque::new(),
            recent_bytes: 0,
        }
    }

    /// A packet arrived. `sequence` is extended, so that it does not wrap.
    pub fn handle_packet(&mut self, now: Instant, sequence: u64, timestamp: u32, size_bytes: usize) {
        self.packets += 1;
        self.bytes += size_bytes as u64;
        self.in_range += 1;
        self.arrived = Some((self.arrived.map_or(now, |(first, _)| first), now));
        self.note_recent(now, size_bytes);
        let in_order = self.range.is_none_or(|(_, highest)| sequence > highest);
        let (lowest, highest) = self.range.unwrap_or((sequence, sequence));
        self.range = Some((lowest.min(sequence), highest.max(sequence)));
        if in_order {
            self.note_transit(now, timestamp);
        } else {
            self.out_of_order += 1;
        }
    }

    /// A sequence number as it is counted on from the highest so far: the nearest to it (RFC 3550 section A.1).
    pub fn extended(&self, sequence: u16) -> u64 {
        // Begun above 0, so that what came before the first packet has a number too.
        let highest = self.range.map_or(1 << 16 | u64::from(sequence), |(_, highest)| highest);
        highest.wrapping_add_signed(i64::from(sequence.wrapping_sub(highest as u16).cast_signed()))
    }

    /// A packet that was lost came with the one after, whose bytes count with that.
    pub fn handle_restored(&mut self, sequence: u64) {
        self.packets += 1;
        self.in_range += 1;
        self.range = self.range.map(|(lowest, highest)| (lowest.min(sequence), highest.max(sequence)));
    }

    /// Whether anything of the stream has arrived.
    pub fn has_begun(&self) -> bool {
        self.range.is_some()
    }

    /// The stream goes on under another SSRC: its sequence and timestamps have nothing to do with those before.
    pub fn start_anew(&mut self) {
        self.lost_before = self.lost();
        self.range = None;
        self.in_range = 0;
        self.transit = None;
    }

    /// Packets that arrived, repaired ones included.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of their payloads.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that never arrived, not even as a retransmission.
    pub fn lost(&self) -> u64 {
        let expected = self.range.map_or(0, |(lowest, highest)| highest - lowest + 1);
        self.lost_before + expected.saturating_sub(self.in_range)
    }

    /// Packets that arrived after a later one: reordered, or repaired.
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    /// Interarrival jitter in milliseconds, smoothed as in RFC 3550 section A.8.
    pub fn jitter_ms(&self) -> f64 {
        self.jitter_s * 1e3
    }

    /// When the first packet arrived.
    pub fn first_at(&self) -> Option<Instant> {
        self.arrived.map(|(first, _)| first)
    }

    /// When the last packet arrived.
    pub fn last_at(&self) -> Option<Instant> {
        self.arrived.map(|(_, last)| last)
    }

    /// The mean rate from the first packet to `now`.
    pub fn mean_kbps(&self, now: Instant) -> f64 {
        let since = |(first, _): (Instant, Instant)| now.saturating_duration_since(first).as_secs_f64();
        let span_s = self.arrived.map_or(0.0, since);
        if span_s > 0.0 { self.bytes as f64 * 8.0 / span_s / 1e3 } else { 0.0 }
    }

    /// The rate in the second before `now`.
    pub fn live_kbps(&mut self, now: Instant) -> f64 {
        self.forget_before(now);
        self.recent_bytes as f64 * 8.0 / RATE_WINDOW.as_secs_f64() / 1e3
    }

    /// Bounded by the window: what is older goes with each packet that arrives.
    fn note_recent(&mut self, now: Instant, size_bytes: usize) {
        self.forget_before(now);
        self.recent.push_back((now, size_bytes));
        self.recent_bytes += size_bytes;
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some(&(at, size_bytes)) = self.recent.front() {
            if now.saturating_duration_since(at) < RATE_WINDOW {
                return;
            }
            self.recent.pop_front();
            self.recent_bytes -= size_bytes;
        }
    }

    fn note_transit(&mut self, now: Instant, timestamp: u32) {
        if let Some((before, timestamp_before)) = self.transit.replace((now, timestamp)) {
            let apart = now.saturating_duration_since(before).as_secs_f64();
            let meant = f64::from(timestamp.wrapping_sub(timestamp_before).cast_signed()) / f64::from(self.clock_hz);
            self.jitter_s += ((apart - meant).abs() - self.jitter_s) / 16.0;
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_stream_has_no_jitter_and_an_uneven_one_has_its_own() {
        let start = Instant::now();
        let mut steady = PacketMeter::new(48_000);
        let mut uneven = PacketMeter::new(48_000);
        for n in 0..500u32 {
            steady.handle_packet(start + 20 * MS * n, n.into(), n * 960, 80);
            uneven.handle_packet(start + 20 * MS * n + 6 * MS * (n % 2), n.into(), n * 960, 80);
        }
        assert!(steady.jitter_ms() < 0.001, "{}", steady.jitter_ms());
        assert!((uneven.jitter_ms() - 6.0).abs() < 0.1, "{}", uneven.jitter_ms());
        let rate = steady.live_kbps(start + 20 * MS * 499);
        assert!((rate - 32.0).abs() < 0.1, "80 bytes 50 times a second are 32 kbit/s, not {rate}");
        assert!((steady.live_kbps(start + 20_000 * MS)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_late_packet_is_not_lost_and_a_missing_one_is() {
        let now = Instant::now();
        let mut meter = PacketMeter::new(90_000);
        for sequence in [10, 11, 13, 12, 15] {
            meter.handle_packet(now, sequence, 0, 100);
        }
        assert_eq!((meter.lost(), meter.out_of_order()), (1, 1));
        meter.start_anew();
        for sequence in [70_000, 70_002] {
            meter.handle_packet(now, sequence, 0, 100);
        }
        assert_eq!(meter.lost(), 2, "what the stream before lacked stays counted");
    }

    proptest! {
        #[test]
        fn lost_is_what_was_left_out(keep in proptest::collection::vec(any::<bool>(), 2..300)) {
            let mut meter = PacketMeter::new(90_000);
            let now = Instant::now();
            let kept: Vec<u64> = (0u64..).zip(&keep).filter(|(_, kept)| **kept).map(|(n, _)| n).collect();
            for sequence in &kept {
                meter.handle_packet(now, *sequence, 0, 1);
            }
            let span = kept.first().zip(kept.last()).map_or(0, |(first, last)| last - first + 1);
            prop_assert_eq!(meter.lost(), span - kept.len() as u64);
        }
    }
}
