//! Calls under every order of events.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_protocol::{CallId, DeviceId, PersonId};
use proptest::prelude::*;

use super::*;

fn person(name: &str) -> PersonId {
    name.parse().expect("a valid id")
}

fn device(name: &str) -> DeviceId {
    name.parse().expect("a valid id")
}

fn ana_calls_ben() -> Call {
    let invitation = Invitation {
        call: "c-1".parse().expect("a valid id"),
        caller: person("ana"),
        device: device("ana-1"),
        callee: person("ben"),
        video: true,
    };
    Call::begin(invitation, 0).expect("two people")
}

fn effects(call: &mut Call) -> Vec<Effect> {
    std::iter::from_fn(|| call.poll_effect()).collect()
}

fn accepts(name: &str, with: &str) -> Input {
    Input::Accepts { person: person(name), device: device(with) }
}

fn rings(name: &str, with: &str) -> Input {
    Input::Rings { person: person(name), device: device(with) }
}

fn hangs_up(name: &str, with: &str) -> Input {
    Input::HangsUp { person: person(name), device: device(with) }
}

fn records(effects: &[Effect]) -> BTreeMap<String, (LegEnd, Option<u64>, bool)> {
    let over = effects.iter().find_map(|effect| match effect {
        Effect::Over { records } => Some(records),
        _ => None,
    });
    let record = |record: &Record| (record.person.to_string(), (record.end, record.talked_ms, record.is_missed()));
    over.expect("it is over").iter().map(record).collect()
}

#[test]
fn who_answers_first_is_in_the_call_and_their_other_devices_fall_silent() {
    let mut call = ana_calls_ben();
    let begun = effects(&mut call);
    assert_eq!(begun[0], Effect::Admit { person: person("ana"), device: device("ana-1") });
    assert_eq!(begun[1], Effect::Ring { person: person("ben"), only: None, until_ms: 45_000 });
    assert_eq!(begun.len(), 2, "nothing of ben's may join yet");
    for with in ["ben-1", "ben-2"] {
        assert_eq!(call.handle(rings("ben", with), 100), Ok(()));
    }
    assert_eq!(call.handle(accepts("ben", "ben-2"), 3_000), Ok(()));
    let why = Quiet::Answered(device("ben-2"));
    let answered = effects(&mut call);
    let expected = [
        Effect::Quieten { person: person("ben"), why },
        Effect::Admit { person: person("ben"), device: device("ben-2") },
    ];
    assert_eq!(answered, expected);
    assert_eq!(call.handle(accepts("ben", "ben-1"), 3_001), Err(Refused::AnsweredElsewhere));
    assert_eq!(call.handle(accepts("ben", "ben-2"), 3_002), Ok(()), "said again");
    assert_eq!(effects(&mut call), []);
    assert_eq!(call.handle(hangs_up("ana", "ana-1"), 63_000), Ok(()));
    let ended = effects(&mut call);
    let left = Effect::Dismiss { person: person("ben"), device: device("ben-2"), why: Some(LegEnd::OthersLeft) };
    assert!(ended.contains(&left), "{ended:?}");
    let expected = [("ana", (LegEnd::HungUp, Some(60_000), false)), ("ben", (LegEnd::OthersLeft, Some(60_000), false))];
    assert_eq!(records(&ended), expected.map(|(name, record)| (name.to_owned(), record)).into());
}

#[test]
fn a_call_that_nobody_answers_ends_after_45_seconds_and_is_missed() {
    let mut call = ana_calls_ben();
    assert_eq!(call.wake_at_ms(), Some(45_000));
    call.tick(44_999);
    assert!(!call.is_over());
    call.tick(45_000);
    let records = records(&effects(&mut call));
    assert_eq!(records["ana"], (LegEnd::NoAnswer, None, false));
    assert_eq!(records["ben"], (LegEnd::NoAnswer, None, true));
    assert_eq!(call.handle(accepts("ben", "ben-1"), 45_001), Err(Refused::Over(LegEnd::NoAnswer)));
}

#[test]
fn each_way_in_which_nobody_answers_has_its_name() {
    let cases: [(&str, Vec<Input>, LegEnd, LegEnd); 4] = [
        ("declined", vec![Input::Declines { person: person("ben") }], LegEnd::Declined, LegEnd::Declined),
        ("taken back", vec![hangs_up("ana", "ana-1")], LegEnd::HungUp, LegEnd::Cancelled),
        (
            "busy on the only device that rang",
            vec![rings("ben", "ben-1"), Input::IsBusy { person: person("ben"), device: device("ben-1") }],
            LegEnd::Busy,
            LegEnd::Busy,
        ),
        (
            "the caller's device lost",
            vec![Input::Lost { person: person("ana"), device: device("ana-1") }],
            LegEnd::Lost,
            LegEnd::Cancelled,
        ),
    ];
    for (name, inputs, ana, ben) in cases {
        let mut call = ana_calls_ben();
        for input in inputs {
            assert_eq!(call.handle(input, 1_000), Ok(()), "{name}");
        }
        let records = records(&effects(&mut call));
        assert_eq!((records["ana"].0, records["ben"].0), (ana, ben), "{name}");
    }
}

