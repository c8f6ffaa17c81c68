//! Offers and answers: what str0m is configured with, what an offer says, and the answer to it.

use std::time::Instant;

use isthmus_protocol::{
    problem::Code,
    signal::{self, Kind, Source},
};
use str0m::{
    Candidate, Rtc, RtcConfig,
    change::SdpOffer,
    config::{DtlsCert, DtlsVersion},
    format::CodecConfig,
    media::{MediaKind, Mid, Pt, Rid, Rids},
};

use super::{
    client::{Client, Panicked},
    descriptor,
    outlet::ClientOutlet,
};
use crate::core::{
    contained::contained,
    egress::tap::tapped,
    room::{OfferedTrack, SlotOffer},
};

/// The most m-lines of one offer: 8 tracks, 3 voices, 49 pictures.
const MAX_M_LINES: usize = 64;
/// The longest m-line, in bytes: some 200 payload types, several times what browsers name.
const MAX_M_LINE_BYTES: usize = 1_024;
/// The most lines from one m-line to the next; browsers write about 150.
const MAX_SECTION_LINES: usize = 500;
/// The most SSRCs that one offer names: a browser names four for a camera and one for a voice.
const MAX_SSRCS: usize = 64;

/// A refused offer.
#[derive(Debug)]
pub(super) struct Refused {
    pub code: Code,
    pub detail: String,
}

impl From<Panicked> for Refused {
    fn from(_: Panicked) -> Self {
        Self { code: Code::Internal, detail: "the offer could not be handled; join again".into() }
    }
}

/// What an accepted offer means.
pub(super) struct Negotiated {
    pub answer: String,
    pub tracks: Vec<OfferedTrack>,
    pub slots: Vec<SlotOffer>,
}

/// A peer connection ready for a client's offer, reachable at `candidates`, and the outlet for what goes out past it.
pub(super) fn peer_connection(certificate: &DtlsCert, candidates: &[Candidate], now: Instant) -> (Rtc, ClientOutlet) {
    let mut config = RtcConfig::new()
        .set_dtls_cert(certificate.clone())
        // DTLS 1.2 is what negotiates AES-GCM with browsers, the suite the hardware does fastest.
        .set_dtls_version(DtlsVersion::Dtls12)
        .set_ice_lite(true)
        .set_rtp_mode(true)
        .set_stats_interval(None)
        .clear_codecs()
        .enable_opus(true, true)
        .enable_pcmu(true, false)
        .enable_pcma(true, false)
        .enable_vp8(true)
        .enable_vp9(true)
        .enable_av1(true)
        .set_extension(descriptor::ID, descriptor::extension());
    add_h264(config.codec_config());
    let (mut rtc, tap) = tapped(config, now);
    for candidate in candidates {
        rtc.add_local_candidate(candidate.clone());
    }
    (rtc, ClientOutlet::new(tap))
}

/// One profile alone, so that whoever publishes H.264 is understood by whoever takes it: constrained baseline,
/// packetization mode 1 (RFC 7742 section 6.2).
fn add_h264(codecs: &mut CodecConfig) {
    const CONSTRAINED_BASELINE: u32 = 0x42_e0_1f;
    codecs.add_h264(Pt::from(125), Some(Pt::from(107)), true, CONSTRAINED_BASELINE);
}

/// Accepts `sdp` for `client`. `random` gives each new slot its first number and its SSRCs.
pub(super) fn accept(
    client: &mut Client,
    sdp: &str,
    described: &[signal::OfferedTrack],
    mut random: impl FnMut() -> u32,
    now: Instant,
) -> Result<Negotiated, Refused> {
    let sdp = bounded(sdp)?;
    let mids = mids(&sdp)?;
    let parsed = contained(|| SdpOffer::from_sdp_string(&sdp)).ok_or_else(|| invalid("it could not be read"))?;
    let offer = parsed.map_err(|error| invalid(&error.to_string()))?;
    let answer =
        client.guarded(|rtc| rtc.sdp_api().accept_offer(offer))?.map_err(|error| invalid(&error.to_string()))?;
    client.learn_payload_types(&mids);
    let (mut tracks, mut slots) = (Vec::new(), Vec::new());
    for mid in mids {
        let Some((kind, receives, sends, rids)) = client.guarded(|rtc| media_line(rtc, mid))? else { continue };
        if receives {
            tracks.push(track(mid, kind, rids, described));
        }
        if sends {
            let codecs = client.codecs_on(mid);
            slots.push(SlotOffer { mid, kind, codecs, first_sequence: random() as u16 & 0x7fff });
        }
    }
    if !tracks.is_empty() && !client.grants.publish {
        return Err(Refused { code: Code::Forbidden, detail: "the token does not allow to publish".into() });
    }
    let answer = client.own_answer(&answer.to_sdp_string(), &slots, random, now)?;
    let answer = with_dtx(&pair_first_slots(&answer, &slots));
    Ok(Negotiated { answer, tracks, slots })
}

