//! A shard: one thread with its own sockets, clients and rooms. Nothing on the packet path is shared, locked or awaited.
//!
//! | file             | part                                                            |
//! |------------------|-----------------------------------------------------------------|
//! | `engine.rs`      | clients, rooms and links, driven by datagrams, commands and time |
//! | `forwarding.rs`  | the packet path: from what was sent to those who get it           |
//! | `sessions.rs`    | what doors and peers ask                                        |
//! | `negotiation.rs` | offers and answers                                              |
//! | `client.rs`      | one peer connection                                             |
//! | `touched.rs`     | whose turn it is                                                |
//! | `outlet.rs`      | one client's way out                                            |
//! | `udp.rs`, `tcp.rs` | sockets                                                       |
//! | `feedback.rs`    | the socket in which the kernel keeps what clients say of what they are sent |
//! | `inbox.rs`       | how other threads reach a shard                                 |
//! | `neighbour.rs`   | how a shard reaches other nodes and other shards                |
//! | `load.rs`        | how busy it is                                                  |

mod client;
mod counters;
mod descriptor;
mod engine;
mod feedback;
mod forwarding;
mod inbox;
mod load;
mod negotiation;
mod neighbour;
mod outlet;
mod priority;
mod sessions;
mod tcp;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests;
mod touched;
mod udp;

use std::{
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::UdpSocket};
use str0m::{
    Candidate,
    config::DtlsCert,
    net::{Protocol, TcpType},
};
use tokio::sync::Notify;

pub(crate) use inbox::{Inbox, News};
pub(crate) use sessions::Command;

use self::{
    counters::Counters,
    engine::{Egress, Engine, Settings, TcpChange},
    feedback::Feedback,
    inbox::Letters,
    load::Meter,
    neighbour::{Neighbour, Sibling},
    tcp::{Sent, Tcp},
    udp::{Udp, runs},
};
use crate::{
    config::Config,
    core::room::{Here, Peer},
    metrics::Metrics,
    seats::Seats,
};

const WAKE: Token = Token(0);
const UDP: Token = Token(1);
const LISTENER: Token = Token(2);
const FEEDBACK: Token = Token(3);
const FIRST_CONNECTION: usize = 16;
/// Reads per round before the round is settled, so that a flood does not keep what was read from going out.
const MAX_READS: usize = 4;
/// After so many datagrams the time is read, to know how long they took: the first of them took up to 0.1 ms less.
const TIMED_TOGETHER: usize = 16;
/// How often TCP connections that never spoke STUN are looked for.
const TCP_SWEEP: Duration = Duration::from_secs(1);

/// A started shard.
pub(crate) struct Shard {
    pub inbox: Inbox,
    /// Where clients reach it.
    pub address: SocketAddr,
    pub thread: JoinHandle<()>,
}

/// What other threads know of a shard before it runs.
pub(crate) struct Post {
    pub inbox: Inbox,
    poll: Poll,
    letters: Letters,
}

impl Post {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let (inbox, letters) = inbox::create(poll.registry(), WAKE)?;
        Ok(Self { inbox, poll, letters })
    }
}

/// What all shards of a node have in common.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub here: Here,
    pub certificate: DtlsCert,
    pub metrics: Metrics,
    pub seats: Seats,
    /// Every shard's, in their order.
    pub inboxes: Vec<Inbox>,
    /// Notified when a shard ends before it is told to.
    pub failed: Arc<Notify>,
}

/// The sockets and the engine of one thread.
struct Runtime {
    poll: Poll,
    udp: Udp,
    /// None where the kernel cannot tell RTCP from the rest: `udp` gets both.
    feedback: Option<Feedback>,
    tcp: Option<Tcp>,
    letters: Letters,
    engine: Engine,
    next_sweep: Instant,
    load: Meter,
}

