//! The door's metrics.

use isthmus_protocol::problem::Code;
use prometheus::{
    HistogramVec, IntCounterVec, IntGauge, Registry, histogram_opts, opts, register_histogram_vec_with_registry,
    register_int_counter_vec_with_registry, register_int_gauge_with_registry,
};

/// Everything a door counts. The registry adds `pop` and `node` to each.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Requests served, by route, method and status. Routes, not paths: rooms are no labels.
    pub(crate) requests: IntCounterVec,
    /// How long requests took, by route.
    pub(crate) request_seconds: HistogramVec,
    /// Requests and messages refused, by the stable code.
    pub(crate) refusals: IntCounterVec,
    /// The door's part of joining: checking the token (`token`), having a session at a media node (`node`).
    pub(crate) join_seconds: HistogramVec,
    /// Signalling sockets open.
    pub(crate) sockets: IntGauge,
    /// Signalling sockets ended, by why.
    pub(crate) closes: IntCounterVec,
    /// What was dropped, by why.
    pub(crate) drops: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Ok(Self {
            requests: register_int_counter_vec_with_registry!(
                opts!("isthmus_http_requests_total", "HTTP requests served"),
                &["route", "method", "status"],
                registry
            )?,
            request_seconds: register_histogram_vec_with_registry!(
                histogram_opts!("isthmus_http_request_seconds", "How long HTTP requests took", seconds.clone()),
                &["route"],
                registry
            )?,
            refusals: register_int_counter_vec_with_registry!(
                opts!("isthmus_refusals_total", "Requests and messages refused, by stable code"),
                &["code"],
                registry
            )?,
            join_seconds: register_histogram_vec_with_registry!(
                histogram_opts!("isthmus_join_seconds", "Time to join, by phase", seconds),
                &["phase"],
                registry
            )?,
            sockets: register_int_gauge_with_registry!(
                opts!("isthmus_signal_sockets", "Signalling sockets open"),
                registry
            )?,
            closes: register_int_counter_vec_with_registry!(
                opts!("isthmus_signal_closes_total", "Signalling sockets ended, by reason"),
                &["reason"],
                registry
            )?,
            drops: register_int_counter_vec_with_registry!(
                opts!("isthmus_drops_total", "What was dropped, by reason"),
                &["reason"],
                registry
            )?,
        })
    }

    /// One more refusal.
    pub(crate) fn count_refusal(&self, code: Code) {
        self.refusals.with_label_values(&[&code_name(code)]).inc();
    }
}

/// The stable code as it stands on the wire.
fn code_name(code: Code) -> String {
    serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
