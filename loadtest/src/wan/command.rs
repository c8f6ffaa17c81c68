//! `loadtest wan`: makes a world, keeps it until its commands end or a signal comes, and takes it down.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use tokio::{
    net::UnixListener,
    process::{Child, Command},
};

use super::{
    control::{self, ControlReply, ControlRequest, Controls, LinkChange},
    core::HostId,
    presets,
    scenario::{HostCommand, Scenario},
    world::World,
};
use crate::{exit, signals::EndSignals};

/// How often the counters file is rewritten.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `loadtest wan`.
#[derive(Debug, Args)]
pub struct WanArguments {
    #[command(flatten)]
    world: WorldArguments,
    #[command(subcommand)]
    action: Option<WanAction>,
}

#[derive(Debug, Args)]
struct WorldArguments {
    /// Scenario to make; `loadtest wan --help` shows one
    #[arg(value_name = "SCENARIO.toml", conflicts_with = "preset")]
    scenario: Option<PathBuf>,
    /// Built-in scenario instead of a file
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(presets::names()))]
    preset: Option<String>,
    /// Permutes the places of clients, so that a table of geography fails
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// File to rewrite every second, and at the end, with the counters of every link as JSON
    #[arg(long, value_name = "FILE")]
    counters: Option<PathBuf>,
    /// Where to put the control socket [default: a path in the temporary directory, see the ready line]
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum WanAction {
    /// Runs one command on a host of the world and ends with its exit code
    #[command(after_help = "Example:\n  loadtest wan --preset three-pops run client-milan -- ping -c 3 10.77.6.2")]
    Run {
        /// The host
        host: String,
        /// Program and arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Asks or changes a world that runs
    Ctl {
        /// The control socket, from the ready line
        #[arg(long, value_name = "SOCKET", env = "WAN_CONTROL")]
        control: PathBuf,
        #[command(subcommand)]
        request: CtlRequest,
    },
}

#[derive(Debug, Subcommand)]
enum CtlRequest {
    /// Changes the link from one host to another
    Set {
        /// Sending host
        from: String,
        /// Receiving host
        to: String,
        /// Changes this direction only, not the way back
        #[arg(long)]
        one_direction: bool,
        #[command(flatten)]
        change: LinkChange,
    },
    /// Cuts a host off from another one, or from all
    Partition {
        /// One side
        host: String,
        /// The other side; without it every other host
        other: Option<String>,
    },
    /// Undoes a partition
    Heal {
        /// One side
        host: String,
        /// The other side; without it every other host
        other: Option<String>,
    },
    /// Prints what every link saw so far, as JSON
    Counters,
}

impl From<CtlRequest> for ControlRequest {
    fn from(request: CtlRequest) -> Self {
        match request {
            CtlRequest::Set { from, to, one_direction, change } => Self::Set { from, to, both: !one_direction, change },
            CtlRequest::Partition { host, other } => Self::Partition { host, other },
            CtlRequest::Heal { host, other } => Self::Heal { host, other },
            CtlRequest::Counters => Self::Counters,
        }
    }
}

/// Runs `loadtest wan`.
pub async fn run(arguments: WanArguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Some(WanAction::Ctl { control, request }) => ctl(&control, &request.into()),
        Some(WanAction::Run { host, command }) => {
            let scenario = arguments.world.scenario()?;
            let Some(host) = scenario.host(&host) else {
                bail!(exit::BadUsage(format!("the scenario has no host {host:?}")));
            };
            let commands = vec![HostCommand { host, command }];
            // The command's own output has standard output to itself.
            hold(&arguments.world, Scenario { commands, ..scenario }, &mut std::io::stderr()).await
        }
        None => hold(&arguments.world, arguments.world.scenario()?, &mut std::io::stdout()).await,
    }
}

impl WorldArguments {
    fn scenario(&self) -> anyhow::Result<Scenario> {
        let scenario = match (&self.scenario, &self.preset) {
            (Some(file), _) => Scenario::read(file).map_err(|error| exit::BadUsage(error.to_string()))?,
            (None, Some(name)) => presets::preset(name).expect("clap takes only names of presets"),
            (None, None) => bail!(exit::BadUsage("name a scenario file or a --preset".into())),
        };
        Ok(match self.shuffle {
            Some(seed) => scenario.with_shuffled_clients(seed),
            None => scenario,
        })
    }
}

