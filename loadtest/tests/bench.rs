//! `loadtest bench` as a whole: real servers, a small load, every figure that it promises. Needs Janus (scripts/setup.sh
//! installs it).

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    program.arg("bench").args(arguments).output().expect("the program was built")
}

#[test]
fn the_floor_isthmus_and_janus_carry_the_same_load_in_one_run() {
    let output = bench(&["--loads", "camera", "--receivers", "3", "--seconds", "4", "--media", "even", "--json", "-"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let bench: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let outcomes = bench["outcomes"].as_array().expect("outcomes");
    let carriers: Vec<_> = outcomes.iter().map(|outcome| outcome["carrier"].as_str().expect("a name")).collect();
    assert_eq!(carriers, ["floor_sendto", "floor_gso", "isthmus", "janus"], "{said}");
    let figure = |outcome: &Value, name: &str| outcome["figures"][name].as_f64();
    for outcome in outcomes {
        let us = figure(outcome, "cpu_us_per_packet");
        assert!(us.is_some_and(|us| us > 0.0), "{outcome:#}\n{said}");
        // On a busy machine the generator may be tired; it then says so, and nothing else may be wrong.
        let failures = outcome["failures"].as_array().expect("failures");
        let tired = |why: &Value| why.as_str().is_some_and(|why| why.starts_with("the load generator did not"));
        assert!(failures.iter().all(tired), "{outcome:#}");
    }
    for server in &outcomes[2..] {
        // 3 receivers, 30 pictures of 5 packets and 50 sounds a second: 600. In the first seconds of so short a run the bandwidth
        // may be less, or what waited then is made up for, and looked for with padding.
        let packets = figure(server, "packets_per_second").expect("packets were received");
        assert!((150.0..900.0).contains(&packets), "{server:#}");
        for name in ["memory_kib_per_participant", "voice_delay_p99_ms", "picture_delay_p99_ms", "join_p95_ms"] {
            assert!(figure(server, name).is_some_and(|value| value > 0.0), "{name}: {server:#}");
        }
        assert_eq!(figure(server, "joins_failed"), Some(0.0), "{server:#}");
    }
    assert!(figure(&outcomes[2], "forward_delay_p99_ms").is_some(), "Isthmus tells it: {:#}", outcomes[2]);
    let goals = bench["goals"].as_array().expect("goals");
    assert_eq!(goals.len(), 5, "{goals:#?}");
    let missed = goals.iter().any(|goal| goal["held"] == false);
    let tired = outcomes.iter().any(|outcome| outcome["failures"].as_array().is_some_and(|why| !why.is_empty()));
    let wanted = if tired {
        1
    } else if missed {
        99
    } else {
        0
    };
    assert_eq!(output.status.code(), Some(wanted), "{goals:#?}");
}

#[test]
fn a_server_that_cannot_be_started_is_a_failure_that_says_why() {
    let nowhere = ["--loads", "camera", "--receivers", "1", "--seconds", "4", "--carriers", "isthmus,janus"];
    let output =
        bench(&[&nowhere[..], &["--isthmus-program", "/bin/false", "--janus-program", "/nowhere/janus"]].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not count: Isthmus did not become ready: it ended (exit status: 1)"), "{said}");
    assert!(said.contains("does not count: is Janus installed?"), "{said}");
}

#[test]
fn a_mistake_on_the_command_line_is_bad_usage() {
    for wrong in [["--loads", "everything"], ["--receivers", "0"], ["--isthmus", "http://127.0.0.1:1"]] {
        assert_eq!(bench(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}
