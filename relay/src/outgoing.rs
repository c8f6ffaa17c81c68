//! What waits for a link's congestion window: sound before pictures, and nothing for longer than it is of use. Sans-IO:
//! datagrams and the time go in, datagrams come out in the order in which they are to be sent.
//!
//! QUIC's own buffer is first in, first out: speech behind a keyframe waits for it. So as little as keeps QUIC busy is
//! handed on, and the rest waits here.
//!
//! | queue    | bound                            | when it is full                     | when a datagram has waited too long        |
//! |----------|----------------------------------|-------------------------------------|--------------------------------------------|
//! | sound    | 64 KiB, [`SOUND_AGE`]            | the oldest goes, `relay_sound_full` | it goes, `relay_sound_late`                |
//! | pictures | 512 KiB, [`PICTURE_AGE`]         | the newest goes, `relay_congested`  | it goes, `relay_late`                      |

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

/// How long sound may wait: who listens has played on by then.
const SOUND_AGE: Duration = Duration::from_millis(200);
/// How long pictures may wait: after this the receiver has asked again, or for a keyframe.
const PICTURE_AGE: Duration = Duration::from_millis(300);
/// Pictures that wait for so long show that the path carries less than there is.
const BEHIND: Duration = Duration::from_millis(50);
const SOUND_BYTES: usize = 64 * 1024;
/// The keyframes of several streams at once.
const PICTURE_BYTES: usize = 512 * 1024;

/// What a datagram is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Sound, and what is small and older than anything that waits: requests and reports.
    Sound,
    /// Pictures and their repairs.
    Picture,
}

/// The two queues.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    sound: Queue,
    pictures: Queue,
    dropped: Dropped,
}

/// What was dropped, in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dropped {
    pub(crate) sound_full: u64,
    pub(crate) sound_late: u64,
    pub(crate) picture_full: u64,
    pub(crate) picture_late: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Instant, Bytes)>,
    bytes: usize,
}

impl Outgoing {
    /// Puts a datagram behind those of its class.
    pub(crate) fn push(&mut self, class: Class, datagram: Bytes, now: Instant) {
        match class {
            Class::Sound => {
                while self.sound.bytes + datagram.len() > SOUND_BYTES && self.sound.pop().is_some() {
                    self.dropped.sound_full += 1;
                }
                self.sound.push(datagram, now);
            }
            Class::Picture if self.pictures.bytes + datagram.len() > PICTURE_BYTES => self.dropped.picture_full += 1,
            Class::Picture => self.pictures.push(datagram, now),
        }
    }

    /// The next one to be sent, if it has at most `room` bytes.
    pub(crate) fn pop(&mut self, room: usize, now: Instant) -> Option<Bytes> {
        self.dropped.sound_late += self.sound.expire(SOUND_AGE, now);
        self.dropped.picture_late += self.pictures.expire(PICTURE_AGE, now);
        let next = if self.sound.waiting.is_empty() { &mut self.pictures } else { &mut self.sound };
        let (_, datagram) = next.waiting.front()?;
        if datagram.len() > room { None } else { next.pop() }
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.sound.waiting.is_empty() && self.pictures.waiting.is_empty()
    }

    /// Whether pictures wait so long that what was lost of them is better not repeated.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        self.pictures.waiting.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= BEHIND)
    }

    /// Whether the path does not even carry the sound.
    pub(crate) fn holds_sound(&self) -> bool {
        !self.sound.waiting.is_empty()
    }

    /// What was dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }
}

impl Queue {
    fn push(&mut self, datagram: Bytes, now: Instant) {
        self.bytes += datagram.len();
        self.waiting.push_back((now, datagram));
    }

    fn pop(&mut self) -> Option<Bytes> {
        let (_, datagram) = self.waiting.pop_front()?;
        self.bytes -= datagram.len();
        Some(datagram)
    }

    fn expire(&mut self, age: Duration, now: Instant) -> u64 {
        let mut expired = 0;
        while self.waiting.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= age) {
            self.pop();
            expired += 1;
        }
        expired
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: usize = usize::MAX;

