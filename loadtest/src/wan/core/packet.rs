//! The header fields that routing needs, read from an IPv4 packet (RFC 791 section 3.1).

use std::net::Ipv4Addr;

/// The protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Protocol number 17.
    Udp,
    /// Protocol number 6.
    Tcp,
    /// Any other, such as ICMP.
    Other,
}

/// Where a packet wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destination address.
    pub destination: Ipv4Addr,
    /// The protocol above IP.
    pub transport: Transport,
}

/// Why a packet cannot be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketError {
    /// Another IP version; the emulated world has IPv4 only.
    NotIpv4,
    /// Shorter than the header it should have.
    Malformed,
}

impl Route {
    /// Reads the route of an IP packet.
    pub fn of(packet: &[u8]) -> Result<Self, PacketError> {
        match packet.first() {
            Some(first) if first >> 4 == 4 => {}
            Some(_) => return Err(PacketError::NotIpv4),
            None => return Err(PacketError::Malformed),
        }
        let header = packet.first_chunk::<20>().ok_or(PacketError::Malformed)?;
        let [.., a, b, c, d] = *header;
        let transport = match header[9] {
            17 => Transport::Udp,
            6 => Transport::Tcp,
            _ => Transport::Other,
        };
        Ok(Self { destination: Ipv4Addr::new(a, b, c, d), transport })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_destination_and_transport() {
        let mut packet = [0u8; 28];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[16..20].copy_from_slice(&[10, 77, 2, 2]);
        let route = Route { destination: Ipv4Addr::new(10, 77, 2, 2), transport: Transport::Udp };
        assert_eq!(Route::of(&packet), Ok(route));
        assert_eq!(Route::of(&packet[..19]), Err(PacketError::Malformed));
        packet[0] = 0x60;
        assert_eq!(Route::of(&packet), Err(PacketError::NotIpv4));
        assert_eq!(Route::of(&[]), Err(PacketError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Route::of(&bytes);
        }
    }
}
