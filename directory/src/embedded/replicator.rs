//! Sends what this PoP wrote to one peer store: reads as the [`Tail`] says, sends what it says, when it says.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the tail")]

use std::time::{Duration, Instant, SystemTime};

use dynoxide::Database;
use futures_util::future::try_join_all;
use isthmus_protocol::PopId;
use serde::{Deserialize, Serialize};

use super::{
    changes::{self, Page, Position},
    tail::{Change, Reach, Tail},
};
use crate::{
    config::{Config, PeerStore},
    error::StoreError,
    item::Item,
    metrics::Metrics,
    store::{Store, Written},
    tables::{CURSOR, REPLICATED, REPLICATION, Table},
    time::UnixMicros,
};

/// How often this store is looked at for new writes.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// How often the peer's store is told how far it is.
const CURSOR_INTERVAL: Duration = Duration::from_secs(5);
/// How long to wait before a peer that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How long a peer may take to answer: it may be on another continent.
const PEER_TIMEOUT_MS: u64 = 5000;

/// Replicates to one peer.
pub(super) struct Replicator {
    database: Database,
    pop: PopId,
    peer: PeerStore,
    store: Store,
    metrics: Metrics,
    /// The cursor as it stands in the peer's store.
    saved: Option<Item>,
    /// What it says: the peer has every write of this PoP up to here.
    reached: UnixMicros,
}

/// What stopped a connection to a peer.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("the peer failed: {0}")]
    Peer(#[from] StoreError),
    #[error("the own store cannot be read: {0}")]
    Own(String),
    #[error("the peer's store is not the one it was")]
    AnotherStore,
}

/// The record in [`REPLICATION`], kept in the peer's store: it is lost with what it describes.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    reached_us: UnixMicros,
}

/// A sweep under way: the tables yet to read, the current one last.
struct Sweep {
    reach: Reach,
    tables: Vec<Table>,
    start: Option<Position>,
}

impl Replicator {
    pub(super) async fn new(database: Database, pop: PopId, peer: PeerStore, metrics: Metrics) -> Self {
        let endpoint = peer.endpoint.clone();
        let config = Config { timeout_ms: PEER_TIMEOUT_MS, ..Config::embedded(pop.clone(), endpoint) };
        let store = Store::connect(&config, metrics.clone()).await;
        Self { database, pop, peer, store, metrics, saved: None, reached: now() }
    }

