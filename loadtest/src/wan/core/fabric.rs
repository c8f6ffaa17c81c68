//! All hosts and links of a world: routes each packet to its link and holds it until it is due.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::Ipv4Addr,
    time::Instant,
};

use super::{
    counters::{Counters, LinkCounters, SourceDrops},
    link::{DropReason, Link, LinkParameters},
    packet::{PacketError, Route, Transport},
};

/// The most packets the fabric holds (about 100 MB of full packets). A packet beyond it is dropped and counted.
pub const MAX_IN_FLIGHT_PACKETS: usize = 65_536;

/// A host of the fabric, counted from 0 in the order of their addresses' list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// A packet that is due at its destination. Give it back to [`Fabric::settle`].
#[derive(Debug, PartialEq, Eq)]
pub struct Departure {
    /// Whose packet it is.
    pub from: HostId,
    /// Where it goes.
    pub to: HostId,
    /// The IP packet.
    pub packet: Vec<u8>,
    transport: Transport,
}

/// Ordered by due time, then by arrival, so that equal due times keep their order.
#[derive(Debug, PartialEq, Eq)]
struct InFlight {
    due: Instant,
    serial: u64,
    departure: Departure,
}

impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.serial).cmp(&(other.due, other.serial))
    }
}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Direction {
    link: Option<Link>,
    counters: LinkCounters,
}

/// The hosts, their links and the packets under way.
#[derive(Debug)]
pub struct Fabric {
    by_address: HashMap<Ipv4Addr, HostId>,
    /// Row by sender, column by receiver.
    directions: Vec<Vec<Direction>>,
    unrouted: Vec<SourceDrops>,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    serial: u64,
    seed: u64,
}

impl Fabric {
    /// A fabric of hosts with these addresses and no link yet.
    pub fn new(addresses: &[Ipv4Addr], seed: u64) -> Self {
        let count = addresses.len();
        Self {
            by_address: addresses.iter().enumerate().map(|(index, address)| (*address, HostId(index))).collect(),
            directions: (0..count).map(|_| (0..count).map(|_| Direction::default()).collect()).collect(),
            unrouted: vec![SourceDrops::default(); count],
            in_flight: BinaryHeap::new(),
            serial: 0,
            seed,
        }
    }

    /// How the direction behaves, if there is such a link.
    pub fn parameters(&self, from: HostId, to: HostId) -> Option<&LinkParameters> {
        Some(self.directions.get(from.0)?.get(to.0)?.link.as_ref()?.parameters())
    }

