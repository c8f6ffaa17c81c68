//! Scalable pictures: who gets which part of a stream, here and behind a link, and that nobody notices what was left out.

use isthmus_protocol::{media::MediaPacket, signal::Tile};

use super::{
    super::*,
    cluster::{Cluster, PICTURE, Received, media},
};
use crate::core::egress::keys::bytes;

const ANA: usize = 1;
const LARGE: usize = 2;
const SMALL: usize = 3;
const FAR: usize = 7;

/// What Chromium sends with keyframes of VP9 in `L2T3_KEY`, 640 by 360 pixels: how its frames depend on each other.
const STRUCTURE: &str = "80 0514853aaaa8018004004002a02a0060010015d34514174d144c700874321651118543276809f8059813f80b38";
/// Its templates for the two sizes of a keyframe, and of the pictures that follow, over and over.
const OF_KEYFRAME: [u8; 2] = [0, 5];
const OF_OTHERS: [[u8; 2]; 4] = [[3, 8], [2, 7], [4, 9], [1, 6]];
const STARTS_AND_ENDS: u8 = 0xc0;

/// Ana, who sends two sizes in one stream, and what she has sent so far.
struct Scene {
    cluster: Cluster,
    frames: u16,
    since_keyframe: usize,
}

impl Scene {
    fn new() -> Self {
        let mut cluster = Cluster::new(&["panama", "zurich"]);
        cluster.join(0, ANA, "ana");
        cluster.publish(0, ANA, &[]);
        for (at, client) in [(0, LARGE), (0, SMALL), (1, FAR)] {
            cluster.join(at, client, &format!("viewer{client}"));
            cluster.offer_slots(at, client, 1);
        }
        let mut scene = Self { cluster, frames: 0, since_keyframe: 0 };
        scene.view(0, LARGE, 360);
        scene.view(0, SMALL, 180);
        scene.view(1, FAR, 180);
        scene.seconds(2);
        scene.forget();
        scene
    }

    fn view(&mut self, at: usize, client: usize, height: u16) {
        let track = TrackId::of(&"ana".parse().expect("valid"), &PICTURE).expect("valid");
        self.cluster.nodes[at].room.view(ClientKey(client), vec![Tile { track, height }]);
        self.cluster.settle();
    }

    fn forget(&mut self) {
        self.cluster.nodes.iter_mut().for_each(|node| node.received.clear());
        self.cluster.relayed = 0;
    }

    /// Thirty pictures a second in two sizes, the larger one in two packets.
    fn seconds(&mut self, count: u32) {
        for _ in 0..30 * count {
            let asked = std::mem::take(&mut self.cluster.nodes[0].keyframes_asked);
            let is_key = self.frames == 0 || !asked.is_empty();
            self.since_keyframe = if is_key { 0 } else { self.since_keyframe + 1 };
            let templates = if is_key { OF_KEYFRAME } else { OF_OTHERS[(self.since_keyframe - 1) % 4] };
            for (spatial, template) in templates.into_iter().enumerate() {
                let structure = if is_key && spatial == 0 { bytes(STRUCTURE) } else { Vec::new() };
                let number = self.frames.to_be_bytes();
                let whole = [&[STARTS_AND_ENDS | template][..], &number, &structure].concat();
                self.send(if spatial == 0 { whole } else { vec![0x80 | template, number[0], number[1]] }, false);
                if spatial == 1 {
                    self.send(vec![0x40 | template, number[0], number[1]], true);
                }
                self.frames = self.frames.wrapping_add(1);
            }
            self.cluster.now += Duration::from_millis(33);
            self.cluster.settle();
        }
    }

    fn send(&mut self, descriptor: Vec<u8>, ends_picture: bool) {
        let sequence = self.cluster.sequence;
        self.cluster.sequence = sequence.wrapping_add(1);
        let packet = MediaPacket {
            timestamp: u32::from(self.frames / 2) * 3_000,
            marker: ends_picture,
            descriptor: Some(descriptor.into()),
            ..media(sequence, Codec::Vp8, vec![0x10; 500])
        };
        self.cluster.send(0, ANA, PICTURE, None, &packet);
    }

    /// What a viewer got: the size of each packet's frame, which is 0 or 1. Its numbers have no gap, and pictures have an end.
    fn sizes(&self, at: usize, client: usize) -> Vec<usize> {
        let received: Vec<&Received> = self.cluster.received(at, client, "Video0").collect();
        for pair in received.windows(2) {
            let step = pair[1].numbers.sequence.wrapping_sub(pair[0].numbers.sequence);
            assert_eq!(step, 1, "packets follow each other");
            let frames = pair[1].numbers.frame.zip(pair[0].numbers.frame).map(|(next, last)| next.wrapping_sub(last));
            assert!(frames.is_some_and(|step| step <= 8), "frames follow each other");
            let is_next_picture = pair[1].numbers.timestamp != pair[0].numbers.timestamp;
            assert_eq!(pair[0].marker, is_next_picture, "the last packet of a picture says so");
        }
        let template = |received: &&Received| received.packet.descriptor.as_deref().map(|bytes| bytes[0] & 0x3f);
        received.iter().map(|received| usize::from(template(received) >= Some(5))).collect()
    }
}

