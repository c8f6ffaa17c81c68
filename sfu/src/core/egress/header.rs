//! RTP headers as they are written (RFC 3550 section 5.1), with their extensions (RFC 8285).

use super::numbers::PacketNumber;

/// Extensions in the one-byte form are up to 16 bytes long and have ids up to 14 (RFC 8285 section 4.2).
const ONE_BYTE: (u8, usize) = (14, 16);
const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// What a header says beside its number.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// As negotiated for the m-line; 7 bits.
    pub payload_type: u8,
    /// The last packet of a picture; the first of a talk spurt.
    pub marker: bool,
    /// In units of the codec's clock.
    pub timestamp: u32,
    /// Whether the payload ends with padding, whose last byte says how long it is.
    pub padded: bool,
    /// In the order in which they are written. Those that are empty or longer than 255 bytes are left out.
    pub extensions: &'a [Extension<'a>],
}

/// One header extension.
#[derive(Debug, Clone, Copy)]
pub struct Extension<'a> {
    /// As negotiated: 1 to 255, not 15.
    pub id: u8,
    /// Its value.
    pub value: &'a [u8],
}

impl Header<'_> {
    /// Puts the header behind what is in `out`. Its length in bytes.
    pub fn write(&self, number: &PacketNumber, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let has_extensions = self.written().next().is_some();
        out.push(0x80 | u8::from(self.padded) << 5 | u8::from(has_extensions) << 4);
        out.push(u8::from(self.marker) << 7 | self.payload_type & 0x7f);
        out.extend_from_slice(&number.sequence().to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&number.ssrc().to_be_bytes());
        if has_extensions {
            self.write_extensions(out);
        }
        out.len() - start
    }

    fn written(&self) -> impl Iterator<Item = Extension<'_>> {
        let fits = |extension: &&Extension<'_>| extension.id > 0 && (1..=255).contains(&extension.value.len());
        self.extensions.iter().filter(fits).copied()
    }

    fn write_extensions(&self, out: &mut Vec<u8>) {
        let (last_id, most_bytes) = ONE_BYTE;
        let is_short = self.written().all(|e| e.id <= last_id && e.value.len() <= most_bytes);
        let profile = if is_short { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE };
        out.extend_from_slice(&profile.to_be_bytes());
        let length_at = out.len();
        out.extend_from_slice(&[0, 0]);
        for Extension { id, value } in self.written() {
            if is_short {
                out.push(id << 4 | (value.len() - 1) as u8);
            } else {
                out.extend_from_slice(&[id, value.len() as u8]);
            }
            out.extend_from_slice(value);
        }
        while !(out.len() - length_at - 2).is_multiple_of(4) {
            out.push(0);
        }
        let words = ((out.len() - length_at - 2) / 4) as u16;
        out[length_at..length_at + 2].copy_from_slice(&words.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{keys::bytes, numbers::Streams},
        *,
    };

    fn number(sequence: u64) -> PacketNumber {
        Streams::default().begin(0x0102_0304).and_then(|mut numbers| numbers.take(sequence)).expect("new")
    }

    #[test]
    fn a_header_has_its_fields_where_rfc_3550_and_rfc_8285_put_them() {
        let extensions = [
            Extension { id: 3, value: &[0x12, 0x34] },
            Extension { id: 4, value: b"v7" },
            Extension { id: 1, value: &[0x94] },
        ];
        let header =
            Header { payload_type: 96, marker: true, timestamp: 0xdead_beef, padded: false, extensions: &extensions };
        let mut out = vec![0xee];
        let length = header.write(&number(70_000), &mut out);
        assert_eq!(
            out[1..],
            bytes("90 e0 1170 deadbeef 01020304 bede 0002 31 1234 41 7637 10 94"),
            "70,000 is 4,464 after one rollover"
        );
        assert_eq!(length, 24);
    }

    #[test]
    fn a_long_extension_takes_the_two_byte_form_for_all() {
        let long = [7; 20];
        let extensions = [Extension { id: 3, value: &[0x12, 0x34] }, Extension { id: 5, value: &long }];
        let header = Header { payload_type: 96, marker: false, timestamp: 0, padded: true, extensions: &extensions };
        let mut out = Vec::new();
        let length = header.write(&number(1), &mut out);
        assert_eq!(out[12..16], [0x10, 0x00, 0, 7], "2 + 2 and 2 + 20 bytes and their padding to words");
        assert_eq!(out[16..20], [3, 2, 0x12, 0x34]);
        assert_eq!((out[20], out[21], length), (5, 20, 44));
        assert_eq!(out[0], 0xb0, "version 2, padded, extended");
    }

    #[test]
    fn without_extensions_it_is_twelve_bytes() {
        let empty = [Extension { id: 3, value: &[] }];
        let header = Header { payload_type: 111, marker: false, timestamp: 1, padded: false, extensions: &empty };
        assert_eq!(header.write(&number(1), &mut Vec::new()), 12);
    }
}
