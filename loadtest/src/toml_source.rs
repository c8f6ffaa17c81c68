//! Errors in TOML files that say file, line and key, for every kind of scenario.

use std::{fmt, ops::Range, path::Path};

/// The text of a scenario.
///
/// # Errors
/// The file cannot be read; says which.
pub fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("cannot read the scenario {}: {error}", path.display()))
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

    /// An error of the TOML reader: what is no TOML, unknown keys, values of another type.
    pub fn syntax_error(&self, error: &toml::de::Error) -> FileError {
        let span = error.span().unwrap_or(0..0);
        let line = self.text.get(..span.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        let rest = self.text.get(span.start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let whole = format!("{line}{rest}");
        let key = whole.split(['=', '#']).next().unwrap_or_default().trim();
        self.error(span, if key.is_empty() { "scenario" } else { key }, error.message())
    }
}
