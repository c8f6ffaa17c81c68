//! One direction between two hosts: a queue behind a rate cap, then a delay with jitter, with loss and blocks before
//! both.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::packet::Transport;

/// The longest delay or jitter that is accepted: a packet never stays in the emulator longer than a few of these.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The slowest rate that is accepted, in bit/s: one full packet then takes 12 s.
const MIN_RATE_BPS: u64 = 1_000;

/// A transport that a link does not let through, as a firewall would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// Everything passes.
    #[default]
    None,
    /// UDP is dropped: what is left for media is ICE-TCP.
    Udp,
    /// TCP is dropped: signalling dies and media goes on.
    Tcp,
}

/// How one direction behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkParameters {
    /// The least time a packet is under way.
    pub delay: Duration,
    /// The most that is added to it, drawn evenly for each packet.
    pub jitter: Duration,
    /// The share of packets that is lost, from 0 to 1, each packet on its own.
    pub loss: f64,
    /// The rate cap in bit/s, counted over whole IP packets.
    pub rate_bps: Option<u64>,
    /// The longest a packet may wait behind the rate cap. One that would wait longer is dropped (drop-tail).
    pub queue: Duration,
    /// Whether jitter may let a packet overtake another. Without it a packet waits for those before it, as on a
    /// real path, where jitter comes from queues.
    pub reorder: bool,
    /// What is not let through.
    pub block: Block,
    /// Whether nothing is let through.
    pub partitioned: bool,
}

impl Default for LinkParameters {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            rate_bps: None,
            queue: Duration::from_millis(200),
            reorder: false,
            block: Block::None,
            partitioned: false,
        }
    }
}

/// Which parameter is out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// See [`LinkParameters::loss`].
    #[error("loss must be a share from 0 to 1, not {0}")]
    Loss(f64),
    /// See [`LinkParameters::delay`] and [`LinkParameters::jitter`].
    #[error("delay, jitter and queue must each be at most 10 s, not {0:?}")]
    TooLong(Duration),
    /// See [`LinkParameters::rate_bps`].
    #[error("the rate must be at least 0.001 Mbit/s, not {0} bit/s")]
    Rate(u64),
}

impl LinkParameters {
    /// Whether every parameter is in range.
    pub fn check(&self) -> Result<(), ParameterError> {
        if !(0.0..=1.0).contains(&self.loss) {
            return Err(ParameterError::Loss(self.loss));
        }
        if let Some(long) = [self.delay, self.jitter, self.queue].into_iter().find(|d| *d > MAX_DELAY) {
            return Err(ParameterError::TooLong(long));
        }
        match self.rate_bps {
            Some(rate) if rate < MIN_RATE_BPS => Err(ParameterError::Rate(rate)),
            _ => Ok(()),
        }
    }

    fn lets_through(&self, transport: Transport) -> bool {
        !matches!((self.block, transport), (Block::Udp, Transport::Udp) | (Block::Tcp, Transport::Tcp))
    }
}

/// Why a packet did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Drawn from [`LinkParameters::loss`].
    Loss,
    /// It would have waited longer than [`LinkParameters::queue`].
    QueueFull,
    /// [`LinkParameters::block`].
    Blocked,
    /// [`LinkParameters::partitioned`].
    Partitioned,
    /// The emulator holds as many packets as it may.
    InFlightFull,
    /// The receiving host's device did not take it.
    Undeliverable,
}

/// The state of one direction.
#[derive(Debug)]
pub struct Link {
    parameters: LinkParameters,
    randomness: StdRng,
    /// When the last bit of the packets accepted so far has left the queue.
    busy_until: Option<Instant>,
    /// The due time of the last packet, which the next one may not overtake.
    last_due: Option<Instant>,
}

impl Link {
    /// A link that draws its losses and jitter from `seed`. Call [`LinkParameters::check`] first.
    pub fn new(parameters: LinkParameters, seed: u64) -> Self {
        Self { parameters, randomness: StdRng::seed_from_u64(seed), busy_until: None, last_due: None }
    }

