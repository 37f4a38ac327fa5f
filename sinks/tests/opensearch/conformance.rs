//! The suite that every sink must pass.

use serde_json::json;
use shardflow::sink::Sink;
use shardflow::testing::sink::{Promise, conforms};

use crate::place::{Doc, Place, doc};
use shardflow_stand_ins::search::{Fault, Flavour, Nature};

fn assert_conforms(nature: &Nature, sink: impl Fn(&Place) -> Box<dyn Sink<Doc>>) {
    conforms(
        Promise::AtLeastOnce,
        || Place::of(nature.clone()),
        sink,
        doc,
        |place| {
            // Under one id each, whatever was repeated.
            let cluster = place.stub.cluster();
            let documents = cluster.documents("results");
            documents.iter().for_each(|(id, (_, doc))| assert_eq!(*id, format!("doc/{}", doc["n"])));
            documents.into_values().map(|(_, doc)| doc["n"].as_u64().unwrap()).collect()
        },
    );
}

#[test]
fn it_conforms_with_both_products() {
    for flavour in [Flavour::OpenSearch, Flavour::Elasticsearch] {
        let nature = Nature { flavour, ..Nature::default() };
        assert_conforms(&nature, |place| Box::new(place.documents()));
    }
}

#[test]
fn it_conforms_with_versions_gzip_and_small_batches() {
    assert_conforms(&Nature::default(), |place| {
        Box::new(place.documents().version(|doc| doc.n).gzip().bulk_documents(3).concurrency(3))
    });
}

#[test]
fn it_conforms_while_a_queue_is_full_now_and_then() {
    assert_conforms(&Nature::default(), |place| {
        // Every other call for half of its documents.
        place.stub.inject(|call| match call.nth % 2 {
            0 => Fault::Pass,
            _ => Fault::Items(std::sync::Arc::new(|id| {
                id.ends_with(['1', '3', '5', '7', '9']).then(crate::place::rejection)
            })),
        });
        Box::new(place.documents().bulk_documents(7))
    });
}

#[test]
fn a_document_is_what_was_sent() {
    let place = Place::new();
    let mut job = place.job(place.documents().version(|doc| doc.n + 5));
    job.start(2);
    job.stage(0, 3);
    job.stage(1, 2);
    job.finish();
    let documents = place.stub.cluster().documents("results");
    assert_eq!(documents.len(), 5);
    assert_eq!(documents["doc/4"], (9, json!({"n": 4, "text": "number 4"})));
}
