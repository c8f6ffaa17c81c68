//! Finding out by padding what a path carries beyond what is sent: when to try, how much, and what came of it.
//!
//! A media node sends what the layers of its pictures take, in steps, so most of the time the path is not full and says
//! nothing of what it could carry. A probe is a short cluster of packets at a higher rate: media where it waits,
//! padding between. If the cluster arrives as fast as it was sent, the path carries its rate; if it arrives spread out,
//! the rate of its arrival is what the path carries.

use super::arrival::Arrival;

/// This multiple of what is needed is sought: a layer is only taken where there is room to spare (85 % in
/// `allocation`).
const MARGIN: f64 = 1.25;
/// A probe for what is sought finds a little less, by jitter; that is enough.
const SATISFIED: f64 = 0.95;
/// The first probe goes to this multiple of the first estimate, those after one that got through to this multiple of
/// the estimate then, and those that only look whether a full path has opened to this.
const FIRST_STEP: f64 = 3.0;
const STEP: f64 = 2.0;
const LOOK: f64 = 1.5;
/// A cluster takes this long and, lest jitter be taken for spread, this multiple of what jitter is unusual, within a
/// bound. It has at least so many packets, and padding is of this size: so that the burst stays short where the path
/// turns out to be narrow (at 250 kbit/s 1,300 bytes) and its length can be measured where it is wide.
const CLUSTER_US: f64 = 40_000.0;
const CLUSTER_JITTERS: f64 = 8.0;
const USUAL_JITTER_US: f64 = 4_000.0;
const LONGEST_CLUSTER_US: f64 = 120_000.0;
const CLUSTER_PACKETS: u32 = 5;
const PACKETS_WANTED: u32 = 8;
const PACKET_BYTES: (u32, u32) = (200, 1_200);
/// A cluster whose next packet goes by this much too late is begun anew: nothing was there to be sent, or the node was busy.
/// That often at most; then it is taken as it is.
const LATE_US: i64 = 10_000;
const MOST_BEGINNINGS: u8 = 20;
/// A cluster of which less than this share arrived says nothing, ...
const LEAST_ARRIVED: f64 = 0.3;
/// ... and one of which less than this arrived, besides what is lost at any rate, was too much for the path.
const WHOLE: f64 = 0.7;
/// It arrived as it was sent if it was spread by no more than this.
const AS_SENT: f64 = 0.87;
/// It was held up if this share of its spread was one pause: a path that is full makes each packet late a little.
const ONE_PAUSE: f64 = 0.75;
/// What a path that was filled by a probe is taken to carry, as a share of what arrived: the queue has to drain, and
/// others on the same path were pushed aside for a moment.
const OF_FULL: f64 = 0.9;
/// A probe has found something if it shows this multiple of the estimate; then there may be more, and the next follows.
const FOUND: f64 = 1.1;
/// How long after a cluster the queue that it made may stand.
const BESIDE_US: i64 = 300_000;
/// Feedback on a cluster that takes longer is not waited for.
const PATIENCE_US: i64 = 1_500_000;
/// A cluster that waited once, all of it together, met with a receiver that was busy and read it late, or with a radio
/// link that takes turns: that says nothing of what the path carries, and it is tried again after so long. If that comes
/// to nothing as well, as after any other that was in vain.
const HELD_UP_AGAIN_US: i64 = 200_000;
/// After the first probe, and the first for more than was wanted before: it is not trusted alone if it was in vain.
const SECOND_LOOK_US: i64 = 1_000_000;
/// Between probes after that; doubles with each one in vain. Even at the longest, a path that opens is found within it; sooner
/// where a picture is paused.
const FIRST_INTERVAL_US: i64 = 3_000_000;
const LONGEST_INTERVAL_US: i64 = 10_000_000;
const LONGEST_PAUSED_INTERVAL_US: i64 = 6_000_000;
/// What was found and lost again within this, but for this share of it, did not hold: a policer lets a burst through,
/// or a competitor took it. Then the next probe waits for so long, lest the picture change back and forth.
const HELD_US: i64 = 5_000_000;
const HELD: f64 = 0.75;
const DOUBT_US: i64 = 20_000_000;
/// Neither wishes that change nor feedback that is lost make probes follow each other faster than this.
const LEAST_INTERVAL_US: i64 = 1_000_000;

