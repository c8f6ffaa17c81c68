//! Isthmus's signalling (`isthmus_protocol::signal`): the client says hello and offers at once, as the browser does.

use std::{collections::BTreeMap, time::Instant};

use isthmus_protocol::{
    ParticipantId, PopId,
    pops::Measurement,
    signal::{
        ClientMessage, Hello, LeaveReason, OfferedTrack, Participant, ServerMessage, Source, Tile, VERSION, Welcome,
    },
};

use crate::client::session::{ClientError, Facts, Media};

/// The most tiles in a view of ours; the protocol allows 64.
const MAX_TILES: usize = 16;

/// One client's dialogue with a door.
#[derive(Debug)]
pub struct Dialogue {
    pop: PopId,
    probes: Vec<Measurement>,
    /// Revision of the last offer.
    revision: u32,
    welcome: Option<Welcome>,
    roster: BTreeMap<ParticipantId, Participant>,
    others_published: bool,
    /// What was last asked for.
    view: Vec<Tile>,
}

impl Dialogue {
    /// With the door of the PoP that was chosen by these measurements, the fastest first.
    pub fn new(pop: PopId, probes: Vec<Measurement>) -> Self {
        Self {
            pop,
            probes,
            revision: 0,
            welcome: None,
            roster: BTreeMap::new(),
            others_published: false,
            view: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self, media: &mut Media) {
        let (room, name) = (media.config.room.clone(), media.config.name.clone());
        let hello = Hello { version: VERSION, token: None, room, name, resume: None, replaces: None };
        say(media, &ClientMessage::Hello(hello));
        // At once, as the browser does: the node answers both. A client that neither sends nor receives has nothing to offer.
        let Some(offer) = media.offer() else { return };
        self.revision += 1;
        let track = |mid: Option<String>, source| mid.map(|mid| OfferedTrack { mid, source, muted: false });
        let sources = [track(offer.microphone, Source::Microphone), track(offer.camera, Source::Camera)];
        let tracks = sources.into_iter().flatten().collect();
        say(media, &ClientMessage::Offer { revision: self.revision, sdp: offer.sdp, tracks });
    }

    pub(super) fn handle_text(&mut self, media: &mut Media, now: Instant, text: &str) -> Result<(), ClientError> {
        match serde_json::from_str(text)? {
            ServerMessage::Welcome(welcome) => self.handle_welcome(media, now, welcome),
            // One to an earlier offer is too late.
            ServerMessage::Answer { revision, sdp } if revision == self.revision => media.handle_answer(now, &sdp)?,
            ServerMessage::Participant { participant, replaces } => {
                if let Some(replaced) = replaces {
                    self.roster.remove(&replaced);
                }
                self.roster.insert(participant.id.clone(), participant);
                self.send_view(media);
            }
            ServerMessage::Left { participant, .. } => {
                self.roster.remove(&participant);
                self.send_view(media);
            }
            ServerMessage::Slots { slots } => {
                for slot in slots {
                    if let Some(meter) = media.slot_mut(&slot.mid) {
                        meter.set_content(slot.content);
                    }
                }
            }
            ServerMessage::Layers { mid, rids } => media.show_layers(&mid, &rids),
            ServerMessage::Error { code, detail, fatal, .. } => {
                media.note_error(format!("{code:?}: {detail}"));
                if fatal {
                    media.ended.get_or_insert(name_of(LeaveReason::Fault));
                }
            }
            ServerMessage::Ended { reason } => media.ended = Some(name_of(reason)),
            ServerMessage::Move { deadline_s } => media.note_error(format!("asked to move within {deadline_s} s")),
            ServerMessage::Answer { .. }
            | ServerMessage::Speakers { .. }
            | ServerMessage::Bandwidth { .. }
            | ServerMessage::Pong { .. } => {}
        }
        Ok(())
    }

    pub(super) fn facts(&self) -> Facts {
        let welcome = self.welcome.as_ref();
        Facts {
            pop: Some(self.pop.clone()),
            probes: self.probes.clone(),
            participant: welcome.map(|welcome| welcome.participant.clone()),
            node: welcome.map(|welcome| welcome.node.clone()),
            participants: self.roster.len(),
            others_published: self.others_published,
        }
    }

    fn handle_welcome(&mut self, media: &mut Media, now: Instant, welcome: Welcome) {
        self.roster = welcome.participants.iter().map(|other| (other.id.clone(), other.clone())).collect();
        media.times.welcome.get_or_insert(now);
        self.others_published =
            self.roster.values().any(|other| other.id != welcome.participant && !other.tracks.is_empty());
        self.welcome = Some(welcome);
        self.send_view(media);
    }

    /// Asks for every camera and screen in the room, as a page with that many tiles would; only when they change.
    fn send_view(&mut self, media: &mut Media) {
        let own = self.welcome.as_ref().map(|welcome| &welcome.participant);
        let others = self.roster.values().filter(|other| Some(&other.id) != own);
        let pictures = others.flat_map(|other| &other.tracks).filter(|track| is_picture(track.source));
        let height = media.config.tile_height;
        let tiles = pictures.take(MAX_TILES.min(media.config.video_slots));
        let tiles: Vec<_> = tiles.map(|track| Tile { track: track.id.clone(), height }).collect();
        if tiles != self.view {
            self.view.clone_from(&tiles);
            say(media, &ClientMessage::View { tiles });
        }
    }
}

/// Says goodbye.
pub(super) fn leave(media: &mut Media) {
    say(media, &ClientMessage::Leave);
}

fn say(media: &mut Media, message: &ClientMessage) {
    media.say(serde_json::to_string(message).expect("a message is plain data"));
}

/// As the protocol writes it.
fn name_of(reason: LeaveReason) -> String {
    let name = serde_json::to_value(reason).ok();
    name.as_ref().and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned()
}

fn is_picture(source: Source) -> bool {
    matches!(source, Source::Camera | Source::Screen)
}
