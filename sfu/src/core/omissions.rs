//! Numbers that close up over what was left out on purpose; what was lost stays a gap.
//!
//! Whoever receives a thinned stream must not take for lost what it was not meant to have.

use std::collections::VecDeque;

/// How many are remembered: a packet that comes after so many others were left out is of no use any more.
const MAX_REMEMBERED: usize = 512;

/// The packets of a stream that were left out, by extended number.
#[derive(Debug, Default)]
pub struct Omissions {
    /// In ascending order.
    remembered: VecDeque<u64>,
    /// How many were left out before those, and the last of them.
    forgotten: u64,
    last_forgotten: Option<u64>,
}

impl Omissions {
    /// A packet was left out that is newer than all before it.
    pub fn add(&mut self, number: u64) {
        debug_assert!(self.remembered.back().is_none_or(|last| *last < number));
        if self.remembered.len() == MAX_REMEMBERED {
            self.last_forgotten = self.remembered.pop_front();
            self.forgotten += 1;
        }
        self.remembered.push_back(number);
    }

    /// The number that a packet has without those before it that were left out; none if it is too old to tell.
    pub fn close_up(&self, number: u64) -> Option<u64> {
        if self.last_forgotten.is_some_and(|last| number < last) {
            return None;
        }
        let is_newest = self.remembered.back().is_none_or(|last| *last < number);
        let before = if is_newest {
            self.remembered.len()
        } else {
            self.remembered.partition_point(|omitted| *omitted < number)
        };
        Some(number - self.forgotten - before as u64)
    }
}

/// The numbers of a stream that is passed on thinned, as they stand in packets.
#[derive(Debug, Default)]
pub struct Thinned {
    /// The newest, extended; starts at 2^32, so that it never underflows.
    newest: Option<u64>,
    omissions: Omissions,
}

impl Thinned {
    /// The number under which a packet goes on; none if it came too late to tell.
    pub fn keep(&mut self, sequence: u16) -> Option<u16> {
        let number = self.extend(sequence);
        self.newest = self.newest.max(Some(number));
        self.omissions.close_up(number).map(|number| number as u16)
    }

    /// A packet does not go on. One that is not the newest leaves a gap: those after it have gone on already.
    pub fn leave_out(&mut self, sequence: u16) {
        let number = self.extend(sequence);
        if self.newest.is_none_or(|newest| newest < number) {
            self.newest = Some(number);
            self.omissions.add(number);
        }
    }

    fn extend(&self, sequence: u16) -> u64 {
        let newest = self.newest.unwrap_or((1 << 32) + u64::from(sequence));
        newest.wrapping_add_signed(sequence.wrapping_sub(newest as u16).cast_signed().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_out_is_closed_up_and_what_is_lost_is_not() {
        let mut thinned = Thinned::default();
        let mut pass = |sequence: u16, is_kept: bool| {
            if is_kept {
                return thinned.keep(sequence);
            }
            thinned.leave_out(sequence);
            None
        };
        assert_eq!(pass(65_534, true), Some(65_534));
        assert_eq!(pass(65_535, false), None);
        assert_eq!(pass(0, true), Some(65_535));
        assert_eq!(pass(3, false), None);
        assert_eq!(pass(4, true), Some(2), "1 and 2 are missing: 0 and 1");
        assert_eq!(pass(2, true), Some(1), "late");
        assert_eq!(pass(1, false), None);
        assert_eq!(pass(5, true), Some(3), "what was left out late stays a gap");
    }

    proptest! {
        /// Whatever is lost, late or left out: numbers keep their order, and none is given twice.
        #[test]
        fn order_is_kept(steps in prop::collection::vec((-3i64..40, any::<bool>()), 1..3_000)) {
            let mut omissions = Omissions::default();
            let mut newest = 1u64 << 32;
            let mut given = std::collections::BTreeMap::new();
            let mut seen = std::collections::HashSet::new();
            for (step, is_kept) in steps {
                let number = newest.wrapping_add_signed(step);
                if !seen.insert(number) {
                    continue;
                }
                if is_kept {
                    if let Some(closed) = omissions.close_up(number) {
                        given.insert(number, closed);
                    }
                } else if number > newest {
                    omissions.add(number);
                }
                newest = newest.max(number);
            }
            let in_order: Vec<u64> = given.values().copied().collect();
            prop_assert!(in_order.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
