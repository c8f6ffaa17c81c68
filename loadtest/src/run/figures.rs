//! What all clients of a run measured together. The names of figures in thresholds are the paths of the numbers in here:
//! `join_ms.p95`.

use std::{collections::BTreeMap, time::Duration};

use isthmus_protocol::signal::Kind;
use serde::Serialize;

use super::{
    emodel::mos,
    health::GeneratorFigures,
    server::ServerFigures,
    stay::{Outcome, Stay},
};
use crate::client::{
    impairment::Counted,
    measure::Delays,
    report::{Report, SlotReport, millis, rounded},
};

/// Slots with fewer packets than a second of speech say nothing about jitter and loss.
const MIN_VOICE_PACKETS: u64 = 50;
/// How much speech a packet holds.
const PACKET: Duration = Duration::from_millis(20);

/// Every number of a run. Null is what was not measured; [`super::report::RunReport`] says why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Participants who came.
    pub joins: Joins,
    /// From a client's first request to its media path: nearest PoP, token, signalling, offer and answer, ICE, DTLS.
    pub join_ms: Distribution,
    /// From the first request to the end of each phase.
    pub phases: Phases,
    /// From the first request to the first media packet, of clients that found someone who published.
    pub first_packet_ms: Distribution,
    /// From the first request to the first decodable picture, of clients that found someone who published and watch.
    pub first_frame_ms: Distribution,
    /// Packets that never arrived, not even as a retransmission.
    pub loss: Loss,
    /// RFC 3550 interarrival jitter of sound, by slot.
    pub audio_jitter_ms: Distribution,
    /// The same of pictures. Frames of several packets have some by their nature.
    pub video_jitter_ms: Distribution,
    /// How long packets of speech were under way, from the speaker's socket to the hearer's, over all packets. Quantiles are
    /// at most a tenth too long.
    pub voice_delay_ms: Distribution,
    /// How long pictures were under way, from the camera's socket to the arrival of their last packet. Quantiles are at most a
    /// tenth too long.
    pub picture_delay_ms: Distribution,
    /// Mean opinion score of voices by the E-model ([`super::emodel`]), by slot: from the loss, and from the delay that 1 in 100
    /// packets exceeded, which a playout buffer must wait for, and the 20 ms of a packet.
    pub voice_mos: Distribution,
    /// Decodable pictures a second, by slot, from the first one to the end of the stay.
    pub frames_per_second: Distribution,
    /// Pictures that stood still, as the WebRTC statistics define it.
    pub freezes: Freezes,
    /// Packets on the bad networks that the scenario gave to clients.
    pub networks: Networks,
    /// RTP packets of all clients.
    pub traffic: Traffic,
    /// The target's media nodes, where they can be seen.
    pub server: ServerFigures,
    /// This program itself.
    pub generator: GeneratorFigures,
}

/// Participants who came.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Joins {
    /// By the plan, those who come back counted again.
    pub planned: u64,
    /// Those that were begun.
    pub started: u64,
    /// Those whose media path stood.
    pub joined: u64,
    /// Those that were refused, or had no media path in time.
    pub failed: u64,
    /// `failed` over those that were joined or failed; null while there are none.
    pub failed_share: Option<f64>,
    /// Those that were asked to leave before they were in.
    pub withdrawn: u64,
    /// Stays that ended before the plan said so.
    pub ended_early: u64,
    /// The most that were in their calls at once.
    pub most_at_once: u64,
}

/// From the first request to the end of each phase.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Phases {
    /// The PoPs were listed and the best probed.
    pub pops_ms: Distribution,
    /// The token was there.
    pub token_ms: Distribution,
    /// The signalling socket was open.
    pub socket_ms: Distribution,
    /// The node had welcomed the client.
    pub welcome_ms: Distribution,
    /// The answer to the offer was there.
    pub answer_ms: Distribution,
    /// ICE had a pair.
    pub ice_ms: Distribution,
}

/// Shares of packets that never arrived.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Loss {
    /// Packets, of all kinds.
    pub packets: u64,
    /// Of all packets.
    pub share: Option<f64>,
    /// Of sound.
    pub audio_share: Option<f64>,
    /// Of pictures.
    pub video_share: Option<f64>,
    /// Of the client that fared worst.
    pub worst_client_share: Option<f64>,
}

