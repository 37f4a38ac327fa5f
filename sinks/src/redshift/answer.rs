//! What Redshift answers, as text: by the simple protocol, which needs no types of it.

use shardflow::Result;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::postgres::failure::Failure;

pub(super) async fn rows(client: &Client, statement: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
    let answer = client.simple_query(statement).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Ok(answer.into_iter().filter_map(row).collect())
}

pub(super) async fn number(client: &Client, statement: &str) -> Result<u64, Failure> {
    let rows = rows(client, statement).await?;
    let number = rows.first().and_then(|row| row.get(0)).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Failure::transient(format!("\"{statement}\" gave no number")))
}

/// A row that a load has left out, as Redshift tells of it.
#[derive(Debug)]
pub(super) struct BadRow {
    pub(super) file: String,
    pub(super) line: u64,
    column: String,
    code: String,
    reason: String,
}

impl BadRow {
    pub(super) fn read(row: &SimpleQueryRow) -> Self {
        let text = |column: usize| row.get(column).unwrap_or_default().trim().to_owned();
        Self {
            file: text(0),
            line: text(1).parse().unwrap_or_default(),
            column: text(2),
            code: text(3),
            reason: text(4),
        }
    }

    pub(super) fn place(&self) -> (&str, u64) {
        (&self.file, self.line)
    }

    pub(super) fn told(&self) -> String {
        let column = if self.column.is_empty() { String::new() } else { format!("column \"{}\": ", self.column) };
        format!("{column}{} [{}]", self.reason, self.code)
    }
}
