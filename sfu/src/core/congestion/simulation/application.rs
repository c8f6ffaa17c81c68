//! What is there to be sent, and the room's patience with it.

/// As in the room (`receivers.rs`).
const RAISE_PAUSE_US: u64 = 3_000_000;
const PAUSE_AFTER_US: u64 = 1_000_000;

/// What a sender would like to send besides its voice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) enum App {
    Voice,
    /// So many pictures of 150, 500 and 1700 kbit/s.
    Layers(usize),
    /// One picture of 150 kbit/s that has no better layer.
    Thumbnail,
    /// An encoder that follows the estimate up to so much in all.
    Elastic(f64),
}

#[derive(Debug, Default, Clone)]
pub(super) struct Picture {
    pub(super) layer: Option<usize>,
    not_raised_before_us: u64,
    starved_since_us: Option<u64>,
}

impl Picture {
    pub(super) fn aim(&mut self, layer: Option<usize>, now_us: u64) {
        let is_raise = layer > self.layer && self.layer.is_some();
        if is_raise && now_us < self.not_raised_before_us {
            return;
        }
        if layer.is_some() {
            self.starved_since_us = None;
        } else if self.layer.is_some() && now_us - *self.starved_since_us.get_or_insert(now_us) < PAUSE_AFTER_US {
            self.layer = Some(0);
            return;
        }
        if layer < self.layer {
            self.not_raised_before_us = now_us + RAISE_PAUSE_US;
        }
        self.layer = layer;
    }
}
