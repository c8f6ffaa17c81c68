//! Refresh tokens: each is good for one exchange, and one that comes a second time gives its device's session away.
//!
//! A token names whose device it is of, how often that was renewed, and a proof that only the issuer can make:
//! `PERSON.DEVICE.GENERATION.PROOF`, the proof an HMAC-SHA-256 of the three under the session's key. So the next token can be made again,
//! and an exchange whose answer was lost can be repeated: the client sends the same *attempt* with it. The same token with another
//! attempt is a copy of it in other hands, and ends the session for both (RFC 9700 section 4.14.2).
//!
//! Guarded: a session is written by the holder of its person's home alone.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use isthmus_protocol::{DeviceId, PersonId};
use serde::{Deserialize, Serialize};

use crate::Bits;

/// A session that is not renewed for so long is over, in seconds: 30 days.
pub const LIFETIME_S: u64 = 30 * 24 * 3_600;
/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 256;
/// The longest attempt, and the longest name of a device, in characters.
pub const MAX_ATTEMPT_CHARS: usize = 64;
/// See [`MAX_ATTEMPT_CHARS`].
pub const MAX_NAME_CHARS: usize = 64;

/// One device's session, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// What the device is called.
    pub name: String,
    /// In seconds since the epoch.
    pub begun_at_s: u64,
    /// What its tokens are proven by.
    key: Bits<32>,
    /// How often it was renewed.
    generation: u64,
    /// What the client called its last exchange.
    attempt: String,
    /// In seconds since the epoch.
    pub renewed_at_s: u64,
    /// Why it is over, if it is.
    ended: Option<Ended>,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// They signed out, or ended it from another device.
    SignedOut,
    /// A token of it came a second time.
    Reused,
    /// The password was changed.
    PasswordChanged,
}

/// Why a token is not exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is none of this session.
    #[error("this is no token of the session: sign in again")]
    Invalid,
    /// It was not renewed in time.
    #[error("the session has expired: sign in again")]
    Expired,
    /// The session is over.
    #[error("the session is over: sign in again")]
    Over(Ended),
    /// It came a second time: from now on the session is over. It is to be written.
    #[error("the token was used before; the session is over: sign in again")]
    Reused,
}

impl Session {
    /// A new one, with 256 random bits that the caller supplies. Of the device's `name` the first [`MAX_NAME_CHARS`] are kept.
    pub fn begin(person: PersonId, device: DeviceId, name: &str, random: [u8; 32], now_s: u64) -> Self {
        Self {
            person,
            device,
            name: name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect(),
            begun_at_s: now_s,
            key: Bits(random),
            generation: 0,
            attempt: String::new(),
            renewed_at_s: now_s,
            ended: None,
        }
    }

    /// The token that is good for the next exchange.
    pub fn token(&self) -> String {
        let named = self.named(self.generation);
        let proof = hmac::sign(&self.hmac(), named.as_bytes());
        format!("{named}.{}", BASE64_URL_SAFE_NO_PAD.encode(proof))
    }

