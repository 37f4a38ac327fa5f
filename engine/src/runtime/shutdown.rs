//! How a job is told to stop.
//!
//! The first SIGINT or SIGTERM asks: the sources stop reading, a last epoch commits, the program exits 0 and can be
//! resumed. The second one insists: the process exits at once, with 130 or 143 as a shell would report. Whatever is not
//! committed by then is read again at the next start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// The request to stop, shared between those who ask and those who look.
///
/// # Examples
/// ```
/// use shardflow::runtime::Shutdown;
/// let shutdown = Shutdown::manual();
/// let seen_by_worker = shutdown.clone();
/// shutdown.request();
/// assert!(seen_by_worker.requested());
/// ```
#[derive(Debug, Clone)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
}

impl Shutdown {
    /// A request that only [`Shutdown::request`] makes: for tests, and for programs that handle signals themselves.
    #[must_use]
    pub fn manual() -> Self {
        Self { requested: Arc::default() }
    }

    /// The request that SIGINT and SIGTERM make. There is one a process: calling this again gives the same.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) where the system refuses the handlers.
    pub fn on_signals() -> Result<Self> {
        static INSTALLED: Mutex<Option<Shutdown>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shutdown) = installed.as_ref() {
            return Ok(shutdown.clone());
        }
        let shutdown = Self::manual();
        shutdown
            .install()
            .map_err(|error| Error::internal("could not install the signal handlers").caused_by(error))?;
        Ok(installed.insert(shutdown).clone())
    }

    fn install(&self) -> std::io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            // This order makes the second signal the one that exits: the first finds the flag unset and then sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.requested))?;
            flag::register(signal, Arc::clone(&self.requested))?;
        }
        Ok(())
    }

    /// Asks the job to stop, as the first signal does. A signal that follows exits at once.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Whether the job has been asked to stop. Cheap: the worker loop asks every round.
    #[inline]
    #[must_use]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use signal_hook::low_level::raise;

    use super::*;

    // Signals concern the whole process, so these tests start themselves again and send them to the child only.
    fn child(test: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", &format!("runtime::shutdown::tests::{test}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn the_first_signal_asks_and_the_program_ends_by_itself() {
        let output = child("one_signal_then_end").wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("asked"));
    }

    #[test]
    fn the_second_signal_exits_at_once_with_its_own_code() {
        assert_eq!(child("interrupted_twice").wait_with_output().unwrap().status.code(), Some(130));
        assert_eq!(child("interrupted_then_terminated").wait_with_output().unwrap().status.code(), Some(143));
    }

    #[test]
    fn installing_twice_gives_the_same_request() {
        assert!(child("installed_twice").wait_with_output().unwrap().status.success());
    }

    #[test]
    #[ignore = "run by the_first_signal_asks_and_the_program_ends_by_itself"]
    fn one_signal_then_end() {
        let shutdown = Shutdown::on_signals().unwrap();
        assert!(!shutdown.requested());
        raise(SIGTERM).unwrap();
        assert!(shutdown.requested());
        println!("asked");
    }

    #[test]
    #[ignore = "run by the_second_signal_exits_at_once_with_its_own_code"]
    fn interrupted_twice() {
        let _shutdown = Shutdown::on_signals().unwrap();
        raise(SIGINT).unwrap();
        raise(SIGINT).unwrap();
    }

    #[test]
    #[ignore = "run by the_second_signal_exits_at_once_with_its_own_code"]
    fn interrupted_then_terminated() {
        let _shutdown = Shutdown::on_signals().unwrap();
        raise(SIGINT).unwrap();
        raise(SIGTERM).unwrap();
    }

    #[test]
    #[ignore = "run by installing_twice_gives_the_same_request"]
    fn installed_twice() {
        let first = Shutdown::on_signals().unwrap();
        let second = Shutdown::on_signals().unwrap();
        raise(SIGINT).unwrap();
        assert!(first.requested() && second.requested());
    }
}
