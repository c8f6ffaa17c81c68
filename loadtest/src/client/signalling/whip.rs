//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer is posted, the answer comes back, and the session is an address
//! that is deleted in the end. Candidates are in the descriptions: nothing is trickled.

use anyhow::{Context as _, bail};
use reqwest::{
    StatusCode, Url,
    header::{CONTENT_TYPE, LOCATION},
};

use crate::client::session::Facts;

const SDP: &str = "application/sdp";
/// What is shown of a body that says why.
const MAX_REASON_CHARS: usize = 200;

/// What a client knows of the other side: nothing but what it was told before.
#[derive(Debug, Clone, Copy)]
pub struct Dialogue {
    /// Whether someone published when this client came: WHEP does not tell.
    pub others_published: bool,
}

impl Dialogue {
    pub(super) fn facts(self) -> Facts {
        Facts { others_published: self.others_published, ..Facts::default() }
    }
}

/// Where a client publishes or plays, and by what it may.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The WHIP or WHEP endpoint.
    pub url: Url,
    /// Bearer token, if there is one.
    pub token: Option<String>,
}

/// A session that was begun.
#[derive(Debug)]
pub struct Session {
    http: reqwest::Client,
    address: Url,
    token: Option<String>,
}

impl Endpoint {
    /// Posts an offer; the answer and the session that is to be deleted in the end.
    pub async fn begin(&self, http: &reqwest::Client, offer: String) -> anyhow::Result<(String, Session)> {
        let request = http.post(self.url.clone()).header(CONTENT_TYPE, SDP).body(offer);
        let response = authorised(request, self.token.as_deref()).send().await?;
        let (status, url) = (response.status(), response.url().clone());
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.text().await.with_context(|| format!("{url} broke its answer off"))?;
        if status != StatusCode::CREATED {
            let reason: String = body.chars().take(MAX_REASON_CHARS).collect();
            bail!("{url} answered {status}: {}", reason.trim());
        }
        let location =
            location.with_context(|| format!("{url} named no Location for the session (RFC 9725 section 4.2)"))?;
        let address = url.join(&location).with_context(|| format!("{url} named a Location that is no address"))?;
        Ok((body, Session { http: http.clone(), address, token: self.token.clone() }))
    }
}

impl Session {
    /// Ends it. A server that is gone is no error: the session is then gone too.
    pub async fn end(self) {
        let request = authorised(self.http.delete(self.address.clone()), self.token.as_deref());
        if let Err(error) = request.send().await.and_then(reqwest::Response::error_for_status) {
            tracing::debug!(%error, "a session was not deleted");
        }
    }
}

fn authorised(request: reqwest::RequestBuilder, token: Option<&str>) -> reqwest::RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}
