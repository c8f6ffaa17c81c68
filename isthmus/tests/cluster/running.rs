//! A cluster that a test runs.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_isthmus");
/// What a condition that must come true may take, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);

/// `isthmus dev` with a state folder of its own. Dropped, it is killed and with it all its processes.
pub(crate) struct Cluster {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    state: TempDir,
}

impl Cluster {
    /// Starts a cluster with further flags and waits until it is ready.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, &[]).await
    }

    /// The same with variables in the environment of its processes.
    pub(crate) async fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(PROGRAM)
            .args(["dev", "--base-port", "0", "--state"])
            .arg(state.path())
            .args(flags)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program runs");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut cluster = Self { child, output, state };
        cluster.line_with("ready").await;
        cluster
    }

    /// Waits for a line of its output that begins with `start`.
    pub(crate) async fn line_with(&mut self, start: &str) {
        let found = timeout(DEADLINE, async {
            while let Some(line) = self.output.next_line().await.expect("its output is text") {
                if line.starts_with(start) {
                    return;
                }
            }
            panic!("the cluster ended before it said {start:?}");
        });
        found.await.unwrap_or_else(|_| panic!("the cluster did not say {start:?} within {DEADLINE:?}"));
    }

    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// What stands in `pids.json`.
    pub(crate) fn pids(&self) -> BTreeMap<String, u32> {
        let text = fs::read_to_string(self.state().join("pids.json")).expect("pids.json");
        serde_json::from_str(&text).expect("names and numbers")
    }

    /// Where each process of each PoP answers operators.
    pub(crate) fn ops_urls(&self) -> Vec<String> {
        let configs = ["panama", "singapore", "zurich"].into_iter().filter(|pop| self.config_path(pop).exists());
        let addresses = configs.flat_map(|pop| {
            let config = self.config(pop);
            [&config["ops"]["sfu"], &config["ops"]["store"], &config["gateway"]["ops_listen"]].map(text)
        });
        addresses.map(|address| format!("http://{address}")).collect()
    }

    /// The origin of a PoP's door.
    pub(crate) fn public_url(&self, pop: &str) -> String {
        text(&self.config(pop)["gateway"]["public_url"])
    }

    /// The status that a request gets, if there is an answer.
    pub(crate) async fn get(&self, url: &str) -> Option<reqwest::StatusCode> {
        reqwest::get(url).await.ok().map(|answer| answer.status())
    }

    /// What the program prints with these arguments, run in the state folder.
    pub(crate) fn isthmus(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new(PROGRAM).args(arguments).current_dir(self.state()).output();
        let output = output.expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// What the program complains of with these arguments, which it must refuse.
    pub(crate) async fn refused(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        let output = command.args(arguments).current_dir(self.state()).kill_on_drop(true).output();
        let output = timeout(DEADLINE, output).await.expect("it ends in time").expect("the program runs");
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).expect("text")
    }

    /// The program with these arguments, running in the state folder. Dropped, it is killed.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(self.state()).kill_on_drop(true).spawn().expect("the program runs")
    }

    /// A further `isthmus dev` with the same state folder.
    pub(crate) fn spawn_dev(&self, flags: &[&str]) -> Child {
        let state = self.state().to_str().expect("a path in ASCII");
        self.spawn(&[&["dev", "--state", state], flags].concat())
    }

    /// Sends a signal to `isthmus dev` itself.
    pub(crate) fn signal_self(&self, what: Signal) {
        signal(self.child.id().expect("it runs"), what);
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        timeout(within, self.child.wait()).await.expect("it ends in time").expect("its status")
    }

    fn config(&self, pop: &str) -> toml::Table {
        let text = fs::read_to_string(self.config_path(pop)).expect("the PoP's configuration");
        text.parse().expect("TOML")
    }

    fn config_path(&self, pop: &str) -> std::path::PathBuf {
        self.state().join(format!("{pop}.toml"))
    }
}

fn text(value: &toml::Value) -> String {
    value.as_str().expect("a string").to_owned()
}

pub(crate) fn signal(pid: u32, what: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), what).expect("it runs");
}

/// Whether a process runs. One that ended and was not waited for (a zombie) does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // proc(5): the state follows the name, which stands in parentheses.
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Waits for a condition.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let came_true = timeout(DEADLINE, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            sleep(POLL).await;
        }
    });
    came_true.await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
