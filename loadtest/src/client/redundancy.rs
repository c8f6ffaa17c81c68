//! A voice with the packet before in each packet (RFC 2198), as browsers send it in a call of the web app.
//!
//! Sans-IO: [`Redundancy`] wraps what a microphone sends; [`blocks`] takes apart what arrives, and [`Arrived`] says which of it
//! is new.

/// A block's header but for the last one's: more follow (1 bit), payload type (7), timestamp offset (14), length (10).
const HEADER_BYTES: usize = 4;
const MORE: u8 = 0x80;
/// The most that the fields of a header hold: 341 ms of Opus's clock, and bytes.
const MAX_OFFSET: u32 = 0x3fff;
const MAX_BLOCK_BYTES: usize = 0x3ff;

/// Wraps packets of a voice.
#[derive(Debug)]
pub struct Redundancy {
    /// Of the voice itself.
    payload_type: u8,
    /// Timestamp and payload.
    previous: Option<(u32, Box<[u8]>)>,
}

impl Redundancy {
    /// Of a voice with this payload type.
    pub fn new(payload_type: u8) -> Self {
        Self { payload_type, previous: None }
    }

    /// The payload with the one before it.
    pub fn wrap(&mut self, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut wrapped = Vec::with_capacity(HEADER_BYTES + 1 + 2 * payload.len());
        let before = self.previous.replace((timestamp, payload.into()));
        let before = before.map(|(at, payload)| (timestamp.wrapping_sub(at), payload));
        let before = before.filter(|(offset, payload)| *offset <= MAX_OFFSET && payload.len() <= MAX_BLOCK_BYTES);
        if let Some((offset, payload)) = &before {
            let fields = u32::from(MORE | self.payload_type) << 24 | offset << 10 | payload.len() as u32;
            wrapped.extend(fields.to_be_bytes());
        }
        wrapped.push(self.payload_type);
        wrapped.extend(before.iter().flat_map(|(_, payload)| payload.iter()));
        wrapped.extend(payload);
        wrapped
    }
}

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks<'a> {
    /// Its own.
    pub own: &'a [u8],
    /// That of the packet before.
    pub before: Option<&'a [u8]>,
}

/// Takes a payload apart; none if it is cut short.
pub fn blocks(payload: &[u8]) -> Option<Blocks<'_>> {
    let mut headers = payload;
    let mut lengths = Vec::new();
    while headers.first()? & MORE != 0 {
        let (header, rest) = headers.split_first_chunk::<HEADER_BYTES>()?;
        lengths.push(usize::from(u16::from_be_bytes([header[2], header[3]])) & MAX_BLOCK_BYTES);
        headers = rest;
    }
    let mut rest = &headers[1..];
    let mut before = None;
    for length in lengths {
        let block;
        (block, rest) = rest.split_at_checked(length)?;
        before = Some(block);
    }
    Some(Blocks { own: rest, before: before.filter(|block| !block.is_empty()) })
}

/// Which of the last 64 packets arrived, by themselves or with the one after.
#[derive(Debug, Default)]
pub struct Arrived {
    highest: Option<u64>,
    /// The lowest bit is the highest packet's.
    mask: u64,
}

impl Arrived {
    /// Whether this is new; what is older than 64 packets is not.
    pub fn note(&mut self, sequence: u64) -> bool {
        let highest = *self.highest.get_or_insert(sequence);
        if sequence > highest {
            let steps = u32::try_from(sequence - highest).unwrap_or(u32::MAX);
            self.mask = self.mask.checked_shl(steps).unwrap_or(0);
            self.highest = Some(sequence);
        }
        let age = highest.saturating_sub(sequence);
        let bit = if age < 64 { 1 << age } else { return false };
        let is_new = self.mask & bit == 0;
        self.mask |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_packet_brings_the_one_before() {
        let mut voice = Redundancy::new(111);
        assert_eq!(voice.wrap(0, b"one"), b"\x6fone");
        let second = voice.wrap(960, b"three");
        assert_eq!(second, b"\xef\x0f\x00\x03\x6fonethree");
        assert_eq!(blocks(&second), Some(Blocks { own: b"three", before: Some(b"one") }));
        assert_eq!(blocks(&voice.wrap(960 + 20_000, b"four")), Some(Blocks { own: b"four", before: None }), "long ago");
        assert_eq!(blocks(b"\xef\x0f\x00\x09\x6fone"), None, "cut short");
    }

    #[test]
    fn a_packet_is_new_once() {
        let mut arrived = Arrived::default();
        assert!(arrived.note(1000) && arrived.note(1002) && arrived.note(1001));
        assert!(!arrived.note(1002) && !arrived.note(1001) && !arrived.note(1000));
        assert!(arrived.note(1100) && arrived.note(1099) && !arrived.note(1001), "it is too old to tell");
    }

    proptest! {
        #[test]
        fn what_was_wrapped_comes_apart(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..9)) {
            let mut voice = Redundancy::new(96);
            let mut before: Option<&[u8]> = None;
            for (number, payload) in (0..).zip(&payloads) {
                let wrapped = voice.wrap(number * 960, payload);
                prop_assert_eq!(blocks(&wrapped), Some(Blocks { own: payload, before }));
                before = Some(payload);
            }
        }

        #[test]
        fn rubbish_never_panics(payload in prop::collection::vec(any::<u8>(), 0..60), sequences: [u64; 4]) {
            let _ = blocks(&payload);
            let mut arrived = Arrived::default();
            for sequence in sequences {
                arrived.note(sequence);
            }
        }
    }
}
