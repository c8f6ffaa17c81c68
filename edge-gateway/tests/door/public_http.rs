//! What holds for every public resource.

use isthmus_edge_gateway::config::{Allowance, Tls};
use isthmus_protocol::{guest::GuestToken, node::Intent, problem::Code, token::Grants};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::stage::{APP, BOTH, Stage, now_s, offer, refused, room, until};

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
    let request = || door.post("/v1/rooms/demo/guests").json(&json!({"name": "Ana"}));
    let response = request().send().await.expect("an answer");
    assert_eq!(refused(response, 403).await, Code::Forbidden);
    let renewal = request().bearer_auth(stage.token("demo", "ana", BOTH)).send().await.expect("an answer");
    assert_eq!(refused(renewal, 403).await, Code::Forbidden, "who issued the token issues the next");
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
async fn a_network_has_so_many_connections_and_a_new_one_when_one_ends() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.limits.connections_per_network = 2;
    let door = stage.door(config).await;
    let ping = async || {
        let mut connection = TcpStream::connect(door.public).await.expect("the listener is there");
        // Of a connection that was closed at once either may fail, or the answer be empty.
        let request = b"GET /v1/ping HTTP/1.1\r\nhost: door\r\n\r\n";
        let sent = connection.write_all(request).await;
        let mut answer = [0; 12];
        let read = match sent {
            Ok(()) => connection.read_exact(&mut answer).await,
            Err(error) => Err(error),
        };
        (read.is_ok_and(|_| &answer == b"HTTP/1.1 204")).then_some(connection)
    };
    let first = ping().await.expect("the first is served");
    let _second = ping().await.expect("the second is served");
    assert!(ping().await.is_none(), "a third was served");
    door.until_measured("isthmus_drops_total", &[("reason", "connections_full")], "1").await;
    drop(first);
    until("the door notices that one has ended", ping).await;
}

#[tokio::test]
async fn pages_can_read_every_refusal() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.limits.requests = Allowance::new(20, 1);
    let door = stage.door(config).await;
    let nothing = door.get("/v1/nothing").header("origin", APP).send().await.expect("an answer");
    assert_eq!(nothing.headers()["access-control-allow-origin"], APP);
    assert_eq!(refused(nothing, 404).await, Code::NotFound);
    let mut paced = None;
    for _ in 0..200 {
        let response = door.get("/v1/ping").header("origin", APP).send().await.expect("an answer");
        if response.status() != 204 {
            paced = Some(response);
            break;
        }
    }
    let paced = paced.expect("nobody was told to wait");
    assert_eq!(paced.headers()["access-control-allow-origin"], APP, "a page takes this PoP for unreachable");
    let readable = paced.headers()["access-control-expose-headers"].to_str().expect("text");
    assert!(readable.contains("retry-after"), "{readable}");
    assert_eq!(refused(paced, 429).await, Code::RateLimited);
}

#[tokio::test]
async fn a_token_is_renewed_for_whom_it_was_while_it_is_valid() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let renew = |room: &str, token: &str| {
        door.post(&format!("/v1/rooms/{room}/guests")).bearer_auth(token).json(&json!({"name": "Eve"})).send()
    };
    let first = door.post("/v1/rooms/demo/guests").json(&json!({"name": "Ana"})).send().await.expect("an answer");
    let first: GuestToken = first.json().await.expect("a token");
    let response = renew("demo", &first.token).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.headers()["cache-control"].as_bytes()), (201, &b"no-store"[..]));
    let second: GuestToken = response.json().await.expect("a token");
    assert_eq!((second.room.as_str(), second.expires_in_s), ("demo", 60));
    let watcher =
        stage.issuer.issue(&room("demo"), "max", "Max", Grants { publish: false, subscribe: true }, now_s(), 30);
    let watcher: GuestToken =
        renew("demo", &watcher.expect("a token")).await.expect("an answer").json().await.expect("a token");

    let publish = |token: &str| {
        let request = door.post("/v1/rooms/demo/whip").bearer_auth(token).header("content-type", "application/sdp");
        request.body(offer("sendonly")).send()
    };
    let mut who = Vec::new();
    for token in [&first.token, &second.token] {
        assert_eq!(publish(token).await.expect("an answer").status(), 201);
        let session = node.heard_session().await;
        let Intent::Join { name, .. } = session.intent else { panic!("not a join") };
        who.push((session.identity, name));
    }
    assert_eq!(who[0], who[1], "renewing made another person");
    assert_eq!(who[0].1, "Ana", "renewing changed the name");
    let more = publish(&watcher.token).await.expect("an answer");
    assert_eq!(refused(more, 403).await, Code::Forbidden, "renewing gave more than the token had");
}

#[tokio::test]
async fn what_is_no_valid_token_of_the_room_is_not_renewed() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let issue =
        |name: &str, from_s: u64| stage.issuer.issue(&room(name), "ana", "Ana", BOTH, from_s, 60).expect("a token");
    let valid = issue("demo", now_s());
    let (header, rest) = valid.split_once('.').expect("a token");
    // {"alg":"none","typ":"isthmus-room+jwt","kid":"k1"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiaXN0aG11cy1yb29tK2p3dCIsImtpZCI6ImsxIn0";
    // {"alg":"HS256","typ":"isthmus-room+jwt","kid":"k1"}
    let hs256 = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImlzdGhtdXMtcm9vbStqd3QiLCJraWQiOiJrMSJ9";
    for (token, status, code) in [
        (issue("demo", now_s() - 3600), 401, Code::TokenExpired),
        (issue("elsewhere", now_s()), 403, Code::Forbidden),
        (format!("{none}.{rest}"), 401, Code::Unauthorized),
        (format!("{hs256}.{rest}"), 401, Code::Unauthorized),
        (format!("{header}.{rest}x"), 401, Code::Unauthorized),
        (String::new(), 401, Code::Unauthorized),
    ] {
        let request = door.post("/v1/rooms/demo/guests").bearer_auth(&token).json(&json!({"name": "Eve"}));
        assert_eq!(refused(request.send().await.expect("an answer"), status).await, code, "{token}");
    }
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
    // For the cookie that keeps a device signed in; worth nothing without the origin.
    assert_eq!(allowed.headers()["access-control-allow-credentials"], "true");
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
        ("/v1/accounts", vec!["post"]),
        ("/v1/accounts/mails", vec!["post"]),
        ("/v1/accounts/verification", vec!["post"]),
        ("/v1/accounts/password", vec!["post"]),
        ("/v1/sessions", vec!["post"]),
        ("/v1/sessions/renew", vec!["post"]),
        ("/v1/devices", vec!["get"]),
        ("/v1/devices/{device}", vec!["delete"]),
        ("/v1/me", vec!["get"]),
        ("/v1/me/profile", vec!["put"]),
        ("/v1/keys", vec!["get"]),
        ("/v1/openapi.json", vec!["get"]),
    ] {
        for method in methods {
            let operation = &document["paths"][path][method];
            assert!(operation.is_object(), "{method} {path} is not described");
            let limited = &operation["responses"]["429"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(limited, "#/components/schemas/Problem", "{method} {path} does not say how it refuses");
        }
    }
    assert_eq!(document["paths"].as_object().map(serde_json::Map::len), Some(21), "a route is not in this test");
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
