//! The way of one client into a room, for every kind of server: requests, signalling socket, media socket, and the client with
//! its IO at the end.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the phases of joining")]

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context as _, bail};
use reqwest::Url;
use tokio::net::UdpSocket;

use super::{
    drive::{Driver, Link, media_socket, open_janus, open_signalling},
    join::{Doors, JoinOptions},
    media::Library,
    session::{Client, ClientConfig, PhaseTimes},
    signalling::{Signalling, isthmus, janus, whip},
};

/// Where and how a client joins.
#[derive(Debug, Clone)]
pub enum Entry {
    /// By an Isthmus door.
    Isthmus(JoinOptions),
    /// By Janus's WebSocket.
    Janus {
        /// Such as `ws://127.0.0.1:8188`.
        url: Url,
        /// Which room, and as what.
        options: janus::Options,
    },
    /// By one exchange over HTTP.
    Whip {
        /// The WHIP or WHEP endpoint of the room.
        endpoint: whip::Endpoint,
        /// Asks an Isthmus door there for a guest's token, which is the endpoint's then.
        guests: Option<Url>,
        /// Whether someone publishes in the room.
        others_published: bool,
    },
}

impl Entry {
    /// Enters. `seen` is shown the media socket as soon as it is there.
    pub async fn enter(
        &self,
        doors: &Doors,
        config: ClientConfig,
        library: Library,
        seen: impl FnOnce(&UdpSocket),
    ) -> anyhow::Result<Driver> {
        match self {
            Self::Isthmus(options) => isthmus_driver(doors, options, config, library, seen).await,
            Self::Janus { url, options } => janus_driver(doors, url, options, config, library, seen).await,
            Self::Whip { endpoint, guests, others_published } => {
                let dialogue = whip::Dialogue { others_published: *others_published };
                whip_driver(doors, endpoint, guests.as_ref(), dialogue, config, library, seen).await
            }
        }
    }
}

async fn isthmus_driver(
    doors: &Doors,
    options: &JoinOptions,
    config: ClientConfig,
    library: Library,
    seen: impl FnOnce(&UdpSocket),
) -> anyhow::Result<Driver> {
    let mut ticket = doors.join(options).await?;
    let socket = open_signalling(&ticket, doors.tls()).await?;
    ticket.times.socket = Some(Instant::now());
    let udp = media(&ticket.door, seen).await?;
    let signalling = Signalling::Isthmus(isthmus::Dialogue::new(ticket.pop, ticket.probes));
    let client = Client::new(config, library, signalling, ticket.times, Some(udp.1), Instant::now())?;
    Ok(Driver::new(client, Link::Socket(Box::new(socket)), Some(udp)))
}

async fn janus_driver(
    doors: &Doors,
    url: &Url,
    options: &janus::Options,
    config: ClientConfig,
    library: Library,
    seen: impl FnOnce(&UdpSocket),
) -> anyhow::Result<Driver> {
    let mut times = PhaseTimes::begin(Instant::now());
    let socket = open_janus(url, doors.tls()).await?;
    times.socket = Some(Instant::now());
    let udp = media(url, seen).await?;
    let signalling = Signalling::Janus(janus::Dialogue::new(options.clone()));
    let client = Client::new(config, library, signalling, times, Some(udp.1), Instant::now())?;
    Ok(Driver::new(client, Link::Socket(Box::new(socket)), Some(udp)))
}

async fn whip_driver(
    doors: &Doors,
    endpoint: &whip::Endpoint,
    guests: Option<&Url>,
    dialogue: whip::Dialogue,
    config: ClientConfig,
    library: Library,
    seen: impl FnOnce(&UdpSocket),
) -> anyhow::Result<Driver> {
    let mut times = PhaseTimes::begin(Instant::now());
    let mut endpoint = endpoint.clone();
    if let Some(guests) = guests {
        endpoint.token = Some(doors.guest_token(guests.clone(), &config.name).await?);
        times.token = Some(Instant::now());
    }
    let udp = media(&endpoint.url, seen).await?;
    let signalling = Signalling::Whip(dialogue);
    let mut client = Client::new(config, library, signalling, times, Some(udp.1), Instant::now())?;
    let Some(offer) = client.offer() else { bail!("a client that neither sends nor receives has nothing to offer") };
    let (answer, session) = endpoint.begin(doors.http(), offer).await?;
    client.handle_answer(Instant::now(), &answer).with_context(|| format!("{} answered", endpoint.url))?;
    Ok(Driver::new(client, Link::Http(session), Some(udp)))
}

async fn media(server: &Url, seen: impl FnOnce(&UdpSocket)) -> anyhow::Result<(UdpSocket, SocketAddr)> {
    let (socket, address) = media_socket(server).await?;
    seen(&socket);
    Ok((socket, address))
}
