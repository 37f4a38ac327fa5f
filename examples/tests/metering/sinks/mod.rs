//! The job with its results in services, several at once, killed at named points of the commit: each service ends with
//! what the reference says, and streams hold it at least once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use serde_json::{Value, json};
use shardflow::Decoder;
use shardflow_examples::metering::decode::UsageDecoder;
use shardflow_examples::metering::demo::embedded::{Embedded, REGION, Stream};
use shardflow_examples::metering::reference::{ChargeKey, Reference};
use shardflow_examples::metering::types::Total;
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::postgres::Database;
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::search::{Nature, SearchStub};
use shardflow_stand_ins::servers::installed;
use shardflow_stand_ins::stand::read_stream;
use tokio::runtime::Runtime;

use crate::process::{Launch, Place, SEMANTICS};

/// Makes a bucket.
const MAKE_BUCKET: &str = "import boto3; boto3.client('s3').create_bucket(Bucket='usage')";

/// Copies a bucket into a folder.
const COPY_BUCKET: &str = r"
import boto3, os, sys
s3 = boto3.client('s3')
for page in s3.get_paginator('list_objects_v2').paginate(Bucket='usage'):
    for item in page.get('Contents', []):
        path = os.path.join(sys.argv[1], item['Key'])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        s3.download_file('usage', item['Key'], path)
";

/// The archived records as they came, a line each; checks the time and the folder of each.
const READ_ARCHIVE: &str = r#"
import duckdb, sys
rows = duckdb.sql(f"""SELECT raw, epoch_ms(t.at) = json_extract(raw, '$.at')::BIGINT,
    strftime(t.at AT TIME ZONE 'UTC', '%Y-%m-%d') = dt::VARCHAR
    FROM read_parquet('{sys.argv[1]}/raw/dt=*/*/*.parquet', hive_partitioning = true) AS t""").fetchall()
assert all(at and dt for _, at, dt in rows)
print('\n'.join(raw for raw, _, _ in rows))
"#;

/// The charges in the store, a JSON object a line.
const READ_CHARGES: &str = r#"
import duckdb, json, sys
names = ['account', 'meter', 'window_start', 'window_end', 'qty', 'count', 'max']
rows = duckdb.sql(f"""SELECT account, meter, epoch_ms(window_start), epoch_ms(window_end), qty::HUGEINT, count, max
    FROM read_parquet('{sys.argv[1]}/lake/dt=*/*.parquet')""").fetchall()
for row in rows:
    print(json.dumps(dict(zip(names, row))))
"#;

/// Where the starts before the last die, one after the other.
const POINTS: [&str; 5] = [
    "commit::before-flush=kill(2)",
    "commit::after-flush=kill(1)",
    "commit::before-durable=kill(1)",
    "commit::after-durable=kill(1)",
    "commit::after-sink=kill(5)",
];

/// The services, and the job's folders.
struct Services {
    runtime: Runtime,
    dynamodb: Ministack,
    tables: Client,
    search: SearchStub,
    kinesis: Embedded,
    stream: Stream,
    database: Database,
    place: Place,
}

impl Services {
    fn start() -> Option<Self> {
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
        let stream = runtime.block_on(Stream::create(kinesis.client(), "charges", 2)).unwrap();
        let database = Database::fresh()?;
        database.run(
            "CREATE TABLE charges (account text, meter text, window_start bigint, window_end bigint, qty numeric, \
                count bigint, max bigint);
             CREATE TABLE bills (account text PRIMARY KEY, charges bigint NOT NULL, qty numeric NOT NULL, \
                billed_until bigint NOT NULL)",
        );
        let place = Place::with_input(40_000, 21);
        let services = Self { runtime, dynamodb, tables, search, kinesis, stream, database, place };
        services.python("python", MAKE_BUCKET, &[])?;
        Some(services)
    }

