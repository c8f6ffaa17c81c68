//! QUIC between the processes of a cluster: media nodes among each other, and doors with media nodes.
//!
//! What may cross, between whom, and what bounds it:
//!
//! | what            | from -> to     | carried by                        | bound                                   | when full                          |
//! |-----------------|----------------|-----------------------------------|-----------------------------------------|------------------------------------|
//! | session         | door -> node   | bidirectional stream, JSON frames | 8192 streams per door; 256 kB per stream | the sender waits                   |
//! | query           | door -> node   | bidirectional stream, one answer  | the same streams; 3 s                   | refused as busy                    |
//! | control         | node <-> node  | one stream each way, JSON frames  | 16384 messages                          | the link is reset, both begin anew |
//! | media, repair   | node <-> node  | datagrams                         | 4096 packets; 576 KiB, 300 ms for QUIC  | pictures before sound, counted     |
//! | frame           | everyone       | u32 length, JSON                  | 1 MiB                                   | refused                            |
//! | handshake       | strangers      | QUIC, mutual TLS 1.3              | 256 at once; 5 s                        | address check, then refusal        |
//! | connection      | one identity   |                                   | 8                                       | refused                            |
//! | liveness        | everyone       | QUIC PING after 250 ms of silence | 1.5 s of silence                        | the connection is given up         |
//!
//! Who someone is stands in their certificate ([`PeerIdentity`]); what they may do follows from the role in it. Only a
//! door opens sessions and queries, only a media node is a peer, and each side is checked by the other: a node that is
//! dialled must be the node that was meant. What is refused is counted by reason.
//!
//! A media node runs a [`Mesh`] on its [`Endpoint`]; a door holds a [`NodeClient`] for each media node of its PoP.
//! Links come and go: [`MeshEvent::LinkUp`] and [`MeshEvent::LinkDown`] bracket everything of a link, state does not
//! outlive it, and a new one begins with everything. Media lost on a link is repaired on it (module `repair`), speech on a
//! long one by what was sent ahead; it is handed on in the order in which it arrives, once. When the path takes less than
//! there is, sound goes first (module `outgoing`).

mod backoff;
mod congestion;
mod credentials;
mod development_ca;
mod doors;
mod endpoint;
mod error;
mod frames;
mod health;
mod identity;
mod link;
mod listener;
mod mesh;
mod metrics;
mod node_client;
mod outgoing;
mod reason;
mod repair;

pub use credentials::{Credentials, CredentialsError};
pub use development_ca::{DevelopmentCa, DevelopmentCaError, IssuedCertificate};
pub use doors::FromDoor;
pub use endpoint::{Endpoint, INITIAL_MTU_BYTES};
pub use error::RelayError;
pub use frames::{FrameReceiver, FrameSender};
pub use identity::{DOMAIN, InvalidIdentity, PeerIdentity, Role};
pub use link::{CONTROL_QUEUE, Link, LinkFull, MEDIA_QUEUE};
pub use mesh::{MAX_PEERS, Mesh, MeshEvent, PeerAddress};
pub use metrics::{Metrics, PacketMetrics};
pub use node_client::NodeClient;
pub use reason::CloseReason;
