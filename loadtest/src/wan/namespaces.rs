//! Network namespaces: made with iproute2, entered by threads, and gone when their value is dropped.
//!
//! They are named `isthmus-PID-HOST`, so `ip netns exec` reaches them, and a world that was killed is recognised by
//! its process id and swept away by the next one.

#![expect(clippy::disallowed_methods, reason = "IO: waits for processes to end, with a deadline")]

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid},
};

use super::{WanError, tun};

const NAME_PREFIX: &str = "isthmus-";
/// Where iproute2 keeps named namespaces.
const NAMED_NAMESPACES: &str = "/run/netns";
/// How long processes in a namespace may take to end before they are killed.
const END_GRACE: Duration = Duration::from_secs(3);

/// Says clearly what is missing before anything is made.
pub fn check_privileges() -> Result<(), WanError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(WanError::Missing(
            "network namespaces need root: run it again as root, for example with sudo".into(),
        ));
    }
    if !Path::new(tun::DEVICE).exists() {
        let problem = format!(
            "{} does not exist: load the driver with `modprobe tun`, or give the container that device",
            tun::DEVICE
        );
        return Err(WanError::Missing(problem));
    }
    match Command::new("ip").arg("-V").output() {
        Ok(_) => Ok(()),
        Err(_) => Err(WanError::Missing("the `ip` program is missing: apt-get install iproute2".into())),
    }
}

/// A network namespace of ours. Dropping it ends the processes in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty namespace for `host`.
    pub fn create(host: &str) -> Result<Self, WanError> {
        let name = format!("{NAME_PREFIX}{}-{host}", getpid());
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    /// Its name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends SIGTERM to every process in the namespace. Dropping the namespace waits for them.
    pub fn ask_processes_to_end(&self) {
        signal_all(&self.name, Signal::SIGTERM);
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMED_NAMESPACES).join(&self.name)
    }

    /// Runs `work` on a thread in the namespace. Processes that it starts and sockets that it opens stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        // Opened read-only: anything else needs a writable nsfs, which containers do not always have.
        let file = File::open(self.path())?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }

    /// Runs iproute2 commands in the namespace, one a line.
    pub fn configure(&self, lines: &str) -> Result<(), WanError> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(WanError::io("start ip"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes()).map_err(WanError::io("write to ip"))?;
        }
        let output = child.wait_with_output().map_err(WanError::io("wait for ip"))?;
        check_output(&output, &format!("ip -n {} -batch", self.name)).map(|_| ())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes the namespaces of worlds whose process is gone.
pub fn sweep_abandoned() {
    let Ok(entries) = std::fs::read_dir(NAMED_NAMESPACES) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists())) {
        tracing::info!(namespace = name, "removing what an earlier world left behind");
        remove(&name);
    }
}

/// The process id in a namespace's name, if it is one of ours.
fn owner(namespace: &str) -> Option<&str> {
    let (pid, _) = namespace.strip_prefix(NAME_PREFIX)?.split_once('-')?;
    (!pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())).then_some(pid)
}

/// Ends the processes of a namespace and removes it. Called from `drop`, so it can only log what fails.
fn remove(name: &str) {
    end_processes(name);
    if let Err(error) = ip(&["netns", "del", name]) {
        tracing::warn!(namespace = name, %error, "the namespace was not removed");
    }
}

/// SIGTERM, then SIGKILL to what has not ended after [`END_GRACE`].
fn end_processes(name: &str) {
    signal_all(name, Signal::SIGTERM);
    let deadline = Instant::now() + END_GRACE;
    while !processes(name).is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    signal_all(name, Signal::SIGKILL);
}

fn signal_all(name: &str, signal: Signal) {
    for pid in processes(name) {
        // One that has just ended cannot be signalled, and need not be.
        let _ = kill(pid, signal);
    }
}

/// The processes in a namespace. A thread of ours may be in it for a moment; this process is never one of them.
fn processes(name: &str) -> Vec<Pid> {
    let listed = ip(&["netns", "pids", name]).unwrap_or_default();
    let pids = listed.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
    pids.filter(|pid| *pid != getpid()).collect()
}

fn ip(arguments: &[&str]) -> Result<String, WanError> {
    let output = Command::new("ip").args(arguments).output().map_err(WanError::io("start ip"))?;
    check_output(&output, &format!("ip {}", arguments.join(" ")))
}

fn check_output(output: &Output, command: &str) -> Result<String, WanError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(WanError::Command { command: command.into(), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        assert_eq!(owner("isthmus-123-client-bogota"), Some("123"));
        for other in ["isthmus-x-a", "isthmus--a", "isthmus-123", "other-123-a", ""] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
