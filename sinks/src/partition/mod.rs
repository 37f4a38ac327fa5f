//! Folders by time and by fields of a record, in Hive's form: `dt={yyyy-MM-dd}/hour={HH}/account={account}`.
//!
//! *Enters*: a record. *Leaves*: the path of its folder, safe as part of an object's key. Two values of a field, and two
//! times that differ in what the template shows, never share a path. Pure: a template is checked once, at the start.
//!
//! # Templates
//! | in braces | is |
//! |---|---|
//! | `yyyy` `MM` `dd` `HH` `mm` | year, month, day, hour, minute of the event time, in UTC or the given time zone |
//! | these with `-`, `_` or `.` between them | as `yyyy-MM-dd` |
//! | any other name | a field of the record; it stands alone after its key: `account={account}` |
//!
//! # Values
//! What may not stand in a key is percent-encoded as Hive does, and decoded by its readers. No value is
//! `__HIVE_DEFAULT_PARTITION__`, which readers take for null; the empty string, which Hive's readers refuse, is
//! [`EMPTY`]. A text that looks like one of these is encoded. A value of more than 200 bytes does not fit.

mod escape;
mod template;
mod value;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use shardflow::{Error, EventTime, Result};

pub use escape::{EMPTY, NULL, values};
pub use value::PartitionValue;

use crate::encode::{Scalar, TakeField, Unfit, each_field, scalar};
use template::{Part, Template};

/// The longest path of all partitions together, in bytes: an object's key has 1024.
pub(crate) const MOST_BYTES: usize = 600;

/// Where the event time of a record is.
pub(crate) type TimeOf<T> = Arc<dyn Fn(&T) -> EventTime + Send + Sync>;
type FieldOf<T> = Arc<dyn Fn(&T) -> PartitionValue + Send + Sync>;
type FieldsOf<T> = fn(&T, &mut Wanted<'_>) -> std::result::Result<(), Unfit>;

/// Partitions by a template, which is checked by [`PartitionBy::build`].
pub(crate) fn partition_by<T>(template: impl Into<String>) -> PartitionBy<T> {
    PartitionBy { template: template.into(), zone: None, time: None, fields: Vec::new(), fields_of: None }
}

/// A template with what its names stand for. Made by [`partition_by`].
pub(crate) struct PartitionBy<T> {
    template: String,
    zone: Option<String>,
    time: Option<TimeOf<T>>,
    fields: Vec<(String, FieldOf<T>)>,
    fields_of: Option<FieldsOf<T>>,
}

impl<T> PartitionBy<T> {
    /// Where the event time of a record is.
    #[must_use]
    pub(crate) fn time(mut self, of: TimeOf<T>) -> Self {
        self.time = Some(of);
        self
    }

    /// Another template.
    #[must_use]
    pub(crate) fn template(mut self, template: impl Into<String>) -> Self {
        self.template = template.into();
        self
    }

    /// The time zone that days and hours are told in, by its IANA name. Default: UTC. Where clocks are put back, two hours
    /// share a folder.
    #[must_use]
    pub(crate) fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    /// What a name in the template stands for.
    #[must_use]
    pub(crate) fn field(
        mut self,
        name: impl Into<String>,
        of: impl Fn(&T) -> PartitionValue + Send + Sync + 'static,
    ) -> Self {
        self.fields.push((name.into(), Arc::new(of)));
        self
    }

    /// Takes all names that [`PartitionBy::field`] was not told of from the record's fields, as serde calls them.
    ///
    /// Whether there is such a field shows with each record: one without it does not fit.
    #[must_use]
    pub(crate) fn serde_fields(mut self) -> Self
    where
        T: Serialize,
    {
        self.fields_of = Some(serde_fields_of::<T>);
        self
    }

    /// Checks the template.
    ///
    /// # Errors
    /// A template that cannot be read, a name that stands for nothing, times without [`PartitionBy::time`], a time zone that
    /// is not known.
    pub(crate) fn build(&self) -> Result<Partitions<T>> {
        let refuse = |why: String| Error::config(format!("could not partition by \"{}\": {why}", self.template));
        let template = Template::parse(&self.template).map_err(refuse)?;
        if template.has_time && self.time.is_none() {
            return Err(refuse("it has a time, and it is not known where a record has its own".to_owned()));
        }
        let zone = match &self.zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|cause| {
                Error::config(format!("could not partition by \"{}\" in time zone \"{name}\"", self.template))
                    .caused_by(cause)
            })?,
        };
        let told = |name: &String| self.fields.iter().find(|(told, _)| told == name).map(|(_, of)| Arc::clone(of));
        let fields: Vec<Option<FieldOf<T>>> = template.fields.iter().map(told).collect();
        let unknown = template.fields.iter().zip(&fields).find(|(_, of)| of.is_none()).map(|(name, _)| name);
        let from_serde = self.fields_of.filter(|_| unknown.is_some());
        if let (Some(name), None) = (unknown, from_serde) {
            return Err(refuse(format!("there is no field \"{name}\"{}", template::hint(name))));
        }
        if let Some((name, _)) = self.fields.iter().find(|(name, _)| !template.fields.contains(name)) {
            return Err(refuse(format!("field \"{name}\" is told and not used")));
        }
        Ok(Partitions {
            template: Arc::new(template),
            zone,
            time: self.time.clone(),
            fields,
            fields_of: from_serde,
            last: None,
            found: Vec::new(),
            path: String::new(),
        })
    }
}

