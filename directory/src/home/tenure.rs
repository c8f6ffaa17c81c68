//! One PoP's view of one home. Sans-IO: what was read and written comes in with the time, what to write comes out.
//!
//! Nobody's wall clock is compared with another's. A holder counts from the moment at which it asked for its last renewal, one who
//! waits for a holder to fall silent from the moment at which it saw the last renewal: the first is before, the second after the
//! write of it. So clocks need only run at about the same rate ([`SURE_FOR`]).

use std::time::Duration;

use isthmus_protocol::PopId;
use serde::{Deserialize, Serialize};

/// A holder that has not renewed for so long has lost the home.
pub const TERM: Duration = Duration::from_secs(30);
/// A holder is sure of it for so long after it asked for its last renewal: clocks may run a tenth apart.
pub const SURE_FOR: Duration = Duration::from_secs(25);
/// How often it renews.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How much longer than the PoP that a home is meant for the others wait, so that it comes first.
pub const HEAD_START: Duration = Duration::from_secs(10);

/// A home as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it.
    pub holder: PopId,
    /// How often it has changed hands. Whatever is guarded carries it, so that what was written under an older one does not stand
    /// against what was written under this.
    pub epoch: u64,
    /// How often it was renewed in this epoch.
    pub beat: u64,
    /// The PoP that it is meant for is there and wants it.
    pub is_wanted: bool,
}

/// See the [module](self). Times are of one monotonic clock.
#[derive(Debug)]
pub struct Tenure {
    own: PopId,
    /// Whom the home is meant for.
    meant_for: PopId,
    /// What stands in the store, and since when it has been seen to: renewals make it another.
    seen: Option<(Option<Lease>, Duration)>,
    /// The epoch in which it is held, and since when: the moment at which the last renewal was asked for.
    held: Option<(u64, Duration)>,
}

impl Tenure {
    /// A home of which nothing is known yet.
    pub fn new(own: PopId, meant_for: PopId) -> Self {
        Self { own, meant_for, seen: None, held: None }
    }

    /// The epoch to write under, while this PoP is sure to be the only one that may.
    pub fn epoch(&self, now: Duration) -> Option<u64> {
        let (epoch, since) = self.held?;
        (now.saturating_sub(since) < SURE_FOR).then_some(epoch)
    }

    /// Who has it, as far as is known.
    pub fn holder(&self) -> Option<&PopId> {
        self.seen.as_ref()?.0.as_ref().map(|lease| &lease.holder)
    }

    /// This stands in the store, as was answered at `now`.
    pub fn saw(&mut self, lease: Option<Lease>, now: Duration) {
        if lease.as_ref().is_none_or(|lease| lease.holder != self.own) {
            self.held = None;
        }
        let is_same = |before: &Option<Lease>| match (before, &lease) {
            (Some(before), Some(lease)) => {
                (&before.holder, before.epoch, before.beat) == (&lease.holder, lease.epoch, lease.beat)
            }
            (before, lease) => before.is_none() && lease.is_none(),
        };
        let since = self.seen.as_ref().filter(|(before, _)| is_same(before)).map_or(now, |(_, since)| *since);
        self.seen = Some((lease, since));
    }

    /// What is to be written at `now` in place of what was seen, and of nothing else; none if there is nothing to do.
    /// Then [`wrote`](Self::wrote) is called if it was, [`saw`](Self::saw) if something else stands there.
    pub fn next(&mut self, now: Duration) -> Option<Lease> {
        let (seen, since) = self.seen.as_ref()?;
        let waited = now.saturating_sub(*since);
        let is_meant = self.own == self.meant_for;
        let patience = if is_meant { TERM } else { TERM + HEAD_START };
        let mine = |epoch, beat| Lease { holder: self.own.clone(), epoch, beat, is_wanted: false };
        match seen {
            None => (is_meant || waited >= patience).then(|| mine(1, 0)),
            Some(lease) if lease.holder == self.own => {
                if lease.is_wanted && !is_meant {
                    // From before it is written: it may be written though nothing is heard of that.
                    self.held = None;
                    let holder = self.meant_for.clone();
                    return Some(Lease { holder, epoch: lease.epoch + 1, beat: 0, is_wanted: false });
                }
                let is_due = self.held.is_none_or(|(_, since)| now.saturating_sub(since) >= RENEW_EVERY);
                is_due.then(|| mine(lease.epoch, lease.beat + 1))
            }
            Some(lease) if waited >= patience => Some(mine(lease.epoch + 1, 0)),
            Some(lease) if is_meant && !lease.is_wanted => Some(Lease { is_wanted: true, ..lease.clone() }),
            Some(_) => None,
        }
    }

