//! What flows through the job: [`Usage`] in, with its text ([`Received`]); [`Total`] kept for each window; [`Charge`] out.

use compact_str::CompactString;
use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use shardflow::{Window, WindowResult};

/// What usage is charged by: an account and one of its meters.
pub type Key = (CompactString, CompactString);

/// The last event time that a usage record may carry: 9999-12-31T23:59:59.999Z, in milliseconds since 1970.
///
/// One record far in the future would move its split's watermark there and make everything after it late, so a time
/// that no calendar prints is taken for a broken record.
pub const LAST_MILLISECOND: u64 = 253_402_300_799_999;

/// One use of a meter, as it comes in. Its strings lie inside the value up to 24 bytes, so most records allocate nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// Names this use: a second record with the same id is a copy.
    pub id: CompactString,
    /// Who pays.
    pub account: CompactString,
    /// What was used.
    pub meter: CompactString,
    /// How much, in the meter's unit.
    pub qty: u64,
    /// When, in milliseconds since 1970. At most [`LAST_MILLISECOND`].
    pub at: u64,
}

impl Usage {
    /// What it is charged by.
    #[must_use]
    pub fn key(&self) -> Key {
        (self.account.clone(), self.meter.clone())
    }
}

/// A use as it came in: with its text, where that says more than the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// What it says.
    pub usage: Usage,
    /// The JSON object it was read from; `None` where that is what the fields alone are written as, which saves a copy of
    /// most records.
    text: Option<Box<str>>,
}

impl Received {
    /// The use that `raw` says.
    ///
    /// # Errors
    /// `raw` is no UTF-8.
    pub fn new(usage: Usage, raw: &[u8]) -> Result<Self, String> {
        if is_plain(raw, &usage).is_some() {
            return Ok(Self { usage, text: None });
        }
        let text = std::str::from_utf8(raw).map_err(|error| error.to_string())?;
        Ok(Self { usage, text: Some(text.into()) })
    }
}

/// Writes a record as the JSON object that it came as, without the white space around it.
#[derive(Debug, Clone)]
pub struct AsItCame(pub Received);

impl Serialize for AsItCame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.text {
            Some(text) => serde_json::from_str::<&RawValue>(text).map_err(S::Error::custom)?.serialize(serializer),
            None => self.0.usage.serialize(serializer),
        }
    }
}

/// Whether `raw`, which was read as `usage`, is the shortest text that says so. Compares the bytes between the values: it
/// costs little beside the decoding, which has seen to it that what lies between quotation marks needs no escape.
fn is_plain(raw: &[u8], usage: &Usage) -> Option<()> {
    let id = raw.strip_prefix(b"{\"id\":\"")?.strip_prefix(usage.id.as_bytes())?;
    let account = id.strip_prefix(b"\",\"account\":\"")?.strip_prefix(usage.account.as_bytes())?;
    let meter = account.strip_prefix(b"\",\"meter\":\"")?.strip_prefix(usage.meter.as_bytes())?;
    let qty = after_digits(meter.strip_prefix(b"\",\"qty\":")?);
    let at = after_digits(qty.strip_prefix(b",\"at\":")?);
    (at == b"}").then_some(())
}

fn after_digits(bytes: &[u8]) -> &[u8] {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.get(digits..).unwrap_or_default()
}

/// What one window knows of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Total {
    /// Sum of the quantities. 2^64 records of the greatest quantity fit.
    pub qty: u128,
    /// Number of records.
    pub count: u64,
    /// The greatest quantity.
    pub max: u64,
}

impl Total {
    /// Takes one use.
    pub fn add(&mut self, usage: &Usage) {
        self.add_qty(usage.qty);
    }

    /// Takes one quantity.
    pub fn add_qty(&mut self, qty: u64) {
        self.qty = self.qty.saturating_add(u128::from(qty));
        self.count = self.count.saturating_add(1);
        self.max = self.max.max(qty);
    }
}

/// What an account owes for a meter and a window, as it goes out: one line of `charges/`.
///
/// # Examples
/// ```
/// use shardflow::{EventTime, Window};
/// use shardflow_examples::metering::types::{Charge, Total};
/// let window = Window::new(EventTime::from_millis(60_000), EventTime::from_millis(120_000));
/// let charge = Charge::new(("a-1".into(), "cpu".into()), window, Total { qty: 1 << 64, count: 2, max: 9 });
/// assert_eq!(
///     serde_json::to_string(&charge).unwrap_or_default(),
///     r#"{"account":"a-1","meter":"cpu","window_start":60000,"window_end":120000,"qty":18446744073709551616,"count":2,"max":9}"#,
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Charge {
    /// Who pays.
    pub account: CompactString,
    /// What was used.
    pub meter: CompactString,
    /// The window's first millisecond since 1970.
    pub window_start: u64,
    /// The first millisecond after the window.
    pub window_end: u64,
    /// Sum of the quantities; a JSON integer that may pass 2^64.
    pub qty: u128,
    /// Number of records.
    pub count: u64,
    /// The greatest quantity.
    pub max: u64,
}

impl Charge {
    /// The charge of a closed window.
    #[must_use]
    pub fn new((account, meter): Key, window: Window, total: Total) -> Self {
        Self {
            account,
            meter,
            window_start: window.start().as_millis(),
            window_end: window.end().as_millis(),
            qty: total.qty,
            count: total.count,
            max: total.max,
        }
    }

    /// The charge of a result.
    #[must_use]
    pub fn of(result: WindowResult<Key, Total>) -> Self {
        Self::new(result.key, result.window, result.value)
    }

    /// Its sums alone.
    #[must_use]
    pub fn total(&self) -> Total {
        Total { qty: self.qty, count: self.count, max: self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_sums_beyond_64_bits() {
        let mut total = Total::default();
        total.add_qty(u64::MAX);
        total.add_qty(u64::MAX);
        assert_eq!(total, Total { qty: 2 * u128::from(u64::MAX), count: 2, max: u64::MAX });
    }

    #[test]
    fn a_record_leaves_as_it_came() {
        let plain = r#"{"id":"u","account":"a","meter":"m","qty":3,"at":9}"#;
        let others = [
            r#"{"id":"u","account":"a","meter":"m","qty":3,"at":9,"put":7}"#,
            r#"{"at":9,"id":"u","account":"a","meter":"m","qty":3}"#,
            r#"{"id":"\u0075","account":"a","meter":"m","qty":3,"at":9}"#,
            r#"{ "id":"u","account":"a","meter":"m","qty":3,"at":9 }"#,
            "{\"id\":\"u\",\"account\":\"a\",\"meter\":\"m\",\"qty\":3,\n\"at\":9}",
        ];
        for text in others.into_iter().chain([plain]) {
            let usage: Usage = serde_json::from_str(text).unwrap();
            let received = Received::new(usage, text.as_bytes()).unwrap();
            assert_eq!(received.text.is_none(), text == plain, "{text}");
            assert_eq!(serde_json::to_string(&AsItCame(received)).unwrap(), text);
        }
    }

    #[test]
    fn charge_survives_json() {
        let line = r#"{"account":"a","meter":"m","window_start":0,"window_end":5,"qty":340282366920938463463374607431768211455,"count":1,"max":7}"#;
        let charge: Charge = serde_json::from_str(line).unwrap();
        assert_eq!(charge.qty, u128::MAX);
        assert_eq!(serde_json::to_string(&charge).unwrap(), line);
    }
}
