//! The node around the shards: it takes doors' sessions and peers' news off the relay and hands them to the shard that
//! has the participant, or that speaks for the node of the room.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use isthmus_protocol::{
    ParticipantId, RoomId,
    node::{Answer, Intent, NodeStatus, Query, RoomView, Session},
    signal::{ClientMessage, ServerMessage},
};
use isthmus_relay::{
    Credentials, Endpoint, FrameReceiver, FrameSender, FromDoor, Mesh, MeshEvent, PacketMetrics, PeerAddress,
};
use prometheus::{Registry, TextEncoder};
use rustc_hash::FxHashSet;
use str0m::config::DtlsCert;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    config::Config,
    core::{
        room::{Here, StreamIds},
        seating::{Bounds, Seating, home_of},
    },
    metrics::Metrics,
    seats::Seats,
    session,
    shard::{self, Command, Inbox, News, Post, Shard, Surroundings},
};

/// Messages that wait for a door: a client that does not read that many loses its door and finds everything again when it
/// resumes.
const OUTBOX_BOUND: usize = 512;
/// Sessions and queries that wait to be handed to a shard; the relay stops reading from doors meanwhile.
const DOORS_BOUND: usize = 256;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be had.
    #[error("cannot listen on {address} ({what}): {error}")]
    Listen {
        /// What for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A metric is registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The crypto library made no certificate.
    #[error("no DTLS certificate could be made")]
    Certificate,
}

/// A running media node.
pub struct Node {
    shared: Arc<Shared>,
    mesh: Mesh,
    threads: Vec<std::thread::JoinHandle<()>>,
    failed: Arc<Notify>,
    relay_address: SocketAddr,
    media_addresses: Vec<SocketAddr>,
}

struct Shared {
    shards: Vec<Inbox>,
    seats: Seats,
    metrics: Metrics,
    registry: Registry,
    max_participants: usize,
    draining: AtomicBool,
    attachments: AtomicU64,
}

impl Node {
    /// Starts the shards and the relay. `peers` may change at any time.
    pub fn start(
        config: &Config,
        credentials: &Credentials,
        peers: watch::Receiver<Vec<PeerAddress>>,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let packets = PacketMetrics::new(registry)?;
        let metrics = Metrics::new(registry, packets.clone())?;
        let relay_metrics = isthmus_relay::Metrics::new(registry, packets)?;
        let identity = credentials.identity();
        let here = Here { pop: identity.pop.clone(), node: identity.node.clone() };
        let failed = Arc::new(Notify::new());
        let bounds = Bounds { shard: config.max_participants_of_shard(), room: config.room_per_shard };
        let seats = Seats::new(Seating::new(config.shard_count(), bounds));
        let started = start_shards(config, here, &metrics, &seats, &failed)?;
        let media_addresses = started.iter().map(|shard| shard.address).collect();
        let (shards, threads) = started.into_iter().map(|shard| (shard.inbox, shard.thread)).unzip();
        let shared = Arc::new(Shared {
            shards,
            seats,
            metrics,
            registry: registry.clone(),
            max_participants: config.max_participants,
            draining: AtomicBool::new(false),
            attachments: AtomicU64::new(0),
        });
        let listen = |error| StartError::Listen { what: "relay", address: config.relay_listen, error };
        let endpoint = Endpoint::bind(config.relay_listen, credentials).map_err(listen)?;
        let relay_address = endpoint.local_addr().map_err(listen)?;
        let (doors, from_doors) = mpsc::channel(DOORS_BOUND);
        let news = shared.clone();
        let mesh = Mesh::start(endpoint, peers, doors, move |event| news.hand_on(event), relay_metrics);
        tokio::spawn(serve_doors(shared.clone(), from_doors));
        Ok(Self { shared, mesh, threads, failed, relay_address, media_addresses })
    }

    /// Waits for the end of a shard that was not told to end. Its rooms stand still then, and only a new process helps:
    /// clients find each other again elsewhere when this one is gone.
    pub async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Where the relay listens.
    pub fn relay_address(&self) -> SocketAddr {
        self.relay_address
    }

    /// Where clients reach each shard.
    pub fn media_addresses(&self) -> &[SocketAddr] {
        &self.media_addresses
    }

    /// Load and state, as told to doors and the directory.
    pub fn status(&self) -> NodeStatus {
        self.shared.status()
    }

