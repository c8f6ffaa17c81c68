//! One call, from the first ring to its end.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use isthmus_protocol::{CallId, DeviceId, PersonId};
use serde::{Deserialize, Serialize};

use crate::record::{Direction, Record};

/// How long somebody is rung.
pub const RING_FOR: Duration = Duration::from_secs(45);
/// The most people of a call, those who have left it included.
const MAX_LEGS: usize = 64;

/// Who calls whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The call: chosen by its owner.
    pub call: CallId,
    /// Who calls.
    pub caller: PersonId,
    /// From which of their devices.
    pub device: DeviceId,
    /// Who is called.
    pub callee: PersonId,
    /// Whether it is to be a video call.
    pub video: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A device lets somebody hear or see that they are called.
    Rings {
        /// Whom.
        person: PersonId,
        /// On which device.
        device: DeviceId,
    },
    /// Somebody answers.
    Accepts {
        /// Who.
        person: PersonId,
        /// With which device.
        device: DeviceId,
    },
    /// Somebody does not want to.
    Declines {
        /// Who.
        person: PersonId,
    },
    /// A device says that it cannot ring: it is in another call.
    IsBusy {
        /// Whose.
        person: PersonId,
        /// Which.
        device: DeviceId,
    },
    /// Somebody leaves; a caller whom nobody has answered takes the call back.
    HangsUp {
        /// Who.
        person: PersonId,
        /// The device that they are in the call with.
        device: DeviceId,
    },
    /// A device is gone, and has not come back in time.
    Lost {
        /// Whose.
        person: PersonId,
        /// Which.
        device: DeviceId,
    },
    /// Somebody in the call adds somebody else.
    Adds {
        /// Who.
        by: PersonId,
        /// Whom.
        person: PersonId,
    },
    /// Somebody in the call wants to go on with another of their devices, which rings.
    Moves {
        /// Who.
        person: PersonId,
        /// To which device.
        to: DeviceId,
    },
    /// Both called at once, and the other call goes on.
    Superseded,
}

/// Why an input changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Another of their devices is in the call.
    #[error("the call was answered on another device")]
    AnsweredElsewhere,
    /// They are out of the call, or it is over.
    #[error("the call is over")]
    Over(LegEnd),
    /// They are not in this call.
    #[error("not in this call")]
    NotInCall,
    /// As many as there can be.
    #[error("the call is full")]
    Full,
}

/// How a call ended for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegEnd {
    /// They left.
    HungUp,
    /// The others left.
    OthersLeft,
    /// They did not want to.
    Declined,
    /// Every device that rang was in another call.
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// The caller took it back.
    Cancelled,
    /// Their device was lost.
    Lost,
    /// Both called at once; the other call goes on.
    Superseded,
}

/// Why a device stops ringing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quiet {
    /// They answered with this device.
    Answered(DeviceId),
    /// The call ended for them.
    Ended(LegEnd),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ring somebody, until then at most.
    Ring {
        /// Whom.
        person: PersonId,
        /// On this device alone; none for all they have, in every PoP.
        only: Option<DeviceId>,
        /// In milliseconds since the epoch.
        until_ms: u64,
    },
    /// Nothing of theirs rings any more.
    Quieten {
        /// Whose devices.
        person: PersonId,
        /// Why.
        why: Quiet,
    },
    /// From now on a device may join the call's room.
    Admit {
        /// Whose.
        person: PersonId,
        /// Which.
        device: DeviceId,
    },
    /// From now on it may not, and is to leave it.
    Dismiss {
        /// Whose.
        person: PersonId,
        /// Which.
        device: DeviceId,
        /// Why; none if they go on with another device.
        why: Option<LegEnd>,
    },
    /// It is over; this is what is kept.
    Over {
        /// One for each person.
        records: Vec<Record>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    /// They are rung.
    Rung {
        until_ms: u64,
        /// Devices that ring, and those that are busy.
        ringing: BTreeSet<DeviceId>,
        busy: BTreeSet<DeviceId>,
    },
    /// They are in it.
    In {
        device: DeviceId,
        /// Another device that rings, so that they can go on with it, and until when.
        moves_to: Option<(DeviceId, u64)>,
    },
    Out(LegEnd),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Leg {
    stand: Stand,
    begun_ms: u64,
    /// Since when they have been in the call with somebody else, and for how long before.
    talks_since_ms: Option<u64>,
    talked_ms: Option<u64>,
}

/// See the [crate]'s contract.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    caller: PersonId,
    video: bool,
    legs: BTreeMap<PersonId, Leg>,
    /// In the order in which they came to the call.
    order: Vec<PersonId>,
    is_over: bool,
    effects: VecDeque<Effect>,
}

