//! The shard's UDP socket: many datagrams a system call in, runs of equal length to one address out (GSO).

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
};

use mio::net::UdpSocket;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// The largest datagram taken. WebRTC keeps under 1,500; larger ones are cut and fail their integrity check.
const MAX_DATAGRAM_BYTES: usize = 2_048;
/// Kernel buffers, in bytes: 100 ms of 160 Mbit/s.
const SOCKET_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// The most bytes of one GSO run: below the largest UDP payload.
const MAX_RUN_BYTES: usize = 60_000;

pub(super) struct Udp {
    pub socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    outgoing: Outgoing,
}

/// Datagrams that wait for the end of the round.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, usize)>,
}

/// What a flush did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flushed {
    pub datagrams: u64,
    /// Datagrams that the kernel did not take: its buffer was full, or the address cannot be reached.
    pub dropped: u64,
}

impl Udp {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The kernel may grant less (net.core.rmem_max); that is not an error.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let room = MAX_DATAGRAM_BYTES * state.gro_segments();
        let buffers = (0..BATCH_SIZE).map(|_| vec![0; room]).collect();
        Ok(Self { socket, state, buffers, outgoing: Outgoing::default() })
    }

    /// Reads one batch and hands out its datagrams. Whether there may be more.
    pub(super) fn receive(&mut self, mut handle: impl FnMut(SocketAddr, &[u8])) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> = self.buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in metas.iter().zip(&self.buffers).take(count) {
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                handle(meta.addr, datagram);
            }
        }
        Ok(true)
    }

    /// Queues a datagram for the end of the round.
    pub(super) fn queue(&mut self, destination: SocketAddr, datagram: &[u8]) {
        self.outgoing.bytes.extend_from_slice(datagram);
        self.outgoing.datagrams.push((destination, datagram.len()));
    }

    /// Sends what was queued: datagrams in a row to one address that are equally long (but for the last, which may be
    /// shorter) in one call.
    pub(super) fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed::default();
        let max_segments = self.state.max_gso_segments().max(1);
        let (mut at, mut offset) = (0, 0);
        while let Some(&(destination, length)) = self.outgoing.datagrams.get(at) {
            let count = run_length(&self.outgoing.datagrams[at..], max_segments);
            let total: usize = self.outgoing.datagrams[at..at + count].iter().map(|(_, length)| length).sum();
            let contents = &self.outgoing.bytes[offset..offset + total];
            let segment_size = (count > 1).then_some(length);
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                Ok(()) => flushed.datagrams += count as u64,
                Err(_) => flushed.dropped += count as u64,
            }
            at += count;
            offset += total;
        }
        self.outgoing.bytes.clear();
        self.outgoing.datagrams.clear();
        flushed
    }
}

/// How many of the first datagrams can go in one call.
fn run_length(datagrams: &[(SocketAddr, usize)], max_segments: usize) -> usize {
    let Some(&(destination, length)) = datagrams.first() else { return 0 };
    let limit = max_segments.min(MAX_RUN_BYTES / length.max(1)).max(1);
    let mut count = 1;
    for &(to, next) in datagrams.iter().take(limit).skip(1) {
        if to != destination || next > length {
            break;
        }
        count += 1;
        if next < length {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_address_or_the_length_changes() {
        let (a, b) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        assert_eq!(run_length(&[(a, 100), (a, 100), (a, 60), (a, 60)], 64), 3, "the last may be shorter");
        assert_eq!(run_length(&[(a, 100), (a, 120)], 64), 1, "not longer");
        assert_eq!(run_length(&[(a, 100), (b, 100)], 64), 1);
        assert_eq!(run_length(&[(a, 100), (a, 100), (a, 100)], 2), 2);
        assert_eq!(run_length(&[], 64), 0);
    }

    #[test]
    fn what_is_flushed_arrives_as_it_was_queued() -> io::Result<()> {
        let mut sender = Udp::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        let to = receiver.local_addr()?;
        let datagrams: Vec<Vec<u8>> =
            [1200, 1200, 1200, 800, 90, 90].iter().zip(0u8..).map(|(n, i)| vec![i; *n]).collect();
        for datagram in &datagrams {
            sender.queue(to, datagram);
        }
        assert_eq!(sender.flush(), Flushed { datagrams: 6, dropped: 0 });
        let mut buffer = [0; 2000];
        for expected in &datagrams {
            let length = receiver.recv(&mut buffer)?;
            assert_eq!(&buffer[..length], &expected[..]);
        }
        Ok(())
    }
}
