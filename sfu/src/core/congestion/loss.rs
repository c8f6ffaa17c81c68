//! What loss says of the path.
//!
//! Loss alone is ambiguous: a radio link loses one packet in ten at any rate, a policer loses what exceeds its rate and
//! delays nothing. What tells them apart is how loss changes with the rate. So the rate and the loss of the last few
//! periods are explained by a model of two parts: a share `inherent` that is lost at any rate, and a `capacity` beyond
//! which everything is lost,
//!
//! ```text
//! delivered share at rate r = (1 - inherent) * min(1, capacity / r)
//! ```
//!
//! and the likeliest of a few capacities is taken. Where one rate alone was tried both parts explain it equally well;
//! then it is held for the less surprising that the inherent loss is what it was, and none is believed that was not
//! seen at a lower rate. So loss that is new leads to a cut, and that cut is the experiment that decides: if loss stays
//! at the lower rate, it was inherent, and the cut is taken back.
//!
//! Cost: constant per packet; per period a few hundred logarithms while there is loss to be explained, otherwise next
//! to none.

/// A period is at least this long and has at least so many packets: one lost of fewer would be too large a share.
const PERIOD_US: i64 = 250_000;
const PERIOD_PACKETS: u32 = 40;
/// After a pause of this length, what was before it is not held together with what comes.
const PAUSE_US: i64 = 1_000_000;
/// The periods remembered, and how much less each says than the one after it.
const PERIODS: usize = 20;
const FADING: f64 = 0.93;
/// Loss above the inherent one that is no reason to think about it: this much, or what chance alone explains.
const UNREMARKABLE: f64 = 0.02;
const STANDARD_DEVIATIONS: f64 = 3.0;
/// For that, at least this is taken to be lost at any rate: no path loses nothing.
const LEAST_INHERENT: f64 = 0.02;
/// Loss by this much above all that was seen at such a rate shows that the path is not the one it was.
const CHANGE: f64 = 0.1;
/// How surprising it is (in nats) that the inherent loss is e times [`UNREMARKABLE`] more than it was: the first few
/// percent most of all, since a rate just above a policer's loses as much.
const SURPRISE_OF_LOSS: f64 = 3.0;
/// How surprising it is (in nats) that the capacity is less than what was sent, and that it is an e-th of that.
const SURPRISE_OF_LIMIT: f64 = 1.0;
const SURPRISE_OF_CAPACITY: f64 = 4.0;
/// No packet is lost or arrives more surely than this.
const LEAST_CHANCE: f64 = 0.002;
/// How fast the inherent loss is learnt, per period: from an experiment; from loss that is less than it; and from loss
/// that is more but unremarkable. The last is slow, or a rate that creeps beyond a policer's would take its loss along.
const LEARNING_BY_EXPERIMENT: f64 = 0.5;
const LEARNING_DOWN: f64 = 0.15;
const LEARNING_UP: f64 = 0.005;
/// A rate below this share of the highest is distinctly lower: frames of unequal size make less of a difference.
const DISTINCTLY_LOWER: f64 = 0.88;
/// More than this is not inherent: nothing could be done with such a path.
const MOST_INHERENT: f64 = 0.4;
/// The capacity is sought among the rates that arrived in so many of the latest periods, and near the one it was.
const SEEN: usize = 4;
/// After so many periods a bound is no experiment any more.
const PROVEN_PERIODS: u32 = 12;
/// A cut goes this much below the capacity found: it is known no better, and what exceeds it is lost.
const MARGIN: f64 = 0.93;
/// How much a capacity that nothing speaks against any more grows, per period.
const GROWTH: f64 = 1.02;

#[derive(Debug, Clone, Copy, Default)]
struct Period {
    kbps: f64,
    packets: f64,
    lost: f64,
    is_probe: bool,
}

