//! What was seen of a flow, in tenths of a second.

/// What was seen of a flow.
#[derive(Debug, Default)]
pub(in super::super) struct Log {
    /// Every 100 ms: the estimate, in kbit/s.
    pub(in super::super) estimates: Vec<f64>,
    /// Every 100 ms: media bytes that arrived.
    pub(in super::super) arrived: Vec<u64>,
    /// Of each voice packet: when it arrived and how long it waited in the bottleneck's queue, in microseconds.
    pub(in super::super) voice: Vec<(u64, u64)>,
    pub(in super::super) sent_packets: Vec<u64>,
    pub(in super::super) lost_packets: Vec<u64>,
    pub(in super::super) padding_bytes: Vec<u64>,
    pub(in super::super) media_bytes: Vec<u64>,
    /// How often a picture's layer changed.
    pub(in super::super) switches: Vec<u64>,
}

impl Log {
    fn between<T>(series: &[T], from_s: f64, to_s: f64) -> &[T] {
        let [from, to] = [from_s, to_s].map(|seconds| ((seconds * 10.0) as usize).min(series.len()));
        &series[from..to]
    }

    /// Media that arrived, in kbit/s.
    pub(in super::super) fn kbps(&self, from_s: f64, to_s: f64) -> f64 {
        Self::sum(&self.arrived, from_s, to_s) / 125.0 / (to_s - from_s)
    }

    pub(in super::super) fn estimate(&self, at_s: f64) -> f64 {
        self.estimates[((at_s * 10.0) as usize).min(self.estimates.len() - 1)]
    }

    pub(in super::super) fn least_estimate(&self, from_s: f64, to_s: f64) -> f64 {
        Self::between(&self.estimates, from_s, to_s).iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(in super::super) fn mean_estimate(&self, from_s: f64, to_s: f64) -> f64 {
        let series = Self::between(&self.estimates, from_s, to_s);
        series.iter().sum::<f64>() / series.len() as f64
    }

    /// How long after `from_s` the estimate first is as it should be, in seconds.
    pub(in super::super) fn seconds_until(&self, from_s: f64, is_right: impl Fn(f64) -> bool) -> f64 {
        let from = (from_s * 10.0) as usize;
        let place = self.estimates[from..].iter().position(|estimate| is_right(*estimate));
        place.map_or(f64::INFINITY, |place| place as f64 / 10.0)
    }

    /// The share of packets lost.
    pub(in super::super) fn loss(&self, from_s: f64, to_s: f64) -> f64 {
        let [sent, lost] = [&self.sent_packets, &self.lost_packets].map(|series| Self::sum(series, from_s, to_s));
        lost / sent.max(1.0)
    }

    /// The share of bytes sent that were padding.
    pub(in super::super) fn padding(&self, from_s: f64, to_s: f64) -> f64 {
        let [padding, media] = [&self.padding_bytes, &self.media_bytes].map(|series| Self::sum(series, from_s, to_s));
        padding / (padding + media).max(1.0)
    }

    fn sum(series: &[u64], from_s: f64, to_s: f64) -> f64 {
        Self::between(series, from_s, to_s).iter().sum::<u64>() as f64
    }

    pub(in super::super) fn switches(&self, from_s: f64, to_s: f64) -> u64 {
        Self::between(&self.switches, from_s, to_s).iter().sum()
    }

    /// What voice packets waited in the bottleneck: mean and 95th percentile, in milliseconds.
    pub(in super::super) fn waits_ms(&self, from_s: f64, to_s: f64) -> (f64, f64) {
        let mut waits: Vec<u64> = self.voice_between(from_s, to_s).map(|(_, wait)| wait).collect();
        waits.sort_unstable();
        let mean = waits.iter().sum::<u64>() as f64 / waits.len().max(1) as f64;
        let high = waits.get(waits.len() * 95 / 100).copied().unwrap_or(0) as f64;
        (mean / 1_000.0, high / 1_000.0)
    }

    /// The longest time without a voice packet, in milliseconds.
    pub(in super::super) fn longest_gap_ms(&self, from_s: f64, to_s: f64) -> f64 {
        let times: Vec<u64> = self.voice_between(from_s, to_s).map(|(at, _)| at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as f64 / 1_000.0
    }

    /// How many packets of a voice arrived.
    pub(in super::super) fn voices(&self, from_s: f64, to_s: f64) -> usize {
        self.voice_between(from_s, to_s).count()
    }

    fn voice_between(&self, from_s: f64, to_s: f64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let [from, to] = [from_s, to_s].map(|seconds| (seconds * 1e6) as u64);
        self.voice.iter().copied().filter(move |(at, _)| (from..to).contains(at))
    }
}

/// Counts in the running tenth of a second.
pub(super) fn count(series: &mut [u64], more: u64) {
    if let Some(last) = series.last_mut() {
        *last += more;
    }
}
