//! Changes to a running world and its counters: one JSON request a line over a Unix socket, one JSON reply a line.

use std::{
    io::{BufRead as _, BufReader as StdBufReader, Write as _},
    os::unix::net::UnixStream as StdUnixStream,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use super::{
    WanError,
    core::{Block, Counters, HostId, LinkParameters},
    router::RouterHandle,
    scenario::Scenario,
};

/// The longest request line, in bytes.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// How long a client may take for a request. One client is served at a time; the others wait in the socket's backlog.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be asked of a running world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Changes how packets from `from` to `to` fare, and back too if `both`.
    Set {
        /// The sending host.
        from: String,
        /// The receiving host.
        to: String,
        /// Whether the other direction changes too.
        both: bool,
        /// What changes.
        change: LinkChange,
    },
    /// Cuts `host` off from `other`, or from every host.
    Partition {
        /// One side.
        host: String,
        /// The other side; without it every other host.
        other: Option<String>,
    },
    /// Undoes a partition.
    Heal {
        /// One side.
        host: String,
        /// The other side; without it every other host.
        other: Option<String>,
    },
    /// Asks for the counters.
    Counters,
}

/// Parameters to change; the others stay. Meanings as in the scenario file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct LinkChange {
    /// Least delay of each direction that changes, in milliseconds: half a round trip
    #[arg(long, value_name = "MS")]
    pub one_way_ms: Option<f64>,
    /// Most that is added to the delay, in milliseconds
    #[arg(long, value_name = "MS")]
    pub jitter_ms: Option<f64>,
    /// Share of packets that is lost, from 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub loss: Option<f64>,
    /// Rate cap in Mbit/s
    #[arg(long, value_name = "MBPS", conflicts_with = "no_rate_cap")]
    pub rate_mbps: Option<f64>,
    /// Takes the rate cap away
    #[arg(long)]
    #[serde(default)]
    pub no_rate_cap: bool,
    /// Longest wait behind the rate cap, in milliseconds
    #[arg(long, value_name = "MS")]
    pub queue_ms: Option<f64>,
    /// Transport that is dropped, as by a firewall
    #[arg(long)]
    pub block: Option<Block>,
}

/// The answer to a [`ControlRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum ControlReply {
    /// It was done.
    Done,
    /// What every link saw so far.
    Counters(Counters),
    /// It was not done.
    Refused {
        /// Why, and what would be right.
        problem: String,
    },
}

impl LinkChange {
    /// `link` with this change.
    pub fn apply(&self, mut link: LinkParameters) -> Result<LinkParameters, WanError> {
        let durations =
            [(self.one_way_ms, &mut link.delay), (self.jitter_ms, &mut link.jitter), (self.queue_ms, &mut link.queue)];
        for (ms, duration) in durations {
            let Some(ms) = ms else { continue };
            *duration = Duration::try_from_secs_f64(ms / 1e3)
                .map_err(|_| WanError::Refused(format!("{ms} ms is not a time from 0 to 10000 ms")))?;
        }
        link.loss = self.loss.unwrap_or(link.loss);
        link.block = self.block.unwrap_or(link.block);
        let cap = if self.no_rate_cap { None } else { link.rate_bps };
        link.rate_bps = self.rate_mbps.map(|mbps| (mbps * 1e6) as u64).or(cap);
        link.check().map_err(|error| WanError::Refused(error.to_string()))?;
        Ok(link)
    }
}

/// Answers requests about one world.
pub struct Controls {
    scenario: Scenario,
    router: RouterHandle,
}

impl Controls {
    /// Controls of the world that `router` moves packets of.
    pub fn new(scenario: Scenario, router: RouterHandle) -> Self {
        Self { scenario, router }
    }

