//! What a room does, on a virtual clock.

mod cluster;

mod moves;
mod scalable;
mod shards;

use std::{collections::BTreeSet, sync::Arc};

use isthmus_protocol::{
    media::{AudioLevel, MediaPacket},
    signal::{SlotState, Tile},
};
use proptest::prelude::*;

use super::*;
use cluster::{Cluster, PICTURE, RIDS, VOICE, joining, media, mid, picture, redundant_voice, voice};

#[test]
fn two_on_two_nodes_see_and_hear_each_other() {
    let mut cluster = Cluster::new(&["panama", "zurich"]);
    cluster.join(0, 1, "ana");
    cluster.join(1, 7, "ben");
    assert_eq!(cluster.roster(0), ["ana", "ben"]);
    assert_eq!(cluster.roster(1), ["ana", "ben"]);
    cluster.publish(0, 1, &RIDS);
    cluster.offer_slots(1, 7, 2);
    cluster.second_of_media(0, 1, &RIDS);
    cluster.second_of_media(0, 1, &RIDS);
    assert!(cluster.got(1, 7, "Audio0") > 90, "voice: {}", cluster.got(1, 7, "Audio0"));
    assert!(cluster.got(1, 7, "Video0") > 40, "picture: {}", cluster.got(1, 7, "Video0"));
    assert_eq!(cluster.got(0, 1, "Video0"), 0, "nobody is sent their own picture");
}

#[test]
fn a_stream_crosses_a_link_once_whatever_the_number_of_receivers() {
    let relayed_with = |receivers: usize| {
        let mut cluster = Cluster::new(&["panama", "zurich"]);
        cluster.join(0, 1, "ana");
        cluster.publish(0, 1, &RIDS);
        for receiver in 0..receivers {
            cluster.join(1, receiver, &format!("r{receiver}"));
            cluster.offer_slots(1, receiver, 1);
        }
        cluster.second_of_media(0, 1, &RIDS);
        cluster.relayed = 0;
        cluster.second_of_media(0, 1, &RIDS);
        cluster.relayed
    };
    let one = relayed_with(1);
    assert!(one > 60, "one receiver: {one}");
    assert_eq!(one, relayed_with(2));
    assert_eq!(one, relayed_with(5));
}

#[test]
fn what_a_picture_takes_is_known_elsewhere_before_it_is_asked_for() {
    for (rids, sent) in [(&RIDS[..], &RIDS[..]), (&[], &[""])] {
        let mut cluster = Cluster::new(&["panama", "zurich"]);
        cluster.join(1, 7, "ben");
        cluster.join(0, 1, "ana");
        cluster.publish(0, 1, rids);
        for sequence in 0..60 {
            for rid in sent {
                let rid = Some(*rid).filter(|rid| !rid.is_empty());
                cluster.send(0, 1, PICTURE, rid, &picture(sequence, 720, sequence == 0));
            }
            cluster.now += Duration::from_millis(33);
            cluster.settle();
        }
        let camera = cluster.nodes[1].room.publications.iter().find(|(_, p)| p.kind() == Kind::Video);
        let told: Vec<u32> =
            camera.map(|(_, p)| p.layers.iter().map(|layer| layer.told_kbps).collect()).expect("there");
        assert!(told.iter().all(|kbps| (400..700).contains(kbps)), "{told:?} kbit/s, 2160 bytes 30 times a second");
    }
}

#[test]
fn no_video_crosses_to_where_nobody_watches() {
    let mut cluster = Cluster::new(&["panama", "zurich"]);
    cluster.join(0, 1, "ana");
    cluster.publish(0, 1, &RIDS);
    cluster.join(1, 7, "ben");
    cluster.offer_slots(1, 7, 1);
    cluster.second_of_media(0, 1, &RIDS);
    cluster.nodes[1].room.view(ClientKey(7), Vec::new());
    cluster.run(Duration::from_millis(300));
    cluster.relayed = 0;
    cluster.second_of_media(0, 1, &RIDS);
    assert_eq!(cluster.relayed, 50, "the voice alone");
}

