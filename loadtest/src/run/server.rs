//! What the target's media nodes cost, where they can be seen: their processes on this machine, or their Prometheus pages.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use nix::{time::ClockId, unistd::Pid};
use procfs::process::Process;
use reqwest::Url;
use serde::Serialize;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{figures::precise, scenario::Server};
use crate::client::report::rounded;

/// A name in a file of process ids that is a media node's.
const MEDIA_NODE: &str = "-sfu-";

/// What the target's media nodes cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ServerFigures {
    /// CPU time over RTP packets sent, in the seconds in which nobody joined or left.
    pub cpu_us_per_packet: Option<f64>,
    /// The same over RTP packets that clients received in those seconds: for servers that do not tell what they send, and for
    /// comparing any with any.
    pub cpu_us_per_received_packet: Option<f64>,
    /// CPU time over time in those seconds: 1 is one core.
    pub cpu_cores: Option<f64>,
    /// RTP packets sent in each of those seconds.
    pub packets_out_per_second: Option<f64>,
    /// The share of bytes sent to clients in those seconds that are padding or probes of what a path carries: payloads that
    /// nobody needs. Isthmus tells it, others do not.
    pub padding_share: Option<f64>,
    /// How many of those seconds there were.
    pub quiet_seconds: Option<f64>,
    /// Resident memory that was added since the run began, over the participants, when most were there. A node that
    /// carried calls before has memory from then: for this figure, start it afresh.
    pub memory_kib_per_participant: Option<f64>,
    /// Resident memory, at most.
    pub memory_mib: Option<f64>,
    /// From a media node's socket in to its socket out in those seconds, half of the times (`isthmus_forward_delay_seconds`,
    /// by interpolation between its buckets).
    pub forward_delay_p50_ms: Option<f64>,
    /// The same, 99 in 100 of the times.
    pub forward_delay_p99_ms: Option<f64>,
}

/// What is known of the clients at the moment of a reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clients {
    /// In their calls.
    pub count: u64,
    /// RTP packets that all of them received so far.
    pub received: u64,
}

/// Counters of all media nodes together, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// CPU time since their start.
    pub cpu_s: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<f64>,
    /// RTP packets sent, to clients and to other nodes.
    pub packets_out: Option<f64>,
    /// Payload bytes sent to clients.
    pub bytes_out: Option<f64>,
    /// Bytes of padding and probes sent to clients.
    pub padding_bytes: Option<f64>,
    /// How many forwarding delays were at most so long.
    pub forward_delay: Buckets,
}

/// A Prometheus histogram: upper bounds in ascending order, the last infinite, and how many values are at most each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Those of a histogram on a page, summed over its other labels.
    fn read(page: &str, name: &str) -> Self {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for line in page.lines() {
            let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{")) else { continue };
            let Some((labels, value)) = rest.rsplit_once('}') else { continue };
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            // "+Inf" is a number to Rust too.
            let read = bound.and_then(|bound| bound.parse().ok()).zip(value.trim().parse().ok());
            let Some((bound, count)): Option<(f64, f64)> = read else { continue };
            match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self(buckets)
    }

    fn add(&mut self, more: &Self) {
        if self.0.is_empty() {
            self.clone_from(more);
            return;
        }
        for ((_, sum), (_, count)) in self.0.iter_mut().zip(&more.0) {
            *sum += count;
        }
    }

    /// What has come since `earlier`; nothing if a process was started anew meanwhile.
    fn since(&self, earlier: &Self) -> Self {
        let grown = self.0.iter().zip(&earlier.0).map(|((bound, new), (_, old))| (*bound, new - old));
        let grown: Vec<_> = grown.collect();
        if grown.iter().any(|(_, count)| *count < 0.0) { Self::default() } else { Self(grown) }
    }

    /// The value that this share does not exceed, evenly spread within its bucket; beyond the last finite bound that bound.
    fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = share * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank && bound.is_finite() {
                let within = if *count > below { (rank - below) / (count - below) } else { 1.0 };
                return Some(lower + (bound - lower) * within);
            }
            if bound.is_finite() {
                (lower, below) = (*bound, *count);
            }
        }
        Some(lower)
    }
}

/// Follows readings over a run.
#[derive(Debug, Default)]
pub struct ServerMeter {
    first_resident: Option<f64>,
    most_resident: Option<f64>,
    /// Participants, and memory added, at the last reading with most of them.
    at_most: Option<(u64, f64)>,
    last: Option<(Duration, Reading, Clients)>,
    quiet: Quiet,
    quiet_with_packets: Quiet,
    forward_delay: Buckets,
}

