//! The egress core against another's WebRTC stack, str0m, with real keys.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_protocol::media::{AudioLevel, Codec, MediaPacket};
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    crypto::dtls::DtlsVersion,
    media::{KeyframeRequestKind, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::{ExtensionMap, RtpPacket, Ssrc},
};

use super::{
    header::{Extension, Header},
    keys::Role,
    numbers::{StreamNumbers, Streams},
    open::Opener,
    outlet::{ExtensionIds, Line, Outlet, Packet, PayloadTypes, Unsent},
    queue::Dropped,
    reports::{self, Report},
    seal::Sealer,
    sender_report::{self, NtpTime, Sent},
    tap::{Tap, tapped},
};
use crate::core::rewrite::Numbers;

const SSRC: u32 = 0x0a0b_0c0d;
const REPAIR_SSRC: u32 = 0x0a0b_0c0e;
const VOICE_SSRC: u32 = 0x0a0b_0c0f;
/// str0m's for VP8, its repair and Opus.
const PAYLOAD_TYPE: u8 = 96;
const PICTURES: PayloadTypes = PayloadTypes { media: PAYLOAD_TYPE, repair: Some(97) };
const VOICES: PayloadTypes = PayloadTypes { media: 111, repair: None };

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
    /// What they said in the handshake.
    said: Vec<Vec<u8>>,
    /// Whether what we say in it is lost.
    unheard: bool,
}

fn address(of: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, of], 4_000))
}

fn picture_mid() -> Mid {
    Mid::from("v7")
}

fn voice_mid() -> Mid {
    Mid::from("a1")
}

/// RFC 7983 section 7.
fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=63, ..])
}

impl Pair {
    fn connected() -> Self {
        let mut pair = Self::begun();
        pair.pass_times(200);
        assert!(pair.is_connected());
        pair
    }

    fn is_connected(&self) -> bool {
        self.ours.is_connected() && self.theirs.is_connected()
    }

    fn begun() -> Self {
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
        api.enable_twcc_feedback();
        api.declare_media(picture_mid(), MediaKind::Video);
        api.expect_stream_rx(Ssrc::from(SSRC), Some(Ssrc::from(REPAIR_SSRC)), picture_mid(), None);
        api.declare_media(voice_mid(), MediaKind::Audio);
        api.expect_stream_rx(Ssrc::from(VOICE_SSRC), None, voice_mid(), None);
        let (received, reported) = (Vec::new(), Vec::new());
        Self { ours, tap, theirs, now, received, reported, control: Vec::new(), said: Vec::new(), unheard: false }
    }

    /// They have begun the handshake, and were not heard to be answered.
    fn unanswered() -> Self {
        let mut pair = Self { unheard: true, ..Self::begun() };
        for _ in 0..200 {
            pair.pass_times(1);
            if !pair.said.is_empty() {
                break;
            }
        }
        assert!(!pair.said.is_empty(), "they have begun");
        pair.pass_times(1);
        pair
    }

