//! Whether a target still does what it should; if not, the run ends with what was measured until then. No clock.

use std::time::Duration;

/// So many joins that failed in a row end the run.
const MAX_FAILED_IN_A_ROW: u64 = 20;
/// Nothing received for so long, while something should be, ends the run.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// What is known of the run at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Since the beginning of the run.
    pub now: Duration,
    /// Packets that all clients received so far.
    pub received_packets: u64,
    /// Whether anyone is in a call with someone who publishes.
    pub someone_should_receive: bool,
}

/// Watches a run.
#[derive(Debug, Default)]
pub struct Pulse {
    failed_in_a_row: u64,
    /// When packets were last seen to grow, or nobody was to receive any.
    alive_at: Duration,
    received_packets: u64,
    in_call: u64,
}

impl Pulse {
    /// A client is in its call.
    pub fn handle_joined(&mut self) {
        self.failed_in_a_row = 0;
        self.in_call += 1;
    }

    /// A client that was in its call no longer is, as was planned or not. Returns why to end the run: nobody is left.
    pub fn handle_left(&mut self, early: Option<&str>) -> Option<String> {
        self.in_call -= 1;
        let reason = early.filter(|_| self.in_call == 0)?;
        Some(format!("the target dropped every client; the last one: {reason}"))
    }

    /// A client did not get into its call. Returns why to end the run.
    pub fn handle_failed(&mut self, reason: &str) -> Option<String> {
        self.failed_in_a_row += 1;
        (self.failed_in_a_row >= MAX_FAILED_IN_A_ROW)
            .then(|| format!("{} joins in a row failed; the last one: {reason}", self.failed_in_a_row))
    }

    /// Time passed. Returns why to end the run.
    pub fn handle_beat(&mut self, beat: Beat) -> Option<String> {
        if beat.received_packets != self.received_packets || !beat.someone_should_receive {
            self.received_packets = beat.received_packets;
            self.alive_at = beat.now;
        }
        let silent = beat.now.saturating_sub(self.alive_at);
        (silent >= STALLED_AFTER).then(|| {
            format!("the target stalled: no client received a packet for {} s, and someone publishes", silent.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(second: u64, received_packets: u64, someone_should_receive: bool) -> Beat {
        Beat { now: Duration::from_secs(second), received_packets, someone_should_receive }
    }

    #[test]
    fn silence_counts_only_while_someone_should_receive() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.handle_beat(beat(60, 0, false)), None);
        assert_eq!(pulse.handle_beat(beat(61, 5, true)), None);
        assert_eq!(pulse.handle_beat(beat(70, 5, true)), None);
        assert!(pulse.handle_beat(beat(71, 5, true)).is_some_and(|reason| reason.contains("for 10 s")));
        assert_eq!(pulse.handle_beat(beat(72, 6, true)), None);
    }

    #[test]
    fn a_join_that_works_ends_a_row_of_failures() {
        let mut pulse = Pulse::default();
        let failed = |pulse: &mut Pulse, times: u64| (0..times).find_map(|_| pulse.handle_failed("refused"));
        assert_eq!(failed(&mut pulse, 19), None);
        pulse.handle_joined();
        assert_eq!(failed(&mut pulse, 19), None);
        assert_eq!(failed(&mut pulse, 1), Some("20 joins in a row failed; the last one: refused".into()));
    }

    #[test]
    fn a_target_that_drops_everyone_is_gone() {
        let mut pulse = Pulse::default();
        pulse.handle_joined();
        pulse.handle_joined();
        assert_eq!(pulse.handle_left(Some("closed")), None);
        assert!(pulse.handle_left(Some("closed")).is_some());
        pulse.handle_joined();
        assert_eq!(pulse.handle_left(None), None, "as was planned");
    }
}