    /// Replicates for as long as it is polled, through any number of failures.
    pub(super) async fn run(mut self) {
        let mut failing = false;
        loop {
            let Err(stopped) = self.follow(&mut failing).await;
            if !failing {
                tracing::warn!(peer = %self.peer.pop, %stopped, "replication stopped; trying again until it works");
                failing = true;
            }
            let lag = now().since(self.reached);
            self.metrics.replication_lag_seconds.with_label_values(&[self.peer.pop.as_str()]).set(lag.as_secs_f64());
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Follows this store's writes until something fails.
    async fn follow(&mut self, failing: &mut bool) -> Result<std::convert::Infallible, Stopped> {
        let cursor = self.load_cursor().await?;
        if std::mem::take(failing) {
            tracing::info!(peer = %self.peer.pop, "replication goes on");
        }
        let mut tail = Tail::new(cursor, self.peer.delay());
        let mut sweep: Option<Sweep> = None;
        // Paced by the monotonic clock: the machine's own may be set back, which is what a sweep has to find out.
        let mut next_sweep = Instant::now();
        loop {
            if sweep.is_none() && Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP_INTERVAL;
                sweep = Some(Sweep { reach: tail.begin_sweep(now()), tables: REPLICATED.to_vec(), start: None });
            }
            if tail.has_room()
                && let Some(under_way) = sweep.take()
            {
                sweep = self.read(under_way, &mut tail).await?;
            }
            self.send(tail.take_due(now())).await?;
            self.save_cursor(&mut tail).await?;
            self.show(&tail);
            if sweep.is_none() || !tail.has_room() {
                let until_due = tail.next_due().map_or(SWEEP_INTERVAL, |due| due.since(now()));
                let until_sweep = next_sweep.saturating_duration_since(Instant::now());
                let until_read = if sweep.is_none() { until_sweep } else { SWEEP_INTERVAL };
                tokio::time::sleep(until_due.min(until_read)).await;
            }
        }
    }

    /// Reads one page of a sweep; returns what is left of it.
    async fn read(&self, mut sweep: Sweep, tail: &mut Tail) -> Result<Option<Sweep>, Stopped> {
        let Some(table) = sweep.tables.last().copied() else {
            tail.end_sweep();
            return Ok(None);
        };
        let page = self.page(table, sweep.reach, sweep.start.take()).await?;
        let read_at = now();
        for change in page.changes {
            tail.read(change, read_at);
        }
        sweep.start = page.next;
        if sweep.start.is_none() {
            sweep.tables.pop();
        }
        Ok(Some(sweep))
    }

    async fn page(&self, table: Table, reach: Reach, start: Option<Position>) -> Result<Page, Stopped> {
        let (database, pop) = (self.database.clone(), self.pop.clone());
        let read = tokio::task::spawn_blocking(move || changes::page(&database, table, &pop, reach, start));
        let page = read.await.map_err(|error| Stopped::Own(error.to_string()))?;
        page.map_err(|error| Stopped::Own(error.to_string()))
    }

    async fn send(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        try_join_all(changes.into_iter().map(|change| self.send_one(change))).await.map(drop)
    }

    /// Sends one change. What the peer refuses for what it is would be refused for ever: it is counted and left out.
    async fn send_one(&self, change: Change) -> Result<(), StoreError> {
        let Change { key, version, item } = change;
        let outcome = match self.store.put_if_newer(key.table, item, &version).await {
            Ok(Written::Yes(_)) => "applied",
            Ok(Written::Instead(_)) => "superseded",
            Err(error @ StoreError::Refused { .. }) => {
                tracing::error!(peer = %self.peer.pop, table = key.table.0, sk = key.sk, %error, "left out a write");
                "refused"
            }
            Err(error) => return Err(error),
        };
        self.metrics.replicated.with_label_values(&[self.peer.pop.as_str(), outcome]).inc();
        Ok(())
    }

    async fn load_cursor(&mut self) -> Result<Option<UnixMicros>, StoreError> {
        self.saved = self.store.get(REPLICATION, self.pop.as_str(), CURSOR).await?;
        let cursor: Option<Cursor> = self.saved.as_ref().and_then(|item| item.record().ok());
        self.reached = cursor.as_ref().map_or(self.reached, |cursor| cursor.reached_us);
        Ok(cursor.map(|cursor| cursor.reached_us))
    }

    /// Tells the peer's store how far it is, now and then. A cursor that is not there any more says that the peer lost
    /// its file, even when it was away too shortly for any request to fail.
    async fn save_cursor(&mut self, tail: &mut Tail) -> Result<(), Stopped> {
        let Some(reached_us) = tail.cursor() else { return Ok(()) };
        // One that goes back, after a clock did, is told at once.
        let little_further = self.reached..self.reached.plus(CURSOR_INTERVAL);
        if self.saved.is_some() && little_further.contains(&reached_us) {
            return Ok(());
        }
        let item = Item::of(&Cursor { reached_us }, self.pop.as_str(), CURSOR, UnixMicros::NEVER);
        match self.store.replace(REPLICATION, item, self.saved.as_ref(), now()).await? {
            Written::Yes(item) => {
                self.saved = Some(*item);
                self.reached = reached_us;
                Ok(())
            }
            Written::Instead(_) => Err(Stopped::AnotherStore),
        }
    }

    fn show(&self, tail: &Tail) {
        let peer = [self.peer.pop.as_str()];
        self.metrics.replication_lag_seconds.with_label_values(&peer).set(tail.lag(now()).as_secs_f64());
        let backlog = i64::try_from(tail.backlog()).unwrap_or(i64::MAX);
        self.metrics.replication_backlog.with_label_values(&peer).set(backlog);
    }
}

fn now() -> UnixMicros {
    SystemTime::now().into()
}
