//! Search over the heads that are here.
//!
//! **Rank.** What matches is put into *tiers*: the words stand in the name, whole; in the name, as beginnings of words; in the name and the
//! tags; in these and the categories; anywhere, whole; anywhere. Within a tier comes first what is named exactly as was typed, then
//! more of the words in the name, publishers that this node has to do with ([`Query::known`]), what somebody is known to provide, the
//! shorter name, the newer release. What is still equal is put into an order that a hash of the query and the head decides:
//! no publisher can make itself an id that comes first, since another query has another order. None of this depends on the
//! order in which heads came, but where more than [`SEARCH_SORTED_MAX`] matches share a tier: of those, the ones that came last are
//! sorted, and the others follow.
//!
//! **Cost.** Numbers of rows are all that is read of the matches of a tier, no more of them than are put in order, and no more than
//! [`SEARCH_COUNTED_MAX`] are counted: of a word that tens of thousands of packages share most is not read. (BM25 reads the length of
//! each.) A word that is found nowhere is [corrected](super::spelling).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::{
    Error, from_ordered,
    read::{COLUMNS, Listed, listed, sound},
    spelling,
    terms::{CATEGORY, Match, TAG, Term, Terms},
    to_ordered,
    words::words,
};
use crate::{
    identity::PublisherId,
    limits::{QUERY_LABELS_MAX, SEARCH_COUNTED_MAX, SEARCH_RESULTS_MAX, SEARCH_SORTED_MAX},
};

/// A word that stands in this many packages or fewer may be a misspelt one of which more are told ([`Found::did_you_mean`]).
const RARE_MAX: u64 = 2;
/// How many times as many packages the likelier word must have.
const LIKELIER: u64 = 20;

/// Matches that are few enough to be read.
const READ_MAX: usize = 256;

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Words, phrases and filters, all of which must hold: `web server "exact words" -not tag:sql category:storage publisher:gp1…`.
    /// Each word may also be the beginning of one. Blank text matches everything, newest first. Text that is not blank but
    /// holds no letter or digit matches nothing: there is no word that could occur.
    pub text: String,
    /// Any of these, without regard to case.
    pub categories: Vec<String>,
    /// All of these, without regard to case.
    pub tags: Vec<String>,
    /// Any of the tags is enough.
    pub any_tag: bool,
    /// Publishers that this node has to do with: theirs come first among equal matches.
    pub known: BTreeSet<PublisherId>,
    /// Results at most; [`SEARCH_RESULTS_MAX`] where it is more.
    pub limit: usize,
    /// Results to pass over.
    pub offset: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            text: String::new(),
            categories: Vec::new(),
            tags: Vec::new(),
            any_tag: false,
            known: BTreeSet::new(),
            limit: 20,
            offset: 0,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Best first.
    pub hits: Vec<Listed>,
    /// Matches before the limit and the offset; [`SEARCH_COUNTED_MAX`] where there are `more`.
    pub total: usize,
    /// Whether there are more matches than were counted.
    pub more: bool,
    /// The text that was searched for in place of the one that was asked for, which holds a word that is found nowhere.
    pub corrected: Option<String>,
    /// The text that was probably meant, where what was asked for is found, but hardly ever.
    pub did_you_mean: Option<String>,
}

/// Finds the heads that match.
///
/// # Errors
/// [`Error::Query`] where the text has too many bytes or words, or too many labels are asked for; [`Error::Database`].
pub fn search(conn: &Connection, query: &Query) -> Result<Found, Error> {
    for (what, labels) in [("categories", &query.categories), ("tags", &query.tags)] {
        if labels.len() > QUERY_LABELS_MAX {
            return Err(Error::Query { what, found: labels.len(), max: QUERY_LABELS_MAX });
        }
    }
    let mut terms = Terms::of(&query.text)?;
    if terms.is_empty() && !query.text.trim().is_empty() {
        return Ok(Found::default());
    }
    add_labels(&mut terms, query);
    let mut found = look(conn, query, &terms, &query.text)?;
    if found.total > RARE_MAX as usize {
        return Ok(found);
    }
    let Some(meant) = meant(conn, query, &terms, found.total == 0)? else { return Ok(found) };
    if found.total > 0 {
        found.did_you_mean = Some(meant);
        return Ok(found);
    }
    let mut terms = Terms::of(&meant)?;
    add_labels(&mut terms, query);
    let better = look(conn, query, &terms, &meant)?;
    if better.total == 0 {
        return Ok(found);
    }
    Ok(Found { corrected: Some(meant), ..better })
}

