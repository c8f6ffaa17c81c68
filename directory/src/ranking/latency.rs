//! What clients of one network prefix measured: round trips to PoPs, learned from reports that may lie.
//!
//! Per PoP the last [`WINDOW`] accepted samples are kept, and the estimate is the second smallest of those younger
//! than [`SAMPLE_LIFETIME`]. The low end, because delay on top of the way itself (a busy radio link, a slow laptop)
//! belongs to one client and one moment; the second, because a single report that claims too little must not draw a
//! whole prefix to a far PoP. What one client can do:
//! - one low lie does not lower the estimate below the smallest honest sample; one high lie raises it at most to the
//!   next honest one, once there are two honest samples;
//! - reports in a burst count once per [`PACE`], so that shouting does not outvote others;
//! - values outside 0.1 to 10,000 ms are not measurements and are refused.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;
use isthmus_protocol::{PopId, pops::Measurement};
use serde::{Deserialize, Serialize};

use crate::time::UnixMicros;

/// The most samples kept for one PoP; the oldest makes room.
pub const WINDOW: usize = 8;
/// The most PoPs kept for one prefix; the one measured longest ago makes room.
pub const MAX_POPS: usize = 32;
/// A sample older than this no longer counts.
pub const SAMPLE_LIFETIME: Duration = Duration::from_hours(24);
/// The shortest time between two accepted samples for one prefix and PoP.
pub const PACE: Duration = Duration::from_secs(5);
/// What counts as a measurement, in milliseconds.
const PLAUSIBLE_MS: std::ops::RangeInclusive<f64> = 0.1..=10_000.0;

/// A caller's network: IPv4 /24, IPv6 /48. Coarse on purpose: clients in it share their way to the world, and it is
/// not a person's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix of `address`.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 24 } else { 48 };
        Self(IpNet::new_assert(address, length).trunc())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One round trip, as one client measured it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// In milliseconds.
    pub rtt_ms: f64,
    /// When it was reported.
    pub at: UnixMicros,
}

/// What is known of one prefix.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyRecord {
    /// Per PoP, the newest sample last.
    samples: BTreeMap<PopId, Vec<Sample>>,
}

/// Why a measurement was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Outside 0.1 to 10,000 ms.
    Implausible,
    /// Sooner than [`PACE`] after the last.
    TooSoon,
}

impl LatencyRecord {
    /// The round trip to expect between a client of the prefix and `pop`, in milliseconds.
    pub fn rtt_ms(&self, pop: &PopId, now: UnixMicros) -> Option<f64> {
        let samples = self.samples.get(pop)?;
        let fresh = samples.iter().filter(|sample| now.since(sample.at) <= SAMPLE_LIFETIME);
        let mut fresh: Vec<f64> = fresh.map(|sample| sample.rtt_ms).collect();
        fresh.sort_unstable_by(f64::total_cmp);
        fresh.get(1).or(fresh.first()).copied()
    }

    /// Takes in a client's measurement.
    pub fn add(&mut self, measurement: &Measurement, now: UnixMicros) -> Result<(), Refusal> {
        if !PLAUSIBLE_MS.contains(&measurement.rtt_ms) {
            return Err(Refusal::Implausible);
        }
        let last = self.samples.get(&measurement.pop).and_then(|samples| samples.last());
        if last.is_some_and(|last| now.since(last.at) < PACE) {
            return Err(Refusal::TooSoon);
        }
        let samples = self.samples.entry(measurement.pop.clone()).or_default();
        samples.push(Sample { rtt_ms: measurement.rtt_ms, at: now });
        self.hold_bounds();
        Ok(())
    }

    /// Joins what another region learned of the same prefix.
    pub fn join(&mut self, other: Self) {
        for (pop, samples) in other.samples {
            let own = self.samples.entry(pop).or_default();
            own.extend(samples);
            own.sort_by_key(|sample| sample.at);
        }
        self.hold_bounds();
    }

