//! The SRTP keys of a peer connection. str0m keeps them to itself; they are copied where its DTLS hands them over. And when the
//! handshake says something again: the library waits for a second, which is long for who wants to talk.

use std::{
    cell::RefCell,
    fmt,
    sync::{Arc, LazyLock, OnceLock},
    time::{Duration, Instant},
};

use dimpl::{Config, Dtls};

use str0m::{
    Rtc, RtcConfig,
    crypto::{
        CryptoError, CryptoProvider,
        dtls::{
            DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion, SrtpProfile,
        },
        from_feature_flags,
    },
};

use super::keys::{MasterKey, Profile, Role};

/// How long a flight of the handshake waits at first before it is sent again, twice as long each time after. RFC 6347 section
/// 4.2.4.1 says a second, and less for what is sensitive to delay. Browsers begin at 50 ms; this is less than most round trips
/// of a call.
const FLIGHT_WAITS: Duration = Duration::from_millis(200);
/// How often a flight is sent again. What the other side repeats counts too, and a browser does so four times in half a second:
/// on a long path before anything is lost. The time that a handshake may take bounds it as well.
const FLIGHT_REPEATS: usize = 30;

thread_local! {
    /// Where the DTLS instance that str0m makes next on this thread leaves its keys.
    static NEXT: RefCell<Option<Tap>> = const { RefCell::new(None) };
}

/// str0m's own, but for DTLS.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(CryptoProvider { dtls_provider: &Tapping, ..from_feature_flags() }));

/// The keys of one peer connection, once DTLS has exported them. Whether the other side is who it should be is not known
/// before str0m says that it is connected.
#[derive(Clone, Default)]
pub struct Tap(Arc<OnceLock<Exported>>);

struct Exported {
    profile: Profile,
    keys: Vec<u8>,
}

/// Says nothing of the keys.
impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Tap").field(&self.0.get().map(|exported| exported.profile)).finish()
    }
}

impl Tap {
    /// What the side of that role seals with; none before the handshake is over.
    pub fn key(&self, role: Role) -> Option<MasterKey> {
        let exported = self.0.get()?;
        MasterKey::from_exported(exported.profile, &exported.keys, role)
    }
}

/// A peer connection and where its keys will be.
pub fn tapped(config: RtcConfig, now: Instant) -> (Rtc, Tap) {
    let tap = Tap::default();
    NEXT.set(Some(tap.clone()));
    let rtc = config.set_crypto_provider(PROVIDER.clone()).build(now);
    NEXT.set(None);
    (rtc, tap)
}

#[derive(Debug)]
struct Tapping;

impl DtlsProvider for Tapping {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let inner = patient(certificate, now, version, mtu)?;
        Ok(Box::new(Tapped { inner, tap: NEXT.take().unwrap_or_default() }))
    }
}

/// As str0m makes it, but for when it repeats itself.
fn patient(
    certificate: &DtlsCert,
    now: Instant,
    version: DtlsVersion,
    mtu: Option<usize>,
) -> Result<Dtls, CryptoError> {
    // ICE has shown that the other side is where it says; a cookie would show it again.
    let mut config =
        Config::builder().use_server_cookie(false).flight_start_rto(FLIGHT_WAITS).flight_retries(FLIGHT_REPEATS);
    if let Some(mtu) = mtu {
        config = config.mtu(mtu);
    }
    let config = config.build().map_err(|error| CryptoError::Other(format!("DTLS cannot be set up: {error}")))?;
    let (config, certificate) = (Arc::new(config), certificate.clone());
    match version {
        DtlsVersion::Dtls12 => Ok(Dtls::new_12(config, certificate, now)),
        DtlsVersion::Dtls13 => Ok(Dtls::new_13(config, certificate, now)),
        DtlsVersion::Auto => Ok(Dtls::new_auto(config, certificate, now)),
        _ => Err(CryptoError::Other(format!("{version} is a version of DTLS that is not known here"))),
    }
}

struct Tapped {
    inner: Dtls,
    tap: Tap,
}

/// Says nothing of the handshake.
impl fmt::Debug for Tapped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Tapped").field(&self.tap).finish()
    }
}

impl DtlsInstance for Tapped {
    fn set_active(&mut self, active: bool) {
        self.inner.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.inner.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.inner.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(keys, profile) = &output
            && let Some(profile) = profile_of(*profile)
        {
            // A handshake exports once; what a second one would is of no use to what is sealed already.
            let _ = self.tap.0.set(Exported { profile, keys: keys.to_vec() });
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.inner.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.inner.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.inner.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.inner.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.inner.close()
    }
}

/// None for one that this code does not know: then nothing can be sealed.
fn profile_of(negotiated: SrtpProfile) -> Option<Profile> {
    match negotiated {
        SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Aes128CmSha1_80),
        _ => None,
    }
}