#[test]
fn a_slow_receiver_gets_the_low_layer_and_a_fast_one_the_high() {
    let mut cluster = Cluster::new(&["panama"]);
    cluster.join(0, 1, "ana");
    cluster.publish(0, 1, &RIDS);
    for (client, kbps) in [(2, 200), (3, 20_000)] {
        cluster.join(0, client, &format!("r{client}"));
        cluster.offer_slots(0, client, 1);
        cluster.nodes[0].room.estimate(ClientKey(client), Estimate::Path(kbps));
    }
    for _ in 0..6 {
        cluster.second_of_media(0, 1, &RIDS);
    }
    let rid = |cluster: &Cluster, client| {
        let slots = cluster.last_slots(0, client);
        slots.iter().find(|slot| slot.mid == "Video0").and_then(|slot| slot.content.clone()).and_then(|c| c.rid)
    };
    assert_eq!(rid(&cluster, 2).as_deref(), Some("q"));
    assert_eq!(rid(&cluster, 3).as_deref(), Some("f"));
}

#[test]
fn which_voices_take_turns_is_told_twice_a_second_and_in_the_end_as_it_is() {
    const SPEAKERS: usize = 12;
    let mut cluster = Cluster::new(&["panama"]);
    for client in 1..=SPEAKERS {
        cluster.join(0, client, &format!("s{client}"));
        cluster.publish(0, client, &[]);
    }
    cluster.join(0, 99, "ear");
    cluster.offer_slots(0, 99, 0);
    let told = |cluster: &Cluster| {
        let is_told = |(to, message): &&(ClientKey, ServerMessage)| {
            *to == ClientKey(99) && matches!(message, ServerMessage::Slots { .. })
        };
        cluster.nodes[0].signals.iter().filter(is_told).count()
    };
    let heard = |cluster: &Cluster| -> BTreeSet<String> {
        let contents = cluster.last_slots(0, 99).into_iter().filter_map(|slot| slot.content);
        contents.map(|content| content.participant.to_string()).collect()
    };
    let (before, mut turns) = (told(&cluster), BTreeSet::new());
    // Every 200 ms another three are the loudest by far, for six seconds.
    for step in 0..300u16 {
        let first = usize::from(step / 10) * 3 % SPEAKERS;
        for client in 1..=SPEAKERS {
            let is_loud = (first..first + 3).contains(&(client - 1));
            let level = AudioLevel { below_full_scale: if is_loud { 5 } else { 40 }, voice: true };
            cluster.send(0, client, VOICE, None, &MediaPacket { level: Some(level), ..voice(step) });
        }
        cluster.now += Duration::from_millis(20);
        cluster.settle();
        turns.insert(cluster.nodes[0].room.speakers.tracks().to_vec());
    }
    let told_in_time = told(&cluster) - before;
    assert!(turns.len() >= 4, "they take turns: {turns:?}");
    assert!((6..=14).contains(&told_in_time), "told {told_in_time} times in 6 s");
    // The last three go on alone.
    for step in 300..400u16 {
        for client in 10..=12 {
            cluster.send(0, client, VOICE, None, &voice(step));
        }
        cluster.now += Duration::from_millis(20);
        cluster.settle();
    }
    assert_eq!(heard(&cluster), ["s10", "s11", "s12"].map(String::from).into());
}

#[test]
fn what_a_voice_lost_on_its_way_here_is_heard_all_the_same_and_once() {
    // Each packet by itself, or all in a row.
    what_a_voice_lost_is_heard(1);
    what_a_voice_lost_is_heard(7);
}

fn what_a_voice_lost_is_heard(in_a_row: usize) {
    let mut cluster = Cluster::new(&["panama", "zurich"]);
    cluster.join(0, 1, "ana");
    cluster.publish(0, 1, &RIDS);
    for (at, client, name) in [(0, 2, "ben"), (1, 7, "cleo")] {
        cluster.join(at, client, name);
        cluster.offer_slots(at, client, 1);
    }
    cluster.second_of_media(0, 1, &RIDS);
    for node in &mut cluster.nodes {
        node.received.clear();
    }
    // 99 is lost, 102 too, 104 and 105, and 107 is overtaken by 108.
    let packets = [100, 101, 103, 106, 108, 107, 109].map(|sequence| Arc::new(redundant_voice(sequence)));
    for row in packets.chunks(in_a_row) {
        cluster.send_row(0, 1, VOICE, None, row);
    }
    for (at, client) in [(0, 2), (1, 7)] {
        let heard: Vec<u64> =
            cluster.received(at, client, "Audio0").map(|received| received.numbers.sequence).collect();
        let steps: Vec<u64> = heard.iter().map(|sequence| sequence - heard[0]).collect();
        assert_eq!(steps, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10], "104 alone is lost for good, by client {client}");
    }
}

