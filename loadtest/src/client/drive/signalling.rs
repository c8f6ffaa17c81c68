//! The WebSocket by which a client talks to its server. It has a task of its own: for every packet of media the driver then
//! looks into a queue and not into a TLS session.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use isthmus_protocol::signal::{MAX_MESSAGE_BYTES, SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX};
use reqwest::Url;
use tokio::{
    net::TcpStream,
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue, protocol::WebSocketConfig},
};

use super::Event;
use crate::client::{join::Ticket, signalling::janus};

/// What a socket reads at once; it is cleared before.
const READ_BYTES: usize = 4096;
/// What a client has said and the socket has not yet taken. One more, and the server counts as gone.
const OUT_QUEUE: usize = 64;
/// The longest an opening may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The signalling socket.
pub type SignalSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens the signalling socket of a PoP. The token goes as a subprotocol, never in the URL.
pub async fn open_signalling(ticket: &Ticket, tls: Arc<rustls::ClientConfig>) -> anyhow::Result<SignalSocket> {
    let mut url = ticket.door.join("/v1/signal")?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    if url.set_scheme(scheme).is_err() {
        bail!("{} is neither an http nor an https URL", ticket.door);
    }
    let protocols = format!("{SUBPROTOCOL}, {TOKEN_SUBPROTOCOL_PREFIX}{}", ticket.token);
    let mut protocols = HeaderValue::from_str(&protocols).context("the token has characters that no token has")?;
    protocols.set_sensitive(true);
    // A page that this door serves is what joins in a browser.
    let origin = HeaderValue::from_str(&ticket.door.origin().ascii_serialization())?;
    open_socket(&url, protocols, Some(origin), tls).await
}

/// Opens the WebSocket of a Janus.
pub async fn open_janus(url: &Url, tls: Arc<rustls::ClientConfig>) -> anyhow::Result<SignalSocket> {
    open_socket(url, HeaderValue::from_static(janus::SUBPROTOCOL), None, tls).await
}

async fn open_socket(
    url: &Url,
    protocols: HeaderValue,
    origin: Option<HeaderValue>,
    tls: Arc<rustls::ClientConfig>,
) -> anyhow::Result<SignalSocket> {
    let mut request = url.as_str().into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocols);
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", origin);
    }
    let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).read_buffer_size(READ_BYTES);
    let connect =
        tokio_tungstenite::connect_async_tls_with_config(request, Some(limits), true, Some(Connector::Rustls(tls)));
    let (socket, _) = tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .with_context(|| format!("{url} did not answer within {CONNECT_TIMEOUT:?}"))?
        .with_context(|| format!("cannot open {url}"))?;
    Ok(socket)
}

/// The client's end of a socket that is carried. The socket is closed when this is dropped.
pub(super) struct Line {
    says: mpsc::Sender<String>,
    carrying: JoinHandle<()>,
}

impl Line {
    /// Carries a socket; what is heard becomes events.
    pub(super) fn new(socket: SignalSocket, events: mpsc::Sender<Event>) -> Self {
        let (says, said) = mpsc::channel(OUT_QUEUE);
        Self { says, carrying: tokio::spawn(carry(socket, said, events)) }
    }

    /// Says something; false if the server has long taken nothing. A socket that has failed tells so by an event. Nobody waits
    /// here: the task may be waiting for the client.
    pub(super) fn say(&self, text: String) -> bool {
        !matches!(self.says.try_send(text), Err(TrySendError::Full(_)))
    }

    /// Closes the socket behind what was said.
    pub(super) async fn close(self) {
        drop(self.says);
        // A panic in it is printed by itself.
        let _ = self.carrying.await;
    }
}

async fn carry(mut socket: SignalSocket, mut said: mpsc::Receiver<String>, events: mpsc::Sender<Event>) {
    let why = loop {
        tokio::select! {
            text = said.recv() => match text {
                // A socket that fails says so when it is read.
                Some(text) => drop(socket.send(Message::text(text)).await),
                None => return drop(socket.close(None).await),
            },
            message = socket.next() => match heard(message) {
                Ok(Some(event)) => drop(events.send(event).await),
                Ok(None) => {}
                Err(why) => break why,
            },
        }
    };
    // Nobody listens once the client is gone.
    let _ = events.send(Event::SignallingClosed(why)).await;
}

/// What a message tells; an error if the socket is closed.
fn heard(message: Option<Result<Message, Error>>) -> Result<Option<Event>, String> {
    match message {
        Some(Ok(Message::Text(text))) => Ok(Some(Event::Heard(text))),
        Some(Ok(Message::Close(frame))) => Err(frame.map_or_else(String::new, |frame| frame.reason.to_string())),
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("no reason given".into()),
    }
}
