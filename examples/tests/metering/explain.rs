//! `metering run --explain`: what would run, and nothing that happens.

use std::fs;

use crate::process::{Launch, Place};

/// What is secret in the sinks below. It must be in none of the text.
const SECRET: &str = "hunter2";

#[test]
fn the_job_is_told_step_by_step_and_nothing_is_opened() {
    let place = Place::empty();
    let sinks = [
        "dynamodb:arn:aws:dynamodb:eu-west-1:123456789012:table/charges".to_owned(),
        format!("charges=postgres://app:{SECRET}@db.example.com/billing?application_name={SECRET}#charges"),
        format!("bill=postgres:host=db.example.com user=app password={SECRET} dbname=billing#bills"),
        format!("bill=opensearch:https://app:{SECRET}@search.example.com:9200/bills"),
        "charges=kinesis:charges".to_owned(),
        "charges=files:elsewhere".to_owned(),
        "archive=s3://usage/raw".to_owned(),
    ];
    let run = ["run", "--explain", "--source", "kinesis:usage", "--out", "out", "--state", "state", "--workers", "2"];
    let run = run.into_iter().chain(sinks.iter().flat_map(|sink| ["--sink", sink])).collect::<Vec<_>>();
    // Endpoints that nobody listens at: whoever called would not come to an end so soon.
    let launch = Launch::new(&run).within(&place).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let text = launch.env("AWS_SECRET_ACCESS_KEY", SECRET).output();
    assert_eq!(
        text,
        r#"job "metering": 2 workers, 256 key groups, epochs of 200ms
1. source "usage", keeps positions: kinesis:usage
2. decode from 1
3. rejected from 2
4. sink "rejected" from 3: files in "out/rejected"
5. event time from 2, keeps watermarks: lag 5s, a split is idle after 30s
6. map #1 from 5
7. sink "archive-store" from 6: objects in s3://usage/raw
8. map #2 from 5
9. key_by #3 from 8
10. dedupe "seen-ids" from 9, exchanged by key, keeps state: horizon 24h
11. window "minute-totals" from 10, keeps state: size 1m, grace 0s
12. late from 11
13. map #4 from 12
14. sink "late" from 13: files in "out/late"
15. map #5 from 11
16. sink "charges-dynamodb" from 15: table "arn:aws:dynamodb:eu-west-1:123456789012:table/charges" at region eu-west-1; refused records: files in "out/refused/charges-dynamodb"
17. map #6 from 11
18. sink "charges-postgres" from 17: table "charges" in database "billing" at db.example.com:5432
19. map #7 from 11
20. sink "charges-kinesis" from 19: stream "charges"; refused records: files in "out/refused/charges-kinesis"
21. map #8 from 11
22. sink "charges-files" from 21: files in "elsewhere/charges"
23. map #9 from 11
24. key_by #10 from 23
25. running "bills" from 24, exchanged by key, keeps state
26. map #11 from 25
27. sink "bill-postgres" from 26: table "bills" in database "billing" at db.example.com:5432
28. sink "bill-opensearch" from 26: index "bills" at https://search.example.com:9200; refused records: files in "out/refused/bill-opensearch"
"#
    );
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 0, "it leaves no trace");
}
