//! The full mesh of links between media nodes, and the doors that come to this one.
//!
//! Of two nodes the one with the smaller [`NodeId`] dials, so that there is one link between them. A newer connection
//! of the same node takes the place of the older one: it is a node that restarted, or that has seen the old one die
//! before we did. Both sides must have each other among their peers.
#![expect(clippy::disallowed_methods, reason = "IO: measures how long links stood, draws the backoff's jitter")]

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use isthmus_protocol::{
    NodeId, PopId,
    media::MediaPacket,
    peer::{PeerMessage, StreamId},
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle, JoinSet},
    time::sleep,
};
use tracing::{debug, info};

use crate::{
    backoff::Backoff,
    doors::{self, FromDoor},
    endpoint::Endpoint,
    identity::{PeerIdentity, Role},
    link::{self, Link, Surroundings},
    listener::{Admitted, Listener, Stranger},
    metrics::{LinkCounters, Metrics},
    reason::CloseReason,
};

/// Peers of one node. Full: the rest of the list is not dialled and not let in.
pub const MAX_PEERS: usize = 256;

/// Where a peer node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// The node.
    pub node: NodeId,
    /// Its PoP.
    pub pop: PopId,
    /// Its relay's address.
    pub addr: SocketAddr,
}

/// What happens on the mesh. Of each link, `LinkUp` comes first and `LinkDown` last.
#[derive(Debug)]
pub enum MeshEvent {
    /// A peer is reached. What it should know is to be sent on the link, from the beginning.
    LinkUp {
        /// The link.
        link: Link,
    },
    /// A peer is not reached any more. What it told is void.
    LinkDown {
        /// The peer.
        node: NodeId,
    },
    /// A peer says something; in order, without loss while the link is up.
    Control {
        /// The link it came by. Whoever cannot take it must [reset](Link::reset) the link, since it will not come again.
        link: Link,
        /// What it says.
        message: PeerMessage,
    },
    /// A packet from a peer; each once, in the order of arrival.
    Media {
        /// The peer.
        node: NodeId,
        /// The number this node chose for what it asked for.
        stream: StreamId,
        /// The packet.
        packet: MediaPacket,
    },
}

pub(crate) type Events = Arc<dyn Fn(MeshEvent) + Send + Sync>;

/// The relay of one media node: keeps a link to every peer and serves doors until it is closed or dropped.
pub struct Mesh {
    endpoint: Endpoint,
    task: JoinHandle<()>,
}

impl Mesh {
    /// Starts it. `peers` may change at any time and may hold this node itself; `events` is called from relay tasks and
    /// must not block; `doors` is the queue of what doors want, with a bound of the caller's (full: the door waits up
    /// to 3 s and is then told that the node is busy).
    pub fn start(
        endpoint: Endpoint,
        peers: watch::Receiver<Vec<PeerAddress>>,
        doors: mpsc::Sender<FromDoor>,
        events: impl Fn(MeshEvent) + Send + Sync + 'static,
        metrics: Metrics,
    ) -> Self {
        let around = Surroundings {
            own: endpoint.identity().clone(),
            events: Arc::new(events),
            counters: LinkCounters::new(&metrics),
            metrics: metrics.clone(),
        };
        let listener = Listener::new(metrics);
        let shared = Shared {
            endpoint: endpoint.clone(),
            peers,
            doors,
            listener,
            around,
            seats: Mutex::default(),
            up: Mutex::default(),
        };
        Self { endpoint, task: tokio::spawn(run(Arc::new(shared))) }
    }

    /// Closes every link and every door's connection, says so to the other sides, and waits for the last event.
    pub async fn close(mut self) {
        self.endpoint.close().await;
        // The task ends by itself once the endpoint is closed; if it panicked there is nothing left to wait for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.endpoint.close_now();
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

struct Shared {
    endpoint: Endpoint,
    peers: watch::Receiver<Vec<PeerAddress>>,
    doors: mpsc::Sender<FromDoor>,
    listener: Listener,
    around: Surroundings,
    seats: Mutex<HashMap<NodeId, Arc<Seat>>>,
    up: Mutex<BTreeSet<NodeId>>,
}

/// The one link a node may have.
#[derive(Default)]
struct Seat {
    /// The newest connection of the node.
    newest: Mutex<Option<quinn::Connection>>,
    /// Held while a link stands, so that the next begins after the last has ended.
    turn: tokio::sync::Mutex<()>,
}

async fn run(shared: Arc<Shared>) {
    let mut peers = shared.peers.clone();
    let mut tasks = JoinSet::new();
    let mut dialled: HashMap<PeerAddress, AbortHandle> = HashMap::new();
    peers.mark_changed();
    loop {
        tokio::select! {
            incoming = shared.endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                if let Some(stranger) = shared.listener.consider(incoming) {
                    tasks.spawn(shared.clone().answer(stranger));
                }
            }
            // Once the list's owner is gone it stays as it is.
            Ok(()) = peers.changed() => {
                let wanted: Vec<PeerAddress> = peers.borrow_and_update().clone();
                shared.reconcile(&wanted, &mut dialled, &mut tasks);
            }
            Some(_) = tasks.join_next() => (),
        }
    }
    tasks.shutdown().await;
}

impl Shared {
    /// Dials who is new and is ours to dial, stops dialling who is gone.
    fn reconcile(
        self: &Arc<Self>,
        wanted: &[PeerAddress],
        dialled: &mut HashMap<PeerAddress, AbortHandle>,
        tasks: &mut JoinSet<()>,
    ) {
        let ours = |peer: &&PeerAddress| self.around.own.node < peer.node;
        let wanted: Vec<&PeerAddress> = wanted.iter().take(MAX_PEERS).filter(ours).collect();
        dialled.retain(|peer, task| {
            let keep = wanted.contains(&peer);
            if !keep {
                task.abort();
            }
            keep
        });
        for peer in wanted {
            if !dialled.contains_key(peer) {
                dialled.insert(peer.clone(), tasks.spawn(self.clone().keep_dialling(peer.clone())));
            }
        }
        lock(&self.seats).retain(|node, seat| self.is_listed(node) || Arc::strong_count(seat) > 1);
        self.show_links();
    }

