//! Where everything of a development cluster is: PoPs, processes, addresses, ports, origins. Pure computation.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use isthmus_protocol::{NodeId, PopId};

use crate::roles::Role;

/// A place where a development PoP pretends to stand.
pub(crate) struct Site {
    /// Its PoP's id.
    pub(crate) pop: &'static str,
    /// For people.
    pub(crate) region: &'static str,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    /// A place that this PoP is the nearest to.
    pub(crate) near: Near,
}

/// A place that someone can pretend to be in, to see which PoP they are taken to.
pub(crate) struct Near {
    /// In URLs.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) label: &'static str,
    /// Stands for its network in the directory: a prefix for documentation (RFC 5737).
    pub(crate) prefix: &'static str,
    /// Round trips to the PoPs in the order of [`SITES`], in milliseconds: great circles and what cables add.
    pub(crate) rtt_ms: [f64; 3],
}

/// The three PoPs, in the order of their ports.
pub(crate) const SITES: [Site; 3] = [
    Site {
        pop: "panama",
        region: "Panama City, Panama",
        latitude: 8.98,
        longitude: -79.52,
        near: Near { name: "bogota", label: "Bogotá", prefix: "192.0.2.0/24", rtt_ms: [14.0, 262.0, 158.0] },
    },
    Site {
        pop: "singapore",
        region: "Singapore",
        latitude: 1.35,
        longitude: 103.82,
        near: Near { name: "jakarta", label: "Jakarta", prefix: "198.51.100.0/24", rtt_ms: [268.0, 15.0, 182.0] },
    },
    Site {
        pop: "zurich",
        region: "Zurich, Switzerland",
        latitude: 47.37,
        longitude: 8.54,
        near: Near { name: "milan", label: "Milan", prefix: "203.0.113.0/24", rtt_ms: [146.0, 174.0, 8.0] },
    },
];

/// Ports from one PoP's first to the next one's.
const PORTS_PER_POP: u16 = 100;
/// The most media nodes of a PoP: those after the first have 10 ports each at the end of the PoP's.
pub(crate) const MAX_MEDIA_NODES: u8 = 4;
/// Ports of the whole cluster, from its base port on.
pub(crate) const PORTS: u16 = PORTS_PER_POP * SITES.len() as u16;

/// What of the layout can be chosen.
#[derive(Debug, Clone)]
pub(crate) struct Choices {
    /// First port of the first site.
    pub(crate) base_port: u16,
    /// The PoPs of the cluster; all of [`SITES`] if empty.
    pub(crate) pops: Vec<PopId>,
    /// Media nodes of each PoP, from 1 to [`MAX_MEDIA_NODES`].
    pub(crate) media_nodes: u8,
    /// The address of a PoP that `addresses` does not name.
    pub(crate) bind: IpAddr,
    /// Addresses of single PoPs.
    pub(crate) addresses: BTreeMap<PopId, IpAddr>,
    /// Serve the public side over TLS.
    pub(crate) https: bool,
    /// The registrable domain under which each PoP has a host; without it their hosts are `localhost` or the address.
    pub(crate) domain: Option<String>,
}

/// One PoP of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Pop {
    pub(crate) id: PopId,
    site: usize,
    address: IpAddr,
    base_port: u16,
    media_nodes: u8,
    scheme: &'static str,
    host: String,
}

/// One media node of a PoP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaNode {
    pub(crate) process: Process,
    /// Its inter-PoP QUIC.
    pub(crate) relay: SocketAddr,
    /// The first of its UDP and TCP ports.
    pub(crate) media: SocketAddr,
}

/// One process of a PoP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its name in `pids.json` and of its log; the node id of those that are nodes.
    pub(crate) name: NodeId,
    pub(crate) role: Role,
    /// Its ops listener.
    pub(crate) ops: SocketAddr,
}

