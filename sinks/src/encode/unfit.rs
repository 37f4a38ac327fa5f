//! Why a record does not fit a format: one line that goes with it to the rejected output.

use std::fmt;

/// The longest reason, in characters: from one that repeats a whole schema, the middle is cut.
const MOST: usize = 300;

/// Why a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit(String);

impl Unfit {
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }

    /// The reason as one line, without the beginning that some libraries give their errors.
    pub(crate) fn line(why: impl fmt::Display) -> String {
        let text = why.to_string();
        let text = text.strip_prefix("Error: ").unwrap_or(&text);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let length = line.chars().count();
        if length <= MOST {
            return line;
        }
        // Libraries say what failed first, and why last.
        let begin: String = line.chars().take(MOST / 2).collect();
        let end: String = line.chars().skip(length.saturating_sub(MOST / 2)).collect();
        format!("{begin}…{end}")
    }

    /// Says which field it is about.
    pub(crate) fn in_field(self, name: &str) -> Self {
        Self(format!("field \"{name}\": {}", self.0))
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl serde::ser::Error for Unfit {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::new(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(Unfit::line("Error: a\n  b\r\nc"), "a b c");
        let long = Unfit::line(format!("first {} last", "ä".repeat(1000)));
        assert_eq!(long.chars().count(), MOST + 1);
        assert!(long.starts_with("first ä") && long.ends_with("ä last") && long.contains('…'));
    }
}
