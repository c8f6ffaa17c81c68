//! `isthmus token`: a room token for tests, bots and operators.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the token's times")]

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use isthmus_protocol::token::{Grants, Issuer};

use crate::{
    cli::{Grant, Token},
    config::Config,
};

/// Prints the token that `wanted` describes, signed with the configuration's key.
pub(crate) fn print(wanted: &Token, config: &Config) -> anyhow::Result<()> {
    let now_s =
        SystemTime::now().duration_since(UNIX_EPOCH).context("the system's clock stands before 1970")?.as_secs();
    println!("{}", issue(wanted, config, now_s)?);
    Ok(())
}

fn issue(wanted: &Token, config: &Config, now_s: u64) -> anyhow::Result<String> {
    let gateway = config.gateway.as_ref().context("the configuration has no [gateway], whose key would sign")?;
    let tokens = &gateway.tokens;
    let signing = tokens.signing.as_ref().context("the configuration has no [gateway.tokens] signing key")?;
    let path = &signing.private_key;
    let key = fs::read(path).with_context(|| format!("{}: the token key cannot be read", path.display()))?;
    let issuer = Issuer::new(&tokens.issuer, &signing.id, &key).with_context(|| path.display().to_string())?;
    let grants = Grants {
        publish: wanted.grants.contains(&Grant::Publish),
        subscribe: wanted.grants.contains(&Grant::Subscribe),
    };
    issuer
        .issue(&wanted.room, &wanted.identity, &wanted.name, grants, now_s, wanted.ttl)
        .context("--identity must have 1 to 128 bytes")
}
