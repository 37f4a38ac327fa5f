//! Guarded writes: PutItem with a condition, which holds where the table has no item, or one of an earlier version or none.

use std::sync::{Mutex, PoisonError};

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use futures::StreamExt;
use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow::sink::{EntryOutcome, Trouble};
use shardflow::source::BoxFuture;

use super::trouble::{Met, is_throttle};
use super::version::{ItemVersion, Stored};
use super::writer::{Guard, ItemEntry, ItemWriter};

impl<T: 'static> ItemWriter<T> {
    /// Writes items, each of another key, several at a time. Gives what became of each.
    pub(super) async fn write_guarded(&self, guard: &Guard<T>, entries: &[&ItemEntry]) -> Vec<EntryOutcome> {
        let stopped: Mutex<Option<Trouble>> = Mutex::new(None);
        let write = |entry| -> BoxFuture<'_, EntryOutcome> { Box::pin(self.unless_stopped(&stopped, guard, entry)) };
        let writes: Vec<_> = entries.iter().map(|entry| write(*entry)).collect();
        futures::stream::iter(writes).buffered(guard.calls).collect().await
    }

    /// A service that does not answer is not asked for each item of a batch, one after the other.
    async fn unless_stopped(
        &self,
        stopped: &Mutex<Option<Trouble>>,
        guard: &Guard<T>,
        entry: &ItemEntry,
    ) -> EntryOutcome {
        // Nothing that could panic runs under it.
        let why = stopped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(why) = why {
            return EntryOutcome::Failed(why);
        }
        let outcome = self.put_guarded(guard, entry).await;
        if let EntryOutcome::Failed(trouble) = &outcome
            && !is_throttle(trouble)
        {
            let unsent = Trouble { outcome: Outcome::Determinate, ..trouble.clone() };
            stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(unsent);
        }
        outcome
    }

    async fn put_guarded(&self, guard: &Guard<T>, entry: &ItemEntry) -> EntryOutcome {
        let Some(version) = &entry.version else { return bug("a guarded item has no version") };
        let taken = self.at_pace(entry.units).await;
        let call = self.table.sdk.put_item().table_name(&self.table.name).set_item(Some(entry.item.clone()));
        let call = call.condition_expression("attribute_not_exists(#version) OR #version < :version");
        let call = call.expression_attribute_names("#version", &guard.attribute);
        let call = call.expression_attribute_values(":version", version.stored());
        let call = call.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = call.send().await else {
            self.wrote(entry.units);
            return EntryOutcome::Written;
        };
        if let Some(PutItemError::ConditionalCheckFailedException(failed)) = error.as_service_error() {
            // A condition that does not hold costs as much as a write.
            self.wrote(entry.units);
            let stored = failed.item().map(|item| item.get(&guard.attribute).cloned());
            return match stored {
                Some(stored) => self.judged(version, stored),
                None => self.looked_up(guard, entry, version).await,
            };
        }
        let met = Met::of(&error);
        if met.is_free() {
            self.unused(taken, 1.0);
        }
        self.failed(met)
    }

    fn failed(&self, met: Met) -> EntryOutcome {
        match met {
            Met::Invalid(why) => EntryOutcome::Refused(why),
            Met::Trouble(trouble) => {
                if is_throttle(&trouble) {
                    self.slow_down();
                }
                EntryOutcome::Failed(trouble)
            }
        }
    }

    /// A service that does not give the item that the condition did not hold for is asked for it.
    async fn looked_up(&self, guard: &Guard<T>, entry: &ItemEntry, version: &ItemVersion) -> EntryOutcome {
        let key = self.table.schema.key_of(&entry.item);
        let call = self.table.sdk.get_item().table_name(&self.table.name).set_key(Some(key)).consistent_read(true);
        let call = call.projection_expression("#version").expression_attribute_names("#version", &guard.attribute);
        match call.send().await {
            Ok(answer) => self.judged(version, answer.item.and_then(|mut item| item.remove(&guard.attribute))),
            Err(error) => self.failed(Met::of(&error)),
        }
    }

    /// The condition did not hold, and this is the version that the table has.
    fn judged(&self, version: &ItemVersion, stored: Option<AttributeValue>) -> EntryOutcome {
        let Some(stored) = stored else { return changed("it is gone by now") };
        match version.against(&stored) {
            Stored::Same => EntryOutcome::Written,
            Stored::Later => {
                self.metrics.superseded.increment(1);
                EntryOutcome::Written
            }
            Stored::Earlier => changed("it is an earlier one by now"),
            Stored::OfAnotherKind => EntryOutcome::Refused(format!(
                "the table has the item with a version of another kind than this record's, {version}: they do not compare"
            )),
        }
    }
}

/// Somebody else has changed the item between the write and the look at it.
fn changed(how: &str) -> EntryOutcome {
    let text = format!("the table had a later state of an item, and {how}: trying again");
    EntryOutcome::Failed(Trouble { may_pass: Some(Failed::Transient), outcome: Outcome::Determinate, text })
}

fn bug(what: &str) -> EntryOutcome {
    EntryOutcome::Failed(Trouble { may_pass: None, outcome: Outcome::Determinate, text: what.to_owned() })
}
