//! What the relay counts.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector};

/// RTP packets, wherever they go: shared by the relay (`hop="relay"`) and the media node (`hop="client"`), registered
/// once.
#[derive(Clone, Debug)]
pub struct PacketMetrics {
    /// `isthmus_rtp_packets_total{direction="in|out",hop="client|relay|shard"}`.
    pub packets: IntCounterVec,
    /// `isthmus_rtp_bytes_total{direction,hop}`: RTP payload bytes.
    pub bytes: IntCounterVec,
    /// `isthmus_drops_total{reason}`.
    pub drops: IntCounterVec,
}

impl PacketMetrics {
    /// Registers the families.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let directed = ["direction", "hop"];
        Ok(Self {
            packets: counters(registry, "isthmus_rtp_packets_total", "RTP packets forwarded.", &directed)?,
            bytes: counters(registry, "isthmus_rtp_bytes_total", "RTP payload bytes forwarded.", &directed)?,
            drops: counters(registry, "isthmus_drops_total", "What was dropped, and why.", &["reason"])?,
        })
    }
}

/// What the relay alone counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `isthmus_relay_links{state="up|down"}`: links to the peers that should be there.
    pub links: IntGaugeVec,
    /// `isthmus_relay_rtt_seconds{peer}`: QUIC's smoothed round-trip time; absent while the link is down.
    pub rtt_seconds: GaugeVec,
    /// `isthmus_relay_repairs_total{outcome}`: what became of datagrams asked for again.
    pub repairs: IntCounterVec,
    /// `isthmus_relay_lost_total`: datagrams that stayed lost on a link.
    pub lost: IntCounter,
    /// `isthmus_relay_speech_total{outcome="arrived|restored|repeated|lost"}`: how each datagram of speech came from a peer.
    pub speech: IntCounterVec,
    /// `isthmus_relay_redundant_bytes_total`: what was sent ahead to peers so that lost speech need not be asked for.
    pub redundant_bytes: IntCounter,
    /// `isthmus_relay_speech_loss_ratio{peer}`: the share of speech that the path to a peer loses before any repair, as the
    /// peer reports it; absent while the link is down.
    pub speech_loss: GaugeVec,
    /// `isthmus_relay_datagrams_total{direction}`: media datagrams, repairs and requests for them.
    pub datagrams: IntCounterVec,
    /// `isthmus_relay_refusals_total{reason}`: connections and streams that were refused.
    pub refusals: IntCounterVec,
    /// `isthmus_relay_links_down_total{reason}`: links that came down.
    pub links_down: IntCounterVec,
    /// Shared with the media node.
    pub packets: PacketMetrics,
}

impl Metrics {
    /// Registers the relay's families; those of `packets` are registered already.
    pub fn new(registry: &Registry, packets: PacketMetrics) -> Result<Self, prometheus::Error> {
        let links = Opts::new("isthmus_relay_links", "Links to peer nodes by state.");
        let rtt = Opts::new("isthmus_relay_rtt_seconds", "Smoothed round-trip time to a peer node.");
        let lost = Opts::new("isthmus_relay_lost_total", "Datagrams lost on a link and not repaired.");
        let redundant = Opts::new(
            "isthmus_relay_redundant_bytes_total",
            "Bytes sent ahead to peers against the loss of speech: once or twice those of the speech on a long link that loses.",
        );
        let speech_loss = Opts::new(
            "isthmus_relay_speech_loss_ratio",
            "Share of the speech sent to a peer that the path loses before any repair, over about 20 s.",
        );
        Ok(Self {
            links: register(registry, IntGaugeVec::new(links, &["state"])?)?,
            rtt_seconds: register(registry, GaugeVec::new(rtt, &["peer"])?)?,
            repairs: counters(
                registry,
                "isthmus_relay_repairs_total",
                "Datagrams asked for again, by outcome.",
                &["outcome"],
            )?,
            lost: register(registry, IntCounter::with_opts(lost)?)?,
            speech: counters(
                registry,
                "isthmus_relay_speech_total",
                "Datagrams of speech from peers: arrived as sent, restored from what was sent ahead, repeated on request, lost.",
                &["outcome"],
            )?,
            redundant_bytes: register(registry, IntCounter::with_opts(redundant)?)?,
            speech_loss: register(registry, GaugeVec::new(speech_loss, &["peer"])?)?,
            datagrams: counters(registry, "isthmus_relay_datagrams_total", "Datagrams on links.", &["direction"])?,
            refusals: counters(
                registry,
                "isthmus_relay_refusals_total",
                "Connections and streams refused.",
                &["reason"],
            )?,
            links_down: counters(
                registry,
                "isthmus_relay_links_down_total",
                "Links to peer nodes that came down, and why.",
                &["reason"],
            )?,
            packets,
        })
    }

