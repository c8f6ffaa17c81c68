//! What a run and its generator processes tell each other: one JSON message a line, orders on standard input, news on standard
//! output. Both are the same program with the same scenario, so an order need only name a seat.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stay::{Outcome, Stay};
use crate::client::{measure::Delays, report::Report, session::Traffic};

/// What a generator is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// The run begins. First, and once.
    Begin {
        /// Number of the run.
        run: u32,
        /// Its beginning by the machine's monotonic clock, which all processes share, in nanoseconds.
        epoch_ns: u64,
    },
    /// The participant on a seat is to join.
    Join {
        /// Index in the plan.
        seat: usize,
        /// Whether someone publishes in its room.
        others_published: bool,
    },
    /// The participant on a seat is to leave.
    Leave {
        /// Index in the plan.
        seat: usize,
    },
}

/// What a generator tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    /// It waits for the beginning.
    Ready,
    /// The participant on this seat is in its call.
    Joined(usize),
    /// A stay is over.
    Ended(Box<WireStay>),
    /// How it is.
    Vitals(Vitals),
    /// Everyone has left; nothing more is told.
    Done,
}

/// How a generator is, each second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Vitals {
    /// CPU time of each thread so far.
    pub(super) cpu: Vec<Duration>,
    /// How late beats were since this was last told.
    pub(super) late: Vec<Duration>,
    /// CPU time of the process so far.
    pub(super) process_cpu: Option<Duration>,
    /// Packets dropped before its sockets so far; none where the kernel does not tell.
    pub(super) drops: Option<u64>,
    /// What its clients sent and received so far.
    pub(super) traffic: Traffic,
}

/// A stay with what its report keeps from the JSON for people: how all delays spread, by slot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireStay {
    seat: usize,
    outcome: Outcome,
    report: Option<Report>,
    delays: Vec<Delays>,
}

impl From<Stay> for WireStay {
    fn from(Stay { seat, outcome, report }: Stay) -> Self {
        let delays = report.iter().flat_map(|report| &report.slots).map(|slot| slot.delays.clone()).collect();
        Self { seat, outcome, report, delays }
    }
}

impl From<WireStay> for Stay {
    fn from(WireStay { seat, outcome, mut report, delays }: WireStay) -> Self {
        let slots = report.iter_mut().flat_map(|report| &mut report.slots);
        for (slot, delays) in slots.zip(delays) {
            slot.delays = delays;
        }
        Self { seat, outcome, report }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::client::{
        media::{Library, Material},
        session::{Client, ClientConfig, Measuring, PhaseTimes},
        signalling::{Signalling, whip},
    };

    #[test]
    fn a_stay_comes_over_whole() {
        let now = Instant::now();
        let config = ClientConfig {
            name: "bot".into(),
            room: "demo".parse().expect("valid"),
            audio: false,
            video: false,
            material: Material::Clip,
            simulcast: false,
            audio_slots: 1,
            video_slots: 1,
            tile_height: 720,
            speech_offset: 0,
            stamps: None,
            measuring: Measuring::Judges,
        };
        let signalling = Signalling::Whip(whip::Dialogue { others_published: true });
        let address = "127.0.0.1:4000".parse().ok();
        let client = Client::new(config, Library::built_in(), signalling, PhaseTimes::begin(now), address, now);
        let mut client = client.expect("the address is good");
        client.offer().expect("it offers slots");
        let mut report = client.report(now);
        report.slots[1].delays.add(Duration::from_millis(70));
        let sent = Stay { seat: 3, outcome: Outcome::EndedEarly("cut off".into()), report: Some(report) };
        let delays = sent.report.as_ref().map(|report| report.slots[1].delays.clone());
        let line = serde_json::to_string(&Told::Ended(Box::new(sent.into()))).expect("plain data");
        let Told::Ended(stay) = serde_json::from_str(&line).expect("it reads what it wrote") else { panic!("{line}") };
        let came = Stay::from(*stay);
        assert_eq!((came.seat, came.outcome), (3, Outcome::EndedEarly("cut off".into())));
        let report = came.report.expect("it was sent");
        assert_eq!((report.slots.len(), Some(report.slots[1].delays.clone())), (2, delays));
        assert!(report.others_published && report.room.as_str() == "demo");
    }

    #[test]
    fn orders_are_lines() {
        for order in [
            Order::Begin { run: 7, epoch_ns: u64::MAX },
            Order::Join { seat: 3, others_published: true },
            Order::Leave { seat: 3 },
        ] {
            let line = serde_json::to_string(&order).expect("plain data");
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Order>(&line).expect("it reads what it wrote"), order);
        }
    }
}
