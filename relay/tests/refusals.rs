//! Who does not get in, and who gets in and asks for what is not theirs. Each refusal is counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use isthmus_protocol::node::{MAX_FRAME_BYTES, Opening, Query, VERSION};
use isthmus_relay::{CloseReason, DevelopmentCa, Endpoint, MeshEvent, NodeClient, PeerIdentity, Role};
use quinn::Connection;
use support::{
    Node, credentials, identity, loopback,
    rogue::{ALPN, Rogue, closed, code, frame, say},
    session, until,
};

fn opening(opening: &Opening) -> Vec<u8> {
    frame(&serde_json::to_string(opening).unwrap())
}

fn as_peer(identity: &PeerIdentity, version: u16) -> Vec<u8> {
    opening(&Opening::Peer { version, pop: identity.pop.clone(), node: identity.node.clone(), speech: true })
}

/// A node "n" that knows "a" and "z" as peers.
fn node(ca: &DevelopmentCa) -> Node {
    let node = Node::start(ca, "n");
    let known = |name: &str| {
        let PeerIdentity { node, pop, .. } = identity(Role::Sfu, name);
        isthmus_relay::PeerAddress { node, pop, addr: loopback() }
    };
    node.peers.send_replace(vec![known("a"), known("z")]);
    node
}

fn counted(node: &Node, reason: &str) {
    until(|| (node.refused(reason) >= 1).then_some(()));
}

fn no_link(node: &Node) {
    let event = node.events.try_recv();
    assert!(event.is_err(), "{event:?}");
}

async fn connect(ca: &DevelopmentCa, identity: PeerIdentity, node: &Node) -> (quinn::Endpoint, Connection) {
    Rogue { ca: Some(ca), identity, alpn: ALPN }.connect(ca, &node.identity, node.addr).await.expect("let in")
}

