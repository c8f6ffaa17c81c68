//! How often one network may ask, and how much it may hold at once: one table per kind, of token buckets (GCRA) or of
//! counts.
//!
//! **Bound and full rule.** An address falls, by a keyed hash, into one of [`BUCKETS`] buckets, and a table holds no
//! more than that many. So memory is bounded by construction, nothing has to be swept, and there is no moment at which
//! a table is full: addresses that fall together share an allowance. The key of the hash is drawn when the process
//! starts, so nobody can aim at another's bucket. An IPv6 network counts as one address (/64, RFC 6177).

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use serde::{Deserialize, Serialize};

/// How many buckets a table has: about 1 MB when all of them are in use.
pub(crate) const BUCKETS: u64 = 1 << 16;

/// How often an account may be tried at once, from one network and from all together, and how often after that.
const GUESSES_FROM_NETWORK: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// See [`GUESSES_FROM_NETWORK`].
const GUESSES_FROM_ANYWHERE: NonZeroU32 = NonZeroU32::new(200).unwrap();
/// See [`GUESSES_FROM_NETWORK`].
const GUESS_EVERY: Duration = Duration::from_secs(10);

/// How many requests of one kind a network may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// At once, after a pause.
    pub burst: NonZeroU32,
    /// In the long run.
    pub per_second: NonZeroU32,
}

impl Allowance {
    /// `burst` at once, `per_second` in the long run; zero counts as one.
    pub const fn new(burst: u32, per_second: u32) -> Self {
        const fn at_least_one(n: u32) -> NonZeroU32 {
            match NonZeroU32::new(n) {
                Some(n) => n,
                None => NonZeroU32::MIN,
            }
        }
        Self { burst: at_least_one(burst), per_second: at_least_one(per_second) }
    }

    /// The allowance as governor takes it.
    pub(crate) fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// One table: one kind of request, every network.
pub(crate) struct Limiter<C: Clock = DefaultClock> {
    buckets: RateLimiter<u16, DashMapStateStore<u16>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    hash: RandomState,
}

impl Limiter {
    /// A table on the process's clock.
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self::with_clock(allowance.quota(), DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn with_clock(quota: Quota, clock: C) -> Self {
        let buckets = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { buckets, clock, hash: RandomState::new() }
    }

    /// Takes one from the address's allowance, or says how long to wait.
    pub(crate) fn take(&self, address: IpAddr) -> Result<(), Duration> {
        self.take_from(bucket(&self.hash, network(address)))
    }

    fn take_from(&self, bucket: u16) -> Result<(), Duration> {
        self.buckets.check_key(&bucket).map_err(|refused| {
            Duration::from_nanos(refused.earliest_possible().duration_since(self.clock.now()).as_u64())
        })
    }
}

/// How often an account may be tried: soon no more from one network, so that who guesses there does not keep out who knows, and far
/// more often from all together.
pub(crate) struct Guesses<C: Clock = DefaultClock> {
    from_network: Limiter<C>,
    from_anywhere: Limiter<C>,
}

impl Default for Guesses {
    fn default() -> Self {
        Self::with_clock(&DefaultClock::default())
    }
}

impl<C: Clock + Clone> Guesses<C> {
    fn with_clock(clock: &C) -> Self {
        let quota = |burst: NonZeroU32, every| Quota::with_period(every).map(|quota| quota.allow_burst(burst));
        let limiter = |burst, every| {
            let quota = quota(burst, every).expect("a period that is not zero");
            Limiter::with_clock(quota, clock.clone())
        };
        Self {
            from_network: limiter(GUESSES_FROM_NETWORK, GUESS_EVERY),
            from_anywhere: limiter(GUESSES_FROM_ANYWHERE, GUESS_EVERY),
        }
    }

