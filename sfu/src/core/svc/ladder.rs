//! The decode targets of a stream that are worth choosing among, lowest first, and what each takes.
//!
//! The smallest picture at each of its rates, then each larger one at its full rate: whoever has room for a larger picture
//! would not rather have a smaller one.

use std::time::Instant;

use super::descriptor::{Frame, Structure, Targets};
use crate::core::bitrate::RateMeter;

/// A place on the ladder of a stream, 0 the lowest.
pub type Rung = u8;

/// Some places on a ladder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rungs(pub u32);

impl Rungs {
    /// All there can be.
    pub const ALL: Rungs = Rungs(u32::MAX);

    /// Adds one. What is beyond every ladder stands for the highest of each.
    pub fn add(&mut self, rung: Rung) {
        self.0 |= 1u32.checked_shl(rung.into()).unwrap_or(1 << (u32::BITS - 1));
    }

    /// Adds those of another set.
    pub fn join(&mut self, other: Rungs) {
        self.0 |= other.0;
    }
}

/// One decode target that is worth choosing.
#[derive(Debug)]
struct Step {
    /// As a set of one.
    target: Targets,
    spatial: u8,
    /// Of its picture, in pixels, if the stream says it.
    height: Option<u16>,
    rate: RateMeter,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Ladder {
    structure: Structure,
    steps: Vec<Step>,
}

impl Ladder {
    /// That of a stream of this structure.
    pub fn new(structure: Structure) -> Self {
        let mut targets: Vec<(u8, u8, usize)> =
            structure.targets().enumerate().map(|(target, (spatial, temporal))| (spatial, temporal, target)).collect();
        targets.sort_unstable();
        let is_worth = |(place, (spatial, ..)): &(usize, &(u8, u8, usize))| {
            let has_faster = targets.get(place + 1).is_some_and(|(next, ..)| next == spatial);
            *spatial == 0 || !has_faster
        };
        let step = |(_, (spatial, _, target)): (usize, &(u8, u8, usize))| Step {
            target: 1 << target,
            spatial: *spatial,
            height: structure.heights.get(usize::from(*spatial)).copied(),
            rate: RateMeter::default(),
        };
        let steps = targets.iter().enumerate().filter(is_worth).map(step).collect();
        Self { structure, steps }
    }

    /// How the stream's frames depend on each other.
    pub fn structure(&self) -> &Structure {
        &self.structure
    }

    /// The stream's structure as it is from now on. What the rungs take is learned anew if they are others.
    pub fn restructure(&mut self, structure: Structure) {
        if self.structure == structure {
            return;
        }
        let before = std::mem::replace(self, Self::new(structure));
        let shape = |ladder: &Self| ladder.steps.iter().map(|step| (step.target, step.spatial)).collect::<Vec<_>>();
        if shape(self) == shape(&before) {
            self.steps.iter_mut().zip(before.steps).for_each(|(step, before)| step.rate = before.rate);
        }
    }

    /// The highest rung.
    pub fn top(&self) -> Rung {
        self.steps.len().saturating_sub(1) as Rung
    }

    /// How many rungs there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Never: each stream has a decode target.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The decode target of a rung, as a set of one; that of the highest if there are not so many.
    pub fn target(&self, rung: Rung) -> Targets {
        self.step(rung).map_or(0, |step| step.target)
    }

    /// The decode targets of some rungs.
    pub fn targets(&self, rungs: Rungs) -> Targets {
        let places = (0..self.steps.len()).filter(|place| rungs.0 & 1 << place != 0);
        let named = places.fold(0, |targets, place| targets | self.steps[place].target);
        // Rungs of a ladder that was longer: the highest there is.
        let beyond = rungs.0.checked_shr(self.steps.len() as u32).unwrap_or(0) != 0;
        named | if beyond { self.steps.last().map_or(0, |step| step.target) } else { 0 }
    }

    /// The rung of the smallest picture at its full rate.
    pub fn fastest_of_smallest(&self) -> Rung {
        self.steps.iter().take_while(|step| step.spatial == self.steps[0].spatial).count().saturating_sub(1) as Rung
    }

    /// The layer by size that a rung goes up to.
    pub fn spatial(&self, rung: Rung) -> u8 {
        self.step(rung).map_or(0, |step| step.spatial)
    }

    fn step(&self, rung: Rung) -> Option<&Step> {
        self.steps.get(usize::from(rung)).or(self.steps.last())
    }

    /// The height of a rung's picture in pixels, if the stream says it.
    pub fn height(&self, rung: Rung) -> Option<u16> {
        self.step(rung)?.height
    }

    /// A packet of `bytes` came.
    pub fn count(&mut self, frame: &Frame, bytes: usize, now: Instant) {
        for step in self.steps.iter_mut().filter(|step| frame.part_of & step.target != 0) {
            step.rate.add(bytes, now);
        }
    }

    /// What each rung takes, in kbit/s, the lowest first, as far as it comes here.
    pub fn kbps(&mut self, now: Instant) -> Vec<u32> {
        self.steps.iter_mut().map(|step| step.rate.kbps(now)).collect()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use std::time::Duration;

    use super::{super::patterns::Pattern, *};

    #[test]
    fn the_smallest_size_is_there_at_every_rate_and_each_larger_one_at_its_full_rate() {
        let ladder = Pattern::KEY_3_BY_3.ladder();
        let rungs: Vec<(u8, Targets)> = (0..5).map(|rung| (ladder.spatial(rung), ladder.target(rung))).collect();
        assert_eq!(rungs, [(0, 1), (0, 1 << 1), (0, 1 << 2), (1, 1 << 5), (2, 1 << 8)]);
        assert_eq!((ladder.len(), ladder.fastest_of_smallest()), (5, 2));
        assert_eq!(ladder.targets(Rungs(0b1_0001)), 1 | 1 << 8);
        assert_eq!(ladder.targets(Rungs(1 << 9)), 1 << 8, "of a ladder that was longer: all there is");
    }

    #[test]
    fn each_rung_takes_what_its_frames_take() {
        let start = Instant::now();
        let mut ladder = Pattern::KEY_3_BY_3.ladder();
        for (step, frame) in Pattern::KEY_3_BY_3.frames().take(300).enumerate() {
            // 100 pictures a second of 125, 250 and 500 bytes.
            let now = start + Duration::from_millis(10 * (step as u64 / 3));
            ladder.count(&frame, 125 << frame.spatial, now);
        }
        let kbps = ladder.kbps(start + Duration::from_millis(995));
        let expected = [25, 50, 100, 200, 400];
        assert!(kbps.iter().zip(expected).all(|(kbps, wanted)| kbps.abs_diff(wanted) <= wanted / 10), "{kbps:?}");
        ladder.restructure(Pattern::FULL_3_BY_3.structure());
        assert_eq!(
            ladder.kbps(start + Duration::from_millis(995)),
            kbps,
            "pictures that depend otherwise are as large"
        );
        ladder.restructure(Pattern::RATES.structure());
        assert_eq!(ladder.kbps(start + Duration::from_millis(995)), [0; 3]);
    }
}
