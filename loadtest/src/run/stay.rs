//! One client's stay in a room: joins, is driven, leaves.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core")]

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use super::{scenario::Scenario, sockets::Sockets};
use crate::client::{
    drive::Driver,
    entry::Entry,
    impairment::Network,
    join::Doors,
    media::Library,
    report::Report,
    session::{Client, ClientConfig, Traffic},
};

/// From the first request to the media path, at most. A caller has given up by then.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// What all stays of a run share.
pub struct Shared {
    /// The clips that are published.
    pub library: Library,
    /// What doors are trusted by.
    pub doors: Doors,
    /// Sockets whose drops are counted.
    pub sockets: Sockets,
    /// What all clients sent and received so far.
    pub traffic: LiveTraffic,
}

impl Shared {
    /// What the clients of a scenario share.
    pub fn new(scenario: &Scenario) -> anyhow::Result<Arc<Self>> {
        // The first random bytes of a process take aws-lc 50 ms to seed itself by. A browser has long done that.
        aws_lc_rs::rand::fill(&mut [0; 16]).context("there is no randomness")?;
        let doors = Doors::new(scenario.target.authority.as_deref())?;
        let (sockets, traffic) = (Sockets::default(), LiveTraffic::default());
        Ok(Arc::new(Self { library: Library::built_in(), doors, sockets, traffic }))
    }
}

/// Sums over all clients, at most half a second old. They may run on several threads.
#[derive(Debug, Default)]
pub struct LiveTraffic {
    sent_packets: AtomicU64,
    received_packets: AtomicU64,
    received_bytes: AtomicU64,
    lost_packets: AtomicU64,
}

impl LiveTraffic {
    /// A client has got from `before` to `now`. What was lost may become less: sums wrap and come back.
    fn advance(&self, before: &Traffic, now: &Traffic) {
        let add = |sum: &AtomicU64, before: u64, now: u64| sum.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        add(&self.sent_packets, before.sent_packets, now.sent_packets);
        add(&self.received_packets, before.received_packets, now.received_packets);
        add(&self.received_bytes, before.received_bytes, now.received_bytes);
        add(&self.lost_packets, before.lost_packets, now.lost_packets);
    }

    /// The sums.
    pub fn total(&self) -> Traffic {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Traffic {
            sent_packets: read(&self.sent_packets),
            received_packets: read(&self.received_packets),
            received_bytes: read(&self.received_bytes),
            lost_packets: read(&self.lost_packets),
        }
    }
}

/// Who is to join where.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// Index of the seat in the plan.
    pub seat: usize,
    /// Where.
    pub entry: Entry,
    /// What to do there.
    pub config: ClientConfig,
    /// Behind a network of this kind; none is that of this machine.
    pub network: Option<Network>,
}

/// A stay that is over.
#[derive(Debug)]
pub struct Stay {
    /// Index of the seat in the plan.
    pub seat: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// What the client measured, if it got as far as a signalling socket.
    pub report: Option<Report>,
}

/// How a stay ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As planned.
    Stayed,
    /// Asked to leave before it was in.
    Withdrawn,
    /// Never in.
    Failed(String),
    /// In, and thrown out or cut off.
    EndedEarly(String),
}

