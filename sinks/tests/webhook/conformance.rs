//! The suite that every sink must pass.

use shardflow::testing::sink::{Promise, conforms};
use shardflow_sinks::Webhook;

use crate::{Alert, Place, alert};
use shardflow_stand_ins::hook::status;

fn assert_conforms(sink: impl Fn(Webhook<Alert>) -> Webhook<Alert>) {
    conforms(Promise::OnceUntilACrash, Place::new, |place| Box::new(sink(place.alerts())), alert, Place::numbers);
}

#[test]
fn it_conforms_with_one_record_a_call_and_with_several() {
    assert_conforms(|alerts| alerts);
    assert_conforms(|alerts| alerts.json_array(7));
    assert_conforms(|alerts| alerts.ndjson(7));
}

#[test]
fn it_conforms_while_calls_fail_now_and_then() {
    let place = || {
        let place = Place::new();
        place.hook.answers(|got| match got.nth % 6 {
            0 => status(503, "busy"),
            3 => status(429, "slow down"),
            _ => status(200, "thanks"),
        });
        place
    };
    let sink = |place: &Place| Box::new(place.alerts().json_array(9)) as _;
    conforms(Promise::AtLeastOnce, place, sink, alert, Place::numbers);
}
