//! Who joins and leaves which room when: made of a scenario and its seed before the run begins, so that one seed is one
//! load. No sockets, no clock.
//!
//! Rooms fill one after the other, publishers first; when a stage asks for fewer participants, those who came last leave
//! first.

use std::{collections::VecDeque, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::client::session::Measuring;

use super::scenario::{Churn, Goal, RoomKind, Scenario, Share, Stage};

/// What is to happen when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Everyone who will be there, in the order of first joining.
    pub seats: Vec<Seat>,
    /// In the order of time.
    pub moves: Vec<Move>,
    /// Then everyone leaves who is still there.
    pub duration: Duration,
}

/// One participant's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Number of the room in the run, from 0.
    pub room: u32,
    /// Which of the scenario's kinds the room is of.
    pub kind: usize,
    /// Number of the place in the room, from 0.
    pub place: u32,
    /// Which of the scenario's networks the participant has; none is that of this machine.
    pub network: Option<usize>,
}

/// Someone joins or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// From the beginning of the run.
    pub at: Duration,
    /// Index of the seat.
    pub seat: usize,
    /// What.
    pub what: Step,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Takes the seat.
    Join,
    /// Gives it up.
    Leave,
}

/// What the participant on a seat does in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Speaks.
    pub audio: bool,
    /// Shows a camera.
    pub video: bool,
    /// Watches.
    pub views: bool,
    /// What becomes of what it receives.
    pub measuring: Measuring,
}

impl Seat {
    /// What the participant does. Publishers have the first places, viewers the last.
    pub fn part(&self, kind: &RoomKind) -> Part {
        let views = self.place >= kind.participants - kind.viewers;
        let (publishers, watches) = (kind.publishers(), views && kind.video_slots > 0);
        // Pictures come to those who tell the server how they come.
        let measuring = match self.place.checked_sub(publishers).zip(kind.judges) {
            Some((listener, judges)) if !watches && !is_one_of(judges, kind.participants - publishers, listener) => {
                Measuring::Counts
            }
            _ => Measuring::Judges,
        };
        Part { audio: self.place < kind.audio_publishers, video: self.place < kind.video_publishers, views, measuring }
    }
}

impl Plan {
    /// Lays the plan out.
    pub fn new(scenario: &Scenario) -> Self {
        let mut seating = Seating::new(scenario);
        let steady = stages(&scenario.stages, &mut seating);
        let duration = scenario.duration();
        let moves = match scenario.churn {
            Some(churn) if churn.per_minute > 0.0 => with_churn(&steady, churn, duration, scenario.seed),
            _ => steady,
        };
        Self { seats: seating.seats, moves, duration }
    }

    /// How many take a seat, those who come back counted again.
    pub fn joins(&self) -> usize {
        self.moves.iter().filter(|step| step.what == Step::Join).count()
    }
}

/// Deals out rooms and their seats, without end where kinds have weights.
struct Seating<'a> {
    kinds: &'a [RoomKind],
    randomness: StdRng,
    /// Another stream of random numbers, so that networks do not change which rooms there are.
    networks: StdRng,
    /// Kinds of the rooms to come, the next last; none where kinds have weights.
    counted: Option<Vec<usize>>,
    seats: Vec<Seat>,
    /// After each room, how many seats there are.
    ends: Vec<usize>,
}

impl<'a> Seating<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let kinds = &scenario.rooms;
        let mut randomness = StdRng::seed_from_u64(scenario.seed);
        let rooms_of = |(kind, share): (usize, Share)| match share {
            Share::Count(count) => Some(std::iter::repeat_n(kind, count as usize)),
            Share::Weight(_) => None,
        };
        let shares = kinds.iter().map(|kind| kind.share).enumerate();
        let mut counted: Option<Vec<usize>> =
            shares.map(rooms_of).collect::<Option<Vec<_>>>().map(|rooms| rooms.into_iter().flatten().collect());
        if let Some(rooms) = &mut counted {
            rooms.shuffle(&mut randomness);
        }
        let networks = StdRng::seed_from_u64(scenario.seed ^ 0x006e_6574_776f_726b);
        Self { kinds, randomness, networks, counted, seats: Vec::new(), ends: Vec::new() }
    }

    /// Makes one more room, if there is one.
    fn open_room(&mut self) -> bool {
        let kind = match &mut self.counted {
            Some(rooms) => rooms.pop(),
            None => Some(draw(self.kinds, &mut self.randomness)),
        };
        let Some(kind) = kind else { return false };
        let room = self.ends.len() as u32;
        let RoomKind { participants, networks, .. } = &self.kinds[kind];
        for place in 0..*participants {
            let network = draw_network(networks, &mut self.networks);
            self.seats.push(Seat { room, kind, place, network });
        }
        self.ends.push(self.seats.len());
        true
    }

    /// As many seats as are wanted, or as there are.
    fn participants(&mut self, wanted: usize) -> usize {
        while self.seats.len() < wanted && self.open_room() {}
        wanted.min(self.seats.len())
    }

    /// The seats of so many rooms.
    fn rooms(&mut self, wanted: usize) -> usize {
        while self.ends.len() < wanted && self.open_room() {}
        wanted.min(self.ends.len()).checked_sub(1).map_or(0, |last| self.ends[last])
    }
}

