//! The DynamoDB API as the directory uses it: each request with a deadline, counted, and with versions kept.

#![expect(clippy::disallowed_methods, reason = "IO: measures how long the store takes")]

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::{put_item::PutItemError, query::builders::QueryFluentBuilder},
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use isthmus_protocol::PopId;
use serde::de::DeserializeOwned;

use crate::{
    config::{Config, CredentialSource},
    error::StoreError,
    item::Item,
    metrics::Metrics,
    tables::{PK, SK, Table},
    time::UnixMicros,
    version::Version,
};

/// How often a write is tried again when another took its place in between.
const MAX_ROUNDS: usize = 4;
/// The region an embedded store is addressed as; it has none.
const EMBEDDED_REGION: &str = "us-east-1";

/// What an operation is called, in metrics and errors.
pub(crate) type Operation = &'static str;

/// A client of one store, which signs writes with its PoP.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    client: Client,
    pop: PopId,
    timeout: Duration,
    metrics: Metrics,
}

/// What became of a conditional write.
pub(crate) enum Written {
    /// This stands now.
    Yes(Box<Item>),
    /// This stands instead.
    Instead(Box<Item>),
}

impl Store {
    pub(crate) async fn connect(config: &Config, metrics: Metrics) -> Self {
        Self { client: client(config).await, pop: config.pop.clone(), timeout: config.timeout(), metrics }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Does several requests under one deadline.
    pub(crate) async fn within<T>(
        &self,
        table: Table,
        operation: Operation,
        requests: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let timed_out = StoreError::TimedOut { operation, table: table.0, after: self.timeout };
        tokio::time::timeout(self.timeout, requests).await.unwrap_or(Err(timed_out))
    }

    /// Writes `item`, whatever stands there: the write counts as younger than what it replaces.
    pub(crate) async fn put(&self, table: Table, item: Item, now: UnixMicros) -> Result<(), StoreError> {
        let mut replaced = None;
        for _ in 0..MAX_ROUNDS {
            let version = Version { written_at: Version::after(now, replaced), region: self.pop.clone() };
            match self.put_if_newer(table, item.clone(), &version).await? {
                Written::Yes(_) => return Ok(()),
                Written::Instead(newer) => replaced = newer.written_at(),
            }
        }
        Err(StoreError::Conflict { operation: "PutItem", table: table.0 })
    }

    /// Writes `item` as `version` unless what stands there is as new or newer. This is also how a write of another
    /// region arrives.
    pub(crate) async fn put_if_newer(
        &self,
        table: Table,
        item: Item,
        version: &Version,
    ) -> Result<Written, StoreError> {
        let condition = "attribute_not_exists(pk) OR written_at_us < :at \
                         OR (written_at_us = :at AND written_region < :region)";
        let values = [
            (":at", AttributeValue::N(version.written_at.0.to_string())),
            (":region", AttributeValue::S(version.region.to_string())),
        ];
        self.put_when(table, item.written(version), condition, values).await
    }

    /// Writes `item` if `seen` still stands there; `None`: if nothing does.
    pub(crate) async fn replace(
        &self,
        table: Table,
        item: Item,
        seen: Option<&Item>,
        now: UnixMicros,
    ) -> Result<Written, StoreError> {
        let seen = seen.and_then(Item::written_at);
        let item = item.written(&Version { written_at: Version::after(now, seen), region: self.pop.clone() });
        match seen {
            Some(seen) => {
                let values = [(":seen", AttributeValue::N(seen.0.to_string()))];
                self.put_when(table, item, "written_at_us = :seen", values).await
            }
            None => self.put_when(table, item, "attribute_not_exists(pk)", []).await,
        }
    }

    async fn put_when<const N: usize>(
        &self,
        table: Table,
        item: Item,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> Result<Written, StoreError> {
        let mut request = self
            .client
            .put_item()
            .table_name(table.0)
            .set_item(Some(item.0.clone()))
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, value) in values {
            request = request.expression_attribute_values(name, value);
        }
        let request = async move {
            match request.send().await {
                Ok(_) => Ok(Written::Yes(Box::new(item))),
                Err(error) => match error.as_service_error() {
                    Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                        Ok(Written::Instead(Box::new(Item(failed.item.clone().unwrap_or_default()))))
                    }
                    _ => Err(refusal(table, "PutItem", &error)),
                },
            }
        };
        self.measured(table, "PutItem", Box::pin(request)).await
    }

    /// The item under a key, live or not.
    pub(crate) async fn get(&self, table: Table, pk: &str, sk: &str) -> Result<Option<Item>, StoreError> {
        let request = self
            .client
            .get_item()
            .table_name(table.0)
            .key(PK, AttributeValue::S(pk.into()))
            .key(SK, AttributeValue::S(sk.into()))
            .consistent_read(true);
        let request = async move {
            let answer = request.send().await.map_err(|error| refusal(table, "GetItem", &error))?;
            Ok(answer.item.map(Item))
        };
        self.measured(table, "GetItem", Box::pin(request)).await
    }

