//! Whom a shard's rooms have to do with elsewhere: other nodes, by the relay, and the other shards of their own node, by
//! their inboxes. To a room they are all peers.
//!
//! What one shard has for another needs no copy of a payload, no lock and no waiting: the same bounded queues hold it as what
//! comes from other nodes. When one is full, media is dropped, and a message breaks the way to that shard as it resets a link:
//! nothing more is told until the other has forgotten everything and says so, then both begin anew.

use isthmus_protocol::{
    media::MediaPacket,
    peer::{PeerMessage, StreamId},
};
use isthmus_relay::Link;

use super::inbox::{Inbox, News, ShardEvent};

/// A peer takes no more now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The way to a peer.
pub(super) enum Neighbour {
    Node(Link),
    Shard(Sibling),
}

/// Another shard of this node.
pub(super) struct Sibling {
    /// Who speaks.
    own: u8,
    inbox: Inbox,
    /// Whether something found no place, and the other has not said yet that it has forgotten the rest.
    broken: bool,
}

impl Neighbour {
    pub(super) fn control(&mut self, message: PeerMessage) -> Result<(), Full> {
        match self {
            Neighbour::Node(link) => link.control(message).map_err(|_| Full),
            Neighbour::Shard(sibling) => sibling.control(message),
        }
    }

    pub(super) fn media(&self, stream: StreamId, packet: MediaPacket) -> Result<(), Full> {
        match self {
            Neighbour::Node(link) => link.media(stream, packet).map_err(|_| Full),
            Neighbour::Shard(sibling) => sibling.tell(ShardEvent::Media(stream, packet)),
        }
    }
}

impl Sibling {
    pub(super) fn new(own: u8, inbox: Inbox) -> Self {
        Self { own, inbox, broken: false }
    }

    fn tell(&self, event: ShardEvent) -> Result<(), Full> {
        match self.inbox.news(News::Shard { from: self.own, event }) {
            None => Ok(()),
            Some(_) => Err(Full),
        }
    }

    fn control(&mut self, message: PeerMessage) -> Result<(), Full> {
        if self.broken {
            return Err(Full);
        }
        let told = self.tell(ShardEvent::Control(message));
        if told.is_err() {
            self.broken = true;
            // It has a place in the reserve: each shard breaks with another once at a time.
            self.tell(ShardEvent::Broken)?;
        }
        told
    }

    /// What this shard told is void there, and what that one told is forgotten here: it is told so.
    pub(super) fn forgotten(&self) -> Result<(), Full> {
        self.tell(ShardEvent::Anew)
    }

    /// The other has forgotten everything: from now on it is told again.
    pub(super) fn mend(&mut self) {
        self.broken = false;
    }
}
