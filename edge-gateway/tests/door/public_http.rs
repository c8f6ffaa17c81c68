//! What holds for every public resource.

use isthmus_edge_gateway::config::{Allowance, Tls};
use isthmus_protocol::{guest::GuestToken, problem::Code};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{APP, Stage, refused};

#[tokio::test]
async fn a_guest_gets_a_token_for_the_one_room() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let admit = |room: &str, body: Value| door.post(&format!("/v1/rooms/{room}/guests")).json(&body).send();
    let response = admit("demo", json!({"name": " Ana "})).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.headers()["cache-control"].as_bytes()), (201, &b"no-store"[..]));
    let guest: GuestToken = response.json().await.expect("a token");
    assert_eq!((guest.room.as_str(), guest.expires_in_s), ("demo", 60));
    let elsewhere = door.client.delete(door.url("/v1/rooms/other/whip/panama-sfu-1/p-1")).bearer_auth(&guest.token);
    assert_eq!(refused(elsewhere.send().await.expect("an answer"), 403).await, Code::Forbidden);
    for (room, body) in [
        ("demo", json!({"name": " "})),
        ("demo", json!({"name": "x".repeat(81)})),
        ("demo", json!({"name": "a\u{0}"})),
        ("demo", json!({})),
        ("de%20mo", json!({"name": "Ana"})),
    ] {
        let response = admit(room, body.clone()).await.expect("an answer");
        assert_eq!(refused(response, 400).await, Code::InvalidRequest, "{room} {body}");
    }
}

#[tokio::test]
async fn a_door_without_guests_says_so() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.guests.allowed = false;
    let door = stage.door(config).await;
    let response = door.post("/v1/rooms/demo/guests").json(&json!({"name": "Ana"})).send().await.expect("an answer");
    assert_eq!(refused(response, 403).await, Code::Forbidden);
}

#[tokio::test]
async fn a_network_that_asks_too_often_is_told_when_to_come_back() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.limits.guests = Allowance::new(2, 1);
    let door = stage.door(config).await;
    let admit = || door.post("/v1/rooms/demo/guests").json(&json!({"name": "Ana"})).send();
    // A machine that is very slow may earn one back in between.
    let mut refusal = None;
    for n in 0..20 {
        let response = admit().await.expect("an answer");
        if response.status() != 201 {
            assert!(n >= 2, "the burst was not granted");
            refusal = Some(response);
            break;
        }
    }
    let refusal = refusal.expect("nobody was told to wait");
    assert_eq!(refusal.headers()["retry-after"], "1");
    assert_eq!(refused(refusal, 429).await, Code::RateLimited);
    assert_eq!(door.get("/v1/ping").send().await.expect("an answer").status(), 204, "another allowance was taken");
}

#[tokio::test]
async fn a_door_with_a_certificate_speaks_https() {
    let stage = Stage::new();
    let issued = stage.ca.issue_https(&["door.example.org".to_owned()]).expect("a certificate");
    issued.write(&stage.path("https.pem"), &stage.path("https-key.pem")).expect("written");
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.public_url = "https://door.example.org".into();
    config.tls = Some(Tls { certificate: stage.path("https.pem"), key: stage.path("https-key.pem") });
    let door = stage.door(config).await;
    let root = reqwest::Certificate::from_pem(stage.ca.ca_pem().as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([root]).resolve("door.example.org", door.public).build();
    let url = format!("https://door.example.org:{}/v1/ping", door.public.port());
    let response = client.expect("a client").get(url).send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (204, reqwest::Version::HTTP_2));
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let cases = [
        (door.get("/v1/nothing"), 404, Code::NotFound),
        (door.get("/v1"), 404, Code::NotFound),
        (door.get("/nothing"), 404, Code::NotFound),
        (door.post("/v1/pops"), 405, Code::MethodNotAllowed),
        (door.post("/v1/measurements").body("{}"), 415, Code::UnsupportedMediaType),
        (
            door.post("/v1/rooms/demo/guests").header("content-type", "application/json").body("{"),
            400,
            Code::InvalidRequest,
        ),
        (door.post("/v1/measurements").json(&"x".repeat(400_000)), 413, Code::TooLarge),
        (door.get("/v1/signal"), 400, Code::InvalidRequest),
        (door.get("/v1/pops").header("origin", "https://evil.example"), 403, Code::OriginNotAllowed),
    ];
    for (request, status, code) in cases {
        let response = request.send().await.expect("an answer");
        assert_eq!(refused(response, status).await, code);
    }
}

#[tokio::test]
async fn the_apps_origin_may_ask_across_origins_and_others_may_not() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let preflight = |origin: &str| {
        let request = door.client.request(Method::OPTIONS, door.url("/v1/rooms/demo/whip/panama-sfu-1/p-1"));
        let request = request.header("origin", origin).header("access-control-request-method", "PATCH");
        request.header("access-control-request-headers", "authorization,content-type,if-match").send()
    };
    let allowed = preflight(APP).await.expect("an answer");
    assert_eq!(allowed.headers()["access-control-allow-origin"], APP);
    assert!(allowed.headers()["access-control-allow-methods"].to_str().expect("text").contains("PATCH"));
    assert!(!allowed.headers().contains_key("access-control-allow-credentials"));
    let foreign = preflight("https://evil.example").await.expect("an answer");
    assert!(!foreign.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn the_api_describes_every_route_and_its_errors() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let document: Value = door.get("/v1/openapi.json").send().await.expect("an answer").json().await.expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    for (path, methods) in [
        ("/v1/pops", vec!["get"]),
        ("/v1/ping", vec!["get"]),
        ("/v1/measurements", vec!["post"]),
        ("/v1/rooms/{room}/guests", vec!["post"]),
        ("/v1/rooms/{room}/whip", vec!["post"]),
        ("/v1/rooms/{room}/whip/{node}/{participant}", vec!["patch", "delete"]),
        ("/v1/rooms/{room}/whep", vec!["post"]),
        ("/v1/rooms/{room}/whep/{node}/{participant}", vec!["patch", "delete"]),
        ("/v1/signal", vec!["get"]),
        ("/v1/openapi.json", vec!["get"]),
    ] {
        for method in methods {
            let operation = &document["paths"][path][method];
            assert!(operation.is_object(), "{method} {path} is not described");
            let limited = &operation["responses"]["429"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(limited, "#/components/schemas/Problem", "{method} {path} does not say how it refuses");
        }
    }
    assert_eq!(document["paths"].as_object().map(serde_json::Map::len), Some(10), "a route is not in this test");
    for schema in ["Problem", "Code", "PopList", "Measurements", "GuestToken"] {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema} is not described");
    }
    unresolved(&document, &document);
}

/// Fails on a reference to a schema that is not there.
fn unresolved(document: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} is not in the document");
            }
            fields.values().for_each(|field| unresolved(document, field));
        }
        Value::Array(parts) => parts.iter().for_each(|part| unresolved(document, part)),
        _ => {}
    }
}