    /// How the link behaves now.
    pub fn parameters(&self) -> &LinkParameters {
        &self.parameters
    }

    /// Changes the link. Packets under way keep their due times; those yet to come wait for the backlog at the new
    /// rate.
    pub fn set_parameters(&mut self, now: Instant, parameters: LinkParameters) {
        let backlog = self.backlog(now);
        self.busy_until = match (self.parameters.rate_bps, parameters.rate_bps) {
            (Some(old), Some(new)) => Some(now + backlog.mul_f64(old as f64 / new as f64).min(parameters.queue)),
            _ => None,
        };
        self.parameters = parameters;
    }

    /// Takes a packet of `size_bytes` that arrives at `now`, and says when it is due at the other end.
    pub fn accept(&mut self, now: Instant, size_bytes: usize, transport: Transport) -> Result<Instant, DropReason> {
        if self.parameters.partitioned {
            return Err(DropReason::Partitioned);
        }
        if !self.parameters.lets_through(transport) {
            return Err(DropReason::Blocked);
        }
        // Drawn for every packet, also those a full queue refuses, so that a change of rate does not change which
        // packets the seed loses.
        let (lost, jitter) = self.draw();
        if lost {
            return Err(DropReason::Loss);
        }
        let sent = self.pass_rate_cap(now, size_bytes)?;
        let mut due = sent + self.parameters.delay + jitter;
        if !self.parameters.reorder {
            due = self.last_due.map_or(due, |last| due.max(last));
        }
        self.last_due = Some(due);
        Ok(due)
    }

    fn draw(&mut self) -> (bool, Duration) {
        let lost = self.randomness.random::<f64>() < self.parameters.loss;
        let jitter = self.parameters.jitter.mul_f64(self.randomness.random::<f64>());
        (lost, jitter)
    }

