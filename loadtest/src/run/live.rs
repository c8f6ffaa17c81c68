//! How a run goes, on standard error while it runs: a view that renews itself on a terminal, a line every few seconds
//! elsewhere.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::report::Sample;

/// Lines come this often where there is no terminal.
const LINE_EVERY_S: f64 = 5.0;

/// The view.
pub struct Live {
    bar: Option<ProgressBar>,
    planned: Duration,
    next_line_s: f64,
}

impl Live {
    /// Of a run that is to last so long.
    pub fn new(planned: Duration) -> anyhow::Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {elapsed} of {prefix}\n{msg}")?;
            let bar = ProgressBar::new(planned.as_millis() as u64).with_style(style);
            bar.set_prefix(HumanDuration(planned).to_string());
            bar.set_message("asking the target");
            Some(bar)
        } else {
            None
        };
        Ok(Self { bar, planned, next_line_s: LINE_EVERY_S })
    }

    /// A second has passed; so many joined and failed until now.
    pub fn show(&mut self, sample: &Sample, joined: u64, failed: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position((sample.at_s * 1e3) as u64);
            bar.set_message(describe(sample, joined, failed, "\n"));
        } else if sample.at_s >= self.next_line_s {
            self.next_line_s += LINE_EVERY_S;
            let planned_s = self.planned.as_secs_f64();
            eprintln!("{:.0} of {planned_s:.0} s: {}", sample.at_s, describe(sample, joined, failed, "; "));
        }
    }

    /// What happens now.
    pub fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{what}"),
        }
    }

    /// The run is over.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(sample: &Sample, joined: u64, failed: u64, between: &str) -> String {
    let server = sample.server_cores.map_or_else(String::new, |cores| format!("{between}target   {cores:.2} cores"));
    format!(
        "clients  {} in their calls, {joined} joined, {failed} failed{between}media    {:.0} packets/s received, {:.1} Mbit/s, {:.0} \
         lost/s, {:.0} packets/s sent{between}self     {:.2} cores, latest timer {:.0} ms{server}",
        sample.in_call,
        sample.received_packets_per_second,
        sample.received_mbps,
        sample.lost_packets_per_second,
        sample.sent_packets_per_second,
        sample.generator_cores,
        sample.timer_late_ms,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_clients_media_and_both_sides_are() {
        let sample = Sample { in_call: 7, received_packets_per_second: 350.0, ..Sample::default() };
        let line = describe(&sample, 9, 1, "; ");
        assert!(line.starts_with("clients  7 in their calls, 9 joined, 1 failed; media    350 packets/s"), "{line}");
        assert!(!line.contains("target"), "nothing was seen of it: {line}");
        let seen = Sample { server_cores: Some(0.5), ..sample };
        assert!(describe(&seen, 9, 1, "; ").ends_with("target   0.50 cores"));
    }
}
