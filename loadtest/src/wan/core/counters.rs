//! What the links saw: the emulated network's interface counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{link::DropReason, packet::Transport};

/// Packets and their bytes, IP header included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, size_bytes: usize) {
        self.packets += 1;
        self.bytes += size_bytes as u64;
    }
}

/// Packets that a link did not deliver, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drops {
    /// Lost by chance.
    pub loss: u64,
    /// The queue behind the rate cap was full.
    pub queue_full: u64,
    /// The transport is blocked.
    pub blocked: u64,
    /// The link is partitioned.
    pub partitioned: u64,
    /// The emulator held as many packets as it may.
    pub in_flight_full: u64,
    /// The receiving host's device did not take it.
    pub undeliverable: u64,
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.loss + self.queue_full + self.blocked + self.partitioned + self.in_flight_full + self.undeliverable
    }

    fn of(&mut self, reason: DropReason) -> &mut u64 {
        match reason {
            DropReason::Loss => &mut self.loss,
            DropReason::QueueFull => &mut self.queue_full,
            DropReason::Blocked => &mut self.blocked,
            DropReason::Partitioned => &mut self.partitioned,
            DropReason::InFlightFull => &mut self.in_flight_full,
            DropReason::Undeliverable => &mut self.undeliverable,
        }
    }
}

/// What one direction saw. `offered` is `udp` + `tcp` + `other` + `dropped` + `in_flight`, in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Given to the link by the sending host.
    pub offered: Tally,
    /// UDP delivered to the receiving host.
    pub udp: Tally,
    /// TCP delivered to the receiving host.
    pub tcp: Tally,
    /// Anything else delivered to the receiving host.
    pub other: Tally,
    /// Packets not delivered.
    pub dropped: Drops,
    /// Packets under way.
    pub in_flight: u64,
}

impl LinkCounters {
    pub(super) fn offered(&mut self, size_bytes: usize) {
        self.offered.add(size_bytes);
    }

    pub(super) fn dropped(&mut self, reason: DropReason) {
        *self.dropped.of(reason) += 1;
    }

    pub(super) fn departed(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn arrived(&mut self, transport: Transport, size_bytes: usize) {
        self.in_flight -= 1;
        match transport {
            Transport::Udp => self.udp.add(size_bytes),
            Transport::Tcp => self.tcp.add(size_bytes),
            Transport::Other => self.other.add(size_bytes),
        }
    }

    pub(super) fn undeliverable(&mut self) {
        self.in_flight -= 1;
        self.dropped(DropReason::Undeliverable);
    }
}

/// Packets of one host that no link took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceDrops {
    /// Not IPv4: neighbour discovery and the like.
    pub not_ipv4: u64,
    /// No IPv4 header.
    pub malformed: u64,
    /// The destination is no host of the world.
    pub no_host: u64,
    /// There is no link to the destination.
    pub no_link: u64,
}

/// All counters of a world.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Seconds since the world began.
    pub uptime_s: u64,
    /// By sending host, then receiving host.
    pub links: BTreeMap<String, BTreeMap<String, LinkCounters>>,
    /// By sending host.
    pub unrouted: BTreeMap<String, SourceDrops>,
}

impl Counters {
    /// What the direction saw, if there is such a link.
    pub fn link(&self, from: &str, to: &str) -> Option<&LinkCounters> {
        self.links.get(from)?.get(to)
    }
}
