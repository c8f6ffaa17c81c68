//! How much passes a place: what is sent, on this node's clock; what arrives (the acknowledged rate), on the receiver's, so that late
//! feedback does not distort it.

/// Together half a second.
const BUCKETS: i64 = 20;
const BUCKET_US: i64 = 25_000;
/// Less than this says nothing.
const LEAST_SPAN_US: i64 = 100_000;

/// Bytes that passed in the last half second. Constant memory, constant time per packet.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    bytes: [u32; BUCKETS as usize],
    /// When the first packet passed, and the latest.
    span_us: Option<(i64, i64)>,
}

impl Throughput {
    /// Counts a packet that passed.
    pub(super) fn add(&mut self, bytes: u16, at_us: i64) {
        let (first_us, newest_us) = self.span_us.unwrap_or((at_us, at_us));
        let (bucket, newest) = (at_us.div_euclid(BUCKET_US), newest_us.div_euclid(BUCKET_US));
        if bucket <= newest - BUCKETS {
            return;
        }
        for skipped in (newest + 1..=bucket).rev().take(BUCKETS as usize) {
            self.bytes[place(skipped)] = 0;
        }
        // A receiver that says all came at once must not overflow it.
        let sum = &mut self.bytes[place(bucket)];
        *sum = sum.saturating_add(bytes.into());
        self.span_us = Some((first_us, newest_us.max(at_us)));
    }

    /// The rate over the last half second, in kbit/s; none while too little has passed to tell.
    pub(super) fn kbps(&self) -> Option<f64> {
        self.kbps_over(BUCKETS)
    }

    /// The rate over the last fifth of a second: of what arrives it is what the path carries at this moment, if it is full.
    pub(super) fn recent_kbps(&self) -> Option<f64> {
        self.kbps_over(8)
    }

    fn kbps_over(&self, buckets: i64) -> Option<f64> {
        let (first_us, newest_us) = self.span_us?;
        let newest = newest_us.div_euclid(BUCKET_US);
        let from_us = ((newest - buckets + 1) * BUCKET_US).max(first_us);
        let span_us = newest_us - from_us;
        let bytes: f64 = (newest - buckets + 1..=newest).map(|bucket| f64::from(self.bytes[place(bucket)])).sum();
        (span_us >= LEAST_SPAN_US).then(|| bytes * 8_000.0 / span_us as f64)
    }
}

fn place(bucket: i64) -> usize {
    bucket.rem_euclid(BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(throughput: &mut Throughput, from_us: i64, packets: i64, every_us: i64) -> i64 {
        (0..packets).for_each(|number| throughput.add(1_250, from_us + number * every_us));
        from_us + packets * every_us
    }

    #[test]
    fn a_steady_rate_is_measured_and_a_change_followed() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.kbps(), None);
        let now_us = feed(&mut throughput, -3_000_000, 100, 10_000);
        let kbps = throughput.kbps().expect("measured");
        assert!((950.0..=1_050.0).contains(&kbps), "1 Mbit/s read as {kbps}");
        feed(&mut throughput, now_us, 3, 100_000);
        let recent = throughput.recent_kbps().expect("measured");
        assert!((80.0..=160.0).contains(&recent), "100 kbit/s read as {recent}");
        feed(&mut throughput, now_us + 60_000_000, 100, 10_000);
        let kbps = throughput.kbps().expect("measured");
        assert!((950.0..=1_050.0).contains(&kbps), "after a pause 1 Mbit/s read as {kbps}");
    }

    #[test]
    fn what_comes_out_of_order_is_counted_where_it_belongs_or_not_at_all() {
        let mut throughput = Throughput::default();
        let now_us = feed(&mut throughput, 0, 100, 10_000);
        let before = throughput.kbps();
        throughput.add(60_000, now_us - 2_000_000);
        assert_eq!(throughput.kbps(), before);
    }
}
