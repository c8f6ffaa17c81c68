//! What every request and every signalling socket shares.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock and draws random ids for everything behind it")]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use isthmus_directory::{Directory, Places, UnixMicros};
use isthmus_protocol::{ParticipantId, problem::Code};
use isthmus_relay::Endpoint;
use prometheus::Registry;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    StartError,
    accounts::{Accounts, Drawn, Sending},
    config::{AsIf, Config, Limits},
    http::{app::App, media_session::Offers},
    limits::{Holdings, Limiter},
    metrics::Metrics,
    nodes::{NoPlace, Nodes},
    origin::Origins,
    pops::{Pops, Upkeep},
    problem::Refusal,
    tokens::Tokens,
};

/// How long signalling sockets have to be closed when the process is to end.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);

/// A running door.
pub(crate) struct Door {
    pub(crate) config: Config,
    pub(crate) origins: Origins,
    pub(crate) tokens: Tokens,
    pub(crate) nodes: Nodes,
    pub(crate) pops: Pops,
    /// Where networks are, of which nothing was measured yet.
    pub(crate) places: Places,
    pub(crate) limits: Limiters,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Registry,
    pub(crate) app: Option<App>,
    accounts: Option<Accounts>,
    /// Offers of WHIP and WHEP sessions, for ICE restarts.
    pub(crate) offers: Offers,
    /// One permit for each signalling socket.
    pub(crate) sockets: Arc<Semaphore>,
    /// How many of them each network has.
    pub(crate) sockets_of: Arc<Holdings>,
    /// Cancelled when the process is to end.
    pub(crate) shutdown: CancellationToken,
    draining: AtomicBool,
}

/// The tables of requests per network.
pub(crate) struct Limiters {
    pub(crate) requests: Limiter,
    pub(crate) joins: Limiter,
    pub(crate) guests: Limiter,
    pub(crate) accounts: Limiter,
    pub(crate) measurements: Limiter,
}

impl Limiters {
    fn new(limits: &Limits) -> Self {
        Self {
            requests: Limiter::new(limits.requests),
            joins: Limiter::new(limits.joins),
            guests: Limiter::new(limits.guests),
            accounts: Limiter::new(limits.accounts),
            measurements: Limiter::new(limits.measurements),
        }
    }
}

impl Door {
    /// Loads keys and the web app and begins to link to the nodes.
    pub(crate) fn open(
        config: Config,
        endpoint: &Endpoint,
        directory: Directory,
        accounts: Option<Accounts>,
        registry: Registry,
        shutdown: CancellationToken,
    ) -> Result<(Self, Upkeep), StartError> {
        let allowed = config.allowed_origins.iter().map(String::as_str);
        let origins = Origins::new(allowed.chain([config.public_url.as_str()]))?;
        let metrics = Metrics::new(&registry)?;
        let (pops, upkeep) = Pops::new(&config, directory, metrics.drops.clone());
        let door = Self {
            origins,
            tokens: Tokens::load(&config.tokens)?,
            nodes: Nodes::start(endpoint, &config.nodes),
            pops,
            places: config.places.as_deref().map(load_places).transpose()?.unwrap_or_default(),
            limits: Limiters::new(&config.limits),
            accounts,
            app: config.web_root.as_deref().map(App::load).transpose()?,
            offers: Offers::default(),
            sockets: Arc::new(Semaphore::new(config.limits.sockets as usize)),
            sockets_of: Holdings::new(config.limits.sockets_per_network),
            draining: AtomicBool::new(false),
            metrics,
            registry,
            shutdown,
            config,
        };
        Ok((door, upkeep))
    }

    /// The accounts, where this door has any.
    pub(crate) fn accounts(&self) -> Result<&Accounts, Refusal> {
        let none = || Refusal::new(Code::NotFound, "this installation has no accounts: join by a link, as a guest");
        self.accounts.as_ref().ok_or_else(none)
    }

    /// Keeps what accounts need current; never returns.
    pub(crate) async fn accounts_upkeep(&self, sending: Option<Sending>) {
        let (Some(accounts), Some(sending)) = (&self.accounts, sending) else { return std::future::pending().await };
        tokio::join!(accounts.upkeep(), sending.run());
    }

    /// The refusal, with the door to ask instead where another PoP is to do it.
    pub(crate) fn directed(&self, refusal: Refusal) -> Refusal {
        let at = refusal.holder().and_then(|holder| self.pops.origin_of(holder));
        refusal.directed_to(at)
    }

    /// Takes no new sessions from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it takes no new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.shutdown.is_cancelled()
    }

    /// Whether it takes new sessions, and a media node is there for them.
    pub(crate) fn takes_sessions(&self) -> Result<(), NoPlace> {
        if self.is_draining() { Err(NoPlace::Draining) } else { self.nodes.take_rooms() }
    }

    /// Waits until every signalling socket has been told goodbye, a moment at most.
    pub(crate) async fn sockets_closed(&self) {
        let _ = timeout(GOODBYE_TIMEOUT, self.sockets.acquire_many(self.config.limits.sockets)).await;
    }

    /// The place of that name that a developer may pretend to be in.
    pub(crate) fn as_if(&self, name: &str) -> Option<&AsIf> {
        self.config.development.as_ref()?.as_if.iter().find(|place| place.name == name)
    }

    /// The present, in seconds since the epoch, as tokens count.
    pub(crate) fn now_s(&self) -> u64 {
        self.now().as_secs()
    }

    /// The present, as the directory counts.
    #[expect(clippy::unused_self, reason = "the door is what stands between its parts and the clock")]
    pub(crate) fn now(&self) -> UnixMicros {
        SystemTime::now().into()
    }

    /// Random bits for an account or a session.
    #[expect(clippy::unused_self, reason = "the door is what stands between its parts and the random source")]
    pub(crate) fn draw(&self) -> Drawn {
        let [id, device] = rand::random();
        Drawn { id, device, salt: rand::random(), secret: rand::random(), key: rand::random() }
    }

    /// A new stay.
    #[expect(clippy::unused_self, reason = "the door is what stands between its parts and the random source")]
    pub(crate) fn new_participant(&self) -> ParticipantId {
        ParticipantId::from_random(rand::random())
    }
}

fn load_places(path: &Path) -> Result<Places, StartError> {
    let unusable = |error: String| StartError::Places { path: path.display().to_string(), error };
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    Places::from_csv(&text).map_err(|error| unusable(error.to_string()))
}