/// Sums over seconds in which nobody joined or left.
#[derive(Debug, Default, Clone, Copy)]
struct Quiet {
    span_s: f64,
    cpu_s: f64,
    packets: f64,
    received: u64,
    bytes: f64,
    padding_bytes: f64,
}

impl ServerMeter {
    /// A reading. `quiet` says that nobody joined or left since the last one. Returns CPU time over time since then.
    pub fn handle_reading(&mut self, now: Duration, reading: Reading, clients: Clients, quiet: bool) -> Option<f64> {
        if let Some(resident) = reading.resident_bytes {
            let first = *self.first_resident.get_or_insert(resident);
            self.most_resident = Some(self.most_resident.map_or(resident, |most| most.max(resident)));
            if clients.count > 0 && self.at_most.is_none_or(|(most, _)| clients.count >= most) {
                self.at_most = Some((clients.count, resident - first));
            }
        }
        let (before, earlier, then) = self.last.replace((now, reading, clients))?;
        let reading = &self.last.as_ref()?.1;
        let span_s = now.saturating_sub(before).as_secs_f64();
        // A process that was started anew counts from 0.
        let grown = |new: Option<f64>, old: Option<f64>| Some(new? - old?).filter(|grown| *grown >= 0.0);
        let cpu_s = grown(reading.cpu_s, earlier.cpu_s)?;
        if quiet {
            self.quiet.span_s += span_s;
            self.quiet.cpu_s += cpu_s;
            self.quiet.received += clients.received.saturating_sub(then.received);
            self.forward_delay.add(&reading.forward_delay.since(&earlier.forward_delay));
            let bytes = grown(reading.bytes_out, earlier.bytes_out);
            if let Some((bytes, padding)) = bytes.zip(grown(reading.padding_bytes, earlier.padding_bytes)) {
                self.quiet.bytes += bytes;
                self.quiet.padding_bytes += padding;
            }
            if let Some(packets) = grown(reading.packets_out, earlier.packets_out) {
                self.quiet_with_packets.span_s += span_s;
                self.quiet_with_packets.cpu_s += cpu_s;
                self.quiet_with_packets.packets += packets;
            }
        }
        Some(cpu_s / span_s.max(1e-9))
    }

    /// What all readings say.
    pub fn figures(&self) -> ServerFigures {
        let over = |part: f64, whole: f64| (whole > 0.0).then(|| rounded(part / whole));
        let (quiet, sending) = (self.quiet, self.quiet_with_packets);
        ServerFigures {
            cpu_us_per_packet: over(sending.cpu_s * 1e6, sending.packets),
            cpu_us_per_received_packet: over(quiet.cpu_s * 1e6, quiet.received as f64),
            cpu_cores: over(quiet.cpu_s, quiet.span_s),
            packets_out_per_second: over(sending.packets, sending.span_s),
            padding_share: (quiet.bytes > 0.0)
                .then(|| precise(quiet.padding_bytes / (quiet.bytes + quiet.padding_bytes))),
            quiet_seconds: (quiet.span_s > 0.0).then(|| rounded(quiet.span_s)),
            memory_kib_per_participant: self.at_most.and_then(|(most, added)| over(added / 1024.0, most as f64)),
            memory_mib: self.most_resident.map(|bytes| rounded(bytes / 1024.0 / 1024.0)),
            forward_delay_p50_ms: self.forward_delay.quantile(0.5).map(|delay_s| precise(delay_s * 1e3)),
            forward_delay_p99_ms: self.forward_delay.quantile(0.99).map(|delay_s| precise(delay_s * 1e3)),
        }
    }
}

/// Reads the media nodes.
pub struct Probe {
    pids: Vec<u32>,
    pages: Vec<Url>,
    http: reqwest::Client,
}

impl Probe {
    /// Finds out what there is to read; none if the scenario names nothing. A process or page that is not there is an
    /// error: whoever names it wants its figures.
    pub async fn new(server: &Server) -> anyhow::Result<Option<Self>> {
        let mut pids = server.pids.clone();
        for file in &server.pid_files {
            pids.extend(pids_of(file, &server.processes)?);
        }
        if pids.is_empty() && server.metrics.is_empty() {
            return Ok(None);
        }
        let http = reqwest::Client::builder().timeout(Duration::from_millis(900)).build()?;
        let probe = Self { pids, pages: server.metrics.clone(), http };
        probe.read().await?;
        Ok(Some(probe))
    }

