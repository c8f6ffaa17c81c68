//! Who asks: the client's address and place, through proxies that are trusted and only through those.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, request::Parts},
};
use ipnet::IpNet;
use isthmus_directory::Place;

use crate::door::Door;

/// A client, as far as its connection tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Caller {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Where a trusted proxy says it is.
    pub(crate) place: Option<Place>,
}

impl Caller {
    /// Reads the headers of a request that came from `peer`. Headers of a peer that is no trusted proxy say nothing.
    pub(crate) fn new(peer: IpAddr, headers: &HeaderMap, proxies: Proxies<'_>) -> Self {
        let peer = peer.to_canonical();
        if !proxies.trust(&peer) {
            return Self { address: peer, place: None };
        }
        let forwarded = || {
            // Each proxy appends who it was asked by. So the list is read from its end: the first address there that is
            // no proxy of ours is the client, and what stands before it the client may have made up.
            let lines = headers.get_all("x-forwarded-for").iter().rev();
            let entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
            entries.map_while(hop).find(|address| !proxies.trust(address))
        };
        if proxies.cloudfront {
            let viewer = text(headers, "cloudfront-viewer-address").and_then(viewer_address);
            Self { address: viewer.or_else(forwarded).unwrap_or(peer), place: viewer_place(headers) }
        } else {
            Self { address: forwarded().unwrap_or(peer), place: None }
        }
    }
}

/// What stands between clients and the door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxies<'a> {
    /// Networks of the proxies.
    pub(crate) trusted: &'a [IpNet],
    /// Whether CloudFront is the outermost of them: others hand on the viewer headers that a client sent.
    pub(crate) cloudfront: bool,
}

impl Proxies<'_> {
    /// Whether `address` is a proxy's.
    pub(crate) fn trust(&self, address: &IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

impl FromRequestParts<Arc<Door>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Infallible> {
        // The listener always adds the peer's address; a test that calls the router without one is nobody.
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
        Ok(Self::new(peer, &parts.headers, door.config.proxies()))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// One entry of `X-Forwarded-For`: an address, perhaps with a port.
fn hop(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let address = entry.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// CloudFront writes `address:port`, IPv6 without brackets.
fn viewer_address(value: &str) -> Option<IpAddr> {
    let (address, _port) = value.trim().rsplit_once(':')?;
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn viewer_place(headers: &HeaderMap) -> Option<Place> {
    Place::parse(text(headers, "cloudfront-viewer-latitude")?, text(headers, "cloudfront-viewer-longitude")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn caller(peer: &str, headers: &[(&str, &str)]) -> Caller {
        behind(true, peer, headers)
    }

    fn behind(cloudfront: bool, peer: &str, headers: &[(&str, &str)]) -> Caller {
        let headers = headers.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a header name");
            (name, HeaderValue::from_str(value).expect("a header value"))
        });
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let proxies = Proxies { trusted: &trusted, cloudfront };
        Caller::new(peer.parse().expect("an address"), &headers.collect(), proxies)
    }

    fn address(peer: &str, headers: &[(&str, &str)]) -> String {
        caller(peer, headers).address.to_string()
    }

    #[test]
    fn headers_of_strangers_are_not_believed() {
        let headers = [
            ("x-forwarded-for", "192.0.2.1"),
            ("cloudfront-viewer-address", "192.0.2.2:1"),
            ("cloudfront-viewer-latitude", "9"),
            ("cloudfront-viewer-longitude", "-79"),
        ];
        let stranger = caller("203.0.113.9", &headers);
        assert_eq!((stranger.address.to_string().as_str(), stranger.place), ("203.0.113.9", None));
        assert!(caller("10.1.1.1", &headers).place.is_some());
    }

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_is_the_client() {
        assert_eq!(address("10.1.1.1", &[("x-forwarded-for", "198.51.100.1, 192.0.2.7, 10.2.2.2")]), "192.0.2.7");
        assert_eq!(address("10.1.1.1", &[("x-forwarded-for", "192.0.2.7:4711")]), "192.0.2.7");
        assert_eq!(address("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(address("::ffff:10.1.1.1", &[("x-forwarded-for", "192.0.2.7")]), "192.0.2.7");
        assert_eq!(address("10.1.1.1", &[("x-forwarded-for", "rubbish")]), "10.1.1.1");
        let lines = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-for", "10.2.2.2")];
        assert_eq!(address("10.1.1.1", &lines), "192.0.2.7", "several lines are one list (RFC 9110 section 5.3)");
    }

    #[test]
    fn what_a_client_writes_before_its_own_address_does_not_hide_it() {
        for made_up in ["198.51.100.7, x", "x", "198.51.100.7, ", "198.51.100.7, unknown, 10.2.2.2"] {
            let list = format!("{made_up}, 203.0.113.9");
            assert_eq!(address("10.1.1.1", &[("x-forwarded-for", &list)]), "203.0.113.9", "{list}");
            let lines = [("x-forwarded-for", made_up), ("x-forwarded-for", "203.0.113.9")];
            assert_eq!(address("10.1.1.1", &lines), "203.0.113.9", "{lines:?}");
        }
        // What a proxy of ours wrote itself and is no address hides everything before it.
        assert_eq!(address("10.1.1.1", &[("x-forwarded-for", "198.51.100.7, unknown, 10.2.2.2")]), "10.1.1.1");
    }

    #[test]
    fn cloudfront_says_it_more_surely() {
        let viewer =
            |value| address("10.1.1.1", &[("cloudfront-viewer-address", value), ("x-forwarded-for", "192.0.2.7")]);
        assert_eq!(viewer("198.51.100.10:46532"), "198.51.100.10");
        assert_eq!(viewer("2001:db8::7:46532"), "2001:db8::7");
        assert_eq!(viewer("rubbish"), "192.0.2.7");
    }

    /// A load balancer or nginx appends to `X-Forwarded-For` and hands on all else as the client sent it.
    #[test]
    fn without_cloudfront_its_headers_are_a_clients_own() {
        let headers = [
            ("cloudfront-viewer-address", "198.51.100.10:1"),
            ("cloudfront-viewer-latitude", "9"),
            ("cloudfront-viewer-longitude", "-79"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        let told = behind(false, "10.1.1.1", &headers);
        assert_eq!((told.address.to_string().as_str(), told.place), ("192.0.2.7", None));
    }

    #[test]
    fn a_place_off_the_earth_is_no_place() {
        let place = |latitude, longitude| {
            caller("10.1.1.1", &[("cloudfront-viewer-latitude", latitude), ("cloudfront-viewer-longitude", longitude)])
                .place
        };
        assert!(place("8.98", "-79.52").is_some());
        for (latitude, longitude) in [("91", "0"), ("NaN", "0"), ("inf", "0"), ("x", "0")] {
            assert!(place(latitude, longitude).is_none(), "{latitude}");
        }
    }
}
