//! What load to make: target, stages, kinds of rooms, churn and thresholds, read from TOML and checked before anything is
//! asked of the target. `loadtest run --help` shows a file with every key.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use isthmus_protocol::PopId;
use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use super::threshold::Threshold;
use crate::{
    client::{impairment::Network, media::Material},
    duration::parse_duration,
    toml_source::{self, FileError, Source},
    wan::core::LinkParameters,
};

/// The most participants of one room.
const MAX_ROOM_PARTICIPANTS: u32 = 5_000;
/// The most participants or rooms that a stage may ask for.
const MAX_PARTICIPANTS: u32 = 50_000;
/// The longest a stage may last.
const MAX_STAGE: Duration = Duration::from_hours(24);
/// Receive slots that a door takes in an offer, as `loadtest join` bounds them.
const MAX_AUDIO_SLOTS: u8 = 8;
const MAX_VIDEO_SLOTS: u8 = 48;
/// A name becomes part of a room's name, which has at most 64 characters.
const MAX_NAME_BYTES: usize = 32;
/// The longest delay, jitter or queue of a network, as `loadtest wan` bounds them.
const MAX_NETWORK_MS: f64 = 10_000.0;

/// A scenario that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Of what is drawn: the order of rooms, who leaves when.
    pub seed: u64,
    /// Where to join.
    pub target: Target,
    /// What may be read of the target's processes.
    pub server: Server,
    /// One after the other; at least one.
    pub stages: Vec<Stage>,
    /// Kinds of rooms; at least one, and either all with a weight or all with a count.
    pub rooms: Vec<RoomKind>,
    /// Networks that clients may have, by name.
    pub networks: Vec<NetworkKind>,
    /// Who leaves and comes back.
    pub churn: Option<Churn>,
    /// What must hold for the run to pass.
    pub thresholds: Vec<Threshold>,
}

/// What to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is and how it is spoken to.
    pub service: Service,
    /// A PEM file with the authority to trust, alone.
    pub authority: Option<PathBuf>,
}

/// A kind of server and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// By its signalling, as the web app does.
    Isthmus {
        /// Origin of any door.
        url: Url,
        /// Participants of a room join by one of these after the other; without any each client looks for the nearest, as
        /// a browser does.
        pops: Vec<PopId>,
    },
    /// Any server that speaks WHIP and WHEP. Who publishes does not watch or listen: a session goes one way.
    Whip {
        /// Where to publish; `{room}` stands for the room.
        publish: Template,
        /// Where to play; `{room}` stands for the room.
        play: Template,
        /// Where an Isthmus door gives a guest's token; `{room}` stands for the room.
        guests: Option<Template>,
        /// The token for everyone.
        token: Option<String>,
    },
    /// Janus's videoroom by its WebSocket API. Who publishes does not watch or listen.
    Janus {
        /// Such as `ws://127.0.0.1:8188`.
        url: Url,
        /// Janus's `api_secret`.
        secret: Option<String>,
    },
}

impl Service {
    /// What was asked first, without what a path may give away.
    pub fn origin(&self) -> String {
        match self {
            Self::Isthmus { url, .. } | Self::Janus { url, .. } => url.origin().ascii_serialization(),
            Self::Whip { publish, .. } => publish.for_room("room").origin().ascii_serialization(),
        }
    }

    /// The PoPs that participants have to join by.
    pub fn pops(&self) -> &[PopId] {
        match self {
            Self::Isthmus { pops, .. } => pops,
            Self::Whip { .. } | Self::Janus { .. } => &[],
        }
    }

    /// Whether a participant either publishes or receives.
    pub fn goes_one_way(&self) -> bool {
        !matches!(self, Self::Isthmus { .. })
    }
}

/// A URL with a place for the name of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    const ROOM: &str = "{room}";

    /// The URL of a room. Rooms' names need no escaping.
    ///
    /// # Panics
    /// Never: it was read once when it was made, and a room's name adds no character that a path has not.
    pub fn for_room(&self, room: &str) -> Url {
        Url::parse(&self.0.replace(Self::ROOM, room)).expect("it was a URL with another room in it")
    }
}

/// What may be read of the target's processes. All empty: nothing of the server is measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Processes of media nodes on this machine.
    pub pids: Vec<u32>,
    /// Files with names and process ids, as `isthmus dev` writes them.
    pub pid_files: Vec<PathBuf>,
    /// Which names of those files; empty takes every media node's (those that hold `-sfu-`).
    pub processes: Vec<String>,
    /// Prometheus pages of media nodes.
    pub metrics: Vec<Url>,
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// How long it lasts.
    pub duration: Duration,
    /// What it is for.
    pub goal: Goal,
}

