//! The operators' listener.

use isthmus_protocol::{
    pops::{PopList, PopState},
    problem::Code,
};
use serde_json::Value;

use crate::stage::{BOTH, Heard, Stage, has_sample, offer, refused};

#[tokio::test]
async fn metrics_of_door_and_node_are_one_exposition() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    assert_eq!(door.get("/v1/ping").send().await.expect("an answer").status(), 204);
    assert_eq!(door.get("/v1/rooms/secret-room/whip").send().await.expect("an answer").status(), 405);
    let response = door.ops("/metrics").await;
    assert!(response.headers()["content-type"].to_str().expect("text").starts_with("text/plain; version=0.0.4"));
    let text = response.text().await.expect("text");
    assert!(text.contains("isthmus_drops_total{node=\"panama-sfu-1\",reason=\"test\"} 7"), "{text}");
    assert_eq!(text.matches("# TYPE isthmus_drops_total").count(), 1, "{text}");
    let pings = [("method", "GET"), ("route", "/v1/ping"), ("status", "204"), ("node", "panama-door-1")];
    assert!(has_sample(&text, "isthmus_http_requests_total", &pings, "1"), "{text}");
    assert!(has_sample(&text, "isthmus_refusals_total", &[("code", "method_not_allowed")], "1"), "{text}");
    assert!(!text.contains("secret-room"), "a room's name is in the metrics");
}

#[tokio::test]
async fn health_rooms_and_joins_are_told() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    assert_eq!(door.ops("/healthz").await.status(), 200);
    let rooms: Value = door.ops("/debug/rooms").await.json().await.expect("JSON");
    assert_eq!(rooms["panama-sfu-1"][0]["room"], "demo");
    let pops: Value = door.ops("/debug/pops").await.json().await.expect("JSON");
    assert_eq!((&pops[0]["id"], &pops[0]["state"]), (&Value::from("panama"), &Value::from("ready")));
    let token = stage.token("demo", "encoder", BOTH);
    let publish = door.post("/v1/rooms/demo/whip").bearer_auth(token).header("content-type", "application/sdp");
    assert_eq!(publish.body(offer("sendonly")).send().await.expect("an answer").status(), 201);
    let text = door.ops("/metrics").await.text().await.expect("text");
    for phase in ["token", "node"] {
        assert!(has_sample(&text, "isthmus_join_seconds_count", &[("phase", phase)], "1"), "{text}");
    }
    assert_eq!(door.get("/metrics").send().await.expect("an answer").status(), 404, "metrics are public");
}

#[tokio::test]
async fn a_door_in_front_of_draining_nodes_is_not_ready_although_it_drains_nothing_itself() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    door.client.post(format!("http://{}/drain", door.ops)).send().await.expect("an answer");
    node.heard(|heard| (*heard == Heard::Drain(1)).then_some(())).await;
    door.stop().await;

    let door = stage.door_that_starts(stage.config(&[&node])).await;
    assert_eq!(door.until_it_says("draining").await, 503, "nobody can join here");
}

#[tokio::test]
async fn a_web_page_cannot_drain_a_pop() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let drain = |header: &'static str, value: &'static str| {
        door.client.post(format!("http://{}/drain", door.ops)).header(header, value).send()
    };
    for (header, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
    ] {
        let response = drain(header, value).await.expect("an answer");
        assert_eq!(refused(response, 403).await, Code::OriginNotAllowed, "{header}: {value}");
    }
    assert_eq!(door.ops("/readyz").await.status(), 200, "a page drained it");
    let read = |header: &'static str, value: &'static str| {
        door.client.get(format!("http://{}/debug/rooms", door.ops)).header(header, value).send()
    };
    let followed = read("sec-fetch-site", "cross-site").await.expect("an answer");
    assert_eq!(followed.status(), 200, "a person may follow a link");
    let fetched = read("origin", "https://evil.example").await.expect("an answer");
    assert_eq!(refused(fetched, 403).await, Code::OriginNotAllowed, "a page may not");
}

#[tokio::test]
async fn a_draining_door_sends_newcomers_elsewhere() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let drained = door.client.post(format!("http://{}/drain", door.ops)).send().await.expect("an answer");
    let answers: Value = drained.json().await.expect("JSON");
    assert_eq!(answers["panama-sfu-1"]["draining"], true);
    node.heard(|heard| (*heard == Heard::Drain(1)).then_some(())).await;
    assert_eq!(door.ops("/readyz").await.status(), 503);
    let list: PopList = door.get("/v1/pops").send().await.expect("an answer").json().await.expect("a list");
    assert_eq!(list.pops[0].state, PopState::Draining);
    let token = stage.token("demo", "encoder", BOTH);
    let publish = door.post("/v1/rooms/demo/whip").bearer_auth(token).header("content-type", "application/sdp");
    let response = publish.body(offer("sendonly")).send().await.expect("an answer");
    assert_eq!(refused(response, 503).await, Code::Draining);
}
