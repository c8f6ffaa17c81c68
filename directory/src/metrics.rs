//! What the directory counts.

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Handles to the directory's metrics in one registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) request_seconds: HistogramVec,
    pub(crate) malformed: IntCounterVec,
    pub(crate) measurements: IntCounterVec,
    pub(crate) replication_lag_seconds: GaugeVec,
    pub(crate) replication_backlog: IntGaugeVec,
    pub(crate) replicated: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// One of them is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let request_seconds = HistogramVec::new(
            HistogramOpts::new("isthmus_store_request_seconds", "Time from request to answer of the store.")
                .buckets(vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]),
            &["table", "operation"],
        )?;
        registry.register(Box::new(request_seconds.clone()))?;
        let replication_lag_seconds = GaugeVec::new(
            Opts::new(
                "isthmus_replication_lag_seconds",
                "Age of the oldest write of this store that the peer store may still miss.",
            ),
            &["peer"],
        )?;
        registry.register(Box::new(replication_lag_seconds.clone()))?;
        let replication_backlog = IntGaugeVec::new(
            Opts::new("isthmus_replication_backlog", "Writes read from this store and not yet in the peer store."),
            &["peer"],
        )?;
        registry.register(Box::new(replication_backlog.clone()))?;
        Ok(Self {
            requests: counter(
                "isthmus_store_requests_total",
                "Requests to the store by outcome: ok or the code of the error.",
                &["table", "operation", "outcome"],
            )?,
            malformed: counter(
                "isthmus_store_malformed_total",
                "Items skipped because they were not understood.",
                &["table"],
            )?,
            measurements: counter(
                "isthmus_latency_measurements_total",
                "Round trips reported by clients by outcome: accepted, implausible or too_soon.",
                &["outcome"],
            )?,
            replicated: counter(
                "isthmus_replication_writes_total",
                "Writes sent to a peer store by outcome: applied, superseded by a newer one there, or refused.",
                &["peer", "outcome"],
            )?,
            request_seconds,
            replication_lag_seconds,
            replication_backlog,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_the_name_that_dashboards_read() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).expect("a fresh registry");
        metrics.requests.with_label_values(&["isthmus-pops", "PutItem", "ok"]).inc();
        metrics.request_seconds.with_label_values(&["isthmus-pops", "PutItem"]).observe(0.001);
        metrics.malformed.with_label_values(&["isthmus-pops"]).inc();
        metrics.measurements.with_label_values(&["accepted"]).inc();
        metrics.replication_lag_seconds.with_label_values(&["zurich"]).set(0.1);
        metrics.replication_backlog.with_label_values(&["zurich"]).set(1);
        metrics.replicated.with_label_values(&["zurich", "applied"]).inc();
        let names: Vec<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(
            names,
            [
                "isthmus_latency_measurements_total",
                "isthmus_replication_backlog",
                "isthmus_replication_lag_seconds",
                "isthmus_replication_writes_total",
                "isthmus_store_malformed_total",
                "isthmus_store_request_seconds",
                "isthmus_store_requests_total",
            ]
        );
        assert!(Metrics::new(&registry).is_err(), "registered twice");
    }
}
