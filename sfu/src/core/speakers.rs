//! Who speaks: the loudest few of many audio tracks, from the levels that their packets carry (RFC 6464).
//!
//! How loud each is, is known once ([`Voices`]); who is chosen is known for each audience ([`Loudest`]): those who listen
//! here, and those behind each link, who are sent only what does not come from there.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use isthmus_protocol::media::AudioLevel;
use rustc_hash::FxHashMap;

/// Weight of one packet's level in the smoothed loudness: about five packets (100 ms) to follow a change.
const SMOOTHING: f32 = 0.2;
/// Louder than this, in dB above digital silence, counts as speech when the sender also says so.
const SPEECH_DB: f32 = 77.0;
/// Someone who spoke stays a speaker through pauses of this length.
const HANGOVER: Duration = Duration::from_millis(800);
/// A newcomer must be this much louder than whom it displaces, so that two equal voices do not flap.
const DISPLACE_DB: f32 = 6.0;

#[derive(Debug)]
struct Voice {
    /// Smoothed, in dB above digital silence (0 to 127).
    loudness: f32,
    last_packet: Instant,
    last_speech: Option<Instant>,
}

/// How loud each of many tracks is. Cost: constant per packet.
#[derive(Debug)]
pub struct Voices<K>(FxHashMap<K, Voice>);

impl<K> Default for Voices<K> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<K: Copy + Eq + Hash + Ord> Voices<K> {
    /// A packet of `track` came in at `now` with `level`; without a level it counts as loud enough to be heard.
    pub fn heard(&mut self, track: K, level: Option<AudioLevel>, now: Instant) {
        let (db, voice) = match level {
            Some(level) => (f32::from(127 - level.below_full_scale.min(127)), level.voice),
            // A little above the threshold: smoothing comes near a value and never quite to it.
            None => (SPEECH_DB + 1.0, true),
        };
        let entry = self.0.entry(track).or_insert(Voice { loudness: 0.0, last_packet: now, last_speech: None });
        entry.loudness += (db - entry.loudness) * SMOOTHING;
        entry.last_packet = now;
        if voice && entry.loudness >= SPEECH_DB {
            entry.last_speech = Some(now);
        }
    }

    /// Forgets a track that is gone or muted.
    pub fn remove(&mut self, track: K) {
        self.0.remove(&track);
    }

    /// What has not been heard for a while is silent at `now`. To be called before choosing.
    pub fn settle(&mut self, now: Instant) {
        for voice in self.0.values_mut() {
            if now.saturating_duration_since(voice.last_packet) > HANGOVER {
                voice.loudness = 0.0;
            }
        }
    }

    /// Those of `loudest` who speak at `now`, loudest first.
    pub fn speaking(&self, loudest: &Loudest<K>, now: Instant) -> impl Iterator<Item = K> {
        loudest.chosen.iter().copied().filter(move |track| self.0.get(track).is_some_and(|v| is_speaking(v, now)))
    }
}

/// The loudest few for one audience. Cost: constant per packet, linear in the tracks per [`Loudest::choose`].
#[derive(Debug)]
pub struct Loudest<K> {
    /// Loudest first, at most `limit`.
    chosen: Vec<K>,
    limit: usize,
}

impl<K: Copy + Eq + Hash + Ord> Loudest<K> {
    /// Chooses at most `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Self { chosen: Vec::with_capacity(limit), limit }
    }

    /// Takes in a track that is heard, if there is a place: it does not have to wait until the next choice.
    pub fn admit(&mut self, track: K) {
        if self.chosen.len() < self.limit && !self.chosen.contains(&track) {
            self.chosen.push(track);
        }
    }

    /// Forgets a track that is gone or muted.
    pub fn remove(&mut self, track: K) {
        self.chosen.retain(|k| *k != track);
    }

    /// Whether the track is one of the loudest, so that it is forwarded.
    pub fn contains(&self, track: K) -> bool {
        self.chosen.contains(&track)
    }

    /// The tracks to forward, loudest first.
    pub fn tracks(&self) -> &[K] {
        &self.chosen
    }

    /// Chooses anew at `now`, of the `voices` that are `meant` for this audience. To be called a few times a second.
    pub fn choose(&mut self, voices: &Voices<K>, now: Instant, meant: impl Fn(K) -> bool) {
        // Louder first; of equals the one with the smaller key, so that the order of the table does not matter.
        let goes_before = |a: &(f32, K), b: &(f32, K)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).is_lt();
        let mut best: Vec<(f32, K)> = Vec::with_capacity(self.limit + 1);
        for (track, voice) in &voices.0 {
            let bonus = if self.chosen.contains(track) { DISPLACE_DB } else { 0.0 };
            let candidate = (effective_loudness(voice, now) + bonus, *track);
            let is_full = best.len() == self.limit;
            if (is_full && best.last().is_none_or(|last| !goes_before(&candidate, last))) || !meant(*track) {
                continue;
            }
            let place = best.partition_point(|other| goes_before(other, &candidate));
            best.insert(place, candidate);
            best.truncate(self.limit);
        }
        self.chosen.clear();
        self.chosen.extend(best.into_iter().map(|(_, track)| track));
    }
}

fn is_speaking(voice: &Voice, now: Instant) -> bool {
    voice.last_speech.is_some_and(|at| now.saturating_duration_since(at) <= HANGOVER)
}

