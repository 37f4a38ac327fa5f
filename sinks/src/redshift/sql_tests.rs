//! Redshift cannot be had here, so its statements are held word by word.

use super::*;
use shardflow::vocabulary::Incarnation;

fn target() -> Target {
    Target {
        table: TableName::parse("billing.charges").unwrap(),
        keys: None,
        rejected: None,
        owner: Owner {
            job: "it's".to_owned(),
            step: "charges".to_owned(),
            incarnation: Incarnation::new(3),
            table: TableName::parse("ops.loads").unwrap(),
        },
        access: "IAM_ROLE default".to_owned(),
        max_errors: 0,
        is_serverless: false,
    }
}

fn columns_of(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_protocol_word_by_word() {
    let owner = target().owner;
    assert_eq!(on_connection(Duration::from_secs(900)), "SET statement_timeout = 900000");
    assert_eq!([BEGIN, COMMIT, ROLLBACK], ["BEGIN", "COMMIT", "ROLLBACK"]);
    assert_eq!(LOADED, "SELECT pg_last_copy_count()");
    let files = [(Epoch::new(7), "s3://b/1".to_owned()), (Epoch::new(8), "s3://b/it's".to_owned())];
    assert_eq!(lock(&owner), "LOCK TABLE \"ops\".\"loads\"");
    assert_eq!(
        marker(&owner).unwrap(),
        "SELECT MAX(incarnation), MAX(epoch) FROM \"ops\".\"loads\" WHERE job = 'it''s' AND step = 'charges'"
    );
    assert_eq!(
        begun(&owner).unwrap(),
        "INSERT INTO \"ops\".\"loads\" (job, step, incarnation) VALUES ('it''s', 'charges', 3)"
    );
    assert_eq!(forget(&owner).unwrap(), "DELETE FROM \"ops\".\"loads\" WHERE job = 'it''s' AND step = 'charges'");
    assert_eq!(
        record(&owner, &files).unwrap(),
        "INSERT INTO \"ops\".\"loads\" (job, step, incarnation, epoch, file) VALUES \
         ('it''s', 'charges', 3, 7, 's3://b/1'), ('it''s', 'charges', 3, 8, 's3://b/it''s')"
    );
    assert_eq!(
        create_loads(&owner.table),
        "CREATE TABLE IF NOT EXISTS \"ops\".\"loads\" (job varchar(256) NOT NULL, step varchar(256) NOT NULL, \
         incarnation bigint NOT NULL, epoch bigint, file varchar(2048))"
    );
    assert_eq!(
        create_rejected(&owner.table),
        "CREATE TABLE IF NOT EXISTS \"ops\".\"loads\" (at timestamp DEFAULT GETDATE(), job varchar(256), step varchar(256), \
         error varchar(65535), \"row\" varchar(65535))"
    );
    assert_eq!(
        columns(&owner.table).unwrap(),
        "SELECT column_name, is_nullable, column_default IS NOT NULL FROM information_schema.columns \
         WHERE table_schema = 'ops' AND table_name = 'loads' ORDER BY ordinal_position"
    );
    assert_eq!(
        columns(&TableName::parse("charges").unwrap()).unwrap(),
        "SELECT column_name, is_nullable, column_default IS NOT NULL FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = 'charges' ORDER BY ordinal_position"
    );
}

#[test]
fn the_copy_word_by_word() {
    let columns = ["account", "cents"];
    assert_eq!(
        copy("\"billing\".\"charges\"", &columns, "s3://b/m.manifest", "IAM_ROLE default", 0).unwrap(),
        "COPY \"billing\".\"charges\" (\"account\", \"cents\") FROM 's3://b/m.manifest' IAM_ROLE default \
         FORMAT AS JSON 'auto' GZIP MANIFEST TIMEFORMAT 'auto'"
    );
    let access = "IAM_ROLE 'arn:aws:iam::1:role/x' REGION 'eu-west-1'";
    assert_eq!(
        copy("shardflow_stage", &columns, "s3://b/m", access, 99_999).unwrap(),
        "COPY shardflow_stage (\"account\", \"cents\") FROM 's3://b/m' IAM_ROLE 'arn:aws:iam::1:role/x' REGION 'eu-west-1' \
         FORMAT AS JSON 'auto' GZIP MANIFEST TIMEFORMAT 'auto' MAXERROR 100000"
    );
    assert!(copy("t", &columns, "s3://b/\\", "", 0).is_err());
}

#[test]
fn an_upsert_word_by_word() {
    let Merge { create, stage, columns, merge } =
        merge(&target(), &columns_of(&["account", "hour", "cents"]), &columns_of(&["account", "hour"]));
    assert_eq!(stage, "shardflow_stage");
    assert_eq!(columns, ["account", "hour", "cents", "shardflow_row"]);
    assert_eq!(
        create,
        [
            "CREATE TEMP TABLE shardflow_stage (LIKE \"billing\".\"charges\" INCLUDING DEFAULTS)",
            "ALTER TABLE shardflow_stage ADD COLUMN shardflow_row varchar(62)",
        ]
    );
    assert_eq!(
        merge,
        [
            "DELETE FROM \"billing\".\"charges\" USING shardflow_stage WHERE \
             \"billing\".\"charges\".\"account\" = shardflow_stage.\"account\" AND \
             \"billing\".\"charges\".\"hour\" = shardflow_stage.\"hour\"",
            "INSERT INTO \"billing\".\"charges\" (\"account\", \"hour\", \"cents\") SELECT \"account\", \"hour\", \"cents\" FROM \
             (SELECT \"account\", \"hour\", \"cents\", ROW_NUMBER() OVER (PARTITION BY \"account\", \"hour\" \
             ORDER BY shardflow_row DESC) AS shardflow_rank FROM shardflow_stage) AS latest WHERE shardflow_rank = 1",
            "DROP TABLE shardflow_stage",
        ]
    );
}

#[test]
fn bad_rows_are_asked_for_where_each_kind_of_redshift_keeps_them() {
    assert_eq!(
        bad_rows(false),
        "SELECT TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason) FROM stl_load_errors \
         WHERE query = pg_last_copy_id() ORDER BY filename, line_number"
    );
    assert_eq!(
        bad_rows(true),
        "SELECT TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message) FROM sys_load_error_detail \
         WHERE query_id = pg_last_copy_id() ORDER BY file_name, line_number"
    );
    let urls = ["s3://b/1".to_owned(), "s3://b/2".to_owned()];
    assert_eq!(
        bad_rows_of(false, &urls).unwrap(),
        "SELECT TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason) FROM stl_load_errors \
         WHERE TRIM(filename) IN ('s3://b/1', 's3://b/2') ORDER BY filename, line_number LIMIT 1"
    );
    assert_eq!(
        bad_rows_of(true, &urls).unwrap(),
        "SELECT TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message) \
         FROM sys_load_error_detail WHERE TRIM(file_name) IN ('s3://b/1', 's3://b/2') \
         ORDER BY file_name, line_number LIMIT 1"
    );
}

#[test]
fn nothing_here_relies_on_what_redshift_does_not_have() {
    let (target, columns) = (target(), columns_of(&["a", "b"]));
    let Merge { create, merge, .. } = merge(&target, &columns, &columns_of(&["a"]));
    let owner = &target.owner;
    let mut all = vec![create_loads(&owner.table), create_rejected(&owner.table), lock(owner)];
    all.extend([marker(owner).unwrap(), begun(owner).unwrap(), forget(owner).unwrap()]);
    all.extend(create.into_iter().chain(merge));
    for word in [
        "ON CONFLICT",
        "UNIQUE",
        "PRIMARY KEY",
        "FOR UPDATE",
        "RETURNING",
        "SAVEPOINT",
        " text",
        "DISTINCT ON",
        "now()",
        "timestamptz",
        "WITH NO DATA",
        "ON COMMIT",
    ] {
        assert!(!all.iter().any(|statement| statement.contains(word)), "{word}");
    }
}
