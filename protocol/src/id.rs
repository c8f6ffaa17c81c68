//! Identifiers, each its own type, each checked when it is parsed: a value of one of these types is valid.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Why a string is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be 1 to {max} characters of a-z, A-Z, 0-9, '-', '_', '.', ':' and not {found:?}")]
pub struct InvalidId {
    kind: &'static str,
    max: usize,
    found: String,
}

fn check(kind: &'static str, max: usize, text: &str) -> Result<Arc<str>, InvalidId> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if text.is_empty() || text.len() > max || !text.bytes().all(allowed) {
        let found = text.chars().take(max).collect();
        return Err(InvalidId { kind, max, found });
    }
    Ok(text.into())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[derive(ts_rs::TS, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[ts(as = "String")]
        #[schema(value_type = String)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most characters an identifier of this kind may have.
            pub const MAX_LEN: usize = $max;

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($kind, $max, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A point of presence: `panama`, `singapore`, `zurich`.
    PopId, "a PoP id", 32
);
id!(
    /// A process of the cluster that carries media or opens doors, unique in the whole cluster: `panama-sfu-1`.
    NodeId, "a node id", 64
);
id!(
    /// A room, as it stands in the link people share.
    RoomId, "a room name", 64
);
id!(
    /// One stay of one client in one room. A client that resumes keeps it; one that restarts elsewhere gets a new one.
    ParticipantId, "a participant id", 48
);
id!(
    /// One published audio or video track, all its layers together, unique in the whole cluster.
    TrackId, "a track id", 64
);

id!(
    /// A person with an account, whatever devices and rooms they are on.
    PersonId, "a person id", 48
);
id!(
    /// One device that a person is signed in on: a browser, an app.
    DeviceId, "a device id", 48
);
id!(
    /// One call, from the first ring to its end: the same for everyone in it, in every PoP.
    CallId, "a call id", 48
);

/// A new id from 80 random bits, which the caller supplies (cores take randomness as a value).
fn random(prefix: &str, bits: [u8; 10]) -> Arc<str> {
    let mut text = String::with_capacity(22);
    text.push_str(prefix);
    for byte in bits {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

impl ParticipantId {
    /// A new id from 80 random bits.
    pub fn from_random(bits: [u8; 10]) -> Self {
        Self(random("p-", bits))
    }
}

impl PersonId {
    /// A new id from 80 random bits.
    pub fn from_random(bits: [u8; 10]) -> Self {
        Self(random("u-", bits))
    }
}

impl DeviceId {
    /// A new id from 80 random bits.
    pub fn from_random(bits: [u8; 10]) -> Self {
        Self(random("d-", bits))
    }
}

impl TrackId {
    /// The track that `participant` publishes on the m-line `mid`: stable across renegotiation, unique by construction.
    ///
    /// # Errors
    /// `mid` has characters or a length that an identifier may not have.
    pub fn of(participant: &ParticipantId, mid: &str) -> Result<Self, InvalidId> {
        format!("{participant}.{mid}").parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_break_out_of_a_path_a_header_or_a_log_line() {
        for bad in ["", "a/b", "a b", "a\nb", "ä", &"x".repeat(65), "a?b", "a\"b"] {
            assert!(bad.parse::<RoomId>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("team-sync_1.2".parse::<RoomId>().map(|r| r.to_string()), Ok("team-sync_1.2".into()));
    }

    #[test]
    fn a_track_id_always_fits() {
        let participant = ParticipantId::from_random([0xff; 10]);
        assert!(TrackId::of(&participant, &"9".repeat(16)).is_ok());
    }

    #[test]
    fn json_goes_through_the_same_check() {
        assert!(serde_json::from_str::<RoomId>("\"../etc\"").is_err());
        assert!(serde_json::from_str::<RoomId>("\"ok\"").is_ok());
    }
}
