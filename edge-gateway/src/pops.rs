//! The PoPs as this door knows them: the directory's list, refreshed in the background, and what the door sees itself.
//!
//! While the store cannot be reached the last answer stands; before the first answer there is this PoP alone. Of its
//! own PoP the door always says what it sees on its own links. What was measured from a network it remembers too.

mod networks;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, RateLimiter};
use isthmus_directory::{Caller, Directory, LatencyRecord, PopRecord, Prefix, Reporter, Snapshot, UnixMicros, rank};
use isthmus_protocol::{
    PopId,
    pops::{Measurement, PopEntry},
};
use prometheus::IntCounterVec;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use self::networks::Networks;
use crate::{config::Config, nodes::Nodes, origin};

/// How often the directory is read. `GET /v1/pops` may be this old.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// How often it is read while fewer PoPs are ready than the configuration names: a cluster has just been started.
const REFRESH_WHILE_INCOMPLETE: Duration = Duration::from_millis(250);
/// How many times that is done, half a minute at least: a PoP that is down for longer is not waited for.
const HURRIED_ROUNDS: u32 = 120;
/// How often the PoP is written to the directory, which forgets it after a day.
const REGISTER_EVERY: Duration = Duration::from_hours(1);
/// How long the store has for an answer in the background.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long `GET /v1/pops` waits for what is known of the caller's network. Later it ranks without.
const LATENCY_TIMEOUT: Duration = Duration::from_millis(150);
/// Reports of measured latency that wait for the store. Full: a further one is dropped and counted.
const REPORTS: usize = 256;

/// How long what is known of a caller's network is not asked for again, and how long a client may keep its list: nothing
/// in it changes faster than this matters, and the store has a price per request.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(10);

/// One client's measurements.
struct Report {
    prefix: Prefix,
    reporter: Reporter,
    measurements: Vec<Measurement>,
    at: UnixMicros,
}

/// The list, and the way for measurements to the directory.
pub(crate) struct Pops {
    directory: Directory,
    own: PopRecord,
    /// How many PoPs there are by the configuration.
    configured: usize,
    known: watch::Sender<Known>,
    /// What was measured from networks that asked lately.
    networks: Mutex<Networks>,
    /// How many reports on networks that are not among those are taken.
    new_networks: DefaultDirectRateLimiter,
    reports: mpsc::Sender<Report>,
    drops: IntCounterVec,
}

/// What the directory said last; nothing before its first answer.
#[derive(Clone, Default)]
struct Known {
    snapshot: Arc<Snapshot>,
    /// Whether it answered when it was last asked.
    answers: bool,
}

/// The task that keeps a [`Pops`] current.
pub(crate) struct Upkeep(mpsc::Receiver<Report>);

impl Pops {
    /// This PoP alone, until the upkeep has heard from the directory.
    pub(crate) fn new(config: &Config, directory: Directory, drops: IntCounterVec) -> (Self, Upkeep) {
        let own = PopRecord {
            pop: config.pop.clone(),
            region: config.region.clone(),
            url: config.public_url.clone(),
            place: config.place(),
        };
        let (reports, queue) = mpsc::channel(REPORTS);
        let (known, _) = watch::channel(Known::default());
        let networks = Mutex::new(Networks::default());
        let configured = config.pop_origins.len();
        let new_networks = RateLimiter::direct(config.limits.new_networks.quota());
        (Self { directory, own, configured, known, networks, new_networks, reports, drops }, Upkeep(queue))
    }

    /// Every PoP, the best for a caller from `prefix` first.
    pub(crate) async fn ranked(
        &self,
        nodes: &Nodes,
        prefix: &Prefix,
        mut caller: Caller,
        draining: bool,
        now: UnixMicros,
    ) -> Vec<PopEntry> {
        let known = self.known.borrow().clone();
        caller.latency = self.latency(prefix, known.answers, now).await;
        rank(&self.with_own_view(&known.snapshot, nodes, draining), &caller, now)
    }

    /// Every PoP, for a caller of whom nothing is known.
    pub(crate) fn listed(&self, nodes: &Nodes, draining: bool, now: UnixMicros) -> Vec<PopEntry> {
        let snapshot = self.known.borrow().snapshot.clone();
        rank(&self.with_own_view(&snapshot, nodes, draining), &Caller::default(), now)
    }

    /// What was measured from a network: as the store has it, or as it had it when it was last asked.
    async fn latency(&self, prefix: &Prefix, answers: bool, now: UnixMicros) -> LatencyRecord {
        if let Some(fresh) = self.networks().fresh(prefix, MAX_AGE, now) {
            return fresh;
        }
        let asked = async { timeout(LATENCY_TIMEOUT, self.directory.latency(prefix)).await.ok()?.ok() };
        let told = if answers { asked.await } else { None };
        let mut networks = self.networks();
        match told {
            Some(latency) => {
                networks.remember(*prefix, latency.clone(), now);
                latency
            }
            None => networks.recall(prefix).cloned().unwrap_or_default(),
        }
    }

