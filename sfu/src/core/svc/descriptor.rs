//! Dependency descriptors as they are read (AV1 RTP payload format, appendix A.8).

/// The most decode targets of a stream: their number has 5 bits, and 0 is one.
pub const MAX_TARGETS: usize = 32;
/// Template numbers have 6 bits.
const MAX_TEMPLATES: usize = 64;
/// The descriptor's three first bytes, which are always there, in bits.
const MANDATORY_BITS: usize = 24;

/// A set of decode targets: bit n stands for target n.
pub type Targets = u32;

/// Why a descriptor is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It is cut off.
    Truncated,
    /// It is of a template that the stream's structure does not have, or there is no structure yet.
    UnknownTemplate,
    /// It has more layers or templates than there can be.
    TooMany,
}

/// How the frames of a stream depend on each other. It comes with keyframes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// The number of the first template.
    offset: u8,
    templates: Vec<Template>,
    targets: usize,
    /// Of the picture of each spatial layer, in pixels; empty if it is not said.
    pub heights: Vec<u16>,
}

/// What frames of one kind have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    kind: Kind,
}

/// What a frame says of its part in the decode targets, and what it is predicted from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kind {
    part_of: Targets,
    switches_to: Targets,
    references: References,
}

/// The frames that one is predicted from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct References {
    /// Bit n: the frame n + 1 before.
    pub near: u64,
    /// There is one further back than 64.
    pub is_far: bool,
}

impl References {
    fn add(&mut self, distance: u16) {
        match 1u64.checked_shl(u32::from(distance) - 1) {
            Some(bit) => self.near |= bit,
            None => self.is_far = true,
        }
    }

    /// Whether there are none: the frame can be decoded by itself.
    pub fn is_empty(self) -> bool {
        self.near == 0 && !self.is_far
    }
}

/// What one packet says of the frame that it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Counts the stream's frames; a picture has one in each spatial layer.
    pub number: u16,
    /// It is the frame's first packet.
    pub starts: bool,
    /// It is the frame's last packet.
    pub ends: bool,
    /// Its layer by size, from 0 on.
    pub spatial: u8,
    /// Its layer by rate, from 0 on.
    pub temporal: u8,
    /// The decode targets that it is part of.
    pub part_of: Targets,
    /// Those that can be decoded from it on if it can.
    pub switches_to: Targets,
    /// What it is predicted from.
    pub references: References,
}

impl Frame {
    /// Whether the packet begins a picture that can be decoded without any before it.
    pub fn starts_keyframe(&self) -> bool {
        self.starts && self.spatial == 0 && self.references.is_empty()
    }
}

/// The number of the frame that a packet is of; none if the descriptor is too short for one.
pub fn frame_number(bytes: &[u8]) -> Option<u16> {
    bytes.get(1..3).map(|number| u16::from_be_bytes([number[0], number[1]]))
}

