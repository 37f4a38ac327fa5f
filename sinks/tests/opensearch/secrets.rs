//! Passwords and keys show nowhere: not in `Debug`, not in errors, not in the log, not where a server says them back.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shardflow::sink::Sink;
use shardflow_sinks::{OpenSearch, opensearch};

use crate::place::{Doc, Place, documents};
use shardflow_stand_ins::log::Log;
use shardflow_stand_ins::search::{Fault, Nature, Refusal};
use shardflow_stand_ins::servers::free_ports;

const PASSWORD: &str = "hunter2-password";
const KEY: &str = "hunter2-key";

/// Every form in which a secret goes over the wire or stands in a URL.
fn secrets() -> Vec<String> {
    let basic = BASE64_STANDARD.encode(format!("elastic:{PASSWORD}"));
    let key = BASE64_STANDARD.encode(format!("id:{KEY}"));
    vec![PASSWORD.to_owned(), "hunter2".to_owned(), basic, key, KEY.to_owned()]
}

fn assert_clean(text: &str) {
    for secret in secrets() {
        assert!(!text.contains(&secret), "{secret} shows in: {text}");
    }
}

#[test]
fn secrets_show_nowhere() {
    let log = Log::keep();
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("elastic:{PASSWORD}")));
    let key = format!("ApiKey {}", BASE64_STANDARD.encode(format!("id:{KEY}")));
    let place = Place::of(Nature { accepts: vec![basic.clone(), key.clone()], ..Nature::default() });
    let endpoint = place.stub.endpoint();
    let with_login = endpoint.replace("http://", &format!("http://elastic:{PASSWORD}@"));
    let login = format!("{basic}, {PASSWORD}");
    let keys = format!("{key}, {KEY}");
    let good: [(OpenSearch<Doc>, &String); 4] = [
        (documents(&with_login), &login),
        (documents(endpoint).basic_auth("elastic", PASSWORD), &login),
        (documents(endpoint).api_key_parts("id", KEY), &keys),
        (documents(endpoint).api_key(BASE64_STANDARD.encode(format!("id:{KEY}"))), &keys),
    ];
    for (sink, given) in good {
        let sink = sink.may_have_documents();
        assert_clean(&format!("{sink:?}"));
        let mut job = place.job(sink);
        job.start(1);
        job.stage(0, 5);
        job.finish();
        // The server turns on us, and says what it was given.
        let reason = format!("unable to authenticate with [{given}]");
        place.stub.inject(move |_| Fault::Refuse(Refusal::new(401, "security_exception", reason.clone()), None));
        job.start(1);
        job.stage(0, 5);
        job.prepare();
        let error = job.try_persist().unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains("[secret]"), "{said}");
        assert_clean(&said);
        place.stub.inject(|_| Fault::Pass);
    }
    // Those that never get in: the server says back what it was given.
    let [port] = free_ports();
    let nobody = format!("http://elastic:{PASSWORD}@127.0.0.1:{port}");
    let bad = [
        documents(endpoint).basic_auth("other", PASSWORD),
        documents(endpoint).api_key(format!("{KEY}-other")),
        documents(&nobody).start_within(Duration::from_millis(300)),
        documents(endpoint).basic_auth("elastic", format!("{PASSWORD}\n")),
        documents(endpoint).api_key(format!("{KEY}\n")),
        opensearch([format!("elastic:{PASSWORD}@x")], |doc: &Doc| doc.n.to_string()).index("results"),
        opensearch([format!("http://elastic:{PASSWORD}@")], |doc: &Doc| doc.n.to_string()).index("results"),
    ];
    for sink in bad {
        assert_clean(&format!("{sink:?}"));
        let error = sink.committer(&place.context()).err().expect("it must not start");
        assert_clean(&format!("{error} {error:?}"));
    }
    let text = log.text();
    assert!(text.contains("writes to a search index"), "the log was not kept: {text}");
    assert_clean(&text);
}
