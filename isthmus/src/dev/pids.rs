//! `pids.json`: the name and process id of every process that runs, kept current over restarts.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// The file, shared by every `isthmus dev` that uses the same state folder (`--only` makes several).
#[derive(Debug, Clone)]
pub(super) struct Pids {
    path: PathBuf,
    lock: PathBuf,
}

impl Pids {
    /// The file of a state folder.
    pub(super) fn of(state: &Path) -> Self {
        Self { path: state.join("pids.json"), lock: state.join("pids.lock") }
    }

    /// Writes down that `name` runs as `pid`, or no longer runs.
    pub(super) fn set(&self, name: &str, pid: Option<u32>) -> io::Result<()> {
        let lock = File::create(&self.lock)?;
        lock.lock()?;
        let mut pids = self.read();
        // A cluster that was killed could not take its names out.
        pids.retain(|_, pid| Path::new(&format!("/proc/{pid}")).exists());
        match pid {
            Some(pid) => pids.insert(name.to_owned(), pid),
            None => pids.remove(name),
        };
        // Written beside and renamed: a reader sees the old file or the new one, never half of one.
        let new = self.path.with_extension("json.new");
        fs::write(&new, serde_json::to_string_pretty(&pids)? + "\n")?;
        fs::rename(&new, &self.path)
    }

    /// What stands there; nothing if there is no file yet or it does not read.
    fn read(&self) -> BTreeMap<String, u32> {
        fs::read_to_string(&self.path).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_change_and_go_and_those_of_processes_that_are_gone_go_too() {
        let state = tempfile::tempdir().unwrap();
        let (ours, theirs) = (Pids::of(state.path()), Pids::of(state.path()));
        let (here, parent) = (std::process::id(), std::os::unix::process::parent_id());
        // Above the kernel's highest process id.
        ours.set("panama-sfu-1", Some(u32::MAX)).unwrap();
        ours.set("panama-door-1", Some(parent)).unwrap();
        theirs.set("zurich-door-1", Some(parent)).unwrap();
        ours.set("panama-door-1", Some(here)).unwrap();
        theirs.set("zurich-door-1", None).unwrap();
        let text = fs::read_to_string(state.path().join("pids.json")).unwrap();
        assert_eq!(text, format!("{{\n  \"panama-door-1\": {here}\n}}\n"));
    }
}
