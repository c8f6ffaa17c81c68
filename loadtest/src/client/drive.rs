//! Sockets and clock around one client: wait, read, hand to the client, do what it wants.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core")]

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use isthmus_protocol::signal::{MAX_MESSAGE_BYTES, SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX};
use reqwest::Url;
use str0m::net::{Protocol, Transmit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::mpsc,
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue, protocol::WebSocketConfig},
};

use super::{
    framing::{self, Deframer},
    impairment::{Impairment, Network},
    join::Ticket,
    session::{Client, Output},
    signalling::{janus, whip},
};

/// Larger than any UDP packet of ours.
const READ_BUFFER_BYTES: usize = 2048;
/// What a signalling socket reads at once. It is cleared at every look at the socket, even in vain: with the default of
/// 128 KiB that was a fifth of the cost of receiving a packet of speech.
const SIGNAL_READ_BYTES: usize = 4096;
/// The most packets that are read from a UDP socket before the client looks at anything else.
const UDP_BURST: usize = 32;
/// Packets that were read from TCP and wait for the client; reading then waits too.
const TCP_IN_QUEUE: usize = 256;
/// Packets that wait to be written to TCP. One beyond is dropped, as a router would, and counted.
const TCP_OUT_QUEUE: usize = 256;
/// How often the watcher is called.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// The longest an opening of a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the door may take to hear the goodbye.
const LEAVE_GRACE: Duration = Duration::from_millis(500);

/// The signalling socket.
pub type SignalSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How a client reaches the server that it talks to.
pub enum Link {
    /// By a socket that stays open.
    Socket(Box<SignalSocket>),
    /// By HTTP: the session is deleted in the end.
    Http(whip::Session),
}

/// Opens the signalling socket of a PoP. The token goes as a subprotocol, never in the URL.
pub async fn open_signalling(ticket: &Ticket, tls: Arc<rustls::ClientConfig>) -> anyhow::Result<SignalSocket> {
    let mut url = ticket.door.join("/v1/signal")?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    if url.set_scheme(scheme).is_err() {
        bail!("{} is neither an http nor an https URL", ticket.door);
    }
    let protocols = format!("{SUBPROTOCOL}, {TOKEN_SUBPROTOCOL_PREFIX}{}", ticket.token);
    let mut protocols = HeaderValue::from_str(&protocols).context("the token has characters that no token has")?;
    protocols.set_sensitive(true);
    // A page that this door serves is what joins in a browser.
    let origin = HeaderValue::from_str(&ticket.door.origin().ascii_serialization())?;
    open_socket(&url, protocols, Some(origin), tls).await
}

/// Opens the WebSocket of a Janus.
pub async fn open_janus(url: &Url, tls: Arc<rustls::ClientConfig>) -> anyhow::Result<SignalSocket> {
    open_socket(url, HeaderValue::from_static(janus::SUBPROTOCOL), None, tls).await
}

async fn open_socket(
    url: &Url,
    protocols: HeaderValue,
    origin: Option<HeaderValue>,
    tls: Arc<rustls::ClientConfig>,
) -> anyhow::Result<SignalSocket> {
    let mut request = url.as_str().into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocols);
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", origin);
    }
    let limits =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).read_buffer_size(SIGNAL_READ_BYTES);
    let connect =
        tokio_tungstenite::connect_async_tls_with_config(request, Some(limits), true, Some(Connector::Rustls(tls)));
    let (socket, _) = tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .with_context(|| format!("{url} did not answer within {CONNECT_TIMEOUT:?}"))?
        .with_context(|| format!("cannot open {url}"))?;
    Ok(socket)
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

/// What a media connection over TCP has to say.
enum TcpEvent {
    Connected { local: SocketAddr, remote: SocketAddr, packets: mpsc::Sender<Vec<u8>> },
    Packet { local: SocketAddr, remote: SocketAddr, packet: Vec<u8> },
    Closed { remote: SocketAddr, why: String },
}

