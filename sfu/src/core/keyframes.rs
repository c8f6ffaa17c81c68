//! What the router must know of a video payload: where a keyframe begins, and how large the picture is.

use std::time::{Duration, Instant};

use isthmus_protocol::media::Codec;
use str0m::rtp::Vp8Descriptor;

/// A publisher is asked for a keyframe of one layer no more often than this, whoever asks: a keyframe is several
/// times as large as other frames, and one serves everybody.
pub const MIN_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Whether the packet begins a picture that can be decoded without any before it.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => Vp8Descriptor::parse(payload).is_ok_and(|d| d.starts_keyframe(payload)),
        Codec::Vp9 => vp9_starts_keyframe(payload),
        Codec::H264 => h264_starts_keyframe(payload),
        // AV1 RTP payload format, section 4.4: N, the packet is the first of a coded video sequence.
        Codec::Av1 => payload.first().is_some_and(|header| header & 0x08 != 0),
        Codec::Opus | Codec::Red | Codec::Pcmu | Codec::Pcma => false,
    }
}

/// RFC 9628 section 4.2: start of a frame (B) that is not predicted from another picture (P), lowest spatial layer.
fn vp9_starts_keyframe(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else { return false };
    let [has_picture_id, predicted, has_layers, begins] = [0x80, 0x40, 0x20, 0x08].map(|bit| first & bit != 0);
    if predicted || !begins {
        return false;
    }
    if !has_layers {
        return true;
    }
    let id_bytes = match payload.get(1) {
        Some(byte) if has_picture_id => 1 + usize::from(byte & 0x80 != 0),
        _ => 0,
    };
    // TID (3 bits), U, SID (3 bits), D.
    payload.get(1 + id_bytes).is_some_and(|layers| layers & 0x0e == 0)
}

/// RFC 6184: a sequence parameter set or an IDR slice, alone, aggregated (section 5.7.1) or fragmented (5.8).
fn h264_starts_keyframe(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let is_key = |nal: u8| matches!(nal & 0x1f, IDR | SPS);
    match payload {
        [first, units @ ..] if first & 0x1f == STAP_A => aggregated(units).any(is_key),
        [first, header, ..] if first & 0x1f == FU_A => header & 0x80 != 0 && is_key(*header),
        [first, ..] => is_key(*first),
        [] => false,
    }
}

/// The first byte of each unit of an aggregation packet: a length of 16 bits stands before each (RFC 6184 section 5.7.1).
fn aggregated(mut units: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let [high, low, nal, ..] = units else { return None };
        let (nal, length) = (*nal, usize::from(u16::from_be_bytes([*high, *low])));
        units = units.get(2 + length..).unwrap_or_default();
        Some(nal)
    })
}

/// The height of the picture that a VP8 keyframe begins, in pixels (RFC 6386 section 9.1); other codecs do not say
/// it where it can be had cheaply.
pub fn height(codec: Codec, payload: &[u8]) -> Option<u16> {
    if codec != Codec::Vp8 {
        return None;
    }
    let descriptor = Vp8Descriptor::parse(payload).ok()?;
    if !descriptor.starts_keyframe(payload) {
        return None;
    }
    // Frame tag of 3 bytes, start code 9d 01 2a, width and height in 14 bits each, little-endian.
    let code = payload.windows(3).take(16).position(|bytes| bytes == [0x9d, 0x01, 0x2a])?;
    let bytes = payload.get(code + 5..code + 7)?;
    Some(u16::from_le_bytes([bytes[0], bytes[1]]) & 0x3fff)
}

/// Merges the keyframe requests of many receivers into few. What comes too soon is not forgotten but waits, unless a
/// keyframe comes first.
#[derive(Debug, Default)]
pub struct RequestThrottle {
    last: Option<Instant>,
    waits: bool,
}

impl RequestThrottle {
    /// Someone needs a keyframe. Whether a request goes out at `now`; if not, one is [due](Self::is_due) later.
    pub fn wanted(&mut self, now: Instant) -> bool {
        self.waits = true;
        self.is_due(now)
    }

