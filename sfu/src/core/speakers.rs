//! Who speaks: the loudest few of many audio tracks, from the levels that their packets carry (RFC 6464).

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

/// The loudest of many tracks. Cost: constant per packet, linear in the tracks per [`Speakers::rank`].
#[derive(Debug)]
pub struct Speakers<K> {
    voices: FxHashMap<K, Voice>,
    /// The chosen ones, loudest first, at most `limit`.
    loudest: Vec<K>,
    limit: usize,
}

impl<K: Copy + Eq + Hash + Ord> Speakers<K> {
    /// Chooses at most `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Self { voices: FxHashMap::default(), loudest: Vec::with_capacity(limit), limit }
    }

    /// A packet of `track` came in at `now` with `level`; without a level it counts as loud enough to be heard.
    pub fn heard(&mut self, track: K, level: Option<AudioLevel>, now: Instant) {
        let (db, voice) = match level {
            Some(level) => (f32::from(127 - level.below_full_scale.min(127)), level.voice),
            // A little above the threshold: smoothing comes near a value and never quite to it.
            None => (SPEECH_DB + 1.0, true),
        };
        let entry = self.voices.entry(track).or_insert(Voice { loudness: 0.0, last_packet: now, last_speech: None });
        entry.loudness += (db - entry.loudness) * SMOOTHING;
        entry.last_packet = now;
        if voice && entry.loudness >= SPEECH_DB {
            entry.last_speech = Some(now);
        }
        if self.loudest.len() < self.limit && !self.loudest.contains(&track) {
            self.loudest.push(track);
        }
    }

    /// Forgets a track that is gone or muted.
    pub fn remove(&mut self, track: K) {
        self.voices.remove(&track);
        self.loudest.retain(|k| *k != track);
    }

    /// Whether the track is one of the loudest, so that it is forwarded.
    pub fn is_audible(&self, track: K) -> bool {
        self.loudest.contains(&track)
    }

    /// The tracks to forward, loudest first.
    pub fn audible(&self) -> &[K] {
        &self.loudest
    }

    /// Chooses anew at `now`. To be called a few times a second.
    pub fn rank(&mut self, now: Instant) {
        for voice in self.voices.values_mut() {
            if now.saturating_duration_since(voice.last_packet) > HANGOVER {
                voice.loudness = 0.0;
            }
        }
        let chosen = &self.loudest;
        let mut candidates: Vec<(f32, K)> = self
            .voices
            .iter()
            .map(|(track, voice)| {
                let bonus = if chosen.contains(track) { DISPLACE_DB } else { 0.0 };
                (effective_loudness(voice, now) + bonus, *track)
            })
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        candidates.truncate(self.limit);
        self.loudest.clear();
        self.loudest.extend(candidates.into_iter().map(|(_, track)| track));
    }

    /// Those of the loudest who speak at `now`, loudest first.
    pub fn speaking(&self, now: Instant) -> impl Iterator<Item = K> + '_ {
        self.loudest.iter().copied().filter(move |track| self.voices.get(track).is_some_and(|v| is_speaking(v, now)))
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
    use super::*;

    fn level(below_full_scale: u8) -> AudioLevel {
        AudioLevel { below_full_scale, voice: below_full_scale < 60 }
    }

    /// Feeds one second of 20 ms packets and ranks every 200 ms.
    fn second(speakers: &mut Speakers<u32>, from: Instant, levels: &[(u32, u8)]) -> Instant {
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
        let mut audible = speakers.audible().to_vec();
        audible.sort_unstable();
        assert_eq!(audible, [1, 3, 4]);
        let mut silent = Speakers::new(3);
        let now_silent = second(&mut silent, now, &[(2, 127), (5, 90)]);
        assert_eq!(silent.speaking(now_silent).count(), 0);
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
        assert_eq!(speakers.speaking(at(100)).collect::<Vec<u32>>(), [1]);
    }

    #[test]
    fn a_removed_track_makes_room_at_once() {
        let mut speakers = Speakers::new(1);
        let now = second(&mut speakers, Instant::now(), &[(1, 30)]);
        speakers.remove(1);
        assert!(!speakers.is_audible(1));
        speakers.heard(2, Some(level(30)), now);
        assert!(speakers.is_audible(2));
    }
}
