//! Speech as `opus_packets.py` writes it: for each 20 ms a level, a length (2 bytes, big-endian) and an Opus packet.

/// A voice, 20 ms a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speech {
    sounds: Vec<Sound>,
}

/// 20 ms of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// In -dBov (RFC 6464): 0 is the loudest, 127 silence.
    pub level: u8,
    /// An Opus packet.
    pub packet: Vec<u8>,
}

/// Why bytes are not speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpeechError {
    /// The packet of this number is cut off.
    #[error("packet {0} is cut off")]
    CutOff(usize),
    /// RFC 6464 levels have 7 bits.
    #[error("packet {0} has a level above 127")]
    Level(usize),
    /// There is nothing to play.
    #[error("the speech has no packet")]
    Empty,
}

impl Speech {
    /// Reads a whole file.
    pub fn parse(mut rest: &[u8]) -> Result<Self, SpeechError> {
        let mut sounds = Vec::new();
        while !rest.is_empty() {
            let cut_off = SpeechError::CutOff(sounds.len());
            let ([level, high, low], after) = rest.split_first_chunk::<3>().ok_or(cut_off)?;
            let length = u16::from_be_bytes([*high, *low]);
            let (packet, after) = after.split_at_checked(length.into()).ok_or(cut_off)?;
            if *level > 127 {
                return Err(SpeechError::Level(sounds.len()));
            }
            sounds.push(Sound { level: *level, packet: packet.to_vec() });
            rest = after;
        }
        if sounds.is_empty() { Err(SpeechError::Empty) } else { Ok(Self { sounds }) }
    }

    /// The same levels in packets of this size. The first byte is Opus's for one frame of 20 ms (RFC 6716 section 3.1).
    #[must_use]
    pub fn with_packets_of(&self, bytes: usize) -> Self {
        let mut packet = vec![0; bytes];
        packet[0] = 0x78;
        let even = |sound: &Sound| Sound { level: sound.level, packet: packet.clone() };
        Self { sounds: self.sounds.iter().map(even).collect() }
    }

    /// The packets in order; at least one.
    pub fn sounds(&self) -> &[Sound] {
        &self.sounds
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_packets_and_refuses_what_is_broken() {
        let speech = Speech::parse(&[30, 0, 2, 7, 8, 127, 0, 0]).expect("two packets");
        assert_eq!(speech.sounds()[0], Sound { level: 30, packet: vec![7, 8] });
        assert_eq!(Speech::parse(&[30, 0, 2, 7]), Err(SpeechError::CutOff(0)));
        assert_eq!(Speech::parse(&[200, 0, 0]), Err(SpeechError::Level(0)));
        assert_eq!(Speech::parse(&[]), Err(SpeechError::Empty));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Speech::parse(&bytes);
        }
    }
}
