//! The media nodes of this PoP: a link to each, how busy each is, and which one takes a room.

mod placement;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use isthmus_directory::{NodeRecord, UnixMicros};
use isthmus_protocol::{
    NodeId, PopId, RoomId,
    node::{Answer, NodeStatus, Query},
};
use isthmus_relay::{Endpoint, NodeClient, RelayError};
use tokio::time::timeout;

use self::placement::Candidate;
pub(crate) use self::placement::NoPlace;
use crate::config::MediaNode;

/// How often each node is asked for its load.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long a node has for an answer to a query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node has to say whether it has a room: someone waits to join. One that takes longer is not waited for.
const HAS_ROOM_TIMEOUT: Duration = Duration::from_millis(250);

/// The PoP's media nodes, as configured.
pub(crate) struct Nodes(BTreeMap<NodeId, Node>);

struct Node {
    address: SocketAddr,
    client: NodeClient,
    /// The last answer; none before the first and after a failed one.
    status: Mutex<Option<NodeStatus>>,
}

impl Node {
    fn remember(&self, status: Option<NodeStatus>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn last_status(&self) -> Option<NodeStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A node that has not answered yet counts as idle: being up is enough to take its first room.
    fn candidate<'a>(&self, node: &'a NodeId) -> Candidate<'a> {
        let (draining, load) = self.last_status().map_or((false, 0.0), |status| (status.draining, status.load));
        Candidate { node, up: self.client.is_up(), draining, load, has_room: false }
    }
}

impl Nodes {
    /// Begins to keep a link to each node.
    pub(crate) fn start(endpoint: &Endpoint, nodes: &[MediaNode]) -> Self {
        let start = |node: &MediaNode| {
            let client = NodeClient::start(endpoint.clone(), node.id.clone(), node.address);
            (node.id.clone(), Node { address: node.address, client, status: Mutex::new(None) })
        };
        Self(nodes.iter().map(start).collect())
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.0.iter().map(|(id, node)| node.candidate(id))
    }

    /// The node that takes a newcomer of `room`. Where there is a choice, the nodes are asked whether they have the room:
    /// one round trip inside the PoP, and doors need to know nothing of each other.
    pub(crate) async fn place(&self, room: &RoomId) -> Result<&NodeClient, NoPlace> {
        let open = placement::open(self.candidates())?;
        let holders = if open.len() > 1 { self.who_have(room, &open).await } else { BTreeSet::new() };
        let candidates = open.into_iter().map(|c| Candidate { has_room: holders.contains(c.node), ..c });
        let taken = placement::place(room, candidates)?;
        self.get(taken).ok_or(NoPlace::Down)
    }

    /// The nodes among `open` that say they have `room`.
    async fn who_have<'a>(&self, room: &RoomId, open: &[Candidate<'a>]) -> BTreeSet<&'a NodeId> {
        let asked = open.iter().filter_map(|candidate| Some((candidate.node, self.get(candidate.node)?)));
        let answers = asked.map(|(node, client)| async move {
            let query = client.query(Query::Room { room: room.clone() });
            let answer = timeout(HAS_ROOM_TIMEOUT, query).await;
            matches!(answer, Ok(Ok(Answer::Room { participants: 1.. }))).then_some(node)
        });
        futures_util::future::join_all(answers).await.into_iter().flatten().collect()
    }

    /// The node of that id, if it is of this PoP.
    pub(crate) fn get(&self, id: &NodeId) -> Option<&NodeClient> {
        self.0.get(id).map(|node| &node.client)
    }

    /// Whether a room would find a node, as far as is known.
    pub(crate) fn take_rooms(&self) -> Result<(), NoPlace> {
        placement::open(self.candidates()).map(drop)
    }

    /// Asks every node that can be reached, all at once.
    pub(crate) async fn ask_all(&self, query: &Query) -> Vec<(&NodeId, Result<Answer, RelayError>)> {
        let up = self.0.iter().filter(|(_, node)| node.client.is_up());
        let asked = up.map(|(id, node)| async move { (id, ask(&node.client, query.clone()).await) });
        futures_util::future::join_all(asked).await
    }

    /// Keeps the nodes' loads current; never returns.
    pub(crate) async fn watch_load(&self) {
        let mut ticks = tokio::time::interval(STATUS_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            futures_util::future::join_all(self.0.values().map(refresh)).await;
        }
    }

    /// What this door itself knows of the PoP's nodes that it can reach, as of `now`.
    pub(crate) fn records(&self, pop: &PopId, now: UnixMicros) -> Vec<NodeRecord> {
        let up = self.0.iter().filter(|(_, node)| node.client.is_up());
        up.map(|(id, node)| NodeRecord {
            node: id.clone(),
            pop: pop.clone(),
            relay: node.address,
            status: node.last_status().unwrap_or(NodeStatus { participants: 0, rooms: 0, load: 0.0, draining: false }),
            heard_at: now,
        })
        .collect()
    }

    /// Gives up every link.
    pub(crate) fn close(&self) {
        for node in self.0.values() {
            node.client.close();
        }
    }
}

async fn ask(client: &NodeClient, query: Query) -> Result<Answer, RelayError> {
    timeout(QUERY_TIMEOUT, client.query(query)).await.unwrap_or(Err(RelayError::TimedOut))
}

async fn refresh(node: &Node) {
    // A node that went away may come back with a clean slate: what it said before no longer holds.
    let status = match ask(&node.client, Query::Status).await {
        Ok(Answer::Status(status)) => Some(status),
        Ok(_) | Err(_) => None,
    };
    node.remember(status);
}
