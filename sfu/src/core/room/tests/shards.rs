//! A room on several shards of a node: for everyone in it one room, for other nodes one node.

use super::{
    super::*,
    cluster::{Cluster, PICTURE, RIDS, VOICE, joining, mid, picture, voice},
};
use isthmus_protocol::media::AudioLevel;

/// Panama's home and branch, zurich's home and branch.
fn two_nodes_of_two_shards() -> Cluster {
    Cluster::of_shards(&[("panama", 2), ("zurich", 2)])
}

#[test]
fn people_on_any_shard_of_any_node_see_and_hear_each_other() {
    for (from, to) in [(1, 3), (1, 0), (0, 1), (0, 3), (3, 1)] {
        let mut cluster = two_nodes_of_two_shards();
        cluster.join(from, 1, "ana");
        cluster.join(to, 7, "ben");
        cluster.publish(from, 1, &RIDS);
        cluster.offer_slots(to, 7, 2);
        cluster.second_of_media(from, 1, &RIDS);
        cluster.second_of_media(from, 1, &RIDS);
        for at in [from, to] {
            assert_eq!(cluster.roster(at), ["ana", "ben"], "{from} to {to}");
        }
        assert!(cluster.got(to, 7, "Audio0") > 90, "{from} to {to}, voice: {}", cluster.got(to, 7, "Audio0"));
        assert!(cluster.got(to, 7, "Video0") > 40, "{from} to {to}, picture: {}", cluster.got(to, 7, "Video0"));
    }
}

#[test]
fn a_stream_crosses_each_link_once_however_many_shards_watch_it() {
    let crossed_with = |receivers: &[usize]| {
        let mut cluster = Cluster::of_shards(&[("panama", 2), ("zurich", 3)]);
        cluster.join(1, 1, "ana");
        cluster.publish(1, 1, &RIDS);
        for (client, at) in receivers.iter().enumerate() {
            cluster.join(*at, 10 + client, &format!("r{client}"));
            cluster.offer_slots(*at, 10 + client, 1);
        }
        cluster.second_of_media(1, 1, &RIDS);
        (cluster.relayed, cluster.relayed_inside) = (0, 0);
        cluster.second_of_media(1, 1, &RIDS);
        (cluster.relayed, cluster.relayed_inside)
    };
    let (between, inside) = crossed_with(&[2]);
    assert!(between > 60, "{between}");
    assert_eq!(inside, between, "from the branch to its home");
    assert_eq!(crossed_with(&[3]), (between, 2 * between), "and to the branch that watches");
    assert_eq!(crossed_with(&[2, 3, 3, 4, 4]), (between, 3 * between));
}

/// Voices of these levels below full scale, one after the other, for a second.
fn second_of_voices(cluster: &mut Cluster, voices: &[(usize, usize, u8)]) {
    some_of_voices(cluster, voices, 50);
}

/// The same for so many packets of each.
fn some_of_voices(cluster: &mut Cluster, voices: &[(usize, usize, u8)], packets: u16) {
    for step in 0..packets {
        for (at, client, below_full_scale) in voices {
            let level = Some(AudioLevel { below_full_scale: *below_full_scale, voice: true });
            let sequence = cluster.sequence.wrapping_add(step);
            cluster.send(*at, *client, VOICE, None, &isthmus_protocol::media::MediaPacket { level, ..voice(sequence) });
        }
        cluster.now += Duration::from_millis(20);
        cluster.settle();
    }
    cluster.sequence = cluster.sequence.wrapping_add(packets);
}

#[test]
fn the_loudest_three_are_heard_everywhere_and_only_they_cross() {
    let mut cluster = two_nodes_of_two_shards();
    let speakers: Vec<(usize, usize)> = (0..4).flat_map(|at| (0..4).map(move |client| (at, client))).collect();
    for (at, client) in &speakers {
        cluster.join(*at, *client, &format!("s{at}{client}"));
        cluster.publish(*at, *client, &["q"]);
    }
    for at in 0..4 {
        cluster.join(at, 9, &format!("listener{at}"));
        cluster.offer_slots(at, 9, 0);
    }
    // The loudest on three different shards.
    let loud = [(1, 2), (2, 0), (3, 3)];
    let level = |who: (usize, usize)| if loud.contains(&who) { 20 } else { 45 };
    let voices: Vec<(usize, usize, u8)> = speakers.iter().map(|who| (who.0, who.1, level(*who))).collect();
    second_of_voices(&mut cluster, &voices);
    let before: Vec<usize> = (0..4).map(|at| heard(&cluster, at)).collect();
    (cluster.relayed, cluster.relayed_inside) = (0, 0);
    second_of_voices(&mut cluster, &voices);
    for (at, before) in before.iter().enumerate() {
        let whom: Vec<String> = cluster
            .last_slots(at, 9)
            .iter()
            .filter_map(|s| Some(s.content.as_ref()?.participant.to_string()))
            .collect();
        assert_eq!(heard(&cluster, at) - before, 150, "three voices at {at}: {whom:?}");
        for (of, client) in loud {
            assert!(whom.contains(&format!("s{of}{client}")), "s{of}{client} at {at}: {whom:?}");
        }
    }
    assert!(cluster.relayed <= 2 * 3 * 50, "each node sends three at most: {}", cluster.relayed);
    assert!(cluster.relayed_inside <= 4 * 3 * 50, "and each shard: {}", cluster.relayed_inside);
}

