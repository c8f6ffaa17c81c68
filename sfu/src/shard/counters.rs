//! What a shard counts: kept in plain numbers on the packet path, added to the metrics ten times a second.

use std::time::{Duration, Instant};

use isthmus_protocol::signal::LeaveReason;
use prometheus::local::LocalHistogram;
use rustc_hash::FxHashMap;

use crate::{core::egress::outlet::Extra, metrics::Metrics};

pub(super) struct Counters {
    metrics: Metrics,
    /// The shard's number, as a label.
    shard: String,
    received: Flow,
    sent: Flow,
    /// From and to other shards of the node.
    relayed_in: Flow,
    relayed_out: Flow,
    extra: Extra,
    forward_delay: LocalHistogram,
    drops: FxHashMap<&'static str, u64>,
    size: (i64, i64),
}

#[derive(Default)]
struct Flow {
    packets: u64,
    bytes: u64,
}

impl Flow {
    fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

impl Counters {
    pub(super) fn new(metrics: Metrics, shard: u8) -> Self {
        Self {
            forward_delay: metrics.forward_delay_seconds.local(),
            metrics,
            shard: shard.to_string(),
            received: Flow::default(),
            sent: Flow::default(),
            relayed_in: Flow::default(),
            relayed_out: Flow::default(),
            extra: Extra::default(),
            drops: FxHashMap::default(),
            size: (0, 0),
        }
    }

    /// A media packet of `bytes` payload came from a client.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received.add(bytes);
    }

    /// One went to a client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent.add(bytes);
    }

    /// So many bytes went to a client beside its packets.
    pub(super) fn sent_besides(&mut self, Extra { repair, probe, padding }: Extra) {
        self.extra.repair += repair;
        self.extra.probe += probe;
        self.extra.padding += padding;
    }

    /// One came from another shard.
    pub(super) fn relayed_in(&mut self, bytes: usize) {
        self.relayed_in.add(bytes);
    }

    /// One went to another shard.
    pub(super) fn relayed_out(&mut self, bytes: usize) {
        self.relayed_out.add(bytes);
    }

    /// The thread ran for this long.
    pub(super) fn worked(&self, ran: Duration) {
        self.metrics.shard_cpu_seconds.with_label_values(&[&self.shard]).inc_by(ran.as_secs_f64());
    }

    pub(super) fn dropped(&mut self, reason: &'static str) {
        *self.drops.entry(reason).or_default() += 1;
    }

    pub(super) fn dropped_many(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.drops.entry(reason).or_default() += count;
        }
    }

    pub(super) fn joined(&self) {
        self.metrics.joins.inc();
    }

    pub(super) fn connected(&self, since_join: Duration) {
        self.metrics.join_seconds.with_label_values(&["media"]).observe(since_join.as_secs_f64());
    }

    pub(super) fn left(&self, reason: LeaveReason) {
        self.metrics.leaves.with_label_values(&[leave_reason(reason)]).inc();
    }

    /// So many datagrams have gone out at `now`, of which the first came at `since`; nothing if they forward no media.
    pub(super) fn forwarded(&mut self, datagrams: usize, since: Option<Instant>, now: Instant) {
        let Some(since) = since else { return };
        let delay_s = now.saturating_duration_since(since).as_secs_f64();
        for _ in 0..datagrams {
            self.forward_delay.observe(delay_s);
        }
    }

    /// Participants and rooms of this shard; the gauges hold the sums of all shards.
    pub(super) fn set_size(&mut self, participants: usize, rooms: usize) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let size = (count(participants), count(rooms));
        self.metrics.participants.add(size.0 - self.size.0);
        self.metrics.shard_participants.with_label_values(&[&self.shard]).set(size.0);
        self.metrics.rooms.add(size.1 - self.size.1);
        self.size = size;
    }

    /// Adds what was counted since the last time to the metrics.
    pub(super) fn publish(&mut self) {
        let packets = &self.metrics.packets;
        let flows = [
            ("in", "client", &mut self.received),
            ("out", "client", &mut self.sent),
            ("in", "shard", &mut self.relayed_in),
            ("out", "shard", &mut self.relayed_out),
        ];
        for (direction, hop, flow) in flows {
            if flow.packets > 0 {
                packets.packets.with_label_values(&[direction, hop]).inc_by(flow.packets);
                packets.bytes.with_label_values(&[direction, hop]).inc_by(flow.bytes);
                *flow = Flow::default();
            }
        }
        let Extra { repair, probe, padding } = std::mem::take(&mut self.extra);
        for (purpose, bytes) in [("repair", repair), ("probe", probe), ("padding", padding)] {
            self.metrics.extra_bytes.with_label_values(&[purpose]).inc_by(bytes);
        }
        self.forward_delay.flush();
        for (reason, count) in self.drops.drain() {
            packets.drops.with_label_values(&[reason]).inc_by(count);
        }
    }
}

const fn leave_reason(reason: LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Left => "left",
        LeaveReason::ConnectionLost => "connection_lost",
        LeaveReason::NodeLost => "node_lost",
        LeaveReason::Replaced => "replaced",
        LeaveReason::Removed => "removed",
        LeaveReason::Drained => "drained",
        LeaveReason::Fault => "fault",
    }
}
