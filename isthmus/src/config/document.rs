//! One TOML document with its overrides, read so that every mistake is reported with its place, not only the first.
//!
//! serde stops at the first error. So the reader records it, takes the entry it stands in out of the document and
//! reads again, until what is left reads or nothing can be taken out any more. Of several keys missing in one section it
//! finds the first. The keys have one truth, the serde structs; nothing here knows any of them.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Environment variables of this prefix with `__` between the parts of a key override the file.
const ENVIRONMENT_PREFIX: &str = "ISTHMUS_";
const ENVIRONMENT_SEPARATOR: &str = "__";

/// One value from outside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Override {
    /// The key's parts: `["gateway", "listen"]`.
    key: Vec<String>,
    /// A TOML value; what does not read as one is taken as a string.
    value: String,
    /// What people call it: `environment ISTHMUS_GATEWAY__LISTEN`, `--set gateway.listen`.
    origin: String,
}

impl Override {
    /// The overrides among environment variables: `ISTHMUS_GATEWAY__LISTEN=...` sets `gateway.listen`. Without a section
    /// only keys that are `top_level` are overrides; `ISTHMUS_LOG` and its like are flags of the command line.
    pub(crate) fn from_environment(variables: impl Iterator<Item = (String, String)>, top_level: &[&str]) -> Vec<Self> {
        let mut overrides: Vec<Self> = variables
            .filter_map(|(name, value)| {
                let path = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_ascii_lowercase();
                if !path.contains(ENVIRONMENT_SEPARATOR) && !top_level.contains(&path.as_str()) {
                    return None;
                }
                let key = path.split(ENVIRONMENT_SEPARATOR).map(str::to_owned).collect();
                Some(Self { key, value, origin: format!("environment {name}") })
            })
            .collect();
        // The environment has no order of its own; errors should come in the same one every time.
        overrides.sort_by(|a, b| a.origin.cmp(&b.origin));
        overrides
    }

