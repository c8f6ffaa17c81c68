//! Reads what was written to the embedded store, in its own process.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use dynoxide::{
    AttributeValue as Stored, Database, DynoxideError,
    actions::{query::QueryRequest, scan::ScanRequest},
};
use isthmus_protocol::PopId;

use super::tail::{Change, Key, PAGE, Reach};
use crate::{
    item::Item,
    tables::{PK, SK, Table, WRITES},
};

/// Where a page ended, for the next one to begin.
pub(super) type Position = HashMap<String, Stored>;

/// At most [`PAGE`] items.
pub(super) struct Page {
    pub(super) changes: Vec<Change>,
    /// None: that was the last one.
    pub(super) next: Option<Position>,
}

/// One page of what `reach` covers in `table`. Blocks on the database.
pub(super) fn page(
    database: &Database,
    table: Table,
    region: &PopId,
    reach: Reach,
    start: Option<Position>,
) -> Result<Page, DynoxideError> {
    let (items, next) = match reach {
        Reach::Everything => {
            let request = ScanRequest {
                table_name: table.0.into(),
                limit: Some(PAGE),
                exclusive_start_key: start,
                ..ScanRequest::default()
            };
            let answer = database.scan(request)?;
            (answer.items, answer.last_evaluated_key)
        }
        Reach::Since(since) => {
            let values = [
                (":region".to_owned(), Stored::S(region.to_string())),
                (":since".to_owned(), Stored::N(since.0.to_string())),
            ];
            let request = QueryRequest {
                table_name: table.0.into(),
                index_name: Some(WRITES.into()),
                key_condition_expression: Some("written_region = :region AND written_at_us > :since".into()),
                expression_attribute_values: Some(values.into()),
                scan_index_forward: true,
                limit: Some(PAGE),
                exclusive_start_key: start,
                ..QueryRequest::default()
            };
            let answer = database.query(request)?;
            (answer.items, answer.last_evaluated_key)
        }
    };
    // An item without key or version is not the directory's; no peer could place it.
    let changes = items.unwrap_or_default().into_iter().filter_map(|item| change(table, item)).collect();
    Ok(Page { changes, next })
}

fn change(table: Table, item: HashMap<String, Stored>) -> Option<Change> {
    let item = Item(item.into_iter().map(|(name, value)| (name, attribute(value))).collect());
    let key = Key { table, pk: item.text(PK)?.to_owned(), sk: item.text(SK)?.to_owned() };
    Some(Change { key, version: item.version()?, item })
}

/// The same value in the SDK's type.
fn attribute(value: Stored) -> AttributeValue {
    match value {
        Stored::S(text) => AttributeValue::S(text),
        Stored::N(digits) => AttributeValue::N(digits),
        Stored::B(bytes) => AttributeValue::B(Blob::new(bytes)),
        Stored::BOOL(value) => AttributeValue::Bool(value),
        Stored::NULL(value) => AttributeValue::Null(value),
        Stored::SS(texts) => AttributeValue::Ss(texts),
        Stored::NS(digits) => AttributeValue::Ns(digits),
        Stored::BS(blobs) => AttributeValue::Bs(blobs.into_iter().map(Blob::new).collect()),
        Stored::L(values) => AttributeValue::L(values.into_iter().map(attribute).collect()),
        Stored::M(fields) => AttributeValue::M(fields.into_iter().map(|(k, v)| (k, attribute(v))).collect()),
    }
}
