//! What clients of one network prefix measured: round trips to PoPs, learned from reports that may lie.
//!
//! Per PoP each [`Reporter`] has one sample, its last; the newest [`WINDOW`] of them are kept, and the estimate is the
//! second smallest of those younger than [`SAMPLE_LIFETIME`]. The low end, because delay on top of the way itself (a
//! busy radio link, a slow laptop) belongs to one client and one moment; the second, because one client that claims too
//! little must not draw a whole prefix to a far PoP. What one client can do, however often it reports and through
//! however many doors:
//! - it has one sample of the estimate: once two others have reported, the estimate stays between what those
//!   measured;
//! - it writes once per [`PACE`] and PoP, and takes nothing from the pace of others;
//! - values outside 0.1 to 10,000 ms are not measurements and are refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use isthmus_protocol::{PopId, pops::Measurement};
use serde::{Deserialize, Serialize};

use crate::time::UnixMicros;

/// The most samples kept for one PoP, each of another reporter; the oldest makes room.
pub const WINDOW: usize = 8;
/// The most PoPs kept for one prefix; the one measured longest ago makes room.
pub const MAX_POPS: usize = 32;
/// A sample older than this no longer counts.
pub const SAMPLE_LIFETIME: Duration = Duration::from_hours(24);
/// The shortest time between two accepted samples of one reporter for one PoP.
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

/// Which of a prefix's clients reports, told apart by four bits of a hash of its address (IPv6: of its /64).
///
/// Enough to let one client have one sample and too little to say who it is: of a /24 some sixteen addresses, of a /48
/// some four thousand networks are the same reporter, and to a stored sample any of them may belong. So the hash needs
/// no key, and the doors of all PoPs, restarted or not, tell the same clients apart without sharing one. The price:
/// clients that are the same reporter replace each other's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reporter(u8);

impl Reporter {
    /// The reporter that a client at `address` is.
    pub fn of(address: IpAddr) -> Self {
        let number = match address.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        // Fibonacci hashing: neighbours fall far apart. Part of the behaviour between doors of different builds.
        Self((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as u8)
    }
}

/// One round trip, as one client measured it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Who says so.
    pub reporter: Reporter,
    /// In milliseconds.
    pub rtt_ms: f64,
    /// When it was reported.
    pub at: UnixMicros,
}

/// What is known of one prefix.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyRecord {
    /// Per PoP, one sample of each reporter, the newest first.
    samples: BTreeMap<PopId, Vec<Sample>>,
}