/// Where a stage leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Everyone stays.
    Hold,
    /// So many participants after `ramp`, evenly.
    Participants {
        /// How many.
        count: u32,
        /// From the stage's beginning; at most its duration.
        ramp: Duration,
    },
    /// So many whole rooms after `ramp`, participants evenly.
    Rooms {
        /// How many.
        count: u32,
        /// From the stage's beginning; at most its duration.
        ramp: Duration,
    },
    /// So many join each second, to the stage's end.
    JoinsPerSecond(f64),
}

/// How often a kind of room stands among the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// In proportion to the other kinds' weights.
    Weight(f64),
    /// Exactly so many.
    Count(u32),
}

/// A kind of room: who is in it and what they do.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomKind {
    /// Its name; part of the rooms' names.
    pub name: String,
    /// How often.
    pub share: Share,
    /// How many are in such a room.
    pub participants: u32,
    /// How many of them speak; those that join first.
    pub audio_publishers: u32,
    /// How many of them show a camera; those that join first.
    pub video_publishers: u32,
    /// How many of them watch; those that join last.
    pub viewers: u32,
    /// What cameras and microphones send.
    pub media: Material,
    /// Whether cameras have three layers.
    pub simulcast: bool,
    /// Receive slots for sound, of everyone.
    pub audio_slots: u8,
    /// Receive slots for pictures, of viewers.
    pub video_slots: u8,
    /// The height at which viewers show pictures, in pixels.
    pub tile_height: u16,
    /// Shares of the participants that have a network: its index, and the share. The others have that of this machine.
    pub networks: Vec<(usize, f64)>,
}

impl RoomKind {
    /// How many publish something.
    pub fn publishers(&self) -> u32 {
        self.audio_publishers.max(self.video_publishers)
    }
}

/// A network that clients may have.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkKind {
    /// Its name.
    pub name: String,
    /// From clients.
    pub up: LinkParameters,
    /// To clients.
    pub down: LinkParameters,
}

impl NetworkKind {
    /// That of the client with this number: no two lose the same packets.
    pub fn for_client(&self, seed: u64, number: usize) -> Network {
        // An odd number near 2^64 over the golden ratio spreads neighbours apart.
        let seed = seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Network { up: self.up, down: self.down, seed }
    }
}

/// Participants who leave and come back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// The share of those present that leaves in a minute.
    pub per_minute: f64,
    /// How long each stays away.
    pub away: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    #[serde(default = "default_seed")]
    seed: u64,
    target: Spanned<RawTarget>,
    #[serde(default)]
    server: RawServer,
    stage: Spanned<Vec<Spanned<RawStage>>>,
    rooms: Spanned<Vec<Spanned<RawRooms>>>,
    #[serde(default)]
    networks: BTreeMap<String, Spanned<RawNetwork>>,
    churn: Option<RawChurn>,
    #[serde(default)]
    thresholds: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    #[serde(default)]
    kind: RawKind,
    url: Option<Spanned<String>>,
    pops: Option<Spanned<Vec<PopId>>>,
    whip: Option<Spanned<String>>,
    whep: Option<Spanned<String>>,
    guests: Option<Spanned<String>>,
    token: Option<Spanned<String>>,
    secret: Option<Spanned<String>>,
    ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    #[default]
    Isthmus,
    Whip,
    Janus,
}

