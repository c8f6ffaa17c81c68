//! `loadtest run` as a whole, against a real PoP of processes on ports that the system chooses.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

/// One PoP: store, media node and door, each a process. Dropped, it ends.
struct Pop {
    cluster: Child,
    state: TempDir,
    config: toml::Table,
}

impl Pop {
    fn start() -> Self {
        let state = tempfile::tempdir().expect("a folder");
        // Cargo puts the workspace's programs beside each other.
        let program = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("isthmus");
        let mut cluster = Command::new(&program)
            .args(["dev", "--pops", "panama", "--base-port", "0", "--no-restart", "--state"])
            .arg(state.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; build the workspace first", program.display()));
        let mut lines = BufReader::new(cluster.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.starts_with("ready"))), "the PoP did not become ready");
        // Nobody else reads what it goes on to print.
        thread::spawn(move || lines.for_each(drop));
        let config = std::fs::read_to_string(state.path().join("panama.toml")).expect("its configuration");
        Self { cluster, state, config: config.parse().expect("TOML") }
    }

    fn url(&self) -> &str {
        self.config["gateway"]["public_url"].as_str().expect("a URL")
    }

    fn metrics(&self) -> String {
        format!("http://{}/metrics", self.config["ops"]["sfu"].as_str().expect("an address"))
    }

    fn pid_file(&self) -> PathBuf {
        self.state.path().join("pids.json")
    }

    fn pid_of(&self, name: &str) -> Pid {
        let text = std::fs::read_to_string(self.pid_file()).expect("pids.json");
        let pids: Value = serde_json::from_str(&text).expect("names and numbers");
        Pid::from_raw(pids[name].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process id"))
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.cluster.id()).expect("a process id"));
        // SIGTERM, so that it ends the processes that it started.
        let ended = kill(pid, Signal::SIGTERM).is_ok() && self.cluster.wait().is_ok();
        assert!(ended || thread::panicking(), "the PoP did not end");
    }
}

/// A scenario of rooms of three, of whom all speak and one shows a camera.
fn scenario(url: &str, stages: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[target]\nurl = \"{url}\"\n{stages}\n[[rooms]]\nname = \"meeting\"\nparticipants = 3\nvideo_publishers = 1\n\
         tile_height = 180\n"
    );
    std::fs::write(folder.path().join("scenario.toml"), text).expect("it can be written");
    folder
}

const SIX: &str = "[[stage]]\nduration = \"1s\"\nparticipants = 6\n[[stage]]\nduration = \"5s\"";

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    program.arg("run").arg(folder.path().join("scenario.toml")).args(["--json", "-"]).args(arguments);
    program
}

fn run(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, Value) {
    report(&command(folder, arguments).output().expect("the program was built"))
}

/// Once more, as long as the machine is too busy with other things for the load generator to keep up: it then says so.
fn run_on_a_machine_with_time(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut last = run(folder, arguments);
    for _ in 0..10 {
        let reasons = last.1["reasons"].as_array().cloned().unwrap_or_default();
        let tired = |reason: &Value| reason.as_str().is_some_and(|text| text.starts_with("the load generator did not"));
        if !reasons.iter().any(tired) {
            break;
        }
        assert_eq!(last.0, Some(1), "a tired generator reports no pass: {reasons:?}");
        last = run(folder, arguments);
    }
    last
}

