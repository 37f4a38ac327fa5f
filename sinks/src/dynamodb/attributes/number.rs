//! Numbers as DynamoDB has them: decimal, up to 38 digits, from 1E-130 to 9.99…E+125 and their negatives, and zero. Pure.
//!
//! Its own rule (developer guide, "Naming rules and data types") refuses what has more digits; what it would round or cannot
//! hold never gets that far here.

use std::fmt;

/// Digits that count: those between the first and the last that is not 0.
const MOST_DIGITS: usize = 38;

/// The exponent of the first digit, as scientific notation has it.
const EXPONENTS: std::ops::RangeInclusive<i64> = -130..=125;

/// A number, taken apart: 0.*digits* · 10^*point*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dynamodb) struct Number {
    negative: bool,
    /// Without zeros at either end; empty for zero.
    digits: String,
    point: i64,
}

impl Number {
    /// Reads a decimal number with or without an exponent; `None` where the text is none.
    pub(in crate::dynamodb) fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let from_first = all.trim_start_matches('0');
        let zeros = i64::try_from(all.len().checked_sub(from_first.len())?).ok()?;
        let digits = from_first.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, point: 0 });
        }
        let whole = i64::try_from(whole.len()).ok()?;
        let point = whole.checked_sub(zeros)?.checked_add(i64::from(exponent))?;
        Some(Self { negative, digits, point })
    }

    /// Why DynamoDB would not take it, where that is so.
    pub(super) fn fault(&self) -> Option<String> {
        if self.digits.is_empty() {
            return None;
        }
        let exponent = self.point.saturating_sub(1);
        if self.digits.len() > MOST_DIGITS {
            return Some(format!("it has {} digits, and DynamoDB keeps {MOST_DIGITS}", self.digits.len()));
        }
        (!EXPONENTS.contains(&exponent))
            .then(|| format!("its exponent is {exponent}, and DynamoDB's go from -130 to 125"))
    }

    /// What it takes of an item's size: a byte for every two digits, and one.
    pub(super) fn bytes(&self) -> usize {
        self.digits.len().div_ceil(2).saturating_add(1)
    }
}

/// One text for one number, however it was written.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        let sign = if self.negative { "-" } else { "" };
        write!(f, "{sign}0.{}e{}", self.digits, self.point)
    }
}

/// The text of a finite float that reads back as the same float, short for all sizes.
pub(super) fn of_float<F: Copy + Into<f64> + fmt::Display + fmt::LowerExp>(float: F) -> Option<String> {
    let wide: f64 = float.into();
    if !wide.is_finite() {
        return None;
    }
    let size = wide.abs();
    Some(match size {
        0.0 => "0".to_owned(),
        _ if (1e-6..1e17).contains(&size) => float.to_string(),
        _ => format!("{float:e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn one_number_has_one_text() {
        for (one, other) in [("1", "1.0"), ("100", "1e2"), ("-0", "0"), ("0.00", "0"), ("007", "7"), ("1.5e2", "+150")]
        {
            assert_eq!(number(one).to_string(), number(other).to_string(), "{one} {other}");
        }
        assert_ne!(number("1").to_string(), number("-1").to_string());
        assert_ne!(number("1").to_string(), number("10").to_string());
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", "-", ".", "e1", "NaN", "inf", "1e", "1.2.3", "0x1", " 1", "1 ", "1e99999999999", "١"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn limits_are_dynamodbs() {
        let nines = "9".repeat(38);
        for fits in [
            "0",
            "1e-130",
            "-1e125",
            "0.0e999",
            &nines,
            &format!("{nines}00000"),
            &format!("0.{nines}"),
            &format!("{nines}e88"),
        ] {
            assert_eq!(number(fits).fault(), None, "{fits}");
        }
        for (bad, why) in [
            (format!("1{nines}"), "39 digits"),
            (u128::MAX.to_string(), "39 digits"),
            ("1e126".to_owned(), "exponent is 126"),
            ("-1e-131".to_owned(), "exponent is -131"),
            (format!("{nines}e89"), "exponent is 126"),
        ] {
            let fault = number(&bad).fault().expect("too much");
            assert!(fault.contains(why), "{bad}: {fault}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_developer_guide() {
        for (text, bytes) in [("0", 1), ("7", 2), ("-42", 2), ("100", 2), ("123", 3), ("0.001", 2)] {
            assert_eq!(number(text).bytes(), bytes, "{text}");
        }
    }

    proptest! {
        #[test]
        fn floats_read_back_as_they_were(bits: u64, single: u32) {
            let float = f64::from_bits(bits);
            match of_float(float) {
                None => prop_assert!(!float.is_finite()),
                Some(text) => {
                    prop_assert_eq!(text.parse::<f64>().unwrap(), float);
                    prop_assert!(number(&text).digits.len() <= 17 && text.len() <= 26, "{}", text);
                }
            }
            let float = f32::from_bits(single);
            if let Some(text) = of_float(float) {
                prop_assert_eq!(text.parse::<f32>().unwrap(), float);
            }
        }

        #[test]
        fn whole_numbers_are_what_they_are(value: i128, zeros in 0usize..10) {
            let plain = number(&value.to_string());
            prop_assert_eq!(&plain, &number(&format!("{value}.{}", "0".repeat(zeros))));
            prop_assert_eq!(&plain, &number(&format!("{value}e0")));
            let digits = value.unsigned_abs().to_string();
            prop_assert_eq!(plain.fault().is_some(), digits.trim_end_matches('0').len() > 38);
        }
    }
}
