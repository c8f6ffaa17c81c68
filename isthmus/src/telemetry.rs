//! What a process tells about itself: log lines and metrics.

use std::io::IsTerminal as _;

use isthmus_protocol::{NodeId, PopId};
use prometheus::{Registry, process_collector::ProcessCollector};
use tracing_subscriber::{EnvFilter, fmt};

/// Sends log lines to standard error: text for a person at a terminal, one JSON object per line for everything else.
///
/// `filter` is in the syntax of `tracing_subscriber`'s `EnvFilter`: `info`, `warn,isthmus_sfu=debug`.
///
/// # Errors
/// The filter does not read.
pub(crate) fn start_logging(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        anyhow::anyhow!("log filter {filter:?}: {error}; expected such as info or warn,isthmus=debug")
    })?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        lines.init();
    } else {
        lines.json().flatten_event(true).init();
    }
    Ok(())
}

/// A registry whose every metric carries `pop` and `node`, with the standard `process_*` metrics in it.
pub(crate) fn registry(pop: &PopId, node: &NodeId) -> Result<Registry, prometheus::Error> {
    let labels = [("pop".to_owned(), pop.to_string()), ("node".to_owned(), node.to_string())].into();
    let registry = Registry::new_custom(None, Some(labels))?;
    registry.register(Box::new(ProcessCollector::for_self()))?;
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_says_where_it_comes_from() {
        let registry = registry(&"panama".parse().unwrap(), &"panama-sfu-1".parse().unwrap()).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
            let line =
                text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
            assert!(line.contains(r#"pop="panama""#) && line.contains(r#"node="panama-sfu-1""#), "{line}");
        }
    }
}
