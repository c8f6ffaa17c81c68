//! What waits to go out to one client: voices before pictures, and nothing for longer than it is of use.
//!
//! Packets of a picture that differ by one byte are made equally long by a byte of padding (RFC 3550 section 5.1), so that the
//! kernel takes them in one call (UDP GSO wants equal lengths).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{numbers::PacketNumber, outlet::Packet};
use crate::core::congestion::Waiting as Waits;

/// The most packets that wait, of voices, pictures and repairs each. More means that what paces them has lost its way; the oldest
/// are dropped.
const MAX_WAITING: usize = 1_024;
/// How long a voice waits at most; it waits at all only where the machine is behind, and would be heard too late.
const VOICE_PATIENCE: Duration = Duration::from_millis(400);
/// How long pictures wait at most: what the path carries has fallen far below what they were chosen for, and a keyframe of
/// a smaller one would wait behind them. Not less: now and then it takes a second until it is known what a new path carries.
const PICTURE_PATIENCE: Duration = Duration::from_millis(2_500);
/// How long repairs wait at most: the picture that they belong to has passed.
const REPAIR_PATIENCE: Duration = Duration::from_millis(500);

/// Why a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is new.
    First,
    /// It stands in for the packet of this number.
    Repair(u16),
    /// It finds out what the path carries, and is the packet of this number once more.
    Padding(u16),
}

impl Purpose {
    /// The number of the packet that is sent once more.
    pub(super) fn repeats(self) -> Option<u16> {
        match self {
            Self::First => None,
            Self::Repair(sequence) | Self::Padding(sequence) => Some(sequence),
        }
    }
}

/// A packet that waits.
pub(super) struct Waiting {
    pub(super) since: Instant,
    /// Its stream's place in the outlet.
    pub(super) stream: usize,
    pub(super) number: PacketNumber,
    pub(super) packet: Packet,
    pub(super) purpose: Purpose,
}

impl Waiting {
    /// How many bytes are written after the header.
    pub(super) fn payload_bytes(&self) -> usize {
        // RFC 4588 section 4: a repair says first which packet it repairs.
        self.packet.media.payload.len() + if self.purpose == Purpose::First { 0 } else { 2 }
    }

    fn is_late(&self, patience: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > patience
    }
}

/// How many packets will never be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Too many waited.
    pub full: u64,
    /// They have waited for too long.
    pub late: u64,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Queues {
    voices: VecDeque<Waiting>,
    pictures: VecDeque<Waiting>,
    /// Packets again that have not come. Where pictures wait too they take turns: what a narrow path lost of a large layer must
    /// not hold up the smaller one that came after it.
    repairs: VecDeque<Waiting>,
    is_picture_next: bool,
    run: Run,
    pub(super) dropped: Dropped,
}

impl Queues {
    pub(super) fn push(&mut self, waiting: Waiting) {
        let queue = match waiting.purpose {
            Purpose::First if waiting.packet.media.codec.is_audio() => &mut self.voices,
            Purpose::First => &mut self.pictures,
            Purpose::Repair(_) | Purpose::Padding(_) => &mut self.repairs,
        };
        if queue.len() >= MAX_WAITING {
            queue.pop_front();
            self.dropped.full += 1;
        }
        queue.push_back(waiting);
    }

    /// What waits.
    pub(super) fn waits(&self) -> Waits {
        Waits { audio: !self.voices.is_empty(), video: !self.pictures.is_empty() || !self.repairs.is_empty() }
    }

    /// Drops what has waited for too long. `stalled` is called for the stream of each picture that is dropped.
    pub(super) fn drop_late(&mut self, now: Instant, mut stalled: impl FnMut(usize)) {
        for (queue, patience) in [(&mut self.voices, VOICE_PATIENCE), (&mut self.repairs, REPAIR_PATIENCE)] {
            while queue.pop_front_if(|waiting| waiting.is_late(patience, now)).is_some() {
                self.dropped.late += 1;
            }
        }
        if !self.pictures.front().is_some_and(|picture| picture.is_late(PICTURE_PATIENCE, now)) {
            return;
        }
        self.run = Run::default();
        for picture in self.pictures.drain(..) {
            self.dropped.late += 1;
            stalled(picture.stream);
        }
    }

    pub(super) fn next_voice(&mut self) -> Option<Waiting> {
        self.voices.pop_front()
    }

    /// The next packet of a picture, for the first time or again, and whether it is to be a byte longer.
    pub(super) fn next_picture(&mut self) -> Option<(Waiting, bool)> {
        let is_repair = self.pictures.is_empty() || !self.is_picture_next;
        if let Some(repair) = self.repairs.pop_front_if(|_| is_repair) {
            self.is_picture_next = true;
            return Some((repair, false));
        }
        self.is_picture_next = false;
        let waiting = self.pictures.pop_front()?;
        let length = self.run.next(waiting.payload_bytes(), self.pictures.iter().map(Waiting::payload_bytes));
        let is_padded = waiting.payload_bytes() + 1 == length;
        Some((waiting, is_padded))
    }
}

/// Packets in a row that can be made equally long by a byte of padding each.
#[derive(Debug, Default)]
struct Run {
    /// How long they are made, and how many are still to come.
    length: usize,
    left: usize,
}

impl Run {
    /// How long to make a packet of `first` bytes that is followed by others of these lengths.
    fn next(&mut self, first: usize, following: impl Iterator<Item = usize>) -> usize {
        if self.left == 0 {
            let (mut shortest, mut longest) = (first, first);
            self.left = 1;
            for length in following {
                (shortest, longest) = (shortest.min(length), longest.max(length));
                if longest - shortest > 1 {
                    break;
                }
                self.length = longest;
                self.left += 1;
            }
            self.length = if self.left == 1 { first } else { self.length };
        }
        self.left -= 1;
        self.length
    }
}
