//! The dependency descriptor among str0m's header extensions: taken as it came, read by `core/svc`.

use std::sync::Arc;

use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

const URI: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// The number it has where the client has none for it: the first that is free among those of str0m's standard set.
pub(super) const ID: u8 = 12;

/// A descriptor as it came.
pub(super) struct Descriptor(pub(super) Arc<[u8]>);

/// The extension, for negotiation.
pub(super) fn extension() -> Extension {
    Extension::with_serializer(URI, AsItCame)
}

#[derive(Debug)]
struct AsItCame;

impl ExtensionSerializer for AsItCame {
    /// What goes out does not pass through str0m.
    fn write_to(&self, _buf: &mut [u8], _values: &ExtensionValues) -> usize {
        0
    }

    fn parse_value(&self, bytes: &[u8], values: &mut ExtensionValues) -> bool {
        values.user_values.set(Descriptor(bytes.into()));
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }
}