/// Which cluster a packet was part of; wraps around, as no more than one is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClusterId(u8);

/// What a packet has to do with probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing.
    None,
    /// It is part of one.
    Of(ClusterId),
    /// It was sent shortly after one of which nothing was known yet: if it waits or is lost, that may be the probe's
    /// doing.
    Beside,
}

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    /// What the path carries at least, in kbit/s; none if too little came back to tell, or it was held up.
    pub(super) carries_kbps: Option<f64>,
    /// The path did not carry the whole rate of the probe.
    pub(super) was_filled: bool,
    /// It was spread out, but by one pause.
    pub(super) was_held_up: bool,
    /// The rate it was sent at, in kbit/s.
    pub(super) sent_kbps: f64,
    pub(super) packets: u32,
    pub(super) lost: u32,
}

/// What is known otherwise when a probe is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) estimate_kbps: f64,
    /// The share that is lost at any rate.
    pub(super) inherent_loss: f64,
    /// When the latest of those packets was sent that have arrived.
    pub(super) newest_arrived_us: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Cluster {
    kbps: f64,
    takes_us: f64,
    /// What the span of its arrival may be too long by.
    slack_us: i64,
    began_us: i64,
    sent_packets: u32,
    sent_bytes: u32,
    last_sent: (i64, u32),
    /// How often it was begun.
    beginnings: u8,
    arrived_packets: u32,
    /// Of those that arrived, the one sent first and the one sent last.
    ends: Option<(Arrival, Arrival)>,
    /// By how much one arrived later behind the one before than it was sent behind it, at most.
    longest_pause_us: i64,
}

impl Cluster {
    fn new(kbps: f64, takes_us: f64, slack_us: i64, now_us: i64) -> Self {
        Self {
            kbps,
            takes_us,
            slack_us,
            began_us: now_us,
            sent_packets: 0,
            sent_bytes: 0,
            last_sent: (now_us, 0),
            beginnings: 1,
            arrived_packets: 0,
            ends: None,
            longest_pause_us: 0,
        }
    }

    /// The same once more, from now on.
    fn anew(&self, now_us: i64) -> Self {
        let beginnings = self.beginnings + 1;
        Self { beginnings, ..Self::new(self.kbps, self.takes_us, self.slack_us, now_us) }
    }

    fn bytes_wanted(&self) -> u32 {
        (self.kbps * self.takes_us / 8_000.0) as u32
    }

    fn is_complete(&self) -> bool {
        self.sent_packets >= CLUSTER_PACKETS && self.sent_bytes >= self.bytes_wanted()
    }

    /// When the next packet is to go: in the rhythm of the cluster's rate.
    fn due_us(&self) -> i64 {
        self.began_us + (f64::from(self.sent_bytes) * 8_000.0 / self.kbps) as i64
    }

    fn outcome(&self, inherent_loss: f64) -> Outcome {
        let missing = self.sent_packets.saturating_sub(self.arrived_packets);
        let arrived_share = f64::from(self.arrived_packets) / f64::from(self.sent_packets) / (1.0 - inherent_loss);
        // Each packet took its place in time before itself, so the last one's bytes do not count.
        let sent_kbps = kbps(self.sent_bytes - self.last_sent.1, self.last_sent.0 - self.began_us);
        let unclear = Outcome {
            carries_kbps: None,
            was_filled: false,
            was_held_up: false,
            sent_kbps,
            packets: self.sent_packets,
            lost: missing,
        };
        let Some((first, last)) = self.ends.filter(|_| arrived_share >= LEAST_ARRIVED) else { return unclear };
        // The same two packets before and behind the path: what was lost between them at random does not matter.
        let [sent_us, arrived_us] = [last.sent_us - first.sent_us, last.arrived_us - first.arrived_us];
        let spread = (sent_us.max(1) as f64 / (arrived_us - self.slack_us).max(1) as f64).min(1.0);
        let is_one_pause = self.longest_pause_us as f64 > (arrived_us - sent_us) as f64 * ONE_PAUSE;
        if spread < AS_SENT && is_one_pause && arrived_share >= WHOLE {
            return Outcome { was_held_up: true, ..unclear };
        }
        let through = if arrived_share < WHOLE { spread * arrived_share } else { spread };
        let was_filled = through < AS_SENT;
        let share = if was_filled { through * OF_FULL } else { through };
        Outcome { carries_kbps: Some((sent_kbps * share).min(self.kbps)), was_filled, ..unclear }
    }
}

