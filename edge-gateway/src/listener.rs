//! A TCP listener that serves a router, with TLS or without.

mod bounded;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_util::sync::CancellationToken;

use self::bounded::Bounded;
pub(crate) use self::bounded::Connections;
use crate::{StartError, config::Tls};

/// How long a client has to send its first request, and the headers of each further one. A slower one is cut off, so
/// that connections that say nothing do not pile up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a client of HTTP/2 is pinged, and how long it has to answer. A connection that has gone silent is given up;
/// over HTTP/1.1 it is the header timeout that does so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long requests that are under way may take when the process is to end.
const GRACE: Duration = Duration::from_secs(3);
/// The most bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// A listener that is bound and does not serve yet.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
}

impl Listener {
    /// Binds `address`. Port 0 is any free one.
    pub(crate) fn bind(what: &'static str, address: SocketAddr, tls: Option<&Tls>) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { what, address, error };
        let tls = tls.map(server_config).transpose()?.map(|config| RustlsConfig::from_config(Arc::new(config)));
        let socket = TcpListener::bind(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, tls })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves at most so many `connections` until `shutdown`, then gives what is under way a moment.
    pub(crate) async fn serve(
        self,
        router: Router,
        connections: Connections,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let handle = Handle::new();
        // Signalling is short messages: without this each one after another waits for the client's delayed acknowledgement, 40 ms.
        let mut server = axum_server::from_tcp(self.socket)?
            .acceptor(NoDelayAcceptor::new())
            .handle(handle.clone())
            .first_request_timeout(HEADER_TIMEOUT)
            .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "a connection was not accepted"));
        server.http_builder().http1().header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
        server
            .http_builder()
            .http2()
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_concurrent_streams(64)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let end = async {
            shutdown.cancelled().await;
            handle.graceful_shutdown(Some(GRACE));
            std::future::pending::<()>().await;
        };
        let serve = async {
            match self.tls {
                Some(tls) => {
                    let tls = |acceptor| RustlsAcceptor::new(tls).acceptor(acceptor);
                    server.map(|acceptor| Bounded::new(tls(acceptor), connections)).serve(service).await
                }
                None => server.map(|acceptor| Bounded::new(acceptor, connections)).serve(service).await,
            }
        };
        tokio::select! {
            result = serve => result,
            () = end => Ok(()),
        }
    }
}

/// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
fn server_config(tls: &Tls) -> Result<ServerConfig, StartError> {
    let in_file = |path: &std::path::Path| {
        let path = path.display().to_string();
        move |error: rustls::pki_types::pem::Error| StartError::Tls(format!("{path}: {error}"))
    };
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(in_file(&tls.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(in_file(&tls.key))?;
    let unusable = |error: rustls::Error| StartError::Tls(error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
