//! Who may come in: bounds on strangers, then the certificate, then bounds on those we know.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::Incoming;
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::{debug, warn};

use crate::{identity::PeerIdentity, metrics::Metrics, reason::CloseReason};

/// Handshakes under way. Full: the newcomer is refused. Half full: strangers must show first that their address is
/// theirs (RFC 9000 section 8.1.2), which costs them a round trip and us no memory.
const MAX_HANDSHAKES: usize = 256;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of one process. One is the rule; a restarted process may hold one more until the old one is found dead.
const MAX_CONNECTIONS_PER_IDENTITY: usize = 8;

/// Admits incoming connections.
pub(crate) struct Listener {
    handshakes: Arc<Semaphore>,
    admitted: Arc<Mutex<HashMap<PeerIdentity, usize>>>,
    metrics: Metrics,
}

/// A connection whose other side is known.
pub(crate) struct Admitted {
    pub(crate) connection: quinn::Connection,
    pub(crate) identity: PeerIdentity,
    /// Held for as long as the connection is served.
    pub(crate) place: Place,
}

/// One of the places a process has; given back when dropped.
pub(crate) struct Place {
    identity: PeerIdentity,
    admitted: Arc<Mutex<HashMap<PeerIdentity, usize>>>,
}

/// A stranger that may do the handshake.
pub(crate) struct Stranger {
    incoming: Incoming,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)), admitted: Arc::default(), metrics }
    }

    /// Whether a stranger may do the handshake now.
    pub(crate) fn consider(&self, incoming: Incoming) -> Option<Stranger> {
        let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
            self.metrics.refused("handshakes");
            incoming.refuse();
            return None;
        };
        let crowded = self.handshakes.available_permits() < MAX_HANDSHAKES / 2;
        if crowded && !incoming.remote_address_validated() {
            // An address that is not validated may always be asked to show itself.
            let _ = incoming.retry();
            return None;
        }
        Some(Stranger { incoming, _permit: permit })
    }

    /// Does the handshake and finds out who it is.
    pub(crate) async fn admit(&self, stranger: Stranger) -> Option<Admitted> {
        let from = stranger.incoming.remote_address();
        let connection = match timeout(HANDSHAKE_TIMEOUT, stranger.incoming).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                self.metrics.refused("handshake");
                debug!(%from, %error, "a handshake failed");
                return None;
            }
            Err(_) => {
                self.metrics.refused("handshake_timeout");
                return None;
            }
        };
        let admitted = identity_of(&connection)
            .ok_or(CloseReason::Identity)
            .and_then(|identity| self.place(&identity).map(|place| (identity, place)));
        match admitted {
            Ok((identity, place)) => Some(Admitted { connection, identity, place }),
            Err(reason) => {
                self.refuse(&connection, reason);
                None
            }
        }
    }

    /// Closes a connection that may not be here, and counts it.
    pub(crate) fn refuse(&self, connection: &quinn::Connection, reason: CloseReason) {
        warn!(from = %connection.remote_address(), %reason, "refused a connection");
        self.metrics.refused(reason.as_str());
        reason.close(connection);
    }

    /// The same, unless the connection is over already: the other side refused, and counts it itself.
    pub(crate) fn refuse_unless_refused(&self, connection: &quinn::Connection, reason: CloseReason) {
        match connection.close_reason() {
            None => self.refuse(connection, reason),
            Some(error) => debug!(from = %connection.remote_address(), %error, "no link was made"),
        }
    }

    fn place(&self, identity: &PeerIdentity) -> Result<Place, CloseReason> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = admitted.entry(identity.clone()).or_default();
        if *count >= MAX_CONNECTIONS_PER_IDENTITY {
            return Err(CloseReason::TooManyConnections);
        }
        *count += 1;
        Ok(Place { identity: identity.clone(), admitted: self.admitted.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let left = admitted.get(&self.identity).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            admitted.remove(&self.identity);
        } else {
            admitted.insert(self.identity.clone(), left);
        }
    }
}

/// Who is at the other side, from the certificate that TLS has verified.
fn identity_of(connection: &quinn::Connection) -> Option<PeerIdentity> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    match PeerIdentity::of_certificate(chain.first()?) {
        Ok(identity) => Some(identity),
        Err(error) => {
            warn!(from = %connection.remote_address(), %error, "a trusted certificate that is not for the relay");
            None
        }
    }
}
