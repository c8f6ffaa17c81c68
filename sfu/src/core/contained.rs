//! A boundary around parsers of other crates: what a stranger sends must not end a thread, even where a parser is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `parse` returns; none if it panicked. It must change nothing that outlives it.
pub fn contained<T>(parse: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(parse)).ok()
}
