//! Which media node takes a newcomer of a room.
//!
//! A room that a node has goes on there, so that it is on no more nodes than it needs. One that no node has begins where
//! rendezvous hashing says, so that every door of a PoP answers alike without talking to the others and a node that goes takes
//! only its own rooms with it, but at none that is clearly busier than another ([`LIGHT_WITHIN`]).
//!
//! A full node ([`FULL_LOAD`]) is passed over while another is not, also by newcomers of a room that it has. Such a room goes
//! on at another node too, and the relay joins the two. When all are full, newcomers go where they would if none were, and the
//! node takes them into what it keeps back or says that it has as many participants as it may have.

use isthmus_protocol::{NodeId, RoomId, pops::FULL_LOAD};

/// A node takes new rooms while its load is less than this above that of the least busy one. Wide, so that what doors see a
/// second apart seldom makes them differ: two that do begin a room on two nodes.
const LIGHT_WITHIN: f64 = 0.2;

/// What is known of a node when a room is placed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// The node.
    pub(crate) node: &'a NodeId,
    /// Whether this door has a link to it.
    pub(crate) up: bool,
    /// Whether it finishes and takes nobody new.
    pub(crate) draining: bool,
    /// From 0 (idle) to 1.
    pub(crate) load: f64,
    /// Whether it has the room.
    pub(crate) has_room: bool,
}

/// Why no node takes a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    /// No node can be reached.
    #[error("no media node of this PoP can be reached now; try again in a moment or join through another PoP")]
    Down,
    /// Every node that can be reached drains.
    #[error("this PoP is draining; join through another")]
    Draining,
}

/// The nodes that take newcomers: those that are up and do not drain. There is one at least.
pub(crate) fn open<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>) -> Result<Vec<Candidate<'a>>, NoPlace> {
    let up = candidates.into_iter().filter(|candidate| candidate.up);
    let (draining, open): (Vec<_>, Vec<_>) = up.partition(|candidate| candidate.draining);
    match (open.is_empty(), draining.is_empty()) {
        (false, _) => Ok(open),
        (true, false) => Err(NoPlace::Draining),
        (true, true) => Err(NoPlace::Down),
    }
}

/// The node that takes a newcomer of `room`: of those that are open, one that is not full, has the room and is not clearly
/// busier than another, in this order of importance; of several the one with the highest weight for the room.
pub(crate) fn place<'a>(
    room: &RoomId,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
) -> Result<&'a NodeId, NoPlace> {
    let open = open(candidates)?;
    let lightest = open.iter().map(|candidate| candidate.load).fold(f64::INFINITY, f64::min);
    let rank = |candidate: &Candidate<'a>| {
        let is_light = candidate.load < lightest + LIGHT_WITHIN;
        (candidate.load < FULL_LOAD, candidate.has_room, is_light, weight(room, candidate.node), candidate.node)
    };
    let best = open.into_iter().max_by_key(rank);
    best.map(|candidate| candidate.node).ok_or(NoPlace::Down)
}

