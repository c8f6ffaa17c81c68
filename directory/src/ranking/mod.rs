//! Which PoP is nearest, for one caller, as a value from values: no socket, no clock, no store.
//!
//! Each PoP gets a cost in milliseconds: the round trip to expect, plus what its load costs ([`load_cost_ms`]). The
//! round trip is what clients of the caller's prefix measured; else what the distance suggests
//! ([`Place::expected_rtt_ms`]); else [`UNKNOWN_RTT_MS`]. PoPs that take calls come before full ones, those before
//! draining ones, those before those that are down; within each, the cheapest first, and the name decides ties: the
//! order depends on nothing but the values given.
//!
//! A caller that is connected stays where it is unless another PoP is better by [`STAY_WITHIN_MS`] and by
//! [`STAY_WITHIN_SHARE`].

mod latency;
mod place;

use std::cmp::Ordering;

use isthmus_protocol::{
    PopId,
    pops::{FULL_LOAD, PopEntry, PopState, RttSource, STAY_WITHIN_MS, STAY_WITHIN_SHARE},
};

pub use latency::{LatencyRecord, MAX_POPS, PACE, Prefix, Refusal, Reporter, SAMPLE_LIFETIME, Sample, WINDOW};
pub use place::{NotAPlace, Place, Places, PlacesError};

use crate::{
    records::{PopRecord, Snapshot},
    time::UnixMicros,
};

/// The round trip assumed to a PoP of which nothing is known, in milliseconds. Middling: such a PoP is worth a probe
/// before one that is known to be far.
pub const UNKNOWN_RTT_MS: f64 = 150.0;

/// Up to this load a PoP costs nothing extra.
const FREE_LOAD: f64 = 0.6;
/// What a PoP costs extra when it is all but full, in milliseconds: about the way to the next continent.
const NEARLY_FULL_MS: f64 = 100.0;

/// What is known of someone who looks for a PoP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Caller {
    /// What clients of its network prefix measured.
    pub latency: LatencyRecord,
    /// Where it is, from trusted viewer headers or the address-to-region table.
    pub place: Option<Place>,
    /// The PoP it is connected to.
    pub current: Option<PopId>,
}

/// Every PoP of `snapshot`, the best for `caller` first.
pub fn rank(snapshot: &Snapshot, caller: &Caller, now: UnixMicros) -> Vec<PopEntry> {
    let mut ranked: Vec<Ranked> = snapshot.pops.iter().map(|pop| Ranked::new(pop, snapshot, caller, now)).collect();
    ranked.sort_by(Ranked::order);
    let own = ranked.iter().position(|pop| Some(&pop.entry.id) == caller.current.as_ref());
    if let Some(own) = own
        && ranked.first().is_some_and(|best| !best.is_worth_moving_to_from(&ranked[own]))
    {
        ranked[..=own].rotate_right(1);
    }
    ranked.into_iter().map(|pop| pop.entry).collect()
}

/// What a load from 0 to 1 costs, in milliseconds: nothing up to 0.6, then rising with the square to 100 ms at
/// [`FULL_LOAD`]. A PoP with room is not avoided, one near its end is left to those who have no other.
pub fn load_cost_ms(load: f64) -> f64 {
    let above = ((load - FREE_LOAD) / (FULL_LOAD - FREE_LOAD)).clamp(0.0, 1.0);
    NEARLY_FULL_MS * above * above
}

/// How willing a PoP is to take a call, the most willing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Willing {
    Open,
    Full,
    Draining,
    Down,
}

struct Ranked {
    willing: Willing,
    cost_ms: f64,
    entry: PopEntry,
}

impl Ranked {
    fn new(pop: &PopRecord, snapshot: &Snapshot, caller: &Caller, now: UnixMicros) -> Self {
        let (rtt_ms, rtt_source) = expected_rtt(pop, caller, now);
        let (state, load) = (snapshot.pop_state(&pop.pop), snapshot.pop_load(&pop.pop));
        let willing = match state {
            PopState::Ready if load < FULL_LOAD => Willing::Open,
            PopState::Ready => Willing::Full,
            PopState::Draining => Willing::Draining,
            PopState::Down => Willing::Down,
        };
        let load_cost_ms = load_cost_ms(load);
        let entry = PopEntry {
            id: pop.pop.clone(),
            region: pop.region.clone(),
            url: pop.url.clone(),
            rtt_ms,
            rtt_source,
            load,
            load_cost_ms,
            state,
        };
        Self { willing, cost_ms: rtt_ms + load_cost_ms, entry }
    }

    fn order(&self, other: &Self) -> Ordering {
        let by_willing = self.willing.cmp(&other.willing);
        by_willing.then(self.cost_ms.total_cmp(&other.cost_ms)).then_with(|| self.entry.id.cmp(&other.entry.id))
    }

    fn is_worth_moving_to_from(&self, own: &Self) -> bool {
        let gain_ms = own.cost_ms - self.cost_ms;
        self.willing < own.willing || (gain_ms >= STAY_WITHIN_MS && gain_ms >= own.cost_ms * STAY_WITHIN_SHARE)
    }
}

fn expected_rtt(pop: &PopRecord, caller: &Caller, now: UnixMicros) -> (f64, RttSource) {
    let by_distance = || Some(caller.place?.expected_rtt_ms(pop.place?));
    if let Some(measured) = caller.latency.rtt_ms(&pop.pop, now) {
        (measured, RttSource::Measured)
    } else if let Some(expected) = by_distance() {
        (expected, RttSource::Geography)
    } else {
        (UNKNOWN_RTT_MS, RttSource::Unknown)
    }
}

#[cfg(test)]
mod tests;
