//! Rows that the server refuses for good: each goes to its table, whatever the reason, and the rest is written.

use crate::support::engine::{Engine, Price, price, prices};
use shardflow::sink::{Sink, SinkContext};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, ErrorKind};
use shardflow_sinks::postgres;
use shardflow_stand_ins::postgres::Database;

#[test]
fn rows_that_are_refused_go_to_their_table_and_the_rest_is_written() {
    let Some(db) = Database::fresh() else { return };
    db.run(
        "CREATE TABLE charges (id bigint PRIMARY KEY, account text NOT NULL, cents integer CHECK (cents >= 0), day date);
         CREATE TABLE accounts (name text PRIMARY KEY);
         INSERT INTO accounts VALUES ('a'), ('b');
         ALTER TABLE charges ADD FOREIGN KEY (account) REFERENCES accounts DEFERRABLE INITIALLY DEFERRED;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.id = 50 THEN RAISE EXCEPTION 'no fifty'; END IF;
                  IF NEW.id = 51 THEN RAISE EXCEPTION 'none' USING ERRCODE = 'U0123'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON charges FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    type Charge = (i64, Option<String>, i64, String);
    let sink = postgres(db.address()).table("charges").column("id", |c: &Charge| &c.0).column("account", |c| &c.1);
    let sink = sink.column("cents", |c| &c.2).column("day", |c| &c.3).rejected_to_table("public.refused");
    let mut engine = Engine::new(sink);
    engine.start().unwrap();
    let charge = |id: i64| (id, Some("a".to_owned()), id, "2026-11-27".to_owned());
    let mut records: Vec<Charge> = (0..1_000).map(charge).collect();
    let account = |name: &str| Some(name.to_owned());
    records[3].2 = -1;
    records[4].2 = i64::MAX;
    records[500].1 = None;
    records[501].1 = account("nobody");
    records[502].1 = account("a\0b");
    records[998].3 = "yesterday-ish\tor\\so\n".to_owned();
    records[999].0 = 0;
    engine.write(&records).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM charges"), (1_000 - 9).to_string());
    let errors = db.texts("SELECT error FROM refused ORDER BY (\"row\"::json->>'id')::int, error DESC");
    let expected = ["23505", "23514", "22003", "P0001", "U0123", "23502", "23503", "NUL", "22007"];
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, code) in errors.iter().zip(expected) {
        assert!(error.as_ref().unwrap().contains(code), "{error:?} is not {code}");
    }
    let day = "SELECT \"row\"::json->>'day' FROM refused WHERE \"row\"::json->>'id' = '998'";
    assert_eq!(db.text(day), "yesterday-ish\tor\\so\n");
    assert_eq!(
        db.text("SELECT DISTINCT job || '/' || step || '/' || (at > now() - interval '1 h') FROM refused"),
        "billing/charges/true"
    );
    // Nothing of it holds up what follows.
    engine.write(&[charge(2_000)]).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM charges"), (1_000 - 9 + 1).to_string());
}

#[test]
fn an_epoch_of_refused_rows_alone_is_committed_too() {
    let Some(db) = Database::fresh() else { return };
    let mut engine = Engine::new(prices(&db).rejected_to_table("rejected"));
    engine.start().unwrap();
    let all: Vec<Price> = (0..100).map(|n| price(&n.to_string(), 1, i64::MAX)).collect();
    engine.write(&all).unwrap();
    engine.write(&[price("a\0", 1, 1)]).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM rejected"), "101");
    assert_eq!(db.text("SELECT count(*) FROM prices"), "0");
    assert_eq!(db.text("SELECT epoch FROM shardflow_commits"), "2");
}

#[test]
fn without_a_table_for_them_a_refused_row_stops_the_job_and_is_shown() {
    let Some(db) = Database::fresh() else { return };
    let mut engine = Engine::new(prices(&db));
    engine.start().unwrap();
    let handles = engine.stage(&[price("good", 1, 1), price("bad", 1, i64::MAX), price("good too", 1, 2)]).unwrap();
    let error = engine.commit(&handles).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("charges")));
    let text = error.to_string();
    assert!(text.contains("out of range") && text.contains("\"item\":\"bad\",\"version\":\"1\""), "{text}");
    assert!(text.contains("rejected_to_table"), "{text}");
    assert_eq!(db.text("SELECT count(*) FROM prices"), "0");
    // What can never be written is known before it is sent.
    let error = engine.stage(&[price("a\0b", 1, 1)]).unwrap_err().to_string();
    assert!(error.contains("step \"charges\"") && error.contains("NUL") && error.contains("a␀b"), "{error}");
}

#[test]
fn rejected_rows_in_the_state_are_not_dropped_with_their_table_s_name() {
    let Some(db) = Database::fresh() else { return };
    let sink = prices(&db);
    let mut before = Engine::new(sink.clone().rejected_to_table("rejected"));
    before.start().unwrap();
    let handles = before.stage(&[price("a\0", 1, 1)]).unwrap();
    let context =
        SinkContext { incarnation: Incarnation::new(2), committed: Some(Epoch::new(1)), ..before.context.clone() };
    let mut committer = sink.committer(&context).unwrap();
    let error = committer.recover(Some(&permit(Epoch::new(1))), &handles).unwrap_err();
    assert!(error.to_string().contains("run the program that has it once more"), "{error}");
}
