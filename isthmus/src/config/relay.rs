//! Who the processes of a PoP are to each other and to the other PoPs, and where.

use std::{net::SocketAddr, path::PathBuf};

use isthmus_protocol::{NodeId, PopId};
use isthmus_relay::{Credentials, PeerAddress};
use serde::Deserialize;

/// The relay.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Relay {
    /// The authorities that certificates of the cluster come from, PEM.
    pub(crate) ca: PathBuf,
    /// The media node's certificate. It says who the node is.
    pub(crate) sfu: Option<KeyPair>,
    /// The door's certificate. It says who the door is.
    pub(crate) door: Option<KeyPair>,
    /// Where others reach the media node, if not where it listens (`sfu.relay_listen`): a public address in front of a private one.
    pub(crate) advertise: Option<SocketAddr>,
    /// Media nodes of other PoPs that are known without the directory. Those that the directory names are added.
    #[serde(default)]
    pub(crate) peers: Vec<Peer>,
}

/// A certificate and its key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPair {
    /// Certificate chain, the process's own first, PEM.
    pub(crate) certificate: PathBuf,
    /// Private key, PEM.
    pub(crate) key: PathBuf,
}

/// A media node elsewhere.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// Its id, as in its certificate.
    pub(crate) node: NodeId,
    /// Its PoP, as in its certificate.
    pub(crate) pop: PopId,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Relay {
    /// The credentials of the process that has `pair`.
    pub(crate) fn credentials(&self, pair: &KeyPair) -> Result<Credentials, isthmus_relay::CredentialsError> {
        Credentials::load(&pair.certificate, &pair.key, &self.ca)
    }

    /// The peers that are known without the directory.
    pub(crate) fn known_peers(&self) -> Vec<PeerAddress> {
        let peers = self.peers.iter();
        peers.map(|peer| PeerAddress { node: peer.node.clone(), pop: peer.pop.clone(), addr: peer.address }).collect()
    }
}
