//! Why the store did not do what it was asked.

use std::time::Duration;

/// A request to the store that failed. Each names the operation and the table, and what to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer in time.
    #[error(
        "the store did not answer {operation} on {table} within {} ms; see whether it runs and is not overloaded",
        .after.as_millis()
    )]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// Of which table.
        table: &'static str,
        /// The time it was given.
        after: Duration,
    },
    /// No connection, or it broke.
    #[error(
        "the store cannot be reached for {operation} on {table} ({reason}); see whether it runs and where `endpoint` points"
    )]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// Of which table.
        table: &'static str,
        /// What the connection said.
        reason: String,
    },
    /// The store is there and has no such table.
    #[error("the store has no table {table}, wanted for {operation}; call ensure_tables or create it")]
    MissingTable {
        /// What was asked.
        operation: &'static str,
        /// Of which table.
        table: &'static str,
    },
    /// Others wrote the same item at the same time, again and again.
    #[error("gave up {operation} on {table}: others keep writing the same item; it is safe to try again")]
    Conflict {
        /// What was asked.
        operation: &'static str,
        /// Of which table.
        table: &'static str,
    },
    /// The store is overloaded or has failed itself.
    #[error("the store could not do {operation} on {table} now ({code}); it is safe to try again")]
    Busy {
        /// What was asked.
        operation: &'static str,
        /// Of which table.
        table: &'static str,
        /// DynamoDB's name for it.
        code: String,
    },
    /// The store understood and said no.
    #[error("the store refused {operation} on {table}: {code}: {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of which table.
        table: &'static str,
        /// DynamoDB's name for it.
        code: String,
        /// DynamoDB's words.
        message: String,
    },
}

impl StoreError {
    /// A stable name, for metrics and logs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "timed_out",
            Self::Unreachable { .. } => "unreachable",
            Self::MissingTable { .. } => "missing_table",
            Self::Conflict { .. } => "conflict",
            Self::Busy { .. } => "busy",
            Self::Refused { .. } => "refused",
        }
    }
}
