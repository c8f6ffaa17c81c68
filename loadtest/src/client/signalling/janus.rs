//! Janus's videoroom over its WebSocket API (<https://janus.conf.meetecho.com/docs/videoroom.html>).
//!
//! ```text
//!   who publishes:  create ─ attach ─ create room ─ joinandconfigure + offer ─▶ answer
//!   who watches:    create ─ attach ─ listparticipants, until someone publishes ─ join ─▶ offer ─ start + answer
//! ```
//! One peer connection goes one way there, so a client either publishes or watches. Each request waits for its answer; they
//! are told from answers to others by their transaction.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::session::{ClientError, Facts, Media};

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "janus-protocol";
const PLUGIN: &str = "janus.plugin.videoroom";
/// Janus ends a session that said nothing for 60 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(25);
/// How often who watches looks for those who publish.
const LIST_INTERVAL: Duration = Duration::from_millis(250);
/// So long it waits for all that should publish; then some are enough.
const FEEDS_TIMEOUT: Duration = Duration::from_secs(3);
/// `JANUS_VIDEOROOM_ERROR_NO_SUCH_ROOM`: nobody has published there yet.
const NO_SUCH_ROOM: i64 = 426;
/// `JANUS_VIDEOROOM_ERROR_ROOM_EXISTS`: another publisher made it.
const ROOM_EXISTS: i64 = 427;

/// Where and as what to join.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of the room. Who publishes makes it if it is not there; it goes when Janus ends.
    pub room: u64,
    /// How many may publish in the room.
    pub publishers: u32,
    /// How many of those that publish to watch, at least one; none publishes instead.
    pub feeds: Option<u32>,
    /// Janus's `api_secret`, if it asks for one.
    pub secret: Option<String>,
}

/// One client's dialogue with Janus.
#[derive(Debug)]
pub struct Dialogue {
    options: Options,
    step: Step,
    /// Of the last request.
    transaction: u64,
    session: Option<u64>,
    handle: Option<u64>,
    /// Who publishes, as far as was listed.
    feeds: usize,
    listing_since: Option<Instant>,
    next_list: Option<Instant>,
    next_keepalive: Option<Instant>,
}

/// What the last request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Attach,
    MakeRoom,
    List,
    Join,
    InCall,
}