/// Which of two calls goes on where each calls the other: the same for both, whoever decides.
pub fn precedes(one: &CallId, other: &CallId) -> bool {
    one < other
}

impl Call {
    /// Somebody calls somebody else, at `now_ms` in milliseconds since the epoch.
    ///
    /// # Errors
    /// [`Refused::NotInCall`] if they call themselves.
    pub fn begin(invitation: Invitation, now_ms: u64) -> Result<Self, Refused> {
        let Invitation { call, caller, device, callee, video } = invitation;
        if caller == callee {
            return Err(Refused::NotInCall);
        }
        let mut begun = Self {
            id: call,
            caller: caller.clone(),
            video,
            legs: BTreeMap::new(),
            order: Vec::new(),
            is_over: false,
            effects: VecDeque::new(),
        };
        begun.add_leg(&caller, Stand::In { device: device.clone(), moves_to: None }, now_ms);
        begun.effects.push_back(Effect::Admit { person: caller, device });
        begun.ring(&callee, now_ms);
        Ok(begun)
    }

    /// Its name.
    pub fn id(&self) -> &CallId {
        &self.id
    }

    /// Whether nothing will come of it any more.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The people in it, each with the device that they are in it with.
    pub fn present(&self) -> impl Iterator<Item = (&PersonId, &DeviceId)> {
        self.legs.iter().filter_map(|(person, leg)| match &leg.stand {
            Stand::In { device, .. } => Some((person, device)),
            Stand::Rung { .. } | Stand::Out(_) => None,
        })
    }