    /// Does what is asked.
    pub fn answer(&self, request: &ControlRequest) -> ControlReply {
        let done = match request {
            ControlRequest::Set { from, to, both, change } => self.set(from, to, *both, change),
            ControlRequest::Partition { host, other } => self.set_partitioned(host, other.as_deref(), true),
            ControlRequest::Heal { host, other } => self.set_partitioned(host, other.as_deref(), false),
            ControlRequest::Counters => match self.router.counters() {
                Ok(counters) => return ControlReply::Counters(counters),
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(()) => ControlReply::Done,
            Err(error) => ControlReply::Refused { problem: error.to_string() },
        }
    }

    fn host(&self, name: &str) -> Result<HostId, WanError> {
        self.scenario.host(name).ok_or_else(|| {
            let known: Vec<_> = self.scenario.hosts.iter().map(|host| host.name.as_str()).collect();
            WanError::Refused(format!("no host {name:?}; there are {}", known.join(", ")))
        })
    }

    fn set(&self, from: &str, to: &str, both: bool, change: &LinkChange) -> Result<(), WanError> {
        let (from, to) = (self.host(from)?, self.host(to)?);
        let directions = if both { vec![(from, to), (to, from)] } else { vec![(from, to)] };
        for (from, to) in directions {
            let link = self.router.parameters(from, to)?.unwrap_or_default();
            self.router.set_parameters(from, to, change.apply(link)?)?;
        }
        Ok(())
    }

    fn set_partitioned(&self, host: &str, other: Option<&str>, partitioned: bool) -> Result<(), WanError> {
        let host = self.host(host)?;
        let others = match other {
            Some(other) => vec![self.host(other)?],
            None => (0..self.scenario.hosts.len()).map(HostId).filter(|id| *id != host).collect(),
        };
        for (from, to) in others.into_iter().flat_map(|other| [(host, other), (other, host)]) {
            if let Some(link) = self.router.parameters(from, to)? {
                self.router.set_parameters(from, to, LinkParameters { partitioned, ..link })?;
            }
        }
        Ok(())
    }
}

/// Serves requests until it is dropped.
pub async fn serve(listener: UnixListener, controls: Controls) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match tokio::time::timeout(REQUEST_TIMEOUT, serve_one(stream, &controls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a control connection failed"),
                Err(_) => tracing::debug!("a control connection took too long"),
            },
            Err(error) => tracing::warn!(%error, "a control connection was not accepted"),
        }
    }
}

async fn serve_one(stream: UnixStream, controls: &Controls) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(MAX_REQUEST_BYTES)).lines();
    while let Some(line) = lines.next_line().await? {
        // The router answers within one round of its loop, so waiting for it here blocks nobody noticeably.
        let reply = match serde_json::from_str(&line) {
            Ok(request) => controls.answer(&request),
            Err(error) => ControlReply::Refused { problem: format!("not a request: {error}") },
        };
        writer.write_all(format!("{}\n", serde_json::to_string(&reply)?).as_bytes()).await?;
    }
    Ok(())
}

/// Asks the world whose control socket is at `socket`.
pub fn ask(socket: &Path, request: &ControlRequest) -> Result<ControlReply, WanError> {
    let failed = || WanError::io(format!("ask the world at {}", socket.display()));
    let mut stream = StdUnixStream::connect(socket).map_err(failed())?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).map_err(failed())?;
    let line = serde_json::to_string(request).map_err(|error| failed()(error.into()))?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(failed())?;
    let mut reply = String::new();
    StdBufReader::new(stream).read_line(&mut reply).map_err(failed())?;
    serde_json::from_str(&reply).map_err(|error| failed()(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let link = LinkParameters { loss: 0.1, rate_bps: Some(1_000_000), ..LinkParameters::default() };
        let changed = LinkChange { one_way_ms: Some(5.0), ..LinkChange::default() }.apply(link).expect("in range");
        assert_eq!(changed, LinkParameters { delay: Duration::from_millis(5), ..link });
        let uncapped = LinkChange { no_rate_cap: true, ..LinkChange::default() }.apply(link).expect("in range");
        assert_eq!(uncapped.rate_bps, None);
        assert!(LinkChange { one_way_ms: Some(-1.0), ..LinkChange::default() }.apply(link).is_err());
        assert!(LinkChange { loss: Some(2.0), ..LinkChange::default() }.apply(link).is_err());
    }

    #[test]
    fn requests_read_as_documented() {
        let text = r#"{"request":"set","from":"a","to":"b","both":true,"change":{"loss":0.5,"block":"udp"}}"#;
        let change = LinkChange { loss: Some(0.5), block: Some(Block::Udp), ..LinkChange::default() };
        let wanted = ControlRequest::Set { from: "a".into(), to: "b".into(), both: true, change };
        assert_eq!(serde_json::from_str::<ControlRequest>(text).expect("it parses"), wanted);
    }
}