fn kbps(bytes: u32, over_us: i64) -> f64 {
    f64::from(bytes) * 8_000.0 / over_us.max(1) as f64
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Resting,
    Sending(Cluster),
    Awaiting(Cluster),
}

/// The probes of one path, one at a time.
#[derive(Debug)]
pub(super) struct Prober {
    phase: Phase,
    id: ClusterId,
    desired_kbps: f64,
    minimum_kbps: f64,
    not_before_us: i64,
    interval_us: i64,
    /// When the last probe was concluded.
    concluded_us: Option<i64>,
    /// When one found something, and how much, in kbit/s.
    found: Option<(i64, f64)>,
    was_filled: bool,
    was_held_up: bool,
    /// The last probe got through, or more is desired than at that time.
    expects_more: bool,
}

impl Prober {
    pub(super) fn new(now_us: i64) -> Self {
        Self {
            phase: Phase::Resting,
            id: ClusterId(0),
            desired_kbps: 0.0,
            minimum_kbps: 0.0,
            not_before_us: now_us,
            interval_us: SECOND_LOOK_US,
            concluded_us: None,
            found: None,
            was_filled: false,
            was_held_up: false,
            expects_more: false,
        }
    }

    /// What is to be found, in kbit/s: enough for all that is shown, and enough for the next paused picture (0: none
    /// is).
    pub(super) fn needs(&mut self, desired_kbps: u32, minimum_kbps: u32) {
        let [desired, minimum] = [desired_kbps, minimum_kbps].map(|kbps| f64::from(kbps) * MARGIN);
        // A path that the last probe filled does not carry more because more is desired.
        let is_more = desired > self.desired_kbps * MARGIN && !self.was_filled || minimum > self.minimum_kbps * MARGIN;
        (self.desired_kbps, self.minimum_kbps) = (desired, minimum);
        if is_more {
            let soonest_us = self.concluded_us.map_or(i64::MIN, |at| at + LEAST_INTERVAL_US);
            self.not_before_us = self.not_before_us.min(soonest_us);
            self.expects_more = true;
        }
    }

    /// All that is shown fits in `estimate_kbps` with room to spare.
    pub(super) fn is_satisfied(&self, estimate_kbps: f64) -> bool {
        estimate_kbps >= self.desired_kbps.max(self.minimum_kbps) * SATISFIED
    }

    /// Begins a probe if there is more to be found and it is time.
    pub(super) fn begin_if_due(&mut self, estimate_kbps: f64, jitter_us: f64, now_us: i64) {
        let may = matches!(self.phase, Phase::Resting) && now_us >= self.not_before_us;
        if !may || self.is_satisfied(estimate_kbps) {
            return;
        }
        let step = match self.concluded_us {
            None => FIRST_STEP,
            Some(_) if self.expects_more => STEP,
            Some(_) => LOOK,
        };
        self.expects_more = false;
        let kbps = (estimate_kbps * step).min(self.desired_kbps).max(self.minimum_kbps);
        let unusual_us = (jitter_us - USUAL_JITTER_US).max(0.0);
        self.id = ClusterId(self.id.0.wrapping_add(1));
        let takes_us = (CLUSTER_US + CLUSTER_JITTERS * unusual_us).min(LONGEST_CLUSTER_US);
        self.phase = Phase::Sending(Cluster::new(kbps, takes_us, unusual_us as i64, now_us));
    }

    /// While a cluster is being sent: when its next packet is due, and how large it is to be if it is padding.
    pub(super) fn due(&self) -> Option<(i64, u32)> {
        let Phase::Sending(cluster) = &self.phase else { return None };
        let bytes = (cluster.bytes_wanted() / PACKETS_WANTED).clamp(PACKET_BYTES.0, PACKET_BYTES.1);
        Some((cluster.due_us(), bytes))
    }

