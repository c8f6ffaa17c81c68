//! Packets that the kernel dropped before this program's sockets, because they were not read in time.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

/// UDP sockets of this program, by inode, with the drops last seen of each. Those of a socket that is closed stay counted,
/// but for its last second.
#[derive(Debug, Default)]
pub struct Sockets(Mutex<HashMap<u64, u64>>);

impl Sockets {
    /// Counts a socket in.
    pub fn add(&self, socket: impl AsFd) {
        match nix::sys::stat::fstat(socket) {
            Ok(stat) => {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stat.st_ino, 0);
            }
            Err(error) => tracing::warn!(%error, "drops of a socket are not counted"),
        }
    }

    /// Drops of all sockets so far; none where the kernel does not tell.
    pub fn drops(&self) -> Option<u64> {
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(std::fs::read_to_string);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = false;
        for table in tables.iter().flatten() {
            seen = true;
            for (inode, drops) in parse(table) {
                if let Some(count) = known.get_mut(&inode) {
                    *count = drops;
                }
            }
        }
        seen.then(|| known.values().sum())
    }
}

/// Inode and drops of each line (proc(5), and `udp4_format_sock` in the kernel for the last columns).
fn parse(table: &str) -> impl Iterator<Item = (u64, u64)> + '_ {
    const INODE: usize = 9;
    const DROPS: usize = 12;
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(INODE);
        Some((words.next()?.parse().ok()?, words.nth(DROPS - INODE - 1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20  73: 0100007F:1BC6 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 81532 2 00000000c0a1 17\n\
            \x20  74: cut off\n";
        assert_eq!(parse(table).collect::<Vec<_>>(), [(81532, 17)]);
    }

    #[test]
    fn a_socket_that_nobody_reads_drops() {
        let (socket, sender) = [(), ()].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port")).into();
        let sockets = Sockets::default();
        sockets.add(&socket);
        assert_eq!(sockets.drops(), Some(0));
        let to = socket.local_addr().expect("it is bound");
        // More than any receive buffer's default: 208 KiB.
        for _ in 0..2000 {
            sender.send_to(&[0; 1200], to).expect("loopback takes packets");
        }
        assert!(sockets.drops().is_some_and(|drops| drops > 100), "{:?}", sockets.drops());
    }
}
