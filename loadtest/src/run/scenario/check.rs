//! From what a file holds to a scenario, or an error with line and key.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;
use toml::Spanned;

use super::{
    Churn, Goal, NetworkKind, RoomKind, Scenario, Server, Service, Share, Stage, Target, Template,
    raw::{RawChurn, RawKind, RawNetwork, RawRooms, RawScenario, RawServer, RawStage, RawTarget, RawWay},
};
use crate::{
    client::media::Material,
    duration::parse_duration,
    run::threshold::Threshold,
    toml_source::{FileError, Source},
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

pub(super) struct Checker<'a> {
    pub(super) source: Source<'a>,
}

type Checked<T> = Result<T, FileError>;

impl Checker<'_> {
    pub(super) fn check(&self, raw: RawScenario) -> Checked<Scenario> {
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
            judges: raw
                .judges
                .as_ref()
                .map(|judges| self.within("rooms.judges", judges, 0..=participants))
                .transpose()?,
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
