//! What a word that is found nowhere was meant to be: one letter more, one less, another one, or two in the wrong order.
//!
//! All such words are made up and looked for among those of the index, some four hundred for a word of eight letters
//! ([Norvig](https://norvig.com/spell-correct.html)), a microsecond each. That costs nothing where something was found; an index of
//! deletions would hold ten rows where this holds one.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{Error, from_ordered};
use crate::limits::{SPELLED_SWEEP, SPELLED_WORDS_MAX};

/// Letters of the shortest word that is corrected: shorter ones are too near to too many.
const LETTERS_MIN: usize = 4;
/// Letters of the longest one.
const LETTERS_MAX: usize = 32;
/// Corrections that are tried.
const TRIED_MAX: usize = 5;

/// Enters the words of a package, so that others can be corrected to them.
pub(super) fn learn<'a>(tx: &Transaction<'_>, words: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut statement = tx.prepare_cached("INSERT OR IGNORE INTO catalog_words (word) VALUES (?1)")?;
    let mut learnt = BTreeSet::new();
    for word in words {
        let word = word.to_lowercase();
        if !is_spelled(&word) || !learnt.insert(word.clone()) {
            continue;
        }
        if statement.execute([&word])? > 0 && tx.last_insert_rowid() % SPELLED_SWEEP == 0 {
            tx.execute(
                "DELETE FROM catalog_words WHERE word NOT IN (SELECT term FROM catalog_vocabulary) AND word <> ?1",
                [&word],
            )?;
        }
        if learnt.len() >= SPELLED_WORDS_MAX {
            break;
        }
    }
    Ok(())
}

/// Whether a word is one that can be misspelt.
fn is_spelled(word: &str) -> bool {
    let mut letters = 0;
    for letter in word.chars() {
        letters += 1;
        if letters > LETTERS_MAX || letter.is_numeric() {
            return false;
        }
    }
    letters >= LETTERS_MIN - 1
}

/// A word of the index, and in how many packages it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) word: String,
    pub(super) packages: u64,
}

/// The words of the index that differ from `word` by one typo, the likeliest first: those with the same first letter, then those
/// that most packages use.
pub(super) fn corrections(conn: &Connection, word: &str) -> Result<Vec<Known>, Error> {
    let letters: Vec<char> = word.chars().collect();
    if !(LETTERS_MIN..=LETTERS_MAX).contains(&letters.len())
        || letters.iter().all(|letter| letter.is_numeric())
    {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached("SELECT 1 FROM catalog_words WHERE word = ?1")?;
    let mut found: Vec<Known> = Vec::new();
    for near in one_typo_away(&letters) {
        if statement.exists([&near])? {
            // Packages come and go, and their words stay for a while.
            let packages = packages_with(conn, &near)?;
            found.extend((packages > 0).then_some(Known { word: near, packages }));
        }
    }
    let begins_alike = |known: &Known| known.word.starts_with(letters[0]);
    found.sort_by(|a, b| (begins_alike(b), b.packages, &a.word).cmp(&(begins_alike(a), a.packages, &b.word)));
    found.truncate(TRIED_MAX);
    Ok(found)
}

/// In how many packages a word stands.
pub(super) fn packages_with(conn: &Connection, word: &str) -> Result<u64, Error> {
    let packages: Option<i64> = conn
        .prepare_cached("SELECT doc FROM catalog_vocabulary WHERE term = ?1")?
        .query_row([word], |row| row.get(0))
        .optional()?;
    Ok(packages.map_or(0, from_ordered))
}

/// Every word that one typo makes of another, each once.
fn one_typo_away(letters: &[char]) -> Vec<String> {
    let alphabet = alphabet(letters[0]);
    let mut words = Vec::new();
    for at in 0..=letters.len() {
        let (before, after) = letters.split_at(at);
        let mut push = |middle: &[char], after: &[char]| {
            words.push(before.iter().chain(middle).chain(after).collect::<String>());
        };
        if let [first, rest @ ..] = after {
            push(&[], rest);
            if let [second, rest @ ..] = rest {
                push(&[*second, *first], rest);
            }
            for letter in alphabet.clone() {
                push(&[letter], rest);
            }
        }
        for letter in alphabet.clone() {
            push(&[letter], after);
        }
    }
    words.sort_unstable();
    words.dedup();
    words.retain(|word| !word.chars().eq(letters.iter().copied()));
    words
}

/// The letters of the script that a letter is of. The index folds accents away, so those of Latin are twenty-six.
fn alphabet(letter: char) -> std::ops::RangeInclusive<char> {
    match letter {
        '\u{370}'..='\u{3ff}' => 'α'..='ω',
        '\u{400}'..='\u{4ff}' => 'а'..='я',
        _ => 'a'..='z',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_typo_is_undone() {
        for (typed, meant) in [
            ("databse", "database"),
            ("dattabase", "database"),
            ("databaze", "database"),
            ("dtaabase", "database"),
            ("atabase", "database"),
            ("databases", "database"),
            ("бза", "база"),
        ] {
            let letters: Vec<char> = typed.chars().collect();
            let near = one_typo_away(&letters);
            assert!(near.contains(&meant.to_owned()), "{typed}");
            assert!(!near.contains(&typed.to_owned()), "{typed}");
            assert!(near.len() < 1_000);
        }
    }
}
