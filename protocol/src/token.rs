//! Tokens: JWTs (RFC 7519) signed with Ed25519. Two kinds: of a room, bound to it, an identity and grants; and of access, by which a
//! person's device is known.
//!
//! What RFC 8725 asks for is pinned: the algorithm, the type, issuer and audience, the last two by kind, so that none is taken for
//! another; expiry is required; the key is found by `kid` among the keys the verifier was given and never taken from the token.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{DeviceId, PersonId, RoomId};

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

/// What a kind of token says.
pub trait Claims: Serialize + DeserializeOwned {
    /// The `typ` header (RFC 8725 section 3.11: explicit typing).
    const TYPE: &'static str;
    /// The audience.
    const AUDIENCE: &'static str;
    /// Who bears it.
    fn subject(&self) -> &str;
    /// When it was issued, in seconds since the epoch.
    fn issued_at_s(&self) -> u64;
    /// When it expires, in seconds since the epoch.
    fn expires_at_s(&self) -> u64;
}

/// The claims of a room token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomClaims {
    /// Issuer.
    pub iss: String,
    /// Audience: [`Claims::AUDIENCE`].
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

impl Claims for RoomClaims {
    const TYPE: &'static str = "isthmus-room+jwt";
    const AUDIENCE: &'static str = "isthmus-door";

    fn subject(&self) -> &str {
        &self.sub
    }

    fn issued_at_s(&self) -> u64 {
        self.iat
    }

    fn expires_at_s(&self) -> u64 {
        self.exp
    }
}

/// The claims of an access token: whose device asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Issuer.
    pub iss: String,
    /// Audience: [`Claims::AUDIENCE`].
    pub aud: String,
    /// Who.
    pub sub: PersonId,
    /// On which of their devices.
    pub device: DeviceId,
    /// Issued at, in seconds since the epoch.
    pub iat: u64,
    /// Expires at, in seconds since the epoch.
    pub exp: u64,
}

impl Claims for AccessClaims {
    const TYPE: &'static str = "isthmus-access+jwt";
    const AUDIENCE: &'static str = "isthmus";

    fn subject(&self) -> &str {
        self.sub.as_str()
    }

    fn issued_at_s(&self) -> u64 {
        self.iat
    }

    fn expires_at_s(&self) -> u64 {
        self.exp
    }
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

/// Signs tokens.
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

    /// A room token for `identity` in `room`, valid from `now_s` (seconds since the epoch) for `ttl_s` seconds.
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
        self.sign(&RoomClaims {
            iss: self.name.clone(),
            aud: RoomClaims::AUDIENCE.into(),
            sub: identity.into(),
            name: name.into(),
            room: room.clone(),
            grants,
            iat: now_s,
            exp: now_s.saturating_add(ttl_s),
        })
    }

    /// An access token for a device of `person`, valid from `now_s` (seconds since the epoch) for `ttl_s` seconds.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if signing fails.
    pub fn issue_access(
        &self,
        person: &PersonId,
        device: &DeviceId,
        now_s: u64,
        ttl_s: u64,
    ) -> Result<String, TokenError> {
        self.sign(&AccessClaims {
            iss: self.name.clone(),
            aud: AccessClaims::AUDIENCE.into(),
            sub: person.clone(),
            device: device.clone(),
            iat: now_s,
            exp: now_s.saturating_add(ttl_s),
        })
    }

    fn sign<C: Claims>(&self, claims: &C) -> Result<String, TokenError> {
        let kid = Some(self.key_id.clone());
        let header = Header { typ: Some(C::TYPE.into()), kid, ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|_| TokenError::Invalid)
    }
}

/// Checks tokens.
pub struct Verifier {
    keys: HashMap<String, DecodingKey>,
    /// The same as they are published, in the order of their names.
    public: BTreeMap<String, [u8; 32]>,
    validation: Validation,
}

