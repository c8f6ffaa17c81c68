//! The directory as services use it: records in, records out.

#![expect(clippy::disallowed_methods, reason = "IO: says when a snapshot was read and what has expired")]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use isthmus_protocol::{NodeId, PopId, RoomId, pops::Measurement};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    config::Config,
    error::StoreError,
    hearing::Hearing,
    item::Item,
    metrics::Metrics,
    ranking::{LatencyRecord, Prefix, Refusal, Reporter, SAMPLE_LIFETIME},
    records::{NodeRecord, PopRecord, RoomMember, RoomRecord, Snapshot},
    schema,
    store::{Store, Written},
    tables::{
        ALL, HOME, HOME_LIFETIME, LATENCY, MEMBER, MEMBER_LIFETIME, NODE_LIFETIME, NODES, POP_LIFETIME, POPS,
        REPLICATED, ROOMS, SK, Table,
    },
    time::UnixMicros,
};

/// How often a read-modify-write is tried again when another process changed the item in between.
const MAX_ROUNDS: usize = 4;

/// The directory of all PoPs, seen through the store of one. Cheap to clone.
///
/// Every call answers or fails within [`Config::timeout_ms`]; no call is needed to carry a call on.
#[derive(Debug, Clone)]
pub struct Directory {
    store: Store,
    pop: PopId,
    /// When it connected: where its monotonic clock begins.
    began: Instant,
    hearing: Arc<Mutex<Hearing>>,
}

/// The item under a room's [`HOME`].
#[derive(Debug, Serialize, Deserialize)]
struct Home {
    pop: PopId,
}

impl Directory {
    /// A directory over the store in `config`. Connects with the first request; a store that is down is no error here.
    pub async fn connect(config: &Config, metrics: Metrics) -> Self {
        let (store, pop) = (Store::connect(config, metrics).await, config.pop.clone());
        Self { store, pop, began: Instant::now(), hearing: Arc::default() }
    }

    /// Creates the tables that are missing. Takes longer than other calls: up to a minute per table on DynamoDB.
    pub async fn ensure_tables(&self) -> Result<(), StoreError> {
        for table in REPLICATED {
            schema::ensure_table(self.store.client(), table).await?;
        }
        Ok(())
    }

    /// Says that a PoP is there. To be repeated at least once a day: it is forgotten after
    /// [`POP_LIFETIME`].
    pub async fn register_pop(&self, record: &PopRecord, now: UnixMicros) -> Result<(), StoreError> {
        let item = Item::of(record, ALL, record.pop.as_str(), now.plus(POP_LIFETIME));
        self.store.put(POPS, item, now).await
    }

    /// Says that a media node is there, and how busy. To be repeated every
    /// [`HEARTBEAT_INTERVAL`](crate::HEARTBEAT_INTERVAL).
    pub async fn heartbeat(&self, record: &NodeRecord) -> Result<(), StoreError> {
        let item = Item::of(record, ALL, record.node.as_str(), record.heard_at.plus(NODE_LIFETIME));
        self.store.put(NODES, item, record.heard_at).await
    }