    /// Whose device a token is of, as it claims.
    pub fn named_in(token: &str) -> Option<(PersonId, DeviceId)> {
        let mut parts = Some(token).filter(|token| token.len() <= MAX_TOKEN_BYTES)?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// Exchanges a token at `now_s`, in seconds since the epoch: afterwards [`token`](Self::token) is the next one. Whether anything
    /// changed that is to be written.
    ///
    /// # Errors
    /// See [`Refused`]; of [`Refused::Reused`] the session is to be written too.
    pub fn exchange(&mut self, token: &str, attempt: &str, now_s: u64) -> Result<bool, Refused> {
        let generation = self.proven(token).ok_or(Refused::Invalid)?;
        if let Some(ended) = self.ended {
            return Err(Refused::Over(ended));
        }
        if now_s > self.expires_at_s() {
            return Err(Refused::Expired);
        }
        let attempt: String = attempt.chars().take(MAX_ATTEMPT_CHARS).collect();
        let is_repeated = generation.checked_add(1) == Some(self.generation) && attempt == self.attempt;
        if is_repeated && !attempt.is_empty() {
            return Ok(false);
        }
        if generation != self.generation {
            self.ended = Some(Ended::Reused);
            return Err(Refused::Reused);
        }
        self.generation += 1;
        self.attempt = attempt;
        self.renewed_at_s = self.renewed_at_s.max(now_s);
        Ok(true)
    }

    /// It is over. The first reason stands.
    pub fn end(&mut self, why: Ended) {
        self.ended.get_or_insert(why);
    }

    /// Whether it is over, and why.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// When it is over by itself, in seconds since the epoch.
    pub fn expires_at_s(&self) -> u64 {
        self.renewed_at_s.saturating_add(LIFETIME_S)
    }

    /// The generation that a token of this session is of, if it is one.
    fn proven(&self, token: &str) -> Option<u64> {
        let (named, proof) = token.rsplit_once('.').filter(|_| token.len() <= MAX_TOKEN_BYTES)?;
        let generation: u64 = named.rsplit_once('.')?.1.parse().ok()?;
        let proof = BASE64_URL_SAFE_NO_PAD.decode(proof).ok()?;
        // As it was made, so that "01" is not another name for 1.
        let made = self.named(generation);
        hmac::verify(&self.hmac(), made.as_bytes(), &proof).ok().filter(|()| made == named)?;
        Some(generation)
    }

    /// What is proven.
    fn named(&self, generation: u64) -> String {
        format!("{}.{}.{generation}", self.person, self.device)
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.key.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session_of(device: &str, bits: u8) -> Session {
        let person = "u-ana".parse().expect("valid");
        Session::begin(person, device.parse().expect("valid"), "Firefox", [bits; 32], 1_000)
    }

    fn session() -> Session {
        session_of("d-1", 7)
    }

    #[test]
    fn each_token_is_good_for_one_exchange() {
        let mut session = session();
        let first = session.token();
        assert_eq!(session.exchange(&first, "a", 1_010), Ok(true));
        let second = session.token();
        assert_ne!(first, second);
        assert_eq!(session.exchange(&second, "b", 1_020), Ok(true));
        assert_eq!(session.exchange(&first, "c", 1_030), Err(Refused::Reused));
        assert_eq!(session.exchange(&session.token(), "d", 1_040), Err(Refused::Over(Ended::Reused)), "for both");
    }

    #[test]
    fn an_exchange_whose_answer_was_lost_is_repeated_and_a_thief_is_not_served() {
        let mut session = session();
        let first = session.token();
        assert_eq!(session.exchange(&first, "a", 1_010), Ok(true));
        let second = session.token();
        assert_eq!(session.exchange(&first, "a", 1_011), Ok(false));
        assert_eq!(session.token(), second);
        assert_eq!(session.exchange(&first, "b", 1_012), Err(Refused::Reused));
        let mut nameless = self::session();
        let first = nameless.token();
        assert_eq!(nameless.exchange(&first, "", 1_010), Ok(true));
        assert_eq!(nameless.exchange(&first, "", 1_011), Err(Refused::Reused), "who names no attempt cannot repeat it");
    }

    #[test]
    fn what_was_not_renewed_for_a_month_and_what_was_ended_is_over() {
        let mut session = session();
        let token = session.token();
        assert_eq!(session.clone().exchange(&token, "a", 1_000 + LIFETIME_S), Ok(true));
        assert_eq!(session.clone().exchange(&token, "a", 1_001 + LIFETIME_S), Err(Refused::Expired));
        session.end(Ended::SignedOut);
        session.end(Ended::Reused);
        assert_eq!(session.exchange(&token, "a", 1_010), Err(Refused::Over(Ended::SignedOut)));
    }

    #[test]
    fn nothing_else_is_a_token() {
        let token = session().token();
        let (named, proof) = token.rsplit_once('.').expect("four parts");
        let other = session_of("d-2", 8).token();
        for wrong in [
            "",
            ".",
            "..",
            "u-ana.d-1",
            "u-ana.d-1.0",
            "u-ana.d-1.0.",
            &format!("{named}.AAAA"),
            &format!("u-ana.d-1.1.{proof}"),
            &format!("u-ana.d-1.00.{proof}"),
            &other,
        ] {
            assert_eq!(session().exchange(wrong, "a", 1_010), Err(Refused::Invalid), "{wrong:?}");
        }
        assert_eq!(Session::named_in(&token), Some((session().person, session().device)));
        assert_eq!(Session::named_in(&"x".repeat(300)), None);
        assert!(format!("{:?}", session()).contains("Bits(..)"), "the key is not shown");
    }

    proptest! {
        /// Two who present the same tokens with attempts of their own: at most one is served for each.
        #[test]
        fn of_two_with_the_same_token_at_most_one_is_served(turns in prop::collection::vec((any::<bool>(), 0usize..4), 0..30)) {
            let mut session = session();
            let mut tokens = vec![session.token()];
            let mut served = std::collections::HashMap::new();
            for (is_thief, back) in turns {
                let token = tokens[tokens.len().saturating_sub(1 + back)].clone();
                let attempt = format!("{is_thief}-{token}");
                if session.exchange(&token, &attempt, 1_010).is_ok() {
                    let first = served.insert(token.clone(), is_thief);
                    prop_assert!(first.is_none_or(|first| first == is_thief), "both were served for {}", token);
                    tokens.push(session.token());
                }
            }
        }
    }
}
