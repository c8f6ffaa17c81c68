//! Whether the other side is still there. Sans-IO: what was heard and the time go in, a verdict comes out.
//!
//! The heartbeat is QUIC's own PING and its acknowledgement (RFC 9000 section 19.2): either side sends one after
//! [`HEARTBEAT`] of hearing nothing, and QUIC repeats it on its probe timer. A message of our own would say no more,
//! and would be one more thing to lose. QUIC's idle timeout alone does not do: it may not fire before three probe
//! timeouts (RFC 9000 section 10.1), more than two seconds on a new link around the world.

use std::time::{Duration, Instant};

/// After this long without a packet from the other side, one is asked for.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(250);
/// After this long without a packet from the other side, it is taken for dead: five heartbeats in a row and their
/// repeats were lost.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);
/// How often to look.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// The most silence one look may add. A process that was stopped for a while itself has heard nothing in that time
/// either, and must not take the others for dead before it has read what they sent.
const MOST_PER_LOOK: Duration = Duration::from_millis(200);

/// What is known of the other side.
#[derive(Debug)]
pub(crate) struct Health {
    heard: u64,
    silent_for: Duration,
    last_look: Instant,
}

impl Health {
    /// The other side has just been heard.
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: 0, silent_for: Duration::ZERO, last_look: now }
    }

    /// Whether the other side is alive, given a count that grows with everything authentic it sends. To be called every
    /// [`LOOK`].
    pub(crate) fn is_alive(&mut self, heard: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last_look).min(MOST_PER_LOOK);
        self.silent_for = if heard == self.heard { self.silent_for + passed } else { Duration::ZERO };
        (self.heard, self.last_look) = (heard, now);
        self.silent_for < SILENCE
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_in_less_than_two_seconds_and_not_before_its_time() {
        let start = Instant::now();
        let mut health = Health::new(start);
        let alive_until = (0..100).map(|tick| LOOK * tick).find(|after| !health.is_alive(1, start + *after));
        assert_eq!(alive_until, Some(SILENCE));
        assert!(SILENCE + LOOK < Duration::from_secs(2));
    }

    #[test]
    fn a_link_that_says_something_now_and_then_lives() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for second in 0..100 {
            assert!(health.is_alive(second, start + Duration::from_secs(second)), "dead after {second} s");
        }
    }

    #[test]
    fn a_process_that_was_stopped_itself_takes_nobody_for_dead() {
        let start = Instant::now();
        let mut health = Health::new(start);
        assert!(health.is_alive(1, start + LOOK));
        assert!(health.is_alive(1, start + Duration::from_mins(1)), "it has had no time to read");
        assert!(health.is_alive(2, start + Duration::from_mins(1) + LOOK));
    }

    #[test]
    fn a_clock_that_steps_back_kills_nobody() {
        let start = Instant::now() + Duration::from_mins(1);
        assert!(Health::new(start).is_alive(0, start.checked_sub(Duration::from_mins(1)).expect("in range")));
    }
}
