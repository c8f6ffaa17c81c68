//! Replicas on a virtual clock: each a map of versions, each pair joined by a [`Tail`].

use std::collections::BTreeMap;

use isthmus_protocol::PopId;
use proptest::prelude::*;

use super::*;
use crate::tables::ROOMS;

const START: UnixMicros = UnixMicros(1_000_000_000_000);

fn key(name: u8) -> Key {
    Key { table: ROOMS, pk: format!("room-{name}"), sk: "home".into() }
}

fn change(name: u8, written_at: UnixMicros) -> Change {
    let region = "panama".parse().expect("a valid id");
    Change { key: key(name), version: Version { written_at, region }, item: Item::default() }
}

/// A store: what stands under each key.
#[derive(Default)]
struct Replica {
    items: BTreeMap<Key, Version>,
    /// What others have of each peer's writes, kept in this store: lost with it.
    cursors: BTreeMap<usize, UnixMicros>,
}

impl Replica {
    fn merge(&mut self, key: &Key, version: &Version) {
        let held = self.items.entry(key.clone()).or_insert_with(|| version.clone());
        *held = held.clone().max(version.clone());
    }

    fn read(&self, reach: Reach, region: &PopId) -> Vec<Change> {
        let wanted = |version: &Version| match reach {
            Reach::Everything => true,
            Reach::Since(since) => version.region == *region && version.written_at > since,
        };
        let found = self.items.iter().filter(|(_, version)| wanted(version));
        found.map(|(key, v)| Change { key: key.clone(), version: v.clone(), item: Item::default() }).collect()
    }
}

/// What happens to the world.
#[derive(Debug, Clone)]
enum Event {
    /// A writer of the PoP, whose clock is off by this much, writes a key.
    Write { replica: usize, key: u8, skew_ms: i64 },
    /// One sweep from one replica for another; delivers at most `batches` batches.
    Step { from: usize, to: usize, batches: usize },
    /// The connection breaks: the tail is thrown away and begins again at the peer's cursor.
    Break { from: usize, to: usize },
    /// Time passes.
    Wait { ms: u64 },
    /// Somebody sets the machine's clock back.
    SetBack { ms: u64 },
}

struct World {
    now: UnixMicros,
    regions: Vec<PopId>,
    replicas: Vec<Replica>,
    tails: BTreeMap<(usize, usize), Tail>,
}

impl World {
    fn new(size: usize) -> Self {
        let regions = ["panama", "singapore", "zurich"].iter().take(size);
        let regions: Vec<PopId> = regions.map(|name| name.parse().expect("a valid id")).collect();
        let mut world = Self {
            now: START,
            replicas: regions.iter().map(|_| Replica::default()).collect(),
            regions,
            tails: BTreeMap::new(),
        };
        for from in 0..size {
            for to in (0..size).filter(|to| *to != from) {
                world.connect(from, to);
            }
        }
        world
    }

    fn connect(&mut self, from: usize, to: usize) {
        let cursor = self.replicas[to].cursors.get(&from).copied();
        self.tails.insert((from, to), Tail::new(cursor, Duration::from_millis(90)));
    }

    fn write(&mut self, replica: usize, key: &Key, skew_ms: i64) -> Version {
        let clock = UnixMicros(self.now.0.saturating_add_signed(skew_ms * 1000));
        let replaced = self.replicas[replica].items.get(key).map(|version| version.written_at);
        let version = Version { written_at: Version::after(clock, replaced), region: self.regions[replica].clone() };
        self.replicas[replica].merge(key, &version);
        version
    }

    fn step(&mut self, from: usize, to: usize, batches: usize) {
        let Some(tail) = self.tails.get_mut(&(from, to)) else { return };
        let reach = tail.begin_sweep(self.now);
        for change in self.replicas[from].read(reach, &self.regions[from]) {
            tail.read(change, self.now);
        }
        tail.end_sweep();
        for _ in 0..batches {
            for change in tail.take_due(self.now) {
                self.replicas[to].merge(&change.key, &change.version);
            }
        }
        if let Some(cursor) = tail.cursor() {
            self.replicas[to].cursors.insert(from, cursor);
        }
    }

    /// Every replica looks at its store many times a second, so just before and just after.
    fn set_back(&mut self, by: Duration) {
        self.step_all(0);
        self.now = self.now.minus(by);
        self.step_all(0);
    }

    fn step_all(&mut self, batches: usize) {
        let pairs: Vec<_> = self.tails.keys().copied().collect();
        for (from, to) in pairs {
            self.step(from, to, batches);
        }
    }

    fn lose(&mut self, replica: usize) {
        self.replicas[replica] = Replica::default();
        for other in (0..self.replicas.len()).filter(|other| *other != replica) {
            self.connect(other, replica);
            self.connect(replica, other);
        }
    }

    /// Everyone reaches everyone for long enough.
    fn heal(&mut self) {
        for _ in 0..4 {
            self.now = self.now.plus(Duration::from_secs(1));
            self.step_all(10);
        }
    }
}

fn events(size: usize) -> impl Strategy<Value = Vec<Event>> {
    let replica = 0..size;
    let pair = (0..size, 1..size).prop_map(move |(from, by)| (from, (from + by) % size));
    let skew = -20_000i64..20_000;
    let event = prop_oneof![
        6 => (replica, 0u8..4, skew).prop_map(|(replica, key, skew_ms)| Event::Write { replica, key, skew_ms }),
        6 => (pair.clone(), 0usize..3).prop_map(|((from, to), batches)| Event::Step { from, to, batches }),
        2 => pair.prop_map(|(from, to)| Event::Break { from, to }),
        4 => (0u64..20_000).prop_map(|ms| Event::Wait { ms }),
        1 => (0u64..200_000).prop_map(|ms| Event::SetBack { ms }),
    ];
    prop::collection::vec(event, 1..80)
}