/// Adds the labels that are asked for beside the text.
fn add_labels(terms: &mut Terms, query: &Query) {
    if !query.categories.is_empty() {
        terms.filters.push(query.categories.iter().map(|label| Term::label(CATEGORY, label)).collect());
    }
    let tags = query.tags.iter().map(|label| Term::label(TAG, label));
    if query.any_tag && !query.tags.is_empty() {
        terms.filters.push(tags.collect());
    } else {
        terms.filters.extend(tags.map(|tag| vec![tag]));
    }
}

fn look(conn: &Connection, query: &Query, terms: &Terms, text: &str) -> Result<Found, Error> {
    let Matches { total, more, page } = match () {
        () if terms.is_empty() => recent(conn, query)?,
        () if terms.wanted.is_empty() => recent_of(conn, query, terms)?,
        () => ranked(conn, query, terms, text)?,
    };
    let mut statement =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM catalog_heads AS h WHERE h.position = ?1"))?;
    let rows = page.iter().map(|position| statement.query_row(params![position], listed));
    Ok(Found { hits: sound(rows)?, total, more, ..Found::default() })
}

/// What matches.
struct Matches {
    total: usize,
    /// Whether there are more than were counted.
    more: bool,
    /// Those that are asked for.
    page: Vec<i64>,
}

impl Matches {
    fn all(total: usize, page: Vec<i64>) -> Self {
        Self { total, more: false, page }
    }
}

/// All packages, newest first.
fn recent(conn: &Connection, query: &Query) -> Result<Matches, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT position FROM catalog_heads ORDER BY released DESC, item LIMIT ?1 OFFSET ?2",
    )?;
    let limit = query.limit.min(SEARCH_RESULTS_MAX);
    let rows = statement
        .query_map(params![to_ordered(limit as u64), to_ordered(query.offset as u64)], |row| row.get(0))?;
    Ok(Matches::all(super::count(conn)?, rows.collect::<Result<_, _>>()?))
}

/// Those that have the labels and not the words, newest first.
fn recent_of(conn: &Connection, query: &Query, terms: &Terms) -> Result<Matches, Error> {
    let matches = matches(conn, &terms.expression(None, Match::Whole))?;
    let page = page(query);
    if matches.len() <= SEARCH_SORTED_MAX {
        let mut cards = cards(conn, &matches)?;
        cards.sort_by(|a, b| (Reverse(a.released), &a.item).cmp(&(Reverse(b.released), &b.item)));
        let sorted = cards.into_iter().map(|card| card.position);
        return Ok(Matches::all(matches.len(), sorted.skip(page.start).take(page.len()).collect()));
    }
    let mut statement =
        conn.prepare_cached("SELECT position FROM catalog_heads ORDER BY released DESC, item")?;
    let mut rows = statement.query([])?;
    let (mut at, mut positions) = (0, Vec::new());
    while at < page.end {
        let Some(row) = rows.next()? else { break };
        let position: i64 = row.get(0)?;
        if matches.binary_search(&position).is_ok() {
            if page.contains(&at) {
                positions.push(position);
            }
            at += 1;
        }
    }
    Ok(Matches::all(matches.len(), positions))
}

/// What matches the words, best first.
fn ranked(conn: &Connection, query: &Query, terms: &Terms, text: &str) -> Result<Matches, Error> {
    const TIERS: [(&str, Match); 5] = [
        ("{name}", Match::Whole),
        ("{name}", Match::Beginning),
        ("{name tags}", Match::Whole),
        ("{name tags categories}", Match::Whole),
        ("{name tags categories description}", Match::Whole),
    ];
    let page = page(query);
    // A page that is far behind is found only by putting all before it in order.
    let is_near = page.end <= SEARCH_SORTED_MAX;
    let most = if is_near { SEARCH_COUNTED_MAX } else { usize::MAX };
    let all = newest_counted(conn, terms, most)?;
    let (total, more) = (all.len().min(most), all.len() > most);
    let mut order = Order::default();
    if all.len() <= READ_MAX {
        for tier in read_tiers(conn, terms, &all)? {
            order.take(conn, query, terms, text, tier)?;
        }
    } else if page.start < total {
        for (columns, how) in TIERS {
            // Of those that were not taken yet, so many as are put in order.
            let needed = if is_near { order.taken.len() + SEARCH_SORTED_MAX } else { usize::MAX };
            let tier = newest(conn, &terms.expression(Some(columns), how), needed)?;
            order.take(conn, query, terms, text, tier)?;
            if order.positions.len() >= page.end || order.positions.len() >= all.len() {
                break;
            }
        }
    }
    if order.positions.len() < page.end.min(total) {
        order.take(conn, query, terms, text, all)?;
    }
    let page = order.positions.into_iter().skip(page.start).take(page.len()).collect();
    Ok(Matches { total, more, page })
}

