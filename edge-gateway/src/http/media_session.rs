//! What WHIP (RFC 9725) and the WHEP draft share: a session that is set up by one offer over HTTP and then lives by its
//! media, without a signalling socket.
//!
//! The door joins at a media node, sends the offer, waits for the answer and lets go of the stream. A PATCH or DELETE
//! takes the session up again for a moment, whichever door it comes to: the session's address says node and
//! participant, the token says whose it is. Only for an ICE restart the door that took the offer is needed ([`Offers`]).

mod offers;

use std::sync::Arc;

use axum::{
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use isthmus_protocol::{
    NodeId, ParticipantId, RoomId,
    node::Intent,
    problem::Code,
    signal::{ClientMessage, ServerMessage},
    token::Grants,
};
use serde::Deserialize;
use tokio::time::timeout;

use self::offers::Offer;
pub(crate) use self::offers::Offers;
use super::{
    layers::ACCEPT_PATCH,
    request::{IfMatch, bearer, expect_media_type},
};
use crate::{
    caller::Caller,
    door::Door,
    problem::Refusal,
    sdp::{self, Directions},
    sdpfrag::{self, Fragment},
    session::{NODE_TIMEOUT, NodeSession, display_name, next, see_through},
};

const SDP: &str = "application/sdp";

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// WHIP: the client sends.
    Publish,
    /// WHEP: the client receives.
    Play,
}

impl Kind {
    const fn path(self) -> &'static str {
        match self {
            Kind::Publish => "whip",
            Kind::Play => "whep",
        }
    }

    /// What a session of this kind may do, if the token allows it.
    fn grants(self, token: Grants) -> Result<Grants, Refusal> {
        let (allowed, grants) = match self {
            Kind::Publish => (token.publish, Grants { publish: true, subscribe: false }),
            Kind::Play => (token.subscribe, Grants { publish: false, subscribe: true }),
        };
        let forbidden = || Refusal::new(Code::Forbidden, format!("the token does not allow {}", self.path()));
        if allowed { Ok(grants) } else { Err(forbidden()) }
    }

    fn check(self, offer: &str) -> Result<(), Refusal> {
        let directions = Directions::of(offer);
        let usable = match self {
            Kind::Publish => directions.sends,
            Kind::Play => directions.receives,
        };
        let nothing = || Refusal::new(Code::InvalidSdp, "the offer has no m-line that goes the way of this endpoint");
        if usable { Ok(()) } else { Err(nothing()) }
    }
}

/// Where a session is. It holds no credential: each request brings the token.
#[derive(Debug, Deserialize)]
pub(super) struct SessionPath {
    room: RoomId,
    node: NodeId,
    participant: ParticipantId,
}

/// `POST`: joins with an offer.
pub(super) async fn begin(
    door: &Arc<Door>,
    kind: Kind,
    caller: Caller,
    room: &RoomId,
    headers: &HeaderMap,
    offer: String,
) -> Result<Response, Refusal> {
    expect_media_type(headers, SDP)?;
    door.limits.joins.take(caller.address).map_err(Refusal::rate_limited)?;
    let claims = door.authorise(bearer(headers)?, room)?;
    let grants = kind.grants(claims.grants)?;
    kind.check(&offer)?;
    let no_ice = || Refusal::new(Code::InvalidSdp, "the offer has no proper ice-ufrag and ice-pwd (RFC 8839)");
    let entity_tag = sdpfrag::entity_tag_of_offer(&offer).ok_or_else(no_ice)?;

    let participant = door.new_participant();
    let name = display_name(&claims, "")?;
    let intent = Intent::Join { participant: participant.clone(), name, replaces: None, media_only: true };
    let offer = Offer::first(offer);
    let joining = {
        let (door, claims, offer) = (door.clone(), claims.clone(), offer.clone());
        async move {
            let (node, mut session) = door.join(&claims, grants, intent).await?;
            match answer_to(&mut session, &offer).await {
                Ok(answer) => {
                    session.detach().await;
                    Ok((node, answer))
                }
                Err(refusal) => {
                    session.leave().await;
                    Err(refusal)
                }
            }
        }
    };
    let leaving = {
        let (door, participant) = (door.clone(), participant.clone());
        |(node, _)| async move {
            if let Ok(session) = door.resume(&claims, &node, participant).await {
                session.leave().await;
            }
        }
    };
    let (node, answer) = see_through(joining, leaving).await?;
    let location = format!("/v1/rooms/{room}/{}/{node}/{participant}", kind.path());
    door.offers.keep(participant, offer);
    let headers: [(HeaderName, String); 4] = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, location),
        (header::ETAG, entity_tag),
        (ACCEPT_PATCH, sdpfrag::MEDIA_TYPE.to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, answer).into_response())
}

