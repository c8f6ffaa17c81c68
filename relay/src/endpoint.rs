//! The one UDP socket of a process, dialling and answering, and what every connection on it has in common.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core, draws connection ids")]

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{
    ClientConfig, ConnectionError, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, ServerConfig,
    TokioRuntime, TransportConfig, VarInt, crypto::HmacKey, udp::UdpSocketState,
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{
    congestion::LiveMedia,
    credentials::Credentials,
    health::{HEARTBEAT, Health, LOOK},
    identity::{PeerIdentity, Role},
    link::DATAGRAM_SEND_BUFFER_BYTES,
    reason::CloseReason,
};

/// The UDP payload a connection begins with, in bytes: a full RTP packet fits one datagram from the first on. It passes
/// Ethernet and the usual tunnels; where it does not pass, QUIC finds the black hole and falls back to 1200
/// (RFC 8899), and where more passes, it finds that too.
pub const INITIAL_MTU_BYTES: u16 = 1350;
/// Incoming datagrams not yet read, in bytes per connection. Full: QUIC drops the oldest; the gap is repaired.
const DATAGRAM_RECEIVE_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of one stream on their way: 1 MB/s over a quarter of a second. Full: the sender waits.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes of all streams of one connection on their way. Full: the senders wait.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// The kernel's queues of the socket: 100 ms at 300 Mbit/s. Full: the kernel drops, the gap is repaired. The system may
/// grant less (`net.core.rmem_max`).
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// First packets of connections not yet looked at. Full: new ones are refused.
const MAX_INCOMING: usize = 1024;
/// What those sent beyond their first packet, in bytes. Full: QUIC drops, they repeat.
const MAX_INCOMING_BYTES: u64 = 4 * 1024 * 1024;
/// QUIC's own idle timeout: a backstop behind [`Health`].
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Round-trip time assumed before the first measurement: repeats of a lost first packet come after three of these.
const INITIAL_RTT: Duration = Duration::from_millis(120);
/// How long one attempt to connect may take, three round trips around the world and repeats included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// One UDP socket with the identity of this process: dials others and answers them. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    identity: PeerIdentity,
}

/// Why nobody could be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("cannot dial: {0}")]
    Invalid(String),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("nobody answered")]
    NoAnswer,
}

impl Endpoint {
    /// Binds the socket. A media node's answers nobody until a [`Mesh`](crate::Mesh) is started on it, a door's never.
    pub fn bind(address: SocketAddr, credentials: &Credentials) -> io::Result<Self> {
        Self::bind_with_mtu(address, credentials, INITIAL_MTU_BYTES)
    }

    /// The same, beginning with UDP payloads of `initial_mtu_bytes` (at least 1200), for networks that are known.
    pub fn bind_with_mtu(address: SocketAddr, credentials: &Credentials, initial_mtu_bytes: u16) -> io::Result<Self> {
        let transport = Arc::new(transport(initial_mtu_bytes));
        let mut server = ServerConfig::with_crypto(credentials.server());
        server.transport_config(transport.clone()).max_incoming(MAX_INCOMING);
        server.incoming_buffer_size(MAX_INCOMING_BYTES / 64).incoming_buffer_size_total(MAX_INCOMING_BYTES);
        let mut client = ClientConfig::new(credentials.client());
        client.transport_config(transport);
        let reset_key: Arc<dyn HmacKey> = credentials.reset_key();
        let mut config = EndpointConfig::new(reset_key);
        config.cid_generator(|| Box::new(UnmarkedIds));
        let server = (credentials.identity().role == Role::Sfu).then_some(server);
        let mut quic = quinn::Endpoint::new(config, server, socket(address)?, Arc::new(TokioRuntime))?;
        quic.set_default_client_config(client);
        Ok(Self { quic, identity: credentials.identity().clone() })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Who this process is.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Closes every connection and takes no new one; returns once the other sides have been told, or after 1 s.
    pub async fn close(&self) {
        self.quic.close(CloseReason::Shutdown.code(), CloseReason::Shutdown.as_str().as_bytes());
        let _ = timeout(Duration::from_secs(1), self.quic.wait_idle()).await;
    }

    pub(crate) fn close_now(&self) {
        self.quic.close(CloseReason::Shutdown.code(), CloseReason::Shutdown.as_str().as_bytes());
    }

    pub(crate) async fn accept(&self) -> Option<quinn::Incoming> {
        self.quic.accept().await
    }

    /// Connects to `whom` at `address`: TLS checks that the certificate there is theirs, and theirs has ours checked.
    pub(crate) async fn dial(&self, whom: &PeerIdentity, address: SocketAddr) -> Result<quinn::Connection, DialError> {
        let name = whom.dns_name().map_err(|error| DialError::Invalid(error.to_string()))?;
        let connecting = self.quic.connect(address, &name).map_err(|error| DialError::Invalid(error.to_string()))?;
        let connected = async {
            let connection = connecting.await?;
            until_confirmed(&connection).await?;
            Ok(connection)
        };
        timeout(DIAL_TIMEOUT, connected).await.unwrap_or(Err(DialError::NoAnswer))
    }
}

/// Random connection ids that carry no mark of the process that made them. QUIC's default ones do, and a process drops
/// packets with another's; ours answers them with a stateless reset, so that the peers of its predecessor learn at
/// once that it is gone.
struct UnmarkedIds;

impl ConnectionIdGenerator for UnmarkedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; 8]>())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// In TLS 1.3 a client is done before the server has looked at its certificate. QUIC's `HANDSHAKE_DONE` says that it
/// has (RFC 9001 section 4.1.2).
async fn until_confirmed(connection: &quinn::Connection) -> Result<(), ConnectionError> {
    while connection.stats().frame_rx.handshake_done == 0 {
        if let Some(reason) = connection.close_reason() {
            return Err(reason);
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Waits until the connection is lost: closed by either side, or the other side fell silent.
pub(crate) async fn until_lost(connection: &quinn::Connection) -> ConnectionError {
    let mut health = Health::new(Instant::now());
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            error = connection.closed() => return error,
            _ = look.tick() => if !health.is_alive(heard(connection), Instant::now()) {
                CloseReason::Silent.close(connection);
            }
        }
    }
}

/// Grows with every packet of the other side that was authentic: each holds at least one of these frames.
fn heard(connection: &quinn::Connection) -> u64 {
    let frames = connection.stats().frame_rx;
    frames.acks + frames.ping + frames.datagram + frames.stream
}

fn transport(initial_mtu_bytes: u16) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(LiveMedia))
        .initial_mtu(initial_mtu_bytes)
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(HEARTBEAT))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_TIMEOUT).expect("10 s fit QUIC's 2^62 ms")))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        // One of each until the other side's role is known; a door may then open more.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(1));
    transport
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let state = UdpSocketState::new((&socket).into())?;
    state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
    state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
    Ok(socket)
}
