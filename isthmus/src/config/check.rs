//! What a configuration can get wrong although every value reads: ranges, files, ports, sections that need each other.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{Config, document::Document};

/// Reports everything that is wrong with `config`, which was read from `document`.
pub(super) fn check(config: &mut Config, document: &mut Document<'_>) {
    ranges(config, document);
    files(config, document);
    ports(config, document);
    sections(config, document);
}

fn ranges(config: &Config, document: &mut Document<'_>) {
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.telemetry.log) {
        document.report("telemetry.log", error.to_string());
    }
    if let Some(gateway) = &config.gateway {
        for error in gateway.errors() {
            // The service names its own keys.
            let (key, message) = error.split_once(": ").unwrap_or(("", &error));
            document.report(&format!("gateway.{key}"), message);
        }
    }
}

fn files(config: &mut Config, document: &mut Document<'_>) {
    for (key, file) in config.files_mut() {
        if !file.exists() {
            document.report(key, format!("{} does not exist", file.display()));
        }
    }
}

/// A port of one transport that a section listens on.
fn listeners(config: &Config) -> Vec<(&'static str, &'static str, SocketAddr)> {
    let mut listeners = Vec::new();
    listeners.extend(config.ops.sfu.map(|addr| ("TCP", "ops.sfu", addr)));
    listeners.extend(config.ops.store.map(|addr| ("TCP", "ops.store", addr)));
    if let Some(sfu) = &config.sfu {
        listeners.push(("UDP", "sfu.relay_listen", sfu.relay_listen));
        for shard in 0..u16::from(sfu.shard_count()) {
            let port = sfu.media_listen.port().saturating_add(if sfu.media_listen.port() == 0 { 0 } else { shard });
            let addr = SocketAddr::new(sfu.media_listen.ip(), port);
            listeners.extend(["UDP", "TCP"].map(|transport| (transport, "sfu.media_listen", addr)));
        }
    }
    listeners.extend(config.store.as_ref().map(|store| ("TCP", "store.listen", store.listen)));
    if let Some(gateway) = &config.gateway {
        listeners.push(("TCP", "gateway.listen", gateway.listen));
        listeners.push(("TCP", "gateway.ops_listen", gateway.ops_listen));
    }
    listeners
}

fn ports(config: &Config, document: &mut Document<'_>) {
    let mut taken: BTreeMap<(&str, u16), Vec<(&str, SocketAddr)>> = BTreeMap::new();
    // Port 0 is a new one each time.
    for (transport, key, addr) in listeners(config).into_iter().filter(|(_, _, addr)| addr.port() != 0) {
        let others = taken.entry((transport, addr.port())).or_default();
        let same =
            |other: &SocketAddr| other.ip() == addr.ip() || other.ip().is_unspecified() || addr.ip().is_unspecified();
        if let Some((other, _)) = others.iter().find(|(_, other)| same(other)) {
            document.report(key, format!("{transport} port {} is taken by {other} already", addr.port()));
        }
        others.push((key, addr));
    }
}

fn sections(config: &Config, document: &mut Document<'_>) {
    let relay = config.relay.as_ref();
    if config.gateway.is_some() && relay.is_none_or(|relay| relay.door.is_none()) {
        document.report("relay.door", "a door needs a certificate to reach media nodes with");
    }
}
