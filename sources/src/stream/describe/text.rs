//! A description as text. Pure.

use std::fmt::{self, Write};

use crate::stream::shards::{Leaf, tree};
use crate::stream::{Consumer, Description, Lag};

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.heading(f)?;
        self.shards(f)?;
        if self.lags.is_some() {
            f.write_str(
                "behind: MillisBehindLatest of GetRecords at TRIM_HORIZON and at LATEST; oldest: when the first record at \
                 TRIM_HORIZON arrived\n",
            )?;
        }
        self.consumers(f)
    }
}

impl Description {
    fn heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = &self.summary;
        let open = self.shards.iter().filter(|shard| shard.is_open()).count();
        writeln!(f, "stream \"{}\"", stream.name)?;
        writeln!(f, "  arn         {}", stream.arn)?;
        writeln!(f, "  status      {}", stream.status)?;
        writeln!(f, "  mode        {}", stream.mode)?;
        if let Some(created) = stream.created {
            writeln!(f, "  created     {created}")?;
        }
        writeln!(f, "  retention   {} h", stream.retention_hours)?;
        writeln!(f, "  encryption  {}", stream.encryption)?;
        writeln!(f, "  records     up to {} bytes", stream.record_bytes)?;
        writeln!(f, "  shards      {open} open, {} closed", self.shards.len() - open)
    }

    fn shards(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut heading = ["shard", "state", "share %", "first hash key", "last hash key"].map(str::to_owned).to_vec();
        if self.lags.is_some() {
            heading.extend(["behind at oldest ms", "at newest ms", "oldest"].map(str::to_owned));
        }
        let mut rows = vec![heading];
        rows.extend(tree(&self.shards).iter().map(|leaf| self.row(leaf)));
        f.write_char('\n')?;
        f.write_str(&columns(&rows, &[2, 3, 4, 5, 6]))
    }

    fn row(&self, leaf: &Leaf<'_>) -> Vec<String> {
        let shard = leaf.shard;
        let name = format!("{}{}", leaf.branch, shard.id);
        if leaf.again {
            return vec![name, "(above)".to_owned()];
        }
        let (state, range) = (if shard.is_open() { "open" } else { "closed" }, shard.range);
        let mut row = vec![name, state.to_owned(), percent(range.share())];
        row.extend([range.start().to_string(), range.end().to_string()]);
        if let Some(lags) = &self.lags {
            let Lag { oldest_behind, oldest_arrived, newest_behind } = lags.get(&shard.id).copied().unwrap_or_default();
            let millis = |millis: Option<u64>| millis.map_or_else(|| "?".to_owned(), |millis| millis.to_string());
            let arrived = oldest_arrived.map_or_else(|| "none seen".to_owned(), |time| time.to_string());
            row.extend([millis(oldest_behind), millis(newest_behind), arrived]);
        }
        row
    }

    fn consumers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\n')?;
        f.write_str(&Consumer::table(&self.consumers))
    }
}

impl Consumer {
    /// Consumers as text, a line each.
    #[must_use]
    pub fn table(consumers: &[Self]) -> String {
        if consumers.is_empty() {
            return "no consumers are registered\n".to_owned();
        }
        let mut rows = vec![["consumer", "status", "created", "arn"].map(str::to_owned).to_vec()];
        rows.extend(consumers.iter().map(|consumer| {
            let created = consumer.created.map_or_else(|| "?".to_owned(), |time| time.to_string());
            vec![consumer.name.clone(), consumer.status.clone(), created, consumer.arn.clone()]
        }));
        columns(&rows, &[])
    }
}

/// A share of 1 as a percentage, without its sign.
pub(in crate::stream) fn percent(share: f64) -> String {
    format!("{:.3}", share * 100.0)
}

/// Rows as lines, the columns aligned: those in `numbers` to the right, the others to the left.
pub(in crate::stream) fn columns(rows: &[Vec<String>], numbers: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) =
                if numbers.contains(&column) { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(&format!("{gap}{before}{cell}{after}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stream::Summary;
    use crate::stream::shards::tests::shard;

    const HALF: u128 = 1 << 127;
    const QUARTER: u128 = 1 << 126;

    fn described() -> Description {
        let summary = Summary {
            name: "usage".to_owned(),
            arn: "arn:aws:kinesis:eu-west-1:1:stream/usage".to_owned(),
            status: "ACTIVE".to_owned(),
            mode: "PROVISIONED".to_owned(),
            retention_hours: 24,
            created: Some("2026-11-01T12:00:00Z".parse().unwrap()),
            encryption: "NONE".to_owned(),
            record_bytes: 1 << 20,
        };
        let shards = vec![
            shard("shard-0", &[], 0, HALF - 1, false),
            shard("shard-1", &[], HALF, u128::MAX, false),
            shard("shard-2", &["shard-0"], 0, QUARTER - 1, true),
            shard("shard-3", &["shard-0"], QUARTER, HALF - 1, false),
            shard("shard-4", &["shard-3", "shard-1"], QUARTER, u128::MAX, true),
        ];
        Description { summary, shards, consumers: Vec::new(), lags: None }
    }

    #[test]
    fn a_stream_is_drawn_with_its_lineage_and_each_merged_shard_once() {
        let expected = "\
stream \"usage\"
  arn         arn:aws:kinesis:eu-west-1:1:stream/usage
  status      ACTIVE
  mode        PROVISIONED
  created     2026-11-01T12:00:00Z
  retention   24 h
  encryption  NONE
  records     up to 1048576 bytes
  shards      2 open, 3 closed

shard          state    share %                           first hash key                            last hash key
shard-0        closed    50.000                                        0  170141183460469231731687303715884105727
├─ shard-2     open      25.000                                        0   85070591730234615865843651857942052863
└─ shard-3     closed    25.000   85070591730234615865843651857942052864  170141183460469231731687303715884105727
   └─ shard-4  open      75.000   85070591730234615865843651857942052864  340282366920938463463374607431768211455
shard-1        closed    50.000  170141183460469231731687303715884105728  340282366920938463463374607431768211455
└─ shard-4     (above)

no consumers are registered
";
        assert_eq!(described().to_string(), expected);
    }

    #[test]
    fn lags_say_what_is_measured_and_consumers_have_a_table() {
        let mut description = described();
        description.shards = vec![shard("s", &[], 0, u128::MAX, true), shard("t", &[], 5, 9, true)];
        let lag = Lag {
            oldest_behind: Some(86_400_000),
            oldest_arrived: Some("2026-10-31T12:00:00.5Z".parse().unwrap()),
            newest_behind: Some(0),
        };
        description.lags = Some(BTreeMap::from([("s".to_owned(), lag)]));
        description.consumers = vec![Consumer {
            name: "billing".to_owned(),
            arn: "arn:c".to_owned(),
            status: "ACTIVE".to_owned(),
            created: None,
        }];
        let text = description.to_string();
        let tail: Vec<&str> = text.lines().skip(10).collect();
        assert_eq!(
            tail,
            [
                "shard  state  share %  first hash key                            last hash key  behind at oldest ms  at newest ms  oldest",
                "s      open   100.000               0  340282366920938463463374607431768211455             86400000             0  2026-10-31T12:00:00.5Z",
                "t      open     0.000               5                                        9                    ?             ?  none seen",
                "behind: MillisBehindLatest of GetRecords at TRIM_HORIZON and at LATEST; oldest: when the first record at TRIM_HORIZON arrived",
                "",
                "consumer  status  created  arn",
                "billing   ACTIVE  ?        arn:c",
            ]
        );
    }
}