/// `PATCH`: further candidates, or an ICE restart.
pub(super) async fn patch(
    door: &Door,
    path: &SessionPath,
    headers: &HeaderMap,
    body: &str,
) -> Result<Response, Refusal> {
    expect_media_type(headers, sdpfrag::MEDIA_TYPE)?;
    let claims = door.authorise(bearer(headers)?, &path.room)?;
    let condition = IfMatch::required(headers)?;
    let fragment = Fragment::parse(body).map_err(|error| Refusal::new(Code::InvalidRequest, error.to_string()))?;
    let offer = door.offers.get(&path.participant);
    let change = Change::of(&condition, &fragment, offer)?;
    let mut session = door.resume(&claims, &path.node, path.participant.clone()).await?;
    match change {
        Change::Candidates => {
            trickle(&mut session, fragment).await?;
            session.detach().await;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Change::Restart { offer, entity_tag } => {
            let answer = answer_to(&mut session, &offer).await?;
            trickle(&mut session, fragment).await?;
            session.detach().await;
            door.offers.keep(path.participant.clone(), offer);
            let headers = [(header::CONTENT_TYPE, sdpfrag::MEDIA_TYPE.to_owned()), (header::ETAG, entity_tag)];
            Ok((headers, sdpfrag::of_answer(&answer)).into_response())
        }
    }
}

/// `DELETE`: leaves.
pub(super) async fn end(door: &Door, path: &SessionPath, headers: &HeaderMap) -> Result<StatusCode, Refusal> {
    let claims = door.authorise(bearer(headers)?, &path.room)?;
    let session = door.resume(&claims, &path.node, path.participant.clone()).await?;
    session.leave().await;
    door.offers.forget(&path.participant);
    Ok(StatusCode::OK)
}

/// What a PATCH asks for.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// Candidates of the ICE session that stands.
    Candidates,
    /// Another ICE session: this offer, which then has this entity tag.
    Restart { offer: Offer, entity_tag: String },
}

impl Change {
    /// RFC 9725 section 4.3.1: the condition must name the ICE session that stands, or any; other credentials than its
    /// own ask for a restart. `offer` is the session's last one, if this door has it.
    fn of(condition: &IfMatch<'_>, fragment: &Fragment, offer: Option<Offer>) -> Result<Self, Refusal> {
        let credentials = fragment.credentials.as_ref();
        let sent_tag = credentials.map(|credentials| sdpfrag::entity_tag(&credentials.ufrag));
        let current_tag = offer.as_ref().and_then(|offer| sdpfrag::entity_tag_of_offer(&offer.sdp));
        // Without the offer (the door was restarted, or it is another one) the fragment itself says its ICE session. If
        // it does not (RFC 8840 lets it leave that out), nobody can say that the condition holds.
        let stands = current_tag.as_ref().or(sent_tag.as_ref());
        let holds = *condition == IfMatch::Any || stands.is_some_and(|tag| condition.matches(tag));
        if !holds {
            let detail = "If-Match names another ICE session than the one that stands, or one that is not known here";
            return Err(Refusal::new(Code::Conflict, detail).with_status(StatusCode::PRECONDITION_FAILED));
        }
        let (Some(credentials), Some(entity_tag)) = (credentials, sent_tag) else {
            return match condition {
                IfMatch::Any => Err(Refusal::new(Code::InvalidRequest, "an ICE restart needs ice-ufrag and ice-pwd")),
                IfMatch::Tags(_) => Ok(Self::Candidates),
            };
        };
        let Some(offer) = offer else {
            return match condition {
                IfMatch::Tags(_) => Ok(Self::Candidates),
                IfMatch::Any => {
                    let detail = "this door does not have the session's offer any more; begin anew with a POST";
                    Err(Refusal::new(Code::Conflict, detail).with_status(StatusCode::UNPROCESSABLE_ENTITY))
                }
            };
        };
        if current_tag.as_ref() == Some(&entity_tag) {
            return Ok(Self::Candidates);
        }
        let sdp = sdp::with_ice_credentials(&offer.sdp, &credentials.ufrag, &credentials.pwd);
        Ok(Self::Restart { offer: offer.next(sdp), entity_tag })
    }
}

