//! What an operator sets.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use isthmus_protocol::PopId;
use serde::Deserialize;

/// How a process reaches its store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The PoP this process belongs to: it signs every write, and the writes of each PoP go to its own replica.
    pub pop: PopId,
    /// The store's address, `http://127.0.0.1:7105` for an embedded one. Without it: DynamoDB in `aws_region`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The AWS region of the replica. Without it: what the AWS environment says.
    #[serde(default)]
    pub aws_region: Option<String>,
    /// Where credentials come from.
    #[serde(default)]
    pub credentials: CredentialSource,
    /// A request that has no answer after this many milliseconds has failed.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// The one store of leases ([`home`](crate::home)), the same for all PoPs. Without it: this store, for a single PoP.
    #[serde(default)]
    pub leases: Option<Leases>,
}

/// The strongly consistent store that holds leases alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leases {
    /// Its address. Without it: DynamoDB in `aws_region`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The AWS region that it is reached in.
    #[serde(default)]
    pub aws_region: Option<String>,
    /// A request that has no answer after this many milliseconds has failed: it may be on another continent.
    #[serde(default = "default_leases_timeout_ms")]
    pub timeout_ms: u64,
}

/// Where a process takes its credentials for the store from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialSource {
    /// The chain every AWS program uses: environment, profile, container, instance.
    #[default]
    Aws,
    /// Fixed ones that are worth nothing, for an embedded store: it checks none.
    Development,
}

impl Config {
    /// For an embedded store at `endpoint`.
    pub fn embedded(pop: PopId, endpoint: impl Into<String>) -> Self {
        Self {
            pop,
            endpoint: Some(endpoint.into()),
            aws_region: None,
            credentials: CredentialSource::Development,
            timeout_ms: default_timeout_ms(),
            leases: None,
        }
    }

    /// How leases are reached.
    pub(crate) fn of_leases(&self) -> Self {
        let Some(leases) = self.leases.clone() else { return self.clone() };
        let Leases { endpoint, aws_region, timeout_ms } = leases;
        Self { endpoint, aws_region, timeout_ms, leases: None, ..self.clone() }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

fn default_leases_timeout_ms() -> u64 {
    2_000
}

fn default_timeout_ms() -> u64 {
    300
}

/// An embedded store and the stores it replicates to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The PoP whose store this is.
    pub pop: PopId,
    /// Where it listens. The store checks no credentials: loopback or a private network only.
    pub listen: SocketAddr,
    /// The file it keeps its data in, created if missing.
    pub file: PathBuf,
    /// The stores of the other PoPs.
    #[serde(default)]
    pub peers: Vec<PeerStore>,
}

/// A store that receives what this PoP writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerStore {
    /// Its PoP.
    pub pop: PopId,
    /// Its address, `http://127.0.0.1:7205`.
    pub endpoint: String,
    /// How long a write waits before it is sent, in milliseconds: stands for the way between two AWS regions.
    #[serde(default)]
    pub delay_ms: u64,
}

impl PeerStore {
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }
}