    /// Whether a request that had to wait goes out at `now`; if so it is taken as sent.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let may = self.last.is_none_or(|last| now.saturating_duration_since(last) >= MIN_REQUEST_INTERVAL);
        let goes = may && self.waits;
        if goes {
            (self.last, self.waits) = (Some(now), false);
        }
        goes
    }

    /// A keyframe came: whoever waits has it.
    pub fn satisfied(&mut self) {
        self.waits = false;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vp8_keyframes_are_found_with_their_height() {
        // Descriptor: extended, start of partition; 15-bit picture id. Then a frame tag with the key bit (0 = key).
        let mut payload = vec![0x90, 0x80, 0x81, 0x02, 0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
        assert!(starts_keyframe(Codec::Vp8, &payload));
        assert_eq!(height(Codec::Vp8, &payload), Some(360));
        payload[4] |= 1;
        assert!(!starts_keyframe(Codec::Vp8, &payload), "an interframe");
        assert_eq!(height(Codec::Vp8, &payload), None);
    }

    #[test]
    fn h264_keyframes_are_found_in_every_packetization() {
        for (name, payload, key) in [
            ("single SPS", vec![0x67, 1, 2], true),
            ("single IDR", vec![0x65, 1, 2], true),
            ("single slice", vec![0x41, 1, 2], false),
            ("STAP-A of SPS", vec![0x78, 0, 4, 0x67, 1, 2, 3], true),
            ("STAP-A of slice", vec![0x78, 0, 4, 0x41, 1, 2, 3], false),
            ("FU-A begin of IDR", vec![0x7c, 0x85, 1], true),
            ("FU-A middle of IDR", vec![0x7c, 0x05, 1], false),
            ("STAP-A that begins with a delimiter", vec![0x78, 0, 2, 0x09, 0xf0, 0, 1, 0x67], true),
            ("STAP-A without one", vec![0x78, 0, 2, 0x09, 0xf0, 0, 1, 0x61], false),
            ("STAP-A cut short", vec![0x78, 0xff, 0xff, 0x09], false),
            ("FU-A begin of slice", vec![0x7c, 0x81, 1], false),
        ] {
            assert_eq!(starts_keyframe(Codec::H264, &payload), key, "{name}");
        }
    }

    #[test]
    fn vp9_and_av1_say_it_in_their_headers() {
        assert!(starts_keyframe(Codec::Vp9, &[0x88, 0x01, 0]), "begins, not predicted, no layers");
        assert!(!starts_keyframe(Codec::Vp9, &[0xc8, 0x01, 0]), "predicted");
        assert!(starts_keyframe(Codec::Vp9, &[0xa8, 0x01, 0x00, 0]), "spatial layer 0");
        assert!(!starts_keyframe(Codec::Vp9, &[0xa8, 0x01, 0x02, 0]), "spatial layer 1");
        assert!(starts_keyframe(Codec::Av1, &[0x18, 0]));
        assert!(!starts_keyframe(Codec::Av1, &[0x10, 0]));
    }

    #[test]
    fn requests_are_merged() {
        let start = Instant::now();
        let mut throttle = RequestThrottle::default();
        let sent = (0..100).filter(|i| throttle.wanted(start + Duration::from_millis(i * 10))).count();
        assert_eq!(sent, 2, "one at once and one half a second later");
    }

    #[test]
    fn a_request_that_came_too_soon_waits_unless_a_keyframe_comes() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = RequestThrottle::default();
        assert!(throttle.wanted(at(0)));
        assert!(!throttle.is_due(at(600)), "nobody has asked since");
        assert!(throttle.wanted(at(600)));
        assert!(!throttle.wanted(at(700)));
        assert!(!throttle.is_due(at(1_000)));
        assert!(throttle.is_due(at(1_100)), "half a second after the last");
        assert!(!throttle.wanted(at(1_200)));
        throttle.satisfied();
        assert!(!throttle.is_due(at(2_000)));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            for codec in [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
                let _ = (starts_keyframe(codec, &payload), height(codec, &payload));
            }
        }
    }
}
