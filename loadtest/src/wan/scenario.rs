//! What world to make: hosts, links and commands, read from TOML and checked before anything is made.
//!
//! ```toml
//! subnet = "10.77.0.0/16"   # host number N, in alphabetical order from 1, is 10.77.N.2
//! seed = 1                  # of losses and jitter
//! mtu = 1500                # bytes of an IP packet
//!
//! [host.panama]
//! role = "pop"              # or "client"; `--shuffle` permutes the places of clients
//! [host.client-bogota]
//! role = "client"
//! place = "Bogotá"          # for people
//! address = "10.77.50.2"    # instead of the counted one
//!
//! [[link]]                  # without a link two hosts cannot reach each other
//! from = "client-bogota"
//! to = "panama"
//! rtt_ms = 22               # both directions, half each; or `one_way_ms`: only from -> to
//! jitter_ms = 3             # and all that follows: in each direction
//! loss = 0.001              # share of packets
//! rate_mbps = 50            # cap over IP packets; without it there is none
//! queue_ms = 200            # the longest wait behind the cap; then packets are dropped
//! reorder = false           # whether jitter may reorder
//! block = "udp"             # or "tcp": dropped, as by a firewall
//!
//! [[run]]                   # optional: the world ends when the last command has ended
//! host = "client-bogota"
//! command = ["ping", "-c", "3", "10.77.2.2"]
//! ```

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, path::Path, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::core::{Block, HostId, LinkParameters};
use crate::toml_source::{self, FileError, Source};

/// The longest host name: it becomes part of a namespace's name.
const MAX_HOST_NAME_BYTES: usize = 40;
/// The most hosts of one world.
const MAX_HOSTS: usize = 64;

/// A scenario that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The network of all hosts.
    pub subnet: Subnet,
    /// Of losses and jitter.
    pub seed: u64,
    /// The most bytes of an IP packet.
    pub mtu: u16,
    /// In alphabetical order; [`HostId`] counts along it.
    pub hosts: Vec<Host>,
    /// Every direction that has a link.
    pub links: BTreeMap<(HostId, HostId), LinkParameters>,
    /// What to run.
    pub commands: Vec<HostCommand>,
}

/// One host: one network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in the scenario.
    pub name: String,
    /// What it stands for.
    pub role: Role,
    /// Where it stands, for people.
    pub place: Option<String>,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What a host stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A point of presence.
    Pop,
    /// Someone who calls.
    #[default]
    Client,
}

/// A command that the scenario runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// Where.
    pub host: HostId,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
}

/// An IPv4 network with a prefix of 16 bits, written `10.77.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Subnet([u8; 2]);

impl Subnet {
    fn address_of(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.0[0], self.0[1], number, 2)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        address.octets()[..2] == self.0
    }
}

