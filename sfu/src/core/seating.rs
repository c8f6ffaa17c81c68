//! Which shard of the node takes a participant.
//!
//! A room stays on its home, the shard that its name hashes to, until it has [`Bounds::room`] participants there or the home
//! is full. Then it goes on at the shard that has the most of it and room for more, so that a room is on as few shards as it
//! needs; when it has filled those, at the least busy of the others. Once it is on all of them, the least busy takes the next.

use std::{
    cmp::Reverse,
    hash::{BuildHasher as _, BuildHasherDefault},
};

use isthmus_protocol::{ParticipantId, RoomId, pops::FULL_LOAD};
use rustc_hash::{FxHashMap, FxHasher};

/// Shards whose loads differ by less than this count as equally busy: what is measured is a second old, and a burst of joins
/// must not all go to the one that was a little less busy then.
const LOAD_STEP: f64 = 0.2;

/// The shard that `room`'s name hashes to, of `shards`.
pub fn home_of(room: &RoomId, shards: u8) -> u8 {
    let hash = BuildHasherDefault::<FxHasher>::default().hash_one(room);
    // The product keeps the upper bits, which are the well mixed ones of this hash.
    ((u128::from(hash) * u128::from(shards.max(1))) >> 64) as u8
}

/// How many participants a shard may have.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Altogether.
    pub shard: usize,
    /// Of one room, while other shards have fewer.
    pub room: usize,
}

#[derive(Debug)]
struct Seat {
    room: RoomId,
    shard: u8,
}

/// Who sits where. Placing is bookkeeping: a seat is taken before the shard knows of it, so that any burst of joins is
/// counted, and given back when the stay ends.
#[derive(Debug)]
pub struct Seating {
    bounds: Bounds,
    seats: FxHashMap<ParticipantId, Seat>,
    /// Seats taken, by shard.
    taken: Vec<usize>,
    /// The same of each room.
    rooms: FxHashMap<RoomId, Vec<usize>>,
    /// The share of the time, from 0 to 1, that each shard's thread was at work lately.
    busy: Vec<f64>,
}

impl Seating {
    /// Nobody sits anywhere.
    pub fn new(shards: u8, bounds: Bounds) -> Self {
        let shards = usize::from(shards.max(1));
        Self {
            bounds,
            seats: FxHashMap::default(),
            taken: vec![0; shards],
            rooms: FxHashMap::default(),
            busy: vec![0.0; shards],
        }
    }

    /// The shard that takes a newcomer of `room`; who takes the place of somebody goes where they are, if there is room. The
    /// shard is to be asked even if all are full: it says so.
    pub fn place(&mut self, room: &RoomId, participant: &ParticipantId, replaces: Option<&ParticipantId>) -> u8 {
        if let Some(seat) = self.seats.get(participant) {
            return seat.shard;
        }
        let before = replaces.and_then(|old| self.seats.get(old)).filter(|seat| seat.room == *room);
        let beside = before.map(|seat| seat.shard).filter(|shard| !self.is_full(*shard));
        let shard = beside.unwrap_or_else(|| self.choose(room));
        self.take(room, participant, shard);
        shard
    }

    fn choose(&self, room: &RoomId) -> u8 {
        let home = home_of(room, self.taken.len() as u8);
        let of_room = |shard: u8| self.rooms.get(room).map_or(0, |taken| taken[usize::from(shard)]);
        let open: Vec<u8> = (0..self.taken.len() as u8).filter(|shard| !self.is_full(*shard)).collect();
        let is_below_bound = |shard: &u8| of_room(*shard) < self.bounds.room;
        if open.contains(&home) && is_below_bound(&home) {
            return home;
        }
        let begun = open.iter().copied().filter(|shard| of_room(*shard) > 0 && is_below_bound(shard));
        let least_busy = |shard: &u8| (self.load_step(*shard), self.taken[usize::from(*shard)], *shard);
        let fullest_first = |shard: &u8| (Reverse(of_room(*shard)), least_busy(shard));
        begun
            .min_by_key(fullest_first)
            .or_else(|| open.iter().copied().filter(is_below_bound).min_by_key(least_busy))
            .or_else(|| open.iter().copied().min_by_key(least_busy))
            .unwrap_or(home)
    }

