//! One worker's side: records into the producer, and an epoch that waits for all their receipts.

use std::sync::{Arc, Mutex, PoisonError};

use shardflow::sink::{Prepared, Refused, SinkContext, SinkWriter, Trouble};
use shardflow::vocabulary::StepName;
use shardflow::{Epoch, Error, Outcome, Result};
use tokio::runtime::Handle;

use super::{Encoder, KinesisSink};
use crate::producer::metrics::Metrics;
use crate::producer::{NotPut, Producer, Receipt, Record};

/// The rejected output, which is staged on the commit thread: only when all receipts are there is it known what belongs in it.
type Rejected = Arc<Mutex<Box<dyn SinkWriter<Refused>>>>;

/// One worker's writer.
pub(super) struct Writer<T, E> {
    sink: KinesisSink<T, E>,
    step: StepName,
    runtime: Handle,
    producer: Producer,
    metrics: Metrics,
    /// Of the open epoch.
    receipts: Vec<Receipt>,
    /// Records of the open epoch that have no data.
    refused: Vec<Refused>,
    in_flight: u64,
    rejected: Option<Rejected>,
}

impl<T, E> Writer<T, E> {
    pub(super) fn new(
        sink: KinesisSink<T, E>,
        context: &SinkContext,
        producer: Producer,
        metrics: Metrics,
        rejected: Option<Box<dyn SinkWriter<Refused>>>,
    ) -> Self {
        Self {
            sink,
            step: context.step.clone(),
            runtime: context.runtime.clone(),
            producer,
            metrics,
            receipts: Vec::new(),
            refused: Vec::new(),
            in_flight: 0,
            rejected: rejected.map(|writer| Arc::new(Mutex::new(writer))),
        }
    }

    /// Tells of what could not be written.
    fn could_not(&self, trouble: Trouble) -> Error {
        could_not(self.producer.describe(), &self.step, trouble)
    }
}

impl<T, E> Drop for Writer<T, E> {
    /// A job that has failed must not go on writing; one that has ended well has nothing under way.
    fn drop(&mut self) {
        self.producer.abort();
    }
}

impl<T: 'static, E: Encoder<T>> SinkWriter<T> for Writer<T, E> {
    fn stage(&mut self, record: &T) -> Result<()> {
        let key = (self.sink.key)(record);
        let data = match self.sink.encoder.encode(record) {
            Ok(data) => data,
            Err(error) => {
                self.metrics.refused();
                self.refused.push(Refused { error, record: format!("(partition key \"{key}\", without data)") });
                return Ok(());
            }
        };
        let mut record_to_put = Record::new(key, data);
        if let Some(hash_key) = self.sink.hash_key.as_ref().and_then(|hash_key| hash_key(record)) {
            record_to_put = record_to_put.explicit_hash_key(hash_key);
        }
        // The epoch it belongs to will say so too; this is sooner.
        if let Some(failure) = self.producer.failure() {
            return Err(self.could_not(failure.clone()));
        }
        self.in_flight = self.in_flight.saturating_add(record_to_put.bytes() as u64);
        let receipt = match self.producer.try_put(record_to_put) {
            Ok(receipt) => receipt,
            Err(full) => self.runtime.block_on(self.producer.put(full)),
        };
        self.receipts.push(receipt);
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        self.producer.hurry();
        self.in_flight = 0;
        let closing = Closing {
            step: self.step.clone(),
            stream: self.producer.describe().to_owned(),
            receipts: std::mem::take(&mut self.receipts),
            refused: std::mem::take(&mut self.refused),
        };
        let (runtime, rejected) = (self.runtime.clone(), self.rejected.clone());
        let flush = move || {
            let (step, refused) = (closing.step.clone(), runtime.block_on(closing.refused())?);
            match rejected {
                Some(rejected) => stage(&rejected, &refused, epoch),
                None => refused.first().map_or(Ok(None), |refused| Err(stopped_by(&step, refused))),
            }
        };
        Ok(Some(Prepared::Flush(Box::new(flush))))
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

/// An epoch that waits for its records.
struct Closing {
    step: StepName,
    stream: String,
    receipts: Vec<Receipt>,
    refused: Vec<Refused>,
}

impl Closing {
    /// Waits until every record is in the stream or refused; gives the refused.
    async fn refused(self) -> Result<Vec<Refused>> {
        let mut refused = self.refused;
        for receipt in self.receipts {
            match receipt.await {
                Ok(_) => {}
                Err(NotPut::Refused(told)) => {
                    let record = String::from_utf8_lossy(told.record.data()).into_owned();
                    refused.push(Refused { error: told.reason, record });
                }
                Err(NotPut::Failed(trouble)) => return Err(could_not(&self.stream, &self.step, trouble)),
            }
        }
        Ok(refused)
    }
}

/// Stages what is refused in the rejected output.
fn stage(rejected: &Rejected, refused: &[Refused], epoch: Epoch) -> Result<Option<Vec<u8>>> {
    let mut rejected = rejected.lock().unwrap_or_else(PoisonError::into_inner);
    refused.iter().try_for_each(|refused| rejected.stage(refused))?;
    match rejected.prepare(epoch)? {
        None => Ok(None),
        Some(Prepared::Staged(handle)) => Ok(Some(handle)),
        Some(Prepared::Flush(flush)) => flush(),
    }
}

fn could_not(stream: &str, step: &StepName, trouble: Trouble) -> Error {
    let outcome = trouble.outcome;
    let error = Error::sink(format!("could not write to {stream}")).caused_by(trouble).in_step(step.as_str());
    if outcome == Outcome::Indeterminate { error.indeterminate() } else { error }
}

fn stopped_by(step: &StepName, Refused { error, record }: &Refused) -> Error {
    Error::sink(format!(
        "could not write a record, which is refused: {error}; give the sink a rejected output for such records (rejected_to); it \
         is {}",
        shortened(record)
    ))
    .in_step(step.as_str())
}

/// A record in an error: its beginning.
fn shortened(record: &str) -> String {
    const MOST: usize = 200;
    match record.char_indices().nth(MOST) {
        None => format!("{record:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", record.get(..end).unwrap_or_default(), record.len()),
    }
}
