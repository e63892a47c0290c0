//! Lines such as `password = "…"`.
//!
//! Programs say so of what they read elsewhere, and documents of what others shall fill in: a value counts where it stands there
//! itself, in quotation marks or in a file of settings.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::{
    Secret,
    rules::{ASSIGNED, PLACEHOLDER_WORDS, PLACEHOLDERS},
};

/// Bytes of a value that are looked at.
const VALUE_BYTES_MAX: usize = 200;
/// Spaces around `=` that are passed over.
const SPACES_MAX: usize = 16;
/// Bytes of a password at least.
const PASSWORD_BYTES_MIN: usize = 6;
/// Bytes of other secrets at least.
const SECRET_BYTES_MIN: usize = 12;
/// Endings of files of settings, in which values need no quotation marks.
const SETTINGS: &[&str] = &[
    "toml",
    "ini",
    "cfg",
    "conf",
    "cnf",
    "properties",
    "env",
    "yaml",
    "yml",
    "json",
    "txt",
    "sh",
    "bash",
    "zsh",
    "fish",
    "tfvars",
    "netrc",
    "rc",
    "config",
    "settings",
];
/// Endings of documents: what they show are examples.
const DOCUMENTS: &[&str] = &["md", "rst", "adoc", "html", "tex", "markdown"];

static WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let built = AhoCorasick::builder().ascii_case_insensitive(true).build(ASSIGNED);
    built.expect("the table is small")
});

/// Every assignment of a secret, by its place.
pub(super) fn find(name: &str, bytes: &[u8]) -> Vec<Secret> {
    let ending = name.to_lowercase();
    let ending = ending.rsplit_once('.').map_or("", |(_, ending)| ending);
    if DOCUMENTS.contains(&ending) {
        return Vec::new();
    }
    let is_settings = ending.is_empty() || SETTINGS.contains(&ending) || name.starts_with('.');
    let mut found: Vec<Secret> = Vec::new();
    for hit in WORDS.find_iter(bytes) {
        let word = ASSIGNED[hit.pattern().as_usize()];
        if value(&bytes[hit.end()..]).is_some_and(|value| value.is_secret(word, is_settings)) {
            found.push(Secret { at: hit.start(), what: format!("it sets a secret ({word} = …)") });
            if found.len() >= super::FINDINGS_MAX {
                break;
            }
        }
    }
    found
}

/// What is assigned.
#[derive(Debug, PartialEq, Eq)]
struct Value<'a> {
    bytes: &'a [u8],
    is_quoted: bool,
}

/// The value behind a word, where one is assigned to it on the same line.
fn value(rest: &[u8]) -> Option<Value<'_>> {
    // The quotation mark that ends the word itself, as in JSON.
    let rest = rest.strip_prefix(b"\"").or_else(|| rest.strip_prefix(b"'")).unwrap_or(rest);
    let rest = spaces(rest);
    let rest = match rest {
        [b':', b'=', rest @ ..] | [b'=', b'>', rest @ ..] => rest,
        [b'=', b'=' | b'~', ..] | [b':', b':', ..] => return None,
        [b'=' | b':', rest @ ..] => rest,
        _ => return None,
    };
    let rest = spaces(rest);
    let rest = &rest[..rest.len().min(VALUE_BYTES_MAX)];
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    match rest {
        [quote @ (b'"' | b'\''), rest @ ..] => {
            let end = rest.iter().position(|byte| byte == quote || is_end(byte))?;
            (rest[end] == *quote).then(|| Value { bytes: &rest[..end], is_quoted: true })
        }
        _ => {
            let is_end = |byte: &u8| is_end(byte) || matches!(byte, b' ' | b'\t' | b',' | b';' | b'}');
            let end = rest.iter().position(is_end).unwrap_or(rest.len());
            Some(Value { bytes: &rest[..end], is_quoted: false })
        }
    }
}

fn spaces(bytes: &[u8]) -> &[u8] {
    let count = bytes.iter().take(SPACES_MAX).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[count..]
}

impl Value<'_> {
    fn is_secret(&self, word: &str, is_settings: bool) -> bool {
        let Ok(text) = std::str::from_utf8(self.bytes) else { return false };
        let lower = text.to_lowercase();
        let is_password = word.starts_with("pass");
        let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
        let is_long = match is_password {
            true => text.len() >= PASSWORD_BYTES_MIN,
            false => text.len() >= SECRET_BYTES_MIN && has_digit,
        };
        let is_placeholder = PLACEHOLDERS.iter().any(|it| lower.contains(it))
            || PLACEHOLDER_WORDS.contains(&lower.as_str())
            || text.starts_with(['$', '<', '%', '@', '!', '*', '&', '{', '[', '('])
            || super::distinct(self.bytes) < 3;
        // A word of a program, or a sentence that asks for it.
        let is_code = match self.is_quoted {
            true => text.contains(char::is_whitespace) && !is_settings,
            false => !is_settings || text.contains(['(', '"', '\'', '[']),
        };
        is_long && !is_placeholder && !is_code
    }
}
