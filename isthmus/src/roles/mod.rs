//! The roles a process of a PoP can have.

/// A role of a PoP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The embedded store and its replicator.
    Store,
    /// The media node.
    Sfu,
    /// The door.
    Door,
}

impl Role {
    /// The subcommand that runs it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::Store => "directory",
            Self::Sfu => "sfu",
            Self::Door => "gateway",
        }
    }
}
