//! Real clusters of processes, on ports that the system chooses, in folders that go away.

mod media_nodes;
mod running;

use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::StatusCode;

use self::running::{Cluster, until};

#[tokio::test]
async fn three_pops_become_ready_know_each_other_and_end_together() {
    let mut cluster = Cluster::start(&[]).await;
    let pids = cluster.pids();
    let names: Vec<&str> = pids.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "panama-door-1",
            "panama-sfu-1",
            "panama-store-1",
            "singapore-door-1",
            "singapore-sfu-1",
            "singapore-store-1",
            "zurich-door-1",
            "zurich-sfu-1",
            "zurich-store-1",
        ]
    );
    for ops in cluster.ops_urls() {
        assert_eq!(cluster.get(&format!("{ops}/readyz")).await, Some(StatusCode::OK), "{ops}");
        assert_eq!(cluster.get(&format!("{ops}/healthz")).await, Some(StatusCode::OK), "{ops}");
    }
    for door in ["panama", "singapore", "zurich"] {
        let list = reqwest::get(format!("{}/v1/pops", cluster.public_url(door))).await.expect("an answer");
        let list: serde_json::Value = list.json().await.expect("a list");
        let ready = |pop: &&serde_json::Value| pop["state"] == "ready";
        assert_eq!(list["pops"].as_array().expect("PoPs").iter().filter(ready).count(), 3, "{door}: {list}");
    }

    cluster.signal_self(Signal::SIGTERM);
    let status = cluster.ended(Duration::from_secs(8)).await;
    assert!(status.success(), "{status}");
    assert!(cluster.pids().is_empty(), "pids.json still names {:?}", cluster.pids());
    for (name, pid) in pids {
        assert!(!running::is_alive(pid), "{name} outlived the cluster");
    }
}