    /// Every room with someone here. Asks no shard, so that it may be asked often.
    pub fn open_rooms(&self) -> Vec<RoomId> {
        self.shared.seats.rooms()
    }

    /// Ends every session, tells peers and stops.
    pub async fn stop(self) {
        for shard in &self.shared.shards {
            // A shard that has stopped already needs no telling.
            let _ = shard.command(Command::Stop).await;
        }
        let joined = tokio::task::spawn_blocking(move || self.threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a shard had panicked");
        }
        self.mesh.close().await;
    }
}

fn start_shards(
    config: &Config,
    here: Here,
    metrics: &Metrics,
    seats: &Seats,
    failed: &Arc<Notify>,
) -> Result<Vec<Shard>, StartError> {
    let listen = |error| StartError::Listen { what: "media", address: config.media_listen, error };
    let certificate = certificate().ok_or(StartError::Certificate)?;
    let posts: Vec<Post> = (0..config.shard_count()).map(|_| Post::new()).collect::<io::Result<_>>().map_err(listen)?;
    let around = Surroundings {
        here,
        certificate,
        metrics: metrics.clone(),
        seats: seats.clone(),
        inboxes: posts.iter().map(|post| post.inbox.clone()).collect(),
        failed: failed.clone(),
    };
    let start = |(index, post)| shard::start(index, config, post, around.clone());
    (0u8..).zip(posts).map(start).collect::<io::Result<_>>().map_err(listen)
}

/// One certificate for all of the node's sessions: what identifies a session is its ICE credentials, and making a key for
/// each would cost every join some milliseconds.
fn certificate() -> Option<DtlsCert> {
    str0m::crypto::from_feature_flags().dtls_provider.generate_certificate()
}

async fn serve_doors(shared: Arc<Shared>, mut from_doors: mpsc::Receiver<FromDoor>) {
    while let Some(request) = from_doors.recv().await {
        let shared = shared.clone();
        match request {
            FromDoor::Session { session, sender, receiver, .. } => {
                tokio::spawn(async move { shared.serve_session(session, sender, receiver).await });
            }
            FromDoor::Query { query, reply } => {
                tokio::spawn(async move {
                    // The door may have given up waiting.
                    let _ = reply.send(shared.answer(query).await);
                });
            }
        }
    }
}

impl Shared {
    /// The shard that speaks for the node of a room.
    fn home_of(&self, room: &RoomId) -> &Inbox {
        &self.shards[usize::from(home_of(room, self.shards.len() as u8))]
    }

    /// The shard that has the session, or takes it.
    fn shard_for(&self, session: &Session) -> &Inbox {
        let shard = match &session.intent {
            Intent::Join { participant, replaces, .. } => {
                Some(self.seats.place(&session.room, participant, replaces.as_ref()))
            }
            Intent::Resume { participant } => self.seats.find(participant),
        };
        // Of a session that is gone any shard says so.
        shard.and_then(|shard| self.shards.get(usize::from(shard))).unwrap_or_else(|| self.home_of(&session.room))
    }

    /// Hands news of a peer to the shards. Called from relay tasks; must not wait.
    fn hand_on(&self, event: MeshEvent) {
        match &event {
            MeshEvent::LinkUp { .. } | MeshEvent::LinkDown { .. } => {
                for shard in &self.shards {
                    let copy = match &event {
                        MeshEvent::LinkUp { link } => MeshEvent::LinkUp { link: link.clone() },
                        MeshEvent::LinkDown { node } => MeshEvent::LinkDown { node: node.clone() },
                        MeshEvent::Control { .. } | MeshEvent::Media { .. } => return,
                    };
                    self.deliver(shard, copy);
                }
            }
            MeshEvent::Control { message, .. } => self.deliver(self.home_of(message.room()), event),
            MeshEvent::Media { stream, .. } => match self.shards.get(usize::from(StreamIds::shard_of(*stream))) {
                Some(shard) => self.deliver(shard, event),
                None => self.metrics.packets.drops.with_label_values(&["unknown_stream"]).inc(),
            },
        }
    }

    fn deliver(&self, shard: &Inbox, event: MeshEvent) {
        let Some(News::Mesh(event)) = shard.news(News::Mesh(event)) else { return };
        let reason = match event {
            MeshEvent::Media { .. } => "shard_media_full",
            MeshEvent::Control { link, .. } | MeshEvent::LinkUp { link } => {
                link.reset();
                "shard_news_full"
            }
            MeshEvent::LinkDown { node } => {
                tracing::error!(%node, "a shard that is stuck was not told that a link is down");
                "shard_news_full"
            }
        };
        self.metrics.packets.drops.with_label_values(&[reason]).inc();
    }

