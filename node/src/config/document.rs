//! The configuration file: bounded, parsed, and checked against the table of keys, with every problem at once.
//!
//! Keys stand at the top level or in a `[p2p]` table. The file may come from anywhere, so its size, its encoding and its
//! nesting are checked against limits before the TOML parser sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Error, Partial, Place, Problem,
    error::{did_you_mean, quoted},
    keys::{self, KEYS, Key},
    value::{Value, described},
};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_PROBLEMS_MAX, TOML_DEPTH_MAX};

/// The table that may hold the keys instead of the top level.
pub(super) const TABLE: &str = "p2p";

/// What a configuration file is whose link has lost its target: the defaults would hold without a word.
pub(super) const LEADS_NOWHERE: &str = "a link that leads nowhere";

/// What to do with a key that is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// Warn: it may be of a newer version.
    #[default]
    Warn,
    /// Refuse the file, as `--strict-config` asks.
    Refuse,
}

/// A configuration file that was read and found right.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Where it lies.
    pub path: PathBuf,
    /// The values that it gives.
    pub values: Partial,
    /// Its unknown keys.
    pub warnings: Vec<Problem>,
    lines: BTreeMap<&'static str, usize>,
}

impl Document {
    /// The line of a key that stands in the file; 1 for any other.
    pub(super) fn line_of(&self, key: &Key) -> usize {
        self.lines.get(key.name).copied().unwrap_or(1)
    }
}

/// Reads the file at `path`, which must exist.
///
/// # Errors
/// [`Error::Missing`], [`Error::NotAFile`], [`Error::TooLarge`] or [`Error::Unreadable`], and [`Error::Invalid`] with every
/// problem of its contents.
pub fn read(path: &Path, unknown: Unknown) -> Result<Document, Error> {
    parse(path, &read_text(path)?, unknown)
}

/// Reads the file at `path` where there is one.
///
/// # Errors
/// As [`read`], but a missing file is `None`.
pub fn read_if_present(path: &Path, unknown: Unknown) -> Result<Option<Document>, Error> {
    match read(path, unknown) {
        Ok(document) => Ok(Some(document)),
        Err(Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the text of a configuration file, within its bounds.
pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => {
            Error::NotAFile { path: path.to_owned(), what: LEADS_NOWHERE }
        }
        io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Unreadable { path: path.to_owned(), source },
    };
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    if let Some(what) = unfit(kind) {
        return Err(Error::NotAFile { path: path.to_owned(), what });
    }
    let mut bytes = Vec::new();
    let bound = CONFIG_BYTES_MAX as u64 + 1;
    File::open(path).and_then(|file| file.take(bound).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        invalid(vec![Problem::new(Place::line(path, line), None, "the text is not UTF-8")])
    })
}

/// What a path names that must not be read: reading a pipe or a socket could wait without end.
fn unfit(kind: fs::FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    kind.is_dir().then_some("a directory")
}

/// Parses the text of a configuration file; `path` is for messages.
///
/// # Errors
/// [`Error::Invalid`] with every problem: syntax, types, bounds, keys given twice, and unknown keys where `unknown` says so.
pub fn parse(path: &Path, text: &str, unknown: Unknown) -> Result<Document, Error> {
    let (document, problems) = parse_on(path, text, unknown)?;
    if problems.is_empty() { Ok(document) } else { Err(invalid(problems)) }
}

