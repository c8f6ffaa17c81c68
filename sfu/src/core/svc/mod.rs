//! Scalable video (SVC): several layers of one picture in one stream, of which a receiver is sent as many as are of use to it.
//!
//! What depends on what is told by the dependency descriptor, a header extension that AV1's RTP payload format defines for
//! any codec (<https://aomediacodec.github.io/av1-rtp-spec/>, appendix A), so payloads need not be understood. It names *decode
//! targets*: sets of frames that can be decoded without the rest. Those worth choosing among are the stream's [`Ladder`].
//!
//! | module         | part                                                       |
//! |----------------|------------------------------------------------------------|
//! | [`descriptor`] | reading descriptors                                        |
//! | [`ladder`]     | the decode targets worth choosing among, and what each takes |
//! | [`selector`]   | which frames one receiver gets                             |

pub mod descriptor;
pub mod ladder;
#[cfg(test)]
pub(super) mod patterns;
pub mod selector;
