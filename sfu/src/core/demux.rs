//! Which client a datagram is of.
//!
//! A STUN request names its session by the local ICE user fragment. Everything else (DTLS, RTP, RTCP) is taken only
//! from an address from which an integrity-checked STUN request of that session has come: an address alone proves
//! nothing, and a forged `ClientHello` must not reach a handshake (facts: CVE-2023-49786).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use str0m::ice::StunMessage;

use super::{allowance::Allowance, contained::contained, room::ClientKey};

/// The most validated addresses of one client. Browsers use one or two at a time and check from a few more; the oldest is
/// forgotten.
const MAX_ADDRESSES: usize = 32;
/// From how many new addresses a client may check: ICE keeps each, so that without a bound one client could have the
/// thread do nothing else.
const NEW_ADDRESSES: Allowance = Allowance::new(MAX_ADDRESSES as u32, Duration::from_secs(1));
/// An address stays with the session that checked it less than this long ago, twice the time between checks of consent
/// (RFC 7675): a forged source address does not take it over.
const OWNED_FOR: Duration = Duration::from_secs(10);

/// Why a datagram belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// Not STUN, and from an address that no session has validated.
    UnvalidatedAddress,
    /// STUN without a user name, or for a session that is not here.
    UnknownSession,
    /// Looks like STUN and is not.
    MalformedStun,
    /// STUN from yet another address of a session that has checked from too many.
    TooManyAddresses,
}

/// Whom a datagram goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A STUN message of this session; if the session takes it, the address is to be [validated](Demux::validate).
    Stun {
        /// The session.
        client: ClientKey,
        /// The client wants media sent to where it came from (RFC 8445 section 7.1.2).
        nominates: bool,
    },
    /// DTLS, RTP or RTCP from a validated address.
    Media(ClientKey),
}

#[derive(Debug)]
struct Routes {
    user_fragment: String,
    addresses: Vec<SocketAddr>,
    new_addresses: Allowance,
}

impl Default for Routes {
    fn default() -> Self {
        Self { user_fragment: String::new(), addresses: Vec::new(), new_addresses: NEW_ADDRESSES }
    }
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    client: ClientKey,
    /// When it last checked the address.
    checked: Instant,
}

/// The table of sessions and validated addresses of one socket.
#[derive(Debug, Default)]
pub struct Demux {
    by_fragment: FxHashMap<String, ClientKey>,
    by_address: FxHashMap<SocketAddr, Owner>,
    routes: FxHashMap<ClientKey, Routes>,
}

impl Demux {
    /// A session's local user fragment, at its start and after an ICE restart. Addresses stay valid through a restart.
    pub fn set_user_fragment(&mut self, client: ClientKey, fragment: &str) {
        let routes = self.routes.entry(client).or_default();
        if routes.user_fragment == fragment {
            return;
        }
        self.by_fragment.remove(&routes.user_fragment);
        fragment.clone_into(&mut routes.user_fragment);
        self.by_fragment.insert(fragment.to_owned(), client);
    }

    /// An integrity-checked STUN message of `client` came from `address`. Whether it is the client's now; another session
    /// there loses it if it has not checked it lately.
    pub fn validate(&mut self, client: ClientKey, address: SocketAddr, now: Instant) -> bool {
        let former = self.by_address.get(&address).copied();
        let is_fresh = |owner: Owner| now.saturating_duration_since(owner.checked) < OWNED_FOR;
        if former.is_some_and(|owner| owner.client != client && is_fresh(owner)) {
            return false;
        }
        self.by_address.insert(address, Owner { client, checked: now });
        if former.is_some_and(|owner| owner.client == client) {
            return true;
        }
        if let Some(routes) = former.and_then(|owner| self.routes.get_mut(&owner.client)) {
            routes.addresses.retain(|a| *a != address);
        }
        let routes = self.routes.entry(client).or_default();
        if routes.addresses.len() == MAX_ADDRESSES {
            let oldest = routes.addresses.remove(0);
            self.by_address.remove(&oldest);
        }
        routes.addresses.push(address);
        true
    }

    /// Whether `address` is validated for `client`.
    pub fn is_validated(&self, client: ClientKey, address: SocketAddr) -> bool {
        self.by_address.get(&address).is_some_and(|owner| owner.client == client)
    }

    /// The addresses that are validated for `client`.
    pub fn addresses(&self, client: ClientKey) -> &[SocketAddr] {
        self.routes.get(&client).map_or(&[], |routes| &routes.addresses)
    }

