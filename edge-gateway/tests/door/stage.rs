//! What the tests play on: certificates and keys in a folder, media nodes that follow a script, doors.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use isthmus_directory::{Directory, People, StoreConfig, run_store};
use isthmus_edge_gateway::{
    Config, Gateway,
    config::{Accounts, AsIf, Development, Guests, Limits, MailConfig, MediaNode, SigningKey, Tokens, TrustedKey},
};
use isthmus_protocol::{
    NodeId, ParticipantId, PopId, RoomId,
    node::{Answer, Intent, NodeStatus, Query, RoomView, Session},
    problem::{Code, Problem},
    signal::{ClientMessage, LeaveReason, ServerMessage, VERSION, Welcome},
    token::{Grants, Issuer, generate_key_pair},
};
use isthmus_relay::{
    Credentials, DevelopmentCa, Endpoint, FrameReceiver, FrameSender, FromDoor, Mesh, PeerIdentity, Role,
};
use prometheus::Registry;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; no test waits for it unless it fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The origin of the app in these tests.
pub(crate) const APP: &str = "https://call.example.org";
pub(crate) const ANSWER: &str = "v=0\r\na=ice-lite\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:srv1\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 192.0.2.9 7110 typ host\r\na=sendrecv\r\n";
pub(crate) const BOTH: Grants = Grants { publish: true, subscribe: true };

/// Asks again and again until there is an answer, and gives it.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, answered).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

pub(crate) fn room(name: &str) -> RoomId {
    name.parse().expect("a valid room")
}

/// An offer with one m-line of this direction.
pub(crate) fn offer(direction: &str) -> String {
    format!(
        "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na={direction}\r\n"
    )
}

