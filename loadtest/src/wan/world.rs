//! A running world: namespaces, devices and router as one value. Dropping it ends everything in it.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core")]

use std::{collections::BTreeMap, fmt::Write as _, process::Command, time::Instant};

use serde::Serialize;

use super::{
    WanError,
    core::{Fabric, HostId},
    namespaces::{self, Namespace},
    router::{Router, RouterHandle},
    scenario::{Role, Scenario, Subnet},
    tun::Tun,
};

/// The interface that leads from a host into the world.
const INTERFACE: &str = "wan0";

/// A running world.
pub struct World {
    // Dropped in this order: hosts end while their network still works.
    namespaces: Vec<Namespace>,
    router: Router,
    scenario: Scenario,
}

/// What a script needs to know of a running world.
#[derive(Debug, Serialize)]
pub struct Description {
    /// By host name.
    pub hosts: BTreeMap<String, HostDescription>,
    /// The network of all hosts.
    pub subnet: String,
}

/// What a script needs to know of a host.
#[derive(Debug, Serialize)]
pub struct HostDescription {
    /// For `ip netns exec`.
    pub namespace: String,
    /// Its address.
    pub address: std::net::Ipv4Addr,
    /// The PoP with the least round trip from a client: what a nearest-PoP choice is checked against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_pop: Option<String>,
}

impl World {
    /// Makes the scenario's hosts and links. Removes what earlier worlds left behind first.
    ///
    /// # Errors
    /// [`WanError::Missing`] says what the machine or the user's rights lack. What was made so far is removed again.
    pub fn create(scenario: Scenario) -> Result<Self, WanError> {
        namespaces::check_privileges()?;
        namespaces::sweep_abandoned();
        let mut made = Vec::with_capacity(scenario.hosts.len());
        let mut tuns = Vec::with_capacity(scenario.hosts.len());
        for host in &scenario.hosts {
            let namespace = Namespace::create(&host.name)?;
            let opened = namespace.enter(|| Tun::open(INTERFACE));
            tuns.push(opened.map_err(WanError::io(format!("make the TUN device of {}", host.name)))?);
            namespace.configure(&interface_commands(host.address, scenario.subnet, scenario.mtu))?;
            made.push(namespace);
        }
        let addresses: Vec<_> = scenario.hosts.iter().map(|host| host.address).collect();
        let mut fabric = Fabric::new(&addresses, scenario.seed);
        for ((from, to), parameters) in &scenario.links {
            fabric.set_parameters(Instant::now(), *from, *to, *parameters);
        }
        let names = scenario.hosts.iter().map(|host| host.name.clone()).collect();
        Ok(Self { router: Router::start(fabric, names, tuns)?, namespaces: made, scenario })
    }

    /// The scenario the world was made from.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// A way to change links and read counters.
    pub fn router(&self) -> &RouterHandle {
        self.router.handle()
    }

    /// The namespace of a host of this world.
    pub fn namespace(&self, host: HostId) -> Option<&Namespace> {
        self.namespaces.get(host.0)
    }

    /// The namespace of the host of that name.
    pub fn namespace_of(&self, host: &str) -> Option<&Namespace> {
        self.namespace(self.scenario.host(host)?)
    }

    /// Tells `command` where it runs: `WAN_HOST`, and the address of each host as `WAN_ADDRESS_` and its name in
    /// capitals with `_` for `-`.
    pub fn describe_to(&self, command: &mut Command, host: HostId) {
        for (index, other) in self.scenario.hosts.iter().enumerate() {
            let name = other.name.to_uppercase().replace('-', "_");
            command.env(format!("WAN_ADDRESS_{name}"), other.address.to_string());
            if index == host.0 {
                command.env("WAN_HOST", &other.name);
            }
        }
    }

    /// What a script needs to know.
    pub fn describe(&self) -> Description {
        let describe = |(index, namespace): (usize, &Namespace)| {
            let host = &self.scenario.hosts[index];
            let nearest = self.scenario.nearest_pop(HostId(index)).filter(|_| host.role == Role::Client);
            let nearest_pop = nearest.map(|pop| pop.name.clone());
            let namespace = namespace.name().to_owned();
            (host.name.clone(), HostDescription { namespace, address: host.address, nearest_pop })
        };
        let hosts = self.namespaces.iter().enumerate().map(describe).collect();
        Description { hosts, subnet: self.scenario.subnet.to_string() }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // All at once, so that the hosts' processes share one grace period instead of having one each in turn.
        self.namespaces.iter().for_each(Namespace::ask_processes_to_end);
    }
}

/// A default route makes programs believe in a network at all: Chromium gathers candidates by it.
fn interface_commands(address: std::net::Ipv4Addr, subnet: Subnet, mtu: u16) -> String {
    let mut lines = String::new();
    for line in [
        "link set lo up".to_owned(),
        format!("link set {INTERFACE} addrgenmode none"),
        format!("addr add {address}/32 dev {INTERFACE}"),
        format!("link set {INTERFACE} mtu {mtu} up"),
        format!("route add {subnet} dev {INTERFACE} src {address}"),
        format!("route add default dev {INTERFACE} src {address}"),
    ] {
        writeln!(lines, "{line}").expect("writing to a string cannot fail");
    }
    lines
}
