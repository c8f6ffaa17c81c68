//! A UDP path through this process: delay, loss from a seed, a bottleneck, and a switch that makes it a black hole.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{net::UdpSocket, runtime::Runtime, time::sleep};

/// One-way conditions, the same in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    pub seed: u64,
    pub loss: f64,
    pub delay: Duration,
    pub bottleneck: Option<Bottleneck>,
}

/// What lets through so many bits per second and drops what would wait longer than `queue`.
#[derive(Debug, Clone, Copy)]
pub struct Bottleneck {
    pub rate_bps: u32,
    pub queue: Duration,
}

/// Whoever sends to [`addr`](BadPath::addr) speaks with the target, as well as the path lets them.
pub struct BadPath {
    addr: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

struct State {
    conditions: Conditions,
    black_hole: AtomicBool,
    lost: AtomicU64,
}

impl BadPath {
    pub fn clear(target: SocketAddr) -> Self {
        Self::with(target, 0, 0.0, Duration::ZERO)
    }

    pub fn with(target: SocketAddr, seed: u64, loss: f64, delay: Duration) -> Self {
        Self::under(target, Conditions { seed, loss, delay, bottleneck: None })
    }

    pub fn under(target: SocketAddr, conditions: Conditions) -> Self {
        let runtime = super::runtime();
        let state = Arc::new(State { conditions, black_hole: AtomicBool::new(false), lost: AtomicU64::new(0) });
        let front = std::net::UdpSocket::bind(super::loopback()).unwrap();
        front.set_nonblocking(true).unwrap();
        let addr = front.local_addr().unwrap();
        runtime.spawn(carry(front, target, state.clone()));
        Self { addr, state, runtime: Some(runtime) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn set_black_hole(&self, on: bool) {
        self.state.black_hole.store(on, Ordering::SeqCst);
    }

    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::SeqCst)
    }
}

impl Drop for BadPath {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One socket towards the target for each caller, so that answers find their way back.
async fn carry(front: std::net::UdpSocket, target: SocketAddr, state: Arc<State>) {
    let front = Arc::new(UdpSocket::from_std(front).unwrap());
    let mut random = StdRng::seed_from_u64(state.conditions.seed);
    let queue = Arc::new(Mutex::new(Instant::now()));
    let mut callers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, caller)) = front.recv_from(&mut buffer).await else { continue };
        let back = match callers.entry(caller) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let back = Arc::new(UdpSocket::bind(super::loopback()).await.unwrap());
                tokio::spawn(answer(back.clone(), front.clone(), caller, state.clone()));
                new.insert(back).clone()
            }
        };
        pass(&buffer[..length], &mut random, &state, &queue, back, target);
    }
}

async fn answer(back: Arc<UdpSocket>, front: Arc<UdpSocket>, caller: SocketAddr, state: Arc<State>) {
    let mut random = StdRng::seed_from_u64(!state.conditions.seed);
    let queue = Mutex::new(Instant::now());
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, _)) = back.recv_from(&mut buffer).await else { continue };
        pass(&buffer[..length], &mut random, &state, &queue, front.clone(), caller);
    }
}

/// `queue` is when the bottleneck of this direction will have sent what it has.
fn pass(
    datagram: &[u8],
    random: &mut StdRng,
    state: &State,
    queue: &Mutex<Instant>,
    from: Arc<UdpSocket>,
    to: SocketAddr,
) {
    let waits = state.conditions.bottleneck.map(|bottleneck| bottleneck.take(datagram.len(), queue));
    let lost = random.random_bool(state.conditions.loss) || waits == Some(None);
    if lost || state.black_hole.load(Ordering::SeqCst) {
        state.lost.fetch_add(u64::from(lost), Ordering::SeqCst);
        return;
    }
    let (datagram, delay) = (datagram.to_vec(), state.conditions.delay + waits.flatten().unwrap_or_default());
    tokio::spawn(async move {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let _ = from.send_to(&datagram, to).await;
    });
}

impl Bottleneck {
    /// How long the datagram takes; none if it finds the queue full.
    fn take(self, bytes: usize, queue: &Mutex<Instant>) -> Option<Duration> {
        let (mut free_at, now) = (queue.lock().unwrap(), Instant::now());
        if free_at.saturating_duration_since(now) > self.queue {
            return None;
        }
        *free_at = (*free_at).max(now) + Duration::from_secs(1) * (bytes as u32 * 8) / self.rate_bps;
        Some(free_at.saturating_duration_since(now))
    }
}