/// Pictures that stood still.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Freezes {
    /// All of them.
    pub count: u64,
    /// Per minute and picture watched; null if none was.
    pub per_minute: Option<f64>,
    /// Time frozen over time watched.
    pub time_share: Option<f64>,
    /// The longest one.
    pub longest_ms: Option<f64>,
}

/// UDP packets, both ways, of clients with a network of the scenario.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Networks {
    /// Clients that had one.
    pub clients: u64,
    /// Packets that set out.
    pub packets: u64,
    /// Those that did not arrive, over those.
    pub dropped_share: Option<f64>,
}

/// RTP packets and their payloads, as clients count them; over the whole run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Traffic {
    /// By all clients together.
    pub sent_packets: u64,
    /// By all clients together.
    pub received_packets: u64,
    /// Bytes of payloads.
    pub sent_bytes: u64,
    /// Bytes of payloads.
    pub received_bytes: u64,
    /// The most in one second.
    pub peak_received_packets_per_second: Option<f64>,
    /// The most in one second, payloads alone.
    pub peak_received_mbps: Option<f64>,
}

/// How a measure spreads over clients or slots. Nearest-rank quantiles; all null over nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Over how many.
    pub count: u64,
    /// The least.
    pub min: Option<f64>,
    /// 1 in 20 is below.
    pub p5: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// 1 in 20 is above.
    pub p95: Option<f64>,
    /// 1 in 100 is above.
    pub p99: Option<f64>,
    /// The most.
    pub max: Option<f64>,
}

impl Distribution {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let rank = (q * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.max(1) - 1).copied().map(rounded)
        };
        Self {
            count: sorted.len() as u64,
            min: quantile(0.0),
            p5: quantile(0.05),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            max: quantile(1.0),
        }
    }
}

impl Distribution {
    /// Of delays, in milliseconds.
    pub fn of_delays(delays: &Delays) -> Self {
        let quantile = |share| delays.quantile(share).map(millis);
        Self {
            count: delays.count(),
            min: quantile(0.0),
            p5: quantile(0.05),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            max: quantile(1.0),
        }
    }
}

impl Figures {
    /// The names that thresholds know.
    pub fn names() -> Vec<String> {
        let mut names = Vec::new();
        walk(&serde_json::json!(Self::default()), "", &mut |name, _| names.push(name));
        names
    }

    /// The same for people: those of one group together, `join_ms.{count,max}`.
    pub fn names_in_groups() -> String {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in Self::names() {
            let (group, last) = name.rsplit_once('.').unwrap_or(("", &name));
            groups.entry(group.to_owned()).or_default().push(last.to_owned());
        }
        let groups: Vec<_> = groups.iter().map(|(group, names)| format!("{group}.{{{}}}", names.join(","))).collect();
        groups.join(", ")
    }

    /// Every figure by its name; none for what was not measured.
    pub fn by_name(&self) -> BTreeMap<String, Option<f64>> {
        let mut figures = BTreeMap::new();
        walk(&serde_json::json!(self), "", &mut |name, value| {
            figures.insert(name, value);
        });
        figures
    }
}

fn walk(value: &serde_json::Value, path: &str, leaf: &mut impl FnMut(String, Option<f64>)) {
    let Some(fields) = value.as_object() else { return leaf(path.to_owned(), value.as_f64()) };
    for (name, field) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        walk(field, &path, leaf);
    }
}

/// Takes in one stay after the other.
#[derive(Debug, Default)]
pub struct Collector {
    joins: Joins,
    /// Why joins failed and stays ended early, and how often.
    reasons: BTreeMap<String, u64>,
    join_ms: Vec<f64>,
    phases: [Vec<f64>; 6],
    first_packet_ms: Vec<f64>,
    first_frame_ms: Vec<f64>,
    audio: Streams,
    video: Streams,
    delays: Delays,
    picture_delays: Delays,
    mos: Vec<f64>,
    worst_client_share: Option<f64>,
    frames_per_second: Vec<f64>,
    freezes: u64,
    frozen_ms: f64,
    watched_ms: f64,
    longest_freeze_ms: Option<f64>,
    sent: (u64, u64),
    left_out: u64,
    networks: (u64, Counted),
}

