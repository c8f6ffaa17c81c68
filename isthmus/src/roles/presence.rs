//! What a media node writes into the directory: that it is there and how busy it is, and which rooms it has participants
//! in. All of it best effort and apart from calls: while the store is down nothing waits for it, afterwards it is said again.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for what it writes down")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use isthmus_directory::{Directory, HEARTBEAT_INTERVAL, MEMBER_REFRESH, NodeRecord, StoreError, UnixMicros};
use isthmus_protocol::RoomId;
use isthmus_sfu::Node;
use tokio::time::sleep;

use super::outage::Outage;

/// How soon a write that failed is tried again: a store that starts with its node is there a moment later.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Keeps what the directory says of `node` current; never returns. `record` says what does not change.
pub(super) async fn keep(directory: &Directory, node: &Node, record: NodeRecord) {
    tokio::join!(keep_node(directory, node, &record), keep_rooms(directory, node, &record));
}

async fn keep_node(directory: &Directory, node: &Node, record: &NodeRecord) {
    let mut outage = Outage::new("others do not see in the directory that this node is there");
    loop {
        let record = NodeRecord { status: node.status(), heard_at: SystemTime::now().into(), ..record.clone() };
        let written = directory.heartbeat(&record).await;
        outage.note(&written);
        sleep(pause(&written)).await;
    }
}

async fn keep_rooms(directory: &Directory, node: &Node, record: &NodeRecord) {
    let mut told = Told::default();
    let mut outage = Outage::new("the directory does not know which rooms this node has");
    loop {
        let open = node.open_rooms().into_iter().collect();
        let written = write_rooms(directory, record, &mut told, &open).await;
        outage.note(&written);
        sleep(pause(&written)).await;
    }
}

/// Stops at the first write that fails: the next would fail as well, and each may take as long as the store has.
async fn write_rooms(
    directory: &Directory,
    record: &NodeRecord,
    told: &mut Told,
    open: &BTreeSet<RoomId>,
) -> Result<(), StoreError> {
    for change in told.due(open, SystemTime::now().into()) {
        let now = SystemTime::now().into();
        match &change {
            Change::Opened(room) => directory.room_opened(room, &record.pop, &record.node, now).await?,
            Change::Closed(room) => directory.room_closed(room, &record.pop, &record.node, now).await?,
        }
        told.done(change, now);
    }
    Ok(())
}

fn pause<T>(written: &Result<T, StoreError>) -> Duration {
    if written.is_ok() { HEARTBEAT_INTERVAL } else { RETRY_INTERVAL }
}

/// The rooms that the directory was told of, and when. Sans-IO.
#[derive(Debug, Default)]
struct Told(BTreeMap<RoomId, UnixMicros>);

/// Something to tell the directory.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Opened(RoomId),
    Closed(RoomId),
}

impl Told {
    /// What is to be told, now that `open` are the node's rooms: closed ones first, then new ones and those told too long
    /// ago.
    fn due(&self, open: &BTreeSet<RoomId>, now: UnixMicros) -> Vec<Change> {
        let closed = self.0.keys().filter(|room| !open.contains(room)).cloned().map(Change::Closed);
        let stale = |room: &&RoomId| self.0.get(room).is_none_or(|told| now.since(*told) >= MEMBER_REFRESH);
        closed.chain(open.iter().filter(stale).cloned().map(Change::Opened)).collect()
    }

    /// Takes in that the directory was told at `now`.
    fn done(&mut self, change: Change, now: UnixMicros) {
        match change {
            Change::Opened(room) => self.0.insert(room, now),
            Change::Closed(room) => self.0.remove(&room),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(names: &[&str]) -> BTreeSet<RoomId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn tell(told: &mut Told, open: &[&str], now_s: u64) -> Vec<String> {
        let now = UnixMicros(now_s * 1_000_000);
        let due = told.due(&rooms(open), now);
        let said = due.iter().map(|change| format!("{change:?}")).collect();
        for change in due {
            told.done(change, now);
        }
        said
    }

    #[test]
    fn rooms_are_told_when_they_open_when_they_close_and_again_before_they_are_forgotten() {
        let mut told = Told::default();
        assert_eq!(tell(&mut told, &["a", "b"], 100), ["Opened(a)", "Opened(b)"]);
        assert_eq!(tell(&mut told, &["a", "b"], 129), [""; 0]);
        assert_eq!(tell(&mut told, &["b"], 130), ["Closed(a)", "Opened(b)"]);
        assert_eq!(tell(&mut told, &[], 131), ["Closed(b)"]);
    }

    #[test]
    fn what_was_not_done_stays_due() {
        let told = Told::default();
        let now = UnixMicros(0);
        assert_eq!(told.due(&rooms(&["a"]), now), told.due(&rooms(&["a"]), now));
    }
}
