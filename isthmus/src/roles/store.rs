//! The embedded store and its replicator.

use std::net::TcpListener;

use anyhow::Context as _;
use isthmus_protocol::NodeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{section, serve_ops};
use crate::{config::Config, telemetry};

/// Runs the store of `config` until `shutdown`.
pub(super) async fn run(config: &Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = section(config.store.as_ref(), "store")?.clone();
    // A PoP has one store; it is no node of the relay, so no certificate names it.
    let name: NodeId = format!("{}-store-1", config.pop).parse()?;
    let registry = telemetry::registry(&config.pop, &name)?;
    let metrics = isthmus_directory::Metrics::new(&registry)?;
    let listener = TcpListener::bind(store.listen).with_context(|| format!("store.listen {}", store.listen))?;
    let (ready, is_ready) = watch::channel(false);
    let store = isthmus_directory::run_store(
        listener,
        store,
        metrics,
        move || {
            ready.send_replace(true);
        },
        shutdown.clone(),
    );
    let ops = serve_ops(config.ops.store, registry, is_ready, shutdown);
    tokio::try_join!(async { store.await.context("store") }, ops)?;
    Ok(())
}
