//! The SRTP keys of a peer connection. str0m keeps them to itself; they are copied where its DTLS hands them over.

use std::{
    cell::RefCell,
    fmt,
    sync::{Arc, LazyLock, OnceLock},
    time::Instant,
};

use str0m::{
    Rtc, RtcConfig,
    crypto::{
        CryptoProvider,
        dtls::{
            DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion, SrtpProfile,
        },
        from_feature_flags,
    },
};

use super::keys::{MasterKey, Profile, Role};

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
    ) -> Result<Box<dyn DtlsInstance>, str0m::crypto::CryptoError> {
        let inner = from_feature_flags().dtls_provider.new_dtls(certificate, now, version, mtu)?;
        Ok(Box::new(Tapped { inner, tap: NEXT.take().unwrap_or_default() }))
    }
}

#[derive(Debug)]
struct Tapped {
    inner: Box<dyn DtlsInstance>,
    tap: Tap,
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use str0m::{
        Candidate, Event, Input, Output,
        media::{KeyframeRequestKind, MediaKind, Mid},
        net::{Protocol, Receive},
        rtp::{ExtensionMap, RtpPacket, Ssrc},
    };

    use super::super::{
        header::{Extension, Header},
        numbers::{StreamNumbers, Streams},
        open::Opener,
        reports::{self, Report},
        seal::Sealer,
        sender_report::{self, NtpTime, Sent},
    };
    use super::*;

    const SSRC: u32 = 0x0a0b_0c0d;
    const PAYLOAD_TYPE: u8 = 96;

    /// Two str0m, joined by the test. What the one at 10.0.0.1 sends by RTP is made by the egress core with its keys.
    struct Pair {
        ours: Rtc,
        tap: Tap,
        theirs: Rtc,
        now: Instant,
        received: Vec<RtpPacket>,
        /// The timestamps in the sender reports that they took.
        reported: Vec<u64>,
        /// Their RTCP as it came.
        control: Vec<Vec<u8>>,
    }