/// Runs a stay until `leave` says so or is dropped. `joined` is told when the media path stands.
pub async fn stay(
    invitation: Invitation,
    shared: Arc<Shared>,
    mut leave: oneshot::Receiver<()>,
    joined: impl FnOnce(),
) -> Stay {
    let (seat, room) = (invitation.seat, invitation.config.room.clone());
    let mut attempt = Attempt { deadline: Instant::now() + JOIN_TIMEOUT, shared, joined: Some(joined) };
    // Failures of many rooms are told together.
    let failed = |reason: &str| Outcome::Failed(reason.replace(room.as_str(), "ROOM"));
    let prepared = tokio::select! {
        prepared = attempt.prepare(&invitation) => prepared,
        _ = &mut leave => return Stay { seat, outcome: Outcome::Withdrawn, report: None },
    };
    let driver = match prepared {
        Ok(driver) => driver,
        Err(error) => return Stay { seat, outcome: failed(&format!("{error:#}")), report: None },
    };
    let (ended, left) = Box::pin(attempt.carry(driver, leave)).await;
    let client = match ended {
        Ok(client) => client,
        Err(error) => return Stay { seat, outcome: Outcome::EndedEarly(format!("{error:#}")), report: None },
    };
    let report = client.report(Instant::now());
    let outcome = match (client.is_connected(), left) {
        (true, true) => Outcome::Stayed,
        (false, true) => Outcome::Withdrawn,
        (true, false) => Outcome::EndedEarly(why(&client, &report, "its media path was lost")),
        (false, false) => failed(&why(&client, &report, &reached(&report))),
    };
    Stay { seat, outcome, report: Some(report) }
}

fn why(client: &Client, report: &Report, otherwise: &str) -> String {
    let ended = report.ended.as_ref().map(|reason| format!("the server ended it: {reason}"));
    let refused = report.ended.as_ref().and(report.errors.last().cloned());
    let closed = || client.signalling_closed().map(str::to_owned);
    refused.or(ended).or_else(closed).unwrap_or_else(|| otherwise.to_owned())
}

/// How far a join got that took too long.
fn reached(report: &Report) -> String {
    let join = &report.join;
    // WHIP knows no welcome: the latest phase that was reached tells.
    let missing = match (join.welcome_ms, join.answer_ms, join.ice_ms) {
        (.., Some(_)) => "no end of the DTLS handshake",
        (_, Some(_), None) => "no pair by ICE",
        (Some(_), None, None) => "no answer to its offer",
        (None, None, None) => "no welcome",
    };
    format!("{missing} within {} s", JOIN_TIMEOUT.as_secs())
}

/// A join under way.
struct Attempt<J> {
    deadline: Instant,
    shared: Arc<Shared>,
    joined: Option<J>,
}

impl<J: FnOnce()> Attempt<J> {
    /// All that comes before media: token, signalling socket, media socket.
    async fn prepare(&self, invitation: &Invitation) -> anyhow::Result<Driver> {
        let preparing = async {
            let doors = self.shared.doors.for_another_client()?;
            let (config, library) = (invitation.config.clone(), self.shared.library.clone());
            let seen = |socket: &_| self.shared.sockets.add(socket);
            let driver = invitation.entry.enter(&doors, config, library, seen).await?;
            anyhow::Ok(driver.behind(invitation.network.as_ref()))
        };
        let in_time = tokio::time::timeout_at(self.deadline.into(), preparing).await;
        in_time.with_context(|| format!("no token and signalling socket within {} s", JOIN_TIMEOUT.as_secs()))?
    }

    /// Drives the client until it is asked to leave, or gives up. Whether it was asked.
    async fn carry(&mut self, driver: Driver, leave: oneshot::Receiver<()>) -> (anyhow::Result<Client>, bool) {
        let hopeless = Notify::new();
        let left = RefCell::new(false);
        let mut before = Traffic::default();
        let (deadline, traffic, joined) = (self.deadline, &self.shared.traffic, &mut self.joined);
        let watch = |client: &mut Client, now: Instant| {
            let so_far = client.traffic();
            traffic.advance(&std::mem::replace(&mut before, so_far), &so_far);
            if client.is_connected()
                && let Some(joined) = joined.take()
            {
                joined();
            }
            let too_late = !client.is_connected() && now >= deadline;
            if too_late || client.signalling_closed().is_some() {
                hopeless.notify_one();
            }
        };
        let end = async {
            tokio::select! {
                _ = leave => { left.replace(true); }
                () = hopeless.notified() => {}
            }
        };
        let ended = Box::pin(driver.run(end, watch)).await;
        if let Ok(client) = &ended {
            self.shared.traffic.advance(&before, &client.traffic());
            if client.is_connected()
                && let Some(joined) = self.joined.take()
            {
                joined();
            }
        }
        (ended, left.into_inner())
    }
}
