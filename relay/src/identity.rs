//! Who a process of the cluster is: a role, a node and a PoP, written in its certificate.
//!
//! The certificate's one DNS name is `ROLE.NODE.POP.isthmus.internal` (RFC 5280 section 4.2.1.6). TLS has verified the
//! chain before any name is read here; what is refused here is a certificate of ours that is not for the relay.

use std::fmt;

use isthmus_protocol::{NodeId, PopId};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The domain under which relay certificates are named. It never resolves in the DNS.
pub const DOMAIN: &str = "isthmus.internal";

/// What a process may do on the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A media node: a peer of the other media nodes.
    Sfu,
    /// A door: opens sessions and asks queries.
    Door,
}

impl Role {
    const ALL: [Self; 2] = [Self::Sfu, Self::Door];

    /// As it stands in a certificate.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sfu => "sfu",
            Self::Door => "door",
        }
    }
}

/// Who a process is, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIdentity {
    /// What it may do.
    pub role: Role,
    /// Which process it is.
    pub node: NodeId,
    /// Where it stands.
    pub pop: PopId,
}

/// Why a certificate or a name gives no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The ids cannot stand in a DNS name.
    #[error("{0:?} cannot be named in a certificate: node and PoP must be 1 to 63 of a-z, 0-9 and inner '-'")]
    Label(String),
    /// The name is not of the relay's form.
    #[error("the certificate's name {0:?} is not ROLE.NODE.POP.{DOMAIN} with the role sfu or door")]
    Name(String),
    /// Not exactly one DNS name.
    #[error("the certificate has {0} DNS names and must have exactly one, ROLE.NODE.POP.{DOMAIN}")]
    Names(usize),
    /// Not X.509.
    #[error("the certificate cannot be read")]
    Unreadable,
}

impl PeerIdentity {
    /// The name that stands for this identity in certificates and TLS server names.
    ///
    /// # Errors
    /// An id has characters that identifiers may have and DNS labels may not.
    pub fn dns_name(&self) -> Result<String, InvalidIdentity> {
        for label in [self.node.as_str(), self.pop.as_str()] {
            if !is_label(label) {
                return Err(InvalidIdentity::Label(label.to_owned()));
            }
        }
        Ok(format!("{}.{}.{}.{DOMAIN}", self.role.as_str(), self.node, self.pop))
    }

    /// The identity a DNS name stands for.
    pub fn from_dns_name(name: &str) -> Result<Self, InvalidIdentity> {
        let invalid = || InvalidIdentity::Name(name.chars().take(253).collect());
        let labels = name.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('.')).ok_or_else(invalid)?;
        let mut labels = labels.split('.');
        let (Some(role), Some(node), Some(pop), None) = (labels.next(), labels.next(), labels.next(), labels.next())
        else {
            return Err(invalid());
        };
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role).ok_or_else(invalid)?;
        if !is_label(node) || !is_label(pop) {
            return Err(invalid());
        }
        let (node, pop) = (node.parse().map_err(|_| invalid())?, pop.parse().map_err(|_| invalid())?);
        Ok(Self { role, node, pop })
    }

    /// The identity in a certificate (DER) whose chain TLS has verified.
    pub fn of_certificate(der: &[u8]) -> Result<Self, InvalidIdentity> {
        let (_, certificate) = parse_x509_certificate(der).map_err(|_| InvalidIdentity::Unreadable)?;
        let extension = certificate.subject_alternative_name().map_err(|_| InvalidIdentity::Unreadable)?;
        let names: Vec<&str> = extension
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
            .collect();
        match names[..] {
            [name] => Self::from_dns_name(name),
            _ => Err(InvalidIdentity::Names(names.len())),
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", self.role.as_str(), self.node, self.pop)
    }
}

/// A DNS label (RFC 1123 section 2.1) in lower case, so that equal names are equal bytes.
fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: Role, node: &str, pop: &str) -> PeerIdentity {
        PeerIdentity { role, node: node.parse().expect("valid"), pop: pop.parse().expect("valid") }
    }

    #[test]
    fn a_name_and_an_identity_are_the_same_thing() {
        let door = identity(Role::Door, "zurich-door-1", "zurich");
        assert_eq!(door.dns_name().as_deref(), Ok("door.zurich-door-1.zurich.isthmus.internal"));
        assert_eq!(PeerIdentity::from_dns_name("door.zurich-door-1.zurich.isthmus.internal"), Ok(door));
    }

    #[test]
    fn ids_that_would_make_an_ambiguous_name_are_refused() {
        for (node, pop) in
            [("a.b", "c"), ("a", "b.c"), ("A", "c"), ("a_b", "c"), ("-a", "c"), ("a", "c-"), ("a:1", "c")]
        {
            assert!(identity(Role::Sfu, node, pop).dns_name().is_err(), "{node} {pop}");
        }
        assert!(identity(Role::Sfu, &"a".repeat(64), "c").dns_name().is_err(), "longer than a label");
    }

    #[test]
    fn names_of_another_form_are_refused() {
        for name in [
            "",
            "isthmus.internal",
            ".isthmus.internal",
            "sfu.a.isthmus.internal",
            "sfu.a.b.c.isthmus.internal",
            "root.a.b.isthmus.internal",
            "sfu.a.b.isthmus.internal.example.com",
            "sfu.a.b.xisthmus.internal",
            "sfu.a.bisthmus.internal",
            "SFU.a.b.isthmus.internal",
            "sfu.*.b.isthmus.internal",
            "*.a.b.isthmus.internal",
        ] {
            assert!(PeerIdentity::from_dns_name(name).is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn rubbish_is_not_a_certificate() {
        assert_eq!(PeerIdentity::of_certificate(b"rubbish"), Err(InvalidIdentity::Unreadable));
        assert_eq!(PeerIdentity::of_certificate(&[]), Err(InvalidIdentity::Unreadable));
    }
}