#[test]
fn a_voice_is_heard_at_once_after_a_long_mute_here_and_elsewhere() {
    let mut cluster = Cluster::new(&["panama", "zurich"]);
    cluster.join(0, 1, "ana");
    cluster.publish(0, 1, &RIDS);
    for (at, client, name) in [(0, 2, "ben"), (1, 7, "cleo")] {
        cluster.join(at, client, name);
        cluster.offer_slots(at, client, 1);
    }
    cluster.second_of_media(0, 1, &[]);
    for missed in [5_000, 33_000, 50_000] {
        cluster.nodes[0].room.mute(ClientKey(1), VOICE, true);
        cluster.run(Duration::from_secs(1));
        cluster.sequence = cluster.sequence.wrapping_add(missed);
        cluster.nodes[0].room.mute(ClientKey(1), VOICE, false);
        cluster.settle();
        for node in &mut cluster.nodes {
            node.received.clear();
        }
        cluster.second_of_media(0, 1, &[]);
        for (at, client) in [(0, 2), (1, 7)] {
            assert!(cluster.got(at, client, "Audio0") >= 48, "{} after {missed}", cluster.got(at, client, "Audio0"));
        }
    }
}

#[test]
fn packets_in_a_row_go_to_one_receiver_after_the_other_from_where_a_picture_begins() {
    let mut cluster = Cluster::ana_and_ben(&["q"]);
    cluster.join(0, 3, "cleo");
    cluster.offer_slots(0, 3, 1);
    cluster.settle();
    let row = [(0, false), (1, true), (2, false), (3, false)];
    let row = row.map(|(sequence, key)| Arc::new(picture(sequence, 180, key)));
    cluster.send_row(0, 1, PICTURE, Some("q"), &row);
    let received = &cluster.nodes[0].received;
    let clients: Vec<usize> = received.iter().map(|received| received.client.0).collect();
    assert!([[2, 2, 2, 3, 3, 3], [3, 3, 3, 2, 2, 2]].contains(&clients[..].try_into().expect("three each")));
    for client in [2, 3] {
        let sequences: Vec<u16> =
            cluster.received(0, client, "Video0").map(|received| received.packet.sequence).collect();
        assert_eq!(sequences, [1, 2, 3], "the first belongs to a picture that cannot be decoded");
    }
}

#[test]
fn a_picture_that_comes_back_waits_for_a_keyframe_and_asks_for_it() {
    let mut cluster = Cluster::ana_and_ben(&["q"]);
    cluster.second_of_media(0, 1, &["q"]);
    cluster.nodes[0].room.mute(ClientKey(1), PICTURE, true);
    cluster.run(Duration::from_secs(1));
    cluster.nodes[0].keyframes_asked.clear();
    cluster.nodes[0].received.clear();
    cluster.nodes[0].room.mute(ClientKey(1), PICTURE, false);
    cluster.settle();
    assert_eq!(cluster.nodes[0].keyframes_asked.len(), 1);
    cluster.send(0, 1, PICTURE, Some("q"), &picture(2_000, 180, false));
    assert_eq!(cluster.got(0, 2, "Video0"), 0, "not decodable");
    cluster.send(0, 1, PICTURE, Some("q"), &picture(2_001, 180, true));
    assert_eq!(cluster.got(0, 2, "Video0"), 1);
}

#[test]
fn a_keyframe_is_asked_for_once_the_receiver_can_be_sent_it() {
    let mut cluster = Cluster::new(&["panama"]);
    cluster.join(0, 1, "ana");
    cluster.publish(0, 1, &["q"]);
    cluster.come_in(0, 2, joining("ben", "ben", None));
    cluster.offer_slots(0, 2, 1);
    cluster.second_of_media(0, 1, &["q"]);
    assert!(cluster.nodes[0].keyframes_asked.is_empty());
    assert_eq!(cluster.got(0, 2, "Video0") + cluster.got(0, 2, "Audio0"), 0);
    cluster.connect(0, 2);
    assert_eq!(cluster.nodes[0].keyframes_asked.len(), 1);
}

