//! WHIP and WHEP.

use isthmus_protocol::{node::Intent, problem::Code, signal::ClientMessage, token::Grants};
use reqwest::{Method, RequestBuilder, Response};

use crate::stage::{ANSWER, BOTH, Heard, RunningDoor, Stage, offer, refused};

const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const CANDIDATE: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n";
const RESTART: &str = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";

async fn post(door: &RunningDoor, protocol: &str, token: &str, sdp: String) -> Response {
    let request = door.post(&format!("/v1/rooms/demo/{protocol}")).bearer_auth(token);
    request.header("content-type", "application/sdp").body(sdp).send().await.expect("an answer")
}

fn patch(door: &RunningDoor, location: &str, token: &str, if_match: &str, body: &'static str) -> RequestBuilder {
    let request = door.client.patch(door.url(location)).bearer_auth(token).header("if-match", if_match);
    request.header("content-type", FRAGMENT).body(body)
}

fn location(response: &Response) -> String {
    response.headers()["location"].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn an_encoder_publishes_trickles_restarts_ice_and_leaves() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let token = stage.token("demo", "encoder", BOTH);

    let created = post(&door, "whip", &token, offer("sendonly")).await;
    assert_eq!(created.status(), 201);
    assert_eq!(created.headers()["content-type"], "application/sdp");
    assert_eq!(created.headers()["etag"], "\"EsAw\"");
    assert_eq!(created.headers()["accept-patch"], FRAGMENT);
    let location = location(&created);
    assert!(location.starts_with("/v1/rooms/demo/whip/panama-sfu-1/p-"), "{location}");
    assert!(!location.contains(&token));
    assert_eq!(created.text().await.expect("text"), ANSWER);
    let session = node.heard_session().await;
    assert_eq!(session.grants, Grants { publish: true, subscribe: false }, "more than WHIP is for");
    assert!(matches!(session.intent, Intent::Join { media_only: true, .. }));
    assert!(matches!(node.heard_message().await, ClientMessage::Offer { revision: 1, .. }));

    let outdated = patch(&door, &location, &token, "\"old1\"", CANDIDATE).send().await.expect("an answer");
    assert_eq!(refused(outdated, 412).await, Code::Conflict);
    let trickled = patch(&door, &location, &token, "\"EsAw\"", CANDIDATE).send().await.expect("an answer");
    assert_eq!(trickled.status(), 204);
    assert!(!trickled.headers().contains_key("etag"));
    let candidate = "candidate:1 1 udp 1 192.0.2.1 9 typ host".to_owned();
    assert_eq!(node.heard_message().await, ClientMessage::Candidate { candidate });
    assert_eq!(node.heard_message().await, ClientMessage::Candidate { candidate: String::new() });

    let restarted = patch(&door, &location, &token, "*", RESTART).send().await.expect("an answer");
    assert_eq!(restarted.status(), 200);
    assert_eq!(restarted.headers()["etag"], "\"ysXw\"");
    assert!(restarted.text().await.expect("text").contains("a=ice-ufrag:srv1"));
    let ClientMessage::Offer { revision: 2, sdp, .. } = node.heard_message().await else { panic!("no second offer") };
    assert!(sdp.contains("a=ice-ufrag:ysXw") && sdp.contains("a=sendonly"), "{sdp}");

    let other = stage.token("demo", "someone-else", BOTH);
    let delete = |token: &str| door.client.delete(door.url(&location)).bearer_auth(token);
    let theft = delete(&other).send().await.expect("an answer");
    assert_eq!(refused(theft, 404).await, Code::SessionGone, "someone else ended it");
    assert_eq!(delete(&token).send().await.expect("an answer").status(), 200);
    assert_eq!(node.stays(), 0);
    let gone = delete(&token).send().await.expect("an answer");
    assert_eq!(refused(gone, 404).await, Code::SessionGone);
}

#[tokio::test]
async fn who_hangs_up_while_joining_is_not_left_in_the_room() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let token = stage.token("demo", "encoder", BOTH);
    let request = door.post("/v1/rooms/demo/whip").bearer_auth(token).header("content-type", "application/sdp");
    let request = tokio::spawn(request.body(offer("sendonly") + "a=slow\r\n").send());
    assert!(matches!(node.heard_message().await, ClientMessage::Offer { .. }));
    request.abort();
    assert!(request.await.expect_err("it was under way").is_cancelled());
    // The door has to notice before the node answers: otherwise this would test nothing.
    door.until_measured("isthmus_http_request_seconds_count", &[("route", "/v1/rooms/{room}/whip")], "1").await;
    node.answer_slow_offers();
    assert_eq!(node.heard_message().await, ClientMessage::Leave);
    node.heard(|heard| matches!(heard, Heard::Detached(_)).then_some(())).await;
    assert_eq!(node.stays(), 0);
}

