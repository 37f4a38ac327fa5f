//! The table: a figure a line, with its goal and whether it is met.

use std::fmt;

/// What a figure is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At least this.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
    /// Nothing: it is there to compare with.
    None,
}

impl Goal {
    fn met_by(self, figure: f64) -> Option<bool> {
        match self {
            Self::AtLeast(goal) => Some(figure >= goal),
            Self::Below(goal) => Some(figure < goal),
            Self::None => None,
        }
    }
}

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Records a second, in millions.
    RecordsPerSecond,
    /// Bytes, in millions.
    Bytes,
    /// Milliseconds.
    Millis,
    /// Parts of a core, in hundredths.
    Core,
}

impl Unit {
    fn write(self, figure: f64) -> String {
        match self {
            Self::RecordsPerSecond => format!("{:.2} M/s", figure / 1e6),
            Self::Bytes => format!("{:.0} MB", figure / 1e6),
            Self::Millis if figure < 10.0 => format!("{figure:.2} ms"),
            Self::Millis => format!("{figure:.0} ms"),
            Self::Core => format!("{:.2} % core", figure * 100.0),
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// The figure.
    pub(crate) figure: f64,
    /// How it is written.
    pub(crate) unit: Unit,
    /// What it is to be.
    pub(crate) goal: Goal,
    /// What else is worth knowing.
    pub(crate) notes: String,
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let goal = match self.goal {
            Goal::AtLeast(goal) => format!("≥ {}", self.unit.write(goal)),
            Goal::Below(goal) => format!("< {}", self.unit.write(goal)),
            Goal::None => String::new(),
        };
        let verdict = match self.goal.met_by(self.figure) {
            Some(true) => "OK",
            Some(false) => "MISSED",
            None => "",
        };
        [self.name.clone(), self.unit.write(self.figure), goal, verdict.to_owned(), self.notes.clone()]
    }
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds lines.
    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
    }

    /// How many goals were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.goal.met_by(row.figure) == Some(false)).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<[String; 5]> = self.rows.iter().map(Row::cells).collect();
        let width = |column: usize| {
            let lengths = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            lengths.max().unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3)];
        for [name, figure, goal, verdict, notes] in &cells {
            let [w0, w1, w2, w3] = widths;
            let line = format!("{name:<w0$}  {figure:>w1$}  {goal:<w2$}  {verdict:<w3$}  {notes}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, figure: f64, unit: Unit, goal: Goal) -> Row {
        Row { name: name.to_owned(), figure, unit, goal, notes: "3 runs".to_owned() }
    }

    #[test]
    fn columns_are_aligned_and_goals_are_judged() {
        let mut table = Table::default();
        table.extend([
            row("run", 2.6e6, Unit::RecordsPerSecond, Goal::AtLeast(2e6)),
            row("peak memory", 597e6, Unit::Bytes, Goal::Below(400e6)),
            row("plain", 5.9e6, Unit::RecordsPerSecond, Goal::None),
        ]);
        let expected = "run          2.60 M/s  ≥ 2.00 M/s  OK      3 runs\n\
                        peak memory    597 MB  < 400 MB    MISSED  3 runs\n\
                        plain        5.90 M/s                      3 runs\n";
        assert_eq!(table.to_string(), expected);
        assert_eq!(table.missed(), 1);
    }

    #[test]
    fn a_goal_that_is_just_met_is_met_and_just_not_below_is_missed() {
        assert_eq!(Goal::AtLeast(2.0).met_by(2.0), Some(true));
        assert_eq!(Goal::Below(2.0).met_by(2.0), Some(false));
        assert_eq!(Goal::None.met_by(2.0), None);
    }

    #[test]
    fn units_are_written_as_they_are_read() {
        assert_eq!(Unit::Millis.write(231.4), "231 ms");
        assert_eq!(Unit::Core.write(0.0042), "0.42 % core");
    }
}
