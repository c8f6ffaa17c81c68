//! Passwords cost memory and time: so many are tried at once, and so often for one account.

use std::{net::IpAddr, sync::Arc, time::Duration};

use isthmus_accounts::password::{Kept, Password};
use isthmus_protocol::{person::Email, problem::Code};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use crate::{limits::Guesses, problem::Refusal};

/// So many at once: 19 MiB and a core each.
const AT_ONCE: usize = 2;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the [module](self).
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    guesses: Guesses,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), guesses: Guesses::default() }
    }
}

impl Passwords {
    /// Whether another password may be tried for the account of this address, there or not; if not, how long to wait.
    pub(super) fn may_guess(&self, email: &Email, from: IpAddr) -> Result<(), Duration> {
        self.guesses.take(email.as_str(), from)
    }

    /// A password as it is kept.
    pub(super) async fn keep(&self, password: Password, salt: [u8; 16]) -> Result<Kept, Refusal> {
        let turn = self.turn().await?;
        done(spawn_blocking(move || held(turn, || Kept::of(&password, salt))).await)
    }

    /// Whether it is this one.
    pub(super) async fn is(&self, kept: Kept, password: Password) -> Result<bool, Refusal> {
        let turn = self.turn().await?;
        done(spawn_blocking(move || held(turn, || kept.is(&password))).await)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let refused = || Refusal::new(Code::Unavailable, "too many are signing in at this moment: try again");
        turn.ok().and_then(Result::ok).ok_or_else(refused)
    }
}

/// The turn lasts as long as the work, also when nobody waits for the answer any more.
fn held<T>(turn: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
    let result = work();
    drop(turn);
    result
}

fn done<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, Refusal> {
    result.map_err(|_| Refusal::new(Code::Internal, "a password could not be tried: try again"))
}
