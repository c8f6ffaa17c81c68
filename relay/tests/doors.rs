//! Doors and media nodes: sessions, queries, and what happens when either goes away.
#![expect(clippy::disallowed_methods, reason = "IO: measures how long things take")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::time::{Duration, Instant};

use isthmus_protocol::{
    node::{Answer, MAX_FRAME_BYTES, NodeStatus, Query},
    signal::{ClientMessage, ServerMessage},
};
use isthmus_relay::{
    CloseReason, DevelopmentCa, Endpoint, FrameReceiver, FrameSender, FromDoor, NodeClient, RelayError, Role,
};
use support::{BadPath, DOOR_QUEUE, Node, PATIENCE, credentials, identity, loopback, session};
use tokio::{sync::watch, time::timeout};

type AtDoor = (FrameSender<ClientMessage>, FrameReceiver<ServerMessage>);
type AtNode = (FrameSender<ServerMessage>, FrameReceiver<ClientMessage>);

async fn door(ca: &DevelopmentCa, node: &Node, addr: std::net::SocketAddr) -> NodeClient {
    let endpoint = Endpoint::bind(loopback(), &credentials(ca, &identity(Role::Door, "door-1"))).unwrap();
    let client = NodeClient::start(endpoint, node.name().clone(), addr);
    until(client.up(), true).await;
    client
}

async fn until(mut up: watch::Receiver<bool>, wanted: bool) {
    timeout(PATIENCE, up.wait_for(|up| *up == wanted)).await.expect("in time").expect("the client is there");
}