/// A number that every door computes alike for a room and a node: FNV-1a over both names, then the finalizer of
/// `SplitMix64`, because FNV alone spreads names that differ only at the end too little. Part of the behaviour between
/// doors of different builds: must not change.
fn weight(room: &RoomId, node: &NodeId) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = room.as_str().bytes().chain([0]).chain(node.as_str().bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn nodes(count: usize) -> Vec<NodeId> {
        (1..=count).map(|n| format!("panama-sfu-{n}").parse().expect("valid")).collect()
    }

    fn idle(node: &NodeId) -> Candidate<'_> {
        Candidate { node, up: true, draining: false, load: 0.0, has_room: false }
    }

    fn room(n: u32) -> RoomId {
        format!("room-{n}").parse().expect("valid")
    }

    #[test]
    fn says_why_nobody_takes_it() {
        let nodes = nodes(2);
        let both = |change: fn(&mut Candidate<'_>)| {
            place(
                &room(1),
                nodes.iter().map(|node| {
                    let mut candidate = idle(node);
                    change(&mut candidate);
                    candidate
                }),
            )
        };
        assert_eq!(both(|c| c.up = false), Err(NoPlace::Down));
        assert_eq!(both(|c| c.draining = true), Err(NoPlace::Draining));
        assert_eq!(place(&room(1), []), Err(NoPlace::Down));
        let mixed = [Candidate { draining: true, ..idle(&nodes[0]) }, Candidate { up: false, ..idle(&nodes[1]) }];
        assert_eq!(place(&room(1), mixed), Err(NoPlace::Draining), "what can be reached drains");
    }

    #[test]
    fn a_full_node_is_passed_over_while_another_is_not_and_otherwise_refuses_for_itself() {
        let nodes = nodes(3);
        let own = place(&room(1), nodes.iter().map(idle)).expect("a node");
        let full = |all: bool| {
            let load = move |node: &NodeId| if all || node == own { FULL_LOAD } else { 0.8 };
            nodes.iter().map(move |node| Candidate { load: load(node), ..idle(node) })
        };
        assert_ne!(place(&room(1), full(false)), Ok(own));
        assert_eq!(place(&room(1), full(true)), Ok(own), "the room goes on where it is");
        let nonsense = nodes.iter().map(|node| Candidate { load: f64::NAN, ..idle(node) });
        assert_eq!(place(&room(1), nonsense), Ok(own), "a load that is no number is full");
    }

    #[test]
    fn a_room_goes_on_where_it_is_and_begins_where_there_is_little_to_do() {
        let nodes = nodes(3);
        let own = place(&room(1), nodes.iter().map(idle)).expect("a node");
        let others: Vec<&NodeId> = nodes.iter().filter(|node| *node != own).collect();
        let with = |change: &dyn Fn(&mut Candidate<'_>)| {
            let changed = nodes.iter().map(|node| {
                let mut candidate = idle(node);
                change(&mut candidate);
                candidate
            });
            place(&room(1), changed.collect::<Vec<_>>()).expect("a node")
        };
        assert_eq!(
            with(&|c| c.load = if c.node == own { 0.15 } else { 0.0 }),
            own,
            "what is alike is left to the hash"
        );
        assert_ne!(with(&|c| c.load = if c.node == own { 0.25 } else { 0.0 }), own, "clearly busier");
        let has_it = |c: &mut Candidate<'_>| c.has_room = c.node == others[0];
        assert_eq!(with(&has_it), others[0]);
        let is_busy = |c: &mut Candidate<'_>| {
            has_it(c);
            c.load = if c.has_room { 0.8 } else { 0.0 };
        };
        assert_eq!(with(&is_busy), others[0], "busy, and the room is not scattered for that");
        let is_full = |c: &mut Candidate<'_>| {
            has_it(c);
            c.load = if c.has_room { FULL_LOAD } else { 0.0 };
        };
        assert_eq!(with(&is_full), own, "full");
        let two_have_it = |c: &mut Candidate<'_>| {
            c.has_room = c.node != own;
            c.load = if c.node == others[0] { 0.6 } else { 0.3 };
        };
        assert_eq!(with(&two_have_it), others[1], "of two that have it, the one that is not clearly busier");
    }

    #[test]
    fn rooms_spread_evenly() {
        let nodes = nodes(4);
        let mut taken: HashMap<&NodeId, u32> = HashMap::new();
        for n in 0..4000 {
            *taken.entry(place(&room(n), nodes.iter().map(idle)).expect("a node")).or_default() += 1;
        }
        assert!(taken.values().all(|count| (800..1200).contains(count)), "{taken:?}");
    }

    #[test]
    fn the_weights_do_not_change_between_builds() {
        let node = "panama-sfu-1".parse().expect("valid");
        assert_eq!(weight(&room(1), &node), 0x0c21_7b48_cc43_0fe1);
    }

    proptest! {
        #[test]
        fn a_node_that_goes_moves_only_its_own_rooms(count in 2..9_usize, gone in 0..9_usize, n in any::<u32>()) {
            let nodes = nodes(count);
            let gone = gone % count;
            let before = place(&room(n), nodes.iter().map(idle)).expect("a node");
            let left = nodes.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, node)| idle(node));
            let after = place(&room(n), left).expect("a node");
            if before != &nodes[gone] {
                prop_assert_eq!(before, after);
            }
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(count in 1..9_usize, n in any::<u32>()) {
            let nodes = nodes(count);
            prop_assert_eq!(
                place(&room(n), nodes.iter().map(idle)),
                place(&room(n), nodes.iter().rev().map(idle))
            );
        }
    }
}
