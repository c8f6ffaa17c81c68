//! The `loadtest` program: arguments in, exit code out. What it does is in the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::{bench, client, exit, floor, run, wan};

/// Tests an Isthmus installation from outside: puts load on it, emulates the network between places, joins calls as clients do,
/// and measures what the machine could do at best.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: LoadtestCommand,
}

const EXAMPLES: &str = "\
Examples:
  Join a room of the development cluster for half a minute and print what was received:
    loadtest join --url http://127.0.0.1:7100 --room demo --name bot --publish audio,video --simulcast --duration 30s

  Put 20 meetings on it for a minute and a half, and fail if joining takes long or packets are lost:
    loadtest run loadtest/scenarios/meeting.toml --html meeting.html --threshold 'join_ms.p95 <= 250'

  Make three points of presence and a client near each, as root, until Ctrl-C:
    loadtest wan --preset three-pops --counters /tmp/counters.json

  Run one command on one host of such a world:
    loadtest wan --preset three-pops run client-milan -- ping -c 3 10.77.6.2

  Measure what sealing and sending a packet costs this machine at best:
    loadtest floor

  What carrying media costs, beside that floor and beside Janus, in one table:
    loadtest bench --loads camera --receivers 60

Exit codes: 0 passed, 1 the run itself failed, 2 bad usage, 99 a threshold was crossed.
RUST_LOG sets what is logged to standard error (default: warn).";

const WAN_HELP: &str = r#"A scenario:
  [host.zurich]
  role = "pop"
  [host.client-milan]          # its address is 10.77.N.2, N counting hosts in alphabetical order from 1
  [[link]]                     # hosts without a link cannot reach each other
  from = "client-milan"
  to = "zurich"
  rtt_ms = 12                  # or one_way_ms, for from -> to alone
  jitter_ms = 3                # this and what follows: in each direction; all optional
  loss = 0.001                 # a share, 0 to 1
  rate_mbps = 50
  queue_ms = 200               # longest wait behind the rate cap; then packets are dropped
  reorder = false
  block = "udp"                # or "tcp"
  [[run]]                      # optional; the world ends when the last command has ended
  host = "client-milan"
  command = ["ping", "-c", "3", "10.77.2.2"]

When the world stands, a line `ready {"control": SOCKET, "hosts": {NAME: {namespace, address, nearest_pop}}}` is
printed. Then `ip netns exec NAMESPACE COMMAND` runs a command on a host, and `loadtest wan ctl --control SOCKET`
changes links, partitions hosts and prints counters. Commands find addresses in WAN_ADDRESS_ZURICH and so on.
Ctrl-C or SIGTERM ends the world and every process in it. Needs root, /dev/net/tun and iproute2."#;

#[derive(Debug, Subcommand)]
enum LoadtestCommand {
    /// Emulates a wide-area network between hosts on this machine (network namespaces)
    #[command(after_long_help = WAN_HELP, after_help = "--help shows a scenario and how to use a running world.")]
    Wan(wan::command::WanArguments),
    /// Runs a load test: many clients by a scenario, reports, thresholds
    #[command(after_long_help = run::command::HELP, after_help = "--help shows a scenario with every key.")]
    Run(Box<run::command::RunArguments>),
    /// Joins a room as a headless client, publishes, receives, and reports what it measured
    Join(client::command::JoinArguments),
    /// Measures what this machine could do at best: CPU time to seal and send a packet
    #[command(after_help = floor::command::HELP)]
    Floor(floor::command::FloorArguments),
    /// Measures what carrying media costs: the floor, Isthmus and Janus with the same loads, one table
    #[command(after_long_help = bench::command::HELP, after_help = "--help shows what is measured and what the columns say.")]
    Bench(Box<bench::command::BenchArguments>),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match arguments.command {
        LoadtestCommand::Wan(arguments) => wan::command::run(arguments).await,
        LoadtestCommand::Run(arguments) => Box::pin(run::command::run(*arguments)).await,
        LoadtestCommand::Join(arguments) => client::command::run(arguments).await,
        LoadtestCommand::Floor(arguments) => floor::command::run(&arguments),
        LoadtestCommand::Bench(arguments) => Box::pin(bench::command::run(*arguments)).await,
    };
    result.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        exit::code_of(&error)
    })
}
