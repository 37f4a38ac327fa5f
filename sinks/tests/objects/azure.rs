//! The object sink on Azure as azurite plays it, plain and behind a proxy that breaks what passes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use shardflow::sink::Sink;
use shardflow::testing::sink::{Driver, Promise, conforms};
use shardflow_sinks::{Ndjson, ObjectSink, objects};
use shardflow_stand_ins::azurite::{ACCOUNT, Azurite, KEY, SAS};
use shardflow_stand_ins::fault_proxy::FaultProxy;

use crate::common::{numbers, wait};
use crate::wide::{through_faults, wide, wide_numbers};

const CONTAINER: &str = "results";

/// A client that asks the server itself.
fn client(server: &Azurite, container: &str) -> MicrosoftAzure {
    let azure = MicrosoftAzureBuilder::new().with_container_name(container).with_allow_http(true);
    let azure = azure.with_account(ACCOUNT).with_access_key(KEY);
    azure.with_endpoint(account(&server.endpoint())).build().unwrap()
}

/// Where the account is found.
fn account(endpoint: &str) -> String {
    format!("{endpoint}/{ACCOUNT}")
}

/// A running server with a container; `None` where it is not installed.
fn server() -> Option<Azurite> {
    wait(async {
        let server = Azurite::start().await?;
        server.create(CONTAINER).await;
        Some(server)
    })
}

/// A sink that shows each epoch at once.
fn sink<T: shardflow::Record>(endpoint: &str, container: &str) -> ObjectSink<T> {
    objects(format!("az://{container}/out/numbers"))
        .endpoint(account(endpoint))
        .option("azure_storage_account_name", ACCOUNT)
        .option("azure_storage_account_key", KEY)
        .roll_after(Duration::ZERO)
}

#[test]
fn it_conforms_on_azure() {
    let Some(server) = server() else { return };
    let containers = AtomicU64::new(0);
    let place = || {
        let container = format!("container-{}", containers.fetch_add(1, Ordering::Relaxed));
        wait(server.create(&container));
        container
    };
    conforms(
        Promise::ExactlyOnce,
        place,
        |container| Box::new(sink(&server.endpoint(), container).format(Ndjson.gzip())) as Box<dyn Sink<u64>>,
        |number| number,
        |container| numbers(&client(&server, container)),
    );
}

#[test]
fn faults_on_the_way_to_azure_leave_exact_results() {
    let Some(server) = server() else { return };
    let azure = client(&server, CONTAINER);
    let proxy = wait(FaultProxy::start(&server.endpoint()));
    let wide_sink = sink(proxy.endpoint(), CONTAINER).part_bytes(5 << 20);
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(wide_sink), wide, || wide_numbers(&azure));
    through_faults(&mut job, &proxy, &azure);
}

#[test]
fn a_signature_is_as_good_as_a_key_and_is_not_shown_where_the_container_is_missing() {
    let Some(server) = server() else { return };
    let azure = client(&server, CONTAINER);
    let sink = |container: &str| {
        objects(format!("az://{container}/out"))
            .endpoint(account(&server.endpoint()))
            .option("azure_storage_account_name", ACCOUNT)
            .option("azure_storage_sas_key", SAS)
            .roll_after(Duration::ZERO)
    };
    let driver = |container: &str| {
        let sink: ObjectSink<u64> = sink(container);
        Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || numbers(&azure))
    };
    let mut job = driver(CONTAINER);
    job.start(1);
    job.stage(0, 5);
    job.finish();
    assert_eq!(numbers(&azure).len(), 5);
    let error = driver("absent").try_start(1).unwrap_err();
    let text = format!("{error} {error:?}");
    let signature = SAS.rsplit('=').next().unwrap();
    assert!(text.contains("az://absent") && text.contains("ContainerNotFound"), "{text}");
    assert!(!text.contains(signature) && !text.contains("YKAtmJud"), "{text}");
}
