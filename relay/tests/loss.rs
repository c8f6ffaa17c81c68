//! Media over a path that loses: what the link loses the link repairs.
#![expect(clippy::disallowed_methods, reason = "IO: paces the sender by the clock")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use isthmus_protocol::media::{Codec, MediaPacket};
use isthmus_relay::{DevelopmentCa, Link, MeshEvent};
use support::{BadPath, Node, packet, pair};

const PACKETS: u16 = 1000;
const SPACING: Duration = Duration::from_millis(4);
/// Sound, a small layer, and one whose packets do not fit one datagram.
const STREAMS: [(u32, Codec, usize); 3] = [(1, Codec::Opus, 120), (2, Codec::Vp8, 700), (3, Codec::Vp8, 1450)];
const ALL: usize = PACKETS as usize * STREAMS.len();
/// No repair takes longer than a second.
const QUIET: Duration = Duration::from_secs(2);

fn send_all(link: &Link) {
    let start = Instant::now();
    for sequence in 0..PACKETS {
        for (stream, codec, bytes) in STREAMS {
            link.media(stream, packet(sequence, codec, bytes)).expect("the queue is far from full");
        }
        let due = start + SPACING * u32::from(sequence);
        thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
}

/// What arrives until everything has, or nothing more comes.
fn receive_all(node: &Node) -> BTreeMap<(u32, u16), Vec<MediaPacket>> {
    let mut got = BTreeMap::<_, Vec<_>>::new();
    while got.len() < ALL {
        match node.events.recv_timeout(QUIET) {
            Ok(MeshEvent::Media { stream, packet, .. }) => {
                got.entry((stream, packet.sequence)).or_default().push(packet);
            }
            Ok(MeshEvent::LinkDown { .. }) => panic!("the link came down"),
            Ok(_) => (),
            Err(_) => break,
        }
    }
    got
}

fn check(loss: f64, one_way: Duration) {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, path) = pair(&ca, |target| BadPath::with(target, 7, loss, one_way));
    let link = a.link_to(b.name());
    let sending = thread::spawn(move || send_all(&link));
    let got = receive_all(&b);
    sending.join().unwrap();
    for (stream, codec, bytes) in STREAMS {
        for sequence in 0..PACKETS {
            if let Some(packets) = got.get(&(stream, sequence)) {
                assert_eq!(packets[..], [packet(sequence, codec, bytes)], "stream {stream} packet {sequence}");
            }
        }
    }
    let repairs = |node: &Node, outcome| node.metric("isthmus_relay_repairs_total", &[("outcome", outcome)]);
    println!(
        "loss {loss}, {one_way:?} one way: {} of {ALL} packets, {} UDP packets lost on the path, {} datagrams repaired, {} repeated, {} sent in all",
        got.len(),
        path.lost(),
        repairs(&b, "received"),
        repairs(&a, "sent"),
        a.metric("isthmus_relay_datagrams_total", &[("direction", "out")]),
    );
    for reason in ["relay_late", "relay_congested", "relay_sound_late", "relay_sound_full"] {
        println!("held back by the sender, {reason}: {}", a.metric("isthmus_drops_total", &[("reason", reason)]));
    }
    println!("not repeated: {}", repairs(&a, "capped"));
    assert!(repairs(&b, "received") > 0, "the path lost {} and nothing was repaired", path.lost());
    // A machine that stops for a second loses more than the path does; otherwise none is missing.
    assert!(ALL - got.len() <= ALL / 1000, "{} of {ALL} packets stayed lost", ALL - got.len());
}

#[test]
fn at_five_percent_loss_every_packet_arrives_once_and_unchanged() {
    check(0.05, Duration::from_millis(10));
}

#[test]
fn so_it_does_around_the_world_at_two_percent() {
    check(0.02, Duration::from_millis(125));
}
