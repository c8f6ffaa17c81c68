//! What a room costs as it grows: `cargo bench -p isthmus-sfu --bench room`. Prints a table, and fails if anything costs more
//! than in proportion to the participants.

#![expect(clippy::disallowed_methods, reason = "it measures time, and needs an origin of the room's virtual clock")]

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    media::{AudioLevel, Codec, MediaPacket},
    peer::PeerMessage,
    signal::{Kind, LeaveReason, MAX_SPEAKERS, Participant, Source},
    token::Grants,
};
use isthmus_sfu::core::room::{ClientKey, Effect, Here, Joining, OfferedTrack, Peer, Room, SlotOffer, StreamIds, TICK};
use str0m::media::Mid;

/// Of the room.
const NAME: &str = "demo";
const VOICE: Mid = Mid::from_array(*b"0               ");
const PICTURE: Mid = Mid::from_array(*b"1               ");
/// What the cost for each participant may be in the largest room over that in one of a hundred. What grows with the square of
/// the participants is at ten; that a room of a thousand does not fit a core's own cache makes up to three and a half.
const MOST_GROWTH: f64 = 4.0;
const SIZES: [usize; 4] = [10, 100, 300, 1_000];
/// Each figure is the median of so many.
const RUNS: usize = 15;

/// A room of people who each offer a voice, a camera perhaps, and slots.
struct Crowd {
    room: Room,
    streams: StreamIds,
    now: Instant,
    sequence: u16,
}

impl Crowd {
    fn of(people: usize, cameras: bool) -> Self {
        let here = Here { pop: "panama".parse().expect("valid"), node: "panama-sfu-1".parse().expect("valid") };
        let room = Room::new(NAME.parse().expect("valid"), here, None);
        let mut crowd = Self { room, streams: StreamIds::new(0), now: Instant::now(), sequence: 0 };
        for client in 0..people {
            crowd.join(client, cameras);
        }
        crowd.settle(TICK);
        crowd
    }

    fn join(&mut self, client: usize, cameras: bool) {
        let key = ClientKey(client);
        let joining = Joining {
            participant: format!("a-participant-{client:05}").parse().expect("valid"),
            identity: format!("someone-{client}"),
            name: format!("someone-{client}"),
            grants: Grants { publish: true, subscribe: true },
            replaces: None,
        };
        self.room.join(key, joining);
        let track = |mid, source| OfferedTrack { mid, source, muted: false, rids: Vec::new() };
        let mut tracks = vec![track(VOICE, Source::Microphone)];
        tracks.extend(cameras.then(|| track(PICTURE, Source::Camera)));
        self.room.set_tracks(key, &tracks);
        let slot = |index: usize, kind: Kind, codec| SlotOffer {
            mid: Mid::from(format!("{kind:?}{index}").as_str()),
            kind,
            codecs: vec![codec],
            first_sequence: 1,
        };
        let mut slots: Vec<SlotOffer> = (0..MAX_SPEAKERS).map(|i| slot(i, Kind::Audio, Codec::Opus)).collect();
        slots.extend((0..4).filter(|_| cameras).map(|i| slot(i, Kind::Video, Codec::Vp8)));
        self.room.set_slots(key, &slots);
        self.room.connected(key, self.now);
    }

    /// A tick after this time; what it leaves to be done.
    fn settle(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        self.room.tick(self.now, &mut self.streams);
        self.room.take_effects()
    }

    /// How many get a packet of `client`.
    fn send(&mut self, client: usize, mid: Mid, packet: &MediaPacket) -> usize {
        self.sequence = self.sequence.wrapping_add(1);
        let packet = Arc::new(MediaPacket { sequence: self.sequence, ..packet.clone() });
        let mut delivered = 0;
        let from = (ClientKey(client), mid, None);
        let sent = self.room.packets_from_client(from, [&packet], self.now, |_| delivered += 1);
        sent.map_or(0, |_| delivered)
    }

    /// These speak for half a second, the first one loudest, and everyone else is silent.
    fn speak(&mut self, speakers: &[usize]) {
        for _ in 0..25 {
            self.now += Duration::from_millis(20);
            for (below, client) in (20u8..).zip(speakers) {
                let level = Some(AudioLevel { below_full_scale: below, voice: true });
                self.send(*client, VOICE, &MediaPacket { level, ..voice() });
            }
        }
    }
}

/// The median time of what `work` does and says how often it did it, in nanoseconds for one.
fn median_ns(mut work: impl FnMut() -> (Duration, usize)) -> f64 {
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let (took, times) = work();
            took.as_secs_f64() * 1e9 / times.max(1) as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed(), done)
}

fn voice_per_listener(people: usize) -> f64 {
    let mut crowd = Crowd::of(people, false);
    crowd.speak(&[0, 1, 2]);
    crowd.settle(TICK);
    median_ns(|| {
        let (took, delivered) = timed(|| (0..100).map(|_| crowd.send(0, VOICE, &voice())).sum());
        (took, delivered)
    })
}

fn voice_that_nobody_hears(people: usize) -> f64 {
    let mut crowd = Crowd::of(people, false);
    crowd.speak(&[0, 1, 2]);
    crowd.settle(TICK);
    let quiet = MediaPacket { level: Some(AudioLevel { below_full_scale: 100, voice: false }), ..voice() };
    median_ns(|| {
        let (took, delivered) =
            timed(|| (0..people).map(|client| crowd.send(3 + client % (people - 3), VOICE, &quiet)).sum::<usize>());
        assert_eq!(delivered, 0);
        (took, people)
    })
}

