//! Room tokens: JWTs (RFC 7519) signed with Ed25519, bound to a room, an identity and grants.
//!
//! What RFC 8725 asks for is pinned: the algorithm, the type, issuer and audience; expiry is required; the key is
//! found by `kid` among the keys the verifier was given and never taken from the token.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::RoomId;

/// The `typ` header of a room token (RFC 8725 section 3.11: explicit typing).
pub const TYPE: &str = "isthmus-room+jwt";
/// The audience of a room token.
pub const AUDIENCE: &str = "isthmus-door";
/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// The longest identity, in bytes.
pub const MAX_IDENTITY_BYTES: usize = 128;
/// Clock difference between issuer and verifier that is forgiven, in seconds.
pub const LEEWAY_S: u64 = 5;

/// What the bearer may do in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// May send audio and video.
    pub publish: bool,
    /// May receive audio and video.
    pub subscribe: bool,
}

/// The claims of a room token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audience: [`AUDIENCE`].
    pub aud: String,
    /// Identity: who.
    pub sub: String,
    /// The name others see; empty to let the client choose.
    #[serde(default)]
    pub name: String,
    /// The one room it is for.
    pub room: RoomId,
    /// What it allows.
    pub grants: Grants,
    /// Issued at, in seconds since the epoch.
    pub iat: u64,
    /// Expires at, in seconds since the epoch.
    pub exp: u64,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was valid once.
    #[error("the token has expired: ask for a new one")]
    Expired,
    /// Anything else; on purpose it does not say what.
    #[error("the token is not valid here")]
    Invalid,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("not an Ed25519 key in PEM form: {0}")]
pub struct KeyError(#[from] jsonwebtoken::errors::Error);

/// Signs room tokens.
pub struct Issuer {
    name: String,
    key_id: String,
    key: EncodingKey,
}

impl Issuer {
    /// An issuer from a PKCS#8 private key in PEM form. `key_id` names the key to verifiers.
    pub fn new(issuer: impl Into<String>, key_id: impl Into<String>, private_pem: &[u8]) -> Result<Self, KeyError> {
        let key = EncodingKey::from_ed_pem(private_pem)?;
        Ok(Self { name: issuer.into(), key_id: key_id.into(), key })
    }

    /// A token for `identity` in `room`, valid from `now_s` (seconds since the epoch) for `ttl_s` seconds.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if the identity is empty or longer than [`MAX_IDENTITY_BYTES`], or signing fails.
    pub fn issue(
        &self,
        room: &RoomId,
        identity: &str,
        name: &str,
        grants: Grants,
        now_s: u64,
        ttl_s: u64,
    ) -> Result<String, TokenError> {
        if identity.is_empty() || identity.len() > MAX_IDENTITY_BYTES {
            return Err(TokenError::Invalid);
        }
        let claims = Claims {
            iss: self.name.clone(),
            aud: AUDIENCE.into(),
            sub: identity.into(),
            name: name.into(),
            room: room.clone(),
            grants,
            iat: now_s,
            exp: now_s.saturating_add(ttl_s),
        };
        let header = Header { typ: Some(TYPE.into()), kid: Some(self.key_id.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| TokenError::Invalid)
    }
}

/// Checks room tokens.
pub struct Verifier {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
}

impl Verifier {
    /// A verifier that trusts `issuer` and no key yet.
    pub fn new(issuer: &str) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = LEEWAY_S;
        // Expiry is checked against the time that is passed in, not against the process's clock.
        validation.validate_exp = false;
        Self { keys: HashMap::new(), validation }
    }

    /// Trusts a public key in PEM form under the name `key_id`.
    pub fn trust(&mut self, key_id: impl Into<String>, public_pem: &[u8]) -> Result<(), KeyError> {
        self.keys.insert(key_id.into(), DecodingKey::from_ed_pem(public_pem)?);
        Ok(())
    }

    /// The claims of `token`, if every check holds at `now_s` (seconds since the epoch).
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        if header.typ.as_deref() != Some(TYPE) || header.alg != Algorithm::EdDSA {
            return Err(TokenError::Invalid);
        }
        let key = header.kid.as_ref().and_then(|kid| self.keys.get(kid)).ok_or(TokenError::Invalid)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_| TokenError::Invalid)?.claims;
        if claims.exp.saturating_add(LEEWAY_S) < now_s {
            return Err(TokenError::Expired);
        }
        if claims.iat > now_s.saturating_add(LEEWAY_S) || claims.sub.is_empty() || claims.sub.len() > MAX_IDENTITY_BYTES
        {
            return Err(TokenError::Invalid);
        }
        Ok(claims)
    }
}

