//! The job itself: usage in, charges out.
//!
//! *Enters*: usage records, from files or from a Kinesis stream. *Leaves*, committed only: charges by window, late records
//! as they came, rejected records with their reason and place. *Survives a crash*: all of it, in the state folder and in
//! the output.

use std::path::Path;
use std::sync::Arc;

use shardflow::flow::Raw;
use shardflow::runtime::Shutdown;
use shardflow::{Decoder, EventTime, Flow, Job, Lag, Stream, Summary, init_logging, millis, tumbling};
use shardflow_sinks::files;
use shardflow_sources::Files;

use super::archive::{self, Archived};
use super::cli::Usage;
use super::config::{RunConfig, SourceSpec};
use super::connect::charges_and_bills;
use super::decode::UsageDecoder;
use super::outputs::SinkSpec;
use super::reference::Semantics;
use super::report::Reporter;
use super::types::{AsItCame, Received, Total};

/// The job's name, where no flag says another.
const NAME: &str = "metering";

/// Runs the job to the end of its input, or until it is asked to stop.
///
/// # Errors
/// What the engine says: settings, state, source or sinks. The last committed epoch stands.
pub fn run(config: RunConfig) -> anyhow::Result<()> {
    init_logging()?;
    if let SourceSpec::File(path) = &config.source {
        // Looked at first, so that a mistyped path leaves no state folder behind.
        path.metadata().map_err(|error| Usage(format!("could not read source \"{}\": {error}", path.display())))?;
    }
    let reporter = config.report.clone().map(Reporter::new).map(Arc::new);
    let mut job = Job::named(NAME).args(config.job.clone());
    if let Some(reporter) = &reporter {
        let reporter = Arc::clone(reporter);
        job = job.on_commit(move |info| reporter.committed(info.latency));
    }
    if config.tethered {
        stop_with_stdin(job.stopper());
    }
    let measured = reporter.clone();
    let summary = job.run(move |flow| pipeline(flow, &config, measured.as_deref()))?;
    if let Some(reporter) = reporter {
        reporter.finish();
    }
    tracing::info!("{}", ending(&summary));
    Ok(())
}

/// What the job consists of.
///
/// # Errors
/// Settings that cannot work.
pub fn explain(config: RunConfig) -> shardflow::Result<String> {
    let job = Job::named(NAME).args(config.job.clone());
    job.explain(move |flow| pipeline(flow, &config, None))
}

/// Has the job stop when standard input ends. The pipe ends with the process that holds its other end, however that dies.
fn stop_with_stdin(stopper: Shutdown) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stopper.request();
    });
}

fn ending(summary: &Summary) -> &'static str {
    if summary.input_ended { "the input has ended" } else { "stopped; the next start goes on from here" }
}

fn pipeline(flow: &Flow<'_>, config: &RunConfig, measured: Option<&Reporter>) {
    let raw = match &config.source {
        SourceSpec::File(path) => flow.source("usage", Files::new(path)),
        SourceSpec::Kinesis(stream) => flow.source("usage", config.stream.source(stream)),
    };
    let decoder = measured.map_or_else(UsageDecoder::new, |reporter| UsageDecoder::new().measuring(reporter.puts()));
    compute(raw, decoder, &config.semantics(), &config.out, &config.sinks);
}

/// What is computed, whatever the source: one charge for each account, meter and window, into folders below `out`.
pub fn charges(raw: Raw<'_>, decoder: UsageDecoder, semantics: &Semantics, out: &Path) {
    compute(raw, decoder, semantics, out, &[]);
}

/// The same, with other sinks beside or in place of the folder of charges.
fn compute(raw: Raw<'_>, decoder: UsageDecoder, semantics: &Semantics, out: &Path, sinks: &[SinkSpec]) {
    let Semantics { window, lag, grace, dedupe } = *semantics;
    let usage = timed(raw, decoder, lag, out, sinks);
    let keyed = usage.key_by(|received: &Received| received.usage.key());
    let once = if dedupe == 0 {
        keyed
    } else {
        keyed.dedupe("seen-ids", |received| received.usage.id.clone(), millis(dedupe))
    };
    let late = files(out).prefix("late");
    let results = once
        .window(tumbling(millis(window)).grace(millis(grace)))
        .late_with(move |records| records.map(AsItCame).sink("late", late))
        .fold("minute-totals", Total::default, |total, received| total.add(&received.usage));
    charges_and_bills(results, sinks, out);
}

/// Usage with its event time; what is no usage goes to the folder `rejected`, and all that is to the archives, with its place in
/// the source.
fn timed<'scope>(
    raw: Raw<'scope>,
    decoder: UsageDecoder,
    lag: u64,
    out: &Path,
    sinks: &[SinkSpec],
) -> Stream<'scope, Received> {
    let at = |received: &Received| EventTime::from_millis(received.usage.at);
    let rejects = files(out).prefix("rejected");
    let archives = archive::sinks(sinks, "usage");
    if archives.is_empty() {
        let (usage, rejected) = raw.decode(decoder);
        rejected.sink("rejected", rejects);
        return usage.event_time(at, Lag::of(millis(lag)));
    }
    let (usage, rejected) = raw.decode(decoder.sourced());
    rejected.sink("rejected", rejects);
    let usage = usage.event_time(move |sourced| at(&sourced.value), Lag::of(millis(lag)));
    for (step, sink) in archives {
        usage.clone().map(Archived::from).sink(&step, sink);
    }
    usage.map(|sourced| sourced.value)
}