    fn is_full(&self, shard: u8) -> bool {
        let shard = usize::from(shard);
        self.taken[shard] >= self.bounds.shard || self.busy[shard] >= FULL_LOAD
    }

    fn load_step(&self, shard: u8) -> u64 {
        let shard = usize::from(shard);
        let filled = self.taken[shard] as f64 / self.bounds.shard.max(1) as f64;
        (filled.max(self.busy[shard]) / LOAD_STEP) as u64
    }

    /// `participant` sits at `shard` from now on, whatever was placed before.
    pub fn take(&mut self, room: &RoomId, participant: &ParticipantId, shard: u8) {
        if self.seats.get(participant).is_some_and(|seat| seat.shard == shard && seat.room == *room) {
            return;
        }
        self.leave(participant);
        self.seats.insert(participant.clone(), Seat { room: room.clone(), shard });
        self.taken[usize::from(shard)] += 1;
        let shards = self.taken.len();
        self.rooms.entry(room.clone()).or_insert_with(|| vec![0; shards])[usize::from(shard)] += 1;
    }

    /// The stay is over, or never began.
    pub fn leave(&mut self, participant: &ParticipantId) {
        let Some(Seat { room, shard }) = self.seats.remove(participant) else { return };
        let shard = usize::from(shard);
        self.taken[shard] -= 1;
        let Some(taken) = self.rooms.get_mut(&room) else { return };
        taken[shard] -= 1;
        if taken.iter().all(|taken| *taken == 0) {
            self.rooms.remove(&room);
        }
    }

    /// Where a stay is.
    pub fn find(&self, participant: &ParticipantId) -> Option<u8> {
        self.seats.get(participant).map(|seat| seat.shard)
    }

    /// How many of `room` are on the node.
    pub fn room_size(&self, room: &RoomId) -> usize {
        self.rooms.get(room).map_or(0, |taken| taken.iter().sum())
    }

