//! What every process of the program does about being a process: signals, its parent, its limits.

use anyhow::Context as _;
use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
    unistd::{Pid, getppid},
};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Ends this process when `parent`, which started it, ends, however that ends.
pub(crate) fn die_with_parent(parent: i32) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("asking to end with the parent")?;
    // The parent may have ended before it was asked for; then somebody else is the parent now.
    anyhow::ensure!(getppid() == Pid::from_raw(parent), "process {parent}, which started this one, has ended");
    Ok(())
}

/// Takes as many file descriptors as the system grants: each client on TCP and each signalling socket is one.
pub(crate) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of file descriptors stays as it was: fewer clients fit");
    }
}

/// A token that is cancelled by SIGTERM or SIGINT. A second signal ends the process at once.
pub(crate) fn shutdown_by_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        cancelled.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("ended at once by a second signal");
        std::process::exit(1);
    });
    Ok(shutdown)
}

async fn either(terminate: &mut Stream, interrupt: &mut Stream) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
