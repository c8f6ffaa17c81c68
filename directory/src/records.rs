//! What the directory stores, as values.

use std::{net::SocketAddr, time::Duration};

use isthmus_protocol::{NodeId, PopId, RoomId, node::NodeStatus, pops::PopState};
use serde::{Deserialize, Serialize};

use crate::{ranking::Place, time::UnixMicros};

/// How often a media node says that it is there ([`Directory::heartbeat`](crate::Directory::heartbeat)).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// A node not heard from for this long is down: three missed heartbeats and the way between two regions.
pub const NODE_SILENT_AFTER: Duration = Duration::from_secs(7);

/// A point of presence, as its operator describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PopRecord {
    /// The PoP.
    pub pop: PopId,
    /// The region it stands in, for people: "Zurich, Switzerland".
    pub region: String,
    /// Origin of its public door: `https://zurich.example.org`.
    pub url: String,
    /// Where it stands.
    pub place: Option<Place>,
}

/// A media node, as it last described itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// The PoP it belongs to.
    pub pop: PopId,
    /// Where doors and other nodes reach it by QUIC.
    pub relay: SocketAddr,
    /// Load and state.
    pub status: NodeStatus,
    /// When it said so, by its own clock; in a [`Snapshot`] by the reader's.
    pub heard_at: UnixMicros,
}

/// Where a room is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// The room.
    pub room: RoomId,
    /// The PoP that opened it first. A hint: two PoPs that open a room at the same moment may both believe it for as
    /// long as replication takes.
    pub home: Option<PopId>,
    /// Nodes with participants in it, in the order of their names.
    pub members: Vec<RoomMember>,
}

/// A node with participants in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMember {
    /// The node.
    pub node: NodeId,
    /// Its PoP.
    pub pop: PopId,
}

/// Every PoP and node, as read at one moment.
///
/// Liveness is judged as of that moment, not of the present: a snapshot kept through an outage of the store says what
/// was true when it was read, and does not turn every PoP down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Every PoP.
    pub pops: Vec<PopRecord>,
    /// Every media node heard from in the last day.
    pub nodes: Vec<NodeRecord>,
    /// When it was read.
    pub read_at: UnixMicros,
}

impl Snapshot {
    /// Whether `node` takes new calls.
    pub fn node_state(&self, node: &NodeRecord) -> PopState {
        if self.read_at.since(node.heard_at) > NODE_SILENT_AFTER {
            PopState::Down
        } else if node.status.draining {
            PopState::Draining
        } else {
            PopState::Ready
        }
    }

    /// The nodes of `pop` in `state`.
    pub fn nodes_of<'a>(&'a self, pop: &'a PopId, state: PopState) -> impl Iterator<Item = &'a NodeRecord> {
        self.nodes.iter().filter(move |node| node.pop == *pop && self.node_state(node) == state)
    }

    /// Whether `pop` takes new calls: ready if one of its nodes is, else draining if one of them is, else down.
    pub fn pop_state(&self, pop: &PopId) -> PopState {
        [PopState::Ready, PopState::Draining]
            .into_iter()
            .find(|state| self.nodes_of(pop, *state).next().is_some())
            .unwrap_or(PopState::Down)
    }

    /// How many PoPs take new calls.
    pub fn ready_pops(&self) -> usize {
        self.pops.iter().filter(|record| self.pop_state(&record.pop) == PopState::Ready).count()
    }

    /// How busy `pop` is, from 0 to 1: the mean over its nodes that take new calls, or 1 if none does.
    pub fn pop_load(&self, pop: &PopId) -> f64 {
        let loads: Vec<f64> = self.nodes_of(pop, PopState::Ready).map(|node| unit_load(node.status.load)).collect();
        if loads.is_empty() { 1.0 } else { loads.iter().sum::<f64>() / loads.len() as f64 }
    }
}

/// A load as a node claims it, held to 0..=1. What is not a number is taken as full.
fn unit_load(claimed: f64) -> f64 {
    if claimed.is_nan() { 1.0 } else { claimed.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, load: f64, draining: bool, heard_at_s: u64) -> NodeRecord {
        NodeRecord {
            node: name.parse().expect("a valid id"),
            pop: "panama".parse().expect("a valid id"),
            relay: ([127, 0, 0, 1], 7102).into(),
            status: NodeStatus { participants: 0, rooms: 0, load, draining },
            heard_at: UnixMicros(heard_at_s * 1_000_000),
        }
    }

    fn snapshot(nodes: Vec<NodeRecord>) -> Snapshot {
        Snapshot { pops: Vec::new(), nodes, read_at: UnixMicros(100_000_000) }
    }

    #[test]
    fn a_pop_is_as_ready_as_its_best_node() {
        let pop = "panama".parse().expect("a valid id");
        let state = |nodes| snapshot(nodes).pop_state(&pop);
        assert_eq!(state(vec![]), PopState::Down);
        assert_eq!(state(vec![node("silent", 0.0, false, 92)]), PopState::Down);
        assert_eq!(state(vec![node("silent", 0.0, false, 92), node("leaving", 0.0, true, 99)]), PopState::Draining);
        assert_eq!(state(vec![node("leaving", 0.0, true, 99), node("up", 0.0, false, 99)]), PopState::Ready);
    }

    #[test]
    fn load_counts_only_nodes_that_take_calls_and_stays_in_its_range() {
        let pop = "panama".parse().expect("a valid id");
        let load = |nodes| snapshot(nodes).pop_load(&pop);
        let half = vec![node("a", 0.2, false, 99), node("b", 0.8, false, 99), node("silent", 1.0, false, 1)];
        assert!((load(half) - 0.5).abs() < 1e-9);
        assert!((load(vec![node("a", f64::NAN, false, 99)]) - 1.0).abs() < 1e-9);
        assert!((load(vec![node("a", -3.0, false, 99)])).abs() < 1e-9);
    }

    #[test]
    fn a_clock_ahead_of_the_reader_does_not_make_a_node_silent() {
        let pop = "panama".parse().expect("a valid id");
        assert_eq!(snapshot(vec![node("ahead", 0.0, false, 200)]).pop_state(&pop), PopState::Ready);
    }
}
