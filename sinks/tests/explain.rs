//! What sinks say of themselves in `Job::explain`: where they lead, and nothing that is secret, whatever was given and where.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

use std::collections::BTreeMap;

use aws_config::{Region, SdkConfig};
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use serde::{Deserialize, Serialize};
use shardflow::sink::{Refused, Sink, at_least_once};
use shardflow::testing::Feed;
use shardflow::{EventTime, Flow, Job, Lag, Stream, json, seconds};
use shardflow_sinks::{
    ObjectSink, Webhook, channel, dynamodb, files, kinesis, objects, objects_in, opensearch, postgres, redshift,
    stdout, webhook,
};

/// Each secret below is this, or has it in it.
const NEEDLE: &str = "hunter2";

/// A URL with a login and a query.
const ENDPOINT: &str = "https://hunter2:hunter2@vpce.example.com:4567/hunter2?hunter2#hunter2";

#[derive(Clone, Serialize, Deserialize)]
struct Charge {
    id: String,
    cents: u64,
}

fn sdk_config() -> SdkConfig {
    let credentials = Credentials::new(NEEDLE, NEEDLE, Some(NEEDLE.to_owned()), None, "hunter2");
    let config = SdkConfig::builder().region(Region::new("eu-west-1"));
    config.credentials_provider(SharedCredentialsProvider::new(credentials)).build()
}

fn s3() -> ObjectSink<Charge> {
    let sink = objects("s3://lake/charges").option("aws_access_key_id", NEEDLE).option("aws_token", NEEDLE);
    sink.option("aws_secret_access_key", NEEDLE).endpoint(ENDPOINT).sdk_config(sdk_config())
}

fn hook<T>() -> Webhook<T> {
    let sink = webhook("https://app:hunter2@hooks.example.com:8443/services/hunter2?token=hunter2#hunter2");
    let sink = sink.header("X-Token", NEEDLE).secret_header("Authorization", format!("Bearer {NEEDLE}"));
    sink.hmac_sha256("X-Signature", NEEDLE)
}

fn program(flow: &Flow<'_>) {
    let (charges, rejected) = flow.source("charges", Feed::new()).decode(json::<Charge>());
    rejected.sink("rejected", files("out").prefix("rejected"));
    let charges = charges.event_time(|_| EventTime::MIN, Lag::of(seconds(5)));
    plain(&charges);
    stores(&charges);
    databases(&charges);
    services(&charges);
}

fn add(charges: &Stream<'_, Charge>, name: &str, sink: impl Sink<Charge>) {
    charges.clone().sink(name, sink);
}

fn plain(charges: &Stream<'_, Charge>) {
    add(charges, "files", files("out/").prefix("charges"));
    add(charges, "stdout", stdout());
    add(charges, "channel", channel(100).0);
}

fn stores(charges: &Stream<'_, Charge>) {
    add(charges, "s3", s3());
    let sas = "?sv=2026-11-27&sig=hunter2";
    add(charges, "az", objects("az://lake/charges").option("azure_storage_sas_key", sas).endpoint(ENDPOINT));
    add(charges, "az-by-url", objects(format!("az://lake/charges{sas}")));
    add(
        charges,
        "gs",
        objects("gs://lake/charges").option("google_service_account_key", "{\"private_key\":\"hunter2\"}"),
    );
    add(charges, "s3-by-url", objects("s3://hunter2:hunter2@lake/charges"));
    add(charges, "memory", objects_in(std::sync::Arc::new(object_store::memory::InMemory::new()), "charges"));
}

fn databases(charges: &Stream<'_, Charge>) {
    let columns = ["id", "cents"];
    for (name, connection) in [
        ("postgres", "postgres://app:hunter2@db.example.com:6432/billing?application_name=hunter2&sslrootcert=hunter2"),
        ("postgres-pairs", "host=db.example.com password=hunter2 dbname=billing application_name=hunter2"),
        ("postgres-at", "postgres://app:a@hunter2@db.example.com/billing"),
        ("postgres-slash", "postgres://app:a@b/hunter2@db.example.com/billing"),
        ("postgres-bad", "hunter2"),
    ] {
        let sink = postgres(connection).password(NEEDLE).table("billing.charges").fields(columns);
        add(charges, name, sink.rejected_to_table("charges_rejected"));
    }
    let cluster = redshift("postgres://app:hunter2@redshift.example.com:5439/billing?options=hunter2").password(NEEDLE);
    for (name, staging) in [("redshift", "s3://staging/loads"), ("redshift-bad", "s3://hunter2:hunter2@staging/loads")]
    {
        let sink = cluster.table("charges").fields(columns).staged_in(staging).staging_sdk_config(sdk_config());
        let sink = sink.staging_option("aws_access_key_id", NEEDLE).staging_option("aws_secret_access_key", NEEDLE);
        add(charges, name, sink.staging_endpoint(ENDPOINT));
    }
    let table = || dynamodb("charges").key("id").sdk_config(sdk_config());
    add(charges, "dynamodb-put", at_least_once(table().put()).rejected_to(hook::<Refused>()));
    add(charges, "dynamodb-delete", at_least_once(table().endpoint(ENDPOINT).put_or_delete(|_: &Charge| false)));
    add(charges, "dynamodb-newest", at_least_once(table().region("eu-west-2").newest("version")));
    add(charges, "dynamodb-bad", at_least_once(dynamodb(ENDPOINT).key("id").put()));
}

