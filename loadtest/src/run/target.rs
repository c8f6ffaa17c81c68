//! What a scenario's target means for one client: where and as what it joins, by the kind of server.

use std::time::Instant;

use anyhow::{Context as _, bail};

use super::{
    plan::{Part, Plan, Seat},
    scenario::{RoomKind, Scenario, Service},
    stay::Invitation,
};
use crate::client::{
    drive::open_janus,
    entry::Entry,
    join::{Doors, JoinOptions},
    session::ClientConfig,
    signalling::{janus, whip},
    stamp::Stamps,
};

/// Janus's rooms have numbers: those of a run stand together, at most so many.
const JANUS_ROOMS_OF_A_RUN: u64 = 1 << 20;

/// Whether the target is there, asked before any load is made.
pub(super) async fn reach(service: &Service, doors: &Doors) -> anyhow::Result<()> {
    let there = || format!("the target {} is not there", service.origin());
    match service {
        Service::Isthmus { url, pops } => {
            let list = doors.pops(url).await.with_context(there)?;
            if let Some(pop) = pops.iter().find(|pop| !list.pops.iter().any(|entry| entry.id == **pop)) {
                let known: Vec<_> = list.pops.iter().map(|entry| entry.id.as_str()).collect();
                bail!("the target has no PoP {pop}; there are {}", known.join(", "));
            }
        }
        Service::Whip { publish, play, .. } => {
            for endpoint in [publish, play] {
                // Whatever it answers to a request that it need not know: it is there.
                doors.http().get(endpoint.for_room("loadtest")).send().await.with_context(there)?;
            }
        }
        Service::Janus { url, .. } => {
            let mut socket = open_janus(url, doors.tls()).await.with_context(there)?;
            // The handshake was the question; how the socket closes says nothing.
            let _ = socket.close(None).await;
        }
    }
    Ok(())
}

/// What the participant on a seat is to do, where and how, in a run of this number that began at `epoch`.
pub(super) fn invite(
    scenario: &Scenario,
    plan: &Plan,
    run: u32,
    epoch: Instant,
    number: usize,
    others_published: bool,
) -> Invitation {
    let seat = &plan.seats[number];
    let kind = &scenario.rooms[seat.kind];
    let part = seat.part(kind);
    let name = format!("{}-{}", kind.name, seat.place);
    let room = format!("lt-{run:08x}-{}-{}", kind.name, seat.room);
    let config = ClientConfig {
        name,
        room: room.parse().expect("a kind's name has characters and length of a room's"),
        audio: part.audio,
        video: part.video,
        material: kind.media,
        simulcast: kind.simulcast,
        audio_slots: kind.audio_slots.into(),
        video_slots: if part.views { kind.video_slots.into() } else { 0 },
        tile_height: kind.tile_height,
        // A prime, so that neighbours are far apart in the speech.
        speech_offset: number * 7919,
        stamps: Some(Stamps { epoch, run }),
        measuring: part.measuring,
    };
    let config = fit(&scenario.target.service, config);
    let entry = entry(&scenario.target.service, run, kind, seat, &config, others_published);
    let network = seat.network.map(|network| scenario.networks[network].for_client(scenario.seed, number));
    Invitation { seat: number, entry, config, network }
}

/// What a participant does there. Where a session goes one way, who publishes neither watches nor listens.
fn fit(service: &Service, config: ClientConfig) -> ClientConfig {
    if service.goes_one_way() && (config.audio || config.video) {
        return ClientConfig { audio_slots: 0, video_slots: 0, ..config };
    }
    config
}

/// The way in for the participant on a seat, of run number `run`.
fn entry(
    service: &Service,
    run: u32,
    kind: &RoomKind,
    seat: &Seat,
    config: &ClientConfig,
    others_published: bool,
) -> Entry {
    let room = config.room.as_str();
    match service {
        Service::Isthmus { url, pops } => Entry::Isthmus(JoinOptions {
            url: url.clone(),
            room: config.room.clone(),
            name: config.name.clone(),
            pop: pops.get(seat.place as usize % pops.len().max(1)).cloned(),
        }),
        Service::Whip { publish, play, guests, token } => {
            let Part { audio, video, .. } = seat.part(kind);
            let endpoint = if audio || video { publish } else { play };
            Entry::Whip {
                endpoint: whip::Endpoint { url: endpoint.for_room(room), token: token.clone() },
                guests: guests.as_ref().map(|guests| guests.for_room(room)),
                others_published,
            }
        }
        Service::Janus { url, secret } => {
            let publishes = config.audio || config.video;
            let slots = config.audio_slots.max(config.video_slots) as u32;
            let feeds = (!publishes).then(|| slots.clamp(1, kind.publishers().max(1)));
            let room = u64::from(run) * JANUS_ROOMS_OF_A_RUN + u64::from(seat.room) + 1;
            let options = janus::Options { room, publishers: kind.publishers(), feeds, secret: secret.clone() };
            Entry::Janus { url: url.clone(), options }
        }
    }
}
