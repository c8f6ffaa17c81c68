//! The HTTP part of joining, as the browser does it: ask a door for the PoPs, probe the best few, choose the fastest,
//! report what was measured, get a guest's token.

#![expect(clippy::disallowed_methods, reason = "IO: measures round trips and phases")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use isthmus_protocol::{
    PopId, RoomId,
    guest::{GuestRequest, GuestToken},
    pops::{Measurement, Measurements, PopEntry, PopList, PopState},
    problem::Problem,
};
use reqwest::Url;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::session::{Joined, PhaseTimes};

/// How many of the ranked PoPs are probed.
const PROBED_POPS: usize = 3;
/// Probes of each; the fastest counts.
const PROBES: usize = 3;
/// The longest any request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where and how to join.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// Origin of the door that is asked first.
    pub url: Url,
    /// The room.
    pub room: RoomId,
    /// The name others see.
    pub name: String,
    /// Joins by this PoP, however far it is.
    pub pop: Option<PopId>,
}

/// A place in a room that waits for its signalling socket.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The chosen PoP and what was measured.
    pub joined: Joined,
    /// Origin of the chosen PoP's door.
    pub door: Url,
    /// The room token.
    pub token: String,
}

/// Speaks HTTP with doors. Trusts the system's authorities, or one that was named, alone.
#[derive(Clone)]
pub struct Doors {
    http: reqwest::Client,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Doors {
    /// `authority` is a PEM file; the development cluster's is its own.
    pub fn new(authority: Option<&Path>) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).connect_timeout(REQUEST_TIMEOUT);
        let mut tls = None;
        if let Some(file) = authority {
            let config = Arc::new(trust_only(file)?);
            http = http.tls_backend_preconfigured((*config).clone());
            tls = Some(config);
        }
        Ok(Self { http: http.build().context("cannot set up HTTP")?, tls })
    }

    /// What a WebSocket must trust, if it is not the system's authorities.
    pub fn tls(&self) -> Option<Arc<rustls::ClientConfig>> {
        self.tls.clone()
    }

    /// Finds the nearest PoP and gets a token there.
    pub async fn join(&self, options: &JoinOptions) -> anyhow::Result<Ticket> {
        let mut times = PhaseTimes::begin(Instant::now());
        let list: PopList = read(self.http.get(options.url.join("/v1/pops")?)).await.context("cannot list the PoPs")?;
        let (entry, probes) = match &options.pop {
            Some(pop) => (find(&list, pop)?, Vec::new()),
            None => self.nearest(&list).await?,
        };
        times.pops = Some(Instant::now());
        self.report(&options.url, &probes).await;
        let door = Url::parse(&entry.url).with_context(|| format!("{} has no usable URL", entry.id))?;
        let guest = GuestRequest { name: options.name.clone() };
        let request = self.http.post(door.join(&format!("/v1/rooms/{}/guests", options.room))?).json(&guest);
        let token: GuestToken = read(request).await.with_context(|| format!("cannot get a token from {}", entry.id))?;
        times.token = Some(Instant::now());
        let joined = Joined { pop: entry.id.clone(), probes, times };
        Ok(Ticket { joined, door, token: token.token })
    }

    /// Probes the best few at once. One that does not answer is no choice.
    async fn nearest<'a>(&self, list: &'a PopList) -> anyhow::Result<(&'a PopEntry, Vec<Measurement>)> {
        let ready = list.pops.iter().filter(|pop| pop.state == PopState::Ready).take(PROBED_POPS);
        let probed = join_all(ready.map(|pop| async move { (pop, self.probe(pop).await) })).await;
        let mut reached: Vec<_> = probed.iter().filter_map(|(pop, rtt)| Some((*pop, *rtt.as_ref().ok()?))).collect();
        reached.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        let Some((nearest, _)) = reached.first() else {
            let failures =
                probed.iter().filter_map(|(pop, rtt)| Some(format!("{}: {:#}", pop.id, rtt.as_ref().err()?)));
            bail!("no PoP answered its probes ({})", failures.collect::<Vec<_>>().join("; "));
        };
        let measured = |(pop, rtt_ms): &(&PopEntry, f64)| Measurement { pop: pop.id.clone(), rtt_ms: *rtt_ms };
        Ok((nearest, reached.iter().map(measured).collect()))
    }

    /// The fastest round trip in milliseconds. The first request opens the connection and is not counted.
    async fn probe(&self, pop: &PopEntry) -> anyhow::Result<f64> {
        let url = Url::parse(&pop.url)?.join("/v1/ping")?;
        let mut fastest = f64::INFINITY;
        for probe in 0..=PROBES {
            let sent = Instant::now();
            self.http.get(url.clone()).send().await?.error_for_status()?.bytes().await?;
            if probe > 0 {
                fastest = fastest.min(sent.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(fastest)
    }

    /// Tells the directory what was measured. The client needs no answer: a failure is only logged.
    async fn report(&self, url: &Url, probes: &[Measurement]) {
        if probes.is_empty() {
            return;
        }
        let Ok(url) = url.join("/v1/measurements") else { return };
        let sent = self.http.post(url).json(&Measurements { measurements: probes.to_vec() }).send().await;
        if let Err(error) = sent.and_then(reqwest::Response::error_for_status) {
            tracing::warn!(%error, "the measurements were not taken");
        }
    }
}

fn find<'a>(list: &'a PopList, pop: &PopId) -> anyhow::Result<&'a PopEntry> {
    let known = || list.pops.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>().join(", ");
    list.pops.iter().find(|entry| entry.id == *pop).with_context(|| format!("no PoP {pop}; there are {}", known()))
}

/// The body of a good answer; the detail of a problem document otherwise.
async fn read<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> anyhow::Result<T> {
    let response = request.send().await?;
    let (status, url) = (response.status(), response.url().clone());
    if status.is_success() {
        return response.json().await.with_context(|| format!("{url} answered something else than expected"));
    }
    match response.json::<Problem>().await {
        Ok(problem) => bail!("{url} answered {status}: {}: {}", problem.title, problem.detail),
        Err(_) => bail!("{url} answered {status}"),
    }
}

fn trust_only(file: &Path) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let named = || format!("cannot read the certificate authority {}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).with_context(named)? {
        roots.add(certificate.with_context(named)?).with_context(named)?;
    }
    if roots.is_empty() {
        bail!("{} holds no certificate", file.display());
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
