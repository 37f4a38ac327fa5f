//! Ships sealed spool files beside the commits: packs them, uploads the packs, removes what is shipped.
//!
//! A few threads of its own, since packing computes and blocks; uploads run on the runtime. They end with this value, at the
//! next block or call: what was under way is shipped again by the next start.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use fail::fail_point;
use shardflow::metrics::DeliveryMetrics;
use shardflow::vocabulary::StepName;
use shardflow::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::metrics::ShippingMetrics;
use super::names::{Extent, FileId, Named};
use super::pack::Pack;
use super::packer::Packing;
use super::upload::Uploads;
use crate::folder::Folder;

/// Spool files that are shipped at a time: while one is uploaded another is packed.
const THREADS: usize = 2;

/// Spool files that may wait, however small they are.
const MOST_WAITING: usize = 64;

/// A spool file that is to be shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) id: FileId,
    pub(super) extent: Extent,
    /// Whether an earlier start has packed it.
    pub(super) packed: bool,
}

/// What shipping needs.
pub(super) struct Shipping {
    pub(super) folder: Folder,
    pub(super) step: StepName,
    pub(super) packing: Box<dyn Packing>,
    pub(super) uploads: Uploads,
    pub(super) runtime: Handle,
    pub(super) metrics: ShippingMetrics,
}

/// Ships what it is given.
pub(super) struct Shipper {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Ends what is on its way.
    ending: watch::Sender<bool>,
}

struct Shared {
    shipping: Shipping,
    stop: AtomicBool,
    state: Mutex<State>,
    /// Told of every change of the state.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    /// Spool files that were given and are not shipped, and their bytes.
    unshipped: usize,
    unshipped_bytes: u64,
    failed: bool,
    failure: Option<Error>,
}

impl State {
    /// # Errors
    /// The failure; once it was given, that there was one.
    fn check(&mut self) -> Result<()> {
        if !self.failed {
            return Ok(());
        }
        Err(self.failure.take().unwrap_or_else(|| Error::sink("could not ship: it has failed before")))
    }
}

impl Shipper {
    pub(super) fn start(shipping: Shipping) -> Result<Self> {
        let (state, changed, stop) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        let mut shipper = Self {
            shared: Arc::new(Shared { shipping, stop, state, changed }),
            threads: Vec::new(),
            ending: watch::Sender::new(false),
        };
        for _ in 0..THREADS {
            let (shared, ending) = (Arc::clone(&shipper.shared), shipper.ending.subscribe());
            let thread = std::thread::Builder::new().name("ship-objects".to_owned());
            let thread = thread.spawn(move || shared.run(&ending));
            shipper.threads.push(thread.map_err(|cause| Error::sink("could not start a thread").caused_by(cause))?);
        }
        Ok(shipper)
    }

    /// Takes a spool file. It waits for nothing.
    pub(super) fn ship(&self, work: Work) {
        let mut state = self.shared.state();
        state.unshipped = state.unshipped.saturating_add(1);
        state.unshipped_bytes = state.unshipped_bytes.saturating_add(work.extent.length);
        state.waiting.push_back(work);
        self.shared.shipping.metrics.unshipped.set(state.unshipped_bytes as f64);
        self.shared.changed.notify_all();
    }

    /// Whether all is well. Waits for nothing.
    ///
    /// # Errors
    /// Shipping has failed.
    pub(super) fn check(&self) -> Result<()> {
        self.shared.state().check()
    }

    /// Waits until no more than so many bytes, and few enough files, are unshipped.
    ///
    /// # Errors
    /// Shipping has failed.
    pub(super) fn wait(&self, most_bytes: u64) -> Result<()> {
        let most = if most_bytes == 0 { 0 } else { MOST_WAITING };
        let mut state = self.shared.state();
        loop {
            state.check()?;
            if state.unshipped <= most && state.unshipped_bytes <= most_bytes {
                return Ok(());
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.ending.send_replace(true);
        // Under the lock: a thread that is about to wait would miss it otherwise.
        let state = self.shared.state();
        self.shared.changed.notify_all();
        drop(state);
        for thread in self.threads.drain(..) {
            // What it panicked with is in the state.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, ending: &watch::Receiver<bool>) {
        let mut deliveries = HashMap::new();
        while let Some(work) = self.next() {
            let delivery = deliveries.entry(work.id.worker);
            let delivery =
                delivery.or_insert_with(|| DeliveryMetrics::register(&self.shipping.step, work.id.worker as usize));
            let shipped =
                catch_unwind(AssertUnwindSafe(|| self.shipping.ship(work, &self.stop, ending.clone(), delivery)));
            let shipped = shipped.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            let mut state = self.state();
            match shipped {
                Ok(()) => {
                    state.unshipped = state.unshipped.saturating_sub(1);
                    state.unshipped_bytes = state.unshipped_bytes.saturating_sub(work.extent.length);
                    self.shipping.metrics.unshipped.set(state.unshipped_bytes as f64);
                }
                Err(error) => {
                    self.tell(work, &error);
                    state.failed = true;
                    state.failure.get_or_insert(error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// At once: the job learns of it with the next epoch that closes. Not where the job ends, which is no failure.
    fn tell(&self, work: Work, error: &Error) {
        if !self.stop.load(Ordering::Relaxed) {
            let (step, file) = (self.shipping.step.as_str(), Named::Sealed(work.id, work.extent).render());
            tracing::error!(step, file, %error, "could not ship committed records: the next start ships them");
        }
    }

    /// The next file; `None` once it is over.
    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if self.stop.load(Ordering::Relaxed) || state.failed {
                return None;
            }
            if let Some(work) = state.waiting.pop_front() {
                return Some(work);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A closure of the user's, or a format, panicked.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Error::new(shardflow::ErrorKind::User, format!("could not ship committed records: a panic: {text}"))
}

impl Shipping {
    fn ship(
        &self,
        Work { id, extent, packed }: Work,
        stop: &AtomicBool,
        mut ending: watch::Receiver<bool>,
        delivery: &DeliveryMetrics,
    ) -> Result<()> {
        let begun = Instant::now();
        if !packed {
            self.packing.pack(id, extent, stop)?;
        }
        let name = Named::Pack(id, extent).render();
        let pack = Pack::open(&self.folder, name.clone())?;
        let place = &self.uploads.bucket.place;
        if packed {
            pack.verify()?;
        }
        if pack.index.place != *place {
            return Err(Error::config(format!(
                "could not ship \"{}\": it belongs to \"{}\", where part of it may be already, and this program writes to \
                 \"{place}\"; start once with the former",
                self.folder.path_of(&name).display(),
                pack.index.place,
            )));
        }
        fail_point!("sink-objects::before-upload", |_| Err(Error::sink("stopped before uploading")));
        let upload = self.uploads.upload(Arc::new(pack), delivery, &self.metrics);
        self.runtime.block_on(async {
            tokio::select! {
                done = upload => done,
                _ = ending.wait_for(|is_over| *is_over) => Err(Error::sink("could not upload: the job ends").indeterminate()),
            }
        })?;
        fail_point!("sink-objects::after-manifest", |_| Err(Error::sink("stopped after the manifest")));
        self.folder.remove(&name)?;
        self.metrics.seconds.record(begun.elapsed().as_secs_f64());
        fail_point!("sink-objects::after-remove", |_| Err(Error::sink("stopped after removing")));
        Ok(())
    }
}