fn services(charges: &Stream<'_, Charge>) {
    let search = |nodes: &[&str]| opensearch(nodes.iter().copied(), |charge: &Charge| charge.id.clone());
    let nodes = ["https://app:hunter2@a.example.com:9200/hunter2?hunter2", "https://b.example.com"];
    add(
        charges,
        "opensearch",
        search(&nodes).index("charges").basic_auth("app", NEEDLE).rejected_to(hook::<Refused>()),
    );
    add(charges, "opensearch-key", search(&["https://c.example.com"]).alias("charges").api_key_parts(NEEDLE, NEEDLE));
    add(charges, "opensearch-bad", search(&["app:hunter2@search", "http://app:hunter2@"]).data_stream("charges"));
    add(charges, "kinesis", kinesis("charges").partition_key(|charge: &Charge| charge.id.clone()).endpoint(ENDPOINT));
    let arn = kinesis("arn:aws:kinesis:eu-west-1:123456789012:stream/charges")
        .partition_key(|charge: &Charge| charge.id.clone());
    add(charges, "kinesis-arn", arn.rejected_to(hook::<Refused>()));
    let local = kinesis("charges").partition_key(|charge: &Charge| charge.id.clone()).sdk_config(sdk_config());
    add(charges, "kinesis-local", local.endpoint("http://127.0.0.1:4567/hunter2"));
    add(charges, "kinesis-bad", kinesis(ENDPOINT).partition_key(|charge: &Charge| charge.id.clone()));
    add(charges, "webhook", hook::<Charge>().rejected_to(s3_of_refused()));
    add(charges, "webhook-bad", webhook::<Charge>("app:hunter2@hooks.example.com/hunter2"));
}

fn s3_of_refused() -> ObjectSink<Refused> {
    objects("s3://lake/refused").option("aws_secret_access_key", NEEDLE).endpoint(ENDPOINT)
}

const UNREADABLE: &str = "a table of a database whose connection string cannot be read";

/// What each step says.
const SAID: [(&str, &str); 30] = [
    ("az", "objects in az://lake/charges"),
    ("az-by-url", "objects in a place that is no URL of a store"),
    ("channel", "a channel that holds 100 records"),
    ("dynamodb-bad", "a table without a name that it can have"),
    ("dynamodb-delete", "table \"charges\" at an endpoint of its own"),
    ("dynamodb-newest", "table \"charges\" at region eu-west-2"),
    ("dynamodb-put", "table \"charges\" at region eu-west-1; refused records: calls of https://hooks.example.com:8443"),
    ("files", "files in \"out/charges\""),
    ("gs", "objects in gs://lake/charges"),
    ("kinesis", "stream \"charges\" at an endpoint of its own"),
    ("kinesis-arn", "stream \"charges\" at region eu-west-1; refused records: calls of https://hooks.example.com:8443"),
    ("kinesis-bad", "a stream without a name that it can have"),
    ("kinesis-local", "stream \"charges\" at http://127.0.0.1:4567"),
    ("memory", "objects in InMemory, below \"charges\""),
    (
        "opensearch",
        "index \"charges\" at https://a.example.com:9200, https://b.example.com; refused records: calls of \
         https://hooks.example.com:8443",
    ),
    ("opensearch-bad", "data stream \"charges\" at no URL, no URL"),
    ("opensearch-key", "alias \"charges\" at https://c.example.com"),
    ("postgres", "table \"billing.charges\" in database \"billing\" at db.example.com:6432"),
    ("postgres-at", UNREADABLE),
    ("postgres-bad", UNREADABLE),
    ("postgres-pairs", "table \"billing.charges\" in database \"billing\" at db.example.com:5432"),
    ("postgres-slash", "table \"billing.charges\" in a database at b:5432"),
    (
        "redshift",
        "table \"charges\" in database \"billing\" at redshift.example.com:5439, staged in s3://staging/loads",
    ),
    (
        "redshift-bad",
        "table \"charges\" in database \"billing\" at redshift.example.com:5439, staged in not a URL of S3",
    ),
    ("rejected", "files in \"out/rejected\""),
    ("s3", "objects in s3://lake/charges"),
    ("s3-by-url", "objects in a place that is no URL of a store"),
    ("stdout", "standard output"),
    ("webhook", "calls of https://hooks.example.com:8443; refused records: objects in s3://lake/refused"),
    ("webhook-bad", "calls of no URL"),
];

#[test]
fn sinks_say_where_they_lead_and_nothing_that_is_secret() {
    let text = Job::named("charges").workers(1).state("state").explain(program).unwrap();
    assert!(!text.contains(NEEDLE), "{text}");
    let said = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" sink \"")?.1.split_once('"')?;
        Some((name, rest.split_once(": ")?.1))
    });
    assert_eq!(said.collect::<BTreeMap<_, _>>(), BTreeMap::from(SAID), "{text}");
}