async fn open_session(client: &NodeClient, node: &mut Node) -> (AtDoor, AtNode) {
    let at_door = client.session(session()).await.expect("opened");
    match timeout(PATIENCE, node.doors.recv()).await.expect("in time") {
        Some(FromDoor::Session { door, session: got, sender, receiver }) => {
            assert_eq!((door, got), (identity(Role::Door, "door-1"), session()));
            (at_door, (sender, receiver))
        }
        other => panic!("not a session: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_carries_messages_both_ways_and_each_half_ends_by_itself() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = Node::start(&ca, "n");
    let client = door(&ca, &node, node.addr).await;
    let ((mut to_node, mut from_node), (mut to_door, mut from_door)) = open_session(&client, &mut node).await;
    for id in 0..100 {
        to_node.send(&ClientMessage::Ping { id }).await.unwrap();
        assert_eq!(from_door.receive().await.unwrap(), Some(ClientMessage::Ping { id }));
        to_door.send(&ServerMessage::Pong { id }).await.unwrap();
        assert_eq!(from_node.receive().await.unwrap(), Some(ServerMessage::Pong { id }));
    }
    let large = ClientMessage::Candidate { candidate: "x".repeat(MAX_FRAME_BYTES - 100) };
    let (sent, received) = tokio::join!(to_node.send(&large), from_door.receive());
    sent.unwrap();
    assert_eq!(received.unwrap(), Some(large), "larger than any window");
    to_node.finish().await;
    assert_eq!(from_door.receive().await.unwrap(), None, "detached");
    to_door.send(&ServerMessage::Pong { id: 7 }).await.unwrap();
    drop(to_door);
    assert_eq!(from_node.receive().await.unwrap(), Some(ServerMessage::Pong { id: 7 }), "the other half goes on");
    assert_eq!(from_node.receive().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_is_too_large_fails_alone() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = Node::start(&ca, "n");
    let client = door(&ca, &node, node.addr).await;
    let ((mut to_node, _from_node), (_to_door, mut from_door)) = open_session(&client, &mut node).await;
    let large = ClientMessage::Candidate { candidate: "x".repeat(MAX_FRAME_BYTES) };
    assert!(matches!(to_node.send(&large).await, Err(RelayError::FrameTooLarge { .. })));
    to_node.send(&ClientMessage::Ping { id: 1 }).await.unwrap();
    assert_eq!(from_door.receive().await.unwrap(), Some(ClientMessage::Ping { id: 1 }), "the session goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_was_cancelled_leaves_the_stream_whole() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = Node::start(&ca, "n");
    let client = door(&ca, &node, node.addr).await;
    let ((mut to_node, _from_node), (_to_door, mut from_door)) = open_session(&client, &mut node).await;
    let large = ClientMessage::Candidate { candidate: "x".repeat(MAX_FRAME_BYTES - 100) };
    // Nobody reads, so it fills the window and waits.
    assert!(timeout(Duration::from_millis(200), to_node.send(&large)).await.is_err());
    let next = ClientMessage::Ping { id: 2 };
    let (sent, first) = tokio::join!(to_node.send(&next), from_door.receive());
    sent.unwrap();
    assert_eq!(first.unwrap(), Some(large));
    assert_eq!(from_door.receive().await.unwrap(), Some(next));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_has_one_answer() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = Node::start(&ca, "n");
    let client = door(&ca, &node, node.addr).await;
    let status = NodeStatus { participants: 3, rooms: 1, load: 0.25, draining: false };
    let answer = async {
        let Some(FromDoor::Query { query, reply }) = node.doors.recv().await else { panic!("not a query") };
        assert_eq!(query, Query::Status);
        reply.send(Answer::Status(status.clone())).expect("the door waits");
        let Some(FromDoor::Query { reply, .. }) = node.doors.recv().await else { panic!("not a query") };
        drop(reply);
    };
    let ask = async {
        assert_eq!(client.query(Query::Status).await.unwrap(), Answer::Status(status.clone()));
        let refused = client.query(Query::Rooms).await;
        assert!(matches!(refused, Err(RelayError::Ended(CloseReason::Shutdown))), "{refused:?}");
    };
    tokio::join!(answer, ask);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_no_more_sessions_says_that_it_is_busy() {
    let ca = DevelopmentCa::create().unwrap();
    let node = Node::start(&ca, "n");
    let client = door(&ca, &node, node.addr).await;
    let mut waiting = Vec::new();
    for _ in 0..DOOR_QUEUE {
        waiting.push(client.session(session()).await.unwrap());
    }
    support::until(|| (node.doors.len() == DOOR_QUEUE).then_some(()));
    let (_sender, mut receiver) = client.session(session()).await.unwrap();
    let refused = timeout(PATIENCE, receiver.receive()).await.expect("in time");
    assert!(matches!(refused, Err(RelayError::Ended(CloseReason::Busy))), "{refused:?}");
    assert_eq!(node.refused("busy"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_is_noticed_within_two_seconds_and_found_again() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = Node::start(&ca, "n");
    let path = BadPath::clear(node.addr);
    let client = door(&ca, &node, path.addr()).await;
    let ((_to_node, mut from_node), at_node) = open_session(&client, &mut node).await;
    path.set_black_hole(true);
    let since = Instant::now();
    until(client.up(), false).await;
    let noticed = since.elapsed();
    assert!(noticed < Duration::from_secs(2), "noticed after {noticed:?}");
    assert!(!client.is_up());
    let ended = from_node.receive().await;
    assert!(matches!(ended, Err(RelayError::Lost(_) | RelayError::Ended(_))), "{ended:?}");
    assert!(matches!(client.session(session()).await, Err(RelayError::Down { .. })), "it fails at once");
    // What is left of a session holds the socket.
    drop(at_node);
    let _node = node.restart();
    path.set_black_hole(false);
    let since = Instant::now();
    until(client.up(), true).await;
    println!("dead node noticed after {noticed:?}, found {:?} after it came back", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_dies_is_noticed_by_the_node_within_two_seconds() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = Node::start(&ca, "n");
    let path = BadPath::clear(node.addr);
    let client = door(&ca, &node, path.addr()).await;
    let (_at_door, (_to_door, mut from_door)) = open_session(&client, &mut node).await;
    path.set_black_hole(true);
    let since = Instant::now();
    let ended = timeout(PATIENCE, from_door.receive()).await.expect("in time");
    assert!(ended.is_err(), "{ended:?}");
    assert!(since.elapsed() < Duration::from_secs(2), "noticed after {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_client_ends_its_sessions_and_its_dialling() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = Node::start(&ca, "n");
    let client = door(&ca, &node, node.addr).await;
    let (_at_door, (_to_door, mut from_door)) = open_session(&client, &mut node).await;
    client.close();
    assert!(!client.is_up());
    let ended = from_door.receive().await;
    assert!(matches!(ended, Err(RelayError::Ended(CloseReason::Done))), "{ended:?}");
    assert!(matches!(client.query(Query::Status).await, Err(RelayError::Down { .. })));
}