    fn address(of: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, of], 4_000))
    }

    impl Pair {
        fn connected() -> Self {
            let now = Instant::now();
            let config = || RtcConfig::new().set_rtp_mode(true).set_dtls_version(DtlsVersion::Dtls12);
            let (mut ours, tap) = tapped(config(), now);
            let mut theirs = config().build(now);
            for (rtc, own, other) in [(&mut ours, 1, 2), (&mut theirs, 2, 1)] {
                let candidate = |of| Candidate::host(address(of), Protocol::Udp).expect("an address");
                rtc.add_local_candidate(candidate(own));
                rtc.add_remote_candidate(candidate(other));
            }
            let introduced = |rtc: &mut Rtc| {
                (rtc.direct_api().local_ice_credentials(), rtc.direct_api().local_dtls_fingerprint().clone())
            };
            let (our, their) = (introduced(&mut ours), introduced(&mut theirs));
            for (rtc, (credentials, fingerprint), active) in [(&mut ours, their, false), (&mut theirs, our, true)] {
                let mut api = rtc.direct_api();
                api.set_remote_ice_credentials(credentials);
                api.set_remote_fingerprint(fingerprint);
                api.set_ice_controlling(active);
                api.start_dtls(active).expect("DTLS starts");
            }
            let mut api = theirs.direct_api();
            let mid = Mid::from("v7");
            api.declare_media(mid, MediaKind::Video);
            api.expect_stream_rx(Ssrc::from(SSRC), None, mid, None);
            let mut pair =
                Self { ours, tap, theirs, now, received: Vec::new(), reported: Vec::new(), control: Vec::new() };
            for _ in 0..200 {
                pair.pass(Duration::from_millis(10));
            }
            assert!(pair.ours.is_connected() && pair.theirs.is_connected());
            pair
        }

        /// Lets time pass and everything that is sent arrive.
        fn pass(&mut self, time: Duration) {
            self.now += time;
            for of_theirs in [false, true, false] {
                let rtc = if of_theirs { &mut self.theirs } else { &mut self.ours };
                rtc.handle_input(Input::Timeout(self.now)).expect("time passes");
                let mut sent = Vec::new();
                loop {
                    match rtc.poll_output().expect("it goes on") {
                        Output::Timeout(_) => break,
                        Output::Transmit(transmit) => sent.push(transmit.contents.to_vec()),
                        Output::Event(Event::RtpPacket(packet)) => self.received.push(packet),
                        Output::Event(Event::SenderFeedback(report)) => {
                            self.reported.push(report.sender_info.rtp_time.numer());
                        }
                        Output::Event(_) => {}
                    }
                }
                for datagram in sent {
                    // RFC 7983 and RFC 5761 section 4: RTCP.
                    if of_theirs && datagram[0] >> 6 == 2 && (192..224).contains(&datagram[1]) {
                        self.control.push(datagram.clone());
                    }
                    self.arrive(!of_theirs, &datagram);
                }
            }
        }

        fn arrive(&mut self, at_theirs: bool, datagram: &[u8]) {
            let (rtc, from, to) = if at_theirs { (&mut self.theirs, 1, 2) } else { (&mut self.ours, 2, 1) };
            let receive = Receive::new(Protocol::Udp, address(from), address(to), datagram).expect("a datagram");
            rtc.handle_input(Input::Receive(self.now, receive)).expect("taken");
        }
    }

    fn sealed_packet(sealer: &Sealer, numbers: &mut StreamNumbers, sequence: u64, payload: &[u8]) -> Vec<u8> {
        let map = ExtensionMap::standard();
        let id = map.id_of(str0m::rtp::Extension::RtpMid).expect("negotiated");
        let number = numbers.take(sequence).expect("new");
        let extensions = [Extension { id, value: b"v7" }];
        let header =
            Header { payload_type: PAYLOAD_TYPE, marker: true, timestamp: 960, padded: false, extensions: &extensions };
        let mut out = Vec::new();
        let header_bytes = header.write(&number, &mut out);
        out.extend_from_slice(payload);
        sealer.seal_rtp(number, &mut out, 0, header_bytes).expect("sealed");
        out
    }

    #[test]
    fn what_is_sealed_with_the_keys_is_taken_by_the_other_side() {
        let mut pair = Pair::connected();
        let sealer = Sealer::new(&pair.tap.key(Role::Server).expect("exported")).expect("usable");
        let mut numbers = Streams::default().begin(SSRC).expect("new");
        // Over a rollover of the sequence number, which is in the nonce and not in the packet.
        for sequence in 65_500..65_600 {
            let packet = sealed_packet(&sealer, &mut numbers, sequence, &[sequence as u8; 60]);
            pair.arrive(true, &packet);
            pair.pass(Duration::from_millis(20));
        }
        assert_eq!(pair.received.len(), 100);
        let last = pair.received.last().expect("received");
        assert_eq!((&last.payload[..], last.header.sequence_number), (&[65_599u32 as u8; 60][..], 63));
        assert!(last.header.marker);
        assert_eq!(last.header.ext_vals.mid, Some(Mid::from("v7")));
    }

    #[test]
    fn control_packets_are_understood_both_ways() {
        let mut pair = Pair::connected();
        let mut sealer = Sealer::new(&pair.tap.key(Role::Server).expect("exported")).expect("usable");
        let mut opener = Opener::new(&pair.tap.key(Role::Client).expect("exported")).expect("usable");
        let mut numbers = Streams::default().begin(SSRC).expect("new");
        pair.arrive(true, &sealed_packet(&sealer, &mut numbers, 7, &[0; 60]));
        pair.pass(Duration::from_millis(20));
        let at = NtpTime::from_unix_us(1_700_000_000_000_000);
        for timestamp in [90_000, 180_000] {
            let mut report = Vec::new();
            sender_report::write(&mut report, SSRC, at, timestamp, Sent { packets: 1, payload_bytes: 60 }, "isthmus");
            sealer.seal_rtcp(&mut report, 0).expect("sealed");
            pair.arrive(true, &report);
            pair.pass(Duration::from_millis(20));
        }
        assert_eq!(pair.reported, [90_000, 180_000]);

        let stream = pair.theirs.direct_api().stream_rx(&Ssrc::from(SSRC)).map(|stream| {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        });
        assert!(stream.is_some());
        pair.pass(Duration::from_millis(20));
        let mut wanted = Vec::new();
        for mut datagram in std::mem::take(&mut pair.control) {
            let packet = opener.open_rtcp(&mut datagram).expect("authentic");
            reports::read(packet, |report| {
                if let Report::KeyframeWanted { ssrc } = report {
                    wanted.push(ssrc);
                }
            });
        }
        assert_eq!(wanted, [SSRC]);
    }
}
