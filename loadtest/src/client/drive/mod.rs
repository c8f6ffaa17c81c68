//! Sockets and clock around one client: wait, read, hand to the client, do what it wants.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core")]

mod signalling;
mod tcp;
mod udp;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use reqwest::Url;
use str0m::net::{Protocol, Transmit};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Sleep, sleep_until},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

pub use self::signalling::{SignalSocket, open_janus, open_signalling};
use self::{signalling::Line, udp::Udp};
use super::{
    impairment::{Impairment, Network},
    session::{Client, Output},
    signalling::whip,
};

/// Larger than any UDP packet of ours.
const READ_BUFFER_BYTES: usize = 2048;
/// The most packets that are read from a UDP socket before the client looks at anything else.
const UDP_BURST: usize = 32;
/// Messages, and packets by TCP, that wait for the client; reading then waits too.
const EVENTS: usize = 256;
/// How often a client reads that does so at leisure, and at most how many packets then: a socket holds some 250 small ones.
const LEISURE: Duration = Duration::from_millis(200);
const LEISURE_BURST: usize = 512;
/// How often the watcher is called.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long the door may take to hear the goodbye.
const LEAVE_GRACE: Duration = Duration::from_millis(500);

/// How a client reaches the server that it talks to.
pub enum Link {
    /// By a socket that stays open.
    Socket(Box<SignalSocket>),
    /// By HTTP: the session is deleted in the end.
    Http(whip::Session),
}

/// A socket for media at the address that the door is reached from, with its address.
pub async fn media_socket(door: &Url) -> anyhow::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind((local_address_towards(door).await?, 0)).await?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// The address of this machine that the door is reached from: the one to receive media at.
async fn local_address_towards(door: &Url) -> anyhow::Result<IpAddr> {
    let addresses = door.socket_addrs(|| None).with_context(|| format!("cannot resolve {door}"))?;
    let door = addresses.first().with_context(|| format!("{door} has no address"))?;
    let unspecified = SocketAddr::from((if door.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }, 0));
    let socket = UdpSocket::bind(unspecified).await?;
    // Connecting a UDP socket sends nothing; it only chooses a route.
    socket.connect(door).await?;
    Ok(socket.local_addr()?.ip())
}

/// What the tasks around a client have to say.
enum Event {
    /// The server said something over the signalling socket.
    Heard(Utf8Bytes),
    SignallingClosed(String),
    /// A connection for media is open; packets for it go in here.
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
        packets: mpsc::Sender<Vec<u8>>,
    },
    Packet {
        local: SocketAddr,
        remote: SocketAddr,
        packet: Vec<u8>,
    },
    Closed {
        remote: SocketAddr,
        why: String,
    },
}

/// The IO of one client.
pub struct Driver {
    client: Client,
    /// None once it has closed, or if there never was one.
    line: Option<Line>,
    /// Of a server that is asked by HTTP.
    session: Option<whip::Session>,
    udp: Option<Udp>,
    /// A bad network between the socket and the client, with where packets came from.
    impairment: Option<Impairment<Transmit, (SocketAddr, Vec<u8>)>>,
    tcp: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    tcp_dropped: u64,
    /// When a client reads that does so at leisure.
    next_read: Instant,
}

/// What woke the driver.
enum Woken {
    Event(Event),
    Udp,
    Time,
}

impl Driver {
    /// IO for a client. Without `udp` its media goes over TCP.
    pub fn new(client: Client, server: Link, udp: Option<(UdpSocket, SocketAddr)>) -> Self {
        let events = mpsc::channel(EVENTS);
        let (line, session) = match server {
            Link::Socket(socket) => (Some(Line::new(*socket, events.0.clone())), None),
            Link::Http(session) => (None, Some(session)),
        };
        Self {
            client,
            line,
            session,
            udp: udp.map(Udp::new),
            impairment: None,
            tcp: HashMap::new(),
            events,
            tcp_dropped: 0,
            next_read: Instant::now(),
        }
    }