    pub(crate) fn refused(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }
}

/// The counters of the packet path, looked up once per link.
#[derive(Clone, Debug)]
pub(crate) struct LinkCounters {
    pub(crate) packets_in: IntCounter,
    pub(crate) packets_out: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
    pub(crate) datagrams_in: IntCounter,
    pub(crate) datagrams_out: IntCounter,
    /// The queue to the link's task was full.
    pub(crate) drop_queue: IntCounter,
    /// The link was down.
    pub(crate) drop_down: IntCounter,
    /// Pictures: too many wait for the path. What was held back may still be asked for.
    pub(crate) drop_congested: IntCounter,
    /// Pictures that waited for too long.
    pub(crate) drop_late: IntCounter,
    /// Sound: too much waits for the path.
    pub(crate) drop_sound_full: IntCounter,
    /// Sound that waited for too long.
    pub(crate) drop_sound_late: IntCounter,
    /// More streams than a link may have.
    pub(crate) drop_streams: IntCounter,
    /// Too large for two datagrams.
    pub(crate) drop_oversize: IntCounter,
    /// Came twice, or after it had been given up.
    pub(crate) drop_duplicate: IntCounter,
    /// One half of a split packet came, the other stayed lost.
    pub(crate) drop_incomplete: IntCounter,
    /// Not a datagram of this version.
    pub(crate) drop_malformed: IntCounter,
    /// Sent again on request.
    pub(crate) repair_sent: IntCounter,
    /// Asked for and no longer held.
    pub(crate) repair_gone: IntCounter,
    /// Asked for too often, or over the share repairs may have.
    pub(crate) repair_capped: IntCounter,
    /// Asked for and received.
    pub(crate) repair_received: IntCounter,
    pub(crate) lost: IntCounter,
    pub(crate) speech_arrived: IntCounter,
    /// Taken out of what later datagrams carried.
    pub(crate) speech_restored: IntCounter,
    pub(crate) speech_repeated: IntCounter,
    pub(crate) speech_lost: IntCounter,
    pub(crate) redundant_bytes: IntCounter,
}

impl LinkCounters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let relay = |family: &IntCounterVec, direction| family.with_label_values(&[direction, "relay"]);
        let drops = |reason| metrics.packets.drops.with_label_values(&[reason]);
        let speech = |outcome| metrics.speech.with_label_values(&[outcome]);
        let repairs = |outcome| metrics.repairs.with_label_values(&[outcome]);
        Self {
            packets_in: relay(&metrics.packets.packets, "in"),
            packets_out: relay(&metrics.packets.packets, "out"),
            bytes_in: relay(&metrics.packets.bytes, "in"),
            bytes_out: relay(&metrics.packets.bytes, "out"),
            datagrams_in: metrics.datagrams.with_label_values(&["in"]),
            datagrams_out: metrics.datagrams.with_label_values(&["out"]),
            drop_queue: drops("relay_queue_full"),
            drop_down: drops("relay_link_down"),
            drop_congested: drops("relay_congested"),
            drop_late: drops("relay_late"),
            drop_sound_full: drops("relay_sound_full"),
            drop_sound_late: drops("relay_sound_late"),
            drop_streams: drops("relay_too_many_streams"),
            drop_oversize: drops("relay_oversize"),
            drop_duplicate: drops("relay_duplicate"),
            drop_incomplete: drops("relay_incomplete"),
            drop_malformed: drops("relay_malformed"),
            repair_sent: repairs("sent"),
            repair_gone: repairs("gone"),
            repair_capped: repairs("capped"),
            repair_received: repairs("received"),
            lost: metrics.lost.clone(),
            speech_arrived: speech("arrived"),
            speech_restored: speech("restored"),
            speech_repeated: speech("repeated"),
            speech_lost: speech("lost"),
            redundant_bytes: metrics.redundant_bytes.clone(),
        }
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