fn ctl(socket: &Path, request: &ControlRequest) -> anyhow::Result<ExitCode> {
    match control::ask(socket, request)? {
        ControlReply::Done => Ok(ExitCode::SUCCESS),
        ControlReply::Counters(counters) => {
            writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&counters)?)?;
            Ok(ExitCode::SUCCESS)
        }
        ControlReply::Refused { problem } => bail!(exit::BadUsage(problem)),
    }
}

async fn hold(
    arguments: &WorldArguments,
    scenario: Scenario,
    ready: &mut impl std::io::Write,
) -> anyhow::Result<ExitCode> {
    // Before the first namespace is made: from here on a signal ends this function instead of the process, and the
    // world is dropped.
    let mut ended = EndSignals::listen()?;
    let world = World::create(scenario)?;
    let socket = ControlSocket::bind(arguments.control.clone())?;
    let description = world.describe();
    let controls = Controls::new(world.scenario().clone(), world.router().clone());
    let line = serde_json::json!({ "control": socket.path, "subnet": description.subnet, "hosts": description.hosts });
    writeln!(ready, "ready {line}").context("cannot print the ready line")?;
    let mut children = start_commands(&world, &socket.path)?;
    let code = tokio::select! {
        () = control::serve(socket.listener, controls) => ExitCode::SUCCESS,
        result = write_counters(arguments.counters.as_deref(), &world) => result.map(|()| ExitCode::SUCCESS)?,
        result = wait_for_commands(&mut children), if !children.is_empty() => result?,
        // A world alone is ended in no other way; a command that was running was cut short.
        () = ended.next() => ExitCode::from(if children.is_empty() { 0 } else { exit::FAILED }),
    };
    if let Some(file) = &arguments.counters {
        write_counters_once(file, &world)?;
    }
    Ok(code)
}

/// The control socket; its file goes away with it.
struct ControlSocket {
    listener: UnixListener,
    path: SocketPath,
}

#[derive(serde::Serialize)]
#[serde(transparent)]
struct SocketPath(PathBuf);

impl ControlSocket {
    fn bind(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let chosen = || std::env::temp_dir().join(format!("isthmus-wan-{}.sock", std::process::id()));
        let path = path.unwrap_or_else(chosen);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot make the control socket {}: remove it if it is stale", path.display()))?;
        Ok(Self { listener, path: SocketPath(path) })
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Nothing is lost if somebody else has removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn start_commands(world: &World, control: &SocketPath) -> anyhow::Result<Vec<Child>> {
    world.scenario().commands.iter().map(|command| start_command(world, command, &control.0)).collect()
}

fn start_command(world: &World, command: &HostCommand, control: &Path) -> anyhow::Result<Child> {
    let HostCommand { host: HostId(index), command: words } = command;
    let namespace = world.namespace(command.host).expect("the scenario's hosts all have a namespace");
    let [program, arguments @ ..] = words.as_slice() else { bail!("a command needs a program") };
    let mut child = std::process::Command::new(program);
    child.args(arguments).env("WAN_CONTROL", control);
    world.describe_to(&mut child, command.host);
    let runtime = tokio::runtime::Handle::current();
    let started = namespace.enter(move || {
        let _inside_runtime = runtime.enter();
        Command::from(child).spawn()
    });
    started.with_context(|| format!("cannot start {program} on {}", world.scenario().hosts[*index].name))
}

/// Waits for all, and passes the first exit code that is not 0.
async fn wait_for_commands(children: &mut [Child]) -> anyhow::Result<ExitCode> {
    let mut first_failure = None;
    for child in children {
        let status = child.wait().await.context("cannot wait for a command")?;
        if !status.success() {
            // A command that a signal ended has no code.
            first_failure = first_failure.or(Some(status.code().unwrap_or(i32::from(exit::FAILED))));
        }
    }
    Ok(ExitCode::from(first_failure.unwrap_or(0) as u8))
}

/// Never ends but with an error.
async fn write_counters(file: Option<&Path>, world: &World) -> anyhow::Result<()> {
    let Some(file) = file else { return std::future::pending().await };
    let mut interval = tokio::time::interval(COUNTERS_INTERVAL);
    loop {
        interval.tick().await;
        write_counters_once(file, world)?;
    }
}

/// Written beside and renamed, so that a reader never sees half a file.
fn write_counters_once(file: &Path, world: &World) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&world.router().counters()?)?;
    let beside = file.with_extension("new");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file));
    written.with_context(|| format!("cannot write the counters to {}", file.display()))
}
