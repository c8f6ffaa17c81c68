//! Threads that carry clients. A client lives on one thread from its first request to its goodbye; threads share nothing
//! but sums, so nothing is locked on a packet's way.

#![expect(clippy::disallowed_methods, reason = "IO: reads clocks, those of threads included")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    sync::{mpsc, oneshot},
    task::LocalSet,
};

use super::stay::{Invitation, Shared, Stay, stay};

/// Orders that wait for a thread. The one who orders waits too, then.
const ORDERS: usize = 1024;
/// News that wait for the one who orders. Threads wait too, then: it takes them in between any two orders.
const NEWS: usize = 4096;
/// The beat by which a thread measures how late its timers are.
const BEAT: Duration = Duration::from_millis(10);
/// Beats of 100 s: more than anyone lets pass before taking them.
const MAX_BEATS: usize = 10_000;

/// What threads are told.
enum Order {
    Join(Box<Invitation>),
    Leave(usize),
}

/// What threads tell.
#[derive(Debug)]
pub enum News {
    /// The client on this seat is in its call.
    Joined(usize),
    /// A stay is over.
    Ended(Box<Stay>),
}

/// All threads.
pub struct Fleet {
    threads: Vec<Worker>,
    news: mpsc::Receiver<News>,
}

struct Worker {
    /// None once no more orders come.
    orders: Option<mpsc::Sender<Order>>,
    vitals: Arc<Vitals>,
    thread: Option<JoinHandle<()>>,
}

/// How one thread is.
#[derive(Debug, Default)]
struct Vitals {
    /// CPU time of the thread since it was started.
    cpu_ns: AtomicU64,
    /// How late each beat was since this was last taken.
    late: Mutex<Vec<Duration>>,
}

impl Fleet {
    /// Starts so many threads.
    pub fn start(threads: usize, shared: &Arc<Shared>) -> anyhow::Result<Self> {
        let (tell, news) = mpsc::channel(NEWS);
        let start = |number: usize| {
            let (orders, receive) = mpsc::channel(ORDERS);
            let vitals = Arc::new(Vitals::default());
            let work = work(receive, tell.clone(), Arc::clone(shared), Arc::clone(&vitals))?;
            let thread = std::thread::Builder::new().name(format!("clients-{number}")).spawn(work)?;
            anyhow::Ok(Worker { orders: Some(orders), vitals, thread: Some(thread) })
        };
        let threads = (0..threads).map(start).collect::<anyhow::Result<_>>().context("cannot start a thread")?;
        Ok(Self { threads, news })
    }

    /// A client is to join. One after the other goes to another thread.
    pub async fn join(&self, invitation: Invitation) {
        self.order(invitation.seat, Order::Join(Box::new(invitation))).await;
    }

    /// The client on a seat is to leave.
    pub async fn leave(&self, seat: usize) {
        self.order(seat, Order::Leave(seat)).await;
    }

    async fn order(&self, seat: usize, order: Order) {
        if let Some(orders) = &self.threads[seat % self.threads.len()].orders {
            // A thread that panicked takes no orders; its end says so.
            let _ = orders.send(order).await;
        }
    }

    /// The next thing that threads tell; none when all have ended.
    pub async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// CPU time of each thread so far, and how late their beats were since this was last asked.
    pub fn vitals(&self) -> (Vec<Duration>, Vec<Duration>) {
        let cpu = |worker: &Worker| Duration::from_nanos(worker.vitals.cpu_ns.load(Ordering::Relaxed));
        let take =
            |worker: &Worker| std::mem::take(&mut *worker.vitals.late.lock().unwrap_or_else(PoisonError::into_inner));
        (self.threads.iter().map(cpu).collect(), self.threads.iter().flat_map(take).collect())
    }

    /// No more orders: every client leaves, threads end when their last client has.
    pub fn dismiss(&mut self) {
        for worker in &mut self.threads {
            worker.orders = None;
        }
    }

    /// Waits for the threads, after the last news. An error is a panic in one.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.dismiss();
        for worker in &mut self.threads {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                anyhow::bail!("a thread that carried clients panicked");
            }
        }
        Ok(())
    }
}

fn work(
    orders: mpsc::Receiver<Order>,
    news: mpsc::Sender<News>,
    shared: Arc<Shared>,
    vitals: Arc<Vitals>,
) -> std::io::Result<impl FnOnce()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(move || {
        let clients = LocalSet::new();
        clients.spawn_local(keep_beat(vitals));
        clients.block_on(&runtime, carry(orders, news, shared));
    })
}

/// Takes orders, and carries clients until no more come and all have left.
async fn carry(mut orders: mpsc::Receiver<Order>, news: mpsc::Sender<News>, shared: Arc<Shared>) {
    let mut leaving: HashMap<usize, oneshot::Sender<()>> = HashMap::new();
    let mut stays = tokio::task::JoinSet::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Join(invitation) => {
                let (leave, asked) = oneshot::channel();
                // Whoever sat there before has been asked to leave.
                leaving.insert(invitation.seat, leave);
                stays.spawn_local(one(*invitation, Arc::clone(&shared), asked, news.clone()));
            }
            // Dropping it asks to leave. It may have left by itself.
            Order::Leave(seat) => drop(leaving.remove(&seat)),
        }
        while stays.try_join_next().is_some() {}
    }
    drop(leaving);
    while stays.join_next().await.is_some() {}
}

async fn one(invitation: Invitation, shared: Arc<Shared>, leave: oneshot::Receiver<()>, news: mpsc::Sender<News>) {
    let seat = invitation.seat;
    let (in_call, told) = oneshot::channel();
    let tell = news.clone();
    let telling = async move {
        if told.await.is_ok() {
            // Nobody listens to a run that was given up.
            let _ = tell.send(News::Joined(seat)).await;
        }
    };
    let joined = move || {
        // `telling` waits for it.
        let _ = in_call.send(());
    };
    let staying = stay(invitation, shared, leave, joined);
    // Told in this order: a stay does not end before it has begun.
    let ((), ended) = tokio::join!(telling, Box::pin(staying));
    let _ = news.send(News::Ended(Box::new(ended))).await;
}

/// Measures the thread it runs on.
async fn keep_beat(vitals: Arc<Vitals>) {
    let mut due = Instant::now() + BEAT;
    loop {
        tokio::time::sleep_until(due.into()).await;
        let now = Instant::now();
        {
            let mut late = vitals.late.lock().unwrap_or_else(PoisonError::into_inner);
            if late.len() < MAX_BEATS {
                late.push(now.saturating_duration_since(due));
            }
        }
        if let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            vitals.cpu_ns.store(Duration::from(time).as_nanos() as u64, Ordering::Relaxed);
        }
        due = (due + BEAT).max(now);
    }
}
