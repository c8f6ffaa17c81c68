//! Which frames of a VP8 stream a decoder could show: whole ones whose references were shown too.
//!
//! Packets are put in order by sequence number, from the start of a keyframe on. A gap waits [`REPAIR_WAIT`] for a
//! retransmission; then the frames it broke are given up, and none is decodable until the next keyframe. A keyframe that is
//! whole behind the gap is shown at once, as browsers do: it refers to nothing. What is missing before it may never come, since
//! a server repairs no layer that it has switched from.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::client::vp8::{Descriptor, PictureId, Temporal};

/// How long a gap may wait for a retransmission: a few round trips of 100 ms, two of 250 ms. Chromium waits up to 3 s.
const REPAIR_WAIT: Duration = Duration::from_millis(600);
/// The most packets that wait behind a gap (about 8 Mbit/s for [`REPAIR_WAIT`]); a gap with more behind it is given up.
const MAX_WAITING: usize = 512;
/// How often a keyframe is asked for while none comes; Chromium asks every 200 ms.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(300);

/// A frame that a decoder could show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodableFrame {
    /// Width and height in pixels, for a keyframe.
    pub keyframe_size: Option<(u16, u16)>,
}

/// Follows one VP8 stream.
#[derive(Debug, Default)]
pub struct FrameTracker {
    /// The next packet in order; none while the start of a keyframe is awaited.
    next: Option<u64>,
    /// Packets behind a gap, or those that came while a keyframe is awaited: its start may be late.
    waiting: BTreeMap<u64, Piece>,
    gap_since: Option<Instant>,
    /// The frame whose packets are being put together.
    open: Option<OpenFrame>,
    /// The last decodable frame.
    reference: Option<OpenFrame>,
    needs_keyframe: bool,
    requested_keyframe: Option<Instant>,
    undecodable: u64,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    marker: bool,
    /// None for a packet without payload, which only fills its place in the sequence.
    descriptor: Option<Descriptor>,
}

impl Piece {
    fn starts_keyframe(&self) -> bool {
        self.descriptor.is_some_and(|descriptor| descriptor.keyframe_size.is_some())
    }
}

#[derive(Debug, Clone, Copy)]
struct OpenFrame {
    picture_id: Option<PictureId>,
    temporal: Option<Temporal>,
    keyframe_size: Option<(u16, u16)>,
}

impl FrameTracker {
    /// A packet arrived; returns the frames that are decodable with it.
    pub fn handle_packet(&mut self, now: Instant, sequence: u64, marker: bool, payload: &[u8]) -> Vec<DecodableFrame> {
        let piece = Piece { marker, descriptor: Descriptor::parse(payload) };
        match self.next {
            // It repairs what was given up.
            Some(next) if sequence < next => return Vec::new(),
            Some(_) => {
                self.waiting.insert(sequence, piece);
            }
            None => self.await_keyframe(sequence, piece),
        }
        let mut frames = self.advance();
        if self.next.is_some() && (self.waiting.len() > MAX_WAITING || self.whole_keyframe_waits()) {
            frames.extend(self.give_up_gap());
        }
        frames.extend(self.handle_timeout(now));
        frames
    }

