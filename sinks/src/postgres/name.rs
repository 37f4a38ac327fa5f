//! Names of tables and columns, and how SQL writes them. Pure.

use std::fmt;

/// The longest name, in bytes: PostgreSQL cuts longer ones, and two names may then be one.
const LONGEST: usize = 63;

/// A table as the user names it: with or without its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TableName {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl TableName {
    /// Reads `table` or `schema.table`. Names are taken as they stand, upper and lower case too; a name with a dot or a quote
    /// in it stands between double quotes, as in SQL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted_name(quoted).ok_or("its double quotes do not match")?,
                None => {
                    let end = rest.find('.').unwrap_or(rest.len());
                    let (part, after) = rest.split_at(end);
                    (part.to_owned(), after)
                }
            };
            check(&part)?;
            parts.push(part);
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None if after.is_empty() => break,
                None => return Err("something follows a quoted name".to_owned()),
            }
        }
        let (table, schema) = (parts.pop(), parts.pop());
        match table {
            Some(table) if parts.is_empty() => Ok(Self { schema, table }),
            _ => Err("it has more than two parts".to_owned()),
        }
    }

    /// As SQL writes it.
    pub(crate) fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table)),
            None => quoted(&self.table),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

/// The name up to the closing quote, and what follows.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

/// Whether PostgreSQL can have such a name.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name is empty".to_owned());
    }
    if name.contains('\0') {
        return Err("it holds a NUL character".to_owned());
    }
    if name.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    Ok(())
}

/// An identifier that means exactly this name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A list of identifiers.
pub(crate) fn quoted_list<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(schema: Option<&str>, table: &str) -> TableName {
        TableName { schema: schema.map(ToOwned::to_owned), table: table.to_owned() }
    }

    #[test]
    fn a_table_is_named_with_or_without_its_schema() {
        for (text, expected) in [
            ("charges", name(None, "charges")),
            ("billing.Charges", name(Some("billing"), "Charges")),
            ("\"a.b\".\"say \"\"hi\"\"\"", name(Some("a.b"), "say \"hi\"")),
            ("plain.\"a.b\"", name(Some("plain"), "a.b")),
        ] {
            assert_eq!(TableName::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(64);
        for bad in ["", ".", "a.", ".a", "a.b.c", "\"a", "\"a\"b", "a\0b", "\"\"", &long] {
            assert!(TableName::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_name_reads_back_as_it_was(schema in "[^\0]{1,15}", table in "[^\0]{1,15}") {
            let (schema, table) = (schema.as_str(), table.as_str());
            let parsed = TableName::parse(&format!("{}.{}", quoted(schema), quoted(table)));
            prop_assert_eq!(parsed.unwrap(), name(Some(schema), table));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = TableName::parse(&text);
        }
    }
}
