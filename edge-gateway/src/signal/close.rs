//! Why a signalling socket is closed, and what its client does then.

use axum::extract::ws::CloseFrame;

/// A reason and its close code (RFC 6455 section 7.4). Media is not touched by any of them but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// 1000: the session ended, and a message said so. Do not come back.
    Ended,
    /// 1009: a message above the limit. Resume, and send less.
    TooLarge,
    /// 1012: the door is being restarted. Resume.
    Restarting,
    /// 4000: a fatal error message said why. Do as its code says.
    Refused,
    /// 4001: no first message in time.
    NoHello,
    /// 4002: messages too fast. Resume, slower.
    TooFast,
    /// 4003: the socket did not take messages fast enough. Resume.
    TooSlow,
    /// 4004: the media node's stream broke. Resume.
    NodeLost,
    /// 4005: neither message nor pong for too long. Resume.
    Idle,
    /// No code: the socket was gone first.
    SocketLost,
}

impl Close {
    /// The code on the wire; 1005 (which is never sent) when the socket was gone first.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Close::Ended => 1000,
            Close::SocketLost => 1005,
            Close::TooLarge => 1009,
            Close::Restarting => 1012,
            Close::Refused => 4000,
            Close::NoHello => 4001,
            Close::TooFast => 4002,
            Close::TooSlow => 4003,
            Close::NodeLost => 4004,
            Close::Idle => 4005,
        }
    }

    /// The name in metrics and in the close frame.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Close::Ended => "ended",
            Close::SocketLost => "socket_lost",
            Close::TooLarge => "too_large",
            Close::Restarting => "restarting",
            Close::Refused => "refused",
            Close::NoHello => "no_hello",
            Close::TooFast => "too_fast",
            Close::TooSlow => "too_slow",
            Close::NodeLost => "node_lost",
            Close::Idle => "idle",
        }
    }

    /// As it is sent.
    pub(crate) fn frame(self) -> CloseFrame {
        CloseFrame { code: self.code(), reason: self.name().into() }
    }
}