/// What matches, newest first; one more than `most` where there are more.
///
/// For its beginnings all that begins so is put together before the first of it is known. So whole words are looked for first: where they
/// are enough, nothing else is.
fn newest_counted(conn: &Connection, terms: &Terms, most: usize) -> Result<Vec<i64>, Error> {
    let one_more = most.saturating_add(1);
    if most < usize::MAX {
        let whole = newest(conn, &terms.expression(None, Match::Whole), one_more)?;
        if whole.len() > most {
            return Ok(whole);
        }
    }
    newest(conn, &terms.expression(None, Match::Beginning), one_more)
}

/// Matches in their order.
#[derive(Default)]
struct Order {
    positions: Vec<i64>,
    taken: HashSet<i64>,
}

impl Order {
    /// Adds those of a tier, newest first, that were not taken before.
    fn take(
        &mut self,
        conn: &Connection,
        query: &Query,
        terms: &Terms,
        text: &str,
        tier: Vec<i64>,
    ) -> Result<(), Error> {
        let new: Vec<i64> = tier.into_iter().filter(|position| self.taken.insert(*position)).collect();
        self.positions.extend(sorted(conn, query, terms, text, new)?);
        Ok(())
    }
}

/// What a word is worth, whole, in the name, a tag, a category and the description; as the beginning of a word it is worth half of
/// that outside the name, and more in it.
const WORTH: [u32; 4] = [200, 20, 6, 2];
/// What the beginning of a word is worth in the name.
const WORTH_BEGINNING: u32 = 120;

