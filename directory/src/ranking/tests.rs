use std::collections::HashSet;

use isthmus_protocol::{node::NodeStatus, pops::Measurement};
use proptest::prelude::*;

use super::*;
use crate::records::NodeRecord;

const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

/// One PoP of a made-up world, as its node and the caller's prefix see it.
#[derive(Debug, Clone)]
struct Seen {
    rtt_ms: Option<f64>,
    load: f64,
    draining: bool,
    silent: bool,
}

fn id(index: usize) -> PopId {
    format!("pop-{index:02}").parse().expect("a valid id")
}

fn world(seen: &[Seen], current: Option<usize>) -> (Snapshot, Caller) {
    let (mut snapshot, mut caller) = (Snapshot { read_at: NOW, ..Snapshot::default() }, Caller::default());
    caller.current = current.map(id);
    for (index, pop) in seen.iter().enumerate() {
        snapshot.pops.push(PopRecord { pop: id(index), region: String::new(), url: String::new(), place: None });
        snapshot.nodes.push(NodeRecord {
            node: format!("node-{index}").parse().expect("a valid id"),
            pop: id(index),
            relay: ([127, 0, 0, 1], 1).into(),
            status: NodeStatus { participants: 0, rooms: 0, load: pop.load, draining: pop.draining },
            heard_at: if pop.silent { UnixMicros(0) } else { NOW },
        });
        if let Some(rtt_ms) = pop.rtt_ms {
            let someone = Reporter::of([192, 0, 2, 1].into());
            caller.latency.add(someone, &Measurement { pop: id(index), rtt_ms }, NOW).expect("plausible");
        }
    }
    (snapshot, caller)
}

fn up(rtt_ms: f64) -> Seen {
    Seen { rtt_ms: Some(rtt_ms), load: 0.0, draining: false, silent: false }
}

fn order(seen: &[Seen], current: Option<usize>) -> Vec<String> {
    let (snapshot, caller) = world(seen, current);
    rank(&snapshot, &caller, NOW).into_iter().map(|entry| entry.id.to_string()).collect()
}

fn first(seen: &[Seen], current: Option<usize>) -> usize {
    let (snapshot, caller) = world(seen, current);
    let best = rank(&snapshot, &caller, NOW).into_iter().next().expect("there is a PoP").id;
    (0..seen.len()).find(|index| id(*index) == best).expect("it is one of them")
}

#[test]
fn what_was_measured_counts_before_what_a_map_says() {
    let (mut snapshot, mut caller) = world(&[up(200.0), up(20.0)], None);
    let panama = Place::new(8.98, -79.52).expect("on Earth");
    snapshot.pops[0].place = Some(panama);
    caller.place = Some(panama);
    let ranked = rank(&snapshot, &caller, NOW);
    assert_eq!((ranked[0].id.clone(), ranked[0].rtt_source), (id(1), RttSource::Measured));
    caller.latency = LatencyRecord::default();
    let ranked = rank(&snapshot, &caller, NOW);
    assert_eq!((ranked[0].id.clone(), ranked[0].rtt_source), (id(0), RttSource::Geography));
    assert_eq!((ranked[1].rtt_ms, ranked[1].rtt_source), (UNKNOWN_RTT_MS, RttSource::Unknown));
}

#[test]
fn load_sends_new_callers_elsewhere_before_a_pop_is_full() {
    let busy = |load| Seen { load, ..up(20.0) };
    assert_eq!(first(&[busy(0.6), up(50.0)], None), 0, "room left: distance decides");
    assert_eq!(first(&[busy(0.85), up(50.0)], None), 1, "nearly full: 20 + 69 ms against 50");
    assert_eq!(first(&[busy(0.85), up(5000.0)], None), 0, "nearly full is not full");
    for load in [FULL_LOAD, 1.0] {
        assert_eq!(first(&[busy(load), up(5000.0)], None), 1, "full: anyone with room comes first");
    }
    assert_eq!(first(&[busy(f64::NAN), up(50.0)], None), 1, "a load that is no number is full");
}