impl Dialogue {
    /// Not begun.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            step: Step::Create,
            transaction: 0,
            session: None,
            handle: None,
            feeds: 0,
            listing_since: None,
            next_list: None,
            next_keepalive: None,
        }
    }

    pub(super) fn begin(&mut self, media: &mut Media) {
        self.ask(media, Step::Create, json!({ "janus": "create" }));
    }

    pub(super) fn handle_text(&mut self, media: &mut Media, now: Instant, text: &str) -> Result<(), ClientError> {
        let message: Value = serde_json::from_str(text)?;
        // What was heard from Janus shows that the session lives; what it counts is what it hears.
        self.next_keepalive.get_or_insert(now + KEEPALIVE_INTERVAL);
        let ours = message["transaction"].as_str() == Some(&self.transaction.to_string());
        match message["janus"].as_str() {
            Some("success") if ours => self.handle_success(media, now, &message),
            Some("event") => self.handle_event(media, now, &message),
            Some("error") if ours => Err(refused(&message["error"]["code"], &message["error"]["reason"])),
            Some("hangup") => {
                let reason = message["reason"].as_str().unwrap_or("no reason given");
                media.ended = Some(format!("hangup: {reason}"));
                Ok(())
            }
            Some(end @ ("timeout" | "detached")) => {
                media.ended = Some(end.to_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn handle_timeout(&mut self, media: &mut Media, now: Instant) {
        if self.next_list.take_if(|due| *due <= now).is_some() {
            self.list(media);
        }
        if self.next_keepalive.take_if(|due| *due <= now).is_some() {
            self.next_keepalive = Some(now + KEEPALIVE_INTERVAL);
            // Under no transaction that anything waits for.
            let keepalive = json!({ "janus": "keepalive", "transaction": "keepalive" });
            self.say(media, keepalive);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.next_list, self.next_keepalive].into_iter().flatten().min()
    }

    pub(super) fn leave(&mut self, media: &mut Media) {
        if self.session.is_some() {
            let step = self.step;
            self.ask(media, step, json!({ "janus": "destroy" }));
        }
    }

    pub(super) fn facts(&self) -> Facts {
        // Who watches joins only when someone publishes.
        let others_published = self.options.feeds.is_some() && self.step == Step::InCall;
        Facts { participants: self.feeds, others_published, ..Facts::default() }
    }

    fn handle_success(&mut self, media: &mut Media, now: Instant, message: &Value) -> Result<(), ClientError> {
        let id = message["data"]["id"].as_u64();
        let plugin = &message["plugindata"]["data"];
        match self.step {
            Step::Create => {
                self.session = id;
                self.ask(media, Step::Attach, json!({ "janus": "attach", "plugin": PLUGIN }));
            }
            Step::Attach => {
                self.handle = id;
                match self.options.feeds {
                    Some(_) => self.list(media),
                    None => self.make_room(media),
                }
            }
            Step::MakeRoom => {
                error_of(plugin, &[ROOM_EXISTS])?;
                self.publish(media)?;
            }
            Step::List => {
                error_of(plugin, &[NO_SUCH_ROOM])?;
                self.handle_list(media, now, plugin);
            }
            Step::Join | Step::InCall => error_of(plugin, &[])?,
        }
        Ok(())
    }

    /// What the plugin says by itself, or in answer to a request that takes time.
    fn handle_event(&mut self, media: &mut Media, now: Instant, message: &Value) -> Result<(), ClientError> {
        let plugin = &message["plugindata"]["data"];
        error_of(plugin, &[])?;
        if matches!(plugin["videoroom"].as_str(), Some("joined" | "attached")) {
            media.times.welcome.get_or_insert(now);
        }
        if plugin["videoroom"].as_str() == Some("destroyed") {
            media.ended = Some("the room was destroyed".into());
        }
        let (Some(kind), Some(sdp)) = (message["jsep"]["type"].as_str(), message["jsep"]["sdp"].as_str()) else {
            return Ok(());
        };
        if kind == "answer" {
            media.handle_answer(now, sdp)?;
            self.step = Step::InCall;
        } else {
            let answer = media.answer(now, sdp)?;
            let jsep = json!({ "type": "answer", "sdp": answer, "trickle": false });
            self.ask_plugin(media, Step::InCall, &json!({ "request": "start" }), Some(jsep));
        }
        Ok(())
    }

    fn make_room(&mut self, media: &mut Media) {
        let room = json!({
            "request": "create", "room": self.options.room, "publishers": self.options.publishers,
            "audiocodec": "opus", "videocodec": "vp8",
        });
        self.ask_plugin(media, Step::MakeRoom, &room, None);
    }

    fn publish(&mut self, media: &mut Media) -> Result<(), ClientError> {
        let nothing = || ClientError::Refused("a client that publishes nothing cannot join a videoroom so".into());
        let offer = media.offer().ok_or_else(nothing)?;
        let join = json!({
            "request": "joinandconfigure", "ptype": "publisher", "room": self.options.room, "display": media.config.name,
        });
        let jsep = json!({ "type": "offer", "sdp": offer.sdp, "trickle": false });
        self.ask_plugin(media, Step::Join, &join, Some(jsep));
        Ok(())
    }

    fn list(&mut self, media: &mut Media) {
        let room = self.options.room;
        self.ask_plugin(media, Step::List, &json!({ "request": "listparticipants", "room": room }), None);
    }

    /// Watches those who publish, whole feeds of them; looks again later while there are too few.
    fn handle_list(&mut self, media: &mut Media, now: Instant, plugin: &Value) {
        let publishes = |participant: &&Value| participant["publisher"].as_bool() == Some(true);
        let listed = plugin["participants"].as_array().map_or(&[][..], Vec::as_slice);
        let feeds: Vec<_> = listed.iter().filter(publishes).filter_map(|feed| feed["id"].as_u64()).collect();
        let wanted = self.options.feeds.unwrap_or(1).max(1) as usize;
        let since = *self.listing_since.get_or_insert(now);
        let patient = now.saturating_duration_since(since) < FEEDS_TIMEOUT;
        if feeds.is_empty() || (feeds.len() < wanted && patient) {
            self.next_list = Some(now + LIST_INTERVAL);
            return;
        }
        let streams: Vec<_> = feeds.iter().take(wanted).map(|feed| json!({ "feed": feed })).collect();
        self.feeds = streams.len();
        let room = self.options.room;
        let join = json!({ "request": "join", "ptype": "subscriber", "room": room, "streams": streams });
        self.ask_plugin(media, Step::Join, &join, None);
    }

    fn ask_plugin(&mut self, media: &mut Media, step: Step, body: &Value, jsep: Option<Value>) {
        // Janus takes what it says to a session for something said to the plugin, if it names a handle.
        let mut request = json!({ "janus": "message", "body": body, "handle_id": self.handle });
        if let Some(jsep) = jsep {
            request["jsep"] = jsep;
        }
        self.ask(media, step, request);
    }

    fn ask(&mut self, media: &mut Media, step: Step, mut request: Value) {
        self.step = step;
        self.transaction += 1;
        request["transaction"] = self.transaction.to_string().into();
        self.say(media, request);
    }

    fn say(&self, media: &mut Media, mut request: Value) {
        if let Some(session) = self.session {
            request["session_id"] = session.into();
        }
        if let Some(secret) = &self.options.secret {
            request["apisecret"] = secret.as_str().into();
        }
        media.say(request.to_string());
    }
}

/// The plugin's error, unless it is one of these.
fn error_of(plugin: &Value, expected: &[i64]) -> Result<(), ClientError> {
    match plugin["error_code"].as_i64() {
        Some(code) if !expected.contains(&code) => Err(refused(&plugin["error_code"], &plugin["error"])),
        _ => Ok(()),
    }
}

fn refused(code: &Value, reason: &Value) -> ClientError {
    ClientError::Refused(format!("Janus refuses: {} ({code})", reason.as_str().unwrap_or("no reason given")))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use str0m::{
        Candidate, Rtc,
        change::{SdpAnswer, SdpOffer},
        media::{Direction, MediaKind},
    };

    use super::*;
    use crate::client::{
        media::{Library, Material},
        session::{Client, ClientConfig, Measuring, Output, PhaseTimes},
        signalling::Signalling,
    };

    struct Talk {
        now: Instant,
        client: Client,
    }

    impl Talk {
        fn new(feeds: Option<u32>) -> Self {
            let now = Instant::now();
            let config = ClientConfig {
                name: "bot".into(),
                room: "demo".parse().expect("valid"),
                audio: feeds.is_none(),
                video: feeds.is_none(),
                material: Material::Clip,
                simulcast: false,
                audio_slots: 0,
                video_slots: 0,
                tile_height: 720,
                speech_offset: 0,
                stamps: None,
                measuring: Measuring::Judges,
            };
            let options = Options { room: 7, publishers: 3, feeds, secret: Some("s3cret".into()) };
            let signalling = Signalling::Janus(Dialogue::new(options));
            let address = "127.0.0.1:4000".parse().ok();
            let client = Client::new(config, Library::built_in(), signalling, PhaseTimes::begin(now), address, now);
            Self { now, client: client.expect("the address is good") }
        }

        /// What the client says next; none if it waits.
        fn said(&mut self) -> Option<Value> {
            loop {
                match self.client.poll(self.now).expect("it goes on") {
                    Output::Signal(text) => return Some(serde_json::from_str(&text).expect("it says JSON")),
                    Output::Wait(_) => return None,
                    _ => {}
                }
            }
        }

        fn answer(&mut self, request: &Value, mut message: Value) -> Result<(), ClientError> {
            message["transaction"] = request["transaction"].clone();
            self.client.handle_text(self.now, &message.to_string())
        }

        /// Create and attach; returns the request that follows.
        fn attach(&mut self) -> Value {
            for (step, id) in [("create", 11), ("attach", 12)] {
                let request = self.said().expect("it asks");
                assert_eq!((&request["janus"], &request["apisecret"]), (&step.into(), &"s3cret".into()));
                self.answer(&request, json!({ "janus": "success", "data": { "id": id } })).expect("good");
            }
            let request = self.said().expect("it asks");
            assert_eq!((&request["session_id"], &request["handle_id"]), (&11.into(), &12.into()));
            request
        }
    }

    fn plugin(data: &Value) -> Value {
        json!({ "janus": "success", "plugindata": { "plugin": PLUGIN, "data": data } })
    }

    fn peer(now: Instant) -> Rtc {
        let mut peer = Rtc::builder().set_rtp_mode(true).build(now);
        peer.add_local_candidate(Candidate::host("127.0.0.1:5000".parse().expect("good"), "udp").expect("good"));
        peer
    }

    #[test]
    fn who_publishes_makes_the_room_unless_it_is_there_and_offers() {
        let mut talk = Talk::new(None);
        let make = talk.attach();
        assert_eq!((&make["body"]["request"], &make["body"]["publishers"]), (&"create".into(), &3.into()));
        talk.answer(&make, plugin(&json!({ "error_code": ROOM_EXISTS, "error": "it exists" }))).expect("it is there");
        let join = talk.said().expect("it joins");
        assert_eq!((&join["body"]["request"], &join["body"]["room"]), (&"joinandconfigure".into(), &7.into()));
        let offer = SdpOffer::from_sdp_string(join["jsep"]["sdp"].as_str().expect("an offer")).expect("it can be read");
        let answer = peer(talk.now).sdp_api().accept_offer(offer).expect("it can be answered").to_sdp_string();
        let joined = json!({
            "janus": "event", "plugindata": { "data": { "videoroom": "joined" } },
            "jsep": { "type": "answer", "sdp": answer },
        });
        talk.answer(&join, joined).expect("good");
        let report = talk.client.report(talk.now);
        assert!(report.join.welcome_ms.is_some() && report.join.answer_ms.is_some(), "{:?}", report.join);
    }

    #[test]
    fn who_watches_waits_for_feeds_and_answers_the_offer() {
        let mut talk = Talk::new(Some(1));
        let list = talk.attach();
        assert_eq!(list["body"]["request"], "listparticipants");
        talk.answer(&list, plugin(&json!({ "error_code": NO_SUCH_ROOM }))).expect("nobody is there yet");
        assert_eq!(talk.said(), None);
        talk.now += LIST_INTERVAL;
        talk.client.handle_timeout(talk.now).expect("good");
        let again = talk.said().expect("it looks again");
        let there = json!({ "participants": [{ "id": 5, "publisher": false }, { "id": 9, "publisher": true }] });
        talk.answer(&again, plugin(&there)).expect("good");
        let join = talk.said().expect("it joins");
        assert_eq!(join["body"]["streams"], json!([{ "feed": 9 }]));
        let mut janus = peer(talk.now);
        let mut change = janus.sdp_api();
        let mid = change.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
        let (offer, pending) = change.apply().expect("something is offered");
        let attached = json!({
            "janus": "event", "plugindata": { "data": { "videoroom": "attached" } },
            "jsep": { "type": "offer", "sdp": offer.to_sdp_string() },
        });
        talk.answer(&join, attached).expect("good");
        let start = talk.said().expect("it answers");
        assert_eq!(start["body"]["request"], "start");
        let answer = SdpAnswer::from_sdp_string(start["jsep"]["sdp"].as_str().expect("an answer")).expect("good");
        janus.sdp_api().accept_answer(pending, answer).expect("it fits the offer");
        let mid = janus.media(mid).map(str0m::media::Media::direction);
        assert_eq!(mid, Some(Direction::SendOnly), "the client receives it");
    }

    #[test]
    fn a_refusal_says_why_and_a_hangup_ends_the_session() {
        let mut talk = Talk::new(Some(1));
        let list = talk.attach();
        let refusal = plugin(&json!({ "error_code": 433, "error": "Unauthorized" }));
        let error = talk.answer(&list, refusal).expect_err("it is refused").to_string();
        assert_eq!(error, "Janus refuses: Unauthorized (433)");
        talk.answer(&Value::Null, json!({ "janus": "hangup", "reason": "ICE failed" })).expect("good");
        assert!(talk.client.is_over());
        assert_eq!(talk.client.report(talk.now).ended.as_deref(), Some("hangup: ICE failed"));
    }

    #[test]
    fn a_session_that_is_long_silent_is_kept_alive() {
        let mut talk = Talk::new(Some(1));
        let list = talk.attach();
        talk.answer(&list, plugin(&json!({ "error_code": NO_SUCH_ROOM }))).expect("good");
        talk.now += KEEPALIVE_INTERVAL;
        talk.client.handle_timeout(talk.now).expect("good");
        let said: Vec<_> = std::iter::from_fn(|| talk.said()).map(|request| request["janus"].clone()).collect();
        assert_eq!(said, ["message", "keepalive"]);
        talk.client.leave(talk.now);
        let goodbye = talk.said().expect("it says goodbye");
        assert_eq!((&goodbye["janus"], goodbye.get("handle_id")), (&"destroy".into(), None));
    }

    #[test]
    fn rubbish_is_an_error_and_no_panic() {
        let mut talk = Talk::new(Some(1));
        assert!(talk.client.handle_text(talk.now, "{").is_err());
        for strange in ["[]", "null", r#"{"janus":7}"#, r#"{"janus":"event","plugindata":4}"#] {
            talk.client.handle_text(talk.now, strange).expect("it says nothing");
        }
    }
}