impl Default for Subnet {
    fn default() -> Self {
        Self([10, 77])
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0.0/16", self.0[0], self.0[1])
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    /// Private networks only (RFC 1918): an emulated world must not be able to shadow a real address.
    fn try_from(text: String) -> Result<Self, String> {
        let address = text.strip_suffix(".0.0/16").and_then(|prefix| format!("{prefix}.0.0").parse::<Ipv4Addr>().ok());
        match address {
            Some(address) if address.is_private() => Ok(Self([address.octets()[0], address.octets()[1]])),
            _ => Err(format!("must be a private network written like 10.77.0.0/16, not {text:?}")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    #[serde(default)]
    subnet: Subnet,
    #[serde(default = "default_seed")]
    seed: u64,
    #[serde(default = "default_mtu")]
    mtu: Spanned<u16>,
    host: BTreeMap<Spanned<String>, RawHost>,
    #[serde(default)]
    link: Vec<Spanned<RawLink>>,
    #[serde(default)]
    run: Vec<RawCommand>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    #[serde(default)]
    role: Role,
    place: Option<String>,
    address: Option<Spanned<Ipv4Addr>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    from: Spanned<String>,
    to: Spanned<String>,
    rtt_ms: Option<Spanned<f64>>,
    one_way_ms: Option<Spanned<f64>>,
    jitter_ms: Option<Spanned<f64>>,
    loss: Option<Spanned<f64>>,
    rate_mbps: Option<Spanned<f64>>,
    queue_ms: Option<Spanned<f64>>,
    #[serde(default)]
    reorder: bool,
    #[serde(default)]
    block: Block,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    host: Spanned<String>,
    command: Spanned<Vec<String>>,
}

fn default_seed() -> u64 {
    1
}

fn default_mtu() -> Spanned<u16> {
    Spanned::new(0..0, 1500)
}

impl Scenario {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        toml_source::read(path, Self::parse)
    }

    /// Checks the text of a file; `file` names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let source = Source { file, text };
        Checker { source }.check(source.values()?)
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<HostId> {
        self.hosts.iter().position(|host| host.name == name).map(HostId)
    }

    /// The PoP with the least round trip from `host`, if it has links to any.
    pub fn nearest_pop(&self, host: HostId) -> Option<&Host> {
        let round_trip = |pop: HostId| Some(self.links.get(&(host, pop))?.delay + self.links.get(&(pop, host))?.delay);
        let pops = self.hosts.iter().enumerate().filter(|(_, candidate)| candidate.role == Role::Pop);
        let reachable = pops.filter_map(|(index, pop)| Some((round_trip(HostId(index))?, pop)));
        reachable.min_by_key(|(round_trip, _)| *round_trip).map(|(_, pop)| pop)
    }

    /// Gives every client the links of another one, by `seed`: a client called `client-bogota` may then stand beside
    /// Zurich, and whoever decides by a table of names or addresses decides wrongly.
    ///
    /// No client keeps its own place (Sattolo's shuffle: one cycle through all of them).
    #[must_use]
    pub fn with_shuffled_clients(mut self, seed: u64) -> Self {
        let clients: Vec<_> = (0..self.hosts.len()).filter(|i| self.hosts[*i].role == Role::Client).collect();
        let mut shuffled = clients.clone();
        let mut randomness = StdRng::seed_from_u64(seed);
        for last in (1..shuffled.len()).rev() {
            shuffled.swap(last, randomness.random_range(0..last));
        }
        let moved: BTreeMap<_, _> = clients.into_iter().zip(shuffled).collect();
        let place = |host: HostId| HostId(moved.get(&host.0).copied().unwrap_or(host.0));
        self.links = self.links.into_iter().map(|((from, to), link)| ((place(from), place(to)), link)).collect();
        self
    }
}

/// Sender, receiver, and how packets fare between them.
type Direction = ((HostId, HostId), LinkParameters);

struct Checker<'a> {
    source: Source<'a>,
}

impl Checker<'_> {
    fn check(&self, raw: RawScenario) -> Result<Scenario, FileError> {
        if !(576..=9000).contains(raw.mtu.get_ref()) {
            return Err(self.source.error(raw.mtu.span(), "mtu", "must be from 576 to 9000 bytes"));
        }
        let hosts = self.hosts(raw.host, raw.subnet)?;
        let mut links = BTreeMap::new();
        for link in &raw.link {
            for (pair, parameters) in self.link(link, &hosts)? {
                if links.insert(pair, parameters).is_some() {
                    let problem = "this direction has a link already: remove one of them";
                    return Err(self.source.error(link.span(), "link", problem));
                }
            }
        }
        let commands = raw.run.into_iter().map(|run| self.command(run, &hosts)).collect::<Result<_, _>>()?;
        Ok(Scenario { subnet: raw.subnet, seed: raw.seed, mtu: raw.mtu.into_inner(), hosts, links, commands })
    }

    fn hosts(&self, raw: BTreeMap<Spanned<String>, RawHost>, subnet: Subnet) -> Result<Vec<Host>, FileError> {
        let mut hosts: Vec<Host> = Vec::with_capacity(raw.len());
        for (name, host) in raw {
            let key = format!("host.{}", name.get_ref());
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let short = (1..=MAX_HOST_NAME_BYTES).contains(&name.get_ref().len());
            if !short || !name.get_ref().bytes().all(allowed) {
                return Err(self.source.error(name.span(), &key, "a name is 1 to 40 characters of a-z, 0-9 and '-'"));
            }
            if hosts.len() == MAX_HOSTS {
                return Err(self.source.error(name.span(), &key, "a world has at most 64 hosts"));
            }
            let counted = subnet.address_of(hosts.len() as u8 + 1);
            let address = host.address.as_ref().map_or(counted, |address| *address.get_ref());
            let span = host.address.map_or(name.span(), |address| address.span());
            if !subnet.contains(address) || hosts.iter().any(|other| other.address == address) {
                let problem = format!("{address} is not in {subnet} or is another host's");
                return Err(self.source.error(span, &format!("{key}.address"), problem));
            }
            hosts.push(Host { name: name.into_inner(), role: host.role, place: host.place, address });
        }
        Ok(hosts)
    }

    fn host(&self, name: &Spanned<String>, key: &str, hosts: &[Host]) -> Result<HostId, FileError> {
        hosts.iter().position(|host| host.name == *name.get_ref()).map(HostId).ok_or_else(|| {
            let known: Vec<_> = hosts.iter().map(|host| host.name.as_str()).collect();
            let problem = format!("no host {:?}; there are {}", name.get_ref(), known.join(", "));
            self.source.error(name.span(), key, problem)
        })
    }

    /// The one or two directions of a link.
    fn link(&self, link: &Spanned<RawLink>, hosts: &[Host]) -> Result<Vec<Direction>, FileError> {
        let raw = link.get_ref();
        let from = self.host(&raw.from, "link.from", hosts)?;
        let to = self.host(&raw.to, "link.to", hosts)?;
        if from == to {
            return Err(self.source.error(raw.to.span(), "link.to", "a link joins two different hosts"));
        }
        let (delay, both) = match (&raw.rtt_ms, &raw.one_way_ms) {
            (Some(rtt), None) => (self.millis("link.rtt_ms", rtt)? / 2, true),
            (None, Some(one_way)) => (self.millis("link.one_way_ms", one_way)?, false),
            _ => return Err(self.source.error(link.span(), "link", "needs either rtt_ms or one_way_ms")),
        };
        let parameters = self.parameters(raw, delay)?;
        let mut directions = vec![((from, to), parameters)];
        if both {
            directions.push(((to, from), parameters));
        }
        Ok(directions)
    }

    fn parameters(&self, raw: &RawLink, delay: Duration) -> Result<LinkParameters, FileError> {
        let mut parameters =
            LinkParameters { delay, reorder: raw.reorder, block: raw.block, ..LinkParameters::default() };
        if let Some(jitter) = &raw.jitter_ms {
            parameters.jitter = self.millis("link.jitter_ms", jitter)?;
        }
        if let Some(queue) = &raw.queue_ms {
            parameters.queue = self.millis("link.queue_ms", queue)?;
        }
        if let Some(loss) = &raw.loss {
            parameters.loss = *loss.get_ref();
            self.in_range("link.loss", loss, &parameters)?;
        }
        if let Some(rate) = &raw.rate_mbps {
            parameters.rate_bps = Some((rate.get_ref() * 1e6) as u64);
            self.in_range("link.rate_mbps", rate, &parameters)?;
        }
        Ok(parameters)
    }

    fn in_range(&self, key: &str, value: &Spanned<f64>, parameters: &LinkParameters) -> Result<(), FileError> {
        parameters.check().map_err(|error| self.source.error(value.span(), key, error))
    }

    fn millis(&self, key: &str, value: &Spanned<f64>) -> Result<Duration, FileError> {
        let ms = *value.get_ref();
        if (0.0..=10_000.0).contains(&ms) {
            return Ok(Duration::from_secs_f64(ms / 1e3));
        }
        Err(self.source.error(value.span(), key, format!("must be from 0 to 10000 ms, not {ms}")))
    }

    fn command(&self, raw: RawCommand, hosts: &[Host]) -> Result<HostCommand, FileError> {
        let host = self.host(&raw.host, "run.host", hosts)?;
        if raw.command.get_ref().is_empty() {
            return Err(self.source.error(raw.command.span(), "run.command", "names no program"));
        }
        Ok(HostCommand { host, command: raw.command.into_inner() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wan::presets;

    const TWO: &str = "[host.a]\nrole = \"pop\"\n[host.b]\n[[link]]\nfrom = \"a\"\nto = \"b\"\n";

    fn error_of(text: &str) -> String {
        Scenario::parse("s.toml", text).expect_err("the scenario is bad").to_string()
    }

    #[test]
    fn a_round_trip_is_halved_and_a_one_way_delay_is_not() {
        let scenario = Scenario::parse("s.toml", &format!("{TWO}rtt_ms = 50\njitter_ms = 2\n")).expect("good");
        let (a, b) = (HostId(0), HostId(1));
        assert_eq!(scenario.hosts[1].address, Ipv4Addr::new(10, 77, 2, 2));
        assert_eq!(scenario.links[&(a, b)].delay, Duration::from_millis(25));
        assert_eq!(scenario.links[&(b, a)], scenario.links[&(a, b)]);
        let scenario = Scenario::parse("s.toml", &format!("{TWO}one_way_ms = 50\n")).expect("good");
        assert_eq!(scenario.links[&(a, b)].delay, Duration::from_millis(50));
        assert!(!scenario.links.contains_key(&(b, a)));
    }

    #[test]
    fn errors_say_line_key_and_what_would_be_right() {
        let cases = [
            (format!("{TWO}rtt_ms = 50\nloss = 3\n"), "s.toml:8: link.loss: loss must be a share from 0 to 1, not 3"),
            (format!("{TWO}rtt_ms = -1\n"), "s.toml:7: link.rtt_ms: must be from 0 to 10000 ms, not -1"),
            (format!("{TWO}rtt_ms = 1\nlos = 0.1\n"), "s.toml:8: los: unknown field `los`"),
            (TWO.replace("\"b\"", "\"c\"") + "rtt_ms = 1\n", "s.toml:6: link.to: no host \"c\"; there are a, b"),
            (TWO.into(), "s.toml:4: link: needs either rtt_ms or one_way_ms"),
            ("[host.A]\n".into(), "s.toml:1: host.A: a name is 1 to 40 characters"),
            ("subnet = \"8.8.0.0/16\"\n[host.a]\n".into(), "s.toml:1: subnet: must be a private network"),
            ("[host.a]\naddress = \"10.1.1.1\"\n".into(), "s.toml:2: host.a.address: 10.1.1.1 is not in 10.77.0.0/16"),
            (format!("{TWO}rtt_ms = 1\n[[run]]\nhost = \"a\"\ncommand = []\n"), "s.toml:10: run.command: names no"),
            ("[host.a\n".into(), "s.toml:1: "),
        ];
        for (text, wanted) in cases {
            let error = error_of(&text);
            assert!(error.starts_with(wanted), "{error:?} does not begin with {wanted:?}");
        }
    }

    #[test]
    fn the_preset_puts_each_client_beside_its_pop() {
        let scenario = presets::preset("three-pops").expect("it is built in");
        for (client, pop) in [("client-bogota", "panama"), ("client-jakarta", "singapore"), ("client-milan", "zurich")]
        {
            let client = scenario.host(client).expect("it is in the preset");
            assert_eq!(scenario.nearest_pop(client).map(|pop| pop.name.as_str()), Some(pop));
        }
    }

    proptest! {
        #[test]
        fn a_shuffle_leaves_no_client_in_its_place_and_no_pop_moved(seed: u64) {
            let before = presets::preset("three-pops").expect("it is built in");
            let after = before.clone().with_shuffled_clients(seed);
            prop_assert_eq!(&after, &before.clone().with_shuffled_clients(seed), "one seed is one shuffle");
            prop_assert_eq!(after.links.len(), before.links.len());
            for (index, host) in before.hosts.iter().enumerate() {
                let (then, now) = (before.nearest_pop(HostId(index)), after.nearest_pop(HostId(index)));
                prop_assert_eq!(then == now, host.role == Role::Pop, "{}", host.name);
            }
        }
    }
}
