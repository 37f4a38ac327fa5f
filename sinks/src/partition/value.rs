//! What a field is, as part of a path.

/// A value of a partition: text or nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionValue(Option<String>);

impl PartitionValue {
    /// No value.
    #[must_use]
    pub fn null() -> Self {
        Self(None)
    }

    /// The text; `None` where there is no value.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl From<String> for PartitionValue {
    fn from(text: String) -> Self {
        Self(Some(text))
    }
}

impl<V: Into<Self>> From<Option<V>> for PartitionValue {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::null, Into::into)
    }
}

macro_rules! by_text {
    ($($type:ty),*) => {
        $(impl From<$type> for PartitionValue {
            fn from(value: $type) -> Self {
                Self(Some(value.to_string()))
            }
        })*
    };
}

by_text!(&str, &String, bool, char, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128);
