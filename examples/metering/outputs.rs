//! Where results go beside the folder of the job: the values of `--sink`, read.
//!
//! `[OUTPUT=]TARGET`: which of the job's outputs, and where it goes. Without OUTPUT it is the charges. A connection string may
//! hold a password, so no error repeats what was given, and nothing shows it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What of the job goes to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// One charge for each account, meter and window.
    Charges,
    /// What each account has come to so far: rewritten with each of its charges.
    Bill,
    /// Every usage record, as it came in.
    Archive,
}

impl Output {
    /// As it is written before the `=`, and as steps are named.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Charges => "charges",
            Self::Bill => "bill",
            Self::Archive => "archive",
        }
    }
}

/// Where an output goes.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// Files of NDJSON in a folder.
    Files(PathBuf),
    /// An object store: `s3://BUCKET/PREFIX`, `gs://…`, `az://…`, `file:///…`. Parquet.
    Store(String),
    /// A table of DynamoDB, by name or ARN.
    DynamoDb(String),
    /// A table of PostgreSQL.
    Postgres {
        /// The server and the database, with what it takes to get in.
        connection: String,
        /// The table.
        table: String,
    },
    /// An index of OpenSearch or Elasticsearch.
    OpenSearch {
        /// A node, as a URL, which may hold a login.
        node: String,
        /// The index.
        index: String,
    },
    /// A Kinesis stream, by name or ARN.
    Kinesis(String),
}

impl Target {
    /// As steps are named.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::Store(_) => "store",
            Self::DynamoDb(_) => "dynamodb",
            Self::Postgres { .. } => "postgres",
            Self::OpenSearch { .. } => "opensearch",
            Self::Kinesis(_) => "kinesis",
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.kind()).finish()
    }
}

/// One value of `--sink`.
///
/// # Examples
/// ```
/// use shardflow_examples::metering::outputs::{Output, SinkSpec, Target};
/// let spec: SinkSpec = "bill=dynamodb:bills".parse()?;
/// assert_eq!((spec.output, spec.target), (Output::Bill, Target::DynamoDb("bills".to_owned())));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSpec {
    /// What goes there.
    pub output: Output,
    /// Where it goes.
    pub target: Target,
}

impl FromStr for SinkSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (output, target) = match text.split_once('=') {
            Some(("charges", target)) => (Output::Charges, target),
            Some(("bill", target)) => (Output::Bill, target),
            Some(("archive", target)) => (Output::Archive, target),
            // The `=` may as well stand in a connection string.
            Some((word, _)) if !word.contains(':') => return Err("expected charges=, bill= or archive=".to_owned()),
            _ => (Output::Charges, text),
        };
        let target = target_of(target)?;
        if output == Output::Archive && !matches!(target, Target::Store(_)) {
            return Err("archive= goes to an object store: s3://, gs://, az:// or file:///".to_owned());
        }
        Ok(Self { output, target })
    }
}

fn target_of(text: &str) -> Result<Target, String> {
    let Some((scheme, rest)) = text.split_once(':') else { return Err(expected()) };
    if rest.is_empty() {
        return Err("nothing after the colon".to_owned());
    }
    let named = |rest: &str| rest.to_owned();
    match scheme {
        "files" => Ok(Target::Files(rest.into())),
        "s3" | "gs" | "az" | "file" if rest.len() > 2 && rest.starts_with("//") => Ok(Target::Store(text.to_owned())),
        "dynamodb" => Ok(Target::DynamoDb(named(rest))),
        "kinesis" => Ok(Target::Kinesis(named(rest))),
        // Behind the colon a URL without its scheme, or key=value pairs.
        "postgres" | "postgresql" => match if rest.starts_with("//") { text } else { rest }.rsplit_once('#') {
            Some((connection, table)) if !connection.is_empty() && is_name(table) => {
                Ok(Target::Postgres { connection: connection.to_owned(), table: table.to_owned() })
            }
            _ => Err("expected postgres://USER@HOST/DATABASE#TABLE".to_owned()),
        },
        "opensearch" => match rest.rsplit_once('/') {
            Some((node, index)) if node.contains("://") && !node.ends_with('/') && is_name(index) => {
                Ok(Target::OpenSearch { node: node.to_owned(), index: index.to_owned() })
            }
            _ => Err("expected opensearch:https://HOST:PORT/INDEX".to_owned()),
        },
        _ => Err(expected()),
    }
}