/// Starts shard `index`.
pub(crate) fn start(index: u8, config: &Config, own: Post, around: Surroundings) -> io::Result<Shard> {
    let port = match config.media_listen.port() {
        0 => 0,
        base => base.checked_add(u16::from(index)).ok_or_else(|| io::Error::other("more shards than ports"))?,
    };
    let udp = Udp::new(UdpSocket::bind(SocketAddr::new(config.media_listen.ip(), port))?)?;
    let bound = udp.socket.local_addr()?;
    let tcp = config.media_tcp.then(|| Tcp::bind(bound, FIRST_CONNECTION)).transpose()?;
    let address = SocketAddr::new(config.media_advertise.unwrap_or(bound.ip()), bound.port());
    let settings = settings(index, config, &around, address, tcp.is_some())?;
    let Post { inbox, poll, letters } = own;
    let now = clock();
    let counters = Counters::new(around.metrics, index);
    let mut engine = Engine::new(settings, around.certificate, counters, now);
    for (other, inbox) in (0u8..).zip(around.inboxes).filter(|(other, _)| *other != index) {
        engine.links.insert(Peer::Shard(other), Neighbour::Shard(Sibling::new(index, inbox)));
    }
    let (load, failed) = (Meter::new(now), around.failed);
    let mut runtime = Runtime { poll, udp, feedback: None, tcp, letters, engine, next_sweep: now, load };
    runtime.register()?;
    let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
        if let Err(error) = priority::raise()
            && index == 0
        {
            let advice = "grant CAP_SYS_NICE or LimitNICE=-10, or calls wait behind whatever else runs on this machine";
            tracing::warn!(%error, advice, "media threads get no precedence");
        }
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.run()));
        match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(%error, "a shard cannot wait for its sockets any more"),
            Err(_) => tracing::error!("a shard has panicked"),
        }
        failed.notify_one();
    })?;
    Ok(Shard { inbox, address, thread })
}

fn settings(index: u8, config: &Config, around: &Surroundings, address: SocketAddr, tcp: bool) -> io::Result<Settings> {
    if address.ip().is_unspecified() {
        let advice = "set sfu.media_advertise: clients cannot be told to send to an unspecified address";
        return Err(io::Error::other(advice));
    }
    let udp_candidate = Candidate::host(address, Protocol::Udp).map_err(io::Error::other)?;
    let tcp_candidate = Candidate::builder().tcp().host(address).tcptype(TcpType::Passive).build();
    let mut candidates = vec![udp_candidate];
    if tcp {
        candidates.push(tcp_candidate.map_err(io::Error::other)?);
    }
    Ok(Settings {
        index,
        shards: config.shard_count(),
        seats: around.seats.clone(),
        here: around.here.clone(),
        candidates,
        udp_candidate: address,
        tcp_candidate: tcp.then_some(address),
        max_participants: config.max_participants_of_shard(),
        max_room: config.max_room_participants,
        seed: seed(),
        began: began(),
    })
}

#[expect(clippy::disallowed_methods, reason = "the shard is where the engine's randomness comes from")]
fn seed() -> u64 {
    rand::random()
}

/// A moment, and what it is in microseconds of Unix time.
#[expect(clippy::disallowed_methods, reason = "the shard is where the time comes from")]
fn began() -> (Instant, u64) {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (clock(), unix.as_micros() as u64)
}

#[expect(clippy::disallowed_methods, reason = "the shard's loop is where the time comes from")]
fn clock() -> Instant {
    Instant::now()
}

impl Runtime {
    fn register(&mut self) -> io::Result<()> {
        self.poll.registry().register(&mut self.udp.socket, UDP, Interest::READABLE)?;
        self.feedback = Feedback::beside(&self.udp.socket, self.poll.registry(), FEEDBACK)
            .inspect_err(
                |error| tracing::warn!(%error, "the kernel cannot keep RTCP apart: more wakes for as many packets"),
            )
            .ok();
        if let Some(tcp) = &mut self.tcp {
            tcp.register(self.poll.registry(), LISTENER)?;
        }
        Ok(())
    }