#[test]
fn a_keyframe_request_that_comes_too_soon_is_sent_later() {
    let mut cluster = Cluster::ana_and_ben(&["q"]);
    cluster.second_of_media(0, 1, &["q"]);
    cluster.run(Duration::from_secs(2));
    cluster.nodes[0].keyframes_asked.clear();
    let now = cluster.now;
    let room = &mut cluster.nodes[0].room;
    room.keyframe_wanted(ClientKey(2), mid("Video0"), now);
    room.keyframe_wanted(ClientKey(2), mid("Video0"), now + Duration::from_millis(100));
    cluster.settle();
    assert_eq!(cluster.nodes[0].keyframes_asked.len(), 1);
    cluster.run(Duration::from_millis(700));
    assert_eq!(cluster.nodes[0].keyframes_asked.len(), 2, "nobody has to ask again");
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.nodes[0].keyframes_asked.len(), 2);
}

#[test]
fn what_does_not_come_from_a_publisher_is_made_up_for_by_a_keyframe_where_anyone_watches() {
    let asked_after = |lost: &[u16], is_watched: bool| {
        let mut cluster = Cluster::new(&["panama"]);
        cluster.join(0, 1, "ana");
        cluster.publish(0, 1, &["q"]);
        cluster.join(0, 2, "ben");
        if is_watched {
            cluster.offer_slots(0, 2, 1);
        }
        cluster.send(0, 1, PICTURE, Some("q"), &picture(0, 180, true));
        cluster.run(Duration::from_secs(1));
        cluster.nodes[0].keyframes_asked.clear();
        for sequence in (1..20).filter(|sequence| !lost.contains(sequence)) {
            cluster.send(0, 1, PICTURE, Some("q"), &picture(sequence, 180, false));
        }
        cluster.run(Duration::from_millis(300));
        assert!(cluster.nodes[0].keyframes_asked.is_empty(), "it may still come");
        cluster.run(Duration::from_secs(3));
        cluster.nodes[0].keyframes_asked.len()
    };
    assert_eq!(asked_after(&[], true), 0);
    assert_eq!(asked_after(&[7, 8, 15], true), 1);
    assert_eq!(asked_after(&[7], false), 0);
}

#[test]
fn a_keyframe_whose_beginning_comes_late_switches_nothing() {
    let mut cluster = Cluster::ana_and_ben(&["q"]);
    cluster.send(0, 1, PICTURE, Some("q"), &picture(10, 180, false));
    cluster.settle();
    cluster.send(0, 1, PICTURE, Some("q"), &picture(12, 180, false));
    cluster.send(0, 1, PICTURE, Some("q"), &picture(11, 180, true));
    assert_eq!(cluster.got(0, 2, "Video0"), 0, "its second packet has gone by");
    cluster.send(0, 1, PICTURE, Some("q"), &picture(13, 180, true));
    assert_eq!(cluster.got(0, 2, "Video0"), 1);
}

#[test]
fn a_slot_that_goes_and_comes_back_goes_on_with_its_numbers() {
    let mut cluster = Cluster::ana_and_ben(&[]);
    cluster.second_of_media(0, 1, &[]);
    cluster.nodes[0].room.set_slots(ClientKey(2), &[]);
    cluster.settle();
    cluster.offer_slots(0, 2, 0);
    cluster.second_of_media(0, 1, &[]);
    let mut numbers: Vec<u64> = cluster.nodes[0].received.iter().map(|received| received.numbers.sequence).collect();
    let sent = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), sent, "an SRTP number was used twice");
    assert!(sent > 90, "{sent}");
}

#[test]
fn whoever_leaves_is_not_mentioned_any_more() {
    let mut cluster = Cluster::new(&["panama"]);
    cluster.join(0, 1, "ana");
    cluster.join(0, 2, "ben");
    cluster.publish(0, 1, &RIDS);
    let room = &mut cluster.nodes[0].room;
    room.mute(ClientKey(1), VOICE, true);
    room.leave(ClientKey(2), LeaveReason::Left);
    assert!(room.take_effects().iter().all(|effect| effect.client() != Some(ClientKey(2))), "its key may be reused");
}