#[expect(clippy::disallowed_methods, reason = "IO: tokens are valid around the present")]
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The folder and the keys.
pub(crate) struct Stage {
    pub(crate) dir: TempDir,
    pub(crate) ca: DevelopmentCa,
    pub(crate) issuer: Issuer,
    pop: PopId,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let (private, public) = generate_key_pair().expect("keys");
        fs::write(dir.path().join("private.pem"), &private).expect("written");
        fs::write(dir.path().join("public.pem"), public).expect("written");
        let issuer = Issuer::new("test", "k1", private.as_bytes()).expect("an issuer");
        let ca = DevelopmentCa::create().expect("a CA");
        Self { dir, ca, issuer, pop: "panama".parse().expect("valid") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn token(&self, room_name: &str, identity: &str, grants: Grants) -> String {
        self.issuer.issue(&room(room_name), identity, "", grants, now_s(), 60).expect("a token")
    }

    fn credentials(&self, role: Role, node: &str) -> Credentials {
        let identity = PeerIdentity { role, node: node.parse().expect("valid"), pop: self.pop.clone() };
        let issued = self.ca.issue(&identity).expect("a certificate");
        Credentials::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), self.ca.ca_pem().as_bytes())
            .expect("own certificate")
    }

    /// A media node that follows the script.
    pub(crate) fn node(&self, name: &str) -> ScriptedNode {
        let any = "127.0.0.1:0".parse::<SocketAddr>().expect("an address");
        let endpoint = Endpoint::bind(any, &self.credentials(Role::Sfu, name)).expect("bound");
        let addr = endpoint.local_addr().expect("bound");
        let registry = Registry::new();
        let packets = isthmus_relay::PacketMetrics::new(&registry).expect("metrics");
        let metrics = isthmus_relay::Metrics::new(&registry, packets).expect("metrics");
        let (doors, from_doors) = mpsc::channel(64);
        let (log, heard) = mpsc::unbounded_channel();
        let (_, peers) = watch::channel(Vec::new());
        let script = Arc::new(Script {
            node: name.parse().expect("valid"),
            pop: self.pop.clone(),
            sessions: Mutex::default(),
            log,
            draining: AtomicBool::new(false),
            load: AtomicU32::new(10),
            slow: Semaphore::new(0),
        });
        let mesh = Mesh::start(endpoint, peers, doors, |_| {}, metrics);
        tokio::spawn(script.clone().serve(from_doors));
        ScriptedNode { addr, heard, script, _mesh: mesh }
    }

    /// The configuration of a door in front of these nodes, with ports of the system's choice.
    pub(crate) fn config(&self, nodes: &[&ScriptedNode]) -> Config {
        let any = "127.0.0.1:0".parse().expect("an address");
        let node = |node: &&ScriptedNode| MediaNode { id: node.script.node.clone(), address: node.addr };
        let as_if = AsIf {
            name: "bogota".into(),
            label: "Bogotá".into(),
            prefix: "192.0.2.0/24".parse().expect("a network"),
            rtt_ms: [(self.pop.clone(), 120.0)].into(),
        };
        Config {
            listen: any,
            ops_listen: any,
            public_url: "http://door.example.org".into(),
            pop: self.pop.clone(),
            region: "Panama City, Panama".into(),
            latitude: None,
            longitude: None,
            places: None,
            nodes: nodes.iter().map(node).collect(),
            relay_bind: any,
            allowed_origins: vec![APP.into()],
            pop_origins: vec!["https://zurich.example.org".into()],
            tls: None,
            web_root: None,
            tokens: Tokens {
                issuer: "test".into(),
                trusted: vec![TrustedKey { id: "k1".into(), public_key: self.path("public.pem") }],
                signing: Some(SigningKey { id: "k1".into(), private_key: self.path("private.pem") }),
            },
            guests: Guests { allowed: true, token_ttl_s: 60 },
            accounts: None,
            limits: Limits::default(),
            trusted_proxies: Vec::new(),
            cloudfront: false,
            drain_deadline_s: 1,
            development: Some(Development { as_if: vec![as_if] }),
        }
    }

    /// A door that is ready.
    pub(crate) async fn door(&self, config: Config) -> RunningDoor {
        let door = self.door_that_starts(config).await;
        door.until_ready().await;
        door
    }

    /// A node and a door in front of it that has accounts, whose mails stand in the folder `mail`.
    pub(crate) async fn with_accounts(&self) -> (ScriptedNode, RunningDoor) {
        let node = self.node("panama-sfu-1");
        let mail = MailConfig {
            from: "Isthmus <isthmus@example.org>".into(),
            folder: Some(self.path("mail")),
            smtp_url_file: None,
        };
        let accounts = Accounts { home: self.pop.clone(), app_url: Some(APP.into()), mail };
        let config = Config { accounts: Some(accounts), ..self.config(&[&node]) };
        let people = self.people().await;
        until("the door's PoP writes accounts", async || people.may_write().ok()).await;
        let door = self.open(config, Some(people)).await;
        door.until_ready().await;
        (node, door)
    }

    /// The people in a store of their own.
    async fn people(&self) -> People {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listen = listener.local_addr().expect("bound");
        let store = StoreConfig { pop: self.pop.clone(), listen, file: self.path("store.db"), peers: Vec::new() };
        let metrics = || isthmus_directory::Metrics::new(&Registry::new()).expect("metrics");
        let (tell, ready) = oneshot::channel();
        let is_ready = || tell.send(()).expect("the test waits");
        tokio::spawn(run_store(listener, store, metrics(), is_ready, CancellationToken::new()));
        ready.await.expect("the store starts, and has its tables");
        let there = isthmus_directory::Config {
            timeout_ms: SOON.as_millis() as u64,
            ..isthmus_directory::Config::embedded(self.pop.clone(), format!("http://{listen}"))
        };
        let people = People::connect(&there, self.pop.clone(), metrics()).await;
        let upkeep = people.clone();
        tokio::spawn(async move { upkeep.upkeep().await });
        people
    }

    /// A door that listens.
    pub(crate) async fn door_that_starts(&self, config: Config) -> RunningDoor {
        self.open(config, None).await
    }

    async fn open(&self, config: Config, people: Option<People>) -> RunningDoor {
        let credentials = self.credentials(Role::Door, "panama-door-1");
        let nowhere = isthmus_directory::Config::embedded(self.pop.clone(), "http://127.0.0.1:9");
        let metrics = isthmus_directory::Metrics::new(&Registry::new()).expect("metrics");
        let directory = Directory::connect(&nowhere, metrics).await;
        let labels = [("pop".to_owned(), "panama".to_owned()), ("node".to_owned(), "panama-door-1".to_owned())];
        let registry = Registry::new_custom(None, Some(labels.into())).expect("a registry");
        let shutdown = CancellationToken::new();
        assert_eq!(config.errors(), Vec::<String>::new());
        let gateway = Gateway::bind(config, &credentials, directory, people, registry, shutdown.clone())
            .expect("the door starts");
        let (public, ops) = (gateway.public_addr(), gateway.ops_addr());
        let task = tokio::spawn(gateway.serve());
        RunningDoor { public, ops, shutdown, task, client: Client::new() }
    }

    /// A node and a door in front of it.
    pub(crate) async fn usual(&self) -> (ScriptedNode, RunningDoor) {
        let node = self.node("panama-sfu-1");
        let door = self.door(self.config(&[&node])).await;
        (node, door)
    }
}

