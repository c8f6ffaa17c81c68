//! What can go wrong between a door and a media node.

use isthmus_protocol::{NodeId, node::MAX_FRAME_BYTES};
use quinn::{ConnectionError, ReadError, WriteError};

use crate::reason::CloseReason;

/// Why a session or a query failed, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No connection at the moment; it is being dialled.
    #[error("there is no connection to the media node {node}: use another node, or try again")]
    Down {
        /// The node.
        node: NodeId,
    },
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(ConnectionError),
    /// The other side ended the stream or the connection, and said why.
    #[error("the other side ended it: {0}")]
    Ended(CloseReason),
    /// Too long to send, or announced as too long.
    #[error("a frame of {bytes} bytes is over the {MAX_FRAME_BYTES} allowed")]
    FrameTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON that was due. What it was is not said: it may be personal.
    #[error("a frame is not the JSON of a {expected} (column {column})")]
    Malformed {
        /// The type that was due.
        expected: &'static str,
        /// Where the trouble is.
        column: usize,
    },
    /// The stream ended in the middle of a frame.
    #[error("the stream ended in the middle of a frame")]
    Truncated,
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
}

impl From<ConnectionError> for RelayError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Ended(CloseReason::from_code(close.error_code)),
            other => Self::Lost(other),
        }
    }
}

impl From<ReadError> for RelayError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Ended(CloseReason::from_code(code)),
            ReadError::ConnectionLost(error) => error.into(),
            // Reading on after the end; the stream ended in good order.
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::Ended(CloseReason::Done)
            }
        }
    }
}

impl From<WriteError> for RelayError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Ended(CloseReason::from_code(code)),
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Ended(CloseReason::Done),
        }
    }
}
