//! Telling of a store that does not answer: once when it begins, once when it is over, not at every attempt.

use isthmus_directory::StoreError;

/// Whether something that needs the store works.
pub(super) struct Outage {
    /// What does not work meanwhile.
    meanwhile: &'static str,
    lasts: bool,
}

impl Outage {
    /// Nothing is known to be wrong yet.
    pub(super) fn new(meanwhile: &'static str) -> Self {
        Self { meanwhile, lasts: false }
    }

    /// Takes in how an attempt went.
    pub(super) fn note<T>(&mut self, attempt: &Result<T, StoreError>) {
        match attempt {
            Err(error) if !self.lasts => {
                tracing::warn!(%error, meanwhile = self.meanwhile, "the store does not answer");
            }
            Ok(_) if self.lasts => tracing::info!(over = self.meanwhile, "the store answers again"),
            _ => {}
        }
        self.lasts = attempt.is_err();
    }
}