    /// When the next probe may begin, if one is needed.
    pub(super) fn next_us(&self, estimate_kbps: f64) -> Option<i64> {
        let is_needed = matches!(self.phase, Phase::Resting) && !self.is_satisfied(estimate_kbps);
        is_needed.then_some(self.not_before_us)
    }

    /// A packet goes out, whether media or padding.
    pub(super) fn sent(&mut self, bytes: u32, now_us: i64) -> Part {
        let cluster = match &mut self.phase {
            Phase::Sending(cluster) => cluster,
            Phase::Awaiting(cluster) if now_us - cluster.last_sent.0 < BESIDE_US => return Part::Beside,
            Phase::Awaiting(_) | Phase::Resting => return Part::None,
        };
        if cluster.sent_packets > 0 && now_us - cluster.due_us() > LATE_US && cluster.beginnings < MOST_BEGINNINGS {
            *cluster = cluster.anew(now_us);
            self.id = ClusterId(self.id.0.wrapping_add(1));
        }
        if cluster.sent_packets == 0 {
            cluster.began_us = now_us;
        }
        cluster.sent_packets += 1;
        cluster.sent_bytes += bytes;
        cluster.last_sent = (now_us, bytes);
        if cluster.is_complete() {
            self.phase = Phase::Awaiting(*cluster);
        }
        Part::Of(self.id)
    }

    /// A packet of a cluster has arrived.
    pub(super) fn arrived(&mut self, id: ClusterId, packet: Arrival) {
        let (Phase::Sending(cluster) | Phase::Awaiting(cluster)) = &mut self.phase else { return };
        if id != self.id {
            return;
        }
        cluster.arrived_packets += 1;
        let (first, last) = cluster.ends.get_or_insert((packet, packet));
        if packet.sent_us < first.sent_us {
            *first = packet;
        } else if packet.sent_us >= last.sent_us {
            let pause_us = (packet.arrived_us - last.arrived_us) - (packet.sent_us - last.sent_us);
            cluster.longest_pause_us = cluster.longest_pause_us.max(pause_us);
            *last = packet;
        }
    }

