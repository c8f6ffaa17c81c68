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
/// The most connections from one address that have not shown one yet.
const MAX_UNVALIDATED: usize = 64;
/// A connection on which nothing came for this long is closed: clients check their consent every 5 s (RFC 7675).
const IDLE_DEADLINE: Duration = Duration::from_secs(30);
/// Reads of one connection in one round, so that a fast one does not keep the thread from everybody else.
const MAX_READS: usize = 4;
/// RFC 4571 section 2: a length of 16 bits before each packet.
const LENGTH_BYTES: usize = 2;
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Tcp {
    listener: TcpListener,
    connections: Slab<Connection>,
    by_address: FxHashMap<SocketAddr, usize>,
    /// Connections with more to read than one round takes: the system does not tell of them again.
    unread: Vec<usize>,
    first_token: usize,
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    accepted: Instant,
    validated: bool,
    last_read: Instant,
    frames: Deframer,
    backlog: VecDeque<u8>,
}

/// How a connection stands after it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// All of it was read.
    Done,
    /// There may be more.
    More,
    /// It has ended, or what came is not what a client sends.
    Over,
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
        let (connections, by_address, unread) = (Slab::new(), FxHashMap::default(), Vec::new());
        Ok(Self { listener, connections, by_address, unread, first_token })
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
            let strangers = self.connections.iter().filter(|(_, c)| !c.validated && c.address.ip() == address.ip());
            let full = self.connections.len() >= MAX_CONNECTIONS || strangers.count() >= MAX_UNVALIDATED;
            if full || registry.register(&mut stream, token, interest).is_err() {
                refused += 1;
                continue;
            }
            // Media wants to go out at once; if the option is refused it is merely later.
            let _ = stream.set_nodelay(true);
            let (frames, backlog) = (Deframer::default(), VecDeque::new());
            let connection =
                Connection { stream, address, accepted: now, validated: false, last_read: now, frames, backlog };
            let key = self.connections.insert(connection);
            self.by_address.insert(address, key);
        }
        refused
    }

    /// Reads and writes what the connection behind `token` has ready, and hands out whole packets.
    pub(super) fn ready(&mut self, token: Token, now: Instant, mut handle: impl FnMut(SocketAddr, &[u8])) {
        let Some(key) = token.0.checked_sub(self.first_token) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.write_backlog().is_ok() {
            self.read(key, now, &mut handle);
        } else {
            self.close(key);
        }
    }

    /// Whether [`Self::read_on`] has something to do.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Goes on with connections that had more to read than one round takes.
    pub(super) fn read_on(&mut self, now: Instant, mut handle: impl FnMut(SocketAddr, &[u8])) {
        for key in std::mem::take(&mut self.unread) {
            self.read(key, now, &mut handle);
        }
    }

    fn read(&mut self, key: usize, now: Instant, handle: &mut impl FnMut(SocketAddr, &[u8])) {
        match self.connections.get_mut(key).map(|connection| connection.read(now, handle)) {
            Some(Reading::More) if !self.unread.contains(&key) => self.unread.push(key),
            Some(Reading::Over) => self.close(key),
            Some(Reading::Done | Reading::More) | None => {}
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

    /// The session of the connection is over.
    pub(super) fn over(&mut self, address: SocketAddr) {
        if let Some(key) = self.by_address.get(&address).copied() {
            self.close(key);
        }
    }

    /// Closes connections that have not shown themselves in time, and those on which nothing comes any more.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |c: &Connection| {
            let unknown = !c.validated && now.saturating_duration_since(c.accepted) > VALIDATION_DEADLINE;
            unknown || now.saturating_duration_since(c.last_read) > IDLE_DEADLINE
        };
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
    fn read(&mut self, now: Instant, handle: &mut impl FnMut(SocketAddr, &[u8])) -> Reading {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..MAX_READS {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Reading::Over,
                Ok(length) => {
                    self.last_read = now;
                    if !self.hand_out(&buffer[..length], handle) {
                        return Reading::Over;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Done,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Reading::Over,
            }
        }
        Reading::More
    }

    /// Hands out whole packets. False if a connection that has not shown itself yet sends anything but STUN (RFC 7983: a
    /// first byte of 0 to 3).
    fn hand_out(&mut self, bytes: &[u8], handle: &mut impl FnMut(SocketAddr, &[u8])) -> bool {
        let (validated, address) = (self.validated, self.address);
        let mut behaves = true;
        self.frames.push(bytes, |packet| {
            behaves &= validated || packet.first().is_some_and(|first| *first < 4);
            if behaves {
                handle(address, packet);
            }
        });
        behaves
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
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Server {
        tcp: Tcp,
        poll: mio::Poll,
    }

    impl Server {
        fn new() -> io::Result<Self> {
            let poll = mio::Poll::new()?;
            let mut tcp = Tcp::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 16)?;
            tcp.register(poll.registry(), Token(2))?;
            Ok(Self { tcp, poll })
        }

        fn address(&self) -> SocketAddr {
            self.tcp.listener.local_addr().expect("bound")
        }

        /// One round; the packets that came.
        fn round(&mut self, now: Instant) -> usize {
            let mut events = mio::Events::with_capacity(64);
            let wait = if self.tcp.has_unread() { Duration::ZERO } else { Duration::from_millis(100) };
            self.poll.poll(&mut events, Some(wait)).expect("a poll");
            let mut packets = 0;
            self.tcp.read_on(now, |_, _| packets += 1);
            for event in &events {
                match event.token() {
                    Token(2) => drop(self.tcp.accept(self.poll.registry(), now)),
                    token => self.tcp.ready(token, now, |_, _| packets += 1),
                }
            }
            packets
        }

        fn until(&mut self, now: Instant, done: impl Fn(&Tcp) -> bool) {
            let rounds = (0..100).find(|_| {
                self.round(now);
                done(&self.tcp)
            });
            assert!(rounds.is_some(), "it did not come true");
        }
    }

    #[test]
    fn strangers_that_do_not_speak_stun_are_cut_off() -> io::Result<()> {
        let (mut server, now) = (Server::new()?, Instant::now());
        for rubbish in [&[0, 0][..], &[0, 4, 22, 3, 1, 0][..]] {
            let mut stranger = std::net::TcpStream::connect(server.address())?;
            server.until(now, |tcp| tcp.connections.len() == 1);
            stranger.write_all(rubbish)?;
            server.until(now, |tcp| tcp.connections.is_empty());
        }
        Ok(())
    }

    #[test]
    fn a_connection_that_floods_leaves_time_for_everything_else() -> io::Result<()> {
        let (mut server, now) = (Server::new()?, Instant::now());
        let mut flood = std::net::TcpStream::connect(server.address())?;
        server.until(now, |tcp| tcp.connections.len() == 1);
        server.tcp.validate(flood.local_addr()?);
        let sent = MAX_READS * READ_BYTES + READ_BYTES;
        flood.write_all(&vec![0; sent])?;
        let mut rounds = Vec::new();
        while rounds.iter().sum::<usize>() < sent / LENGTH_BYTES && rounds.len() < 1_000 {
            rounds.push(server.round(now));
        }
        let most = rounds.iter().max().copied().unwrap_or_default();
        assert!(most <= MAX_READS * READ_BYTES / LENGTH_BYTES, "{most} packets in one round");
        assert_eq!(rounds.iter().sum::<usize>(), sent / LENGTH_BYTES, "none is forgotten");
        Ok(())
    }

    #[test]
    fn connections_do_not_outlive_their_sessions_nor_their_clients() -> io::Result<()> {
        let (mut server, now) = (Server::new()?, Instant::now());
        let clients: Vec<std::net::TcpStream> =
            (0..2).map(|_| std::net::TcpStream::connect(server.address())).collect::<io::Result<_>>()?;
        server.until(now, |tcp| tcp.connections.len() == 2);
        for client in &clients {
            server.tcp.validate(client.local_addr()?);
        }
        server.tcp.expire(now + VALIDATION_DEADLINE * 2);
        assert_eq!(server.tcp.connections.len(), 2);
        server.tcp.over(clients[0].local_addr()?);
        assert_eq!(server.tcp.connections.len(), 1);
        server.tcp.expire(now + IDLE_DEADLINE * 2);
        assert_eq!(server.tcp.connections.len(), 0, "one whose client vanished without a word");
        Ok(())
    }

    #[test]
    fn one_address_has_few_connections_that_have_not_shown_themselves() -> io::Result<()> {
        let (mut server, now) = (Server::new()?, Instant::now());
        let _clients: Vec<std::net::TcpStream> = (0..MAX_UNVALIDATED + 10)
            .map(|_| std::net::TcpStream::connect(server.address()))
            .collect::<io::Result<_>>()?;
        for _ in 0..5 {
            server.round(now);
        }
        assert_eq!(server.tcp.connections.len(), MAX_UNVALIDATED);
        Ok(())
    }

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