impl RawKind {
    /// The keys that go with it, beside `kind` and `ca`; the first must be there.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Isthmus => &["url", "pops"],
            Self::Whip => &["whip", "whep", "guests", "token"],
            Self::Janus => &["url", "secret"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Isthmus => "isthmus",
            Self::Whip => "whip",
            Self::Janus => "janus",
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    pids: Vec<u32>,
    pid_file: Option<PathBuf>,
    processes: Vec<String>,
    metrics: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStage {
    duration: Spanned<String>,
    participants: Option<Spanned<u32>>,
    rooms: Option<Spanned<u32>>,
    joins_per_second: Option<Spanned<f64>>,
    ramp: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRooms {
    name: Spanned<String>,
    weight: Option<Spanned<f64>>,
    count: Option<NonZeroU32>,
    participants: Spanned<u32>,
    audio_publishers: Option<Spanned<u32>>,
    video_publishers: Option<Spanned<u32>>,
    viewers: Option<Spanned<u32>>,
    media: Option<Material>,
    simulcast: Option<Spanned<bool>>,
    audio_slots: Option<Spanned<u8>>,
    video_slots: Option<Spanned<u8>>,
    #[serde(default = "default_tile_height")]
    tile_height: u16,
    #[serde(default)]
    networks: BTreeMap<Spanned<String>, Spanned<f64>>,
}

/// What each way has; `up` and `down` say it of one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    loss: Option<Spanned<f64>>,
    delay_ms: Option<Spanned<f64>>,
    jitter_ms: Option<Spanned<f64>>,
    rate_mbps: Option<Spanned<f64>>,
    queue_ms: Option<Spanned<f64>>,
    reorder: Option<bool>,
    up: Option<RawWay>,
    down: Option<RawWay>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWay {
    loss: Option<Spanned<f64>>,
    delay_ms: Option<Spanned<f64>>,
    jitter_ms: Option<Spanned<f64>>,
    rate_mbps: Option<Spanned<f64>>,
    queue_ms: Option<Spanned<f64>>,
    reorder: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChurn {
    per_minute: Spanned<f64>,
    away: Option<Spanned<String>>,
}

fn default_seed() -> u64 {
    1
}

fn default_tile_height() -> u16 {
    360
}

impl Scenario {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::parse(&path.display().to_string(), &toml_source::read(path)?)?)
    }

    /// Checks the text of a file; `file` names it in errors. Relative paths in it stand beside the file.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let source = Source { file, text };
        let raw: RawScenario = toml::from_str(text).map_err(|error| source.syntax_error(&error))?;
        Checker { source }.check(raw)
    }

    /// How long the run lasts when nothing ends it earlier.
    pub fn duration(&self) -> Duration {
        self.stages.iter().map(|stage| stage.duration).sum()
    }
}

struct Checker<'a> {
    source: Source<'a>,
}

type Checked<T> = Result<T, FileError>;