/// The IO of one client.
pub struct Driver {
    client: Client,
    /// None once the socket has closed.
    link: Option<Link>,
    /// With its own address, which the kernel need not be asked for at every packet.
    udp: Option<(UdpSocket, SocketAddr)>,
    /// A bad network between the socket and the client, with where packets came from.
    impairment: Option<Impairment<Transmit, (SocketAddr, Vec<u8>)>>,
    tcp: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>,
    tcp_events: (mpsc::Sender<TcpEvent>, mpsc::Receiver<TcpEvent>),
    tcp_dropped: u64,
}

/// What woke the driver.
enum Woken {
    Signal(Option<Result<Message, tokio_tungstenite::tungstenite::Error>>),
    Udp,
    Tcp(TcpEvent),
    Time,
}

impl Driver {
    /// IO for a client. Without `udp` its media goes over TCP.
    pub fn new(client: Client, link: Link, udp: Option<(UdpSocket, SocketAddr)>) -> Self {
        let tcp_events = mpsc::channel(TCP_IN_QUEUE);
        Self { client, link: Some(link), udp, impairment: None, tcp: HashMap::new(), tcp_events, tcp_dropped: 0 }
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
        let mut end = std::pin::pin!(end);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut next_watch = Instant::now();
        let mut wait = self.do_what_it_wants().await?;
        loop {
            let now = Instant::now();
            if self.client.is_over() {
                break;
            }
            if now >= next_watch {
                watch(&mut self.client, now);
                next_watch = now + WATCH_INTERVAL;
            }
            tokio::select! {
                woken = self.wait(self.wake_at(wait.min(next_watch))) => wait = self.handle(woken, &mut buffer).await?,
                () = &mut end => break,
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
                Output::Signal(text) => self.send_signal(text).await,
                Output::Transmit(transmit) => self.transmit(transmit).await,
                Output::Connect(remote) => {
                    tokio::spawn(carry_tcp(remote, self.tcp_events.0.clone()));
                }
                Output::Wait(until) => return Ok(until),
            }
        }
    }

    /// At the latest when a packet of the client's network is due.
    fn wake_at(&self, until: Instant) -> Instant {
        self.impairment.as_ref().and_then(Impairment::next_due).map_or(until, |due| due.min(until))
    }

    /// Hands on what is due on the client's network.
    async fn deliver(&mut self, now: Instant) -> anyhow::Result<()> {
        while let Some(impairment) = &mut self.impairment {
            if let Some(transmit) = impairment.up.poll(now) {
                self.send_udp(&transmit).await;
            } else if let Some((from, packet)) = impairment.down.poll(now)
                && let Some((_, to)) = &self.udp
            {
                self.client.handle_packet(now, Protocol::Udp, from, *to, &packet)?;
                self.do_what_it_wants().await?;
            } else {
                break;
            }
        }
        Ok(())
    }