/// Sends an offer and waits for its answer; what else the node says is for clients with a socket.
async fn answer_to(session: &mut NodeSession, offer: &Offer) -> Result<String, Refusal> {
    let message = ClientMessage::Offer { revision: offer.revision, sdp: offer.sdp.to_string(), tracks: Vec::new() };
    let exchange = async {
        session.sender.send(&message).await?;
        loop {
            if let ServerMessage::Answer { revision, sdp } = next(&mut session.receiver).await?
                && revision == offer.revision
            {
                return Ok(sdp);
            }
        }
    };
    timeout(NODE_TIMEOUT, exchange).await.unwrap_or_else(|_| {
        Err(Refusal::new(Code::Unavailable, "the media node did not answer the offer in time; try again"))
    })
}

async fn trickle(session: &mut NodeSession, fragment: Fragment) -> Result<(), Refusal> {
    let end = fragment.end_of_candidates.then(String::new);
    for candidate in fragment.candidates.into_iter().chain(end) {
        session.sender.send(&ClientMessage::Candidate { candidate }).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\nm=audio 9 x 0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    const SAME: &str =
        "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=candidate:1 1 udp 1 ::1 9 typ host\r\n";
    const OTHER: &str = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
    const BARE: &str = "a=candidate:1 1 udp 1 ::1 9 typ host\r\n";

    fn change(condition: &IfMatch<'_>, fragment: &str, offer: Option<&str>) -> Result<Change, (u16, Code)> {
        let fragment = Fragment::parse(fragment).expect("a proper fragment");
        let offer = offer.map(|sdp| Offer::first(sdp.to_owned()));
        Change::of(condition, &fragment, offer)
            .map_err(|refusal| (refusal.clone().into_response().status().as_u16(), refusal.code()))
    }

    #[test]
    fn candidates_need_the_entity_tag_of_their_ice_session() {
        for offer in [Some(OFFER), None] {
            assert_eq!(change(&IfMatch::Tags("\"EsAw\""), SAME, offer), Ok(Change::Candidates));
            assert_eq!(change(&IfMatch::Tags("\"old1\""), SAME, offer), Err((412, Code::Conflict)));
        }
        assert_eq!(change(&IfMatch::Tags("\"EsAw\""), BARE, Some(OFFER)), Ok(Change::Candidates));
        assert_eq!(change(&IfMatch::Tags("\"ysXw\""), BARE, Some(OFFER)), Err((412, Code::Conflict)));
        let unknown = change(&IfMatch::Tags("\"EsAw\""), BARE, None);
        assert_eq!(unknown, Err((412, Code::Conflict)), "nobody can say whose candidates these are");
    }

    #[test]
    fn other_credentials_restart_ice_with_the_offer_that_was() {
        let Ok(Change::Restart { offer, entity_tag }) = change(&IfMatch::Any, OTHER, Some(OFFER)) else {
            panic!("no restart");
        };
        assert_eq!((offer.revision, entity_tag.as_str()), (2, "\"ysXw\""));
        assert!(offer.sdp.contains("a=ice-ufrag:ysXw\r\n") && offer.sdp.contains("m=audio"), "{}", offer.sdp);
        assert_eq!(change(&IfMatch::Any, BARE, Some(OFFER)), Err((400, Code::InvalidRequest)));
    }

    #[test]
    fn a_door_without_the_offer_says_to_begin_anew() {
        assert_eq!(change(&IfMatch::Any, OTHER, None), Err((422, Code::Conflict)));
    }

    #[test]
    fn a_session_may_do_what_its_protocol_is_for_and_its_token_allows() {
        let both = Grants { publish: true, subscribe: true };
        let publish = Grants { publish: true, subscribe: false };
        assert_eq!(Kind::Publish.grants(both), Ok(publish));
        assert!(Kind::Play.grants(publish).is_err());
        assert!(Kind::Publish.check(OFFER).is_ok());
        assert!(Kind::Publish.check("v=0\r\nm=audio 9 x 0\r\na=recvonly\r\n").is_err());
        assert!(Kind::Play.check("v=0\r\nm=audio 9 x 0\r\na=sendonly\r\n").is_err());
    }
}
