//! Which frames of a scalable stream one receiver gets.
//!
//! It is sent a decode target whole. It changes to another one at a frame from which on that one can be decoded, if what the
//! frame is predicted from was sent too; going down often needs a keyframe as well as going up, where the smaller picture is
//! not part of the larger one.

use std::time::{Duration, Instant};

use super::{
    descriptor::{Frame, References},
    ladder::{Ladder, Rung},
};

/// How many frames back it is known what was sent.
const KNOWN: u16 = 64;

/// What is to become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is sent; whether it is the last of what is sent of its picture.
    Send {
        /// RTP's marker bit.
        ends_picture: bool,
    },
    /// It is left out.
    LeaveOut,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Selector {
    current: Option<Rung>,
    /// The newest frame that was seen.
    newest: u16,
    /// Bit n: the frame n before the newest was seen; was sent.
    seen: u64,
    sent: u64,
    /// Since when a picture of another size is wanted than is sent.
    waits_since: Option<Instant>,
}

impl Selector {
    /// What is sent; none before the first frame.
    pub fn current(&self) -> Option<Rung> {
        self.current
    }

    /// For how long a picture of another size has been wanted than is sent, where `wanted` is to be sent now.
    pub fn waits(&mut self, wanted: Rung, ladder: &Ladder, now: Instant) -> Duration {
        if self.current.map(|current| ladder.spatial(current)) == Some(ladder.spatial(wanted)) {
            self.waits_since = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.waits_since.get_or_insert(now))
    }

    /// What becomes of a packet of `frame` where `wanted` is to be sent.
    pub fn choose(&mut self, frame: &Frame, wanted: Rung, ladder: &Ladder) -> Choice {
        let wanted = wanted.min(ladder.top());
        let Some(behind) = self.note(frame) else { return Choice::LeaveOut };
        let bit = 1 << behind;
        if self.seen & bit == 0 {
            self.seen |= bit;
            // What comes late changes nothing: of what came before it in its place the rest was left out.
            if behind == 0 {
                self.change(frame, wanted, ladder);
            }
            let is_part = self.current.is_some_and(|current| frame.part_of & ladder.target(current) != 0);
            // One that comes after a change and is of before it may need what was left out then.
            let left_out = (self.seen & !self.sent).checked_shr(u32::from(behind) + 1).unwrap_or(0);
            if is_part && frame.references.near & left_out == 0 {
                self.sent |= bit;
            }
        }
        if self.sent & bit == 0 {
            return Choice::LeaveOut;
        }
        let top = self.current.map_or(0, |current| ladder.spatial(current));
        Choice::Send { ends_picture: frame.ends && frame.spatial == top }
    }

    /// How many frames behind the newest this one is; none if that is not known any more.
    fn note(&mut self, frame: &Frame) -> Option<u16> {
        let ahead = frame.number.wrapping_sub(self.newest);
        let behind = ahead.wrapping_neg();
        let is_ahead = ahead.cast_signed() > 0;
        // An encoder that began anew counts from anywhere.
        let is_first = self.seen == 0 || (!is_ahead && behind >= KNOWN && frame.starts_keyframe());
        if is_first || is_ahead {
            let shift = u32::from(if is_first { KNOWN } else { ahead });
            self.seen = self.seen.checked_shl(shift).unwrap_or(0);
            self.sent = self.sent.checked_shl(shift).unwrap_or(0);
            self.newest = frame.number;
            return Some(0);
        }
        (behind < KNOWN).then_some(behind)
    }

    /// Changes to `wanted`, or as near to it as this frame allows.
    fn change(&mut self, frame: &Frame, wanted: Rung, ladder: &Ladder) {
        if self.current == Some(wanted) || !self.has_sent(frame.references) {
            return;
        }
        // What is predicted from nothing opens whatever it is part of.
        let opened = if frame.references.is_empty() { frame.part_of } else { frame.switches_to };
        let allows = |rung: &Rung| opened & ladder.target(*rung) != 0;
        let found = match self.current {
            None => (0..=wanted).rev().find(allows),
            Some(current) if wanted > current => (current + 1..=wanted).rev().find(allows),
            Some(current) => (wanted..current).find(allows),
        };
        self.current = found.or(self.current);
    }

