//! The one thread that moves packets: it reads every host's TUN device, asks the [`Fabric`] and writes what is due.
//!
//! The thread owns the fabric. Others reach it by messages, so the packet path takes no lock.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core")]

use std::{
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::{Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Instant,
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
    unistd::gettid,
};

use super::{
    WanError,
    core::{Counters, Fabric, HostId, LinkParameters},
    tun::Tun,
};

/// The largest packet a device may carry (the scenario's MTU is at most 9000).
const MAX_PACKET_BYTES: usize = 9_216;
/// The most packets read from one host before the others have their turn and what is due leaves.
const READ_BURST: usize = 32;
/// The most requests that wait for the router; senders then wait too.
const REQUEST_QUEUE: usize = 64;
/// Above ordinary threads, below the kernel's own.
const REAL_TIME_PRIORITY: &str = "10";

enum Request {
    SetParameters(HostId, HostId, LinkParameters, mpsc::SyncSender<()>),
    Parameters(HostId, HostId, mpsc::SyncSender<Option<LinkParameters>>),
    Counters(mpsc::SyncSender<Counters>),
    Stop,
}

/// The router's thread. Dropping it stops the thread, and every packet under way is lost.
pub struct Router {
    handle: RouterHandle,
    thread: Option<JoinHandle<()>>,
}

/// Asks the router. Cheap to clone.
#[derive(Clone)]
pub struct RouterHandle {
    requests: mpsc::SyncSender<Request>,
    wake: std::sync::Arc<UnixStream>,
}

impl RouterHandle {
    /// Makes or changes a link. Once this returns every packet that is sent finds it so.
    pub fn set_parameters(&self, from: HostId, to: HostId, parameters: LinkParameters) -> Result<(), WanError> {
        self.ask(|reply| Request::SetParameters(from, to, parameters, reply))
    }

    /// How a link behaves now, if there is one.
    pub fn parameters(&self, from: HostId, to: HostId) -> Result<Option<LinkParameters>, WanError> {
        self.ask(|reply| Request::Parameters(from, to, reply))
    }

    /// What every link saw so far.
    pub fn counters(&self) -> Result<Counters, WanError> {
        self.ask(Request::Counters)
    }

    fn ask<T>(&self, request: impl FnOnce(mpsc::SyncSender<T>) -> Request) -> Result<T, WanError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.send(request(reply))?;
        answer.recv().map_err(|_| WanError::RouterGone)
    }

    fn send(&self, request: Request) -> Result<(), WanError> {
        self.requests.send(request).map_err(|_| WanError::RouterGone)?;
        // A full wake pipe means that the router has wake-ups to read already.
        let _ = (&*self.wake).write(&[1]);
        Ok(())
    }
}

impl Router {
    /// Starts the thread. `names` and `tuns` are in the order of the fabric's hosts.
    pub fn start(fabric: Fabric, names: Vec<String>, tuns: Vec<Tun>) -> Result<Self, WanError> {
        let (requests, inbox) = mpsc::sync_channel(REQUEST_QUEUE);
        let (wake, woken) = UnixStream::pair().map_err(WanError::io("make the router's wake pipe"))?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(WanError::io("make the router's wake pipe"))?;
        }
        let mut switch = Switch { fabric, names, tuns, inbox, woken, started: Instant::now() };
        let thread = thread::Builder::new()
            .name("wan-router".into())
            .spawn(move || {
                ask_for_real_time();
                if let Err(error) = switch.run() {
                    tracing::error!(%error, "the WAN router stopped: no packet passes any more");
                }
            })
            .map_err(WanError::io("start the router's thread"))?;
        let handle = RouterHandle { requests, wake: std::sync::Arc::new(wake) };
        Ok(Self { handle, thread: Some(thread) })
    }

    /// A way to ask the router.
    pub fn handle(&self) -> &RouterHandle {
        &self.handle
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // A router that has stopped already takes no request.
        let _ = self.handle.send(Request::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `SCHED_FIFO`, so that delays stay exact while the machine is busy. `chrt` sets it: the call itself has no safe form.
fn ask_for_real_time() {
    let thread = gettid().to_string();
    let arguments = ["--fifo", "--pid", REAL_TIME_PRIORITY, &thread];
    let done = Command::new("chrt").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !done.is_ok_and(|status| status.success()) {
        tracing::warn!("no real-time scheduling for the WAN router: delays may be late on a busy machine");
    }
}

/// What the thread owns.
struct Switch {
    fabric: Fabric,
    names: Vec<String>,
    tuns: Vec<Tun>,
    inbox: mpsc::Receiver<Request>,
    woken: UnixStream,
    started: Instant,
}

impl Switch {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            let mut buffer = [0; MAX_PACKET_BYTES];
            for host in ready {
                self.read_from(host, &mut buffer);
            }
            self.deliver_due();
            if !self.answer_requests() {
                return Ok(());
            }
        }
    }

    /// Waits for packets, requests or the next due time; returns the hosts that have packets.
    fn wait(&self) -> io::Result<Vec<HostId>> {
        let mut files: Vec<_> = self.tuns.iter().map(|tun| PollFd::new(tun.as_fd(), PollFlags::POLLIN)).collect();
        files.push(PollFd::new(self.woken.as_fd(), PollFlags::POLLIN));
        let timeout = self.fabric.next_due().map(|due| due.saturating_duration_since(Instant::now()));
        match ppoll(&mut files, timeout.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let hosts = files.iter().take(self.tuns.len()).enumerate();
        Ok(hosts.filter(|(_, file)| file.any().unwrap_or(false)).map(|(index, _)| HostId(index)).collect())
    }

    fn read_from(&mut self, host: HostId, buffer: &mut [u8]) {
        for _ in 0..READ_BURST {
            // An error is a device that is going down: its host is being removed.
            let Ok(Some(length)) = self.tuns[host.0].read(buffer) else { return };
            self.fabric.handle_packet(Instant::now(), host, buffer[..length].to_vec());
        }
    }

    fn deliver_due(&mut self) {
        let now = Instant::now();
        while let Some(departure) = self.fabric.poll_departure(now) {
            let delivered = self.tuns[departure.to.0].write(&departure.packet).is_ok();
            self.fabric.settle(&departure, delivered);
        }
    }

    /// Whether to go on.
    fn answer_requests(&mut self) -> bool {
        let mut wakes = [0; REQUEST_QUEUE];
        // Nothing to read is the usual case.
        let _ = (&self.woken).read(&mut wakes);
        while let Ok(request) = self.inbox.try_recv() {
            // Whoever asked may have given up waiting: a reply that nobody takes is no fault.
            match request {
                Request::SetParameters(from, to, link, reply) => {
                    self.fabric.set_parameters(Instant::now(), from, to, link);
                    let _ = reply.send(());
                }
                Request::Parameters(from, to, reply) => {
                    let _ = reply.send(self.fabric.parameters(from, to).copied());
                }
                Request::Counters(reply) => {
                    let uptime_s = self.started.elapsed().as_secs();
                    let _ = reply.send(Counters { uptime_s, ..self.fabric.counters(&self.names) });
                }
                Request::Stop => return false,
            }
        }
        true
    }
}