/// As [`parse`], and goes on where values are wrong: what is right, and every problem of the rest.
///
/// # Errors
/// Where it is too large, or nested too deep.
pub(super) fn parse_on(path: &Path, text: &str, unknown: Unknown) -> Result<(Document, Vec<Problem>), Error> {
    if text.len() > CONFIG_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let lines = Lines::of(text);
    let at = |offset: usize| Place::line(path, lines.line(offset));
    if let Err(offset) = check_depth(text) {
        let what = format!("tables and lists are nested more than {TOML_DEPTH_MAX} deep");
        return Err(invalid(vec![Problem::new(at(offset), None, what)]));
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading {
        path,
        text,
        lines: &lines,
        found: BTreeMap::new(),
        problems: Vec::new(),
        unknown: Vec::new(),
    };
    for error in &errors {
        reading.syntax(error, root.get_ref());
    }
    // The parser may stumble over one line more than once.
    reading.problems.dedup_by_key(|(line, _)| *line);
    let mut problems = std::mem::take(&mut reading.problems);
    reading.table(root.get_ref(), "", false);
    // What the parser recovered from a broken line would only be blamed twice.
    let broken: BTreeSet<usize> = problems.iter().map(|(line, _)| *line).collect();
    problems.extend(reading.problems.into_iter().filter(|(line, _)| !broken.contains(line)));

    let mut values = Partial::default();
    let mut places = BTreeMap::new();
    for (name, (value, line, _)) in reading.found {
        if let Some(key) = Key::named(name) {
            key.put(&mut values, value);
            places.insert(key.name, line);
        }
    }
    let mut warnings = Vec::new();
    match unknown {
        Unknown::Warn => warnings = reading.unknown,
        Unknown::Refuse => problems.extend(reading.unknown),
    }
    warnings.sort_by_key(|(line, _)| *line);
    problems.sort_by_key(|(line, _)| *line);
    let warnings = warnings.into_iter().map(|(_, warning)| warning).take(CONFIG_PROBLEMS_MAX).collect();
    let document = Document { path: path.to_owned(), values, warnings, lines: places };
    Ok((document, problems.into_iter().map(|(_, problem)| problem).collect()))
}

/// Bounds the list: a file of garbage has as many problems as lines.
pub(super) fn invalid(mut problems: Vec<Problem>) -> Error {
    if problems.len() > CONFIG_PROBLEMS_MAX {
        let more = problems.len() - CONFIG_PROBLEMS_MAX;
        problems.truncate(CONFIG_PROBLEMS_MAX);
        problems.push(Problem::new(Place::Program, None, format!("and {more} more")));
    }
    Error::Invalid { problems }
}

/// What was found so far.
struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    lines: &'a Lines,
    /// By key: the value, its line, and whether it stands in the `[p2p]` table.
    found: BTreeMap<&'static str, (Value, usize, bool)>,
    problems: Vec<(usize, Problem)>,
    unknown: Vec<(usize, Problem)>,
}

impl Reading<'_> {
    fn problem(&mut self, line: usize, key: Option<String>, what: String) {
        self.problems.push((line, Problem::new(Place::line(self.path, line), key, what)));
    }

    /// An error of the parser; a key that stands twice is named with both lines.
    fn syntax(&mut self, error: &toml::de::Error, root: &DeTable<'_>) {
        let span = error.span().unwrap_or_default();
        let line = self.lines.line(span.start);
        let what = error.message().replace('\n', ", ");
        let name = self
            .text
            .get(span.clone())
            .map(|name| name.trim_matches(['"', '\'']))
            .filter(|name| !name.is_empty());
        match name.filter(|_| what.contains("duplicate key")) {
            Some(name) => {
                let first =
                    find(root, name).map(|first| self.lines.line(first.start)).filter(|first| *first != line);
                let also = first.map_or_else(String::new, |first| format!(", first on line {first}"));
                let is_word = KEYS.iter().any(|key| key.may_stand_alone() && key.name == name);
                let remedy = if is_word {
                    format!("write one table: [{name}] with kind = … and hubs = […]")
                } else {
                    "remove one of them".to_owned()
                };
                self.problem(line, Some(shortened(name)), format!("it stands twice{also}; {remedy}"));
            }
            None => self.problem(line, None, what),
        }
    }

    /// Walks a table whose keys are those of ours that begin with `prefix`. It descends into known tables only, so that its
    /// depth is that of the longest key.
    fn table(&mut self, table: &DeTable<'_>, prefix: &str, inside: bool) {
        for (name, span, value) in keys::entries(table) {
            if prefix.is_empty() && !inside && name == TABLE {
                match value.get_ref() {
                    DeValue::Table(table) => self.table(table, "", true),
                    _ => {
                        let what = format!("it is {}, expected a table", described(value.get_ref()));
                        self.problem(self.lines.line(span.start), Some(TABLE.into()), what);
                    }
                }
                continue;
            }
            let full = format!("{prefix}{name}");
            let plain = !name.contains('.');
            let nested = format!("{full}.");
            let is_table = value.get_ref().is_table();
            let key = Key::named(&full)
                .filter(|key| plain && !(is_table && key.name == full && key.may_stand_alone()));
            if let Some(key) = key {
                self.value(key, span, value, inside);
            } else if plain && KEYS.iter().any(|key| key.name.starts_with(&nested)) {
                match value.get_ref() {
                    DeValue::Table(table) => self.table(table, &nested, inside),
                    other => {
                        let what = format!("it is {}, expected a table", described(other));
                        self.problem(self.lines.line(span.start), Some(full), what);
                    }
                }
            } else {
                let line = self.lines.line(span.start);
                // A key that strayed into a table: everything below its header is in it.
                let advice = match Key::named(name).filter(|key| !prefix.is_empty() && key.table().is_none())
                {
                    Some(key) => format!(", {} stands at the top level, above every table", key.name),
                    None => did_you_mean(Key::nearest(&full)),
                };
                let what = format!("unknown key, it has no effect{advice}");
                let problem = Problem::new(Place::line(self.path, line), Some(shortened(&full)), what);
                self.unknown.push((line, problem));
            }
        }
    }

    fn value(&mut self, key: &'static Key, span: Range<usize>, value: &Spanned<DeValue<'_>>, inside: bool) {
        let line = self.lines.line(span.start);
        match key.kind.read(value.get_ref()) {
            Err(faults) => {
                for fault in faults {
                    let line = fault.offset.map_or(line, |offset| self.lines.line(offset));
                    self.problems.push((line, key.problem(fault, Place::line(self.path, line))));
                }
            }
            Ok(value) => {
                if let Some((_, first, first_inside)) = self.found.insert(key.name, (value, line, inside)) {
                    let name = |inside| if inside { "in [p2p]" } else { "at the top level" };
                    let what = format!(
                        "it stands twice: {} on line {first} and {} on line {line}; remove one of them",
                        name(first_inside),
                        name(inside)
                    );
                    self.problem(line.max(first), Some(key.name.into()), what);
                }
            }
        }
    }
}

