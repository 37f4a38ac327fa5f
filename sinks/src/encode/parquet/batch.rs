//! Records on their way into Arrow arrays: a record is in all of them or in none.
//!
//! A record that fails half-way has left values in some columns and not in others, and the library has no way back. So
//! the arrays are taken out as they are and shortened to the rows that were complete before.

use std::cell::Cell;
use std::mem;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};
use serde::Serialize;
use serde_arrow::ArrayBuilder;
use serde_arrow::marrow::array::Array;

use super::shorten::shorten;
use crate::encode::unfit::Unfit;
use crate::encode::watch::{Watch, Watched};

/// Rows that are not in a row group yet.
pub(super) struct Batch {
    schema: SchemaRef,
    fields: Vec<FieldRef>,
    builder: ArrayBuilder,
    rows: usize,
    weight: Scale,
}

/// A record that did not fit, and what the batch held before it.
pub(super) struct Refused {
    pub(super) why: String,
    /// The batch is empty now.
    ///
    /// `Err`: its rows are lost, and the file with them.
    pub(super) rescued: Result<Option<RecordBatch>, String>,
}

impl Batch {
    /// # Errors
    /// The schema cannot be built: why.
    pub(super) fn new(schema: SchemaRef) -> Result<Self, String> {
        let fields = schema.fields().to_vec();
        let builder = ArrayBuilder::from_arrow(&fields).map_err(Unfit::line)?;
        let mut batch = Self { schema, fields, builder, rows: 0, weight: Scale::default() };
        // What is built must be of the schema: better known before the first record.
        batch.build()?;
        Ok(batch)
    }

    /// Bytes that the rows take, about.
    pub(super) fn weight(&self) -> usize {
        self.weight.0.get()
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a record.
    pub(super) fn push<T: Serialize>(&mut self, record: &T) -> Result<(), Refused> {
        let pushed = self.builder.push(Watched { value: record, by: &self.weight });
        match pushed {
            Ok(()) => {
                self.rows = self.rows.saturating_add(1);
                Ok(())
            }
            Err(why) => Err(Refused { why: Unfit::line(why), rescued: self.rescue() }),
        }
    }

    /// The rows; `None` where there are none.
    pub(super) fn cut(&mut self) -> Result<Option<RecordBatch>, String> {
        self.weight.0.set(0);
        if mem::take(&mut self.rows) == 0 {
            return Ok(None);
        }
        self.build().map(Some)
    }

    fn build(&mut self) -> Result<RecordBatch, String> {
        let arrays = self.builder.to_arrow().map_err(Unfit::line)?;
        RecordBatch::try_new(SchemaRef::clone(&self.schema), arrays).map_err(Unfit::line)
    }

    /// The rows before one that failed.
    fn rescue(&mut self) -> Result<Option<RecordBatch>, String> {
        self.weight.0.set(0);
        let rows = mem::take(&mut self.rows);
        let fresh = ArrayBuilder::from_arrow(&self.fields).map_err(Unfit::line)?;
        let mut broken = mem::replace(&mut self.builder, fresh);
        if rows == 0 {
            return Ok(None);
        }
        let arrays = broken.to_marrow().map_err(Unfit::line)?;
        let whole = |mut array: Array| {
            shorten(&mut array, rows)?;
            ArrayRef::try_from(array).map_err(Unfit::line)
        };
        let arrays = arrays.into_iter().map(whole).collect::<Result<Vec<_>, String>>()?;
        RecordBatch::try_new(SchemaRef::clone(&self.schema), arrays).map(Some).map_err(Unfit::line)
    }
}

/// What the values weigh.
#[derive(Debug, Default)]
struct Scale(Cell<usize>);

impl Watch for Scale {
    // Timestamps are taken from i64 alone, and shardflow's event times are u64.
    fn longs(&self) -> bool {
        true
    }

    fn weigh(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_add(bytes));
    }
}