/// All slots of one kind.
#[derive(Debug, Default)]
struct Streams {
    packets: u64,
    bytes: u64,
    lost: u64,
    jitter_ms: Vec<f64>,
}

impl Streams {
    fn add(&mut self, slot: &SlotReport) {
        self.packets += slot.packets;
        self.bytes += slot.bytes;
        self.lost += slot.lost;
        if slot.packets >= MIN_VOICE_PACKETS {
            self.jitter_ms.extend(slot.jitter_ms);
        }
    }
}

impl Collector {
    /// A stay is over.
    pub fn add(&mut self, stay: &Stay) {
        self.joins.started += 1;
        let reason = match &stay.outcome {
            Outcome::Stayed => None,
            Outcome::Withdrawn => {
                self.joins.withdrawn += 1;
                None
            }
            Outcome::Failed(reason) => {
                self.joins.failed += 1;
                Some(format!("not joined: {reason}"))
            }
            Outcome::EndedEarly(reason) => {
                self.joins.ended_early += 1;
                Some(format!("ended early: {reason}"))
            }
        };
        if let Some(reason) = reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
        if let Some(report) = &stay.report {
            self.add_report(report);
        }
    }

    /// Why joins failed and stays ended early, the most frequent reason first.
    pub fn reasons(&self) -> Vec<(String, u64)> {
        let mut reasons: Vec<_> = self.reasons.iter().map(|(reason, count)| (reason.clone(), *count)).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons
    }

    /// Frames and sound packets that were not sent because this program was late, and those that were sent.
    pub fn left_out_and_sent(&self) -> (u64, u64) {
        (self.left_out, self.sent.0)
    }

    /// Packets that arrived.
    pub fn received(&self) -> u64 {
        self.audio.packets + self.video.packets
    }

    /// All figures of clients.
    pub fn figures(&self) -> Figures {
        let share = |part: u64, whole: u64| (whole > 0).then(|| precise(part as f64 / whole as f64));
        let lost = |streams: &Streams| share(streams.lost, streams.packets + streams.lost);
        let (audio, video) = (&self.audio, &self.video);
        let [pops_ms, token_ms, socket_ms, welcome_ms, answer_ms, ice_ms] =
            self.phases.each_ref().map(|values| Distribution::of(values));
        let joins = Joins {
            failed_share: share(self.joins.failed, self.joins.failed + self.joins.joined),
            ..self.joins.clone()
        };
        let packets = audio.lost + video.lost;
        Figures {
            joins,
            join_ms: Distribution::of(&self.join_ms),
            phases: Phases { pops_ms, token_ms, socket_ms, welcome_ms, answer_ms, ice_ms },
            first_packet_ms: Distribution::of(&self.first_packet_ms),
            first_frame_ms: Distribution::of(&self.first_frame_ms),
            loss: Loss {
                packets,
                share: share(packets, packets + self.received()),
                audio_share: lost(audio),
                video_share: lost(video),
                worst_client_share: self.worst_client_share,
            },
            audio_jitter_ms: Distribution::of(&audio.jitter_ms),
            video_jitter_ms: Distribution::of(&video.jitter_ms),
            voice_delay_ms: Distribution::of_delays(&self.delays),
            picture_delay_ms: Distribution::of_delays(&self.picture_delays),
            voice_mos: Distribution::of(&self.mos),
            frames_per_second: Distribution::of(&self.frames_per_second),
            freezes: Freezes {
                count: self.freezes,
                per_minute: (self.watched_ms > 0.0)
                    .then(|| precise(self.freezes as f64 / (self.watched_ms / 60_000.0))),
                time_share: (self.watched_ms > 0.0).then(|| precise(self.frozen_ms / self.watched_ms)),
                longest_ms: self.longest_freeze_ms,
            },
            networks: Networks {
                clients: self.networks.0,
                packets: self.networks.1.packets,
                dropped_share: share(self.networks.1.dropped, self.networks.1.packets),
            },
            traffic: Traffic {
                sent_packets: self.sent.0,
                sent_bytes: self.sent.1,
                received_packets: self.received(),
                received_bytes: audio.bytes + video.bytes,
                ..Traffic::default()
            },
            ..Figures::default()
        }
    }

