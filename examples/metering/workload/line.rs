//! How a [`Draft`] is written: the good ones fast, the bad ones in every way that [`Flaw`] names.

use super::{ACCOUNTS, Draft, Flaw, Kind, METERS, account_name, mix};
use crate::metering::types::LAST_MILLISECOND;

/// Writes records without formatting: the middle of a line, for each account and meter, is made once and copied.
#[derive(Debug)]
pub(super) struct Lines {
    middles: Vec<Vec<u8>>,
}

impl Lines {
    pub(super) fn new() -> Self {
        let accounts = 0..ACCOUNTS;
        Self { middles: accounts.flat_map(|account| METERS.map(|meter| middle(account, meter))).collect() }
    }

    /// Appends the record, and to a good one the time of its put.
    pub(super) fn write(&self, draft: &Draft, put: Option<u64>, out: &mut Vec<u8>) {
        if let Kind::Bad(flaw) = draft.kind {
            return write_bad(draft, flaw, out);
        }
        let middle = usize::from(draft.account) * METERS.len() + usize::from(draft.meter);
        out.extend_from_slice(b"{\"id\":\"u-");
        push_hex(draft.id, out);
        out.extend_from_slice(self.middles.get(middle).map_or(&[], Vec::as_slice));
        push_decimal(draft.qty, out);
        out.extend_from_slice(b",\"at\":");
        push_decimal(draft.at, out);
        if let Some(put) = put {
            out.extend_from_slice(b",\"put\":");
            push_decimal(put, out);
        }
        out.push(b'}');
    }
}

fn middle(account: u16, meter: &str) -> Vec<u8> {
    format!("\",\"account\":\"{}\",\"meter\":\"{meter}\",\"qty\":", account_name(account)).into_bytes()
}

pub(super) fn push_hex(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 16];
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (number >> (60 - 4 * index)) as u8 & 15;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    out.extend_from_slice(&digits);
}

pub(super) fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or(&[]));
}

fn write_bad(draft: &Draft, flaw: Flaw, out: &mut Vec<u8>) {
    let (id, account, qty, at) = (format!("u-{:016x}", draft.id), draft.account_name(), draft.qty, draft.at);
    let meter = METERS.get(usize::from(draft.meter)).copied().unwrap_or_default();
    let text = match flaw {
        Flaw::CutShort => {
            let whole = format!(r#"{{"id":"{id}","account":"{account}","meter":"{meter}","qty":{qty},"at":{at}}}"#);
            let keep = 1 + draft.id as usize % (whole.len() - 1);
            whole.chars().take(keep).collect()
        }
        Flaw::WrongType => {
            format!(r#"{{"id":"{id}","account":"{account}","meter":"{meter}","qty":"{qty}","at":{at}}}"#)
        }
        Flaw::MissingField => format!(r#"{{"id":"{id}","meter":"{meter}","qty":{qty},"at":{at}}}"#),
        Flaw::NegativeQty => {
            format!(r#"{{"id":"{id}","account":"{account}","meter":"{meter}","qty":-{qty},"at":{at}}}"#)
        }
        Flaw::HugeQty => {
            format!(r#"{{"id":"{id}","account":"{account}","meter":"{meter}","qty":18446744073709551616,"at":{at}}}"#)
        }
        Flaw::FarFuture => {
            let at = LAST_MILLISECOND + 1 + draft.at % 1000;
            format!(r#"{{"id":"{id}","account":"{account}","meter":"{meter}","qty":{qty},"at":{at}}}"#)
        }
        Flaw::EmptyObject => "{}".to_owned(),
        Flaw::InvalidUtf8 => {
            out.extend_from_slice(format!(r#"{{"id":"{id}","account":""#).as_bytes());
            out.extend_from_slice(b"acct-\xff\xfe");
            format!(r#"","meter":"{meter}","qty":{qty},"at":{at}}}"#)
        }
        Flaw::Junk => {
            // Continuation bytes only: no newline in it, and no text before it that they could continue.
            out.push(0);
            out.extend((0..24).map(|index| 0x80 | (mix(draft.id.wrapping_add(index)) as u8 & 0x3f)));
            return;
        }
    };
    out.extend_from_slice(text.as_bytes());
}
