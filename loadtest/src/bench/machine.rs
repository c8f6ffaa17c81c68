//! Whether others use the machine: a figure that was taken beside a build is none.

use std::time::Duration;

use procfs::{CurrentSI as _, KernelStats};

/// How long the machine is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// More than this of a core that others use is told beside the figures.
pub(super) const QUIET_CORES: f64 = 0.2;

/// How many cores the machine uses while this program only waits; none if the kernel does not tell.
pub(super) async fn busy_cores() -> Option<f64> {
    let before = busy_s()?;
    tokio::time::sleep(LOOK).await;
    Some(((busy_s()? - before) / LOOK.as_secs_f64()).max(0.0))
}

/// Time that all cores together were not idle, in seconds since the machine was started.
fn busy_s() -> Option<f64> {
    let total = KernelStats::current().ok()?.total;
    let ticks = total.user + total.nice + total.system + total.irq.unwrap_or(0) + total.softirq.unwrap_or(0);
    Some(ticks as f64 / procfs::ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_how_busy_the_machine_was() {
        assert!(busy_s().is_some_and(|busy| busy > 0.0));
    }
}
