//! Bits that are kept and not shown: keys, salts, hashes.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// `N` bytes; kept as Base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Bits<const N: usize>(pub [u8; N]);

impl<const N: usize> std::fmt::Debug for Bits<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bits(..)")
    }
}

impl<const N: usize> Serialize for Bits<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bits<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        match BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(length) if length == N => Ok(Self(bytes)),
            _ => Err(D::Error::custom(format_args!("{N} bytes as Base64 are wanted"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_as_they_were_kept_and_nothing_else_does() {
        let bits = Bits([0xfb, 0xff, 0, 1]);
        let kept = serde_json::to_string(&bits).expect("text");
        assert_eq!(kept, "\"-_8AAQ\"");
        assert_eq!(serde_json::from_str::<Bits<4>>(&kept).expect("the same"), bits);
        for wrong in ["\"\"", "\"-_8A\"", "\"-_8AAQAA\"", "\"+/8AAQ\"", "7"] {
            assert!(serde_json::from_str::<Bits<4>>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{bits:?}"), "Bits(..)");
    }
}