/// A new Ed25519 key pair as PEM: PKCS#8 private key and `SubjectPublicKeyInfo` public key.
///
/// # Errors
/// The system's random source failed.
pub fn generate_key_pair() -> Result<(String, String), TokenError> {
    use aws_lc_rs::{
        encoding::AsDer as _,
        signature::{Ed25519KeyPair, KeyPair as _},
    };
    let pair = Ed25519KeyPair::generate().map_err(|_| TokenError::Invalid)?;
    let private = pair.to_pkcs8v1().map_err(|_| TokenError::Invalid)?;
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
        pair.public_key().as_der().map_err(|_| TokenError::Invalid)?;
    Ok((pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

/// RFC 7468: base64 in lines of 64 characters between labelled boundaries.
fn pem(label: &str, der: &[u8]) -> String {
    let mut lines = String::new();
    for chunk in der.chunks(48) {
        lines.push_str(&BASE64_STANDARD.encode(chunk));
        lines.push('\n');
    }
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const BOTH: Grants = Grants { publish: true, subscribe: true };

    fn pair() -> (Issuer, Verifier, RoomId) {
        let (private, public) = generate_key_pair().expect("random bytes are there");
        let issuer = Issuer::new("test", "k1", private.as_bytes()).expect("own key");
        let mut verifier = Verifier::new("test");
        verifier.trust("k1", public.as_bytes()).expect("own key");
        (issuer, verifier, "demo".parse().expect("valid"))
    }

    fn segment(json: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }

    #[test]
    fn what_was_issued_is_accepted_until_it_expires() {
        let (issuer, verifier, room) = pair();
        let token = issuer.issue(&room, "ana", "Ana", BOTH, NOW, 60).expect("issued");
        let claims = verifier.verify(&token, NOW + 59).expect("still valid");
        assert_eq!((claims.sub.as_str(), &claims.room, claims.grants), ("ana", &room, BOTH));
        assert_eq!(verifier.verify(&token, NOW + 60 + LEEWAY_S + 1), Err(TokenError::Expired));
        assert_eq!(verifier.verify(&token, NOW - LEEWAY_S - 1), Err(TokenError::Invalid), "issued in the future");
    }

    #[test]
    fn refuses_the_attacks_of_rfc_8725() {
        let (issuer, verifier, room) = pair();
        let token = issuer.issue(&room, "ana", "", BOTH, NOW, 60).expect("issued");
        let parts: Vec<&str> = token.split('.').collect();
        let header = |json: &str| format!("{}.{}.{}", segment(json), parts[1], parts[2]);
        let attacks = [
            ("alg none", format!("{}.{}.", segment(r#"{"alg":"none","typ":"isthmus-room+jwt","kid":"k1"}"#), parts[1])),
            ("alg none, signature kept", header(r#"{"alg":"none","typ":"isthmus-room+jwt","kid":"k1"}"#)),
            ("alg confusion", header(r#"{"alg":"HS256","typ":"isthmus-room+jwt","kid":"k1"}"#)),
            ("another type", header(r#"{"alg":"EdDSA","typ":"JWT","kid":"k1"}"#)),
            ("no type", header(r#"{"alg":"EdDSA","kid":"k1"}"#)),
            ("no key id", header(r#"{"alg":"EdDSA","typ":"isthmus-room+jwt"}"#)),
            ("unknown key", header(r#"{"alg":"EdDSA","typ":"isthmus-room+jwt","kid":"k2"}"#)),
            ("claims changed", format!("{}.{}.{}", parts[0], segment(r#"{"sub":"eve"}"#), parts[2])),
            ("empty", String::new()),
            ("rubbish", "a.b.c".into()),
            ("too long", "a".repeat(MAX_TOKEN_BYTES + 1)),
        ];
        for (name, attack) in attacks {
            assert_eq!(verifier.verify(&attack, NOW), Err(TokenError::Invalid), "{name}");
        }
    }

    #[test]
    fn refuses_another_issuer_and_another_key() {
        let (issuer, _, room) = pair();
        let (_, stranger, _) = pair();
        let token = issuer.issue(&room, "ana", "", BOTH, NOW, 60).expect("issued");
        assert_eq!(stranger.verify(&token, NOW), Err(TokenError::Invalid), "signed with another key");
        let (private, public) = generate_key_pair().expect("random bytes are there");
        let elsewhere = Issuer::new("elsewhere", "k1", private.as_bytes()).expect("own key");
        let mut verifier = Verifier::new("test");
        verifier.trust("k1", public.as_bytes()).expect("own key");
        let token = elsewhere.issue(&room, "ana", "", BOTH, NOW, 60).expect("issued");
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Invalid), "another issuer");
    }
}