/// Why a measurement was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Outside 0.1 to 10,000 ms.
    Implausible,
    /// Sooner than [`PACE`] after the reporter's last.
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

    /// Takes in what `reporter` measured, in place of what it said before.
    pub fn add(&mut self, reporter: Reporter, measurement: &Measurement, now: UnixMicros) -> Result<(), Refusal> {
        if !PLAUSIBLE_MS.contains(&measurement.rtt_ms) {
            return Err(Refusal::Implausible);
        }
        let before = self.samples.get(&measurement.pop).into_iter().flatten();
        if before.into_iter().any(|sample| sample.reporter == reporter && now.since(sample.at) < PACE) {
            return Err(Refusal::TooSoon);
        }
        let sample = Sample { reporter, rtt_ms: measurement.rtt_ms, at: now };
        self.samples.entry(measurement.pop.clone()).or_default().push(sample);
        self.hold_bounds();
        Ok(())
    }

    /// Joins what another region learned of the same prefix.
    pub fn join(&mut self, other: Self) {
        for (pop, samples) in other.samples {
            self.samples.entry(pop).or_default().extend(samples);
        }
        self.hold_bounds();
    }

    /// The same whatever the order in which samples came, so that every PoP ends with the same record.
    fn hold_bounds(&mut self) {
        for samples in self.samples.values_mut() {
            samples
                .sort_by(|a, b| b.at.cmp(&a.at).then(a.rtt_ms.total_cmp(&b.rtt_ms)).then(a.reporter.cmp(&b.reporter)));
            let mut heard = BTreeSet::new();
            samples.retain(|sample| heard.insert(sample.reporter));
            samples.truncate(WINDOW);
        }
        while self.samples.len() > MAX_POPS {
            let age = |samples: &[Sample]| samples.first().map(|sample| sample.at);
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

    /// One report after the other, each by the next of fifteen clients.
    fn learn_from(mut now: UnixMicros, reports_ms: &[f64]) -> (LatencyRecord, UnixMicros) {
        let mut record = LatencyRecord::default();
        for (index, rtt_ms) in reports_ms.iter().enumerate() {
            now = now.plus(PACE);
            record.add(Reporter(index as u8 % 15), &to_panama(*rtt_ms), now).expect("plausible and in time");
        }
        (record, now)
    }

    const LIAR: Reporter = Reporter(15);

    fn to_panama(rtt_ms: f64) -> Measurement {
        Measurement { pop: pop("panama"), rtt_ms }
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
            assert_eq!(record.add(LIAR, &bad, now), Err(Refusal::Implausible));
        }
        let (first, other) = (Reporter(0), Reporter(1));
        assert_eq!(record.add(first, &to_panama(1.0), now), Err(Refusal::TooSoon));
        assert_eq!(record.add(other, &to_panama(30.0), now), Ok(()), "one client's pace is not another's");
        assert_eq!(record.add(first, &to_panama(1.0), now.plus(PACE)), Ok(()));
        assert_eq!(record.rtt_ms(&pop("panama"), now), Some(30.0), "a client's last word replaces what it said before");
    }

    #[test]
    fn a_reporter_is_one_of_sixteen_and_not_a_person() {
        let mut clients = BTreeMap::<Reporter, u32>::new();
        for host in 0..=255 {
            *clients.entry(Reporter::of([203, 0, 113, host].into())).or_default() += 1;
        }
        assert_eq!(clients.len(), 16);
        assert!(clients.values().all(|addresses| (12..=20).contains(addresses)), "{clients:?}");
        let of = |address: &str| Reporter::of(address.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"), "one network, as many addresses as it likes");
        assert_eq!(of("::ffff:203.0.113.7"), of("203.0.113.7"));
        assert_eq!((of("203.0.113.7"), of("2001:db8:1:2::")), (Reporter(14), Reporter(1)), "must not change");
    }

    #[test]
    fn a_client_that_makes_up_pops_pushes_out_only_the_stalest() {
        let (mut record, mut now) = learn(&[20.0]);
        for index in 0..MAX_POPS * 2 {
            now = now.plus(PACE);
            let made_up = Measurement { pop: pop(&format!("made-up-{index}")), rtt_ms: 1.0 };
            record.add(LIAR, &made_up, now).expect("plausible");
            record.add(Reporter(0), &to_panama(20.0), now).expect("plausible");
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
                let _ = record.add(LIAR, &to_panama(lie), now);
            }
            let low = honest.iter().copied().fold(f64::INFINITY, f64::min);
            let high = honest.iter().copied().fold(0.0, f64::max);
            let estimate = record.rtt_ms(&pop("panama"), now).expect("there are samples");
            prop_assert!((low..=high).contains(&estimate));
        }

        /// One client reports whatever it likes, as often as it likes, through the doors of three PoPs.
        #[test]
        fn a_steady_liar_cannot_leave_the_range_of_two_honest_clients(
            reports in prop::collection::vec((0..3usize, prop::option::of((0..15u8, 5.0..500.0f64)), 0.1..10_000.0f64), 1..120),
            (first, second) in (5.0..500.0f64, 5.0..500.0f64),
        ) {
            let mut now = UnixMicros(1_000_000_000);
            let mut regions = [LatencyRecord::default(), LatencyRecord::default(), LatencyRecord::default()];
            let mut honest = vec![first, second];
            regions[0].add(Reporter(0), &to_panama(first), now).expect("plausible");
            regions[1].add(Reporter(1), &to_panama(second), now).expect("plausible");
            for (region, report, lie) in reports {
                now = now.plus(PACE);
                if let Some((reporter, rtt_ms)) = report {
                    regions[region].add(Reporter(reporter), &to_panama(rtt_ms), now).expect("plausible and in time");
                    honest.push(rtt_ms);
                }
                let _ = regions[region].add(LIAR, &to_panama(lie), now);
            }
            let known = regions.into_iter().reduce(|mut all, region| { all.join(region); all }).expect("three of them");
            let low = honest.iter().copied().fold(f64::INFINITY, f64::min);
            let high = honest.iter().copied().fold(0.0, f64::max);
            let estimate = known.rtt_ms(&pop("panama"), now).expect("there are samples");
            prop_assert!((low..=high).contains(&estimate), "{} not in {}..={}", estimate, low, high);
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