#[test]
fn those_with_few_slots_get_the_loudest_voice_and_the_last_speakers_picture() {
    let mut cluster = Cluster::new(&["panama"]);
    for (client, name) in [(1, "ana"), (2, "ben")] {
        cluster.join(0, client, name);
        cluster.publish(0, client, &["q"]);
    }
    cluster.join(0, 3, "onlooker");
    let slot = |name, kind, codec| SlotOffer { mid: mid(name), kind, codecs: vec![codec], first_sequence: 1 };
    let slots = [slot("a", Kind::Audio, Codec::Opus), slot("v", Kind::Video, Codec::Vp8)];
    cluster.nodes[0].room.set_slots(ClientKey(3), &slots);
    cluster.second_of_media(0, 2, &["q"]);
    cluster.run(Duration::from_secs(3));
    let whose = |cluster: &Cluster, slot: &str| {
        let slots = cluster.last_slots(0, 3);
        slots.iter().find(|s| s.mid == slot).and_then(|s| s.content.as_ref()).map(|c| c.participant.to_string())
    };
    assert_eq!(whose(&cluster, "a").as_deref(), Some("ben"));
    assert_eq!(whose(&cluster, "v").as_deref(), Some("ben"), "long after the last word");
}

#[test]
fn no_node_speaks_for_the_track_of_another_nor_gets_media_of_a_room_it_is_not_in() {
    let mut cluster = Cluster::new(&["panama", "zurich", "rogue"]);
    cluster.join(0, 1, "ana");
    cluster.publish(0, 1, &["q"]);
    let track = cluster.nodes[0].room.publications.iter().next().map(|(_, p)| p.id.clone()).expect("published");
    let room = cluster.nodes[0].room.id.clone();
    let rogue: NodeId = "rogue".parse().expect("valid");
    let now = cluster.now;
    let layers = vec![isthmus_protocol::peer::LayerDemand { rid: None, stream: 9, rungs: None }];
    let demand = PeerMessage::Demand { room: room.clone(), track: track.clone(), layers, useful: 1 };
    let rogue = Peer::Node(rogue);
    cluster.nodes[0].room.peer_message(&rogue, demand, now);
    cluster.relayed = 0;
    cluster.second_of_media(0, 1, &["q"]);
    assert_eq!(cluster.relayed, 0, "it has not opened the room");
    let claimed = isthmus_protocol::signal::Track {
        id: track.clone(),
        source: Source::Microphone,
        muted: false,
        rids: Vec::new(),
    };
    let stay = isthmus_protocol::signal::Participant {
        id: "mallory".parse().expect("valid"),
        identity: "mallory".into(),
        name: "Mallory".into(),
        pop: "rogue".parse().expect("valid"),
        tracks: vec![claimed],
    };
    let message = PeerMessage::Participant { room, participant: stay, replaces: None };
    cluster.nodes[0].room.peer_message(&rogue, message, now);
    let owner = cluster.nodes[0]
        .room
        .track_by_id(&track)
        .map(|key| cluster.nodes[0].room.publications[key.0].participant.to_string());
    assert_eq!(owner.as_deref(), Some("ana"));
}

#[test]
fn a_moment_of_doubt_pauses_nothing_and_a_narrow_path_does() {
    let mut cluster = Cluster::ana_and_ben(&RIDS);
    cluster.nodes[0].room.estimate(ClientKey(2), Estimate::Path(1_000));
    cluster.second_of_media(0, 1, &RIDS);
    let pictures = |cluster: &mut Cluster, estimates: &[u32]| {
        let before = cluster.got(0, 2, "Video0");
        for kbps in estimates {
            cluster.nodes[0].room.estimate(ClientKey(2), Estimate::Path(*kbps));
            cluster.second_of_media(0, 1, &RIDS);
        }
        cluster.got(0, 2, "Video0") - before
    };
    assert!(pictures(&mut cluster, &[70]) >= 15, "half a second and more goes on, if in the lowest layer");
    let goes_on = pictures(&mut cluster, &[1_000, 1_000]);
    assert!(goes_on >= 40, "{goes_on} of 60 pictures");
    pictures(&mut cluster, &[70, 70]);
    assert_eq!(pictures(&mut cluster, &[70]), 0, "paused, so that the voice comes through");
    let slots = cluster.last_slots(0, 2);
    assert!(slots.iter().filter_map(|slot| slot.content.as_ref()).any(|content| content.state == SlotState::Paused));
    assert!(pictures(&mut cluster, &[1_000, 1_000]) > 0, "and comes back");
}