/// Speech goes before noise: a loud fan does not displace a quiet voice.
fn effective_loudness(voice: &Voice, now: Instant) -> f32 {
    voice.loudness + if is_speaking(voice, now) { 127.0 } else { 0.0 }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One audience that all is meant for.
    struct Speakers {
        voices: Voices<u32>,
        loudest: Loudest<u32>,
    }

    impl Speakers {
        fn new(limit: usize) -> Self {
            Self { voices: Voices::default(), loudest: Loudest::new(limit) }
        }

        fn heard(&mut self, track: u32, level: Option<AudioLevel>, now: Instant) {
            self.voices.heard(track, level, now);
            self.loudest.admit(track);
        }

        fn rank(&mut self, now: Instant) {
            self.voices.settle(now);
            self.loudest.choose(&self.voices, now, |_| true);
        }

        fn audible(&self) -> &[u32] {
            self.loudest.tracks()
        }

        fn speaking(&self, now: Instant) -> Vec<u32> {
            self.voices.speaking(&self.loudest, now).collect()
        }
    }

    fn level(below_full_scale: u8) -> AudioLevel {
        AudioLevel { below_full_scale, voice: below_full_scale < 60 }
    }

    /// Feeds one second of 20 ms packets and ranks every 200 ms.
    fn second(speakers: &mut Speakers, from: Instant, levels: &[(u32, u8)]) -> Instant {
        for step in 0..50 {
            let now = from + Duration::from_millis(step * 20);
            for (track, below) in levels {
                speakers.heard(*track, Some(level(*below)), now);
            }
            if step % 10 == 9 {
                speakers.rank(now);
            }
        }
        from + Duration::from_secs(1)
    }

    #[test]
    fn the_loudest_are_forwarded_and_the_silent_do_not_speak() {
        let mut speakers = Speakers::new(3);
        let levels = [(1, 20), (2, 127), (3, 30), (4, 25), (5, 127), (6, 90)];
        let now = second(&mut speakers, Instant::now(), &levels);
        assert_eq!(speakers.audible(), [1, 4, 3]);
        let mut silent = Speakers::new(3);
        let now_silent = second(&mut silent, now, &[(2, 127), (5, 90)]);
        assert!(silent.speaking(now_silent).is_empty());
    }

    #[test]
    fn an_audience_is_sent_only_what_is_meant_for_it() {
        let mut speakers = Speakers::new(3);
        let now = second(&mut speakers, Instant::now(), &[(1, 20), (2, 25), (3, 30), (4, 35), (5, 40)]);
        let mut elsewhere = Loudest::new(3);
        elsewhere.choose(&speakers.voices, now, |track| track != 2);
        assert_eq!(elsewhere.tracks(), [1, 3, 4]);
    }

    #[test]
    fn a_new_voice_displaces_a_silent_one_within_half_a_second() {
        let mut speakers = Speakers::new(1);
        let now = second(&mut speakers, Instant::now(), &[(1, 25), (2, 127)]);
        assert_eq!(speakers.audible(), [1]);
        let mut at = now + Duration::from_secs(1);
        let began = at;
        while speakers.audible() != [2] {
            speakers.heard(1, Some(level(127)), at);
            speakers.heard(2, Some(level(25)), at);
            speakers.rank(at);
            at += Duration::from_millis(20);
            assert!(at - began < Duration::from_millis(500), "the new voice was not let in");
        }
    }

    #[test]
    fn equal_voices_do_not_flap() {
        let mut speakers = Speakers::new(1);
        let mut now = Instant::now();
        now = second(&mut speakers, now, &[(1, 30)]);
        for _ in 0..5 {
            now = second(&mut speakers, now, &[(1, 30), (2, 28)]);
            assert_eq!(speakers.audible(), [1]);
        }
    }

    #[test]
    fn a_voice_without_levels_speaks() {
        let (mut speakers, start) = (Speakers::new(3), Instant::now());
        let at = |packet: u32| start + Duration::from_millis(20) * packet;
        (0..100).for_each(|packet| speakers.heard(1, None, at(packet)));
        speakers.rank(at(100));
        assert_eq!(speakers.speaking(at(100)), [1]);
    }

    #[test]
    fn a_removed_track_makes_room_at_once() {
        let mut speakers = Speakers::new(1);
        let now = second(&mut speakers, Instant::now(), &[(1, 30)]);
        speakers.voices.remove(1);
        speakers.loudest.remove(1);
        assert!(!speakers.loudest.contains(1));
        speakers.heard(2, Some(level(30)), now);
        assert!(speakers.loudest.contains(2));
    }

    proptest! {
        /// Choosing in one pass finds what sorting everyone would.
        #[test]
        fn the_loudest_come_first(levels in prop::collection::vec(0u8..=127, 0..40), limit in 0usize..5) {
            let (mut voices, now) = (Voices::default(), Instant::now());
            for (track, below) in (0u32..).zip(&levels) {
                voices.heard(track, Some(AudioLevel { below_full_scale: *below, voice: false }), now);
            }
            let mut loudest = Loudest::new(limit);
            loudest.choose(&voices, now, |_| true);
            let mut expected: Vec<(u8, u32)> = levels.iter().copied().zip(0u32..).collect();
            expected.sort_unstable();
            let expected: Vec<u32> = expected.into_iter().take(limit).map(|(_, track)| track).collect();
            prop_assert_eq!(loudest.tracks(), expected);
        }
    }
}