async fn say_one_way(connection: &Connection, bytes: &[u8]) {
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(bytes).await.unwrap();
    // Kept open: it is for the node to end.
    std::mem::forget(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_fail_the_handshake() {
    let (ca, stranger) = (DevelopmentCa::create().unwrap(), DevelopmentCa::create().unwrap());
    let node = node(&ca);
    let door = identity(Role::Door, "door-1");
    let attempts = [
        ("a certificate of another authority", Rogue { ca: Some(&stranger), identity: door.clone(), alpn: ALPN }),
        ("no certificate", Rogue { ca: None, identity: door.clone(), alpn: ALPN }),
        ("another protocol", Rogue { ca: Some(&ca), identity: door, alpn: b"h3" }),
    ];
    for (number, (what, rogue)) in (0..).zip(attempts) {
        // In TLS 1.3 the client may think it is in before the server has looked.
        if let Ok((_endpoint, connection)) = rogue.connect(&ca, &node.identity, node.addr).await {
            assert_eq!(closed(&connection).await, None, "{what} was let in");
        }
        until(|| (node.refused("handshake") > number).then_some(()));
    }
    no_link(&node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_ours_does_not_speak_with_a_node_of_another_authority_nor_with_another_node() {
    let (ca, stranger) = (DevelopmentCa::create().unwrap(), DevelopmentCa::create().unwrap());
    let (real, fake) = (node(&ca), node(&stranger));
    let endpoint = Endpoint::bind(loopback(), &credentials(&ca, &identity(Role::Door, "door-1"))).unwrap();
    let to_fake = NodeClient::start(endpoint.clone(), fake.name().clone(), fake.addr);
    let to_other = NodeClient::start(endpoint.clone(), "another".parse().unwrap(), real.addr);
    let to_real = NodeClient::start(endpoint, real.name().clone(), real.addr);
    to_real.up().wait_for(|up| *up).await.unwrap();
    counted(&fake, "handshake");
    counted(&real, "handshake");
    assert!(!to_fake.is_up() && !to_other.is_up());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_is_no_peer() {
    let ca = DevelopmentCa::create().unwrap();
    let node = node(&ca);
    let door = identity(Role::Door, "a");
    let (_endpoint, connection) = connect(&ca, door.clone(), &node).await;
    assert_eq!(say(&connection, &as_peer(&door, VERSION)).await, code(CloseReason::Role), "on a session's stream");
    say_one_way(&connection, &as_peer(&door, VERSION)).await;
    assert_eq!(closed(&connection).await, code(CloseReason::Role), "on a peer's stream");
    until(|| (node.refused("role") == 2).then_some(()));
    no_link(&node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_no_door() {
    let ca = DevelopmentCa::create().unwrap();
    let mut node = node(&ca);
    let peer = identity(Role::Sfu, "a");
    for first in [
        opening(&Opening::Session { version: VERSION, session: session() }),
        opening(&Opening::Query { version: VERSION, query: Query::Rooms }),
    ] {
        let (_endpoint, connection) = connect(&ca, peer.clone(), &node).await;
        say_one_way(&connection, &first).await;
        assert_eq!(closed(&connection).await, code(CloseReason::Role), "instead of saying who it is");
        no_link(&node);
        let (_endpoint, connection) = connect(&ca, peer.clone(), &node).await;
        say_one_way(&connection, &as_peer(&peer, VERSION)).await;
        assert_eq!(say(&connection, &first).await, None);
        assert_eq!(closed(&connection).await, code(CloseReason::Role), "on a stream of its own");
        node.expect_down(&peer.node);
    }
    until(|| (node.refused("role") == 4).then_some(()));
    assert!(node.doors.try_recv().is_err(), "a session or query came through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_must_be_known_be_the_one_to_dial_and_be_who_it_says() {
    let ca = DevelopmentCa::create().unwrap();
    let node = node(&ca);
    let (_endpoint, connection) = connect(&ca, identity(Role::Sfu, "b"), &node).await;
    assert_eq!(closed(&connection).await, code(CloseReason::UnknownPeer));
    let elsewhere = PeerIdentity { pop: "elsewhere".parse().unwrap(), ..identity(Role::Sfu, "a") };
    let (_endpoint, connection) = connect(&ca, elsewhere, &node).await;
    assert_eq!(closed(&connection).await, code(CloseReason::UnknownPeer));
    let (_endpoint, connection) = connect(&ca, identity(Role::Sfu, "z"), &node).await;
    assert_eq!(closed(&connection).await, code(CloseReason::Role), "it is for this node to dial z");
    let (_endpoint, connection) = connect(&ca, identity(Role::Sfu, "a"), &node).await;
    say_one_way(&connection, &as_peer(&identity(Role::Sfu, "z"), VERSION)).await;
    assert_eq!(closed(&connection).await, code(CloseReason::Identity), "its certificate says a");
    counted(&node, "unknown_peer");
    counted(&node, "identity");
    no_link(&node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_is_refused() {
    let ca = DevelopmentCa::create().unwrap();
    let node = node(&ca);
    let peer = identity(Role::Sfu, "a");
    let (_endpoint, connection) = connect(&ca, peer.clone(), &node).await;
    say_one_way(&connection, &as_peer(&peer, VERSION + 1)).await;
    assert_eq!(closed(&connection).await, code(CloseReason::Version));
    let (_endpoint, connection) = connect(&ca, identity(Role::Door, "door-1"), &node).await;
    let newer = opening(&Opening::Query { version: VERSION + 1, query: Query::Rooms });
    assert_eq!(say(&connection, &newer).await, code(CloseReason::Version));
    until(|| (node.refused("version") == 2).then_some(()));
    no_link(&node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_from_a_trusted_door_costs_one_stream() {
    let ca = DevelopmentCa::create().unwrap();
    let node = node(&ca);
    let (_endpoint, connection) = connect(&ca, identity(Role::Door, "door-1"), &node).await;
    let rubbish = [
        frame("rubbish"),
        frame(r#"{"open":"explode"}"#),
        u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_be_bytes().to_vec(),
        u32::MAX.to_be_bytes().to_vec(),
    ];
    for bytes in &rubbish {
        assert_eq!(say(&connection, bytes).await, code(CloseReason::Malformed), "{bytes:?}");
    }
    assert_eq!(node.refused("malformed"), rubbish.len() as u64);
    assert_eq!(connection.close_reason(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_from_a_trusted_peer_is_counted_and_a_flood_of_datagrams_harms_no_one() {
    let ca = DevelopmentCa::create().unwrap();
    let node = node(&ca);
    let peer = identity(Role::Sfu, "a");
    let (_endpoint, connection) = connect(&ca, peer.clone(), &node).await;
    say_one_way(&connection, &as_peer(&peer, VERSION)).await;
    let link = node.link_to(&peer.node);
    for length in 0..1000 {
        connection.send_datagram_wait(vec![0x10; length].into()).await.unwrap();
        connection.send_datagram_wait(vec![0xff; length].into()).await.unwrap();
    }
    until(|| (node.metric("isthmus_drops_total", &[("reason", "relay_malformed")]) >= 1000).then_some(()));
    assert_eq!(link.control(support::announcement(1)), Ok(()), "the link stands");
    let mut stream = connection.accept_uni().await.unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.unwrap();
    connection.close(0_u32.into(), b"");
    node.expect_down(&peer.node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_identity_holds_a_few_connections_at_most() {
    let ca = DevelopmentCa::create().unwrap();
    let node = node(&ca);
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(connect(&ca, identity(Role::Door, "door-1"), &node).await);
    }
    let (_, last) = held.last().unwrap();
    assert_eq!(closed(last).await, code(CloseReason::TooManyConnections));
    held.truncate(7);
    until(|| (node.refused("too_many_connections") == 1).then_some(()));
    // Places are given back; another door has its own.
    let (_endpoint, other) = connect(&ca, identity(Role::Door, "door-2"), &node).await;
    assert_eq!(say(&other, &frame("rubbish")).await, code(CloseReason::Malformed));
}

#[test]
fn datagrams_to_the_port_that_are_not_quic_change_nothing() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, path) = support::pair(&ca, support::BadPath::clear);
    a.link_to(b.name());
    let link = b.link_to(a.name());
    let socket = std::net::UdpSocket::bind(loopback()).unwrap();
    for number in 0..5000_u32 {
        let bytes: Vec<u8> = (0..number % 1400).map(|i| (i.wrapping_mul(number) >> 3) as u8).collect();
        for addr in [a.addr, b.addr, path.addr()] {
            socket.send_to(&bytes, addr).unwrap();
        }
    }
    link.control(support::announcement(1)).unwrap();
    a.expect("nothing but what is said on the link", |event| match event {
        MeshEvent::LinkDown { .. } => panic!("rubbish ended the link"),
        _ => Some(()),
    });
}
