//! Tokens at the door: whom to believe, tokens for guests and for people who are signed in.

use std::{fs, path::Path};

use isthmus_protocol::{
    DeviceId, PersonId, RoomId,
    token::{AccessClaims, Grants, Issuer, KeyError, RoomClaims, TokenError, Verifier},
};

use crate::{config, problem::Refusal};
use isthmus_protocol::problem::Code;

/// Why the configured keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeysError {
    /// The file cannot be read.
    #[error("cannot read the token key {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no such key.
    #[error("the token key {path} is {error}")]
    NotAKey {
        /// The file.
        path: String,
        /// Why.
        error: KeyError,
    },
}

/// Checks tokens, and issues those of guests and of people who are signed in.
pub(crate) struct Tokens {
    verifier: Verifier,
    issuer: Option<Issuer>,
}

impl Tokens {
    /// Loads the configured keys.
    pub(crate) fn load(config: &config::Tokens) -> Result<Self, TokenKeysError> {
        let mut verifier = Verifier::new(&config.issuer);
        for key in &config.trusted {
            let pem = read(&key.public_key)?;
            verifier.trust(&key.id, &pem).map_err(|error| not_a_key(&key.public_key, error))?;
        }
        let issuer = config.signing.as_ref().map(|key| {
            let pem = read(&key.private_key)?;
            Issuer::new(&config.issuer, &key.id, &pem).map_err(|error| not_a_key(&key.private_key, error))
        });
        Ok(Self { verifier, issuer: issuer.transpose()? })
    }

    /// The claims of a token that is valid at `now_s` for `room`.
    pub(crate) fn check(&self, token: &str, room: &RoomId, now_s: u64) -> Result<RoomClaims, Refusal> {
        let claims: RoomClaims = self.verifier.verify(token, now_s)?;
        if &claims.room == room {
            Ok(claims)
        } else {
            Err(Refusal::new(Code::Forbidden, format!("the token is for another room than {room}")))
        }
    }

    /// The claims of an access token that is valid at `now_s`.
    pub(crate) fn check_access(&self, token: &str, now_s: u64) -> Result<AccessClaims, Refusal> {
        Ok(self.verifier.verify(token, now_s)?)
    }

    /// An access token, valid for `ttl_s`.
    pub(crate) fn issue_access(
        &self,
        person: &PersonId,
        device: &DeviceId,
        now_s: u64,
        ttl_s: u32,
    ) -> Result<String, Refusal> {
        let none = || Refusal::new(Code::NotFound, "this door issues no tokens, so nobody signs in here");
        Ok(self.issuer.as_ref().ok_or_else(none)?.issue_access(person, device, now_s, ttl_s.into())?)
    }

    /// The keys that are trusted, by their names.
    pub(crate) fn public_keys(&self) -> impl Iterator<Item = (&str, &[u8; 32])> {
        self.verifier.public_keys()
    }

    /// A token, if this door may issue any.
    pub(crate) fn issue(
        &self,
        room: &RoomId,
        identity: &str,
        name: &str,
        grants: Grants,
        now_s: u64,
        ttl_s: u32,
    ) -> Option<Result<String, TokenError>> {
        self.issuer.as_ref().map(|issuer| issuer.issue(room, identity, name, grants, now_s, ttl_s.into()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokenKeysError> {
    fs::read(path).map_err(|error| TokenKeysError::Unreadable { path: path.display().to_string(), error })
}

fn not_a_key(path: &Path, error: KeyError) -> TokenKeysError {
    TokenKeysError::NotAKey { path: path.display().to_string(), error }
}