/// Few matches, by what their words are worth together: finer than the tiers, which they agree with where all words stand in one
/// place.
fn read_tiers(conn: &Connection, terms: &Terms, all: &[i64]) -> Result<Vec<Vec<i64>>, Error> {
    let mut statement =
        conn.prepare_cached("SELECT name, tags, categories, description FROM catalog_text WHERE rowid = ?1")?;
    let wanted: Vec<(&Term, Vec<String>)> = terms.wanted.iter().map(|term| (term, term.forms())).collect();
    let mut tiers: BTreeMap<Reverse<u32>, Vec<i64>> = BTreeMap::new();
    for &position in all {
        let columns: [String; 4] = statement
            .query_row([position], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
        let columns = columns.map(|text| text.to_lowercase());
        let words: Vec<Vec<&str>> = columns.iter().map(|text| text.split(' ').collect()).collect();
        let worth = |term: &Term, forms: &[String]| {
            let of_column = |(at, words): (usize, &Vec<&str>)| {
                if term.is_in(forms, words, Match::Whole) {
                    WORTH[at]
                } else if !term.is_in(forms, words, Match::Beginning) {
                    0
                } else if at == 0 {
                    WORTH_BEGINNING
                } else {
                    WORTH[at] / 2
                }
            };
            words.iter().enumerate().map(of_column).max().unwrap_or(0)
        };
        let sum = wanted.iter().map(|(term, forms)| worth(term, forms)).sum();
        tiers.entry(Reverse(sum)).or_default().push(position);
    }
    Ok(tiers.into_values().collect())
}

fn page(query: &Query) -> std::ops::Range<usize> {
    query.offset..query.offset.saturating_add(query.limit.min(SEARCH_RESULTS_MAX))
}

/// The positions that match, newest first, so many at most.
fn newest(conn: &Connection, expression: &str, most: usize) -> Result<Vec<i64>, Error> {
    let sql = "SELECT rowid FROM catalog_text WHERE catalog_text MATCH ?1 ORDER BY rowid DESC LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params![expression, to_ordered(most as u64)], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The positions that match, ascending.
fn matches(conn: &Connection, expression: &str) -> Result<Vec<i64>, Error> {
    let mut statement = conn.prepare_cached("SELECT rowid FROM catalog_text WHERE catalog_text MATCH ?1")?;
    let rows = statement.query_map([expression], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What the order of a match depends on.
struct Card {
    position: i64,
    name: String,
    publisher: Vec<u8>,
    provided: bool,
    released: u64,
    item: Vec<u8>,
}

fn cards(conn: &Connection, positions: &[i64]) -> Result<Vec<Card>, Error> {
    // The index holds all of it: the rows themselves are long.
    let mut statement = conn.prepare_cached(
        "SELECT name, publisher, provided, released, item FROM catalog_heads
         INDEXED BY catalog_heads_cards WHERE position = ?1",
    )?;
    let mut cards = Vec::with_capacity(positions.len());
    for &position in positions {
        let mut rows = statement.query([position])?;
        // Words without a head are of a damaged database, and are passed over.
        if let Some(row) = rows.next()? {
            cards.push(Card {
                position,
                name: row.get(0)?,
                publisher: row.get(1)?,
                provided: row.get(2)?,
                released: from_ordered(row.get(3)?),
                item: row.get(4)?,
            });
        }
    }
    Ok(cards)
}

/// One tier, newest first, in order. Of more than can be sorted, those that came first are left in that order, at the end.
fn sorted(
    conn: &Connection,
    query: &Query,
    terms: &Terms,
    text: &str,
    mut tier: Vec<i64>,
) -> Result<Vec<i64>, Error> {
    let rest = tier.split_off(tier.len().min(SEARCH_SORTED_MAX));
    let exact: Vec<String> = words(&text.to_lowercase()).map(str::to_owned).collect();
    let wanted: Vec<&str> = terms
        .wanted
        .iter()
        .filter_map(|term| match term {
            Term::Word(word) => Some(word.as_str()),
            Term::Phrase(_) | Term::Label { .. } => None,
        })
        .collect();
    let of_name = |name: &str| {
        let named: Vec<&str> = words(name).collect();
        let is_exact = named == exact;
        let hits =
            wanted.iter().filter(|word| named.iter().any(|of_name| of_name.starts_with(**word))).count();
        (is_exact, hits, if hits > 0 { name.len() } else { 0 })
    };
    let known: BTreeSet<&[u8]> = query.known.iter().map(|id| id.as_bytes().as_slice()).collect();
    let mut cards = cards(conn, &tier)?;
    cards.sort_by_cached_key(|card| {
        let (is_exact, hits, length) = of_name(&card.name);
        let lot: [u8; 32] = Sha256::new()
            .chain_update(text.as_bytes())
            .chain_update([0])
            .chain_update(&card.item)
            .finalize()
            .into();
        let is_known = known.contains(card.publisher.as_slice());
        // The name that was typed, to the letter, comes before one of the same words.
        let is_typed = card.name == text.trim().to_lowercase();
        (Reverse((is_typed, is_exact, hits, is_known, card.provided)), length, Reverse(card.released), lot)
    });
    Ok(cards.into_iter().map(|card| card.position).chain(rest).collect())
}

/// The text that was probably meant: each word that stands nowhere, or hardly anywhere, in the form that it has in the index.
fn meant(
    conn: &Connection,
    query: &Query,
    terms: &Terms,
    nothing_found: bool,
) -> Result<Option<String>, Error> {
    let mut meant: BTreeMap<String, String> = BTreeMap::new();
    for (term, typed) in terms.wanted.iter().zip(&terms.typed) {
        if typed.is_empty() {
            continue;
        }
        let corrected = if nothing_found {
            if !newest(conn, &format!("{} AND labels : (\"every\")", term.alone()), 1)?.is_empty() {
                continue;
            }
            spelling::corrections(conn, typed)?.into_iter().next()
        } else {
            let packages = spelling::packages_with(conn, typed)?;
            if packages == 0 || packages > RARE_MAX {
                continue;
            }
            let most = spelling::corrections(conn, typed)?.into_iter().max_by_key(|known| known.packages);
            most.filter(|known| known.packages >= packages.saturating_mul(LIKELIER))
        };
        match corrected {
            Some(known) => drop(meant.insert(typed.clone(), known.word)),
            None if nothing_found => return Ok(None),
            None => {}
        }
    }
    Ok((!meant.is_empty()).then(|| replaced(&query.text, &meant)))
}

/// A text with some of its words in another form.
fn replaced(text: &str, meant: &BTreeMap<String, String>) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    for word in words(text) {
        let Some(better) = meant.get(&word.to_lowercase()) else { continue };
        let Some(at) = rest.find(word) else { continue };
        // A word of the same letters within a longer one is none of those that are looked for.
        replaced.push_str(&rest[..at]);
        replaced.push_str(better);
        rest = &rest[at + word.len()..];
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