#[test]
fn voices_that_take_turns_anywhere_leave_no_losses_to_report() {
    for ends in [&[("panama", 1), ("zurich", 1)][..], &[("panama", 2)]] {
        let mut cluster = Cluster::of_shards(ends);
        let speakers: Vec<(usize, usize)> = (0..2).flat_map(|at| (0..5).map(move |client| (at, client))).collect();
        for (at, client) in &speakers {
            cluster.join(*at, *client, &format!("s{at}{client}"));
            cluster.publish(*at, *client, &["q"]);
        }
        cluster.join(1, 9, "listener");
        cluster.offer_slots(1, 9, 0);
        // Words and pauses of some 100 ms, of everyone at the same time.
        let mut random = 1u32;
        let mut level = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 { 127 } else { 20 + (random >> 24 & 15) as u8 }
        };
        for _ in 0..300 {
            let voices: Vec<_> = speakers.iter().map(|(at, client)| (*at, *client, level())).collect();
            some_of_voices(&mut cluster, &voices, 6);
        }
        for slot in 0..3 {
            let sequences: Vec<u64> =
                cluster.received(1, 9, &format!("Audio{slot}")).map(|received| received.numbers.sequence).collect();
            let gaps: Vec<_> = sequences.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
            assert!(
                sequences.len() > 1_000 && gaps.is_empty(),
                "{ends:?}, slot {slot}: {gaps:?} of {}",
                sequences.len()
            );
        }
    }
}

fn heard(cluster: &Cluster, at: usize) -> usize {
    (0..3).map(|slot| cluster.got(at, 9, &format!("Audio{slot}"))).sum()
}

#[test]
fn whoever_speaks_loudest_on_a_shard_hears_the_three_others() {
    let mut cluster = Cluster::of_shards(&[("panama", 2)]);
    for client in 0..3 {
        cluster.join(1, client, &format!("near{client}"));
        cluster.publish(1, client, &["q"]);
    }
    cluster.join(0, 9, "far");
    cluster.publish(0, 9, &["q"]);
    cluster.offer_slots(1, 0, 0);
    let voices = [(1, 0, 20), (1, 1, 22), (1, 2, 24), (0, 9, 40)];
    second_of_voices(&mut cluster, &voices);
    cluster.nodes[1].received.clear();
    second_of_voices(&mut cluster, &voices);
    assert_eq!(cluster.nodes[1].received.len(), 150, "far too, who is not among the loudest three of all");
}

#[test]
fn a_layer_is_asked_for_and_a_keyframe_too_through_every_shard_on_the_way() {
    let mut cluster = two_nodes_of_two_shards();
    cluster.join(1, 1, "ana");
    cluster.publish(1, 1, &RIDS);
    cluster.join(3, 7, "ben");
    cluster.offer_slots(3, 7, 1);
    let track = TrackId::of(&"ana".parse().expect("valid"), "1").expect("valid");
    let tile = isthmus_protocol::signal::Tile { track, height: 150 };
    cluster.nodes[3].room.view(ClientKey(7), vec![tile]);
    for _ in 0..8 {
        cluster.second_of_media(1, 1, &RIDS);
    }
    let told = cluster.nodes[1].signals.iter().rev().find_map(|(_, message)| match message {
        ServerMessage::Layers { rids, .. } => Some(rids.clone()),
        _ => None,
    });
    assert_eq!(told, Some(vec!["q".to_owned()]), "nobody shows it larger");
    cluster.nodes[1].keyframes_asked.clear();
    let now = cluster.now;
    cluster.nodes[3].room.keyframe_wanted(ClientKey(7), mid("Video0"), now);
    cluster.settle();
    assert_eq!(cluster.nodes[1].keyframes_asked, [(ClientKey(1), Some(Rid::from("q")))]);
    let before = cluster.got(3, 7, "Video0");
    cluster.send(1, 1, PICTURE, Some("q"), &picture(cluster.sequence, 180, true));
    assert_eq!(cluster.got(3, 7, "Video0"), before + 1);
}

