//! The configuration of one PoP of the development cluster, as a person would write it.

use std::{fmt::Write as _, path::Path};

use super::layout::{MediaNode, Near, Pop, Process, SITES};

/// What a write takes to another PoP's store: global tables replicate within about a second.
const REPLICATION_DELAY_MS: u64 = 500;

/// Further media nodes run this many shards: their ports are few, and the first has the cores already.
const SHARDS_OF_FURTHER_NODES: u8 = 2;

/// The TOML file of `pop`, one of `pops`: for its first media node and everything else of it. Files that it names stand
/// beside it, but for `web`, the built web app.
pub(super) fn toml(pop: &Pop, pops: &[Pop], web: Option<&Path>) -> String {
    let nodes = pop.media_nodes();
    let mut text = head(pop, &nodes[0].process);
    text.extend(["store = ", &quoted(pop.store_process().ops), "\n"]);
    text += &directory(pop, pops);
    text += &store(pop, pops);
    text += &relay(&nodes[0].process, Some(&pop.door()), pops);
    text += &sfu(&nodes[0]);
    text += &gateway(pop, pops, web);
    text
}

/// The TOML file of a further media node of `pop`.
pub(super) fn further_node(pop: &Pop, node: &MediaNode, pops: &[Pop]) -> String {
    let mut text = head(pop, &node.process);
    text += &directory(pop, pops);
    text += &relay(&node.process, None, pops);
    text += &sfu(node);
    text + &format!("shards = {SHARDS_OF_FURTHER_NODES}\n")
}

fn head(pop: &Pop, node: &Process) -> String {
    let (id, ops) = (quoted(&pop.id), quoted(node.ops));
    format!("# Written by `isthmus dev` at every start: changes are lost.\n\npop = {id}\n\n[ops]\nsfu = {ops}\n")
}

/// The first PoP's store keeps the leases of all.
fn directory(pop: &Pop, pops: &[Pop]) -> String {
    let (own, leases) = (quoted(store_url(pop)), quoted(store_url(&pops[0])));
    format!(
        "\n[directory]\nendpoint = {own}\ncredentials = \"development\"\n\n[directory.leases]\nendpoint = {leases}\n"
    )
}

fn sfu(node: &MediaNode) -> String {
    format!("\n[sfu]\nrelay_listen = {}\nmedia_listen = {}\n", quoted(node.relay), quoted(node.media))
}

fn store_url(pop: &Pop) -> String {
    format!("http://{}", pop.store())
}

fn store(pop: &Pop, pops: &[Pop]) -> String {
    let (listen, file) = (quoted(pop.store()), quoted(format!("store/{}.db", pop.id)));
    let mut text = format!("\n[store]\nlisten = {listen}\nfile = {file}\n");
    for peer in pops.iter().filter(|peer| peer.id != pop.id) {
        let (id, endpoint) = (quoted(&peer.id), quoted(store_url(peer)));
        let _ =
            write!(text, "\n[[store.peers]]\npop = {id}\nendpoint = {endpoint}\ndelay_ms = {REPLICATION_DELAY_MS}\n");
    }
    text
}

/// Every other media node is known without the directory.
fn relay(own: &Process, door: Option<&Process>, pops: &[Pop]) -> String {
    let mut text = format!("\n[relay]\nca = \"ca/ca.pem\"\nsfu = {}\n", key_pair(own.name.as_str()));
    if let Some(door) = door {
        let _ = writeln!(text, "door = {}", key_pair(door.name.as_str()));
    }
    for pop in pops {
        for peer in pop.media_nodes().iter().filter(|peer| peer.process.name != own.name) {
            let (node, id, address) = (quoted(&peer.process.name), quoted(&pop.id), quoted(peer.relay));
            let _ = write!(text, "\n[[relay.peers]]\nnode = {node}\npop = {id}\naddress = {address}\n");
        }
    }
    text
}

fn gateway(pop: &Pop, pops: &[Pop], web: Option<&Path>) -> String {
    let site = pop.site();
    let origins: Vec<String> = pops.iter().map(|pop| quoted(pop.url())).collect();
    let origins = origins.join(", ");
    let node =
        |node: &MediaNode| format!("{{ id = {}, address = {} }}", quoted(&node.process.name), quoted(node.relay));
    let nodes: Vec<String> = pop.media_nodes().iter().map(node).collect();
    let mut text = format!(
        "\n[gateway]\npublic_url = {url}\nregion = {region}\n\
         latitude = {latitude:?}\nlongitude = {longitude:?}\nlisten = {listen}\nops_listen = {ops}\nallowed_origins = [{origins}]\npop_origins = [{origins}]\n\
         nodes = [{nodes}]\n",
        url = quoted(pop.url()),
        region = quoted(site.region),
        latitude = site.latitude,
        longitude = site.longitude,
        listen = quoted(pop.public()),
        ops = quoted(pop.door().ops),
        nodes = nodes.join(", "),
    );
    if pop.https() {
        let _ = writeln!(text, "tls = {}", key_pair(&format!("{}-https", pop.id)));
    }
    if let Some(web) = web {
        let _ = writeln!(text, "web_root = {}", quoted(web.display()));
    }
    // Everyone on this machine has one address: what is generous for a network would be little for a load test.
    text += "\n[gateway.limits]\njoins = { burst = 5000, per_second = 1000 }\nguests = { burst = 5000, per_second = 1000 }\naccounts = { burst = 5000, per_second = 1000 }\n\
             requests = { burst = 20000, per_second = 5000 }\nmeasurements = { burst = 5000, per_second = 1000 }\n\
             new_networks = { burst = 5000, per_second = 1000 }\nsockets_per_network = 20000\nconnections_per_network = 20000\n";
    text += "\n[gateway.guests]\nallowed = true\n\n[gateway.tokens]\nissuer = \"isthmus-development\"\n\
             trusted = [{ id = \"development\", public_key = \"tokens/public.pem\" }]\n\
             signing = { id = \"development\", private_key = \"tokens/private.pem\" }\n";
    let _ = write!(
        text,
        "\n[gateway.accounts]\nhome = {}\n\n[gateway.accounts.mail]\nfrom = \"Isthmus <isthmus@localhost>\"\n\
         folder = \"mail\"\n",
        quoted(&pops[0].id)
    );
    text + &as_if()
}

/// Places that the door adds delay to probes for.
fn as_if() -> String {
    let mut text = String::new();
    for Near { name, label, prefix, rtt_ms } in SITES.iter().map(|site| &site.near) {
        let to: Vec<String> = SITES.iter().zip(rtt_ms).map(|(site, rtt)| format!("{} = {rtt:?}", site.pop)).collect();
        let (name, label, prefix, to) = (quoted(name), quoted(label), quoted(prefix), to.join(", "));
        let _ = write!(
            text,
            "\n[[gateway.development.as_if]]\nname = {name}\nlabel = {label}\nprefix = {prefix}\nrtt_ms = {{ {to} }}\n"
        );
    }
    text
}

fn key_pair(name: &str) -> String {
    format!("{{ certificate = \"tls/{name}.pem\", key = \"tls/{name}-key.pem\" }}")
}

/// A TOML string.
fn quoted(value: impl std::fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}