fn picture_per_viewer(people: usize) -> f64 {
    let mut crowd = Crowd::of(people, true);
    crowd.send(0, PICTURE, &picture(1, true));
    crowd.settle(TICK);
    crowd.send(0, PICTURE, &picture(1, true));
    let packet = picture(2, false);
    median_ns(|| timed(|| (0..100).map(|_| crowd.send(0, PICTURE, &packet)).sum()))
}

/// For each participant.
fn tick(people: usize, cameras: bool) -> f64 {
    let mut crowd = Crowd::of(people, cameras);
    crowd.speak(&[0, 1, 2]);
    crowd.settle(TICK);
    median_ns(|| {
        let (took, _) = timed(|| (0..10).map(|_| crowd.settle(TICK).len()).sum::<usize>());
        (took, 10 * people)
    })
}

/// A newcomer with everything that follows, for each participant who is told.
fn join(people: usize, cameras: bool) -> f64 {
    let mut crowd = Crowd::of(people, cameras);
    let mut next = people;
    median_ns(|| {
        let (took, _) = timed(|| {
            crowd.join(next, cameras);
            crowd.settle(Duration::ZERO)
        });
        crowd.room.leave(ClientKey(next), LeaveReason::Left);
        crowd.settle(TICK);
        next += 1;
        (took, people)
    })
}

fn leave(people: usize) -> f64 {
    let mut crowd = Crowd::of(people, false);
    crowd.speak(&[0, 1, 2]);
    crowd.settle(TICK);
    let mut next = 0;
    median_ns(|| {
        let (took, _) = timed(|| {
            crowd.room.leave(ClientKey(next), LeaveReason::Left);
            crowd.settle(Duration::ZERO)
        });
        crowd.join(next, false);
        crowd.speak(&[next, (next + 1) % people, (next + 2) % people]);
        next = (next + 1) % people;
        crowd.settle(TICK);
        (took, people)
    })
}

/// Three others become the loudest, for each participant.
fn speaker_change(people: usize) -> f64 {
    let mut crowd = Crowd::of(people, false);
    let mut first = 0;
    median_ns(|| {
        first = (first + 3) % (people - 3);
        crowd.speak(&[first, first + 1, first + 2]);
        // Whoever spoke before is silent by now.
        crowd.now += Duration::from_secs(1);
        crowd.speak(&[first, first + 1, first + 2]);
        let (took, effects) = timed(|| crowd.settle(TICK));
        assert!(effects.len() >= people, "everyone is told");
        (took, people)
    })
}

/// A node with as many people again is lost, for each pair of one who is told and one who is gone: both are told by name.
fn lost_node(people: usize) -> f64 {
    let peer = Peer::Node("zurich-sfu-1".parse().expect("valid"));
    median_ns(|| {
        let mut crowd = Crowd::of(people, false);
        for other in 0..people {
            let participant = Participant {
                id: format!("elsewhere-{other:05}").parse().expect("valid"),
                identity: format!("someone-else-{other}"),
                name: "Someone".into(),
                pop: "zurich".parse().expect("valid"),
                tracks: Vec::new(),
            };
            let message = PeerMessage::Participant { room: NAME.parse().expect("valid"), participant, replaces: None };
            crowd.room.peer_message(&peer, message, crowd.now);
            crowd.settle(TICK);
        }
        let (took, _) = timed(|| {
            crowd.room.peer_closed(&peer, LeaveReason::NodeLost);
            crowd.settle(Duration::ZERO)
        });
        (took, people * people)
    })
}

/// A packet of a voice that is loud.
fn voice() -> MediaPacket {
    let level = Some(AudioLevel { below_full_scale: 20, voice: true });
    MediaPacket { level, ..packet(Codec::Opus, vec![0; 80]) }
}

/// A packet of a VP8 picture of 360 lines (RFC 7741 section 4.2).
fn picture(number: u8, key: bool) -> MediaPacket {
    let mut payload = vec![0x90, 0x80, 0x81, number, u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 104, 1];
    payload.resize(1_080, 0);
    packet(Codec::Vp8, payload)
}

fn packet(codec: Codec, payload: Vec<u8>) -> MediaPacket {
    MediaPacket {
        sequence: 0,
        timestamp: 0,
        marker: true,
        codec,
        level: None,
        orientation: None,
        captured_us: None,
        descriptor: None,
        payload: Arc::from(payload),
    }
}

fn main() -> ExitCode {
    println!(
        "nanoseconds; the last column is the cost in a room of 1000 over that in one of 100, at most {MOST_GROWTH} is sound"
    );
    println!("{:<58}{}", "in a room of", SIZES.map(|size| format!("{size:>9}")).concat());
    let rows: [(&str, &dyn Fn(usize) -> f64); 10] = [
        ("a voice packet, for each listener", &voice_per_listener),
        ("a voice packet that is not among the loudest", &voice_that_nobody_hears),
        ("a picture's packet, for each viewer", &picture_per_viewer),
        ("a tick, audio alone, for each participant", &|people| tick(people, false)),
        ("a tick, everyone with a camera, for each participant", &|people| tick(people, true)),
        ("a join, audio alone, for each participant", &|people| join(people, false)),
        ("a join, everyone with a camera, for each participant", &|people| join(people, true)),
        ("a speaker leaves, for each participant", &leave),
        ("three others speak, for each participant", &speaker_change),
        ("a node with as many is lost, for each one told of each", &lost_node),
    ];
    let grown = rows.into_iter().filter(|(name, figure)| {
        let figures = SIZES.map(figure);
        let growth = figures[3] / figures[1];
        println!("{name:<58}{}  x {growth:.2}", figures.map(|ns| format!("{ns:>9.0}")).concat());
        growth > MOST_GROWTH
    });
    if grown.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
