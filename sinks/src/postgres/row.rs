//! A record becomes a row: a line of COPY's text format. Pure.

use std::fmt;
use std::sync::Arc;

use super::cell;

/// Appends one or more cells of a record. Where it fails it says why the record can never be written, and has appended
/// well-formed cells all the same.
type Write<T> = Arc<dyn Fn(&T, &mut Vec<u8>) -> Result<(), String> + Send + Sync>;

/// Which columns are written, and with what.
pub(crate) struct Layout<T> {
    names: Vec<String>,
    parts: Vec<Part<T>>,
}

struct Part<T> {
    /// The column, where the part is one.
    column: Option<String>,
    write: Write<T>,
}

impl<T> Clone for Layout<T> {
    fn clone(&self) -> Self {
        let part = |part: &Part<T>| Part { column: part.column.clone(), write: Arc::clone(&part.write) };
        Self { names: self.names.clone(), parts: self.parts.iter().map(part).collect() }
    }
}

impl<T> fmt::Debug for Layout<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.names).finish()
    }
}

impl<T> Layout<T> {
    pub(crate) fn new() -> Self {
        Self { names: Vec::new(), parts: Vec::new() }
    }

    /// The columns, in the order of the cells.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Adds a column.
    pub(crate) fn column(
        &mut self,
        name: String,
        write: impl Fn(&T, &mut Vec<u8>) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.names.push(name.clone());
        self.parts.push(Part { column: Some(name), write: Arc::new(write) });
    }

    /// Adds columns that are written together.
    pub(crate) fn columns(
        &mut self,
        names: &[String],
        write: impl Fn(&T, &mut Vec<u8>) -> Result<(), String> + Send + Sync + 'static,
    ) {
        if !names.is_empty() {
            self.names.extend_from_slice(names);
            self.parts.push(Part { column: None, write: Arc::new(write) });
        }
    }

    /// Appends a record's line.
    ///
    /// # Errors
    /// Why it can never be written. A well-formed line was appended all the same, so that the record can be shown.
    pub(crate) fn write(&self, record: &T, out: &mut Vec<u8>) -> Result<(), String> {
        let mut problem = None;
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            if let Err(text) = (part.write)(record, out) {
                problem.get_or_insert_with(|| match &part.column {
                    Some(column) => format!("column \"{column}\": {text}"),
                    None => text,
                });
            }
        }
        out.push(b'\n');
        problem.map_or(Ok(()), Err)
    }
}

/// A line as people and programs read it: a JSON object of the columns, each as text or null. A NUL, which PostgreSQL refuses to
/// read in JSON too, is shown as "␀".
pub(crate) fn show<S: AsRef<str>>(columns: &[S], line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut text = String::from("{");
    for (index, (column, cell)) in columns.iter().zip(line.split(|byte| *byte == b'\t')).enumerate() {
        let json = |value: serde_json::Value| value.to_string();
        let separator = if index > 0 { "," } else { "" };
        let value = cell::read(cell).map_or(serde_json::Value::Null, |text| text.replace('\0', "␀").into());
        text.push_str(&format!("{separator}{}:{}", json(column.as_ref().into()), json(value)));
    }
    text.push('}');
    text
}

/// The first characters of a row, for an error.
pub(crate) fn beginning(row: &str) -> String {
    const MOST: usize = 200;
    match row.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", row.get(..end).unwrap_or_default()),
        None => row.to_owned(),
    }
}

/// Where each line ends, behind its line break.
pub(crate) fn ends(lines: &[u8]) -> Vec<usize> {
    let breaks = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    breaks.map(|(at, _)| at.saturating_add(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout() -> Layout<(String, Option<u8>)> {
        let mut layout = Layout::new();
        layout.column("name".to_owned(), |(name, _): &(String, Option<u8>), out| cell::write(name, out));
        layout.columns(&["a".to_owned(), "b".to_owned()], |(name, number), out| {
            cell::write(number, out)?;
            out.push(b'\t');
            cell::write(&name.len(), out)
        });
        layout
    }

    #[test]
    fn a_record_is_one_line_of_cells() {
        let mut out = Vec::new();
        let layout = layout();
        layout.write(&("x\ny".to_owned(), None), &mut out).unwrap();
        layout.write(&("z".to_owned(), Some(7)), &mut out).unwrap();
        assert_eq!(out, b"x\\ny\t\\N\t3\nz\t7\t1\n");
        assert_eq!(ends(&out), [10, 16]);
        assert_eq!(layout.names(), ["name", "a", "b"]);
        assert_eq!(show(layout.names(), &out[..10]), "{\"name\":\"x\\ny\",\"a\":null,\"b\":\"3\"}");
    }

    #[test]
    fn a_problem_names_its_column_and_leaves_a_line_that_can_be_shown() {
        let mut out = Vec::new();
        let layout = layout();
        let error = layout.write(&("a\0".to_owned(), None), &mut out).unwrap_err();
        assert!(error.starts_with("column \"name\": it holds a NUL"), "{error}");
        assert_eq!(show(layout.names(), &out), "{\"name\":\"a␀\",\"a\":null,\"b\":\"2\"}");
    }

    #[test]
    fn only_the_beginning_of_a_long_row_is_told() {
        assert_eq!(beginning("short"), "short");
        let told = beginning(&"ä".repeat(5_000));
        assert_eq!(told.chars().count(), 201);
    }

    proptest! {
        #[test]
        fn a_shown_row_is_json_with_what_went_in(name: String, number: Option<u8>) {
            let mut out = Vec::new();
            let layout = layout();
            // It fails where there is a NUL, and can be shown all the same.
            let _ = layout.write(&(name.clone(), number), &mut out);
            let shown: serde_json::Value = serde_json::from_str(&show(layout.names(), &out)).unwrap();
            prop_assert_eq!(&shown["name"], &name.replace('\0', "␀"));
            prop_assert_eq!(shown["a"].as_str().map(ToOwned::to_owned), number.map(|n| n.to_string()));
        }
    }
}
