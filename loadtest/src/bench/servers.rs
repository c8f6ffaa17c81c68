//! The servers that are measured, as children of this program: each is started for one load in a folder of its own, so that
//! its memory is of that load alone, and ended by its process id.

#![expect(clippy::disallowed_methods, reason = "IO: waits with deadlines, draws secrets")]

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Url;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::run::scenario::{Server, Service, Target};

/// How long a server may take until it is ready, and then until it has ended.
const READY_WITHIN: Duration = Duration::from_mins(1);
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// More than any load has.
const MAX_PARTICIPANTS: u32 = 40_000;
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is shown of the log of a server that did not become ready.
const LAST_LINES: usize = 12;
/// Where Debian's package has what it loads.
const JANUS_PLUGINS: &str = "/usr/lib/x86_64-linux-gnu/janus";
/// Plugins and transports that are not measured are not loaded.
const JANUS_VIDEOROOM: &str = "libjanus_videoroom.so";
const JANUS_WEBSOCKETS: &str = "libjanus_websockets.so";

/// A server that is ready, or one that was ready before.
pub(super) struct Running {
    /// What to join.
    pub(super) target: Target,
    /// What can be seen of it.
    pub(super) server: Server,
    child: Option<(Child, TempDir)>,
}

/// An Isthmus that runs already.
#[derive(Debug, Clone)]
pub(super) struct Elsewhere {
    pub(super) url: Url,
    pub(super) server: Server,
}

impl Running {
    /// An Isthmus that somebody else started.
    pub(super) fn elsewhere(isthmus: &Elsewhere) -> Self {
        let service = Service::Isthmus { url: isthmus.url.clone(), pops: Vec::new() };
        Self { target: Target { service, authority: None }, server: isthmus.server.clone(), child: None }
    }

    /// One PoP of the development cluster, with so many shards (0: one for each core).
    pub(super) async fn isthmus(program: &Path, base_port: u16, shards: u8) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for Isthmus")?;
        let log = folder.path().join("cluster.log");
        let mut command = Command::new(program);
        command.args(["dev", "--pops", "panama", "--no-restart", "--base-port", &base_port.to_string(), "--state"]);
        command.arg(folder.path()).env("ISTHMUS_SFU__SHARDS", shards.to_string());
        command.env("ISTHMUS_SFU__MAX_PARTICIPANTS", MAX_PARTICIPANTS.to_string());
        let mut child = spawn(command, program.as_os_str(), &log)?;
        until_ready(&mut child, &log, async || {
            std::fs::read_to_string(&log).is_ok_and(|said| said.lines().any(|line| line.starts_with("ready")))
        })
        .await
        .context("Isthmus did not become ready")?;
        let file = folder.path().join("panama.toml");
        let written = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let written: toml::Table = written.parse().with_context(|| format!("cannot read {}", file.display()))?;
        let key = |section: &str, key: &str| {
            let value = written.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_str);
            value.with_context(|| format!("{} has no {section}.{key}", file.display()))
        };
        let service = Service::Isthmus { url: Url::parse(key("gateway", "public_url")?)?, pops: Vec::new() };
        let server = Server {
            pid_files: vec![folder.path().join("pids.json")],
            metrics: vec![Url::parse(&format!("http://{}/metrics", key("ops", "sfu")?))?],
            ..Server::default()
        };
        Ok(Self { target: Target { service, authority: None }, server, child: Some((child, folder)) })
    }

    /// Janus with its videoroom and its WebSocket API, all else as Debian ships it.
    pub(super) async fn janus(program: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for Janus")?;
        let log = folder.path().join("janus.log");
        let address =
            own_address().context("Janus has no candidates on loopback: this machine needs another address")?;
        let address = free_address(address).context("cannot find a free port")?;
        let secret = format!("{:032x}", rand::random::<u128>());
        configure_janus(folder.path(), Path::new(JANUS_PLUGINS), address, &secret)?;
        let mut command = Command::new(program);
        command.arg("--configs-folder").arg(folder.path());
        command.arg("--config").arg(folder.path().join("janus.jcfg"));
        let mut child = spawn(command, program.as_os_str(), &log)
            .context("is Janus installed? `apt-get install janus` (make setup does it)")?;
        let pid = child.id().context("Janus ended at once")?;
        until_ready(&mut child, &log, async || TcpStream::connect(address).await.is_ok())
            .await
            .context("Janus did not become ready")?;
        let url = Url::parse(&format!("ws://{address}"))?;
        let target = Target { service: Service::Janus { url, secret: Some(secret) }, authority: None };
        let server = Server { pids: vec![pid], ..Server::default() };
        Ok(Self { target, server, child: Some((child, folder)) })
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let Some((mut child, _folder)) = self.child else { return Ok(()) };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(ENDS_WITHIN, child.wait()).await.is_err() {
            child.kill().await.context("a server did not end")?;
        }
        Ok(())
    }
}

