//! What a peer store still needs of this one, and when: the replicator's decisions, sans-IO.
//!
//! There is no log. Every item says when and where it was written, and the table's index lists the items this PoP wrote
//! by that time: reading it from a moment on gives everything that happened since, each item once, as it is now. So
//! what a peer misses is bounded by the items there are, however long it is away. (dynoxide's streams
//! were tried: it keeps their records for ever, without an index, and searches them at every write, which takes 23 ms
//! instead of 0.6 ms after 20,000 of them: four hours of heartbeats.)
//!
//! A [`Tail`] reads in sweeps. A sweep that began at `t` has seen every write up to `t - `[`OVERLAP`]; later ones may
//! still arrive below the newest one seen, because writers' clocks differ and a write takes its time. So the next sweep
//! begins there again, and what was seen since then is remembered by version and not sent twice.
//!
//! A moment read up to that has not come yet is one of a clock that has been set back since, and what this PoP wrote
//! after that may lie below it: then the tail begins anew with everything this PoP wrote.
//!
//! A change waits in [`Tail::waiting`] until its delay is over, at most [`MAX_WAITING`] of them: when that is full no
//! more is read, and nothing is lost. When the peer fails the whole tail is thrown away; a new one begins at the cursor
//! that the peer's own store keeps. A peer that has none (new, or its file was lost) is sent everything, whoever wrote
//! it.
//!
//! Order does not matter to the result: the peer takes a change only if its version is newer than what it has.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{item::Item, tables::Table, time::UnixMicros, version::Version};

/// How far the clocks of a PoP's writers may lie behind the store's, plus how long a write may take to reach it. Costs
/// little: what is read again is no history but the items written lately, each once.
pub(super) const OVERLAP: Duration = Duration::from_secs(30);
/// The most changes that wait for their time. When there are so many, reading stops.
pub(super) const MAX_WAITING: usize = 1000;
/// The most changes read at once.
pub(super) const PAGE: usize = 100;
/// The most changes sent at once.
pub(super) const BATCH: usize = 25;

/// What identifies an item in a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) table: Table,
    pub(super) pk: String,
    pub(super) sk: String,
}

/// An item as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) version: Version,
    pub(super) item: Item,
}

/// What a sweep reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every item, whoever wrote it.
    Everything,
    /// What this PoP wrote after this moment.
    Since(UnixMicros),
}

/// What one peer still needs.
#[derive(Debug)]
pub(super) struct Tail {
    delay: Duration,
    /// Every own write up to here has been read. None until the first sweep of a peer without a cursor has ended.
    read_to: Option<UnixMicros>,
    /// Whether the peer may still miss a part of [`Reach::Everything`].
    copying: bool,
    /// When the sweep under way began.
    sweep_began: Option<UnixMicros>,
    /// Versions read that the next sweep will read again: written after `read_to`.
    recent: HashMap<Key, Version>,
    /// By the time they are due, then in the order they were read.
    waiting: BTreeMap<(UnixMicros, u64), Change>,
    reads: u64,
}

impl Tail {
    /// For a peer whose store has everything this PoP wrote up to `cursor`, after `delay`.
    pub(super) fn new(cursor: Option<UnixMicros>, delay: Duration) -> Self {
        Self {
            delay,
            read_to: cursor,
            copying: cursor.is_none(),
            sweep_began: None,
            recent: HashMap::new(),
            waiting: BTreeMap::new(),
            reads: 0,
        }
    }

    /// Begins a sweep.
    pub(super) fn begin_sweep(&mut self, now: UnixMicros) -> Reach {
        if self.read_to.is_some_and(|read_to| read_to > now.minus(OVERLAP)) {
            self.begin_anew();
        }
        self.sweep_began = Some(now);
        self.read_to.map_or(Reach::Everything, Reach::Since)
    }

    /// After the clock was set back: moments of before it say nothing any more.
    fn begin_anew(&mut self) {
        self.read_to = (!self.copying).then_some(UnixMicros(0));
        self.recent.clear();
        self.waiting.clear();
    }

    /// Whether another [`PAGE`] fits.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + PAGE <= MAX_WAITING
    }

    /// Takes in what the sweep has read.
    pub(super) fn read(&mut self, change: Change, now: UnixMicros) {
        if self.recent.get(&change.key) == Some(&change.version) {
            return;
        }
        if self.sweep_began.is_some_and(|began| change.version.written_at > began.minus(OVERLAP)) {
            self.recent.insert(change.key.clone(), change.version.clone());
        }
        // A writer's clock may run ahead; that must not hold its writes back.
        let due = change.version.written_at.min(now).plus(self.delay);
        self.reads += 1;
        self.waiting.insert((due, self.reads), change);
    }

    /// Ends the sweep: it has read all there was.
    pub(super) fn end_sweep(&mut self) {
        if let Some(began) = self.sweep_began.take() {
            let read_to = self.read_to.unwrap_or_default().max(began.minus(OVERLAP));
            self.recent.retain(|_, version| version.written_at > read_to);
            self.read_to = Some(read_to);
        }
    }

    /// At most [`BATCH`] changes whose time has come. The caller delivers all of them before it asks anything else, or
    /// throws the tail away.
    pub(super) fn take_due(&mut self, now: UnixMicros) -> Vec<Change> {
        let mut due = Vec::new();
        while due.len() < BATCH
            && let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    /// When the next change is due.
    pub(super) fn next_due(&self) -> Option<UnixMicros> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// The peer has everything this PoP wrote up to here. None while it may miss something older.
    pub(super) fn cursor(&mut self) -> Option<UnixMicros> {
        if self.copying && self.read_to.is_some() && self.sweep_began.is_none() && self.waiting.is_empty() {
            self.copying = false;
        }
        let before_waiting = self.oldest_waiting().map(|oldest| UnixMicros(oldest.0.saturating_sub(1)));
        let cursor = self.read_to.filter(|_| !self.copying)?;
        Some(before_waiting.map_or(cursor, |before| before.min(cursor)))
    }

    /// How many changes wait.
    pub(super) fn backlog(&self) -> usize {
        self.waiting.len()
    }

    /// How long ago the oldest waiting change was written.
    pub(super) fn lag(&self, now: UnixMicros) -> Duration {
        self.oldest_waiting().map_or(Duration::ZERO, |oldest| now.since(oldest))
    }

    fn oldest_waiting(&self) -> Option<UnixMicros> {
        self.waiting.values().map(|change| change.version.written_at).min()
    }
}

#[cfg(test)]
mod tests;
