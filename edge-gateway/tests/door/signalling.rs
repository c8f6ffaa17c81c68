//! The signalling socket.

use futures_util::{SinkExt as _, StreamExt as _};
use isthmus_edge_gateway::config::Allowance;
use isthmus_protocol::{
    node::Intent,
    problem::{Code, Problem},
    signal::{
        ClientMessage, Hello, Resume, SUBPROTOCOL, Secret, ServerMessage, TOKEN_SUBPROTOCOL_PREFIX, VERSION, Welcome,
    },
    token::Grants,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::Request},
};

use crate::stage::{APP, BOTH, FLOOD, Heard, RunningDoor, SOON, Stage, now_s, offer, room, until};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

fn request(door: &RunningDoor, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = format!("ws://{}/v1/signal", door.public).into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header"));
    }
    request
}

/// The refusal of an upgrade.
async fn refused_upgrade(door: &RunningDoor, headers: &[(&'static str, &str)]) -> Problem {
    match connect_async(request(door, headers)).await {
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            serde_json::from_slice(body).expect("a problem document")
        }
        other => panic!("not refused: {other:?}"),
    }
}

impl Socket {
    async fn open(door: &RunningDoor) -> Self {
        Self(connect_async(request(door, &[])).await.expect("the socket opens").0)
    }

    async fn send(&mut self, message: &ClientMessage) {
        self.send_text(&serde_json::to_string(message).expect("JSON")).await;
    }

    async fn send_text(&mut self, text: &str) {
        self.0.send(Message::Text(text.into())).await.expect("sent");
    }

    /// The next message, or the close code.
    async fn next(&mut self) -> Result<ServerMessage, u16> {
        loop {
            match timeout(SOON, self.0.next()).await.expect("in time") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("a message")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    async fn error(&mut self) -> (Code, bool) {
        match self.next().await {
            Ok(ServerMessage::Error { code, fatal, .. }) => (code, fatal),
            other => panic!("not an error: {other:?}"),
        }
    }

    async fn welcome(&mut self) -> Welcome {
        match self.next().await {
            Ok(ServerMessage::Welcome(welcome)) => welcome,
            other => panic!("not a welcome: {other:?}"),
        }
    }

    /// Whether the session still answers.
    async fn answers(&mut self) -> bool {
        self.send(&ClientMessage::Ping { id: 7 }).await;
        self.next().await == Ok(ServerMessage::Pong { id: 7 })
    }
}

fn hello(token: Option<String>, room_name: &str) -> Hello {
    Hello {
        version: VERSION,
        token: token.map(Secret),
        room: room(room_name),
        name: "Ana".into(),
        resume: None,
        replaces: None,
    }
}

async fn joined(stage: &Stage, door: &RunningDoor, grants: Grants) -> (Socket, Welcome) {
    let mut socket = Socket::open(door).await;
    socket.send(&ClientMessage::Hello(hello(Some(stage.token("demo", "ana", grants)), "demo"))).await;
    let welcome = socket.welcome().await;
    (socket, welcome)
}

#[tokio::test]
async fn a_network_has_so_many_sockets_and_a_new_one_when_one_closes() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.limits.sockets_per_network = 2;
    let door = stage.door(config).await;
    let (first, _) = joined(&stage, &door, BOTH).await;
    let (mut second, _) = joined(&stage, &door, BOTH).await;
    let problem = refused_upgrade(&door, &[]).await;
    assert_eq!((problem.code, problem.status), (Code::RateLimited, 429));
    assert!(second.answers().await, "those that are open are not touched");
    drop(first);
    door.until_measured("isthmus_signal_sockets", &[], "1").await;
    // The gauge is set down just before the place is free.
    until("a place is free again", async || connect_async(request(&door, &[])).await.ok()).await;
}

#[tokio::test]
async fn messages_go_to_the_node_and_back_unchanged() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let (mut socket, welcome) = joined(&stage, &door, BOTH).await;
    let session = node.heard_session().await;
    assert_eq!((session.identity.as_str(), session.grants), ("ana", BOTH));
    let Intent::Join { participant, name, media_only: false, .. } = session.intent else { panic!("not a join") };
    assert_eq!((participant, name.as_str()), (welcome.participant, "Ana"));

    let offered = ClientMessage::Offer { revision: 3, sdp: offer("sendrecv"), tracks: vec![] };
    socket.send(&offered).await;
    assert!(matches!(socket.next().await, Ok(ServerMessage::Answer { revision: 3, .. })));
    assert_eq!(node.heard_message().await, offered);

    socket.send(&ClientMessage::Leave).await;
    assert!(matches!(socket.next().await, Ok(ServerMessage::Ended { .. }) | Err(1000)));
    assert_eq!(node.heard_message().await, ClientMessage::Leave);
}

#[tokio::test]
async fn a_token_may_come_as_a_subprotocol() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let token = stage.token("demo", "ana", BOTH);
    let protocols = format!("{SUBPROTOCOL}, {TOKEN_SUBPROTOCOL_PREFIX}{token}");
    let request = request(&door, &[("sec-websocket-protocol", &protocols), ("origin", APP)]);
    let (socket, response) = connect_async(request).await.expect("the socket opens");
    assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
    let mut socket = Socket(socket);
    socket.send(&ClientMessage::Hello(hello(None, "demo"))).await;
    assert!(!socket.welcome().await.resumed);
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_does_not_get_a_socket() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    for origin in ["https://evil.example", "null", "https://call.example.org.evil.example"] {
        let problem = refused_upgrade(&door, &[("origin", origin)]).await;
        assert_eq!((problem.status, problem.code), (403, Code::OriginNotAllowed), "{origin}");
    }
    let problem = refused_upgrade(&door, &[("sec-websocket-protocol", "isthmus.v9")]).await;
    assert_eq!(problem.code, Code::UnsupportedVersion);
}