    async fn serve_session(
        self: Arc<Self>,
        session: Session,
        mut sender: FrameSender<ServerMessage>,
        receiver: FrameReceiver<ClientMessage>,
    ) {
        let shard = self.shard_for(&session).clone();
        let participant = participant_of(&session).clone();
        let attachment = self.attachments.fetch_add(1, Ordering::Relaxed);
        let (outbox, messages) = mpsc::channel(OUTBOX_BOUND);
        if shard.command(Command::Open { session, attachment, outbox }).await.is_err() {
            return;
        }
        session::carry(&shard, (&participant, attachment), messages, &mut sender, receiver).await;
        // A shard that has stopped has no sessions left to detach.
        let _ = shard.command(Command::Detached { participant, attachment }).await;
        sender.finish().await;
    }

    async fn answer(&self, query: Query) -> Answer {
        match query {
            Query::Metrics => {
                let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default();
                Answer::Metrics { text }
            }
            Query::Rooms => Answer::Rooms { rooms: self.rooms().await },
            Query::Status => Answer::Status(self.status()),
            Query::Room { room } => {
                Answer::Room { participants: u32::try_from(self.seats.room_size(&room)).unwrap_or(u32::MAX) }
            }
            Query::Drain { deadline_s } => {
                self.draining.store(true, Ordering::Relaxed);
                for shard in &self.shards {
                    // A shard that has stopped is drained.
                    let _ = shard.command(Command::Drain { deadline_s }).await;
                }
                Answer::Status(self.status())
            }
        }
    }

    async fn rooms(&self) -> Vec<RoomView> {
        let mut views = Vec::new();
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            if shard.command(Command::Rooms { reply }).await.is_ok() {
                views.extend(answer.await.unwrap_or_default());
            }
        }
        merge(views)
    }

    fn status(&self) -> NodeStatus {
        let participants = self.metrics.participants.get().max(0);
        NodeStatus {
            participants: u32::try_from(participants).unwrap_or(u32::MAX),
            rooms: u32::try_from(self.metrics.rooms.get().max(0)).unwrap_or(u32::MAX),
            load: (participants as f64 / self.max_participants.max(1) as f64).max(self.seats.mean_busy()).min(1.0),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }
}

fn participant_of(session: &Session) -> &ParticipantId {
    match &session.intent {
        Intent::Join { participant, .. } | Intent::Resume { participant } => participant,
    }
}

/// One view of each room, of those that its shards have: what is remote to one shard may be local to another.
fn merge(views: Vec<RoomView>) -> Vec<RoomView> {
    let mut rooms: BTreeMap<RoomId, RoomView> = BTreeMap::new();
    for view in views {
        let Some(room) = rooms.get_mut(&view.room) else {
            rooms.insert(view.room.clone(), view);
            continue;
        };
        room.local.extend(view.local);
        room.remote.extend(view.remote);
        room.peers.extend(view.peers);
    }
    for room in rooms.values_mut() {
        let local: FxHashSet<&ParticipantId> = room.local.iter().map(|view| &view.id).collect();
        room.remote.retain(|id| !local.contains(id));
        room.remote.sort_unstable();
        room.remote.dedup();
    }
    rooms.into_values().collect()
}

#[cfg(test)]
mod tests {
    use isthmus_protocol::node::ParticipantView;

    use super::*;

    #[test]
    fn a_room_on_two_shards_is_shown_as_one() {
        let view = |local: &[&str], remote: &[&str], peers: &[&str]| RoomView {
            room: "demo".parse().expect("valid"),
            local: local
                .iter()
                .map(|id| ParticipantView {
                    id: id.parse().expect("valid"),
                    connected: true,
                    attached: true,
                    transport: None,
                    tracks: 0,
                    estimate_kbps: None,
                })
                .collect(),
            remote: remote.iter().map(|id| id.parse().expect("valid")).collect(),
            peers: peers.iter().map(|id| id.parse().expect("valid")).collect(),
        };
        let home = view(&["a"], &["b", "c"], &["zurich-sfu-1"]);
        let branch = view(&["b"], &["a", "c"], &[]);
        let merged = merge(vec![home, branch]);
        assert_eq!(merged, [view(&["a", "b"], &["c"], &["zurich-sfu-1"])]);
    }
}
