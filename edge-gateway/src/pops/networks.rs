//! What was measured from which network, as the store last said: so that an outage of the store does not send people to a
//! PoP that is only near by geography.

use std::{collections::HashMap, mem};

use isthmus_directory::{LatencyRecord, Prefix};

/// The networks of one generation. Two generations of some kilobytes each: 30 MB at most.
const GENERATION: usize = 4_096;

/// Bounded, in two generations: when the younger is full the older is forgotten, and the younger becomes the older. A
/// network that asks again is young again.
#[derive(Debug, Default)]
pub(super) struct Networks {
    young: HashMap<Prefix, LatencyRecord>,
    old: HashMap<Prefix, LatencyRecord>,
}

impl Networks {
    /// Takes in what the store says of a network. One of which nothing was measured is not worth its place.
    pub(super) fn remember(&mut self, prefix: Prefix, latency: LatencyRecord) {
        if latency == LatencyRecord::default() {
            return;
        }
        if self.young.len() >= GENERATION && !self.young.contains_key(&prefix) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(prefix, latency);
    }

    /// What the store last said of a network.
    pub(super) fn recall(&self, prefix: &Prefix) -> Option<&LatencyRecord> {
        self.young.get(prefix).or_else(|| self.old.get(prefix))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use isthmus_directory::UnixMicros;
    use isthmus_protocol::pops::Measurement;

    use super::*;

    fn network(number: usize) -> Prefix {
        Prefix::of(Ipv4Addr::from_bits((number as u32) << 8).into())
    }

    fn measured(rtt_ms: f64) -> LatencyRecord {
        let mut record = LatencyRecord::default();
        record.add(&Measurement { pop: "panama".parse().expect("valid"), rtt_ms }, UnixMicros(1)).expect("plausible");
        record
    }

    #[test]
    fn the_last_word_on_a_network_stands_and_nothing_is_no_word() {
        let mut networks = Networks::default();
        networks.remember(network(1), measured(20.0));
        networks.remember(network(1), measured(30.0));
        networks.remember(network(2), LatencyRecord::default());
        assert_eq!(networks.recall(&network(1)), Some(&measured(30.0)));
        assert_eq!(networks.recall(&network(2)), None);
    }

    #[test]
    fn networks_that_ask_again_outlast_those_that_do_not_and_all_of_them_have_a_bound() {
        let mut networks = Networks::default();
        for number in 1..=GENERATION * 5 {
            networks.remember(network(0), measured(20.0));
            networks.remember(network(number), measured(40.0));
            assert!(networks.young.len() + networks.old.len() <= 2 * GENERATION);
        }
        assert_eq!(networks.recall(&network(0)), Some(&measured(20.0)));
        assert_eq!(networks.recall(&network(1)), None, "forgotten");
    }
}
