//! `loadtest floor` as a whole: it measures in a moment, and says what it measured.

use std::process::{Command, Output};

fn floor(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    program.arg("floor").args(arguments).output().expect("the program was built")
}

#[test]
fn it_measures_both_ways_of_sending_and_each_step_alone() {
    let output = floor(&["--receivers", "2", "--seconds", "0.3", "--json", "-"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it prints JSON alone");
    let rows = figures["paced"].as_array().expect("rows");
    let methods: Vec<_> = rows.iter().map(|row| row["method"].as_str()).collect();
    assert_eq!(methods, [Some("sendto"), Some("gso")]);
    for row in rows {
        // 0.3 s are 9 pictures and 15 packets of speech, for two.
        assert_eq!(row["packets"], 2 * (9 * 5 + 15), "{row}");
        assert!(row["us_per_packet"].as_f64().is_some_and(|us| us > 0.0), "{row}");
    }
    let alone = figures["alone"].as_object().expect("figures");
    assert!(alone.len() == 3 && alone.values().all(|us| us.as_f64().is_some_and(|us| us > 0.0)), "{alone:?}");
}

#[test]
fn a_mistake_on_the_command_line_is_bad_usage() {
    for wrong in [["--receivers", "0"], ["--seconds", "-1"], ["--seconds", "soon"]] {
        assert_eq!(floor(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}
