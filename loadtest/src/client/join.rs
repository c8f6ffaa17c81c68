//! The HTTP part of joining, as the browser does it: ask a door for the PoPs, probe the best few, choose the fastest,
//! get a guest's token, report what was measured meanwhile.

#![expect(clippy::disallowed_methods, reason = "IO: measures round trips and phases")]

use std::{
    cell::RefCell,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use isthmus_protocol::{
    PopId, RoomId,
    guest::{GuestRequest, GuestToken},
    pops::{Measurement, Measurements, PopEntry, PopList, PopState},
    problem::Problem,
};
use reqwest::Url;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::task::JoinHandle;

use super::session::PhaseTimes;

/// The most PoPs that are probed: the first of the door's ranking. This and what follows is as in the web app's SDK
/// (`web/src/sdk/discovery.ts`), so that the way of joining that is measured is the product's.
const MAX_PROBED: usize = 4;
/// Probes of each.
const PROBES: usize = 3;
/// How long the slower PoPs may go on once the first has answered all its probes, at least.
const MIN_GRACE: Duration = Duration::from_millis(40);
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
#[derive(Debug)]
pub struct Ticket {
    /// The chosen PoP.
    pub pop: PopId,
    /// What was measured, the fastest first.
    pub probes: Vec<Measurement>,
    /// When each step ended.
    pub times: PhaseTimes,
    /// Origin of the chosen PoP's door.
    pub door: Url,
    /// The room token.
    pub token: String,
    /// The report of what was measured, under way. Joining does not wait for it, the end of the program must.
    pub reporting: JoinHandle<()>,
}

/// Speaks HTTP with doors, over connections of its own. Trusts the system's authorities, or one that was named, alone.
pub struct Doors {
    http: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
}

impl Doors {
    /// `authority` is a PEM file; the development cluster's is its own.
    pub fn new(authority: Option<&Path>) -> anyhow::Result<Self> {
        let roots = match authority {
            Some(file) => roots_of(file)?,
            None => system_roots(),
        };
        Self::trusting(Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }

    /// The same for another client: who is someone else opens connections anew, but need not read certificates anew.
    pub fn for_another_client(&self) -> anyhow::Result<Self> {
        Self::trusting(Arc::clone(&self.tls))
    }

    fn trusting(tls: Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).connect_timeout(REQUEST_TIMEOUT);
        let http = http.tls_backend_preconfigured((*tls).clone()).build().context("cannot set up HTTP")?;
        Ok(Self { http, tls })
    }

    /// What a WebSocket must trust.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// Requests to other servers, by the same trust.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The PoPs as the door ranks them.
    pub async fn pops(&self, url: &Url) -> anyhow::Result<PopList> {
        read(self.http.get(url.join("/v1/pops")?)).await.context("cannot list the PoPs")
    }

    /// Finds the nearest PoP and gets a token there.
    pub async fn join(&self, options: &JoinOptions) -> anyhow::Result<Ticket> {
        let mut times = PhaseTimes::begin(Instant::now());
        let list = self.pops(&options.url).await?;
        let (entry, probes) = match &options.pop {
            Some(pop) => (find(&list, pop)?, Vec::new()),
            None => self.nearest(&list).await?,
        };
        times.pops = Some(Instant::now());
        let reporting = tokio::spawn(report(self.http.clone(), options.url.join("/v1/measurements")?, probes.clone()));
        let door = Url::parse(&entry.url).with_context(|| format!("{} has no usable URL", entry.id))?;
        let guests = door.join(&format!("/v1/rooms/{}/guests", options.room))?;
        let token = self.guest_token(guests, &options.name).await;
        let token = token.with_context(|| format!("{} lets nobody in", entry.id))?;
        times.token = Some(Instant::now());
        Ok(Ticket { pop: entry.id.clone(), probes, times, door, token, reporting })
    }

    /// A guest's token for a room, from its `/v1/rooms/{room}/guests`.
    pub async fn guest_token(&self, guests: Url, name: &str) -> anyhow::Result<String> {
        let request = self.http.post(guests).json(&GuestRequest { name: name.to_owned() });
        let token: GuestToken = read(request).await.context("cannot get a token")?;
        Ok(token.token)
    }

    /// Probes the best few at once. One that does not answer is no choice.
    async fn nearest<'a>(&self, list: &'a PopList) -> anyhow::Result<(&'a PopEntry, Vec<Measurement>)> {
        let candidates: Vec<_> = list.pops.iter().filter(|pop| pop.state == PopState::Ready).take(MAX_PROBED).collect();
        if candidates.is_empty() {
            let told = list.pops.iter().map(|pop| format!("{} is {:?}", pop.id, pop.state).to_lowercase());
            bail!("no PoP takes calls ({})", told.collect::<Vec<_>>().join(", "));
        }
        let (answers, failures) = self.probe_all(&candidates).await;
        let probed = || candidates.iter().zip(&answers);
        let cost_ms = |(pop, answers): (&&'a PopEntry, &Answers)| {
            Some((answers.fastest()?.as_secs_f64() * 1e3 + pop.load_cost_ms, *pop))
        };
        let Some((_, nearest)) = probed().filter_map(cost_ms).min_by(|(one, _), (other, _)| one.total_cmp(other))
        else {
            bail!("no PoP answered its probes ({})", failures.join("; "));
        };
        let measured = |(pop, answers): (&&PopEntry, &Answers)| {
            Some(Measurement { pop: pop.id.clone(), rtt_ms: answers.round_trip()?.as_secs_f64() * 1e3 })
        };
        Ok((nearest, probed().filter_map(measured).collect()))
    }

    /// Probes in parallel; ends soon after the fastest is done, since whoever is slower by then is not the nearest.
    /// What each has answered by then, and why those failed that did.
    async fn probe_all(&self, pops: &[&PopEntry]) -> (Vec<Answers>, Vec<String>) {
        let answers = RefCell::new(vec![Answers::default(); pops.len()]);
        let mut failures = Vec::new();
        {
            let answers = &answers;
            let runs = pops.iter().enumerate().map(|(index, pop)| async move {
                let answered = |took| answers.borrow_mut()[index].0.push(took);
                self.probe(pop, answered).await.with_context(|| pop.id.to_string())?;
                anyhow::Ok(answers.borrow()[index].fastest())
            });
            let mut runs: FuturesUnordered<_> = runs.collect();
            let mut grace = pin!(tokio::time::sleep(REQUEST_TIMEOUT));
            let mut first = None;
            loop {
                tokio::select! {
                    ended = runs.next() => match ended {
                        Some(Ok(fastest)) => if first.is_none() && let Some(fastest) = fastest {
                            first = Some(fastest);
                            grace.as_mut().reset(tokio::time::Instant::now() + fastest.max(MIN_GRACE));
                        },
                        Some(Err(error)) => failures.push(format!("{error:#}")),
                        None => break,
                    },
                    () = &mut grace, if first.is_some() => break,
                }
            }
        }
        (answers.into_inner(), failures)
    }

    /// Probes one, and tells how long each answer took.
    async fn probe(&self, pop: &PopEntry, answered: impl Fn(Duration)) -> anyhow::Result<()> {
        let url = Url::parse(&pop.url)?.join("/v1/ping")?;
        for _ in 0..PROBES {
            let sent = Instant::now();
            self.http.get(url.clone()).send().await?.error_for_status()?.bytes().await?;
            answered(sent.elapsed());
        }
        Ok(())
    }
}

