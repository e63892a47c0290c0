//! Whose publisher id begins and ends as somebody typed.

use rusqlite::{Connection, OptionalExtension, params};

use super::Error;
use crate::{identity::PublisherId, package::asked::ShortId};

/// The publishers of listed packages that a short id fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fitting {
    /// They, by id.
    pub publishers: Vec<PublisherId>,
    /// Whether there may be more: the search ended at its bound.
    pub is_cut_off: bool,
}

/// Looks for publishers by a short id; at most `publishers_max` of those that begin so are looked at.
///
/// # Errors
/// [`Error::Database`].
pub fn fitting(conn: &Connection, short: &ShortId, publishers_max: usize) -> Result<Fitting, Error> {
    let mut found = Fitting::default();
    let mut statement =
        conn.prepare_cached("SELECT id FROM catalog_heads WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1")?;
    // Above every letter that an id can go on with.
    let end = format!("{}~", short.head());
    let mut from = short.head().to_owned();
    for _ in 0..publishers_max {
        let next: Option<String> = statement.query_row(params![from, end], |row| row.get(0)).optional()?;
        let Some(publisher) = next.as_deref().and_then(|id| id.split('/').next()) else { return Ok(found) };
        // One that does not parse is no package of anybody's.
        if let Ok(publisher) = publisher.parse::<PublisherId>()
            && short.fits(&publisher)
        {
            found.publishers.push(publisher);
        }
        // The first id of the next publisher: '0' follows '/'.
        from = format!("{publisher}0");
    }
    found.is_cut_off = true;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{Source, fixture::*, insert},
        package::asked::Who,
    };

    fn short(text: &str) -> ShortId {
        match text.parse() {
            Ok(Who::Short(short)) => short,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_publisher_is_found_once_however_many_packages_it_has() {
        let mut conn = database();
        let tx = conn.transaction().unwrap();
        let publishers: Vec<_> = (1..=40).map(publisher).collect();
        for publisher in &publishers {
            for name in ["a", "b", "c"] {
                insert(&tx, &offering(publisher, name), &Source::unknown(), NOW).unwrap();
            }
        }
        for publisher in &publishers {
            let id = publisher.id().to_string();
            for text in [format!("{}…{}", &id[..9], &id[57..]), id[..12].to_owned()] {
                let found = fitting(&tx, &short(&text), 64).unwrap();
                assert_eq!(found, Fitting { publishers: vec![publisher.id()], is_cut_off: false }, "{text}");
            }
        }
        let all = fitting(&tx, &short("gp1…qqqq"), 10).unwrap();
        assert!(all.is_cut_off && all.publishers.is_empty());
    }
}
