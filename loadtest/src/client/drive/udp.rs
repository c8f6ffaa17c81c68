//! A client's UDP socket.

use std::{io, net::SocketAddr, task::Context};

use str0m::net::Transmit;
use tokio::net::UdpSocket;

/// A socket with its own address, which the kernel need not be asked for at every packet.
pub(super) struct Udp {
    socket: Socket,
    pub(super) address: SocketAddr,
}

/// The runtime is woken by each packet that arrives in a socket that it watches, whether anyone waits for it or not: so one
/// that is read by the clock is taken from it.
enum Socket {
    Watched(UdpSocket),
    Unwatched(std::net::UdpSocket),
}

impl Udp {
    pub(super) fn new((socket, address): (UdpSocket, SocketAddr)) -> Self {
        Self { socket: Socket::Watched(socket), address }
    }

    /// From now on it is read by the clock alone.
    pub(super) fn unwatch(self) -> io::Result<Self> {
        let socket = match self.socket {
            Socket::Watched(socket) => Socket::Unwatched(socket.into_std()?),
            unwatched @ Socket::Unwatched(_) => unwatched,
        };
        Ok(Self { socket, ..self })
    }

    pub(super) fn is_watched(&self) -> bool {
        matches!(self.socket, Socket::Watched(_))
    }

    /// Whether there is something to read, or an error, as far as anyone watches.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> bool {
        match &self.socket {
            Socket::Watched(socket) => socket.poll_recv_ready(cx).is_ready(),
            Socket::Unwatched(_) => false,
        }
    }

    /// Reads one packet, without waiting for one.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match &self.socket {
            Socket::Watched(socket) => socket.try_recv_from(buffer),
            Socket::Unwatched(socket) => socket.recv_from(buffer),
        }
    }

    pub(super) async fn send(&self, transmit: &Transmit) {
        let sent = match &self.socket {
            Socket::Watched(socket) => socket.send_to(&transmit.contents, transmit.destination).await,
            Socket::Unwatched(socket) => socket.send_to(&transmit.contents, transmit.destination),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "UDP");
        }
    }
}