#[tokio::test]
async fn a_hello_that_may_not_join_is_refused_with_its_code() {
    let stage = Stage::new();
    let (node, door) = stage.usual().await;
    let expired = stage.issuer.issue(&room("demo"), "ana", "", BOTH, now_s() - 100, 50).expect("a token");
    let valid = stage.token("demo", "ana", BOTH);
    // {"alg":"none","typ":"isthmus-room+jwt","kid":"k1"}
    let claims = valid.split('.').nth(1).expect("claims");
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiaXN0aG11cy1yb29tK2p3dCIsImtpZCI6ImsxIn0.{claims}.");
    let refused = [
        (hello(Some(stage.token("elsewhere", "ana", BOTH)), "demo"), Code::Forbidden),
        (hello(Some(expired), "demo"), Code::TokenExpired),
        (hello(Some(unsigned), "demo"), Code::Unauthorized),
        (hello(None, "demo"), Code::Unauthorized),
        (Hello { version: 99, ..hello(Some(valid.clone()), "demo") }, Code::UnsupportedVersion),
        (Hello { name: "x".repeat(81), ..hello(Some(valid.clone()), "demo") }, Code::InvalidRequest),
        (
            Hello {
                resume: Some(Resume {
                    participant: "p-gone".parse().expect("valid"),
                    node: "zurich-sfu-1".parse().expect("valid"),
                }),
                ..hello(Some(valid), "demo")
            },
            Code::SessionGone,
        ),
    ];
    for (hello, wanted) in refused {
        let mut socket = Socket::open(&door).await;
        socket.send(&ClientMessage::Hello(hello)).await;
        assert_eq!(socket.error().await, (wanted, true));
        assert_eq!(socket.next().await, Err(4000), "{wanted:?}");
    }
    assert_eq!(node.stays(), 0, "someone got in");
}

#[tokio::test]
async fn rubbish_is_refused_and_harms_nobody_else() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let (mut calm, _) = joined(&stage, &door, BOTH).await;

    let mut socket = Socket::open(&door).await;
    socket.send_text("{").await;
    assert_eq!(socket.error().await, (Code::InvalidRequest, true));
    assert_eq!(socket.next().await, Err(4000));

    let (mut socket, _) = joined(&stage, &door, BOTH).await;
    socket.send_text("not json").await;
    assert_eq!(socket.error().await, (Code::InvalidRequest, false));
    socket.send_text(r#"{"type":"explode"}"#).await;
    assert_eq!(socket.error().await, (Code::InvalidRequest, false));
    assert!(socket.answers().await, "a session ended by rubbish");

    // The door may close, and the kernel reset, before the client has written all of it.
    let huge = "x".repeat(10 * 1024 * 1024);
    let _ = socket.0.send(Message::Text(huge.into())).await;
    assert!(matches!(socket.next().await, Err(1009 | 1006)), "10 MB were taken");
    assert!(calm.answers().await, "another session was harmed");
}

