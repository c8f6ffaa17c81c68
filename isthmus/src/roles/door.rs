//! The door.

use isthmus_directory::{Directory, People};
use tokio_util::sync::CancellationToken;

use super::{relay, section};
use crate::{config::Config, telemetry};

/// Runs the door of `config` until `shutdown`.
pub(super) async fn run(config: &Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let gateway = section(config.gateway.as_ref(), "gateway")?.clone();
    let (relay, pair) = relay(config, "relay.door", |relay| relay.door.as_ref())?;
    let credentials = relay.credentials(pair)?;
    let identity = credentials.identity();
    let registry = telemetry::registry(&identity.pop, &identity.node)?;
    let metrics = isthmus_directory::Metrics::new(&registry)?;
    let people = match &gateway.accounts {
        Some(accounts) => Some(People::connect(&config.directory, accounts.home.clone(), metrics.clone()).await),
        None => None,
    };
    let directory = Directory::connect(&config.directory, metrics).await;
    Ok(isthmus_edge_gateway::run(gateway, credentials, directory, people, registry, shutdown).await?)
}
