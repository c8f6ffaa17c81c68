//! The state folder: what the cluster's processes need before they start, and what they leave.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use super::layout::Pop;

/// A state folder, usually `.isthmus`.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
        for folder in ["logs", "tls", "store"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(super) fn config(&self, pop: &Pop) -> PathBuf {
        self.path.join(format!("{}.toml", pop.id))
    }

    pub(super) fn write(&self, pops: &[Pop], here: &[Pop], web: &Path) -> anyhow::Result<()> {
        Ok(())
    }
}
