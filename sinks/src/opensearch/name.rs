//! Which names an index can have. Pure.
//!
//! (Elasticsearch's *Create index API*, "Path parameters"; OpenSearch's *Create index*, "Index naming restrictions".)

/// The longest name, in bytes.
const LONGEST: usize = 255;

/// Says what is wrong with the name of an index, alias or data stream.
pub(super) fn check(name: &str) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("no index can be named {name:?}: {why}"));
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > LONGEST {
        return refuse("it has more than 255 bytes");
    }
    if name.chars().any(char::is_uppercase) {
        return refuse("it must be lowercase");
    }
    let is_bad = |c: char| {
        matches!(c, '\\' | '/' | '*' | '?' | '"' | '<' | '>' | '|' | ',' | '#' | ':')
            || c.is_whitespace()
            || c.is_control()
    };
    if name.contains(is_bad) {
        return refuse("it holds a character that none may have");
    }
    if name.starts_with(['-', '_', '+']) || matches!(name, "." | "..") {
        return refuse("it begins with a character that none may begin with");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_the_server_refuses_are_refused_before() {
        for good in ["usage", "usage-2026.11.27", ".hidden", "ä", &"x".repeat(255)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "Usage",
            "a b",
            "a/b",
            "a*",
            "-a",
            "_a",
            "+a",
            ".",
            "..",
            "a:b",
            "a#b",
            "a,b",
            "a\nb",
            &"x".repeat(256),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_not(text in ".*") {
            let _ = check(&text);
        }
    }
}
