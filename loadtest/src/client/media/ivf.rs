//! IVF, the container that libvpx writes: a 32-byte header, then each frame with a 12-byte header, little-endian.

/// A clip of encoded video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    frames: Vec<Frame>,
}

/// One encoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The frame as the codec defines it.
    pub data: Vec<u8>,
}

/// Why bytes are not a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// Not `DKIF` version 0 with VP8.
    #[error("not an IVF file with VP8")]
    Header,
    /// The frame of this number is cut off.
    #[error("frame {0} is cut off")]
    CutOff(usize),
    /// There is nothing to play.
    #[error("the clip has no frame")]
    Empty,
}

impl Clip {
    /// Reads a whole IVF file.
    pub fn parse(file: &[u8]) -> Result<Self, ClipError> {
        let (header, mut rest) = file.split_first_chunk::<32>().ok_or(ClipError::Header)?;
        if !header.starts_with(b"DKIF\0\0\x20\0VP80") {
            return Err(ClipError::Header);
        }
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let cut_off = ClipError::CutOff(frames.len());
            let ([a, b, c, d, ..], after) = rest.split_first_chunk::<12>().ok_or(cut_off)?;
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let (data, after) = after.split_at_checked(length).ok_or(cut_off)?;
            frames.push(Frame { data: data.to_vec() });
            rest = after;
        }
        if frames.is_empty() { Err(ClipError::Empty) } else { Ok(Self { frames }) }
    }

    /// A clip of frames, keyframes of this width and height or not, of so many bytes each, at least 10. Only the headers are
    /// VP8's (RFC 6386 section 9.1): enough for whoever forwards it, nothing for whoever decodes it.
    pub fn of_sizes((width, height): (u16, u16), frames: &[(bool, usize)]) -> Self {
        let ([w0, w1], [h0, h1]) = (width.to_le_bytes(), height.to_le_bytes());
        // A keyframe that is shown, and another frame that is.
        let heads: [&[u8]; 2] = [&[0x11, 0, 0], &[0x10, 0, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1]];
        let frame = |(keyframe, bytes): &(bool, usize)| {
            let mut data = heads[usize::from(*keyframe)].to_vec();
            data.resize(*bytes, 0);
            Frame { data }
        };
        Self { frames: frames.iter().map(frame).collect() }
    }

    /// The frames in order; at least one. The first is a keyframe in every clip that make.sh makes.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = b"DKIF\0\0\x20\0VP80".to_vec();
        file.resize(32, 0);
        for frame in frames {
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend([0; 8]);
            file.extend(*frame);
        }
        file
    }

    #[test]
    fn reads_frames_and_refuses_what_is_cut_off() {
        let whole = file(&[b"one", b"", b"three"]);
        let clip = Clip::parse(&whole).expect("a whole file");
        assert_eq!(clip.frames().iter().map(|f| f.data.len()).collect::<Vec<_>>(), [3, 0, 5]);
        assert_eq!(Clip::parse(&whole[..whole.len() - 1]), Err(ClipError::CutOff(2)));
        assert_eq!(Clip::parse(&file(&[])), Err(ClipError::Empty));
        assert_eq!(Clip::parse(b"RIFF"), Err(ClipError::Header));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = file(&[]);
            bytes.extend(tail);
            let _ = Clip::parse(&bytes);
        }
    }
}
