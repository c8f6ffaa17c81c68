//! Which of two writes to one item stands: the one merge rule of the whole directory.
//!
//! Every item says when and where it was written. Of two versions the later stands; written at the same microsecond,
//! the one whose region's name sorts higher. That is a total order on the versions of an item, so replicas that have
//! received the same writes, in whatever order and however often, hold the same item: the maximum.
//!
//! A writer never goes back: what it writes is at least one microsecond younger than what it replaces, even when the
//! replaced item comes from a region whose clock runs ahead ([`Version::after`]).

use isthmus_protocol::PopId;

use crate::time::UnixMicros;

/// When and where an item was written. Ordered: the greater one stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    /// By the writer's clock, or just after what was replaced.
    pub(crate) written_at: UnixMicros,
    /// The PoP whose store took the write.
    pub(crate) region: PopId,
}

impl Version {
    /// When a write at `now` counts as written, if it replaces something written at `replaced`.
    pub(crate) fn after(now: UnixMicros, replaced: Option<UnixMicros>) -> UnixMicros {
        replaced.map_or(now, |replaced| now.max(UnixMicros(replaced.0.saturating_add(1))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version() -> impl Strategy<Value = Version> {
        (0u64..4, prop::sample::select(vec!["panama", "singapore", "zurich"])).prop_map(|(at, region)| Version {
            written_at: UnixMicros(at),
            region: region.parse().expect("a valid id"),
        })
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_of_the_same_writes_ends_in_the_same_version(
            (first, second) in prop::collection::vec(version(), 1..8)
                .prop_flat_map(|writes| (Just(writes.clone()), Just(writes).prop_shuffle()))
        ) {
            let merge = |writes: &[Version]| writes.iter().cloned().reduce(Version::max);
            let repeated: Vec<Version> = second.iter().chain(&second).cloned().collect();
            prop_assert_eq!(merge(&first), merge(&second));
            prop_assert_eq!(merge(&first), merge(&repeated));
        }

        #[test]
        fn a_write_stands_against_what_it_replaces(now in 0u64..10, replaced in version()) {
            let written_at = Version::after(UnixMicros(now), Some(replaced.written_at));
            for region in ["a", "zz"] {
                let region = region.parse().expect("a valid id");
                let written = Version { written_at, region };
                prop_assert!(written > replaced);
            }
        }
    }
}
