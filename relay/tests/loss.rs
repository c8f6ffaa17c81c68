//! Media over a path that loses: what the link loses the link repairs.
#![expect(clippy::disallowed_methods, reason = "IO: paces the sender by the clock")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use isthmus_protocol::media::{Codec, MediaPacket};
use isthmus_relay::{DevelopmentCa, Link, MeshEvent};
use support::{BadPath, Node, packet, pair};

const PACKETS: u16 = 1500;
const SPACING: Duration = Duration::from_millis(2);

/// Sound, a small layer, and one whose packets do not fit one datagram.
const STREAMS: [(u32, Codec, usize); 3] = [(1, Codec::Opus, 120), (2, Codec::Vp8, 700), (3, Codec::Vp8, 1450)];

fn send_all(link: &Link) {
    let start = Instant::now();
    for sequence in 0..PACKETS {
        for (stream, codec, bytes) in STREAMS {
            link.media(stream, packet(sequence, codec, bytes)).expect("the queue is far from full");
        }
        let due = start + SPACING * u32::from(sequence);
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
}

fn receive_all(node: &Node, count: usize) -> BTreeMap<(u32, u16), Vec<MediaPacket>> {
    let (mut got, mut total) = (BTreeMap::<_, Vec<_>>::new(), 0);
    node.expect("every packet", |event| {
        if let MeshEvent::Media { stream, packet, .. } = event {
            got.entry((stream, packet.sequence)).or_default().push(packet);
            total = got.len();
        }
        (total == count).then_some(())
    });
    got
}

#[test]
fn at_five_percent_loss_every_packet_arrives_once_and_unchanged() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, path) = pair(&ca, |target| BadPath::with(target, 7, 0.05, Duration::from_millis(10)));
    let link = a.link_to(b.name());
    let sending = std::thread::spawn(move || send_all(&link));
    let got = receive_all(&b, usize::from(PACKETS) * STREAMS.len());
    sending.join().unwrap();
    for (stream, codec, bytes) in STREAMS {
        for sequence in 0..PACKETS {
            let packets = &got[&(stream, sequence)];
            assert_eq!(packets[..], [packet(sequence, codec, bytes)], "stream {stream} packet {sequence}");
        }
    }
    let counted = |name, labels: &[_]| b.metric(name, labels);
    let repaired = counted("isthmus_relay_repairs_total", &[("outcome", "received")]);
    assert_eq!(counted("isthmus_relay_lost_total", &[]), 0);
    assert!(repaired > 0, "the path lost {} and nothing was repaired", path.lost());
    println!(
        "{} packets whole, {} UDP packets lost on the path, {repaired} datagrams repaired, {} sent for {} received",
        got.len(),
        path.lost(),
        a.metric("isthmus_relay_datagrams_total", &[("direction", "out")]),
        counted("isthmus_relay_datagrams_total", &[("direction", "in")]),
    );
}
