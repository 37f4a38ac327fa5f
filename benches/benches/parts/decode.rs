//! A line of NDJSON becomes a usage record.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use shardflow::Decoder;
use shardflow_examples::metering::decode::UsageDecoder;
use shardflow_examples::metering::workload::{Spec, Workload};

const LINES: u64 = 4_096;

/// Metering lines as the workload writes them, bad ones among them.
fn lines() -> Vec<Vec<u8>> {
    let mut workload = Workload::new(Spec::new(LINES, 7)).expect("the spec is valid");
    let mut lines = Vec::new();
    while let Some(draft) = workload.next() {
        let mut line = Vec::new();
        workload.write(&draft, &mut line);
        lines.push(line);
    }
    lines
}

pub(super) fn bench(criterion: &mut Criterion) {
    let (lines, decoder) = (lines(), UsageDecoder::new());
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(lines.len() as u64));
    group.bench_function("metering line", |bencher| {
        bencher.iter(|| lines.iter().filter(|line| black_box(decoder.decode(line)).is_ok()).count());
    });
    group.finish();
}
