//! Search over the heads that are here.
//!
//! Rank is BM25 as [FTS5](https://www.sqlite.org/fts5.html#the_bm25_function) has it, over the columns name, tags,
//! categories and description with the weights of [`WEIGHTS`], and each word of a column counts once however often it is
//! repeated. Before rank comes an exact match of the name; after it, the id. None of this depends on the order in which
//! heads came: BM25 uses counts over all documents, and ties are never left to row ids.

use rusqlite::{Connection, ToSql, params_from_iter};

use super::{
    Error,
    insert::{CATEGORY, TAG},
    read::{COLUMNS, Listed, listed, sound},
    to_ordered,
    words::{Terms, fold},
};
use crate::limits::{QUERY_LABELS_MAX, SEARCH_RESULTS_MAX};

/// What a match is worth in the name, a tag, a category and the description.
///
/// BM25 saturates (twice the frequency is never twice the score) and favours short texts, so the steps are wide: a match in
/// the name outranks one in a tag also where a long description comes with it.
const WEIGHTS: &str = "100.0, 10.0, 3.0, 1.0";

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Words, all of which must occur; the last one also as the beginning of a word of the name. Blank text matches
    /// everything, newest first. Text that is not blank but holds no letter or digit matches nothing: there is no word
    /// that could occur.
    pub text: String,
    /// Any of these, without regard to case.
    pub categories: Vec<String>,
    /// All of these, without regard to case.
    pub tags: Vec<String>,
    /// Any of the tags is enough.
    pub any_tag: bool,
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
    /// Matches before the limit and the offset.
    pub total: usize,
}

/// Finds the heads that match.
///
/// # Errors
/// [`Error::Query`] where the text has too many bytes or words, or too many labels are asked for; [`Error::Database`].
pub fn search(conn: &Connection, query: &Query) -> Result<Found, Error> {
    let Some(statement) = Statement::of(query)? else { return Ok(Found::default()) };
    let total: i64 = conn
        .prepare_cached(&format!("SELECT count(*) {}", statement.matching))?
        .query_row(params_from_iter(&statement.values), |row| row.get(0))?;
    let total = usize::try_from(total).unwrap_or(0);
    let mut found = Found { hits: Vec::new(), total };
    if query.limit == 0 || query.offset >= total {
        return Ok(found);
    }
    let Statement { matching, mut values, order, order_values } = statement;
    let sql = format!("SELECT {COLUMNS} {matching} ORDER BY {order} LIMIT ? OFFSET ?");
    values.extend(order_values);
    values.push(Box::new(to_ordered(query.limit.min(SEARCH_RESULTS_MAX) as u64)));
    values.push(Box::new(to_ordered(query.offset as u64)));
    let mut prepared = conn.prepare_cached(&sql)?;
    found.hits = sound(prepared.query_map(params_from_iter(&values), listed)?)?;
    Ok(found)
}

type Values = Vec<Box<dyn ToSql>>;

/// The parts of the statement; all that a user typed is in the values.
struct Statement {
    matching: String,
    values: Values,
    order: String,
    order_values: Values,
}

impl Statement {
    /// Builds it; none where nothing can match.
    fn of(query: &Query) -> Result<Option<Self>, Error> {
        for (what, labels) in [("categories", &query.categories), ("tags", &query.tags)] {
            if labels.len() > QUERY_LABELS_MAX {
                return Err(Error::Query { what, found: labels.len(), max: QUERY_LABELS_MAX });
            }
        }
        let terms = Terms::of(&query.text)?;
        if terms.words.is_empty() && !query.text.trim().is_empty() {
            return Ok(None);
        }
        let mut statement =
            if terms.words.is_empty() { Self::recent() } else { Self::ranked(&query.text, &terms) };
        if !query.categories.is_empty() {
            statement.any_of(CATEGORY, &query.categories);
        }
        if query.any_tag && !query.tags.is_empty() {
            statement.any_of(TAG, &query.tags);
        } else {
            for tag in &query.tags {
                statement.any_of(TAG, std::slice::from_ref(tag));
            }
        }
        Ok(Some(statement))
    }

    fn recent() -> Self {
        Self {
            matching: "FROM catalog_heads AS h WHERE TRUE".to_owned(),
            values: Vec::new(),
            order: "h.released DESC, h.id".to_owned(),
            order_values: Vec::new(),
        }
    }

    fn ranked(text: &str, terms: &Terms) -> Self {
        Self {
            matching: "FROM catalog_text JOIN catalog_heads AS h ON h.position = catalog_text.rowid \
                       WHERE catalog_text MATCH ?"
                .to_owned(),
            values: vec![Box::new(terms.expression())],
            order: format!("h.name = ? DESC, h.words = ? DESC, bm25(catalog_text, {WEIGHTS}), h.id"),
            order_values: vec![Box::new(text.trim().to_lowercase()), Box::new(terms.words.join(" "))],
        }
    }

    fn any_of(&mut self, kind: i64, labels: &[String]) {
        let places = vec!["?"; labels.len()].join(", ");
        self.matching.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM catalog_labels AS l
                          WHERE l.position = h.position AND l.kind = {kind} AND l.label IN ({places}))"
        ));
        self.values.extend(labels.iter().map(|label| Box::new(fold(label)) as Box<dyn ToSql>));
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