    /// Makes the link, or changes it. A host outside of the fabric is ignored.
    pub fn set_parameters(&mut self, now: Instant, from: HostId, to: HostId, parameters: LinkParameters) {
        let seed = self.seed ^ ((from.0 as u64) << 32 | (to.0 as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let Some(direction) = self.directions.get_mut(from.0).and_then(|row| row.get_mut(to.0)) else { return };
        match &mut direction.link {
            Some(link) => link.set_parameters(now, parameters),
            None => direction.link = Some(Link::new(parameters, seed)),
        }
    }

    /// Takes a packet that `from` sent at `now`.
    pub fn handle_packet(&mut self, now: Instant, from: HostId, packet: Vec<u8>) {
        let Some(unrouted) = self.unrouted.get_mut(from.0) else { return };
        let route = match Route::of(&packet) {
            Ok(route) => route,
            Err(PacketError::NotIpv4) => return unrouted.not_ipv4 += 1,
            Err(PacketError::Malformed) => return unrouted.malformed += 1,
        };
        let Some(&to) = self.by_address.get(&route.destination) else { return unrouted.no_host += 1 };
        let Direction { link, counters } = &mut self.directions[from.0][to.0];
        let Some(link) = link else { return unrouted.no_link += 1 };
        counters.offered(packet.len());
        let room = self.in_flight.len() < MAX_IN_FLIGHT_PACKETS;
        let accepted =
            if room { link.accept(now, packet.len(), route.transport) } else { Err(DropReason::InFlightFull) };
        match accepted {
            Ok(due) => {
                counters.departed();
                self.serial += 1;
                let departure = Departure { from, to, packet, transport: route.transport };
                self.in_flight.push(Reverse(InFlight { due, serial: self.serial, departure }));
            }
            Err(reason) => counters.dropped(reason),
        }
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(next)| next.due)
    }

    /// The next packet that is due at `now`.
    pub fn poll_departure(&mut self, now: Instant) -> Option<Departure> {
        self.next_due().filter(|due| *due <= now)?;
        self.in_flight.pop().map(|Reverse(next)| next.departure)
    }

    /// Counts a departure as delivered, or as refused by the receiving host's device.
    pub fn settle(&mut self, departure: &Departure, delivered: bool) {
        let counters = &mut self.directions[departure.from.0][departure.to.0].counters;
        if delivered {
            counters.arrived(departure.transport, departure.packet.len());
        } else {
            counters.undeliverable();
        }
    }

    /// The counters, with the hosts under these names.
    pub fn counters(&self, names: &[String]) -> Counters {
        let mut all = Counters::default();
        for ((from, row), unrouted) in names.iter().zip(&self.directions).zip(&self.unrouted) {
            let linked = names.iter().zip(row).filter(|(_, direction)| direction.link.is_some());
            let links = linked.map(|(to, direction)| (to.clone(), direction.counters)).collect();
            all.links.insert(from.clone(), links);
            all.unrouted.insert(from.clone(), *unrouted);
        }
        all
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const A: HostId = HostId(0);
    const B: HostId = HostId(1);
    const MS: Duration = Duration::from_millis(1);

    fn fabric(parameters: LinkParameters) -> (Fabric, Instant) {
        let mut fabric = Fabric::new(&[Ipv4Addr::new(10, 77, 1, 2), Ipv4Addr::new(10, 77, 2, 2)], 1);
        let now = Instant::now();
        fabric.set_parameters(now, A, B, parameters);
        (fabric, now)
    }

    fn udp_to(last: [u8; 4], mark: u8) -> Vec<u8> {
        let mut packet = vec![0u8; 29];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[16..20].copy_from_slice(&last);
        packet[28] = mark;
        packet
    }

    #[test]
    fn packets_leave_when_due_and_in_order() {
        let (mut fabric, now) = fabric(LinkParameters { delay: 10 * MS, ..LinkParameters::default() });
        for mark in 0..3 {
            fabric.handle_packet(now, A, udp_to([10, 77, 2, 2], mark));
        }
        assert_eq!(fabric.next_due(), Some(now + 10 * MS));
        assert_eq!(fabric.poll_departure(now + 9 * MS), None);
        for mark in 0..3 {
            let departure = fabric.poll_departure(now + 10 * MS).expect("it is due");
            assert_eq!((departure.to, departure.packet[28]), (B, mark));
            fabric.settle(&departure, mark != 2);
        }
        let counters = fabric.counters(&["a".into(), "b".into()]);
        let link = counters.link("a", "b").expect("there is a link");
        assert_eq!((link.offered.packets, link.udp.packets, link.dropped.undeliverable), (3, 2, 1));
        assert_eq!(counters.link("b", "a"), None, "links have a direction");
    }

    #[test]
    fn what_cannot_be_routed_is_counted_with_its_reason() {
        let (mut fabric, now) = fabric(LinkParameters::default());
        fabric.handle_packet(now, A, udp_to([10, 77, 9, 9], 0));
        fabric.handle_packet(now, B, udp_to([10, 77, 1, 2], 0));
        fabric.handle_packet(now, A, vec![0x60; 60]);
        fabric.handle_packet(now, A, vec![0x45; 10]);
        let counters = fabric.counters(&["a".into(), "b".into()]);
        assert_eq!(counters.unrouted["a"], SourceDrops { not_ipv4: 1, malformed: 1, no_host: 1, no_link: 0 });
        assert_eq!(counters.unrouted["b"].no_link, 1);
        assert_eq!(fabric.next_due(), None);
    }

    #[test]
    fn a_full_fabric_refuses_more() {
        let (mut fabric, now) = fabric(LinkParameters { delay: 10 * MS, ..LinkParameters::default() });
        for _ in 0..=MAX_IN_FLIGHT_PACKETS {
            fabric.handle_packet(now, A, udp_to([10, 77, 2, 2], 0));
        }
        let counters = fabric.counters(&["a".into(), "b".into()]);
        assert_eq!(counters.link("a", "b").map(|link| link.dropped.in_flight_full), Some(1));
    }

    proptest! {
        #[test]
        fn every_offered_packet_is_delivered_dropped_or_under_way(
            loss in 0.0f64..0.5, rate in 50_000u64..1_000_000, gaps_us in proptest::collection::vec(0u64..5_000, 1..300),
        ) {
            let parameters =
                LinkParameters { loss, rate_bps: Some(rate), delay: 20 * MS, queue: 30 * MS, ..LinkParameters::default() };
            let (mut fabric, mut now) = fabric(parameters);
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                fabric.handle_packet(now, A, udp_to([10, 77, 2, 2], 0));
                while let Some(departure) = fabric.poll_departure(now) {
                    fabric.settle(&departure, true);
                }
            }
            let link = *fabric.counters(&["a".into(), "b".into()]).link("a", "b").expect("there is a link");
            prop_assert_eq!(link.offered.packets, link.udp.packets + link.dropped.total() + link.in_flight);
        }
    }
}
