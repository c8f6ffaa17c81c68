//! The door of a point of presence: everything that is public about it but the media.
//!
//! # The contract
//! - A client finds the nearest PoP, gets a token if it has none, and joins by WebSocket, WHIP or WHEP. The door says
//!   who may; the media nodes say what happens.
//! - The door keeps no session. It may die at any moment: media flows on between clients and media nodes, sockets open
//!   again at this door or another one and resume.
//! - The store is not needed to join. While it cannot be reached, the list of PoPs is the last one and rankings fall
//!   back on geography.
//! - Whatever a client sends is limited in size and pace before it is looked at, and checked before it is passed on.
//!   Every refusal is an RFC 9457 problem document, or a message, with a stable code.
//!
//! # The parts
//! - `http`: one module per public resource, and the layers that hold for all.
//! - `signal`: one signalling socket from hello to close.
//! - `session`, `nodes`: which media node takes a room, and a stream to it.
//! - `pops`: the list of PoPs, kept current in the background.
//! - `ops`: the operators' listener.
//! - Without IO, tested as values: `nodes::placement`, `sdp`, `sdpfrag`, `exposition`, `csp`, `origin`, `limits`.

mod accounts;
mod caller;
pub mod config;
mod csp;
mod door;
mod exposition;
mod http;
mod limits;
mod listener;
mod metrics;
mod nodes;
mod ops;
mod origin;
mod pops;
mod problem;
mod sdp;
mod sdpfrag;
mod session;
mod signal;
mod tokens;

use std::{io, net::SocketAddr, sync::Arc};

use isthmus_directory::{Directory, People};
use isthmus_relay::{Credentials, Endpoint};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

pub use self::{accounts::MailError, config::Config, origin::InvalidOrigin, tokens::TokenKeysError};
use self::{
    accounts::{Accounts, Sending},
    door::Door,
    listener::{Connections, Listener},
    pops::Upkeep,
};

/// Connections that operators' tools may have open at once.
const OPS_CONNECTIONS: u32 = 1_000;

/// Why a door cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not this machine's.
    #[error("cannot listen on {address} ({what}): {error}")]
    Listen {
        /// For what.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The certificate of the public listener.
    #[error("cannot use the TLS certificate: {0}")]
    Tls(String),
    /// The configured origins.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
    /// The keys of room tokens.
    #[error(transparent)]
    Tokens(#[from] TokenKeysError),
    /// The web app is not there.
    #[error("cannot read the web app's page {path}: {error}; build it, or leave web_root out")]
    WebApp {
        /// The page.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The address-to-region table.
    #[error("cannot use the address-to-region table {path}: {error}")]
    Places {
        /// The file.
        path: String,
        /// Why.
        error: String,
    },
    /// How mails are sent.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// A metric of the same name is there already.
    #[error("cannot register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A door that listens and does not serve yet.
pub struct Gateway {
    door: Arc<Door>,
    upkeep: Upkeep,
    sending: Option<Sending>,
    endpoint: Endpoint,
    public: Listener,
    ops: Listener,
}

impl Gateway {
    /// Loads what the configuration names and binds the listeners. `people` are wanted where it has accounts. `registry` carries the labels `pop` and `node`.
    pub fn bind(
        config: Config,
        credentials: &Credentials,
        directory: Directory,
        people: Option<People>,
        registry: Registry,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let (listen, ops_listen, relay_bind) = (config.listen, config.ops_listen, config.relay_bind);
        let tls = config.tls.clone();
        let endpoint = Endpoint::bind(relay_bind, credentials).map_err(|error| StartError::Listen {
            what: "QUIC to the media nodes",
            address: relay_bind,
            error,
        })?;
        let public = Listener::bind("public HTTP", listen, tls.as_ref())?;
        let ops = Listener::bind("ops HTTP", ops_listen, None)?;
        let accounts = config.accounts.as_ref().zip(people);
        let accounts =
            accounts.map(|(accounts, people)| Accounts::open(accounts, &config.public_url, people)).transpose()?;
        let (accounts, sending) = accounts.unzip();
        let (door, upkeep) = Door::open(config, &endpoint, directory, accounts, registry, shutdown)?;
        Ok(Self { door: Arc::new(door), upkeep, sending, endpoint, public, ops })
    }

    /// Where the public listener is.
    pub fn public_addr(&self) -> SocketAddr {
        self.public.address()
    }

    /// Where the operators' listener is.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.address()
    }

    /// Serves until the shutdown token is cancelled: then sockets are closed with 1012, and requests that are under way
    /// get a moment to end.
    pub async fn serve(self) -> io::Result<()> {
        let Self { door, upkeep, sending, endpoint, public, ops } = self;
        let shutdown = door.shutdown.clone();
        let limits = &door.config.limits;
        let (most, per_network) = (limits.connections, limits.connections_per_network);
        let refused = door.metrics.drops.with_label_values(&["connections_full"]);
        let of_public = Connections::new(most, per_network, &door.config.trusted_proxies, refused.clone());
        let of_ops = Connections::new(OPS_CONNECTIONS, OPS_CONNECTIONS, &[], refused);
        tracing::info!(public = %public.address(), ops = %ops.address(), "the door is open");
        let served = async {
            tokio::try_join!(
                public.serve(http::router(door.clone()), of_public, shutdown.clone()),
                ops.serve(ops::router(door.clone()), of_ops, shutdown.clone()),
            )
        };
        let result = tokio::select! {
            result = served => result.map(|_| ()),
            ((), (), ()) = async {
                let accounts = door.accounts_upkeep(sending);
                tokio::join!(door.pops.upkeep(upkeep), door.nodes.watch_load(), accounts)
            } => Ok(()),
        };
        door.sockets_closed().await;
        door.nodes.close();
        endpoint.close().await;
        result
    }
}

/// Runs a door until `shutdown` is cancelled.
pub async fn run(
    config: Config,
    credentials: Credentials,
    directory: Directory,
    people: Option<People>,
    registry: Registry,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    Gateway::bind(config, &credentials, directory, people, registry, shutdown)?.serve().await.map_err(RunError::Serve)
}

/// Why a door ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener failed.
    #[error("a listener failed: {0}")]
    Serve(io::Error),
}