    async fn wait(&mut self, until: Instant) -> Woken {
        let signalling = async {
            match &mut self.link {
                Some(Link::Socket(socket)) => socket.next().await,
                Some(Link::Http(_)) | None => std::future::pending().await,
            }
        };
        let udp = async {
            match &self.udp {
                // An error is found again, and told, when it is read.
                Some((socket, _)) => drop(socket.readable().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = signalling => Woken::Signal(message),
            () = udp => Woken::Udp,
            Some(event) = self.tcp_events.1.recv() => Woken::Tcp(event),
            () = tokio::time::sleep_until(until.into()) => Woken::Time,
        }
    }

    /// Hands over what arrived and does what the client wants then. Until when to wait.
    async fn handle(&mut self, woken: Woken, buffer: &mut [u8]) -> anyhow::Result<Instant> {
        let now = Instant::now();
        self.deliver(now).await?;
        match woken {
            Woken::Signal(message) => self.handle_message(now, message)?,
            Woken::Udp => return self.read_udp(buffer).await,
            Woken::Tcp(TcpEvent::Connected { local, remote, packets }) => {
                self.tcp.insert(remote, packets);
                self.client.handle_connected(local)?;
            }
            Woken::Tcp(TcpEvent::Packet { local, remote, packet }) => {
                self.client.handle_packet(now, Protocol::Tcp, remote, local, &packet)?;
            }
            Woken::Tcp(TcpEvent::Closed { remote, why }) => {
                self.tcp.remove(&remote);
                self.client.note_error(format!("the media connection to {remote} ended: {why}"));
            }
            Woken::Time => self.client.handle_timeout(now)?,
        }
        self.do_what_it_wants().await
    }

    /// Takes in the packets that wait, without waiting for more. After each the engine must be asked what it wants.
    async fn read_udp(&mut self, buffer: &mut [u8]) -> anyhow::Result<Instant> {
        let mut wait = None;
        for _ in 0..UDP_BURST {
            let Some((socket, to)) = &self.udp else { break };
            match socket.try_recv_from(buffer) {
                Ok((length, from)) => {
                    let now = Instant::now();
                    if let Some(impairment) = &mut self.impairment {
                        impairment.down.accept(now, length, (from, buffer[..length].to_vec()));
                        continue;
                    }
                    self.client.handle_packet(now, Protocol::Udp, from, *to, &buffer[..length])?;
                    wait = Some(self.do_what_it_wants().await?);
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

    /// Media goes on without the socket.
    fn handle_message(
        &mut self,
        now: Instant,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> anyhow::Result<()> {
        let closed = match message {
            Some(Ok(Message::Text(text))) => return Ok(self.client.handle_text(now, &text)?),
            Some(Ok(Message::Close(frame))) => frame.map_or_else(String::new, |frame| frame.reason.to_string()),
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => error.to_string(),
            None => "no reason given".into(),
        };
        self.link = None;
        self.client.handle_signalling_closed(&closed);
        Ok(())
    }

    async fn send_signal(&mut self, text: String) {
        let Some(Link::Socket(socket)) = &mut self.link else { return };
        // A socket that fails says so when it is read.
        let _ = socket.send(Message::text(text)).await;
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
        let Some((udp, _)) = &self.udp else { return };
        if let Err(error) = udp.send_to(&transmit.contents, transmit.destination).await {
            tracing::debug!(%error, "UDP");
        }
    }

    async fn say_goodbye(&mut self) {
        self.client.leave(Instant::now());
        let goodbye = async {
            if self.do_what_it_wants().await.is_err() {
                return;
            }
            match self.link.take() {
                Some(Link::Socket(mut socket)) => {
                    // The server may have closed it first.
                    let _ = (*socket).close(None).await;
                }
                Some(Link::Http(session)) => session.end().await,
                None => {}
            }
        };
        let _ = tokio::time::timeout(LEAVE_GRACE, goodbye).await;
    }
}

/// Opens a media connection, and carries packets in RFC 4571 frames until either side ends it.
async fn carry_tcp(remote: SocketAddr, events: mpsc::Sender<TcpEvent>) {
    let why = match open_tcp(remote, &events).await {
        Ok(()) => "the node closed it".to_owned(),
        Err(error) => error.to_string(),
    };
    // Nobody listens once the client is gone.
    let _ = events.send(TcpEvent::Closed { remote, why }).await;
}

async fn open_tcp(remote: SocketAddr, events: &mpsc::Sender<TcpEvent>) -> std::io::Result<()> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(remote)).await??;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let (mut reader, mut writer) = stream.into_split();
    let (packets, mut outgoing) = mpsc::channel::<Vec<u8>>(TCP_OUT_QUEUE);
    if events.send(TcpEvent::Connected { local, remote, packets }).await.is_err() {
        return Ok(());
    }
    let write = async {
        while let Some(packet) = outgoing.recv().await {
            if let Some(frame) = framing::frame(&packet) {
                writer.write_all(&frame).await?;
            }
        }
        Ok(())
    };
    let read = async {
        let mut deframer = Deframer::default();
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let length = reader.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            deframer.handle_bytes(&buffer[..length]);
            while let Some(packet) = deframer.poll_packet() {
                if events.send(TcpEvent::Packet { local, remote, packet }).await.is_err() {
                    return Ok(());
                }
            }
        }
    };
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
    }
}
