//! RTP, DTLS and STUN over TCP: each packet behind its length in 2 bytes, big-endian (RFC 4571 section 2).

/// The longest packet the length can tell.
pub const MAX_PACKET_BYTES: usize = u16::MAX as usize;

/// A packet with its length before it; `None` if it is too long to be framed.
pub fn frame(packet: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(packet.len()).ok()?;
    Some(length.to_be_bytes().iter().chain(packet).copied().collect())
}

/// Takes bytes as TCP gives them and hands out whole packets. It holds at most one packet and one read.
#[derive(Debug, Default)]
pub struct Deframer {
    bytes: Vec<u8>,
}

impl Deframer {
    /// Takes what was read.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet.
    pub fn poll_packet(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.bytes.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let packet = rest.get(..length)?.to_vec();
        self.bytes.drain(..2 + length);
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packets_come_out_whole_however_tcp_cuts_them(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20), cut in 1usize..700,
        ) {
            let stream: Vec<u8> = packets.iter().flat_map(|packet| frame(packet).expect("it is short")).collect();
            let mut deframer = Deframer::default();
            let mut out = Vec::new();
            for piece in stream.chunks(cut) {
                deframer.handle_bytes(piece);
                out.extend(std::iter::from_fn(|| deframer.poll_packet()));
            }
            prop_assert_eq!(out, packets);
        }
    }

    #[test]
    fn what_is_too_long_is_not_framed() {
        assert!(frame(&vec![0; MAX_PACKET_BYTES]).is_some());
        assert_eq!(frame(&vec![0; MAX_PACKET_BYTES + 1]), None);
    }
}
