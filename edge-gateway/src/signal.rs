//! One signalling socket, from its first message to its close.
//!
//! The door keeps nothing of a session: it checks who is there, opens a stream to the media node, and then hands
//! messages on in both directions as they are. So a door may die at any time: media flows on, the client opens another
//! socket and resumes. A token is checked when a socket opens; one that expires later ends nothing, but the next socket
//! needs a valid one: clients renew theirs in time (`http::guests`).

mod close;
mod inbound;

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use isthmus_protocol::{
    node::Intent,
    problem::Code,
    signal::{ClientMessage, Hello, Secret, ServerMessage, VERSION},
    token::Grants,
};
use isthmus_relay::{FrameReceiver, FrameSender};
use prometheus::IntGauge;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{sleep, timeout},
};

pub(crate) use self::close::Close;
use self::inbound::{Inbound, Unusable};
use crate::{
    door::Door,
    limits::Holding,
    problem::Refusal,
    session::{self, NodeSession},
};

/// How long a client has for its first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a client is pinged.
const PING_EVERY: Duration = Duration::from_secs(15);
/// After so long without a message or pong the client is taken for gone: two pings unanswered.
const IDLE_AFTER: Duration = Duration::from_secs(40);
/// Messages for the client that wait for its socket. Full: no more are taken from the media node, up to [`CLIENT_STALL`];
/// then the socket is closed with [`Close::TooSlow`], and the client resumes with everything as it is by then.
const OUTGOING: usize = 128;
/// How long a client may take no message: a burst of news (a PoP with a hundred people of the room is gone) is no reason to
/// cut off whoever reads on.
const CLIENT_STALL: Duration = Duration::from_secs(5);
/// How long a media node may take no message from a client before its stream is given up.
const NODE_STALL: Duration = Duration::from_secs(5);
/// How long a client is given to take the last messages and the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a socket takes up while it is open: one of all that there may be, and one of its network's.
pub(crate) type Place = (OwnedSemaphorePermit, Holding);

/// Serves one socket. `token` is the one offered as a subprotocol, if any.
pub(crate) async fn serve(door: Arc<Door>, socket: WebSocket, token: Option<Secret>, _place: Place) {
    let _open = Open::new(&door.metrics.sockets);
    let (sink, stream) = socket.split();
    let (out, queue) = mpsc::channel(OUTGOING);
    let writer = write(sink, queue);
    tokio::pin!(writer);
    let mut inbound = Inbound::new(stream, door.config.limits.messages, IDLE_AFTER);
    let why = tokio::select! {
        why = converse(&door, &mut inbound, token, &out) => why,
        () = &mut writer => Close::SocketLost,
    };
    if why != Close::SocketLost {
        let goodbye = async {
            // The writer may be gone; then there is nobody to say it to.
            let _ = out.send(Message::Close(Some(why.frame()))).await;
            drop(out);
            tokio::join!(writer, hung_up(&mut inbound, why));
        };
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
    door.metrics.closes.with_label_values(&[why.name()]).inc();
}

/// Waits until the client has hung up too (RFC 6455 section 7.1.1). A socket that is closed with something unread in it is
/// reset, and at a client that is still talking the reset overtakes the close frame, which says what to do now.
async fn hung_up(inbound: &mut Inbound<SplitStream<WebSocket>>, why: Close) {
    if why == Close::TooLarge {
        // What follows cannot be read without taking in the message that was too large.
        std::future::pending::<()>().await;
    }
    inbound.drain().await;
}

/// Counts one socket for as long as it is there, a panic included.
struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Writes what is queued until the queue ends or the socket does.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        // What is queued already goes out in the same write.
        let mut next = Some(message);
        while let Some(message) = next {
            if sink.feed(message).await.is_err() {
                return;
            }
            next = queue.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    // A close frame was the last message; this waits until it is out.
    let _ = sink.flush().await;
}

/// The whole conversation; returns why it is over.
async fn converse(
    door: &Door,
    inbound: &mut Inbound<SplitStream<WebSocket>>,
    token: Option<Secret>,
    out: &mpsc::Sender<Message>,
) -> Close {
    let (session, grants) = match greet(door, inbound, token).await {
        Ok(greeted) => greeted,
        Err(Unusable::Refused(refusal)) => {
            refuse(door, out, &refusal, true);
            return Close::Refused;
        }
        Err(Unusable::Over(why)) => return why,
    };
    if let Err(why) = queue(out, &session.welcome) {
        return why;
    }
    tokio::select! {
        why = client_to_node(door, inbound, session.sender, grants, out) => why,
        why = node_to_client(session.receiver, out) => why,
        why = keep_alive(out) => why,
        () = door.shutdown.cancelled() => Close::Restarting,
    }
}

/// Waits for the hello, checks who it is and opens their session.
async fn greet(
    door: &Door,
    inbound: &mut Inbound<SplitStream<WebSocket>>,
    token: Option<Secret>,
) -> Result<(NodeSession, Grants), Unusable> {
    match timeout(HELLO_TIMEOUT, inbound.next()).await {
        Ok(Ok(ClientMessage::Hello(hello))) => Ok(open(door, hello, token).await?),
        Ok(Ok(_)) => Err(Refusal::new(Code::InvalidRequest, "the first message must be a hello").into()),
        Ok(Err(unusable)) => Err(unusable),
        Err(_) => Err(Unusable::Over(Close::NoHello)),
    }
}

async fn open(door: &Door, hello: Hello, token: Option<Secret>) -> Result<(NodeSession, Grants), Refusal> {
    if hello.version != VERSION {
        let detail = format!("this door speaks version {VERSION} and not {}; load the app anew", hello.version);
        return Err(Refusal::new(Code::UnsupportedVersion, detail));
    }
    let missing = || Refusal::new(Code::Unauthorized, "send a room token in the hello or as a subprotocol");
    let token = token.or(hello.token).ok_or_else(missing)?;
    let claims = door.authorise(&token.0, &hello.room)?;
    let session = if let Some(resume) = hello.resume {
        door.resume(&claims, &resume.node, resume.participant).await?
    } else {
        let intent = Intent::Join {
            participant: door.new_participant(),
            name: session::display_name(&claims, &hello.name)?,
            replaces: hello.replaces,
            media_only: false,
        };
        door.join(&claims, claims.grants, intent).await?.1
    };
    Ok((session, claims.grants))
}

async fn client_to_node(
    door: &Door,
    inbound: &mut Inbound<SplitStream<WebSocket>>,
    mut sender: FrameSender<ClientMessage>,
    grants: Grants,
    out: &mpsc::Sender<Message>,
) -> Close {
    loop {
        let message = match inbound.next().await.and_then(|message| inbound::check(message, grants)) {
            Ok(message) => message,
            Err(Unusable::Refused(refusal)) => {
                refuse(door, out, &refusal, false);
                continue;
            }
            Err(Unusable::Over(why)) => return why,
        };
        let leaves = message == ClientMessage::Leave;
        match timeout(NODE_STALL, sender.send(&message)).await {
            Ok(Ok(())) if leaves => {
                // The node takes it from the stream although the stream ends here.
                let _ = timeout(NODE_STALL, sender.finish()).await;
                return Close::Ended;
            }
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Close::NodeLost,
        }
    }
}

async fn node_to_client(receiver: FrameReceiver<ServerMessage>, out: &mpsc::Sender<Message>) -> Close {
    let mut receiver = receiver.then::<Passing>();
    loop {
        let Ok(Some((message, text))) = receiver.receive_with_text().await else { return Close::NodeLost };
        let Ok(text) = Utf8Bytes::try_from(text) else { return Close::NodeLost };
        if !matches!(timeout(CLIENT_STALL, out.send(Message::Text(text))).await, Ok(Ok(()))) {
            return Close::TooSlow;
        }
        if message.is_last() {
            return Close::Ended;
        }
    }
}

/// What a door needs to know of a node's message. The rest goes through as it came: a large room tells each of its people much,
/// and every door would read and write it all again.
#[derive(Debug, Deserialize)]
struct Passing {
    #[serde(rename = "type")]
    kind: PassingKind,
    #[serde(default)]
    fatal: bool,
}

/// Named as those of [`ServerMessage`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PassingKind {
    Ended,
    Error,
    #[serde(other)]
    Other,
}

