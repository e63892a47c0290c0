//! Rules for the texts that a publisher signs and other people's terminals show.

use super::Error;
use crate::package::is_hidden;

/// Refuses a text that is too long, or holds what a terminal would act on instead of showing.
///
/// Besides control characters these are the marks that reorder or hide the text around them, with which a name can be made
/// to read as another ([Unicode Technical Standard 55](https://www.unicode.org/reports/tr55/)).
pub(super) fn check(what: &'static str, text: &str, max_bytes: usize) -> Result<(), Error> {
    if text.len() > max_bytes {
        return Err(Error::Limit { what, found: text.len() as u64, max: max_bytes as u64 });
    }
    if text.chars().any(is_hidden) {
        return Err(Error::Malformed { what, why: "it holds control characters".to_owned() });
    }
    Ok(())
}

/// Refuses an empty text too.
pub(super) fn check_label(what: &'static str, text: &str, max_bytes: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::Malformed { what, why: "it is empty".to_owned() });
    }
    check(what, text, max_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    #[test]
    fn what_a_terminal_acts_on_is_refused() {
        for bad in [
            "\u{1b}[31m",
            "a\nb",
            "a\tb",
            "\0",
            "\u{7f}",
            "\u{9b}",
            "\u{202e}gpj",
            "\u{2066}",
            "\u{2028}",
            "a\u{200b}b",
            "a\u{2060}b",
        ] {
            assert_eq!(check("a text", bad, 100).unwrap_err().code(), Code::Malformed, "{bad:?}");
        }
        for good in ["", "plain", "päckchen – 包", "👩‍💻"] {
            assert!(check("a text", good, 100).is_ok(), "{good}");
        }
    }

    #[test]
    fn length_is_in_bytes() {
        assert!(check("a text", "ää", 4).is_ok());
        assert_eq!(check("a text", "äää", 4).unwrap_err().code(), Code::Limit);
        assert_eq!(check_label("a text", "", 4).unwrap_err().code(), Code::Malformed);
    }
}
