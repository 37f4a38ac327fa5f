//! A record's fields, put into their columns and quoted.

use std::ops::Range;

use serde::Serialize;

use crate::encode::text::Rows;
use crate::encode::unfit::Unfit;
use crate::encode::{Scalar, TakeField, each_field, scalar};

/// Makes rows of comma-separated values.
#[derive(Debug)]
pub struct CsvRows {
    delimiter: u8,
    /// Whether the names of the columns are still to be written.
    header: bool,
    /// The columns, once they are known.
    columns: Option<Vec<String>>,
    row: Row,
}

/// The values of one record.
#[derive(Debug, Default)]
struct Row {
    /// All texts, one behind the other.
    text: String,
    /// By column: which part of the text. Kept from row to row for its memory.
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cell {
    Missing,
    Null,
    Text(Range<usize>),
}

impl CsvRows {
    pub(super) fn new(delimiter: u8, header: bool, columns: Option<Vec<String>>) -> Self {
        Self { delimiter, header, columns, row: Row::default() }
    }

    fn cells(&mut self, record: &impl Serialize) -> Result<Option<Vec<String>>, Unfit> {
        self.row.text.clear();
        self.row.cells.clear();
        if let Some(columns) = &self.columns {
            self.row.cells.resize(columns.len(), Cell::Missing);
            each_field(record, &mut Known { columns, row: &mut self.row, next: 0 })?;
            let missing = columns.iter().zip(&self.row.cells).find(|(_, cell)| **cell == Cell::Missing);
            return missing.map_or(Ok(None), |(name, _)| Err(Unfit::new("it is missing").in_field(name)));
        }
        let mut first = First { columns: Vec::new(), row: &mut self.row };
        each_field(record, &mut first)?;
        match first.columns {
            columns if columns.is_empty() => Err(Unfit::new("it has no fields")),
            columns => Ok(Some(columns)),
        }
    }
}

impl<T: Serialize> Rows<T> for CsvRows {
    fn row(&mut self, record: &T, out: &mut Vec<u8>) -> Result<(), String> {
        if let Some(columns) = self.cells(record).map_err(Unfit::line)? {
            self.columns = Some(columns);
        }
        if self.header {
            line(self.columns.iter().flatten().map(|name| Some(name.as_str())), self.delimiter, out);
            self.header = false;
        }
        let Row { text, cells } = &self.row;
        let values = cells.iter().map(|cell| match cell {
            Cell::Text(range) => text.get(range.clone()),
            Cell::Null | Cell::Missing => None,
        });
        line(values, self.delimiter, out);
        Ok(())
    }
}

impl Row {
    fn cell<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Cell, Unfit> {
        let start = self.text.len();
        Ok(match scalar(value, &mut self.text)? {
            Scalar::Null => Cell::Null,
            Scalar::Text => Cell::Text(start..self.text.len()),
        })
    }
}

/// Takes fields whose columns are known.
struct Known<'a> {
    columns: &'a [String],
    row: &'a mut Row,
    /// Where the next field belongs if the record's order is that of the columns, as it nearly always is.
    next: usize,
}

impl TakeField for Known<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Unfit> {
        let expected = self.columns.get(self.next).is_some_and(|column| column == name);
        let found = if expected { Some(self.next) } else { self.columns.iter().position(|column| column == name) };
        let at = found.ok_or_else(|| Unfit::new("there is no such column"))?;
        let cell = self.row.cell(value)?;
        match self.row.cells.get_mut(at) {
            Some(place @ Cell::Missing) => *place = cell,
            _ => return Err(Unfit::new("it comes twice")),
        }
        self.next = at.saturating_add(1);
        Ok(())
    }
}

/// Takes the fields of a file's first record: they are its columns.
struct First<'a> {
    columns: Vec<String>,
    row: &'a mut Row,
}

impl TakeField for First<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Unfit> {
        if self.columns.iter().any(|column| column == name) {
            return Err(Unfit::new("it comes twice"));
        }
        let cell = self.row.cell(value)?;
        self.row.cells.push(cell);
        self.columns.push(name.to_owned());
        Ok(())
    }
}

/// The first name that is there twice.
pub(super) fn repeated(names: &[String]) -> Option<&String> {
    names.iter().enumerate().find_map(|(at, name)| names.iter().take(at).any(|other| other == name).then_some(name))
}

