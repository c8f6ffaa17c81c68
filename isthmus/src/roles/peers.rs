//! The media nodes that this one should have a link to: those of the configuration and those of the directory.

use std::{collections::BTreeMap, time::Duration};

use isthmus_directory::{Directory, Snapshot};
use isthmus_protocol::NodeId;
use isthmus_relay::PeerAddress;
use tokio::{sync::watch, time::sleep};

use super::outage::Outage;

/// How often the directory is asked for new nodes.
const REFRESH: Duration = Duration::from_secs(3);

/// Keeps `peers` current; never returns. While the store is down the last known ones stay.
pub(super) async fn follow(
    directory: &Directory,
    own: &NodeId,
    known: &[PeerAddress],
    peers: &watch::Sender<Vec<PeerAddress>>,
) {
    let mut outage = Outage::new("peers stay as they were last known");
    loop {
        let snapshot = directory.snapshot().await;
        outage.note(&snapshot);
        if let Ok(snapshot) = snapshot {
            let merged = merge(own, known, &snapshot);
            peers.send_if_modified(|peers| {
                let changed = *peers != merged;
                *peers = merged;
                changed
            });
        }
        sleep(REFRESH).await;
    }
}

/// Every node but the own one. Where the configuration and the directory differ, the configuration is right. Nodes that
/// the directory holds for down are peers as well: whether they can be reached only a link shows, and a store that
/// lags must not cut one that stands.
fn merge(own: &NodeId, known: &[PeerAddress], snapshot: &Snapshot) -> Vec<PeerAddress> {
    let recorded = snapshot.nodes.iter().map(|record| PeerAddress {
        node: record.node.clone(),
        pop: record.pop.clone(),
        addr: record.relay,
    });
    let peers: BTreeMap<NodeId, PeerAddress> =
        recorded.chain(known.iter().cloned()).map(|peer| (peer.node.clone(), peer)).collect();
    peers.into_values().filter(|peer| peer.node != *own).collect()
}

#[cfg(test)]
mod tests {
    use isthmus_directory::{NodeRecord, UnixMicros};
    use isthmus_protocol::node::NodeStatus;

    use super::*;

    fn record(node: &str, port: u16) -> NodeRecord {
        NodeRecord {
            node: node.parse().unwrap(),
            pop: "zurich".parse().unwrap(),
            relay: ([127, 0, 0, 1], port).into(),
            status: NodeStatus { participants: 0, rooms: 0, load: 0.0, draining: false },
            heard_at: UnixMicros(0),
        }
    }

    #[test]
    fn the_configuration_is_right_and_the_directory_adds_even_nodes_it_holds_for_down() {
        let known = [PeerAddress {
            node: "zurich-sfu-1".parse().unwrap(),
            pop: "zurich".parse().unwrap(),
            addr: ([10, 0, 0, 1], 1).into(),
        }];
        let nodes = vec![record("panama-sfu-1", 1), record("zurich-sfu-1", 2), record("zurich-sfu-2", 3)];
        let snapshot = Snapshot { pops: Vec::new(), nodes, read_at: UnixMicros(u64::MAX) };
        let merged = merge(&"panama-sfu-1".parse().unwrap(), &known, &snapshot);
        let addresses: Vec<String> = merged.iter().map(|peer| format!("{} {}", peer.node, peer.addr)).collect();
        assert_eq!(addresses, ["zurich-sfu-1 10.0.0.1:1", "zurich-sfu-2 127.0.0.1:3"]);
    }
}
