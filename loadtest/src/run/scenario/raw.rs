//! What a scenario's file may hold, before it is checked: every value with its place, for errors.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use isthmus_protocol::PopId;
use serde::Deserialize;
use toml::Spanned;

use crate::client::media::Material;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScenario {
    #[serde(default = "default_seed")]
    pub(super) seed: u64,
    pub(super) target: Spanned<RawTarget>,
    #[serde(default)]
    pub(super) server: RawServer,
    pub(super) stage: Spanned<Vec<Spanned<RawStage>>>,
    pub(super) rooms: Spanned<Vec<Spanned<RawRooms>>>,
    #[serde(default)]
    pub(super) networks: BTreeMap<String, Spanned<RawNetwork>>,
    pub(super) churn: Option<RawChurn>,
    #[serde(default)]
    pub(super) thresholds: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    #[serde(default)]
    pub(super) kind: RawKind,
    pub(super) url: Option<Spanned<String>>,
    pub(super) pops: Option<Spanned<Vec<PopId>>>,
    pub(super) whip: Option<Spanned<String>>,
    pub(super) whep: Option<Spanned<String>>,
    pub(super) guests: Option<Spanned<String>>,
    pub(super) token: Option<Spanned<String>>,
    pub(super) secret: Option<Spanned<String>>,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawKind {
    #[default]
    Isthmus,
    Whip,
    Janus,
}

impl RawKind {
    /// The keys that go with it, beside `kind` and `ca`; the first must be there.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Isthmus => &["url", "pops"],
            Self::Whip => &["whip", "whep", "guests", "token"],
            Self::Janus => &["url", "secret"],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Isthmus => "isthmus",
            Self::Whip => "whip",
            Self::Janus => "janus",
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    pub(super) pids: Vec<u32>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) processes: Vec<String>,
    pub(super) metrics: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStage {
    pub(super) duration: Spanned<String>,
    pub(super) participants: Option<Spanned<u32>>,
    pub(super) rooms: Option<Spanned<u32>>,
    pub(super) joins_per_second: Option<Spanned<f64>>,
    pub(super) ramp: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRooms {
    pub(super) name: Spanned<String>,
    pub(super) weight: Option<Spanned<f64>>,
    pub(super) count: Option<NonZeroU32>,
    pub(super) participants: Spanned<u32>,
    pub(super) audio_publishers: Option<Spanned<u32>>,
    pub(super) video_publishers: Option<Spanned<u32>>,
    pub(super) viewers: Option<Spanned<u32>>,
    pub(super) media: Option<Material>,
    pub(super) simulcast: Option<Spanned<bool>>,
    pub(super) judges: Option<Spanned<u32>>,
    pub(super) audio_slots: Option<Spanned<u8>>,
    pub(super) video_slots: Option<Spanned<u8>>,
    #[serde(default = "default_tile_height")]
    pub(super) tile_height: u16,
    #[serde(default)]
    pub(super) networks: BTreeMap<Spanned<String>, Spanned<f64>>,
}

/// What each way has; `up` and `down` say it of one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNetwork {
    pub(super) loss: Option<Spanned<f64>>,
    pub(super) delay_ms: Option<Spanned<f64>>,
    pub(super) jitter_ms: Option<Spanned<f64>>,
    pub(super) rate_mbps: Option<Spanned<f64>>,
    pub(super) queue_ms: Option<Spanned<f64>>,
    pub(super) reorder: Option<bool>,
    pub(super) up: Option<RawWay>,
    pub(super) down: Option<RawWay>,
}

/// The keys of [`RawNetwork`] once more: serde's `flatten` goes neither with `deny_unknown_fields` nor with [`Spanned`].
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWay {
    pub(super) loss: Option<Spanned<f64>>,
    pub(super) delay_ms: Option<Spanned<f64>>,
    pub(super) jitter_ms: Option<Spanned<f64>>,
    pub(super) rate_mbps: Option<Spanned<f64>>,
    pub(super) queue_ms: Option<Spanned<f64>>,
    pub(super) reorder: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChurn {
    pub(super) per_minute: Spanned<f64>,
    pub(super) away: Option<Spanned<String>>,
}

fn default_seed() -> u64 {
    1
}

fn default_tile_height() -> u16 {
    360
}