    fn add_report(&mut self, report: &Report) {
        let join = &report.join;
        self.joins.joined += u64::from(join.dtls_ms.is_some());
        self.join_ms.extend(join.dtls_ms);
        let ends = [join.pops_ms, join.token_ms, join.socket_ms, join.welcome_ms, join.answer_ms, join.ice_ms];
        for (phase, end) in self.phases.iter_mut().zip(ends) {
            phase.extend(end);
        }
        if report.others_published {
            self.first_packet_ms.extend(join.first_packet_ms);
            self.first_frame_ms.extend(join.first_frame_ms);
        }
        self.sent.0 += report.sent.packets;
        self.sent.1 += report.sent.bytes;
        self.left_out += report.sent.left_out;
        if let Some(network) = report.network {
            self.networks.0 += 1;
            self.networks.1.packets += network.packets;
            self.networks.1.dropped += network.dropped;
        }
        let (mut packets, mut lost) = (0, 0);
        for slot in &report.slots {
            packets += slot.packets;
            lost += slot.lost;
            match slot.kind {
                Kind::Audio => {
                    self.audio.add(slot);
                    self.add_voice(slot);
                }
                Kind::Video => {
                    self.video.add(slot);
                    self.picture_delays.merge(&slot.delays);
                }
            }
            self.add_picture(report, slot);
        }
        if packets + lost > 0 {
            let share = precise(lost as f64 / (packets + lost) as f64);
            self.worst_client_share = Some(self.worst_client_share.map_or(share, |worst| worst.max(share)));
        }
    }

    fn add_voice(&mut self, slot: &SlotReport) {
        self.delays.merge(&slot.delays);
        if let Some(delay) = slot.delays.quantile(0.99).filter(|_| slot.packets >= MIN_VOICE_PACKETS) {
            let loss = slot.lost as f64 / (slot.packets + slot.lost) as f64;
            self.mos.push(mos(loss, delay + PACKET));
        }
    }

    fn add_picture(&mut self, report: &Report, slot: &SlotReport) {
        let Some(video) = &slot.video else { return };
        let Some(first_ms) = video.first_frame_ms else { return };
        self.frames_per_second.push(video.frames_per_second);
        self.watched_ms += (report.duration_ms - first_ms).max(0.0);
        self.freezes += u64::from(video.freezes);
        self.frozen_ms += video.freeze_ms;
        let longest = self.longest_freeze_ms.unwrap_or(0.0);
        self.longest_freeze_ms = Some(longest.max(video.longest_freeze_ms));
    }
}

/// Six digits after the point: shares of a packet in a million.
pub(super) fn precise(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).rev().collect();
        let spread = Distribution::of(&values);
        assert_eq!((spread.count, spread.min, spread.p5), (200, Some(1.0), Some(10.0)));
        assert_eq!(
            (spread.p50, spread.p95, spread.p99, spread.max),
            (Some(100.0), Some(190.0), Some(198.0), Some(200.0))
        );
        assert_eq!(Distribution::of(&[]), Distribution::default());
        assert_eq!(Distribution::of(&[7.0]).p99, Some(7.0));
    }

    #[test]
    fn names_are_paths_of_numbers() {
        let names = Figures::names();
        for name in ["join_ms.p95", "joins.failed", "loss.share", "server.cpu_us_per_packet", "phases.token_ms.p50"] {
            assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
        }
        let figures = Figures { loss: Loss { share: Some(0.25), ..Loss::default() }, ..Figures::default() }.by_name();
        assert_eq!((figures["loss.share"], figures["loss.video_share"]), (Some(0.25), None));
        assert_eq!(figures.len(), names.len());
    }

    #[test]
    fn a_failed_join_counts_with_its_reason() {
        let mut collector = Collector::default();
        let stay = |outcome| Stay { seat: 0, outcome, report: None };
        collector.add(&stay(Outcome::Failed("refused".into())));
        collector.add(&stay(Outcome::Failed("refused".into())));
        collector.add(&stay(Outcome::EndedEarly("gone".into())));
        collector.add(&stay(Outcome::Withdrawn));
        let joins = collector.figures().joins;
        assert_eq!((joins.started, joins.failed, joins.ended_early, joins.withdrawn), (4, 2, 1, 1));
        assert_eq!(joins.failed_share, Some(1.0));
        assert_eq!(collector.reasons()[0], ("not joined: refused".into(), 2));
    }
}
