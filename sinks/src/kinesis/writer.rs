//! One worker's side: records into the producer, and an epoch that waits for all their receipts.

use std::sync::Arc;

use shardflow::sink::{Prepared, Refused, RejectedWriter, SinkContext, SinkWriter, Trouble};
use shardflow::vocabulary::StepName;
use shardflow::{Epoch, Error, Outcome, Result};
use tokio::runtime::Handle;

use super::refused::{text_of, without_data};
use super::{Encoder, KinesisSink};
use crate::producer::metrics::Metrics;
use crate::producer::{NotPut, Producer, Receipt, Record};

/// A producer that ends with the last that needs it: the writer, or an epoch of it that is still waiting. The writer of a job that
/// ends well is dropped before its last epoch has been flushed; one of a job that has failed must not go on writing.
struct Working(Producer);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One worker's writer.
pub(super) struct Writer<T, E> {
    sink: KinesisSink<T, E>,
    step: StepName,
    runtime: Handle,
    producer: Arc<Working>,
    metrics: Metrics,
    /// Of the open epoch.
    receipts: Vec<Receipt>,
    /// Records of the open epoch that have no data.
    refused: Vec<Refused>,
    in_flight: u64,
    rejected: RejectedWriter,
}

impl<T, E> Writer<T, E> {
    pub(super) fn new(
        sink: KinesisSink<T, E>,
        context: &SinkContext,
        producer: Producer,
        metrics: Metrics,
        rejected: RejectedWriter,
    ) -> Self {
        Self {
            sink,
            step: context.step.clone(),
            runtime: context.runtime.clone(),
            producer: Arc::new(Working(producer)),
            metrics,
            receipts: Vec::new(),
            refused: Vec::new(),
            in_flight: 0,
            rejected,
        }
    }

    /// Tells of what could not be written.
    fn could_not(&self, trouble: Trouble) -> Error {
        could_not(self.producer.0.describe(), &self.step, trouble)
    }
}

impl<T: 'static, E: Encoder<T>> SinkWriter<T> for Writer<T, E> {
    fn stage(&mut self, record: &T) -> Result<()> {
        let key = (self.sink.key)(record);
        let hash_key = self.sink.hash_key.as_ref().and_then(|hash_key| hash_key(record));
        let data = match self.sink.encoder.encode(record) {
            Ok(data) => data,
            Err(error) => {
                self.metrics.refused();
                self.refused.push(Refused { error, record: without_data(&key, hash_key.as_deref()) });
                return Ok(());
            }
        };
        let mut record_to_put = Record::new(key, data);
        if let Some(hash_key) = hash_key {
            record_to_put = record_to_put.explicit_hash_key(hash_key);
        }
        // The epoch it belongs to will say so too; this is sooner.
        if let Some(failure) = self.producer.0.failure() {
            return Err(self.could_not(failure.clone()));
        }
        self.in_flight = self.in_flight.saturating_add(record_to_put.bytes() as u64);
        let receipt = match self.producer.0.try_put(record_to_put) {
            Ok(receipt) => receipt,
            Err(full) => self.runtime.block_on(self.producer.0.put(full)),
        };
        self.receipts.push(receipt);
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        self.producer.0.hurry();
        self.in_flight = 0;
        let closing = Closing {
            step: self.step.clone(),
            producer: Arc::clone(&self.producer),
            receipts: std::mem::take(&mut self.receipts),
            refused: std::mem::take(&mut self.refused),
        };
        let (runtime, rejected) = (self.runtime.clone(), self.rejected.clone());
        let flush = move || rejected.settle(&runtime.block_on(closing.refused())?, epoch);
        Ok(Some(Prepared::Flush(Box::new(flush))))
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

/// An epoch that waits for its records.
struct Closing {
    step: StepName,
    producer: Arc<Working>,
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
                    refused.push(Refused { error: told.reason, record: text_of(told.record.data()) });
                }
                Err(NotPut::Failed(trouble)) => return Err(could_not(self.producer.0.describe(), &self.step, trouble)),
            }
        }
        Ok(refused)
    }
}

fn could_not(stream: &str, step: &StepName, trouble: Trouble) -> Error {
    let outcome = trouble.outcome;
    let error = Error::sink(format!("could not write to {stream}")).caused_by(trouble).in_step(step.as_str());
    if outcome == Outcome::Indeterminate { error.indeterminate() } else { error }
}
