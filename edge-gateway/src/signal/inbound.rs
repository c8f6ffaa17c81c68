//! What a client sends: read, paced and checked before any of it reaches a media node.

use std::time::Duration;

use axum::{Error, extract::ws::Message};
use futures_util::{Stream, StreamExt as _};
use governor::DefaultDirectRateLimiter;
use isthmus_protocol::{
    problem::Code,
    signal::{ClientMessage, MAX_CANDIDATE_BYTES, MAX_SDP_BYTES, MAX_TILES},
    token::Grants,
};
use tokio::time::timeout;

use super::Close;
use crate::{config::Allowance, problem::Refusal, sdp::Directions, session::check_directions};

/// The longest m-line id that is passed on: what its RTP header extension holds in one-byte form (RFC 8285 section 4.2).
const MAX_MID_BYTES: usize = 16;
/// The most sending m-lines one offer may describe.
const MAX_OFFERED_TRACKS: usize = 16;

/// The client's messages, at the pace it may send them.
pub(super) struct Inbound<S> {
    stream: S,
    pace: DefaultDirectRateLimiter,
    idle_after: Duration,
}

/// Why a message is not used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// This one is refused. The next may be better.
    Refused(Refusal),
    /// There is none and will be none.
    Over(Close),
}

impl From<Refusal> for Unusable {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<S: Stream<Item = Result<Message, Error>> + Unpin> Inbound<S> {
    /// Reads from `stream`; a client that sends nothing at all, not even a pong, for `idle_after` is gone.
    pub(super) fn new(stream: S, pace: Allowance, idle_after: Duration) -> Self {
        Self { stream, pace: DefaultDirectRateLimiter::direct(pace.quota()), idle_after }
    }

