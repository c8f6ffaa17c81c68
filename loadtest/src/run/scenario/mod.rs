//! What load to make: target, stages, kinds of rooms, churn and thresholds, read from TOML and checked before anything is
//! asked of the target. `loadtest run --help` shows a file with every key.

mod check;
mod raw;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use isthmus_protocol::PopId;
use reqwest::Url;

use self::check::Checker;
use super::threshold::Threshold;
use crate::{
    client::{impairment::Network, media::Material},
    toml_source::{self, FileError, Source},
    wan::core::LinkParameters,
};

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

impl Scenario {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        toml_source::read(path, Self::parse)
    }

    /// Checks the text of a file; `file` names it in errors. Relative paths in it stand beside the file.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let source = Source { file, text };
        Checker { source }.check(source.values()?)
    }

    /// How long the run lasts when nothing ends it earlier.
    pub fn duration(&self) -> Duration {
        self.stages.iter().map(|stage| stage.duration).sum()
    }
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
    /// How many of those who only listen decrypt and judge what they hear, everyone without it. The others count packets by their
    /// headers.
    pub judges: Option<u32>,
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
            (rooms("judges = 3"), "s.toml:9: rooms.judges: must be from 0 to 2, not 3"),
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
