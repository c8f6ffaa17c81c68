//! ICE-TCP (RFC 6544) for those whose network lets no UDP through: passive connections, RFC 4571 framing.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{
    Interest, Registry, Token,
    net::{TcpListener, TcpStream},
};
use rustc_hash::FxHashMap;
use slab::Slab;

/// The most connections of a shard; further ones are closed at once.
const MAX_CONNECTIONS: usize = 1_024;
/// The most bytes that wait for a slow connection; further packets to it are dropped, since late media is useless.
const MAX_BACKLOG_BYTES: usize = 256 * 1024;
/// A connection that has not shown a valid STUN request within this time is closed.
const VALIDATION_DEADLINE: Duration = Duration::from_secs(10);
/// RFC 4571 section 2: a length of 16 bits before each packet.
const LENGTH_BYTES: usize = 2;
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Tcp {
    listener: TcpListener,
    connections: Slab<Connection>,
    by_address: FxHashMap<SocketAddr, usize>,
    first_token: usize,
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    accepted: Instant,
    validated: bool,
    frames: Deframer,
    backlog: VecDeque<u8>,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Queued,
    Backlogged,
    NoConnection,
}

impl Tcp {
    /// Listens on `address`; events of its connections carry tokens from `first_token` on.
    pub(super) fn bind(address: SocketAddr, first_token: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        Ok(Self { listener, connections: Slab::new(), by_address: FxHashMap::default(), first_token })
    }

    pub(super) fn register(&mut self, registry: &Registry, listener: Token) -> io::Result<()> {
        registry.register(&mut self.listener, listener, Interest::READABLE)
    }

    /// Takes every connection that waits. How many were turned away.
    pub(super) fn accept(&mut self, registry: &Registry, now: Instant) -> usize {
        let mut refused = 0;
        while let Ok((mut stream, address)) = self.listener.accept() {
            let token = Token(self.first_token + self.connections.vacant_key());
            let interest = Interest::READABLE | Interest::WRITABLE;
            let full = self.connections.len() >= MAX_CONNECTIONS;
            if full || registry.register(&mut stream, token, interest).is_err() {
                refused += 1;
                continue;
            }
            // Media wants to go out at once; if the option is refused it is merely later.
            let _ = stream.set_nodelay(true);
            let (frames, backlog) = (Deframer::default(), VecDeque::new());
            let connection = Connection { stream, address, accepted: now, validated: false, frames, backlog };
            let key = self.connections.insert(connection);
            self.by_address.insert(address, key);
        }
        refused
    }

    /// Reads and writes what the connection behind `token` has ready, and hands out whole packets.
    pub(super) fn ready(&mut self, token: Token, mut handle: impl FnMut(SocketAddr, &[u8])) {
        let Some(key) = token.0.checked_sub(self.first_token) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let alive = connection.write_backlog().is_ok() && connection.read(&mut handle);
        if !alive {
            self.close(key);
        }
    }

    /// Sends one packet to the connection from `destination`.
    pub(super) fn send(&mut self, destination: SocketAddr, packet: &[u8]) -> Sent {
        let Some(key) = self.by_address.get(&destination).copied() else { return Sent::NoConnection };
        let Some(connection) = self.connections.get_mut(key) else { return Sent::NoConnection };
        let Ok(length) = u16::try_from(packet.len()) else { return Sent::Backlogged };
        if connection.backlog.len() + packet.len() > MAX_BACKLOG_BYTES {
            return Sent::Backlogged;
        }
        connection.backlog.extend(length.to_be_bytes());
        connection.backlog.extend(packet);
        if connection.write_backlog().is_err() {
            self.close(key);
            return Sent::NoConnection;
        }
        Sent::Queued
    }

    /// The connection has shown a valid STUN request and may stay.
    pub(super) fn validate(&mut self, address: SocketAddr) {
        if let Some(connection) = self.by_address.get(&address).and_then(|key| self.connections.get_mut(*key)) {
            connection.validated = true;
        }
    }

    /// Closes connections that have not shown themselves in time.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |c: &Connection| !c.validated && now.saturating_duration_since(c.accepted) > VALIDATION_DEADLINE;
        let expired: Vec<usize> = self.connections.iter().filter(|(_, c)| late(c)).map(|(key, _)| key).collect();
        for key in expired {
            self.close(key);
        }
    }

    fn close(&mut self, key: usize) {
        if let Some(connection) = self.connections.try_remove(key) {
            self.by_address.remove(&connection.address);
        }
    }
}

impl Connection {
    /// Whether the connection is still open.
    fn read(&mut self, handle: &mut impl FnMut(SocketAddr, &[u8])) -> bool {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.frames.push(&buffer[..length], |packet| handle(self.address, packet)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn write_backlog(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_slices();
            match self.stream.write(front) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => drop(self.backlog.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// RFC 4571 framing, read: at most one packet of 65,535 bytes waits.
#[derive(Default)]
struct Deframer {
    pending: Vec<u8>,
}

impl Deframer {
    fn push(&mut self, bytes: &[u8], mut handle: impl FnMut(&[u8])) {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some([high, low]) = self.pending.get(at..at + LENGTH_BYTES) {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(packet) = self.pending.get(at + LENGTH_BYTES..at + LENGTH_BYTES + length) else { break };
            handle(packet);
            at += LENGTH_BYTES + length;
        }
        self.pending.drain(..at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packets_survive_any_cut(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in prop::collection::vec(1usize..200, 1..20),
        ) {
            let mut stream = Vec::new();
            for packet in &packets {
                stream.extend((packet.len() as u16).to_be_bytes());
                stream.extend(packet);
            }
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                deframer.push(now, |packet| got.push(packet.to_vec()));
                rest = later;
            }
            prop_assert_eq!(got, packets);
            prop_assert!(deframer.pending.is_empty());
        }
    }
}