#[test]
fn a_busy_device_does_not_keep_another_from_ringing_nor_a_lost_one_from_being_woken() {
    let mut call = ana_calls_ben();
    for input in [
        rings("ben", "ben-1"),
        rings("ben", "ben-2"),
        Input::IsBusy { person: person("ben"), device: device("ben-1") },
        Input::Lost { person: person("ben"), device: device("ben-2") },
    ] {
        assert_eq!(call.handle(input, 1_000), Ok(()));
    }
    assert!(!call.is_over());
    assert_eq!(call.handle(accepts("ben", "ben-3"), 20_000), Ok(()), "one that a notification woke");
    assert_eq!(call.present().count(), 2);
}

#[test]
fn somebody_added_makes_it_a_call_of_three_that_goes_on_for_two() {
    let mut call = ana_calls_ben();
    let adds = |by: &str| Input::Adds { by: person(by), person: person("cleo") };
    assert_eq!(call.handle(adds("ben"), 500), Err(Refused::NotInCall), "who is rung cannot");
    assert_eq!(call.handle(accepts("ben", "ben-1"), 1_000), Ok(()));
    assert_eq!(call.handle(adds("ben"), 2_000), Ok(()));
    assert_eq!(call.handle(accepts("cleo", "cleo-1"), 3_000), Ok(()));
    assert_eq!(call.handle(hangs_up("ana", "ana-1"), 4_000), Ok(()));
    assert!(!call.is_over());
    assert_eq!(call.handle(hangs_up("cleo", "cleo-1"), 5_000), Ok(()));
    let records = records(&effects(&mut call));
    assert_eq!(records["ana"], (LegEnd::HungUp, Some(3_000), false));
    assert_eq!(records["ben"], (LegEnd::OthersLeft, Some(4_000), false));
    assert_eq!(records["cleo"], (LegEnd::HungUp, Some(2_000), false));
}

#[test]
fn a_call_moves_to_another_device_of_mine_and_stays_if_that_does_not_answer() {
    let mut call = ana_calls_ben();
    assert_eq!(call.handle(accepts("ben", "ben-1"), 1_000), Ok(()));
    let asks = || Input::Moves { person: person("ben"), to: device("ben-2") };
    assert_eq!(call.handle(asks(), 2_000), Ok(()));
    effects(&mut call);
    call.tick(47_000);
    let stays = Effect::Quieten { person: person("ben"), why: Quiet::Answered(device("ben-1")) };
    assert_eq!(effects(&mut call), [stays]);
    assert_eq!(call.handle(accepts("ben", "ben-2"), 47_001), Err(Refused::AnsweredElsewhere));
    assert_eq!(call.handle(asks(), 48_000), Ok(()));
    assert_eq!(call.handle(accepts("ben", "ben-2"), 49_000), Ok(()));
    let moved = effects(&mut call);
    assert!(moved.contains(&Effect::Dismiss { person: person("ben"), device: device("ben-1"), why: None }));
    assert!(moved.contains(&Effect::Admit { person: person("ben"), device: device("ben-2") }));
    assert_eq!(call.handle(hangs_up("ben", "ben-1"), 50_000), Ok(()), "of the device that was left");
    assert!(!call.is_over());
}

#[test]
fn of_two_who_call_each_other_one_call_goes_on() {
    let (one, other): (CallId, CallId) = ("c-1".parse().expect("valid"), "c-2".parse().expect("valid"));
    assert!(precedes(&one, &other) && !precedes(&other, &one));
    let mut call = ana_calls_ben();
    assert_eq!(call.handle(Input::Superseded, 10), Ok(()));
    let ended = effects(&mut call);
    assert!(ended.contains(&Effect::Quieten { person: person("ben"), why: Quiet::Ended(LegEnd::Superseded) }));
    assert_eq!(records(&ended), BTreeMap::new(), "nobody's log has it");
}

const PEOPLE: [&str; 3] = ["ana", "ben", "cleo"];

