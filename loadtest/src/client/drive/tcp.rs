//! A connection for media over TCP.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use super::{Event, READ_BUFFER_BYTES};
use crate::client::framing::{self, Deframer};

/// Packets that wait to be written. One beyond is dropped, as a router would, and counted.
const OUT_QUEUE: usize = 256;
/// The longest an opening may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a media connection, and carries packets in RFC 4571 frames until either side ends it.
pub(super) async fn carry(remote: SocketAddr, events: mpsc::Sender<Event>) {
    let why = match open_tcp(remote, &events).await {
        Ok(()) => "the node closed it".to_owned(),
        Err(error) => error.to_string(),
    };
    // Nobody listens once the client is gone.
    let _ = events.send(Event::Closed { remote, why }).await;
}

async fn open_tcp(remote: SocketAddr, events: &mpsc::Sender<Event>) -> std::io::Result<()> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(remote)).await??;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let (mut reader, mut writer) = stream.into_split();
    let (packets, mut outgoing) = mpsc::channel::<Vec<u8>>(OUT_QUEUE);
    if events.send(Event::Connected { local, remote, packets }).await.is_err() {
        return Ok(());
    }
    let write = async {
        while let Some(packet) = outgoing.recv().await {
            if let Some(frame) = framing::frame(&packet) {
                writer.write_all(&frame).await?;
            }
        }
        Ok(())
    };
    let read = async {
        let mut deframer = Deframer::default();
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let length = reader.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            deframer.handle_bytes(&buffer[..length]);
            while let Some(packet) = deframer.poll_packet() {
                if events.send(Event::Packet { local, remote, packet }).await.is_err() {
                    return Ok(());
                }
            }
        }
    };
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
    }
}
