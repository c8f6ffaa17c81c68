//! Media over a path that carries less than there is: speech goes before pictures.
#![expect(clippy::disallowed_methods, reason = "IO: paces the sender by the clock")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use isthmus_protocol::media::Codec;
use isthmus_relay::{DevelopmentCa, Link, MeshEvent};
use support::{
    BadPath, Node, packet, pair,
    path::{Bottleneck, Conditions},
};

const VOICE: u32 = 1;
const PICTURE: u32 = 2;
/// Of 20 ms.
const STEPS: u16 = 400;
/// 4 Mbit/s of pictures into 2 Mbit/s, for eight seconds.
const PICTURES_PER_STEP: u16 = 8;
const PICTURE_BYTES: usize = 1200;
const CONDITIONS: Conditions = Conditions {
    seed: 3,
    loss: 0.0,
    delay: Duration::from_millis(40),
    bottleneck: Some(Bottleneck { rate_bps: 2_000_000, queue: Duration::from_secs(1) }),
};
const QUIET: Duration = Duration::from_secs(3);

fn send_all(link: &Link) -> Instant {
    let start = Instant::now();
    for step in 0..STEPS {
        thread::park_timeout(
            (start + Duration::from_millis(20) * u32::from(step)).saturating_duration_since(Instant::now()),
        );
        link.media(VOICE, packet(step, Codec::Opus, 80)).expect("the queue is far from full");
        for index in 0..PICTURES_PER_STEP {
            let sequence = step * PICTURES_PER_STEP + index;
            link.media(PICTURE, packet(sequence, Codec::Vp8, PICTURE_BYTES)).expect("the queue is far from full");
        }
    }
    start
}

fn dropped(node: &Node, reason: &str) -> u64 {
    node.metric("isthmus_drops_total", &[("reason", reason)])
}

#[test]
fn pictures_give_way_to_speech() {
    let ca = DevelopmentCa::create().unwrap();
    let (a, b, path) = pair(&ca, |target| BadPath::under(target, CONDITIONS));
    let link = a.link_to(b.name());
    let sending = thread::spawn(move || send_all(&link));
    let (mut voices, mut pictures) = (Vec::new(), BTreeSet::new());
    while let Ok(event) = b.events.recv_timeout(QUIET) {
        match event {
            MeshEvent::Media { stream: VOICE, packet, .. } => voices.push((packet.sequence, Instant::now())),
            MeshEvent::Media { packet, .. } => drop(pictures.insert(packet.sequence)),
            MeshEvent::LinkDown { .. } => panic!("the link came down"),
            _ => (),
        }
    }
    let start = sending.join().unwrap();
    let mut late: Vec<Duration> =
        voices.iter().map(|(sequence, at)| *at - (start + Duration::from_millis(20) * u32::from(*sequence))).collect();
    late.sort_unstable();
    println!(
        "{} of {STEPS} voices, one way p50 {:?}, p95 {:?}; {} of {} pictures; {} lost on the path; pictures dropped: {} late, {} full; sound: {} late, {} full",
        voices.len(),
        late.get(late.len() / 2),
        late.get(late.len() * 95 / 100),
        pictures.len(),
        u32::from(STEPS) * u32::from(PICTURES_PER_STEP),
        path.lost(),
        dropped(&a, "relay_late"),
        dropped(&a, "relay_congested"),
        dropped(&a, "relay_sound_late"),
        dropped(&a, "relay_sound_full"),
    );
    assert!(dropped(&a, "relay_late") + dropped(&a, "relay_congested") > 0, "the path was not narrow");
    // A machine that stops for a while loses some.
    assert!(voices.len() >= usize::from(STEPS) * 98 / 100, "{} of {STEPS} voices", voices.len());
    assert!(pictures.len() >= 500, "{} pictures: the path carries three times as many", pictures.len());
}
