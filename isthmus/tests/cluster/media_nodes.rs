//! A PoP of two media nodes: where its door sends newcomers.

use reqwest::StatusCode;
use serde_json::Value;

use crate::running::{Cluster, until};

/// Someone who watches; their media never comes, which a node bears for a while.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n";

/// A cluster of one PoP, and what is asked of its door.
struct Pop(Cluster);

impl Pop {
    async fn join(&self, room: &str) {
        let token = self.0.isthmus(&["token", "--config", "panama.toml", "--room", room, "--identity", "ana"]);
        let url = format!("{}/v1/rooms/{room}/whep", self.0.public_url("panama"));
        let request = reqwest::Client::new().post(url).bearer_auth(token).header("content-type", "application/sdp");
        let answer = request.body(OFFER).send().await.expect("an answer");
        let status = answer.status();
        assert_eq!(status, StatusCode::CREATED, "{}", answer.text().await.unwrap_or_default());
    }

    /// How many of a room each node carries, and how many it knows of elsewhere; none where it is not.
    async fn room(&self, room: &str) -> Vec<Option<(usize, usize)>> {
        let ops = self.0.ops_urls().pop().expect("the door's is the last");
        let views: Value =
            reqwest::get(format!("{ops}/debug/rooms")).await.expect("an answer").json().await.expect("JSON");
        let count = |view: &Value, key: &str| view[key].as_array().map_or(0, Vec::len);
        let of_node = |node: &str| {
            let rooms = views[node].as_array()?;
            let view = rooms.iter().find(|view| view["room"] == room)?;
            Some((count(view, "local"), count(view, "remote")))
        };
        ["panama-sfu-1", "panama-sfu-2"].map(of_node).into()
    }

    /// Waits until the door has heard that its nodes have this load in the mean.
    async fn until_load(&self, load: f64) {
        let url = format!("{}/v1/pops", self.0.public_url("panama"));
        until("the door knows how busy its nodes are", async || {
            let list: Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
            (list["pops"][0]["load"].as_f64()? > load - 0.01).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn rooms_begin_at_the_node_with_less_to_do_and_go_on_where_they_are() {
    let ten = [("ISTHMUS_SFU__MAX_PARTICIPANTS", "10")];
    let pop = Pop(Cluster::start_with(&["--pops", "panama", "--media-nodes", "2"], &ten).await);
    let pids = pop.0.pids();
    assert!(pids.contains_key("panama-sfu-1") && pids.contains_key("panama-sfu-2"), "{pids:?}");
    for _ in 0..5 {
        pop.join("town").await;
    }
    let town = pop.room("town").await;
    let busy = town.iter().position(Option::is_some).expect("a node has it");
    assert_eq!((town[busy], town[1 - busy]), (Some((5, 0)), None), "one node alone has the room");

    pop.until_load(0.25).await;
    for room in ["one", "two", "three"] {
        pop.join(room).await;
        assert_eq!(pop.room(room).await[1 - busy], Some((1, 0)), "{room} begins where there is less to do");
    }
    for _ in 0..4 {
        pop.join("town").await;
    }
    assert_eq!(pop.room("town").await[busy], Some((9, 0)), "who comes to a room goes where it is");

    pop.until_load(0.6).await;
    pop.join("town").await;
    until("a full node's room goes on at the other, and each knows of everyone", async || {
        let town = pop.room("town").await;
        (town[busy] == Some((9, 1)) && town[1 - busy] == Some((1, 9))).then_some(())
    })
    .await;
}
