//! Opening a session at a media node on behalf of a client, whichever way the client came.

use std::time::Duration;

use isthmus_protocol::{
    NodeId, ParticipantId, RoomId,
    node::{Intent, Session},
    problem::Code,
    signal::{ClientMessage, MAX_NAME_CHARS, ServerMessage},
    token::{Grants, RoomClaims},
};
use isthmus_relay::{FrameReceiver, FrameSender, NodeClient, RelayError};
use tokio::{sync::oneshot, time::timeout};

use crate::{door::Door, nodes::NoPlace, problem::Refusal, sdp::Directions};

/// How long a media node has for its first word on a session, and for an answer to an offer. Below the 4 s after
/// which the web app tries the next PoP.
pub(crate) const NODE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a node has to end its side of a stream that the door has ended.
const DETACH_TIMEOUT: Duration = Duration::from_secs(1);

/// A session that stands at a media node: one QUIC stream.
pub(crate) struct NodeSession {
    /// The node's first message, which is its welcome.
    pub(crate) welcome: ServerMessage,
    /// Towards the node.
    pub(crate) sender: FrameSender<ClientMessage>,
    /// From the node.
    pub(crate) receiver: FrameReceiver<ServerMessage>,
}

impl NodeSession {
    /// Lets go of the stream. The session stays at its node, which has taken in everything once its side ends too.
    pub(crate) async fn detach(self) {
        let Self { sender, mut receiver, .. } = self;
        let detached = async {
            sender.finish().await;
            while let Ok(Some(_)) = receiver.receive().await {}
        };
        let _ = timeout(DETACH_TIMEOUT, detached).await;
    }

    /// Ends the session itself.
    pub(crate) async fn leave(mut self) {
        // A stream that is lost already needs no goodbye: the node ends a session without media by itself.
        let _ = self.sender.send(&ClientMessage::Leave).await;
        self.detach().await;
    }
}

/// Does `work` to its end although whoever waits for it may go away meanwhile: a client hangs up, a deadline passes.
/// Then `undo` takes back what came of it, or somebody would stand in a room whom nobody knows of.
pub(crate) async fn see_through<T, W, U>(work: W, undo: impl FnOnce(T) -> U + Send + 'static) -> Result<T, Refusal>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Refusal>> + Send + 'static,
    U: Future<Output = ()> + Send,
{
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(Ok(done)) = tell.send(work.await) {
            undo(done).await;
        }
    });
    told.await
        .unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "joining ended with a fault in the door; try again")))
}

impl Door {
    /// The claims of `token`, if it is valid for `room`.
    pub(crate) fn authorise(&self, token: &str, room: &RoomId) -> Result<RoomClaims, Refusal> {
        let _timer = self.metrics.join_seconds.with_label_values(&["token"]).start_timer();
        self.tokens.check(token, room, self.now_s())
    }

    /// Joins the claims' room, at the node that takes it.
    pub(crate) async fn join(
        &self,
        claims: &RoomClaims,
        grants: Grants,
        intent: Intent,
    ) -> Result<(NodeId, NodeSession), Refusal> {
        self.takes_sessions()?;
        let client = self.nodes.place(&claims.room).await?;
        let session = Session { room: claims.room.clone(), identity: claims.sub.clone(), grants, intent };
        Ok((client.node().clone(), self.open_session(client, session).await?))
    }

    /// Takes up a session that stands at `node`. Draining does not matter: the session is there.
    pub(crate) async fn resume(
        &self,
        claims: &RoomClaims,
        node: &NodeId,
        participant: ParticipantId,
    ) -> Result<NodeSession, Refusal> {
        let gone = || Refusal::new(Code::SessionGone, format!("{node} is no media node of this PoP; join anew"));
        let client = self.nodes.get(node).ok_or_else(gone)?;
        let session = Session {
            room: claims.room.clone(),
            identity: claims.sub.clone(),
            grants: claims.grants,
            intent: Intent::Resume { participant },
        };
        self.open_session(client, session).await
    }

