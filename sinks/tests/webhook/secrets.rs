//! What is secret shows nowhere: headers, the key of signatures, the URL's login, path and query.

use std::time::Duration;

use shardflow_sinks::webhook;

use crate::{Alert, Place};
use shardflow_stand_ins::hook::status;
use shardflow_stand_ins::log::Log;

#[test]
fn secrets_show_nowhere() {
    let log = Log::keep();
    let place = Place::new();
    let place_of = |login: &str| place.hook.endpoint().replace("http://", &format!("http://{login}"));
    let path = "/T000/hunter2-path?token=hunter2-query";
    let with_header = webhook(place_of("") + path).secret_header("Authorization", "Bearer hunter2-token");
    let with_login = webhook(place_of("user:hunter2-login@") + path);
    for (sink, knows) in [(with_header, "hunter2-token"), (with_login, "hunter2-login")] {
        // The receiver says back whatever it was given.
        place.hook.answers(move |got| {
            let token = got.header("authorization").unwrap_or_default();
            let bare = token.split(' ').nth(1).unwrap_or_default().to_owned();
            status(500, &format!("[{token}] [{bare}] hunter2-signing {knows}"))
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
        assert!(text.contains("[secret]") && !text.contains("hunter2") && !text.contains("dXNlcjp"), "{text}");
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
    let ours: Vec<&str> = text.lines().filter(|line| line.starts_with("shardflow")).collect();
    assert!(ours.iter().all(|line| !line.contains("hunter2")), "{ours:?}");
    // Other crates' logs, at any level: all but the path of a call may be secret there, too.
    let theirs: Vec<&str> = text
        .lines()
        .filter(|line| ["hunter2-login", "hunter2-token", "hunter2-signing"].iter().any(|s| line.contains(s)))
        .collect();
    assert!(theirs.is_empty(), "{theirs:?}");
}
