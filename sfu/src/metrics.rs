//! What a media node counts.

use isthmus_relay::PacketMetrics;
use prometheus::{
    CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// The node's metrics; cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Packets, bytes and drops, shared with the relay.
    pub packets: PacketMetrics,
    /// `isthmus_rtp_extra_bytes_total{purpose}`: bytes that clients were sent beside each packet's payload, once: payloads again
    /// as a `repair`, or again as a `probe` of what the path carries, and `padding` that makes packets equally long. The
    /// bytes in `isthmus_rtp_bytes_total` do not have them.
    pub extra_bytes: IntCounterVec,
    /// `isthmus_participants`.
    pub participants: IntGauge,
    /// `isthmus_rooms`.
    pub rooms: IntGauge,
    /// `isthmus_joins_total`.
    pub joins: IntCounter,
    /// `isthmus_leaves_total{reason}`.
    pub leaves: IntCounterVec,
    /// `isthmus_join_seconds{phase="media"}`: from the session's opening to ICE and DTLS standing.
    pub join_seconds: HistogramVec,
    /// `isthmus_forward_delay_seconds`: of each datagram that forwards media, from reading the first of the packets that its round
    /// forwards to having sent it: what a picture's first packets waited for the others is part of it.
    pub forward_delay_seconds: Histogram,
    /// `isthmus_shard_participants{shard}`.
    pub shard_participants: IntGaugeVec,
    /// `isthmus_shard_cpu_seconds_total{shard}`: of the shard's thread. One that nears a second a second is full.
    pub shard_cpu_seconds: CounterVec,
}

impl Metrics {
    /// Registers the families; those of `packets` are registered already.
    pub fn new(registry: &Registry, packets: PacketMetrics) -> Result<Self, prometheus::Error> {
        let join_buckets = vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        // Close to each other about the goals, 0.5 and 2 ms: what lies between two of them is known no better.
        let delay_buckets = vec![
            0.000_1, 0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.002_5, 0.003, 0.004, 0.005, 0.01, 0.025, 0.1,
        ];
        let join = HistogramOpts::new("isthmus_join_seconds", "Time to join, by phase.").buckets(join_buckets);
        let delay = HistogramOpts::new("isthmus_forward_delay_seconds", "Time from socket in to socket out.");
        let seats = Opts::new("isthmus_shard_participants", "Participants connected to this node, by shard.");
        let cpu = Opts::new("isthmus_shard_cpu_seconds_total", "Processor time of the node's shards.");
        let extra =
            Opts::new("isthmus_rtp_extra_bytes_total", "Bytes sent to clients beside their packets, by purpose.");
        let metrics = Self {
            packets,
            extra_bytes: IntCounterVec::new(extra, &["purpose"])?,
            participants: IntGauge::new("isthmus_participants", "Participants connected to this node.")?,
            rooms: IntGauge::new("isthmus_rooms", "Rooms with a participant on this node.")?,
            joins: IntCounter::new("isthmus_joins_total", "Stays that began on this node.")?,
            leaves: IntCounterVec::new(Opts::new("isthmus_leaves_total", "Stays that ended, by reason."), &["reason"])?,
            join_seconds: HistogramVec::new(join, &["phase"])?,
            forward_delay_seconds: Histogram::with_opts(delay.buckets(delay_buckets))?,
            shard_participants: IntGaugeVec::new(seats, &["shard"])?,
            shard_cpu_seconds: CounterVec::new(cpu, &["shard"])?,
        };
        registry.register(Box::new(metrics.extra_bytes.clone()))?;
        registry.register(Box::new(metrics.participants.clone()))?;
        registry.register(Box::new(metrics.rooms.clone()))?;
        registry.register(Box::new(metrics.joins.clone()))?;
        registry.register(Box::new(metrics.leaves.clone()))?;
        registry.register(Box::new(metrics.join_seconds.clone()))?;
        registry.register(Box::new(metrics.forward_delay_seconds.clone()))?;
        registry.register(Box::new(metrics.shard_participants.clone()))?;
        registry.register(Box::new(metrics.shard_cpu_seconds.clone()))?;
        Ok(metrics)
    }
}
