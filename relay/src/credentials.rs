//! A process's own certificate and key, the authority it trusts, and the TLS that follows from them.
//!
//! TLS 1.3 only (RFC 9001 section 4.2), both sides show a certificate, no session resumption: every connection verifies
//! certificates anew. The cryptography is passed in, so that no process-wide default decides it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::hmac;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::{
    RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};

use crate::identity::{InvalidIdentity, PeerIdentity};

/// The application protocol both sides must name (RFC 7301).
const ALPN: &[u8] = b"isthmus-relay/1";

/// What a process shows to others and checks others against.
#[derive(Clone)]
pub struct Credentials {
    identity: PeerIdentity,
    server: Arc<QuicServerConfig>,
    client: Arc<QuicClientConfig>,
    reset_key: Arc<hmac::Key>,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not PEM, or PEM of something else.
    #[error("the {what} is not PEM of the kind wanted: {source}")]
    Pem {
        /// Which of the three.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// The certificate is not one for the relay.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// Certificate and key do not fit, or the authority is not one.
    #[error("the certificate, its key and the authority cannot be used together: {0}")]
    Tls(#[from] rustls::Error),
    /// The authority cannot verify others.
    #[error("the certificate authority cannot be used to verify others: {0}")]
    Authority(#[from] VerifierBuilderError),
    /// Cannot happen with the provider used here; QUIC needs `TLS13_AES_128_GCM_SHA256`.
    #[error(transparent)]
    Cipher(#[from] NoInitialCipherSuite),
}

impl Credentials {
    /// Loads PEM files: the certificate chain, leaf first; its private key; the authorities to trust.
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Self, CredentialsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
        };
        Self::from_pem(&read(certificate)?, &read(key)?, &read(ca)?)
    }

    /// The same from PEM text in memory.
    pub fn from_pem(certificate: &[u8], key: &[u8], ca: &[u8]) -> Result<Self, CredentialsError> {
        let chain = certificates("certificate", certificate)?;
        let authorities = certificates("certificate authority", ca)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| CredentialsError::Pem { what: "private key", source })?;
        let leaf = chain.first().ok_or(InvalidIdentity::Unreadable)?;
        let identity = PeerIdentity::of_certificate(leaf)?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));
        let reset_key = Arc::new(reset_key(&key));
        let server = Arc::new(server(&provider, &roots, chain.clone(), key.clone_key())?);
        let client = Arc::new(client(&provider, roots, chain, key)?);
        Ok(Self { identity, server, client, reset_key })
    }

    /// Who this process is.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    pub(crate) fn server(&self) -> Arc<QuicServerConfig> {
        self.server.clone()
    }

    pub(crate) fn client(&self) -> Arc<QuicClientConfig> {
        self.client.clone()
    }

    /// The key of stateless resets. It stays the same when the process restarts, so that peers learn at their next
    /// packet that the process they spoke to is gone (RFC 9000 section 10.3).
    pub(crate) fn reset_key(&self) -> Arc<hmac::Key> {
        self.reset_key.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn certificates(what: &'static str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(CredentialsError::Pem { what, source: pem::Error::NoItemsFound }),
        found => found.map_err(|source| CredentialsError::Pem { what, source }),
    }
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<QuicServerConfig, CredentialsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(QuicServerConfig::try_from(tls)?)
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<QuicClientConfig, CredentialsError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    Ok(QuicClientConfig::try_from(tls)?)
}

fn reset_key(key: &PrivateKeyDer<'_>) -> hmac::Key {
    let own = hmac::Key::new(hmac::HMAC_SHA256, key.secret_der());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&own, b"isthmus-relay stateless reset").as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{development_ca::DevelopmentCa, identity::Role};

    fn identity() -> PeerIdentity {
        PeerIdentity {
            role: Role::Sfu,
            node: "zurich-sfu-1".parse().expect("valid"),
            pop: "zurich".parse().expect("valid"),
        }
    }

    #[test]
    fn a_process_is_who_its_certificate_says() {
        let ca = DevelopmentCa::create().expect("made");
        let issued = ca.issue(&identity()).expect("issued");
        let credentials =
            Credentials::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), ca.ca_pem().as_bytes());
        assert_eq!(credentials.expect("usable").identity(), &identity());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_before_anyone_is_dialled() {
        let ca = DevelopmentCa::create().expect("made");
        let (one, other) = (ca.issue(&identity()).expect("issued"), ca.issue(&identity()).expect("issued"));
        let mixed =
            Credentials::from_pem(one.certificate_pem.as_bytes(), other.key_pem.as_bytes(), ca.ca_pem().as_bytes());
        assert!(matches!(mixed, Err(CredentialsError::Tls(_))), "{mixed:?}");
    }

    #[test]
    fn a_certificate_for_browsers_is_not_one_for_the_relay() {
        let ca = DevelopmentCa::create().expect("made");
        let issued = ca.issue_https(&["localhost".into()]).expect("issued");
        let credentials =
            Credentials::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), ca.ca_pem().as_bytes());
        assert!(matches!(credentials, Err(CredentialsError::Identity(_))), "{credentials:?}");
    }

    #[test]
    fn errors_say_which_file_and_what() {
        let missing = Path::new("/nonexistent/node.pem");
        let error = Credentials::load(missing, missing, missing).expect_err("there is no such file");
        assert!(error.to_string().contains("/nonexistent/node.pem"), "{error}");
        let error = Credentials::from_pem(b"rubbish", b"rubbish", b"rubbish").expect_err("not PEM");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
