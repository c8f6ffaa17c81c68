//! Which layer of each shown track a receiver gets, from what its path carries and how large it shows them.

use std::collections::BTreeSet;

use super::svc::ladder::Rung;

/// A raise must fit with this margin, in percent of the budget, so that a layer is not taken back at once.
const RAISE_MARGIN_PERCENT: u32 = 85;

/// Which of a track's streams is sent, and how much of it. Higher ones are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pick {
    /// The index of the stream among the track's simulcast layers.
    pub layer: usize,
    /// Where on the ladder of a scalable stream; [`Rung::MAX`] for all of one that is not, or is not known to be.
    pub rung: Rung,
}

impl Pick {
    /// All of a layer.
    pub const fn whole(layer: usize) -> Self {
        Self { layer, rung: Rung::MAX }
    }
}

/// One layer of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// What it takes, in kbit/s.
    pub kbps: u32,
    /// The height of its picture, in pixels.
    pub height: u16,
}

/// A track that a receiver shows.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The layers that are being sent now, lowest first.
    pub layers: Vec<(Pick, Layer)>,
    /// The height it is shown at, in pixels.
    pub height: u16,
    /// The layer the receiver gets now.
    pub current: Option<Pick>,
}

impl Wish {
    /// The places in `layers` worth sending: up to those that are as high as the track is shown.
    fn useful(&self) -> &[(Pick, Layer)] {
        let enough = self.layers.iter().map(|(_, layer)| layer.height).find(|height| *height >= self.height);
        let too_large = |(_, layer): &(Pick, Layer)| enough.is_some_and(|enough| layer.height > enough);
        &self.layers[..self.layers.iter().position(too_large).unwrap_or(self.layers.len())]
    }

    /// Where a place in `layers` stands: its size among the track's, and its rate among those of its size.
    fn standing(&self, place: usize) -> (usize, usize) {
        let height = |place: usize| self.layers[place].1.height;
        let smaller = (0..place).filter(|before| height(*before) != height(before + 1)).count();
        let slower = (0..place).rev().take_while(|before| height(*before) == height(place)).count();
        (smaller, slower)
    }

    /// What one step up from a place in `layers` takes besides, in kbit/s.
    fn raise_kbps(&self, from: Option<usize>) -> u32 {
        let kbps = |place: usize| self.layers.get(place).map_or(0, |(_, layer)| layer.kbps);
        kbps(from.map_or(0, |place| place + 1)).saturating_sub(from.map_or(0, kbps))
    }

    /// What the best layer worth sending takes, in kbit/s.
    pub fn ideal_kbps(&self) -> u32 {
        self.useful().last().map_or(0, |(_, layer)| layer.kbps)
    }

    fn was_at_least(&self, pick: Pick) -> bool {
        self.current.is_some_and(|current| current >= pick)
    }
}

/// The layer for each wish (most important first), or none where the path cannot carry even the lowest.
///
/// Everyone is seen before anyone is seen often, and often before anyone is large. What it takes to be seen often goes to
/// those first who take the least, so that the many pictures of a screen do not stop the faces beside it; larger sizes go to
/// the most important first. A larger size that a receiver does not have yet must fit with a margin; what it has is kept as
/// long as it fits.
pub fn allocate(budget_kbps: u32, wishes: &[Wish]) -> Vec<Option<Pick>> {
    let mut chosen: Vec<Option<usize>> = vec![None; wishes.len()];
    let mut used = 0u32;
    let standings = wishes.iter().flat_map(|wish| (0..wish.useful().len()).map(|place| wish.standing(place)));
    let rounds: BTreeSet<(usize, usize)> = standings.collect();
    for round in rounds {
        let (is_smallest, is_raise_of_rate) = (round.0 == 0, round.1 > 0);
        let mut turns: Vec<usize> = (0..wishes.len()).collect();
        if is_raise_of_rate {
            turns.sort_by_key(|turn| wishes[*turn].raise_kbps(chosen[*turn]));
        }
        for turn in turns {
            let (wish, place) = (&wishes[turn], &mut chosen[turn]);
            let step = place.map_or(0, |below| below + 1);
            let Some((pick, layer)) = wish.useful().get(step).filter(|_| wish.standing(step) == round) else {
                continue;
            };
            let before = place.map_or(0, |below| wish.useful()[below].1.kbps);
            // The smallest size needs no margin: while nothing is sent the estimate does not grow either, and a picture that
            // was paused would stay so.
            let kept = is_smallest || wish.was_at_least(*pick);
            let limit = if kept { budget_kbps } else { with_margin(budget_kbps) };
            let after = (used - before).saturating_add(layer.kbps);
            if after <= limit {
                used = after;
                *place = Some(step);
            }
        }
    }
    wishes.iter().zip(chosen).map(|(wish, place)| place.map(|step| wish.useful()[step].0)).collect()
}