/// A key's name as it can stand in a message.
fn shortened(name: &str) -> String {
    let plain = name.len() <= 80 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { name.to_owned() } else { quoted(name) }
}

/// Where a key of that name stands first: at the top level, or in a table there.
fn find(root: &DeTable<'_>, name: &str) -> Option<Range<usize>> {
    let inner = keys::entries(root).filter_map(|(_, _, value)| value.get_ref().as_table());
    std::iter::once(root)
        .chain(inner)
        .flat_map(keys::entries)
        .filter(|(found, ..)| *found == name)
        .map(|(_, span, _)| span)
        .min_by_key(|span| span.start)
}

/// Byte offsets at which lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let starts =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        Self(std::iter::once(0).chain(starts).collect())
    }

    /// The line of a byte, counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset).max(1)
    }
}

/// Bounds the nesting before a parser, which recurses, sees the text: brackets and dots of keys outside of strings and
/// comments. The offset of the first that is too deep is the error.
fn check_depth(text: &str) -> Result<(), usize> {
    let bytes = text.as_bytes();
    // One entry for each open bracket: the dots of the key in front of it.
    let mut open: Vec<usize> = Vec::new();
    let (mut dots, mut at) = (0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = after_string(bytes, at);
                continue;
            }
            b'#' => {
                while bytes.get(at).is_some_and(|byte| *byte != b'\n') {
                    at += 1;
                }
                continue;
            }
            b'[' | b'{' => {
                open.push(dots);
                dots = 0;
            }
            b']' | b'}' => {
                open.pop();
                dots = 0;
            }
            b'.' => dots += 1,
            b',' | b'\n' => dots = 0,
            _ => {}
        }
        if open.len() + open.iter().sum::<usize>() + dots > TOML_DEPTH_MAX {
            return Err(at);
        }
        at += 1;
    }
    Ok(())
}

/// Where the string that begins at `start` has ended; a single-line string ends with its line at the latest.
fn after_string(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let triple = [quote; 3];
    let long = bytes[start..].starts_with(&triple);
    let mut at = start + if long { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        if byte == b'\\' && quote == b'"' {
            at += 2;
        } else if long && bytes[at..].starts_with(&triple) {
            return at + 3;
        } else if !long && (byte == quote || byte == b'\n') {
            return at + 1;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests;
