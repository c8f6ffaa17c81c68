//! Links between media nodes: they form, carry, end, and come again.
#![expect(clippy::disallowed_methods, reason = "IO: measures how long things take")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::time::{Duration, Instant};

use isthmus_protocol::media::Codec;
use isthmus_relay::{CONTROL_QUEUE, DevelopmentCa, LinkFull, MeshEvent};
use support::{BadPath, Node, announcement, packet, pair, room, until};

/// What contract and design promise of a peer that stops.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

fn control_from(node: &Node, other: &Node) -> isthmus_protocol::peer::PeerMessage {
    node.expect("a control message", |event| match event {
        MeshEvent::Control { link, message } if link.node() == other.name() => Some(message),
        _ => None,
    })
}

#[test]
fn three_nodes_form_a_full_mesh_and_each_reaches_each() {
    let ca = DevelopmentCa::create().unwrap();
    let nodes = ["a", "b", "c"].map(|name| Node::start(&ca, name));
    let everyone: Vec<_> = nodes.iter().map(Node::address).collect();
    for node in &nodes {
        node.peers.send_replace(everyone.clone());
    }
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let (from, to) = (&nodes[from], &nodes[to]);
        // Events of the other link may come first, so this one's are found again by the metric.
        until(|| (from.metric("isthmus_relay_links", &[("state", "up")]) == 2).then_some(()));
        until(|| (to.metric("isthmus_relay_links", &[("state", "up")]) == 2).then_some(()));
    }
    for node in &nodes {
        assert_eq!(node.metric("isthmus_relay_links", &[("state", "down")]), 0);
        let mut ups = Vec::new();
        while let Ok(event) = node.events.try_recv() {
            let MeshEvent::LinkUp { link } = event else { panic!("{event:?} before anyone said anything") };
            ups.push(link.node().clone());
        }
        ups.sort();
        let others: Vec<_> = nodes.iter().map(|n| n.name().clone()).filter(|n| n != node.name()).collect();
        assert_eq!(ups, others, "one link to each other node");
    }
}

#[test]
fn control_and_media_cross_in_both_directions() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, _path) = pair(&ca, BadPath::clear);
    let (to_b, to_a) = (a.link_to(b.name()), b.link_to(a.name()));
    for (from, link, to) in [(&a, to_b, &b), (&b, to_a, &a)] {
        assert_eq!(link.pop().as_str(), support::POP);
        for number in 0..100 {
            link.control(announcement(number)).unwrap();
        }
        // The packet path is not a tokio thread.
        let sent = packet(7, Codec::Vp8, 1400);
        std::thread::spawn(move || link.media(5, packet(7, Codec::Vp8, 1400))).join().unwrap().unwrap();
        let (mut messages, mut media) = (Vec::new(), None);
        to.expect("100 messages and a packet", |event| {
            match event {
                MeshEvent::Control { message, .. } => messages.push(message),
                MeshEvent::Media { node, stream, packet } => media = Some((node, stream, packet)),
                other => panic!("the link was up and nobody ended it: {other:?}"),
            }
            (messages.len() == 100 && media.is_some()).then_some(())
        });
        assert_eq!(messages, (0..100).map(announcement).collect::<Vec<_>>(), "in order, once");
        assert_eq!(media, Some((from.name().clone(), 5, sent)));
    }
}

#[test]
fn a_peer_taken_off_the_list_is_left_and_one_put_back_is_found() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, path) = pair(&ca, BadPath::clear);
    for _ in 0..3 {
        a.link_to(b.name());
        b.link_to(a.name());
        // From either side's list it is off.
        b.peers.send_replace(Vec::new());
        a.expect_down(b.name());
        b.expect_down(a.name());
        until(|| (b.refused("unknown_peer") > 0).then_some(()));
        b.peers.send_replace(vec![a.address()]);
    }
    drop(path);
}

