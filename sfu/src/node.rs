//! The node around the shards: it takes doors' sessions and peers' news off the relay and hands them to the shard that
//! has the room.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault},
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
use rustc_hash::FxHasher;
use str0m::config::DtlsCert;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    config::Config,
    core::room::{Here, StreamIds},
    metrics::Metrics,
    shard::{self, Command, Inbox, Shard},
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
        let started = start_shards(config, &here, &metrics, &failed)?;
        let media_addresses = started.iter().map(|shard| shard.address).collect();
        let (shards, threads) = started.into_iter().map(|shard| (shard.inbox, shard.thread)).unzip();
        let shared = Arc::new(Shared {
            shards,
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

    /// Every room with someone here.
    pub async fn rooms(&self) -> Vec<RoomView> {
        self.shared.rooms().await
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
    here: &Here,
    metrics: &Metrics,
    failed: &Arc<Notify>,
) -> Result<Vec<Shard>, StartError> {
    let certificate = certificate().ok_or(StartError::Certificate)?;
    (0..config.shard_count())
        .map(|index| {
            shard::start(index, config, here.clone(), certificate.clone(), metrics.clone(), failed.clone())
                .map_err(|error| StartError::Listen { what: "media", address: config.media_listen, error })
        })
        .collect()
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
    fn shard_of(&self, room: &RoomId) -> &Inbox {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(room);
        // The product keeps the upper bits, which are the well mixed ones of this hash.
        let index = (u128::from(hash) * self.shards.len() as u128) >> 64;
        &self.shards[index as usize]
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
            MeshEvent::Control { message, .. } => self.deliver(self.shard_of(message.room()), event),
            MeshEvent::Media { stream, .. } => match self.shards.get(usize::from(StreamIds::shard_of(*stream))) {
                Some(shard) => self.deliver(shard, event),
                None => self.metrics.packets.drops.with_label_values(&["unknown_stream"]).inc(),
            },
        }
    }

    fn deliver(&self, shard: &Inbox, event: MeshEvent) {
        let Some(event) = shard.news(event) else { return };
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
        mut receiver: FrameReceiver<ClientMessage>,
    ) {
        let shard = self.shard_of(&session.room).clone();
        let participant = participant_of(&session).clone();
        let attachment = self.attachments.fetch_add(1, Ordering::Relaxed);
        let (outbox, mut messages) = mpsc::channel(OUTBOX_BOUND);
        if shard.command(Command::Open { session, attachment, outbox }).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                message = messages.recv() => {
                    let Some(message) = message else { break };
                    let last = matches!(message, ServerMessage::Ended { .. } | ServerMessage::Error { fatal: true, .. });
                    if sender.send(&message).await.is_err() || last {
                        break;
                    }
                }
                incoming = receiver.receive() => {
                    // The stream ended, or broke: either way the session is detached and may be taken up again.
                    let Ok(Some(message)) = incoming else { break };
                    let command = Command::Message { participant: participant.clone(), attachment, message };
                    if shard.command(command).await.is_err() {
                        break;
                    }
                }
            }
        }
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
        let mut rooms = Vec::new();
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            if shard.command(Command::Rooms { reply }).await.is_ok() {
                rooms.extend(answer.await.unwrap_or_default());
            }
        }
        rooms
    }

    fn status(&self) -> NodeStatus {
        let participants = self.metrics.participants.get().max(0);
        NodeStatus {
            participants: u32::try_from(participants).unwrap_or(u32::MAX),
            rooms: u32::try_from(self.metrics.rooms.get().max(0)).unwrap_or(u32::MAX),
            load: (participants as f64 / self.max_participants.max(1) as f64).min(1.0),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }
}

fn participant_of(session: &Session) -> &ParticipantId {
    match &session.intent {
        Intent::Join { participant, .. } | Intent::Resume { participant } => participant,
    }
}