/// Whether it is a name, and not the rest of a password with a `#` or a `/` in it: names are shown.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['@', '/'])
}

fn expected() -> String {
    "expected files:DIR, s3://BUCKET/PREFIX, dynamodb:TABLE, postgres://USER@HOST/DATABASE#TABLE, \
     opensearch:https://HOST:PORT/INDEX or kinesis:STREAM"
        .to_owned()
}

/// The steps of all sinks, in order: the output's name and the target's kind, with a number from the second of a kind on. A
/// step's name is the address of its state, so that the order of different kinds does not matter.
#[must_use]
pub fn steps(sinks: &[SinkSpec]) -> Vec<String> {
    let mut steps: Vec<String> = Vec::with_capacity(sinks.len());
    for SinkSpec { output, target } in sinks {
        let name = format!("{}-{}", output.name(), target.kind());
        let before = sinks.iter().take(steps.len());
        let same = before.filter(|spec| spec.output == *output && spec.target.kind() == target.kind()).count();
        steps.push(if same == 0 { name } else { format!("{name}-{}", same + 1) });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<SinkSpec, String> {
        text.parse()
    }

    #[test]
    fn every_output_and_target_is_read() {
        let postgres = |connection: &str, table: &str| Target::Postgres {
            connection: connection.to_owned(),
            table: table.to_owned(),
        };
        for (text, output, target) in [
            ("files:out/charges", Output::Charges, Target::Files("out/charges".into())),
            ("charges=kinesis:charges", Output::Charges, Target::Kinesis("charges".to_owned())),
            ("bill=dynamodb:bills", Output::Bill, Target::DynamoDb("bills".to_owned())),
            ("archive=s3://raw/usage", Output::Archive, Target::Store("s3://raw/usage".to_owned())),
            ("archive=file:///var/raw", Output::Archive, Target::Store("file:///var/raw".to_owned())),
            (
                "postgres://me:p=w@db/billing?sslmode=require#charges",
                Output::Charges,
                postgres("postgres://me:p=w@db/billing?sslmode=require", "charges"),
            ),
            ("postgres:host=db dbname=billing#charges", Output::Charges, postgres("host=db dbname=billing", "charges")),
            ("bill=postgres://me@db/billing#a.b", Output::Bill, postgres("postgres://me@db/billing", "a.b")),
            (
                "opensearch:https://search:9200/charges",
                Output::Charges,
                Target::OpenSearch { node: "https://search:9200".to_owned(), index: "charges".to_owned() },
            ),
        ] {
            assert_eq!(spec(text), Ok(SinkSpec { output, target }), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_repeating_it() {
        for (text, why) in [
            ("", "expected files:DIR"),
            ("secret", "expected files:DIR"),
            ("redis:secret", "expected files:DIR"),
            ("s3:secret", "expected files:DIR"),
            ("files:", "nothing after the colon"),
            ("bills=dynamodb:secret", "charges=, bill= or archive="),
            ("archive=dynamodb:secret", "object store"),
            ("postgres://me:secret@db/billing", "#TABLE"),
            ("postgres://me:secret@db/billing#", "#TABLE"),
            ("postgres://me:12#secret@db/billing", "#TABLE"),
            ("opensearch:https://me:12/secret@search", "INDEX"),
            ("opensearch:https://me:secret@search", "INDEX"),
            ("opensearch:https://me:secret@search:9200/", "INDEX"),
        ] {
            let error = spec(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_shows_a_connection_string() {
        let spec = spec("bill=postgres://me:secret@db/billing#bills").unwrap();
        assert!(!format!("{spec:?}").contains("secret"));
    }

    #[test]
    fn steps_have_names_of_their_own() {
        let sinks: Vec<SinkSpec> =
            ["files:a", "kinesis:b", "kinesis:c", "bill=kinesis:d"].map(|s| spec(s).unwrap()).into();
        assert_eq!(steps(&sinks), ["charges-files", "charges-kinesis", "charges-kinesis-2", "bill-kinesis"]);
    }
}