impl Passing {
    /// Whether the session has ended with it.
    fn is_last(&self) -> bool {
        self.kind == PassingKind::Ended || self.kind == PassingKind::Error && self.fatal
    }
}

async fn keep_alive(out: &mpsc::Sender<Message>) -> Close {
    loop {
        sleep(PING_EVERY).await;
        // A client that has messages to take needs no ping; whether it takes them is seen where they are sent.
        let _ = out.try_send(Message::Ping(bytes::Bytes::new()));
    }
}

/// Tells the client why a message was refused. If its queue is full it learns from the close that follows.
fn refuse(door: &Door, out: &mpsc::Sender<Message>, refusal: &Refusal, fatal: bool) {
    door.metrics.count_refusal(refusal.code());
    let message =
        ServerMessage::Error { code: refusal.code(), detail: refusal.detail().to_owned(), fatal, revision: None };
    let _ = queue(out, &message);
}

fn queue(out: &mpsc::Sender<Message>, message: &ServerMessage) -> Result<(), Close> {
    let text = serde_json::to_string(message).map_err(|_| Close::NodeLost)?;
    out.try_send(Message::Text(text.into())).map_err(|_| Close::TooSlow)
}

#[cfg(test)]
mod tests {
    use isthmus_protocol::{problem::Code, signal::LeaveReason};

    use super::*;

    #[test]
    fn the_end_of_a_session_is_seen_in_what_passes() {
        let error = |fatal| ServerMessage::Error { code: Code::Internal, detail: String::new(), fatal, revision: None };
        let is_last = |message: &ServerMessage| {
            let text = serde_json::to_vec(message).expect("it is written");
            serde_json::from_slice::<Passing>(&text).expect("it is read").is_last()
        };
        assert!(is_last(&ServerMessage::Ended { reason: LeaveReason::Drained }) && is_last(&error(true)));
        assert!(!is_last(&error(false)) && !is_last(&ServerMessage::Pong { id: 1 }));
        assert!(!is_last(&ServerMessage::Speakers { speakers: Vec::new() }));
    }
}
