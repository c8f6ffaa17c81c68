//! Why a connection or a stream was ended by us or by the other side.

use std::fmt;

use quinn::VarInt;

/// Why a relay connection or stream ended. The number goes over the wire as QUIC's application error code
/// (RFC 9000 section 20.2), the text into logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// Nothing wrong: it is over.
    Done = 0,
    /// The process shuts down.
    Shutdown = 1,
    /// The certificate is not one for the relay, or not of the process that was dialled.
    Identity = 2,
    /// The role in the certificate may not do what was asked.
    Role = 3,
    /// The messages are of a version this process does not speak.
    Version = 4,
    /// The node is not among the peers of this one, yet or any more.
    UnknownPeer = 5,
    /// The same process holds too many connections.
    TooManyConnections = 6,
    /// A newer connection of the same node takes the place of this one.
    Superseded = 7,
    /// Nothing was heard for too long.
    Silent = 8,
    /// What was sent is not what the protocol says.
    Malformed = 9,
    /// The other side takes control messages too slowly; both begin anew.
    ControlFull = 10,
    /// The media node is too busy to take the session or the query.
    Busy = 11,
    /// Opened, and then nothing was said.
    Opening = 12,
    /// A reason of a later version.
    Unknown = 13,
    /// The other side does not know the connection any more: its process was started anew (RFC 9000 section 10.3).
    Restarted = 14,
}

impl CloseReason {
    const ALL: [Self; 14] = [
        Self::Done,
        Self::Shutdown,
        Self::Identity,
        Self::Role,
        Self::Version,
        Self::UnknownPeer,
        Self::TooManyConnections,
        Self::Superseded,
        Self::Silent,
        Self::Malformed,
        Self::ControlFull,
        Self::Busy,
        Self::Opening,
        Self::Restarted,
    ];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Shutdown => "shutdown",
            Self::Identity => "identity",
            Self::Role => "role",
            Self::Version => "version",
            Self::UnknownPeer => "unknown_peer",
            Self::TooManyConnections => "too_many_connections",
            Self::Superseded => "superseded",
            Self::Silent => "silent",
            Self::Malformed => "malformed",
            Self::ControlFull => "control_full",
            Self::Busy => "busy",
            Self::Opening => "opening",
            Self::Unknown => "unknown",
            Self::Restarted => "restarted",
        }
    }

    pub(crate) fn code(self) -> VarInt {
        VarInt::from(self as u8)
    }

    pub(crate) fn from_code(code: VarInt) -> Self {
        Self::ALL.into_iter().find(|reason| reason.code() == code).unwrap_or(Self::Unknown)
    }

    /// Ends the connection, saying why, unless it is over already: QUIC would forget what the other side said.
    pub(crate) fn close(self, connection: &quinn::Connection) {
        if connection.close_reason().is_none() {
            connection.close(self.code(), self.as_str().as_bytes());
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "it is over",
            Self::Shutdown => "the process shuts down",
            Self::Identity => "the certificate is not the one wanted here",
            Self::Role => "the role in the certificate may not do that",
            Self::Version => "the messages are of a version not spoken here",
            Self::UnknownPeer => "the node is not among the peers",
            Self::TooManyConnections => "the same process holds too many connections",
            Self::Superseded => "a newer connection took its place",
            Self::Silent => "nothing was heard for too long",
            Self::Malformed => "what was sent is not what the protocol says",
            Self::ControlFull => "control messages were taken too slowly",
            Self::Busy => "the media node is too busy",
            Self::Opening => "nothing was said after opening",
            Self::Unknown => "a reason not known here",
            Self::Restarted => "the other side was started anew",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back_from_its_code() {
        for reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_code(reason.code()), reason);
        }
        assert_eq!(CloseReason::from_code(VarInt::from_u32(4_000_000)), CloseReason::Unknown);
    }
}
