//! A lease table in DynamoDB.
//!
//! Every write is conditional on counter and owner as last seen. Where the condition does not hold the row is read back: if
//! it is what was meant, an earlier attempt did it and its answer was lost.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
    TableStatus,
};
use shardflow::retry::{Clock, Failed};
use shardflow_aws::failure::{Failure, Remedy};

use super::row::{Item, KEY, Lease, Update};
use super::store::{Change, Store, Written};

/// How often to look whether a new table is ready, which takes some seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A table, reached through the SDK.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(super) sdk: aws_sdk_dynamodb::Client,
    pub(super) name: String,
    /// `lease table "usage" at http://…`
    pub(super) description: String,
}

impl Table {
    /// Whether the table is there and ready, and has the right key.
    pub(super) async fn is_ready(&self) -> Result<bool, Failure> {
        let answer = self.sdk.describe_table().table_name(&self.name).send().await;
        let answer = answer.map_err(|error| Failure::of(&error))?;
        let Some(table) = answer.table else { return Ok(false) };
        if !has_lease_key(&table) {
            return Err(final_failure(format!("its key is not the string \"{KEY}\" alone: it is no lease table")));
        }
        match table.table_status {
            Some(TableStatus::Creating) => Ok(false),
            Some(TableStatus::Deleting) => Err(final_failure("it is being deleted".to_owned())),
            // It serves while its settings or its indexes change.
            _ => Ok(true),
        }
    }

