//! Receivers on loopback. They read what comes, so that a packet costs its sender what one costs that arrives; the time that
//! their own thread takes for it is not the sender's.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use tokio::sync::oneshot;

/// Larger than any packet of ours.
const READ_BUFFER_BYTES: usize = 2048;

/// Receivers, each with its own port; they end with the value.
pub(super) struct Receivers {
    addresses: Vec<SocketAddr>,
    received: Arc<AtomicU64>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receivers {
    pub(super) fn start(count: usize) -> anyhow::Result<Self> {
        let sockets: Vec<_> = (0..count).map(|_| bound()).collect::<io::Result<_>>().context("cannot open a socket")?;
        let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>()?;
        let received = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let counter = received.clone();
        let thread = thread::Builder::new().name("receivers".into()).spawn(move || {
            runtime.block_on(async {
                for socket in sockets {
                    let socket = tokio::net::UdpSocket::from_std(socket).expect("it does not block");
                    tokio::spawn(read(socket, counter.clone()));
                }
                // The sender's end is dropped, which is all that it is for.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { addresses, received, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Packets read so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of a receiver shows as packets that did not arrive.
            let _ = thread.join();
        }
    }
}

fn bound() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn read(socket: tokio::net::UdpSocket, received: Arc<AtomicU64>) {
    let mut buffer = [0; READ_BUFFER_BYTES];
    while socket.recv(&mut buffer).await.is_ok() {
        received.fetch_add(1, Ordering::Relaxed);
    }
}