/// Why the choices make no cluster.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("no development PoP is called {0}: there are panama, singapore and zurich")]
    UnknownPop(PopId),
    #[error("base port {0} is too high: {PORTS} ports from it on are needed")]
    BasePort(u16),
}

/// The PoPs that `choices` describe.
pub(crate) fn pops(choices: &Choices) -> Result<Vec<Pop>, LayoutError> {
    if choices.base_port.checked_add(PORTS).is_none() {
        return Err(LayoutError::BasePort(choices.base_port));
    }
    if let Some(unknown) = choices.pops.iter().find(|id| !SITES.iter().any(|site| site.pop == id.as_str())) {
        return Err(LayoutError::UnknownPop(unknown.clone()));
    }
    let chosen = |site: &Site| choices.pops.is_empty() || choices.pops.iter().any(|id| id.as_str() == site.pop);
    let sites = SITES.iter().enumerate().filter(|(_, site)| chosen(site));
    Ok(sites.map(|(index, site)| Pop::new(index, site, choices)).collect())
}

impl Pop {
    fn new(index: usize, site: &Site, choices: &Choices) -> Self {
        let id: PopId = site.pop.parse().expect("the sites' names are valid ids");
        let address = choices.addresses.get(&id).copied().unwrap_or(choices.bind);
        let host = match &choices.domain {
            Some(domain) => format!("{id}.{domain}"),
            None if [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&address) => {
                "localhost".into()
            }
            None => match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            },
        };
        Self {
            id,
            site: index,
            address,
            base_port: choices.base_port + PORTS_PER_POP * index as u16,
            media_nodes: choices.media_nodes,
            scheme: if choices.https { "https" } else { "http" },
            host,
        }
    }

    /// Where it pretends to stand.
    pub(crate) fn site(&self) -> &'static Site {
        &SITES[self.site]
    }

    /// The origin of its public door.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.base_port)
    }

    /// Whether its public side speaks TLS.
    pub(crate) fn https(&self) -> bool {
        self.scheme == "https"
    }

    /// Names under which its door can be called by HTTPS.
    pub(crate) fn https_names(&self) -> Vec<String> {
        let mut names = vec![self.host.clone(), "localhost".into(), self.address.to_string()];
        names.dedup();
        names
    }

    /// Its door, for a caller who pretends to be near `site`.
    pub(crate) fn url_as_if(&self, site: &Site) -> String {
        format!("{}/?as-if={}", self.url(), site.near.name)
    }

    fn port(&self, offset: u16) -> SocketAddr {
        SocketAddr::new(self.address, self.base_port + offset)
    }

    /// The door's public HTTP.
    pub(crate) fn public(&self) -> SocketAddr {
        self.port(0)
    }

    /// The store.
    pub(crate) fn store(&self) -> SocketAddr {
        self.port(5)
    }

    /// Every address that its processes listen on, of the media nodes' own ports the first.
    pub(crate) fn listeners(&self) -> Vec<SocketAddr> {
        let mut listeners = vec![self.public(), self.store()];
        listeners.extend(self.media_nodes().iter().flat_map(|node| [node.relay, node.media]));
        listeners.extend(self.processes().iter().map(|process| process.ops));
        listeners
    }

    /// Its media nodes.
    pub(crate) fn media_nodes(&self) -> Vec<MediaNode> {
        let node = |number: u8| {
            // The first has the ports of the contract.
            let (relay, ops, media) = if number == 1 {
                (2, 3, 10)
            } else {
                let first = 100 - 10 * u16::from(MAX_MEDIA_NODES + 1 - number);
                (first, first + 1, first + 2)
            };
            let process = self.process_at(&format!("sfu-{number}"), Role::Sfu, ops);
            MediaNode { process, relay: self.port(relay), media: self.port(media) }
        };
        (1..=self.media_nodes).map(node).collect()
    }

    /// Its processes, in the order in which they are of use to each other.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let media_nodes = self.media_nodes().into_iter().map(|node| node.process);
        [self.store_process()].into_iter().chain(media_nodes).chain([self.door()]).collect()
    }

    /// Its embedded store.
    pub(crate) fn store_process(&self) -> Process {
        self.process_at("store-1", Role::Store, 4)
    }

    /// Its door.
    pub(crate) fn door(&self) -> Process {
        self.process_at("door-1", Role::Door, 1)
    }

    fn process_at(&self, suffix: &str, role: Role, ops: u16) -> Process {
        let name = format!("{}-{suffix}", self.id).parse().expect("a PoP's name and a suffix make a valid id");
        Process { name, role, ops: self.port(ops) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Choices {
        Choices {
            base_port: 7100,
            pops: Vec::new(),
            media_nodes: 1,
            bind: Ipv4Addr::LOCALHOST.into(),
            addresses: BTreeMap::new(),
            https: false,
            domain: None,
        }
    }

    #[test]
    fn the_ports_are_those_of_the_contract() {
        let pops = pops(&choices()).unwrap();
        let ports: Vec<[u16; 5]> = pops
            .iter()
            .map(|p| {
                let node = p.media_nodes().remove(0);
                [p.public(), p.door().ops, node.relay, p.store(), node.media].map(|a| a.port())
            })
            .collect();
        assert_eq!(
            ports,
            [[7100, 7101, 7102, 7105, 7110], [7200, 7201, 7202, 7205, 7210], [7300, 7301, 7302, 7305, 7310]]
        );
        assert_eq!(pops[0].url(), "http://localhost:7100");
    }

    #[test]
    fn a_pop_keeps_its_ports_when_others_are_left_out() {
        let pops = pops(&Choices { pops: vec!["zurich".parse().unwrap()], ..choices() }).unwrap();
        assert_eq!(pops.iter().map(Pop::url).collect::<Vec<_>>(), ["http://localhost:7300"]);
    }

    #[test]
    fn media_nodes_share_no_port_and_stay_within_those_of_their_pop() {
        let pops = pops(&Choices { media_nodes: MAX_MEDIA_NODES, ..choices() }).unwrap();
        let ports: Vec<u16> = pops[0].listeners().iter().map(SocketAddr::port).collect();
        let distinct: std::collections::BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(ports.len(), distinct.len(), "{ports:?}");
        assert!(ports.iter().all(|port| (7100..7200).contains(port)), "{ports:?}");
        let names: Vec<String> = pops[2].processes().iter().map(|process| process.name.to_string()).collect();
        let expected =
            ["zurich-store-1", "zurich-sfu-1", "zurich-sfu-2", "zurich-sfu-3", "zurich-sfu-4", "zurich-door-1"];
        assert_eq!(names, expected);
    }

    #[test]
    fn hosts_stand_under_the_domain_or_are_the_address() {
        let https = Choices { https: true, domain: Some("isthmus.test".into()), ..choices() };
        assert_eq!(pops(&https).unwrap()[1].url(), "https://singapore.isthmus.test:7200");
        let addresses = [("panama".parse().unwrap(), "10.0.1.1".parse().unwrap())].into();
        let apart = Choices { addresses, ..choices() };
        let pops = pops(&apart).unwrap();
        assert_eq!(pops[0].url(), "http://10.0.1.1:7100");
        assert_eq!(pops[0].media_nodes()[0].relay, "10.0.1.1:7102".parse().unwrap());
        assert_eq!(pops[1].url(), "http://localhost:7200");
    }

    #[test]
    fn refuses_what_cannot_be_laid_out() {
        let atlantis: PopId = "atlantis".parse().unwrap();
        let unknown = Choices { pops: vec![atlantis.clone()], ..choices() };
        assert_eq!(pops(&unknown).map(|p| p.len()), Err(LayoutError::UnknownPop(atlantis)));
        let high = Choices { base_port: 65400, ..choices() };
        assert_eq!(pops(&high).map(|p| p.len()), Err(LayoutError::BasePort(65400)));
    }
}