    async fn keep_dialling(self: Arc<Self>, peer: PeerAddress) {
        let identity = PeerIdentity { role: Role::Sfu, node: peer.node, pop: peer.pop };
        let mut backoff = Backoff::new();
        loop {
            let stood = match self.endpoint.dial(&identity, peer.addr).await {
                Ok(connection) => self.carry(connection, &identity).await,
                Err(error) => {
                    debug!(peer = %identity, addr = %peer.addr, %error, "cannot reach a peer");
                    Duration::ZERO
                }
            };
            sleep(backoff.delay(stood, rand::random())).await;
        }
    }

    async fn answer(self: Arc<Self>, stranger: Stranger) {
        let Some(Admitted { connection, identity, place }) = self.listener.admit(stranger).await else { return };
        match identity.role {
            Role::Door => match doors::serve(&connection, &identity, &self.doors, &self.around.metrics).await {
                CloseReason::Done => CloseReason::Done.close(&connection),
                reason => self.listener.refuse(&connection, reason),
            },
            Role::Sfu if identity.node >= self.around.own.node => self.listener.refuse(&connection, CloseReason::Role),
            Role::Sfu => {
                let listed = self.address_of(&identity);
                match listed {
                    Some(address) => {
                        tokio::select! {
                            _ = self.carry(connection.clone(), &identity) => (),
                            () = self.until_unlisted(&address) => CloseReason::UnknownPeer.close(&connection),
                        }
                    }
                    None => self.listener.refuse(&connection, CloseReason::UnknownPeer),
                }
            }
        }
        drop(place);
    }

    /// Makes a link of a connection and serves it to its end; says how long it stood.
    async fn carry(&self, connection: quinn::Connection, peer: &PeerIdentity) -> Duration {
        let seat = lock(&self.seats).entry(peer.node.clone()).or_default().clone();
        if let Some(older) = lock(&seat.newest).replace(connection.clone()) {
            CloseReason::Superseded.close(&older);
        }
        let _turn = seat.turn.lock().await;
        let control = match link::introduce(&connection, &self.around.own, peer).await {
            Ok(control) => control,
            Err(reason) => {
                self.listener.refuse_unless_refused(&connection, reason);
                return Duration::ZERO;
            }
        };
        let since = Instant::now();
        let standing = Standing::begin(self, &connection, peer);
        let reason = link::serve(&connection, control, peer, &self.around).await;
        self.around.metrics.links_down.with_label_values(&[reason.as_str()]).inc();
        drop(standing);
        if reason == CloseReason::Role {
            self.around.metrics.refused(reason.as_str());
        }
        info!(%peer, %reason, "link down");
        since.elapsed()
    }

    fn is_listed(&self, node: &NodeId) -> bool {
        self.peers.borrow().iter().take(MAX_PEERS).any(|peer| peer.node == *node)
    }

    fn address_of(&self, identity: &PeerIdentity) -> Option<PeerAddress> {
        let peers = self.peers.borrow();
        peers.iter().take(MAX_PEERS).find(|peer| peer.node == identity.node && peer.pop == identity.pop).cloned()
    }

    /// Waits until the peer is taken off the list. Where it is dialled from does not matter, so its address may change.
    async fn until_unlisted(&self, peer: &PeerAddress) {
        let listed = |peers: &Vec<PeerAddress>| {
            peers.iter().take(MAX_PEERS).any(|other| other.node == peer.node && other.pop == peer.pop)
        };
        if self.peers.clone().wait_for(|peers| !listed(peers)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn show_links(&self) {
        let up = lock(&self.up);
        let peers = self.peers.borrow();
        let others = peers.iter().take(MAX_PEERS).filter(|peer| peer.node != self.around.own.node);
        let down = others.filter(|peer| !up.contains(&peer.node)).count();
        let links = &self.around.metrics.links;
        links.with_label_values(&["up"]).set(i64::try_from(up.len()).unwrap_or(i64::MAX));
        links.with_label_values(&["down"]).set(i64::try_from(down).unwrap_or(i64::MAX));
    }
}

/// A link that is up. However its task ends, dropping this says that it is down.
struct Standing<'a> {
    shared: &'a Shared,
    connection: &'a quinn::Connection,
    peer: &'a PeerIdentity,
}

impl<'a> Standing<'a> {
    fn begin(shared: &'a Shared, connection: &'a quinn::Connection, peer: &'a PeerIdentity) -> Self {
        info!(%peer, rtt_ms = connection.rtt().as_millis(), "link up");
        lock(&shared.up).insert(peer.node.clone());
        shared.show_links();
        Self { shared, connection, peer }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        CloseReason::Done.close(self.connection);
        lock(&self.shared.up).remove(&self.peer.node);
        self.shared.show_links();
        let metrics = &self.shared.around.metrics;
        for gauge in [&metrics.rtt_seconds, &metrics.speech_loss] {
            // There is nothing to remove when the link never lived to be measured.
            let _ = gauge.remove_label_values(&[self.peer.node.as_str()]);
        }
        (self.shared.around.events)(MeshEvent::LinkDown { node: self.peer.node.clone() });
    }
}

/// What these locks guard is whole at every moment, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
