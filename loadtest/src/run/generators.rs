//! Who carries a run's clients: threads of this process, or generator processes that this one starts. A run orders the same of
//! both and hears the same from both.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
};

use super::{
    conduct::process_cpu,
    fleet::{self, Fleet},
    stay::{Invitation, Shared, Stay},
    wire::{Order, Told, Vitals},
};
use crate::client::session::Traffic;

/// Orders that wait for a generator. The one who orders waits too, then.
const ORDERS: usize = 1024;
/// News that wait for the one who orders. Generators wait too, then: it takes them in between any two orders.
const NEWS: usize = 4096;
/// How long a generator may take to start, and to end after it said that it has done.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What those who carry clients tell.
#[derive(Debug)]
pub(super) enum News {
    /// The client on this seat is in its call.
    Joined(usize),
    /// A stay is over.
    Ended(Box<Stay>),
    /// A generator is gone, and with it what its clients measured.
    Lost(String),
}

/// Those who carry a run's clients.
pub(super) enum Generators {
    /// This process.
    Threads(Fleet, Arc<Shared>),
    /// Others.
    Processes(Processes),
}

impl Generators {
    /// The run begins.
    pub(super) async fn begin(&self, run: u32, epoch_ns: u64) {
        if let Self::Processes(processes) = self {
            for process in &processes.all {
                process.order(Order::Begin { run, epoch_ns }).await;
            }
        }
    }

    /// A client is to join.
    pub(super) async fn join(&self, invitation: impl FnOnce() -> Invitation, seat: usize, others_published: bool) {
        match self {
            Self::Threads(fleet, _) => fleet.join(invitation()).await,
            Self::Processes(processes) => processes.of(seat).order(Order::Join { seat, others_published }).await,
        }
    }

    /// The client on a seat is to leave.
    pub(super) async fn leave(&self, seat: usize) {
        match self {
            Self::Threads(fleet, _) => fleet.leave(seat).await,
            Self::Processes(processes) => processes.of(seat).order(Order::Leave { seat }).await,
        }
    }

    /// What is told next; none when all have ended.
    pub(super) async fn news(&mut self) -> Option<News> {
        match self {
            Self::Threads(fleet, _) => Some(match fleet.news().await? {
                fleet::News::Joined(seat) => News::Joined(seat),
                fleet::News::Ended(stay) => News::Ended(stay),
            }),
            Self::Processes(processes) => processes.news.recv().await,
        }
    }

    /// How they are: threads and sums of all, and how late beats were since this was last asked.
    pub(super) fn vitals(&self) -> Vitals {
        match self {
            Self::Threads(fleet, shared) => {
                let (cpu, late) = fleet.vitals();
                let (drops, traffic) = (shared.sockets.drops(), shared.traffic.total());
                Vitals { cpu, late, process_cpu: process_cpu(), drops, traffic }
            }
            Self::Processes(processes) => {
                let own = Vitals { process_cpu: process_cpu(), drops: Some(0), ..Vitals::default() };
                processes.all.iter().map(Process::take_vitals).fold(own, sum)
            }
        }
    }

    /// What all clients sent and received so far, as far as is known.
    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Threads(_, shared) => shared.traffic.total(),
            Self::Processes(processes) => {
                let known = processes.all.iter().map(|process| process.lock().traffic);
                known.fold(Traffic::default(), |sum, more| sum + more)
            }
        }
    }

    /// No more orders: every client leaves.
    pub(super) fn dismiss(&mut self) {
        match self {
            Self::Threads(fleet, _) => fleet.dismiss(),
            Self::Processes(processes) => {
                for process in &mut processes.all {
                    process.orders = None;
                }
            }
        }
    }

    /// Waits for their end, after the last news.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Threads(fleet, _) => fleet.end(),
            Self::Processes(processes) => {
                for (number, mut process) in processes.all.into_iter().enumerate() {
                    if tokio::time::timeout(ENDS_WITHIN, process.child.wait()).await.is_err() {
                        process.child.kill().await?;
                        bail!("generator {number} did not end");
                    }
                }
                Ok(())
            }
        }
    }
}

