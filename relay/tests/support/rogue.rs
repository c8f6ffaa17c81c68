//! A QUIC client that says whatever a test wants it to say.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use isthmus_relay::{CloseReason, DevelopmentCa, PeerIdentity};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use tokio::time::timeout;

/// How a rogue presents itself.
pub struct Rogue<'a> {
    /// Who signed its certificate; without one it shows none.
    pub ca: Option<&'a DevelopmentCa>,
    pub identity: PeerIdentity,
    pub alpn: &'a [u8],
}

pub const ALPN: &[u8] = b"isthmus-relay/1";

impl Rogue<'_> {
    /// Connects to `node`, whose authority it trusts. The endpoint must be kept as long as the connection.
    pub async fn connect(
        &self,
        trusted: &DevelopmentCa,
        node: &PeerIdentity,
        addr: SocketAddr,
    ) -> Result<(Endpoint, Connection), ConnectionError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.ca_pem().as_bytes()).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match self.ca {
            Some(ca) => {
                let issued = ca.issue(&self.identity).unwrap();
                let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![self.alpn.to_vec()];
        let mut endpoint = Endpoint::client(super::loopback()).unwrap();
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
        let connection = endpoint.connect(addr, &node.dns_name().unwrap()).unwrap().await?;
        Ok((endpoint, connection))
    }
}

/// A frame as it stands on the wire.
pub fn frame(json: &str) -> Vec<u8> {
    [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat()
}

/// Waits until the other side closes the connection; the code it gives, if it is the relay's.
pub async fn closed(connection: &Connection) -> Option<u64> {
    match timeout(Duration::from_secs(10), connection.closed()).await.expect("the connection was left open") {
        ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

/// Says `bytes` on a new stream and waits for what the node makes of it: the code of its reset.
pub async fn say(connection: &Connection, bytes: &[u8]) -> Option<u64> {
    let (mut sender, mut receiver) = connection.open_bi().await.unwrap();
    sender.write_all(bytes).await.unwrap();
    match timeout(Duration::from_secs(10), receiver.read_to_end(1024)).await.expect("the stream was left open") {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Some(code.into_inner()),
        _ => None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may not be there")]
pub fn code(reason: CloseReason) -> Option<u64> {
    Some(u64::from(reason as u8))
}