    /// Makes the table if there is none, billed by request, and waits until it is ready. The caller bounds the time.
    pub(super) async fn make_ready(&self, clock: &impl Clock) -> Result<(), Failure> {
        loop {
            match self.is_ready().await {
                Ok(true) => return Ok(()),
                Ok(false) => clock.sleep(LOOK_EVERY).await,
                Err(failure) if failure.remedy == Remedy::Missing => {
                    tracing::info!(table = self.description, "there is no lease table of this name: making one");
                    match self.create().await {
                        // Another copy makes it at this moment, or DynamoDB has not finished with one of this name.
                        Err(failure) if failure.remedy != Remedy::Retry(Failed::Transient) => return Err(failure),
                        _ => clock.sleep(LOOK_EVERY).await,
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn create(&self) -> Result<(), Failure> {
        let attribute = AttributeDefinition::builder().attribute_name(KEY).attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash);
        let call = self.sdk.create_table().table_name(&self.name).billing_mode(BillingMode::PayPerRequest);
        let call = call.attribute_definitions(attribute.build().map_err(|error| final_failure(error.to_string()))?);
        let call = call.key_schema(key.build().map_err(|error| final_failure(error.to_string()))?);
        call.send().await.map(drop).map_err(|error| Failure::of(&error))
    }

    /// A row as it is now.
    async fn row(&self, key: &str) -> Result<Option<Lease>, Failure> {
        let call = self.sdk.get_item().table_name(&self.name).key(KEY, AttributeValue::S(key.to_owned()));
        let answer = call.consistent_read(true).send().await.map_err(|error| Failure::of(&error))?;
        Ok(answer.item.as_ref().map(Lease::read).transpose().map_err(final_failure)?.flatten())
    }

    async fn create_row(&self, lease: &Lease) -> Result<(), Failure> {
        let call = self.sdk.put_item().table_name(&self.name).set_item(Some(lease.item()));
        let call = call.condition_expression("attribute_not_exists(#leaseKey)");
        let call = call.expression_attribute_names(format!("#{KEY}"), KEY);
        call.send().await.map(drop).map_err(|error| Failure::of(&error))
    }

    async fn update_row(&self, seen: &Lease, then: &Lease) -> Result<(), Failure> {
        let call = self.sdk.update_item().table_name(&self.name).key(KEY, AttributeValue::S(seen.key.clone()));
        let expressions = Expressions::of(seen.update_to(then));
        let call = call.update_expression(expressions.update).condition_expression(expressions.condition);
        let call = call.set_expression_attribute_names(Some(expressions.names));
        let call = call.set_expression_attribute_values(Some(expressions.values));
        call.send().await.map(drop).map_err(|error| Failure::of(&error))
    }

    async fn delete_row(&self, seen: &Lease) -> Result<(), Failure> {
        let call = self.sdk.delete_item().table_name(&self.name).key(KEY, AttributeValue::S(seen.key.clone()));
        let expressions = Expressions::of(Update { writes: Vec::new(), expects: seen.expects() });
        let call = call.condition_expression(expressions.condition);
        let call = call.set_expression_attribute_names(Some(expressions.names));
        let call = call.set_expression_attribute_values(Some(expressions.values));
        call.send().await.map(drop).map_err(|error| Failure::of(&error))
    }
}

impl Store for Table {
    async fn leases(&self) -> Result<Vec<Lease>, Failure> {
        let (mut leases, mut from) = (Vec::new(), None);
        loop {
            let call = self.sdk.scan().table_name(&self.name).consistent_read(true).set_exclusive_start_key(from);
            let answer = call.send().await.map_err(|error| Failure::of(&error))?;
            for item in answer.items.unwrap_or_default() {
                leases.extend(Lease::read(&item).map_err(final_failure)?);
            }
            from = answer.last_evaluated_key.filter(|key: &Item| !key.is_empty());
            if from.is_none() {
                return Ok(leases);
            }
        }
    }

    async fn write(&self, change: &Change) -> Result<Written, Failure> {
        let (written, key) = match (&change.seen, &change.then) {
            (None, None) => return Ok(Written::Done),
            (None, Some(then)) => (self.create_row(then).await, &then.key),
            (Some(seen), Some(then)) => (self.update_row(seen, then).await, &seen.key),
            (Some(seen), None) => (self.delete_row(seen).await, &seen.key),
        };
        match written {
            Ok(()) => Ok(Written::Done),
            Err(failure) if failure.remedy == Remedy::Conflict => {
                let row = self.row(key).await?;
                if row == change.then {
                    tracing::debug!(key, table = self.description, "a lease was written before; that answer was lost");
                    return Ok(Written::Done);
                }
                Ok(Written::Refused(row.map(Box::new)))
            }
            Err(failure) => Err(failure),
        }
    }

    fn describe(&self) -> &str {
        &self.description
    }
}

fn final_failure(text: String) -> Failure {
    Failure { remedy: Remedy::None, text }
}

fn has_lease_key(table: &TableDescription) -> bool {
    let is_string = |attribute: &&AttributeDefinition| attribute.attribute_type == ScalarAttributeType::S;
    let mut strings = table.attribute_definitions().iter().filter(is_string);
    let [key] = table.key_schema() else { return false };
    key.attribute_name == KEY
        && key.key_type == KeyType::Hash
        && strings.any(|attribute| attribute.attribute_name == KEY)
}

/// A change in DynamoDB's language. Names are given apart, since some are words of it.
struct Expressions {
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: Item,
}

impl Expressions {
    fn of(update: Update) -> Self {
        let (mut names, mut values) = (HashMap::new(), Item::new());
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (name, value) in update.writes {
            names.insert(format!("#{name}"), name.to_owned());
            match value {
                Some(value) => {
                    set.push(format!("#{name} = :new_{name}"));
                    values.insert(format!(":new_{name}"), value);
                }
                None => remove.push(format!("#{name}")),
            }
        }
        let mut conditions = Vec::new();
        for (name, value) in update.expects {
            names.insert(format!("#{name}"), name.to_owned());
            conditions.push(match value {
                Some(value) => {
                    values.insert(format!(":seen_{name}"), value);
                    format!("#{name} = :seen_{name}")
                }
                None => format!("attribute_not_exists(#{name})"),
            });
        }
        let clause =
            |word: &str, parts: Vec<String>| (!parts.is_empty()).then(|| format!("{word} {}", parts.join(", ")));
        let clauses: Vec<String> = [clause("SET", set), clause("REMOVE", remove)].into_iter().flatten().collect();
        Self { update: clauses.join(" "), condition: conditions.join(" AND "), names, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kcl::checkpoint::Checkpoint;

    #[test]
    fn a_change_is_said_in_expressions_with_every_name_apart() {
        let held = Lease::new("a", Checkpoint::TrimHorizon).taken_by("job/1/7");
        let Expressions { update, condition, names, values } = Expressions::of(held.update_to(&held.released()));
        assert_eq!(update, "SET #leaseCounter = :new_leaseCounter REMOVE #leaseOwner");
        assert_eq!(
            condition,
            "#leaseCounter = :seen_leaseCounter AND #leaseOwner = :seen_leaseOwner AND attribute_not_exists(#checkpointOwner)"
        );
        assert_eq!((names.len(), values.len()), (3, 3));
        assert_eq!(names.get("#checkpointOwner").unwrap(), "checkpointOwner");
    }
}
