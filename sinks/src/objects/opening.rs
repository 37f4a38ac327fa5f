//! What a sink opens: its parts with what the settings and the job say.

use std::collections::BTreeMap;
use std::sync::Arc;

use shardflow::sink::{Committer, Sink, SinkContext, SinkWriter};
use shardflow::{Error, Record, Result};
use tokio::sync::Semaphore;

use super::bucket::Bucket;
use super::committer::ObjectCommitter;
use super::keys::Keys;
use super::metrics::ShippingMetrics;
use super::names::LOCK;
use super::packer::Packer;
use super::sets::Sets;
use super::settings::Settings;
use super::shipper::{Shipper, Shipping};
use super::sink::ObjectSink;
use super::spool::Collect;
use super::spool::lines::Lines;
use super::spool::records::Records;
use super::upload::Uploads;
use super::windows::{Span, Windows};
use super::writer::Spooler;
use super::{shape, start};
use crate::encode::FileFormat;
use crate::folder::Folder;
use crate::partition::TimeOf;

impl<T: Record, F: FileFormat<T>> ObjectSink<T, F> {
    /// # Errors
    /// Windows without a time or a length.
    fn windows(&self) -> Result<Option<(TimeOf<T>, Span)>> {
        let Some((span, lateness)) = self.settings.roll_window else { return Ok(None) };
        let time = self.time.clone().ok_or_else(|| {
            Error::config("roll_window needs the event time of records: say with `event_time` where it is")
        })?;
        Ok(Some((time, Span::new(span, lateness)?)))
    }

    /// How a worker spools: as lines, where a spool file is going to be one object of nothing else.
    fn collected(&self, has_windows: bool) -> Box<dyn Collect<T>> {
        let is_whole = !self.is_partitioned && !has_windows && self.archive.is_none();
        let lines = self.format.plain().filter(|_| is_whole);
        match lines.and_then(|append| Lines::new(append, &self.format.ending())) {
            Some(lines) => Box::new(lines),
            None => Box::new(Records::new(shape::of::<T>())),
        }
    }

    fn open(&self, context: &SinkContext) -> Result<ObjectCommitter> {
        let Settings { give_up_after, concurrency, part_bytes, absent, rejected, roll_after, .. } = self.settings;
        self.settings.check()?;
        drop(self.format.encoder()?);
        let partitions = self.is_partitioned.then(|| self.partitions.build()).transpose()?;
        let windows = self.windows()?;
        let folder = Folder::at(context.folder.clone());
        folder.create()?;
        let lock = folder.lock(LOCK)?;
        let opened = context.runtime.block_on(self.target.open(part_bytes))?;
        let stream = self.archive.as_ref().map(|archive| archive.stream.clone());
        let keys = Keys::new(opened.prefix, &context.job, &context.step).archiving(stream);
        keys.check()?;
        let mut bucket = Bucket {
            store: opened.store,
            multipart: opened.multipart,
            completes_where_absent: false,
            place: opened.place,
            refuses: false,
            describes: false,
            give_up_after,
            permits: Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS))),
        };
        context.runtime.block_on(start::probe(&mut bucket, &keys, absent, opened.absent))?;
        let packer = Packer {
            folder: folder.clone(),
            sets: Sets {
                keys: keys.clone(),
                place: bucket.place.clone(),
                job: context.job.clone(),
                step: context.step.to_string(),
            },
            format: self.format.clone(),
            partitions,
            windows,
            archive: self.archive.clone(),
            rejected,
            most_held: self.settings.encoding_bytes,
            shape: shape::of::<T>(),
        };
        let shipper = Shipper::start(Shipping {
            folder: folder.clone(),
            step: context.step.clone(),
            packing: Box::new(packer),
            uploads: Uploads { bucket: bucket.clone(), part_bytes, concurrency },
            runtime: context.runtime.clone(),
            metrics: ShippingMetrics::register(context.step.as_str()),
        })?;
        Ok(ObjectCommitter {
            shipper,
            folder,
            step: context.step.to_string(),
            incarnation: context.incarnation.number(),
            committed: context.committed,
            unshipped_bytes: if roll_after.is_zero() { 0 } else { self.settings.unshipped_bytes.max(1) },
            bucket,
            keys,
            leftovers: opened.leftovers,
            runtime: context.runtime.clone(),
            held: BTreeMap::new(),
            mark: None,
            _lock: lock,
        })
    }
}

impl<T: Record, F: FileFormat<T>> Sink<T> for ObjectSink<T, F> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let committer = self.open(context).map_err(|error| error.in_step(context.step.as_str()))?;
        Ok(Box::new(committer))
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let number = u32::try_from(worker)
            .map_err(|cause| Error::config(format!("worker {worker} is too many")).caused_by(cause))?;
        let (folder, step) = (Folder::at(context.folder.clone()), context.step.as_str());
        let windows = self.windows().map_err(|error| error.in_step(step))?;
        let (collected, settings) = (self.collected(windows.is_some()), self.settings.clone());
        let windows = windows.map(|(time, span)| (time, Windows::new(span)));
        Ok(Box::new(Spooler::new(folder, step, context.incarnation.number(), number, collected, settings, windows)))
    }

    fn describe(&self) -> String {
        format!("objects in {}", self.target)
    }
}