    /// Whether all that the newest frame is predicted from was sent.
    fn has_sent(&self, references: References) -> bool {
        !references.is_far && references.near & !(self.sent >> 1) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::{super::patterns::Pattern, *};

    /// What is sent of frames of which each is one packet, where this is wanted when it comes.
    fn sent(pattern: Pattern, wanted: impl Fn(usize) -> Rung) -> Vec<(Frame, bool)> {
        let (mut selector, ladder) = (Selector::default(), pattern.ladder());
        let choose = |(step, frame): (usize, Frame)| match selector.choose(&frame, wanted(step), &ladder) {
            Choice::Send { ends_picture } => Some((frame, ends_picture)),
            Choice::LeaveOut => None,
        };
        pattern.frames().take(360).enumerate().filter_map(choose).collect()
    }

    #[test]
    fn a_receiver_gets_the_size_it_wants_and_each_picture_has_an_end() {
        for pattern in Pattern::ALL {
            let sizes = pattern.spatial;
            let of = |rung: Rung| sent(pattern, |_| rung);
            let pictures = 360 / usize::from(sizes);
            let slow = of(0);
            assert_eq!(slow.len(), pictures / 4, "{pattern:?}: every fourth picture, in the smallest size");
            assert!(slow.iter().all(|(frame, ends)| *ends && frame.spatial == 0 && frame.temporal == 0));
            // The first comes in all sizes, where each can be shown by itself.
            let largest: Vec<_> = of(Rung::MAX).into_iter().filter(|(frame, _)| frame.number >= sizes.into()).collect();
            let ends = largest.iter().filter(|(_, ends)| *ends).count();
            assert_eq!(ends, pictures - 1, "{pattern:?}: every picture ends once");
            assert!(largest.iter().all(|(frame, ends)| *ends == (frame.spatial + 1 == sizes)));
        }
    }

    #[test]
    fn a_slower_rate_is_had_at_once_and_a_larger_size_at_the_next_keyframe() {
        let slower = sent(Pattern::FULL_3_BY_3, |step| if step < 30 { 4 } else { 0 });
        let after = slower.iter().filter(|(frame, _)| frame.number >= 36);
        assert!(
            after.clone().count() > 20 && after.clone().all(|(frame, _)| frame.spatial == 0 && frame.temporal == 0)
        );
        let larger = sent(Pattern::KEY_3_BY_3, |step| if step < 30 { 2 } else { 4 });
        let first = larger.iter().find(|(frame, _)| frame.spatial == 2).expect("it gets it");
        assert_eq!(first.0.number, Pattern::KEYFRAME_EVERY as u16 * 3 + 2, "with the second keyframe");
    }

    #[test]
    fn a_frame_is_sent_whole_or_not_at_all() {
        let (pattern, mut selector) = (Pattern::FULL_3_BY_3, Selector::default());
        let ladder = pattern.ladder();
        for (step, frame) in pattern.frames().take(90).enumerate() {
            let (before, after) = if step % 2 == 0 { (4, 0) } else { (0, 4) };
            let first = selector.choose(&Frame { ends: false, ..frame }, before, &ladder);
            let last = selector.choose(&Frame { starts: false, ..frame }, after, &ladder);
            assert_eq!(first == Choice::LeaveOut, last == Choice::LeaveOut, "frame {step}");
        }
    }

    #[test]
    fn an_encoder_that_begins_anew_is_followed() {
        let (pattern, mut selector) = (Pattern::RATES, Selector::default());
        let ladder = pattern.ladder();
        for frame in pattern.frames().take(200) {
            selector.choose(&Frame { number: frame.number.wrapping_add(20_000), ..frame }, 2, &ladder);
        }
        for frame in pattern.frames().take(20) {
            assert_ne!(selector.choose(&frame, 2, &ladder), Choice::LeaveOut, "frame {}", frame.number);
        }
    }

    proptest! {
        /// Whatever is wanted when, and whatever is lost or late before it comes here: nothing is sent whose references
        /// were left out on purpose.
        #[test]
        fn all_that_is_sent_can_be_decoded(
            pattern in prop::sample::select(Pattern::ALL.to_vec()),
            wanted in prop::collection::vec((0u8..6, 1usize..40), 1..30),
            lost in prop::collection::hash_set(0usize..360, 0..20),
            swapped in prop::collection::hash_set(0usize..359, 0..20),
        ) {
            let wanted: Vec<Rung> = wanted.iter().flat_map(|(rung, times)| vec![*rung; *times]).collect();
            let (mut selector, ladder) = (Selector::default(), pattern.ladder());
            let mut frames: Vec<Frame> = pattern.frames().take(360).collect();
            for at in swapped {
                frames.swap(at, at + 1);
            }
            let (mut seen, mut left_out) = (HashSet::new(), HashSet::new());
            for (step, frame) in frames.into_iter().enumerate() {
                if lost.contains(&step) {
                    continue;
                }
                seen.insert(frame.number);
                if selector.choose(&frame, wanted[step % wanted.len()], &ladder) == Choice::LeaveOut {
                    left_out.insert(frame.number);
                    continue;
                }
                let references = (0..64).filter(|distance| frame.references.near & 1 << distance != 0);
                for reference in references.map(|distance| frame.number.wrapping_sub(distance + 1)) {
                    prop_assert!(!left_out.contains(&reference), "{} needs {reference}", frame.number);
                }
            }
        }
    }
}
