//! How long ago a node said something, whatever its clock says.
//!
//! A node's heartbeat carries the time of the node's clock, which may be wrong by more than the silence that makes a node
//! count as down. So a reader goes by its own: the moment at which it first saw the node's last heartbeat. Only of a
//! node that it sees for the first time it has no better word than the node's; a node in operation says the next
//! thing within [`HEARTBEAT_INTERVAL`](crate::HEARTBEAT_INTERVAL).

use std::{collections::HashMap, time::Duration};

use isthmus_protocol::NodeId;

use crate::{records::NodeRecord, time::UnixMicros};

/// What one reader has seen of the nodes: those of its last snapshot.
#[derive(Debug, Default)]
pub(crate) struct Hearing(HashMap<NodeId, Heard>);

#[derive(Debug, Clone, Copy)]
struct Heard {
    /// As the node wrote it.
    said_at: UnixMicros,
    /// When that was seen first, by the reader's monotonic clock.
    seen: Duration,
    /// How long ago it was said by then.
    age: Duration,
}

impl Hearing {
    /// Puts every node's `heard_at` on the reader's clock, which shows `read_at`, its monotonic one `monotonic`.
    pub(crate) fn listen(&mut self, nodes: &mut [NodeRecord], read_at: UnixMicros, monotonic: Duration) {
        let before = std::mem::take(&mut self.0);
        for node in nodes {
            let first = Heard { said_at: node.heard_at, seen: monotonic, age: read_at.since(node.heard_at) };
            let heard = match before.get(&node.node) {
                Some(before) if before.said_at == node.heard_at => *before,
                Some(_) => Heard { age: Duration::ZERO, ..first },
                None => first,
            };
            node.heard_at = read_at.minus(heard.age + monotonic.saturating_sub(heard.seen));
            self.0.insert(node.node.clone(), heard);
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_protocol::{node::NodeStatus, pops::PopState};

    use super::*;
    use crate::records::{NODE_SILENT_AFTER, Snapshot};

    const START: UnixMicros = UnixMicros(1_800_000_000_000_000);

    /// What a reader makes of a node that wrote `said_at`, `after` the start.
    fn state(hearing: &mut Hearing, said_at: UnixMicros, after: Duration) -> PopState {
        let status = NodeStatus { participants: 0, rooms: 0, load: 0.0, draining: false };
        let (node, pop) = ("panama-sfu-1".parse().expect("valid"), "panama".parse().expect("valid"));
        let node = NodeRecord { node, pop, relay: ([127, 0, 0, 1], 1).into(), status, heard_at: said_at };
        let mut snapshot = Snapshot { pops: Vec::new(), nodes: vec![node], read_at: START.plus(after) };
        hearing.listen(&mut snapshot.nodes, snapshot.read_at, after);
        snapshot.node_state(&snapshot.nodes[0])
    }

    #[test]
    fn a_node_with_a_wrong_clock_is_up_while_it_speaks_and_down_when_it_is_silent() {
        let hour = Duration::from_hours(1);
        for wrong in [START, START.minus(hour), START.plus(hour)] {
            let mut hearing = Hearing::default();
            state(&mut hearing, wrong, Duration::ZERO);
            for second in 1..20 {
                let after = Duration::from_secs(second);
                assert_eq!(state(&mut hearing, wrong.plus(after), after), PopState::Ready, "at {second} s");
            }
            let last = Duration::from_secs(19);
            let silent =
                |hearing: &mut Hearing, more| state(hearing, wrong.plus(last), last + NODE_SILENT_AFTER + more);
            assert_eq!(silent(&mut hearing, Duration::ZERO), PopState::Ready);
            assert_eq!(silent(&mut hearing, Duration::from_millis(1)), PopState::Down);
        }
    }

    #[test]
    fn of_a_node_seen_for_the_first_time_its_own_word_stands() {
        assert_eq!(state(&mut Hearing::default(), START, Duration::from_secs(1)), PopState::Ready);
        let mut hearing = Hearing::default();
        let long_after = NODE_SILENT_AFTER + Duration::from_secs(1);
        assert_eq!(state(&mut hearing, START, long_after), PopState::Down, "a record of the last run");
        assert_eq!(state(&mut hearing, START, long_after + Duration::from_secs(1)), PopState::Down);
    }
}