impl Period {
    fn loss(&self) -> f64 {
        self.lost / self.packets
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Open {
    since_us: i64,
    latest_us: i64,
    bytes: u32,
    packets: u32,
    lost: u32,
}

/// The loss-based bound.
#[derive(Debug, Default)]
pub(super) struct Loss {
    open: Option<Open>,
    /// The latest at `latest`, those before it before it, around.
    periods: [Period; PERIODS],
    filled: usize,
    latest: usize,
    inherent: f64,
    capacity_kbps: Option<f64>,
    /// For how many periods the bound has not been cut.
    stood: u32,
}

/// How well a capacity explains what was seen.
struct Explanation {
    capacity_kbps: f64,
    inherent: f64,
    /// Logarithm of its likelihood, up to a constant.
    likelihood: f64,
}

impl Loss {
    /// No more than this is to be sent, in kbit/s, as far as loss tells.
    pub(super) fn bound_kbps(&self) -> Option<f64> {
        self.capacity_kbps
    }

    /// The bound, if it has stood for so long that it is no experiment any more.
    pub(super) fn proven_kbps(&self) -> Option<f64> {
        self.capacity_kbps.filter(|_| self.stood >= PROVEN_PERIODS)
    }

    /// The share of packets that is lost at any rate.
    pub(super) fn inherent(&self) -> f64 {
        self.inherent
    }

    /// Takes the fate of a packet, in the order they were sent.
    pub(super) fn settled(&mut self, sent_us: i64, bytes: u16, is_lost: bool) {
        if let Some(open) = self.open {
            let is_apart = sent_us - open.latest_us > PAUSE_US;
            let is_full = sent_us - open.since_us >= PERIOD_US && open.packets >= PERIOD_PACKETS;
            if is_full && !is_apart {
                self.close(open, sent_us);
            }
            if is_full || is_apart {
                self.open = None;
            }
        }
        let open = self.open.get_or_insert(Open { since_us: sent_us, ..Open::default() });
        open.latest_us = sent_us;
        open.bytes += u32::from(bytes);
        open.packets += 1;
        open.lost += u32::from(is_lost);
    }

    /// A probe of so many packets, of which so many were lost, showed that the path carries `kbps`. If that is beyond
    /// the bound, what led to the bound was of another path.
    pub(super) fn found(&mut self, kbps: f64, packets: u32, lost: u32) {
        if self.capacity_kbps.is_some_and(|capacity| capacity < kbps) {
            (self.capacity_kbps, self.stood, self.filled) = (None, 0, 0);
        }
        // More will be sent now: what is counted is not to be a mixture of before and after.
        self.open = None;
        self.probed(kbps, packets, lost);
    }

    /// A probe at `kbps` found nothing more; what was lost of it tells all the same how loss changes with the rate.
    pub(super) fn probed(&mut self, kbps: f64, packets: u32, lost: u32) {
        self.remember(Period { kbps, packets: packets.into(), lost: lost.into(), is_probe: true });
    }

    fn remember(&mut self, period: Period) {
        self.latest = (self.latest + 1) % PERIODS;
        self.filled = (self.filled + 1).min(PERIODS);
        self.periods[self.latest] = period;
    }

    fn close(&mut self, open: Open, end_us: i64) {
        let kbps = f64::from(open.bytes) * 8_000.0 / (end_us - open.since_us) as f64;
        self.remember(Period { kbps, packets: open.packets.into(), lost: open.lost.into(), is_probe: false });
        self.forget_if_changed();
        self.judge();
    }

    /// A path that has changed is not to be judged by what it was.
    fn forget_if_changed(&mut self) {
        let latest = self.periods[self.latest];
        let before = self.weighted().skip(1);
        let (most_kbps, most_loss) = before.fold((0.0f64, self.inherent), |(kbps, loss), (_, period)| {
            (kbps.max(period.kbps), loss.max(period.loss()))
        });
        let is_as_fast = latest.kbps * DISTINCTLY_LOWER < most_kbps;
        if is_as_fast && latest.loss() > most_loss + CHANGE.max(chance(most_loss, latest.packets)) {
            self.filled = 1;
        }
    }

    /// The periods, the latest first, each with its weight.
    fn weighted(&self) -> impl Iterator<Item = (f64, &Period)> + Clone {
        let weights = std::iter::successors(Some(1.0), |weight| Some(weight * FADING));
        let places = (0..self.filled).map(|back| (self.latest + PERIODS - back) % PERIODS);
        weights.zip(places.map(|place| &self.periods[place]))
    }

    fn judge(&mut self) {
        let seen = loss_of(self.weighted());
        if self.capacity_kbps.is_none() && seen <= self.inherent + self.unremarkable() {
            self.learn(seen, if seen < self.inherent { LEARNING_DOWN } else { LEARNING_UP });
            return;
        }
        let is_clean = self.periods[self.latest].loss() <= self.inherent + UNREMARKABLE;
        let bound = self.capacity_kbps.unwrap_or(f64::INFINITY);
        let most = if is_clean { bound * GROWTH } else { bound };
        let best = self.likeliest([bound * 0.95, bound, most]);
        let is_inherent = best.capacity_kbps.is_infinite() && best.inherent > self.inherent + UNREMARKABLE;
        let is_cut = !is_clean && best.capacity_kbps < bound;
        self.stood = if is_cut { 0 } else { self.stood + 1 };
        self.capacity_kbps = match self.capacity_kbps {
            _ if is_cut => Some(best.capacity_kbps * MARGIN),
            // Without loss below it a bound is not refuted, only no longer confirmed.
            Some(bound) if !is_inherent => Some(best.capacity_kbps.clamp(bound, most)),
            _ => None,
        };
        let speed = match best.inherent < self.inherent {
            _ if is_inherent => LEARNING_BY_EXPERIMENT,
            true => LEARNING_DOWN,
            false => LEARNING_UP,
        };
        self.learn(best.inherent, speed);
    }

    /// The best explanation: no capacity, or one of those that periods have shown lately, or one of `others`.
    fn likeliest(&self, others: [f64; 3]) -> Explanation {
        let most_inherent = self.believable();
        let arrived = |(_, period): (f64, &Period)| period.kbps * (1.0 - period.loss()) / (1.0 - self.inherent);
        let candidates = self.weighted().take(SEEN).map(arrived).chain(others);
        let finite = candidates.filter(|capacity| capacity.is_finite() && *capacity > 0.0);
        let explained = finite.map(|capacity| self.explain(capacity, most_inherent));
        let better =
            |best: Explanation, other: Explanation| if other.likelihood > best.likelihood { other } else { best };
        explained.fold(self.explain(f64::INFINITY, most_inherent), better)
    }

    fn learn(&mut self, inherent: f64, speed: f64) {
        self.inherent += (inherent.min(MOST_INHERENT) - self.inherent) * speed;
    }

    /// How much more than the inherent loss is no reason to think about it.
    fn unremarkable(&self) -> f64 {
        let packets = self.weighted().map(|(weight, period)| weight * period.packets).sum();
        UNREMARKABLE.max(chance(self.inherent, packets))
    }

    /// Loss is taken for inherent only as far as it was known before or seen at a rate distinctly lower than the
    /// highest.
    fn believable(&self) -> f64 {
        let regular = self.weighted().filter(|(_, period)| !period.is_probe);
        let most_kbps = regular.clone().map(|(_, period)| period.kbps).fold(0.0, f64::max);
        let lower = regular.filter(|(_, period)| period.kbps < most_kbps * DISTINCTLY_LOWER);
        (self.inherent + self.unremarkable()).max(loss_of(lower))
    }

    /// The inherent loss that makes up with `capacity_kbps` for what was delivered, and how likely and surprising that
    /// is.
    fn explain(&self, capacity_kbps: f64, most_inherent: f64) -> Explanation {
        let share = |period: &Period| (capacity_kbps / period.kbps).min(1.0);
        let (delivered, deliverable) =
            self.weighted().fold((0.0, 0.0), |(delivered, deliverable), (weight, period)| {
                let arrived = weight * (period.packets - period.lost);
                (delivered + arrived, deliverable + weight * period.packets * share(period))
            });
        let inherent = (1.0 - delivered / deliverable).clamp(0.0, most_inherent);
        let fit = |(weight, period): (f64, &Period)| {
            let lost = (1.0 - (1.0 - inherent) * share(period)).clamp(LEAST_CHANCE, 1.0 - LEAST_CHANCE);
            weight * (period.lost * lost.ln() + (period.packets - period.lost) * (1.0 - lost).ln())
        };
        let excess = (self.periods[self.latest].kbps / capacity_kbps).ln();
        let of_capacity = if excess > 0.0 { SURPRISE_OF_LIMIT + SURPRISE_OF_CAPACITY * excess } else { 0.0 };
        let of_loss = SURPRISE_OF_LOSS * ((inherent - self.inherent) / UNREMARKABLE).max(1.0).ln();
        let likelihood = self.weighted().map(fit).sum::<f64>() - of_loss - of_capacity;
        Explanation { capacity_kbps, inherent, likelihood }
    }
}

fn loss_of<'a>(periods: impl Iterator<Item = (f64, &'a Period)>) -> f64 {
    let (lost, packets) = periods.fold((0.0, 0.0), |(lost, packets), (weight, period)| {
        (lost + weight * period.lost, packets + weight * period.packets)
    });
    lost / f64::max(packets, 1.0)
}

