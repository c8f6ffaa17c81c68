//! What arrived: loss and jitter of packets, whole frames and freezes of video. All of it on the time that is passed in.

mod delays;
mod frames;
mod freezes;
mod packets;
mod slot;

pub use delays::Delays;
pub use frames::{DecodableFrame, FrameTracker};
pub use freezes::Freezes;
pub use packets::PacketMeter;
pub use slot::{ReceivedPacket, SlotMeter};
