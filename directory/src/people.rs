//! People: what opens their accounts, the devices that they are signed in on, what others see of them.
//!
//! What accounts and sessions hold, the caller knows (`isthmus_accounts`); here it is known where they stand and who may write them.
//! An account is found by the digest of its e-mail address, so that no key of the store names anyone.

use aws_lc_rs::digest;
use isthmus_protocol::{
    DeviceId, PersonId, PopId,
    person::{Email, Profile},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    config::Config,
    error::StoreError,
    guarded::{self, NotWritten, Place, Standing},
    home::{Homes, LOOK_EVERY, NotHome},
    item::Item,
    metrics::Metrics,
    store::Store,
    tables::{ACCOUNT, DEVICE, PEOPLE, PERSON, PROFILE},
    time::UnixMicros,
};

/// The people of all PoPs, as this one's replica knows them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct People {
    store: Store,
    homes: Homes,
    /// Who holds this home writes accounts and sessions.
    home: PopId,
}

impl People {
    /// The people in the store of `config`, whose accounts and sessions are written by who holds `home`. Connects with the first
    /// request.
    pub async fn connect(config: &Config, home: PopId, metrics: Metrics) -> Self {
        let homes = Homes::connect(config, metrics.clone()).await;
        Self { store: Store::connect(config, metrics).await, homes, home }
    }

    /// Keeps this PoP's part in who writes accounts and sessions; never returns.
    pub async fn upkeep(&self) {
        let mut has_table = false;
        loop {
            let looked = async {
                if !has_table {
                    // Boxed, because the SDK's futures are large and this one is part of a door's.
                    Box::pin(self.homes.ensure_table()).await?;
                }
                self.homes.look_after([self.home.clone()]).await
            };
            let looked = looked.await;
            has_table |= looked.is_ok();
            if let Err(error) = looked {
                tracing::debug!(%error, home = %self.home, "cannot look after a home now; trying again");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether this PoP writes accounts and sessions now: to be asked before what is costly.
    ///
    /// # Errors
    /// Another does.
    pub fn may_write(&self) -> Result<(), NotHome> {
        self.homes.epoch(&self.home).map(|_| ())
    }

    /// The account of an address, if there is one.
    pub async fn account<T: DeserializeOwned>(&self, email: &Email) -> Result<Option<Standing<T>>, StoreError> {
        self.place_of_account(email).read(&self.store).await
    }

    /// Writes the account of an address in place of what was `seen`; in place of none the address becomes its own.
    ///
    /// # Errors
    /// See [`NotWritten`]; [`NotWritten::Overtaken`] in place of none: the address is somebody's.
    pub async fn write_account<T: Serialize>(
        &self,
        email: &Email,
        account: &T,
        seen: Option<&Standing<T>>,
        now: UnixMicros,
    ) -> Result<(), NotWritten> {
        self.place_of_account(email).write(&self.store, &self.homes, account, seen, (UnixMicros::NEVER, now)).await
    }

    /// The session of a device.
    pub async fn session<T: DeserializeOwned>(
        &self,
        person: &PersonId,
        device: &DeviceId,
    ) -> Result<Option<Standing<T>>, StoreError> {
        self.place_of_session(person, device).read(&self.store).await
    }

    /// Writes the session of a device of a person, until it is over by itself, in place of what was `seen`.
    ///
    /// # Errors
    /// See [`NotWritten`].
    pub async fn write_session<T: Serialize>(
        &self,
        (person, device): (&PersonId, &DeviceId),
        session: &T,
        seen: Option<&Standing<T>>,
        (until, now): (UnixMicros, UnixMicros),
    ) -> Result<(), NotWritten> {
        self.place_of_session(person, device).write(&self.store, &self.homes, session, seen, (until, now)).await
    }

    /// The sessions of all devices of a person that are not over by themselves.
    pub async fn sessions<T: DeserializeOwned>(
        &self,
        person: &PersonId,
        now: UnixMicros,
    ) -> Result<Vec<T>, StoreError> {
        guarded::all(&self.store, PEOPLE, &key_of(person), DEVICE, now).await
    }

    /// What others see of a person.
    pub async fn profile(&self, person: &PersonId) -> Result<Option<Profile>, StoreError> {
        let item = self.store.get(PEOPLE, &key_of(person), PROFILE).await?;
        Ok(item.and_then(|item| self.store.record(PEOPLE, &item)))
    }

    /// Says what others see of a person. What was said last stands.
    pub async fn write_profile(&self, person: &PersonId, profile: &Profile, now: UnixMicros) -> Result<(), StoreError> {
        let item = Item::of(profile, key_of(person), PROFILE, UnixMicros::NEVER);
        self.store.put(PEOPLE, item, now).await
    }

    fn place_of_account(&self, email: &Email) -> Place {
        let digest = digest::digest(&digest::SHA256, email.as_str().as_bytes());
        let (high, low) = digest.as_ref().split_at(16);
        let number = |half: &[u8]| half.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        self.place(format!("{ACCOUNT}#{:032x}{:032x}", number(high), number(low)), ACCOUNT.into())
    }

    fn place_of_session(&self, person: &PersonId, device: &DeviceId) -> Place {
        self.place(key_of(person), format!("{DEVICE}{device}"))
    }

    fn place(&self, pk: String, name: String) -> Place {
        Place { table: PEOPLE, pk, name, home: self.home.clone() }
    }
}

fn key_of(person: &PersonId) -> String {
    format!("{PERSON}{person}")
}