#[test]
fn a_black_hole_is_noticed_on_both_sides_within_two_seconds_and_healed_after() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, path) = pair(&ca, BadPath::clear);
    let link = a.link_to(b.name());
    b.link_to(a.name());
    path.set_black_hole(true);
    let since = Instant::now();
    a.expect_down(b.name());
    b.expect_down(a.name());
    let noticed = since.elapsed();
    assert!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
    assert_eq!(link.control(announcement(0)), Err(LinkFull), "a link that is down takes nothing");
    assert_eq!(link.media(1, packet(0, Codec::Opus, 80)), Err(LinkFull));
    assert_eq!(a.metric("isthmus_drops_total", &[("reason", "relay_link_down")]), 1, "the drop is counted");
    path.set_black_hole(false);
    let since = Instant::now();
    a.link_to(b.name());
    b.link_to(a.name());
    println!("black hole noticed after {noticed:?}, link back {:?} after it ended", since.elapsed());
}

#[test]
fn a_killed_node_is_noticed_within_two_seconds_and_found_again_on_its_port() {
    let ca = DevelopmentCa::create().unwrap();
    // Once the one that dials is killed, once the one that answers.
    for dialler_dies in [true, false] {
        let (a, b, path) = pair(&ca, BadPath::clear);
        let (killed, witness) = if dialler_dies { (a, b) } else { (b, a) };
        witness.link_to(killed.name());
        let (name, peers) = (killed.name().clone(), killed.peers.borrow().clone());
        path.set_black_hole(true);
        let since = Instant::now();
        witness.expect_down(&name);
        let noticed = since.elapsed();
        assert!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
        let again = killed.restart();
        again.peers.send_replace(peers);
        path.set_black_hole(false);
        let since = Instant::now();
        witness.link_to(&name);
        again.link_to(witness.name());
        println!("dialler {dialler_dies}: noticed after {noticed:?}, back {:?} after its restart", since.elapsed());
    }
}

#[test]
fn a_node_restarted_at_once_is_known_by_its_stateless_reset() {
    let ca = DevelopmentCa::create().unwrap();
    for dialler_dies in [true, false] {
        let (a, b, path) = pair(&ca, BadPath::clear);
        let (killed, witness) = if dialler_dies { (a, b) } else { (b, a) };
        let link = witness.link_to(killed.name());
        let (name, peers) = (killed.name().clone(), killed.peers.borrow().clone());
        path.set_black_hole(true);
        let again = killed.restart();
        // It dials nobody yet, so what the witness learns it learns from the reset.
        path.set_black_hole(false);
        let since = Instant::now();
        // A packet that the peer cannot read brings the reset; without media the next would be a probe of QUIC's, which come
        // ever more seldom, and silence might be noticed first.
        let down = |reason| witness.metric("isthmus_relay_links_down_total", &[("reason", reason)]);
        until(|| {
            let _ = link.media(1, packet(0, Codec::Opus, 80));
            (down("restarted") + down("silent") > 0).then_some(())
        });
        assert_eq!((down("restarted"), down("silent")), (1, 0), "known by the reset and not by silence");
        let noticed = since.elapsed();
        witness.expect_down(&name);
        again.peers.send_replace(peers);
        witness.link_to(&name);
        println!("dialler {dialler_dies}: noticed after {noticed:?}, link back after {:?}", since.elapsed());
    }
}

#[test]
fn a_node_that_closes_says_so() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, mut b, _path) = pair(&ca, BadPath::clear);
    a.link_to(b.name());
    b.link_to(a.name());
    let since = Instant::now();
    b.close();
    a.expect_down(b.name());
    assert!(since.elapsed() < Duration::from_secs(1), "after {:?}", since.elapsed());
    b.expect_down(a.name());
}

#[test]
fn a_peer_that_takes_no_control_messages_gets_a_new_link_and_loses_none_silently() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, path) = pair(&ca, BadPath::clear);
    let link = a.link_to(b.name());
    b.link_to(a.name());
    path.set_black_hole(true);
    let taken = (0..10 * CONTROL_QUEUE).take_while(|number| link.control(announcement(*number)).is_ok()).count();
    assert!(taken < 10 * CONTROL_QUEUE, "the queue has no bound");
    a.expect_down(b.name());
    path.set_black_hole(false);
    a.link_to(b.name()).control(announcement(42)).unwrap();
    b.link_to(a.name());
    let first = control_from(&b, &a);
    assert_eq!(first, isthmus_protocol::peer::PeerMessage::RoomOpened { room: room(42) }, "the new link begins anew");
}