    /// The next message. Every frame counts against the pace, pings too.
    pub(super) async fn next(&mut self) -> Result<ClientMessage, Unusable> {
        loop {
            let frame = match timeout(self.idle_after, self.stream.next()).await {
                Err(_) => return Err(Unusable::Over(Close::Idle)),
                Ok(None) => return Err(Unusable::Over(Close::SocketLost)),
                Ok(Some(frame)) => frame.map_err(|error| Unusable::Over(of_error(error)))?,
            };
            if self.pace.check().is_err() {
                return Err(Unusable::Over(Close::TooFast));
            }
            match frame {
                Message::Text(text) => return parse(&text).map_err(Unusable::Refused),
                Message::Binary(_) => {
                    return Err(Refusal::new(Code::InvalidRequest, "messages are JSON in text frames").into());
                }
                Message::Close(_) => return Err(Unusable::Over(Close::SocketLost)),
                // The WebSocket layer answers pings itself.
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    /// Takes what still comes, for nothing, until the client is gone. The caller says how long at most.
    pub(super) async fn drain(&mut self) {
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}

fn of_error(error: Error) -> Close {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => Close::TooLarge,
        _ => Close::SocketLost,
    }
}

/// The detail names the place and not the text, which may hold a token.
fn parse(text: &str) -> Result<ClientMessage, Refusal> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Refusal::new(Code::InvalidRequest, format!("not a message of this protocol (line {line}, column {column})"))
    })
}

/// Refuses what is too large or not allowed with these grants.
pub(super) fn check(message: ClientMessage, grants: Grants) -> Result<ClientMessage, Unusable> {
    let too_large = |what| Err(Refusal::new(Code::TooLarge, what).into());
    let mid_fits = |mid: &str| mid.len() <= MAX_MID_BYTES;
    match &message {
        ClientMessage::Hello(_) => {
            let detail = "a session stands on this socket already; open another one";
            return Err(Refusal::new(Code::Conflict, detail).into());
        }
        ClientMessage::Offer { sdp, tracks, .. } => {
            if sdp.len() > MAX_SDP_BYTES {
                return too_large(format!("an offer may have {MAX_SDP_BYTES} bytes"));
            }
            if tracks.len() > MAX_OFFERED_TRACKS || !tracks.iter().all(|track| mid_fits(&track.mid)) {
                return too_large(format!(
                    "an offer may describe {MAX_OFFERED_TRACKS} tracks, each mid {MAX_MID_BYTES} bytes"
                ));
            }
            check_directions(Directions::of(sdp), grants)?;
        }
        ClientMessage::Candidate { candidate } if candidate.len() > MAX_CANDIDATE_BYTES => {
            return too_large(format!("a candidate may have {MAX_CANDIDATE_BYTES} bytes"));
        }
        ClientMessage::View { tiles } if tiles.len() > MAX_TILES => {
            return too_large(format!("a view may have {MAX_TILES} tiles"));
        }
        ClientMessage::Mute { mid, .. } if !mid_fits(mid) => {
            return too_large(format!("a mid may have {MAX_MID_BYTES} bytes"));
        }
        _ => {}
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use isthmus_protocol::signal::Tile;

    const WATCH: Grants = Grants { publish: false, subscribe: true };

    fn code(result: Result<ClientMessage, Unusable>) -> Option<Code> {
        match result {
            Err(Unusable::Refused(refusal)) => Some(refusal.code()),
            Ok(_) | Err(Unusable::Over(_)) => None,
        }
    }

    fn offer(sdp: &str) -> ClientMessage {
        ClientMessage::Offer { revision: 1, sdp: sdp.to_owned(), tracks: Vec::new() }
    }

    #[test]
    fn an_offer_that_sends_needs_the_grant_to_publish() {
        let sends = offer("v=0\r\nm=audio 9 x 0\r\na=sendonly\r\n");
        assert_eq!(code(check(sends.clone(), WATCH)), Some(Code::Forbidden));
        assert!(check(sends, Grants { publish: true, subscribe: true }).is_ok());
        assert!(check(offer("v=0\r\nm=audio 9 x 0\r\na=recvonly\r\n"), WATCH).is_ok());
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_reaches_a_node() {
        let tile = Tile { track: "t".parse().expect("valid"), height: 1 };
        let large = [
            offer(&"a".repeat(MAX_SDP_BYTES + 1)),
            ClientMessage::Candidate { candidate: "a".repeat(MAX_CANDIDATE_BYTES + 1) },
            ClientMessage::View { tiles: vec![tile; MAX_TILES + 1] },
            ClientMessage::Mute { mid: "m".repeat(MAX_MID_BYTES + 1), muted: true },
        ];
        for message in large {
            assert_eq!(code(check(message, WATCH)), Some(Code::TooLarge));
        }
    }

    #[test]
    fn an_error_does_not_repeat_what_was_sent() {
        let refusal = parse(r#"{"type":"hello","token":"s3cret"}"#).expect_err("fields are missing");
        assert!(!refusal.detail().contains("s3cret"));
    }

    #[tokio::test]
    async fn frames_faster_than_the_pace_end_the_socket() {
        let frames = stream::iter((0..4).map(|_| Ok(Message::Text(r#"{"type":"ping","id":1}"#.into()))));
        let mut inbound = Inbound::new(frames, Allowance::new(3, 1), Duration::from_secs(1));
        for _ in 0..3 {
            assert!(inbound.next().await.is_ok());
        }
        assert!(matches!(inbound.next().await, Err(Unusable::Over(Close::TooFast))));
    }

    #[tokio::test]
    async fn a_client_that_is_silent_too_long_is_gone() {
        let mut inbound = Inbound::new(stream::pending(), Allowance::new(3, 1), Duration::from_millis(1));
        assert!(matches!(inbound.next().await, Err(Unusable::Over(Close::Idle))));
    }

    #[tokio::test]
    async fn rubbish_is_refused_and_the_next_message_is_read() {
        let frames = [
            Message::Text("{".into()),
            Message::Binary(vec![1, 2, 3].into()),
            Message::Pong(bytes::Bytes::new()),
            Message::Text(r#"{"type":"leave"}"#.into()),
        ];
        let mut inbound = Inbound::new(stream::iter(frames.map(Ok)), Allowance::new(9, 1), Duration::from_secs(1));
        assert_eq!(code(inbound.next().await), Some(Code::InvalidRequest));
        assert_eq!(code(inbound.next().await), Some(Code::InvalidRequest));
        assert_eq!(inbound.next().await.ok(), Some(ClientMessage::Leave));
    }
}