    /// The same behind this network.
    #[must_use]
    pub fn behind(self, network: Option<&Network>) -> Self {
        Self { impairment: network.map(Impairment::new), ..self }
    }

    /// Runs the client until `end`, or until its session is over; then says goodbye. `watch` sees it twice a second.
    pub async fn run(
        mut self,
        end: impl Future<Output = ()>,
        mut watch: impl FnMut(&mut Client, Instant),
    ) -> anyhow::Result<Client> {
        let (mut end, mut alarm) = (pin!(end), pin!(sleep_until(Instant::now().into())));
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut next_watch = Instant::now();
        let mut wait = self.do_what_it_wants().await?;
        while !self.client.is_over() {
            let now = Instant::now();
            if now >= next_watch {
                watch(&mut self.client, now);
                next_watch = now + WATCH_INTERVAL;
            }
            ring_by(alarm.as_mut(), self.wake_at(wait.min(next_watch)));
            let woken = std::future::poll_fn(|cx| self.poll_woken(cx, alarm.as_mut()));
            tokio::select! {
                biased;
                () = &mut end => break,
                woken = woken => wait = self.handle(woken, &mut buffer).await?,
            }
        }
        if let Some(impairment) = &self.impairment {
            self.client.note_network(impairment.counted());
        }
        self.say_goodbye().await;
        if self.tcp_dropped > 0 {
            self.client.note_error(format!("{} packets were dropped before a slow TCP connection", self.tcp_dropped));
        }
        Ok(self.client)
    }

    /// Until when to wait.
    async fn do_what_it_wants(&mut self) -> anyhow::Result<Instant> {
        loop {
            match self.client.poll(Instant::now())? {
                Output::Signal(text) => self.send_signal(text),
                Output::Transmit(transmit) => self.transmit(transmit).await,
                Output::Connect(remote) => {
                    tokio::spawn(tcp::carry(remote, self.events.0.clone()));
                }
                Output::Wait(until) => return Ok(until),
            }
        }
    }

    /// At the latest when a packet of the client's network is due. Who reads at leisure does everything then: nothing of theirs is
    /// so urgent.
    fn wake_at(&self, until: Instant) -> Instant {
        let until = if self.client.reads_at_leisure() { self.next_read } else { until };
        self.impairment.as_ref().and_then(Impairment::next_due).map_or(until, |due| due.min(until))
    }

