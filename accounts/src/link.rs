//! Links in mails: to show that an address is one's own, and to choose a new password. Each is good once and for a while.
//!
//! A link carries `PURPOSE.EXPIRES.PROOF`, the proof an HMAC-SHA-256 under the account's own secret of the two and of what the link
//! is to change. Nothing is kept of it: once it was followed, what it is to change is another, and the proof fits no more.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// The longest link that is looked at, in bytes.
pub const MAX_LINK_BYTES: usize = 128;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The address is whose account it is.
    Verify,
    /// To choose a new password without the old one.
    Reset,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Reset => "reset",
        }
    }

    /// How long it is good, in seconds: a day to look into the mail, an hour to choose a password.
    pub const fn lifetime_s(self) -> u64 {
        match self {
            Self::Verify => 24 * 3_600,
            Self::Reset => 3_600,
        }
    }
}

/// Why a link does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is none of this account, or was followed before.
    #[error("this link is not valid, or was used before: ask for another")]
    Invalid,
    /// It came too late.
    #[error("this link has expired: ask for another")]
    Expired,
}

/// The secret of one account.
pub struct Secret<'a>(pub &'a [u8; 32]);

impl Secret<'_> {
    /// A link that is good from `now_s` on, in seconds since the epoch, while what it is to change is `state`.
    pub fn link(&self, purpose: Purpose, state: &[u8], now_s: u64) -> String {
        let expires_s = now_s + purpose.lifetime_s();
        let proof = hmac::sign(&self.key(), &said(purpose, state, expires_s));
        format!("{}.{expires_s}.{}", purpose.name(), BASE64_URL_SAFE_NO_PAD.encode(proof))
    }

    /// Whether `link` was made for this, and is still good.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn follow(&self, link: &str, purpose: Purpose, state: &[u8], now_s: u64) -> Result<(), Refused> {
        let expires_s = self.proven(link, purpose, state).ok_or(Refused::Invalid)?;
        if now_s < expires_s { Ok(()) } else { Err(Refused::Expired) }
    }

    fn proven(&self, link: &str, purpose: Purpose, state: &[u8]) -> Option<u64> {
        let mut parts = Some(link).filter(|link| link.len() <= MAX_LINK_BYTES)?.splitn(3, '.');
        let (name, expires_s, proof) = (parts.next()?, parts.next()?, parts.next()?);
        let expires_s: u64 = expires_s.parse().ok().filter(|_| name == purpose.name())?;
        let proof = BASE64_URL_SAFE_NO_PAD.decode(proof).ok()?;
        hmac::verify(&self.key(), &said(purpose, state, expires_s), &proof).ok()?;
        Some(expires_s)
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0)
    }
}

/// What the proof is of; no two are alike.
fn said(purpose: Purpose, state: &[u8], expires_s: u64) -> Vec<u8> {
    [purpose.name().as_bytes(), b".", expires_s.to_string().as_bytes(), b".", state].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_what_it_was_made_for_and_until_that_has_changed() {
        let secret = Secret(&[7; 32]);
        let link = secret.link(Purpose::Reset, b"old", 1_000);
        let follow = |link: &str, purpose, state: &[u8], now_s| secret.follow(link, purpose, state, now_s);
        assert_eq!(follow(&link, Purpose::Reset, b"old", 1_000 + 3_599), Ok(()));
        assert_eq!(follow(&link, Purpose::Reset, b"old", 1_000 + 3_600), Err(Refused::Expired));
        assert_eq!(follow(&link, Purpose::Reset, b"new", 1_010), Err(Refused::Invalid), "it was followed");
        assert_eq!(follow(&link, Purpose::Verify, b"old", 1_010), Err(Refused::Invalid));
        assert_eq!(
            Secret(&[8; 32]).follow(&link, Purpose::Reset, b"old", 1_010),
            Err(Refused::Invalid),
            "of another account"
        );
        for rubbish in ["", "reset", "reset.4600", "reset.4600.", "reset.99999.AAAA", &link[1..], &"a.".repeat(100)] {
            assert_eq!(follow(rubbish, Purpose::Reset, b"old", 1_010), Err(Refused::Invalid), "{rubbish:?}");
        }
        let later = link.replacen("4600", "9600", 1);
        assert_ne!(link, later);
        assert_eq!(follow(&later, Purpose::Reset, b"old", 5_000), Err(Refused::Invalid));
    }
}
