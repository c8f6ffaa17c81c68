//! How much a link's speech carries ahead against loss. Sans-IO: the peer's reports, the round trip and the time go in, a
//! level comes out.
//!
//! What is asked for again comes a round trip late. On a long path that is too late for speech, whose players wait some
//! tens of milliseconds; so there each packet carries the sum of earlier ones with it, and what was lost is there again with
//! one of the next packets. The loss is that of the path, measured over all speech on the link: one stream's 50 packets a
//! second say too little.
//!
//! Which sums: of the packets 1 and 3 back; each packet is then in two sums, a lost one comes with the next packet, and of
//! three lost in a row all come. A plain copy of the last packet would take as many bytes and lose every second of two in a
//! row; a sum over the last two packets cannot do three; a block code with fewer bytes waits for its block, 40 ms and more.
//! Where losses come in longer runs: a copy of the last packet, and the sum of those 2 and 4 back, which brings four in a row.

use std::time::{Duration, Instant};

use isthmus_protocol::media::LossReport;

/// Up to this round trip a packet that is asked for is there in time. A packet carried ahead comes with the next one, 20 ms
/// later; one asked for after the next one, 10 ms to see that it was not just overtaken, and a round trip.
const ASKING_IS_QUICK: Duration = Duration::from_millis(40);
/// Shares of loss from which on speech is protected, and below which it is not any more. What may stay lost is 0.2 %.
const ON: f64 = 0.002;
const OFF: f64 = 0.001;
/// What one sum may leave late or lost, by [`Protection::left_by_one`], before a second one is added; half of it takes that back.
const LEFT: f64 = 0.001;
/// Half of what a report says is forgotten after this long: about a thousand packets of one voice.
const HALF_LIFE: Duration = Duration::from_secs(15);
/// Packets without loss that every link begins with: the first packet lost on a link that has carried few is no 5 %.
const PRIOR: f64 = 100.0;
/// Only packets so small are speech, and carried ahead, in bytes: 100 kbit/s in packets of 20 ms.
pub(crate) const MAX_BYTES: usize = 320;

/// How much is sent ahead. The bound of redundancy: one or two sums go along with a packet, each as long as the longest packet
/// in it, so about once or twice the bytes of the speech itself, and at most [`MAX_BYTES`] a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Level {
    /// Nothing: the link is clean, or short.
    #[default]
    Off,
    /// One sum.
    One,
    /// Two.
    Two,
}

impl Level {
    /// The masks of the parities that a packet carries; one that brings its predecessor with it (RFC 2198) needs one less.
    pub(crate) fn masks(self, has_predecessor: bool) -> &'static [u8] {
        match (self, has_predecessor) {
            (Level::Off, _) | (Level::One, true) => &[],
            (Level::One, false) | (Level::Two, true) => &[0b0101],
            (Level::Two, false) => &[0b0001, 0b1010],
        }
    }
}

/// What is known of a link's loss in one direction.
#[derive(Debug, Default)]
pub(crate) struct Protection {
    expected: f64,
    lost: f64,
    runs: f64,
    reported: Option<Instant>,
    level: Level,
}

impl Protection {
    /// The peer says what it missed.
    pub(crate) fn handle_report(&mut self, report: LossReport, now: Instant) {
        if let Some(before) = self.reported.replace(now) {
            let half_lives = now.saturating_duration_since(before).as_secs_f64() / HALF_LIFE.as_secs_f64();
            let kept = 0.5f64.powf(half_lives);
            for sum in [&mut self.expected, &mut self.lost, &mut self.runs] {
                *sum *= kept;
            }
        }
        let expected = report.expected.max(report.lost);
        self.expected += f64::from(expected);
        self.lost += f64::from(report.lost);
        self.runs += f64::from(report.runs.clamp(u16::from(report.lost > 0), report.lost));
    }