fn invalid(detail: &str) -> Refused {
    let detail: String = detail.chars().take(200).collect();
    Refused { code: Code::InvalidSdp, detail: format!("the offer was not understood: {detail}") }
}

/// The offer without its candidates, if it is of a size that costs no more to understand than those of browsers: some of
/// what is done with it takes time that grows with the square of its parts, on a thread that carries other people's media.
/// Candidates are of no use: an ICE-lite agent learns the client's addresses from its checks.
fn bounded(sdp: &str) -> Result<String, Refused> {
    let too_large = |what: &str| Err(Refused { code: Code::TooLarge, detail: format!("the offer has {what}") });
    if sdp.len() > signal::MAX_SDP_BYTES {
        return too_large("too many bytes");
    }
    let (mut m_lines, mut section_lines) = (0, 0);
    let mut ssrcs: Vec<&str> = Vec::new();
    let mut kept = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        section_lines += 1;
        if line.starts_with("m=") {
            m_lines += 1;
            section_lines = 0;
            if line.len() > MAX_M_LINE_BYTES {
                return too_large("an m-line that is too long");
            }
        } else if let Some(ssrc) = line.strip_prefix("a=ssrc:").and_then(|rest| rest.split_whitespace().next()) {
            if !ssrcs.contains(&ssrc) {
                ssrcs.push(ssrc);
            }
        } else if line.starts_with("a=candidate:") || line.starts_with("a=end-of-candidates") {
            continue;
        }
        if m_lines > MAX_M_LINES {
            return too_large(&format!("more than {MAX_M_LINES} m-lines"));
        }
        if section_lines > MAX_SECTION_LINES {
            return too_large(&format!("more than {MAX_SECTION_LINES} lines for one m-line"));
        }
        if ssrcs.len() > MAX_SSRCS {
            return too_large(&format!("more than {MAX_SSRCS} SSRCs"));
        }
        kept.push_str(line);
        kept.push_str("\r\n");
    }
    Ok(kept)
}

/// The m-lines in order, by their `a=mid` (RFC 8843 section 7.1 makes it mandatory where BUNDLE is used).
fn mids(sdp: &str) -> Result<Vec<Mid>, Refused> {
    let mut mids: Vec<Mid> = Vec::new();
    for mid in sdp.lines().filter_map(|line| line.trim_end().strip_prefix("a=mid:")).map(Mid::from) {
        if mids.contains(&mid) {
            return Err(invalid(&format!("two m-lines have the mid {mid}")));
        }
        mids.push(mid);
    }
    Ok(mids)
}

fn media_line(rtc: &mut Rtc, mid: Mid) -> Option<(Kind, bool, bool, Vec<Rid>)> {
    let media = rtc.media(mid)?;
    let kind = match media.kind() {
        MediaKind::Audio => Kind::Audio,
        MediaKind::Video => Kind::Video,
    };
    let rids = match media.rids_rx() {
        Rids::Specific(rids) => rids.clone(),
        Rids::None | Rids::Any => Vec::new(),
    };
    Some((kind, media.direction().is_receiving(), media.direction().is_sending(), rids))
}

fn track(mid: Mid, kind: Kind, mut rids: Vec<Rid>, described: &[signal::OfferedTrack]) -> OfferedTrack {
    rids.sort_by_key(|rid| rid_rank(rid));
    let described = described.iter().find(|track| track.mid == *mid).filter(|track| track.source.kind() == kind);
    let default = match kind {
        Kind::Audio => Source::Microphone,
        Kind::Video => Source::Camera,
    };
    let source = described.map_or(default, |track| track.source);
    OfferedTrack { mid, source, muted: described.is_some_and(|track| track.muted), rids }
}

/// Lowest first. RFC 8853 leaves the order to the offerer; the names in use say which is which: q, h, f for quarter,
/// half and full, l, m, h for low, middle and high, or numbers.
fn rid_rank(rid: &str) -> (u8, String) {
    let rank = match rid {
        "q" | "l" | "low" => 0,
        "f" | "full" | "high" => 2,
        // h, m, half, middle, and whatever else there is between.
        _ => 1,
    };
    (rank, rid.to_owned())
}

/// Gives the first audio and the first video slot one media stream id, so that in a call of two the browser keeps voice
/// and picture together (RFC 8830).
fn pair_first_slots(answer: &str, slots: &[SlotOffer]) -> String {
    const PAIR: &str = "isthmus-pair";
    let first = |kind| slots.iter().find(|slot| slot.kind == kind).map(|slot| slot.mid.to_string());
    let paired: Vec<String> = [first(Kind::Audio), first(Kind::Video)].into_iter().flatten().collect();
    let mut sections: Vec<String> = Vec::new();
    for line in answer.lines() {
        if line.starts_with("m=") || sections.is_empty() {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
            section.push_str("\r\n");
        }
    }
    let is_paired = |section: &str| paired.iter().any(|mid| section.contains(&format!("a=mid:{mid}\r\n")));
    sections
        .into_iter()
        .map(|section| if is_paired(&section) { with_stream_id(&section, PAIR) } else { section })
        .collect()
}