/// Appends one line.
fn line<'a>(values: impl Iterator<Item = Option<&'a str>>, delimiter: u8, out: &mut Vec<u8>) {
    let start = out.len();
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(delimiter);
        }
        match value {
            None => {}
            Some(text) if must_be_quoted(text, delimiter) => quoted(text, out),
            Some(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
    if out.len() == start {
        // An empty line is no row to a reader.
        out.extend_from_slice(b"\"\"");
    }
    out.push(b'\n');
}

/// Whether a reader would take the text for something else: several values, several rows, nothing.
fn must_be_quoted(text: &str, delimiter: u8) -> bool {
    let special = |byte: u8| byte == delimiter || matches!(byte, b'"' | b'\r' | b'\n');
    // Some readers trim what is not quoted.
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    text.is_empty()
        || text.bytes().any(special)
        || edge(text.as_bytes().first())
        || edge(text.as_bytes().last())
        || text.starts_with('\u{feff}')
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use crate::encode::{Csv, FileEncoder, FileFormat, csv};

    #[derive(serde::Serialize)]
    struct Usage {
        account: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        units: f64,
    }

    fn usage(note: Option<&str>) -> Usage {
        Usage { account: "a".to_owned(), note: note.map(str::to_owned), units: 2.0 }
    }

    fn text<T: serde::Serialize>(format: &Csv, records: &[T]) -> String {
        let mut file = FileFormat::<T>::encoder(format).unwrap();
        records.iter().for_each(|record| file.write(record).unwrap());
        String::from_utf8(FileEncoder::<T>::finish(file).unwrap()).unwrap()
    }

    #[test]
    fn a_field_that_is_left_out_is_refused_and_shifts_nothing() {
        let mut file = FileFormat::<Usage>::encoder(&csv()).unwrap();
        file.write(&usage(Some("n"))).unwrap();
        assert_eq!(file.write(&usage(None)).unwrap_err(), "field \"note\": it is missing");
        file.write(&usage(Some(""))).unwrap();
        let bytes = FileEncoder::<Usage>::finish(file).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "account,note,units\na,n,2.0\na,\"\",2.0\n");
    }

    #[test]
    fn a_first_record_that_is_refused_does_not_name_the_columns() {
        let mut file = FileFormat::<serde_json::Value>::encoder(&csv()).unwrap();
        let list = serde_json::json!({"a": 1, "b": [2]});
        assert_eq!(file.write(&list).unwrap_err(), "field \"b\": a list is not a single value");
        file.write(&serde_json::json!({"c": 3})).unwrap();
        assert_eq!(
            file.write(&serde_json::json!({"a": 1, "c": 3})).unwrap_err(),
            "field \"a\": there is no such column"
        );
        assert_eq!(file.write(&serde_json::json!({})).unwrap_err(), "field \"c\": it is missing");
        let bytes = FileEncoder::<serde_json::Value>::finish(file).unwrap();
        assert_eq!(bytes, b"c\n3\n");
    }

    #[test]
    fn columns_may_be_given_in_another_order_and_without_a_header() {
        let format = csv().columns(["units", "note", "account"]).header(false).delimiter(b'\t');
        assert_eq!(FileFormat::<Usage>::ending(&format), "tsv");
        assert_eq!(text(&format, &[usage(Some("a\tb"))]), "2.0\t\"a\tb\"\ta\n");
    }

    #[test]
    fn a_single_column_of_nothing_is_still_a_row() {
        assert_eq!(text(&csv(), &[BTreeMap::from([("a", None::<u8>)])]), "a\n\"\"\n");
        assert_eq!(text::<Usage>(&csv(), &[]), "");
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for (format, text) in [
            (csv().delimiter(b'"'), "delimiter"),
            (csv().delimiter(b'\n'), "delimiter"),
            (csv().delimiter(0xE4), "delimiter"),
            (csv().columns(["a", "b", "a"]), "column \"a\" twice"),
            (csv().columns(Vec::<String>::new()), "an empty list"),
        ] {
            let error = FileFormat::<Usage>::encoder(&format).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    proptest! {
        #[test]
        fn another_reader_reads_back_what_was_written(
            rows in proptest::collection::vec(proptest::collection::vec("[a,;\"\r\n ä\t]{0,6}", 3), 0..20),
            delimiter in prop_oneof![Just(b','), Just(b';'), Just(b'\t')],
        ) {
            let records: Vec<BTreeMap<&str, &str>> = rows
                .iter()
                .map(|row| ["x", "y", "z,"].into_iter().zip(row.iter().map(String::as_str)).collect())
                .collect();
            let text = text(&csv().delimiter(delimiter), &records);
            let mut reader = ::csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
            if !rows.is_empty() {
                prop_assert_eq!(reader.headers().unwrap(), vec!["x", "y", "z,"]);
            }
            let read: Vec<Vec<String>> = reader
                .records()
                .map(|row| row.unwrap().iter().map(str::to_owned).collect())
                .collect();
            prop_assert_eq!(read, rows);
        }
    }
}
