//! What is measured: each load as a scenario for a server, and as a floor. No clock, no sockets.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    client::media::Material,
    floor::plan::Streams,
    run::scenario::{Goal, NetworkKind, RoomKind, Scenario, Server, Share, Stage, Target},
    wan::core::LinkParameters,
};

/// So many join each second before anything is measured.
const JOINS_PER_SECOND: u32 = 25;
/// Of a crowd, all of whom are told of each: with more the machine is full of that.
const CROWD_JOINS_PER_SECOND: u32 = 10;
/// How many speak in a hall, of whom three are forwarded to everyone.
const SPEAKERS: u32 = 10;
/// Voices that everyone hears in a hall.
const HEARD: u32 = 3;
/// Of those who only listen one in so many judges what comes: two cores do not carry a server and a thousand who do.
const LISTENERS_OF_A_JUDGE: u32 = 50;
/// People in each room where nobody says anything.
const IDLE_ROOM: u32 = 10;

/// Who watches the camera in each of many rooms.
const WATCHERS: u32 = 20;

/// Calls of two at once behind networks that lose, ...
const LOSSY_CALLS: u32 = 4;
const CALL: u32 = 2;
/// ... and how long a packet takes from a caller to the media node, or back.
const LOSSY_DELAY: Duration = Duration::from_millis(50);

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "load")]
pub(super) enum Load {
    /// One shows a camera and speaks, so many watch and listen.
    Camera {
        /// Who watches.
        receivers: u32,
    },
    /// So many rooms, in each of which one shows a camera and speaks and 20 watch and listen.
    Rooms {
        /// How many.
        rooms: u32,
    },
    /// 10 speak, so many listen to the loudest three.
    Hall {
        /// Who listens.
        listeners: u32,
    },
    /// So many are in one room; 10 speak, the loudest three are heard.
    Crowd {
        /// Who is there, speakers included.
        participants: u32,
    },
    /// So many have joined, in rooms of 10, and nobody says anything.
    Idle {
        /// Who has joined.
        participants: u32,
    },
    /// So many join each second for so long, in rooms of 10.
    Joins {
        /// Joins each second.
        per_second: u32,
        /// How long.
        seconds: u32,
    },
    /// Calls of two, everyone by a network that loses so many of 100 packets each way, at a round trip of 100 ms.
    Lossy {
        /// Packets of 100.
        percent: u32,
    },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Camera { receivers } => write!(f, "1 camera to {receivers}"),
            Self::Rooms { rooms } => write!(f, "{rooms} rooms, 1 camera to {WATCHERS}"),
            Self::Hall { listeners } => write!(f, "{SPEAKERS} voices to {listeners}"),
            Self::Crowd { participants } => write!(f, "{HEARD} voices of {SPEAKERS} to a crowd of {participants}"),
            Self::Idle { participants } => write!(f, "{participants} idle"),
            Self::Joins { per_second, seconds } => write!(f, "{per_second} joins/s, {seconds} s"),
            Self::Lossy { percent } => write!(f, "calls, {percent} % lost each way"),
        }
    }
}

impl Load {
    /// What the floor sends for it, to how many; none for a load without media.
    pub(super) fn floor(self) -> Option<(Streams, usize)> {
        match self {
            Self::Camera { receivers } => Some((Streams::Camera, receivers as usize)),
            Self::Hall { listeners } => Some((Streams::Voices(HEARD), listeners as usize)),
            Self::Rooms { .. } | Self::Crowd { .. } | Self::Idle { .. } | Self::Joins { .. } | Self::Lossy { .. } => {
                None
            }
        }
    }

    /// How many shards Isthmus is to have; 0 is one for each core.
    pub(super) fn shards(self) -> u8 {
        u8::from(!matches!(self, Self::Crowd { .. }))
    }

    fn joins_per_second(self) -> u32 {
        if matches!(self, Self::Crowd { .. }) { CROWD_JOINS_PER_SECOND } else { JOINS_PER_SECOND }
    }

    /// Whether a server that knows neither loudest speakers nor rooms without media can be measured by it.
    pub(super) fn suits_janus(self) -> bool {
        matches!(self, Self::Camera { .. } | Self::Hall { .. })
    }