    /// The people who are rung, each with whether a device of theirs is known to ring.
    pub fn rung(&self) -> impl Iterator<Item = (&PersonId, bool)> {
        self.legs.iter().filter_map(|(person, leg)| match &leg.stand {
            Stand::Rung { ringing, .. } => Some((person, !ringing.is_empty())),
            Stand::In { .. } | Stand::Out(_) => None,
        })
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`tick`](Self::tick) is due, in milliseconds since the epoch.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let until = |leg: &Leg| match &leg.stand {
            Stand::Rung { until_ms, .. } => Some(*until_ms),
            Stand::In { moves_to, .. } => moves_to.as_ref().map(|(_, until_ms)| *until_ms),
            Stand::Out(_) => None,
        };
        self.legs.values().filter_map(until).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        for person in self.order.clone() {
            match self.legs.get_mut(&person).map(|leg| &mut leg.stand) {
                Some(Stand::Rung { until_ms, .. }) if *until_ms <= now_ms => {
                    self.leave(&person, LegEnd::NoAnswer, now_ms);
                }
                Some(Stand::In { moves_to: Some((_, until_ms)), .. }) if *until_ms <= now_ms => self.stay(&person),
                _ => {}
            }
        }
        self.settle(now_ms);
    }

    /// Something happened.
    ///
    /// # Errors
    /// It changed nothing: see [`Refused`]. What is said a second time is no error.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Result<(), Refused> {
        self.tick(now_ms);
        let outcome = match input {
            Input::Rings { person, device } => self.rings(&person, device),
            Input::Accepts { person, device } => self.accepts(&person, device),
            Input::Declines { person } => self.declines(&person, now_ms),
            Input::IsBusy { person, device } => self.is_busy(&person, device, now_ms),
            Input::HangsUp { person, device } => self.goes(&person, &device, LegEnd::HungUp, now_ms),
            Input::Lost { person, device } => self.goes(&person, &device, LegEnd::Lost, now_ms),
            Input::Adds { by, person } => self.adds(&by, &person, now_ms),
            Input::Moves { person, to } => self.moves(&person, to, now_ms),
            Input::Superseded => {
                self.supersede(now_ms);
                Ok(())
            }
        };
        self.settle(now_ms);
        outcome
    }

    fn add_leg(&mut self, person: &PersonId, stand: Stand, now_ms: u64) {
        let leg = Leg { stand, begun_ms: now_ms, talks_since_ms: None, talked_ms: None };
        self.legs.insert(person.clone(), leg);
        self.order.push(person.clone());
    }

    fn ring(&mut self, person: &PersonId, now_ms: u64) {
        let until_ms = ring_until(now_ms);
        let stand = Stand::Rung { until_ms, ringing: BTreeSet::new(), busy: BTreeSet::new() };
        match self.legs.get_mut(person) {
            // They are asked in again, after they were in it or did not come.
            Some(leg) => leg.stand = stand,
            None => self.add_leg(person, stand, now_ms),
        }
        self.effects.push_back(Effect::Ring { person: person.clone(), only: None, until_ms });
    }

    fn stand(&mut self, person: &PersonId) -> Result<&mut Stand, Refused> {
        self.legs.get_mut(person).map(|leg| &mut leg.stand).ok_or(Refused::NotInCall)
    }

    fn rings(&mut self, person: &PersonId, device: DeviceId) -> Result<(), Refused> {
        match self.stand(person)? {
            Stand::Rung { ringing, busy, .. } => {
                busy.remove(&device);
                ringing.insert(device);
                Ok(())
            }
            Stand::In { moves_to: Some((to, _)), .. } if *to == device => Ok(()),
            Stand::In { device: with, .. } if *with == device => Ok(()),
            Stand::In { .. } => Err(Refused::AnsweredElsewhere),
            Stand::Out(end) => Err(Refused::Over(*end)),
        }
    }

    fn accepts(&mut self, person: &PersonId, device: DeviceId) -> Result<(), Refused> {
        let stand = self.stand(person)?;
        let left = match stand {
            Stand::Rung { .. } => None,
            Stand::In { device: with, .. } if *with == device => return Ok(()),
            Stand::In { device: with, moves_to: Some((to, _)) } if *to == device => Some(with.clone()),
            Stand::In { .. } => return Err(Refused::AnsweredElsewhere),
            Stand::Out(end) => return Err(Refused::Over(*end)),
        };
        *stand = Stand::In { device: device.clone(), moves_to: None };
        let person = person.clone();
        let why = Quiet::Answered(device.clone());
        self.effects.push_back(Effect::Quieten { person: person.clone(), why });
        if let Some(left) = left {
            self.effects.push_back(Effect::Dismiss { person: person.clone(), device: left, why: None });
        }
        self.effects.push_back(Effect::Admit { person, device });
        Ok(())
    }

    fn declines(&mut self, person: &PersonId, now_ms: u64) -> Result<(), Refused> {
        match self.stand(person)? {
            Stand::Rung { .. } => self.leave(person, LegEnd::Declined, now_ms),
            Stand::In { moves_to: Some(_), .. } => self.stay(person),
            // Nothing of theirs rings: the device has not heard yet that another one answered, or of the end.
            Stand::In { .. } | Stand::Out(_) => {}
        }
        Ok(())
    }

    fn is_busy(&mut self, person: &PersonId, device: DeviceId, now_ms: u64) -> Result<(), Refused> {
        match self.stand(person)? {
            Stand::Rung { ringing, busy, .. } => {
                ringing.remove(&device);
                busy.insert(device);
                if ringing.is_empty() {
                    self.leave(person, LegEnd::Busy, now_ms);
                }
                Ok(())
            }
            Stand::In { .. } => Err(Refused::AnsweredElsewhere),
            Stand::Out(LegEnd::Busy) => Ok(()),
            Stand::Out(end) => Err(Refused::Over(*end)),
        }
    }

    /// A device leaves, by itself or because it is lost.
    fn goes(&mut self, person: &PersonId, device: &DeviceId, end: LegEnd, now_ms: u64) -> Result<(), Refused> {
        match self.stand(person)? {
            // Others of theirs ring on, and a notification may wake this one.
            Stand::Rung { ringing, .. } => {
                ringing.remove(device);
            }
            Stand::In { device: with, .. } if with == device => self.leave(person, end, now_ms),
            Stand::In { moves_to: Some((to, _)), .. } if to == device => self.stay(person),
            Stand::In { .. } => {}
            Stand::Out(was) if *was == end => {}
            Stand::Out(was) => return Err(Refused::Over(*was)),
        }
        Ok(())
    }

    fn adds(&mut self, by: &PersonId, person: &PersonId, now_ms: u64) -> Result<(), Refused> {
        match self.stand(by)? {
            Stand::In { .. } => {}
            Stand::Rung { .. } => return Err(Refused::NotInCall),
            Stand::Out(end) => return Err(Refused::Over(*end)),
        }
        match self.legs.get(person).map(|leg| &leg.stand) {
            Some(Stand::Rung { .. } | Stand::In { .. }) => return Ok(()),
            None if self.legs.len() >= MAX_LEGS => return Err(Refused::Full),
            Some(Stand::Out(_)) | None => {}
        }
        self.ring(person, now_ms);
        Ok(())
    }

    fn moves(&mut self, person: &PersonId, device: DeviceId, now_ms: u64) -> Result<(), Refused> {
        match self.stand(person)? {
            Stand::In { device: with, .. } if *with == device => Ok(()),
            Stand::In { moves_to: Some((to, _)), .. } if *to == device => Ok(()),
            Stand::In { moves_to: Some(_), .. } => {
                self.stay(person);
                self.moves(person, device, now_ms)
            }
            Stand::In { moves_to, .. } => {
                let until_ms = ring_until(now_ms);
                *moves_to = Some((device.clone(), until_ms));
                self.effects.push_back(Effect::Ring { person: person.clone(), only: Some(device), until_ms });
                Ok(())
            }
            Stand::Rung { .. } => Err(Refused::NotInCall),
            Stand::Out(end) => Err(Refused::Over(*end)),
        }
    }

    /// Nothing comes of going on with another device, which falls silent.
    fn stay(&mut self, person: &PersonId) {
        let Some(Leg { stand: Stand::In { device, moves_to }, .. }) = self.legs.get_mut(person) else { return };
        if moves_to.take().is_some() {
            let why = Quiet::Answered(device.clone());
            self.effects.push_back(Effect::Quieten { person: person.clone(), why });
        }
    }

    fn supersede(&mut self, now_ms: u64) {
        for person in self.order.clone() {
            self.leave(&person, LegEnd::Superseded, now_ms);
        }
    }

    /// Somebody is out of the call, if they are not already.
    fn leave(&mut self, person: &PersonId, end: LegEnd, now_ms: u64) {
        let Some(leg) = self.legs.get_mut(person) else { return };
        match std::mem::replace(&mut leg.stand, Stand::Out(end)) {
            Stand::Rung { .. } => {
                self.effects.push_back(Effect::Quieten { person: person.clone(), why: Quiet::Ended(end) });
            }
            Stand::In { device, moves_to } => {
                leg.stop_talking(now_ms);
                if moves_to.is_some() {
                    self.effects.push_back(Effect::Quieten { person: person.clone(), why: Quiet::Ended(end) });
                }
                self.effects.push_back(Effect::Dismiss { person: person.clone(), device, why: Some(end) });
            }
            Stand::Out(before) => leg.stand = Stand::Out(before),
        }
    }

    /// Ends what has no future, and notes who talks.
    fn settle(&mut self, now_ms: u64) {
        if self.is_over {
            return;
        }
        let (present, rung) = (self.present().count(), self.rung().count());
        let is_alone = present < 2 && rung == 0;
        if present == 0 || is_alone {
            self.end(now_ms);
            return;
        }
        for leg in self.legs.values_mut() {
            match (present >= 2, &leg.stand) {
                (true, Stand::In { .. }) => drop(leg.talks_since_ms.get_or_insert(now_ms)),
                _ => leg.stop_talking(now_ms),
            }
        }
    }

    fn end(&mut self, now_ms: u64) {
        // Whoever is left alone is told why: of one other what became of them, of several that they have left.
        let ends: Vec<LegEnd> = self.legs.values().filter_map(Leg::end).collect();
        let why = match ends.as_slice() {
            [one] if !matches!(one, LegEnd::HungUp | LegEnd::Lost) => *one,
            _ => LegEnd::OthersLeft,
        };
        for person in self.order.clone() {
            let end = match self.legs[&person].stand {
                Stand::Rung { .. } => LegEnd::Cancelled,
                Stand::In { .. } | Stand::Out(_) => why,
            };
            self.leave(&person, end, now_ms);
        }
        self.is_over = true;
        let records = self.order.iter().filter_map(|person| self.record(person)).collect();
        self.effects.push_back(Effect::Over { records });
    }

    fn record(&self, person: &PersonId) -> Option<Record> {
        let leg = &self.legs[person];
        let end = leg.end().filter(|end| *end != LegEnd::Superseded)?;
        let direction = if *person == self.caller { Direction::Outgoing } else { Direction::Incoming };
        Some(Record {
            call: self.id.clone(),
            person: person.clone(),
            with: self.order.iter().filter(|other| *other != person).cloned().collect(),
            direction,
            video: self.video,
            begun_ms: leg.begun_ms,
            talked_ms: leg.talked_ms,
            end,
        })
    }
}

impl Leg {
    fn stop_talking(&mut self, now_ms: u64) {
        if let Some(since_ms) = self.talks_since_ms.take() {
            *self.talked_ms.get_or_insert(0) += now_ms.saturating_sub(since_ms);
        }
    }

    fn end(&self) -> Option<LegEnd> {
        match self.stand {
            Stand::Out(end) => Some(end),
            Stand::Rung { .. } | Stand::In { .. } => None,
        }
    }
}

fn ring_until(now_ms: u64) -> u64 {
    now_ms.saturating_add(RING_FOR.as_millis() as u64)
}
