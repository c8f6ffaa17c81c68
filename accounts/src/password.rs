//! Passwords: what is taken for one, and how it is kept: argon2id (RFC 9106) with 19 MiB, two passes and one lane, the least of what
//! OWASP's cheat sheet on password storage advises. How it was made is kept with each, so that it can be made stronger at a sign-in.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use isthmus_protocol::person::Email;
use serde::{Deserialize, Serialize};

use crate::Bits;

/// The fewest and the most characters (NIST SP 800-63B section 5.1.1: no rules beside the length and what is known to be common).
pub const MIN_CHARS: usize = 8;
/// See [`MIN_CHARS`]. What is longer takes no longer to try, but is no password that somebody types.
pub const MAX_CHARS: usize = 128;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Tried first by everyone who guesses.
const COMMON: [&str; 16] = [
    "password",
    "12345678",
    "123456789",
    "1234567890",
    "qwertyui",
    "qwertyuiop",
    "iloveyou",
    "password1",
    "password123",
    "11111111",
    "00000000",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "letmein1",
];

/// What somebody typed, good enough to be a password. Not shown.
#[derive(Clone)]
pub struct Password(String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Why something is no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Too short or too long.
    #[error("a password has {MIN_CHARS} to {MAX_CHARS} characters")]
    Length,
    /// Everyone who guesses tries it first.
    #[error("this password is known to be common, or is the name of the account: choose another")]
    Common,
}

impl Password {
    /// A password for the account of this e-mail address.
    ///
    /// # Errors
    /// It would be guessed; see [`Weak`].
    pub fn chosen(text: String, email: &Email) -> Result<Self, Weak> {
        if !(MIN_CHARS..=MAX_CHARS).contains(&text.chars().count()) {
            return Err(Weak::Length);
        }
        let lower = text.to_lowercase();
        let email = email.as_str();
        let local = email.split('@').next().unwrap_or_default();
        if COMMON.contains(&lower.as_str()) || lower == email || lower == local {
            return Err(Weak::Common);
        }
        Ok(Self(text))
    }

    /// What was typed at a sign-in: it was good enough once, and is right or wrong.
    pub fn typed(text: String) -> Result<Self, Weak> {
        if text.chars().count() <= MAX_CHARS { Ok(Self(text)) } else { Err(Weak::Length) }
    }
}

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Bits<SALT_BYTES>,
    hash: Bits<HASH_BYTES>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(..)")
    }
}

impl Kept {
    /// Takes some 20 ms and 19 MiB: how many are made at once is the caller's to bound.
    #[expect(clippy::missing_panics_doc, reason = "never: the parameters are constants within argon2's bounds")]
    pub fn of(password: &Password, salt: [u8; SALT_BYTES]) -> Self {
        let kept = Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: Bits(salt),
            hash: Bits([0; HASH_BYTES]),
        };
        let hash = kept.hash_of(password).expect("these parameters are within argon2's bounds");
        Self { hash: Bits(hash), ..kept }
    }

    /// One that no password opens, to be tried where there is no account: how long that takes must not tell.
    pub fn of_nobody() -> Self {
        Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: Bits([0; SALT_BYTES]),
            hash: Bits([0; HASH_BYTES]),
        }
    }

    /// Whether it is this password. As costly as making one.
    pub fn is(&self, password: &Password) -> bool {
        self.hash_of(password).is_some_and(|hash| verify_slices_are_equal(&hash, &self.hash.0).is_ok())
    }

    /// Whether it is to be made anew with what is advised today.
    pub fn is_outdated(&self) -> bool {
        (self.memory_kib, self.passes, self.lanes) != (MEMORY_KIB, PASSES, LANES)
    }

    /// Differs from that of every other password that was kept.
    pub fn mark(&self) -> Vec<u8> {
        [self.salt.0.as_slice(), self.hash.0.as_slice()].concat()
    }

    fn hash_of(&self, Password(text): &Password) -> Option<[u8; HASH_BYTES]> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES)).ok()?;
        let mut hash = [0; HASH_BYTES];
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(text.as_bytes(), &self.salt.0, &mut hash).ok()?;
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::chosen(text.into(), &"ana@example.org".parse().expect("an address")).expect("good enough")
    }

    #[test]
    fn the_right_password_opens_and_no_other() {
        let kept = Kept::of(&password("correct horse"), [7; SALT_BYTES]);
        assert!(kept.is(&password("correct horse")) && !kept.is(&password("correct horsE")));
        assert_ne!(kept, Kept::of(&password("correct horse"), [8; SALT_BYTES]), "equal passwords do not look equal");
        assert!(!Kept::of_nobody().is(&password("correct horse")) && !kept.is_outdated());
        let weaker = Kept { memory_kib: 8 * 1024, ..kept };
        assert!(weaker.is_outdated() && !weaker.is(&password("correct horse")));
    }

    #[test]
    fn what_everyone_guesses_is_no_password() {
        let chosen = |text: &str| {
            Password::chosen(text.into(), &"ana.perez@example.org".parse().expect("an address")).map(|_| ())
        };
        assert_eq!(chosen("1234567"), Err(Weak::Length));
        assert_eq!(chosen(&"x".repeat(129)), Err(Weak::Length));
        for common in ["Password123", "ana.perez", "ANA.PEREZ@example.org"] {
            assert_eq!(chosen(common), Err(Weak::Common), "{common}");
        }
        assert_eq!(chosen("пароль из слов"), Ok(()), "characters, not bytes");
    }

    #[test]
    fn nothing_of_it_shows() {
        assert_eq!(format!("{:?} {:?}", password("correct horse"), Kept::of_nobody()), "Password(..) Kept(..)");
    }
}
