//! Which of several media nodes a door sends newcomers to.

use std::sync::atomic::Ordering;

use isthmus_protocol::pops::PopList;

use crate::stage::{BOTH, RunningDoor, ScriptedNode, Stage, offer, until};

/// Someone publishes in `room`; how many stays each node has then.
async fn join(stage: &Stage, door: &RunningDoor, room: &str, nodes: [&ScriptedNode; 2]) -> [usize; 2] {
    let token = stage.token(room, "ana", BOTH);
    let request = door.post(&format!("/v1/rooms/{room}/whip")).bearer_auth(token);
    let request = request.header("content-type", "application/sdp").body(offer("sendonly"));
    assert_eq!(request.send().await.expect("an answer").status(), 201);
    nodes.map(ScriptedNode::stays)
}

/// Gives a node a load in percent and waits until the door has heard of it: the mean of both.
async fn load(door: &RunningDoor, node: &ScriptedNode, percent: u32, mean: f64) {
    node.script.load.store(percent, Ordering::Relaxed);
    until("the door has heard of its nodes' load", async || {
        let list: PopList = door.get("/v1/pops").send().await.expect("an answer").json().await.expect("a list");
        ((list.pops[0].load - mean).abs() < 0.01).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_room_goes_on_where_it_is_until_that_node_is_full_and_others_begin_where_there_is_less_to_do() {
    let stage = Stage::new();
    let nodes = [stage.node("panama-sfu-1"), stage.node("panama-sfu-2")];
    let [first, second] = &nodes;
    let door = stage.door(stage.config(&[first, second])).await;
    // Both are up, or the first to answer would take everything.
    load(&door, first, 10, 0.1).await;
    load(&door, second, 30, 0.2).await;
    load(&door, second, 10, 0.1).await;
    let stays = join(&stage, &door, "town", [first, second]).await;
    let (holder, other) = if stays == [1, 0] { (first, second) } else { (second, first) };
    load(&door, holder, 80, 0.45).await;
    assert_eq!(join(&stage, &door, "town", [holder, other]).await, [2, 0], "busy, but the room is there");
    for (begun, room) in (1..).zip(["one", "two", "three", "four"]) {
        assert_eq!(join(&stage, &door, room, [holder, other]).await, [2, begun]);
    }
    load(&door, holder, 95, 0.525).await;
    assert_eq!(join(&stage, &door, "town", [holder, other]).await, [2, 5], "full");
    load(&door, other, 95, 0.95).await;
    assert_eq!(
        join(&stage, &door, "four", [holder, other]).await,
        [2, 6],
        "all are full: each room goes on where it is"
    );
}
