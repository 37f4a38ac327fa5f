//! A cluster of several nodes, and one behind TLS.

use std::time::Duration;

use shardflow_sinks::opensearch;

use crate::place::{Doc, Place, context, documents};
use shardflow_stand_ins::fault_proxy::FaultProxy;
use shardflow_stand_ins::search::{Fault, Nature, Refusal, SearchStub};
use shardflow_stand_ins::servers::free_ports;

fn by_number(nodes: [&str; 3]) -> shardflow_sinks::OpenSearch<Doc> {
    opensearch(nodes, |doc: &Doc| format!("doc/{}", doc.n)).index("results")
}

#[test]
fn calls_go_round_and_a_node_that_is_dead_is_left_out() {
    let place = Place::new();
    let other = place.io.block_on(SearchStub::join(Nature::default(), place.stub.shared_cluster()));
    let [port] = free_ports();
    let dead = format!("http://127.0.0.1:{port}");
    let sink = by_number([&dead, place.stub.endpoint(), other.endpoint()]);
    let mut job = place.job(sink.bulk_documents(5));
    job.start(1);
    job.stage(0, 100);
    job.finish();
    let calls = [place.stub.seen().len(), other.seen().len()];
    assert!(calls.iter().all(|calls| *calls >= 5), "{calls:?}");
    assert_eq!(calls.iter().sum::<usize>(), 20, "none was made twice");
}

#[test]
fn a_node_that_is_ill_is_left_out_for_a_while() {
    let place = Place::new();
    let other = place.io.block_on(SearchStub::join(Nature::default(), place.stub.shared_cluster()));
    let ill = place.io.block_on(SearchStub::join(Nature::default(), place.stub.shared_cluster()));
    ill.inject(|_| Fault::Refuse(Refusal::new(503, "", "starting"), None));
    let sink = by_number([ill.endpoint(), place.stub.endpoint(), other.endpoint()]);
    let mut job = place.job(sink.bulk_documents(5).concurrency(1));
    job.start(1);
    job.stage(0, 100);
    job.finish();
    let tried = ill.seen().len();
    assert!((1..=4).contains(&tried), "it was called {tried} times for 20 batches");
}

#[test]
fn a_cluster_that_nobody_answers_for_is_an_error_at_the_start() {
    let place = Place::new();
    let [port] = free_ports();
    let sink = documents(&format!("http://user:hunter2@127.0.0.1:{port}")).start_within(Duration::from_millis(400));
    let mut job = place.job(sink);
    let error = job.try_start(1).unwrap_err();
    let text = error.to_string();
    assert_eq!((error.kind(), error.step()), (shardflow::ErrorKind::Sink, Some("results")));
    assert!(
        text.contains(&format!("could not reach http://127.0.0.1:{port} within 400ms")) && text.contains("refused"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn tls_needs_a_certificate_that_is_trusted() {
    let place = Place::new();
    let proxy = place.io.block_on(FaultProxy::start_tls(place.stub.endpoint()));
    let pem = proxy.certificate().unwrap().pem.clone();
    let mut job = place.job(documents(proxy.endpoint()).root_certificate(pem));
    job.start(1);
    job.stage(0, 20);
    job.finish();
    let mut job = place.job(documents(proxy.endpoint()));
    let error = job.try_start(1).unwrap_err();
    assert_eq!(error.kind(), shardflow::ErrorKind::Config);
    assert!(error.to_string().contains("certificate"), "{error}");
    let no_pem = documents(proxy.endpoint()).root_certificate("no certificate");
    let opened = shardflow::sink::Sink::<Doc>::committer(&no_pem, &context(&place.io));
    assert!(opened.err().unwrap().to_string().contains("root certificate"));
}
