//! The cluster's processes: started, watched, started again, ended.

use std::{
    fs::{self, OpenOptions},
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::pids::Pids;

/// How long a process may take to end after SIGTERM, before SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How one process is run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Its name in `pids.json`.
    pub(super) name: String,
    /// The program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// How long after its death it is started again; `None`: it stays dead.
    pub(super) restart_after: Option<Duration>,
}

/// What happened to a process.
#[derive(Debug)]
pub(super) enum Event {
    /// It runs.
    Started { name: String, pid: u32 },
    /// It ended by itself or was killed.
    Died { name: String, status: ExitStatus, restart_after: Option<Duration> },
    /// It could not be run at all.
    Failed { name: String, error: io::Error },
}

/// Keeps one process running until `shutdown`, then ends it. Reports on `events`, the cluster's one queue of events;
/// when that is full this waits, which delays a restart and loses nothing.
pub(super) async fn supervise(plan: Plan, pids: Pids, events: mpsc::Sender<Event>, shutdown: CancellationToken) {
    let name = plan.name.clone();
    // The receiver is gone only when the cluster is being torn down: then nobody wants the event.
    let report = async |event| drop(events.send(event).await);
    while !shutdown.is_cancelled() {
        let mut child = match start(&plan, &pids) {
            Ok((child, pid)) => {
                report(Event::Started { name: name.clone(), pid }).await;
                child
            }
            Err(error) => return report(Event::Failed { name, error }).await,
        };
        let status = tokio::select! {
            status = child.wait() => status,
            () = shutdown.cancelled() => return stop(&mut child, &plan, &pids).await,
        };
        forget(&pids, &name);
        match status {
            Ok(status) => {
                let restart_after = plan.restart_after;
                report(Event::Died { name: name.clone(), status, restart_after }).await;
            }
            Err(error) => return report(Event::Failed { name, error }).await,
        }
        let Some(pause) = plan.restart_after else { return };
        tokio::select! {
            () = sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn start(plan: &Plan, pids: &Pids) -> io::Result<(Child, u32)> {
    let log = OpenOptions::new().create(true).append(true).open(&plan.log)?;
    let child = Command::new(&plan.program)
        .args(&plan.arguments)
        // It dies with this process whatever becomes of it (see `die_with_parent`).
        .arg("--die-with-parent")
        .arg(std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C at the terminal reaches this process alone, which then ends its children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().ok_or_else(|| io::Error::other("it ended before it had a process id"))?;
    pids.set(&plan.name, Some(pid))?;
    Ok((child, pid))
}

async fn stop(child: &mut Child, plan: &Plan, pids: &Pids) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself just now, then there is nobody to tell.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if timeout(STOP_GRACE, child.wait()).await.is_err() {
        eprintln!("{} did not end within {} s of SIGTERM and is killed", plan.name, STOP_GRACE.as_secs());
        let _ = child.kill().await;
    }
    forget(pids, &plan.name);
}

fn forget(pids: &Pids, name: &str) {
    if let Err(error) = pids.set(name, None) {
        eprintln!("pids.json still names {name}: {error}");
    }
}

/// The last lines of a process's log, for whoever asks why it died.
pub(super) fn log_tail(log: &std::path::Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut last: Vec<&str> = text.lines().rev().take(lines).collect();
    last.reverse();
    last.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(state: &std::path::Path, script: &str, restart_after: Option<Duration>) -> Plan {
        Plan {
            name: "test-door-1".into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            log: state.join("log"),
            restart_after,
        }
    }

    async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
        timeout(Duration::from_secs(10), events.recv()).await.expect("an event in time").expect("still supervised")
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again_and_ends_with_the_cluster() {
        let state = tempfile::tempdir().unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let shutdown = CancellationToken::new();
        let plan = plan(state.path(), "exec sleep 600", Some(Duration::from_millis(10)));
        let task = tokio::spawn(supervise(plan, Pids::of(state.path()), sender, shutdown.clone()));
        let Event::Started { pid: first, .. } = next(&mut events).await else { panic!("not started") };
        kill(Pid::from_raw(first.cast_signed()), Signal::SIGKILL).unwrap();
        let Event::Died { restart_after: Some(_), .. } = next(&mut events).await else { panic!("death not seen") };
        let Event::Started { pid: second, .. } = next(&mut events).await else { panic!("not started again") };
        assert_ne!(first, second);
        let pids = fs::read_to_string(state.path().join("pids.json")).unwrap();
        assert!(pids.contains(&second.to_string()), "{pids}");
        shutdown.cancel();
        timeout(Duration::from_secs(10), task).await.expect("ends in time").unwrap();
        assert!(kill(Pid::from_raw(second.cast_signed()), None).is_err(), "it outlived the cluster");
    }

    #[tokio::test]
    async fn without_restart_a_dead_process_stays_dead_and_its_last_words_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let plan = plan(state.path(), "echo one; echo two >&2; exit 3", None);
        supervise(plan, Pids::of(state.path()), sender, CancellationToken::new()).await;
        let Event::Started { .. } = next(&mut events).await else { panic!("not started") };
        let Event::Died { status, restart_after: None, .. } = next(&mut events).await else { panic!("not dead") };
        assert_eq!(status.code(), Some(3));
        assert!(events.recv().await.is_none(), "nothing more happens");
        assert_eq!(log_tail(&state.path().join("log"), 1), "two");
    }
}
