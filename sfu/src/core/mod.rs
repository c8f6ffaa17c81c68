//! What a media node decides, as values: no sockets, no clock, no threads. Time comes in, effects go out.
//!
//! | module            | decides                                                                            |
//! |-------------------|------------------------------------------------------------------------------------|
//! | [`room`]          | who is there, what they publish, who gets which packet, what peers are told         |
//! | [`seating`]       | which shard takes a participant                                                     |
//! | [`speakers`]      | the loudest few                                                                     |
//! | [`assignment`]    | which track stands in which slot                                                    |
//! | [`allocation`]    | which layer each slot gets                                                          |
//! | [`rewrite`]       | the numbers of a slot's stream                                                      |
//! | [`svc`]           | which layers of a scalable stream a receiver gets                                   |
//! | [`omissions`]     | numbers that close up over what was left out                                        |
//! | [`keyframes`]     | where pictures begin, how often to ask for one                                      |
//! | [`arrivals`]      | which packets have come                                                             |
//! | [`gaps`]          | how long pictures have waited for a packet                                          |
//! | [`capture_clock`] | when something was captured, on this node's clock                                   |
//! | [`bitrate`]       | how much flows                                                                      |
//! | [`congestion`]    | what the path to a receiver carries, when a packet may go to it                     |
//! | [`demux`]         | which client a datagram is of                                                       |
//! | [`egress`]        | the bytes of a packet that goes to a client, and what the client says of it         |
//! | [`allowance`]     | how often a client may do what costs much                                           |
//! | [`contained`]     | a boundary around parsers of other crates                                           |

pub mod allocation;
pub mod allowance;
pub mod arrivals;
pub mod assignment;
pub mod bitrate;
pub mod capture_clock;
pub mod congestion;
pub mod contained;
pub mod demux;
pub mod egress;
pub mod gaps;
pub mod keyframes;
pub mod omissions;
pub mod rewrite;
pub mod room;
pub mod seating;
pub mod speakers;
pub mod svc;
