//! `isthmus check-config` on files with mistakes: all of them, each with its line.

use std::{
    path::Path,
    process::{Command, Output},
};

fn isthmus(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_config"))
        .output()
        .expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the program says of `NAME.toml` is what stands in `NAME.txt`; `UPDATE_GOLDEN=1 cargo test -p isthmus` writes it.
fn compare_with_golden(name: &str) {
    let output = isthmus(&["check-config", &format!("{name}.toml")], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/check_config/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &output.stderr).expect("it can be written");
    }
    assert_eq!(stderr(&output), std::fs::read_to_string(golden).expect("the golden file"));
}

#[test]
fn values_that_do_not_read_are_all_reported_with_their_lines() {
    compare_with_golden("unreadable");
}

#[test]
fn values_that_read_and_cannot_be_are_all_reported_with_their_lines() {
    compare_with_golden("impossible");
}

#[test]
fn a_file_that_is_not_there_is_said_to_be_so() {
    let output = isthmus(&["check-config", "nowhere.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere.toml cannot be read"), "{}", stderr(&output));
}

#[test]
fn the_environment_is_named_when_a_value_from_it_is_wrong() {
    let output = isthmus(&["check-config", "impossible.toml"], &[("ISTHMUS_SFU__SHARDS", "many")]);
    let said = stderr(&output);
    assert!(said.contains("environment ISTHMUS_SFU__SHARDS: sfu.shards: invalid type: string \"many\""), "{said}");
}

#[test]
fn a_role_refuses_to_start_on_what_check_config_refuses_and_on_a_section_that_is_missing() {
    for command in ["sfu", "gateway", "directory", "pop"] {
        let output = isthmus(&[command, "--config", "impossible.toml"], &[]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(stderr(&output).contains("impossible.toml:"), "{command}: {}", stderr(&output));
    }
    let output = isthmus(&["sfu", "--config", "bare.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the configuration has no [sfu]"), "{}", stderr(&output));
    assert_eq!(isthmus(&["check-config", "bare.toml"], &[]).status.code(), Some(0), "a part of a PoP is sound as well");
}
