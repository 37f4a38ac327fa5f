//! The schema of a Parquet file: told by serde or given, and checked before a file is begun.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};

use crate::encode::unfit::Unfit;

type Trace = fn(TracingOptions) -> serde_arrow::Result<Vec<FieldRef>>;

/// A schema that serde tells, with columns that are to be of another type.
#[derive(Clone)]
pub(super) struct Traced {
    trace: Trace,
    pub(super) columns: Vec<(String, DataType)>,
}

impl Traced {
    pub(super) fn new<T: DeserializeOwned>() -> Self {
        Self { trace: Vec::<FieldRef>::from_type::<T>, columns: Vec::new() }
    }

    /// # Errors
    /// It cannot be told, or a column is not there: why.
    pub(super) fn schema(&self) -> Result<SchemaRef, String> {
        let options = TracingOptions::default()
            .map_as_struct(false)
            .enums_without_data_as_strings(true)
            .strings_as_large_utf8(false)
            .bytes_as_large_binary(false)
            .sequence_as_large_list(false)
            .from_type_budget(1000);
        let fields = (self.trace)(options).map_err(Unfit::line)?;
        let mut fields: Vec<FieldRef> = fields.iter().map(plain).collect();
        for (name, data_type) in &self.columns {
            let field = fields.iter_mut().find(|field| field.name() == name);
            let field = field.ok_or_else(|| format!("there is no column \"{name}\""))?;
            *field = Arc::new(Field::new(name, data_type.clone(), field.is_nullable()));
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// The field with strings where serde_arrow has dictionaries of strings: Parquet makes its own dictionaries, and readers
/// give back strings.
fn plain(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => (**values).clone(),
        DataType::List(item) => DataType::List(plain(item)),
        DataType::LargeList(item) => DataType::LargeList(plain(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain(item), *size),
        DataType::Map(entries, sorted) => DataType::Map(plain(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// # Errors
/// A type that Parquet or this crate does not write: which column, and why.
pub(super) fn check(schema: &Schema) -> Result<(), String> {
    if schema.fields().is_empty() {
        return Err("it has no columns".to_owned());
    }
    schema.fields().iter().try_for_each(|field| check_field(field, field.name()))
}

fn check_field(field: &Field, path: &str) -> Result<(), String> {
    let below = |inner: &Field| check_field(inner, &format!("{path}.{}", inner.name()));
    match field.data_type() {
        DataType::Null | DataType::Boolean => Ok(()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Ok(()),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Ok(()),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => Ok(()),
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) => Ok(()),
        DataType::Timestamp(_, None) => Ok(()),
        DataType::Timestamp(_, Some(zone)) if &**zone == "UTC" => Ok(()),
        DataType::Timestamp(_, Some(zone)) => {
            Err(format!("column \"{path}\" has time zone \"{zone}\": timestamps are in \"UTC\" or without a zone"))
        }
        DataType::Utf8 | DataType::LargeUtf8 => Ok(()),
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => Ok(()),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => below(item),
        DataType::Map(entries, _) => below(entries),
        DataType::Struct(fields) if fields.is_empty() => Err(format!("column \"{path}\" is a struct without fields")),
        DataType::Struct(fields) => fields.iter().try_for_each(|inner| below(inner)),
        DataType::Union(..) => Err(format!(
            "column \"{path}\" is an enum whose variants have values, which Parquet does not know: make it a struct of options"
        )),
        other => Err(format!("column \"{path}\" is of type {other}, which is not written")),
    }
}