    /// An override from a `--set KEY=VALUE` flag.
    pub(crate) fn from_flag(flag: &str) -> Result<Self, String> {
        let (key, value) = flag.split_once('=').ok_or("expected KEY=VALUE, such as gateway.listen=127.0.0.1:7100")?;
        let parts: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        if parts.iter().any(String::is_empty) {
            return Err(format!("{key:?} is not a key: expected SECTION.KEY, such as gateway.listen, or pop"));
        }
        Ok(Self { key: parts, value: value.trim().to_owned(), origin: format!("--set {key}") })
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    place: Place,
    key: Option<String>,
    message: String,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    File { path: PathBuf, line: usize, column: usize },
    Override(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line, column } => write!(f, "{}:{line}:{column}: ", path.display())?,
            Place::Override(origin) => write!(f, "{origin}: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A document whose syntax has been read.
pub(crate) struct Document<'t> {
    path: &'t Path,
    text: &'t str,
    root: DeTable<'t>,
    /// Value `i` of these carries the span that begins at `text.len() + 1 + i`: no place in the file has it.
    origins: Vec<&'t str>,
    problems: Vec<Problem>,
}

impl<'t> Document<'t> {
    /// Reads `text`, which stands in `path`, and lays `overrides` over it, the later ones over the earlier.
    pub(crate) fn parse(path: &'t Path, text: &'t str, overrides: &'t [Override]) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self { path, text, root: root.into_inner(), origins: Vec::new(), problems: Vec::new() };
        for error in errors {
            let problem = document.problem_at(error.span(), None, error.message());
            document.problems.push(problem);
        }
        for entry in overrides {
            document.lay_over(entry);
        }
        document
    }

    /// The document as a `T`, as far as it could be read. What could not is in the problems.
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut left = self.root.clone();
        let mut removed: Vec<String> = Vec::new();
        loop {
            let whole = Spanned::new(0..0, left.clone());
            let error = match T::deserialize(toml::de::Deserializer::from(whole)) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let key = if span == (0..0) { None } else { remove_at(&mut left, &span) };
            let follows = removed.iter().any(|name| error.message() == format!("missing field `{name}`"));
            if !follows {
                let problem = self.problem_at(Some(span), key.clone(), error.message());
                self.problems.push(problem);
            }
            let name = key?.rsplit('.').next().unwrap_or_default().to_owned();
            removed.push(name);
        }
    }

    /// Gives `section`, if it is there, the document's `key` with its place, unless it has one of its own.
    pub(crate) fn inherit(&mut self, key: &str, section: &str) {
        let Some((name, value)) = self.root.get_key_value(key).map(|(name, value)| (name.clone(), value.clone()))
        else {
            return;
        };
        if let Some(DeValue::Table(section)) = self.root.get_mut(section).map(Spanned::get_mut)
            && !section.contains_key(key)
        {
            section.insert(name, value);
        }
    }

    /// Whether nothing was found wrong so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Reports something about the value of `key` ("sfu.listen"), at its place or at the nearest section around it.
    pub(crate) fn report(&mut self, key: &str, message: impl Into<String>) {
        let mut table = &self.root;
        let mut span = 0..0;
        for part in key.split('.') {
            let Some((name, value)) = table.get_key_value(part) else { break };
            span = if value.span().start > self.text.len() { value.span() } else { name.span() };
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        let problem = self.problem_at(Some(span), Some(key.to_owned()), &message.into());
        self.problems.push(problem);
    }

    /// Everything that was found wrong, in the order of the file, overrides last. What is wrong with an inherited value is
    /// said once, of the key that it was inherited from.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        let nesting = |problem: &Problem| problem.key.as_ref().map_or(0, |key| key.matches('.').count());
        self.problems.sort_by(|a, b| (&a.place, &a.message, nesting(a)).cmp(&(&b.place, &b.message, nesting(b))));
        self.problems.dedup_by(|a, b| (&a.place, &a.message) == (&b.place, &b.message));
        self.problems
    }

    fn lay_over(&mut self, entry: &'t Override) {
        let start = self.text.len() + 1 + self.origins.len();
        let span = start..start + 1;
        self.origins.push(&entry.origin);
        let plain = |_| DeValue::String(entry.value.as_str().into());
        let value = DeValue::parse(&entry.value).map_or_else(plain, Spanned::into_inner);
        let Some((last, sections)) = entry.key.split_last() else { return };
        let mut table = &mut self.root;
        for section in sections {
            let place = table
                .entry(Spanned::new(span.clone(), section.as_str().into()))
                .or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
            if !place.get_ref().is_table() {
                *place = Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
            }
            let DeValue::Table(inner) = place.get_mut() else { return };
            table = inner;
        }
        table.remove(last.as_str());
        table.insert(Spanned::new(span.clone(), last.as_str().into()), placed_at(value, &span));
    }

    fn problem_at(&self, span: Option<Range<usize>>, key: Option<String>, message: &str) -> Problem {
        let start = span.map_or(0, |span| span.start);
        let place = match start.checked_sub(self.text.len() + 1).and_then(|index| self.origins.get(index)) {
            Some(origin) => Place::Override((*origin).to_owned()),
            None => self.place_in_file(start),
        };
        Problem { place, key, message: message.replace('\n', ", ") }
    }

    fn place_in_file(&self, start: usize) -> Place {
        let before = self.text.get(..start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place::File { path: self.path.to_owned(), line, column }
    }
}

/// The same value with every span inside it replaced.
fn placed_at<'t>(value: DeValue<'t>, span: &Range<usize>) -> Spanned<DeValue<'t>> {
    let value = match value {
        DeValue::Array(items) => {
            DeValue::Array(items.into_iter().map(|item| placed_at(item.into_inner(), span)).collect())
        }
        DeValue::Table(entries) => DeValue::Table(
            entries
                .into_iter()
                .map(|(key, value)| (Spanned::new(span.clone(), key.into_inner()), placed_at(value.into_inner(), span)))
                .collect(),
        ),
        plain => plain,
    };
    Spanned::new(span.clone(), value)
}