fn report(output: &Output) -> (Option<i32>, Value) {
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn figure(report: &Value, name: &str) -> f64 {
    let path = format!("/figures/{}", name.replace('.', "/"));
    report.pointer(&path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{name} was not measured: {report:#}"))
}

#[test]
fn a_small_run_passes_and_a_threshold_that_is_crossed_says_so() {
    let pop = Pop::start();
    let folder = scenario(pop.url(), SIX);
    let page = folder.path().join("report.html");
    let (pids, metrics) = (pop.pid_file(), pop.metrics());
    let [page_path, pids] = [&page, &pids].map(|path| path.to_str().expect("a path in ASCII"));
    let seen = ["--pid-file", pids, "--metrics", &metrics, "--html", page_path, "--threshold", "joins.failed == 0"];
    let (code, report) = run_on_a_machine_with_time(&folder, &seen);
    assert_eq!((code, &report["verdict"], &report["reasons"]), (Some(0), &"passed".into(), &Value::Array(Vec::new())));
    for (name, wanted) in
        [("joins.planned", 6.0), ("joins.joined", 6.0), ("joins.failed", 0.0), ("joins.most_at_once", 6.0)]
    {
        assert!((figure(&report, name) - wanted).abs() < f64::EPSILON, "{name} is {}", figure(&report, name));
    }
    // Each hears two others for 4 s at least, and two in each room watch the third.
    assert!(figure(&report, "traffic.received_packets") > 6.0 * 2.0 * 50.0 * 4.0, "{:#}", report["figures"]);
    assert!(figure(&report, "join_ms.p95") < 5000.0 && figure(&report, "loss.share") < 0.01, "{:#}", report["figures"]);
    assert!((figure(&report, "frames_per_second.count") - 4.0).abs() < f64::EPSILON, "{:#}", report["figures"]);
    // From the speaker's socket to the hearer's: not nothing, and no second on one machine.
    assert!(figure(&report, "voice_delay_ms.count") > 1000.0, "{:#}", report["figures"]);
    assert!((0.05..1000.0).contains(&figure(&report, "voice_delay_ms.p50")), "{:#}", report["figures"]);
    assert!((1.0..=4.5).contains(&figure(&report, "voice_mos.p50")), "{:#}", report["figures"]);
    assert!(figure(&report, "frames_per_second.p50") > 20.0, "{:#}", report["figures"]);
    assert!(figure(&report, "server.cpu_us_per_packet") > 0.0 && figure(&report, "server.quiet_seconds") > 2.0);
    assert!(report["seconds"].as_array().is_some_and(|seconds| seconds.len() >= 5), "{:#}", report["seconds"]);
    let page = std::fs::read_to_string(&page).expect("the page was written");
    assert!(page.contains("<svg") && page.contains("joins.failed == 0") && !page.contains("http://www"));

    let thresholds = ["--threshold", "joins.joined < 6", "--threshold", "server.memory_mib < 900"];
    let (code, report) = run_on_a_machine_with_time(&folder, &thresholds);
    assert_eq!((code, &report["verdict"]), (Some(99), &"threshold_crossed".into()));
    assert_eq!(report["thresholds"][0]["value"], 6.0);
    assert_eq!(report["reasons"][1], "server.memory_mib < 900 does not hold: it was not measured");
}

/// A scenario in which one speaks and shows a camera and two watch, with this target.
fn lecture(target: &str, rooms: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[target]\n{target}\n{SIX_SECONDS}\n[[rooms]]\nname = \"lecture\"\ncount = 1\nparticipants = 3\naudio_publishers = 1\n\
         video_publishers = 1\nviewers = 2\naudio_slots = 1\n{rooms}\n"
    );
    std::fs::write(folder.path().join("scenario.toml"), text).expect("it can be written");
    folder
}

const SIX_SECONDS: &str = "[[stage]]\nduration = \"1s\"\nparticipants = 3\n[[stage]]\nduration = \"6s\"";

#[test]
fn whip_and_whep_carry_a_lecture() {
    let pop = Pop::start();
    let rooms = format!("{}/v1/rooms/{{room}}", pop.url());
    let target =
        format!("kind = \"whip\"\nwhip = \"{rooms}/whip\"\nwhep = \"{rooms}/whep\"\nguests = \"{rooms}/guests\"");
    let (code, report) = run_on_a_machine_with_time(&lecture(&target, ""), &["--threshold", "joins.failed == 0"]);
    assert_eq!((code, &report["reasons"]), (Some(0), &Value::Array(Vec::new())), "{:#}", report["failures"]);
    assert!((figure(&report, "joins.joined") - 3.0).abs() < f64::EPSILON, "{:#}", report["figures"]);
    // Both watchers hear 50 packets a second and see the camera.
    assert!(figure(&report, "traffic.received_packets") > 2.0 * 50.0 * 5.0, "{:#}", report["figures"]);
    assert!(figure(&report, "frames_per_second.p5") > 20.0, "{:#}", report["figures"]);
    assert!(figure(&report, "phases.token_ms.count") > 2.0 && figure(&report, "phases.answer_ms.count") > 2.0);
}

#[test]
fn a_bad_network_loses_and_delays_what_those_behind_it_send_and_receive() {
    let pop = Pop::start();
    let bad = "networks = { bad = 1.0 }\nvideo_slots = 0\n[networks.bad]\nloss = 0.1\ndelay_ms = 40";
    let target = format!("url = \"{}\"", pop.url());
    let (code, report) = run_on_a_machine_with_time(&lecture(&target, bad), &["--threshold", "joins.failed == 0"]);
    assert_eq!((code, &report["reasons"]), (Some(0), &Value::Array(Vec::new())), "{:#}", report["failures"]);
    let lost = figure(&report, "networks.dropped_share");
    assert!((0.06..0.14).contains(&lost), "a share of 0.1: {lost}");
    assert!((figure(&report, "networks.clients") - 3.0).abs() < f64::EPSILON);
    // Two ways of 40 ms each. One packet in ten is lost on each, and of those all but one in ten comes with the one after.
    assert!((80.0..200.0).contains(&figure(&report, "voice_delay_ms.p50")), "{:#}", report["figures"]);
    assert!((0.002..0.07).contains(&figure(&report, "loss.audio_share")), "{:#}", report["figures"]);
}

#[test]
fn two_generators_make_one_report_and_one_that_is_killed_fails_the_run() {
    let pop = Pop::start();
    let two = ["--generators", "2"];
    let (code, whole) = run_on_a_machine_with_time(
        &scenario(pop.url(), SIX),
        &[&two[..], &["--threshold", "joins.failed == 0"]].concat(),
    );
    assert_eq!((code, &whole["reasons"]), (Some(0), &Value::Array(Vec::new())), "{:#}", whole["failures"]);
    for (name, wanted) in [("joins.joined", 6.0), ("joins.most_at_once", 6.0), ("generator.threads", 2.0)] {
        assert!((figure(&whole, name) - wanted).abs() < f64::EPSILON, "{name} is {}", figure(&whole, name));
    }
    assert!((figure(&whole, "frames_per_second.count") - 4.0).abs() < f64::EPSILON, "{:#}", whole["figures"]);
    // Neighbours in a room are in different processes: their clock is one.
    assert!(figure(&whole, "voice_delay_ms.count") > 1000.0, "{:#}", whole["figures"]);
    assert!((0.05..1000.0).contains(&figure(&whole, "voice_delay_ms.p50")), "{:#}", whole["figures"]);
    assert!(figure(&whole, "traffic.peak_received_packets_per_second") > 300.0, "{:#}", whole["figures"]);

    let folder = scenario(pop.url(), &SIX.replace("5s", "10m"));
    let running = under_way(&folder, &two);
    let tasks = format!("/proc/{0}/task/{0}/children", running.id());
    let generators = std::fs::read_to_string(&tasks).expect("the kernel tells children");
    let generators: Vec<i32> = generators.split_whitespace().map(|pid| pid.parse().expect("a number")).collect();
    assert_eq!(generators.len(), 2);
    kill(Pid::from_raw(generators[0]), Signal::SIGKILL).expect("it runs");
    let (code, broken) = report(&running.wait_with_output().expect("it ends"));
    let reason = broken["reasons"][0].as_str().expect("a reason");
    assert!(code == Some(1) && reason.starts_with("generator 0 is gone"), "{reason}");
    // The other one told of its three clients.
    assert!(figure(&broken, "traffic.received_packets") > 100.0, "{:#}", broken["figures"]);
    let ended = |pid: i32| kill(Pid::from_raw(pid), None).is_err();
    assert!(generators.into_iter().all(ended), "a generator outlived the run");
}

/// A run whose six clients are in their calls: it says every few seconds how it goes.
fn under_way(folder: &TempDir, arguments: &[&str]) -> Child {
    let mut program = command(folder, arguments);
    let mut run = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built");
    let mut lines = BufReader::new(run.stderr.take().expect("piped")).lines();
    let all_in = |line: std::io::Result<String>| line.is_ok_and(|line| line.contains("6 in their calls"));
    assert!(lines.any(all_in), "the clients did not get into their calls");
    thread::spawn(move || lines.for_each(drop));
    run
}

#[test]
fn a_target_that_dies_and_an_interruption_end_the_run_with_what_was_measured() {
    let pop = Pop::start();
    let stages = SIX.replace("5s", "10m");
    let folder = scenario(pop.url(), &stages);
    let own = |child: &Child| Pid::from_raw(i32::try_from(child.id()).expect("a process id"));

    let interrupted = under_way(&folder, &[]);
    kill(own(&interrupted), Signal::SIGINT).expect("it runs");
    let (code, report_of_it) = report(&interrupted.wait_with_output().expect("it ends"));
    assert_eq!((code, &report_of_it["reasons"][0]), (Some(1), &"interrupted".into()));
    assert!((figure(&report_of_it, "joins.joined") - 6.0).abs() < f64::EPSILON, "{report_of_it:#}");

    let orphaned = under_way(&folder, &[]);
    for process in ["panama-door-1", "panama-sfu-1"] {
        kill(pop.pid_of(process), Signal::SIGKILL).expect("it runs");
    }
    let (code, report) = report(&orphaned.wait_with_output().expect("it ends"));
    assert_eq!((code, &report["verdict"]), (Some(1), &"failed".into()));
    let reason = report["reasons"][0].as_str().expect("a reason");
    assert!(reason.starts_with("the target dropped every client"), "{reason}");
    assert!(figure(&report, "traffic.received_packets") > 100.0 && figure(&report, "joins.ended_early") > 5.0);
}

#[test]
fn a_target_that_is_down_or_never_answers_is_a_failed_run_with_a_report() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    // It takes connections and says nothing.
    let (code, report) = run(&scenario(&format!("http://{address}"), SIX), &[]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"failed".into()));
    drop(listener);
    let (code, report) = run(&scenario(&format!("http://{address}"), SIX), &[]);
    assert_eq!(code, Some(1));
    let reason = report["reasons"][0].as_str().expect("a reason");
    assert!(reason.starts_with(&format!("the target http://{address} is not there")), "{reason}");
    assert!((figure(&report, "joins.started")).abs() < f64::EPSILON);
    for target in [
        format!("kind = \"janus\"\nurl = \"ws://{address}\""),
        format!("kind = \"whip\"\nwhip = \"http://{address}/a\"\nwhep = \"http://{address}/b\""),
    ] {
        let (code, report) = run(&lecture(&target, ""), &[]);
        let reason = report["reasons"][0].as_str().expect("a reason");
        assert!(code == Some(1) && reason.contains("is not there"), "{target}: {reason}");
    }
}

#[test]
fn mistakes_are_bad_usage_and_name_the_place() {
    let refused = |folder: &TempDir, arguments: &[&str]| {
        let output = command(folder, arguments).output().expect("the program was built");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = refused(&scenario("http://127.0.0.1:1", "[[stage]]\nduration = \"soon\""), &[]);
    assert!(code == Some(2) && error.contains("scenario.toml:4: stage.duration: \"soon\" is not a time"), "{error}");
    let good = scenario("http://127.0.0.1:1", SIX);
    let (code, error) = refused(&good, &["--threshold", "join.p95 < 3"]);
    assert!(code == Some(2) && error.contains("column 1: no figure \"join.p95\"; there are"), "{error}");
    let nowhere = tempfile::tempdir().expect("a folder");
    let (code, error) = refused(&nowhere, &[]);
    assert!(code == Some(2) && error.contains("cannot read the scenario"), "{error}");
}
