//! The words of a query, as a person writes them.
//!
//! ```text
//! web server          both words, each also as the beginning of a word
//! "web server"        these words side by side
//! -python             not this word;  not:python is the same
//! tag:sql             with this tag;  category:storage, publisher:gp1…  likewise, and with a minus or not: the opposite
//! tag:"two words"     a label with spaces
//! ```
//!
//! All of it is joined: whatever stands in a query must hold.

use sha2::{Digest, Sha256};

use super::{
    Error,
    words::{fold, other_forms, runs},
};
use crate::{
    identity::hex,
    limits::{QUERY_BYTES_MAX, QUERY_WORDS_MAX},
};

/// Something that must occur, or must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// A word, lower case.
    Word(String),
    /// Words side by side: what stood in quotation marks, or a run of a script without spaces.
    Phrase(Vec<String>),
    /// A label, a publisher: one token of the index, or the beginning of one.
    Label { token: String, begins: bool },
}

/// How a word must occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// As it is, or in another form.
    Whole,
    /// Also as the beginning of a word.
    Beginning,
}

/// A query, cut into its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Terms {
    /// What a person looks for.
    pub(super) wanted: Vec<Term>,
    /// What must not occur.
    pub(super) unwanted: Vec<Term>,
    /// Labels and publishers; of each group, one must be there.
    pub(super) filters: Vec<Vec<Term>>,
    /// The text of each wanted word as it was typed, to be corrected: empty for what cannot be.
    pub(super) typed: Vec<String>,
}

impl Terms {
    /// Cuts a query's text; without a part where nothing in it can be looked for.
    pub(super) fn of(text: &str) -> Result<Self, Error> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Error::Query { what: "bytes", found: text.len(), max: QUERY_BYTES_MAX });
        }
        let mut terms = Self::default();
        for piece in pieces(text) {
            terms.take(&piece);
        }
        let found = terms.wanted.len() + terms.unwanted.len() + terms.filters.len();
        if found > QUERY_WORDS_MAX {
            return Err(Error::Query { what: "words", found, max: QUERY_WORDS_MAX });
        }
        Ok(terms)
    }

    fn take(&mut self, piece: &Piece) {
        if let Some(filter) = piece.filter() {
            if piece.negated {
                self.unwanted.push(filter);
            } else {
                self.filters.push(vec![filter]);
            }
            return;
        }
        let text = match &piece.field {
            // No field that there is: two words.
            Some(field) => format!("{field} {}", piece.text),
            None => piece.text.clone(),
        };
        let parts = if piece.quoted { phrase(&text).into_iter().collect() } else { plain(&text) };
        for part in parts {
            if piece.negated {
                self.unwanted.push(part);
            } else if !self.wanted.contains(&part) {
                self.typed.push(match &part {
                    Term::Word(word) => word.clone(),
                    Term::Phrase(_) | Term::Label { .. } => String::new(),
                });
                self.wanted.push(part);
            }
        }
    }

    /// Whether there is anything to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty() && self.filters.is_empty()
    }

    /// All that must hold, with the words wanted in `columns` alone.
    pub(super) fn expression(&self, columns: Option<&str>, how: Match) -> String {
        let within = |expression: String| match columns {
            Some(columns) => format!("{columns} : ({expression})"),
            None => format!("({expression})"),
        };
        let mut all: Vec<String> = self.wanted.iter().map(|term| within(term.expression(how))).collect();
        for group in &self.filters {
            let any: Vec<String> = group.iter().map(|term| term.expression(Match::Whole)).collect();
            all.push(format!("labels : ({})", any.join(" OR ")));
        }
        if all.is_empty() {
            all.push(format!("labels : ({})", quoted(&every())));
        }
        let mut expression = format!("({})", all.join(" AND "));
        for term in &self.unwanted {
            let columns = if matches!(term, Term::Label { .. }) { "labels : " } else { "" };
            expression.push_str(&format!(" NOT ({columns}({}))", term.expression(Match::Whole)));
        }
        expression
    }
}

impl Term {
    /// The expression for one of the wanted words alone.
    pub(super) fn alone(&self) -> String {
        self.expression(Match::Beginning)
    }

    fn expression(&self, how: Match) -> String {
        match self {
            Self::Word(word) => {
                let mut any = vec![quoted(word)];
                if how == Match::Beginning {
                    any[0].push_str(" *");
                }
                any.extend(other_forms(word).iter().map(|form| quoted(form)));
                any.join(" OR ")
            }
            Self::Phrase(words) => quoted(&words.join(" ")),
            Self::Label { token, begins: false } => quoted(token),
            Self::Label { token, begins: true } => format!("{} *", quoted(token)),
        }
    }

    /// The other forms of the word.
    pub(super) fn forms(&self) -> Vec<String> {
        match self {
            Self::Word(word) => other_forms(word),
            Self::Phrase(_) | Self::Label { .. } => Vec::new(),
        }
    }

