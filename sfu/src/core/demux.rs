//! Which client a datagram is of.
//!
//! A STUN request names its session by the local ICE user fragment. Everything else (DTLS, RTP, RTCP) is taken only
//! from an address from which an integrity-checked STUN request of that session has come: an address alone proves
//! nothing, and a forged `ClientHello` must not reach a handshake (facts: CVE-2023-49786).

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use str0m::ice::StunMessage;

use super::room::ClientKey;

/// The most validated addresses of one client. Browsers use one or two at a time; the oldest is forgotten.
const MAX_ADDRESSES: usize = 8;

/// Why a datagram belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// Not STUN, and from an address that no session has validated.
    UnvalidatedAddress,
    /// STUN without a user name, or for a session that is not here.
    UnknownSession,
    /// Looks like STUN and is not.
    MalformedStun,
}

/// Whom a datagram goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A STUN message of this session; if the session takes it, the address is to be [validated](Demux::validate).
    Stun(ClientKey),
    /// DTLS, RTP or RTCP from a validated address.
    Media(ClientKey),
}

#[derive(Debug, Default)]
struct Routes {
    user_fragment: String,
    addresses: Vec<SocketAddr>,
}

/// The table of sessions and validated addresses of one socket.
#[derive(Debug, Default)]
pub struct Demux {
    by_fragment: FxHashMap<String, ClientKey>,
    by_address: FxHashMap<SocketAddr, ClientKey>,
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

    /// An integrity-checked STUN message of `client` came from `address`. Another session at that address loses it.
    pub fn validate(&mut self, client: ClientKey, address: SocketAddr) {
        match self.by_address.insert(address, client) {
            Some(former) if former == client => return,
            Some(former) => {
                if let Some(routes) = self.routes.get_mut(&former) {
                    routes.addresses.retain(|a| *a != address);
                }
            }
            None => {}
        }
        let routes = self.routes.entry(client).or_default();
        if routes.addresses.len() == MAX_ADDRESSES {
            let oldest = routes.addresses.remove(0);
            self.by_address.remove(&oldest);
        }
        routes.addresses.push(address);
    }

    /// Whether `address` is validated for `client`.
    pub fn is_validated(&self, client: ClientKey, address: SocketAddr) -> bool {
        self.by_address.get(&address) == Some(&client)
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
    pub fn route(&self, source: SocketAddr, datagram: &[u8]) -> Result<Destination, Stray> {
        // RFC 7983: first byte 0 to 3 is STUN.
        let looks_like_stun = datagram.first().is_some_and(|first| *first < 4);
        if !looks_like_stun {
            return self.by_address.get(&source).copied().map(Destination::Media).ok_or(Stray::UnvalidatedAddress);
        }
        let message = StunMessage::parse(datagram).map_err(|_| Stray::MalformedStun)?;
        let (local, _) = message.split_username().ok_or(Stray::UnknownSession)?;
        self.by_fragment.get(local).copied().map(Destination::Stun).ok_or(Stray::UnknownSession)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn media_is_taken_only_from_validated_addresses() {
        let mut demux = Demux::default();
        let client = ClientKey(1);
        demux.set_user_fragment(client, "abcd");
        let rtp = [0x80u8; 40];
        assert_eq!(demux.route(address(1), &rtp), Err(Stray::UnvalidatedAddress));
        demux.validate(client, address(1));
        assert_eq!(demux.route(address(1), &rtp), Ok(Destination::Media(client)));
        assert_eq!(demux.route(address(2), &rtp), Err(Stray::UnvalidatedAddress));
        demux.remove(client);
        assert_eq!(demux.route(address(1), &rtp), Err(Stray::UnvalidatedAddress));
    }

    #[test]
    fn an_address_belongs_to_one_session_and_a_session_has_few() {
        let mut demux = Demux::default();
        for port in 1..=20 {
            demux.validate(ClientKey(1), address(port));
        }
        let valid = (1..=20).filter(|port| demux.is_validated(ClientKey(1), address(*port))).count();
        assert_eq!(valid, MAX_ADDRESSES);
        demux.validate(ClientKey(2), address(20));
        assert!(!demux.is_validated(ClientKey(1), address(20)));
        demux.remove(ClientKey(1));
        assert!(demux.is_validated(ClientKey(2), address(20)));
    }

    proptest! {
        #[test]
        fn rubbish_belongs_to_nobody(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            let demux = Demux::default();
            prop_assert!(demux.route(address(9), &datagram).is_err());
        }
    }
}