#[tokio::test]
async fn a_process_that_is_killed_comes_back_by_itself() {
    let cluster = Cluster::start(&["--pops", "panama"]).await;
    for name in ["panama-door-1", "panama-store-1"] {
        let before = cluster.pids()[name];
        running::signal(before, Signal::SIGKILL);
        until("it has a new pid", async || cluster.pids().get(name).filter(|pid| **pid != before).map(drop)).await;
    }
    for ops in cluster.ops_urls() {
        until("it is ready", async || (cluster.get(&format!("{ops}/readyz")).await? == StatusCode::OK).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn without_restart_a_killed_process_stays_dead() {
    let mut cluster = Cluster::start(&["--pops", "panama", "--no-restart"]).await;
    running::signal(cluster.pids()["panama-sfu-1"], Signal::SIGKILL);
    cluster.line_with("panama-sfu-1 ended (signal: 9 (SIGKILL)) and stays dead").await;
    assert_eq!(cluster.pids().get("panama-sfu-1"), None);
}

#[tokio::test]
async fn nothing_outlives_a_cluster_that_is_killed() {
    let mut cluster = Cluster::start(&["--pops", "panama"]).await;
    let pids = cluster.pids();
    assert_eq!(pids.len(), 3);
    cluster.signal_self(Signal::SIGKILL);
    cluster.ended(Duration::from_secs(5)).await;
    for (name, pid) in pids {
        until(&format!("{name} has ended"), async || (!running::is_alive(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_door_takes_the_tokens_that_the_program_prints_and_no_others() {
    let cluster = Cluster::start(&["--pops", "panama"]).await;
    let token = cluster.isthmus(&["token", "--config", "panama.toml", "--room", "demo", "--identity", "ana"]);
    let offer = async |room: &str, token: &str| {
        let url = format!("{}/v1/rooms/{room}/whip", cluster.public_url("panama"));
        let request = reqwest::Client::new().post(url).bearer_auth(token).header("content-type", "application/sdp");
        request.body("not SDP").send().await.expect("an answer").status()
    };
    let accepted = offer("demo", &token).await;
    assert!(
        accepted.is_client_error() && accepted != StatusCode::UNAUTHORIZED && accepted != StatusCode::FORBIDDEN,
        "the token was refused, or broken SDP accepted: {accepted}"
    );
    let elsewhere = offer("other", &token).await;
    assert!([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&elsewhere), "for another room: {elsewhere}");
    assert_eq!(offer("demo", &token[..token.len() - 4]).await, StatusCode::UNAUTHORIZED, "a broken signature");
}

#[tokio::test]
async fn https_is_served_under_each_pops_own_host() {
    let cluster = Cluster::start(&["--https", "--domain", "isthmus.test"]).await;
    let ca = std::fs::read(cluster.state().join("ca/ca.pem")).expect("the development CA");
    let mut client = reqwest::Client::builder().tls_certs_only([reqwest::Certificate::from_pem(&ca).expect("PEM")]);
    for pop in ["panama", "singapore", "zurich"] {
        client = client.resolve(&format!("{pop}.isthmus.test"), ([127, 0, 0, 1], 0).into());
    }
    let client = client.build().expect("a client");
    for pop in ["panama", "singapore", "zurich"] {
        let url = cluster.public_url(pop);
        assert!(url.starts_with(&format!("https://{pop}.isthmus.test:")), "{url}");
        let answer = client.get(format!("{url}/v1/ping")).send().await.expect("a certificate for that host");
        assert!(answer.status().is_success(), "{}", answer.status());
    }
}

#[tokio::test]
async fn a_second_cluster_on_the_same_ports_is_refused() {
    let cluster = Cluster::start(&["--pops", "panama"]).await;
    let base = cluster.public_url("panama").rsplit(':').next().expect("a port").to_owned();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let state = elsewhere.path().to_str().expect("text");
    let complaint = cluster.refused(&["dev", "--pops", "panama", "--base-port", &base, "--state", state]).await;
    assert!(complaint.contains("is in use: end what listens there"), "{complaint}");
}

#[tokio::test]
async fn a_whole_pop_runs_in_one_process() {
    let mut cluster = Cluster::start(&["--pops", "zurich"]).await;
    cluster.signal_self(Signal::SIGTERM);
    cluster.ended(Duration::from_secs(8)).await;
    let mut pop = cluster.spawn(&["pop", "--config", "zurich.toml"]);
    for ops in cluster.ops_urls() {
        until("it is ready", async || (cluster.get(&format!("{ops}/readyz")).await? == StatusCode::OK).then_some(()))
            .await;
    }
    running::signal(pop.id().expect("it runs"), Signal::SIGTERM);
    let status = tokio::time::timeout(Duration::from_secs(8), pop.wait()).await.expect("it ends in time");
    assert!(status.expect("its status").success());
}

#[tokio::test]
async fn the_pops_of_one_cluster_can_be_run_apart_at_their_own_addresses() {
    let apart = ["--pops", "panama,zurich", "--address", "panama=127.0.0.1", "--address", "zurich=127.0.0.2"];
    let panama = Cluster::start(&[&apart[..], &["--only", "panama"]].concat()).await;
    let base = panama.public_url("panama").rsplit(':').next().expect("a port").to_owned();
    let mut zurich = panama.spawn_dev(&[&apart[..], &["--only", "zurich", "--base-port", &base]].concat());
    let linked = format!("{}/metrics", panama.ops_urls()[0]);
    until("panama's media node has a link to zurich's", async || {
        let metrics = reqwest::get(&linked).await.ok()?.text().await.ok()?;
        let mut lines = metrics.lines().filter(|line| line.starts_with("isthmus_relay_links{"));
        lines.any(|line| line.contains(r#"state="up""#) && line.ends_with(" 1")).then_some(())
    })
    .await;
    assert_eq!(panama.pids().len(), 6, "both write down their processes: {:?}", panama.pids());
    running::signal(zurich.id().expect("it runs"), Signal::SIGTERM);
    tokio::time::timeout(Duration::from_secs(8), zurich.wait()).await.expect("it ends in time").expect("its status");
    assert_eq!(panama.pids().len(), 3, "those of panama go on: {:?}", panama.pids());
}