/// How long each answer of one PoP took, in the order of the probes.
#[derive(Debug, Clone, Default)]
struct Answers(Vec<Duration>);

impl Answers {
    /// What the PoP is chosen by. The first answer waits for the connection to open too, and is better than none.
    fn fastest(&self) -> Option<Duration> {
        self.0.iter().min().copied()
    }

    /// What the directory is told: the first answer is no round trip.
    fn round_trip(&self) -> Option<Duration> {
        self.0.iter().skip(1).min().copied()
    }
}

/// Tells the directory what was measured. It is a favour to later callers: a failure is only logged.
async fn report(http: reqwest::Client, url: Url, measurements: Vec<Measurement>) {
    if measurements.is_empty() {
        return;
    }
    let sent = http.post(url).json(&Measurements { measurements }).send().await;
    if let Err(error) = sent.and_then(reqwest::Response::error_for_status) {
        tracing::warn!(%error, "the measurements were not taken");
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

/// Without any, plain HTTP still works.
fn system_roots() -> rustls::RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "certificate authorities of the system");
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn roots_of(file: &Path) -> anyhow::Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    let named = || format!("cannot read the certificate authority {}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).with_context(named)? {
        roots.add(certificate.with_context(named)?).with_context(named)?;
    }
    if roots.is_empty() {
        bail!("{} holds no certificate", file.display());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_that_opened_the_connection_is_not_reported() {
        let answers = |ms: &[u64]| Answers(ms.iter().copied().map(Duration::from_millis).collect());
        let told = |ms: &[u64]| (answers(ms).fastest(), answers(ms).round_trip());
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(told(&[]), (None, None));
        assert_eq!(told(&[80]), (ms(80), None));
        assert_eq!(told(&[80, 41, 40]), (ms(40), ms(40)));
        assert_eq!(told(&[30, 41, 40]), (ms(30), ms(40)), "a kept connection: still no guess");
    }
}
