//! The cluster while it runs: started all at once, watched, told about, ended.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock to say how long the start took")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use isthmus_protocol::{NodeId, PopId};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    children::{self, Event, Plan},
    layout::{Pop, Process},
    pids::Pids,
    probe, state,
};
use crate::roles::Role;

/// Events that wait to be told; when this is full, supervisors wait, which loses nothing.
const EVENTS: usize = 64;
/// How long after an answer other than 200 a process is asked again.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);
/// Lines of its log that are shown of a process that died during the start.
const LOG_TAIL_LINES: usize = 8;

pub(super) struct Cluster {
    pops: Vec<Pop>,
    logs: PathBuf,
    supervisors: JoinSet<()>,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    started: Instant,
}

impl Cluster {
    /// Starts every process of `pops`.
    pub(super) fn start(
        folder: &state::Folder,
        pops: Vec<Pop>,
        no_restart: bool,
        log: Option<&str>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let (sender, events) = mpsc::channel(EVENTS);
        let (stop, logs) = (CancellationToken::new(), folder.logs());
        let mut supervisors = JoinSet::new();
        for pop in &pops {
            for process in pop.processes() {
                let mut arguments = vec![process.role.command().into(), "--config".into()];
                arguments.push(folder.config_of(pop, &process).display().to_string());
                arguments.extend(log.map(|filter| format!("--log={filter}")));
                let plan = Plan {
                    name: process.name.to_string(),
                    program: program.clone(),
                    arguments,
                    log: log_file(&logs, process.name.as_str()),
                    restart_after: (!no_restart).then(|| restart_after(process.role)),
                };
                // A new start of the cluster begins a new log; restarts within it go on in the same.
                fs::write(&plan.log, "").with_context(|| plan.log.display().to_string())?;
                supervisors.spawn(children::supervise(plan, Pids::of(folder.path()), sender.clone(), stop.clone()));
            }
        }
        Ok(Self { pops, logs, supervisors, events, stop, started: Instant::now() })
    }

    /// Tells when the cluster is ready and what happens to it, until `shutdown`; then ends it.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let result = tokio::select! {
            result = self.until_dead() => result,
            () = shutdown.cancelled() => Ok(()),
        };
        self.stop.cancel();
        while self.supervisors.join_next().await.is_some() {}
        result
    }

    /// Ends only if the cluster cannot run.
    async fn until_dead(&mut self) -> anyhow::Result<()> {
        self.until_ready().await?;
        self.print_urls();
        println!("ready in {:.1} s: Ctrl-C ends it", self.started.elapsed().as_secs_f64());
        while let Some(event) = self.events.recv().await {
            tell(&event);
        }
        anyhow::bail!("every process has ended and none is started again")
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let processes: Vec<Process> = self.pops.iter().flat_map(Pop::processes).collect();
        let progress = progress(processes.len());
        let mut waiting = JoinSet::new();
        let pops: BTreeSet<PopId> = self.pops.iter().map(|pop| pop.id.clone()).collect();
        for process in processes {
            waiting.spawn(until_of_use(process, pops.clone()));
        }
        loop {
            tokio::select! {
                answered = waiting.join_next() => match answered {
                    Some(Ok(name)) => {
                        progress.set_message(name.to_string());
                        progress.inc(1);
                    }
                    Some(Err(error)) => return Err(error).context("a probe failed"),
                    None => break,
                },
                event = self.events.recv() => self.must_be_a_start(event)?,
            }
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// A process that dies while the cluster starts would only die again: better to say why.
    fn must_be_a_start(&self, event: Option<Event>) -> anyhow::Result<()> {
        match event {
            Some(Event::Started { .. }) => Ok(()),
            Some(Event::Died { name, status, .. }) => {
                let log = log_file(&self.logs, &name);
                let tail = children::log_tail(&log, LOG_TAIL_LINES);
                anyhow::bail!("{name} ended while the cluster was starting ({status}); {}:\n{tail}", log.display())
            }
            Some(Event::Failed { name, error }) => Err(error).context(name),
            None => anyhow::bail!("nothing was started"),
        }
    }

    fn print_urls(&self) {
        for pop in &self.pops {
            println!("{:<18} {}", pop.id.as_str(), pop.url());
        }
        // All by one door: which PoP each of them is taken to is for the app to find out.
        if let Some(first) = self.pops.first() {
            for site in self.pops.iter().map(Pop::site) {
                println!("{:<18} {}", format!("as if in {}", site.near.label), first.url_as_if(site));
            }
        }
    }
}

/// Waits until a process is ready, and if it is a door, until it would send calls to every one of `pops`: what they say of
/// themselves travels from store to store. Its name.
async fn until_of_use(process: Process, pops: BTreeSet<PopId>) -> NodeId {
    while !probe::is_ready(process.ops).await {
        sleep(PROBE_INTERVAL).await;
    }
    while process.role == Role::Door && !probe::open_pops(process.ops).await.is_superset(&pops) {
        sleep(PROBE_INTERVAL).await;
    }
    process.name
}

/// Doors and stores come back before clients give up on them; a media node later, so that failover to another PoP shows.
fn restart_after(role: Role) -> Duration {
    match role {
        Role::Store | Role::Door => Duration::from_secs(1),
        Role::Sfu => Duration::from_secs(3),
    }
}

fn log_file(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{name}.log"))
}

fn progress(processes: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} starting {pos}/{len} {msg}").expect("the template is valid");
    let bar = ProgressBar::new(processes as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn tell(event: &Event) {
    match event {
        Event::Started { name, pid } => println!("{name} runs as {pid}"),
        Event::Died { name, status, restart_after: Some(pause) } => {
            println!("{name} ended ({status}); it is started again in {} s", pause.as_secs());
        }
        Event::Died { name, status, restart_after: None } => println!("{name} ended ({status}) and stays dead"),
        Event::Failed { name, error } => println!("{name} cannot be run: {error}"),
    }
}
