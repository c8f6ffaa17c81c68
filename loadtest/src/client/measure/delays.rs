//! How delays spread, in buckets that are each a tenth longer than the one before.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest that is told from nothing.
const SHORTEST: Duration = Duration::from_micros(100);
const GROWTH: f64 = 1.1;
/// The last begins at 12 s; what is longer counts there.
const BUCKETS: usize = 124;

/// Counts delays. Takes the same memory however many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Delays {
    counts: Box<[u32; BUCKETS]>,
}

/// Buckets with something in them: index and count.
#[derive(Serialize, Deserialize)]
struct Sparse(Vec<(usize, u32)>);

impl From<Delays> for Sparse {
    fn from(delays: Delays) -> Self {
        let filled = delays.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0);
        Self(filled.collect())
    }
}

impl From<Sparse> for Delays {
    fn from(Sparse(filled): Sparse) -> Self {
        let mut delays = Self::default();
        for (bucket, count) in filled {
            delays.counts[bucket.min(BUCKETS - 1)] += count;
        }
        delays
    }
}

impl Default for Delays {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl Delays {
    /// One more.
    pub fn add(&mut self, delay: Duration) {
        let steps = (delay.as_secs_f64() / SHORTEST.as_secs_f64()).max(1.0).ln() / GROWTH.ln();
        self.counts[(steps as usize).min(BUCKETS - 1)] += 1;
    }

    /// All of another.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The delay that this share does not exceed, at most a tenth too long; none over nothing.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((share * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        bucket.map(|bucket| SHORTEST.mul_f64(GROWTH.powf(bucket as f64 + 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_tenth_off() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantile(0.5), None);
        for ms in 1..=1000 {
            delays.add(Duration::from_millis(ms));
        }
        let mut twice = delays.clone();
        twice.merge(&delays);
        assert_eq!((delays.count(), twice.count()), (1000, 2000));
        for (share, ms) in [(0.0, 1.0), (0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = twice.quantile(share).expect("there are some").as_secs_f64() * 1e3;
            assert!((ms * 0.999..ms * 1.11).contains(&found), "{share}: {found} ms");
        }
        let text = serde_json::to_string(&twice).expect("plain data");
        assert_eq!(serde_json::from_str::<Delays>(&text).expect("it reads what it wrote"), twice);
        delays.add(Duration::ZERO);
        delays.add(Duration::from_secs(100));
        assert_eq!(delays.count(), 1002);
    }
}
