//! What a scenario's target means for one client: where and as what it joins, by the kind of server.

use anyhow::{Context as _, bail};

use super::{
    plan::{Part, Seat},
    scenario::{RoomKind, Service},
};
use crate::client::{
    drive::open_janus,
    entry::Entry,
    join::{Doors, JoinOptions},
    session::ClientConfig,
    signalling::{janus, whip},
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

/// What a participant does there. Where a session goes one way, who publishes neither watches nor listens.
pub(super) fn fit(service: &Service, config: ClientConfig) -> ClientConfig {
    if service.goes_one_way() && (config.audio || config.video) {
        return ClientConfig { audio_slots: 0, video_slots: 0, ..config };
    }
    config
}

/// The way in for the participant on a seat, of run number `run`.
pub(super) fn entry(
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
