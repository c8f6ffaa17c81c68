//! The web app's files.

use std::fs;

use isthmus_protocol::problem::Code;

use crate::stage::{RunningDoor, Stage, refused};

const PAGE: &str =
    r#"<!doctype html><title>Isthmus</title><script type="module" src="/assets/index-a1b2.js"></script>"#;

async fn door_with_app(stage: &Stage) -> RunningDoor {
    let root = stage.path("web");
    fs::create_dir_all(root.join("assets")).expect("a folder");
    fs::write(root.join("index.html"), PAGE).expect("written");
    fs::write(root.join("assets/index-a1b2.js"), "console.log(1);".repeat(100)).expect("written");
    fs::write(root.join("favicon.svg"), "<svg/>").expect("written");
    let node = stage.node("panama-sfu-1");
    let mut config = stage.config(&[&node]);
    config.web_root = Some(root);
    let door = stage.door(config).await;
    drop(node);
    door
}

#[tokio::test]
async fn pages_are_asked_for_again_and_hashed_files_are_kept() {
    let stage = Stage::new();
    let door = door_with_app(&stage).await;
    for path in ["/", "/index.html", "/r/team.sync_1", "/r/demo?as-if=bogota"] {
        let response = door.get(path).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.text().await.expect("text"), PAGE);
    }
    let script = door.get("/assets/index-a1b2.js").header("accept-encoding", "br").send().await.expect("an answer");
    assert_eq!(script.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(script.headers()["content-encoding"], "br");
    assert!(script.headers()["content-type"].to_str().expect("text").contains("javascript"));
    let icon = door.get("/favicon.svg").send().await.expect("an answer");
    assert_eq!(icon.headers()["cache-control"], "no-cache");
    for path in ["/assets/index-old.js", "/v1/nothing"] {
        let response = door.get(path).send().await.expect("an answer");
        assert_eq!(refused(response, 404).await, Code::NotFound, "{path}");
    }
    let escaped = door.get("/%2e%2e/private.pem").send().await.expect("an answer");
    assert!(!escaped.text().await.expect("text").contains("PRIVATE KEY"));
    let posted = door.post("/").send().await.expect("an answer");
    assert_eq!(posted.headers()["allow"], "GET, HEAD");
    assert_eq!(refused(posted, 405).await, Code::MethodNotAllowed);
}

#[tokio::test]
async fn a_page_may_run_its_own_scripts_and_talk_to_the_pops() {
    let stage = Stage::new();
    let door = door_with_app(&stage).await;
    let response = door.get("/r/demo").send().await.expect("an answer");
    let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
    let policy = header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; connect-src 'self' "), "{policy}");
    assert!(policy.contains("https://zurich.example.org wss://zurich.example.org"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("permissions-policy").contains("camera=(self), microphone=(self), display-capture=(self)"));
    assert!(!response.headers().contains_key("strict-transport-security"), "over plain HTTP it means nothing");
}
