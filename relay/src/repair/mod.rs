//! Loss on a link is repaired on the link. Sans-IO: packets, datagrams and the time go in, datagrams and packets come
//! out.
//!
//! The sender numbers the datagrams of each stream and holds them for a while; the receiver finds the gaps and asks
//! (NACK) until what is missing has come or is too old. Packets are handed on as they come: whoever plays them has a
//! buffer that orders them, and holding one stream's packets back here would only add the link's worst delay to all.
//! The encoding is [`isthmus_protocol::media`].
//!
//! The last datagram before a pause leaves no gap behind it. So the sender repeats it once or twice when a stream
//! falls silent: a shared screen that stands still must not stand still with a hole in it.
//!
//! Speech on a long link that loses does not wait to be asked for: it is carried ahead (module `protection`). The receiver
//! reports what it missed of all speech, the sender decides by that and by the round trip how much goes along, and the
//! receiver takes what was lost out of the next packets. It still asks for what that leaves.

pub(crate) mod protection;
pub(crate) mod receiver;
pub(crate) mod sender;
#[cfg(test)]
mod virtual_link;
mod window;

use std::time::Duration;

pub(crate) use receiver::Receiver;
pub(crate) use sender::{NotSent, Path, Sender};

/// Streams in one direction of a link. Full: a new one is refused and its packets counted as dropped.
pub(crate) const MAX_STREAMS: usize = 4096;
/// A datagram missing for longer than this is not asked for any more: no player waits longer.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);
/// The least time between two passes over the streams.
pub(crate) const TICK: Duration = Duration::from_millis(5);
