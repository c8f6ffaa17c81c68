//! A small cluster on loopback: nodes that can be killed, doors, and a UDP path between them that can be made bad.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::disallowed_methods, reason = "IO: waits for conditions with a deadline")]

pub mod path;
pub mod rogue;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc as std_mpsc,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    NodeId, ParticipantId, RoomId,
    media::{Codec, MediaPacket},
    node::{Intent, Session},
    peer::PeerMessage,
    token::Grants,
};
use isthmus_relay::{
    Credentials, DevelopmentCa, Endpoint, FromDoor, IssuedCertificate, Link, Mesh, MeshEvent, Metrics, PacketMetrics,
    PeerAddress, PeerIdentity, Role,
};
use prometheus::{
    Registry,
    proto::{Metric, MetricFamily},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};

pub use path::BadPath;

pub const POP: &str = "testland";
/// How long a test waits for what must happen. Where a bound matters, the test measures it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How many sessions and queries of doors wait for a test to take them.
pub const DOOR_QUEUE: usize = 16;

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub fn identity(role: Role, node: &str) -> PeerIdentity {
    PeerIdentity { role, node: node.parse().unwrap(), pop: POP.parse().unwrap() }
}

pub fn credentials(ca: &DevelopmentCa, identity: &PeerIdentity) -> Credentials {
    let IssuedCertificate { certificate_pem, key_pem } = ca.issue(identity).unwrap();
    Credentials::from_pem(certificate_pem.as_bytes(), key_pem.as_bytes(), ca.ca_pem().as_bytes()).unwrap()
}

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A media node with a runtime of its own, so that it can be ended at any moment.
pub struct Node {
    pub identity: PeerIdentity,
    pub addr: SocketAddr,
    pub events: std_mpsc::Receiver<MeshEvent>,
    pub doors: mpsc::Receiver<FromDoor>,
    pub registry: Registry,
    pub peers: watch::Sender<Vec<PeerAddress>>,
    credentials: Credentials,
    mesh: Option<Mesh>,
    runtime: Option<Runtime>,
}

impl Node {
    pub fn start(ca: &DevelopmentCa, name: &str) -> Self {
        Self::start_with(credentials(ca, &identity(Role::Sfu, name)), loopback())
    }

    fn start_with(credentials: Credentials, addr: SocketAddr) -> Self {
        let runtime = runtime();
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, PacketMetrics::new(&registry).unwrap()).unwrap();
        let (peers, peers_watch) = watch::channel(Vec::new());
        let (events_sender, events) = std_mpsc::channel();
        let (doors_sender, doors) = mpsc::channel(DOOR_QUEUE);
        let on_event = move |event| drop(events_sender.send(event));
        let entered = runtime.enter();
        // After a restart the port is free once the last task of the old runtime has been dropped.
        let endpoint = until(|| Endpoint::bind(addr, &credentials).ok());
        let mesh = Mesh::start(endpoint.clone(), peers_watch, doors_sender, on_event, metrics);
        drop(entered);
        let (addr, identity) = (endpoint.local_addr().unwrap(), endpoint.identity().clone());
        let (mesh, runtime) = (Some(mesh), Some(runtime));
        Self { identity, addr, events, doors, registry, peers, credentials, mesh, runtime }
    }

    pub fn name(&self) -> &NodeId {
        &self.identity.node
    }

    pub fn address(&self) -> PeerAddress {
        self.address_at(self.addr)
    }

    /// Its address as others see it through a path that does not begin at its port.
    pub fn address_at(&self, addr: SocketAddr) -> PeerAddress {
        PeerAddress { node: self.identity.node.clone(), pop: self.identity.pop.clone(), addr }
    }

    /// Ends it in good order: the others are told.
    pub fn close(&mut self) {
        let mesh = self.mesh.take().unwrap();
        self.runtime.as_ref().unwrap().block_on(mesh.close());
    }

    /// Ends it and starts it again with the same certificate on the same port. Within one process nothing dies as by
    /// SIGKILL: it is behind a black hole that nobody hears its last words.
    pub fn restart(self) -> Self {
        let (credentials, addr) = (self.credentials.clone(), self.addr);
        drop(self);
        Self::start_with(credentials, addr)
    }

    /// The next event that `wanted` makes something of; others are passed over.
    pub fn expect<T>(&self, what: &str, mut wanted: impl FnMut(MeshEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            let event = event.unwrap_or_else(|_| panic!("{} waited in vain for {what}", self.identity));
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    pub fn link_to(&self, other: &NodeId) -> Link {
        self.expect(&format!("a link to {other}"), |event| match event {
            MeshEvent::LinkUp { link } if link.node() == other => Some(link),
            _ => None,
        })
    }

    pub fn expect_down(&self, other: &NodeId) {
        self.expect(&format!("the link to {other} to come down"), |event| match event {
            MeshEvent::LinkDown { node } if node == *other => Some(()),
            _ => None,
        });
    }

    /// The value of a counter or gauge, summed over the labels that are not given.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name).flat_map(MetricFamily::get_metric);
        let has = |metric: &Metric, (key, value): &(&str, &str)| {
            metric.get_label().iter().any(|label| label.name() == *key && label.value() == *value)
        };
        metrics
            .filter(|metric| labels.iter().all(|label| has(metric, label)))
            .map(|metric| (metric.get_counter().get_value() + metric.get_gauge().get_value()) as u64)
            .sum()
    }

    pub fn refused(&self, reason: &str) -> u64 {
        self.metric("isthmus_relay_refusals_total", &[("reason", reason)])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Two nodes that know each other, `a` dialling `b` through a path.
pub fn pair(ca: &DevelopmentCa, path: impl FnOnce(SocketAddr) -> BadPath) -> (Node, Node, BadPath) {
    let (a, b) = (Node::start(ca, "a"), Node::start(ca, "b"));
    let path = path(b.addr);
    b.peers.send_replace(vec![a.address()]);
    a.peers.send_replace(vec![b.address_at(path.addr())]);
    (a, b, path)
}

/// Polls for a condition of another thread.
pub fn until<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "a condition did not come true");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub fn session() -> Session {
    Session {
        room: "demo".parse().unwrap(),
        identity: "ana".into(),
        grants: Grants { publish: true, subscribe: true },
        intent: Intent::Join {
            participant: ParticipantId::from_random([7; 10]),
            name: "Ana".into(),
            replaces: None,
            media_only: false,
        },
    }
}

pub fn announcement(number: usize) -> PeerMessage {
    PeerMessage::RoomOpened { room: room(number) }
}

pub fn room(number: usize) -> RoomId {
    format!("room-{number}").parse().unwrap()
}

/// Packet `sequence` of a stream, its payload a function of its number.
pub fn packet(sequence: u16, codec: Codec, payload_bytes: usize) -> MediaPacket {
    MediaPacket {
        sequence,
        timestamp: u32::from(sequence) * 960,
        marker: sequence.is_multiple_of(5),
        codec,
        level: None,
        orientation: None,
        captured_us: Some(u64::from(sequence)),
        descriptor: None,
        payload: (0..payload_bytes).map(|i| (i as u8).wrapping_mul(31) ^ (sequence as u8)).collect::<Vec<_>>().into(),
    }
}