/// Whether the one with this number is among `some` that stand evenly among `all`.
fn is_one_of(some: u32, all: u32, number: u32) -> bool {
    let before = |number: u32| u64::from(number) * u64::from(some) / u64::from(all);
    before(number + 1) > before(number)
}

/// A kind, by weight.
fn draw(kinds: &[RoomKind], randomness: &mut StdRng) -> usize {
    let weight = |kind: &RoomKind| match kind.share {
        Share::Weight(weight) => weight,
        Share::Count(_) => 0.0,
    };
    let mut left = randomness.random::<f64>() * kinds.iter().map(weight).sum::<f64>();
    for (index, kind) in kinds.iter().enumerate() {
        left -= weight(kind);
        if left < 0.0 {
            return index;
        }
    }
    kinds.len() - 1
}

/// A network by its share; none for the share that is left.
fn draw_network(networks: &[(usize, f64)], randomness: &mut StdRng) -> Option<usize> {
    let mut left = randomness.random::<f64>();
    networks.iter().find_map(|(network, share)| {
        left -= share;
        (left < 0.0).then_some(*network)
    })
}

/// The moves that the stages ask for. Seats are always taken from the first on without a gap.
fn stages(stages: &[Stage], seating: &mut Seating<'_>) -> Vec<Move> {
    let mut moves = Vec::new();
    let (mut begin, mut taken) = (Duration::ZERO, 0);
    for stage in stages {
        let (wanted, span) = match stage.goal {
            Goal::Hold => (taken, stage.duration),
            Goal::Participants { count, ramp } => (seating.participants(count as usize), ramp),
            Goal::Rooms { count, ramp } => (seating.rooms(count as usize), ramp),
            Goal::JoinsPerSecond(rate) => {
                let wanted = taken + (rate * stage.duration.as_secs_f64()).floor() as usize;
                let count = seating.participants(wanted);
                // At the asked rate, even if seats run out.
                (count, Duration::from_secs_f64((count - taken) as f64 / rate))
            }
        };
        let seats: Vec<_> = if wanted >= taken { (taken..wanted).collect() } else { (wanted..taken).rev().collect() };
        let what = if wanted >= taken { Step::Join } else { Step::Leave };
        let interval_s = span.as_secs_f64() / seats.len().max(1) as f64;
        let step =
            |(number, seat)| Move { at: begin + Duration::from_secs_f64(interval_s * number as f64), seat, what };
        moves.extend(seats.into_iter().enumerate().map(step));
        begin += stage.duration;
        taken = wanted;
    }
    moves
}

/// Adds those who leave at any moment and come back. Leaving is a Poisson process over all who are there.
fn with_churn(steady: &[Move], churn: Churn, duration: Duration, seed: u64) -> Vec<Move> {
    // Another stream of random numbers than the rooms', so that churn does not change which rooms there are.
    let mut randomness = StdRng::seed_from_u64(seed ^ 0x6368_7572_6e00);
    let mut moves = Vec::with_capacity(steady.len());
    let mut steady = steady.iter().copied().peekable();
    let mut present: Vec<usize> = Vec::new();
    // In the order of time, since everyone stays away equally long.
    let mut away: VecDeque<Move> = VecDeque::new();
    let mut now = Duration::ZERO;
    loop {
        let leaving = next_leaving(now, present.len(), churn, &mut randomness).filter(|at| *at < duration);
        let planned = steady.peek().map(|step| step.at);
        let back = away.front().map(|step| step.at);
        let Some(next) = [leaving, planned, back].into_iter().flatten().min() else { return moves };
        now = next;
        let step = if planned == Some(next) {
            steady.next()
        } else if back == Some(next) {
            away.pop_front()
        } else {
            let seat = present[randomness.random_range(0..present.len())];
            away.push_back(Move { at: now + churn.away, seat, what: Step::Join });
            Some(Move { at: now, seat, what: Step::Leave })
        };
        let Some(step) = step.filter(|step| step.at < duration) else { continue };
        match step.what {
            Step::Join => present.push(step.seat),
            Step::Leave => {
                let Some(index) = present.iter().position(|seat| *seat == step.seat) else {
                    // A stage asks someone to leave who is away: then nobody comes back.
                    away.retain(|back| back.seat != step.seat);
                    continue;
                };
                present.swap_remove(index);
            }
        }
        moves.push(step);
    }
}

