//! The media node, what it says of itself, and the peers it has a link to.

use std::time::Duration;

use isthmus_directory::{Directory, NodeRecord, UnixMicros};
use isthmus_protocol::node::NodeStatus;
use isthmus_sfu::Node;
use tokio::{sync::watch, time::interval};
use tokio_util::sync::CancellationToken;

use super::{peers, presence, relay, section, serve_ops};
use crate::{config::Config, telemetry};

/// How soon `/readyz` says that the node drains.
const READINESS_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the media node of `config` until `shutdown`.
pub(super) async fn run(config: &Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let sfu = section(config.sfu.as_ref(), "sfu")?;
    let (relay, pair) = relay(config, "relay.sfu", |relay| relay.sfu.as_ref())?;
    let credentials = relay.credentials(pair)?;
    let identity = credentials.identity().clone();
    let registry = telemetry::registry(&identity.pop, &identity.node)?;
    let metrics = isthmus_directory::Metrics::new(&registry)?;
    let directory = Directory::connect(&config.directory, metrics).await;

    let known = relay.known_peers();
    let (peers, current_peers) = watch::channel(known.clone());
    let node = Node::start(sfu, &credentials, current_peers, &registry)?;
    tracing::info!(node = %identity.node, media = ?node.media_addresses(), "the media node is ready");
    let record = NodeRecord {
        node: identity.node.clone(),
        pop: identity.pop,
        relay: relay.advertise.unwrap_or(node.relay_address()),
        status: node.status(),
        heard_at: UnixMicros(0),
    };

    let (ready, is_ready) = watch::channel(true);
    let upkeep = async {
        tokio::join!(
            peers::follow(&directory, &identity.node, &known, &peers),
            presence::keep(&directory, &node, record),
            follow_readiness(&node, &ready),
        )
    };
    let served = tokio::select! {
        served = serve_ops(config.ops.sfu, registry, is_ready, shutdown) => served,
        _ = upkeep => Ok(()),
        () = node.failed() => Err(anyhow::anyhow!("a shard of the media node has failed")),
    };
    node.stop().await;
    served
}

/// A node that drains takes nobody new. Never returns.
async fn follow_readiness(node: &Node, ready: &watch::Sender<bool>) {
    let mut ticks = interval(READINESS_INTERVAL);
    loop {
        ticks.tick().await;
        let NodeStatus { draining, .. } = node.status();
        ready.send_if_modified(|ready| std::mem::replace(ready, !draining) == draining);
    }
}
