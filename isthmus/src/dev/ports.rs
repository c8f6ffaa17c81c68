//! The ports of a cluster: a block that nobody uses for one that may stand anywhere, and a look at those of one that may
//! not, so that another cluster's answers are not taken for its own.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
};

use super::layout::PORTS;

/// Below Linux's ephemeral ports (32768 on), so that an outgoing connection does not take one of the block's.
const BLOCKS: std::ops::Range<u16> = 40..105;

/// A block of [`PORTS`] ports that no other cluster of this network namespace takes while this is held.
#[derive(Debug)]
pub(super) struct PortBlock {
    base: u16,
    /// An abstract socket's name belongs to the network namespace, as ports do, and goes with the process.
    _claim: UnixListener,
}

impl PortBlock {
    /// Claims a free block, trying them from one that `seed` chooses.
    pub(super) fn claim(address: IpAddr, seed: u16) -> io::Result<Self> {
        let blocks = BLOCKS.len() as u16;
        (0..blocks)
            .map(|step| (BLOCKS.start + (seed % blocks + step) % blocks) * PORTS)
            .find_map(|base| Self::claim_at(address, base))
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free block of ports: give --base-port"))
    }

    fn claim_at(address: IpAddr, base: u16) -> Option<Self> {
        let name = UnixAddr::from_abstract_name(format!("isthmus-dev-{base}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        let ports = (base..base + PORTS).map(|port| SocketAddr::new(address, port));
        taken(ports).is_none().then_some(Self { base, _claim: claim })
    }

    /// The first port.
    pub(super) fn base(&self) -> u16 {
        self.base
    }
}

/// The first of these addresses that somebody listens on already, by TCP or UDP.
pub(super) fn taken(mut addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let in_use = |result: io::Result<()>| result.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    addresses.find(|addr| in_use(TcpListener::bind(addr).map(drop)) || in_use(UdpSocket::bind(addr).map(drop)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn two_clusters_never_get_the_same_block_and_a_taken_port_spoils_one() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let first = PortBlock::claim(here, 7).unwrap();
        let second = PortBlock::claim(here, 7).unwrap();
        assert_ne!(first.base(), second.base());
        let base = first.base();
        drop(first);
        let _taken = TcpListener::bind((here, base + 10)).unwrap();
        assert_ne!(PortBlock::claim(here, base / PORTS - BLOCKS.start).unwrap().base(), base);
    }
}