    /// Lets so many times 10 ms pass.
    fn pass_times(&mut self, times: usize) {
        for _ in 0..times {
            self.pass(Duration::from_millis(10));
        }
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
                if is_handshake(&datagram) {
                    if of_theirs {
                        self.said.push(datagram.clone());
                    } else if self.unheard {
                        continue;
                    }
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
fn what_is_lost_of_a_handshake_is_said_again_soon() {
    let mut pair = Pair::unanswered();
    pair.unheard = false;
    // They repeat nothing before 750 ms.
    pair.pass_times(40);
    assert!(pair.is_connected());
}

#[test]
fn what_they_repeat_on_a_long_path_uses_up_no_patience() {
    let mut pair = Pair::unanswered();
    let mut hello = pair.said[0].clone();
    for _ in 0..8 {
        // Each time in a record of its own (RFC 6347 section 4.1): the last byte of its number.
        hello[10] += 1;
        pair.arrive(false, &hello);
        pair.pass_times(5);
    }
    pair.unheard = false;
    pair.pass_times(400);
    assert!(pair.is_connected());
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

/// One that paces by what the client says.
fn outlet(pair: &Pair) -> Outlet {
    outlet_with(pair, Some(str0m::rtp::Extension::TransportSequenceNumber))
}

/// One that sends everything at once.
fn unpaced_outlet(pair: &Pair) -> Outlet {
    outlet_with(pair, None)
}

fn outlet_with(pair: &Pair, transport: Option<str0m::rtp::Extension>) -> Outlet {
    let map = ExtensionMap::standard();
    let id = |extension| map.id_of(extension);
    let ids = ExtensionIds {
        mid: id(str0m::rtp::Extension::RtpMid),
        transport: transport.and_then(id),
        level: id(str0m::rtp::Extension::AudioLevel),
        orientation: id(str0m::rtp::Extension::VideoOrientation),
        descriptor: None,
    };
    let key = |role| pair.tap.key(role).expect("exported");
    let mut outlet = Outlet::new(&key(Role::Server), &key(Role::Client), "isthmus".into()).expect("usable keys");
    assert!(outlet.open(Line { mid: picture_mid(), ssrc: SSRC, repair_ssrc: Some(REPAIR_SSRC), ids }, pair.now));
    assert!(outlet.open(Line { mid: voice_mid(), ssrc: VOICE_SSRC, repair_ssrc: None, ids }, pair.now));
    assert!(
        !outlet.open(Line { mid: picture_mid(), ssrc: 1, repair_ssrc: None, ids }, pair.now),
        "the m-line is there"
    );
    assert!(
        !outlet.open(Line { mid: Mid::from("v8"), ssrc: SSRC, repair_ssrc: None, ids }, pair.now),
        "a second stream of one SSRC"
    );
    outlet
}

pub(super) fn picture(sequence: u64, bytes: usize, captured: Instant) -> Packet {
    Packet {
        numbers: Numbers { sequence, timestamp: sequence as u32 * 3_000, picture: None, frame: None },
        captured,
        types: PICTURES,
        marker: sequence.is_multiple_of(5),
        media: Arc::new(MediaPacket {
            sequence: sequence as u16,
            timestamp: sequence as u32 * 3_000,
            marker: sequence.is_multiple_of(5),
            codec: Codec::Vp8,
            level: None,
            orientation: None,
            captured_us: None,
            descriptor: None,
            payload: vec![sequence as u8; bytes].into(),
        }),
    }
}

fn voice(sequence: u64, captured: Instant) -> Packet {
    let level = Some(AudioLevel { below_full_scale: 30, voice: true });
    let like = picture(sequence, 80, captured);
    let media = MediaPacket { codec: Codec::Opus, level, ..(*like.media).clone() };
    Packet { types: VOICES, media: Arc::new(media), ..like }
}

/// Everything that waits, as datagrams.
fn flushed(outlet: &mut Outlet, now: Instant) -> Vec<Vec<u8>> {
    let (mut out, mut lengths) = (Vec::new(), Vec::new());
    outlet.flush(now, &mut out, |bytes| lengths.push(bytes));
    let mut rest = &out[..];
    let datagrams = lengths.iter().map(|length| rest.split_off(..*length).expect("written").to_vec()).collect();
    assert!(rest.is_empty());
    datagrams
}

/// Sends what waits, as fast as it may.
fn deliver(outlet: &mut Outlet, pair: &mut Pair) {
    while outlet.is_waiting() {
        for datagram in flushed(outlet, pair.now) {
            pair.arrive(true, &datagram);
            pair.pass(Duration::from_micros(10));
        }
        if outlet.is_waiting() {
            let until = outlet.wake_at().expect("something waits");
            pair.pass(until.saturating_duration_since(pair.now));
        }
    }
    pair.pass(Duration::from_millis(1));
}

#[test]
fn packets_arrive_as_they_were_voices_first() {
    let mut pair = Pair::connected();
    let mut outlet = outlet(&pair);
    outlet.needs(300, 0, pair.now);
    for sequence in 1..=3 {
        assert_eq!(outlet.send(picture_mid(), picture(sequence, 1_100, pair.now), pair.now), Ok(()));
    }
    assert_eq!(outlet.send(voice_mid(), voice(9, pair.now), pair.now), Ok(()));
    deliver(&mut outlet, &mut pair);
    let seen = |packet: &RtpPacket| (*packet.header.ssrc, packet.header.sequence_number, packet.payload.len());
    let received: Vec<_> = pair.received.iter().map(seen).collect();
    assert_eq!(received, [(VOICE_SSRC, 9, 80), (SSRC, 1, 1_100), (SSRC, 2, 1_100), (SSRC, 3, 1_100)]);
    let extensions = |at: usize| &pair.received[at].header.ext_vals;
    assert_eq!((extensions(0).audio_level, extensions(0).voice_activity), (Some(-30), Some(true)));
    assert_eq!((extensions(0).mid, extensions(1).mid), (Some(voice_mid()), Some(picture_mid())));
    let transport: Vec<_> = (0..4).map(|at| extensions(at).transport_cc).collect();
    assert_eq!(transport, [Some(0), Some(1), Some(2), Some(3)]);
}

/// What a client says when these packets have not come: a NACK, sealed with its key.
fn nack(client: &mut Sealer, sequence: u16, following: u16) -> Vec<u8> {
    let mut packet = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
    packet.extend_from_slice(&SSRC.to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&following.to_be_bytes());
    client.seal_rtcp(&mut packet, 0).expect("sealed");
    packet
}

#[test]
fn what_is_lost_is_repaired_when_it_is_asked_for_and_twice_if_that_was_in_vain() {
    let mut pair = Pair::connected();
    let mut outlet = unpaced_outlet(&pair);
    let mut client = Sealer::new(&pair.tap.key(Role::Client).expect("exported")).expect("usable");
    for sequence in 0..100 {
        outlet.send(picture_mid(), picture(sequence, 900, pair.now), pair.now).expect("taken");
        for datagram in flushed(&mut outlet, pair.now) {
            if ![20, 21, 23].contains(&sequence) {
                pair.arrive(true, &datagram);
            }
        }
        pair.pass(Duration::from_millis(2));
    }
    assert_eq!(pair.received.len(), 97);
    let mut asked = |outlet: &mut Outlet, now, sequence, following| {
        assert!(outlet.control(&mut nack(&mut client, sequence, following), now, |_| ()).is_some());
        flushed(outlet, now)
    };
    // 20, 21 and 23; and 99 that was never lost, and 500 that was never sent.
    let repairs = asked(&mut outlet, pair.now, 20, 0b101);
    assert_eq!(repairs.len(), 3);
    assert_eq!(asked(&mut outlet, pair.now, 20, 0b101).len(), 0, "they are on their way");
    assert_eq!(asked(&mut outlet, pair.now, 500, 0).len(), 0);
    for datagram in repairs {
        pair.arrive(true, &datagram);
        pair.pass(Duration::from_millis(20));
    }
    let repaired: Vec<_> = pair.received[97..]
        .iter()
        .map(|packet| (packet.header.sequence_number, packet.header.timestamp, packet.payload[0], packet.payload.len()))
        .collect();
    assert_eq!(repaired, [(20, 60_000, 20, 900), (21, 63_000, 21, 900), (23, 69_000, 23, 900)]);
    assert_eq!(asked(&mut outlet, pair.now, 20, 0).len(), 2, "the repair was lost too");
}

#[test]
fn what_the_path_carries_is_learnt_from_what_the_client_says() {
    let mut pair = Pair::connected();
    let mut outlet = outlet(&pair);
    outlet.needs(2_000, 0, pair.now);
    let before = outlet.estimate_kbps().expect("it says when packets come");
    // 300 kbit/s for ten seconds; the rest is found by padding.
    let mut datagrams = 0;
    for sequence in 0..1_000 {
        if sequence % 3 == 0 {
            outlet.send(picture_mid(), picture(sequence / 3, 1_100, pair.now), pair.now).expect("taken");
        }
        for datagram in flushed(&mut outlet, pair.now) {
            datagrams += 1;
            pair.arrive(true, &datagram);
        }
        pair.pass(Duration::from_millis(10));
        for mut datagram in std::mem::take(&mut pair.control) {
            assert!(outlet.control(&mut datagram, pair.now, |_| ()).is_some());
        }
    }
    let after = outlet.estimate_kbps().expect("it says when packets come");
    assert!(after >= 1_800, "{after} kbit/s after {before}, on a path without bounds");
    assert!(datagrams > 334, "{datagrams} datagrams: no padding was sent");
    assert_eq!(pair.received.len(), 334, "padding is not taken for pictures");
}

#[test]
fn a_voice_is_numbered_only_beside_pictures_and_what_it_loses_is_known_all_the_same() {
    let mut pair = Pair::connected();
    let mut outlet = outlet(&pair);
    let mut opener = Opener::new(&pair.tap.key(Role::Client).expect("exported")).expect("usable");
    let mut spoken = 0;
    let mut reports_of_arrivals = |pair: &mut Pair, outlet: &mut Outlet| {
        let mut said = 0;
        // Six seconds: they report what they received every five.
        for _ in 0..300 {
            spoken += 1;
            outlet.send(voice_mid(), voice(spoken, pair.now), pair.now).expect("taken");
            for datagram in flushed(outlet, pair.now) {
                if spoken % 10 > 0 {
                    pair.arrive(true, &datagram);
                }
            }
            pair.pass(Duration::from_millis(20));
            for mut datagram in std::mem::take(&mut pair.control) {
                let mut copy = datagram.clone();
                let packet = opener.open_rtcp(&mut copy).expect("authentic");
                reports::read(packet, |report| said += usize::from(matches!(report, Report::Arrivals(_))));
                assert!(outlet.control(&mut datagram, pair.now, |_| ()).is_some());
            }
        }
        said
    };
    assert_eq!(reports_of_arrivals(&mut pair, &mut outlet), 0);
    assert!(outlet.is_lossy(), "one in ten is lost");
    outlet.needs(2_000, 0, pair.now);
    assert!(reports_of_arrivals(&mut pair, &mut outlet) > 50);
    outlet.needs(0, 0, pair.now);
    assert_eq!(reports_of_arrivals(&mut pair, &mut outlet), 0);
}

#[test]
fn on_a_path_that_loses_much_what_is_lost_is_repaired_without_being_asked_for() {
    let mut pair = Pair::connected();
    let nobody_asks = |pair: &mut Pair| {
        pair.theirs.direct_api().stream_rx(&Ssrc::from(SSRC)).expect("expected").suppress_nack(true);
    };
    nobody_asks(&mut pair);
    let mut outlet = outlet(&pair);
    outlet.needs(300, 0, pair.now);
    let (mut datagrams, mut lossy_since) = (0, None);
    for sequence in 0..3_000 {
        // Of a smaller layer where the path is taken for narrow: what is lost then too is lost at any rate.
        let bytes = if outlet.estimate_kbps() < Some(900) { 300 } else { 900 };
        outlet.send(picture_mid(), picture(sequence, bytes, pair.now), pair.now).expect("taken");
        for datagram in flushed(&mut outlet, pair.now) {
            datagrams += 1;
            // One in ten is lost, repairs as well, and not in the rhythm of the reports.
            if datagrams * 7_919 % 97 >= 10 {
                pair.arrive(true, &datagram);
                pair.pass(Duration::from_micros(10));
            }
        }
        pair.pass(Duration::from_millis(10));
        for mut datagram in std::mem::take(&mut pair.control) {
            assert!(outlet.control(&mut datagram, pair.now, |_| ()).is_some());
        }
        if outlet.is_lossy() {
            lossy_since.get_or_insert(sequence);
        }
    }
    let since = lossy_since.expect("it is seen to lose much");
    assert!(since < 1_500, "only after {since} packets");
    let came: HashSet<u16> = pair.received.iter().map(|packet| packet.header.sequence_number).collect();
    // The last are still under way.
    let missing = (since..2_950).filter(|sequence| !came.contains(&(*sequence as u16))).count();
    assert_eq!(missing, 0, "of those since {since}");
    let before = (0..since.saturating_sub(100)).filter(|sequence| !came.contains(&(*sequence as u16))).count();
    assert!(before > 0, "on a path that is not known to lose much nobody repairs what nobody asks for");
}

#[test]
fn packets_of_a_picture_are_made_equally_long_by_a_byte_and_no_more() {
    let mut pair = Pair::connected();
    let mut outlet = unpaced_outlet(&pair);
    let lengths = [1_149, 1_149, 1_150, 1_150, 1_150, 400, 401, 900];
    for (sequence, length) in lengths.into_iter().enumerate() {
        outlet.send(picture_mid(), picture(sequence as u64, length, pair.now), pair.now).expect("taken");
    }
    let datagrams = flushed(&mut outlet, pair.now);
    let overhead = datagrams[2].len() - 1_150;
    let padded: Vec<usize> = datagrams.iter().map(|datagram| datagram.len() - overhead).collect();
    assert_eq!(padded, [1_150, 1_150, 1_150, 1_150, 1_150, 401, 401, 900]);
    for datagram in datagrams {
        pair.arrive(true, &datagram);
        pair.pass(Duration::from_millis(1));
    }
    let received: Vec<usize> = pair.received.iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(received, lengths, "the padding is gone");
}

#[test]
fn what_waits_is_bounded_and_no_number_goes_twice() {
    let pair = Pair::connected();
    let mut outlet = unpaced_outlet(&pair);
    for sequence in 0..1_100 {
        outlet.send(picture_mid(), picture(sequence, 100, pair.now), pair.now).expect("taken");
    }
    assert_eq!(outlet.take_dropped(), Dropped { full: 1_100 - 1_024, late: 0 });
    assert_eq!(outlet.send(picture_mid(), picture(1_099, 100, pair.now), pair.now), Err(Unsent::NumberUsed));
    assert_eq!(outlet.send(Mid::from("zz"), picture(1, 100, pair.now), pair.now), Err(Unsent::UnknownLine));
}

#[test]
fn repairs_and_pictures_take_turns_and_old_ones_are_not_repaired() {
    let mut pair = Pair::connected();
    let mut outlet = unpaced_outlet(&pair);
    let mut client = Sealer::new(&pair.tap.key(Role::Client).expect("exported")).expect("usable");
    for sequence in 0..20 {
        outlet.send(picture_mid(), picture(sequence, 900, pair.now), pair.now).expect("taken");
    }
    assert_eq!(flushed(&mut outlet, pair.now).len(), 20);
    outlet.control(&mut nack(&mut client, 0, 0x0007), pair.now, |_| ()).expect("authentic");
    for sequence in 20..23 {
        outlet.send(picture_mid(), picture(sequence, 900, pair.now), pair.now).expect("taken");
    }
    // RFC 3550 section 5.1: the SSRC.
    let sources = flushed(&mut outlet, pair.now).into_iter().map(|datagram| datagram[8..12].to_vec());
    let (again, first) = (REPAIR_SSRC.to_be_bytes().to_vec(), SSRC.to_be_bytes().to_vec());
    let expected = [&again, &first, &again, &first, &again, &first, &again];
    assert!(sources.eq(expected.into_iter().cloned()), "a repair, a picture, and so on");
    pair.now += Duration::from_millis(1_001);
    outlet.control(&mut nack(&mut client, 5, 0), pair.now, |_| ()).expect("authentic");
    assert!(!outlet.is_waiting(), "it is too late for that");
}

#[test]
fn what_has_waited_for_too_long_is_dropped_and_pictures_begin_anew() {
    let mut pair = Pair::connected();
    let mut outlet = outlet(&pair);
    for sequence in 0..50 {
        outlet.send(picture_mid(), picture(sequence, 1_100, pair.now), pair.now).expect("taken");
    }
    outlet.send(voice_mid(), voice(1, pair.now), pair.now).expect("taken");
    // The path is narrow, and nobody asks for a while.
    let sent = flushed(&mut outlet, pair.now).len();
    outlet.send(voice_mid(), voice(2, pair.now), pair.now).expect("taken");
    outlet.send(picture_mid(), picture(50, 1_100, pair.now), pair.now + Duration::from_secs(2)).expect("taken");
    let late = pair.now + Duration::from_millis(2_501);
    outlet.send(voice_mid(), voice(3, late), late).expect("taken");
    assert_eq!(flushed(&mut outlet, late).len(), 1, "the voice that is in time");
    assert_eq!(outlet.take_dropped(), Dropped { full: 0, late: 51 - (sent as u64 - 1) + 1 });
    assert_eq!(outlet.take_stalled(), [picture_mid()]);
    assert_eq!(outlet.take_stalled(), []);
    pair.now = late;
    outlet.send(picture_mid(), picture(51, 1_100, late), late).expect("taken");
    assert_eq!(flushed(&mut outlet, late + Duration::from_millis(100)).len(), 1, "the next picture goes");
}

#[test]
fn the_client_is_told_once_a_second_when_what_was_captured() {
    let mut pair = Pair::connected();
    let mut outlet = unpaced_outlet(&pair);
    for sequence in 0..100 {
        outlet.send(picture_mid(), picture(sequence, 900, pair.now), pair.now).expect("taken");
        for datagram in flushed(&mut outlet, pair.now) {
            pair.arrive(true, &datagram);
        }
        pair.pass(Duration::from_millis(30));
        let (mut out, mut lengths) = (Vec::new(), Vec::new());
        outlet.report(pair.now, 1_700_000_000_000_000, &mut out, |length| lengths.push(length));
        assert!(lengths.len() <= 1);
        if let Some(length) = lengths.first() {
            pair.arrive(true, &out[..*length]);
        }
    }
    pair.pass(Duration::from_millis(30));
    // Every second, each time 30 ms after the last packet was captured: 2,700 ticks of 90 kHz.
    assert_eq!(pair.reported.len(), 3, "{:?}", pair.reported);
    assert_eq!(pair.reported[0], 2_700);
    assert!(pair.reported.iter().all(|timestamp| timestamp % 3_000 == 2_700), "{:?}", pair.reported);
}
