//! `usage-{yyyy.MM.dd}`: the name of an index with a time in it. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use shardflow::EventTime;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
}

const FIELDS: [(&str, Piece); 4] =
    [("yyyy", Piece::Year), ("MM", Piece::Month), ("dd", Piece::Day), ("HH", Piece::Hour)];

impl Template {
    /// Takes a template apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (time, behind) = after.split_once('}').ok_or_else(|| format!("a brace of \"{text}\" is not closed"))?;
            add_text(&mut pieces, before);
            time_pieces(&mut pieces, time).map_err(|field| {
                format!("\"{text}\" has \"{field}\" between braces, where yyyy, MM, dd, HH and . - _ may be")
            })?;
            rest = behind;
        }
        if rest.contains('}') {
            return Err(format!("a brace of \"{text}\" is not opened"));
        }
        add_text(&mut pieces, rest);
        if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            return Err(format!("\"{text}\" has no time in it, like {{yyyy.MM.dd}}"));
        }
        Ok(Self(pieces))
    }

    /// The names for all times, with `*` for what differs.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => pattern.push_str(text),
                _ if pattern.ends_with('*') => {}
                _ => pattern.push('*'),
            }
        }
        pattern
    }

    /// The name for a time; `None` where the time is beyond the year 9999.
    pub(super) fn name(&self, time: EventTime) -> Option<String> {
        let at = i64::try_from(time.as_millis()).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok())?;
        let at: DateTime = TimeZone::UTC.to_datetime(at);
        let mut name = String::new();
        for piece in &self.0 {
            // Writing to a string does not fail.
            let _ = match piece {
                Piece::Text(text) => name.write_str(text),
                Piece::Year => write!(name, "{:04}", at.year()),
                Piece::Month => write!(name, "{:02}", at.month()),
                Piece::Day => write!(name, "{:02}", at.day()),
                Piece::Hour => write!(name, "{:02}", at.hour()),
            };
        }
        Some(name)
    }
}

fn add_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// What stands between braces. Gives back what is none.
fn time_pieces<'a>(pieces: &mut Vec<Piece>, mut rest: &'a str) -> Result<(), &'a str> {
    if rest.is_empty() {
        return Err(rest);
    }
    while let Some(first) = rest.chars().next() {
        if let Some((after, piece)) = FIELDS.iter().find_map(|(field, piece)| Some((rest.strip_prefix(field)?, piece)))
        {
            pieces.push(piece.clone());
            rest = after;
        } else if matches!(first, '.' | '-' | '_') {
            pieces.push(Piece::Text(first.to_string()));
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        } else {
            return Err(rest);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(template: &str, millis: u64) -> String {
        Template::parse(template).unwrap().name(EventTime::from_millis(millis)).unwrap()
    }

    #[test]
    fn a_template_gives_the_index_of_a_time() {
        // 2026-11-27T19:05:00Z.
        let at = 1_795_806_300_000;
        assert_eq!(name("usage-{yyyy.MM.dd}", at), "usage-2026.11.27");
        assert_eq!(name("{yyyy}-{MM}_x{HH}", at), "2026-11_x19");
        assert_eq!(name("u{yyyyMMdd-HH}", 0), "u19700101-00");
        assert_eq!(name("u{yyyyMMdd-HH}", 86_399_999), "u19700101-23");
        assert_eq!(name("u{yyyyMMdd-HH}", 86_400_000), "u19700102-00");
        assert_eq!(Template::parse("u-{yyyyMM.dd}-x").unwrap().pattern(), "u-*.*-x");
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, says) in [
            ("usage", "no time"),
            ("usage-{yyyy", "not closed"),
            ("usage-yyyy}", "not opened"),
            ("usage-{yyyy.mm.dd}", "\"mm.dd\""),
            ("usage-{}", "\"\""),
            ("usage-{YYYY}", "\"YYYY\""),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_time_without_a_date_has_no_index() {
        let template = Template::parse("usage-{yyyy}").unwrap();
        assert_eq!(template.name(EventTime::MAX), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_not(text in ".*", millis: u64) {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.name(EventTime::from_millis(millis));
            }
        }

        #[test]
        fn each_day_has_a_name_of_its_own_and_they_sort_by_time(a in 0u64..100_000_000_000_000, b in 0u64..100_000_000_000_000) {
            const DAY: u64 = 86_400_000;
            let (one, other) = (name("u-{yyyy.MM.dd}", a), name("u-{yyyy.MM.dd}", b));
            prop_assert_eq!((a / DAY).cmp(&(b / DAY)), one.cmp(&other));
        }
    }
}
