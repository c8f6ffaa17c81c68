//! The door's part of the configuration file.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use isthmus_directory::Place;
use isthmus_protocol::{NodeId, PopId, token};
use serde::{Deserialize, Serialize};

pub use crate::{accounts::MailConfig, limits::Allowance};
use crate::{caller::Proxies, origin};

/// Everything a door can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port of the public HTTP (or HTTPS) listener.
    pub listen: SocketAddr,
    /// Address and port of the operators' HTTP listener. Never public: it has no authentication.
    pub ops_listen: SocketAddr,
    /// Origin under which clients reach this door: `https://panama.example.org`.
    pub public_url: String,
    /// The PoP this is a door of.
    pub pop: PopId,
    /// The region the PoP stands in, for people: `Panama City, Panama`.
    pub region: String,
    /// Where the PoP stands, in degrees, for callers of whose network nothing is known yet.
    pub latitude: Option<f64>,
    /// With `latitude`.
    pub longitude: Option<f64>,
    /// File of the address-to-region table ([`isthmus_directory::Places`]), for callers whose place no proxy tells.
    pub places: Option<PathBuf>,
    /// The PoP's media nodes. All doors of a PoP are told the same ones.
    pub nodes: Vec<MediaNode>,
    /// Local address of the QUIC socket towards the media nodes.
    #[serde(default = "any_port")]
    pub relay_bind: SocketAddr,
    /// Origins whose pages may call this door, besides `public_url`: the app's and the other PoPs'.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// Origins of the PoPs' doors, which the web app may connect to. PoPs the directory knows are added.
    #[serde(default)]
    pub pop_origins: Vec<String>,
    /// Certificate of the public listener. Without it the listener speaks plain HTTP, for development or behind a
    /// proxy that ends TLS.
    pub tls: Option<Tls>,
    /// Folder of the built web app. Without it the door serves the API alone.
    pub web_root: Option<PathBuf>,
    /// Which room tokens are accepted.
    pub tokens: Tokens,
    /// Tokens for people who have a link and no account.
    #[serde(default)]
    pub guests: Guests,
    /// Accounts. Without them whoever has a link is a guest.
    pub accounts: Option<Accounts>,
    /// Limits per network and in total.
    #[serde(default)]
    pub limits: Limits,
    /// Networks of proxies (a CDN, a load balancer) whose `X-Forwarded-For` is believed. From anyone else it is
    /// ignored. A proxy that is missing here counts as one client, with one client's limits.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Whether every request that comes by a trusted proxy came through CloudFront, which alone sets the
    /// `CloudFront-Viewer-*` headers: any other proxy hands them on as the client sent them. Then they are believed,
    /// before `X-Forwarded-For`.
    #[serde(default)]
    pub cloudfront: bool,
    /// Seconds that clients are given to move when the door drains.
    #[serde(default = "default_drain_deadline_s")]
    pub drain_deadline_s: u32,
    /// What only a development cluster may do. Leave out in production.
    pub development: Option<Development>,
}

/// A media node of the PoP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediaNode {
    /// Its id, as in its certificate.
    pub id: NodeId,
    /// Address and UDP port of its QUIC listener.
    pub address: SocketAddr,
}

/// Files of the public listener's certificate, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, the door's own first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Room tokens ([`isthmus_protocol::token`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// The issuer (`iss`) that tokens must name.
    pub issuer: String,
    /// Keys that may have signed them. More than one while keys are exchanged.
    pub trusted: Vec<TrustedKey>,
    /// The key this PoP signs with, for guests and for `isthmus token`.
    pub signing: Option<SigningKey>,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// The `kid` that names it in tokens.
    pub id: String,
    /// PEM file of the Ed25519 public key.
    pub public_key: PathBuf,
}

/// A private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// The `kid` that names it in tokens.
    pub id: String,
    /// PEM file of the Ed25519 private key (PKCS#8).
    pub private_key: PathBuf,
}

/// Guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guests {
    /// Whether `POST /v1/rooms/{room}/guests` gives tokens to anyone who asks.
    pub allowed: bool,
    /// Seconds a guest's token is valid. A call that lasts longer goes on; joining again and resuming need a valid one,
    /// and clients renew theirs in time.
    pub token_ttl_s: u32,
}

impl Default for Guests {
    fn default() -> Self {
        Self { allowed: false, token_ttl_s: 6 * 3600 }
    }
}

/// Accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// The PoP that writes them while it is there. The same for all doors.
    pub home: PopId,
    /// Origin of the web app, which links in mails lead to. Without it: `public_url`.
    pub app_url: Option<String>,
    /// How mails are sent.
    pub mail: MailConfig,
}