#[test]
fn everyone_gets_the_size_they_show_and_a_link_carries_no_more() {
    let mut scene = Scene::new();
    scene.seconds(1);
    assert_eq!(scene.sizes(0, LARGE), [1; 60], "two packets of each picture, and nothing of the smaller ones");
    assert_eq!(scene.sizes(0, SMALL), [0; 30]);
    assert_eq!(scene.sizes(1, FAR), [0; 30]);
    assert_eq!(scene.cluster.relayed, 30);
    scene.view(1, FAR, 360);
    scene.seconds(1);
    scene.forget();
    scene.seconds(1);
    assert_eq!(scene.sizes(1, FAR), [1; 60]);
    assert_eq!(scene.cluster.relayed, 60, "the smaller size is not asked for any more");
    assert_eq!(scene.sizes(0, SMALL), [0; 30]);
}

#[test]
fn nobody_notices_a_change_of_size() {
    let mut scene = Scene::new();
    for (at, client, height) in [(1, FAR, 360), (0, LARGE, 180), (0, SMALL, 360), (1, FAR, 180)] {
        scene.view(at, client, height);
        scene.seconds(4);
    }
    let has_both = |at, client| {
        let sizes = scene.sizes(at, client);
        sizes.contains(&0) && sizes.contains(&1)
    };
    assert!(has_both(0, LARGE) && has_both(0, SMALL) && has_both(1, FAR));
}

#[test]
fn a_path_too_narrow_for_every_picture_gets_every_second_or_fourth() {
    let mut scene = Scene::new();
    // 30 packets of 500 bytes take 120 kbit/s, every second one 60; an estimate includes what a voice takes.
    scene.cluster.nodes[0].room.estimate(ClientKey(SMALL), Estimate::Path(150));
    scene.seconds(1);
    scene.forget();
    scene.seconds(1);
    assert_eq!(scene.sizes(0, SMALL), [0; 15]);
    scene.cluster.nodes[0].room.estimate(ClientKey(SMALL), Estimate::Path(2_000));
    scene.seconds(4);
    scene.forget();
    scene.seconds(1);
    assert_eq!(scene.sizes(0, SMALL), [0; 30]);
}

/// What Chromium sends with keyframes of one size at three rates, but for the height at its end.
const RATES: &str = "80 0214eaa860414d1410208427027f";
/// Its template for keyframes, and those of the pictures that follow.
const KEYFRAME: u8 = 0;
const OTHERS: [u8; 4] = [3, 2, 4, 1];

#[test]
fn a_smaller_layer_of_a_simulcast_comes_at_its_full_rate_at_once() {
    let rids = ["q", "h"];
    let mut cluster = Cluster::new(&["panama", "zurich"]);
    cluster.join(0, ANA, "ana");
    cluster.publish(0, ANA, &rids);
    let mut since_keyframe = [0usize; 2];
    let mut second = |cluster: &mut Cluster| {
        for _ in 0..30 {
            let sequence = cluster.sequence;
            cluster.sequence = sequence.wrapping_add(1);
            let asked = std::mem::take(&mut cluster.nodes[0].keyframes_asked);
            for (layer, rid) in rids.into_iter().enumerate() {
                let is_key = sequence == 0 || asked.contains(&(ClientKey(ANA), Some(Rid::from(rid))));
                since_keyframe[layer] = if is_key { 0 } else { since_keyframe[layer] + 1 };
                let template = if is_key { KEYFRAME } else { OTHERS[(since_keyframe[layer] - 1) % 4] };
                let mut descriptor = [&[STARTS_AND_ENDS | template][..], &sequence.to_be_bytes()].concat();
                if is_key {
                    let height: u16 = 180 << layer;
                    descriptor.extend(bytes(RATES).into_iter().chain((height - 1).to_be_bytes()));
                }
                let packet = media(sequence, Codec::Vp8, vec![0x10; 500 << layer]);
                let packet = MediaPacket { descriptor: Some(descriptor.into()), ..packet };
                cluster.send(0, ANA, PICTURE, Some(rid), &packet);
            }
            cluster.now += Duration::from_millis(33);
            cluster.settle();
        }
    };
    let track = TrackId::of(&"ana".parse().expect("valid"), &PICTURE).expect("valid");
    // Whoever comes later knows from the start what each layer takes, and has seen nothing of the smaller one.
    (0..2).for_each(|_| second(&mut cluster));
    cluster.join(1, FAR, "far");
    cluster.offer_slots(1, FAR, 1);
    for height in [360, 180, 360, 180] {
        cluster.nodes[1].room.view(ClientKey(FAR), vec![Tile { track: track.clone(), height }]);
        cluster.settle();
        second(&mut cluster);
        // Nothing is raised for a while after it was lowered.
        (0..if height == 360 { 3 } else { 0 }).for_each(|_| second(&mut cluster));
        cluster.nodes[1].received.clear();
        second(&mut cluster);
        let bytes: Vec<usize> = cluster.received(1, FAR, "Video0").map(|got| got.packet.payload.len()).collect();
        assert_eq!(bytes, [if height == 360 { 1_000 } else { 500 }; 30], "{height} lines");
    }
}