/// Everything that can happen with three people of two devices each.
fn inputs() -> Vec<Input> {
    let mut inputs = vec![Input::Superseded];
    for name in PEOPLE {
        inputs.push(Input::Declines { person: person(name) });
        for with in [format!("{name}-1"), format!("{name}-2")] {
            let (person, device) = (person(name), device(&with));
            inputs.extend([
                Input::Rings { person: person.clone(), device: device.clone() },
                Input::Accepts { person: person.clone(), device: device.clone() },
                Input::IsBusy { person: person.clone(), device: device.clone() },
                Input::HangsUp { person: person.clone(), device: device.clone() },
                Input::Lost { person: person.clone(), device: device.clone() },
                Input::Moves { person: person.clone(), to: device },
            ]);
        }
        for other in PEOPLE.iter().filter(|other| **other != name) {
            inputs.push(Input::Adds { by: person(name), person: person(other) });
        }
    }
    inputs
}

/// Follows what a call asks for, and holds it to what must always be so.
#[derive(Default)]
struct Witness {
    /// Devices that may be in the room.
    admitted: BTreeSet<(PersonId, DeviceId)>,
    rung: BTreeSet<PersonId>,
    /// Who has accepted, by the inputs.
    accepted: BTreeSet<(PersonId, DeviceId)>,
    ends: usize,
}

impl Witness {
    fn hears(&mut self, input: &Input) {
        if let Input::Accepts { person, device } = input {
            self.accepted.insert((person.clone(), device.clone()));
        }
    }

    fn sees_all(&mut self, call: &mut Call) {
        while let Some(effect) = call.poll_effect() {
            self.sees(effect);
        }
    }

    fn sees(&mut self, effect: Effect) {
        assert_eq!(self.ends, 0, "{effect:?} after the end");
        match effect {
            Effect::Ring { person, .. } => drop(self.rung.insert(person)),
            Effect::Quieten { person, .. } => assert!(self.rung.remove(&person), "{person} was not rung"),
            Effect::Admit { person, device } => {
                let is_caller = person.as_str() == "ana" && device.as_str() == "ana-1";
                let stands = (person, device);
                assert!(is_caller || self.accepted.contains(&stands), "{stands:?} admitted without an answer");
                assert!(self.admitted.insert(stands), "admitted twice");
            }
            Effect::Dismiss { person, device, .. } => {
                assert!(self.admitted.remove(&(person, device)), "dismissed and was not in");
            }
            Effect::Over { records } => {
                assert!(self.admitted.is_empty() && self.rung.is_empty(), "somebody is left in a call that is over");
                let people: BTreeSet<_> = records.iter().map(|record| &record.person).collect();
                assert_eq!(people.len(), records.len(), "one record for each");
                self.ends += 1;
            }
        }
    }

    fn agrees(&self, call: &Call) {
        let present: BTreeSet<_> = call.present().map(|(person, device)| (person.clone(), device.clone())).collect();
        assert_eq!(present, self.admitted);
        let people: BTreeSet<_> = self.admitted.iter().map(|(person, _)| person).collect();
        assert_eq!(people.len(), self.admitted.len(), "one device of each");
        assert_eq!(self.ends == 1, call.is_over());
    }
}

/// What a call does with inputs, and that it ends when all are gone.
fn run(inputs: &[&Input], step_ms: u64) {
    let (mut call, mut witness) = (ana_calls_ben(), Witness::default());
    witness.sees_all(&mut call);
    let mut now_ms = 0;
    for input in inputs {
        now_ms += step_ms;
        witness.hears(input);
        let first = call.handle((*input).clone(), now_ms);
        witness.sees_all(&mut call);
        // Networks repeat what was said.
        let second = call.handle((*input).clone(), now_ms);
        assert!(first.is_err() || second.is_ok() || call.is_over(), "{input:?}: {first:?}, then {second:?}");
        witness.sees_all(&mut call);
        witness.agrees(&call);
    }
    let left: Vec<Input> =
        call.present().map(|(person, device)| Input::Lost { person: person.clone(), device: device.clone() }).collect();
    for input in left {
        let _ = call.handle(input, now_ms);
    }
    call.tick(now_ms + 45_000);
    witness.sees_all(&mut call);
    assert!(call.is_over(), "it goes on without anybody");
    witness.agrees(&call);
}

#[test]
fn every_order_of_three_events_keeps_the_contract() {
    let inputs = inputs();
    for one in &inputs {
        for two in &inputs {
            for three in &inputs {
                run(&[one, two, three], 1_000);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_contract(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        step_ms in prop::sample::select(vec![0u64, 10, 1_000, 20_000, 60_000]),
    ) {
        let inputs = inputs();
        let picked: Vec<&Input> = picks.iter().map(|pick| pick.get(&inputs)).collect();
        run(&picked, step_ms);
    }
}