    fn hold_bounds(&mut self) {
        for samples in self.samples.values_mut() {
            let excess = samples.len().saturating_sub(WINDOW);
            samples.drain(..excess);
        }
        while self.samples.len() > MAX_POPS {
            let age = |samples: &[Sample]| samples.last().map(|sample| sample.at);
            let stalest = self.samples.iter().min_by_key(|(_, samples)| age(samples)).map(|(pop, _)| pop.clone());
            stalest.and_then(|pop| self.samples.remove(&pop));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pop(name: &str) -> PopId {
        name.parse().expect("a valid id")
    }

    fn learn(reports_ms: &[f64]) -> (LatencyRecord, UnixMicros) {
        learn_from(UnixMicros(1_000_000_000), reports_ms)
    }

    fn learn_from(mut now: UnixMicros, reports_ms: &[f64]) -> (LatencyRecord, UnixMicros) {
        let mut record = LatencyRecord::default();
        for rtt_ms in reports_ms {
            now = now.plus(PACE);
            record.add(&Measurement { pop: pop("panama"), rtt_ms: *rtt_ms }, now).expect("plausible and in time");
        }
        (record, now)
    }

    fn estimate(reports_ms: &[f64]) -> f64 {
        let (record, now) = learn(reports_ms);
        record.rtt_ms(&pop("panama"), now).expect("there are samples")
    }

    #[test]
    fn prefixes_are_coarser_than_a_person() {
        let text = |address: &str| Prefix::of(address.parse().expect("an address")).to_string();
        assert_eq!(text("203.0.113.77"), "203.0.113.0/24");
        assert_eq!(text("::ffff:203.0.113.77"), "203.0.113.0/24");
        assert_eq!(text("2001:db8:1:2:3::4"), "2001:db8:1::/48");
    }

    #[test]
    fn follows_a_route_that_got_longer_and_forgets_what_is_old() {
        let mut reports = vec![20.0; WINDOW];
        reports.extend([60.0; WINDOW - 1]);
        assert!((estimate(&reports) - 60.0).abs() < 1e-9);
        let (record, now) = learn(&[20.0, 20.0]);
        assert_eq!(record.rtt_ms(&pop("panama"), now.plus(SAMPLE_LIFETIME * 2)), None);
    }

    #[test]
    fn refuses_what_no_network_does_and_what_comes_in_a_burst() {
        let (mut record, now) = learn(&[20.0]);
        for rtt_ms in [0.0, -1.0, 10_000.1, f64::NAN, f64::INFINITY] {
            let bad = Measurement { pop: pop("zurich"), rtt_ms };
            assert_eq!(record.add(&bad, now), Err(Refusal::Implausible));
        }
        let burst = Measurement { pop: pop("panama"), rtt_ms: 1.0 };
        assert_eq!(record.add(&burst, now), Err(Refusal::TooSoon));
        assert_eq!(record.add(&burst, now.plus(PACE)), Ok(()));
    }

    #[test]
    fn a_client_that_makes_up_pops_pushes_out_only_the_stalest() {
        let (mut record, mut now) = learn(&[20.0]);
        for index in 0..MAX_POPS * 2 {
            now = now.plus(PACE);
            record.add(&Measurement { pop: pop(&format!("made-up-{index}")), rtt_ms: 1.0 }, now).expect("plausible");
            record.add(&Measurement { pop: pop("panama"), rtt_ms: 20.0 }, now).expect("plausible");
        }
        assert_eq!(record.samples.len(), MAX_POPS);
        assert_eq!(record.rtt_ms(&pop("panama"), now), Some(20.0));
    }

    proptest! {
        #[test]
        fn one_lie_cannot_leave_the_range_of_the_honest(
            honest in prop::collection::vec(5.0..500.0f64, 2..20), lie in 0.1..10_000.0f64, place in any::<prop::sample::Index>(),
        ) {
            let mut reports = honest.clone();
            reports.insert(place.index(honest.len() + 1), lie);
            let low = honest.iter().copied().fold(f64::INFINITY, f64::min);
            let high = honest.iter().copied().fold(0.0, f64::max);
            let estimate = estimate(&reports);
            prop_assert!((low..=high).contains(&estimate), "{} not in {}..={}", estimate, low, high);
        }

        #[test]
        fn a_burst_of_lies_moves_the_estimate_no_further_than_one(
            honest in prop::collection::vec(5.0..500.0f64, 2..WINDOW), lies in prop::collection::vec(0.1..10_000.0f64, 1..50),
        ) {
            let (mut record, now) = learn(&honest);
            let now = now.plus(PACE);
            for lie in lies {
                let _ = record.add(&Measurement { pop: pop("panama"), rtt_ms: lie }, now);
            }
            let low = honest.iter().copied().fold(f64::INFINITY, f64::min);
            let high = honest.iter().copied().fold(0.0, f64::max);
            let estimate = record.rtt_ms(&pop("panama"), now).expect("there are samples");
            prop_assert!((low..=high).contains(&estimate));
        }

        #[test]
        fn joining_regions_is_the_same_in_any_order(
            a in prop::collection::vec(1.0..500.0f64, 0..12), b in prop::collection::vec(1.0..500.0f64, 0..12),
        ) {
            let ((a, _), (b, _)) = (learn(&a), learn_from(UnixMicros(1_000_000_001), &b));
            let (mut ab, mut ba) = (a.clone(), b.clone());
            ab.join(b);
            ba.join(a);
            prop_assert!(ab.samples.values().all(|samples| samples.len() <= WINDOW));
            prop_assert_eq!(ab, ba);
        }
    }
}
