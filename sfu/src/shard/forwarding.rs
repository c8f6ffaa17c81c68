//! The engine's packet path: from what clients and peers sent to those who get it.

use std::{sync::Arc, time::Instant};

use isthmus_protocol::{RoomId, media::MediaPacket};
use rustc_hash::FxHashMap;
use slab::Slab;
use str0m::media::{Mid, Rid};

use super::{
    client::Client,
    counters::Counters,
    engine::Engine,
    neighbour::Neighbour,
    touched::{Due, Touched},
};
use crate::core::room::{ClientKey, Delivery, Peer, Room};

/// A packet that a client sent.
#[derive(Debug)]
pub(super) struct Published {
    /// Whose, on which m-line and which of its layers.
    from: (ClientKey, Mid, Option<Rid>),
    packet: Arc<MediaPacket>,
}

impl Engine {
    /// A client sent a packet; it is forwarded when the round is settled.
    pub(super) fn publish(&mut self, from: (ClientKey, Mid, Option<Rid>), packet: MediaPacket, now: Instant) {
        self.counters.received(packet.payload.len());
        self.waiting_since.get_or_insert(now);
        self.published.push(Published { from, packet: Arc::new(packet) });
    }

    /// Forwards what clients published in this round: what came in a row on one layer goes to each receiver in a row.
    pub(super) fn forward_published(&mut self, now: Instant) {
        let mut published = std::mem::take(&mut self.published);
        for row in published.chunk_by(|packet, next| packet.from == next.from) {
            self.forward_row(row, now);
        }
        published.clear();
        self.published = published;
    }

    fn forward_row(&mut self, row: &[Published], now: Instant) {
        let Self { clients, rooms, links, counters, touched, .. } = self;
        let Some(from) = row.first().map(|first| first.from) else { return };
        let Some(id) = clients.get(from.0.0).map(|client| client.room.clone()) else { return };
        let Some(room) = rooms.get_mut(&id) else { return };
        let deliver = |delivery: Delivery<'_>| forward(clients, links, counters, touched, delivery, now);
        match room.packets_from_client(from, row.iter().map(|published| &published.packet), now, deliver) {
            Ok(late) => counters.dropped_many("before_switch", late as u64),
            Err(unwanted) => counters.dropped_many(unwanted.reason(), row.len() as u64),
        }
        self.after_forwarding(&id);
    }

    /// A packet that a peer relays, under a number that this shard chose.
    pub(super) fn relayed(&mut self, peer: &Peer, stream: u32, packet: MediaPacket, now: Instant) {
        let Some(id) = self.streams.room(stream).cloned() else { return self.counters.dropped("unknown_stream") };
        self.waiting_since.get_or_insert(now);
        let Self { clients, rooms, links, counters, touched, .. } = self;
        let Some(room) = rooms.get_mut(&id) else { return };
        let deliver = |delivery: Delivery<'_>| forward(clients, links, counters, touched, delivery, now);
        match room.packet_from_peer(peer, stream, &Arc::new(packet), now, deliver) {
            Ok(late) => counters.dropped_many("before_switch", late as u64),
            Err(unwanted) => counters.dropped(unwanted.reason()),
        }
        self.after_forwarding(&id);
    }

    fn after_forwarding(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(Room::is_urgent) {
            self.touch_room(room);
        }
    }
}

/// Hands one packet to one receiver. Not a method: the room it comes from is borrowed meanwhile.
fn forward(
    clients: &mut Slab<Client>,
    links: &FxHashMap<Peer, Neighbour>,
    counters: &mut Counters,
    touched: &mut Touched,
    delivery: Delivery<'_>,
    now: Instant,
) {
    match delivery {
        Delivery::Client { client, outgoing } => {
            let Some(state) = clients.get_mut(client.0) else { return };
            if state.send(&outgoing, now) {
                counters.sent(outgoing.packet.payload.len());
                touched.add(client, state, Due::for_sending(outgoing.packet));
            } else {
                counters.dropped("not_sendable");
            }
        }
        Delivery::Peer { peer, stream, packet } => {
            let sent = links.get(peer).map(|link| link.media(stream, packet.clone()));
            match (sent, peer) {
                (Some(Ok(())), Peer::Node(_)) => {}
                (Some(Ok(())), Peer::Shard(_)) => counters.relayed_out(packet.payload.len()),
                (Some(Err(_)) | None, _) => counters.dropped("link_media_full"),
            }
        }
    }
}
