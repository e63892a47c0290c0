//! What a word is, for the text that is indexed and for the text that is searched.
//!
//! Both sides are cut by the same function, so they cannot disagree, and what remains consists of letters and digits:
//! no text of a user can carry FTS5 syntax into a query, because no character of that syntax survives.

use std::collections::BTreeSet;

use super::Error;
use crate::limits::{QUERY_BYTES_MAX, QUERY_WORDS_MAX};

/// Cuts text into words: runs of letters, digits and the accents that combine with them.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_alphanumeric() && !is_accent(char))
        .filter(|word| word.contains(char::is_alphanumeric))
}

/// Text for the index: each word once, so that repeating a word buys no rank.
pub(super) fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for word in texts.into_iter().flat_map(words) {
        if seen.insert(word.to_lowercase()) {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// A label as it is compared.
pub(super) fn fold(label: &str) -> String {
    label.trim().to_lowercase()
}

/// The words of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// Each word once, lower case, in order.
    pub(super) words: Vec<String>,
}

impl Terms {
    /// Cuts a query's text.
    pub(super) fn of(text: &str) -> Result<Self, Error> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Error::Query { what: "bytes", found: text.len(), max: QUERY_BYTES_MAX });
        }
        let mut terms: Vec<String> = Vec::new();
        for word in words(text).map(str::to_lowercase) {
            // The last word is also a prefix, so a repeated one moves to the end instead of being dropped there.
            terms.retain(|known| *known != word);
            terms.push(word);
        }
        if terms.len() > QUERY_WORDS_MAX {
            return Err(Error::Query { what: "words", found: terms.len(), max: QUERY_WORDS_MAX });
        }
        Ok(Self { words: terms })
    }

    /// The FTS5 expression: all words must occur; the last one also as the beginning of a word of the name.
    pub(super) fn expression(&self) -> String {
        let quoted = |word: &String| format!("\"{}\"", word.replace('"', "\"\""));
        let mut parts: Vec<_> = self.words.iter().map(quoted).collect();
        if let Some(last) = parts.last_mut() {
            *last = format!("({last} OR name : {last} *)");
        }
        parts.join(" AND ")
    }
}

/// The combining accents that the tokenizer folds away.
fn is_accent(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        Terms::of(text).unwrap().words
    }

    #[test]
    fn words_are_cut_at_everything_that_is_no_letter_or_digit() {
        assert_eq!(cut("Foo-bar_baz 2.0"), ["foo", "bar", "baz", "2", "0"]);
        assert_eq!(
            cut("\"a\" OR b* NEAR(c, 2) ^d name:e"),
            ["a", "or", "b", "near", "c", "2", "d", "name", "e"]
        );
        assert_eq!(cut("cafe\u{301} e\u{301}tude 数据库"), ["cafe\u{301}", "e\u{301}tude", "数据库"]);
        assert_eq!(cut(" \0\t-- '' \"\" * \u{301} 🦀"), Vec::<String>::new());
        assert_eq!(cut("web db web"), ["db", "web"]);
    }

    #[test]
    fn a_query_is_bounded() {
        assert!(Terms::of(&"x".repeat(QUERY_BYTES_MAX)).is_ok());
        assert!(Terms::of(&"x".repeat(QUERY_BYTES_MAX + 1)).is_err());
        let many: Vec<_> = (0..=QUERY_WORDS_MAX).map(|n| n.to_string()).collect();
        assert!(Terms::of(&many.join(" ")).is_err());
        assert!(Terms::of(&many[1..].join(" ")).is_ok());
    }

    #[test]
    fn a_repeated_word_is_indexed_once() {
        assert_eq!(distinct(["web web Web", "server web"]), "web server");
    }

    proptest! {
        #[test]
        fn no_text_leaves_syntax_in_the_expression(text in "\\PC{0,60}") {
            for word in cut(&text) {
                prop_assert!(word.chars().all(|char| char.is_alphanumeric() || is_accent(char)), "{word}");
            }
        }
    }
}
