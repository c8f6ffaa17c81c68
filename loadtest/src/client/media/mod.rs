//! The clips that are published. `loadtest/media/make.sh` makes them; they are part of the program.

mod ivf;
mod speech;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    ivf::{Clip, ClipError, Frame},
    speech::{Sound, Speech, SpeechError},
};
use super::{
    stamp::{PICTURE_STAMP_BYTES, SOUND_STAMP_BYTES},
    vp8,
};

/// The simulcast layers' rids with their clips, lowest first: 320x180, 640x360 and 1280x720 at 30 frames/s.
const CAMERA: [(&str, &[u8]); 3] = [
    ("q", include_bytes!("../../../media/camera-180p.ivf")),
    ("h", include_bytes!("../../../media/camera-360p.ivf")),
    ("f", include_bytes!("../../../media/camera-720p.ivf")),
];
/// A line for each frame: `key` or `delta`, and bytes.
const CHROMIUM: &str = include_str!("../../../media/chromium-vp8.sizes");
const SPEECH: &[u8] = include_bytes!("../../../media/speech.opuspackets");

/// What cameras and microphones send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Material {
    /// A moving test picture by libvpx, and a voice.
    #[default]
    Clip,
    /// Packets of equal size, by which the cost of forwarding is told: pictures of 5 packets of 1200 bytes, sounds of 120
    /// bytes. Their first bytes are those of VP8 and Opus; nobody could decode the rest.
    Even,
    /// Pictures of the sizes that Chromium's encoder made of a person before a camera (`chromium_sizes.py`), at 1.5 Mbit/s; and a
    /// voice. Nobody could decode the pictures.
    Chromium,
}

impl Material {
    /// The most bytes of an RTP payload.
    pub fn max_payload_bytes(self) -> usize {
        match self {
            // With SRTP, extensions, UDP and IP it stays under 1280 bytes, which every path takes.
            Self::Clip => 1150,
            Self::Even => EVEN_PAYLOAD_BYTES,
            // libwebrtc fills packets to 1200 bytes, RTP header and its extensions included.
            Self::Chromium => 1160,
        }
    }

    /// Whether each packet of a voice brings the one before along, as it does from a browser in the web app.
    pub fn has_redundancy(self) -> bool {
        self != Self::Even
    }
}

/// RTP payloads of one even picture, and how many.
const EVEN_PAYLOAD_BYTES: usize = 1200;
const EVEN_PACKETS: usize = 5;
/// As many as the clips have: every fifth second begins with a keyframe, which is no larger.
const EVEN_PICTURES: usize = 150;
/// RTP payload of an even sound.
const EVEN_SOUND_BYTES: usize = 120;

/// All clips, read once and shared by every client of the process.
#[derive(Debug, Clone)]
pub struct Library {
    /// By rid, lowest layer first.
    pub camera: Arc<[(&'static str, Arc<Clip>)]>,
    /// A voice that pauses.
    pub speech: Arc<Speech>,
    /// Pictures of [`Material::Even`].
    even_camera: Arc<Clip>,
    /// Pictures of [`Material::Chromium`].
    chromium_camera: Arc<Clip>,
    /// The levels of the voice, in sounds of [`Material::Even`].
    even_speech: Arc<Speech>,
}

impl Library {
    /// The clips that are part of the program.
    ///
    /// # Panics
    /// Never: a test reads the clips that are built in.
    pub fn built_in() -> Self {
        let read = |(rid, bytes)| (rid, Arc::new(Clip::parse(bytes).expect("a test reads the clip that is built in")));
        let speech = Speech::parse(SPEECH).expect("a test reads the speech that is built in");
        let picture_bytes = EVEN_PACKETS * (EVEN_PAYLOAD_BYTES - vp8::DESCRIPTOR_BYTES) - PICTURE_STAMP_BYTES;
        let even: Vec<_> = (0..EVEN_PICTURES).map(|number| (number == 0, picture_bytes)).collect();
        let chromium: Vec<_> =
            CHROMIUM.lines().map(|line| recorded(line).expect("a test reads the sizes that are built in")).collect();
        Self {
            camera: CAMERA.map(read).into_iter().collect(),
            even_camera: Arc::new(Clip::of_sizes((1280, 720), &even)),
            chromium_camera: Arc::new(Clip::of_sizes((1280, 720), &chromium)),
            even_speech: Arc::new(speech.with_packets_of(EVEN_SOUND_BYTES - SOUND_STAMP_BYTES)),
            speech: Arc::new(speech),
        }
    }

    /// The layers that a camera sends, with their rids: three where it does simulcast, else one without a rid.
    pub fn layers(&self, material: Material, simulcast: bool) -> Vec<(Option<&'static str>, Arc<Clip>)> {
        match material {
            Material::Clip if simulcast => {
                self.camera.iter().map(|(rid, clip)| (Some(*rid), Arc::clone(clip))).collect()
            }
            Material::Clip => self.camera.last().map(|(_, clip)| (None, Arc::clone(clip))).into_iter().collect(),
            Material::Even => vec![(None, Arc::clone(&self.even_camera))],
            Material::Chromium => vec![(None, Arc::clone(&self.chromium_camera))],
        }
    }

    /// What a microphone sends.
    pub fn sounds(&self, material: Material) -> Arc<Speech> {
        match material {
            Material::Clip | Material::Chromium => Arc::clone(&self.speech),
            Material::Even => Arc::clone(&self.even_speech),
        }
    }
}

/// Whether a recorded frame is a keyframe, and its bytes, less those of a stamp: with that it is as large as it was.
fn recorded(line: &str) -> Option<(bool, usize)> {
    let (kind, bytes) = line.split_once(' ')?;
    Some((kind == "key", bytes.parse::<usize>().ok()?.checked_sub(PICTURE_STAMP_BYTES)?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn chromiums_pictures_differ_in_size_and_have_its_rate() {
        let clip = Library::built_in().chromium_camera;
        let sizes: Vec<_> = clip.frames().iter().map(|frame| frame.data.len()).collect();
        let keyframes = clip.frames().iter().filter(|frame| vp8::frame_size(&frame.data) == Some((1280, 720))).count();
        assert!(sizes.len() == 300 && (1..5).contains(&keyframes), "{keyframes} of {}", sizes.len());
        let kbps = sizes.iter().sum::<usize>() as f64 * 8.0 * 30.0 / sizes.len() as f64 / 1e3;
        assert!((1300.0..1700.0).contains(&kbps), "{kbps} kbit/s");
        let packets: std::collections::BTreeSet<_> = sizes.iter().map(|bytes| bytes.div_ceil(1156)).collect();
        assert!(packets.len() > 4, "frames of so many packets each: {packets:?}");
    }

    #[test]
    fn the_speech_speaks_and_pauses() {
        let speech = Library::built_in().speech;
        assert!(speech.sounds().iter().any(|sound| sound.level < 25), "nobody speaks");
        assert!(speech.sounds().iter().any(|sound| sound.level == 127), "nobody pauses");
        assert!(speech.sounds().len() > 200, "4 s at least");
    }
}