    async fn open_session(&self, client: &NodeClient, session: Session) -> Result<NodeSession, Refusal> {
        let _timer = self.metrics.join_seconds.with_label_values(&["node"]).start_timer();
        let open = async {
            let (sender, mut receiver) = client.session(session).await?;
            let welcome = next(&mut receiver).await?;
            Ok(NodeSession { welcome, sender, receiver })
        };
        timeout(NODE_TIMEOUT, open).await.unwrap_or_else(|_| Err(RelayError::TimedOut.into()))
    }
}

/// The node's next message; its errors and the end of the stream are refusals.
pub(crate) async fn next(receiver: &mut FrameReceiver<ServerMessage>) -> Result<ServerMessage, Refusal> {
    match receiver.receive().await? {
        Some(ServerMessage::Error { code, detail, .. }) => Err(Refusal::new(code, detail)),
        Some(ServerMessage::Ended { reason }) => {
            Err(Refusal::new(Code::SessionGone, format!("the session ended: {reason:?}")))
        }
        Some(message) => Ok(message),
        None => Err(Refusal::new(Code::Unavailable, "the media node ended the session without a word; try again")),
    }
}

/// The name others see: the token's own, else what the client says, else the identity.
pub(crate) fn display_name(claims: &RoomClaims, said: &str) -> Result<String, Refusal> {
    let own = [claims.name.as_str(), said, claims.sub.as_str()];
    let name = own.into_iter().map(str::trim).find(|name| !name.is_empty()).unwrap_or_default();
    if name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        let detail = format!("a name has at most {MAX_NAME_CHARS} characters and no control characters");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    Ok(name.to_owned())
}

/// Refuses an offer that does what its bearer may not.
pub(crate) fn check_directions(directions: Directions, grants: Grants) -> Result<(), Refusal> {
    match (directions.sends && !grants.publish, directions.receives && !grants.subscribe) {
        (true, _) => Err(Refusal::new(Code::Forbidden, "the token does not allow sending; offer recvonly m-lines")),
        (_, true) => Err(Refusal::new(Code::Forbidden, "the token does not allow receiving; offer sendonly m-lines")),
        _ => Ok(()),
    }
}

impl From<NoPlace> for Refusal {
    fn from(no_place: NoPlace) -> Self {
        let code = match no_place {
            NoPlace::Draining => Code::Draining,
            NoPlace::Down => Code::Unavailable,
        };
        Self::new(code, no_place.to_string())
    }
}

impl From<RelayError> for Refusal {
    fn from(error: RelayError) -> Self {
        tracing::warn!(%error, "a media node did not take a session");
        Self::new(Code::Unavailable, "the media node did not answer; try again in a moment or join through another PoP")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(name: &str) -> RoomClaims {
        RoomClaims {
            iss: "test".into(),
            aud: "test".into(),
            sub: "ana@example.org".into(),
            name: name.into(),
            room: "demo".parse().expect("valid"),
            grants: Grants { publish: true, subscribe: true },
            iat: 0,
            exp: 0,
        }
    }

    #[test]
    fn the_tokens_name_wins_then_the_clients_then_the_identity() {
        assert_eq!(display_name(&claims("Ana"), "Eve").as_deref(), Ok("Ana"));
        assert_eq!(display_name(&claims(""), "  Ana M.  ").as_deref(), Ok("Ana M."));
        assert_eq!(display_name(&claims(""), " ").as_deref(), Ok("ana@example.org"));
        for bad in ["x".repeat(81), "a\u{0}b".into(), "a\nb".into()] {
            assert_eq!(display_name(&claims(""), &bad).map_err(|r| r.code()), Err(Code::InvalidRequest));
        }
    }

    #[test]
    fn an_offer_needs_the_grants_for_what_it_does() {
        let may = |sends, receives, publish, subscribe| {
            check_directions(Directions { sends, receives }, Grants { publish, subscribe }).is_ok()
        };
        assert!(may(true, true, true, true));
        assert!(may(false, true, false, true) && may(true, false, true, false));
        assert!(!may(true, true, false, true) && !may(true, true, true, false));
        assert!(may(false, false, false, false));
    }
}