/// Takes the innermost entry that stands at `span` out of `table`; its key, if there was one.
fn remove_at(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (key, value) in table.iter_mut() {
        let inner = match value.get_mut() {
            DeValue::Table(inner) => remove_at(inner, span),
            DeValue::Array(items) => items.iter_mut().find_map(|item| match item.get_mut() {
                DeValue::Table(inner) => remove_at(inner, span),
                _ => None,
            }),
            _ => None,
        };
        if let Some(inner) = inner {
            return Some(format!("{}.{inner}", key.get_ref()));
        }
    }
    let encloses = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let stands_at = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Array(items) => items.iter().any(|item| encloses(item.span())) || encloses(value.span()),
        _ => encloses(value.span()),
    };
    let (key, _) = table.iter().find(|(key, value)| encloses(key.span()) || stands_at(value))?;
    let key = key.get_ref().clone().into_owned();
    table.remove(key.as_str());
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        door: Door,
        #[serde(default)]
        peers: Vec<Peer>,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Door {
        port: u16,
        #[serde(default)]
        name: String,
        #[serde(default)]
        open: bool,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Peer {
        addr: std::net::SocketAddr,
    }

    fn problems(text: &str, overrides: &[Override]) -> Vec<String> {
        let mut document = Document::parse(Path::new("a.toml"), text, overrides);
        let _: Option<Whole> = document.read();
        document.into_problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_reported_with_its_line_in_one_go() {
        let text =
            "[door]\nport = 70000\nnmae = \"x\"\nopen = \"yes\"\n\n[[peers]]\naddr = \"nowhere\"\n\n[extra]\na = 1\n";
        let found = problems(text, &[]);
        let places: Vec<&str> = found.iter().map(|p| p.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(places, ["a.toml:2:8", "a.toml:3:1", "a.toml:4:8", "a.toml:7:8", "a.toml:9:2"], "{found:#?}");
        assert!(found[1].contains("door.nmae: unknown field `nmae`, expected one of"), "{}", found[1]);
    }

    #[test]
    fn a_key_that_was_wrong_is_not_called_missing_as_well() {
        assert_eq!(problems("[door]\nport = \"x\"\n", &[]).len(), 1);
        let missing = problems("[door]\nname = \"x\"\n", &[]);
        assert_eq!(missing, ["a.toml:1:1: door: missing field `port`"]);
        assert_eq!(problems("", &[]), ["a.toml:1:1: missing field `door`"]);
    }

    #[test]
    fn syntax_errors_come_with_their_lines_and_the_rest_is_still_read() {
        let found = problems("[door]\nport = = 1\nopen = 3\n", &[]);
        assert!(found.iter().any(|p| p.starts_with("a.toml:2:")), "{found:#?}");
        assert!(found.iter().any(|p| p.starts_with("a.toml:3:8: door.open")), "{found:#?}");
    }

    #[test]
    fn flags_lie_over_the_environment_and_that_over_the_file() {
        let environment =
            [("ISTHMUS_DOOR__PORT", "2"), ("ISTHMUS_DOOR__NAME", "from environment"), ("ISTHMUS_LOG", "x")];
        let variables = environment.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        let mut overrides = Override::from_environment(variables, &["pop"]);
        assert_eq!(overrides.len(), 2, "ISTHMUS_LOG is not a key");
        overrides.push(Override::from_flag("door.port=3").expect("a key and a value"));
        let mut document = Document::parse(Path::new("a.toml"), "[door]\nport = 1\nopen = true\n", &overrides);
        let whole: Whole = document.read().expect("it reads");
        assert_eq!(whole.door, Door { port: 3, name: "from environment".into(), open: true });
    }

    #[test]
    fn keys_outside_of_sections_can_be_overridden_too() {
        let variables = [("ISTHMUS_POP".to_owned(), "zurich".to_owned())].into_iter();
        let overrides = Override::from_environment(variables, &["pop"]);
        let flag = Override::from_flag("pop=singapore").expect("a key and a value");
        for (entry, expected) in [(&overrides[0], "zurich"), (&flag, "singapore")] {
            let entries = std::slice::from_ref(entry);
            let mut document = Document::parse(Path::new("a.toml"), "pop = \"panama\"\n", entries);
            let read: std::collections::BTreeMap<String, String> = document.read().expect("it reads");
            assert_eq!(read["pop"], expected);
        }
        assert!(Override::from_flag("=zurich").is_err());
    }

    #[test]
    fn a_wrong_override_is_named_by_its_origin() {
        let overrides = [Override::from_flag("door.port=many").expect("a key and a value")];
        let found = problems("[door]\nport = 1\n", &overrides);
        assert_eq!(found, ["--set door.port: door.port: invalid type: string \"many\", expected u16"]);
    }

    #[test]
    fn an_inherited_value_keeps_its_place() {
        let mut document = Document::parse(Path::new("a.toml"), "port = \"x\"\n[door]\nopen = true\n", &[]);
        for section in ["door", "peers", "nowhere"] {
            document.inherit("port", section);
        }
        let _: Option<Whole> = document.read();
        let found: Vec<String> = document.into_problems().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("a.toml:1:1: port: unknown field `port`"), "{}", found[0]);
        assert!(found[1].starts_with("a.toml:1:8: door.port: invalid type"), "{}", found[1]);
    }

    #[test]
    fn a_report_stands_at_its_key_or_at_the_section_around_it() {
        let mut document = Document::parse(Path::new("a.toml"), "[door]\nport = 1\n", &[]);
        document.report("door.port", "taken");
        document.report("door.name", "is needed");
        let found: Vec<String> = document.into_problems().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a.toml:1:2: door.name: is needed", "a.toml:2:1: door.port: taken"]);
    }
}
