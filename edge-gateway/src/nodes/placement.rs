//! Which media node takes a room: rendezvous hashing, so that every door of a PoP answers alike without talking to
//! the others, and a node that goes takes only its own rooms with it.

use isthmus_protocol::{NodeId, RoomId};

/// A node at or above this load (0 to 1) takes no further rooms. The rest is for the rooms it already has.
pub(crate) const LOAD_BOUND: f64 = 0.9;

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
    /// Every node that can be reached and does not drain is full.
    #[error("every media node of this PoP is at its load bound; join through another PoP")]
    Full,
}

/// The node that takes `room`: of those that are up, not draining and below [`LOAD_BOUND`], the one with the highest
/// weight for the room.
pub(crate) fn place<'a>(
    room: &RoomId,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
) -> Result<&'a NodeId, NoPlace> {
    let mut reason = NoPlace::Down;
    let mut best: Option<(u64, &NodeId)> = None;
    for candidate in candidates.into_iter().filter(|candidate| candidate.up) {
        if candidate.draining {
            if reason == NoPlace::Down {
                reason = NoPlace::Draining;
            }
        } else if candidate.load >= LOAD_BOUND {
            reason = NoPlace::Full;
        } else {
            best = best.max(Some((weight(room, candidate.node), candidate.node)));
        }
    }
    best.map(|(_, node)| node).ok_or(reason)
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
        Candidate { node, up: true, draining: false, load: 0.0 }
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
        assert_eq!(both(|c| c.load = 0.95), Err(NoPlace::Full));
        assert_eq!(place(&room(1), []), Err(NoPlace::Down));
        let mixed = [Candidate { draining: true, ..idle(&nodes[0]) }, Candidate { load: 1.0, ..idle(&nodes[1]) }];
        assert_eq!(place(&room(1), mixed), Err(NoPlace::Full), "a full node is the better hope");
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
