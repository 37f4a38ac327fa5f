//! Named points at which a test kills the process or holds it up: compiled in with the feature `failpoints` only.
//!
//! The environment says what happens where: `FAILPOINTS=commit::after-durable=kill(3);store::mid-fold=stall(1)`.
//!
//! * `kill(N)`: the process gets SIGKILL when it comes to the point for the `N`-th time. Nothing is unwound or flushed.
//! * `stall(N)`: says so on stderr at the `N`-th time, and goes no further.
//! * `wait(PATH)`: says so on stderr, and goes on when there is something at the path.
//! * All else is what the crate `fail` understands, such as `return`.

use std::env;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGKILL;
use signal_hook::low_level::raise;

use crate::error::{Error, Result};

const VARIABLE: &str = "FAILPOINTS";

/// Sets up what the environment asks for, once a process.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where it cannot be understood.
pub(super) fn arm() -> Result<()> {
    static ARMED: Mutex<bool> = Mutex::new(false);
    let mut armed = ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !*armed {
        let points = env::var(VARIABLE).unwrap_or_default();
        points.split(';').filter(|point| !point.trim().is_empty()).try_for_each(set)?;
        *armed = true;
    }
    Ok(())
}

fn set(text: &str) -> Result<()> {
    let unknown = |why: String| Error::config(format!("could not read {VARIABLE} \"{text}\"")).caused_by(why);
    let (point, action) = text.split_once('=').ok_or_else(|| unknown("no \"=\"".to_owned()))?;
    let done = if let Some(strike) = counted(action, "kill(") {
        at(point, strike, || {
            let _ = raise(SIGKILL);
        })
    } else if let Some(strike) = counted(action, "stall(") {
        let name = point.to_owned();
        at(point, strike, move || {
            eprintln!("stalled at {name}");
            loop {
                thread::park();
            }
        })
    } else if let Some(path) = action.strip_prefix("wait(").and_then(|path| path.strip_suffix(')')) {
        let (name, path) = (point.to_owned(), PathBuf::from(path));
        at(point, 1, move || {
            eprintln!("waits at {name}");
            while !path.exists() {
                thread::sleep(Duration::from_millis(2));
            }
        })
    } else {
        fail::cfg(point, action)
    };
    done.map_err(unknown)
}

fn counted(action: &str, name: &str) -> Option<u64> {
    action.strip_prefix(name)?.strip_suffix(')')?.parse().ok()
}

fn at(point: &str, strike: u64, what: impl Fn() + Send + Sync + 'static) -> std::result::Result<(), String> {
    let times = AtomicU64::new(0);
    fail::cfg_callback(point, move || {
        if times.fetch_add(1, Ordering::SeqCst).saturating_add(1) == strike {
            what();
        }
    })
}
