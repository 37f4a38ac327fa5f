//! Writes in batches: BatchWriteItem, which takes up to 25 items and may leave some of them to be sent again.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{DeleteRequest, PutRequest, WriteRequest};
use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow::sink::{EntryOutcome, Trouble};

use super::pace::Taken;
use super::schema::Key;
use super::search::{Answer, Search};
use super::trouble::{Met, is_throttle};
use super::writer::{ItemEntry, ItemWriter};

impl<T> ItemWriter<T> {
    /// Writes items, each of another key. Gives what became of each.
    pub(super) async fn write_batch(&self, entries: &[&ItemEntry]) -> Vec<EntryOutcome> {
        let mut search = Search::new(entries.len());
        while let Some(part) = search.next() {
            let sent = entries.get(part.clone()).unwrap_or_default();
            if sent.len() < entries.len() {
                self.metrics.searches.increment(1);
            }
            let answer = self.write_part(sent, part.start).await;
            search.answered(part, answer);
        }
        search.outcomes()
    }

    /// One call. `start` is the place of its first item in the batch.
    async fn write_part(&self, entries: &[&ItemEntry], start: usize) -> Answer {
        let requests = match entries.iter().map(|entry| request(entry)).collect::<Result<Vec<_>, BuildError>>() {
            Ok(requests) => requests,
            Err(error) => {
                let text = format!("could not build a request: {error}");
                return Answer::Failed(Trouble { may_pass: None, outcome: Outcome::Determinate, text });
            }
        };
        let units = entries.iter().map(|entry| entry.units).sum();
        let taken = self.at_pace(units).await;
        let call = self.table.sdk.batch_write_item().request_items(&self.table.name, requests);
        match call.send().await {
            Ok(answer) => {
                let left = answer.unprocessed_items.unwrap_or_default();
                self.answered(entries, start, left.values().flatten(), taken)
            }
            Err(error) => {
                let met = Met::of(&error);
                if met.is_free() {
                    self.unused(taken, 1.0);
                }
                match met {
                    Met::Invalid(why) => Answer::Invalid(why),
                    Met::Trouble(trouble) => {
                        if is_throttle(&trouble) {
                            self.slow_down();
                        }
                        Answer::Failed(trouble)
                    }
                }
            }
        }
    }

    /// The call was taken, but for these requests.
    fn answered<'a>(
        &self,
        entries: &[&ItemEntry],
        start: usize,
        left: impl Iterator<Item = &'a WriteRequest>,
        taken: Taken,
    ) -> Answer {
        let places: HashMap<&Key, usize> = entries.iter().map(|entry| &entry.key).zip(start..).collect();
        let key_of = |request: &WriteRequest| {
            let item = request.put_request().map(PutRequest::item);
            let item = item.or_else(|| request.delete_request().map(DeleteRequest::key))?;
            self.table.schema.key(item).ok()
        };
        let Some(but) = left.map(|request| places.get(&key_of(request)?).copied()).collect::<Option<Vec<usize>>>()
        else {
            let text = "the service put off an item that was not sent".to_owned();
            return Answer::Failed(Trouble {
                may_pass: Some(Failed::Transient),
                outcome: Outcome::Indeterminate,
                text,
            });
        };
        let is_written = |(place, _): &(usize, &&ItemEntry)| !but.contains(place);
        let units: u64 = entries.iter().map(|entry| entry.units).sum();
        let written: u64 = (start..).zip(entries).filter(is_written).map(|(_, entry)| entry.units).sum();
        self.wrote(written);
        if !but.is_empty() {
            self.unused(taken, 1.0 - written as f64 / units.max(1) as f64);
            self.slow_down();
        }
        Answer::Taken { but }
    }
}

fn request(entry: &ItemEntry) -> Result<WriteRequest, BuildError> {
    let (request, item) = (WriteRequest::builder(), Some(entry.item.clone()));
    Ok(if entry.is_delete {
        request.delete_request(DeleteRequest::builder().set_key(item).build()?).build()
    } else {
        request.put_request(PutRequest::builder().set_item(item).build()?).build()
    })
}