    /// The load on a server, held for so long after everyone is there; receivers lose this share of what is sent to them.
    pub(super) fn scenario(
        self,
        media: Material,
        loss: f64,
        target: Target,
        server: Server,
        hold: Duration,
    ) -> Scenario {
        let participants = match self {
            Self::Camera { receivers } => receivers + 1,
            Self::Rooms { rooms } => rooms * (WATCHERS + 1),
            Self::Hall { listeners } => listeners + SPEAKERS,
            Self::Crowd { participants } | Self::Idle { participants } => participants,
            Self::Joins { per_second, seconds } => per_second * seconds,
            Self::Lossy { .. } => LOSSY_CALLS * CALL,
        };
        let stages = if let Self::Joins { per_second, seconds } = self {
            let duration = Duration::from_secs(seconds.into());
            vec![Stage { duration, goal: Goal::JoinsPerSecond(per_second.into()) }]
        } else {
            let ramp = Duration::from_secs(participants.div_ceil(self.joins_per_second()).max(1).into());
            let join = Stage { duration: ramp, goal: Goal::Participants { count: participants, ramp } };
            vec![join, Stage { duration: hold, goal: Goal::Hold }]
        };
        let plain = LinkParameters::default();
        let (up, down) = match self {
            Self::Lossy { percent } => {
                let way = LinkParameters { loss: f64::from(percent) / 100.0, delay: LOSSY_DELAY, ..plain };
                (way, way)
            }
            _ => (plain, LinkParameters { loss, ..plain }),
        };
        let network = NetworkKind { name: "lossy".into(), up, down };
        let networks = if down == plain { Vec::new() } else { vec![network] };
        let shares = networks.iter().enumerate().map(|(index, _)| (index, 1.0)).collect();
        let rooms = vec![RoomKind { networks: shares, ..self.room(media, participants) }];
        Scenario { seed: 1, target, server, stages, rooms, networks, churn: None, thresholds: Vec::new() }
    }

    fn room(self, media: Material, participants: u32) -> RoomKind {
        let whole = RoomKind {
            name: "bench".into(),
            share: Share::Count(1),
            participants,
            audio_publishers: 0,
            video_publishers: 0,
            viewers: 0,
            media,
            simulcast: false,
            judges: Some(participants / LISTENERS_OF_A_JUDGE),
            audio_slots: 1,
            video_slots: 1,
            tile_height: 720,
            networks: Vec::new(),
        };
        match self {
            Self::Camera { receivers } => {
                RoomKind { audio_publishers: 1, video_publishers: 1, viewers: receivers, ..whole }
            }
            Self::Rooms { rooms } => RoomKind {
                share: Share::Count(rooms),
                participants: WATCHERS + 1,
                ..Self::Camera { receivers: WATCHERS }.room(media, participants)
            },
            Self::Crowd { .. } | Self::Hall { .. } => {
                RoomKind { audio_publishers: SPEAKERS, audio_slots: HEARD as u8, video_slots: 0, ..whole }
            }
            Self::Lossy { .. } => RoomKind {
                share: Share::Count(LOSSY_CALLS),
                participants: CALL,
                audio_publishers: CALL,
                video_publishers: CALL,
                viewers: CALL,
                simulcast: true,
                ..whole
            },
            // What a page has that shows a grid of four.
            Self::Idle { .. } | Self::Joins { .. } => RoomKind {
                share: Share::Count(participants.div_ceil(IDLE_ROOM)),
                participants: IDLE_ROOM,
                viewers: IDLE_ROOM,
                audio_slots: 3,
                video_slots: 4,
                ..whole
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{plan::Plan, scenario::Service};

    fn plan(load: Load) -> (Scenario, Plan) {
        let service = Service::Janus { url: "ws://127.0.0.1:1".parse().expect("a URL"), secret: None };
        let target = Target { service, authority: None };
        let scenario = load.scenario(Material::Even, 0.02, target, Server::default(), Duration::from_secs(20));
        let plan = Plan::new(&scenario);
        (scenario, plan)
    }

    #[test]
    fn one_shows_a_camera_and_the_others_watch() {
        let (scenario, plan) = plan(Load::Camera { receivers: 60 });
        assert_eq!((plan.joins(), plan.duration), (61, Duration::from_secs(23)));
        let parts: Vec<_> = plan.seats.iter().map(|seat| seat.part(&scenario.rooms[0])).collect();
        assert!(parts[0].audio && parts[0].video && !parts[0].views);
        assert!(plan.seats.iter().all(|seat| seat.network == Some(0)), "all lose 2 %");
        assert!(parts[1..].iter().all(|part| part.views && !part.audio && !part.video));
    }

    #[test]
    fn loads_have_as_many_as_they_say() {
        for (load, joins) in [
            (Load::Rooms { rooms: 16 }, 336),
            (Load::Hall { listeners: 500 }, 510),
            (Load::Crowd { participants: 1000 }, 1000),
            (Load::Idle { participants: 1000 }, 1000),
            (Load::Joins { per_second: 50, seconds: 60 }, 3000),
        ] {
            assert_eq!(plan(load).1.joins(), joins, "{load}");
        }
        let (scenario, plan) = plan(Load::Hall { listeners: 500 });
        let speak = |scenario: &Scenario, plan: &Plan| {
            plan.seats.iter().filter(|seat| seat.part(&scenario.rooms[0]).audio).count()
        };
        assert_eq!((speak(&scenario, &plan), scenario.rooms[0].audio_slots), (10, 3));
        let (scenario, plan) = self::plan(Load::Rooms { rooms: 16 });
        assert_eq!(speak(&scenario, &plan), 16, "one in each room");
    }
}
