//! An emulated wide-area network on one machine: each host is a network namespace, and a user-space link with delay,
//! jitter, loss, a rate cap and a bounded queue joins every ordered pair of them.
//!
//! ```text
//!  host a: processes -> kernel -> wan0 (TUN) --+                        +--> wan0 (TUN) -> kernel -> processes: host b
//!                                              |   router: one thread   |
//!                                              +-> Fabric (sans-IO) ----+
//!                                                  a -> b: Link
//! ```
//!
//! Why not netem: the kernels this runs on have no such queueing discipline. Why TUN and not veth: a packet that
//! passes through this process can be delayed, dropped and counted without the kernel's help.
//!
//! | module       | does                                                                       |
//! |--------------|----------------------------------------------------------------------------|
//! | `core`       | decides when a packet is due or why it is dropped (no IO, virtual clock)   |
//! | `scenario`   | the TOML that describes a world, with errors by line and key               |
//! | `presets`    | scenarios that are built in                                                |
//! | `namespaces` | makes, enters and removes network namespaces                               |
//! | `tun`        | the device that turns a host's packets into reads and writes               |
//! | `router`     | the thread that moves packets                                              |
//! | `world`      | all of it as one value that cleans up when dropped                         |
//! | `control`    | changes and counters of a running world, over a Unix socket                |
//! | `command`    | `loadtest wan`                                                             |

pub mod command;
pub mod control;
pub mod core;
pub mod namespaces;
pub mod presets;
pub mod router;
pub mod scenario;
pub mod tun;
pub mod world;

use std::io;

/// Why a world cannot be made or asked.
#[derive(Debug, thiserror::Error)]
pub enum WanError {
    /// Something that must be there is not; the text says what to do.
    #[error("{0}")]
    Missing(String),
    /// A program that was called failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it wrote to standard error.
        said: String,
    },
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The router's thread has ended.
    #[error("the WAN router has stopped; its error is in the log")]
    RouterGone,
    /// A request names a host or link that is not there, or a value out of range.
    #[error("{0}")]
    Refused(String),
}

impl WanError {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.into(), source }
    }
}
