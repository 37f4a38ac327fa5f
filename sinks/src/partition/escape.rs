//! Values as part of a path, and back: Hive's percent-encoding, made safe and one to one. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use crate::encode::Unfit;

/// What stands for no value: Hive's own, which its readers take for null.
pub const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What stands for the empty string: Hive's readers refuse a key with nothing behind it.
pub const EMPTY: &str = "__EMPTY__";

/// The longest value, encoded, in bytes.
const MOST_BYTES: usize = 200;

/// Appends a value to a path.
///
/// # Errors
/// It is too long.
pub(super) fn append(value: Option<&str>, path: &mut String) -> Result<(), Unfit> {
    let start = path.len();
    match value {
        None => path.push_str(NULL),
        Some("") => path.push_str(EMPTY),
        Some(text) => {
            let is_reserved = text == NULL || text == EMPTY;
            let (last, mut before) = (text.chars().count().saturating_sub(1), None);
            for (at, c) in text.chars().enumerate() {
                // Two dots look like a way out, and Azure takes no name that ends with one.
                let is_bad_dot = c == '.' && (at == last || before == Some('.'));
                if is_unsafe(c) || is_bad_dot || (at == 0 && is_reserved) {
                    encode(c, path)?;
                } else {
                    path.push(c);
                }
                before = Some(c);
                if path.len().saturating_sub(start) > MOST_BYTES {
                    return Err(Unfit::new(format_args!("it takes more than {MOST_BYTES} bytes as part of a path")));
                }
            }
        }
    }
    Ok(())
}

/// What Hive encodes, what S3 and Google advise against, and what XML cannot list.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^')
        || matches!(
            c,
            '}' | '`' | '<' | '>' | '~' | '|' | '&' | '+' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}'
        )
}

fn encode(c: char, path: &mut String) -> Result<(), Unfit> {
    c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|byte| write!(path, "%{byte:02X}")).map_err(Unfit::new)
}

/// The keys and values of a path, decoded; what has no `=` is left out.
///
/// # Examples
/// ```
/// use shardflow_sinks::partition::values;
/// let found = values("2026/account=a%2Fb/note=__HIVE_DEFAULT_PARTITION__");
/// assert_eq!(found, [("account".to_owned(), Some("a/b".to_owned())), ("note".to_owned(), None)]);
/// ```
#[must_use]
pub fn values(path: &str) -> Vec<(String, Option<String>)> {
    let pairs = path.split('/').filter_map(|segment| segment.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect()
}

fn decode(value: &str) -> Option<String> {
    match value {
        NULL => None,
        EMPTY => Some(String::new()),
        value => Some(decoded(value).into_owned()),
    }
}

fn decoded(value: &str) -> Cow<'_, str> {
    if !value.contains('%') {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let hex = behind.split_first_chunk::<2>().and_then(|(digits, behind)| Some((hex(*digits)?, behind)));
        match hex.filter(|_| *byte == b'%') {
            Some((decoded, behind)) => {
                bytes.push(decoded);
                rest = behind;
            }
            None => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digits: [u8; 2]) -> Option<u8> {
    let text = std::str::from_utf8(&digits).ok()?;
    digits.iter().all(u8::is_ascii_hexdigit).then(|| u8::from_str_radix(text, 16).ok())?
}