    /// Every item of a partition, live or not.
    pub(crate) async fn partition(&self, table: Table, pk: &str) -> Result<Vec<Item>, StoreError> {
        let request = self
            .client
            .query()
            .table_name(table.0)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk.into()));
        self.pages(table, request).await
    }

    /// The items of a partition whose `sk` begins with `prefix`, in its order, live or not, with every write that was answered.
    pub(crate) async fn under(&self, table: Table, pk: &str, prefix: &str) -> Result<Vec<Item>, StoreError> {
        self.pages(table, self.query_under(table, pk, prefix)).await
    }

    /// The last of [`under`](Self::under).
    pub(crate) async fn last(&self, table: Table, pk: &str, prefix: &str) -> Result<Option<Item>, StoreError> {
        let request = self.query_under(table, pk, prefix).scan_index_forward(false).limit(1);
        let request = async move {
            let answer = request.send().await.map_err(|error| refusal(table, "Query", &error))?;
            Ok(answer.items.unwrap_or_default().pop().map(Item))
        };
        self.measured(table, "Query", Box::pin(request)).await
    }

    fn query_under(&self, table: Table, pk: &str, prefix: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(table.0)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(pk.into()))
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.into()))
            .consistent_read(true)
    }

    async fn pages(&self, table: Table, request: QueryFluentBuilder) -> Result<Vec<Item>, StoreError> {
        let request = async move {
            let mut pages = request.into_paginator().items().send();
            let mut items = Vec::new();
            while let Some(item) = pages.next().await {
                items.push(Item(item.map_err(|error| refusal(table, "Query", &error))?));
            }
            Ok(items)
        };
        self.measured(table, "Query", Box::pin(request)).await
    }

    /// The record of an item. One that this release does not understand is skipped and counted: another PoP may run a
    /// newer release.
    pub(crate) fn record<T: DeserializeOwned>(&self, table: Table, item: &Item) -> Option<T> {
        let record = item.record();
        if let Err(error) = &record {
            self.metrics.malformed.with_label_values(&[table.0]).inc();
            tracing::warn!(table = table.0, key = item.text(SK), %error, "skipped an item that was not understood");
        }
        record.ok()
    }

    /// Gives a request its deadline and counts it. Boxed, because the SDK's futures are some 30 kB each and those of
    /// the directory should fit on a stack.
    async fn measured<T>(
        &self,
        table: Table,
        operation: Operation,
        request: Pin<Box<impl Future<Output = Result<T, StoreError>>>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = self.within(table, operation, request).await;
        let outcome = result.as_ref().err().map_or("ok", StoreError::code);
        self.metrics.requests.with_label_values(&[table.0, operation, outcome]).inc();
        self.metrics.request_seconds.with_label_values(&[table.0, operation]).observe(begun.elapsed().as_secs_f64());
        result
    }
}

/// The SDK's client: one quick retry at most, because a caller waits and has a deadline of its own.
async fn client(config: &Config) -> Client {
    let retry = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(20));
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).retry_config(retry);
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = &config.aws_region {
        loader = loader.region(Region::new(region.clone()));
    }
    if config.credentials == CredentialSource::Development {
        // Worth nothing: an embedded store checks none, but the API wants requests signed.
        loader = loader
            .credentials_provider(Credentials::new("isthmus", "development", None, None, "isthmus development"))
            .region(Region::new(config.aws_region.clone().unwrap_or_else(|| EMBEDDED_REGION.into())));
    }
    Client::new(&loader.load().await)
}

/// What the SDK's error means for the directory.
pub(crate) fn refusal<E>(table: Table, operation: Operation, error: &SdkError<E>) -> StoreError
where
    SdkError<E>: ProvideErrorMetadata,
{
    let table = table.0;
    let unreachable = |reason: String| StoreError::Unreachable { operation, table, reason };
    match error {
        SdkError::TimeoutError(_) => unreachable("connecting took too long".into()),
        SdkError::DispatchFailure(failure) => {
            unreachable(failure.as_connector_error().map_or_else(|| "no connection".into(), ToString::to_string))
        }
        SdkError::ServiceError(answer) => service_refusal(table, operation, answer.raw().status().as_u16(), error),
        _ => unreachable("the answer was not understood".into()),
    }
}

fn service_refusal(
    table: &'static str,
    operation: Operation,
    status: u16,
    error: &impl ProvideErrorMetadata,
) -> StoreError {
    let code = error.code().unwrap_or("unknown");
    let throttled = ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"];
    if code == "ResourceNotFoundException" {
        StoreError::MissingTable { operation, table }
    } else if status >= 500 || throttled.contains(&code) {
        StoreError::Busy { operation, table, code: code.into() }
    } else {
        StoreError::Refused { operation, table, code: code.into(), message: error.message().unwrap_or("").into() }
    }
}
