//! Asking a process how far it is, by its ops listener.

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use isthmus_protocol::{
    PopId,
    pops::{PopEntry, PopState},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// An ops listener that takes longer than this to answer is not ready.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether `/readyz` of the ops listener at `addr` answers 200.
pub(super) async fn is_ready(addr: SocketAddr) -> bool {
    get(addr, "/readyz").await.is_some()
}

/// The PoPs that the door whose ops listener is at `addr` would send a call to.
pub(super) async fn open_pops(addr: SocketAddr) -> BTreeSet<PopId> {
    let body = get(addr, "/debug/pops").await.unwrap_or_default();
    let listed: Vec<PopEntry> = serde_json::from_slice(&body).unwrap_or_default();
    listed.into_iter().filter(|pop| pop.state == PopState::Ready).map(|pop| pop.id).collect()
}

/// The body of an answer with status 200.
async fn get(addr: SocketAddr, path: &str) -> Option<Vec<u8>> {
    let answer = timeout(PATIENCE, exchange(addr, path)).await.ok()?.ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    answer.starts_with(b"HTTP/1.1 200").then(|| answer[body..].to_vec())
}

async fn exchange(addr: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
