//! Worlds of real network namespaces: what a program in them sees of the links.
//!
//! They need root, /dev/net/tun and iproute2. Where those are missing each test fails and says so, unless
//! `ISTHMUS_ALLOW_SKIP=1` is set: a test that passes without having tested is worse than none.

#![expect(clippy::disallowed_methods, reason = "IO: measures how long things take")]

use std::{
    io::{self, BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use loadtest::{
    exit,
    wan::{
        control::{self, ControlReply, ControlRequest, Controls, LinkChange},
        core::LinkCounters,
        namespaces,
        scenario::Scenario,
        world::World,
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// One world at a time: delays are measured, and namespaces of one process share their names.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if let Err(missing) = namespaces::check_privileges() {
        let may_skip = std::env::var("ISTHMUS_ALLOW_SKIP").is_ok_and(|value| value == "1");
        assert!(may_skip, "{missing}; or leave these tests out with ISTHMUS_ALLOW_SKIP=1");
        eprintln!("SKIPPED: {missing}");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Two hosts, `a` (10.77.1.2) and `b` (10.77.2.2), with the rest of a `[[link]]` between them.
fn world(link: &str) -> World {
    let text = format!("[host.a]\n[host.b]\nrole = \"pop\"\n[[link]]\nfrom = \"a\"\nto = \"b\"\n{link}\n");
    let scenario = Scenario::parse("test", &text).expect("the test's scenario is good");
    World::create(scenario).expect("root can make a world")
}

fn udp(world: &World, host: &str) -> UdpSocket {
    let address = world.scenario().hosts[world.scenario().host(host).expect("it is in the scenario").0].address;
    let namespace = world.namespace_of(host).expect("it is in the scenario");
    let socket = namespace.enter(|| UdpSocket::bind(SocketAddr::from((address, 0)))).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout is always accepted");
    socket
}

fn counters(world: &World, from: &str, to: &str) -> LinkCounters {
    *world.router().counters().expect("the router runs").link(from, to).expect("there is a link")
}

fn controls(world: &World) -> Controls {
    Controls::new(world.scenario().clone(), world.router().clone())
}

fn change(world: &World, change: LinkChange) {
    let request = ControlRequest::Set { from: "a".into(), to: "b".into(), both: true, change };
    assert_eq!(controls(world).answer(&request), ControlReply::Done);
}

/// Sends `count` numbered datagrams of `size` bytes, one each `interval`.
fn send(socket: &UdpSocket, to: SocketAddr, count: u32, size: usize, interval: Duration) {
    let start = Instant::now();
    for number in 0..count {
        thread::sleep((start + interval * number).saturating_duration_since(Instant::now()));
        let mut datagram = vec![0; size];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        socket.send_to(&datagram, to).expect("the device takes packets");
    }
}

/// What arrives until nothing does for the socket's time-out: number and time of arrival.
fn receive_all(socket: &UdpSocket) -> Vec<(u32, Instant)> {
    let mut arrived = Vec::new();
    let mut datagram = [0; 2048];
    while let Ok(length) = socket.recv(&mut datagram) {
        let number = datagram[..length].first_chunk().expect("datagrams are numbered");
        arrived.push((u32::from_be_bytes(*number), Instant::now()));
    }
    arrived
}

/// Round-trip times of `count` datagrams to `b` and back, in milliseconds, sorted.
fn round_trips(world: &World, count: u32) -> Vec<f64> {
    let (a, b) = (udp(world, "a"), udp(world, "b"));
    let to = b.local_addr().expect("it is bound");
    let echo = thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = b.recv_from(&mut datagram) {
            b.send_to(&datagram[..length], from).expect("the device takes packets");
        }
    });
    let mut datagram = [0; 64];
    let mut times: Vec<f64> = (0..count)
        .map(|_| {
            let sent = Instant::now();
            a.send_to(&datagram, to).expect("the device takes packets");
            a.recv(&mut datagram).expect("a link without loss echoes");
            sent.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    echo.join().expect("the echo ends when nothing arrives");
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn round_trips_take_the_links_delay() {
    let Some(_alone) = alone() else { return };
    let world = world("rtt_ms = 40");
    let times = round_trips(&world, 100);
    let (p50, p99) = (times[49], times[98]);
    println!("round trip at 40 ms: p50 {p50:.2} ms, p99 {p99:.2} ms");
    assert!(times[0] >= 40.0, "a packet was early: {} ms", times[0]);
    assert!(p50 < 42.0, "p50 {p50} ms");
    // Two cores may be compiling beside this; the bound catches a broken scheduler, the printed figure shows quality.
    assert!(p99 < 80.0, "p99 {p99} ms");
}

#[test]
fn loss_is_as_asked_and_counted() {
    let Some(_alone) = alone() else { return };
    let world = world("rtt_ms = 2\nloss = 0.1");
    let (a, b) = (udp(&world, "a"), udp(&world, "b"));
    let to = b.local_addr().expect("it is bound");
    let sender = thread::spawn(move || send(&a, to, 3000, 100, Duration::from_micros(200)));
    let arrived = receive_all(&b);
    sender.join().expect("the sender does not fail");
    let lost = 3000 - arrived.len();
    let deviation = (3000.0_f64 * 0.1 * 0.9).sqrt();
    println!("lost {lost} of 3000 at 10 %");
    assert!((lost as f64 - 300.0).abs() < 5.0 * deviation, "lost {lost} of 3000 at 10 %");
    let link = counters(&world, "a", "b");
    assert_eq!((link.offered.packets, link.dropped.loss, link.udp.packets), (3000, lost as u64, arrived.len() as u64));
    assert_eq!(link.udp.bytes, 128 * link.udp.packets, "100 bytes, 8 of UDP, 20 of IP");
    assert!(arrived.is_sorted_by_key(|(number, _)| *number), "packets were reordered");
}

#[test]
fn the_rate_cap_holds_and_can_be_changed() {
    let Some(_alone) = alone() else { return };
    let world = world("rtt_ms = 2\nrate_mbps = 2\nqueue_ms = 200");
    for mbps in [2.0, 8.0] {
        change(&world, LinkChange { rate_mbps: Some(mbps), ..LinkChange::default() });
        let (a, b) = (udp(&world, "a"), udp(&world, "b"));
        let to = b.local_addr().expect("it is bound");
        // 20 Mbit/s for 2 s: far more than fits. The queue bridges pauses of a sender on a busy machine.
        let sender = thread::spawn(move || send(&a, to, 5000, 972, Duration::from_micros(400)));
        let arrived = receive_all(&b);
        sender.join().expect("the sender does not fail");
        let (first, last) = (arrived[0].1, arrived[arrived.len() - 1].1);
        let measured = (arrived.len() - 1) as f64 * 1000.0 * 8.0 / (last - first).as_secs_f64() / 1e6;
        println!("{measured:.2} Mbit/s through a cap of {mbps}");
        // When the test's own thread first reads is off by scheduling: 10 % of 2 s is room for 200 ms of it.
        assert!((measured / mbps - 1.0).abs() < 0.1, "{measured} Mbit/s through a cap of {mbps}");
    }
    assert!(counters(&world, "a", "b").dropped.queue_full > 0);
}

#[test]
fn a_partition_stops_everything_until_it_heals() {
    let Some(_alone) = alone() else { return };
    let world = world("rtt_ms = 2");
    let (a, b) = (udp(&world, "a"), udp(&world, "b"));
    let to = b.local_addr().expect("it is bound");
    let arrives = || {
        send(&a, to, 1, 10, Duration::ZERO);
        receive_all(&b).len()
    };
    assert_eq!(arrives(), 1);
    let cut = ControlRequest::Partition { host: "b".into(), other: None };
    assert_eq!(controls(&world).answer(&cut), ControlReply::Done);
    assert_eq!(arrives(), 0);
    assert_eq!(counters(&world, "a", "b").dropped.partitioned, 1);
    let heal = ControlRequest::Heal { host: "a".into(), other: Some("b".into()) };
    assert_eq!(controls(&world).answer(&heal), ControlReply::Done);
    assert_eq!(arrives(), 1);
}

#[test]
fn a_firewall_blocks_udp_and_lets_tcp_through() {
    let Some(_alone) = alone() else { return };
    let world = world("rtt_ms = 10\nblock = \"udp\"");
    let (a, b) = (udp(&world, "a"), udp(&world, "b"));
    send(&a, b.local_addr().expect("it is bound"), 3, 10, Duration::ZERO);
    assert_eq!(receive_all(&b).len(), 0);
    assert_eq!(counters(&world, "a", "b").dropped.blocked, 3);
    let enter = |host: &str| world.namespace_of(host).expect("it is in the scenario");
    let listener = enter("b").enter(|| TcpListener::bind("10.77.2.2:0")).expect("a free port");
    let to = listener.local_addr().expect("it is bound");
    let connected = enter("a").enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
    assert!(connected.is_ok(), "TCP does not pass: {connected:?}");
}

/// The namespaces of process `pid`.
fn namespaces_of(pid: u32) -> Vec<String> {
    let prefix = format!("isthmus-{pid}-");
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(&prefix)).collect()
}

#[test]
fn dropping_a_world_ends_its_processes_and_leaves_no_namespace() {
    let Some(_alone) = alone() else { return };
    let world = world("rtt_ms = 2");
    let namespace = world.namespace_of("a").expect("it is in the scenario");
    let mut child = namespace.enter(|| Command::new("sleep").arg("1000").spawn()).expect("sleep is there");
    assert_eq!(namespaces_of(std::process::id()).len(), 2);
    drop(world);
    assert_eq!(namespaces_of(std::process::id()), Vec::<String>::new());
    assert!(child.wait().is_ok_and(|status| !status.success()), "the process outlived its world");
}

/// `loadtest wan` with a preset, once it has said `ready`; and the rest of that line.
fn start_program(arguments: &[&str]) -> (Child, serde_json::Value) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    program.args(["wan", "--preset", "three-pops"]).args(arguments).stdout(Stdio::piped());
    let mut child = program.spawn().expect("the program was built");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("the program prints");
    let ready = line.strip_prefix("ready ").expect("the line begins with ready");
    (child, serde_json::from_str(ready).expect("what follows is JSON"))
}

fn wait_for_end(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    Err(io::Error::other("the program did not end"))
}

#[test]
fn an_interrupted_program_cleans_up_and_a_killed_one_is_swept_away_by_the_next() {
    let Some(_alone) = alone() else { return };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let left_behind = folder.path().join("killed.sock");
    let (mut killed, _) = start_program(&["--control", &left_behind.display().to_string()]);
    let abandoned = killed.id();
    assert_eq!(namespaces_of(abandoned).len(), 6);
    killed.kill().and_then(|()| killed.wait()).expect("it can be killed");
    assert_eq!(namespaces_of(abandoned).len(), 6, "nobody cleaned up yet");

    let file = folder.path().join("counters.json");
    let (mut child, ready) = start_program(&["--shuffle", "3", "--counters", &file.display().to_string()]);
    assert_eq!(namespaces_of(abandoned), Vec::<String>::new());
    assert_ne!(ready["hosts"]["client-milan"]["nearest_pop"], "zurich", "clients were shuffled");
    let socket = ready["control"].as_str().expect("a path");
    assert!(matches!(control::ask(socket.as_ref(), &ControlRequest::Counters), Ok(ControlReply::Counters(_))));

    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("it runs");
    assert!(wait_for_end(&mut child).is_ok_and(|status| status.success()));
    assert_eq!(namespaces_of(child.id()), Vec::<String>::new());
    assert!(!std::path::Path::new(socket).exists(), "the socket stayed behind");
    let text = std::fs::read_to_string(file).expect("the counters were written");
    let counters: serde_json::Value = serde_json::from_str(&text).expect("they are JSON");
    assert!(counters["links"]["panama"]["zurich"]["udp"]["packets"].is_u64());
}

#[test]
fn a_command_runs_on_its_host_and_its_exit_code_is_passed_on() {
    let Some(_alone) = alone() else { return };
    let script = "test $WAN_HOST = client-milan && test $WAN_ADDRESS_ZURICH = 10.77.6.2 && exit 7";
    let status = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["wan", "--preset", "three-pops", "run", "client-milan", "--", "sh", "-c", script])
        .status()
        .expect("the program was built");
    assert_eq!(status.code(), Some(7));
    let usage = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["wan", "/no/such.toml"]).status();
    assert_eq!(usage.expect("the program was built").code(), Some(2));
}

#[test]
fn a_command_that_is_cut_short_is_no_success() {
    let Some(_alone) = alone() else { return };
    let mut program = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    program.args(["wan", "--preset", "three-pops", "run", "client-milan", "--", "sh", "-c", "echo runs; sleep 1000"]);
    let mut child = program.stdout(Stdio::piped()).spawn().expect("the program was built");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("the command prints");
    assert_eq!(line, "runs\n");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let status = wait_for_end(&mut child).expect("it ends");
    assert_eq!(status.code(), Some(i32::from(exit::FAILED)));
    assert_eq!(namespaces_of(child.id()), Vec::<String>::new());
}