/// When the next of those present leaves, by an exponential wait. It may be drawn anew at any moment: it has no memory.
fn next_leaving(now: Duration, present: usize, churn: Churn, randomness: &mut StdRng) -> Option<Duration> {
    let per_second = churn.per_minute / 60.0 * present as f64;
    if per_second <= 0.0 {
        return None;
    }
    let wait_s = -(1.0 - randomness.random::<f64>()).ln() / per_second;
    Duration::try_from_secs_f64(wait_s).ok().map(|wait| now + wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scenario(stages: &str, rest: &str) -> Scenario {
        let text = format!(
            "[target]\nurl = \"http://127.0.0.1:7100\"\n{stages}\n[[rooms]]\nname = \"pair\"\nparticipants = 2\n\
             weight = 3\n[[rooms]]\nname = \"meeting\"\nparticipants = 6\nvideo_publishers = 3\nviewers = 2\n{rest}"
        );
        Scenario::parse("s.toml", &text).expect("the test's scenario is good")
    }

    fn present_at(plan: &Plan, at: Duration) -> usize {
        let so_far = plan.moves.iter().filter(|step| step.at <= at);
        so_far.map(|step| if step.what == Step::Join { 1 } else { -1 }).sum::<i64>() as usize
    }

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_ramp_is_even_and_those_who_came_last_leave_first() {
        let stages = "[[stage]]\nduration = \"10s\"\nparticipants = 20\n[[stage]]\nduration = \"10s\"\n\
                      [[stage]]\nduration = \"5s\"\nparticipants = 5\nramp = \"3s\"\n";
        let plan = Plan::new(&scenario(stages, ""));
        assert_eq!(plan.duration, seconds(25));
        assert_eq!([0, 5, 10, 19].map(|at| present_at(&plan, seconds(at))), [1, 11, 20, 20]);
        assert_eq!(present_at(&plan, seconds(23)), 5);
        let left: Vec<_> = plan.moves.iter().filter(|step| step.what == Step::Leave).map(|step| step.seat).collect();
        assert_eq!(left, (5..20).rev().collect::<Vec<_>>());
    }

    #[test]
    fn whole_rooms_fill_one_after_the_other() {
        let plan = Plan::new(&scenario("[[stage]]\nduration = \"10s\"\nrooms = 4\n", ""));
        let rooms: Vec<_> = plan.seats.iter().map(|seat| seat.room).collect();
        assert!(rooms.is_sorted() && rooms.last() == Some(&3), "{rooms:?}");
        assert_eq!(plan.joins(), plan.seats.len(), "whole rooms");
    }

    #[test]
    fn joins_come_at_their_rate() {
        let plan = Plan::new(&scenario("[[stage]]\nduration = \"4s\"\njoins_per_second = 2.5\n", ""));
        let at: Vec<_> = plan.moves.iter().map(|step| step.at.as_millis()).collect();
        assert_eq!(at, [0, 400, 800, 1200, 1600, 2000, 2400, 2800, 3200, 3600]);
    }

    #[test]
    fn publishers_sit_first_and_viewers_last() {
        let scenario = scenario("[[stage]]\nduration = \"1s\"\nrooms = 1\n", "");
        let part = |place| Seat { room: 0, kind: 1, place, network: None }.part(&scenario.rooms[1]);
        assert_eq!([part(0).video, part(2).video, part(3).video], [true, true, false]);
        assert_eq!([part(3).views, part(4).views, part(5).views], [false, true, true]);
    }

    #[test]
    fn of_those_who_only_listen_some_judge_and_everyone_else_does() {
        let judging = |rooms: &str| {
            let plan = Plan::new(&scenario("[[stage]]\nduration = \"1s\"\nrooms = 1\n", rooms));
            let kinds = scenario("[[stage]]\nduration = \"1s\"\nrooms = 1\n", rooms).rooms;
            let judges: Vec<u32> = plan
                .seats
                .iter()
                .filter(|seat| seat.part(&kinds[seat.kind]).measuring == Measuring::Judges)
                .map(|seat| seat.place)
                .collect();
            judges
        };
        let hall = "[[rooms]]\nname = \"hall\"\nparticipants = 12\naudio_publishers = 2\n";
        assert_eq!(judging(hall).len(), 12);
        assert_eq!(judging(&format!("{hall}judges = 3\n")), [0, 1, 5, 8, 11]);
        assert_eq!(judging(&format!("{hall}judges = 0\nvideo_slots = 1\nviewers = 1\n")), [0, 1, 11], "who watches");
    }

    #[test]
    fn networks_have_their_shares_of_participants() {
        let stages =
            "[[stage]]\nduration = \"10s\"\nrooms = 1000\n[networks.bad]\nloss = 0.1\n[networks.worse]\nloss = 0.2\n";
        let plan = Plan::new(&scenario(stages, "networks = { bad = 0.5, worse = 0.2 }\n"));
        let (meetings, pairs): (Vec<&Seat>, Vec<&Seat>) = plan.seats.iter().partition(|seat| seat.kind == 1);
        let share =
            |network| meetings.iter().filter(|seat| seat.network == network).count() as f64 / meetings.len() as f64;
        for (network, wanted) in [(Some(0), 0.5), (Some(1), 0.2), (None, 0.3)] {
            assert!((share(network) - wanted).abs() < 0.05, "{network:?}: {}", share(network));
        }
        assert!(pairs.iter().all(|seat| seat.network.is_none()), "that kind of room has none");
    }

    #[test]
    fn weights_and_counts_say_how_many_rooms_of_each_kind_there_are() {
        let weighted = Plan::new(&scenario("[[stage]]\nduration = \"10s\"\nrooms = 1000\n", ""));
        let pairs = weighted.seats.iter().filter(|seat| seat.kind == 0 && seat.place == 0).count();
        assert!((700..800).contains(&pairs), "3 in 4 rooms are pairs: {pairs}");
        let text = "[target]\nurl = \"http://127.0.0.1:7100\"\n[[stage]]\nduration = \"1s\"\nrooms = 7\n\
                    [[rooms]]\nname = \"a\"\nparticipants = 2\ncount = 5\n[[rooms]]\nname = \"b\"\nparticipants = 3\ncount = 2\n";
        let counted = Plan::new(&Scenario::parse("s.toml", text).expect("good"));
        assert_eq!(counted.seats.len(), 5 * 2 + 2 * 3);
    }

    proptest! {
        #[test]
        fn one_seed_is_one_plan_and_nobody_sits_twice(seed: u64, per_minute in 0.0..20.0f64, last in 0u32..40) {
            let stages = format!("[[stage]]\nduration = \"10s\"\nparticipants = 30\n[[stage]]\nduration = \"20s\"\n\
                                  [[stage]]\nduration = \"10s\"\nparticipants = {last}\n");
            let mut scenario = scenario(&stages, &format!("[churn]\nper_minute = {per_minute:?}\naway = \"3s\"\n"));
            scenario.seed = seed;
            let plan = Plan::new(&scenario);
            prop_assert_eq!(&plan, &Plan::new(&scenario));
            prop_assert!(plan.moves.is_sorted_by_key(|step| step.at));
            prop_assert!(plan.moves.iter().all(|step| step.at < plan.duration));
            let mut taken = vec![false; plan.seats.len()];
            for step in &plan.moves {
                let joins = step.what == Step::Join;
                prop_assert_eq!(taken[step.seat], !joins, "seat {} at {:?}", step.seat, step.at);
                taken[step.seat] = joins;
            }
            prop_assert!(taken.iter().filter(|taken| **taken).count() <= last as usize);
        }

        #[test]
        fn about_the_asked_share_leaves_and_comes_back(seed: u64) {
            let stages = "[[stage]]\nduration = \"1s\"\nparticipants = 600\n[[stage]]\nduration = \"10m\"\n";
            let mut scenario = scenario(stages, "[churn]\nper_minute = 0.5\naway = \"1s\"\n");
            scenario.seed = seed;
            let plan = Plan::new(&scenario);
            let left = plan.moves.len() - plan.joins();
            // 600 participants, half of them a minute, for 10 minutes.
            prop_assert!((2700..3300).contains(&left), "{left}");
        }
    }
}