#[test]
fn a_receiver_that_reports_only_on_pictures_is_never_left_without_one() {
    let mut cluster = Cluster::ana_and_ben(&RIDS);
    cluster.second_of_media(0, 1, &RIDS);
    cluster.nodes[0].room.estimate(ClientKey(2), Estimate::Pictures(30));
    for _ in 0..3 {
        cluster.second_of_media(0, 1, &RIDS);
    }
    let before = cluster.got(0, 2, "Video0");
    cluster.second_of_media(0, 1, &RIDS);
    assert_eq!(cluster.got(0, 2, "Video0") - before, 30, "the lowest layer goes on");
}

#[test]
fn a_slot_shows_what_was_asked_for_and_nothing_undecodable() {
    let mut cluster = Cluster::ana_and_ben(&[]);
    let track = TrackId::of(&"ana".parse().expect("valid"), "1").expect("valid");
    cluster.nodes[0].room.view(ClientKey(2), vec![Tile { track: track.clone(), height: 360 }]);
    cluster.send(0, 1, PICTURE, None, &media(1, Codec::Av1, vec![0x18; 100]));
    cluster.run(Duration::from_millis(200));
    let slots = cluster.last_slots(0, 2);
    let content =
        slots.iter().find_map(|slot| slot.content.clone().filter(|c| c.track == track)).expect("it stands there");
    assert_eq!(content.state, SlotState::Unsupported);
    assert_eq!(cluster.got(0, 2, "Video0"), 0);
}

#[test]
fn a_lost_peer_takes_its_participants_with_it_and_nobody_else() {
    let mut cluster = Cluster::new(&["panama", "zurich", "singapore"]);
    cluster.join(0, 1, "ana");
    cluster.join(1, 2, "ben");
    cluster.join(2, 3, "cleo");
    let zurich = cluster.nodes[1].peer();
    cluster.nodes[0].room.peer_closed(&zurich, LeaveReason::NodeLost);
    cluster.settle();
    assert_eq!(cluster.roster(0), ["ana", "cleo"]);
    let left = ServerMessage::Left { participant: "ben".parse().expect("valid"), reason: LeaveReason::NodeLost };
    assert!(cluster.nodes[0].signals.contains(&(ClientKey(1), left)));
}

#[test]
fn muted_voices_are_not_forwarded() {
    let mut cluster = Cluster::ana_and_ben(&[]);
    cluster.nodes[0].room.mute(ClientKey(1), VOICE, true);
    cluster.send(0, 1, VOICE, None, &voice(1));
    assert_eq!(cluster.got(0, 2, "Audio0"), 0);
}

/// What may happen, at shards by their place in the cluster.
#[derive(Debug, Clone, Copy)]
enum Step {
    Join(usize, u8),
    /// Somebody who is in the room on one shard joins on another, or the same.
    Move(usize, u8, usize, u8),
    Leave(usize, u8),
    Publish(usize, u8),
    Slots(usize, u8, usize),
    Media(usize, u8),
    /// One does not reach another any more: of two nodes the one alone notices, of two shards of a node both.
    PeerLost(usize, usize),
}

fn steps(shards: usize) -> impl Strategy<Value = Vec<Step>> {
    let at = move || 0..shards;
    let step = prop_oneof![
        (at(), 0..4u8).prop_map(|(n, c)| Step::Join(n, c)),
        (at(), 0..4u8, at(), 4..8u8).prop_map(|(n, c, to, new)| Step::Move(n, c, to, new)),
        (at(), 0..8u8).prop_map(|(n, c)| Step::Leave(n, c)),
        (at(), 0..8u8).prop_map(|(n, c)| Step::Publish(n, c)),
        (at(), 0..8u8, 0..4usize).prop_map(|(n, c, s)| Step::Slots(n, c, s)),
        (at(), 0..8u8).prop_map(|(n, c)| Step::Media(n, c)),
        (at(), at()).prop_map(|(a, b)| Step::PeerLost(a, b)),
    ];
    prop::collection::vec(step, 1..60)
}

