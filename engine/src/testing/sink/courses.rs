//! The fixed courses: every step of the protocol, with a crash behind each.

use super::{Driver, Promise};
use crate::sink::Sink;

/// Checks that a sink keeps `promise` on every course of the protocol, with crashes between any two of its steps.
///
/// `place` makes an empty place (a temporary folder, a fresh bucket), `sink` the sink that writes there, `record` a record
/// with a number, and `visible` reads the numbers of all records that a user can see there. The sink must show an
/// epoch when it is committed.
///
/// # Panics
/// With the name of the course and what was broken.
pub fn conforms<P, T: 'static>(
    promise: Promise,
    place: impl Fn() -> P,
    sink: impl Fn(&P) -> Box<dyn Sink<T>>,
    record: impl Fn(u64) -> T,
    visible: impl Fn(&P) -> Vec<u64>,
) {
    for (name, course) in courses() {
        tracing::info!(name, "conformance");
        let place = place();
        let mut driver = Driver::new(promise, sink(&place), &record, || visible(&place));
        course(&mut driver);
        driver.start(1);
        driver.stage(0, 7);
        driver.replay(0);
        driver.finish();
        driver.start(2);
        driver.finish();
        let all: Vec<u64> = (0..driver.records()).collect();
        assert_eq!(driver.visible(), all, "course \"{name}\": not every record arrived");
    }
}

type Course<T> = for<'a, 'b> fn(&'b mut Driver<'a, T>);

fn courses<T: 'static>() -> [(&'static str, Course<T>); 11] {
    [
        ("an epoch is visible after its commit and not before", |job| {
            job.start(1);
            job.stage(0, 100);
            job.whole_epoch();
        }),
        ("committing twice shows once", |job| {
            job.start(1);
            job.stage(0, 100);
            job.whole_epoch();
            job.commit();
            job.assert_all_visible();
        }),
        ("an empty epoch commits nothing", |job| {
            job.start(2);
            job.whole_epoch();
            job.stage(1, 3);
            job.whole_epoch();
            job.whole_epoch();
        }),
        ("a crash after staging takes what was staged", |job| {
            job.start(2);
            job.stage(0, 10);
            job.whole_epoch();
            job.stage(0, 10);
            job.stage(1, 10);
            job.start(2);
        }),
        ("a crash after preparing takes what was prepared", |job| {
            job.start(2);
            job.stage(0, 10);
            job.stage(1, 10);
            job.prepare();
            job.start(2);
        }),
        ("a crash after the durable batch loses nothing", |job| {
            job.start(2);
            job.stage(0, 10);
            job.stage(1, 10);
            job.prepare();
            job.persist();
            job.stage(0, 10);
            job.start(2);
            job.start(2);
        }),
        ("a crash after the commit repeats nothing", |job| {
            job.start(2);
            job.stage(0, 10);
            job.stage(1, 10);
            job.whole_epoch();
            job.start(2);
            job.acknowledge();
            job.start(2);
        }),
        ("later epochs stage while earlier ones commit", |job| {
            job.start(2);
            job.stage(0, 10);
            job.prepare();
            job.stage(1, 10);
            job.persist();
            job.prepare();
            job.stage(0, 10);
            job.commit();
            job.acknowledge();
            job.persist();
            job.commit();
            job.start(2);
        }),
        ("several epochs commit at once", several_epochs),
        ("fewer workers go on", |job| {
            job.start(4);
            several_epochs(job);
            job.start(1);
            several_epochs(job);
        }),
        ("more workers go on", |job| {
            several_epochs(job);
            job.start(5);
            job.stage(4, 10);
            several_epochs(job);
        }),
    ]
}

/// Three epochs at two workers, committed together, and a fourth that a crash takes. Starts the job if it is not running.
fn several_epochs<T: 'static>(job: &mut Driver<'_, T>) {
    if job.running.is_none() {
        job.start(2);
    }
    for _ in 0..3 {
        job.stage(0, 5);
        job.stage(1, 5);
        job.prepare();
    }
    job.stage(1, 5);
    job.prepare();
    (0..3).for_each(|_| job.persist());
    job.commit();
    job.assert_all_visible();
    job.crash();
    job.start(2);
}
