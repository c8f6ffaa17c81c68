//! The store of a PoP without AWS: dynoxide (the DynamoDB API over `SQLite`) in a file, and a replicator that stands in
//! for global tables. For development and tests; production uses DynamoDB.

mod changes;
mod replicator;
mod server;
mod tail;

use std::{net::TcpListener, path::PathBuf, time::Duration};

use dynoxide::Database;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::replicator::Replicator;
use crate::{
    config::{Config, StoreConfig},
    error::StoreError,
    metrics::Metrics,
    schema,
    store::Store,
    tables::{REPLICATED, REPLICATION},
};

/// How often items that have expired are removed. Readers do not see them in the meantime.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(1);

/// Why an embedded store could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    /// The file cannot be opened.
    #[error("cannot open the store's file {}: {reason}; see whether it is a store's file and may be written", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The server cannot listen or ended on its own.
    #[error("the store's server failed: {0}")]
    Server(#[from] std::io::Error),
    /// The store does not answer its own process.
    #[error("cannot prepare the store's tables: {0}")]
    Tables(#[from] StoreError),
}

/// Runs the store of one PoP on `listener` (bound to [`StoreConfig::listen`]) until `shutdown`. Calls `ready` once it
/// answers and its tables exist.
///
/// # Errors
/// The store could not start, or its server ended before `shutdown`.
pub async fn run_store(
    listener: TcpListener,
    config: StoreConfig,
    metrics: Metrics,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), StoreFailure> {
    let database = open(&config)?;
    let own = server::endpoint(&listener)?;
    let server = server::Server::start(listener, database.clone(), shutdown.clone())?;
    let store = Store::connect(&Config::embedded(config.pop.clone(), own), metrics.clone()).await;
    let ended = server.ended();
    tokio::pin!(ended);
    tokio::select! {
        prepared = prepare(&store) => prepared?,
        result = &mut ended => return result,
    }
    // Ends with this function, however it ends.
    let mut tasks = vec![AbortOnDropHandle::new(tokio::spawn(expire(database.clone())))];
    for peer in config.peers {
        let replicator = Replicator::new(database.clone(), config.pop.clone(), peer, metrics.clone()).await;
        tasks.push(AbortOnDropHandle::new(tokio::spawn(replicator.run())));
    }
    ready();
    ended.await
}

fn open(config: &StoreConfig) -> Result<Database, StoreFailure> {
    let failure = |reason: String| StoreFailure::File { file: config.file.clone(), reason };
    let path = config.file.to_str().ok_or_else(|| failure("its path is not UTF-8".into()))?;
    Database::new(path).map_err(|error| failure(error.to_string()))
}

/// Removes what has expired, now and then.
async fn expire(database: Database) {
    let mut turns = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        turns.tick().await;
        let database = database.clone();
        match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
            Ok(Ok(removed)) => tracing::debug!(removed, "removed expired items"),
            Ok(Err(error)) => tracing::warn!(%error, "could not remove expired items; trying again in a minute"),
            // The runtime is shutting down.
            Err(_) => return,
        }
    }
}

/// Creates what is missing. The index is added to tables whoever created them: a service may have been quicker.
async fn prepare(store: &Store) -> Result<(), StoreError> {
    for table in REPLICATED {
        schema::ensure_table(store.client(), table).await?;
        schema::ensure_writes_index(store.client(), table).await?;
    }
    schema::ensure_table(store.client(), REPLICATION).await
}
