//! The configuration of a PoP: one TOML file, composed of what each service says it can be told.
//!
//! The keys have one truth, the serde structs of the services and of this module. Flags go before the environment,
//! that before the file, that before the defaults ([`document`] lays them over each other).

mod check;
mod document;
mod relay;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use isthmus_protocol::PopId;
use serde::Deserialize;

use self::document::Document;
pub(crate) use self::{
    document::{Override, Problem},
    relay::{KeyPair, Relay},
};

/// Everything a PoP's processes can be told. A process reads the sections of its role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which PoP: `panama`.
    pub(crate) pop: PopId,
    /// What is logged.
    #[serde(default)]
    pub(crate) telemetry: Telemetry,
    /// Ops listeners of the processes that have no HTTP of their own; the door's stands in its section.
    #[serde(default)]
    pub(crate) ops: Ops,
    /// Who the processes are to each other, and where.
    pub(crate) relay: Option<Relay>,
    /// How processes reach the store.
    pub(crate) directory: isthmus_directory::Config,
    /// The embedded store.
    pub(crate) store: Option<isthmus_directory::StoreConfig>,
    /// The media node.
    pub(crate) sfu: Option<isthmus_sfu::Config>,
    /// The door.
    pub(crate) gateway: Option<isthmus_edge_gateway::Config>,
}

/// Logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// A level, or levels per module: `warn,isthmus_sfu=debug`.
    pub(crate) log: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        // The embedded store's server warns of every refused condition, which is how writers find out about each other.
        Self { log: "info,dynoxide=error".into() }
    }
}

/// Ops listeners: metrics and health, without authentication, never public.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ops {
    /// Of the media node.
    pub(crate) sfu: Option<SocketAddr>,
    /// Of the store.
    pub(crate) store: Option<SocketAddr>,
}

/// What every section needs to know and what stands in the file once: the key and the sections.
const INHERITED: (&str, [&str; 3]) = ("pop", ["directory", "store", "gateway"]);

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub(crate) struct Invalid(Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// The configuration in `path` with `flags` and the environment over it.
    pub(crate) fn load(path: &Path, flags: &[Override]) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut overrides = Override::from_environment(std::env::vars(), &[INHERITED.0]);
        overrides.extend_from_slice(flags);
        Ok(Self::read(path, &text, &overrides)?)
    }

    /// The configuration in `text`, which stands in `path`: what it names by relative paths stands beside it.
    fn read(path: &Path, text: &str, overrides: &[Override]) -> Result<Self, Invalid> {
        let mut document = Document::parse(path, text, overrides);
        let (key, sections) = INHERITED;
        for section in sections {
            document.inherit(key, section);
        }
        let config = document.read().map(|mut config: Self| {
            let folder = path.parent().unwrap_or(Path::new(""));
            for (_, file) in config.files_mut() {
                *file = folder.join(&*file);
            }
            if let Some(store) = &mut config.store {
                store.file = folder.join(&store.file);
            }
            if let Some(accounts) = config.gateway.as_mut().and_then(|gateway| gateway.accounts.as_mut()) {
                for path in accounts.mail.folder.iter_mut().chain(&mut accounts.mail.smtp_url_file) {
                    *path = folder.join(&*path);
                }
            }
            check::check(&mut config, &mut document);
            config
        });
        match config {
            Some(config) if document.is_sound() => Ok(config),
            _ => Err(Invalid(document.into_problems())),
        }
    }

    /// Every file or folder that the configuration names and that must be there, with its key.
    fn files_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut files = Vec::new();
        if let Some(relay) = &mut self.relay {
            files.push(("relay.ca", &mut relay.ca));
            for (certificate, key, pair) in [
                ("relay.sfu.certificate", "relay.sfu.key", &mut relay.sfu),
                ("relay.door.certificate", "relay.door.key", &mut relay.door),
            ] {
                if let Some(pair) = pair {
                    files.extend([(certificate, &mut pair.certificate), (key, &mut pair.key)]);
                }
            }
        }
        if let Some(gateway) = &mut self.gateway {
            files.extend(gateway.places.iter_mut().map(|places| ("gateway.places", places)));
            files.extend(gateway.web_root.iter_mut().map(|root| ("gateway.web_root", root)));
            if let Some(tls) = &mut gateway.tls {
                files.push(("gateway.tls.certificate", &mut tls.certificate));
                files.push(("gateway.tls.key", &mut tls.key));
            }
            files.extend(gateway.tokens.trusted.iter_mut().map(|key| ("gateway.tokens.trusted", &mut key.public_key)));
            let signing = gateway.tokens.signing.iter_mut();
            files.extend(signing.map(|key| ("gateway.tokens.signing.private_key", &mut key.private_key)));
        }
        files
    }
}
