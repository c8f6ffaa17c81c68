//! Which track stands in which slot: whoever stays, stays where it is, so that pictures and voices do not jump.

/// The tracks of `wanted` (most important first, no duplicates) placed into the slots of `current`: a track that
/// already has a slot keeps it, the others take the free ones in order, and what does not fit is left out.
pub fn assign<K: Copy + Eq>(current: &[Option<K>], wanted: &[K]) -> Vec<Option<K>> {
    let wanted = &wanted[..wanted.len().min(current.len())];
    let mut slots: Vec<Option<K>> = current.iter().map(|track| track.filter(|t| wanted.contains(t))).collect();
    let mut newcomers = wanted.iter().filter(|track| !current.contains(&Some(**track))).copied();
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        *slot = newcomers.next();
    }
    slots
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_stays_keeps_the_slot() {
        assert_eq!(assign(&[Some(1), Some(2), None], &[3, 2]), [Some(3), Some(2), None]);
        assert_eq!(assign(&[Some(1), Some(2)], &[4, 5, 1]), [Some(4), Some(5)], "the least important is left out");
        assert_eq!(assign::<u8>(&[], &[1]), []);
    }

    proptest! {
        #[test]
        fn every_wanted_track_that_fits_stands_exactly_once(
            current in prop::collection::vec(prop::option::of(0u8..12), 0..8),
            wanted in prop::collection::hash_set(0u8..12, 0..12),
        ) {
            let mut seen = HashSet::new();
            let current: Vec<Option<u8>> = current.into_iter().map(|t| t.filter(|t| seen.insert(*t))).collect();
            let wanted: Vec<u8> = wanted.into_iter().collect();
            let placed = assign(&current, &wanted);
            prop_assert_eq!(placed.len(), current.len());
            let mut standing: Vec<u8> = placed.iter().flatten().copied().collect();
            standing.sort_unstable();
            let mut expected = wanted[..wanted.len().min(current.len())].to_vec();
            expected.sort_unstable();
            prop_assert_eq!(&standing, &expected);
            for (before, after) in current.iter().zip(&placed) {
                prop_assert!(before.is_none() || !expected.contains(&before.unwrap_or(0)) || before == after);
            }
        }
    }
}