#[test]
fn the_home_stays_while_a_branch_needs_it_and_no_longer() {
    let mut cluster = Cluster::of_shards(&[("panama", 2), ("zurich", 1)]);
    cluster.join(2, 7, "ben");
    cluster.offer_slots(2, 7, 1);
    cluster.join(0, 1, "ana");
    cluster.join(1, 2, "cleo");
    cluster.publish(1, 2, &RIDS);
    cluster.nodes[0].room.leave(ClientKey(1), LeaveReason::Left);
    cluster.settle();
    assert_eq!(cluster.roster(2), ["ben", "cleo"]);
    cluster.second_of_media(1, 2, &RIDS);
    assert!(cluster.got(2, 7, "Audio0") > 40, "through a home that has nobody itself");
    cluster.nodes[1].room.leave(ClientKey(2), LeaveReason::Left);
    cluster.settle();
    assert_eq!(cluster.roster(2), ["ben"]);
    assert_eq!(cluster.nodes[2].room.peers().count(), 0, "panama has closed the room");
    cluster.join(1, 3, "dora");
    assert_eq!(cluster.roster(2), ["ben", "dora"], "and opens it again");
}

#[test]
fn a_lost_node_is_lost_to_every_shard() {
    let mut cluster = Cluster::of_shards(&[("panama", 2), ("zurich", 1)]);
    cluster.join(1, 1, "ana");
    cluster.join(2, 7, "ben");
    assert_eq!(cluster.roster(1), ["ana", "ben"]);
    cluster.lose(0, 2);
    assert_eq!(cluster.roster(1), ["ana"]);
    let left = ServerMessage::Left { participant: "ben".parse().expect("valid"), reason: LeaveReason::NodeLost };
    assert!(cluster.nodes[1].signals.contains(&(ClientKey(1), left)));
}

#[test]
fn shards_that_begin_anew_know_everyone_again() {
    let mut cluster = two_nodes_of_two_shards();
    for (at, name) in ["ana", "ben", "cleo", "dora"].into_iter().enumerate() {
        cluster.join(at, 1, name);
    }
    cluster.publish(3, 1, &RIDS);
    cluster.offer_slots(0, 1, 1);
    cluster.lose(0, 1);
    for at in 0..4 {
        assert_eq!(cluster.roster(at), ["ana", "ben", "cleo", "dora"]);
    }
    cluster.second_of_media(3, 1, &RIDS);
    assert!(cluster.got(0, 1, "Audio0") > 40);
}

/// Who moves from one shard to another, or comes back on the same, is seen everywhere where they were before.
#[test]
fn a_move_on_a_node_is_seen_as_a_move_by_others() {
    for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut cluster = two_nodes_of_two_shards();
        cluster.join(from, 1, "ana");
        cluster.publish(from, 1, &RIDS);
        for (at, client, name) in [(3, 7, "ben"), (1, 8, "cleo")] {
            cluster.join(at, client, name);
            cluster.offer_slots(at, client, 1);
        }
        cluster.second_of_media(from, 1, &RIDS);
        cluster.nodes.iter_mut().for_each(|shard| shard.signals.clear());
        cluster.come_in(to, 2, joining("ana2", "ana", Some("ana")));
        cluster.publish(to, 2, &RIDS);
        cluster.connect(to, 2);
        cluster.second_of_media(to, 2, &RIDS);
        cluster.second_of_media(to, 2, &RIDS);
        for (at, client) in [(3, 7), (1, 8)] {
            let told = |(to, message): &(ClientKey, ServerMessage)| match message {
                ServerMessage::Left { participant, .. } if *to == ClientKey(client) => {
                    Some(format!("{participant} left"))
                }
                ServerMessage::Participant { participant, replaces: Some(old) } if *to == ClientKey(client) => {
                    Some(format!("{} for {old}", participant.id))
                }
                _ => None,
            };
            let told: Vec<String> = cluster.nodes[at].signals.iter().filter_map(told).collect();
            assert_eq!(told, ["ana2 for ana"], "from {from} to {to}, at {at}");
        }
        assert_eq!(cluster.nodes[from].ended, [(ClientKey(1), LeaveReason::Replaced)], "from {from} to {to}");
    }
}

#[test]
fn no_peer_is_sent_what_is_not_passed_on_to_it() {
    let mut cluster = Cluster::new(&["panama", "zurich", "singapore"]);
    for (at, name) in ["ana", "ben", "cleo"].into_iter().enumerate() {
        cluster.join(at, 1, name);
    }
    cluster.publish(1, 1, &RIDS);
    let (singapore, now) = (cluster.nodes[2].peer(), cluster.now);
    let room = cluster.nodes[0].room.id.clone();
    let track = TrackId::of(&"ben".parse().expect("valid"), "1").expect("valid");
    let layers = vec![isthmus_protocol::peer::LayerDemand { rid: Some("q".into()), stream: 9, rungs: None }];
    cluster.nodes[0].room.peer_message(
        &singapore,
        PeerMessage::Demand { room: room.clone(), track: track.clone(), layers, useful: 1 },
        now,
    );
    cluster.nodes[0].room.peer_message(&singapore, PeerMessage::Keyframe { room, track, rid: Some("q".into()) }, now);
    cluster.settle();
    assert!(cluster.nodes[1].keyframes_asked.is_empty(), "panama does not ask zurich for singapore");
    cluster.relayed = 0;
    cluster.second_of_media(1, 1, &RIDS);
    assert_eq!(cluster.relayed, 0, "nobody watches, and nobody has slots");
}
