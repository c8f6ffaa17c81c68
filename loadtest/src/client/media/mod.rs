//! The clips that are published. `loadtest/media/make.sh` makes them; they are part of the program.

mod ivf;
mod speech;

use std::sync::Arc;

pub use ivf::{Clip, ClipError, Frame};
pub use speech::{Sound, Speech, SpeechError};

/// The simulcast layers' rids with their clips, lowest first: 320x180, 640x360 and 1280x720 at 30 frames/s.
const CAMERA: [(&str, &[u8]); 3] = [
    ("q", include_bytes!("../../../media/camera-180p.ivf")),
    ("h", include_bytes!("../../../media/camera-360p.ivf")),
    ("f", include_bytes!("../../../media/camera-720p.ivf")),
];
const SPEECH: &[u8] = include_bytes!("../../../media/speech.opuspackets");

/// All clips, read once and shared by every client of the process.
#[derive(Debug, Clone)]
pub struct Library {
    /// By rid, lowest layer first.
    pub camera: Arc<[(&'static str, Clip)]>,
    /// A voice that pauses.
    pub speech: Arc<Speech>,
}

impl Library {
    /// The clips that are part of the program.
    ///
    /// # Panics
    /// Never: a test reads the clips that are built in.
    pub fn built_in() -> Self {
        let read = |(rid, bytes)| (rid, Clip::parse(bytes).expect("a test reads the clip that is built in"));
        let speech = Speech::parse(SPEECH).expect("a test reads the speech that is built in");
        Self { camera: CAMERA.map(read).into_iter().collect(), speech: Arc::new(speech) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::vp8;

    #[test]
    fn the_camera_has_three_sizes_that_begin_with_a_keyframe() {
        let library = Library::built_in();
        let sizes: Vec<_> = library.camera.iter().map(|(_, clip)| vp8::frame_size(&clip.frames()[0].data)).collect();
        assert_eq!(sizes, [Some((320, 180)), Some((640, 360)), Some((1280, 720))]);
        for (rid, clip) in library.camera.iter() {
            let keyframes = clip.frames().iter().filter(|frame| vp8::frame_size(&frame.data).is_some()).count();
            assert_eq!((clip.frames().len(), keyframes), (150, 1), "{rid}");
        }
    }

    #[test]
    fn the_speech_speaks_and_pauses() {
        let speech = Library::built_in().speech;
        assert!(speech.sounds().iter().any(|sound| sound.level < 25), "nobody speaks");
        assert!(speech.sounds().iter().any(|sound| sound.level == 127), "nobody pauses");
        assert!(speech.sounds().len() > 200, "4 s at least");
    }
}