fn with_margin(budget_kbps: u32) -> u32 {
    (u64::from(budget_kbps) * u64::from(RAISE_MARGIN_PERCENT) / 100) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn simulcast(height: u16, current: Option<usize>) -> Wish {
        let layers = [(150, 180), (500, 360), (1700, 720)];
        let layers = layers
            .iter()
            .enumerate()
            .map(|(i, (kbps, height))| (Pick::whole(i), Layer { kbps: *kbps, height: *height }));
        Wish { layers: layers.collect(), height, current: current.map(Pick::whole) }
    }

    /// The layers that are chosen, by their index.
    fn layers(budget_kbps: u32, wishes: &[Wish]) -> Vec<Option<usize>> {
        allocate(budget_kbps, wishes).into_iter().map(|pick| pick.map(|pick| pick.layer)).collect()
    }

    #[test]
    fn a_slow_path_gets_the_low_layer_and_a_fast_one_the_high() {
        assert_eq!(layers(300, &[simulcast(720, Some(2))]), [Some(0)]);
        assert_eq!(layers(3000, &[simulcast(720, Some(0))]), [Some(2)]);
        assert_eq!(layers(100, &[simulcast(720, Some(0))]), [None], "paused rather than flooding the path");
    }

    #[test]
    fn a_paused_picture_comes_back_as_soon_as_its_lowest_layer_fits() {
        assert_eq!(layers(169, &[simulcast(720, None)]), [Some(0)]);
        assert_eq!(layers(149, &[simulcast(720, None)]), [None]);
    }

    #[test]
    fn nothing_larger_than_shown_is_sent() {
        assert_eq!(layers(10_000, &[simulcast(180, None), simulcast(300, None)]), [Some(0), Some(1)]);
    }

    #[test]
    fn everyone_is_seen_before_anyone_is_sharp() {
        let three = [simulcast(720, None), simulcast(720, None), simulcast(720, None)];
        assert_eq!(layers(600, &three), [Some(0), Some(0), Some(0)]);
        assert_eq!(layers(1000, &three), [Some(1), Some(0), Some(0)], "the most important first");
    }

    #[test]
    fn a_layer_is_kept_at_the_edge_and_not_taken_at_the_edge() {
        assert_eq!(layers(520, &[simulcast(720, Some(1))]), [Some(1)]);
        assert_eq!(layers(520, &[simulcast(720, Some(0))]), [Some(0)]);
    }

    #[test]
    fn a_smaller_picture_is_had_at_each_of_its_rates_before_a_larger_one() {
        let rungs = [(60, 180), (90, 180), (120, 180), (400, 360), (1_200, 720)];
        let layers = (0..).zip(rungs).map(|(rung, (kbps, height))| (Pick { layer: 0, rung }, Layer { kbps, height }));
        let wish = Wish { layers: layers.collect(), height: 360, current: None };
        let rung = |budget| allocate(budget, std::slice::from_ref(&wish))[0].map(|pick| pick.rung);
        let rungs: Vec<_> = [50, 80, 110, 200, 500, 5_000].map(rung).into();
        assert_eq!(rungs, [None, Some(0), Some(1), Some(2), Some(3), Some(3)], "nothing larger than it is shown");
        let small = Wish { height: 180, ..wish.clone() };
        assert_eq!(allocate(5_000, &[small])[0].map(|pick| pick.rung), Some(2), "small, and at its full rate");
        let both = allocate(400, &[simulcast(720, None), wish.clone()]);
        assert_eq!(both, [Some(Pick::whole(0)), Some(Pick { layer: 0, rung: 2 })], "both fluent before one is larger");
    }

    #[test]
    fn the_rate_of_a_screen_does_not_stop_the_faces_beside_it() {
        let at_rates = |kbps: [u32; 3], height| {
            let layers = (0..).zip(kbps).map(|(rung, kbps)| (Pick { layer: 0, rung }, Layer { kbps, height }));
            Wish { layers: layers.collect(), height, current: None }
        };
        let (screen, face) = (at_rates([750, 1_100, 1_500], 720), at_rates([75, 110, 150], 180));
        let rungs = |budget| -> Vec<_> {
            let chosen = allocate(budget, &[screen.clone(), face.clone()]);
            chosen.into_iter().map(|pick| pick.map(|pick| pick.rung)).collect()
        };
        assert_eq!(rungs(900), [Some(0), Some(2)]);
        assert_eq!(rungs(1_250), [Some(1), Some(2)]);
        assert_eq!(rungs(824), [Some(0), None], "the screen matters more");
    }

    proptest! {
        #[test]
        fn the_budget_holds(
            budget in 0u32..6000,
            wishes in prop::collection::vec((0u16..1200, prop::option::of(0usize..3)), 0..10),
        ) {
            let wishes: Vec<Wish> = wishes.into_iter().map(|(height, current)| simulcast(height, current)).collect();
            let chosen = layers(budget, &wishes);
            let used: u32 = wishes.iter().zip(&chosen).map(|(w, c)| c.map_or(0, |c| w.layers[c].1.kbps)).sum();
            prop_assert!(used <= budget);
        }

        #[test]
        fn more_budget_never_serves_fewer(budget in 0u32..6000, more in 0u32..3000, count in 0usize..10) {
            let wishes: Vec<Wish> = (0..count).map(|_| simulcast(720, None)).collect();
            let shown = |kbps| allocate(kbps, &wishes).iter().flatten().count();
            prop_assert!(shown(budget + more) >= shown(budget));
        }
    }
}
