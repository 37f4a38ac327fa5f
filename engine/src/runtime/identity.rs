//! Whether a source's stored positions are of the input that this start reads. Pure.

use crate::error::{Error, Result};

/// Compares which input the positions are of with the input that is `given`. Gives what is to be stored, where it is not
/// yet: for a new source, a state of a version that did not store it, or an input that may have `changed`.
///
/// # Errors
/// The positions are of another input. What was read there would be skipped here without a word.
pub(super) fn check_identity(stored: Option<&str>, given: String, may_change: bool) -> Result<Option<String>> {
    match stored {
        Some(stored) if stored == given => Ok(None),
        Some(stored) if !may_change => Err(Error::state(format!(
            "the positions in the state folder are of \"{stored}\", and this start reads \"{given}\": start with the first \
             one, or with another state folder; if it is the same input at another place, go on with --allow-changed-source"
        ))),
        Some(stored) => {
            tracing::warn!(stored, given, "the input has changed, as allowed; its positions are kept");
            Ok(Some(given))
        }
        None => Ok(Some(given)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_first_identity_is_stored_and_only_an_allowed_change_replaces_it() {
        assert_eq!(check_identity(None, "file:/a".to_owned(), false).unwrap().as_deref(), Some("file:/a"));
        assert_eq!(check_identity(Some("file:/a"), "file:/a".to_owned(), false).unwrap(), None);
        assert_eq!(check_identity(Some("file:/a"), "file:/b".to_owned(), true).unwrap().as_deref(), Some("file:/b"));
        let error = check_identity(Some("file:/a"), "file:/b".to_owned(), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        let text = error.to_string();
        for part in ["\"file:/a\"", "\"file:/b\"", "--allow-changed-source"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