    /// Runs a program in an environment, with the services' addresses; gives what it printed.
    fn python(&self, environment: &str, program: &str, args: &[&Path]) -> Option<String> {
        let python = installed("Python with its packages", &format!("{environment}/bin/python"))?;
        let mut command = Command::new(python);
        command.args(["-B", "-c", program]).args(args).env("AWS_ENDPOINT_URL", self.dynamodb.endpoint());
        let keys = [("AWS_DEFAULT_REGION", REGION), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
        let run = command.envs(keys).env("TZ", "UTC").output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        Some(String::from_utf8(run.stdout).unwrap())
    }

    fn job(&self, workers: usize) -> Launch {
        let sinks = [
            "dynamodb:charges".to_owned(),
            format!("charges=opensearch:{}/charges", self.search.endpoint()),
            "charges=kinesis:charges".to_owned(),
            format!("charges=files:{}", self.place.path("elsewhere").display()),
            format!("charges=postgres:{}#charges", self.database.address()),
            "charges=s3://usage/lake".to_owned(),
            "archive=s3://usage/raw".to_owned(),
            format!("bill=postgres:{}#bills", self.database.address()),
            "bill=dynamodb:bills".to_owned(),
            format!("bill=opensearch:{}/bills", self.search.endpoint()),
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

    fn items(&self, table: &str) -> Vec<HashMap<String, AttributeValue>> {
        let pages = self.tables.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        self.runtime.block_on(pages.collect::<Result<Vec<_>, _>>()).unwrap()
    }

    fn documents(&self, index: &str) -> Vec<Value> {
        self.search.cluster().documents(index).into_values().map(|(_, document)| document).collect()
    }
}

async fn create(tables: &Client, table: &str, key: &str) {
    let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build().unwrap();
    let definition = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
    let call = tables.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest).key_schema(schema);
    call.attribute_definitions(definition.build().unwrap()).send().await.unwrap();
}

/// What an account comes to: charges, quantity, end of the last window.
type Bills = BTreeMap<String, (u64, u128, u64)>;

fn bills(charges: &BTreeMap<ChargeKey, Total>) -> Bills {
    let mut bills = Bills::new();
    for ((account, _, _, end), total) in charges {
        let bill = bills.entry(account.clone()).or_default();
        *bill = (bill.0 + 1, bill.1 + total.qty, bill.2.max(*end));
    }
    bills
}

fn charge(row: &Value) -> (ChargeKey, Total) {
    let text = |field: &str| row[field].as_str().unwrap().to_owned();
    let number = |field: &str| row[field].to_string().parse::<u128>().unwrap();
    let small = |field: &str| u64::try_from(number(field)).unwrap();
    let key = (text("account"), text("meter"), small("window_start"), small("window_end"));
    (key, Total { qty: number("qty"), count: small("count"), max: small("max") })
}

fn bill(row: &Value) -> (String, (u64, u128, u64)) {
    let number = |field: &str| row[field].to_string().parse::<u128>().unwrap();
    let small = |field: &str| u64::try_from(number(field)).unwrap();
    (row["account"].as_str().unwrap().to_owned(), (small("charges"), number("qty"), small("billed_until")))
}

/// An item as JSON: its numbers are text.
fn plain(item: HashMap<String, AttributeValue>) -> Value {
    let value = |value: AttributeValue| match value {
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::N(number) => Value::Number(number.parse().unwrap()),
        other => panic!("{other:?}"),
    };
    item.into_iter().map(|(name, attribute)| (name, value(attribute))).collect()
}

/// The lines of the input that are usage.
fn input(folder: &Path) -> Vec<String> {
    let decoder = UsageDecoder::new();
    let mut lines = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        for line in text.split(|byte| *byte == b'\n').filter(|line| decoder.decode(line).is_ok()) {
            lines.push(String::from_utf8(line.trim_ascii().to_vec()).unwrap());
        }
    }
    lines
}

#[test]
fn every_service_ends_with_what_the_reference_says_though_the_job_is_killed() {
    let Some(services) = Services::start() else { return };
    let reference = Reference::compute(&services.place.path("in"), &SEMANTICS).unwrap();
    for (point, workers) in POINTS.into_iter().zip([1, 2, 3, 2, 1]) {
        services.job(workers).points(point).die();
    }
    services.job(2).succeed();

    let items: Vec<_> = services.items("charges").into_iter().map(|item| charge(&plain(item))).collect();
    assert_eq!(items.len(), reference.charges.len());
    assert_eq!(BTreeMap::from_iter(items), reference.charges);
    let documents: Vec<_> = services.documents("charges").iter().map(charge).collect();
    assert_eq!(documents.len(), reference.charges.len());
    assert_eq!(BTreeMap::from_iter(documents), reference.charges);
    let expected = bills(&reference.charges);
    assert_eq!(Bills::from_iter(services.items("bills").into_iter().map(|item| bill(&plain(item)))), expected);
    assert_eq!(Bills::from_iter(services.documents("bills").iter().map(bill)), expected);

    let rows = services.database.texts("SELECT to_json(c) FROM charges c");
    let rows: Vec<_> = rows.into_iter().map(|row| charge(&serde_json::from_str(&row.unwrap()).unwrap())).collect();
    assert_eq!(rows.len(), reference.charges.len());
    assert_eq!(BTreeMap::from_iter(rows), reference.charges);
    let rows = services.database.texts("SELECT to_json(b) FROM bills b").into_iter();
    assert_eq!(Bills::from_iter(rows.map(|row| bill(&serde_json::from_str(&row.unwrap()).unwrap()))), expected);

    // The store, read by others: charges once, and every record that could be read, to the letter.
    let copy = services.place.path("copy");
    services.python("python", COPY_BUCKET, &[&copy]).unwrap();
    if let Some(lines) = services.python("readers", READ_CHARGES, &[&copy]) {
        let rows: Vec<_> = lines.lines().map(|line| charge(&serde_json::from_str(line).unwrap())).collect();
        assert_eq!(rows.len(), reference.charges.len());
        assert_eq!(BTreeMap::from_iter(rows), reference.charges);
    }
    if let Some(lines) = services.python("readers", READ_ARCHIVE, &[&copy]) {
        let mut archived: Vec<&str> = lines.lines().collect();
        let read = input(&services.place.path("in"));
        let mut read: Vec<&str> = read.iter().map(String::as_str).collect();
        archived.sort_unstable();
        read.sort_unstable();
        assert!(archived == read, "{} records archived, {} read", archived.len(), read.len());
    }

    // A stream takes nothing back: what is there twice has the same id.
    let rows = services.runtime.block_on(read_stream(services.stream.client(), "charges"));
    let rows: Vec<Value> = rows.iter().map(|row| serde_json::from_slice(row).unwrap()).collect();
    let by_id: BTreeMap<String, &Value> =
        rows.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect();
    for row in &rows {
        assert_eq!(by_id[row["id"].as_str().unwrap()], row);
    }
    assert_eq!(by_id.len(), reference.charges.len());
    assert_eq!(BTreeMap::from_iter(by_id.into_values().map(charge)), reference.charges);

    // The folder has each once; nothing was refused, and nothing lies where charges go without a sink.
    let folder = services.place.path("elsewhere");
    let files: Vec<Value> = shardflow_examples::metering::output::read_rows(&folder).unwrap();
    assert_eq!(files.len(), reference.charges.len());
    assert_eq!(BTreeMap::from_iter(files.iter().map(charge)), reference.charges);
    for nothing in ["charges", "refused"] {
        let files = shardflow_examples::metering::output::visible_files(&services.place.path("out").join(nothing));
        assert!(files.unwrap().is_empty(), "{nothing}");
    }
}
