//! Streams for tests, as the AV1 RTP payload format draws them (appendix A.11): what is predicted from what.

use super::{
    descriptor::{Frame, References, Structure, Targets},
    ladder::Ladder,
};

/// How pictures of several sizes and three rates depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) struct Pattern {
    /// How many sizes.
    pub(in crate::core) spatial: u8,
    /// Which pictures of a size are predicted from the next smaller one of the same time.
    smaller: Smaller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Smaller {
    Always,
    InKeyframes,
    Never,
}

/// The rates of four pictures in a row.
const TEMPORAL: [u8; 4] = [0, 2, 1, 2];

impl Pattern {
    /// L1T3.
    pub(in crate::core) const RATES: Self = Self { spatial: 1, smaller: Smaller::Never };
    /// L3T3.
    pub(in crate::core) const FULL_3_BY_3: Self = Self { spatial: 3, smaller: Smaller::Always };
    /// `L3T3_KEY`.
    pub(in crate::core) const KEY_3_BY_3: Self = Self { spatial: 3, smaller: Smaller::InKeyframes };
    /// S3T3.
    pub(in crate::core) const APART_3_BY_3: Self = Self { spatial: 3, smaller: Smaller::Never };
    pub(in crate::core) const ALL: [Self; 4] = [Self::RATES, Self::FULL_3_BY_3, Self::KEY_3_BY_3, Self::APART_3_BY_3];
    /// In pictures.
    pub(in crate::core) const KEYFRAME_EVERY: usize = 40;

    /// Its frames from a keyframe on, one for each size of each picture.
    pub(in crate::core) fn frames(self) -> impl Iterator<Item = Frame> {
        (0..).map(move |index: usize| {
            let (picture, spatial) = (index / usize::from(self.spatial), (index % usize::from(self.spatial)) as u8);
            self.frame(picture, spatial)
        })
    }

    fn frame(self, picture: usize, spatial: u8) -> Frame {
        let in_group = picture % Self::KEYFRAME_EVERY;
        let (is_key, temporal) = (in_group == 0, TEMPORAL[in_group % 4]);
        let mut near = 0;
        let from_smaller = match self.smaller {
            Smaller::Always => true,
            Smaller::InKeyframes => is_key,
            Smaller::Never => false,
        };
        if spatial > 0 && from_smaller {
            near |= 1;
        }
        if !is_key {
            // The picture before of this size that a receiver of this rate has: the slowest before, or the one between.
            let back = [4, 1, 2, 1][in_group % 4];
            near |= 1 << (back * u32::from(self.spatial) - 1);
        }
        let part_of = self.part_of(spatial, temporal, is_key);
        let frame_needs_more = self.smaller == Smaller::Always;
        let own = |size: u8| size == spatial || is_key || !frame_needs_more;
        let switches_to = (0..self.spatial).filter(|size| own(*size)).fold(0, |set, size| set | 0b111 << (3 * size));
        Frame {
            number: (picture * usize::from(self.spatial)) as u16 + u16::from(spatial),
            starts: true,
            ends: true,
            spatial,
            temporal,
            part_of,
            switches_to: part_of & switches_to,
            references: References { near, is_far: false },
        }
    }

    /// Target 3 s + t is what it takes to show size s at rate t.
    fn part_of(self, spatial: u8, temporal: u8, is_key: bool) -> Targets {
        let rates = 0b111 & 0b111 << temporal;
        let needs = |size: u8| match self.smaller {
            Smaller::Always => size >= spatial,
            Smaller::InKeyframes => size == spatial || (is_key && size > spatial),
            Smaller::Never => size == spatial,
        };
        (0..self.spatial).filter(|size| needs(*size)).fold(0, |set, size| set | rates << (3 * size))
    }

    pub(in crate::core) fn structure(self) -> Structure {
        let kinds = (0..self.spatial).flat_map(|spatial| (0..3).map(move |temporal| (spatial, temporal)));
        let kinds = kinds.map(|(spatial, temporal)| (spatial, temporal, self.part_of(spatial, temporal, false)));
        Structure::of(&kinds.collect::<Vec<_>>(), usize::from(self.spatial) * 3, &[])
    }

    pub(in crate::core) fn ladder(self) -> Ladder {
        Ladder::new(self.structure())
    }
}
