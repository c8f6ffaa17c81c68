//! The web app: its files, how long they may be kept, and what a page of it may do.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use isthmus_protocol::problem::Code;
use tower::ServiceExt as _;
use tower_http::{compression::CompressionLayer, services::ServeDir};

use crate::{StartError, csp, door::Door, origin, problem::Refusal};

/// Vite gives each file under this path a name with the hash of its content.
const HASHED: &str = "/assets/";
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// To be asked for again each time: the next release has the same name.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// What every answer of the app carries besides its policy. No referrer, because the room's name stands in the path.
const HARDENING: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), autoplay=(self), \
         fullscreen=(self), picture-in-picture=(self), screen-wake-lock=(self), geolocation=(), payment=(), usb=(), \
         serial=(), hid=(), midi=()",
    ),
];

/// The built web app.
pub(crate) struct App {
    root: PathBuf,
    index: Bytes,
    /// Of the scripts in `index.html`.
    script_hashes: Vec<String>,
}

impl App {
    /// Reads the page; the other files are read when they are asked for.
    pub(crate) fn load(root: &Path) -> Result<Self, StartError> {
        let path = root.join("index.html");
        let index = fs::read_to_string(&path)
            .map_err(|error| StartError::WebApp { path: path.display().to_string(), error })?;
        Ok(Self { root: root.to_owned(), script_hashes: csp::inline_script_hashes(&index), index: index.into() })
    }

    /// The policy, with the PoPs that are known now.
    fn policy(&self, door: &Door) -> Option<HeaderValue> {
        let configured = door.config.pop_origins.iter().filter_map(|origin| origin::normal_form(origin).ok());
        let mut origins = door.pops.origins();
        origins.extend(configured);
        HeaderValue::from_str(&csp::policy(&self.script_hashes, origins.iter().map(String::as_str))).ok()
    }

    fn page(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CACHE_CONTROL, REVALIDATE),
        ];
        (headers, Body::from(self.index.clone())).into_response()
    }

    /// A file, or the page for the paths that the app routes by itself.
    async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        if path == "/" || path == "/index.html" {
            return self.page();
        }
        let Ok(mut response) = ServeDir::new(&self.root).append_index_html_on_directories(false).oneshot(request).await;
        let hashed = path.starts_with(HASHED);
        if response.status() == StatusCode::NOT_FOUND {
            // A file of a release that is gone must not become a page under a script's name.
            let gone = || Refusal::new(Code::NotFound, "no such file; load the page anew").into_response();
            return if hashed { gone() } else { self.page() };
        }
        let lifetime = if hashed { IMMUTABLE } else { REVALIDATE };
        response.headers_mut().insert(header::CACHE_CONTROL, lifetime);
        response.map(Body::new)
    }
}

/// Everything that is not under `/v1`.
pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new().fallback(serve).layer(CompressionLayer::new()).with_state(door)
}

async fn serve(State(door): State<Arc<Door>>, request: Request) -> Response {
    let path = request.uri().path();
    let api = path == "/v1" || path.starts_with("/v1/");
    let app = match &door.app {
        Some(app) if !api => app,
        _ => return super::not_found(path).into_response(),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return ([(header::ALLOW, "GET, HEAD")], super::method_not_allowed().await).into_response();
    }
    let policy = app.policy(&door);
    let mut response = app.answer(request).await;
    let headers = response.headers_mut();
    headers.extend(HARDENING.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
    headers.extend(policy.map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    if door.config.public_url.starts_with("https:") {
        let two_years = HeaderValue::from_static("max-age=63072000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, two_years);
    }
    response
}
