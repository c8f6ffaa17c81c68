//! The shard's UDP socket: many datagrams a system call in, runs of equal length to one address out (GSO).

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    os::fd::{AsRawFd, RawFd},
};

use mio::net::UdpSocket;
use nix::libc;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use str0m::net::Protocol;

use super::engine::Outbound;

/// The largest datagram taken. WebRTC keeps under 1,500; larger ones are cut and fail their integrity check.
const MAX_DATAGRAM_BYTES: usize = 2_048;
/// Kernel buffers, in bytes: 100 ms of 160 Mbit/s.
const SOCKET_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// The most bytes of one GSO run: below the largest UDP payload.
const MAX_RUN_BYTES: usize = 60_000;

pub(super) struct Udp {
    pub socket: UdpSocket,
    state: UdpSocketState,
    buffers: [Vec<u8>; BATCH_SIZE],
    /// How many datagrams the kernel had dropped when that was asked for last.
    dropped: u32,
}

impl Udp {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The kernel may grant less (net.core.rmem_max); that is not an error.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let room = MAX_DATAGRAM_BYTES * state.gro_segments();
        let buffers = std::array::from_fn(|_| vec![0; room]);
        Ok(Self { socket, state, buffers, dropped: 0 })
    }

    /// Reads one batch and hands out its datagrams. Whether there may be more.
    pub(super) fn receive(&mut self, mut handle: impl FnMut(SocketAddr, &[u8])) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
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
        // Fewer than there was room for were all there were; of any that come now the poll tells.
        Ok(count == BATCH_SIZE)
    }

    /// How many datagrams the kernel has dropped since this was last asked because they were not read in time.
    pub(super) fn take_dropped(&mut self) -> u32 {
        let dropped = dropped_by_kernel(self.socket.as_raw_fd());
        dropped.wrapping_sub(std::mem::replace(&mut self.dropped, dropped))
    }

    /// How many datagrams can go in one call.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments().max(1)
    }

    /// Sends datagrams of `length` bytes, of which the last may be shorter, that stand one behind the other, in one call.
    /// False if the kernel did not take them: its buffer was full, or the address cannot be reached.
    pub(super) fn send(&self, destination: SocketAddr, contents: &[u8], length: usize) -> bool {
        let segment_size = (contents.len() > length).then_some(length);
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit).is_ok()
    }
}

/// Datagrams that did not fit in the socket's receive buffer since it was bound: `SK_MEMINFO_DROPS` of the kernel's
/// `linux/sock_diag.h`. 0 where the kernel does not tell.
#[expect(unsafe_code, reason = "there is no safe wrapper for SO_MEMINFO")]
fn dropped_by_kernel(socket: RawFd) -> u32 {
    const DROPS: usize = 8;
    let mut info = [0u32; DROPS + 1];
    let mut bytes = size_of_val(&info) as libc::socklen_t;
    // SAFETY: both pointers are to values that are ours alone for the whole call. The kernel writes no more bytes to `info` than
    // `bytes` says that there are, any bits are a valid u32, and a descriptor that is not a socket's is refused.
    let code = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &raw mut bytes)
    };
    if code == 0 { info[DROPS] } else { 0 }
}

/// Datagrams in a row that go in one call: to one address by UDP and equally long, but for the last, which may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub first: Outbound,
    pub datagrams: usize,
    pub bytes: usize,
}

/// All datagrams, in order.
pub(super) fn runs(datagrams: &[Outbound], max_segments: usize) -> impl Iterator<Item = Run> {
    let mut rest = datagrams;
    std::iter::from_fn(move || {
        let run = next_run(rest, max_segments)?;
        rest = &rest[run.datagrams..];
        Some(run)
    })
}

fn next_run(datagrams: &[Outbound], max_segments: usize) -> Option<Run> {
    let (&first, following) = datagrams.split_first()?;
    let most = if first.protocol == Protocol::Udp { max_segments.min(MAX_RUN_BYTES / first.length.max(1)) } else { 1 };
    let mut run = Run { first, datagrams: 1, bytes: first.length };
    let mut last = first;
    for &next in following.iter().take(most.saturating_sub(1)) {
        let is_alike = next.destination == first.destination && next.protocol == first.protocol;
        if !is_alike || last.length < first.length || next.length > first.length {
            break;
        }
        run.datagrams += 1;
        run.bytes += next.length;
        last = next;
    }
    Some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(to: &[(u16, usize)]) -> Vec<Outbound> {
        let outbound = |&(port, length): &(u16, usize)| {
            let destination = SocketAddr::from(([127, 0, 0, 1], port));
            Outbound { protocol: Protocol::Udp, destination, length }
        };
        to.iter().map(outbound).collect()
    }

    fn lengths(datagrams: &[Outbound], max_segments: usize) -> Vec<usize> {
        runs(datagrams, max_segments).map(|run| run.datagrams).collect()
    }

    #[test]
    fn what_is_not_read_in_time_is_counted_once() -> io::Result<()> {
        let mut udp = Udp::new(UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?)?;
        assert_eq!(udp.take_dropped(), 0);
        let sender = std::net::UdpSocket::bind("127.0.0.1:0")?;
        // More than the buffer holds, even if the kernel grants twice of what was asked for.
        let sent = 2 * 2 * SOCKET_BUFFER_BYTES / 1_200;
        for _ in 0..sent {
            sender.send_to(&[0; 1_200], udp.socket.local_addr()?)?;
        }
        let dropped = udp.take_dropped();
        assert!(dropped > 0 && (dropped as usize) < sent, "{dropped} of {sent}");
        assert_eq!(udp.take_dropped(), 0);
        Ok(())
    }

    #[test]
    fn runs_end_where_the_address_or_the_length_changes() {
        let shorter = datagrams(&[(1, 100), (1, 100), (1, 60), (1, 60)]);
        assert_eq!(lengths(&shorter, 64), [3, 1], "the last may be shorter");
        assert_eq!(lengths(&datagrams(&[(1, 100), (1, 120)]), 64), [1, 1], "not longer");
        assert_eq!(lengths(&datagrams(&[(1, 100), (2, 100)]), 64), [1, 1]);
        assert_eq!(lengths(&datagrams(&[(1, 100), (1, 100), (1, 100)]), 2), [2, 1]);
        assert_eq!(lengths(&[], 64), [0; 0]);
        let by_tcp: Vec<_> = datagrams(&[(1, 100), (1, 100)]).into_iter().map(over_tcp).collect();
        assert_eq!(lengths(&by_tcp, 64), [1, 1], "TCP frames each");
    }

    fn over_tcp(outbound: Outbound) -> Outbound {
        Outbound { protocol: Protocol::Tcp, ..outbound }
    }

    #[test]
    fn what_is_sent_arrives_as_it_was_written() -> io::Result<()> {
        let sender = Udp::new(UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?)?;
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        let port = receiver.local_addr()?.port();
        let sizes = [1200, 1200, 1200, 800, 90, 90];
        let outbound = datagrams(&sizes.map(|length| (port, length)));
        let bytes: Vec<u8> = sizes.iter().zip(0u8..).flat_map(|(length, fill)| vec![fill; *length]).collect();
        let mut at = 0;
        for run in runs(&outbound, sender.max_segments()) {
            assert!(sender.send(run.first.destination, &bytes[at..at + run.bytes], run.first.length));
            at += run.bytes;
        }
        let mut buffer = [0; 2000];
        for (expected, fill) in sizes.into_iter().zip(0u8..) {
            let length = receiver.recv(&mut buffer)?;
            assert_eq!(&buffer[..length], vec![fill; expected]);
        }
        Ok(())
    }
}
