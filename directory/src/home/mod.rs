//! Homes: who may do what must happen only once, such as giving out an e-mail address or a refresh token anew.
//!
//! Replicas of the directory take writes everywhere and tell each other later; conditions are checked against one replica alone. So
//! every record that must not be written twice has a *home*, named after the PoP that it is meant for, and only the PoP that holds
//! the home writes it, against its own replica. Who holds it says a lease in one small table that is strongly consistent for all
//! (DynamoDB with multi-region strong consistency; in development one PoP's store), which holds nothing else and nothing personal.
//!
//! A PoP that cannot renew stops by its own clock before another may begin ([`tenure`]). Then it goes on with everything but guarded
//! writes. A holder that is lost takes with it what its replica had taken and not yet sent on: under the next epoch such a write
//! never happened, and an old one that arrives later does not stand, since guarded records carry the epoch in their key.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core")]

pub mod tenure;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use isthmus_protocol::PopId;

use self::tenure::{Lease, Tenure};
use crate::{
    config::Config,
    error::StoreError,
    item::Item,
    metrics::Metrics,
    schema,
    store::{Store, Written},
    tables::{LEASE, LEASES, PK},
    time::UnixMicros,
};

/// How often each home is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// This PoP does not hold a home.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this PoP does not hold the home {home}{}; it is safe to try again", holder_in_words(.holder.as_ref()))]
pub struct NotHome {
    /// Which.
    pub home: PopId,
    /// Who does, as far as is known: who to ask.
    pub holder: Option<PopId>,
}

/// A lease of another release.
struct NotUnderstood;

fn holder_in_words(holder: Option<&PopId>) -> String {
    holder.map_or_else(|| ", and nobody is known to".to_owned(), |holder| format!(", {holder} does"))
}

/// The homes of all PoPs, as this one holds or sees them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Homes {
    store: Store,
    own: PopId,
    began: Instant,
    tenures: Arc<Mutex<BTreeMap<PopId, Tenure>>>,
}

impl Homes {
    /// The homes whose leases are where `config` says. Connects with the first request.
    pub async fn connect(config: &Config, metrics: Metrics) -> Self {
        let store = Store::connect(&config.of_leases(), metrics).await;
        Self { store, own: config.pop.clone(), began: Instant::now(), tenures: Arc::default() }
    }

    /// Creates the table of leases if it is missing.
    pub async fn ensure_table(&self) -> Result<(), StoreError> {
        schema::ensure_table(self.store.client(), LEASES).await
    }

    /// The epoch to write under in a home. To be asked just before a write: it holds for as long as a write may take.
    ///
    /// # Errors
    /// This PoP does not hold it, or cannot be sure to.
    pub fn epoch(&self, home: &PopId) -> Result<u64, NotHome> {
        let tenures = self.tenures();
        let tenure = tenures.get(home);
        let epoch = tenure.and_then(|tenure| tenure.epoch(self.began.elapsed()));
        epoch.ok_or_else(|| {
            let holder = tenure.and_then(Tenure::holder).filter(|holder| **holder != self.own).cloned();
            NotHome { home: home.clone(), holder }
        })
    }

    /// Looks at the homes of `pops` and does what is to be done. To be repeated every [`LOOK_EVERY`].
    ///
    /// # Errors
    /// The store did not answer for one of them; the others were looked at all the same.
    pub async fn look_after(&self, pops: impl IntoIterator<Item = PopId>) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for home in pops {
            outcome = outcome.and(self.look_after_one(&home).await);
        }
        outcome
    }

    async fn look_after_one(&self, home: &PopId) -> Result<(), StoreError> {
        let stands = self.store.get(LEASES, home.as_str(), LEASE).await?;
        let Ok(lease) = self.lease(stands.as_ref()) else { return Ok(()) };
        let asked = self.began.elapsed();
        let Some(wanted) = self.with(home, |tenure| {
            tenure.saw(lease, asked);
            tenure.next(asked)
        }) else {
            return Ok(());
        };
        let item = Item::of(&wanted, home.as_str(), LEASE, UnixMicros::NEVER);
        match self.store.replace(LEASES, item, stands.as_ref(), SystemTime::now().into()).await? {
            Written::Yes(_) => self.with(home, |tenure| tenure.wrote(wanted, asked, self.began.elapsed())),
            Written::Instead(newer) => {
                if let Ok(lease) = self.lease(Some(&newer)) {
                    self.with(home, |tenure| tenure.saw(lease, self.began.elapsed()));
                }
            }
        }
        Ok(())
    }

    /// The lease that stands there, if any does. One that is not understood is left alone: an epoch must not begin anew.
    fn lease(&self, item: Option<&Item>) -> Result<Option<Lease>, NotUnderstood> {
        let Some(item) = item else { return Ok(None) };
        match item.record() {
            Ok(lease) => Ok(Some(lease)),
            Err(error) => {
                self.store.metrics().malformed.with_label_values(&[LEASES.0]).inc();
                tracing::error!(key = item.text(PK), %error, "this release does not understand a lease, and leaves that home alone");
                Err(NotUnderstood)
            }
        }
    }

    fn with<T>(&self, home: &PopId, act: impl FnOnce(&mut Tenure) -> T) -> T {
        let mut tenures = self.tenures();
        act(tenures.entry(home.clone()).or_insert_with(|| Tenure::new(self.own.clone(), home.clone())))
    }

    fn tenures(&self) -> MutexGuard<'_, BTreeMap<PopId, Tenure>> {
        self.tenures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