/// A door in a task.
pub(crate) struct RunningDoor {
    pub(crate) public: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
    pub(crate) client: Client,
}

impl RunningDoor {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    pub(crate) async fn ops(&self, path: &str) -> Response {
        self.client.get(format!("http://{}{path}", self.ops)).send().await.expect("an answer")
    }

    pub(crate) async fn until_ready(&self) {
        self.until_it_says("ready").await;
    }

    /// Waits until `/readyz` says `word`.
    pub(crate) async fn until_it_says(&self, word: &str) -> StatusCode {
        until(&format!("the door says {word}"), async || {
            let response = self.ops("/readyz").await;
            let status = response.status();
            response.text().await.is_ok_and(|text| text.trim() == word).then_some(status)
        })
        .await
    }

    /// Waits until the metrics have this sample.
    pub(crate) async fn until_measured(&self, name: &str, labels: &[(&str, &str)], value: &str) {
        until(&format!("{name} {labels:?} is {value}"), async || {
            let text = self.ops("/metrics").await.text().await.expect("text");
            has_sample(&text, name, labels, value).then_some(())
        })
        .await;
    }

    /// Stops it in good order and waits until it has stopped.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(SOON, self.task).await.expect("the door stops").expect("no panic").expect("no failure");
    }
}

/// The code of a refusal; checks that it is a proper problem document.
pub(crate) async fn refused(response: Response, status: u16) -> Code {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Problem = response.json().await.expect("a problem document");
    assert_eq!(problem.status, status);
    assert!(!problem.detail.is_empty());
    problem.code
}

/// Whether an exposition has a sample of this metric with these labels among others, and this value.
pub(crate) fn has_sample(exposition: &str, name: &str, labels: &[(&str, &str)], value: &str) -> bool {
    let of_metric = exposition.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
    let mut samples = of_metric.filter(|(_, found)| *found == value).map(|(found, _)| found);
    samples
        .any(|found| labels.iter().all(|(label, value)| found.split(',').any(|l| l == format!("{label}=\"{value}\""))))
}

/// A media node that answers by rote and tells what it was sent.
pub(crate) struct ScriptedNode {
    addr: SocketAddr,
    heard: mpsc::UnboundedReceiver<Heard>,
    pub(crate) script: Arc<Script>,
    _mesh: Mesh,
}

/// What the node was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Session(Session),
    Message(ParticipantId, ClientMessage),
    Detached(ParticipantId),
    Drain(u32),
}

pub(crate) struct Script {
    pub(crate) node: NodeId,
    pop: PopId,
    /// The stays that stand: whose they are.
    sessions: Mutex<HashMap<ParticipantId, (RoomId, String)>>,
    log: mpsc::UnboundedSender<Heard>,
    draining: AtomicBool,
    /// In percent.
    pub(crate) load: AtomicU32,
    /// A permit for each answer to an offer with `a=slow`.
    slow: Semaphore,
}

impl ScriptedNode {
    /// The next thing the node is sent that `wanted` takes.
    pub(crate) async fn heard<T>(&mut self, mut wanted: impl FnMut(&Heard) -> Option<T>) -> T {
        let find = async {
            loop {
                let heard = self.heard.recv().await.expect("the script runs");
                if let Some(found) = wanted(&heard) {
                    return found;
                }
            }
        };
        timeout(SOON, find).await.expect("the node is sent what the test waits for")
    }

