//! Which web pages may talk to this door (RFC 6454).
//!
//! A browser says with `Origin` which page asks. An origin that is not on the list is refused on every `/v1` path,
//! the WebSocket included: CORS alone would not stop a foreign page from opening one. Programs that are no browsers
//! send no `Origin`; the token protects against those.

use std::{collections::BTreeSet, net::Ipv6Addr};

use axum::http::Uri;

/// Why a configured origin cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin: write `https://host` or `https://host:port`, without a path")]
pub struct InvalidOrigin(String);

/// The origins that may.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins(BTreeSet<String>);

impl Origins {
    /// Reads the configured list.
    pub(crate) fn new<'a>(configured: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidOrigin> {
        configured.into_iter().map(normal_form).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request with this `Origin` header is served. Compared byte by byte: browsers send the normal form.
    pub(crate) fn allow(&self, origin: &[u8]) -> bool {
        std::str::from_utf8(origin).is_ok_and(|origin| self.0.contains(origin))
    }
}

/// An origin as browsers write it: lower case, without the scheme's own port (RFC 6454 section 6.2).
pub(crate) fn normal_form(text: &str) -> Result<String, InvalidOrigin> {
    let invalid = || InvalidOrigin(text.to_owned());
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| invalid())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(invalid()) };
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err(invalid()),
    };
    if uri.path().len() > 1 || uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty()
    {
        return Err(invalid());
    }
    let host = authority.host().to_ascii_lowercase();
    if !is_plain_host(&host) {
        return Err(invalid());
    }
    Ok(match authority.port_u16().filter(|port| *port != own_port) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// A name or an address, of the characters that these have. A URI's authority may have more (RFC 3986 section 3.2.2),
/// among them `;` and `,`, with which an origin would write directives of its own into a Content-Security-Policy.
fn is_plain_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would write a directive, a policy or a source of its own into a Content-Security-Policy.
    const INTO_A_POLICY: [&str; 7] = [
        "https://evil.example;script-src-elem",
        "https://evil.example,default-src",
        "https://evil.example'unsafe-inline'",
        "https://*.example",
        "https://a_b$c.example",
        "https://[::1;script-src]",
        "https://[v1.a;b]",
    ];

    #[test]
    fn configured_origins_take_the_form_browsers_send() {
        for (text, wanted) in [
            ("https://Call.Example.org", "https://call.example.org"),
            ("https://call.example.org:443/", "https://call.example.org"),
            ("http://localhost:7100", "http://localhost:7100"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(normal_form(text).as_deref(), Ok(wanted), "{text}");
        }
        for bad in
            ["", "call.example.org", "https://a/b", "ftp://a", "https://u@a", "https://a?q", "null", "*", "https://"]
                .into_iter()
                .chain(INTO_A_POLICY)
        {
            assert!(normal_form(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn only_the_very_same_origin_is_allowed() {
        let origins = Origins::new(["https://call.example.org"]).expect("valid");
        assert!(origins.allow(b"https://call.example.org"));
        for foreign in [
            "http://call.example.org",
            "https://call.example.org:444",
            "https://call.example.org.evil.net",
            "https://evil.net/https://call.example.org",
            "null",
            "",
        ] {
            assert!(!origins.allow(foreign.as_bytes()), "{foreign:?} was allowed");
        }
        assert!(!origins.allow(b"\xff\xfe"));
    }
}
