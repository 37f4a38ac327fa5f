//! What flows through the job: [`Usage`] in, [`Total`] kept for each window, [`Charge`] out.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use shardflow::Window;

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
    fn charge_survives_json() {
        let line = r#"{"account":"a","meter":"m","window_start":0,"window_end":5,"qty":340282366920938463463374607431768211455,"count":1,"max":7}"#;
        let charge: Charge = serde_json::from_str(line).unwrap();
        assert_eq!(charge.qty, u128::MAX);
        assert_eq!(serde_json::to_string(&charge).unwrap(), line);
    }
}
