//! `isthmus dev`: a cluster of real processes on one machine.
//!
//! [`layout`] says where everything is, [`state`] writes what the processes need, [`cluster`] and [`children`] keep them
//! running.

mod children;
mod cluster;
mod configuration;
mod layout;
mod pids;
mod ports;
mod probe;
mod state;

pub(crate) use layout::MAX_MEDIA_NODES;

use std::{fs::File, path::Path};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use self::{
    cluster::Cluster,
    layout::{Choices, Pop},
    ports::PortBlock,
};
use crate::cli::Dev;

/// Runs the cluster that `options` describe until `shutdown`; its processes log what `log` says.
pub(crate) async fn run(options: &Dev, log: Option<&str>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let block = match options.base_port {
        0 => Some(PortBlock::claim(options.bind, std::process::id() as u16)?),
        _ => None,
    };
    let pops = layout::pops(&Choices {
        base_port: block.as_ref().map_or(options.base_port, PortBlock::base),
        pops: options.pops.clone(),
        media_nodes: options.media_nodes,
        bind: options.bind,
        addresses: options.addresses.iter().cloned().collect(),
        https: options.https,
        domain: options.domain.clone(),
    })?;
    let runs_here = |pop: &&Pop| options.only.is_empty() || options.only.contains(&pop.id);
    let here: Vec<Pop> = pops.iter().filter(runs_here).cloned().collect();
    anyhow::ensure!(!here.is_empty(), "--only names none of the PoPs of --pops");

    let folder = state::Folder::open(&options.state)?;
    let _held = here.iter().map(|pop| hold(folder.path(), pop)).collect::<anyhow::Result<Vec<File>>>()?;
    if let Some(taken) = ports::taken(here.iter().flat_map(Pop::listeners)) {
        anyhow::bail!("{taken} is in use: end what listens there (another cluster?), or give --base-port 0");
    }
    let web = std::path::absolute(&options.web).ok().filter(|web| web.join("index.html").exists());
    if web.is_none() {
        println!("no web app in {}: the doors serve the API alone (make web, or --web DIR)", options.web.display());
    }
    folder.write(&pops, &here, web.as_deref())?;
    Cluster::start(&folder, here, options.no_restart, log)?.run(&shutdown).await
}

/// Two clusters in one folder would take each other's stores and pids: a PoP's lock is held while it runs.
fn hold(folder: &Path, pop: &Pop) -> anyhow::Result<File> {
    let path = folder.join(format!("{}.lock", pop.id));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.try_lock().with_context(|| {
        format!("{} runs in {} already: end that cluster or choose another --state", pop.id, folder.display())
    })?;
    Ok(file)
}