impl<T> Clone for PartitionBy<T> {
    fn clone(&self) -> Self {
        Self {
            template: self.template.clone(),
            zone: self.zone.clone(),
            time: self.time.clone(),
            fields: self.fields.clone(),
            fields_of: self.fields_of,
        }
    }
}

impl<T> fmt::Debug for PartitionBy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionBy")
            .field("template", &self.template)
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}

/// Tells the folder of each record. Made by [`PartitionBy::build`].
pub(crate) struct Partitions<T> {
    template: Arc<Template>,
    zone: TimeZone,
    time: Option<TimeOf<T>>,
    /// By the template's fields; `None`: serde knows.
    fields: Vec<Option<FieldOf<T>>>,
    fields_of: Option<FieldsOf<T>>,
    /// The last second that was looked up in the time zone.
    last: Option<(u64, DateTime)>,
    /// By the template's fields: what serde told of the last record.
    found: Vec<Option<PartitionValue>>,
    path: String,
}

impl<T> Partitions<T> {
    /// The path of a record's folder: never empty, without `..`, and without a slash at either end or two in a row.
    ///
    /// # Errors
    /// The record has no such folder, one line: a field is missing or not a single value, a value is too long, a time is
    /// beyond the year 9999.
    pub(crate) fn path(&mut self, record: &T) -> std::result::Result<&str, String> {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        let rendered = self.render(record, &mut path);
        self.path = path;
        rendered.map_err(Unfit::line)?;
        if self.path.len() > MOST_BYTES {
            return Err(format!("its partition has {} bytes, and {MOST_BYTES} are the most", self.path.len()));
        }
        Ok(&self.path)
    }

    fn render(&mut self, record: &T, path: &mut String) -> std::result::Result<(), Unfit> {
        let template = Arc::clone(&self.template);
        let time = match &self.time {
            Some(time) if template.has_time => Some(self.civil(time(record))?),
            _ => None,
        };
        if let Some(fields_of) = self.fields_of {
            self.found.clear();
            self.found.resize(template.fields.len(), None);
            fields_of(record, &mut Wanted { names: &template.fields, found: &mut self.found })?;
        }
        for part in &template.parts {
            match (part, time) {
                (Part::Text(text), _) => path.push_str(text),
                (Part::Time(unit), Some(time)) => unit.render(time, path),
                (Part::Time(_), None) => return Err(Unfit::new("its time is not known")),
                (Part::Field(at), _) => {
                    let name = template.fields.get(*at).map_or("", String::as_str);
                    let told = self.fields.get(*at).and_then(Option::as_ref).map(|of| of(record));
                    let value = told.or_else(|| self.found.get_mut(*at).and_then(Option::take));
                    let value = value.ok_or_else(|| Unfit::new("it is missing").in_field(name))?;
                    escape::append(value.as_text(), path).map_err(|unfit| unfit.in_field(name))?;
                }
            }
        }
        Ok(())
    }

    /// The time on the wall clocks of the time zone. Offsets change at whole seconds.
    fn civil(&mut self, at: EventTime) -> std::result::Result<DateTime, Unfit> {
        let second = at.as_millis() / 1000;
        if let Some((last, civil)) = self.last
            && last == second
        {
            return Ok(civil);
        }
        let timestamp = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
        let timestamp =
            timestamp.ok_or_else(|| Unfit::new(format_args!("its time, {at} ms, is beyond the year 9999")))?;
        let civil = self.zone.to_datetime(timestamp);
        self.last = Some((second, civil));
        Ok(civil)
    }
}

impl<T> Clone for Partitions<T> {
    fn clone(&self) -> Self {
        Self {
            template: Arc::clone(&self.template),
            zone: self.zone.clone(),
            time: self.time.clone(),
            fields: self.fields.clone(),
            fields_of: self.fields_of,
            last: None,
            found: Vec::new(),
            path: String::new(),
        }
    }
}

impl<T> fmt::Debug for Partitions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").field("template", &self.template).field("zone", &self.zone).finish_non_exhaustive()
    }
}

fn serde_fields_of<T: Serialize>(record: &T, wanted: &mut Wanted<'_>) -> std::result::Result<(), Unfit> {
    each_field(record, wanted)
}

/// Takes the fields that a template names.
struct Wanted<'a> {
    names: &'a [String],
    found: &'a mut [Option<PartitionValue>],
}

impl TakeField for Wanted<'_> {
    fn field<V: Serialize + ?Sized>(&mut self, name: &str, value: &V) -> std::result::Result<(), Unfit> {
        let place = self.names.iter().position(|wanted| wanted == name).and_then(|at| self.found.get_mut(at));
        if let Some(place) = place {
            let mut text = String::new();
            *place = Some(match scalar(value, &mut text)? {
                Scalar::Null => PartitionValue::null(),
                Scalar::Text => text.into(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
