//! Names of packages that a person may have meant who typed one that nobody has.

use rusqlite::Connection;

use super::{
    Error,
    search::{Query, search},
    words::words,
};
use crate::package::PackageName;

/// Names that are told.
const TOLD_MAX: usize = 3;
/// Packages that are compared, of each word.
const COMPARED_MAX: usize = 50;
/// Words of a name that packages are looked for by.
const WORDS_MAX: usize = 4;
/// Letters that two names may differ by: one of short names.
const fn letters_max(length: usize) -> usize {
    if length < 5 { 1 } else { 2 }
}

/// The names of listed packages that are nearly this one, the nearest first.
///
/// # Errors
/// [`Error::Database`].
pub fn near_names(conn: &Connection, name: &PackageName) -> Result<Vec<PackageName>, Error> {
    let whole = name.as_str().to_lowercase();
    let parts = words(&whole).take(WORDS_MAX).map(str::to_owned);
    let mut near: Vec<(usize, PackageName)> = Vec::new();
    for text in std::iter::once(whole.clone()).chain(parts) {
        let query = Query { text, limit: COMPARED_MAX, ..Query::default() };
        for hit in search(conn, &query)?.hits {
            let distance = strsim::damerau_levenshtein(&whole, hit.id.name.as_str());
            if distance <= letters_max(whole.len()) && hit.id.name != *name {
                near.push((distance, hit.id.name));
            }
        }
    }
    near.sort();
    near.dedup();
    Ok(near.into_iter().take(TOLD_MAX).map(|(_, name)| name).collect())
}