    /// Gives up a gap that has waited long enough; returns the frames that are decodable behind it.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<DecodableFrame> {
        if self.next.is_none() || self.waiting.is_empty() {
            self.gap_since = None;
            return Vec::new();
        }
        let since = *self.gap_since.get_or_insert(now);
        if now.saturating_duration_since(since) < REPAIR_WAIT { Vec::new() } else { self.give_up_gap() }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.gap_since.map(|since| since + REPAIR_WAIT)
    }

    /// Whether to ask the sender for a keyframe now.
    pub fn poll_keyframe_request(&mut self, now: Instant) -> bool {
        let long_ago = |at: Instant| now.saturating_duration_since(at) >= KEYFRAME_REQUEST_INTERVAL;
        let ask = self.needs_keyframe && self.requested_keyframe.is_none_or(long_ago);
        if ask {
            self.requested_keyframe = Some(now);
        }
        ask
    }

    /// Frames that were not decodable. A frame counts when its end arrives: one that is lost whole was not seen.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    fn await_keyframe(&mut self, sequence: u64, piece: Piece) {
        if piece.starts_keyframe() {
            self.waiting = self.waiting.split_off(&sequence);
            self.next = Some(sequence);
        } else if piece.marker {
            self.undecodable += 1;
            self.needs_keyframe = true;
        }
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_first();
        }
        self.waiting.insert(sequence, piece);
    }

    fn advance(&mut self) -> Vec<DecodableFrame> {
        let mut frames = Vec::new();
        while let Some(piece) = self.next.and_then(|next| self.waiting.remove(&next)) {
            self.next = self.next.map(|next| next + 1);
            self.gap_since = None;
            frames.extend(self.take(piece));
        }
        frames
    }

    fn give_up_gap(&mut self) -> Vec<DecodableFrame> {
        self.skip_to_keyframe();
        self.advance()
    }

    /// Whether all packets of the first keyframe that waits have come.
    fn whole_keyframe_waits(&self) -> bool {
        let behind = self.waiting.iter().skip_while(|(_, piece)| !piece.starts_keyframe());
        let mut expected = None;
        for (sequence, piece) in behind {
            if expected.is_some_and(|expected| expected != *sequence) {
                return false;
            }
            if piece.marker {
                return true;
            }
            expected = Some(sequence + 1);
        }
        false
    }

    /// The chain of references is broken: goes on from the first keyframe that waits, or awaits one.
    fn skip_to_keyframe(&mut self) {
        (self.gap_since, self.open, self.reference) = (None, None, None);
        self.next = self.waiting.iter().find(|(_, piece)| piece.starts_keyframe()).map(|(sequence, _)| *sequence);
        let skipped = self.waiting.range(..self.next.unwrap_or(u64::MAX));
        self.undecodable += skipped.filter(|(_, piece)| piece.marker).count() as u64;
        if let Some(keyframe) = self.next {
            self.waiting = self.waiting.split_off(&keyframe);
        }
        self.needs_keyframe = self.next.is_none();
    }

    /// The next packet in order.
    fn take(&mut self, piece: Piece) -> Option<DecodableFrame> {
        let descriptor = piece.descriptor?;
        if descriptor.starts_frame {
            let Descriptor { picture_id, temporal, keyframe_size, .. } = descriptor;
            self.open = Some(OpenFrame { picture_id, temporal, keyframe_size });
        }
        if !piece.marker {
            return None;
        }
        match self.open.take() {
            Some(frame) if frame.is_decodable_after(self.reference.as_ref()) => {
                self.reference = Some(frame);
                self.needs_keyframe = false;
                Some(DecodableFrame { keyframe_size: frame.keyframe_size })
            }
            _ => {
                self.undecodable += 1;
                self.skip_to_keyframe();
                None
            }
        }
    }
}

