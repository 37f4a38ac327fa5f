//! The services that the job writes to, and the job that writes to all of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use serde_json::json;
use shardflow_examples::metering::demo::embedded::{Embedded, REGION, Stream};
use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::workload::{Draft, Kind, Spec, Workload};
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::postgres::Database;
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::search::{Nature, SearchStub};
use shardflow_stand_ins::servers::installed;
use tokio::runtime::Runtime;

use crate::process::{Launch, Place, SEMANTICS};

/// Makes a bucket.
const MAKE_BUCKET: &str = "import boto3; boto3.client('s3').create_bucket(Bucket='usage')";

/// Over so many files the input is spread.
const FILES: usize = 3;

/// Few accounts, so that there are not many more charges than the slowest stand-in takes within seconds. A multiple of the
/// files: an account stays in its file.
const ACCOUNTS: u16 = 24;
const METERS: u8 = 2;

/// What is added to each record, so that few make many epochs.
const NOTE: usize = 300;

/// The services, and the job's folders.
pub(crate) struct Services {
    pub(crate) runtime: Runtime,
    dynamodb: Ministack,
    pub(crate) tables: Client,
    pub(crate) search: SearchStub,
    kinesis: Embedded,
    pub(crate) database: Database,
    pub(crate) place: Place,
}

impl Services {
    /// Empty, with so many records of usage as input. `None` where a server is not installed.
    pub(crate) fn start(records: u64, seed: u64) -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let dynamodb = runtime.block_on(Ministack::start())?;
        let tables = Client::new(&sdk_config(&dynamodb.endpoint(), None));
        for (table, key) in [("charges", "id"), ("bills", "account")] {
            runtime.block_on(create(&tables, table, key));
        }
        let search = runtime.block_on(SearchStub::start(Nature::default()));
        search.cluster().create("charges", &json!({"properties": {"qty": {"type": "long"}}}));
        search.cluster().create("bills", &json!({"properties": {"qty": {"type": "long"}}}));
        let kinesis = runtime.block_on(Embedded::start()).unwrap();
        for stream in ["charges", "bills"] {
            runtime.block_on(Stream::create(kinesis.client(), stream, 2)).unwrap();
        }
        let database = Database::fresh()?;
        database.run(
            "CREATE TABLE charges (account text, meter text, window_start bigint, window_end bigint, qty numeric, \
                count bigint, max bigint);
             CREATE TABLE bills (account text PRIMARY KEY, charges bigint NOT NULL, qty numeric NOT NULL, \
                billed_until bigint NOT NULL)",
        );
        let place = Place::empty();
        write_input(&place.path("in"), records, seed);
        let services = Self { runtime, dynamodb, tables, search, kinesis, database, place };
        services.python("python", MAKE_BUCKET, &[])?;
        Some(services)
    }

    /// Runs a program in an environment, with the services' addresses; gives what it printed.
    pub(crate) fn python(&self, environment: &str, program: &str, args: &[&Path]) -> Option<String> {
        let python = installed("Python with its packages", &format!("{environment}/bin/python"))?;
        let mut command = Command::new(python);
        command.args(["-B", "-c", program]).args(args).env("AWS_ENDPOINT_URL", self.dynamodb.endpoint());
        let keys = [("AWS_DEFAULT_REGION", REGION), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
        let run = command.envs(keys).env("TZ", "UTC").output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        Some(String::from_utf8(run.stdout).unwrap())
    }

    /// A start of the job, with every kind of sink behind charges and behind bills.
    pub(crate) fn job(&self, workers: usize) -> Launch {
        let (elsewhere, search) = (self.place.path("elsewhere").display().to_string(), self.search.endpoint());
        let sinks = [
            "dynamodb:charges".to_owned(),
            format!("charges=opensearch:{search}/charges"),
            "charges=kinesis:charges".to_owned(),
            format!("charges=files:{elsewhere}"),
            format!("charges=postgres:{}#charges", self.database.address()),
            "charges=s3://usage/lake".to_owned(),
            "archive=s3://usage/raw".to_owned(),
            format!("bill=postgres:{}#bills", self.database.address()),
            "bill=dynamodb:bills".to_owned(),
            format!("bill=opensearch:{search}/bills"),
            "bill=kinesis:bills".to_owned(),
            format!("bill=files:{elsewhere}"),
            "bill=s3://usage/bills".to_owned(),
        ];
        let job = self.place.job(&SEMANTICS, workers).args(["--in-flight-bytes", "1MiB"]);
        let job = sinks.iter().fold(job, |job, sink| job.args(["--sink", sink]));
        job.env("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb.endpoint())
            .env("AWS_ENDPOINT_URL_KINESIS", self.kinesis.endpoint())
            .env("AWS_ENDPOINT_URL_S3", &self.dynamodb.endpoint())
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("SHARDFLOW_LOG", "warn")
    }

    /// How many files of charges are visible: it grows with the epochs that are committed.
    pub(crate) fn committed(&self) -> usize {
        visible_files(&self.place.path("elsewhere/charges")).unwrap().len()
    }

    pub(crate) fn streams(&self) -> aws_sdk_kinesis::Client {
        self.kinesis.client()
    }
}

async fn create(tables: &Client, table: &str, key: &str) {
    let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build().unwrap();
    let definition = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
    let call = tables.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest).key_schema(schema);
    call.attribute_definitions(definition.build().unwrap()).send().await.unwrap();
}

/// Usage of few accounts in long lines, with copies, late and bad ones among it.
fn write_input(folder: &Path, records: u64, seed: u64) {
    let spec = Spec { lanes: FILES, late: 0.005, bad: 0.005, ..Spec::new(records, seed) };
    let mut workload = Workload::new(spec).unwrap();
    let mut files = vec![Vec::new(); FILES];
    while let Some(draft) = workload.next() {
        let file = &mut files[draft.lane];
        workload.write(&Draft { account: draft.account % ACCOUNTS, meter: draft.meter % METERS, ..draft }, file);
        if !matches!(draft.kind, Kind::Bad(_)) {
            assert_eq!(file.pop(), Some(b'}'));
            file.extend(format!(",\"note\":\"{}\"}}", "n".repeat(NOTE)).bytes());
        }
        file.push(b'\n');
    }
    fs::create_dir(folder).unwrap();
    for (number, text) in files.iter().enumerate() {
        fs::write(folder.join(format!("usage-{number}.ndjson")), text).unwrap();
    }
}