/// Both together: threads one after the other, sums.
fn sum(mut one: Vitals, other: Vitals) -> Vitals {
    let plus = |one: Option<Duration>, other: Option<Duration>| Some(one? + other?);
    one.cpu.extend(other.cpu);
    one.late.extend(other.late);
    Vitals {
        process_cpu: plus(one.process_cpu, other.process_cpu),
        drops: one.drops.zip(other.drops).map(|(one, other)| one + other),
        traffic: one.traffic + other.traffic,
        ..one
    }
}

/// Generator processes.
pub(super) struct Processes {
    all: Vec<Process>,
    news: mpsc::Receiver<News>,
}

struct Process {
    child: Child,
    /// None once no more orders come.
    orders: Option<mpsc::Sender<Order>>,
    /// What it last told; how late beats were piles up until it is taken.
    vitals: Arc<Mutex<Vitals>>,
}

impl Processes {
    /// Starts so many: this program with these arguments, each with its number beside them. Returns when all wait for the
    /// beginning.
    pub(super) async fn start(count: u16, program: PathBuf, arguments: &[std::ffi::OsString]) -> anyhow::Result<Self> {
        let (tell, news) = mpsc::channel(NEWS);
        let mut all = Vec::new();
        for number in 0..count {
            let mut command = Command::new(&program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut child = command.spawn().with_context(|| format!("cannot start generator {number}"))?;
            let stdin = child.stdin.take().context("a generator takes no orders")?;
            let mut said = BufReader::new(child.stdout.take().context("a generator tells nothing")?).lines();
            let ready = tokio::time::timeout(STARTS_WITHIN, next(&mut said)).await;
            match ready.with_context(|| format!("generator {number} did not start"))? {
                Ok(Some(Told::Ready)) => {}
                Ok(other) => bail!("generator {number} did not start: it says {other:?}"),
                Err(error) => return Err(error.context(format!("generator {number} did not start"))),
            }
            let (orders, receive) = mpsc::channel(ORDERS);
            let vitals = Arc::new(Mutex::new(Vitals { drops: Some(0), ..Vitals::default() }));
            tokio::spawn(write(stdin, receive));
            tokio::spawn(listen(number, said, tell.clone(), Arc::clone(&vitals)));
            all.push(Process { child, orders: Some(orders), vitals });
        }
        Ok(Self { all, news })
    }

    /// A participant is always carried by the same.
    fn of(&self, seat: usize) -> &Process {
        &self.all[seat % self.all.len()]
    }
}

impl Process {
    async fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // One that is gone takes no orders; its end says so.
            let _ = orders.send(order).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vitals> {
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_vitals(&self) -> Vitals {
        let mut vitals = self.lock();
        let late = std::mem::take(&mut vitals.late);
        Vitals { late, ..vitals.clone() }
    }
}

/// Orders become lines. The end of them closes the pipe, which the generator takes for its dismissal.
async fn write(mut stdin: ChildStdin, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        let mut line = serde_json::to_string(&order).expect("an order is plain data");
        line.push('\n');
        // One that is gone takes no orders; its end says so.
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Lines become news, until the generator has done or is gone.
async fn listen(
    number: u16,
    mut said: Lines<BufReader<ChildStdout>>,
    tell: mpsc::Sender<News>,
    vitals: Arc<Mutex<Vitals>>,
) {
    let news = loop {
        let news = match next(&mut said).await {
            Ok(Some(Told::Joined(seat))) => News::Joined(seat),
            Ok(Some(Told::Ended(stay))) => News::Ended(Box::new((*stay).into())),
            Ok(Some(Told::Vitals(now))) => {
                let mut known = vitals.lock().unwrap_or_else(PoisonError::into_inner);
                let late = std::mem::take(&mut known.late).into_iter().chain(now.late).collect();
                *known = Vitals { late, ..now };
                continue;
            }
            Ok(Some(Told::Ready)) => continue,
            Ok(Some(Told::Done)) => return,
            Ok(None) => break News::Lost(format!("generator {number} is gone, with what its clients measured")),
            Err(error) => break News::Lost(format!("generator {number}: {error:#}")),
        };
        if tell.send(news).await.is_err() {
            return;
        }
    };
    // Nobody listens to a run that was given up.
    let _ = tell.send(news).await;
}

async fn next(said: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<Option<Told>> {
    let Some(line) = said.next_line().await? else { return Ok(None) };
    serde_json::from_str(&line).map(Some).context("it says what no generator says")
}