/// How far the share that is lost of so many packets may be from `inherent` by chance.
fn chance(inherent: f64, packets: f64) -> f64 {
    let inherent = inherent.max(LEAST_INHERENT);
    STANDARD_DEVIATIONS * (inherent * (1.0 - inherent) / packets.max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that loses `inherent` percent of all and everything above `capacity_kbps`, for `seconds`; the sender
    /// sends what it wants to, or the bound. Returns the least and the last rate sent.
    fn run(
        loss: &mut Loss,
        from_s: i64,
        seconds: i64,
        wanted_kbps: f64,
        inherent: u32,
        capacity_kbps: f64,
    ) -> (f64, f64) {
        let (mut now_us, mut random) = (from_s * 1_000_000, 12_345u32);
        let (mut least, mut rate) = (wanted_kbps, wanted_kbps);
        while now_us < (from_s + seconds) * 1_000_000 {
            rate = loss.bound_kbps().unwrap_or(f64::INFINITY).min(wanted_kbps);
            least = least.min(rate);
            now_us += (1_000.0 * 8_000.0 / rate) as i64;
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let chance = f64::from(random >> 8) / f64::from(1 << 24) * 100.0;
            let lost_percent =
                f64::from(inherent) + (100.0 - f64::from(inherent)) * (1.0 - capacity_kbps / rate).max(0.0);
            loss.settled(now_us, 1_000, chance < lost_percent);
        }
        (least, rate)
    }

    #[test]
    fn random_loss_does_not_bind() {
        for inherent in [1, 2, 5, 10, 20] {
            let mut loss = Loss::default();
            let (least, final_kbps) = run(&mut loss, 0, 30, 1_500.0, inherent, f64::INFINITY);
            assert!(least > 800.0, "at {inherent} % it went down to {least}");
            assert!(final_kbps > 1_400.0, "at {inherent} % it ended with {final_kbps}");
            let learnt = loss.inherent() * 100.0;
            assert!(
                (learnt - f64::from(inherent)).abs() < 0.3 * f64::from(inherent) + 0.5,
                "{inherent} % seen as {learnt}"
            );
        }
    }

    #[test]
    fn a_policer_binds_near_its_rate() {
        for (inherent, policed) in [(0, 500.0), (0, 1_000.0), (5, 1_000.0)] {
            let mut loss = Loss::default();
            run(&mut loss, 0, 10, 300.0, inherent, policed);
            loss.found(policed * 0.9, 8, 0);
            let (least, _) = run(&mut loss, 10, 5, 1_500.0, inherent, policed);
            assert!(least < policed * 1.05, "{policed} with {inherent} %: {least}");
            let (least, final_kbps) = run(&mut loss, 15, 30, 1_500.0, inherent, policed);
            assert!(
                least > policed * 0.7 && final_kbps < policed * 1.3,
                "{policed} with {inherent} %: {least} {final_kbps}"
            );
        }
    }

    #[test]
    fn a_policer_that_comes_late_binds_too_and_one_that_goes_sets_free() {
        let mut loss = Loss::default();
        run(&mut loss, 0, 20, 1_500.0, 0, f64::INFINITY);
        let (_, final_kbps) = run(&mut loss, 20, 4, 1_500.0, 0, 700.0);
        assert!(final_kbps < 800.0, "{final_kbps}");
        let (_, final_kbps) = run(&mut loss, 24, 20, 1_500.0, 0, f64::INFINITY);
        assert!(final_kbps > 1_400.0, "{final_kbps}");
    }

    #[test]
    fn a_voice_alone_is_not_judged_by_one_packet() {
        let mut loss = Loss::default();
        let lost_now_and_then = |number: i64| number % 40 == 7;
        for number in 0..2_000 {
            loss.settled(number * 20_000, 120, lost_now_and_then(number));
            assert_eq!(loss.bound_kbps(), None, "after {number} packets");
        }
    }
}