fn with_stream_id(section: &str, stream_id: &str) -> String {
    let line = |line: &str| -> String {
        let Some((head, ids)) = line.split_once("msid:") else { return line.to_owned() };
        match ids.split_once(' ') {
            Some((_, track_id)) => format!("{head}msid:{stream_id} {track_id}"),
            None => format!("{head}msid:{stream_id}"),
        }
    };
    section.lines().map(|l| line(l) + "\r\n").collect()
}

/// Asks for silence that is not sent (RFC 7587 section 6.1: what a receiver prefers): whoever says nothing then costs a packet
/// every 400 ms instead of twenty. str0m has no setting for it beside RED.
fn with_dtx(answer: &str) -> String {
    let is_of_opus = |line: &str| line.starts_with("a=fmtp:") && line.contains("useinbandfec=1");
    let line = |line: &str| if is_of_opus(line) { format!("{line};usedtx=1\r\n") } else { format!("{line}\r\n") };
    answer.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(mid: &str, kind: Kind) -> SlotOffer {
        SlotOffer { mid: Mid::from(mid), kind, codecs: Vec::new(), first_sequence: 0 }
    }

    #[test]
    fn the_first_voice_and_picture_share_a_stream() {
        let answer = "v=0\r\nm=audio 9 X 1\r\na=mid:1\r\na=msid:aa bb\r\nm=video 9 X 1\r\na=mid:2\r\na=msid:cc dd\r\n\
                      m=video 9 X 1\r\na=mid:3\r\na=msid:ee ff\r\n";
        let slots = [slot("1", Kind::Audio), slot("2", Kind::Video), slot("3", Kind::Video)];
        let paired = pair_first_slots(answer, &slots);
        assert!(paired.contains("a=msid:isthmus-pair bb\r\n") && paired.contains("a=msid:isthmus-pair dd\r\n"));
        assert!(paired.contains("a=msid:ee ff\r\n"), "other slots stay apart");
    }

    #[test]
    fn who_is_silent_is_asked_to_send_little() {
        let answer = "v=0\r\nm=audio 9 X 111 63\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=fmtp:63 111/111\r\n";
        let expected =
            "v=0\r\nm=audio 9 X 111 63\r\na=fmtp:111 minptime=10;useinbandfec=1;usedtx=1\r\na=fmtp:63 111/111\r\n";
        assert_eq!(with_dtx(answer), expected);
    }

    #[test]
    fn offers_that_would_take_long_to_understand_are_refused() {
        let section = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";
        let refused = |sdp: String| bounded(&sdp).map_err(|refused| refused.code).err();
        assert_eq!(refused(format!("v=0\r\n{section}")), None);
        for (name, sdp) in [
            ("payload types", format!("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF{}\r\n", " 0".repeat(40_000))),
            ("attributes", format!("v=0\r\n{section}{}", "a=x\r\n".repeat(19_000))),
            ("session attributes", format!("v=0\r\n{}", "a=x\r\n".repeat(19_000))),
            ("m-lines", format!("v=0\r\n{}", section.repeat(65))),
            ("SSRCs", {
                let ssrcs: Vec<String> = (0..65).map(|ssrc| format!("a=ssrc:{ssrc} cname:x\r\n")).collect();
                format!("v=0\r\n{section}{}", ssrcs.concat())
            }),
            ("bytes", "a=x\r\n".repeat(signal::MAX_SDP_BYTES)),
        ] {
            assert_eq!(refused(sdp), Some(Code::TooLarge), "{name}");
        }
    }

    #[test]
    fn candidates_are_left_out_and_everything_else_stays() {
        let sdp = "v=0\nm=audio 9 x 1\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\na=end-of-candidates\na=mid:0\n";
        assert_eq!(bounded(sdp).ok().as_deref(), Some("v=0\r\nm=audio 9 x 1\r\na=mid:0\r\n"));
    }

    #[test]
    fn two_m_lines_of_one_name_are_refused() {
        assert!(mids("a=mid:a-1\r\na=mid:b\r\n").is_ok());
        for twice in ["a=mid:a\r\na=mid:a\r\n", "a=mid:a-1\r\na=mid:a_1\r\n"] {
            assert_eq!(mids(twice).map_err(|refused| refused.code).err(), Some(Code::InvalidSdp), "{twice}");
        }
    }

    #[test]
    fn layers_are_ordered_lowest_first() {
        let mut rids = [Rid::from("f"), Rid::from("q"), Rid::from("h")];
        rids.sort_by_key(|rid| rid_rank(rid));
        assert_eq!(rids, [Rid::from("q"), Rid::from("h"), Rid::from("f")]);
    }
}