    /// The session is gone.
    pub fn remove(&mut self, client: ClientKey) {
        if let Some(routes) = self.routes.remove(&client) {
            self.by_fragment.remove(&routes.user_fragment);
            for address in routes.addresses {
                self.by_address.remove(&address);
            }
        }
    }

    /// Whom `datagram` from `source` goes to.
    pub fn route(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) -> Result<Destination, Stray> {
        // RFC 7983: first byte 0 to 3 is STUN.
        let looks_like_stun = datagram.first().is_some_and(|first| *first < 4);
        if !looks_like_stun {
            let owner = self.by_address.get(&source).ok_or(Stray::UnvalidatedAddress)?;
            return Ok(Destination::Media(owner.client));
        }
        let parsed = contained(|| StunMessage::parse(datagram)).and_then(Result::ok);
        let message = parsed.ok_or(Stray::MalformedStun)?;
        let (local, _) = message.split_username().ok_or(Stray::UnknownSession)?;
        let client = *self.by_fragment.get(local).ok_or(Stray::UnknownSession)?;
        let routes = self.routes.entry(client).or_default();
        if !routes.addresses.contains(&source) && !routes.new_addresses.take(now) {
            return Err(Stray::TooManyAddresses);
        }
        Ok(Destination::Stun { client, nominates: message.use_candidate() })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn media_is_taken_only_from_validated_addresses() {
        let (mut demux, now) = (Demux::default(), Instant::now());
        let client = ClientKey(1);
        demux.set_user_fragment(client, "abcd");
        let rtp = [0x80u8; 40];
        assert_eq!(demux.route(address(1), &rtp, now), Err(Stray::UnvalidatedAddress));
        assert!(demux.validate(client, address(1), now));
        assert_eq!(demux.route(address(1), &rtp, now), Ok(Destination::Media(client)));
        assert_eq!(demux.route(address(2), &rtp, now), Err(Stray::UnvalidatedAddress));
        demux.remove(client);
        assert_eq!(demux.route(address(1), &rtp, now), Err(Stray::UnvalidatedAddress));
    }

    #[test]
    fn an_address_belongs_to_one_session_and_a_session_has_few() {
        let (mut demux, now) = (Demux::default(), Instant::now());
        for port in 1..=100 {
            demux.validate(ClientKey(1), address(port), now);
        }
        let valid = (1..=100).filter(|port| demux.is_validated(ClientKey(1), address(*port))).count();
        assert_eq!(valid, MAX_ADDRESSES);
        let later = now + OWNED_FOR;
        assert!(demux.validate(ClientKey(2), address(100), later));
        assert!(!demux.is_validated(ClientKey(1), address(100)));
        demux.remove(ClientKey(1));
        assert!(demux.is_validated(ClientKey(2), address(100)));
    }

    #[test]
    fn an_address_in_use_is_not_taken_over() {
        let (mut demux, start) = (Demux::default(), Instant::now());
        assert!(demux.validate(ClientKey(1), address(1), start));
        let mut now = start;
        for _ in 0..20 {
            now += Duration::from_secs(1);
            assert!(!demux.validate(ClientKey(2), address(1), now));
            assert!(demux.validate(ClientKey(1), address(1), now), "checks of consent keep it");
        }
        demux.remove(ClientKey(1));
        assert!(demux.validate(ClientKey(2), address(1), now), "free once its session is gone");
    }

    /// A binding request (RFC 8489 section 5) with this user name, a priority, and an integrity that is none.
    fn check(user_name: [u8; 8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend([0, 6, 0, 8]);
        message.extend(user_name);
        message.extend([0, 0x24, 0, 4, 1, 1, 1, 1]);
        message.extend([0, 8, 0, 20]);
        message.extend([0; 20]);
        message
    }

    #[test]
    fn checks_from_ever_new_addresses_are_not_passed_on() {
        let (mut demux, now) = (Demux::default(), Instant::now());
        let client = ClientKey(1);
        demux.set_user_fragment(client, "abcd");
        demux.validate(client, address(9), now);
        let request = check(*b"abcd:xyz");
        let passed = (1_000..6_000).filter(|port| demux.route(address(*port), &request, now).is_ok()).count();
        assert_eq!(passed, MAX_ADDRESSES);
        assert_eq!(
            demux.route(address(9), &request, now),
            Ok(Destination::Stun { client, nominates: false }),
            "the known one goes on"
        );
        assert_eq!(demux.route(address(999), &check(*b"zzzz:xyz"), now), Err(Stray::UnknownSession));
    }

    proptest! {
        #[test]
        fn rubbish_belongs_to_nobody(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut demux = Demux::default();
            prop_assert!(demux.route(address(9), &datagram, Instant::now()).is_err());
        }
    }
}
