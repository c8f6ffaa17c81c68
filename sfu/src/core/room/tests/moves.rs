//! Moves: what the others notice of them, and what they do not.

use super::{
    super::*,
    cluster::{Cluster, RIDS, joining},
};
use isthmus_protocol::signal::Tile;

const ANA: usize = 1;
const BEN: usize = 7;
const ANA_AGAIN: usize = 8;

/// Ana is in panama and ben, who shows her, in zurich, to where she begins to move.
fn ana_moves_to_ben() -> Cluster {
    let mut cluster = Cluster::new(&["panama", "zurich"]);
    cluster.join(0, ANA, "ana");
    cluster.publish(0, ANA, &RIDS);
    cluster.offer_slots(0, ANA, 2);
    cluster.join(1, BEN, "ben");
    cluster.publish(1, BEN, &RIDS);
    cluster.offer_slots(1, BEN, 2);
    cluster.second_of_media(0, ANA, &RIDS);
    cluster.second_of_media(1, BEN, &RIDS);
    for node in &mut cluster.nodes {
        node.signals.clear();
    }
    cluster.come_in(1, ANA_AGAIN, joining("ana2", "ana", Some("ana")));
    cluster.publish(1, ANA_AGAIN, &RIDS);
    cluster.offer_slots(1, ANA_AGAIN, 2);
    cluster
}

impl Cluster {
    fn moves_told(&self, at: usize, client: usize) -> Vec<(String, Option<String>)> {
        let told = |(to, message): &(ClientKey, ServerMessage)| match message {
            ServerMessage::Participant { participant, replaces } if *to == ClientKey(client) => {
                Some((participant.id.to_string(), replaces.as_ref().map(ToString::to_string)))
            }
            ServerMessage::Left { participant, .. } if *to == ClientKey(client) => {
                Some((format!("{participant} left"), None))
            }
            _ => None,
        };
        self.nodes[at].signals.iter().filter_map(told).collect()
    }

    fn shown(&self, at: usize, client: usize, slot: &str) -> Option<String> {
        let slots = self.last_slots(at, client);
        let content = slots.iter().find(|s| s.mid == slot).and_then(|slot| slot.content.clone());
        content.map(|content| content.participant.to_string())
    }
}

/// What ben hears of a move of ana's.
fn moved(to: &str, from: &str) -> Vec<(String, Option<String>)> {
    vec![(to.to_owned(), Some(from.to_owned()))]
}

#[test]
fn a_stay_goes_on_until_the_next_has_media_and_is_seen_in_the_same_slot() {
    let mut cluster = ana_moves_to_ben();
    let welcome = cluster.nodes[1].signals.iter().find_map(|(to, message)| match message {
        ServerMessage::Welcome(welcome) if *to == ClientKey(ANA_AGAIN) => Some(welcome.participants.clone()),
        _ => None,
    });
    let present: Vec<String> = welcome.unwrap_or_default().iter().map(|someone| someone.id.to_string()).collect();
    assert_eq!(present, ["ana2", "ben"], "nobody sees themselves twice");
    cluster.second_of_media(1, ANA_AGAIN, &RIDS);
    assert_eq!(cluster.roster(0), ["ana", "ben"]);
    assert_eq!(cluster.moves_told(1, BEN), [], "it is not connected yet");
    let before = cluster.got(1, BEN, "Video0");
    cluster.second_of_media(0, ANA, &RIDS);
    assert!(cluster.got(1, BEN, "Video0") > before + 25, "the stay before goes on");

    cluster.connect(1, ANA_AGAIN);
    assert_eq!(cluster.moves_told(1, BEN), [], "it does not have ben's picture yet");
    cluster.second_of_media(1, BEN, &RIDS);
    assert_eq!(cluster.moves_told(1, BEN), moved("ana2", "ana"));
    assert_eq!(cluster.nodes[0].ended, [(ClientKey(ANA), LeaveReason::Replaced)]);
    assert_eq!(cluster.roster(1), ["ana2", "ben"]);
    assert_eq!(cluster.shown(1, BEN, "Video0").as_deref(), Some("ana2"));
    let before = cluster.got(1, BEN, "Video0");
    cluster.second_of_media(1, ANA_AGAIN, &RIDS);
    assert!(cluster.got(1, BEN, "Video0") > before + 10, "the new stay is seen");
}

#[test]
fn a_view_follows_a_move_without_being_said_anew() {
    let mut cluster = ana_moves_to_ben();
    let camera = |participant: &str| TrackId::of(&participant.parse().expect("valid"), "1").expect("valid");
    cluster.nodes[1].room.view(ClientKey(BEN), vec![Tile { track: camera("ana"), height: 360 }]);
    cluster.connect(1, ANA_AGAIN);
    cluster.second_of_media(1, ANA_AGAIN, &RIDS);
    cluster.second_of_media(1, BEN, &RIDS);
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.shown(1, BEN, "Video0").as_deref(), Some("ana2"));
}