#[tokio::test]
async fn a_player_receives_and_its_session_outlives_the_door() {
    let stage = Stage::new();
    let (mut node, door) = stage.usual().await;
    let token = stage.token("demo", "player", Grants { publish: false, subscribe: true });
    let created = post(&door, "whep", &token, offer("recvonly")).await;
    assert_eq!(created.status(), 201);
    assert_eq!(node.heard_session().await.grants, Grants { publish: false, subscribe: true });
    let location = location(&created);
    door.stop().await;

    let door = stage.door(stage.config(&[&node])).await;
    let trickled = patch(&door, &location, &token, "\"EsAw\"", CANDIDATE).send().await.expect("an answer");
    assert_eq!(trickled.status(), 204, "trickle needs nothing of the door that is gone");
    let restarted = patch(&door, &location, &token, "*", RESTART).send().await.expect("an answer");
    assert_eq!(refused(restarted, 422).await, Code::Conflict);
    let left = door.client.delete(door.url(&location)).bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(left.status(), 200);
    assert_eq!(node.stays(), 0);
}

#[tokio::test]
async fn what_is_not_an_offer_from_someone_who_may_is_refused() {
    let stage = Stage::new();
    let (node, door) = stage.usual().await;
    let token = stage.token("demo", "encoder", BOTH);
    let watch = stage.token("demo", "encoder", Grants { publish: false, subscribe: true });
    let elsewhere = stage.token("elsewhere", "encoder", BOTH);
    for (token, sdp, status, code) in [
        ("", offer("sendonly"), 401, Code::Unauthorized),
        ("a.b.c", offer("sendonly"), 401, Code::Unauthorized),
        (&*elsewhere, offer("sendonly"), 403, Code::Forbidden),
        (&*watch, offer("sendonly"), 403, Code::Forbidden),
        (&*token, offer("recvonly"), 400, Code::InvalidSdp),
        (&*token, "hello".into(), 400, Code::InvalidSdp),
        (&*token, offer("sendonly").replace("a=ice-pwd", "a=no-pwd"), 400, Code::InvalidSdp),
        (&*token, offer("sendonly") + "a=broken\r\n", 400, Code::InvalidSdp),
        (&*token, offer("sendonly") + &"a=x\r\n".repeat(60_000), 413, Code::TooLarge),
    ] {
        let response = post(&door, "whip", token, sdp).await;
        assert_eq!(refused(response, status).await, code);
    }
    assert_eq!(node.stays(), 0, "a refused offer left someone in the room");
    let wrong_type = door.post("/v1/rooms/demo/whip").bearer_auth(&token).body(offer("sendonly"));
    let response = wrong_type.send().await.expect("an answer");
    assert_eq!(refused(response, 415).await, Code::UnsupportedMediaType);
}

#[tokio::test]
async fn other_methods_are_refused_and_options_says_what_may_be_posted() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let options =
        door.client.request(Method::OPTIONS, door.url("/v1/rooms/demo/whip")).send().await.expect("an answer");
    assert!(options.status().is_success());
    assert_eq!(options.headers()["accept-post"], "application/sdp");
    for (method, path) in [
        (Method::GET, "/v1/rooms/demo/whip"),
        (Method::GET, "/v1/rooms/demo/whip/panama-sfu-1/p-1"),
        (Method::PUT, "/v1/rooms/demo/whep/panama-sfu-1/p-1"),
    ] {
        let response = door.client.request(method, door.url(path)).send().await.expect("an answer");
        assert_eq!(refused(response, 405).await, Code::MethodNotAllowed, "{path}");
    }
    let token = stage.token("demo", "encoder", BOTH);
    let unconditional = door.client.patch(door.url("/v1/rooms/demo/whip/panama-sfu-1/p-1")).bearer_auth(&token);
    let unconditional = unconditional.header("content-type", FRAGMENT).body(CANDIDATE);
    assert_eq!(refused(unconditional.send().await.expect("an answer"), 428).await, Code::InvalidRequest);
    let rubbish = patch(&door, "/v1/rooms/demo/whip/panama-sfu-1/p-1", &token, "*", "rubbish");
    assert_eq!(refused(rubbish.send().await.expect("an answer"), 400).await, Code::InvalidRequest);
}
