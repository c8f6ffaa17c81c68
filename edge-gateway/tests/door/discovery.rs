//! Finding the nearest PoP, without a store.
#![expect(clippy::disallowed_methods, reason = "IO: measures how long probes take")]

use std::time::{Duration, Instant};

use isthmus_edge_gateway::config::Allowance;
use isthmus_protocol::{
    pops::{PopList, PopState},
    problem::Code,
};
use serde_json::json;

use crate::stage::{APP, Stage, has_sample, refused};

#[tokio::test]
async fn without_a_store_the_list_holds_this_pop_as_this_door_sees_it() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let response = door.get("/v1/pops?current=panama").header("origin", APP).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["access-control-allow-origin"], APP);
    let list: PopList = response.json().await.expect("a list");
    assert_eq!(list.pops.len(), 1);
    assert_eq!((list.pops[0].id.as_str(), list.pops[0].state), ("panama", PopState::Ready));
    assert_eq!(list.pops[0].url, "http://door.example.org");
    assert_eq!(list.as_if, None);

    let pretended: PopList =
        door.get("/v1/pops?as-if=bogota").send().await.expect("an answer").json().await.expect("a list");
    assert_eq!(pretended.as_if.as_deref(), Some("Bogotá"));
    for query in ["as-if=atlantis", "current=../etc"] {
        let response = door.get(&format!("/v1/pops?{query}")).send().await.expect("an answer");
        assert_eq!(refused(response, 400).await, Code::InvalidRequest, "{query}");
    }
}

#[tokio::test]
async fn a_probe_as_if_from_elsewhere_takes_the_round_trip_from_there() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let here = door.get("/v1/ping").send().await.expect("an answer");
    assert_eq!((here.status().as_u16(), here.headers()["cache-control"].as_bytes()), (204, &b"no-store"[..]));
    let asked = Instant::now();
    let there = door.get("/v1/ping?as-if=bogota").send().await.expect("an answer");
    assert_eq!(there.status(), 204);
    assert!(asked.elapsed() >= Duration::from_millis(120), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_door_of_production_emulates_nothing() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.development = None;
    let door = stage.door(config).await;
    for path in ["/v1/ping?as-if=bogota", "/v1/pops?as-if=bogota"] {
        assert_eq!(refused(door.get(path).send().await.expect("an answer"), 400).await, Code::InvalidRequest);
    }
}

#[tokio::test]
async fn measurements_are_taken_in_and_nonsense_is_not() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let report = |body: serde_json::Value| door.post("/v1/measurements").json(&body).send();
    let one = |rtt_ms: f64| json!({"measurements": [{"pop": "panama", "rtt_ms": rtt_ms}]});
    assert_eq!(report(one(12.5)).await.expect("an answer").status(), 202);
    let many = vec![json!({"pop": "panama", "rtt_ms": 1.0}); 17];
    for bad in
        [one(0.0), one(-1.0), one(10_001.0), json!({"measurements": many}), json!({"measurements": 3}), json!([])]
    {
        let response = report(bad.clone()).await.expect("an answer");
        assert_eq!(refused(response, 400).await, Code::InvalidRequest, "{bad}");
    }
}

#[tokio::test]
async fn reports_on_networks_nobody_has_measured_share_one_allowance() {
    let stage = Stage::new();
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    config.limits.new_networks = Allowance::new(5, 1);
    let door = stage.door(config).await;
    for network in 0..20 {
        let report = door.post("/v1/measurements").header("x-forwarded-for", format!("198.51.{network}.7"));
        let report = report.json(&json!({"measurements": [{"pop": "panama", "rtt_ms": 12.5}]}));
        assert_eq!(report.send().await.expect("an answer").status(), 202);
    }
    // A machine that is very slow may earn some back in between.
    let text = door.ops("/metrics").await.text().await.expect("text");
    let dropped = (1..=15).any(|count: u32| {
        let reason = [("reason", "measurements_new_networks")];
        has_sample(&text, "isthmus_drops_total", &reason, &count.to_string())
    });
    assert!(dropped, "{text}");
}
