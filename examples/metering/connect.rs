//! Puts the sinks that `--sink` names behind the streams of the job.
//!
//! *Enters*: charges. *Leaves*: charges, and the running bill of each account, to services. Each record has an id or a version
//! that a replay repeats, so that it counts once there, whatever a crash writes again. What a service refuses for good goes to
//! the folder `refused` of the job's output, with the reason.

use std::path::Path;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use shardflow::sink::at_least_once;
use shardflow::{RecordId, Stream, WindowResult};
use shardflow_sinks::{FileSink, dynamodb, files, kinesis, opensearch, postgres};

use super::archive::{self, StoredBill, StoredCharge};
use super::outputs::{Output, SinkSpec, Target, steps};
use super::types::{Charge, Key, Total};

/// A charge that names itself: services know it by its id.
#[derive(Debug, Clone, Serialize)]
pub struct NamedCharge {
    /// What tells it from all others, those of other jobs too, and is the same when it is written again.
    pub id: RecordId,
    /// The charge.
    #[serde(flatten)]
    pub charge: Charge,
}

impl NamedCharge {
    fn of(result: WindowResult<Key, Total>) -> Self {
        Self { id: result.id(), charge: Charge::of(result) }
    }
}

/// What the job has found, before it is a charge.
type Results<'scope> = Stream<'scope, WindowResult<Key, Total>>;

/// What an account has come to so far.
#[derive(Debug, Clone, Serialize)]
pub struct Bill {
    /// Who pays.
    pub account: CompactString,
    /// Of how many charges it is made. It grows with each, so it is the bill's version.
    pub charges: u64,
    /// Sum of the quantities.
    pub qty: u128,
    /// The end of the last window in it, in milliseconds since 1970.
    pub billed_until: u64,
}

/// What is kept of an account.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Billed {
    charges: u64,
    qty: u128,
    until: u64,
}

impl Billed {
    fn add(&mut self, charge: &Charge) {
        self.charges = self.charges.saturating_add(1);
        self.qty = self.qty.saturating_add(charge.qty);
        self.until = self.until.max(charge.window_end);
    }
}

/// Writes charges and bills to the sinks. Charges that no sink takes go to the folder `charges` of the output.
pub fn charges_and_bills(results: Results<'_>, sinks: &[SinkSpec], out: &Path) {
    let named: Vec<(String, &SinkSpec)> = steps(sinks).into_iter().zip(sinks).collect();
    let of = |output: Output| named.iter().filter(move |(_, spec)| spec.output == output);
    if of(Output::Charges).next().is_none() {
        results.clone().map(Charge::of).sink("charges", files(out).prefix("charges"));
    }
    for (step, spec) in of(Output::Charges) {
        charge_sink(results.clone(), step, &spec.target, out);
    }
    if of(Output::Bill).next().is_none() {
        return;
    }
    let bills = results
        .map(Charge::of)
        .key_by(|charge: &Charge| charge.account.clone())
        .running()
        .fold("bills", Billed::default, Billed::add)
        .map(|result| Bill {
            account: result.key,
            charges: result.value.charges,
            qty: result.value.qty,
            billed_until: result.value.until,
        });
    for (step, spec) in of(Output::Bill) {
        bill_sink(bills.clone(), step, &spec.target, out);
    }
}

fn charge_sink(results: Results<'_>, step: &str, target: &Target, out: &Path) {
    let refused = refused(out, step);
    match target {
        Target::Files(folder) => results.map(Charge::of).sink(step, files(folder).prefix("charges")),
        Target::Store(url) => results.map(Charge::of).map(StoredCharge::from).sink(step, archive::charges(url)),
        // A window has one charge, which never changes: writing it again writes the same.
        Target::DynamoDb(table) => {
            let table = dynamodb(table).key("id").put();
            results.map(NamedCharge::of).sink(step, at_least_once(table).rejected_to(refused));
        }
        Target::Postgres { connection, table } => {
            let columns = ["account", "meter", "window_start", "window_end", "qty", "count", "max"];
            let sink = postgres(connection).table(table).fields(columns);
            results.map(Charge::of).sink(step, sink.rejected_to_table(format!("{table}_rejected")));
        }
        Target::OpenSearch { node, index } => {
            let sink = opensearch([node], |charge: &NamedCharge| charge.id.to_string()).index(index);
            results.map(NamedCharge::of).sink(step, sink.rejected_to(refused));
        }
        Target::Kinesis(stream) => {
            let sink = kinesis(stream).partition_key(|named: &NamedCharge| named.charge.account.to_string());
            results.map(NamedCharge::of).sink(step, sink.ordered().rejected_to(refused));
        }
    }
}

fn bill_sink(bills: Stream<'_, Bill>, step: &str, target: &Target, out: &Path) {
    let refused = refused(out, step);
    match target {
        // The bill of more charges is the later one, whichever process writes it.
        Target::DynamoDb(table) => {
            let table = dynamodb(table).key("account").newest_by("charges", |bill: &Bill| bill.charges);
            bills.sink(step, at_least_once(table).rejected_to(refused));
        }
        Target::Postgres { connection, table } => {
            let sink = postgres(connection).table(table).fields(["account", "charges", "qty", "billed_until"]);
            let sink = sink.upsert_by(["account"]).guarded_by("charges");
            bills.sink(step, sink.rejected_to_table(format!("{table}_rejected")));
        }
        Target::OpenSearch { node, index } => {
            let sink = opensearch([node], |bill: &Bill| bill.account.to_string()).index(index);
            bills.sink(step, sink.version(|bill| bill.charges).rejected_to(refused));
        }
        Target::Kinesis(stream) => {
            let sink = kinesis(stream).partition_key(|bill: &Bill| bill.account.to_string());
            bills.sink(step, sink.ordered().rejected_to(refused));
        }
        // Files keep every state that a bill was in.
        Target::Files(folder) => bills.sink(step, files(folder).prefix("bills")),
        Target::Store(url) => bills.map(StoredBill::from).sink(step, archive::bills(url)),
    }
}

/// Where what a service refuses for good is kept.
fn refused(out: &Path, step: &str) -> FileSink {
    files(out).prefix(Path::new("refused").join(step))
}
