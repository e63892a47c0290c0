//! What looks as if it were a secret: tokens of well-known providers, private keys, files and lines of credentials.
//!
//! The cost is bounded by the bytes: two passes over them, and a bounded look at each place where something may begin. There are
//! no regular expressions. Nothing that is found is ever shown whole.

mod assigned;
pub(crate) mod own;
mod rules;

use std::{borrow::Cow, sync::LazyLock};

use aho_corasick::{AhoCorasick, MatchKind};

use self::rules::{ENDINGS, FILES, FILES_IN_FOLDERS, FILES_WITH, PEM, RULES, Rule, TAIL_BYTES_MAX};

/// Findings in one file; a file that is full of secrets needs no longer list.
const FINDINGS_MAX: usize = 10;
/// Characters of a token that are shown, its beginning among them.
const SHOWN_MAX: usize = 12;
/// Characters of a token behind its beginning that are shown.
const SHOWN_TAIL: usize = 4;
/// Different characters that a token has at least; examples are of a few.
const DISTINCT_MIN: usize = 6;
/// Bytes of the kind of a key, with the dashes behind it; the longest in use is half as long.
const KEY_KIND_BYTES_MAX: usize = 80;
/// Endings of files that show what others would have.
const EXAMPLES: [&str; 5] = [".example", ".sample", ".template", ".dist", ".pub"];

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Secret {
    /// Where it begins.
    pub(super) at: usize,
    /// What it looks like.
    pub(super) what: String,
}

static BEGINNINGS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let patterns = RULES.iter().map(|rule| rule.prefix).chain([PEM]);
    let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
    built.expect("the table is small")
});

/// What is wrong with the name of a file, given as the name of its folder and its own.
pub(super) fn by_name(folder: &str, name: &str) -> Option<&'static str> {
    let (folder, name) = (folder.to_lowercase(), name.to_lowercase());
    if EXAMPLES.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    let is_file = FILES.contains(&name.as_str()) || name.starts_with(".env.");
    let is_there = FILES_IN_FOLDERS.iter().any(|(in_folder, file)| *in_folder == folder && *file == name);
    if is_file || is_there {
        return Some("files of this name hold credentials");
    }
    ENDINGS.iter().any(|end| name.ends_with(end)).then_some("files of this kind hold private keys")
}

/// What the bytes of a file hold, by their place.
pub(super) fn in_bytes(name: &str, bytes: &[u8]) -> Vec<Secret> {
    let bytes = &*narrowed(bytes);
    let mut found = tokens(bytes);
    found.extend(credentials(name, bytes));
    // A token behind `token =` is found twice.
    let lines = |secret: &Secret| line(bytes, secret.at);
    let of_tokens: Vec<usize> = found.iter().map(lines).collect();
    found.extend(assigned::find(name, bytes).into_iter().filter(|it| !of_tokens.contains(&lines(it))));
    found.sort_by_key(|secret| secret.at);
    found.truncate(FINDINGS_MAX);
    // Places of what was narrowed are those of its lines.
    found
}

/// The number of the line that a place is in, from 1.
pub(super) fn line(bytes: &[u8], at: usize) -> usize {
    1 + narrowed(bytes).iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// Text in two bytes a letter, as some systems write it, in one.
fn narrowed(bytes: &[u8]) -> Cow<'_, [u8]> {
    match bytes {
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] => {
            rest.iter().copied().filter(|byte| *byte != 0).collect::<Vec<u8>>().into()
        }
        _ => bytes.into(),
    }
}

fn tokens(bytes: &[u8]) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut done = 0;
    for hit in BEGINNINGS.find_iter(bytes) {
        if hit.start() < done {
            continue;
        }
        let rest = &bytes[hit.end()..];
        let secret = match RULES.get(hit.pattern().as_usize()) {
            Some(rule) => is_whole(bytes, hit.start()).then(|| rule.matches(rest)).flatten(),
            None => is_private_key(rest).then(|| (0, "it holds a private key".to_owned())),
        };
        if let Some((len, what)) = secret {
            found.push(Secret { at: hit.start(), what });
            done = hit.end() + len;
            if found.len() >= FINDINGS_MAX {
                break;
            }
        }
    }
    found
}

/// Whether a word begins there, and is not the rest of a longer one.
fn is_whole(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| !bytes[before].is_ascii_alphanumeric() && bytes[before] != b'_')
}

impl Rule {
    /// How many characters of a token follow its beginning, and what it is.
    fn matches(&self, rest: &[u8]) -> Option<(usize, String)> {
        // One more than it may have: a file of nothing but beginnings must not be read again at each of them.
        let most = (*self.len.end()).min(TAIL_BYTES_MAX) + 1;
        let len = rest.iter().take(most).take_while(|byte| self.alphabet.has(**byte)).count();
        let tail = &rest[..len];
        let is_example =
            tail.ends_with(b"EXAMPLE") || (*self.len.start() > DISTINCT_MIN && distinct(tail) < DISTINCT_MIN);
        if !self.len.contains(&len) || is_example {
            return None;
        }
        let shown = SHOWN_TAIL.min(SHOWN_MAX.saturating_sub(self.prefix.len())).min(len / 4);
        let shown = String::from_utf8_lossy(&tail[..shown]);
        Some((len, format!("it holds {} ({}{shown}…)", self.what, self.prefix)))
    }
}

fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

/// Whether the words between the dashes are those of a private key; the text of a certificate or a public key is no secret.
fn is_private_key(rest: &[u8]) -> bool {
    let rest = &rest[..rest.len().min(KEY_KIND_BYTES_MAX)];
    let line = rest.split(|byte| *byte == b'\n' || *byte == b'\r').next().unwrap_or_default();
    let end = line.windows(5).position(|window| window == b"-----");
    end.is_some_and(|end| {
        line[..end].ends_with(b"PRIVATE KEY") || line[..end].ends_with(b"PRIVATE KEY BLOCK")
    })
}

/// Files that hold credentials only where a certain word stands in them.
fn credentials(name: &str, bytes: &[u8]) -> Option<Secret> {
    let name = name.to_lowercase();
    let (_, words) = FILES_WITH.iter().find(|(file, _)| *file == name)?;
    let text = bytes.to_ascii_lowercase();
    let at = words.iter().filter_map(|word| find(&text, word.as_bytes())).min()?;
    Some(Secret { at, what: "it holds credentials".to_owned() })
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, word)
}

#[cfg(test)]
mod tests;
