//! The job itself: the pipeline, and how it is run.
//!
//! In come usage records of a file or a stream, out go charges, late and rejected records, each visible when its epoch is
//! committed. What survives a crash is the engine's: positions, seen ids, open windows, staged files.

use std::sync::Arc;

use anyhow::Result;
use shardflow::{EventTime, Flow, Job, Lag, init_logging, tumbling};
use shardflow_sinks::files;
use shardflow_sources::{Files, Kinesis};

use super::config::{RunConfig, SourceSpec};
use super::decode::UsageDecoder;
use super::report::Reporter;
use super::types::{Charge, Total, Usage};

/// Describes the job.
pub fn pipeline(flow: &Flow<'_>, config: &RunConfig, decoder: UsageDecoder) {
    let out = |folder: &str| files(&config.out).prefix(folder);
    let raw = match &config.source {
        SourceSpec::File(path) => flow.source("usage", Files::new(path)),
        SourceSpec::Kinesis(stream) => flow.source("usage", kinesis(stream, config)),
    };
    let (usage, rejected) = raw.decode(decoder);
    rejected.sink("rejected", out("rejected"));

    let usage = usage.event_time(|usage| EventTime::from_millis(usage.at), Lag::of(config.lag)).key_by(Usage::key);
    let unique =
        if config.dedupe.is_zero() { usage } else { usage.dedupe("seen-ids", |usage| usage.id.clone(), config.dedupe) };
    unique
        .window(tumbling(config.window).grace(config.grace))
        .late_to("late", out("late"))
        .fold("minute-totals", Total::default, Total::add)
        .map(|closed| Charge::new(closed.key, closed.window, closed.value))
        .sink("charges", out("charges"));
}

fn kinesis(stream: &str, config: &RunConfig) -> Kinesis {
    let source = Kinesis::stream(stream).start(config.start);
    match &config.endpoint {
        Some(endpoint) => source.endpoint(endpoint),
        None => source,
    }
}

/// Runs the job until its input ends, or until SIGINT or SIGTERM, after a last commit either way.
///
/// # Errors
/// Settings, state, sources or sinks that fail; see [`Job::run`].
pub fn run(config: RunConfig) -> Result<()> {
    init_logging()?;
    let reporter = config.report.clone().map(|path| Arc::new(Reporter::new(path)));
    let mut job = Job::named("metering").args(config.job.clone());
    if let Some(reporter) = reporter.clone() {
        job = job.on_commit(move |info| reporter.committed(info.latency));
    }
    let puts = reporter.as_ref().map(|reporter| reporter.puts());
    let ended = job.run(move |flow| {
        let decoder = UsageDecoder::new();
        let decoder = match &puts {
            Some(puts) => decoder.measuring(puts.clone()),
            None => decoder,
        };
        pipeline(flow, &config, decoder);
    });
    if let Some(reporter) = reporter {
        reporter.finish();
    }
    ended?;
    Ok(())
}