    /// Every PoP and node.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let read_at = UnixMicros::from(SystemTime::now());
        let (pops, nodes) = tokio::try_join!(self.store.partition(POPS, ALL), self.store.partition(NODES, ALL))?;
        let mut nodes = self.records(NODES, &nodes, read_at);
        let mut hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        hearing.listen(&mut nodes, read_at, self.began.elapsed());
        Ok(Snapshot { pops: self.records(POPS, &pops, read_at), nodes, read_at })
    }

    /// What clients of a network prefix measured, in every PoP.
    pub async fn latency(&self, prefix: &Prefix) -> Result<LatencyRecord, StoreError> {
        let items = self.store.partition(LATENCY, &prefix.to_string()).await?;
        let regions: Vec<LatencyRecord> = self.records(LATENCY, &items, SystemTime::now().into());
        Ok(regions.into_iter().fold(LatencyRecord::default(), |mut all, region| {
            all.join(region);
            all
        }))
    }

    /// Takes in what a client of a network prefix measured, and reported at `at`. Implausible and too frequent
    /// measurements are counted and dropped; the caller drops those of PoPs it does not know.
    pub async fn report(
        &self,
        prefix: &Prefix,
        reporter: Reporter,
        measurements: &[Measurement],
        at: UnixMicros,
    ) -> Result<(), StoreError> {
        let operation = "report";
        self.store.within(LATENCY, operation, self.merge_report(prefix, reporter, measurements, at)).await
    }

    async fn merge_report(
        &self,
        prefix: &Prefix,
        reporter: Reporter,
        measurements: &[Measurement],
        at: UnixMicros,
    ) -> Result<(), StoreError> {
        let (pk, sk) = (prefix.to_string(), self.pop.as_str());
        let mut seen = self.store.get(LATENCY, &pk, sk).await?;
        for _ in 0..MAX_ROUNDS {
            let known = seen.as_ref().and_then(|item| self.store.record(LATENCY, item));
            let mut record: LatencyRecord = known.unwrap_or_default();
            let outcomes: Vec<_> =
                measurements.iter().map(|measurement| record.add(reporter, measurement, at)).collect();
            if outcomes.iter().any(Result::is_ok) {
                let item = Item::of(&record, pk.as_str(), sk, at.plus(SAMPLE_LIFETIME));
                // The report may have waited long for the store. A version of that moment could lie below what
                // replication has passed already, and would then never be sent.
                let now = SystemTime::now().into();
                if let Written::Instead(newer) = self.store.replace(LATENCY, item, seen.as_ref(), now).await? {
                    seen = Some(*newer);
                    continue;
                }
            }
            self.count(&outcomes);
            return Ok(());
        }
        Err(StoreError::Conflict { operation: "report", table: LATENCY.0 })
    }

    /// Says that `node` of `pop` has participants in a room, which makes `pop` its home if it has none. To be
    /// repeated every [`MEMBER_REFRESH`](crate::MEMBER_REFRESH) for as long as it has.
    pub async fn room_opened(
        &self,
        room: &RoomId,
        pop: &PopId,
        node: &NodeId,
        now: UnixMicros,
    ) -> Result<(), StoreError> {
        let member = self.store.put(ROOMS, member_item(room, pop, node, now), now);
        self.store.within(ROOMS, "room_opened", async { tokio::try_join!(member, self.claim(room, pop, now)) }).await?;
        Ok(())
    }

    /// Says that the last participant of `node` left a room.
    pub async fn room_closed(
        &self,
        room: &RoomId,
        pop: &PopId,
        node: &NodeId,
        now: UnixMicros,
    ) -> Result<(), StoreError> {
        self.store.put(ROOMS, member_item(room, pop, node, now).deleted(), now).await
    }

    /// Where a room is; none if no node has participants in it and no PoP is its home.
    pub async fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, StoreError> {
        let items = self.store.partition(ROOMS, room.as_str()).await?;
        let now = SystemTime::now().into();
        let under = |wanted: fn(&str) -> bool| -> Vec<Item> {
            items.iter().filter(|item| item.text(SK).is_some_and(wanted)).cloned().collect()
        };
        let (homes, members) = (under(|sk| sk == HOME), under(|sk| sk.starts_with(MEMBER)));
        let home = self.records::<Home>(ROOMS, &homes, now).pop().map(|home| home.pop);
        let members: Vec<RoomMember> = self.records(ROOMS, &members, now);
        let found = home.is_some() || !members.is_empty();
        Ok(found.then(|| RoomRecord { room: room.clone(), home, members }))
    }

    /// Makes `pop` the home of a room that has none, or refreshes it if it is.
    async fn claim(&self, room: &RoomId, pop: &PopId, now: UnixMicros) -> Result<(), StoreError> {
        let item = Item::of(&Home { pop: pop.clone() }, room.as_str(), HOME, now.plus(HOME_LIFETIME));
        let mut seen: Option<Item> = None;
        for _ in 0..MAX_ROUNDS {
            let Written::Instead(stands) = self.store.replace(ROOMS, item.clone(), seen.as_ref(), now).await? else {
                return Ok(());
            };
            let home: Option<Home> = self.store.record(ROOMS, &stands);
            if stands.is_live(now) && home.is_some_and(|home| home.pop != *pop) {
                return Ok(());
            }
            seen = Some(*stands);
        }
        Err(StoreError::Conflict { operation: "room_opened", table: ROOMS.0 })
    }

    /// The records of the items that live at `now`.
    fn records<T: DeserializeOwned>(&self, table: Table, items: &[Item], now: UnixMicros) -> Vec<T> {
        items.iter().filter(|item| item.is_live(now)).filter_map(|item| self.store.record(table, item)).collect()
    }

    fn count(&self, outcomes: &[Result<(), Refusal>]) {
        for outcome in outcomes {
            let name = match outcome {
                Ok(()) => "accepted",
                Err(Refusal::Implausible) => "implausible",
                Err(Refusal::TooSoon) => "too_soon",
            };
            self.store.metrics().measurements.with_label_values(&[name]).inc();
        }
    }
}

fn member_item(room: &RoomId, pop: &PopId, node: &NodeId, now: UnixMicros) -> Item {
    let member = RoomMember { node: node.clone(), pop: pop.clone() };
    Item::of(&member, room.as_str(), format!("{MEMBER}{node}"), now.plus(MEMBER_LIFETIME))
}