/// Starts a child that ends with this program, its output in `log`.
fn spawn(mut command: Command, program: &OsStr, log: &Path) -> anyhow::Result<Child> {
    let output = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone()?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot run {}", program.display()))
}

async fn until_ready(child: &mut Child, log: &Path, mut ready: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while !ready().await {
        if let Some(status) = child.try_wait()? {
            bail!("it ended ({status}):\n{}", last_lines(log));
        }
        if Instant::now() > deadline {
            bail!("it was not within {} s:\n{}", READY_WITHIN.as_secs(), last_lines(log));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn last_lines(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// An address of this machine that is not loopback. What is sent to it from here does not leave the machine.
fn own_address() -> Option<Ipv4Addr> {
    let interfaces = getifaddrs().ok()?;
    let up = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let mut outside = up.filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    outside.find_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
}

/// A port that was free a moment ago. Janus cannot be told to take any.
fn free_address(address: Ipv4Addr) -> std::io::Result<SocketAddr> {
    TcpListener::bind((address, 0))?.local_addr()
}

/// Writes Janus's configuration: the videoroom, the WebSocket API at this address for those who know the secret, nothing else.
fn configure_janus(folder: &Path, installed: &Path, api: SocketAddr, secret: &str) -> anyhow::Result<()> {
    let others = |kind: &str, kept: &str| -> anyhow::Result<String> {
        let there = installed.join(kind);
        let entries = std::fs::read_dir(&there).with_context(|| format!("cannot read {}", there.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut others: Vec<_> =
            names.filter(|name| Path::new(name).extension() == Some(OsStr::new("so")) && name != kept).collect();
        others.sort();
        Ok(others.join(","))
    };
    let core = format!(
        r#"general: {{
    configs_folder = "{folder}"
    plugins_folder = "{installed}/plugins"
    transports_folder = "{installed}/transports"
    debug_level = 3
    debug_colors = false
    api_secret = "{secret}"
}}
nat: {{
    ice_enforce_list = "{ip}"
}}
plugins: {{
    disable = "{plugins}"
}}
transports: {{
    disable = "{transports}"
}}
"#,
        ip = api.ip(),
        folder = folder.display(),
        installed = installed.display(),
        plugins = others("plugins", JANUS_VIDEOROOM)?,
        transports = others("transports", JANUS_WEBSOCKETS)?,
    );
    let websockets = format!(
        "general: {{\n    json = \"compact\"\n    ws = true\n    ws_port = {port}\n    ws_ip = \"{ip}\"\n}}\n",
        ip = api.ip(),
        port = api.port(),
    );
    // Rooms are made by those who publish; without a file the plugin would complain.
    let files = [
        ("janus.jcfg", core.as_str()),
        ("janus.transport.websockets.jcfg", &websockets),
        ("janus.plugin.videoroom.jcfg", "general: {\n}\n"),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// The program beside this one.
pub(super) fn isthmus_beside_this() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("isthmus")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn janus_loads_the_videoroom_and_websockets_alone() {
        let installed = tempfile::tempdir().expect("a folder");
        for file in ["plugins/libjanus_sip.so", "plugins/libjanus_videoroom.so", "transports/libjanus_http.so"] {
            let file = installed.path().join(file);
            std::fs::create_dir_all(file.parent().expect("it has one")).expect("a folder");
            std::fs::write(file, "").expect("a file");
        }
        let folder = tempfile::tempdir().expect("a folder");
        configure_janus(folder.path(), installed.path(), "192.0.2.1:4711".parse().expect("good"), "s3cret")
            .expect("it can be written");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("it was written");
        let core = read("janus.jcfg");
        assert!(
            core.contains(r#"api_secret = "s3cret""#)
                && core.contains(r#"disable = "libjanus_sip.so""#)
                && core.contains(r#"disable = "libjanus_http.so""#),
            "{core}"
        );
        assert!(read("janus.transport.websockets.jcfg").contains("ws_port = 4711"));
        assert!(
            configure_janus(folder.path(), Path::new("/nowhere"), "192.0.2.1:1".parse().expect("good"), "").is_err()
        );
    }

    #[tokio::test]
    async fn a_server_that_ends_says_its_last_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck today; exit 3"]);
        let mut child = spawn(command, OsStr::new("sh"), &log).expect("there is a shell");
        let error = until_ready(&mut child, &log, async || false).await.expect_err("it ended").to_string();
        assert!(error.contains("exit status: 3") && error.contains("no luck today"), "{error}");
    }
}