    /// The level on a path that takes `rtt`.
    pub(crate) fn level(&mut self, rtt: Duration) -> Level {
        let (loss, left) = (self.loss(), self.left_by_one());
        let is_on = self.level > Level::Off;
        let is_two = self.level == Level::Two;
        self.level = if rtt <= ASKING_IS_QUICK || loss < if is_on { OFF } else { ON } {
            Level::Off
        } else if left > if is_two { LEFT / 2.0 } else { LEFT } {
            Level::Two
        } else {
            Level::One
        };
        self.level
    }

    /// The share of speech that the path loses.
    pub(crate) fn loss(&self) -> f64 {
        self.lost / (self.expected + PRIOR)
    }

    /// The share that one sum does not bring within 60 ms, roughly: runs of three and more; and single ones of which each of
    /// both sums lost its carrier or its other packet.
    fn left_by_one(&self) -> f64 {
        let loss = self.loss();
        // After a lost packet the next is lost too; where losses are independent this is `loss`.
        let goes_on = if self.lost > 0.0 { (1.0 - self.runs / self.lost).max(loss) } else { 0.0 };
        loss * (goes_on.powi(2) + 4.0 * loss * loss)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use super::*;

    const FAR: Duration = Duration::from_millis(250);

    /// A report every second of `lost` in `runs` of 50, for `seconds`.
    fn heard(protection: &mut Protection, start: Instant, seconds: std::ops::Range<u64>, lost: u16, runs: u16) {
        for second in seconds {
            protection.handle_report(LossReport { expected: 50, lost, runs }, start + Duration::from_secs(second));
        }
    }

    #[test]
    fn a_clean_link_and_a_short_one_carry_nothing_ahead() {
        let (mut protection, start) = (Protection::default(), Instant::now());
        assert_eq!(protection.level(FAR), Level::Off);
        heard(&mut protection, start, 0..60, 0, 0);
        assert_eq!(protection.level(FAR), Level::Off);
        heard(&mut protection, start, 60..90, 1, 1);
        assert_eq!(protection.level(FAR), Level::One);
        assert_eq!(protection.level(ASKING_IS_QUICK), Level::Off);
        assert_eq!(protection.level(FAR), Level::One);
    }

    #[test]
    fn the_first_losses_of_a_link_turn_it_on_and_a_single_one_in_a_minute_does_not() {
        let (mut protection, start) = (Protection::default(), Instant::now());
        heard(&mut protection, start, 0..1, 1, 1);
        assert_eq!(protection.level(FAR), Level::One);
        let mut protection = Protection::default();
        heard(&mut protection, start, 0..60, 0, 0);
        heard(&mut protection, start, 60..61, 1, 1);
        assert_eq!(protection.level(FAR), Level::Off);
    }

    #[test]
    fn a_link_that_has_become_clean_is_left_alone_again() {
        let (mut protection, start) = (Protection::default(), Instant::now());
        heard(&mut protection, start, 0..60, 1, 1);
        assert_eq!(protection.level(FAR), Level::One);
        let off = (60..300).find(|second| {
            heard(&mut protection, start, *second..*second + 1, 0, 0);
            protection.level(FAR) == Level::Off
        });
        assert!(off.is_some_and(|second| (80..180).contains(&second)), "{off:?}");
    }

    #[test]
    fn runs_of_losses_and_heavy_loss_take_more() {
        let start = Instant::now();
        for (lost, runs, level) in [(1, 1, Level::One), (3, 3, Level::One), (6, 6, Level::Two), (2, 1, Level::Two)] {
            let mut protection = Protection::default();
            heard(&mut protection, start, 0..60, lost, runs);
            assert_eq!(protection.level(FAR), level, "{lost} lost in {runs} runs");
        }
    }

    #[test]
    fn a_report_that_cannot_be_is_no_harm() {
        let (mut protection, now) = (Protection::default(), Instant::now());
        protection.handle_report(LossReport { expected: 0, lost: u16::MAX, runs: 0 }, now);
        protection.handle_report(LossReport { expected: 1, lost: 0, runs: u16::MAX }, now);
        assert!((0.0..=1.0).contains(&protection.loss()));
        assert_eq!(protection.level(FAR), Level::Two);
    }
}