impl Verifier {
    /// A verifier that trusts `issuer` and no key yet.
    pub fn new(issuer: &str) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = LEEWAY_S;
        // Expiry is checked against the time that is passed in, not against the process's clock.
        validation.validate_exp = false;
        Self { keys: HashMap::new(), public: BTreeMap::new(), validation }
    }

    /// Trusts a public key in PEM form under the name `key_id`.
    pub fn trust(&mut self, key_id: impl Into<String>, public_pem: &[u8]) -> Result<(), KeyError> {
        let (key_id, key) = (key_id.into(), DecodingKey::from_ed_pem(public_pem)?);
        if let Some(raw) = raw_public_key(public_pem) {
            self.public.insert(key_id.clone(), raw);
        }
        self.keys.insert(key_id, key);
        Ok(())
    }

    /// The keys that are trusted, by their names.
    pub fn public_keys(&self) -> impl Iterator<Item = (&str, &[u8; 32])> {
        self.public.iter().map(|(key_id, raw)| (key_id.as_str(), raw))
    }

    /// The claims of `token`, if every check holds at `now_s` (seconds since the epoch).
    pub fn verify<C: Claims>(&self, token: &str, now_s: u64) -> Result<C, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        if header.typ.as_deref() != Some(C::TYPE) || header.alg != Algorithm::EdDSA {
            return Err(TokenError::Invalid);
        }
        let key = header.kid.as_ref().and_then(|kid| self.keys.get(kid)).ok_or(TokenError::Invalid)?;
        let mut validation = self.validation.clone();
        validation.set_audience(&[C::AUDIENCE]);
        let claims = jsonwebtoken::decode::<C>(token, key, &validation).map_err(|_| TokenError::Invalid)?.claims;
        if claims.expires_at_s().saturating_add(LEEWAY_S) < now_s {
            return Err(TokenError::Expired);
        }
        let is_of_the_future = claims.issued_at_s() > now_s.saturating_add(LEEWAY_S);
        if is_of_the_future || !(1..=MAX_IDENTITY_BYTES).contains(&claims.subject().len()) {
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

/// The key in a PEM file: the last 32 bytes of its `SubjectPublicKeyInfo` (RFC 8410 section 4).
fn raw_public_key(pem: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(pem).ok()?;
    let base64: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64_STANDARD.decode(base64).ok()?;
    der.last_chunk().copied()
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
        let claims = verifier.verify::<RoomClaims>(&token, NOW + 59).expect("still valid");
        assert_eq!((claims.sub.as_str(), &claims.room, claims.grants), ("ana", &room, BOTH));
        assert_eq!(verifier.verify::<RoomClaims>(&token, NOW + 60 + LEEWAY_S + 1), Err(TokenError::Expired));
        assert_eq!(
            verifier.verify::<RoomClaims>(&token, NOW - LEEWAY_S - 1),
            Err(TokenError::Invalid),
            "issued in the future"
        );
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
            assert_eq!(verifier.verify::<RoomClaims>(&attack, NOW), Err(TokenError::Invalid), "{name}");
        }
    }

    #[test]
    fn a_token_of_one_kind_is_none_of_another() {
        let (issuer, verifier, room) = pair();
        let (person, device) = ("u-ana".parse().expect("valid"), "d-1".parse().expect("valid"));
        let access = issuer.issue_access(&person, &device, NOW, 60).expect("issued");
        let claims: AccessClaims = verifier.verify(&access, NOW + 59).expect("still valid");
        assert_eq!((&claims.sub, &claims.device), (&person, &device));
        assert_eq!(verifier.verify::<RoomClaims>(&access, NOW), Err(TokenError::Invalid));
        let of_room = issuer.issue(&room, "u-ana", "Ana", BOTH, NOW, 60).expect("issued");
        assert_eq!(verifier.verify::<AccessClaims>(&of_room, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn refuses_another_issuer_and_another_key() {
        let (issuer, _, room) = pair();
        let (_, stranger, _) = pair();
        let token = issuer.issue(&room, "ana", "", BOTH, NOW, 60).expect("issued");
        assert_eq!(stranger.verify::<RoomClaims>(&token, NOW), Err(TokenError::Invalid), "signed with another key");
        let (private, public) = generate_key_pair().expect("random bytes are there");
        let elsewhere = Issuer::new("elsewhere", "k1", private.as_bytes()).expect("own key");
        let mut verifier = Verifier::new("test");
        verifier.trust("k1", public.as_bytes()).expect("own key");
        let token = elsewhere.issue(&room, "ana", "", BOTH, NOW, 60).expect("issued");
        assert_eq!(verifier.verify::<RoomClaims>(&token, NOW), Err(TokenError::Invalid), "another issuer");
    }
}