fn carry_out(cluster: &mut Cluster, step: Step) {
    match step {
        Step::Join(at, client) => {
            if !cluster.nodes[at].has(usize::from(client)) {
                cluster.join(at, usize::from(client), &format!("p{at}{client}"));
            }
        }
        Step::Move(from, client, to, new) => {
            let name = format!("p{from}{client}");
            if !cluster.nodes[to].has(usize::from(new)) {
                cluster.come_in(to, usize::from(new), joining(&format!("p{to}{new}"), &name, Some(&name)));
                cluster.connect(to, usize::from(new));
            }
        }
        Step::Leave(at, client) => {
            cluster.nodes[at].room.leave(ClientKey(usize::from(client)), LeaveReason::Left);
            cluster.settle();
        }
        Step::Publish(at, client) => cluster.publish(at, usize::from(client), &RIDS),
        Step::Slots(at, client, video) => cluster.offer_slots(at, usize::from(client), video),
        Step::Media(at, client) => {
            cluster.send(at, usize::from(client), VOICE, None, &voice(1));
            cluster.send(at, usize::from(client), PICTURE, Some("q"), &picture(1, 180, true));
            cluster.settle();
        }
        Step::PeerLost(at, other) => cluster.lose(at, other),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever people do in whatever order, nothing panics, subscriptions and slots agree, and nobody hears themselves.
    #[test]
    fn any_order_of_events_keeps_the_room_consistent(steps in steps(3)) {
        check_after_each(Cluster::new(&["panama", "zurich", "singapore"]), steps)?;
    }

    /// The same when nodes have several shards.
    #[test]
    fn any_order_of_events_keeps_a_room_on_several_shards_consistent(steps in steps(6)) {
        check_after_each(Cluster::of_shards(&[("panama", 2), ("zurich", 1), ("singapore", 3)]), steps)?;
    }

    /// As long as nodes reach each other, every shard knows of everyone, also when the way between two shards broke.
    #[test]
    fn all_shards_agree_on_who_is_there(steps in steps(5)) {
        let mut cluster = Cluster::of_shards(&[("panama", 3), ("zurich", 2)]);
        for step in steps {
            let apart = |a: usize, b: usize| cluster.nodes[a].node != cluster.nodes[b].node;
            match step {
                Step::PeerLost(a, b) if apart(a, b) => {}
                step => carry_out(&mut cluster, step),
            }
        }
        cluster.run(Duration::from_secs(2));
        let mut everyone: Vec<String> =
            cluster.nodes.iter().flat_map(|shard| shard.room.clients.values()).map(ToString::to_string).collect();
        everyone.sort_unstable();
        for (at, _) in cluster.nodes.iter().enumerate().filter(|(_, shard)| !shard.room.is_empty()) {
            prop_assert_eq!(cluster.roster(at), everyone.clone(), "shard {}", at);
        }
    }
}

fn check_after_each(mut cluster: Cluster, steps: Vec<Step>) -> Result<(), TestCaseError> {
    for step in steps {
        carry_out(&mut cluster, step);
        for shard in &cluster.nodes {
            check(&shard.room)?;
        }
    }
    cluster.run(Duration::from_secs(2));
    for shard in &cluster.nodes {
        check(&shard.room)?;
        prop_assert!(shard.room.standing_by.is_empty(), "a connected stay takes over");
    }
    Ok(())
}

fn check(room: &Room) -> Result<(), TestCaseError> {
    for (client, receiver) in &room.receivers {
        let own = &room.clients[client];
        for kind in [Kind::Audio, Kind::Video] {
            for (index, slot) in receiver.slots(kind).iter().enumerate() {
                let Some(track) = slot.track else { continue };
                let publication = &room.publications[track.0];
                prop_assert!(publication.participant != *own, "own track in a slot");
                prop_assert!(room.is_visible(&publication.participant, own), "a track in a slot too soon, or too long");
                prop_assert_eq!(publication.kind(), kind);
                let stands = publication.subscribers.get(slot.place);
                let own = publications::Subscriber { client: *client, kind, slot: index };
                prop_assert_eq!(stands, Some(&own));
            }
        }
    }
    for (key, publication) in &room.publications {
        prop_assert!(room.members[&publication.participant].tracks.contains(&TrackKey(key)));
        for subscriber in &publication.subscribers {
            let slot = &room.receivers[&subscriber.client].slots(subscriber.kind)[subscriber.slot];
            prop_assert_eq!(slot.track, Some(TrackKey(key)));
        }
    }
    let stand_by = room.members.iter().filter(|(_, member)| member.stands_by_for.is_some()).map(|(id, _)| id);
    prop_assert!(stand_by.clone().all(|id| room.standing_by.contains(id)));
    prop_assert_eq!(stand_by.count(), room.standing_by.len());
    for (peer, told) in &room.peers {
        prop_assert_eq!(room.members.values().filter(|member| member.at.peer() == Some(peer)).count(), *told);
    }
    Ok(())
}
