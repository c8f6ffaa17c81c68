//! Two shards of one node without their sockets and threads, on a virtual clock: what stands in their inboxes is taken in turns.

use std::collections::BTreeMap;

use isthmus_protocol::{node::RoomView, peer::PeerMessage};
use tokio::sync::oneshot;

use super::{super::Post, *};
use crate::{
    core::{room::Peer, seating::home_of},
    shard::{
        inbox::Letters,
        neighbour::{Neighbour, Sibling},
    },
};

/// More than a round of letters holds, twice over, and what is answered to them.
const ROUNDS: usize = 1_000;

struct Pair {
    engines: Vec<Engine>,
    letters: Vec<Letters>,
    seats: Seats,
    now: Instant,
    signals: BTreeMap<String, mpsc::Receiver<ServerMessage>>,
    registry: Registry,
    /// Kept for their wakers.
    _polls: Vec<mio::Poll>,
}

impl Pair {
    fn new() -> Self {
        let registry = Registry::new();
        let packets = PacketMetrics::new(&registry).expect("a fresh registry");
        let metrics = Metrics::new(&registry, packets).expect("a fresh registry");
        let (now, seats) = (Instant::now(), Seats::new(Seating::new(2, Bounds { shard: 10, room: 2 })));
        let posts: Vec<Post> = (0..2).map(|_| Post::new().expect("a poll")).collect();
        let engine = |index: u8| {
            let counters = Counters::new(metrics.clone(), index);
            let mut engine = Engine::new(settings(index, 2, seats.clone(), now), certificate(), counters, now);
            let sibling = Sibling::new(index, posts[usize::from(1 - index)].inbox.clone());
            engine.links.insert(Peer::Shard(1 - index), Neighbour::Shard(sibling));
            engine
        };
        let engines = vec![engine(0), engine(1)];
        let (letters, polls) = posts.into_iter().map(|post| (post.letters, post.poll)).unzip();
        Self { engines, letters, seats, now, signals: BTreeMap::new(), registry, _polls: polls }
    }

    /// Joins where the node would place them.
    fn join(&mut self, name: &str) -> u8 {
        let participant: ParticipantId = name.parse().expect("valid");
        let shard = self.seats.place(&room(), &participant, None);
        let intent = Intent::Join { participant, name: name.into(), replaces: None, media_only: false };
        self.open(name, shard, intent);
        shard
    }

    fn join_all(&mut self, names: &[&str]) -> Vec<u8> {
        names.iter().map(|name| self.join(name)).collect()
    }

    fn open(&mut self, name: &str, shard: u8, intent: Intent) {
        let (outbox, signals) = mpsc::channel(64);
        let session = World::session(name, intent);
        self.engines[usize::from(shard)].command(Command::Open { session, attachment: 1, outbox }, self.now);
        self.signals.insert(name.to_owned(), signals);
    }

    fn leave(&mut self, name: &str) {
        let participant: ParticipantId = name.parse().expect("valid");
        let shard = self.seats.find(&participant).expect("seated");
        let command = Command::Message { participant, attachment: 1, message: ClientMessage::Leave };
        self.engines[usize::from(shard)].command(command, self.now);
    }

    /// Rounds of both until everything has been taken.
    fn run(&mut self) {
        for _ in 0..ROUNDS {
            self.now += STEP;
            for (engine, letters) in self.engines.iter_mut().zip(&mut self.letters) {
                assert!(letters.take(|command| engine.command(command, self.now)), "the shard goes on");
                engine.wake(self.now);
                while engine.settle(self.now) {}
                engine.egress = super::super::engine::Egress::default();
            }
        }
    }

    fn rooms(&mut self, shard: usize) -> Vec<RoomView> {
        let (reply, mut answer) = oneshot::channel();
        self.engines[shard].command(Command::Rooms { reply }, self.now);
        answer.try_recv().expect("answered at once")
    }

    /// Who is there, as a shard has it: here, and elsewhere.
    fn known(&mut self, shard: usize) -> (Vec<String>, Vec<String>) {
        let Some(view) = self.rooms(shard).pop() else { return Default::default() };
        let mut local: Vec<String> = view.local.iter().map(|view| view.id.to_string()).collect();
        let mut remote: Vec<String> = view.remote.iter().map(ToString::to_string).collect();
        local.sort_unstable();
        remote.sort_unstable();
        (local, remote)
    }