/// Gives a descriptor another frame number, in place.
pub fn write_frame_number(bytes: &mut [u8], number: u16) {
    if let Some(place) = bytes.get_mut(1..3) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// Reads the descriptor of a packet, by `known`, the structure that the stream has had so far. The frame, and the structure
/// that applies from this packet on, if it brings one.
///
/// # Errors
/// It cannot be read: see [`Unread`].
pub fn read(bytes: &[u8], known: Option<&Structure>) -> Result<(Frame, Option<Structure>), Unread> {
    let mut bits = Bits::new(bytes);
    let (starts, ends) = (bits.flag()?, bits.flag()?);
    let template = bits.take(6)? as u8;
    let number = bits.take(16)? as u16;
    let is_extended = bytes.len() * 8 > MANDATORY_BITS;
    let mut flags = [false; 5];
    if is_extended {
        for flag in &mut flags {
            *flag = bits.flag()?;
        }
    }
    let [has_structure, has_active, has_targets, has_references, _] = flags;
    let fresh = has_structure.then(|| read_structure(&mut bits)).transpose()?;
    let structure = fresh.as_ref().or(known).ok_or(Unread::UnknownTemplate)?;
    if has_active {
        // Which targets the encoder produces at present: what it does not produce does not flow, as is measured anyway.
        bits.skip(structure.targets)?;
    }
    let index = usize::from((template + 64 - structure.offset) % 64);
    let Template { spatial, temporal, mut kind } = *structure.templates.get(index).ok_or(Unread::UnknownTemplate)?;
    if has_targets {
        (kind.part_of, kind.switches_to) = read_targets(&mut bits, structure.targets)?;
    }
    if has_references {
        kind.references = read_own_references(&mut bits)?;
    }
    let Kind { part_of, switches_to, references } = kind;
    let frame = Frame { number, starts, ends, spatial, temporal, part_of, switches_to, references };
    Ok((frame, fresh))
}

impl Structure {
    /// One of frames of these layers, each with the targets that it is part of.
    #[cfg(test)]
    pub(super) fn of(kinds: &[(u8, u8, Targets)], targets: usize, heights: &[u16]) -> Self {
        let template = |(spatial, temporal, part_of): &(u8, u8, Targets)| Template {
            spatial: *spatial,
            temporal: *temporal,
            kind: Kind { part_of: *part_of, ..Kind::default() },
        };
        Self { offset: 0, templates: kinds.iter().map(template).collect(), targets, heights: heights.into() }
    }

    /// The spatial and temporal layer of each decode target: the highest of the frames that are part of it.
    pub fn targets(&self) -> impl Iterator<Item = (u8, u8)> {
        (0..self.targets).map(|target| {
            let parts = self.templates.iter().filter(move |template| template.kind.part_of & 1 << target != 0);
            parts.fold((0, 0), |(spatial, temporal), part| (spatial.max(part.spatial), temporal.max(part.temporal)))
        })
    }
}

fn read_structure(bits: &mut Bits<'_>) -> Result<Structure, Unread> {
    let offset = bits.take(6)? as u8;
    let targets = bits.take(5)? as usize + 1;
    let mut templates = read_layers(bits)?;
    for template in &mut templates {
        (template.kind.part_of, template.kind.switches_to) = read_targets(bits, targets)?;
    }
    for template in &mut templates {
        while bits.flag()? {
            template.kind.references.add(bits.take(4)? as u16 + 1);
        }
    }
    let chains = bits.non_symmetric(targets as u32 + 1)? as usize;
    if chains > 0 {
        for _ in 0..targets {
            bits.non_symmetric(chains as u32)?;
        }
        // How far each template's frames are from the one before in each chain: who loses a frame asks for it again, and
        // nothing is left out of a chain that a target needs.
        bits.skip(templates.len() * chains * 4)?;
    }
    let mut heights = Vec::new();
    if bits.flag()? {
        let spatial = templates.last().map_or(0, |template| template.spatial);
        for _ in 0..=spatial {
            bits.skip(16)?;
            heights.push((bits.take(16)? as u16).saturating_add(1));
        }
    }
    Ok(Structure { offset, templates, targets, heights })
}

/// One template for each, in the order of their layers.
fn read_layers(bits: &mut Bits<'_>) -> Result<Vec<Template>, Unread> {
    let (mut spatial, mut temporal) = (0u8, 0u8);
    let mut templates = Vec::new();
    loop {
        templates.push(Template { spatial, temporal, kind: Kind::default() });
        match bits.take(2)? {
            0 => {}
            1 => temporal += 1,
            2 => (spatial, temporal) = (spatial + 1, 0),
            _ => return Ok(templates),
        }
        if templates.len() == MAX_TEMPLATES {
            return Err(Unread::TooMany);
        }
    }
}

/// The targets that a frame is part of, and those that can be switched to at it: not present, discardable, switch, required.
fn read_targets(bits: &mut Bits<'_>, count: usize) -> Result<(Targets, Targets), Unread> {
    const NOT_PRESENT: u32 = 0;
    const SWITCH: u32 = 2;
    let (mut part_of, mut switches_to) = (0, 0);
    for target in 0..count {
        let indication = bits.take(2)?;
        part_of |= u32::from(indication != NOT_PRESENT) << target;
        switches_to |= u32::from(indication == SWITCH) << target;
    }
    Ok((part_of, switches_to))
}

/// References that a frame names itself, in place of its template's: of 4, 8 or 12 bits.
fn read_own_references(bits: &mut Bits<'_>) -> Result<References, Unread> {
    let mut references = References::default();
    loop {
        match bits.take(2)? {
            0 => return Ok(references),
            size => references.add(bits.take(4 * size as usize)? as u16 + 1),
        }
    }
}

/// Reads bits, the first of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn flag(&mut self) -> Result<bool, Unread> {
        let byte = self.bytes.get(self.at / 8).ok_or(Unread::Truncated)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// The next `count` bits, at most 32, as a number.
    fn take(&mut self, count: usize) -> Result<u32, Unread> {
        (0..count).try_fold(0, |number, _| Ok(number << 1 | u32::from(self.flag()?)))
    }

    fn skip(&mut self, count: usize) -> Result<(), Unread> {
        self.at += count;
        if self.at > self.bytes.len() * 8 { Err(Unread::Truncated) } else { Ok(()) }
    }

    /// A number below `bound` (`ns(n)`, AV1 specification section 4.10.7): the smaller ones take a bit less.
    fn non_symmetric(&mut self, bound: u32) -> Result<u32, Unread> {
        let width = bound.checked_ilog2().map_or(0, |log| log + 1);
        let short = (1u32 << width) - bound;
        if width == 0 {
            return Ok(0);
        }
        let value = self.take(width as usize - 1)?;
        if value < short { Ok(value) } else { Ok((value << 1) - short + u32::from(self.flag()?)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::super::egress::keys::bytes, *};

    /// What Chromium 156 sends of VP9 in `L2T3_KEY`, from 640 by 360 pixels on: the first packets of its first frames.
    const TWO_SIZES: &str =
        "c00001 80 0514853aaaa8018004004002a02a0060010015d34514174d144c700874321651118543276809f8059813f80b38";
    /// Of VP9 in L1T3: a shared screen, 480 lines high.
    const ONE_SIZE: &str = "800001 80 0214eaa860414d1410208427027f01df";

    fn near(distances: &[u32]) -> References {
        References { near: distances.iter().map(|distance| 1 << (distance - 1)).sum(), is_far: false }
    }

    #[test]
    fn what_chromium_says_of_two_sizes_is_understood() {
        let (first, structure) = read(&bytes(TWO_SIZES), None).expect("it is whole");
        let structure = structure.expect("it comes with the first");
        assert_eq!(structure.heights, [180, 360]);
        assert_eq!(structure.targets().collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
        assert!(first.starts_keyframe() && first.ends);
        assert_eq!((first.number, first.part_of), (1, 0b11_1111), "both sizes begin with it");
        let read = |text| read(&bytes(text), Some(&structure)).map(|(frame, _)| frame).expect("it is whole");
        let larger = read("c50002");
        assert_eq!((larger.spatial, larger.temporal, larger.references), (1, 0, near(&[1])));
        assert_eq!((larger.part_of, larger.switches_to), (0b11_1000, 0b11_1000));
        assert!(!larger.starts_keyframe());
        // From then on each size goes its own way.
        let next = [("c30003", 0, 2), ("c80004", 1, 2), ("c20005", 0, 1), ("c70006", 1, 1), ("c10009", 0, 0)];
        for (text, spatial, temporal) in next {
            let frame = read(text);
            assert_eq!((frame.spatial, frame.temporal), (spatial, temporal), "{text}");
            let own = if spatial == 0 { 0b00_0111 } else { 0b11_1000 };
            assert_eq!(frame.part_of & !own, 0, "{text}");
        }
        // References of its own, in place of its template's.
        assert_eq!(read("c300021a000800").references, near(&[1]));
    }

    #[test]
    fn what_chromium_says_of_a_screen_is_understood() {
        let (first, structure) = read(&bytes(ONE_SIZE), None).expect("it is whole");
        let structure = structure.expect("it comes with the first");
        assert_eq!(structure.heights, [480]);
        assert_eq!(structure.targets().collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2)]);
        assert!(first.starts_keyframe() && !first.ends);
        let rest = read(&bytes("400001"), Some(&structure)).expect("it is whole").0;
        assert!(rest.ends && !rest.starts && !rest.starts_keyframe());
        let fast = read(&bytes("c30002"), Some(&structure)).expect("it is whole").0;
        assert_eq!((fast.temporal, fast.part_of), (2, 0b100));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(read(&[], None), Err(Unread::Truncated));
        assert_eq!(read(&bytes("c00001"), None), Err(Unread::UnknownTemplate), "no structure yet");
        let whole = bytes(TWO_SIZES);
        assert_eq!(read(&whole[..20], None), Err(Unread::Truncated));
        let structure = read(&whole, None).expect("it is whole").1;
        assert_eq!(read(&bytes("ff0001"), structure.as_ref()), Err(Unread::UnknownTemplate));
    }

    #[test]
    fn a_frame_number_is_written_where_it_is_read() {
        let mut bytes = bytes(TWO_SIZES);
        write_frame_number(&mut bytes, 0xabcd);
        assert_eq!(frame_number(&bytes), Some(0xabcd));
        assert_eq!(read(&bytes, None).expect("it is whole").0.number, 0xabcd);
        assert_eq!(frame_number(&[0, 1]), None);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(noise in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..60) {
            let structure = read(&bytes(TWO_SIZES), None).expect("it is whole").1;
            let mut damaged = bytes(TWO_SIZES);
            damaged.splice(at.min(damaged.len()).., noise.clone());
            for rubbish in [noise, damaged] {
                for known in [None, structure.as_ref()] {
                    let Ok((_, Some(fresh))) = read(&rubbish, known) else { continue };
                    prop_assert!((1..=MAX_TARGETS).contains(&fresh.targets().count()));
                    let mut ladder = super::super::ladder::Ladder::new(fresh);
                    prop_assert!(!ladder.is_empty());
                    ladder.restructure(structure.clone().expect("it has one"));
                }
            }
        }
    }
}