    /// Whether a probe was sent of which it is not known what came of it.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.phase, Phase::Awaiting(_))
    }

    /// What came of the probe, once all of it or something after it has arrived, or nothing did for too long.
    pub(super) fn conclude(&mut self, view: View, now_us: i64) -> Option<Outcome> {
        let Phase::Awaiting(cluster) = &self.phase else { return None };
        let (last_sent_us, _) = cluster.last_sent;
        let all_told = cluster.arrived_packets >= cluster.sent_packets || view.newest_arrived_us > Some(last_sent_us);
        if !all_told && now_us - last_sent_us < PATIENCE_US {
            return None;
        }
        let mut outcome = cluster.outcome(view.inherent_loss);
        // Of one that was not waited for to the end, the part that came says little.
        outcome.carries_kbps = outcome.carries_kbps.filter(|_| all_told);
        self.phase = Phase::Resting;
        (self.concluded_us, self.was_filled) = (Some(now_us), outcome.was_filled);
        let was_held_up_before = std::mem::replace(&mut self.was_held_up, outcome.was_held_up);
        let found_kbps = outcome.carries_kbps.filter(|kbps| *kbps > view.estimate_kbps * FOUND && !outcome.was_filled);
        if let Some(kbps) = found_kbps {
            (self.found, self.expects_more) = (Some((now_us, kbps)), true);
            self.not_before_us = now_us;
            self.interval_us = FIRST_INTERVAL_US;
        } else if outcome.lost == outcome.packets {
            // Nothing is known of any of it: rather its feedback was lost than all of it.
            self.not_before_us = now_us + LEAST_INTERVAL_US;
        } else if outcome.was_held_up && !was_held_up_before {
            (self.not_before_us, self.expects_more) = (now_us + HELD_UP_AGAIN_US, true);
        } else {
            self.not_before_us = now_us + self.interval_us;
            self.interval_us = (self.interval_us * 2).clamp(FIRST_INTERVAL_US, self.longest_interval_us());
        }
        Some(outcome)
    }

    /// The estimate fell to this, in kbit/s.
    pub(super) fn fell(&mut self, estimate_kbps: f64, now_us: i64) {
        let did_not_hold = |(at_us, kbps): &mut (i64, f64)| now_us - *at_us < HELD_US && estimate_kbps < *kbps * HELD;
        if self.found.take_if(did_not_hold).is_some() {
            self.not_before_us = now_us + DOUBT_US;
        }
        self.not_before_us = self.not_before_us.max(now_us + self.interval_us);
    }

    fn longest_interval_us(&self) -> i64 {
        if self.minimum_kbps > 0.0 { LONGEST_PAUSED_INTERVAL_US } else { LONGEST_INTERVAL_US }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends the cluster that is due over a path of `path_kbps`, of which every `lose_every`th packet is lost.
    fn send(
        prober: &mut Prober,
        estimate_kbps: f64,
        from_us: i64,
        path_kbps: f64,
        lose_every: Option<u32>,
    ) -> (Outcome, i64) {
        prober.begin_if_due(estimate_kbps, 0.0, from_us);
        let (mut free_us, mut last_us, mut number) = (0i64, from_us, 0);
        while let Some((due_us, bytes)) = prober.due() {
            number += 1;
            last_us = due_us;
            let Part::Of(id) = prober.sent(bytes, due_us) else { panic!("part of the cluster") };
            free_us = free_us.max(due_us) + (f64::from(bytes) * 8_000.0 / path_kbps) as i64;
            if lose_every.is_none_or(|every| number % every != 0) {
                prober.arrived(id, Arrival { sent_us: due_us, arrived_us: free_us + 90_000 });
            }
        }
        let view = View { estimate_kbps, inherent_loss: 0.0, newest_arrived_us: Some(last_us + 1) };
        let outcome = prober.conclude(view, last_us + 100_000).expect("all told");
        (outcome, last_us + 100_000)
    }

    #[test]
    fn it_doubles_until_what_is_desired_is_found() {
        let mut prober = Prober::new(0);
        prober.needs(2_000, 0);
        let (mut estimate, mut now_us, mut rates) = (300.0, 0, Vec::new());
        while !prober.is_satisfied(estimate) {
            let (outcome, later_us) = send(&mut prober, estimate, now_us, 20_000.0, None);
            assert!(!outcome.was_filled);
            (estimate, now_us) = (outcome.carries_kbps.expect("clear"), later_us);
            rates.push(estimate as u32);
        }
        assert_eq!(rates.len(), 3, "{rates:?}");
        assert!(now_us < 1_000_000);
        prober.begin_if_due(estimate, 0.0, now_us + 10_000_000);
        assert!(prober.due().is_none(), "what is desired is known");
    }

    #[test]
    fn a_receiver_that_reads_late_is_no_narrow_path_and_is_tried_again_at_once() {
        let mut prober = Prober::new(0);
        prober.needs(2_000, 0);
        let mut begun = Vec::new();
        for now_us in (0..3_000_000).step_by(10_000) {
            prober.begin_if_due(300.0, 0.0, now_us);
            let mut arrivals = Vec::new();
            while let Some((due_us, bytes)) = prober.due() {
                let Part::Of(id) = prober.sent(bytes, due_us) else { panic!("part of the cluster") };
                arrivals.push((id, Arrival { sent_us: due_us, arrived_us: due_us + 50_000 }));
            }
            let Some((_, last)) = arrivals.last().copied() else { continue };
            begun.push(now_us);
            // Read from the third on when all have come.
            for (index, (id, arrival)) in arrivals.into_iter().enumerate() {
                let read_us = if index < 2 { arrival.arrived_us } else { last.arrived_us + 60_000 };
                prober.arrived(id, Arrival { arrived_us: read_us, ..arrival });
            }
            let view = View { estimate_kbps: 300.0, inherent_loss: 0.0, newest_arrived_us: Some(last.sent_us + 1) };
            let outcome = prober.conclude(view, now_us).expect("all told");
            assert!(outcome.was_held_up && outcome.carries_kbps.is_none(), "{outcome:?}");
        }
        assert_eq!(begun, [0, HELD_UP_AGAIN_US, HELD_UP_AGAIN_US + SECOND_LOOK_US], "no more often than that");
    }

    #[test]
    fn a_cluster_that_stood_still_is_sent_anew_and_says_nothing_of_the_path() {
        let mut prober = Prober::new(0);
        prober.needs(2_000, 0);
        prober.begin_if_due(1_000.0, 0.0, 0);
        // Three voices, before there is a picture that padding could be made of.
        let mut ids = Vec::new();
        for now_us in [0, 20_000, 40_000] {
            let Part::Of(id) = prober.sent(120, now_us) else { panic!("part of the cluster") };
            prober.arrived(id, Arrival { sent_us: now_us, arrived_us: now_us + 5_000 });
            ids.push(id);
        }
        let (mut now_us, mut last_us) = (60_000, 60_000);
        while let Some((due_us, bytes)) = prober.due() {
            now_us = now_us.max(due_us);
            let Part::Of(id) = prober.sent(bytes, now_us) else { panic!("part of the cluster") };
            prober.arrived(id, Arrival { sent_us: now_us, arrived_us: now_us + 5_000 });
            last_us = now_us;
            assert!(!ids.contains(&id));
        }
        let view = View { estimate_kbps: 1_000.0, inherent_loss: 0.0, newest_arrived_us: Some(last_us) };
        let outcome = prober.conclude(view, last_us + 50_000).expect("all told");
        assert!(outcome.carries_kbps > Some(2_300.0), "{outcome:?}");
    }

    #[test]
    fn a_narrow_path_is_measured_and_tried_again_less_and_less() {
        let mut prober = Prober::new(0);
        prober.needs(2_000, 0);
        let (mut now_us, mut begun) = (0, Vec::new());
        while now_us < 60_000_000 {
            prober.begin_if_due(400.0, 0.0, now_us);
            if prober.due().is_some() {
                begun.push(now_us / 1_000_000);
                let (outcome, _) = send(&mut prober, 400.0, now_us, 500.0, None);
                assert!(
                    outcome.was_filled && (400.0..500.0).contains(&outcome.carries_kbps.expect("clear")),
                    "{outcome:?}"
                );
            }
            now_us += 50_000;
        }
        assert!(begun.len() <= 10 && begun[1] <= 3, "{begun:?}");
        let last_pause = begun[begun.len() - 1] - begun[begun.len() - 2];
        assert!(last_pause <= 12, "a path that opens is found: {begun:?}");
    }

    #[test]
    fn a_paused_picture_is_probed_for_with_little() {
        let mut prober = Prober::new(0);
        prober.needs(1_760, 210);
        prober.concluded_us = Some(0);
        prober.begin_if_due(60.0, 0.0, 1);
        let mut bytes_sent = 0;
        while let Some((due_us, bytes)) = prober.due() {
            bytes_sent += bytes;
            prober.sent(bytes, due_us);
        }
        assert!(bytes_sent < 1_600, "{bytes_sent} bytes");
    }

    #[test]
    fn random_loss_spoils_no_probe_and_silence_is_unclear() {
        let mut prober = Prober::new(0);
        prober.needs(2_000, 0);
        let (outcome, _) = send(&mut prober, 300.0, 0, 20_000.0, Some(4));
        assert!(outcome.carries_kbps.expect("clear") > 850.0 && outcome.lost == 2, "{outcome:?}");
        let (outcome, _) = send(&mut prober, 300.0, 10_000_000, 20_000.0, Some(1));
        assert_eq!(outcome.carries_kbps, None);
    }

    #[test]
    fn what_does_not_hold_is_sought_less_often() {
        let mut prober = Prober::new(0);
        prober.needs(2_000, 0);
        let (mut now_us, mut begun) = (0, 0);
        while now_us < 120_000_000 {
            prober.begin_if_due(1_000.0, 0.0, now_us);
            if prober.due().is_some() {
                begun += 1;
                let (outcome, later_us) = send(&mut prober, 1_000.0, now_us, 50_000.0, None);
                assert!(!outcome.was_filled);
                now_us = later_us + 1_000_000;
                prober.fell(500.0, now_us);
            }
            now_us += 50_000;
        }
        assert!(begun <= 12, "{begun}");
    }
}
