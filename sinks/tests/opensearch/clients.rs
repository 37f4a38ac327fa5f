//! The stand-in is faithful: the products' own clients get what they expect of a server.

use std::process::Command;

use crate::place::Place;
use shardflow_stand_ins::search::{Flavour, Nature};
use shardflow_stand_ins::servers::installed;

/// Runs a program of the product's client against the stand-in, plain and with compression.
fn drive(script: &str, flavour: Flavour) {
    let Some(python) = installed("the clients of OpenSearch and Elasticsearch", "readers/bin/python") else { return };
    let script = format!("{}/tests/opensearch/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    for compression in [None, Some("compressed")] {
        let place = Place::of(Nature { flavour, ..Nature::default() });
        let output = Command::new(&python).arg(&script).arg(place.stub.endpoint()).args(compression).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
        assert!(output.status.success() && said.contains("is served"), "{said}");
        assert!(place.stub.seen().iter().any(|call| call.was_compressed) == compression.is_some());
    }
}

#[test]
fn opensearch_py_is_served() {
    drive("opensearch_client.py", Flavour::OpenSearch);
}

#[test]
fn elasticsearch_py_is_served() {
    drive("elasticsearch_client.py", Flavour::Elasticsearch);
}

/// Elasticsearch's client looks who is there, and does not speak to anybody else.
#[test]
fn elasticsearch_py_refuses_the_stand_in_for_the_other_product() {
    let Some(python) = installed("the clients of OpenSearch and Elasticsearch", "readers/bin/python") else { return };
    let script = format!("{}/tests/opensearch/clients/elasticsearch_client.py", env!("CARGO_MANIFEST_DIR"));
    let place = Place::new();
    let output = Command::new(&python).arg(&script).arg(place.stub.endpoint()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("UnsupportedProductError"), "{said}");
}
