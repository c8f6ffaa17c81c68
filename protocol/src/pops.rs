//! Finding the nearest PoP: the ranked list a door gives and the measurements a client reports.

use serde::{Deserialize, Serialize};

use crate::PopId;

/// A PoP or media node with this load or more is full: whoever can choose, chooses another. Below 1, so that newcomers
/// of the calls that go on there still find a place.
pub const FULL_LOAD: f64 = 0.9;
/// Who is connected moves only to a PoP that is better than its own by at least this much, in milliseconds, and by
/// [`STAY_WITHIN_SHARE`].
pub const STAY_WITHIN_MS: f64 = 10.0;
/// The same as a share of what the own PoP costs. Both, so that neither 8 against 5 ms nor 300 against 289 ms moves anyone.
pub const STAY_WITHIN_SHARE: f64 = 0.15;

/// `GET /v1/pops`: every PoP, the best for this caller first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct PopList {
    /// Best first. A client probes the first few and connects to the fastest that answers.
    pub pops: Vec<PopEntry>,
    /// The list may be kept this long, in seconds.
    pub max_age_s: u32,
    /// Set by a development door that adds delay to probes as if the caller were in this place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub as_if: Option<String>,
}

/// One PoP as seen for one caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct PopEntry {
    /// The PoP.
    pub id: PopId,
    /// The region it stands in, for people: "Zurich, Switzerland".
    pub region: String,
    /// Origin of its public door: `https://zurich.example.org`.
    pub url: String,
    /// Estimated round trip between the caller and the PoP, in milliseconds.
    pub rtt_ms: f64,
    /// Where the estimate comes from.
    pub rtt_source: RttSource,
    /// How busy it is, from 0 (idle) to 1 (takes nobody new). From [`FULL_LOAD`] on it is a last resort.
    pub load: f64,
    /// What the load adds to a round trip when PoPs are compared, in milliseconds: nothing while there is room.
    pub load_cost_ms: f64,
    /// Whether it takes new calls.
    pub state: PopState,
}

/// Where a round-trip estimate comes from, the most trustworthy first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RttSource {
    /// Clients of the caller's network prefix measured it.
    Measured,
    /// From the distance between the caller's and the PoP's place.
    Geography,
    /// Nothing is known of the caller.
    Unknown,
}

/// Whether a PoP takes new calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PopState {
    /// Takes new calls.
    Ready,
    /// Finishes the calls it has and asks clients to move.
    Draining,
    /// Has not been heard from.
    Down,
}

/// `POST /v1/measurements`: the round trips a client measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Measurements {
    /// At most [`Measurements::MAX`] entries; more are refused.
    #[schema(max_items = 16)]
    pub measurements: Vec<Measurement>,
}

impl Measurements {
    /// The most entries one report may have.
    pub const MAX: usize = 16;
}

/// One PoP as measured by one client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Measurement {
    /// The PoP that was probed.
    pub pop: PopId,
    /// The fastest of the probes, in milliseconds, above 0 and at most 10,000.
    pub rtt_ms: f64,
}