    /// The rooms with someone on the node.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.keys()
    }

    /// `shard`'s thread was at work for this share of the time lately.
    pub fn set_busy(&mut self, shard: u8, busy: f64) {
        self.busy[usize::from(shard)] = busy;
    }

    /// The mean of what the shards were at work.
    pub fn mean_busy(&self) -> f64 {
        self.busy.iter().sum::<f64>() / self.busy.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(name: &str) -> RoomId {
        name.parse().expect("valid")
    }

    fn who(n: usize) -> ParticipantId {
        format!("p{n}").parse().expect("valid")
    }

    fn seating(shards: u8) -> Seating {
        Seating::new(shards, Bounds { shard: 1_000, room: 100 })
    }

    fn fill(seating: &mut Seating, name: &str, people: std::ops::Range<usize>) -> Vec<usize> {
        for n in people {
            seating.place(&room(name), &who(n), None);
        }
        seating.rooms[&room(name)].clone()
    }

    #[test]
    fn a_room_stays_on_its_home_until_it_is_large_and_then_spreads_evenly() {
        let mut seating = seating(3);
        let home = usize::from(home_of(&room("town"), 3));
        let mut taken = fill(&mut seating, "town", 0..100);
        assert_eq!(taken.remove(home), 100);
        assert_eq!(taken, [0, 0]);
        let taken = fill(&mut seating, "town", 100..200);
        assert_eq!(taken.iter().filter(|taken| **taken == 100).count(), 2, "the second before the third: {taken:?}");
        assert_eq!(fill(&mut seating, "town", 200..1_000).iter().sum::<usize>(), 1_000);
        assert!(seating.rooms[&room("town")].iter().all(|taken| (333..=334).contains(taken)), "{:?}", seating.rooms);
    }

    #[test]
    fn who_leaves_makes_room_and_an_empty_room_is_forgotten() {
        let mut seating = seating(2);
        fill(&mut seating, "town", 0..150);
        assert_eq!(seating.rooms().collect::<Vec<_>>(), [&room("town")]);
        (0..150).for_each(|n| seating.leave(&who(n)));
        seating.leave(&who(0));
        assert_eq!(seating.taken, [0, 0]);
        assert!(seating.rooms.is_empty() && seating.seats.is_empty());
    }

    #[test]
    fn a_busy_or_full_home_is_passed_over_and_a_busy_shard_gets_fewer() {
        let mut seating = seating(3);
        let name = room("town");
        let home = home_of(&name, 3);
        let other = (home + 1) % 3;
        seating.set_busy(home, 0.95);
        seating.set_busy(other, 0.5);
        let third = (home + 2) % 3;
        assert_eq!(seating.place(&name, &who(1), None), third);
        assert_eq!(seating.place(&name, &who(2), None), third, "beside the other");
        seating.set_busy(home, 0.0);
        assert_eq!(seating.place(&name, &who(3), None), home);
        assert!((seating.mean_busy() - 0.5 / 3.0).abs() < 1e-9);
        let mut full = Seating::new(2, Bounds { shard: 1, room: 100 });
        assert_ne!(full.place(&name, &who(1), None), full.place(&name, &who(2), None));
        assert_eq!(full.place(&name, &who(3), None), home_of(&name, 2), "nobody has a seat: the home says so");
    }

    #[test]
    fn who_moves_within_the_node_stays_on_their_shard_and_is_found_there() {
        let mut seating = seating(2);
        fill(&mut seating, "town", 0..150);
        let spread = (0..150).find(|n| seating.find(&who(*n)) != Some(home_of(&room("town"), 2))).expect("it spread");
        let shard = seating.find(&who(spread)).expect("seated");
        (0..100).for_each(|n| seating.leave(&who(n)));
        assert_eq!(seating.place(&room("town"), &who(1_000), Some(&who(spread))), shard);
        assert_eq!(seating.place(&room("elsewhere"), &who(1_001), Some(&who(spread))), home_of(&room("elsewhere"), 2));
        assert_eq!(seating.find(&who(1_000)), Some(shard));
        assert_eq!(seating.place(&room("town"), &who(1_000), None), shard, "asked twice, placed once");
        assert_eq!(seating.room_size(&room("town")), 51);
    }

    #[test]
    fn homes_are_spread() {
        let mut rooms = [0; 4];
        (0..4_000).for_each(|n| rooms[usize::from(home_of(&room(&format!("room-{n}")), 4))] += 1);
        assert!(rooms.iter().all(|count| (800..1_200).contains(count)), "{rooms:?}");
        assert_eq!(home_of(&room("any"), 1), 0);
    }

    proptest! {
        /// Whoever comes and goes, the books agree.
        #[test]
        fn the_counts_are_those_of_the_seats(steps in prop::collection::vec((0usize..30, 0u8..4, 0u8..4), 0..200)) {
            let mut seating = Seating::new(3, Bounds { shard: 8, room: 4 });
            for (n, what, name) in steps {
                let name = room(&format!("room{name}"));
                match what {
                    0 => seating.leave(&who(n)),
                    1 => seating.take(&name, &who(n), (n % 3) as u8),
                    _ => {
                        let replaces = Some(who(n + 1)).filter(|_| what == 2);
                        seating.place(&name, &who(n), replaces.as_ref());
                    }
                }
                let sits = |shard: usize, of: Option<&RoomId>| {
                    let here = |seat: &&Seat| usize::from(seat.shard) == shard && of.is_none_or(|of| seat.room == *of);
                    seating.seats.values().filter(here).count()
                };
                for shard in 0..3 {
                    prop_assert_eq!(seating.taken[shard], sits(shard, None));
                    for (name, taken) in &seating.rooms {
                        prop_assert_eq!(taken[shard], sits(shard, Some(name)));
                    }
                }
            }
        }
    }
}