    /// Reads every second from now on, until nobody takes the readings. A reading that takes long holds nobody up.
    pub fn watch(self) -> mpsc::Receiver<anyhow::Result<Reading>> {
        let (tell, readings) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            second.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                second.tick().await;
                if tell.send(self.read().await).await.is_err() {
                    return;
                }
            }
        });
        readings
    }

    /// All counters now. CPU time and memory come from processes where some were named: the pages have whole seconds.
    async fn read(&self) -> anyhow::Result<Reading> {
        let mut reading = Reading::default();
        for page in &self.pages {
            let answer = self.http.get(page.clone()).send().await?.error_for_status()?;
            let text = answer.text().await.with_context(|| format!("cannot read {page}"))?;
            let add = |sum: &mut Option<f64>, name, label| *sum = plus(*sum, sum_of(&text, name, label));
            add(&mut reading.packets_out, "isthmus_rtp_packets_total", Some(r#"direction="out""#));
            add(&mut reading.bytes_out, "isthmus_rtp_bytes_total", Some(r#"direction="out",hop="client""#));
            add(&mut reading.padding_bytes, "isthmus_rtp_extra_bytes_total", Some(r#"purpose="padding""#));
            add(&mut reading.padding_bytes, "isthmus_rtp_extra_bytes_total", Some(r#"purpose="probe""#));
            add(&mut reading.cpu_s, "process_cpu_seconds_total", None);
            add(&mut reading.resident_bytes, "process_resident_memory_bytes", None);
            reading.forward_delay.add(&Buckets::read(&text, "isthmus_forward_delay_seconds"));
        }
        if !self.pids.is_empty() {
            (reading.cpu_s, reading.resident_bytes) = (None, None);
        }
        for pid in &self.pids {
            let (cpu_s, resident_bytes) = process(*pid).with_context(|| format!("cannot see process {pid}"))?;
            reading.cpu_s = plus(reading.cpu_s, Some(cpu_s));
            reading.resident_bytes = plus(reading.resident_bytes, Some(resident_bytes));
        }
        Ok(reading)
    }
}

fn plus(sum: Option<f64>, more: Option<f64>) -> Option<f64> {
    sum.map_or(more, |sum| Some(sum + more.unwrap_or(0.0)))
}

/// CPU time in seconds, and resident bytes.
fn process(pid: u32) -> anyhow::Result<(f64, f64)> {
    let pid = i32::try_from(pid)?;
    let stat = Process::new(pid)?.stat()?;
    // To the nanosecond; /proc tells clock ticks of 10 ms.
    let cpu = Duration::from(ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?.now()?);
    Ok((cpu.as_secs_f64(), stat.rss as f64 * procfs::page_size() as f64))
}

fn pids_of(file: &Path, names: &[String]) -> anyhow::Result<Vec<u32>> {
    let read = || format!("cannot read process ids from {}", file.display());
    let text = std::fs::read_to_string(file).with_context(read)?;
    let pids: BTreeMap<String, u32> = serde_json::from_str(&text).with_context(read)?;
    let wanted =
        |name: &str| if names.is_empty() { name.contains(MEDIA_NODE) } else { names.iter().any(|n| n == name) };
    let found: Vec<u32> = pids.iter().filter(|(name, _)| wanted(name)).map(|(_, pid)| *pid).collect();
    if found.is_empty() {
        let there: Vec<_> = pids.keys().map(String::as_str).collect();
        bail!("{} names no process of a media node; it has {}", file.display(), there.join(", "));
    }
    Ok(found)
}

/// The sum of a metric over its labels, of those lines that have `label`; none if there is no such line.
fn sum_of(page: &str, name: &str, label: Option<&str>) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = if rest.starts_with('{') { rest.rsplit_once('}')? } else { ("", rest) };
        let bare = rest.starts_with('{') || rest.starts_with(' ');
        (bare && label.is_none_or(|label| labels.contains(label))).then(|| value.trim().parse::<f64>().ok())?
    });
    values.fold(None, |sum, value| plus(sum, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_summed_over_labels() {
        let page = "# HELP isthmus_rtp_packets_total RTP packets forwarded.\n\
                    isthmus_rtp_packets_total{direction=\"in\",hop=\"client\"} 100\n\
                    isthmus_rtp_packets_total{direction=\"out\",hop=\"client\"} 300\n\
                    isthmus_rtp_packets_total{direction=\"out\",hop=\"relay\"} 20\n\
                    process_cpu_seconds_total 7\nprocess_cpu_seconds_total_more 9\n";
        assert_eq!(sum_of(page, "isthmus_rtp_packets_total", Some("direction=\"out\"")), Some(320.0));
        assert_eq!(sum_of(page, "process_cpu_seconds_total", None), Some(7.0));
        assert_eq!(sum_of(page, "process_resident_memory_bytes", None), None);
    }

    #[test]
    fn only_seconds_in_which_nobody_came_or_went_make_the_cost() {
        let mut meter = ServerMeter::default();
        let reading = |cpu_s, packets, kib: f64| Reading {
            cpu_s: Some(cpu_s),
            packets_out: Some(packets),
            bytes_out: Some(packets * 990.0),
            padding_bytes: Some(packets * 10.0),
            resident_bytes: Some(kib * 1024.0),
            forward_delay: Buckets::default(),
        };
        let clients = |count, received| Clients { count, received };
        let at = Duration::from_secs;
        meter.handle_reading(at(0), reading(1.0, 0.0, 1000.0), clients(0, 0), false);
        meter.handle_reading(at(1), reading(1.9, 1000.0, 3000.0), clients(10, 900), false);
        let cores = meter.handle_reading(at(2), reading(2.0, 21_000.0, 3500.0), clients(10, 10_900), true);
        assert!(cores.is_some_and(|cores| (cores - 0.1).abs() < 1e-9), "{cores:?}");
        meter.handle_reading(at(3), reading(2.1, 41_000.0, 3400.0), clients(5, 20_900), true);
        // Started anew.
        meter.handle_reading(at(4), reading(0.0, 0.0, 100.0), clients(5, 20_900), true);
        let figures = meter.figures();
        assert_eq!((figures.cpu_us_per_packet, figures.packets_out_per_second), (Some(5.0), Some(20_000.0)));
        assert_eq!(figures.cpu_us_per_received_packet, Some(10.0));
        assert_eq!(figures.padding_share, Some(0.01));
        assert_eq!((figures.quiet_seconds, figures.cpu_cores), (Some(2.0), Some(0.1)));
        assert_eq!((figures.memory_kib_per_participant, figures.memory_mib), (Some(250.0), Some(3.42)));
    }

    #[test]
    fn a_histogram_tells_quantiles_of_what_came_since() {
        let page = |counts: [u32; 3]| {
            let [a, b, c] = counts;
            format!(
                "delay_seconds_bucket{{pop=\"x\",le=\"0.001\"}} {a}\ndelay_seconds_bucket{{pop=\"x\",le=\"0.002\"}} {b}\n\
                 delay_seconds_bucket{{pop=\"x\",le=\"+Inf\"}} {c}\ndelay_seconds_sum 1\ndelay_seconds_count {c}\n"
            )
        };
        let read = |counts| Buckets::read(&page(counts), "delay_seconds");
        let since = read([110, 220, 230]).since(&read([10, 20, 30]));
        assert_eq!(since.quantile(0.25), Some(0.0005));
        assert_eq!(since.quantile(0.75), Some(0.0015));
        assert_eq!(read([10, 10, 20]).quantile(0.99), Some(0.002), "beyond the last bound nothing is known");
        assert_eq!(read([0, 0, 0]).quantile(0.5), None);
        assert_eq!(read([5, 5, 5]).since(&read([6, 6, 6])).quantile(0.5), None, "it was started anew");
    }

    #[test]
    fn this_process_can_be_seen_and_a_bad_file_says_what_is_there() {
        let (cpu_s, resident) = process(std::process::id()).expect("it runs");
        assert!(cpu_s >= 0.0 && resident > 1e5);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pids.json");
        std::fs::write(&file, r#"{"panama-door-1": 7, "panama-sfu-1": 8}"#).expect("it can be written");
        assert_eq!(pids_of(&file, &[]).expect("good"), [8]);
        assert_eq!(pids_of(&file, &["panama-door-1".into()]).expect("good"), [7]);
        let error = pids_of(&file, &["x".into()]).expect_err("no such name").to_string();
        assert!(error.ends_with("it has panama-door-1, panama-sfu-1"), "{error}");
    }
}