    /// Whether it occurs among the words of a column, lower case; accents, which the index folds away, count here.
    pub(super) fn is_in(&self, forms: &[String], words: &[&str], how: Match) -> bool {
        match self {
            Self::Word(wanted) => words.iter().any(|word| {
                word == wanted
                    || (how == Match::Beginning && word.starts_with(wanted.as_str()))
                    || forms.iter().any(|form| form == word)
            }),
            Self::Phrase(wanted) => words.windows(wanted.len().max(1)).any(|window| window == wanted),
            Self::Label { .. } => false,
        }
    }

    /// A label of a kind.
    pub(super) fn label(kind: char, label: &str) -> Self {
        Self::Label { token: label_token(kind, label), begins: false }
    }
}

/// What every token of the column `labels` begins with. It is for private use, and so no letter of a word: words are looked for in all
/// columns, which costs less than in all but this one.
const MARK: char = '\u{e000}';
/// The token of every package, without its mark.
const EVERY: &str = "every";
/// Kinds of labels, as their tokens go on.
pub(super) const CATEGORY: char = 'c';
pub(super) const TAG: char = 't';
/// A publisher id from its beginning, and from its end.
const PUBLISHER: (char, char) = ('p', 'r');

/// The tokens of a package's labels, for the column `labels`: no word, since a label can have spaces and must match as a whole.
pub(super) fn label_tokens(publisher: &str, tags: &[String], categories: &[String]) -> String {
    let mut tokens = vec![every(), from_beginning(publisher), from_end(publisher)];
    tokens.extend(tags.iter().map(|tag| label_token(TAG, tag)));
    tokens.extend(categories.iter().map(|category| label_token(CATEGORY, category)));
    tokens.join(" ")
}

fn label_token(kind: char, label: &str) -> String {
    let digest = Sha256::digest(fold(label).as_bytes());
    format!("{MARK}{kind}{}", hex::encode(&digest[..12]))
}

fn every() -> String {
    format!("{MARK}{EVERY}")
}

fn from_beginning(publisher: &str) -> String {
    format!("{MARK}{}{publisher}", PUBLISHER.0)
}

fn from_end(publisher: &str) -> String {
    let reversed: String = publisher.chars().rev().collect();
    format!("{MARK}{}{reversed}", PUBLISHER.1)
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', ""))
}

/// One piece of a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Piece {
    negated: bool,
    field: Option<String>,
    text: String,
    quoted: bool,
}

impl Piece {
    /// The label or publisher that it names.
    fn filter(&self) -> Option<Term> {
        match self.field.as_deref()? {
            "tag" | "tags" => Some(Term::label(TAG, &self.text)),
            "category" | "categories" => Some(Term::label(CATEGORY, &self.text)),
            "publisher" => Some(Self::publisher(&self.text)),
            _ => None,
        }
    }

    /// A whole id, the beginning of one, or one as tables shorten it: where both ends are named, the longer of the two is looked for.
    fn publisher(text: &str) -> Term {
        let text = text.trim().to_lowercase();
        let (begins, ends) = text.split_once(['…', '*']).unwrap_or((&text, ""));
        let letters = |part: &str| part.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        let (begins, ends) = (letters(begins), letters(ends));
        if begins.is_empty() && ends.is_empty() {
            // Nobody's.
            return Term::Label { token: MARK.to_string(), begins: false };
        }
        let token = if ends.len() > begins.len() { from_end(&ends) } else { from_beginning(&begins) };
        Term::Label { token, begins: true }
    }
}

/// Cuts a text at spaces outside quotation marks.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return pieces;
        }
        let mut piece = Piece::default();
        // A minus in front of nothing is a dash.
        if let Some(after) = rest
            .strip_prefix('-')
            .filter(|after| after.starts_with(|char: char| char == '"' || char.is_alphanumeric()))
        {
            (piece.negated, rest) = (true, after);
        } else if let Some(after) = rest.strip_prefix("not:") {
            (piece.negated, rest) = (true, after);
        }
        let word_end = rest.find(|char: char| char.is_whitespace() || char == '"').unwrap_or(rest.len());
        if let Some(colon) = rest[..word_end].find(':').filter(|colon| *colon > 0) {
            piece.field = Some(rest[..colon].to_lowercase());
            rest = &rest[colon + 1..];
        }
        if let Some(after) = rest.strip_prefix('"') {
            let end = after.find('"').unwrap_or(after.len());
            piece.text = after[..end].to_owned();
            piece.quoted = true;
            rest = after.get(end + 1..).unwrap_or("");
        } else {
            let end = rest.find(|char: char| char.is_whitespace() || char == '"').unwrap_or(rest.len());
            piece.text = rest[..end].to_owned();
            rest = &rest[end..];
        }
        pieces.push(piece);
    }
}