    fn backlog(&self, now: Instant) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |busy| busy.saturating_duration_since(now))
    }

    /// When the packet's last bit has passed the rate cap.
    fn pass_rate_cap(&mut self, now: Instant, size_bytes: usize) -> Result<Instant, DropReason> {
        let Some(rate_bps) = self.parameters.rate_bps else { return Ok(now) };
        let wait = self.backlog(now);
        if wait > self.parameters.queue {
            return Err(DropReason::QueueFull);
        }
        let sent = now + wait + Duration::from_secs_f64(size_bytes as f64 * 8.0 / rate_bps as f64);
        self.busy_until = Some(sent);
        Ok(sent)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn link(parameters: LinkParameters) -> Link {
        parameters.check().expect("the test's parameters are in range");
        Link::new(parameters, 7)
    }

    fn offer_every(
        link: &mut Link,
        start: Instant,
        interval: Duration,
        count: u32,
    ) -> Vec<Result<Instant, DropReason>> {
        (0..count).map(|i| link.accept(start + interval * i, 1000, Transport::Udp)).collect()
    }

    #[test]
    fn a_plain_link_adds_its_delay_and_nothing_else() {
        let now = Instant::now();
        let mut link = link(LinkParameters { delay: 70 * MS, ..LinkParameters::default() });
        assert_eq!(link.accept(now, 1500, Transport::Udp), Ok(now + 70 * MS));
    }

    #[test]
    fn loss_is_within_five_standard_deviations_of_its_share() {
        let mut link = link(LinkParameters { loss: 0.05, ..LinkParameters::default() });
        let lost = offer_every(&mut link, Instant::now(), MS, 20_000).iter().filter(|r| r.is_err()).count();
        let deviation = (20_000.0_f64 * 0.05 * 0.95).sqrt();
        assert!((lost as f64 - 1000.0).abs() < 5.0 * deviation, "{lost} of 20,000 lost at 5 %");
    }

    #[test]
    fn the_rate_cap_spaces_packets_and_a_full_queue_drops_the_newest() {
        let now = Instant::now();
        // 1000 bytes at 1 Mbit/s are 8 ms; the queue holds packets that wait up to 40 ms.
        let parameters =
            LinkParameters { rate_bps: Some(1_000_000), queue: 40 * MS, delay: 10 * MS, ..LinkParameters::default() };
        let mut link = link(parameters);
        let burst = offer_every(&mut link, now, Duration::ZERO, 10);
        let due: Vec<_> = burst.iter().filter_map(|r| r.ok()).map(|due| (due - now).as_millis()).collect();
        assert_eq!(due, [18, 26, 34, 42, 50, 58], "waits of 0, 8, .. 40 ms fit");
        assert!(burst[6..].iter().all(|r| *r == Err(DropReason::QueueFull)));
        assert_eq!(
            link.accept(now + 100 * MS, 1000, Transport::Udp),
            Ok(now + 118 * MS),
            "an empty queue is forgotten"
        );
    }

    #[test]
    fn a_slower_rate_stretches_the_backlog() {
        let now = Instant::now();
        let fast = LinkParameters { rate_bps: Some(8_000_000), ..LinkParameters::default() };
        let mut link = link(fast);
        offer_every(&mut link, now, Duration::ZERO, 10);
        link.set_parameters(now, LinkParameters { rate_bps: Some(800_000), ..fast });
        assert_eq!(link.accept(now, 1000, Transport::Udp), Ok(now + 110 * MS), "10 ms of backlog became 100 ms");
    }

    #[test]
    fn a_firewall_drops_its_transport_alone_and_a_partition_drops_all() {
        let now = Instant::now();
        let parameters = LinkParameters { block: Block::Udp, ..LinkParameters::default() };
        let mut link = link(parameters);
        assert_eq!(link.accept(now, 100, Transport::Udp), Err(DropReason::Blocked));
        assert!(link.accept(now, 100, Transport::Tcp).is_ok());
        link.set_parameters(now, LinkParameters { partitioned: true, ..parameters });
        assert_eq!(link.accept(now, 100, Transport::Tcp), Err(DropReason::Partitioned));
        link.set_parameters(now, LinkParameters::default());
        assert!(link.accept(now, 100, Transport::Udp).is_ok());
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let with = |change: fn(&mut LinkParameters)| {
            let mut parameters = LinkParameters::default();
            change(&mut parameters);
            parameters.check().is_err()
        };
        assert!(with(|p| p.loss = 1.01));
        assert!(with(|p| p.loss = f64::NAN));
        assert!(with(|p| p.rate_bps = Some(10)));
        assert!(with(|p| p.jitter = Duration::from_secs(11)));
    }

    proptest! {
        #[test]
        fn due_times_keep_order_and_bounds(
            delay_ms in 0u64..500, jitter_ms in 0u64..200, rate in proptest::option::of(100_000u64..100_000_000),
            gaps_us in proptest::collection::vec(0u64..20_000, 1..200), seed: u64,
        ) {
            let parameters = LinkParameters {
                delay: Duration::from_millis(delay_ms),
                jitter: Duration::from_millis(jitter_ms),
                rate_bps: rate,
                ..LinkParameters::default()
            };
            let (mut first, mut second) = (Link::new(parameters, seed), Link::new(parameters, seed));
            let mut now = Instant::now();
            let mut last = now;
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                let due = first.accept(now, 1200, Transport::Udp);
                prop_assert_eq!(due, second.accept(now, 1200, Transport::Udp), "one seed is one run");
                let Ok(due) = due else { continue };
                let transmission = rate.map_or(Duration::ZERO, |r| Duration::from_secs_f64(9600.0 / r as f64));
                prop_assert!(due >= now + parameters.delay, "never early");
                prop_assert!(due >= last, "never reordered");
                let latest = now + parameters.queue + transmission + parameters.delay + parameters.jitter;
                prop_assert!(due <= latest.max(last), "no wait is longer than queue, delay and jitter allow");
                last = due;
            }
        }
    }
}
