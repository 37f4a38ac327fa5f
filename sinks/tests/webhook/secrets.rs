//! What is secret shows nowhere: headers, the key of signatures, the URL's login, path and query.

use std::time::Duration;

use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::webhook;

use crate::{Alert, Place, alert, with_refused};
use shardflow_stand_ins::hook::status;
use shardflow_stand_ins::log::Log;

#[test]
fn secrets_show_nowhere() {
    let log = Log::keep();
    let place = Place::new();
    let place_of = |login: &str| place.hook.endpoint().replace("http://", &format!("http://{login}"));
    let path = "/T000/hunter2-path/hunter2%20part?token=hunter2-query&hunter2-bare";
    let with_header = webhook(place_of("") + path).secret_header("Authorization", "Bearer hunter2-token");
    let with_login = webhook(place_of("user:hunter2-login@") + path);
    for (sink, knows) in [(with_header, "hunter2-token"), (with_login, "hunter2-login")] {
        // The receiver says back whatever it was given.
        place.hook.answers(move |got| {
            let token = got.header("authorization").unwrap_or_default();
            let bare = token.split(' ').nth(1).unwrap_or_default().to_owned();
            let parts = "hunter2-path, hunter2 part, hunter2-query, hunter2-bare";
            let said = format!("[{token}] [{bare}] hunter2-signing {knows}");
            status(500, &format!("Cannot POST {}: {parts} {said}", got.path))
        });
        let sink = sink.hmac_sha256("X-Sig", "hunter2-signing").id(|alert: &Alert| alert.n.to_string());
        let shown = format!("{sink:?}");
        assert!(shown.contains(place.hook.endpoint()) && !shown.contains("hunter2"), "{shown}");
        let mut job = place.job(sink.give_up_after(Duration::from_millis(1)));
        job.start(1);
        job.stage(0, 1);
        job.prepare();
        let error = job.try_persist().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("Cannot POST /[secret]"), "{text}");
        for secret in ["hunter2", "T000", "dXNlcjp"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let [port] = shardflow_stand_ins::servers::free_ports();
    let nobody = webhook::<Alert>(format!("http://user:hunter2-login@127.0.0.1:{port}/hunter2-path"));
    let mut job = place.job(nobody.give_up_after(Duration::from_millis(1)));
    job.start(1);
    job.stage(0, 1);
    job.prepare();
    let error = job.try_persist().unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("refused") && !text.contains("hunter2"), "{text}");
    let text = log.text();
    assert!(text.contains("call failed"), "the log was not kept: {text}");
    // Any crate's, at any level.
    let told: Vec<&str> = text.lines().filter(|line| line.contains("hunter2") || line.contains("dXNlcjp")).collect();
    assert!(told.is_empty(), "{told:?}");
}

/// As receivers do that know no such path: a URL of this kind is a secret in itself.
#[test]
fn a_receiver_that_says_back_its_path_does_not_bring_it_into_the_rejected_output() {
    let place = Place::new();
    place.hook.answers(|got| status(404, &format!("<pre>{}Cannot POST {}</pre>", "x".repeat(150), got.path)));
    let path = "/services/T024BE7LD/B024BE7LE/XXXXhunter2XXXX?token=hunter2-query";
    let (sink, refused) = with_refused(webhook(place.hook.endpoint().to_owned() + path));
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), alert, Vec::new);
    job.start(1);
    job.stage(0, 1);
    job.prepare();
    job.persist();
    job.try_commit().unwrap();
    let refused = refused.values();
    assert!(
        refused[0].error.starts_with(place.hook.endpoint()) && refused[0].error.contains("status 404"),
        "{refused:?}"
    );
    for secret in ["services", "T024BE7LD", "B024BE7LE", "hunter2", "XXXX", "token="] {
        assert!(!format!("{refused:?}").contains(secret), "{refused:?}");
    }
}
