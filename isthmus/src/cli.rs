//! The command line.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use isthmus_protocol::{PopId, RoomId};

use crate::{config::Override, dev::MAX_MEDIA_NODES};

/// Isthmus: calls through the nearest of several points of presence (PoPs).
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What is logged: a level from `error` to `trace`, or levels per module: `warn,isthmus_sfu=debug`. Over the file's.
    #[arg(long, global = true, env = "ISTHMUS_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// End when the process with this id, which started this one, ends.
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub(crate) die_with_parent: Option<i32>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  isthmus dev                                  three PoPs on this machine: http://localhost:7100
  isthmus token --config .isthmus/panama.toml --room demo --identity ana
  isthmus check-config /etc/isthmus/pop.toml   every mistake with its line
  isthmus pop --config /etc/isthmus/pop.toml   a whole PoP in one process

Exit codes:
  0  done, or ended by SIGTERM or Ctrl-C
  1  failed; the reason is the last line on standard error
  2  the command line does not read

Configuration: a flag (--set SECTION.KEY=VALUE, --set pop=VALUE) goes before the environment
(ISTHMUS_SECTION__KEY=VALUE, ISTHMUS_POP=VALUE), that before the file, that before the defaults.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run three PoPs on this machine, each of three processes, until Ctrl-C.
    Dev(Box<Dev>),
    /// Run every role that the configuration has in one process: a PoP for a small installation.
    Pop(Configured),
    /// Run a media node.
    Sfu(Configured),
    /// Run a door: the public HTTP and signalling of a PoP.
    Gateway(Configured),
    /// Run the embedded store of a PoP (development and small installations; production is DynamoDB).
    Directory(Configured),
    /// Print a room token.
    Token(Token),
    /// Check a configuration file: prints every mistake with its line and column; exits 0 if there is none, else 1.
    CheckConfig(CheckConfig),
}

/// A configuration and what goes before it.
#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// The PoP's TOML file.
    #[arg(long, env = "ISTHMUS_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// Take VALUE for SECTION.KEY, whatever the file and the environment say; a TOML value, or else a string. Repeatable.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = Override::from_flag)]
    pub(crate) set: Vec<Override>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckConfig {
    /// The PoP's TOML file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  isthmus token --config .isthmus/panama.toml --room demo --identity ana --grant subscribe --ttl 10m")]
pub(crate) struct Token {
    #[command(flatten)]
    pub(crate) configured: Configured,

    /// The one room it is for.
    #[arg(long)]
    pub(crate) room: RoomId,

    /// Who bears it.
    #[arg(long)]
    pub(crate) identity: String,

    /// The name others see; the client chooses one if this is empty.
    #[arg(long, default_value = "")]
    pub(crate) name: String,

    /// What it allows.
    #[arg(long = "grant", value_delimiter = ',', default_value = "publish,subscribe")]
    pub(crate) grants: Vec<Grant>,

    /// How long it is valid: a number and s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = parse_duration_s)]
    pub(crate) ttl: u64,
}

/// One thing a token may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Grant {
    /// Send audio and video.
    Publish,
    /// Receive audio and video.
    Subscribe,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the URLs, then a line that begins with `ready` once every process answers. Processes and their ids stand in
STATE/pids.json, their logs in STATE/logs/. One that dies is started again: doors and stores after 1 s, media nodes
after 3 s.

Examples:
  isthmus dev --pops panama,zurich --no-restart
  isthmus dev --state /tmp/second --base-port 0         a second cluster, on free ports
  isthmus dev --pops zurich --media-nodes 2             a PoP of two media nodes
  isthmus dev --https --domain isthmus.test             https://panama.isthmus.test:7100, by the development CA
  isthmus dev --only zurich --address panama=10.0.1.1 --address singapore=10.0.2.1 --address zurich=10.0.3.1
                                                        one PoP of a cluster that spans network namespaces")]
pub(crate) struct Dev {
    /// Where keys, certificates, configuration, logs and the stores' files are kept.
    #[arg(long, env = "ISTHMUS_STATE_DIR", default_value = ".isthmus", value_name = "DIR")]
    pub(crate) state: PathBuf,

    /// The PoPs of the cluster.
    #[arg(long, value_delimiter = ',', default_value = "panama,singapore,zurich")]
    pub(crate) pops: Vec<PopId>,

    /// Media nodes of each PoP, 4 at most. Those after the first have their ports at the end of the PoP's.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = media_node_count())]
    pub(crate) media_nodes: u8,

    /// Run the processes of these PoPs alone; others of the cluster run elsewhere, with the same flags and state folder.
    #[arg(long, value_delimiter = ',', value_name = "POPS")]
    pub(crate) only: Vec<PopId>,

    /// First port of panama; singapore's are 100 higher, zurich's 200. 0: a free block, chosen by the system.
    #[arg(long, default_value_t = 7100, value_name = "PORT")]
    pub(crate) base_port: u16,

    /// The address every PoP listens on and is reached at.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) bind: IpAddr,

    /// The address of one PoP. Repeatable.
    #[arg(long = "address", value_name = "POP=ADDRESS", value_parser = parse_address)]
    pub(crate) addresses: Vec<(PopId, IpAddr)>,

    /// Serve HTTPS and WSS with certificates of the development CA (STATE/ca/).
    #[arg(long)]
    pub(crate) https: bool,

    /// Each PoP is the host POP.DOMAIN, which must resolve to its address on the clients.
    #[arg(long)]
    pub(crate) domain: Option<String>,

    /// The built web app.
    #[arg(long, env = "ISTHMUS_WEB_DIR", default_value = "web/dist", value_name = "DIR")]
    pub(crate) web: PathBuf,

    /// Leave processes dead that die.
    #[arg(long)]
    pub(crate) no_restart: bool,
}

fn media_node_count() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=i64::from(MAX_MEDIA_NODES))
}

fn parse_address(text: &str) -> Result<(PopId, IpAddr), String> {
    let (pop, address) = text.split_once('=').ok_or("expected POP=ADDRESS, such as zurich=10.0.3.1")?;
    let pop = pop.parse().map_err(|error| format!("{error}"))?;
    let address = address.parse().map_err(|error| format!("{address:?}: {error}"))?;
    Ok((pop, address))
}

/// Seconds from "90s", "10m", "1h", "7d".
fn parse_duration_s(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86400)];
    let wanted =
        || format!("{text:?} is not a duration: expected a number above 0 and s, m, h or d, such as 90s or 1h");
    let (_, seconds) = UNITS.iter().find(|(unit, _)| text.ends_with(*unit)).ok_or_else(wanted)?;
    let number: u64 = text.get(..text.len() - 1).and_then(|n| n.parse().ok()).ok_or_else(wanted)?;
    number.checked_mul(*seconds).filter(|total| *total > 0).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_read_as_people_write_them() {
        let read = |text| parse_duration_s(text).ok();
        assert_eq!(
            [read("90s"), read("10m"), read("1h"), read("7d")],
            [Some(90), Some(600), Some(3600), Some(604_800)]
        );
        for bad in ["", "h", "1", "-1h", "0s", "1.5h", "1w", "1ä", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
