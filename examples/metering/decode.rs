//! Bytes in, a [`Received`] use or the reason why not out. Nothing here survives a crash or needs to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::Deserialize;
use shardflow::{Decoder, decode::Json, json};

use super::report::new_histogram;
use super::types::{LAST_MILLISECOND, Received, Usage};

/// Decodes one JSON object a record and refuses event times after the year 9999.
///
/// # Examples
/// ```
/// use shardflow::Decoder;
/// use shardflow_examples::metering::decode::UsageDecoder;
/// let decoder = UsageDecoder::new();
/// assert_eq!(decoder.decode(br#"{"id":"u","account":"a","meter":"m","qty":3,"at":9}"#).map(|received| received.usage.qty), Ok(3));
/// assert!(decoder.decode(br#"{"id":"u","account":"a","meter":"m","qty":-3,"at":9}"#).is_err());
/// ```
#[derive(Debug)]
pub struct UsageDecoder {
    json: Json<Usage>,
    puts: Option<PutMeter>,
}

impl UsageDecoder {
    /// The decoder.
    #[must_use]
    pub fn new() -> Self {
        Self { json: json(), puts: None }
    }

    /// Also measures how long ago each record that says when it was put was put. For the demo: it parses such a record twice.
    #[must_use]
    pub fn measuring(mut self, puts: PutMeter) -> Self {
        self.puts = Some(puts);
        self
    }
}

impl Default for UsageDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder for UsageDecoder {
    type Output = Received;

    fn decode(&self, raw: &[u8]) -> Result<Received, String> {
        let usage = self.json.decode(raw)?;
        // A decoder of structs also takes an array of their fields.
        if !raw.trim_ascii_start().starts_with(b"{") {
            return Err("expected a JSON object".to_owned());
        }
        if usage.at > LAST_MILLISECOND {
            return Err(format!("event time {} ms is after the year 9999", usage.at));
        }
        if let Some(puts) = &self.puts {
            puts.observe(raw, now_millis());
        }
        Received::new(usage, raw)
    }
}

/// How long records were on their way from `put` (milliseconds since 1970, by the producer's clock) to being read, in
/// microseconds. Shared by the workers.
#[derive(Debug, Clone)]
pub struct PutMeter(Arc<Mutex<Histogram<u64>>>);

#[derive(Deserialize)]
struct Put {
    put: Option<u64>,
}

impl PutMeter {
    /// An empty meter.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(new_histogram())))
    }

    /// Takes a record read at `now`, in milliseconds since 1970. One without `put` is skipped.
    pub fn observe(&self, raw: &[u8], now: u64) {
        if let Ok(Put { put: Some(put) }) = serde_json::from_slice(raw) {
            let micros = now.saturating_sub(put).saturating_mul(1000);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
        }
    }

    /// What was measured until now.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Default for PutMeter {
    fn default() -> Self {
        Self::new()
    }
}

/// The wall clock, in milliseconds since 1970; 0 before that.
#[must_use]
pub fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Usage, String> {
        UsageDecoder::new().decode(text.as_bytes()).map(|received| received.usage)
    }

    #[test]
    fn an_array_of_the_fields_is_no_record() {
        let refused = decode(r#"["u","a","m",5,1700000000000]"#).unwrap_err();
        assert_eq!(refused, "expected a JSON object");
        assert!(decode(" \t{\"id\":\"u\",\"account\":\"a\",\"meter\":\"m\",\"qty\":1,\"at\":9}").is_ok());
    }

    #[test]
    fn time_after_the_year_9999_is_refused_with_the_reason() {
        let record = |at: u64| format!(r#"{{"id":"u","account":"a","meter":"m","qty":1,"at":{at}}}"#);
        assert_eq!(decode(&record(LAST_MILLISECOND)).unwrap().at, LAST_MILLISECOND);
        assert_eq!(
            decode(&record(LAST_MILLISECOND + 1)).unwrap_err(),
            "event time 253402300800000 ms is after the year 9999"
        );
    }

    #[test]
    fn unknown_fields_are_ignored_and_put_is_measured() {
        let puts = PutMeter::new();
        puts.observe(br#"{"id":"u","put":1000}"#, 1250);
        puts.observe(br#"{"id":"u"}"#, 1250);
        puts.observe(b"\xff", 1250);
        assert_eq!((puts.histogram().len(), puts.histogram().max() / 1000), (1, 250));
        let text = r#"{"id":"u","account":"a","meter":"m","qty":1,"at":5,"put":1000}"#;
        assert_eq!(decode(text).unwrap().id, "u");
    }
}
