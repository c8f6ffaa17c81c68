//! Which packets of a stream have come.

/// How far back that is known.
const KNOWN: u16 = 64;

/// The newest packet of a stream, and which of those before it have come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals {
    newest: Option<u16>,
    /// Bit n: the packet n before the newest.
    come: u64,
}

impl Arrivals {
    /// Takes in that a packet of this number came. Whether it is the newest so far, by the distance that RFC 3550 section A.1
    /// takes for late.
    pub fn note(&mut self, sequence: u16) -> bool {
        let ahead = self.newest.map_or(KNOWN, |newest| sequence.wrapping_sub(newest));
        let is_newest = ahead != 0 && ahead.cast_signed() > 0;
        if is_newest {
            self.newest = Some(sequence);
            self.come = self.come.checked_shl(ahead.into()).unwrap_or(0) | 1;
        } else if ahead.wrapping_neg() < KNOWN {
            self.come |= 1 << ahead.wrapping_neg();
        }
        is_newest
    }

    /// Whether this packet has come, as far as that is known.
    pub fn has(&self, sequence: u16) -> bool {
        let behind = self.newest.map_or(KNOWN, |newest| newest.wrapping_sub(sequence));
        behind < KNOWN && self.come & 1 << behind != 0
    }

    /// Whether this packet is missing: others of the stream have come, newer or just before it, and it has not.
    pub fn lacks(&self, sequence: u16) -> bool {
        let Some(newest) = self.newest else { return false };
        let behind = newest.wrapping_sub(sequence);
        // Of an old one nobody knows; the next one, or one further on, has not come.
        let is_known = behind < KNOWN || behind.wrapping_neg() < KNOWN;
        is_known && !self.has(sequence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_is_newer_than_all_before_also_beyond_the_last_number() {
        let mut arrivals = Arrivals::default();
        let newest: Vec<_> = [65_534, 1, 0, 1, 3].map(|sequence| arrivals.note(sequence)).into();
        assert_eq!(newest, [true, true, false, false, true]);
        let lacking: Vec<_> = (0..5).filter(|sequence| arrivals.lacks(*sequence)).collect();
        assert_eq!(lacking, [2, 4], "4 is yet to come");
        assert!(arrivals.lacks(65_535) && !arrivals.lacks(65_534));
        assert!(!arrivals.lacks(60_000), "nobody knows");
        assert!(!Arrivals::default().lacks(7), "of nothing nothing is missing");
    }

    proptest! {
        #[test]
        fn what_came_is_not_missing_and_the_rest_is(start: u16, steps in prop::collection::vec(-20i16..30, 1..100)) {
            let mut arrivals = Arrivals::default();
            let (mut at, mut newest) = (start, start);
            let mut came = HashSet::new();
            for step in steps {
                at = newest.wrapping_add_signed(step);
                arrivals.note(at);
                came.insert(at);
                if came.len() == 1 || step > 0 {
                    newest = at;
                }
            }
            for behind in 0..KNOWN {
                let sequence = newest.wrapping_sub(behind);
                prop_assert_eq!(arrivals.has(sequence), came.contains(&sequence), "{} behind {}", behind, newest);
                prop_assert_eq!(arrivals.lacks(sequence), !came.contains(&sequence));
            }
            let _ = at;
        }
    }
}
