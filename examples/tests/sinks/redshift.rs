//! The program `redshift`, on a PostgreSQL server behind a door that knows Redshift's `COPY`, with ministack's S3: killed in the midst
//! of commits and of loads, and refused by a server that knows no such `COPY`.

use std::collections::BTreeMap;

use shardflow_stand_ins::kill::{KilledAt, killed_at};
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::postgres::Database;
use shardflow_stand_ins::redshift::{Bucket, Redshift};

use crate::programs::Program;

/// The first hour.
const BEGIN: u64 = 1_767_225_600_000;

/// Where starts die, one after the other, within a load.
const IN_A_LOAD: [KilledAt; 4] = [
    killed_at("sink-redshift::after-put", &[1]),
    killed_at("sink-redshift::after-copy", &[1]),
    killed_at("sink-redshift::before-commit", &[1]),
    killed_at("sink-redshift::after-commit", &[1]),
];

/// An account whose name the table does not take.
const LONG: &str = "an-account-with-a-long-name";

/// A table, a bucket and a program that loads from one to the other.
struct Place {
    database: Database,
    server: Ministack,
    bucket: Bucket,
    cluster: Redshift,
    /// What each account has to pay for each hour.
    charges: BTreeMap<(String, u64), u64>,
    program: Program,
}

impl Place {
    /// `None` where a server is not installed.
    fn fresh() -> Option<Self> {
        let database = Database::fresh()?;
        let server = database.runtime.block_on(Ministack::start())?;
        let bucket = |name| database.runtime.block_on(Bucket::create(&server.endpoint(), name));
        let (bucket, same) = (bucket("staging"), bucket("staging"));
        let cluster = Redshift::start(&database, same);
        database
            .run("CREATE TABLE charges (account varchar(20) NOT NULL, hour bigint NOT NULL, cents bigint NOT NULL)");
        let use_of = |n: u64| match n % 500 {
            499 => (LONG.to_owned(), BEGIN + n * 9_000, n % 50),
            _ => (format!("account-{}", n * n % 17), BEGIN + n * 9_000, n % 50),
        };
        let mut charges = BTreeMap::new();
        for (account, at, cents) in (0..30_000).map(use_of) {
            *charges.entry((account, at / 3_600_000 * 3_600_000)).or_default() += cents;
        }
        let line = |(account, at, cents)| format!(r#"{{"account":"{account}","at":{at},"cents":{cents}}}"#);
        let program = Program::new(env!("CARGO_BIN_EXE_redshift")).lines((0..30_000).map(use_of).map(line));
        let program = program.args(["--staged-in", "s3://staging/red"]);
        Some(Self { database, server, bucket, cluster, charges, program })
    }

    /// Every charge is loaded once, or set aside once, and nothing is left in the bucket.
    fn holds(&self) {
        let rows = self.database.psql("SELECT account, hour, cents FROM charges");
        let row = |line: &str| {
            let parts: Vec<&str> = line.split('|').collect();
            ((parts[0].to_owned(), parts[1].parse::<u64>().unwrap()), parts[2].parse::<u64>().unwrap())
        };
        let (refused, taken): (BTreeMap<_, _>, _) =
            self.charges.clone().into_iter().partition(|((name, _), _)| name == LONG);
        assert_eq!(rows.lines().count(), taken.len());
        assert_eq!(rows.lines().map(row).collect::<BTreeMap<_, _>>(), taken);
        let set_aside =
            "SELECT \"row\"::json->>'account', \"row\"::json->>'hour', \"row\"::json->>'cents' FROM charges_rejected";
        let rows = self.database.psql(set_aside);
        assert_eq!(rows.lines().count(), refused.len());
        assert_eq!(rows.lines().map(row).collect::<BTreeMap<_, _>>(), refused);
        assert_eq!(self.database.runtime.block_on(self.bucket.keys()), [""; 0]);
    }
}

#[test]
fn charges_in_a_table_of_redshift_are_exact() {
    let Some(mut place) = Place::fresh() else { return };
    let address = place.database.address_at(place.cluster.port());
    let endpoint = place.server.endpoint();
    place.program = place.program.args(["--database", &address, "--staging-endpoint", &endpoint]);
    place.program.dies(&IN_A_LOAD);
    place.program.run();
    place.holds();
}

#[test]
fn a_load_that_is_refused_is_told_and_nothing_is_lost() {
    let Some(place) = Place::fresh() else { return };
    let Place { database, server, program, cluster, .. } = &place;
    // The way to the bucket is in a profile, as Amazon's own tools have it.
    let profile = format!(
        "[profile loads]\nregion = us-east-1\nendpoint_url = {}\naws_access_key_id = test\naws_secret_access_key = test\n",
        server.endpoint()
    );
    std::fs::write(program.path("config"), profile).unwrap();
    let at = |port: u16| {
        let mut command = program.command("");
        for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env_remove(name);
        }
        command.env("AWS_CONFIG_FILE", program.path("config")).env("AWS_PROFILE", "loads");
        command.args(["--database", &database.address_at(port)]).output().unwrap()
    };
    // PostgreSQL itself has no COPY from S3.
    let refused = at(database.cluster.port());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for told in
        ["step \"charges\": could not load epoch ", "into table \"charges\"", "syntax error at or near \"IAM_ROLE\""]
    {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert_eq!(database.psql("SELECT count(*) FROM charges"), "0");
    assert_ne!(database.runtime.block_on(place.bucket.keys()), [""; 0], "it has staged what it could not load");
    let loaded = at(cluster.port());
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    place.holds();
}
