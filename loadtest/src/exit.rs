//! Exit codes, the same for every command: 0 passed, 1 the run itself failed, 2 bad usage, 99 a threshold was crossed.

use std::process::ExitCode;

/// The run itself failed.
pub const FAILED: u8 = 1;
/// The command line, a scenario file or a value in them is wrong.
pub const BAD_USAGE: u8 = 2;

/// The run was good and what it measured was not: a threshold was crossed.
pub const THRESHOLD_CROSSED: u8 = 99;

/// Marks an error as the caller's: the program then exits with [`BAD_USAGE`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

/// The exit code that goes with an error.
pub fn code_of(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.downcast_ref::<BadUsage>().is_some() { BAD_USAGE } else { FAILED })
}