impl OpenFrame {
    /// Whether the frames it may refer to were decodable. Within temporal layers frames may be left out on purpose, and
    /// only the base layer's must follow each other (RFC 7741 section 4.2).
    fn is_decodable_after(&self, reference: Option<&Self>) -> bool {
        let Some(reference) = reference else { return self.keyframe_size.is_some() };
        if self.keyframe_size.is_some() {
            return true;
        }
        match (self.temporal, reference.temporal, self.picture_id, reference.picture_id) {
            (Some(this), Some(last), ..) if this.layer == 0 => this.base_picture == last.base_picture.wrapping_add(1),
            (Some(this), Some(last), ..) => this.base_picture == last.base_picture,
            (_, _, Some(this), Some(last)) => this.follows(last),
            _ => true,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::vp8;

    const MS: Duration = Duration::from_millis(1);
    const KEYFRAME: [u8; 40] = {
        let mut frame = [0; 40];
        (frame[3], frame[4], frame[5], frame[6], frame[8]) = (0x9d, 0x01, 0x2a, 64, 48);
        frame
    };
    const DELTA: [u8; 40] = [1; 40];

    /// Frames of four packets each, numbered from 0; those of `keyframes` are keyframes.
    fn packets(frames: u16, keyframes: &[u16]) -> Vec<(u64, bool, Vec<u8>)> {
        let mut packets = Vec::new();
        for id in 0..frames {
            let frame = if keyframes.contains(&id) { KEYFRAME } else { DELTA };
            let payloads = vp8::packetise(&frame, id, 14);
            let last = payloads.len() - 1;
            for (index, payload) in payloads.iter().enumerate() {
                packets.push((packets.len() as u64, index == last, payload.to_vec()));
            }
        }
        packets
    }

    fn feed(tracker: &mut FrameTracker, now: Instant, packets: &[(u64, bool, Vec<u8>)]) -> Vec<DecodableFrame> {
        packets.iter().flat_map(|(seq, marker, payload)| tracker.handle_packet(now, *seq, *marker, payload)).collect()
    }

    #[test]
    fn a_whole_stream_is_decodable_from_its_keyframe() {
        let mut tracker = FrameTracker::default();
        let frames = feed(&mut tracker, Instant::now(), &packets(10, &[0]));
        assert_eq!(frames.len(), 10);
        assert_eq!(frames[0].keyframe_size, Some((64, 48)));
        assert_eq!(tracker.undecodable(), 0);
    }

    #[test]
    fn without_a_keyframe_nothing_is_decodable_and_one_is_asked_for_again_and_again() {
        let now = Instant::now();
        let mut tracker = FrameTracker::default();
        assert!(!tracker.poll_keyframe_request(now), "nothing is being sent yet");
        assert_eq!(feed(&mut tracker, now, &packets(3, &[])), []);
        assert!(tracker.poll_keyframe_request(now));
        assert!(!tracker.poll_keyframe_request(now + KEYFRAME_REQUEST_INTERVAL.saturating_sub(MS)));
        assert!(tracker.poll_keyframe_request(now + KEYFRAME_REQUEST_INTERVAL));
    }

    #[test]
    fn a_keyframe_whose_start_is_late_is_decodable_and_not_asked_for() {
        let now = Instant::now();
        let mut stream = packets(3, &[0]);
        stream.swap(0, 2);
        let mut tracker = FrameTracker::default();
        assert_eq!(feed(&mut tracker, now, &stream[..2]), []);
        assert!(!tracker.poll_keyframe_request(now), "it may yet come");
        assert_eq!(feed(&mut tracker, now, &stream[2..]).len(), 3);
        assert_eq!(tracker.undecodable(), 0);
    }

    #[test]
    fn a_repaired_gap_costs_no_frame() {
        let now = Instant::now();
        let mut stream = packets(6, &[0]);
        let late = stream.remove(9);
        let mut tracker = FrameTracker::default();
        assert_eq!(feed(&mut tracker, now, &stream).len(), 2);
        assert_eq!(tracker.next_timeout(), Some(now + REPAIR_WAIT));
        assert_eq!(feed(&mut tracker, now + 300 * MS, &[late]).len(), 4);
        assert_eq!((tracker.next_timeout(), tracker.undecodable()), (None, 0));
    }

    #[test]
    fn an_unrepaired_gap_breaks_the_chain_until_the_next_keyframe() {
        let now = Instant::now();
        let mut stream = packets(10, &[0, 7]);
        let keyframes_end = stream.remove(31);
        stream.remove(9);
        let mut tracker = FrameTracker::default();
        assert_eq!(feed(&mut tracker, now, &stream).len(), 2);
        assert_eq!(tracker.handle_timeout(now + 399 * MS), []);
        assert_eq!(tracker.handle_timeout(now + REPAIR_WAIT), [], "the keyframe is not whole");
        assert_eq!(tracker.undecodable(), 5);
        assert_eq!(feed(&mut tracker, now + REPAIR_WAIT, &[keyframes_end]).len(), 3, "it and two after it");
    }

    #[test]
    fn a_whole_keyframe_waits_for_nothing() {
        let now = Instant::now();
        let mut stream = packets(10, &[0, 7]);
        let late = stream.remove(9);
        let mut tracker = FrameTracker::default();
        assert_eq!(feed(&mut tracker, now, &stream[..30]).len(), 2);
        assert_eq!(feed(&mut tracker, now, &stream[30..31]).len(), 1, "its last packet");
        assert_eq!(feed(&mut tracker, now, &stream[31..]).len(), 2);
        assert_eq!((feed(&mut tracker, now, &[late]).len(), tracker.undecodable()), (0, 5));
    }

    #[test]
    fn frames_that_the_server_left_out_break_the_chain_even_without_a_gap() {
        let mut stream = packets(6, &[0]);
        stream.drain(8..12);
        let renumbered: Vec<_> =
            (0u64..).zip(stream).map(|(seq, (_, marker, payload))| (seq, marker, payload)).collect();
        let mut tracker = FrameTracker::default();
        assert_eq!(feed(&mut tracker, Instant::now(), &renumbered).len(), 2);
        assert!(tracker.poll_keyframe_request(Instant::now()));
    }

    #[test]
    fn a_padding_packet_fills_its_place() {
        let now = Instant::now();
        let mut tracker = FrameTracker::default();
        feed(&mut tracker, now, &packets(1, &[0]));
        tracker.handle_packet(now, 4, false, &[]);
        assert_eq!(tracker.next_timeout(), None);
    }

    proptest! {
        #[test]
        fn any_order_shows_the_whole_stream_and_any_loss_never_more(
            seed in any::<u64>(), lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
            let mut stream = packets(20, &[0]);
            let first = stream.remove(0);
            stream.shuffle(&mut StdRng::seed_from_u64(seed));
            for index in &lost {
                stream.remove(index.index(stream.len()));
            }
            let now = Instant::now();
            let mut tracker = FrameTracker::default();
            let mut shown = feed(&mut tracker, now, &[first]).len();
            shown += feed(&mut tracker, now, &stream).len();
            shown += tracker.handle_timeout(now + REPAIR_WAIT).len();
            prop_assert_eq!(shown == 20, lost.is_empty());
        }
    }
}