/// Limits. Those per network count an IPv4 address or an IPv6 /64 as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests of any kind, files of the app included, per network.
    pub requests: Allowance,
    /// Joins (signalling sockets, WHIP and WHEP offers), per network. An office behind one address joins together.
    pub joins: Allowance,
    /// Guest tokens, per network.
    pub guests: Allowance,
    /// Requests about accounts that come before anybody is signed in, per network.
    pub accounts: Allowance,
    /// Latency reports, per network.
    pub measurements: Allowance,
    /// Messages of one signalling socket.
    pub messages: Allowance,
    /// Reports on networks of which nothing was measured yet, all together: each costs a record that lives for a day,
    /// and of networks there are as many as somebody cares to use. More are dropped.
    pub new_networks: Allowance,
    /// Signalling sockets open at once; more are refused with `unavailable`.
    pub sockets: u32,
    /// Signalling sockets open at once, per network; more are refused with `rate_limited`.
    pub sockets_per_network: u32,
    /// Connections open at once that are no signalling sockets; more are closed.
    pub connections: u32,
    /// Connections open at once that are no signalling sockets, per network; more are closed. A trusted proxy may have
    /// as many as it likes.
    pub connections_per_network: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: Allowance::new(1000, 200),
            joins: Allowance::new(100, 5),
            guests: Allowance::new(60, 2),
            accounts: Allowance::new(30, 1),
            measurements: Allowance::new(60, 1),
            messages: Allowance::new(120, 30),
            new_networks: Allowance::new(500, 5),
            sockets: 20_000,
            sockets_per_network: 200,
            connections: 20_000,
            connections_per_network: 1_000,
        }
    }
}

/// Development only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Development {
    /// Places that `?as-if=` may name.
    #[serde(default)]
    pub as_if: Vec<AsIf>,
}

/// A place a developer can pretend to be in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AsIf {
    /// Its name in URLs: `bogota`.
    pub name: String,
    /// Its name for people: `Bogotá`.
    pub label: String,
    /// The network prefix that stands for it in the directory, from a range for documentation (RFC 5737).
    pub prefix: IpNet,
    /// The round trip from there to each PoP, in milliseconds. Probes are delayed by it.
    pub rtt_ms: BTreeMap<PopId, f64>,
}

/// The longest round trip a place may have, in milliseconds.
const MAX_AS_IF_RTT_MS: f64 = 2_000.0;

fn any_port() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

const fn default_drain_deadline_s() -> u32 {
    60
}

impl Config {
    /// Where the PoP stands, if both degrees are told and are on Earth.
    pub fn place(&self) -> Option<Place> {
        Place::new(self.latitude?, self.longitude?).ok()
    }

    /// Whose headers are believed.
    pub(crate) fn proxies(&self) -> Proxies<'_> {
        Proxies { trusted: &self.trusted_proxies, cloudfront: self.cloudfront }
    }

    /// Everything that is wrong with the configuration beyond its syntax, each with the key it is about.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let own = [("public_url", &self.public_url)].into_iter();
        let allowed = self.allowed_origins.iter().map(|origin| ("allowed_origins", origin));
        let pops = self.pop_origins.iter().map(|origin| ("pop_origins", origin));
        errors.extend(own.chain(allowed).chain(pops).filter_map(|(key, text)| {
            let error = origin::normal_form(text).err()?;
            Some(format!("{key}: {error}"))
        }));
        if self.place().is_none() && (self.latitude.is_some() || self.longitude.is_some()) {
            errors.push("latitude: -90 to 90 degrees, together with a longitude of -180 to 180".to_owned());
        }
        if self.nodes.is_empty() {
            errors.push("nodes: a door needs at least one media node of its PoP".to_owned());
        }
        if self.cloudfront && self.trusted_proxies.is_empty() {
            errors.push("cloudfront: its networks must stand in trusted_proxies".to_owned());
        }
        let ids: BTreeSet<_> = self.nodes.iter().map(|node| &node.id).collect();
        if ids.len() < self.nodes.len() {
            errors.push("nodes: each id may stand there once".to_owned());
        }
        self.token_errors(&mut errors);
        self.development_errors(&mut errors);
        errors
    }

    fn token_errors(&self, errors: &mut Vec<String>) {
        if self.tokens.trusted.is_empty() {
            errors.push("tokens.trusted: without a key nobody can join".to_owned());
        }
        if self.guests.allowed && self.tokens.signing.is_none() {
            errors.push("guests.allowed: guest tokens need tokens.signing".to_owned());
        }
        if self.accounts.is_some() && self.tokens.signing.is_none() {
            errors.push("accounts: signing in needs tokens.signing".to_owned());
        }
        if self.guests.allowed && u64::from(self.guests.token_ttl_s) <= token::LEEWAY_S {
            errors.push(format!("guests.token_ttl_s: must be above {} s", token::LEEWAY_S));
        }
    }

    fn development_errors(&self, errors: &mut Vec<String>) {
        for place in self.development.iter().flat_map(|development| &development.as_if) {
            match place.rtt_ms.get(&self.pop) {
                Some(rtt) if (0.0..=MAX_AS_IF_RTT_MS).contains(rtt) => {}
                Some(_) => errors.push(format!(
                    "development.as_if.{}: a round trip must be from 0 to {MAX_AS_IF_RTT_MS} ms",
                    place.name
                )),
                None => errors.push(format!("development.as_if.{}: says no rtt_ms to {}", place.name, self.pop)),
            }
        }
    }
}
