//! One slot: what stands in it, what is to be sent of that, and what is being sent.

use std::time::{Duration, Instant};

use isthmus_protocol::{
    media::{Codec, MediaPacket},
    signal::{Kind, SlotState},
};
use str0m::media::Mid;

use super::{TICK, TrackKey, can_receive, publications::Publication};
use crate::core::{
    allocation::Pick,
    rewrite::Rewriter,
    svc::{
        descriptor::Frame,
        ladder::{Ladder, Rung, Rungs},
        selector::{Choice, Selector},
    },
};

/// After a slot was lowered it is not raised for this long, so that it does not flap.
const RAISE_PAUSE: Duration = Duration::from_secs(3);
/// A picture is paused only after the path has been too narrow even for its lowest layer for this long: one low estimate,
/// such as on a machine that was busy for a moment, would otherwise cost seconds without a picture.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// The height a receiver that says nothing is taken to show video at, in pixels.
const DEFAULT_HEIGHT: u16 = 720;

/// An m-line on which a client is ready to receive.
#[derive(Debug, Clone)]
pub struct SlotOffer {
    /// The m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// What it can decode there.
    pub codecs: Vec<Codec>,
    /// Random, below 2^15: the slot's first sequence number.
    pub first_sequence: u16,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub mid: Mid,
    codecs: Vec<Codec>,
    pub track: Option<TrackKey>,
    /// Where it stands among the subscribers of that track.
    pub place: usize,
    /// What is to be sent.
    pub target: Option<Pick>,
    /// The layer that is being sent.
    pub current: Option<usize>,
    /// Which frames of it, if it is scalable.
    selector: Option<Box<Selector>>,
    pub rewriter: Rewriter,
    /// The height it is shown at, in pixels.
    pub height: u16,
    pub state: SlotState,
    not_raised_before: Option<Instant>,
    /// Since when the path has been too narrow for the lowest layer.
    starved_since: Option<Instant>,
}

impl Slot {
    pub(super) fn new(offer: &SlotOffer, rewriter: Rewriter) -> Self {
        Self {
            mid: offer.mid,
            codecs: offer.codecs.clone(),
            track: None,
            place: 0,
            target: None,
            current: None,
            selector: None,
            rewriter,
            height: DEFAULT_HEIGHT,
            state: SlotState::Live,
            not_raised_before: None,
            starved_since: None,
        }
    }

    pub(super) fn clear(&mut self) {
        self.track = None;
        self.stop();
        self.state = SlotState::Live;
    }

    /// Its track was held back for a while: a voice goes on, a picture waits for a keyframe.
    pub(super) fn begin_anew(&mut self, kind: Kind) {
        match kind {
            Kind::Audio => self.switch(),
            Kind::Video => self.stop(),
        }
    }

    /// Nothing is sent any more; whatever comes next begins anew.
    pub(super) fn stop(&mut self) {
        self.target = None;
        self.current = None;
        self.switch();
    }

    /// The next packet is of another source.
    pub(super) fn switch(&mut self) {
        self.rewriter.switch();
        self.selector = None;
    }

    /// Whether a packet of the layer that is being sent is one of those that are, and if so whether it ends the picture.
    pub(super) fn selects(
        &mut self,
        packet: &MediaPacket,
        layer: usize,
        frame: Option<(Frame, &Ladder)>,
    ) -> Option<bool> {
        let Some((frame, ladder)) = frame else { return Some(packet.marker) };
        // On the way to another layer this one goes on as it is.
        let wanted = self.target.filter(|target| target.layer == layer).map(|target| target.rung);
        let selector = self.selector.get_or_insert_default();
        let wanted = wanted.or(selector.current()).unwrap_or(0);
        match selector.choose(&frame, wanted, ladder) {
            Choice::Send { ends_picture } => Some(packet.marker || ends_picture),
            Choice::LeaveOut => {
                self.rewriter.leave_out(packet.sequence);
                None
            }
        }
    }

    /// Whether what is to be sent takes a keyframe to begin: another layer, or a picture of another size that a scalable
    /// stream did not change to by itself within a tick.
    pub(super) fn lacks_keyframe(&mut self, ladder: Option<&Ladder>, now: Instant) -> bool {
        let Some(target) = self.target else { return false };
        if self.current != Some(target.layer) {
            return true;
        }
        let scalable = self.selector.as_mut().zip(ladder);
        scalable.is_some_and(|(selector, ladder)| selector.waits(target.rung, ladder, now) >= TICK)
    }

    /// What there is to choose of its track may be known by now: all of a layer is the highest rung then, and what is less is
    /// a fall.
    pub(super) fn learn(&mut self, publication: &Publication) {
        let Some(target) = &mut self.target else { return };
        let ladder = publication.layers.get(target.layer).and_then(|layer| layer.ladder.as_ref());
        target.rung = ladder.map_or(target.rung, |ladder| target.rung.min(ladder.top()));
    }

    /// What is being sent of a layer, and what is to be.
    pub(super) fn uses(&self, layer: usize) -> Rungs {
        let mut rungs = Rungs::default();
        if let Some(target) = self.target.filter(|target| target.layer == layer) {
            rungs.add(target.rung);
        }
        if self.current == Some(layer) {
            rungs.add(self.selector.as_ref().and_then(|selector| selector.current()).unwrap_or(Rung::MAX));
        }
        rungs
    }

    /// Takes what the path was found to carry, the `lowest` of the track for a while if it was nothing. Whether the client is
    /// to be told of it.
    pub(super) fn aim(&mut self, pick: Option<Pick>, lowest: Pick, now: Instant) -> bool {
        let raises = pick > self.target && self.target.is_some();
        if !(raises && self.not_raised_before.is_some_and(|at| now < at)) {
            self.take_aim(pick, lowest, now);
        }
        let state = if self.target.is_some() { SlotState::Live } else { SlotState::Paused };
        std::mem::replace(&mut self.state, state) != state
    }

    fn take_aim(&mut self, pick: Option<Pick>, lowest: Pick, now: Instant) {
        if pick.is_some() {
            self.starved_since = None;
        } else if self.target.is_some() {
            let since = *self.starved_since.get_or_insert(now);
            if now.saturating_duration_since(since) < PAUSE_AFTER {
                self.target = Some(lowest);
                return;
            }
        }
        let lowered = self.target.is_some() && pick < self.target;
        if lowered {
            self.not_raised_before = Some(now + RAISE_PAUSE);
        }
        match pick {
            Some(_) => self.target = pick,
            None => self.stop(),
        }
    }

    pub(super) fn takes(&self, codec: Codec) -> bool {
        can_receive(&self.codecs, codec)
    }
}
