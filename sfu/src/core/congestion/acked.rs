//! How much arrives: the acknowledged rate, on the receiver's clock, so that late feedback does not distort it.

/// Together half a second.
const BUCKETS: i64 = 20;
const BUCKET_US: i64 = 25_000;
/// Less than this says nothing.
const LEAST_SPAN_US: i64 = 100_000;

/// Bytes that arrived over the last half second. Constant memory, constant time per packet.
#[derive(Debug, Default)]
pub(super) struct Acked {
    bytes: [u32; BUCKETS as usize],
    /// When the first packet arrived, and the latest.
    span_us: Option<(i64, i64)>,
}

impl Acked {
    /// Counts a packet that arrived.
    pub(super) fn add(&mut self, bytes: u16, arrived_us: i64) {
        let (first_us, newest_us) = self.span_us.unwrap_or((arrived_us, arrived_us));
        let (bucket, newest) = (arrived_us.div_euclid(BUCKET_US), newest_us.div_euclid(BUCKET_US));
        if bucket <= newest - BUCKETS {
            return;
        }
        for skipped in (newest + 1..=bucket).rev().take(BUCKETS as usize) {
            self.bytes[place(skipped)] = 0;
        }
        // A receiver that says all came at once must not overflow it.
        let sum = &mut self.bytes[place(bucket)];
        *sum = sum.saturating_add(bytes.into());
        self.span_us = Some((first_us, newest_us.max(arrived_us)));
    }

    /// The rate over the last half second, in kbit/s; none while too little has come to tell.
    pub(super) fn kbps(&self) -> Option<f64> {
        self.kbps_over(BUCKETS)
    }

    /// The rate over the last fifth of a second: what the path carries at this moment, if it is full.
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

    fn feed(acked: &mut Acked, from_us: i64, packets: i64, every_us: i64) -> i64 {
        (0..packets).for_each(|number| acked.add(1_250, from_us + number * every_us));
        from_us + packets * every_us
    }

    #[test]
    fn a_steady_rate_is_measured_and_a_change_followed() {
        let mut acked = Acked::default();
        assert_eq!(acked.kbps(), None);
        let now_us = feed(&mut acked, -3_000_000, 100, 10_000);
        let kbps = acked.kbps().expect("measured");
        assert!((950.0..=1_050.0).contains(&kbps), "1 Mbit/s read as {kbps}");
        feed(&mut acked, now_us, 3, 100_000);
        let recent = acked.recent_kbps().expect("measured");
        assert!((80.0..=160.0).contains(&recent), "100 kbit/s read as {recent}");
        feed(&mut acked, now_us + 60_000_000, 100, 10_000);
        let kbps = acked.kbps().expect("measured");
        assert!((950.0..=1_050.0).contains(&kbps), "after a pause 1 Mbit/s read as {kbps}");
    }

    #[test]
    fn what_comes_out_of_order_is_counted_where_it_belongs_or_not_at_all() {
        let mut acked = Acked::default();
        let now_us = feed(&mut acked, 0, 100, 10_000);
        let before = acked.kbps();
        acked.add(60_000, now_us - 2_000_000);
        assert_eq!(acked.kbps(), before);
    }
}
