//! How long pictures have waited for a packet that does not come.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A packet that is missing for so long is given up, and for three times as long as what was missing took to come: it was asked for
/// three times by then. A browser that shows the picture waits up to 3 s for it before it asks for a keyframe.
const LEAST_PATIENCE: Duration = Duration::from_millis(350);
const TIMES: u32 = 3;
/// Weight of a packet that came late in how long that takes.
const SMOOTHING: f64 = 0.125;
/// A jump over more than so many is a pause, or begins something new.
const MAX_MISSING: u16 = 64;

/// The packets of one layer that have not come, since its last keyframe.
#[derive(Debug, Default)]
pub struct Gaps {
    newest: Option<u16>,
    /// Since when each is missed, the longest first; at most [`MAX_MISSING`].
    missing: VecDeque<(u16, Instant)>,
    /// How long what was missing took to come.
    usual: Duration,
}

impl Gaps {
    /// A packet came. `starts_keyframe`: what is missing before it is missed by nobody any more.
    pub fn note(&mut self, sequence: u16, starts_keyframe: bool, now: Instant) {
        let ahead = self.newest.map_or(1, |newest| sequence.wrapping_sub(newest));
        if ahead.cast_signed() <= 0 {
            if let Some(at) = self.missing.iter().position(|(missing, _)| *missing == sequence)
                && let Some((_, since)) = self.missing.remove(at)
            {
                let took = now.saturating_duration_since(since);
                self.usual = self.usual.mul_f64(1.0 - SMOOTHING) + took.mul_f64(SMOOTHING);
            }
            return;
        }
        self.newest = Some(sequence);
        if starts_keyframe || ahead > MAX_MISSING {
            self.missing.clear();
        } else if ahead > 1 {
            self.missing.extend((1..ahead).rev().map(|behind| (sequence.wrapping_sub(behind), now)));
            self.missing.drain(..self.missing.len().saturating_sub(MAX_MISSING.into()));
        }
    }

    /// Whether one is given up at `now`; it will not be asked about again.
    pub fn give_up(&mut self, now: Instant) -> bool {
        let patience = LEAST_PATIENCE.max(self.usual * TIMES);
        let is_overdue = |(_, since): &(u16, Instant)| now.saturating_duration_since(*since) >= patience;
        let overdue = self.missing.iter().take_while(|missing| is_overdue(missing)).count();
        self.missing.drain(..overdue);
        overdue > 0
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn given_up(packets: &[(u16, bool)]) -> bool {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        for (sequence, starts_keyframe) in packets {
            gaps.note(*sequence, *starts_keyframe, now);
        }
        assert!(!gaps.give_up(now + 349 * MS));
        let is_given_up = gaps.give_up(now + 350 * MS);
        assert!(!gaps.give_up(now + 900 * MS), "once");
        is_given_up
    }

    #[test]
    fn what_does_not_come_is_given_up_unless_nobody_misses_it() {
        assert!(given_up(&[(65_534, true), (65_535, false), (2, false), (1, false)]), "0 is missing");
        assert!(!given_up(&[(65_534, true), (1, false), (0, false), (65_535, false)]), "all have come");
        assert!(!given_up(&[(5, true), (7, false), (9, true), (10, false)]), "a keyframe came");
        assert!(given_up(&[(5, true), (9, true), (7, false), (11, false)]), "and then another was lost");
        assert!(!given_up(&[(5, true), (70, false)]), "it paused");
        assert!(!given_up(&[]));
    }

    #[test]
    fn on_a_long_path_what_is_missing_has_longer() {
        let (mut gaps, start) = (Gaps::default(), Instant::now());
        for lost in 0..50 {
            let now = start + 1_000 * MS * u32::from(lost);
            gaps.note(3 * lost, false, now);
            gaps.note(3 * lost + 2, false, now);
            gaps.note(3 * lost + 1, false, now + 600 * MS);
        }
        let now = start + 60_000 * MS;
        gaps.note(151, false, now);
        assert!(!gaps.give_up(now + 1_700 * MS));
        assert!(gaps.give_up(now + 1_800 * MS));
    }
}
