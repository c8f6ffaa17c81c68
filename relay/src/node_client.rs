//! The door's side: one connection to one media node, kept up.
#![expect(clippy::disallowed_methods, reason = "IO: measures how long connections stood, draws the backoff's jitter")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    NodeId,
    node::{Answer, Opening, Query, Session, VERSION},
    signal::{ClientMessage, ServerMessage},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    backoff::Backoff,
    doors::BUSY_TIMEOUT,
    endpoint::{Endpoint, until_lost},
    error::RelayError,
    frames::{FrameReceiver, FrameSender},
    identity::{PeerIdentity, Role},
    reason::CloseReason,
};

/// How long a stream may take to open: it waits only when the door has too many open already.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take: what the node may take, and a round trip around the world.
const ANSWER_TIMEOUT: Duration = BUSY_TIMEOUT.saturating_add(Duration::from_secs(1));

/// Keeps one connection to one media node. Cloning it is cheap; dropping the last clone closes the connection.
#[derive(Debug, Clone)]
pub struct NodeClient(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    identity: PeerIdentity,
    state: Arc<State>,
    /// True, or dropped, ends the dialling.
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    connection: watch::Sender<Option<quinn::Connection>>,
    up: watch::Sender<bool>,
}

impl NodeClient {
    /// Begins to dial `node`, a media node of this door's own PoP, at `addr`, and goes on until it is closed. Must be
    /// called within a tokio runtime.
    pub fn start(endpoint: Endpoint, node: NodeId, addr: SocketAddr) -> Self {
        let identity = PeerIdentity { role: Role::Sfu, node, pop: endpoint.identity().pop.clone() };
        let state = Arc::new(State { connection: watch::Sender::new(None), up: watch::Sender::new(false) });
        let (stop, mut stopped) = watch::channel(false);
        let (dialled, kept) = (identity.clone(), state.clone());
        tokio::spawn(async move {
            tokio::select! {
                never = keep_connected(&endpoint, &dialled, addr, &kept) => match never {},
                _ = stopped.wait_for(|stopped| *stopped) => kept.set(None),
            }
        });
        Self(Arc::new(Kept { identity, state, stop }))
    }

    /// The media node.
    pub fn node(&self) -> &NodeId {
        &self.0.identity.node
    }

    /// Whether the node is reached. A node that dies is noticed in less than 2 s.
    pub fn is_up(&self) -> bool {
        *self.0.state.up.borrow()
    }

    /// The same, to wait for.
    pub fn up(&self) -> watch::Receiver<bool> {
        self.0.state.up.subscribe()
    }

    /// Opens a session. That the node refuses it shows when receiving.
    pub async fn session(
        &self,
        session: Session,
    ) -> Result<(FrameSender<ClientMessage>, FrameReceiver<ServerMessage>), RelayError> {
        self.open(&Opening::Session { version: VERSION, session }).await
    }

    /// Asks, and waits for the answer.
    pub async fn query(&self, query: Query) -> Result<Answer, RelayError> {
        let ask = async {
            let (sender, mut receiver) =
                self.open::<Opening, Answer>(&Opening::Query { version: VERSION, query }).await?;
            let answer = receiver.receive().await?.ok_or(RelayError::Ended(CloseReason::Done));
            drop(sender);
            answer
        };
        timeout(ANSWER_TIMEOUT, ask).await.unwrap_or(Err(RelayError::TimedOut))
    }

    /// Ends the connection and stops dialling; sessions on it end.
    pub fn close(&self) {
        self.0.stop.send_replace(true);
        self.0.state.set(None);
    }

    async fn open<S: serde::Serialize, R: serde::de::DeserializeOwned>(
        &self,
        opening: &Opening,
    ) -> Result<(FrameSender<S>, FrameReceiver<R>), RelayError> {
        let connection = self.0.state.connection.borrow().clone();
        let connection = connection.ok_or_else(|| RelayError::Down { node: self.node().clone() })?;
        let open = async {
            let (sender, receiver) = connection.open_bi().await?;
            let mut sender = FrameSender::new(sender);
            sender.send(opening).await?;
            Ok((sender.then(), FrameReceiver::new(receiver)))
        };
        timeout(OPEN_TIMEOUT, open).await.unwrap_or(Err(RelayError::TimedOut))
    }
}

impl State {
    /// Takes the place of the connection there was; that one is closed. Whoever sees `up` finds the connection.
    fn set(&self, connection: Option<quinn::Connection>) {
        let up = connection.is_some();
        if let Some(older) = self.connection.send_replace(connection) {
            CloseReason::Done.close(&older);
        }
        self.up.send_replace(up);
    }
}

async fn keep_connected(endpoint: &Endpoint, node: &PeerIdentity, addr: SocketAddr, state: &State) -> Infallible {
    let mut backoff = Backoff::new();
    loop {
        let stood = match endpoint.dial(node, addr).await {
            Ok(connection) => {
                info!(%node, %addr, "media node up");
                let since = Instant::now();
                state.set(Some(connection.clone()));
                let reason = until_lost(&connection).await;
                state.set(None);
                info!(%node, %addr, %reason, "media node down");
                since.elapsed()
            }
            Err(error) => {
                debug!(%node, %addr, %error, "cannot reach the media node");
                Duration::ZERO
            }
        };
        sleep(backoff.delay(stood, rand::random())).await;
    }
}