#[test]
fn pictures_are_not_waited_for_longer_than_a_second() {
    let mut cluster = ana_moves_to_ben();
    cluster.connect(1, ANA_AGAIN);
    cluster.run(Duration::from_millis(900));
    assert_eq!(cluster.moves_told(1, BEN), []);
    cluster.run(Duration::from_millis(200));
    assert_eq!(cluster.moves_told(1, BEN), moved("ana2", "ana"));
}

#[test]
fn a_move_that_comes_to_nothing_is_noticed_by_nobody() {
    let mut cluster = ana_moves_to_ben();
    cluster.run(Duration::from_secs(5));
    cluster.nodes[1].room.leave(ClientKey(ANA_AGAIN), LeaveReason::ConnectionLost);
    cluster.settle();
    assert_eq!((cluster.moves_told(0, ANA), cluster.moves_told(1, BEN)), (Vec::new(), Vec::new()));
    assert_eq!((cluster.roster(0), cluster.nodes[0].ended.len()), (cluster.roster(1), 0));
}

#[test]
fn a_stay_that_ends_in_mid_move_is_taken_over_at_once() {
    let mut cluster = ana_moves_to_ben();
    cluster.lose(1, 0);
    assert_eq!(cluster.moves_told(1, BEN), moved("ana2", "ana"));

    let mut cluster = ana_moves_to_ben();
    cluster.nodes[0].room.leave(ClientKey(ANA), LeaveReason::ConnectionLost);
    cluster.settle();
    assert_eq!(cluster.moves_told(1, BEN), moved("ana2", "ana"));
    assert_eq!(cluster.nodes[0].ended, [], "it has ended already");
}

#[test]
fn a_stay_takes_the_place_only_of_one_of_the_same_person() {
    let mut cluster = ana_moves_to_ben();
    cluster.come_in(1, 9, joining("eve", "eve", Some("ana")));
    assert_eq!(cluster.moves_told(1, BEN), [("eve".to_owned(), None)]);
    assert_eq!(cluster.roster(0), ["ana", "ben", "eve"], "a stranger replaces nobody");
}

#[test]
fn of_several_tries_to_move_the_last_counts() {
    let mut cluster = ana_moves_to_ben();
    cluster.come_in(1, 9, joining("ana3", "ana", Some("ana2")));
    assert_eq!(cluster.nodes[1].ended, [(ClientKey(ANA_AGAIN), LeaveReason::Replaced)]);
    cluster.connect(1, 9);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.moves_told(1, BEN), moved("ana3", "ana"));
    assert_eq!(cluster.nodes[0].ended, [(ClientKey(ANA), LeaveReason::Replaced)]);
}

#[test]
fn who_tries_two_points_of_presence_at_a_time_is_there_once() {
    let mut cluster = Cluster::new(&["panama", "zurich", "singapore"]);
    cluster.join(0, ANA, "ana");
    cluster.join(1, BEN, "ben");
    cluster.join(2, 3, "cleo");
    cluster.come_in(1, ANA_AGAIN, joining("ana2", "ana", Some("ana")));
    cluster.come_in(2, 9, joining("ana3", "ana", Some("ana")));
    cluster.connect(2, 9);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.moves_told(1, BEN).last(), moved("ana3", "ana").last());
    cluster.connect(1, ANA_AGAIN);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.moves_told(1, BEN).last(), moved("ana2", "ana3").last());
    for at in [1, 2] {
        assert_eq!(cluster.roster(at), ["ana2", "ben", "cleo"]);
    }
}

#[test]
fn a_dead_node_is_not_waited_for() {
    let mut cluster = Cluster::new(&["panama", "zurich", "singapore"]);
    cluster.join(1, BEN, "ben");
    // Singapore has heard that panama has the room, and panama says nothing any more.
    let panama = cluster.nodes[0].peer();
    cluster.nodes[2].peer_rooms.push(panama);
    cluster.nodes[1].signals.clear();
    cluster.come_in(2, ANA_AGAIN, joining("ana2", "ana", Some("ana")));
    cluster.connect(2, ANA_AGAIN);
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.moves_told(1, BEN), [], "panama may be far away");
    cluster.run(Duration::from_millis(300));
    assert_eq!(cluster.moves_told(1, BEN), moved("ana2", "ana"));
}

#[test]
fn a_stay_is_found_by_one_that_opens_the_room_for_its_sake() {
    let mut cluster = Cluster::new(&["panama", "zurich"]);
    cluster.join(0, ANA, "ana");
    // Zurich has heard of the room; nobody has told it yet who is there.
    cluster.come_in(1, ANA_AGAIN, joining("ana2", "ana", Some("ana")));
    cluster.connect(1, ANA_AGAIN);
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.nodes[0].ended, [(ClientKey(ANA), LeaveReason::Replaced)]);
    assert_eq!(cluster.roster(0), [""; 0], "nobody is left there");
    assert_eq!(cluster.roster(1), ["ana2"]);
}