#[tokio::test]
async fn what_the_token_does_not_grant_is_refused_at_the_door() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let (mut socket, _) = joined(&stage, &door, Grants { publish: false, subscribe: true }).await;
    socket.send(&ClientMessage::Offer { revision: 1, sdp: offer("sendonly"), tracks: vec![] }).await;
    assert_eq!(socket.error().await, (Code::Forbidden, false));
    socket.send(&ClientMessage::Offer { revision: 2, sdp: offer("recvonly"), tracks: vec![] }).await;
    assert!(matches!(socket.next().await, Ok(ServerMessage::Answer { revision: 2, .. })));
    assert!(
        matches!(node.heard_message().await, ClientMessage::Offer { revision: 2, .. }),
        "the refused one got through"
    );
}

#[tokio::test]
async fn a_flood_of_messages_ends_its_socket() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.limits.messages = Allowance::new(5, 1);
    let door = stage.door(config).await;
    let (mut socket, _) = joined(&stage, &door, BOTH).await;
    let flood = serde_json::to_string(&ClientMessage::Ping { id: 1 }).expect("JSON");
    for _ in 0..10 {
        if socket.0.send(Message::Text(flood.clone().into())).await.is_err() {
            break;
        }
    }
    let end = loop {
        if let Err(code) = socket.next().await {
            break code;
        }
    };
    assert!(matches!(end, 4002 | 1006), "{end}");
}

#[tokio::test]
async fn a_client_that_does_not_listen_is_closed_and_not_buffered_for() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let (mut socket, _) = joined(&stage, &door, BOTH).await;
    socket.send(&ClientMessage::View { tiles: vec![] }).await;
    door.until_measured("isthmus_signal_closes_total", &[("reason", "too_slow")], "1").await;
}

#[tokio::test]
async fn a_burst_of_news_cuts_nobody_off_who_reads_on() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let (mut socket, _) = joined(&stage, &door, BOTH).await;
    socket.send(&ClientMessage::View { tiles: vec![] }).await;
    for _ in 0..FLOOD {
        socket.next().await.expect("one of the flood");
    }
    assert!(socket.answers().await);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let mut socket = Socket::open(&door).await;
    assert_eq!(socket.next().await, Err(4001));
}

#[tokio::test]
async fn a_door_that_restarts_says_so_and_the_session_is_taken_up_at_the_next() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let (mut socket, welcome) = joined(&stage, &door, BOTH).await;
    door.shutdown.cancel();
    assert_eq!(socket.next().await, Err(1012));
    door.stop().await;
    node.heard(|heard| matches!(heard, Heard::Detached(_)).then_some(())).await;
    assert_eq!(node.stays(), 1, "the stay ended with the door");

    let door = stage.door(stage.config(&[&node])).await;
    let resume = |token| {
        let resume = Some(Resume { participant: welcome.participant.clone(), node: welcome.node.clone() });
        ClientMessage::Hello(Hello { resume, ..hello(Some(token), "demo") })
    };
    let mut thief = Socket::open(&door).await;
    thief.send(&resume(stage.token("demo", "eve", BOTH))).await;
    assert_eq!(thief.error().await, (Code::SessionGone, true), "another identity took it up");

    let mut socket = Socket::open(&door).await;
    socket.send(&resume(stage.token("demo", "ana", BOTH))).await;
    let again = socket.welcome().await;
    assert!(again.resumed);
    assert_eq!(again.participant, welcome.participant);
    assert!(socket.answers().await);
}

#[tokio::test]
async fn a_node_that_is_lost_closes_its_sockets_so_that_clients_come_back() {
    let stage = Stage::new();
    let (node, door) = stage.usual().await;
    let (mut socket, _) = joined(&stage, &door, BOTH).await;
    drop(node);
    assert_eq!(socket.next().await, Err(4004));
    until("a door without a node is not ready", async || (door.ops("/readyz").await.status() != 200).then_some(()))
        .await;
    let mut socket = Socket::open(&door).await;
    socket.send(&ClientMessage::Hello(hello(Some(stage.token("demo", "ana", BOTH)), "demo"))).await;
    assert_eq!(socket.error().await, (Code::Unavailable, true));
}