    pub(crate) async fn heard_session(&mut self) -> Session {
        self.heard(|heard| match heard {
            Heard::Session(session) => Some(session.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn heard_message(&mut self) -> ClientMessage {
        self.heard(|heard| match heard {
            Heard::Message(_, message) => Some(message.clone()),
            _ => None,
        })
        .await
    }

    /// Lets the answers go that offers with `a=slow` wait for.
    pub(crate) fn answer_slow_offers(&self) {
        self.script.slow.add_permits(100);
    }

    /// How many stays stand.
    pub(crate) fn stays(&self) -> usize {
        self.script.sessions.lock().expect("no panic").len()
    }
}

impl Script {
    async fn serve(self: Arc<Self>, mut doors: mpsc::Receiver<FromDoor>) {
        while let Some(from_door) = doors.recv().await {
            match from_door {
                FromDoor::Session { session, sender, receiver, .. } => {
                    tokio::spawn(self.clone().session(session, sender, receiver));
                }
                FromDoor::Query { query, reply } => {
                    let _ = reply.send(self.answer(&query));
                }
            }
        }
    }

    fn answer(&self, query: &Query) -> Answer {
        match query {
            Query::Metrics => Answer::Metrics {
                text:
                    "# TYPE isthmus_drops_total counter\nisthmus_drops_total{node=\"panama-sfu-1\",reason=\"test\"} 7\n"
                        .into(),
            },
            Query::Rooms => Answer::Rooms {
                rooms: vec![RoomView { room: room("demo"), local: vec![], remote: vec![], peers: vec![] }],
            },
            Query::Status => self.status(),
            Query::Room { room } => {
                let sessions = self.sessions.lock().expect("no panic");
                Answer::Room { participants: sessions.values().filter(|(of, _)| of == room).count() as u32 }
            }
            Query::Drain { deadline_s } => {
                self.draining.store(true, Ordering::Relaxed);
                let _ = self.log.send(Heard::Drain(*deadline_s));
                self.status()
            }
        }
    }

    fn status(&self) -> Answer {
        let draining = self.draining.load(Ordering::Relaxed);
        let load = f64::from(self.load.load(Ordering::Relaxed)) / 100.0;
        Answer::Status(NodeStatus { participants: 1, rooms: 1, load, draining })
    }

    async fn session(
        self: Arc<Self>,
        session: Session,
        mut sender: FrameSender<ServerMessage>,
        mut receiver: FrameReceiver<ClientMessage>,
    ) {
        let _ = self.log.send(Heard::Session(session.clone()));
        let Some((participant, resumed)) = self.admit(&session) else {
            let gone =
                ServerMessage::Error { code: Code::SessionGone, detail: "gone".into(), fatal: true, revision: None };
            let _ = sender.send(&gone).await;
            return sender.finish().await;
        };
        let welcome = ServerMessage::Welcome(Welcome {
            version: VERSION,
            participant: participant.clone(),
            pop: self.pop.clone(),
            node: self.node.clone(),
            may_publish: session.grants.publish,
            participants: vec![],
            resumed,
        });
        let _ = sender.send(&welcome).await;
        while let Ok(Some(message)) = receiver.receive().await {
            let _ = self.log.send(Heard::Message(participant.clone(), message.clone()));
            if matches!(message, ClientMessage::View { .. }) {
                flood(&mut sender).await;
            }
            if matches!(&message, ClientMessage::Offer { sdp, .. } if sdp.contains("a=slow")) {
                self.slow.acquire().await.expect("never closed").forget();
            }
            let leaves = message == ClientMessage::Leave;
            if let Some(reply) = self.reply(&participant, message) {
                let _ = sender.send(&reply).await;
            }
            if leaves {
                break;
            }
        }
        let _ = self.log.send(Heard::Detached(participant));
        sender.finish().await;
    }

    /// Which stay a session is, and whether it stood before.
    fn admit(&self, session: &Session) -> Option<(ParticipantId, bool)> {
        let mut sessions = self.sessions.lock().expect("no panic");
        let owner = (session.room.clone(), session.identity.clone());
        match &session.intent {
            Intent::Join { participant, .. } => {
                sessions.insert(participant.clone(), owner);
                Some((participant.clone(), false))
            }
            Intent::Resume { participant } => {
                (sessions.get(participant) == Some(&owner)).then(|| (participant.clone(), true))
            }
        }
    }

    fn reply(&self, participant: &ParticipantId, message: ClientMessage) -> Option<ServerMessage> {
        match message {
            ClientMessage::Offer { sdp, .. } if sdp.contains("a=broken") => Some(ServerMessage::Error {
                code: Code::InvalidSdp,
                detail: "broken".into(),
                fatal: false,
                revision: None,
            }),
            ClientMessage::Offer { revision, .. } => Some(ServerMessage::Answer { revision, sdp: ANSWER.into() }),
            ClientMessage::Ping { id } => Some(ServerMessage::Pong { id }),
            ClientMessage::Leave => {
                self.sessions.lock().expect("no panic").remove(participant);
                Some(ServerMessage::Ended { reason: LeaveReason::Left })
            }
            _ => None,
        }
    }
}

/// Messages of a flood.
pub(crate) const FLOOD: usize = 5_000;

/// Says more than sockets and queues can hold for a client that does not listen.
async fn flood(sender: &mut FrameSender<ServerMessage>) {
    let talk = ServerMessage::Error { code: Code::Conflict, detail: "x".repeat(20_000), fatal: false, revision: None };
    for _ in 0..FLOOD {
        if sender.send(&talk).await.is_err() {
            return;
        }
    }
}