    /// What [`next`](Self::next) said was written, as was asked at `asked` and answered at `now`.
    pub fn wrote(&mut self, lease: Lease, asked: Duration, now: Duration) {
        let is_own = lease.holder == self.own;
        let epoch = lease.epoch;
        self.saw(Some(lease), now);
        self.held = is_own.then_some((epoch, asked));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POPS: [&str; 3] = ["panama", "singapore", "zurich"];

    fn pop(name: &str) -> PopId {
        name.parse().expect("a valid id")
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One PoP, its clock and its link to the store, all of which may fail.
    struct Keeper {
        tenure: Tenure,
        /// Its clock's rate, in thousandths of the true one.
        rate: u32,
    }

    impl Keeper {
        fn new(name: &str, rate: u32) -> Self {
            Self { tenure: Tenure::new(pop(name), pop("panama")), rate }
        }

        fn clock(&self, at: Duration) -> Duration {
            at * self.rate / 1_000
        }

        /// Reads, and writes if there is something to. The answers take some time each.
        fn turn(&mut self, store: &mut Option<Lease>, at: Duration, takes: Duration) {
            self.tenure.saw(store.clone(), self.clock(at + takes));
            let seen = store.clone();
            let asked = self.clock(at + takes);
            if let Some(lease) = self.tenure.next(asked)
                && *store == seen
            {
                *store = Some(lease.clone());
                self.tenure.wrote(lease, asked, self.clock(at + 2 * takes));
            }
        }
    }

    /// The seconds at which each has the home, when all who are `up` at a second look at the store then.
    fn history(seconds: u64, up: impl Fn(&str, u64) -> bool) -> Vec<Option<&'static str>> {
        let mut keepers = POPS.map(|name| Keeper::new(name, 1_000));
        let mut store = None;
        let mut holders = Vec::new();
        for second in 0..seconds {
            for (name, keeper) in POPS.iter().zip(&mut keepers) {
                if up(name, second) {
                    keeper.turn(&mut store, secs(second), Duration::from_millis(100));
                }
            }
            let now = secs(second) + Duration::from_millis(500);
            let mut sure = POPS.iter().zip(&keepers).filter(|(_, keeper)| keeper.tenure.epoch(now).is_some());
            holders.push(sure.next().map(|(name, _)| *name));
            assert!(sure.next().is_none(), "two at {second} s");
        }
        holders
    }

    #[test]
    fn whom_it_is_meant_for_takes_it_and_keeps_it() {
        assert!(history(120, |_, _| true).iter().all(|holder| *holder == Some("panama")));
    }

    #[test]
    fn another_takes_over_from_one_that_is_silent_and_gives_it_back() {
        let holders = history(300, |name, second| name != "panama" || !(60..150).contains(&second));
        assert_eq!((holders[59], holders[60 + 26]), (Some("panama"), None), "it stops by itself");
        let taken = holders.iter().position(|holder| *holder == Some("singapore")).expect("somebody takes over");
        assert!((60 + 30..60 + 52).contains(&taken), "at {taken} s");
        assert!(holders[taken..150].iter().all(|holder| *holder == Some("singapore")), "it renews");
        assert!(holders[155..].iter().all(|holder| *holder == Some("panama")), "{:?}", &holders[150..160]);
    }

    #[test]
    fn nobody_waits_for_whom_it_is_meant_for_for_ever() {
        let holders = history(60, |name, _| name != "panama");
        assert_eq!((holders[39], holders[41]), (None, Some("singapore")));
    }

    #[test]
    fn the_epoch_rises_with_each_holder_and_stays_with_one_that_comes_back_in_time() {
        let (mut store, mut panama) = (None, Keeper::new("panama", 1_000));
        panama.turn(&mut store, secs(0), Duration::ZERO);
        assert_eq!(panama.tenure.epoch(secs(0)), Some(1));
        let mut restarted = Keeper::new("panama", 1_000);
        assert_eq!(restarted.tenure.epoch(secs(5)), None, "it knows nothing yet");
        restarted.turn(&mut store, secs(5), Duration::ZERO);
        assert_eq!(restarted.tenure.epoch(secs(5)), Some(1));
        let mut zurich = Keeper::new("zurich", 1_000);
        for second in [6, 46] {
            zurich.turn(&mut store, secs(second), Duration::ZERO);
        }
        assert_eq!((zurich.tenure.epoch(secs(46)), restarted.tenure.epoch(secs(46))), (Some(2), None));
    }

    proptest! {
        /// Whoever is cut off, restarts or is slow, with clocks that run a little fast or slow: never two at once.
        #[test]
        fn nobody_holds_what_another_holds(
            rates in prop::array::uniform3(930u32..1_070),
            turns in prop::collection::vec((0usize..3, 1u64..20_000, 0u64..4_000, 0u8..20), 1..200),
        ) {
            let mut keepers: Vec<_> = POPS.iter().zip(rates).map(|(name, rate)| Keeper::new(name, rate)).collect();
            let (mut store, mut at) = (None, Duration::ZERO);
            for (index, pause_ms, takes_ms, chance) in turns {
                let until = at + Duration::from_millis(pause_ms);
                if chance == 0 {
                    keepers[index] = Keeper::new(POPS[index], rates[index]);
                }
                keepers[index].turn(&mut store, at, Duration::from_millis(takes_ms.min(pause_ms / 3)));
                at = until;
                let sure: Vec<_> = keepers.iter().filter_map(|keeper| keeper.tenure.epoch(keeper.clock(at))).collect();
                prop_assert!(sure.len() <= 1, "{:?} at {:?}", sure, at);
            }
        }
    }
}
