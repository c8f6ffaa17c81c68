//! VP8 in RTP (RFC 7741): payload descriptors are written for what is published and read from what arrives.

use std::sync::Arc;

const EXTENDED: u8 = 0x80; // X: more descriptor bytes follow
const START: u8 = 0x10; // S: start of a partition
const PARTITION: u8 = 0x07; // PID (with S: 0 is the start of the frame)
const HAS_PICTURE_ID: u8 = 0x80; // I
const HAS_TL0: u8 = 0x40; // L
const HAS_TID: u8 = 0x20; // T
const HAS_KEYIDX: u8 = 0x10; // K
const LONG_PICTURE_ID: u8 = 0x80; // M: 15 bits

/// What a packet's payload descriptor and, at the start of a frame, the frame's own header say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Whether the packet begins a frame.
    pub starts_frame: bool,
    /// The frame's number, if the sender counts.
    pub picture_id: Option<PictureId>,
    /// The number of the last frame of the lowest temporal layer, and this frame's own layer.
    pub temporal: Option<Temporal>,
    /// Width and height in pixels, if the packet begins a keyframe.
    pub keyframe_size: Option<(u16, u16)>,
}

/// A frame number that wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    value: u16,
    mask: u16,
}

impl PictureId {
    /// Whether this number comes right after `earlier`.
    pub fn follows(self, earlier: Self) -> bool {
        self.value == earlier.value.wrapping_add(1) & self.mask
    }
}

/// Temporal scalability (RFC 7741 section 4.2: TL0PICIDX and TID).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temporal {
    /// TL0PICIDX.
    pub base_picture: u8,
    /// TID.
    pub layer: u8,
}

/// Reads bytes from the front of a payload.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

impl Descriptor {
    /// Reads the descriptor of an RTP payload; `None` if it is cut off.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let first = reader.byte()?;
        let extensions = if first & EXTENDED == 0 { 0 } else { reader.byte()? };
        let picture_id = if extensions & HAS_PICTURE_ID == 0 { None } else { Some(parse_picture_id(&mut reader)?) };
        let base_picture = if extensions & HAS_TL0 == 0 { None } else { Some(reader.byte()?) };
        let layer = if extensions & (HAS_TID | HAS_KEYIDX) == 0 { None } else { Some(reader.byte()? >> 6) };
        let temporal = base_picture.zip(layer).map(|(base_picture, layer)| Temporal { base_picture, layer });
        let starts_frame = first & START != 0 && first & PARTITION == 0;
        let keyframe_size = if starts_frame { frame_size(reader.0) } else { None };
        Some(Self { starts_frame, picture_id, temporal, keyframe_size })
    }
}

fn parse_picture_id(reader: &mut Reader<'_>) -> Option<PictureId> {
    let first = reader.byte()?;
    if first & LONG_PICTURE_ID == 0 {
        return Some(PictureId { value: u16::from(first), mask: 0x7f });
    }
    Some(PictureId { value: u16::from_be_bytes([first & 0x7f, reader.byte()?]), mask: 0x7fff })
}

/// Width and height of a keyframe, `None` for any other frame (RFC 6386 section 9.1).
pub fn frame_size(frame: &[u8]) -> Option<(u16, u16)> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *frame.first_chunk::<10>()? else { return None };
    let is_keyframe = tag & 1 == 0;
    // The upper two bits of each are a scaling hint.
    is_keyframe.then_some((u16::from_le_bytes([w0, w1]) & 0x3fff, u16::from_le_bytes([h0, h1]) & 0x3fff))
}

/// What [`packetise`] adds to each packet.
pub const DESCRIPTOR_BYTES: usize = 4;

/// Splits a frame into RTP payloads of at most `max_bytes`, evenly to a byte as libwebrtc does, so that no small packet trails.
pub fn packetise(frame: &[u8], picture_id: u16, max_bytes: usize) -> Vec<Arc<[u8]>> {
    let [high, low] = picture_id.to_be_bytes();
    let room = max_bytes.saturating_sub(DESCRIPTOR_BYTES).max(1);
    let count = frame.len().div_ceil(room).max(1);
    // The larger ones last.
    let chunks = (0..count).map(|index| &frame[frame.len() * index / count..frame.len() * (index + 1) / count]);
    let payload = |(index, chunk): (usize, &[u8])| {
        let start = if index == 0 { START } else { 0 };
        let descriptor = [EXTENDED | start, HAS_PICTURE_ID, LONG_PICTURE_ID | high, low];
        descriptor.iter().chain(chunk).copied().collect()
    };
    chunks.enumerate().map(payload).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYFRAME: [u8; 12] = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02, 1, 2];

    #[test]
    fn a_keyframe_shows_its_size_in_its_first_packet() {
        let payloads = packetise(&KEYFRAME, 0x1234, 14);
        assert_eq!(payloads.len(), 2);
        let first = Descriptor::parse(&packetise(&KEYFRAME, 0x1234, 1200)[0]).expect("it is whole");
        assert_eq!((first.starts_frame, first.keyframe_size), (true, Some((1280, 720))));
        let second = Descriptor::parse(&payloads[1]).expect("it is whole");
        assert_eq!((second.starts_frame, second.keyframe_size), (false, None));
    }

    #[test]
    fn picture_ids_follow_each_other_over_their_wrap() {
        let id =
            |value| Descriptor::parse(&packetise(&[1], value, 100)[0]).and_then(|d| d.picture_id).expect("counted");
        assert!(id(8).follows(id(7)));
        assert!(id(0).follows(id(0x7fff)));
        assert!(!id(9).follows(id(7)));
    }

    #[test]
    fn reads_what_chromium_sends() {
        // X S, then I L T: short picture id 5, TL0PICIDX 9, TID 2 with Y.
        let descriptor = Descriptor::parse(&[0x90, 0xe0, 0x05, 0x09, 0xa0, 0x01]).expect("it is whole");
        assert_eq!(descriptor.temporal, Some(Temporal { base_picture: 9, layer: 2 }));
        assert_eq!(descriptor.picture_id, Some(PictureId { value: 5, mask: 0x7f }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Descriptor::parse(&bytes);
        }

        #[test]
        fn packets_hold_the_frame_and_their_bound(
            frame in proptest::collection::vec(any::<u8>(), 1..5000), max_bytes in 10usize..1300, id in 0u16..0x8000,
        ) {
            let payloads = packetise(&frame, id, max_bytes);
            let joined: Vec<u8> = payloads.iter().flat_map(|payload| payload[4..].to_vec()).collect();
            prop_assert_eq!(joined, frame);
            prop_assert!(payloads.iter().all(|payload| payload.len() <= max_bytes));
            let starts = payloads.iter().filter(|p| Descriptor::parse(p).is_some_and(|d| d.starts_frame)).count();
            prop_assert_eq!(starts, 1);
            let sizes = payloads.iter().map(|payload| payload.len());
            prop_assert!(sizes.clone().max().zip(sizes.min()).is_some_and(|(most, least)| most - least <= 1));
        }
    }
}
