//! The roles a process of a PoP can have, each run from the same configuration.

mod door;
mod outage;
mod peers;
mod presence;
mod sfu;
mod store;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use prometheus::Registry;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, KeyPair, Relay},
    ops,
};

/// A role of a PoP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The embedded store and its replicator.
    Store,
    /// The media node.
    Sfu,
    /// The door.
    Door,
}

impl Role {
    /// Every role, in the order in which they are of use to each other.
    pub(crate) const ALL: [Self; 3] = [Self::Store, Self::Sfu, Self::Door];

    /// The subcommand that runs it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::Store => "directory",
            Self::Sfu => "sfu",
            Self::Door => "gateway",
        }
    }

    /// Whether `config` has what it takes.
    fn is_configured(self, config: &Config) -> bool {
        match self {
            Self::Store => config.store.is_some(),
            Self::Sfu => config.sfu.is_some(),
            Self::Door => config.gateway.is_some(),
        }
    }

    async fn run(self, config: Arc<Config>, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Boxed, because a role's future holds everything it runs: tens of kilobytes, and layouts too deep for the compiler.
        let ran = match self {
            Self::Store => Box::pin(store::run(&config, shutdown)).await,
            Self::Sfu => Box::pin(sfu::run(&config, shutdown)).await,
            Self::Door => Box::pin(door::run(&config, shutdown)).await,
        };
        ran.with_context(|| format!("isthmus {}", self.command()))
    }
}

/// Runs one role until `shutdown`.
pub(crate) async fn run_one(role: Role, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    role.run(Arc::new(config), shutdown).await
}

/// Runs every role that `config` has until `shutdown`. When one fails, the others end too: a supervisor starts the
/// process again as a whole.
pub(crate) async fn run_all(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let mut running = JoinSet::new();
    for role in Role::ALL.into_iter().filter(|role| role.is_configured(&config)) {
        running.spawn(role.run(config.clone(), shutdown.clone()));
    }
    anyhow::ensure!(!running.is_empty(), "the configuration has none of [store], [sfu] and [gateway]: nothing to run");
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        shutdown.cancel();
        result = result.and(flat(ended));
    }
    result
}

fn flat(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
    ended.context("a role panicked")?
}

/// The section that a role cannot do without.
fn section<'a, T>(section: Option<&'a T>, name: &str) -> anyhow::Result<&'a T> {
    section.with_context(|| format!("the configuration has no [{name}]"))
}

/// The relay's section and the certificate of one role in it.
fn relay<'a>(
    config: &'a Config,
    name: &str,
    pair: impl Fn(&'a Relay) -> Option<&'a KeyPair>,
) -> anyhow::Result<(&'a Relay, &'a KeyPair)> {
    let relay = section(config.relay.as_ref(), "relay")?;
    Ok((relay, section(pair(relay), name)?))
}

/// Waits for `shutdown`, and until then serves the ops listener at `address`, if there is one.
async fn serve_ops(
    address: Option<SocketAddr>,
    registry: Registry,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(address) = address else {
        shutdown.cancelled().await;
        return Ok(());
    };
    let listener = TcpListener::bind(address).await.with_context(|| format!("ops listener {address}"))?;
    ops::serve(listener, registry, ready, shutdown).await.context("ops listener")
}