    /// Wait, read, settle, send, until told to stop; an error if it ends of itself.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut udp_has_more = true;
        loop {
            let has_more = udp_has_more || self.tcp.as_ref().is_some_and(Tcp::has_unread);
            let wait = if has_more { Duration::ZERO } else { self.next_wake().saturating_duration_since(clock()) };
            self.poll.poll(&mut events, Some(wait)).or_else(not_interrupted)?;
            let now = clock();
            udp_has_more |= events.iter().any(|event| event.token() == UDP);
            if udp_has_more {
                udp_has_more = read(&mut self.udp, &mut self.engine, now).has_more;
            }
            self.read_feedback(&events, now)?;
            self.read_tcp(&events, now);
            let goes_on = self.letters.take(|command| self.engine.command(command, now));
            self.engine.wake(now);
            while self.engine.settle(now) {
                self.send();
            }
            self.send();
            self.engine.round_ends();
            if let Some(work) = self.load.measure(now) {
                self.engine.worked(work);
                let feedback = self.feedback.as_mut().map_or(0, |feedback| feedback.udp.take_dropped());
                let dropped = u64::from(self.udp.take_dropped()) + u64::from(feedback);
                self.engine.counters.dropped_many("socket_full", dropped);
            }
            if !goes_on {
                self.engine.counters.publish();
                return Ok(());
            }
        }
    }

    fn next_wake(&self) -> Instant {
        let feedback = self.feedback.as_ref().and_then(Feedback::wake_at);
        feedback.into_iter().fold(self.engine.next_wake(), Instant::min)
    }

    fn read_feedback(&mut self, events: &Events, now: Instant) -> io::Result<()> {
        let Some(feedback) = &mut self.feedback else { return Ok(()) };
        if !feedback.is_due(events.iter().any(|event| event.token() == FEEDBACK)) {
            return Ok(());
        }
        let found = read(&mut feedback.udp, &mut self.engine, now).found;
        feedback.was_read(found, self.poll.registry(), now)
    }

    fn read_tcp(&mut self, events: &Events, now: Instant) {
        let Some(tcp) = &mut self.tcp else { return };
        let engine = &mut self.engine;
        // Before reading: a client goes on with DTLS as soon as its check is answered.
        for change in engine.tcp_changes.drain(..) {
            match change {
                TcpChange::Validated(address) => tcp.validate(address),
                TcpChange::Over(address) => tcp.over(address),
            }
        }
        tcp.read_on(now, |source, bytes| engine.datagram(now, Protocol::Tcp, source, bytes));
        for event in events {
            match event.token() {
                WAKE | UDP | FEEDBACK => {}
                LISTENER => {
                    let refused = tcp.accept(self.poll.registry(), now);
                    engine.counters.dropped_many("tcp_connection_refused", refused as u64);
                }
                token => tcp.ready(token, now, |source, bytes| engine.datagram(now, Protocol::Tcp, source, bytes)),
            }
        }
        if now >= self.next_sweep {
            self.next_sweep = now + TCP_SWEEP;
            tcp.expire(now);
        }
    }

    fn send(&mut self) {
        let Self { engine, udp, tcp, .. } = self;
        let since = engine.waits_since();
        let mut untimed = 0;
        let Egress { bytes, datagrams } = &mut engine.egress;
        let (mut unsent, mut backlogged, mut unconnected) = (0, 0, 0);
        let mut rest = bytes.as_slice();
        for run in runs(datagrams, udp.max_segments()) {
            let Some((contents, behind)) = rest.split_at_checked(run.bytes) else { break };
            rest = behind;
            if untimed >= TIMED_TOGETHER {
                engine.counters.forwarded(std::mem::take(&mut untimed), since, clock());
            }
            untimed += run.datagrams;
            if run.first.protocol == Protocol::Udp {
                let is_sent = udp.send(run.first.destination, contents, run.first.length);
                unsent += if is_sent { 0 } else { run.datagrams as u64 };
                continue;
            }
            match tcp.as_mut().map_or(Sent::NoConnection, |tcp| tcp.send(run.first.destination, contents)) {
                Sent::Queued => {}
                Sent::Backlogged => backlogged += 1,
                Sent::NoConnection => unconnected += 1,
            }
        }
        engine.counters.forwarded(untimed, since, clock());
        bytes.clear();
        datagrams.clear();
        for (reason, count) in [("socket_full", unsent), ("tcp_backlog", backlogged), ("tcp_closed", unconnected)] {
            engine.counters.dropped_many(reason, count);
        }
    }
}

/// What one round read of a socket.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Whether there was anything.
    found: bool,
    /// Whether there is more than one round takes.
    has_more: bool,
}

/// Reads what is there, so much that the round still ends soon.
fn read(udp: &mut Udp, engine: &mut Engine, now: Instant) -> Reading {
    let mut found = false;
    for _ in 0..MAX_READS {
        let more = udp.receive(|source, bytes| {
            found = true;
            engine.datagram(now, Protocol::Udp, source, bytes);
        });
        match more {
            Ok(true) => {}
            Ok(false) => return Reading { found, has_more: false },
            // An ICMP error of an earlier send shows up here; the socket is fine.
            Err(_) => engine.counters.dropped("socket_error"),
        }
    }
    Reading { found, has_more: true }
}

fn not_interrupted(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
