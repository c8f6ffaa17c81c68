//! What a media node is told: the `[sfu]` section of a PoP's configuration.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Configuration of a media node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where doors and peer nodes reach this node: the relay's UDP address.
    pub relay_listen: SocketAddr,
    /// Where media comes in, UDP and TCP: shard n takes this port plus n. With port 0 the system chooses.
    pub media_listen: SocketAddr,
    /// The address clients are told, if it is not the one listened on (behind address translation).
    #[serde(default)]
    pub media_advertise: Option<IpAddr>,
    /// Whether media may come over TCP too, for those whose network lets no UDP through.
    #[serde(default = "yes")]
    pub media_tcp: bool,
    /// Shard threads; 0 takes one for each core.
    #[serde(default)]
    pub shards: u8,
    /// The most participants on the node; its load is 1 then.
    #[serde(default = "max_participants")]
    pub max_participants: usize,
    /// The most participants in one room, here and elsewhere.
    #[serde(default = "max_room")]
    pub max_room_participants: usize,
}

const fn yes() -> bool {
    true
}

const fn max_participants() -> usize {
    2_000
}

const fn max_room() -> usize {
    1_000
}

impl Config {
    /// The number of shard threads to start.
    pub fn shard_count(&self) -> u8 {
        if self.shards > 0 {
            return self.shards;
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u8::try_from(cores).unwrap_or(u8::MAX)
    }
}
