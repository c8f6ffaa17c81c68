//! When a packet of speech or a picture was sent, written into the media itself, so that whoever receives it on the same
//! machine knows how long it was under way: through both client's sockets, the node's, and every link between nodes.
//!
//! An Opus packet of one frame becomes one with a frame count and padding (RFC 6716 section 3.2.5). Decoders ignore what
//! stands in padding, and media nodes do not look into payloads. A VP8 frame gets the stamp at its end, behind what its
//! last partition's decoder reads (RFC 6386 section 9.5: that partition has whatever is left of the frame).

use std::time::{Duration, Instant};

const CODE: u8 = 0x03; // c, the two lowest bits of the first byte: 0 is one frame, 3 a counted number
const PADDED: u8 = 0x40; // p
const ONE_FRAME: u8 = 1; // M
const STAMP_BYTES: usize = 12;
/// What a stamp adds to a packet of speech: frame count and length of the padding beside the stamp.
pub const SOUND_STAMP_BYTES: usize = STAMP_BYTES + 2;
/// What a stamp adds to a picture.
pub const PICTURE_STAMP_BYTES: usize = STAMP_BYTES;

/// Writes and reads stamps of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// What times count from.
    pub epoch: Instant,
    /// Tells stamps of this run from those of another in the same room.
    pub run: u32,
}

impl Stamps {
    /// The packet with the time in it; none if it has not one frame alone.
    pub fn stamp(&self, now: Instant, opus: &[u8]) -> Option<Vec<u8>> {
        let (first, frame) = opus.split_first()?;
        if first & CODE != 0 {
            return None;
        }
        let head = [first | CODE, PADDED | ONE_FRAME, STAMP_BYTES as u8];
        Some([&head[..], frame, &self.written(now)].concat())
    }

    /// How long ago the packet was stamped; none if it was not, or by another run.
    pub fn age(&self, now: Instant, opus: &[u8]) -> Option<Duration> {
        let [first, count, padding, ..] = *opus else { return None };
        if first & CODE != CODE || count != PADDED | ONE_FRAME || usize::from(padding) != STAMP_BYTES {
            return None;
        }
        self.since(now, opus.get(3..)?)
    }

    /// The VP8 frame with the time at its end.
    pub fn stamp_picture(&self, now: Instant, frame: &[u8]) -> Vec<u8> {
        [frame, &self.written(now)].concat()
    }

    /// How long ago the picture was stamped whose last packet has this payload; none if it was not, or by another run.
    pub fn age_of_picture(&self, now: Instant, payload: &[u8]) -> Option<Duration> {
        self.since(now, payload)
    }

    fn written(&self, now: Instant) -> [u8; STAMP_BYTES] {
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        let mut stamp = [0; STAMP_BYTES];
        stamp[..4].copy_from_slice(&self.run.to_be_bytes());
        stamp[4..].copy_from_slice(&micros.to_be_bytes());
        stamp
    }

    /// The stamp is the last of these bytes.
    fn since(&self, now: Instant, bytes: &[u8]) -> Option<Duration> {
        let (run, micros) = bytes.last_chunk::<STAMP_BYTES>()?.split_first_chunk::<4>()?;
        let sent = self.epoch.checked_add(Duration::from_micros(u64::from_be_bytes(micros.try_into().ok()?)))?;
        (u32::from_be_bytes(*run) == self.run).then(|| now.saturating_duration_since(sent))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::media::Library;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_packet_tells_how_long_it_was_under_way_and_keeps_its_frame() {
        let stamps = Stamps { epoch: Instant::now(), run: 7 };
        let sent = stamps.epoch + 5000 * MS;
        let mut stamped = 0;
        for sound in Library::built_in().speech.sounds() {
            let Some(packet) = stamps.stamp(sent, &sound.packet) else { continue };
            stamped += 1;
            assert_eq!(stamps.age(sent + 30 * MS, &packet), Some(30 * MS));
            assert_eq!(
                (packet[0] >> 2, &packet[3..packet.len() - STAMP_BYTES]),
                (sound.packet[0] >> 2, &sound.packet[1..])
            );
            assert_eq!(Stamps { run: 8, ..stamps }.age(sent, &packet), None, "another run's");
            assert_eq!(stamps.age(sent, &sound.packet), None, "it was not stamped");
        }
        assert!(stamped > 200, "the clip's packets have one frame each: {stamped}");
    }

    #[test]
    fn a_picture_tells_too_and_only_at_its_end() {
        let stamps = Stamps { epoch: Instant::now(), run: 7 };
        let picture = stamps.stamp_picture(stamps.epoch + 5 * MS, &[1; 40]);
        assert_eq!(stamps.age_of_picture(stamps.epoch + 9 * MS, &picture), Some(4 * MS));
        assert_eq!(stamps.age_of_picture(stamps.epoch + 9 * MS, &picture[..40]), None);
        assert_eq!(picture[..40], [1; 40]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let stamps = Stamps { epoch: Instant::now(), run: 7 };
            let _ = stamps.age(stamps.epoch, &bytes);
            let _ = stamps.stamp(stamps.epoch, &bytes);
            let _ = stamps.age_of_picture(stamps.epoch, &bytes);
        }
    }
}
