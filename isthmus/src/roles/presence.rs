//! What a media node writes into the directory: that it is there and how busy it is, and which rooms it has participants
//! in. All of it best effort and apart from calls: while the store is down nothing waits for it, afterwards it is said again.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for what it writes down")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use isthmus_directory::{Directory, HEARTBEAT_INTERVAL, MEMBER_REFRESH, NodeRecord, StoreError, UnixMicros};
use isthmus_protocol::RoomId;
use isthmus_sfu::Node;
use tokio::time::{MissedTickBehavior, interval};

/// Keeps what the directory says of `node` current; never returns. `record` says what does not change.
pub(super) async fn keep(directory: &Directory, node: &Node, record: NodeRecord) {
    tokio::join!(keep_node(directory, node, &record), keep_rooms(directory, node, &record));
}

async fn keep_node(directory: &Directory, node: &Node, record: &NodeRecord) {
    let mut ticks = interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let record = NodeRecord { status: node.status(), heard_at: SystemTime::now().into(), ..record.clone() };
        if let Err(error) = directory.heartbeat(&record).await {
            tracing::warn!(%error, "others cannot see that this node is there until the store answers again");
        }
    }
}

async fn keep_rooms(directory: &Directory, node: &Node, record: &NodeRecord) {
    let mut ticks = interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = Written::default();
    loop {
        ticks.tick().await;
        let open = node.rooms().await.into_iter().filter(|view| !view.local.is_empty()).map(|view| view.room).collect();
        for change in written.due(&open, SystemTime::now().into()) {
            let now = SystemTime::now().into();
            if let Err(error) = write(directory, record, &change, now).await {
                // The next would fail as well; the next round tries all of them again.
                tracing::warn!(%error, "the directory does not know which rooms this node has until the store answers again");
                break;
            }
            written.done(change, now);
        }
    }
}

async fn write(directory: &Directory, record: &NodeRecord, change: &Change, now: UnixMicros) -> Result<(), StoreError> {
    match change {
        Change::Opened(room) => directory.room_opened(room, &record.pop, &record.node, now).await,
        Change::Closed(room) => directory.room_closed(room, &record.pop, &record.node, now).await,
    }
}

/// The rooms that the directory was told of, and when. Sans-IO.
#[derive(Debug, Default)]
struct Written(BTreeMap<RoomId, UnixMicros>);

/// Something to tell the directory.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Opened(RoomId),
    Closed(RoomId),
}

impl Written {
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

    fn tell(written: &mut Written, open: &[&str], now_s: u64) -> Vec<String> {
        let now = UnixMicros(now_s * 1_000_000);
        let due = written.due(&rooms(open), now);
        let told = due.iter().map(|change| format!("{change:?}")).collect();
        due.into_iter().for_each(|change| written.done(change, now));
        told
    }

    #[test]
    fn rooms_are_told_when_they_open_when_they_close_and_again_before_they_are_forgotten() {
        let mut written = Written::default();
        assert_eq!(tell(&mut written, &["a", "b"], 100), ["Opened(a)", "Opened(b)"]);
        assert_eq!(tell(&mut written, &["a", "b"], 129), [""; 0]);
        assert_eq!(tell(&mut written, &["b"], 130), ["Closed(a)", "Opened(b)"]);
        assert_eq!(tell(&mut written, &[], 131), ["Closed(b)"]);
    }

    #[test]
    fn what_was_not_done_stays_due() {
        let written = Written::default();
        let now = UnixMicros(0);
        assert_eq!(written.due(&rooms(&["a"]), now), written.due(&rooms(&["a"]), now));
    }
}