    /// One more try for `account`, or how long to wait.
    pub(crate) fn take(&self, account: &str, address: IpAddr) -> Result<(), Duration> {
        let Self { from_network, from_anywhere } = self;
        from_network.take_from(bucket(&from_network.hash, (account, network(address))))?;
        from_anywhere.take_from(bucket(&from_anywhere.hash, account))
    }
}

/// One table: one kind of thing that is held for a while, every network.
pub(crate) struct Holdings {
    most: u32,
    counts: Box<[AtomicU32]>,
    hash: RandomState,
}

impl Holdings {
    /// A table in which each network may hold `most` at once.
    pub(crate) fn new(most: u32) -> Arc<Self> {
        let counts = (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { most, counts, hash: RandomState::new() })
    }

    /// One more for the address's network, for as long as the result lives; none if it holds as many as it may.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Holding> {
        let bucket = bucket(&self.hash, network(address));
        let more = |held: u32| (held < self.most).then_some(held + 1);
        let counted = self.counts[usize::from(bucket)].fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| Holding { table: self.clone(), bucket })
    }
}

/// One that a network holds.
pub(crate) struct Holding {
    table: Arc<Holdings>,
    bucket: u16,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.table.counts[usize::from(self.bucket)].fetch_sub(1, Ordering::Relaxed);
    }
}

fn bucket(hash: &RandomState, asker: impl Hash) -> u16 {
    (hash.hash_one(asker) % BUCKETS) as u16
}

/// What counts as one asker: an IPv4 address, an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_burst_then_a_steady_rate_then_a_wait() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(Allowance::new(3, 2).quota(), clock.clone());
        let ana = address("192.0.2.1");
        for n in 0..3 {
            assert_eq!(limiter.take(ana), Ok(()), "request {n} of the burst");
        }
        let wait = limiter.take(ana).expect_err("the burst is used up");
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(500), "{wait:?}");
        clock.advance(wait);
        assert_eq!(limiter.take(ana), Ok(()), "after the wait that was told");
        assert!(limiter.take(ana).is_err());
        assert_eq!(limiter.take(address("192.0.2.77")), Ok(()), "another network has its own");
    }

    #[test]
    fn who_guesses_from_one_network_does_not_keep_out_who_knows_in_another() {
        let clock = FakeRelativeClock::default();
        let guesses = Guesses::with_clock(&clock);
        let (thief, ana) = (address("192.0.2.1"), address("198.51.100.7"));
        let tried = (0..50).filter(|_| guesses.take("ana@example.org", thief).is_ok()).count();
        assert_eq!(tried, 10);
        assert_eq!(guesses.take("ana@example.org", ana), Ok(()));
        assert_eq!(guesses.take("ben@example.org", thief), Ok(()), "another account");
        clock.advance(GUESS_EVERY);
        assert_eq!(guesses.take("ana@example.org", thief), Ok(()));
        let networks = (0..=255).map(|n| IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, n)));
        let tried = networks.filter(|network| guesses.take("ana@example.org", *network).is_ok()).count();
        assert!((180..200).contains(&tried), "{tried} from everywhere");
    }

    #[test]
    fn a_network_holds_so_many_at_once_and_may_again_when_it_lets_go() {
        let table = Holdings::new(2);
        let ana = address("192.0.2.1");
        let (first, second) = (table.take(ana), table.take(ana));
        assert!(first.is_some() && second.is_some());
        assert!(table.take(ana).is_none());
        assert!(table.take(ana).is_none(), "a refusal counts for nothing");
        assert!(table.take(address("192.0.2.77")).is_some(), "another network has its own");
        drop(first);
        assert!(table.take(ana).is_some());
    }

    #[test]
    fn one_ipv6_network_is_one_asker_and_mapped_ipv4_is_ipv4() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:2")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn a_flood_of_addresses_does_not_grow_the_table_past_its_bound() {
        let limiter = Limiter::with_clock(Allowance::new(1, 1).quota(), FakeRelativeClock::default());
        for n in 0..200_000_u32 {
            let _ = limiter.take(IpAddr::V4(n.into()));
        }
        assert!(limiter.buckets.len() as u64 <= BUCKETS);
    }
}
