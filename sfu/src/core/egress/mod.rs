//! Egress: what becomes of a packet on its way to one client. Sans-IO: bytes and the time in, datagrams out.
//!
//! str0m negotiates, connects and takes media in; what goes out by the thousand a second does not pass through it: its send
//! path costs several times what sealing and sending do.
//!
//! | module            | part                                                             |
//! |-------------------|------------------------------------------------------------------|
//! | [`outlet`]        | all of it together: packets in, sealed datagrams out             |
//! | [`queue`]         | what waits to go out, and for how long at most                   |
//! | [`tap`]           | the keys, copied where str0m's DTLS exports them                 |
//! | [`keys`]          | session keys from them                                           |
//! | [`numbers`]       | sequence numbers, each handed out once                           |
//! | [`header`]        | RTP headers as they are written                                  |
//! | [`seal`]          | sealing RTP and RTCP in place                                    |
//! | `stream`          | one stream: its headers, and what the client is told of its time |
//! | [`sender_report`] | which timestamp was captured when                                |
//! | `repair`          | what was sent lately, and when it is sent again                  |
//! | [`open`]          | opening RTCP                                                     |
//! | [`reports`]       | what a client says of what it is sent                            |

pub mod header;
pub mod keys;
pub mod numbers;
pub mod open;
pub mod outlet;
pub mod queue;
mod repair;
pub mod reports;
pub mod seal;
pub mod sender_report;
mod stream;
pub mod tap;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests;
