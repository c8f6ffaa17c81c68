//! A bound on connections: in all, and of one network. A connection that has become a WebSocket is no longer one of
//! them; those have bounds of their own.

use std::{
    future::{Ready, ready},
    io,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
};

use axum_server::accept::Accept;
use futures_util::future::Either;
use ipnet::IpNet;
use prometheus::IntCounter;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::Service;

use crate::limits::{Holding, Holdings};

/// How many connections a listener may have. Full: a further one is closed before it costs a TLS handshake, and counted.
#[derive(Clone)]
pub(crate) struct Connections {
    in_all: Arc<Semaphore>,
    of: Arc<Holdings>,
    /// Proxies, behind which there are many clients.
    exempt: Arc<[IpNet]>,
    refused: IntCounter,
}

impl Connections {
    /// At most `most` in all, and `per_network` of each network that is not `exempt`.
    pub(crate) fn new(most: u32, per_network: u32, exempt: &[IpNet], refused: IntCounter) -> Self {
        let in_all = Arc::new(Semaphore::new(most as usize));
        Self { in_all, of: Holdings::new(per_network), exempt: exempt.into(), refused }
    }

    /// A place for a connection from `peer`, for as long as the result lives.
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let peer = peer.to_canonical();
        let in_all = self.in_all.clone().try_acquire_owned().ok()?;
        if self.exempt.iter().any(|network| network.contains(&peer)) {
            return Some(Place { _in_all: in_all, _of_network: None });
        }
        let of_network = self.of.take(peer)?;
        Some(Place { _in_all: in_all, _of_network: Some(of_network) })
    }
}

/// A connection's place.
struct Place {
    _in_all: OwnedSemaphorePermit,
    _of_network: Option<Holding>,
}

/// Accepts what `inner` accepts, while there is a place for it.
#[derive(Clone)]
pub(super) struct Bounded<A> {
    inner: A,
    connections: Connections,
}

impl<A> Bounded<A> {
    pub(super) fn new(inner: A, connections: Connections) -> Self {
        Self { inner, connections }
    }
}

impl<A, S> Accept<TcpStream, S> for Bounded<A>
where
    A: Accept<TcpStream, Placed<S>>,
{
    type Stream = A::Stream;
    type Service = A::Service;
    type Future = Either<Ready<io::Result<(A::Stream, A::Service)>>, A::Future>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let peer = match stream.peer_addr() {
            Ok(peer) => peer.ip(),
            Err(error) => return Either::Left(ready(Err(error))),
        };
        let Some(place) = self.connections.take(peer) else {
            self.connections.refused.inc();
            return Either::Left(ready(Err(io::Error::other("as many connections as there may be"))));
        };
        Either::Right(self.inner.accept(stream, Placed { service, _place: Arc::new(place) }))
    }
}

/// A connection's service, which lives as long as the connection does and keeps its place.
#[derive(Clone)]
pub(super) struct Placed<S> {
    service: S,
    _place: Arc<Place>,
}

impl<S: Service<R>, R> Service<R> for Placed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_in_all_and_per_network_but_for_proxies() {
        let refused = IntCounter::new("refused", "refused").expect("a counter");
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        let connections = Connections::new(5, 2, &proxies, refused);
        let take = |peer: &str| connections.take(peer.parse().expect("an address"));
        let mut places: Vec<Place> = (0..2).map(|_| take("192.0.2.1").expect("room")).collect();
        assert!(take("192.0.2.1").is_none(), "more than its share");
        places.extend((0..3).map(|_| take("::ffff:10.1.1.1").expect("a proxy may")));
        assert!(take("10.1.1.1").is_none(), "more than there are");
        places.clear();
        assert!(take("192.0.2.1").is_some());
    }
}