#[test]
fn draining_and_down_come_last_in_this_order() {
    let silent = Seen { silent: true, ..up(1.0) };
    let draining = Seen { draining: true, ..up(2.0) };
    assert_eq!(order(&[silent, draining, up(300.0)], None), ["pop-02", "pop-01", "pop-00"]);
}

#[test]
fn a_caller_stays_unless_it_gains_ten_milliseconds_and_a_seventh() {
    assert_eq!(first(&[up(20.0), up(10.5)], Some(0)), 0, "9.5 ms are not worth it");
    assert_eq!(first(&[up(20.0), up(10.0)], Some(0)), 1);
    assert_eq!(first(&[up(200.0), up(171.0)], Some(0)), 0, "14.5 % are not worth it");
    assert_eq!(first(&[up(200.0), up(170.0)], Some(0)), 1);
    let draining = Seen { draining: true, ..up(1.0) };
    assert_eq!(first(&[draining, up(300.0)], Some(0)), 1, "nobody stays where they are asked to leave");
}

fn seen() -> impl Strategy<Value = Seen> {
    let rtt = prop::option::of(prop_oneof![1.0..500.0f64, Just(20.0)]);
    let load = prop_oneof![0.0..=1.0f64, Just(f64::NAN), Just(1.0), Just(-1.0)];
    (rtt, load, any::<bool>(), any::<bool>()).prop_map(|(rtt_ms, load, draining, silent)| Seen {
        rtt_ms,
        load,
        draining,
        silent,
    })
}

proptest! {
    #[test]
    fn every_pop_stands_in_the_list_once_and_its_order_depends_on_values_alone(
        seen in prop::collection::vec(seen(), 0..12), current in prop::option::of(0usize..12), seed: u64,
    ) {
        let (mut snapshot, caller) = world(&seen, current);
        let ranked = rank(&snapshot, &caller, NOW);
        let names: HashSet<_> = ranked.iter().map(|entry| entry.id.clone()).collect();
        prop_assert_eq!((ranked.len(), names.len()), (seen.len(), seen.len()));
        snapshot.pops.sort_by_key(|pop| pop.pop.as_str().bytes().fold(seed, |hash, b| hash.rotate_left(5) ^ u64::from(b)));
        snapshot.nodes.reverse();
        prop_assert_eq!(rank(&snapshot, &caller, NOW), ranked);
    }

    #[test]
    fn nobody_is_sent_to_a_pop_that_is_down_or_draining_while_another_takes_calls(
        seen in prop::collection::vec(seen(), 1..12), current in prop::option::of(0usize..12),
    ) {
        let (snapshot, caller) = world(&seen, current);
        let states: Vec<PopState> = rank(&snapshot, &caller, NOW).into_iter().map(|entry| entry.state).collect();
        for worse in [PopState::Draining, PopState::Down] {
            let takes_calls = |state: &PopState| *state == PopState::Ready;
            prop_assert!(states[0] != worse || !states.iter().any(takes_calls));
        }
        prop_assert!(states[0] != PopState::Down || states.iter().all(|state| *state == PopState::Down));
    }

    /// Costs that wander within less than the threshold: a caller may move to a better PoP, and never comes back to
    /// one it left.
    #[test]
    fn noise_below_the_threshold_makes_nobody_flap(
        base in prop::collection::vec(15.0..300.0f64, 2..6),
        noise in prop::collection::vec(prop::collection::vec(0.0..STAY_WITHIN_MS, 6), 1..40),
    ) {
        let mut current = None;
        let mut left = HashSet::new();
        for round in noise {
            let seen: Vec<Seen> = base.iter().zip(&round).map(|(base, noise)| up(base + noise)).collect();
            let chosen = first(&seen, current);
            prop_assert!(!left.contains(&chosen), "came back to {}", chosen);
            if let Some(before) = current.replace(chosen).filter(|before| *before != chosen) {
                left.insert(before);
            }
        }
    }
}
