//! Where documents go.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use shardflow::{Error, EventTime, Result};

use super::action::Shape;
use super::name;
use super::template::Template;

/// What the user says of it.
pub(super) enum Target<T> {
    Index(String),
    Alias(String),
    DataStream(String),
    ByTime(String, Arc<dyn Fn(&T) -> EventTime + Send + Sync>),
    Chosen(Arc<dyn Fn(&T) -> String + Send + Sync>),
}

/// One thing on the server that every document goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Index,
    Alias,
    DataStream,
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind, self.name)
    }
}

impl Kind {
    pub(super) fn with_article(self) -> &'static str {
        match self {
            Self::Index => "an index",
            Self::Alias => "an alias",
            Self::DataStream => "a data stream",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Index => "index",
            Self::Alias => "alias",
            Self::DataStream => "data stream",
        })
    }
}

/// It, checked.
pub(super) enum Resolved<T> {
    Fixed(Fixed),
    ByTime(Template, Arc<dyn Fn(&T) -> EventTime + Send + Sync>),
    Chosen(Arc<dyn Fn(&T) -> String + Send + Sync>),
}

impl<T> Resolved<T> {
    /// Checks where documents go, and that what is set of them goes together.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub(super) fn of(target: Option<&Target<T>>, shape: &Shape<T>) -> Result<Self> {
        let fixed = |name: &String, kind| {
            name::check(name).map_err(Error::config)?;
            Ok(Self::Fixed(Fixed { name: name.clone(), kind }))
        };
        let is_stream = matches!(target, Some(Target::DataStream(_)));
        if (is_stream || shape.creates) && shape.has_own_versions() {
            return Err(Error::config(
                "could not use a version: what only creates documents, as a data stream does, keeps the first and takes none",
            ));
        }
        if is_stream && shape.deleted.is_some() {
            return Err(Error::config("could not use delete_if: a data stream deletes nothing"));
        }
        match target {
            None => Err(Error::config(
                "could not tell where documents go: call index, alias, data_stream, index_by_time or index_of",
            )),
            Some(Target::Index(name)) => fixed(name, Kind::Index),
            Some(Target::Alias(name)) => fixed(name, Kind::Alias),
            Some(Target::DataStream(name)) => fixed(name, Kind::DataStream),
            Some(Target::Chosen(index)) => Ok(Self::Chosen(Arc::clone(index))),
            Some(Target::ByTime(text, time)) => {
                let refuse = |why| Error::config(format!("could not use the index template: {why}"));
                let template = Template::parse(text).map_err(refuse)?;
                name::check(&template.name(EventTime::MIN).unwrap_or_default()).map_err(refuse)?;
                Ok(Self::ByTime(template, Arc::clone(time)))
            }
        }
    }

    /// The one thing that every document goes to, where there is one.
    pub(super) fn fixed(&self) -> Option<&Fixed> {
        match self {
            Self::Fixed(fixed) => Some(fixed),
            Self::ByTime(..) | Self::Chosen(_) => None,
        }
    }

    /// The indices that documents go to, as far as it is known beforehand.
    pub(super) fn pattern(&self) -> Option<String> {
        match self {
            Self::Fixed(fixed) => Some(fixed.name.clone()),
            Self::ByTime(template, _) => Some(template.pattern()),
            Self::Chosen(_) => None,
        }
    }

    /// Whether documents go to a data stream.
    pub(super) fn is_stream(&self) -> bool {
        self.fixed().is_some_and(|fixed| fixed.kind == Kind::DataStream)
    }

    /// The index of a record.
    ///
    /// # Errors
    /// Why it has none.
    pub(super) fn index(&self, record: &T) -> Result<Cow<'_, str>, String> {
        match self {
            Self::Fixed(fixed) => Ok(Cow::Borrowed(&fixed.name)),
            Self::ByTime(template, time) => {
                let time = time(record);
                let beyond = || format!("its time, {} ms, is beyond the year 9999", time.as_millis());
                template.name(time).map(Cow::Owned).ok_or_else(beyond)
            }
            Self::Chosen(index) => {
                let index = index(record);
                name::check(&index)?;
                Ok(Cow::Owned(index))
            }
        }
    }
}

impl<T> Clone for Target<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Index(name) => Self::Index(name.clone()),
            Self::Alias(name) => Self::Alias(name.clone()),
            Self::DataStream(name) => Self::DataStream(name.clone()),
            Self::ByTime(template, time) => Self::ByTime(template.clone(), Arc::clone(time)),
            Self::Chosen(index) => Self::Chosen(Arc::clone(index)),
        }
    }
}

impl<T> fmt::Debug for Target<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> fmt::Display for Target<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(name) => write!(f, "index {name:?}"),
            Self::Alias(name) => write!(f, "alias {name:?}"),
            Self::DataStream(name) => write!(f, "data stream {name:?}"),
            Self::ByTime(template, _) => write!(f, "index {template:?}"),
            Self::Chosen(_) => f.write_str("an index for each record"),
        }
    }
}