    fn datagram(number: u8, bytes: usize) -> Bytes {
        vec![number; bytes].into()
    }

    #[test]
    fn sound_goes_first_and_each_class_in_its_order() {
        let (mut outgoing, now) = (Outgoing::default(), Instant::now());
        for (class, number) in [(Class::Picture, 1), (Class::Picture, 2), (Class::Sound, 3), (Class::Sound, 4)] {
            outgoing.push(class, datagram(number, 100), now);
        }
        assert!(outgoing.holds_sound());
        let order: Vec<u8> = std::iter::from_fn(|| outgoing.pop(ALL, now)).map(|datagram| datagram[0]).collect();
        assert_eq!(order, [3, 4, 1, 2]);
        assert!(outgoing.is_empty() && !outgoing.holds_sound());
    }

    #[test]
    fn what_does_not_fit_waits_and_holds_the_pictures_back() {
        let (mut outgoing, now) = (Outgoing::default(), Instant::now());
        outgoing.push(Class::Picture, datagram(1, 10), now);
        outgoing.push(Class::Sound, datagram(2, 100), now);
        assert_eq!(outgoing.pop(99, now), None, "pictures do not slip past a voice");
        assert_eq!(outgoing.pop(100, now), Some(datagram(2, 100)));
        assert_eq!(outgoing.pop(100, now), Some(datagram(1, 10)));
    }

    #[test]
    fn what_waited_too_long_is_not_sent() {
        let (mut outgoing, start) = (Outgoing::default(), Instant::now());
        outgoing.push(Class::Picture, datagram(1, 10), start);
        outgoing.push(Class::Sound, datagram(2, 10), start);
        outgoing.push(Class::Picture, datagram(3, 10), start + PICTURE_AGE / 3);
        assert!(!outgoing.is_behind(start) && outgoing.is_behind(start + BEHIND));
        assert_eq!(outgoing.pop(0, start + SOUND_AGE), None);
        assert_eq!(outgoing.pop(ALL, start + PICTURE_AGE), Some(datagram(3, 10)));
        let dropped = Dropped { sound_late: 1, picture_late: 1, ..Dropped::default() };
        assert_eq!((outgoing.take_dropped(), outgoing.take_dropped()), (dropped, Dropped::default()));
    }

    #[test]
    fn full_queues_give_up_the_newest_picture_and_the_oldest_sound() {
        let (mut outgoing, now) = (Outgoing::default(), Instant::now());
        for number in 0..3 {
            outgoing.push(Class::Picture, datagram(number, PICTURE_BYTES / 2), now);
            outgoing.push(Class::Sound, datagram(number, SOUND_BYTES / 2), now);
        }
        let order: Vec<u8> = std::iter::from_fn(|| outgoing.pop(ALL, now)).map(|datagram| datagram[0]).collect();
        assert_eq!(order, [1, 2, 0, 1]);
        assert_eq!(outgoing.take_dropped(), Dropped { sound_full: 1, picture_full: 1, ..Dropped::default() });
    }

    proptest! {
        #[test]
        fn the_queues_are_bounded_and_lose_nothing_uncounted(
            pushes in prop::collection::vec((any::<bool>(), 1usize..3000, 0u64..20, any::<bool>()), 0..600),
        ) {
            let (mut outgoing, mut now) = (Outgoing::default(), Instant::now());
            let (mut popped, count) = (0, pushes.len() as u64);
            for (is_sound, bytes, after_ms, pop) in pushes {
                now += Duration::from_millis(after_ms);
                outgoing.push(if is_sound { Class::Sound } else { Class::Picture }, datagram(0, bytes), now);
                popped += u64::from(pop && outgoing.pop(1500, now).is_some());
                prop_assert!(outgoing.sound.bytes <= SOUND_BYTES && outgoing.pictures.bytes <= PICTURE_BYTES);
            }
            let waiting = outgoing.sound.waiting.len() + outgoing.pictures.waiting.len();
            let dropped = outgoing.take_dropped();
            let dropped = dropped.sound_full + dropped.sound_late + dropped.picture_full + dropped.picture_late;
            prop_assert_eq!(popped + dropped + waiting as u64, count);
        }
    }
}
