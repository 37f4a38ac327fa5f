//! The statements, word by word. Pure. All of them but `COPY` and what asks for bad rows mean the same to PostgreSQL.

use shardflow::{Error, Result};

use super::{Deployment, FileFormat, Load, StagedFile};
use crate::postgres::name::quoted_list;

/// A text between quotes. Redshift may take a backslash for the beginning of something, so there must not be any.
pub(super) fn literal(text: &str) -> Result<String> {
    if text.contains(['\\', '\0']) {
        return Err(Error::config(format!("\"{}\" holds a backslash or a NUL", text.escape_debug())));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

impl Load {
    /// Makes the table of loads. It has no key, since Redshift would not enforce it.
    #[must_use]
    pub fn create_loads(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (job varchar(256) NOT NULL, step varchar(256) NOT NULL, incarnation bigint NOT NULL, \
             epoch bigint, file varchar(2048))",
            self.owner.table.sql()
        )
    }

    /// The first statement of each transaction, so that what the next ones see is no older than the lock.
    pub(super) fn lock(&self) -> String {
        format!("LOCK TABLE {}", self.owner.table.sql())
    }

    fn own(&self) -> Result<String> {
        Ok(format!("job = {} AND step = {}", literal(&self.owner.job)?, literal(&self.owner.step)?))
    }

    /// The last start and the last epoch that are written down.
    pub(super) fn marker(&self) -> Result<String> {
        Ok(format!("SELECT MAX(incarnation), MAX(epoch) FROM {} WHERE {}", self.owner.table.sql(), self.own()?))
    }

    /// Writes down that this start has begun.
    pub(super) fn begun(&self) -> Result<String> {
        let (table, incarnation) = (self.owner.table.sql(), self.owner.incarnation);
        let (job, step) = (literal(&self.owner.job)?, literal(&self.owner.step)?);
        Ok(format!("INSERT INTO {table} (job, step, incarnation) VALUES ({job}, {step}, {incarnation})"))
    }

    /// Which of these files are written down.
    pub(super) fn known(&self, files: &[StagedFile]) -> Result<String> {
        let urls = files.iter().map(|file| literal(&file.url)).collect::<Result<Vec<_>>>()?.join(", ");
        Ok(format!("SELECT file FROM {} WHERE {} AND file IN ({urls})", self.owner.table.sql(), self.own()?))
    }

    /// Writes files down.
    pub(super) fn record(&self, files: &[StagedFile]) -> Result<String> {
        let (job, step) = (literal(&self.owner.job)?, literal(&self.owner.step)?);
        let row = |file: &StagedFile| {
            let (incarnation, epoch, url) = (self.owner.incarnation, file.epoch, literal(&file.url)?);
            Ok(format!("({job}, {step}, {incarnation}, {epoch}, {url})"))
        };
        let rows = files.iter().map(row).collect::<Result<Vec<_>>>()?.join(", ");
        Ok(format!("INSERT INTO {} (job, step, incarnation, epoch, file) VALUES {rows}", self.owner.table.sql()))
    }

    /// The `COPY` of the files of a manifest.
    ///
    /// # Errors
    /// Settings that do not go together, or a URL that is none of S3.
    pub fn copy(&self, manifest: &str) -> Result<String> {
        if !manifest.starts_with("s3://") {
            return Err(Error::config(format!("\"{}\" is no URL of S3", manifest.escape_debug())));
        }
        let format = match self.format {
            FileFormat::Json => "JSON 'auto' TIMEFORMAT 'auto'",
            FileFormat::Csv => "CSV TIMEFORMAT 'auto'",
            FileFormat::Avro => "AVRO 'auto' TIMEFORMAT 'auto'",
            FileFormat::Parquet if self.max_errors > 0 => {
                return Err(Error::config(
                    "a load of Parquet files cannot leave out bad rows: Redshift has no MAXERROR there",
                ));
            }
            FileFormat::Parquet => "PARQUET",
        };
        // It fails with as many as it says, and goes on with fewer.
        let errors = match self.max_errors {
            0 => String::new(),
            most => format!(" MAXERROR {}", most.saturating_add(1)),
        };
        Ok(format!(
            "COPY {} ({}) FROM {} IAM_ROLE {} FORMAT AS {format} MANIFEST{errors}",
            self.target.sql(),
            quoted_list(&self.columns),
            literal(manifest)?,
            self.iam_role,
        ))
    }
}

/// Asks which rows the last `COPY` of this connection has left out: file, line, column, code and reason.
#[must_use]
pub fn bad_rows(deployment: Deployment) -> &'static str {
    match deployment {
        Deployment::Provisioned => {
            "SELECT TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason) FROM stl_load_errors \
             WHERE query = pg_last_copy_id() ORDER BY filename, line_number"
        }
        Deployment::Serverless => {
            "SELECT TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message) FROM sys_load_error_detail \
             WHERE query_id = pg_last_copy_id() ORDER BY file_name, line_number"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::marker::Owner;
    use crate::postgres::name::TableName;
    use shardflow::Epoch;
    use shardflow::vocabulary::Incarnation;

    fn load(format: FileFormat, max_errors: u32) -> Load {
        let owner = Owner {
            job: "it's".to_owned(),
            step: "charges".to_owned(),
            incarnation: Incarnation::new(3),
            table: TableName::parse("ops.loads").unwrap(),
        };
        let target = TableName::parse("billing.charges").unwrap();
        let columns = vec!["account".to_owned(), "Cents".to_owned()];
        Load { owner, target, columns, iam_role: "default".to_owned(), format, max_errors }
    }

    fn file(url: &str) -> StagedFile {
        StagedFile { url: url.to_owned(), bytes: 1, epoch: Epoch::new(7) }
    }

    #[test]
    fn the_protocol_word_by_word() {
        let load = load(FileFormat::Json, 0);
        let files = [file("s3://b/1"), file("s3://b/it's")];
        assert_eq!(load.lock(), "LOCK TABLE \"ops\".\"loads\"");
        assert_eq!(
            load.marker().unwrap(),
            "SELECT MAX(incarnation), MAX(epoch) FROM \"ops\".\"loads\" WHERE job = 'it''s' AND step = 'charges'"
        );
        assert_eq!(
            load.begun().unwrap(),
            "INSERT INTO \"ops\".\"loads\" (job, step, incarnation) VALUES ('it''s', 'charges', 3)"
        );
        assert_eq!(
            load.known(&files).unwrap(),
            "SELECT file FROM \"ops\".\"loads\" WHERE job = 'it''s' AND step = 'charges' AND file IN ('s3://b/1', 's3://b/it''s')"
        );
        assert_eq!(
            load.record(&files).unwrap(),
            "INSERT INTO \"ops\".\"loads\" (job, step, incarnation, epoch, file) VALUES \
             ('it''s', 'charges', 3, 7, 's3://b/1'), ('it''s', 'charges', 3, 7, 's3://b/it''s')"
        );
    }

    #[test]
    fn the_copy_of_each_format_word_by_word() {
        let copy = |format, errors| load(format, errors).copy("s3://b/m").unwrap();
        let before =
            "COPY \"billing\".\"charges\" (\"account\", \"Cents\") FROM 's3://b/m' IAM_ROLE default FORMAT AS ";
        for (format, errors, after) in [
            (FileFormat::Json, 0, "JSON 'auto' TIMEFORMAT 'auto' MANIFEST"),
            (FileFormat::Csv, 1, "CSV TIMEFORMAT 'auto' MANIFEST MAXERROR 2"),
            (FileFormat::Avro, 99_999, "AVRO 'auto' TIMEFORMAT 'auto' MANIFEST MAXERROR 100000"),
            (FileFormat::Parquet, 0, "PARQUET MANIFEST"),
        ] {
            assert_eq!(copy(format, errors), format!("{before}{after}"));
        }
    }

    #[test]
    fn nothing_here_relies_on_what_redshift_does_not_have() {
        let load = load(FileFormat::Json, 0);
        let files = [file("s3://b/1")];
        let all = [
            load.create_loads(),
            load.lock(),
            load.marker().unwrap(),
            load.begun().unwrap(),
            load.known(&files).unwrap(),
            load.record(&files).unwrap(),
        ];
        for word in ["ON CONFLICT", "UNIQUE", "PRIMARY KEY", "FOR UPDATE", "RETURNING", "SAVEPOINT", "text"] {
            assert!(!all.iter().any(|statement| statement.contains(word)), "{word}");
        }
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let error = load(FileFormat::Parquet, 1).copy("s3://b/m").unwrap_err().to_string();
        assert!(error.contains("no MAXERROR"), "{error}");
        assert!(load(FileFormat::Json, 0).copy("https://b/m").is_err());
        assert!(load(FileFormat::Json, 0).copy("s3://b/\\").is_err());
    }

    #[test]
    fn bad_rows_are_those_of_the_last_copy() {
        for deployment in [Deployment::Provisioned, Deployment::Serverless] {
            assert!(bad_rows(deployment).contains("= pg_last_copy_id()"));
        }
    }
}
