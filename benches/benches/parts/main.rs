//! Micro-benchmarks of the parts that a record passes, and of those that an epoch passes: `make bench-parts`.
//!
//! Each measures one public piece of the engine with nothing around it, so that a change shows where it was made. What a
//! whole job does with them is `make bench`'s to say. Times are for a batch; with elements a second beside them.

mod decode;
mod keyed;
mod route;
mod seen;
mod store;
mod windows;

use std::iter::Cycle;
use std::vec::IntoIter;

use criterion::Criterion;

/// The allocator of the jobs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode::bench(&mut criterion);
    route::bench(&mut criterion);
    keyed::bench(&mut criterion);
    windows::bench(&mut criterion);
    seen::bench(&mut criterion);
    store::bench(&mut criterion);
    criterion.final_summary();
}

/// An even spread of numbers: neighbours have nothing to do with each other.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// `all` in another order, `batch` at a time and without end: what comes next was not looked at for long, so most of it is
/// no longer in the caches.
fn shuffled<T: Clone>(all: &[T], batch: usize) -> Cycle<IntoIter<Vec<T>>> {
    let mut order: Vec<(u64, &T)> = (0..).map(mixed).zip(all).collect();
    order.sort_unstable_by_key(|(place, _)| *place);
    let batches: Vec<Vec<T>> =
        order.chunks_exact(batch).map(|some| some.iter().map(|(_, one)| (*one).clone()).collect()).collect();
    batches.into_iter().cycle()
}
