//! Records that must not be written twice: only who holds their home writes them ([`home`](crate::home)).
//!
//! The epoch stands in the key. What a holder wrote that was cut off and did not know it yet therefore never replaces what the next
//! one wrote, whichever arrives later: readers take the highest epoch. Within an epoch all writers are of one PoP and go by the
//! conditions of its replica.

use std::collections::BTreeMap;

use isthmus_protocol::PopId;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::StoreError,
    home::{Homes, NotHome},
    item::Item,
    store::{Store, Written},
    tables::{SK, Table},
    time::UnixMicros,
};

/// Where a guarded record stands, and who may write it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) table: Table,
    pub(crate) pk: String,
    /// Of the records under `pk`.
    pub(crate) name: String,
    /// Who holds this home writes it.
    pub(crate) home: PopId,
}

/// What stands there, to be written in place of.
#[derive(Debug, Clone)]
pub struct Standing<T> {
    /// The record.
    pub record: T,
    epoch: u64,
    item: Item,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// Another PoP is to be asked.
    #[error(transparent)]
    NotHome(#[from] NotHome),
    /// Another writer was quicker. What stands there now is to be read, and it is to be decided anew.
    #[error("another request has changed this at the same moment: try again")]
    Overtaken,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Place {
    /// What stands there now, as far as this replica knows.
    pub(crate) async fn read<T: DeserializeOwned>(&self, store: &Store) -> Result<Option<Standing<T>>, StoreError> {
        let item = store.last(self.table, &self.pk, &format!("{}#", self.name)).await?;
        Ok(item.and_then(|item| standing(store, self.table, item)).map(|(_, standing)| standing))
    }

    /// Writes `record` in place of what was `seen`, and of nothing else.
    pub(crate) async fn write<T: Serialize>(
        &self,
        store: &Store,
        homes: &Homes,
        record: &T,
        seen: Option<&Standing<T>>,
        (expires, now): (UnixMicros, UnixMicros),
    ) -> Result<(), NotWritten> {
        let epoch = homes.epoch(&self.home)?;
        if seen.is_some_and(|seen| seen.epoch > epoch) {
            // A later holder has written: this PoP has lost the home and does not know it yet.
            return Err(NotHome { home: self.home.clone(), holder: None }.into());
        }
        let item = Item::of(record, self.pk.as_str(), format!("{}#{epoch:016x}", self.name), expires);
        let replaced = seen.filter(|seen| seen.epoch == epoch).map(|seen| &seen.item);
        match store.replace(self.table, item, replaced, now).await? {
            Written::Yes(_) => Ok(()),
            Written::Instead(_) => Err(NotWritten::Overtaken),
        }
    }
}

/// Every record under `pk` whose name begins with `prefix`, as it stands now.
pub(crate) async fn all<T: DeserializeOwned>(
    store: &Store,
    table: Table,
    pk: &str,
    prefix: &str,
    now: UnixMicros,
) -> Result<Vec<T>, StoreError> {
    let items = store.under(table, pk, prefix).await?;
    let standing = items.into_iter().filter(|item| item.is_live(now)).filter_map(|item| standing(store, table, item));
    // In the order of their keys, so that of each name the highest epoch is last.
    let latest: BTreeMap<String, Standing<T>> = standing.collect();
    Ok(latest.into_values().map(|standing| standing.record).collect())
}

/// The record of an item, and its name. One that this release does not understand is skipped and counted.
fn standing<T: DeserializeOwned>(store: &Store, table: Table, item: Item) -> Option<(String, Standing<T>)> {
    let (name, epoch) = item.text(SK)?.rsplit_once('#')?;
    let (name, epoch) = (name.to_owned(), u64::from_str_radix(epoch, 16).ok()?);
    let record = store.record(table, &item)?;
    Some((name, Standing { record, epoch, item }))
}
