//! What was measured from which network, as the store last said: for a moment instead of asking it again, and for as long
//! as it does not answer, so that an outage of the store does not send people to a PoP that is only near by geography.

use std::{collections::HashMap, mem, time::Duration};

use isthmus_directory::{LatencyRecord, Prefix, UnixMicros};

/// The networks of one generation. Two generations of some kilobytes each: 30 MB at most.
const GENERATION: usize = 4_096;

/// Networks in two tables, so that those of which nothing was measured, of which there is no end, push out none of the
/// others.
#[derive(Debug, Default)]
pub(super) struct Networks {
    measured: Generations<Told>,
    /// When the store had nothing.
    nothing: Generations<UnixMicros>,
}

/// What the store said, and when.
#[derive(Debug, Clone)]
struct Told {
    latency: LatencyRecord,
    at: UnixMicros,
}

impl Networks {
    /// Takes in what the store says of a network.
    pub(super) fn remember(&mut self, prefix: Prefix, latency: LatencyRecord, at: UnixMicros) {
        if latency == LatencyRecord::default() {
            self.measured.remove(&prefix);
            self.nothing.insert(prefix, at);
        } else {
            self.nothing.remove(&prefix);
            self.measured.insert(prefix, Told { latency, at });
        }
    }

    /// What the store said of a network within the last `max_age`.
    pub(super) fn fresh(&self, prefix: &Prefix, max_age: Duration, now: UnixMicros) -> Option<LatencyRecord> {
        // What lies ahead is of a clock that was set back, and not fresh.
        let is_fresh = |at: UnixMicros| (at..at.plus(max_age)).contains(&now);
        if let Some(told) = self.measured.get(prefix) {
            return is_fresh(told.at).then(|| told.latency.clone());
        }
        self.nothing.get(prefix).is_some_and(|at| is_fresh(*at)).then(LatencyRecord::default)
    }

    /// What the store last said of a network, however long ago; none if that was nothing.
    pub(super) fn recall(&self, prefix: &Prefix) -> Option<&LatencyRecord> {
        self.measured.get(prefix).map(|told| &told.latency)
    }

    /// The store knows more of a network now: the next caller asks it again.
    pub(super) fn outdate(&mut self, prefix: &Prefix) {
        self.nothing.remove(prefix);
        if let Some(told) = self.measured.get_mut(prefix) {
            told.at = UnixMicros(0);
        }
    }
}

/// Bounded, in two generations: when the younger is full the older is forgotten, and the younger becomes the older. A
/// network that asks again is young again.
#[derive(Debug)]
struct Generations<T> {
    young: HashMap<Prefix, T>,
    old: HashMap<Prefix, T>,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<T> Generations<T> {
    fn insert(&mut self, prefix: Prefix, value: T) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&prefix) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(prefix, value);
    }

    fn get(&self, prefix: &Prefix) -> Option<&T> {
        self.young.get(prefix).or_else(|| self.old.get(prefix))
    }

    fn get_mut(&mut self, prefix: &Prefix) -> Option<&mut T> {
        self.young.get_mut(prefix).or_else(|| self.old.get_mut(prefix))
    }

    fn remove(&mut self, prefix: &Prefix) {
        self.young.remove(prefix);
        self.old.remove(prefix);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use isthmus_directory::Reporter;
    use isthmus_protocol::pops::Measurement;

    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const MAX_AGE: Duration = Duration::from_secs(10);

    fn network(number: usize) -> Prefix {
        Prefix::of(Ipv4Addr::from_bits((number as u32) << 8).into())
    }

    fn measured(rtt_ms: f64) -> LatencyRecord {
        let mut record = LatencyRecord::default();
        let someone = Reporter::of([192, 0, 2, 1].into());
        let measurement = Measurement { pop: "panama".parse().expect("valid"), rtt_ms };
        record.add(someone, &measurement, UnixMicros(1)).expect("plausible");
        record
    }

    #[test]
    fn the_last_word_on_a_network_stands_and_nothing_is_a_word_too() {
        let mut networks = Networks::default();
        networks.remember(network(1), measured(20.0), NOW);
        networks.remember(network(1), measured(30.0), NOW);
        networks.remember(network(2), LatencyRecord::default(), NOW);
        assert_eq!(networks.recall(&network(1)), Some(&measured(30.0)));
        assert_eq!(networks.recall(&network(2)), None);
        networks.remember(network(1), LatencyRecord::default(), NOW);
        assert_eq!(networks.recall(&network(1)), None, "what expired in the store is not remembered for ever");
    }

    #[test]
    fn what_was_said_a_moment_ago_needs_no_asking_and_what_was_said_before_stands_only_in_an_outage() {
        let mut networks = Networks::default();
        networks.remember(network(1), measured(20.0), NOW);
        networks.remember(network(2), LatencyRecord::default(), NOW);
        let fresh = |networks: &Networks, number, at| networks.fresh(&network(number), MAX_AGE, at);
        let almost = NOW.plus(MAX_AGE).minus(Duration::from_millis(1));
        assert_eq!(fresh(&networks, 1, almost), Some(measured(20.0)));
        assert_eq!(fresh(&networks, 2, almost), Some(LatencyRecord::default()), "nothing is an answer");
        for at in [NOW.plus(MAX_AGE), NOW.minus(Duration::from_millis(1))] {
            assert_eq!((fresh(&networks, 1, at), fresh(&networks, 2, at)), (None, None), "{at:?}");
        }
        for number in [1, 2] {
            networks.outdate(&network(number));
            assert_eq!(fresh(&networks, number, NOW), None, "a report was written since");
        }
        assert_eq!(networks.recall(&network(1)), Some(&measured(20.0)));
    }

    #[test]
    fn networks_that_ask_again_outlast_those_that_do_not_and_all_of_them_have_a_bound() {
        let mut networks = Networks::default();
        for number in 1..=GENERATION * 5 {
            networks.remember(network(0), measured(20.0), NOW);
            networks.remember(network(number), measured(40.0), NOW);
            let kept = &networks.measured;
            assert!(kept.young.len() + kept.old.len() <= 2 * GENERATION);
        }
        assert_eq!(networks.recall(&network(0)), Some(&measured(20.0)));
        assert_eq!(networks.recall(&network(1)), None, "forgotten");
    }

    #[test]
    fn a_flood_of_networks_without_measurements_pushes_out_none_that_has_some() {
        let mut networks = Networks::default();
        networks.remember(network(0), measured(20.0), NOW);
        for number in 1..=GENERATION * 5 {
            networks.remember(network(number), LatencyRecord::default(), NOW);
        }
        assert_eq!(networks.recall(&network(0)), Some(&measured(20.0)));
        let kept = &networks.nothing;
        assert!(kept.young.len() + kept.old.len() <= 2 * GENERATION);
    }
}
