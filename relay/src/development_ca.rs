//! A certificate authority for the development cluster and for tests. Production brings its own.
#![expect(clippy::disallowed_methods, reason = "IO: certificates begin and end by the clock")]

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use x509_parser::{parse_x509_certificate, pem::parse_x509_pem};

use crate::identity::{InvalidIdentity, PeerIdentity};

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";
const DAY: Duration = Duration::from_hours(24);
/// How long a new authority is valid.
const CA_VALIDITY: Duration = DAY.saturating_mul(365);
/// How long what it issues is valid. No certificate outlives an authority that is kept.
const LEAF_VALIDITY: Duration = DAY.saturating_mul(30);
/// Certificates begin in the past, for machines whose clocks differ.
const BACKDATED: Duration = DAY;

/// Signs certificates for one machine's development cluster.
pub struct DevelopmentCa {
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A new certificate and its private key.
pub struct IssuedCertificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: String,
}

/// Why the development authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentCaError {
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What stands in the files cannot be used.
    #[error("{} does not hold a usable authority ({source}): remove it and {KEY_FILE} beside it", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The identity cannot stand in a certificate.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
}

impl DevelopmentCa {
    /// The authority in `dir`, made anew if there is none or if it ends before what it would issue.
    pub fn open_or_create(dir: &Path) -> Result<Self, DevelopmentCaError> {
        let (certificate, key) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
        if certificate.exists() && key.exists() {
            let ca = Self::open(&certificate, &key)?;
            if ca.outlives(SystemTime::now() + LEAF_VALIDITY) {
                return Ok(ca);
            }
        }
        let ca = Self::create()?;
        fs::create_dir_all(dir).map_err(|source| DevelopmentCaError::File { path: dir.to_owned(), source })?;
        write_secret(&key, &ca.key_pem)?;
        fs::write(&certificate, &ca.certificate_pem).map_err(|source| file(&certificate, source))?;
        Ok(ca)
    }

    /// A new authority in memory.
    pub fn create() -> Result<Self, DevelopmentCaError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for(CA_VALIDITY);
        params.distinguished_name.push(DnType::CommonName, "Isthmus development authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, key_pem: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    fn open(certificate: &Path, key: &Path) -> Result<Self, DevelopmentCaError> {
        let read = |path: &Path| fs::read_to_string(path).map_err(|source| file(path, source));
        let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
        let unusable = |source| DevelopmentCaError::Unusable { path: certificate.to_owned(), source };
        let pair = KeyPair::from_pem(&key_pem).map_err(unusable)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, pair).map_err(unusable)?;
        Ok(Self { certificate_pem, key_pem, issuer })
    }

    /// A certificate for a process of the cluster, good for both sides of a connection.
    pub fn issue(&self, identity: &PeerIdentity) -> Result<IssuedCertificate, DevelopmentCaError> {
        let name = identity.dns_name()?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(vec![SanType::DnsName(name.try_into()?)], &usages)
    }

    /// A certificate for HTTPS on `names`: host names (`localhost`, `panama.isthmus.test`) and addresses.
    pub fn issue_https(&self, names: &[String]) -> Result<IssuedCertificate, DevelopmentCaError> {
        let alternative = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
        };
        let names: Result<Vec<_>, rcgen::Error> = names.iter().map(alternative).collect();
        self.sign(names?, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// The authority's own certificate, PEM: what others trust.
    pub fn ca_pem(&self) -> &str {
        &self.certificate_pem
    }

    fn sign(
        &self,
        names: Vec<SanType>,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<IssuedCertificate, DevelopmentCaError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for(LEAF_VALIDITY);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(IssuedCertificate { certificate_pem, key_pem: key.serialize_pem() })
    }

    fn outlives(&self, end: SystemTime) -> bool {
        let end_s = end.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let not_after = |der: &[u8]| {
            parse_x509_certificate(der).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
        };
        let own = parse_x509_pem(self.certificate_pem.as_bytes()).ok().and_then(|(_, pem)| not_after(&pem.contents));
        own.and_then(|own_s| u64::try_from(own_s).ok()).is_some_and(|own_s| own_s > end_s)
    }
}

impl fmt::Debug for DevelopmentCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentCa").finish_non_exhaustive()
    }
}

impl IssuedCertificate {
    /// Writes both files, the key readable by its owner alone.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), DevelopmentCaError> {
        write_secret(key, &self.key_pem)?;
        fs::write(certificate, &self.certificate_pem).map_err(|source| file(certificate, source))
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCertificate").finish_non_exhaustive()
    }
}

fn valid_for(validity: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Isthmus development");
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + validity).into();
    params
}

fn file(path: &Path, source: io::Error) -> DevelopmentCaError {
    DevelopmentCaError::File { path: path.to_owned(), source }
}

/// Writes a file that only its owner may read, from its first byte on: an older file of the name is replaced.
fn write_secret(path: &Path, text: &str) -> Result<(), DevelopmentCaError> {
    let write = || {
        if path.exists() {
            fs::remove_file(path)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|source| file(path, source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_same_authority_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = DevelopmentCa::open_or_create(dir.path()).expect("made").ca_pem().to_owned();
        let second = DevelopmentCa::open_or_create(dir.path()).expect("reopened");
        assert_eq!(first, second.ca_pem());
        let mode = fs::metadata(dir.path().join(KEY_FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the key is for its owner alone");
    }

    #[test]
    fn an_authority_that_ends_too_soon_is_replaced() {
        let ca = DevelopmentCa::create().expect("made");
        assert!(ca.outlives(SystemTime::now() + LEAF_VALIDITY));
        assert!(!ca.outlives(SystemTime::now() + CA_VALIDITY + DAY));
    }

    #[test]
    fn a_broken_file_is_named_in_the_error() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(CERTIFICATE_FILE), "rubbish").expect("written");
        fs::write(dir.path().join(KEY_FILE), "rubbish").expect("written");
        let error = DevelopmentCa::open_or_create(dir.path()).expect_err("rubbish is no authority");
        assert!(error.to_string().contains(CERTIFICATE_FILE), "{error}");
    }

    #[test]
    fn https_names_may_be_hosts_and_addresses() {
        let ca = DevelopmentCa::create().expect("made");
        let names = ["localhost", "panama.isthmus.test", "127.0.0.1", "::1"].map(String::from);
        let issued = ca.issue_https(&names).expect("issued");
        let (_, pem) = parse_x509_pem(issued.certificate_pem.as_bytes()).expect("own PEM");
        let (_, certificate) = parse_x509_certificate(&pem.contents).expect("own DER");
        let extension = certificate.subject_alternative_name().expect("readable").expect("there");
        assert_eq!(extension.value.general_names.len(), names.len());
        assert!(format!("{issued:?}{ca:?}").find("PRIVATE").is_none(), "a key showed itself in debug output");
    }
}
