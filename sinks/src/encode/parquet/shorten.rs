//! Cuts arrays, with all that is nested in them, to their first rows. Pure.

use serde_arrow::marrow::array::Array;

/// Cuts `array` to its first `rows` rows. Behind them may be anything, as long as the rows themselves are whole.
///
/// # Errors
/// It has fewer rows, or is of a type that is not written.
pub(super) fn shorten(array: &mut Array, rows: usize) -> Result<(), String> {
    match array {
        Array::Null(array) => array.len = rows,
        Array::Boolean(array) => {
            bits(&mut array.validity, rows);
            array.values.truncate(rows.div_ceil(8));
            array.len = rows;
        }
        Array::Int8(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Int16(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Int32(array) | Array::Date32(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Int64(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::UInt8(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::UInt16(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::UInt32(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::UInt64(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Float32(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Float64(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Time32(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Time64(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Timestamp(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Decimal128(array) => values(&mut array.validity, &mut array.values, rows)?,
        Array::Utf8(array) | Array::Binary(array) => {
            let end = offsets(&mut array.validity, &mut array.offsets, rows)?;
            array.data.truncate(end);
        }
        Array::LargeUtf8(array) | Array::LargeBinary(array) => {
            let end = offsets(&mut array.validity, &mut array.offsets, rows)?;
            array.data.truncate(end);
        }
        Array::FixedSizeBinary(array) => {
            bits(&mut array.validity, rows);
            array.data.truncate(times(rows, array.n)?);
        }
        Array::Struct(array) => {
            bits(&mut array.validity, rows);
            array.len = rows;
            array.fields.iter_mut().try_for_each(|(_, field)| shorten(field, rows))?;
        }
        Array::List(array) => {
            let end = offsets(&mut array.validity, &mut array.offsets, rows)?;
            shorten(&mut array.elements, end)?;
        }
        Array::LargeList(array) => {
            let end = offsets(&mut array.validity, &mut array.offsets, rows)?;
            shorten(&mut array.elements, end)?;
        }
        Array::FixedSizeList(array) => {
            bits(&mut array.validity, rows);
            array.len = rows;
            shorten(&mut array.elements, times(rows, array.n)?)?;
        }
        Array::Map(array) => {
            let end = offsets(&mut array.validity, &mut array.offsets, rows)?;
            shorten(&mut array.keys, end)?;
            shorten(&mut array.values, end)?;
        }
        _ => return Err("an array is of a type that is not written".to_owned()),
    }
    Ok(())
}

fn bits(bits: &mut Option<Vec<u8>>, rows: usize) {
    if let Some(bits) = bits {
        bits.truncate(rows.div_ceil(8));
    }
}

fn values<V>(validity: &mut Option<Vec<u8>>, values: &mut Vec<V>, rows: usize) -> Result<(), String> {
    bits(validity, rows);
    if values.len() < rows {
        return Err(format!("an array has {} of {rows} rows", values.len()));
    }
    values.truncate(rows);
    Ok(())
}

/// Gives where the last row ends.
fn offsets<O: Copy + TryInto<usize>>(
    validity: &mut Option<Vec<u8>>,
    offsets: &mut Vec<O>,
    rows: usize,
) -> Result<usize, String> {
    bits(validity, rows);
    let end = offsets.get(rows).and_then(|end| (*end).try_into().ok());
    let end = end.ok_or_else(|| format!("an array has {} of {rows} rows", offsets.len().saturating_sub(1)))?;
    offsets.truncate(rows.saturating_add(1));
    Ok(end)
}

fn times(rows: usize, size: i32) -> Result<usize, String> {
    let size = usize::try_from(size).map_err(|_| format!("a size of {size} cannot be"))?;
    rows.checked_mul(size).ok_or_else(|| "an array is too long".to_owned())
}
