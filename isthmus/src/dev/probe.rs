//! Asking a process whether it is ready.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// An ops listener that takes longer than this to answer is not ready.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether `/readyz` of the ops listener at `addr` answers 200.
pub(super) async fn is_ready(addr: SocketAddr) -> bool {
    matches!(timeout(PATIENCE, readyz(addr)).await, Ok(Ok(true)))
}

async fn readyz(addr: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status).await?;
    Ok(&status == b"HTTP/1.1 200")
}