/// What is said of filters that there are not, and of those without a value: they are looked for as words, or match nothing.
pub fn query_warnings(text: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for piece in pieces(text).iter().take(QUERY_WORDS_MAX) {
        let Some(field) = &piece.field else { continue };
        // `std::vec`, `https://…` and the like are words.
        let is_name = !field.is_empty() && field.chars().all(|letter| letter.is_ascii_alphabetic());
        let is_word = !is_name || piece.text.starts_with([':', '/']);
        match piece.filter() {
            Some(_) if piece.text.trim().is_empty() => warnings.push(format!(
                "{field}: is followed by nothing, and so matches nothing: write what is looked for right behind the colon, such as \
                 {field}:{}",
                if field == "publisher" { "gp1…" } else { "sql" }
            )),
            None if !is_word => warnings.push(format!(
                "{field}: is no filter, and was looked for as a word; the filters are tag:, category: and publisher:"
            )),
            _ => {}
        }
    }
    warnings.dedup();
    warnings
}

/// The words of a text, each for itself.
fn plain(text: &str) -> Vec<Term> {
    let lower = text.to_lowercase();
    runs(&lower)
        .map(|run| {
            let words: Vec<String> = run.words().map(str::to_owned).collect();
            match <[String; 1]>::try_from(words) {
                Ok([word]) => Term::Word(word),
                Err(words) => Term::Phrase(words),
            }
        })
        .collect()
}

/// The words of a text side by side; none where there is no word.
fn phrase(text: &str) -> Option<Term> {
    let lower = text.to_lowercase();
    let words: Vec<String> = super::words::words(&lower).map(str::to_owned).collect();
    (!words.is_empty()).then_some(Term::Phrase(words))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(text: &str) -> Vec<Term> {
        Terms::of(text).unwrap().wanted
    }

    fn word(word: &str) -> Term {
        Term::Word(word.to_owned())
    }

    fn side_by_side(words: &[&str]) -> Term {
        Term::Phrase(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn a_query_is_cut_as_people_write_it() {
        assert_eq!(wanted("Web  server web"), [word("web"), word("server")]);
        assert_eq!(wanted("\"Web server\" fast"), [side_by_side(&["web", "server"]), word("fast")]);
        assert_eq!(wanted("unclosed \"web server"), [word("unclosed"), side_by_side(&["web", "server"])]);
        assert_eq!(
            wanted("foo-bar name:x 数据 "),
            [word("foo"), word("bar"), word("name"), word("x"), side_by_side(&["数", "据"])]
        );
        let terms = Terms::of("web -python not:\"two words\" tag:SQL -tag:\"a b\" publisher:gp1QQ").unwrap();
        assert_eq!(terms.wanted, [word("web")]);
        let label = |label| Term::label(TAG, label);
        assert_eq!(terms.unwanted, [word("python"), side_by_side(&["two", "words"]), label("a b")]);
        let publisher = Term::Label { token: from_beginning("gp1qq"), begins: true };
        assert_eq!(terms.filters, [vec![label("sql")], vec![publisher]]);
        for nothing in ["", "  ", "--", "- -", "\"\"", "***", "🦀", "\"\" -\"\""] {
            assert!(Terms::of(nothing).unwrap().is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_shortened_publisher_is_looked_for_by_the_longer_end() {
        let of = |text: &str| Terms::of(text).unwrap().filters[0][0].clone();
        assert_eq!(
            of("publisher:gp1abcdef…wxyz"),
            Term::Label { token: from_beginning("gp1abcdef"), begins: true }
        );
        assert_eq!(of("publisher:…wxyz"), Term::Label { token: format!("{MARK}rzyxw"), begins: true });
        assert_eq!(
            of("publisher:…"),
            Term::Label { token: MARK.to_string(), begins: false },
            "no publisher's"
        );
    }

    #[test]
    fn filters_that_there_are_not_are_told() {
        for (text, part) in [
            ("name:x", "name: is no filter"),
            ("web -author:x", "author: is no filter"),
            ("tag: sql", "tag: is followed by nothing"),
            ("publisher:\"\"", "publisher: is followed by nothing"),
        ] {
            let warnings = query_warnings(text);
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{text}: {warnings:?}");
        }
        for fine in [
            "web",
            "tag:sql -category:net publisher:gp1",
            "std::vec",
            "https://example.org",
            "a \"b: c\"",
            "12:30",
        ] {
            assert_eq!(query_warnings(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn a_query_is_bounded() {
        assert!(Terms::of(&"x".repeat(QUERY_BYTES_MAX)).is_ok());
        assert!(Terms::of(&"x".repeat(QUERY_BYTES_MAX + 1)).is_err());
        let many: Vec<_> = (0..=QUERY_WORDS_MAX).map(|n| n.to_string()).collect();
        assert!(Terms::of(&many.join(" ")).is_err());
        assert!(Terms::of(&many[1..].join(" ")).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_can_be_cut(text in ".{0,80}") {
            if let Ok(terms) = Terms::of(&text) {
                prop_assert!(!terms.expression(None, Match::Beginning).is_empty());
                prop_assert_eq!(terms.wanted.len(), terms.typed.len());
            }
        }
    }
}