    fn gauge(&self, name: &str) -> i64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("registered");
        family.get_metric().iter().map(|metric| metric.get_gauge().get_value() as i64).sum()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_room_that_is_full_on_its_home_goes_on_at_the_other_shard_and_is_one_room() {
    let mut pair = Pair::new();
    let home = home_of(&room(), 2);
    assert_eq!(pair.join_all(&["ana", "ben", "cleo", "dora"]), [home, home, 1 - home, 1 - home]);
    pair.run();
    let (home, branch) = (usize::from(home), usize::from(1 - home));
    assert_eq!(pair.known(home), (names(&["ana", "ben"]), names(&["cleo", "dora"])));
    assert_eq!(pair.known(branch), (names(&["cleo", "dora"]), names(&["ana", "ben"])));
    assert_eq!((pair.gauge("isthmus_rooms"), pair.gauge("isthmus_participants")), (1, 4));
    assert_eq!(pair.gauge("isthmus_shard_participants"), 4);
    let heard: Vec<ServerMessage> = std::iter::from_fn(|| pair.signals.get_mut("ana")?.try_recv().ok()).collect();
    let joined = |who: &str| {
        let told = |message: &ServerMessage| matches!(message, ServerMessage::Participant { participant, .. } if participant.id.as_str() == who);
        heard.iter().filter(|message| told(message)).count()
    };
    assert_eq!((joined("ben"), joined("cleo"), joined("dora")), (1, 1, 1));

    pair.leave("ana");
    pair.leave("ben");
    pair.run();
    assert_eq!(pair.known(home), (names(&[]), names(&["cleo", "dora"])), "the home stays for its branch");
    pair.leave("cleo");
    pair.leave("dora");
    pair.run();
    assert!(pair.rooms(home).is_empty() && pair.rooms(branch).is_empty());
    assert_eq!(pair.seats.room_size(&room()), 0);
    assert_eq!(pair.gauge("isthmus_rooms"), 0);
}

#[test]
fn a_session_is_taken_up_on_the_shard_that_has_it() {
    let mut pair = Pair::new();
    pair.join_all(&["ana", "ben", "cleo"]);
    pair.run();
    let cleo: ParticipantId = "cleo".parse().expect("valid");
    let shard = pair.seats.find(&cleo).expect("seated");
    pair.open("cleo", shard, Intent::Resume { participant: cleo });
    pair.run();
    let heard = pair.signals.get_mut("cleo").and_then(|signals| signals.try_recv().ok());
    assert!(matches!(heard, Some(ServerMessage::Welcome(Welcome { resumed: true, .. }))), "{heard:?}");
}

#[test]
fn who_is_refused_keeps_no_seat() {
    let mut pair = Pair::new();
    pair.engines.iter_mut().for_each(|engine| engine.draining = Some(pair.now + Duration::from_mins(1)));
    pair.join("ana");
    assert_eq!(pair.seats.find(&"ana".parse().expect("valid")), None);
}

#[test]
fn shards_begin_anew_when_what_one_tells_the_other_finds_no_place() {
    let mut pair = Pair::new();
    let home = usize::from(home_of(&room(), 2));
    let branch = 1 - home;
    pair.join_all(&["ana", "ben", "cleo"]);
    pair.run();
    // The home's thread stands still for a while, and the branch has ever more to tell.
    let busy = PeerMessage::RoomClosed { room: "another".parse().expect("valid") };
    (0..20_000).for_each(|_| pair.engines[branch].tell_peer(&Peer::Shard(home as u8), busy.clone()));
    pair.join("dora");
    pair.leave("cleo");
    pair.run();
    assert_eq!(pair.known(home), (names(&["ana", "ben"]), names(&["dora"])));
    assert_eq!(pair.known(branch), (names(&["dora"]), names(&["ana", "ben"])));
    // The same with the one that stands still and the one that tells the other way round, and with both.
    for both in [false, true] {
        (0..20_000).for_each(|_| pair.engines[home].tell_peer(&Peer::Shard(branch as u8), busy.clone()));
        if both {
            (0..20_000).for_each(|_| pair.engines[branch].tell_peer(&Peer::Shard(home as u8), busy.clone()));
        }
        pair.run();
        assert_eq!(pair.known(home), (names(&["ana", "ben"]), names(&["dora"])), "both: {both}");
        assert_eq!(pair.known(branch), (names(&["dora"]), names(&["ana", "ben"])), "both: {both}");
    }
}
