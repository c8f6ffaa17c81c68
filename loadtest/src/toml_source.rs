//! Errors in TOML files that say file, line and key, for every kind of scenario.

use std::{fmt, ops::Range, path::Path};

use anyhow::Context as _;
use serde::de::DeserializeOwned;

/// Reads a scenario; `parse` takes the name of the file and its text.
///
/// # Errors
/// The file cannot be read, or there is something wrong in it; says where.
pub fn read<T>(path: &Path, parse: fn(&str, &str) -> Result<T, FileError>) -> anyhow::Result<T> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the scenario {name}"))?;
    Ok(parse(&name, &text)?)
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {key}: {problem}")]
pub struct FileError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key, such as `link.loss`.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// The text of a file and the name that errors give it. Finds the lines of what is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// How errors name the file.
    pub file: &'a str,
    /// What stands in it.
    pub text: &'a str,
}

impl Source<'_> {
    /// An error about what stands at `span`.
    pub fn error(&self, span: Range<usize>, key: &str, problem: impl fmt::Display) -> FileError {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        FileError { file: self.file.into(), line, key: key.into(), problem: problem.to_string() }
    }

    /// What stands in the file, as far as the TOML reader checks it.
    ///
    /// # Errors
    /// It is no TOML, has unknown keys, or values of another type.
    pub fn values<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        toml::from_str(self.text).map_err(|error| self.syntax_error(&error))
    }

    fn syntax_error(&self, error: &toml::de::Error) -> FileError {
        let span = error.span().unwrap_or(0..0);
        let line = self.text.get(..span.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        let rest = self.text.get(span.start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let whole = format!("{line}{rest}");
        let key = whole.split(['=', '#']).next().unwrap_or_default().trim();
        self.error(span, if key.is_empty() { "scenario" } else { key }, error.message())
    }
}
