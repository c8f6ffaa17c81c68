//! Creates what [`tables`](crate::tables) describes, where it is missing.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{
        AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate,
        KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
        TimeToLiveSpecification, TimeToLiveStatus,
    },
};

use crate::{
    error::StoreError,
    store::refusal,
    tables::{EXPIRES_AT, PK, SK, Table, WRITES, WRITTEN_AT, WRITTEN_REGION},
};

/// How long a new table may take to become active. DynamoDB needs some seconds.
const CREATION_DEADLINE: Duration = Duration::from_mins(1);
/// How often a table that is being created is looked at.
const CREATION_POLL: Duration = Duration::from_millis(200);

/// Makes sure that `table` is there, active, and forgets what has expired.
pub(crate) async fn ensure_table(client: &Client, table: Table) -> Result<(), StoreError> {
    if describe(client, table).await?.is_none() {
        create(client, table).await?;
    }
    let active = tokio::time::timeout(CREATION_DEADLINE, wait_until_active(client, table)).await;
    let operation = "CreateTable";
    active.unwrap_or(Err(StoreError::TimedOut { operation, table: table.0, after: CREATION_DEADLINE }))?;
    ensure_time_to_live(client, table).await
}

/// Makes sure that `table` has the index of writes by region and time, which the embedded store's replicator reads.
pub(crate) async fn ensure_writes_index(client: &Client, table: Table) -> Result<(), StoreError> {
    let description = describe(client, table).await?;
    let indexes = description.as_ref().map(TableDescription::global_secondary_indexes).unwrap_or_default();
    if indexes.iter().any(|index| index.index_name() == Some(WRITES)) {
        return Ok(());
    }
    let built = "the attributes are set";
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name(WRITES)
        .key_schema(key(WRITTEN_REGION, KeyType::Hash))
        .key_schema(key(WRITTEN_AT, KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::All).build())
        .build()
        .expect(built);
    let update = client
        .update_table()
        .table_name(table.0)
        .attribute_definitions(attribute(PK, ScalarAttributeType::S))
        .attribute_definitions(attribute(SK, ScalarAttributeType::S))
        .attribute_definitions(attribute(WRITTEN_REGION, ScalarAttributeType::S))
        .attribute_definitions(attribute(WRITTEN_AT, ScalarAttributeType::N))
        .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(index).build());
    update.send().await.map(drop).map_err(|error| refusal(table, "UpdateTable", &error))
}

async fn describe(client: &Client, table: Table) -> Result<Option<TableDescription>, StoreError> {
    match client.describe_table().table_name(table.0).send().await {
        Ok(answer) => Ok(answer.table),
        Err(error) if code_is(&error, "ResourceNotFoundException") => Ok(None),
        Err(error) => Err(refusal(table, "DescribeTable", &error)),
    }
}

async fn create(client: &Client, table: Table) -> Result<(), StoreError> {
    let request = client
        .create_table()
        .table_name(table.0)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute(PK, ScalarAttributeType::S))
        .attribute_definitions(attribute(SK, ScalarAttributeType::S))
        .key_schema(key(PK, KeyType::Hash))
        .key_schema(key(SK, KeyType::Range));
    match request.send().await {
        Ok(_) => Ok(()),
        // Another process of the PoP was quicker.
        Err(error) if code_is(&error, "ResourceInUseException") => Ok(()),
        Err(error) => Err(refusal(table, "CreateTable", &error)),
    }
}

async fn wait_until_active(client: &Client, table: Table) -> Result<(), StoreError> {
    loop {
        let status = describe(client, table).await?.and_then(|description| description.table_status);
        if matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
            return Ok(());
        }
        tokio::time::sleep(CREATION_POLL).await;
    }
}

async fn ensure_time_to_live(client: &Client, table: Table) -> Result<(), StoreError> {
    let described = client.describe_time_to_live().table_name(table.0).send().await;
    let described = described.map_err(|error| refusal(table, "DescribeTimeToLive", &error))?;
    let status = described.time_to_live_description.and_then(|description| description.time_to_live_status);
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let by_expiry = TimeToLiveSpecification::builder().attribute_name(EXPIRES_AT).enabled(true).build();
    let request = client.update_time_to_live().table_name(table.0);
    let request = request.time_to_live_specification(by_expiry.expect("both attributes are set"));
    match request.send().await {
        Ok(_) => Ok(()),
        // "TimeToLive is already enabled": another process was quicker.
        Err(error) if code_is(&error, "ValidationException") => Ok(()),
        Err(error) => Err(refusal(table, "UpdateTimeToLive", &error)),
    }
}

fn code_is<E>(error: &SdkError<E>, code: &str) -> bool
where
    SdkError<E>: ProvideErrorMetadata,
{
    error.code() == Some(code)
}

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    let built = AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
    built.expect("both attributes are set")
}

fn key(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("both attributes are set")
}
