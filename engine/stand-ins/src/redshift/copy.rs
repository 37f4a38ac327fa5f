//! What a `COPY` does, by statements that PostgreSQL knows.
//!
//! Refused rows are left out and written down in `stl_load_errors` as Redshift does: outside of the transaction.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flate2::read::GzDecoder;
use serde_json::Value;
use tokio_postgres::Client;

/// What a database needs of Redshift's own.
pub const SYSTEM: &str = "
    CREATE TABLE stl_load_errors (query bigint, filename text, line_number bigint, colname text, err_code int, err_reason text);
    CREATE FUNCTION pg_last_copy_id() RETURNS bigint LANGUAGE sql AS $$ SELECT current_setting('standin.id')::bigint $$;
    CREATE FUNCTION pg_last_copy_count() RETURNS bigint LANGUAGE sql AS $$ SELECT current_setting('standin.count')::bigint $$;
    CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql AS $$ SELECT now() AT TIME ZONE 'UTC' $$";

/// The connection that a `COPY` came on.
pub trait Connection: Send {
    /// Why it is of no more use.
    type Lost: Send;

    /// Runs a statement. What the server refuses it for is inside.
    fn run(&mut self, sql: &str) -> impl Future<Output = Result<Result<(), String>, Self::Lost>> + Send;
}

/// Where files are.
pub trait Files: Sync {
    /// The file of a URL, `s3://bucket/key`, if there is one.
    fn get(&self, url: &str) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

/// What a `COPY` says.
struct Statement<'a> {
    table: &'a str,
    columns: &'a str,
    manifest: &'a str,
    most_errors: usize,
}

impl<'a> Statement<'a> {
    /// Nothing but what the sink writes.
    fn parse(text: &'a str) -> Option<Self> {
        let (table, rest) = text.strip_prefix("COPY ")?.split_once(" (")?;
        let (columns, rest) = rest.split_once(") FROM '")?;
        let (manifest, rest) = rest.split_once("' IAM_ROLE ")?;
        let (_, rest) = rest.split_once(" FORMAT AS JSON 'auto' GZIP MANIFEST TIMEFORMAT 'auto'")?;
        let most_errors = match rest.strip_prefix(" MAXERROR ") {
            Some(most) => most.parse().ok()?,
            None if rest.is_empty() => 1,
            None => return None,
        };
        Some(Self { table, columns, manifest, most_errors })
    }
}

/// A row that was left out: its file, its line from 1, and why.
type Bad = (String, i64, String);

/// Runs the `COPY`s of a database.
pub struct Copies {
    log: Client,
    number: AtomicU64,
    is_mute: AtomicBool,
}

impl Copies {
    /// `log`: a connection of its own, for what is told of refused rows.
    pub fn new(log: Client) -> Self {
        // Another process may have told of others before.
        let number = AtomicU64::new(RandomState::new().hash_one(0) >> 2);
        Self { log, number, is_mute: AtomicBool::new(false) }
    }

    /// From here on refused rows are left out without a word.
    pub fn be_mute(&self) {
        self.is_mute.store(true, Ordering::Relaxed);
    }

    /// Does what a `COPY` says, and gives one more statement: what the server says to it is the answer to the `COPY`.
    pub async fn run<C: Connection>(
        &self,
        statement: &str,
        connection: &mut C,
        files: &impl Files,
    ) -> Result<String, C::Lost> {
        let Some(copy) = Statement::parse(statement) else {
            return Ok(fail("42601", "it is no COPY that the stand-in knows"));
        };
        let missing = || fail("XX000", "S3ServiceException: The specified key does not exist., Status 404");
        let Some(manifest) = files.get(copy.manifest).await else { return Ok(missing()) };
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let (mut count, mut bad) = (0, Vec::new());
        for entry in manifest["entries"].as_array().unwrap() {
            assert_eq!(entry["mandatory"], true);
            let url = entry["url"].as_str().unwrap();
            let Some(packed) = files.get(url).await else { return Ok(missing()) };
            let mut text = String::new();
            GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
            count += insert(&copy, url, &text, connection, &mut bad).await?;
        }
        let id = self.number.fetch_add(1, Ordering::Relaxed) as i64;
        self.write_down(id, &bad).await;
        if bad.len() >= copy.most_errors {
            let table = copy.table.replace('"', "");
            let text = format!("Load into table {table} failed. Check 'stl_load_errors' system table for details.");
            return Ok(fail("XX000", &text));
        }
        Ok(format!("SELECT set_config('standin.id', '{id}', false), set_config('standin.count', '{count}', false)"))
    }

    async fn write_down(&self, id: i64, bad: &[Bad]) {
        for (url, line, reason) in bad.iter().filter(|_| !self.is_mute.load(Ordering::Relaxed)) {
            let log = "INSERT INTO stl_load_errors VALUES ($1, $2 || '   ', $3, 'some', 1204, $4 || '  ')";
            self.log.execute(log, &[&id, url, line, reason]).await.unwrap();
        }
    }
}

/// Inserts the lines of a file, but for those that the server refuses: halves what it refuses until it is one line. Gives how many
/// were taken.
async fn insert<C: Connection>(
    copy: &Statement<'_>,
    url: &str,
    text: &str,
    connection: &mut C,
    bad: &mut Vec<Bad>,
) -> Result<usize, C::Lost> {
    let Statement { table, columns, .. } = copy;
    let lines: Vec<&str> = text.lines().collect();
    let whole = 0..lines.len();
    let (mut pieces, mut count) = (vec![whole], 0);
    while let Some(piece) = pieces.pop() {
        let rows = literal(&format!("[{}]", lines[piece.clone()].join(",")));
        let insert = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, {rows}::json)"
        );
        let _ = connection.run("SAVEPOINT piece").await?;
        match connection.run(&insert).await? {
            Ok(()) => count += piece.len(),
            Err(reason) => {
                let _ = connection.run("ROLLBACK TO piece").await?;
                if piece.len() == 1 {
                    bad.push((url.to_owned(), piece.end as i64, reason));
                } else {
                    let middle = piece.start + piece.len() / 2;
                    pieces.extend([middle..piece.end, piece.start..middle]);
                }
            }
        }
        let _ = connection.run("RELEASE piece").await?;
    }
    Ok(count)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A statement that fails so.
fn fail(code: &str, text: &str) -> String {
    format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = {}; END $$", literal(text))
}