    fn networks(&self) -> MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory's view, with what this door sees in place of what its nodes wrote a moment ago.
    fn with_own_view(&self, snapshot: &Snapshot, nodes: &Nodes, draining: bool) -> Snapshot {
        let mut view = snapshot.clone();
        view.pops.retain(|pop| pop.pop != self.own.pop);
        view.pops.push(self.own.clone());
        view.nodes.retain(|node| node.pop != self.own.pop);
        view.nodes.extend(nodes.records(&self.own.pop, view.read_at).into_iter().map(|mut node| {
            node.status.draining |= draining;
            node
        }));
        view
    }

    /// Origins of the PoPs the directory knows, for the web app to connect to. What is no origin is left out: it
    /// comes from the store and must not write into a security policy.
    pub(crate) fn origins(&self) -> BTreeSet<String> {
        let known = self.known.borrow();
        known.snapshot.pops.iter().filter_map(|pop| origin::normal_form(&pop.url).ok()).collect()
    }

    /// Where the doors of a PoP are, if it is known.
    pub(crate) fn origin_of(&self, pop: &PopId) -> Option<String> {
        let known = self.known.borrow();
        let record = known.snapshot.pops.iter().find(|known| known.pop == *pop)?;
        origin::normal_form(&record.url).ok()
    }

    /// Whether a PoP of that name is known.
    pub(crate) fn knows(&self, pop: &PopId) -> bool {
        *pop == self.own.pop || self.known.borrow().snapshot.pops.iter().any(|known| known.pop == *pop)
    }

    /// Hands measurements on to the directory, when it gets to it. Reports on networks of which nothing is known share
    /// one allowance: each makes a record, and whoever has many addresses has many networks.
    pub(crate) fn report(&self, prefix: Prefix, reporter: Reporter, measurements: Vec<Measurement>, at: UnixMicros) {
        let known = self.networks().recall(&prefix).is_some();
        if !known && self.new_networks.check().is_err() {
            self.drops.with_label_values(&["measurements_new_networks"]).inc();
        } else if self.reports.try_send(Report { prefix, reporter, measurements, at }).is_err() {
            self.drops.with_label_values(&["measurements_queue_full"]).inc();
        }
    }

    /// Keeps the list current and writes reports; never returns.
    pub(crate) async fn upkeep(&self, upkeep: Upkeep) {
        tokio::join!(self.refresh(), self.write_reports(upkeep.0));
    }

    async fn refresh(&self) {
        let mut registered = None;
        let mut hurried = 0;
        loop {
            match timeout(STORE_TIMEOUT, self.directory.snapshot()).await {
                Ok(Ok(snapshot)) => {
                    let due = registered.is_none_or(|at| snapshot.read_at.since(at) > REGISTER_EVERY);
                    if (due || !snapshot.pops.contains(&self.own)) && self.register(snapshot.read_at).await {
                        registered = Some(snapshot.read_at);
                    }
                    self.heard(Some(snapshot));
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the directory did not answer; the last list of PoPs stands");
                    self.heard(None);
                }
                Err(_) => self.heard(None),
            }
            let incomplete = self.known.borrow().snapshot.ready_pops() < self.configured;
            if incomplete && hurried < HURRIED_ROUNDS {
                hurried += 1;
                sleep(REFRESH_WHILE_INCOMPLETE).await;
            } else {
                sleep(REFRESH_EVERY).await;
            }
        }
    }

    fn heard(&self, snapshot: Option<Snapshot>) {
        self.known.send_modify(|known| {
            let answers = snapshot.is_some();
            if known.answers != answers {
                tracing::info!(answers, "whether the directory answers has changed");
            }
            known.answers = answers;
            if let Some(snapshot) = snapshot {
                known.snapshot = Arc::new(snapshot);
            }
        });
    }

    /// The door of a PoP is what knows its region and address: it writes the PoP's record when that is not current.
    async fn register(&self, now: UnixMicros) -> bool {
        match timeout(STORE_TIMEOUT, self.directory.register_pop(&self.own, now)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%error, "cannot register this PoP in the directory; trying again"),
            Err(_) => tracing::warn!("cannot register this PoP in the directory in time; trying again"),
        }
        false
    }

    async fn write_reports(&self, mut queue: mpsc::Receiver<Report>) {
        while let Some(report) = queue.recv().await {
            let write = self.directory.report(&report.prefix, report.reporter, &report.measurements, report.at);
            if matches!(timeout(STORE_TIMEOUT, write).await, Ok(Ok(()))) {
                self.networks().outdate(&report.prefix);
            } else {
                self.drops.with_label_values(&["measurements_store"]).inc();
            }
        }
    }
}