impl Checker<'_> {
    fn check(&self, raw: RawScenario) -> Checked<Scenario> {
        let target = self.target(&raw.target)?;
        let server = self.server(&raw.server)?;
        let thresholds = raw.thresholds.iter().map(|text| self.threshold(text)).collect::<Checked<_>>()?;
        let stages = self.filled("stage", &raw.stage)?.iter().map(|stage| self.stage(stage)).collect::<Checked<_>>()?;
        let networks =
            raw.networks.iter().map(|(name, network)| self.network(name, network)).collect::<Checked<Vec<_>>>()?;
        let rooms = self.rooms(&raw.rooms, &networks)?;
        let churn = raw.churn.map(|churn| self.churn(&churn)).transpose()?;
        let scenario = Scenario { seed: raw.seed, target, server, stages, rooms, networks, churn, thresholds };
        self.fits(&scenario, &raw.stage)?;
        self.is_watched(&scenario, &raw.rooms)?;
        Ok(scenario)
    }

    fn filled<'a, T>(&self, key: &str, list: &'a Spanned<Vec<T>>) -> Checked<&'a Vec<T>> {
        if list.get_ref().is_empty() {
            return Err(self.source.error(list.span(), key, format!("needs at least one [[{key}]]")));
        }
        Ok(list.get_ref())
    }

    fn url(&self, key: &str, text: &Spanned<String>) -> Checked<Url> {
        self.url_of(key, text, &["http", "https"], "http://127.0.0.1:7100")
    }

    fn url_of(&self, key: &str, text: &Spanned<String>, schemes: &[&str], example: &str) -> Checked<Url> {
        let url = Url::parse(text.get_ref()).ok().filter(|url| schemes.contains(&url.scheme()));
        url.ok_or_else(|| {
            self.source.error(text.span(), key, format!("must be a URL like {example}, not {:?}", text.get_ref()))
        })
    }

    fn template(&self, key: &str, text: &Spanned<String>) -> Checked<Template> {
        let whole = Spanned::new(text.span(), text.get_ref().replace(Template::ROOM, "room"));
        self.url_of(key, &whole, &["http", "https"], "http://127.0.0.1:7100/v1/rooms/{room}/whip")?;
        Ok(Template(text.get_ref().clone()))
    }

    fn target(&self, raw: &Spanned<RawTarget>) -> Checked<Target> {
        let target = raw.get_ref();
        let kind = target.kind;
        let given = [
            ("url", target.url.as_ref().map(Spanned::span)),
            ("pops", target.pops.as_ref().map(Spanned::span)),
            ("whip", target.whip.as_ref().map(Spanned::span)),
            ("whep", target.whep.as_ref().map(Spanned::span)),
            ("guests", target.guests.as_ref().map(Spanned::span)),
            ("token", target.token.as_ref().map(Spanned::span)),
            ("secret", target.secret.as_ref().map(Spanned::span)),
        ];
        for (key, span) in given {
            if let Some(span) = span.filter(|_| !kind.keys().contains(&key)) {
                let problem =
                    format!("does not go with kind = {:?}, which takes {}", kind.name(), kind.keys().join(", "));
                return Err(self.source.error(span, &format!("target.{key}"), problem));
            }
        }
        let needed = |key: &str, text: &Option<Spanned<String>>| {
            let problem = format!("is needed for kind = {:?}", kind.name());
            text.clone().ok_or_else(|| self.source.error(raw.span(), &format!("target.{key}"), problem))
        };
        let plain = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.get_ref().clone());
        let service = match kind {
            RawKind::Isthmus => Service::Isthmus {
                url: self.url("target.url", &needed("url", &target.url)?)?,
                pops: target.pops.as_ref().map(|pops| pops.get_ref().clone()).unwrap_or_default(),
            },
            RawKind::Whip => {
                if let (Some(_), Some(token)) = (&target.guests, &target.token) {
                    let problem = "takes either guests or token: who gets a guest's token uses that";
                    return Err(self.source.error(token.span(), "target.token", problem));
                }
                Service::Whip {
                    publish: self.template("target.whip", &needed("whip", &target.whip)?)?,
                    play: self.template("target.whep", &needed("whep", &target.whep)?)?,
                    guests: target.guests.as_ref().map(|url| self.template("target.guests", url)).transpose()?,
                    token: plain(&target.token),
                }
            }
            RawKind::Janus => {
                let url = needed("url", &target.url)?;
                let url = self.url_of("target.url", &url, &["ws", "wss"], "ws://127.0.0.1:8188")?;
                Service::Janus { url, secret: plain(&target.secret) }
            }
        };
        Ok(Target { service, authority: target.ca.as_deref().map(|path| self.beside(path)) })
    }

    fn beside(&self, path: &Path) -> PathBuf {
        Path::new(self.source.file).parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    fn server(&self, raw: &RawServer) -> Checked<Server> {
        Ok(Server {
            pids: raw.pids.clone(),
            pid_files: raw.pid_file.iter().map(|path| self.beside(path)).collect(),
            processes: raw.processes.clone(),
            metrics: raw.metrics.iter().map(|url| self.url("server.metrics", url)).collect::<Checked<_>>()?,
        })
    }

    fn threshold(&self, text: &Spanned<String>) -> Checked<Threshold> {
        text.get_ref().parse().map_err(|error| self.source.error(text.span(), "thresholds", error))
    }

    fn duration(&self, key: &str, text: &Spanned<String>, most: Duration) -> Checked<Duration> {
        let duration = parse_duration(text.get_ref()).map_err(|error| self.source.error(text.span(), key, error))?;
        if duration.is_zero() || duration > most {
            let problem = format!("must be above 0 and at most {most:?}, not {duration:?}");
            return Err(self.source.error(text.span(), key, problem));
        }
        Ok(duration)
    }

    fn within<T: PartialOrd + Copy + std::fmt::Display>(
        &self,
        key: &str,
        value: &Spanned<T>,
        range: RangeInclusive<T>,
    ) -> Checked<T> {
        if range.contains(value.get_ref()) {
            return Ok(*value.get_ref());
        }
        let problem = format!("must be from {} to {}, not {}", range.start(), range.end(), value.get_ref());
        Err(self.source.error(value.span(), key, problem))
    }

    fn stage(&self, stage: &Spanned<RawStage>) -> Checked<Stage> {
        let raw = stage.get_ref();
        let duration = self.duration("stage.duration", &raw.duration, MAX_STAGE)?;
        let ramp = raw.ramp.as_ref().map(|ramp| self.duration("stage.ramp", ramp, duration)).transpose()?;
        let goal = match (&raw.participants, &raw.rooms, &raw.joins_per_second) {
            (None, None, None) => Goal::Hold,
            (Some(count), None, None) => Goal::Participants {
                count: self.within("stage.participants", count, 0..=MAX_PARTICIPANTS)?,
                ramp: ramp.unwrap_or(duration),
            },
            (None, Some(count), None) => Goal::Rooms {
                count: self.within("stage.rooms", count, 0..=MAX_PARTICIPANTS)?,
                ramp: ramp.unwrap_or(duration),
            },
            (None, None, Some(rate)) => {
                Goal::JoinsPerSecond(self.within("stage.joins_per_second", rate, 0.01..=2000.0)?)
            }
            _ => {
                let problem = "takes one of participants, rooms and joins_per_second: make a stage of each";
                return Err(self.source.error(stage.span(), "stage", problem));
            }
        };
        if let (Some(ramp), Goal::Hold | Goal::JoinsPerSecond(_)) = (&raw.ramp, goal) {
            let problem = "goes with participants or rooms alone: remove it";
            return Err(self.source.error(ramp.span(), "stage.ramp", problem));
        }
        Ok(Stage { duration, goal })
    }

    fn network(&self, name: &str, raw: &Spanned<RawNetwork>) -> Checked<NetworkKind> {
        let network = raw.get_ref();
        let way = |own: &Option<RawWay>| {
            let own = own.clone().unwrap_or_default();
            self.way(&RawWay {
                loss: own.loss.or_else(|| network.loss.clone()),
                delay_ms: own.delay_ms.or_else(|| network.delay_ms.clone()),
                jitter_ms: own.jitter_ms.or_else(|| network.jitter_ms.clone()),
                rate_mbps: own.rate_mbps.or_else(|| network.rate_mbps.clone()),
                queue_ms: own.queue_ms.or_else(|| network.queue_ms.clone()),
                reorder: own.reorder.or(network.reorder),
            })
        };
        Ok(NetworkKind { name: name.to_owned(), up: way(&network.up)?, down: way(&network.down)? })
    }

    fn way(&self, raw: &RawWay) -> Checked<LinkParameters> {
        let time = |key, value: &Option<Spanned<f64>>| -> Checked<Option<Duration>> {
            let ms = value.as_ref().map(|value| self.within(key, value, 0.0..=MAX_NETWORK_MS)).transpose()?;
            Ok(ms.map(|ms| Duration::from_secs_f64(ms / 1e3)))
        };
        let plain = LinkParameters::default();
        let loss = raw.loss.as_ref().map(|loss| self.within("networks.loss", loss, 0.0..=1.0)).transpose()?;
        let rate = raw.rate_mbps.as_ref().map(|rate| self.within("networks.rate_mbps", rate, 0.01..=10_000.0));
        Ok(LinkParameters {
            loss: loss.unwrap_or(plain.loss),
            delay: time("networks.delay_ms", &raw.delay_ms)?.unwrap_or(plain.delay),
            jitter: time("networks.jitter_ms", &raw.jitter_ms)?.unwrap_or(plain.jitter),
            rate_bps: rate.transpose()?.map(|mbps| (mbps * 1e6) as u64),
            queue: time("networks.queue_ms", &raw.queue_ms)?.unwrap_or(plain.queue),
            reorder: raw.reorder.unwrap_or(plain.reorder),
            ..plain
        })
    }

    /// The shares of a kind of room, by the networks' indices.
    fn shares(&self, raw: &RawRooms, networks: &[NetworkKind]) -> Checked<Vec<(usize, f64)>> {
        let mut shares = Vec::new();
        for (name, share) in &raw.networks {
            let Some(index) = networks.iter().position(|network| network.name == *name.get_ref()) else {
                let known: Vec<_> = networks.iter().map(|network| network.name.as_str()).collect();
                let problem = format!("there is no [networks.{}]; there are {:?}", name.get_ref(), known.join(", "));
                return Err(self.source.error(name.span(), "rooms.networks", problem));
            };
            shares.push((index, self.within("rooms.networks", share, 0.0..=1.0)?));
            if shares.iter().map(|(_, share)| share).sum::<f64>() > 1.0 + 1e-9 {
                let problem = "the shares of a kind of room are more than 1 together";
                return Err(self.source.error(share.span(), "rooms.networks", problem));
            }
        }
        Ok(shares)
    }

    fn rooms(&self, list: &Spanned<Vec<Spanned<RawRooms>>>, networks: &[NetworkKind]) -> Checked<Vec<RoomKind>> {
        let mut kinds: Vec<RoomKind> = Vec::new();
        for raw in self.filled("rooms", list)? {
            let kind = self.room_kind(raw, networks)?;
            if kinds.iter().any(|other| other.name == kind.name) {
                let problem = format!("there is another kind of that name: {:?}", kind.name);
                return Err(self.source.error(raw.get_ref().name.span(), "rooms.name", problem));
            }
            let same = |other: &RoomKind| std::mem::discriminant(&other.share) == std::mem::discriminant(&kind.share);
            if !kinds.iter().all(same) {
                let problem = "give every kind of room a weight, or every kind a count";
                return Err(self.source.error(raw.span(), "rooms", problem));
            }
            kinds.push(kind);
        }
        Ok(kinds)
    }

    fn room_kind(&self, rooms: &Spanned<RawRooms>, networks: &[NetworkKind]) -> Checked<RoomKind> {
        let raw = rooms.get_ref();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let name = raw.name.get_ref();
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(allowed) {
            let problem = "a name is 1 to 32 characters of a-z, 0-9 and '-'";
            return Err(self.source.error(raw.name.span(), "rooms.name", problem));
        }
        let share = match (&raw.weight, raw.count) {
            (Some(weight), None) => Share::Weight(self.within("rooms.weight", weight, 0.001..=1000.0)?),
            (None, Some(count)) => Share::Count(count.get()),
            (None, None) => Share::Weight(1.0),
            (Some(weight), Some(_)) => {
                return Err(self.source.error(weight.span(), "rooms.weight", "takes either weight or count"));
            }
        };
        let participants = self.within("rooms.participants", &raw.participants, 1..=MAX_ROOM_PARTICIPANTS)?;
        let some_of = |key, value: &Option<Spanned<u32>>, otherwise| {
            value.as_ref().map_or(Ok(otherwise), |value| self.within(key, value, 0..=participants))
        };
        let audio_publishers = some_of("rooms.audio_publishers", &raw.audio_publishers, participants)?;
        let video_publishers = some_of("rooms.video_publishers", &raw.video_publishers, 0)?;
        let viewers = some_of("rooms.viewers", &raw.viewers, participants)?;
        let media = raw.media.unwrap_or_default();
        let simulcast = match &raw.simulcast {
            Some(simulcast) if *simulcast.get_ref() && media != Material::Clip => {
                let problem = "goes with media = \"clip\" alone: the others have one layer";
                return Err(self.source.error(simulcast.span(), "rooms.simulcast", problem));
            }
            simulcast => simulcast.as_ref().is_some_and(|simulcast| *simulcast.get_ref()),
        };
        // Nobody watches their own camera, but the last publisher's viewers watch them all.
        let cameras = video_publishers.min(9) as u8;
        let slots = |key, value: &Option<Spanned<u8>>, otherwise, most| {
            value.as_ref().map_or(Ok(otherwise), |value| self.within(key, value, 0..=most))
        };
        Ok(RoomKind {
            name: name.clone(),
            share,
            participants,
            audio_publishers,
            video_publishers,
            viewers,
            media,
            simulcast,
            audio_slots: slots("rooms.audio_slots", &raw.audio_slots, 3, MAX_AUDIO_SLOTS)?,
            video_slots: slots("rooms.video_slots", &raw.video_slots, cameras, MAX_VIDEO_SLOTS)?,
            tile_height: raw.tile_height,
            networks: self.shares(raw, networks)?,
        })
    }

    fn churn(&self, raw: &RawChurn) -> Checked<Churn> {
        let away = raw.away.as_ref().map(|away| self.duration("churn.away", away, Duration::from_hours(1)));
        Ok(Churn {
            per_minute: self.within("churn.per_minute", &raw.per_minute, 0.0..=20.0)?,
            away: away.unwrap_or(Ok(Duration::from_secs(2)))?,
        })
    }

    /// Janus has nothing to offer where nobody publishes.
    fn is_watched(&self, scenario: &Scenario, rooms: &Spanned<Vec<Spanned<RawRooms>>>) -> Checked<()> {
        if !matches!(scenario.target.service, Service::Janus { .. }) {
            return Ok(());
        }
        let silent = |kind: &RoomKind| kind.publishers() == 0;
        match scenario.rooms.iter().zip(rooms.get_ref()).find(|(kind, _)| silent(kind)) {
            Some((_, raw)) => {
                let problem = "somebody must publish: a videoroom offers nothing else to the others";
                Err(self.source.error(raw.span(), "rooms", problem))
            }
            None => Ok(()),
        }
    }

    /// Where kinds have counts, no stage may ask for more than there is.
    fn fits(&self, scenario: &Scenario, stages: &Spanned<Vec<Spanned<RawStage>>>) -> Checked<()> {
        let counted = |kind: &RoomKind| match kind.share {
            Share::Count(count) => Some((u64::from(count), u64::from(count) * u64::from(kind.participants))),
            Share::Weight(_) => None,
        };
        let Some(counts) = scenario.rooms.iter().map(counted).collect::<Option<Vec<_>>>() else { return Ok(()) };
        let (rooms, seats) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        for (stage, raw) in scenario.stages.iter().zip(stages.get_ref()) {
            let (wanted, most, key) = match stage.goal {
                Goal::Participants { count, .. } => (count, seats, "participants"),
                Goal::Rooms { count, .. } => (count, rooms, "rooms"),
                Goal::Hold | Goal::JoinsPerSecond(_) => continue,
            };
            if u64::from(wanted) > most {
                let problem =
                    format!("asks for {wanted} and the counts of [[rooms]] make {most}: raise them or use weight");
                return Err(self.source.error(raw.span(), &format!("stage.{key}"), problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[target]\nurl = \"http://127.0.0.1:7100\"\n[[stage]]\nduration = \"10s\"\nparticipants = 4\n\
                        [[rooms]]\nname = \"pair\"\nparticipants = 2\n";

    fn error_of(text: &str) -> String {
        Scenario::parse("s.toml", text).expect_err("the scenario is bad").to_string()
    }

    #[test]
    fn defaults_are_what_a_call_of_voices_needs() {
        let scenario = Scenario::parse("s.toml", GOOD).expect("good");
        let pair = &scenario.rooms[0];
        assert_eq!((pair.audio_publishers, pair.video_publishers, pair.audio_slots, pair.video_slots), (2, 0, 3, 0));
        let ramp = Duration::from_secs(10);
        assert_eq!(scenario.stages, [Stage { duration: ramp, goal: Goal::Participants { count: 4, ramp } }]);
        assert_eq!((scenario.seed, scenario.duration()), (1, ramp));
        assert_eq!(scenario.server, Server::default());
        assert_eq!((pair.media, scenario.target.service.origin().as_str()), (Material::Clip, "http://127.0.0.1:7100"));
    }

    #[test]
    fn other_kinds_of_servers_have_keys_of_their_own() {
        let target = |keys: &str| GOOD.replace("url = \"http://127.0.0.1:7100\"", keys);
        let service = |keys: &str| Scenario::parse("s.toml", &target(keys)).map(|scenario| scenario.target.service);
        let janus = service("kind = \"janus\"\nurl = \"ws://127.0.0.1:8188\"").expect("good");
        assert_eq!((janus.origin().as_str(), janus.goes_one_way()), ("ws://127.0.0.1:8188", true));
        let whip = "kind = \"whip\"\nwhip = \"http://h/{room}/whip\"\nwhep = \"http://h/{room}/whep\"";
        let Service::Whip { play, .. } = service(whip).expect("good") else { panic!("it is WHIP") };
        assert_eq!(play.for_room("lt-1").as_str(), "http://h/lt-1/whep");
        for (keys, wanted) in [
            ("kind = \"jitsi\"", "s.toml:2: kind: unknown variant `jitsi`, expected one of"),
            ("kind = \"janus\"", "s.toml:1: target.url: is needed for kind = \"janus\""),
            ("kind = \"janus\"\nurl = \"http://h\"", "s.toml:3: target.url: must be a URL like ws://"),
            ("kind = \"janus\"\nurl = \"ws://h\"\npops = []", "s.toml:4: target.pops: does not go with kind"),
            ("kind = \"whip\"\nwhip = \"http://h\"", "s.toml:1: target.whep: is needed for kind = \"whip\""),
            (&format!("{whip}\nguests = \"http://h\"\ntoken = \"t\""), "s.toml:6: target.token: takes either"),
        ] {
            let error = error_of(&target(keys));
            assert!(error.starts_with(wanted), "{error:?} does not begin with {wanted:?}");
        }
    }

    #[test]
    fn paths_stand_beside_the_file() {
        let text = format!("{GOOD}[server]\npid_file = \"pids.json\"\n");
        let scenario = Scenario::parse("some/where/s.toml", &text).expect("good");
        assert_eq!(scenario.server.pid_files, [Path::new("some/where/pids.json")]);
    }

    #[test]
    fn a_network_is_the_same_both_ways_but_for_what_one_way_says() {
        let text = format!(
            "{GOOD}networks = {{ dsl = 0.5 }}\n[networks.dsl]\nloss = 0.02\ndelay_ms = 30\n[networks.dsl.down]\nloss = 0.1\n\
             rate_mbps = 2.5\n"
        );
        let scenario = Scenario::parse("s.toml", &text).expect("good");
        let NetworkKind { up, down, .. } = &scenario.networks[0];
        assert_eq!((up.loss, up.rate_bps, down.loss, down.rate_bps), (0.02, None, 0.1, Some(2_500_000)));
        assert_eq!((up.delay, down.delay), (Duration::from_millis(30), Duration::from_millis(30)));
        assert_eq!(scenario.rooms[0].networks, [(0, 0.5)]);
        let network = |number| scenario.networks[0].for_client(1, number).seed;
        assert_ne!(network(0), network(1));
    }

    #[test]
    fn errors_say_line_key_and_what_would_be_right() {
        let stage = |rest: &str| GOOD.replace("participants = 4", rest);
        let rooms = |rest: &str| format!("{GOOD}{rest}\n");
        let cases = [
            (GOOD.replace("http:", "ftp:"), "s.toml:2: target.url: must be a URL like http://"),
            (GOOD.replace("\"10s\"", "\"10\""), "s.toml:4: stage.duration: \"\" is not one of ms, s, m, h"),
            (stage("participants = 4\nrooms = 2"), "s.toml:3: stage: takes one of participants, rooms and joins"),
            (stage("participants = 4\nramp = \"11s\""), "s.toml:6: stage.ramp: must be above 0 and at most 10s"),
            (stage("ramp = \"5s\""), "s.toml:5: stage.ramp: goes with participants or rooms"),
            (stage("joins_per_second = 0"), "s.toml:5: stage.joins_per_second: must be from 0.01 to 2000"),
            (stage("participant = 4"), "s.toml:5: participant: unknown field `participant`, expected one of"),
            (rooms("audio_publishers = 3"), "s.toml:9: rooms.audio_publishers: must be from 0 to 2, not 3"),
            (rooms("count = 1"), "s.toml:3: stage.participants: asks for 4 and the counts of [[rooms]] make 2"),
            (rooms("count = 0"), "s.toml:9: count: invalid value"),
            (rooms("media = \"noise\""), "s.toml:9: media: unknown variant `noise`"),
            (rooms("media = \"even\"\nsimulcast = true"), "s.toml:10: rooms.simulcast: goes with media = \"clip\""),
            (rooms("weight = 1\ncount = 1"), "s.toml:9: rooms.weight: takes either weight or count"),
            (rooms("[[rooms]]\nname = \"pair\"\nparticipants = 2"), "s.toml:10: rooms.name: there is another kind"),
            (rooms("[[rooms]]\nname = \"b\"\nparticipants = 2\ncount = 2"), "s.toml:9: rooms: give every kind of room"),
            (rooms("[[rooms]]\nname = \"B\"\nparticipants = 2"), "s.toml:10: rooms.name: a name is 1 to 32"),
            (rooms("[churn]\nper_minute = -1"), "s.toml:10: churn.per_minute: must be from 0 to 20, not -1"),
            (format!("thresholds = [\n\"joins.faild == 0\"\n]\n{GOOD}"), "s.toml:2: thresholds: column 1: no figure"),
            (GOOD.replace("[[rooms]]", "[[room]]"), "s.toml:6: [[room]]: unknown field `room`"),
            ("[target\n".into(), "s.toml:1: "),
            (rooms("networks = { dsl = 0.5 }"), "s.toml:9: rooms.networks: there is no [networks.dsl]; there are \"\""),
            (rooms("networks = { dsl = 2 }\n[networks.dsl]"), "s.toml:9: rooms.networks: must be from 0 to 1, not 2"),
            (
                rooms("networks = { a = 0.6, b = 0.6 }\n[networks.a]\n[networks.b]"),
                "s.toml:9: rooms.networks: the shares of a kind of room are more than 1",
            ),
            (rooms("[networks.a]\nloss = 1.5"), "s.toml:10: networks.loss: must be from 0 to 1, not 1.5"),
            (rooms("[networks.a.up]\ndelay_ms = -1"), "s.toml:10: networks.delay_ms: must be from 0 to 10000, not -1"),
            (rooms("[networks.a]\nrate_mbps = 0"), "s.toml:10: networks.rate_mbps: must be from 0.01 to"),
            (rooms("[networks.a]\nspeed = 1"), "s.toml:10: speed: unknown field `speed`, expected one of"),
        ];
        for (text, wanted) in cases {
            let error = error_of(&text);
            assert!(error.starts_with(wanted), "{error:?} does not begin with {wanted:?}");
        }
    }
}
