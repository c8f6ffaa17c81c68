//! The state folder: the keys, certificates and configuration that the cluster's processes start from.
//!
//! | in the folder        | what                                                     |
//! |----------------------|----------------------------------------------------------|
//! | `POP.toml`           | configuration of a PoP, written anew at every start      |
//! | `POP-sfu-N.toml`     | that of each of its media nodes after the first          |
//! | `ca/`                | the development CA, kept                                 |
//! | `tls/`               | certificates of the processes, made anew at every start  |
//! | `tokens/`            | the key pair of room tokens, kept                        |
//! | `store/`             | the stores' files, kept                                  |
//! | `logs/`, `pids.json` | what the processes leave                                 |

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use isthmus_protocol::token;
use isthmus_relay::{DevelopmentCa, IssuedCertificate, PeerIdentity};

use super::{
    configuration,
    layout::{Pop, Process},
};

/// A state folder, usually `.isthmus`.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, made if there is none.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
        for name in ["logs", "tls", "tokens", "store"] {
            let folder = path.join(name);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the processes' logs are.
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The configuration of a PoP.
    pub(super) fn config(&self, pop: &Pop) -> PathBuf {
        self.path.join(format!("{}.toml", pop.id))
    }

    /// The configuration that a process of a PoP runs by.
    pub(super) fn config_of(&self, pop: &Pop, process: &Process) -> PathBuf {
        let further = pop.media_nodes().into_iter().skip(1).any(|node| node.process == *process);
        if further { self.path.join(format!("{}.toml", process.name)) } else { self.config(pop) }
    }

    /// Writes everything that the processes of `here`, PoPs of the cluster `pops`, need. `web` is the built web app.
    pub(super) fn write(&self, pops: &[Pop], here: &[Pop], web: Option<&Path>) -> anyhow::Result<()> {
        // Clusters that span network namespaces share the folder: the first makes the CA and the keys, the others take them.
        let lock = self.path.join("state.lock");
        let held = File::create(&lock).and_then(|file| file.lock().map(|()| file));
        let _held = held.with_context(|| lock.display().to_string())?;
        let ca = DevelopmentCa::open_or_create(&self.path.join("ca"))?;
        self.token_keys().context("the token key pair")?;
        for pop in here {
            self.certificates(&ca, pop)?;
            let whole = (self.config(pop), configuration::toml(pop, pops, web));
            let further = pop
                .media_nodes()
                .into_iter()
                .skip(1)
                .map(|node| (self.config_of(pop, &node.process), configuration::further_node(pop, &node, pops)));
            for (path, text) in [whole].into_iter().chain(further) {
                fs::write(&path, text).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    fn certificates(&self, ca: &DevelopmentCa, pop: &Pop) -> anyhow::Result<()> {
        let nodes = pop.media_nodes().into_iter().map(|node| (isthmus_relay::Role::Sfu, node.process.name));
        for (role, node) in nodes.chain([(isthmus_relay::Role::Door, pop.door().name)]) {
            let identity = PeerIdentity { role, node: node.clone(), pop: pop.id.clone() };
            self.write_certificate(&ca.issue(&identity)?, node.as_str())?;
        }
        if pop.https() {
            self.write_certificate(&ca.issue_https(&pop.https_names())?, &format!("{}-https", pop.id))?;
        }
        Ok(())
    }

    fn write_certificate(&self, issued: &IssuedCertificate, name: &str) -> anyhow::Result<()> {
        let tls = self.path.join("tls");
        Ok(issued.write(&tls.join(format!("{name}.pem")), &tls.join(format!("{name}-key.pem")))?)
    }

    fn token_keys(&self) -> anyhow::Result<()> {
        let tokens = self.path.join("tokens");
        let (private, public) = (tokens.join("private.pem"), tokens.join("public.pem"));
        if private.exists() && public.exists() {
            return Ok(());
        }
        let (private_pem, public_pem) = token::generate_key_pair()?;
        fs::write(&public, public_pem)?;
        write_secret(&private, &private_pem)?;
        Ok(())
    }
}

/// Writes a file that only its owner may read, from its first byte on.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::{
        config::Config,
        dev::layout::{self, Choices},
    };

    fn cluster(https: bool) -> Vec<Pop> {
        let choices = Choices {
            base_port: 7100,
            pops: Vec::new(),
            media_nodes: 2,
            bind: Ipv4Addr::LOCALHOST.into(),
            addresses: [("zurich".parse().unwrap(), "10.0.3.1".parse().unwrap())].into(),
            https,
            domain: https.then(|| "isthmus.test".into()),
        };
        layout::pops(&choices).unwrap()
    }

    #[test]
    fn what_is_written_is_a_sound_configuration_for_every_pop() {
        for https in [false, true] {
            let state = tempfile::tempdir().unwrap();
            let folder = Folder::open(state.path()).unwrap();
            let pops = cluster(https);
            folder.write(&pops, &pops, None).unwrap();
            for pop in &pops {
                let config = Config::load(&folder.config(pop), &[]).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(config.gateway.expect("a door").public_url, pop.url());
                let relay = config.relay.expect("a relay");
                let credentials = relay.credentials(relay.sfu.as_ref().expect("a certificate")).expect("they fit");
                let nodes = pop.media_nodes();
                assert_eq!(credentials.identity().node, nodes[0].process.name);
                assert_eq!(relay.known_peers().len(), 5);
                let further = Config::load(&folder.config_of(pop, &nodes[1].process), &[]);
                let relay = further.unwrap_or_else(|error| panic!("{error}")).relay.expect("a relay");
                let credentials = relay.credentials(relay.sfu.as_ref().expect("a certificate")).expect("they fit");
                assert_eq!(credentials.identity().node, nodes[1].process.name);
            }
        }
    }

    #[test]
    fn keys_are_kept_and_only_their_owner_reads_them() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::open(state.path()).unwrap();
        let pops = cluster(false);
        let key = state.path().join("tokens/private.pem");
        folder.write(&pops, &pops[..1], None).unwrap();
        let first = fs::read(&key).unwrap();
        folder.write(&pops, &pops[1..], None).unwrap();
        assert_eq!(first, fs::read(&key).unwrap());
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
