//! The DynamoDB sink, as it will lie in `shardflow-sinks`.

pub mod dynamodb;

pub use dynamodb::{DynamoDb, dynamodb};