    /// Hands on what is due on the client's network.
    async fn deliver(&mut self, now: Instant) -> anyhow::Result<()> {
        while let Some(impairment) = &mut self.impairment {
            if let Some(transmit) = impairment.up.poll(now) {
                self.send_udp(&transmit).await;
            } else if let Some((from, packet)) = impairment.down.poll(now) {
                self.hand_over(now, from, &packet).await?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// What to do next. This is run for every packet, so it is one look at each thing and no future is made.
    fn poll_woken(&mut self, cx: &mut Context<'_>, alarm: Pin<&mut Sleep>) -> Poll<Woken> {
        if let Poll::Ready(Some(event)) = self.events.1.poll_recv(cx) {
            return Poll::Ready(Woken::Event(event));
        }
        // An error is found again, and told, when it is read.
        if self.udp.as_ref().is_some_and(|udp| udp.poll_ready(cx)) {
            return Poll::Ready(Woken::Udp);
        }
        alarm.poll(cx).map(|()| Woken::Time)
    }

    /// Hands over what arrived and does what the client wants then. Until when to wait.
    async fn handle(&mut self, woken: Woken, buffer: &mut [u8]) -> anyhow::Result<Instant> {
        let now = Instant::now();
        self.deliver(now).await?;
        match woken {
            Woken::Udp => return self.read_udp(buffer, UDP_BURST).await,
            Woken::Event(event) => self.handle_event(now, event)?,
            Woken::Time => self.client.handle_timeout(now)?,
        }
        if self.client.reads_at_leisure() && now >= self.next_read {
            self.next_read = now + LEISURE;
            if let Some(udp) = self.udp.take_if(|udp| udp.is_watched()) {
                self.udp = Some(udp.unwatch()?);
            }
            return self.read_udp(buffer, LEISURE_BURST).await;
        }
        self.do_what_it_wants().await
    }

    /// Hands a packet to the client and does what it wants then. Until when to wait, unless that stands as it was.
    async fn hand_over(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) -> anyhow::Result<Option<Instant>> {
        let Some(to) = self.udp.as_ref().map(|udp| udp.address) else { return Ok(None) };
        if self.client.count_packet(now, packet) {
            return Ok(None);
        }
        self.client.handle_packet(now, Protocol::Udp, from, to, packet)?;
        self.do_what_it_wants().await.map(Some)
    }

    /// Takes in at most so many of the packets that wait, without waiting for more. After each the engine must be asked what it wants.
    async fn read_udp(&mut self, buffer: &mut [u8], most: usize) -> anyhow::Result<Instant> {
        let mut wait = None;
        for _ in 0..most {
            let Some(udp) = &self.udp else { break };
            match udp.read(buffer) {
                Ok((length, from)) => {
                    let now = Instant::now();
                    if let Some(impairment) = &mut self.impairment {
                        impairment.down.accept(now, length, (from, buffer[..length].to_vec()));
                        continue;
                    }
                    wait = self.hand_over(now, from, &buffer[..length]).await?.or(wait);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // An ICMP message about an earlier packet; ICE finds out by itself whether a path works.
                Err(error) => tracing::debug!(%error, "UDP"),
            }
        }
        match wait {
            Some(wait) => Ok(wait),
            None => self.do_what_it_wants().await,
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Heard(text) => self.client.handle_text(now, &text)?,
            Event::SignallingClosed(why) => {
                // Media goes on without it.
                self.line = None;
                self.client.handle_signalling_closed(&why);
            }
            Event::Connected { local, remote, packets } => {
                self.tcp.insert(remote, packets);
                self.client.handle_connected(local)?;
            }
            Event::Packet { local, remote, packet } => {
                self.client.handle_packet(now, Protocol::Tcp, remote, local, &packet)?;
            }
            Event::Closed { remote, why } => {
                self.tcp.remove(&remote);
                self.client.note_error(format!("the media connection to {remote} ended: {why}"));
            }
        }
        Ok(())
    }

    fn send_signal(&mut self, text: String) {
        if let Some(line) = self.line.take_if(|line| !line.say(text)) {
            drop(line);
            self.client.handle_signalling_closed("the server takes nothing from it");
        }
    }

    async fn transmit(&mut self, transmit: Transmit) {
        if transmit.proto == Protocol::Udp {
            match &mut self.impairment {
                Some(impairment) => impairment.up.accept(Instant::now(), transmit.contents.len(), transmit),
                None => self.send_udp(&transmit).await,
            }
        } else if let Some(connection) = self.tcp.get(&transmit.destination) {
            self.tcp_dropped += u64::from(connection.try_send(transmit.contents.to_vec()).is_err());
        }
    }

    async fn send_udp(&self, transmit: &Transmit) {
        if let Some(udp) = &self.udp {
            udp.send(transmit).await;
        }
    }

    async fn say_goodbye(&mut self) {
        self.client.leave(Instant::now());
        let goodbye = async {
            if self.do_what_it_wants().await.is_err() {
                return;
            }
            if let Some(line) = self.line.take() {
                line.close().await;
            }
            if let Some(session) = self.session.take() {
                session.end().await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_GRACE, goodbye).await;
    }
}

/// Sets an alarm. One that is set for earlier stays: to be woken once too often costs less than to set it for every packet.
fn ring_by(alarm: Pin<&mut Sleep>, at: Instant) {
    if alarm.is_elapsed() || at < alarm.deadline().into_std() {
        alarm.reset(at.into());
    }
}
