//! dynoxide's HTTP server, on threads of its own: its handlers run `SQLite`, file synchronisation included, on the
//! thread that polls them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    time::Duration,
};

use dynoxide::Database;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::StoreFailure;

/// Threads that serve requests. The database does one thing at a time, so more would only wait.
const SERVER_THREADS: usize = 2;
/// How long requests under way may take to finish at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// A running server.
pub(super) struct Server {
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Server {
    /// Serves `database` on `listener` until `shutdown`.
    pub(super) fn start(listener: TcpListener, database: Database, shutdown: CancellationToken) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SERVER_THREADS)
            .thread_name("store")
            .enable_all()
            .build()?;
        let (tell, ended) = oneshot::channel();
        let serve = move || {
            let result = runtime.block_on(serve(listener, database, shutdown));
            runtime.shutdown_timeout(SHUTDOWN_GRACE);
            // Whoever started the server may be gone; then nobody wants to know.
            let _ = tell.send(result);
        };
        std::thread::Builder::new().name("store".into()).spawn(serve)?;
        Ok(Self { ended })
    }

    /// Waits until the server has ended.
    pub(super) async fn ended(self) -> Result<(), StoreFailure> {
        self.ended.await.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))?;
        Ok(())
    }
}

async fn serve(listener: TcpListener, database: Database, shutdown: CancellationToken) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let grace = grace(shutdown.clone());
    let server = dynoxide::server::serve_with_shutdown(listener, database, shutdown.cancelled_owned());
    tokio::select! {
        result = server => result.map_err(io::Error::other),
        // A client that sent half a request would hold the server for ever.
        () = grace => Ok(()),
    }
}

/// Ends when requests under way at `shutdown` have had their time.
async fn grace(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(SHUTDOWN_GRACE).await;
}

/// Where this process reaches its own server.
pub(super) fn endpoint(listener: &TcpListener) -> io::Result<String> {
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(format!("http://{address}"))
}
