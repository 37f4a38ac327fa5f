//! A plan as text. Pure.

use std::fmt::{self, Write};

use super::{Piece, Plan};
use crate::stream::describe::{columns, percent};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "before: {} open shards", self.before.len())?;
        f.write_str(&table(&self.before))?;
        writeln!(f, "\nsteps: {}", self.steps.len())?;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "  {number}. {step}")?;
        }
        writeln!(f, "\nafter: {} open shards", self.after.len())?;
        f.write_str(&table(&self.after))?;
        f.write_char('\n')?;
        f.write_str("bytes/s: data and partition keys that arrived while the shards were measured\n")
    }
}

fn table(pieces: &[Piece]) -> String {
    let mut rows =
        vec![["  shard", "share %", "bytes/s", "first hash key", "last hash key"].map(str::to_owned).to_vec()];
    rows.extend(pieces.iter().map(|piece| {
        vec![
            format!("  {}", piece.shard.as_deref().unwrap_or("(new)")),
            percent(piece.range.share()),
            format!("{:.0}", piece.load.bytes_per_second()),
            piece.range.start().to_string(),
            piece.range.end().to_string(),
        ]
    }));
    columns(&rows, &[1, 2, 3, 4])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stream::shards::tests::shard;
    use crate::stream::{Goal, Load};

    #[test]
    fn a_plan_shows_what_is_what_is_done_and_what_will_be() {
        let half = 1 << 127;
        let shards = [shard("shard-0", &[], 0, half - 1, true), shard("shard-1", &[], half, u128::MAX, true)];
        let mut hot = Load::new(Duration::from_secs(10));
        hot.add(1_000, 6_000);
        hot.add(2_000, 4_000);
        let plan = Plan::new(&shards, vec![hot, Load::new(Duration::from_secs(10))], Goal::SplitHottest(1)).unwrap();
        let expected = "\
before: 2 open shards
  shard    share %  bytes/s                           first hash key                            last hash key
  shard-0   50.000     1000                                        0  170141183460469231731687303715884105727
  shard-1   50.000        0  170141183460469231731687303715884105728  340282366920938463463374607431768211455

steps: 1
  1. split 0..170141183460469231731687303715884105727 at 1500

after: 3 open shards
  shard    share %  bytes/s                           first hash key                            last hash key
  (new)      0.000      600                                        0                                     1499
  (new)     50.000      400                                     1500  170141183460469231731687303715884105727
  shard-1   50.000        0  170141183460469231731687303715884105728  340282366920938463463374607431768211455

bytes/s: data and partition keys that arrived while the shards were measured
";
        assert_eq!(plan.to_string(), expected);
    }
}