/// Plays `events`, heals, and says what every key must be: the greatest version written.
fn play(world: &mut World, events: Vec<Event>) -> BTreeMap<Key, Version> {
    let mut greatest: BTreeMap<Key, Version> = BTreeMap::new();
    for event in events {
        match event {
            Event::Write { replica, key: name, skew_ms } => {
                let version = world.write(replica, &key(name), skew_ms);
                let held = greatest.entry(key(name)).or_insert_with(|| version.clone());
                *held = held.clone().max(version);
            }
            Event::Step { from, to, batches } => world.step(from, to, batches),
            Event::Break { from, to } => world.connect(from, to),
            Event::Wait { ms } => world.now = world.now.plus(Duration::from_millis(ms)),
            Event::SetBack { ms } => world.set_back(Duration::from_millis(ms)),
        }
    }
    world.heal();
    greatest
}

proptest! {
    #[test]
    fn replicas_converge_to_the_greatest_version_of_every_item(
        (size, events) in (2usize..4).prop_flat_map(|size| (Just(size), events(size)))
    ) {
        let mut world = World::new(size);
        let greatest = play(&mut world, events);
        for replica in &world.replicas {
            prop_assert_eq!(&replica.items, &greatest);
        }
    }

    #[test]
    fn a_replica_that_lost_its_file_is_given_everything_again(events in events(3), lost in 0usize..3) {
        let mut world = World::new(3);
        let greatest = play(&mut world, events);
        world.lose(lost);
        world.heal();
        for replica in &world.replicas {
            prop_assert_eq!(&replica.items, &greatest);
        }
    }
}

#[test]
fn a_change_waits_for_its_delay_and_is_sent_once() {
    let mut tail = Tail::new(Some(START), Duration::from_millis(90));
    let written_at = START.plus(OVERLAP * 2);
    for sweep in 0..5 {
        tail.begin_sweep(written_at.plus(Duration::from_millis(sweep)));
        tail.read(change(1, written_at), written_at);
        tail.end_sweep();
    }
    assert_eq!(tail.take_due(written_at.plus(Duration::from_millis(89))), vec![]);
    assert_eq!(tail.take_due(written_at.plus(Duration::from_millis(90))), vec![change(1, written_at)]);
    assert_eq!((tail.backlog(), tail.next_due()), (0, None));
}

#[test]
fn the_cursor_stays_behind_what_waits_and_behind_the_overlap() {
    let mut tail = Tail::new(Some(START), Duration::from_mins(1));
    let now = START.plus(OVERLAP * 2);
    tail.begin_sweep(now);
    tail.read(change(1, START.plus(Duration::from_secs(2))), now);
    tail.end_sweep();
    assert_eq!(tail.cursor(), Some(UnixMicros(START.0 + 1_999_999)));
    assert_eq!(tail.lag(now), now.since(START.plus(Duration::from_secs(2))));
    tail.take_due(now.plus(Duration::from_mins(1)));
    assert_eq!(tail.cursor(), Some(now.minus(OVERLAP)));
}

#[test]
fn memory_stays_bounded_while_a_peer_is_slow() {
    let mut tail = Tail::new(None, Duration::ZERO);
    assert_eq!(tail.begin_sweep(START), Reach::Everything);
    let mut read: u64 = 0;
    while tail.has_room() {
        for _ in 0..PAGE {
            read += 1;
            tail.read(change(1, UnixMicros(read)), START);
        }
    }
    assert_eq!(tail.backlog(), MAX_WAITING);
    assert_eq!(tail.cursor(), None, "nothing is promised before everything was sent");
}

#[test]
fn what_is_remembered_is_forgotten_once_no_sweep_can_meet_it_again() {
    let mut tail = Tail::new(Some(START), Duration::ZERO);
    for second in 1..100 {
        let now = START.plus(OVERLAP).plus(Duration::from_secs(second));
        tail.begin_sweep(now);
        tail.read(change(second as u8, now), now);
        tail.end_sweep();
        tail.take_due(now);
    }
    assert!(tail.recent.len() as u64 <= OVERLAP.as_secs(), "{} versions kept", tail.recent.len());
}

#[test]
fn a_cursor_that_lies_ahead_is_of_a_clock_that_was_set_back_and_everything_of_this_pop_is_read_again() {
    let mut tail = Tail::new(Some(START), Duration::ZERO);
    assert_eq!(tail.begin_sweep(START.plus(OVERLAP)), Reach::Since(START));
    tail.read(change(1, START.plus(OVERLAP)), START.plus(OVERLAP));
    tail.end_sweep();
    let earlier = START.minus(Duration::from_hours(1));
    assert_eq!(tail.begin_sweep(earlier), Reach::Since(UnixMicros(0)));
    assert_eq!(tail.backlog(), 0, "what waited for a moment an hour ahead is read again");
    assert_eq!(tail.cursor(), Some(UnixMicros(0)), "nothing is promised until it was sent again");
    tail.end_sweep();
    assert_eq!(tail.cursor(), Some(earlier.minus(OVERLAP)));
}
