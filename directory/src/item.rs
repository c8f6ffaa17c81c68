//! Records as DynamoDB items: each field of a record is an attribute of the same name.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use isthmus_protocol::PopId;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Number, Value};

use crate::{
    tables::{DELETED, EXPIRES_AT, PK, SK, WRITTEN_AT, WRITTEN_REGION},
    time::UnixMicros,
    version::Version,
};

/// One item, attributes by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Item(pub(crate) HashMap<String, AttributeValue>);

impl Item {
    /// The item of `record`, which must serialise as a map, under the key (`pk`, `sk`), until `expires_at`.
    pub(crate) fn of(
        record: &impl Serialize,
        pk: impl Into<String>,
        sk: impl Into<String>,
        expires_at: UnixMicros,
    ) -> Self {
        let mut attributes = match serde_json::to_value(record).map(attribute) {
            Ok(AttributeValue::M(attributes)) => attributes,
            _ => HashMap::new(),
        };
        attributes.insert(PK.into(), AttributeValue::S(pk.into()));
        attributes.insert(SK.into(), AttributeValue::S(sk.into()));
        attributes.insert(EXPIRES_AT.into(), AttributeValue::N(expires_at.as_secs().to_string()));
        Self(attributes)
    }

    /// The same, hidden from readers.
    pub(crate) fn deleted(mut self) -> Self {
        self.0.insert(DELETED.into(), AttributeValue::Bool(true));
        self
    }

    /// The same, as written by `version`.
    pub(crate) fn written(mut self, version: &Version) -> Self {
        self.0.insert(WRITTEN_AT.into(), AttributeValue::N(version.written_at.0.to_string()));
        self.0.insert(WRITTEN_REGION.into(), AttributeValue::S(version.region.to_string()));
        self
    }

    /// The record in the item.
    pub(crate) fn record<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        let fields = self.0.iter().filter_map(|(name, value)| Some((name.clone(), json(value)?)));
        serde_json::from_value(Value::Object(fields.collect()))
    }

    /// Whether readers see it at `now`.
    pub(crate) fn is_live(&self, now: UnixMicros) -> bool {
        let deleted = matches!(self.0.get(DELETED), Some(AttributeValue::Bool(true)));
        !deleted && self.number(EXPIRES_AT).is_none_or(|expires_at| expires_at > now.as_secs())
    }

    /// When and where it was written.
    pub(crate) fn version(&self) -> Option<Version> {
        let region: PopId = self.text(WRITTEN_REGION)?.parse().ok()?;
        Some(Version { written_at: self.written_at()?, region })
    }

    /// When it was written.
    pub(crate) fn written_at(&self) -> Option<UnixMicros> {
        self.number(WRITTEN_AT).map(UnixMicros)
    }

    /// A string attribute.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_s().ok().map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_n().ok()?.parse().ok()
    }
}

fn attribute(value: Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(value),
        Value::Number(value) => AttributeValue::N(value.to_string()),
        Value::String(value) => AttributeValue::S(value),
        Value::Array(values) => AttributeValue::L(values.into_iter().map(attribute).collect()),
        Value::Object(fields) => AttributeValue::M(fields.into_iter().map(|(k, v)| (k, attribute(v))).collect()),
    }
}

/// The JSON of an attribute; none for types no record has (binary, sets).
fn json(attribute: &AttributeValue) -> Option<Value> {
    Some(match attribute {
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::N(digits) => Value::Number(number(digits)?),
        AttributeValue::S(value) => Value::String(value.clone()),
        AttributeValue::L(values) => Value::Array(values.iter().map(json).collect::<Option<_>>()?),
        AttributeValue::M(fields) => {
            Value::Object(fields.iter().map(|(k, v)| Some((k.clone(), json(v)?))).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn number(digits: &str) -> Option<Number> {
    let whole = digits.parse::<u64>().map(Number::from).or_else(|_| digits.parse::<i64>().map(Number::from));
    whole.ok().or_else(|| Number::from_f64(digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use isthmus_protocol::node::NodeStatus;
    use proptest::prelude::*;

    use super::*;
    use crate::records::NodeRecord;

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_went_in(
            participants: u32, load in 0.0..=1.0f64, draining: bool, port: u16, heard_at: u64,
        ) {
            let record = NodeRecord {
                node: "panama-sfu-1".parse().expect("a valid id"),
                pop: "panama".parse().expect("a valid id"),
                relay: ([127, 0, 0, 1], port).into(),
                status: NodeStatus { participants, rooms: 3, load, draining },
                heard_at: UnixMicros(heard_at),
            };
            let item = Item::of(&record, "all", "panama-sfu-1", UnixMicros(9_000_000));
            prop_assert_eq!(item.record::<NodeRecord>().expect("the same fields"), record);
        }
    }

    #[test]
    fn an_item_of_a_newer_release_is_an_error_and_not_a_panic() {
        let mut item = Item::default();
        item.0.insert("node".into(), AttributeValue::Ss(vec!["a".into()]));
        assert!(item.record::<NodeRecord>().is_err());
        assert_eq!(item.version(), None);
    }

    #[test]
    fn what_is_deleted_or_expired_is_not_seen() {
        let item = Item::of(&serde_json::json!({}), "a", "b", UnixMicros(10_000_000));
        assert!(item.is_live(UnixMicros(9_999_999)));
        assert!(!item.is_live(UnixMicros(10_000_000)));
        assert!(!item.deleted().is_live(UnixMicros(0)));
    }
}
