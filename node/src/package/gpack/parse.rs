//! From bytes to a [`Gpack`](super::Gpack), or to everything that is wrong with them.

mod project;

use std::{collections::BTreeMap, ops::Range, path::Path, str::FromStr};

use semver::{Version, VersionReq};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

pub(crate) use project::folder;
pub use project::project;

use super::{Error, Gpack, Parsed, Problem, depth, field};
use crate::{
    limits::{GPACK_BYTES_MAX, TOML_DEPTH_MAX},
    package::{PackageId, PackageName, PackageRef, name::parse_version, shorten},
};

const KEYS: &[&str] = &[
    "name",
    "version",
    "description",
    "license",
    "tags",
    "categories",
    "authors",
    "repository",
    "dependencies",
    "aliases",
    "project",
];

/// Problems, and warnings, that are told of one file.
const REPORTED_MAX: usize = 100;
/// Bytes of a file that is searched for more than its first syntax error.
const RECOVERED_BYTES_MAX: usize = 64 << 10;

/// Parses the `bytes` of a `gpack.toml`; `path` is only for messages. A `version` that is given takes the place of the one
/// in the file.
///
/// # Errors
/// [`Error::Invalid`] with every problem at once.
pub fn parse(path: &Path, bytes: &[u8], version: Option<&Version>) -> Result<Parsed, Error> {
    let invalid = |problems| Error::Invalid { path: path.to_owned(), problems };
    let text = text(bytes).map_err(|problem| invalid(vec![problem]))?;
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|first| unreadable(path, text, &lines, first))?;
    let mut reader = Reader { lines, problems: Vec::new(), warnings: Vec::new(), misspelt: Vec::new() };
    let gpack = reader.gpack(table.get_ref(), version);
    let Reader { mut problems, warnings, .. } = reader;
    match gpack {
        Some(gpack) if problems.is_empty() => Ok(Parsed { gpack, warnings }),
        _ => {
            problems.sort_by_key(|problem| problem.line);
            problems.truncate(REPORTED_MAX);
            Err(invalid(problems))
        }
    }
}

/// The document as text, once it is sure that parsing it is bounded.
fn text(bytes: &[u8]) -> Result<&str, Problem> {
    let problem = |line, message| Problem { line, key: String::new(), message, missing: false };
    if bytes.len() > GPACK_BYTES_MAX {
        let message = format!("the file is too large: at most {GPACK_BYTES_MAX} bytes are read");
        return Err(problem(0, message));
    }
    // Some editors begin a file with a byte order mark; it says nothing about UTF-8.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        problem(line, format!("byte {} is not UTF-8; save the file as UTF-8", error.valid_up_to()))
    })?;
    depth::check(text, TOML_DEPTH_MAX)
        .map_err(|at| problem(at.line, format!("it is nested more than {TOML_DEPTH_MAX} deep")))?;
    Ok(text)
}

/// Where each line ends.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line, from 1, of a place in the text.
    fn at(&self, place: usize) -> usize {
        1 + self.0.partition_point(|end| *end < place)
    }
}

/// Why a text is no TOML: what git could not merge in it, or everything that is wrong.
fn unreadable(path: &Path, text: &str, lines: &Lines, first: toml::de::Error) -> Error {
    let path = path.to_owned();
    match super::merge_mark(text) {
        Some(line) => Error::Merge { path, line },
        None => Error::Invalid { path, problems: syntax(text, lines, first) },
    }
}

/// Everything that keeps the text from being TOML.
fn syntax(text: &str, lines: &Lines, first: toml::de::Error) -> Vec<Problem> {
    let errors = match text.len() {
        // Collecting an error for every other byte of a large file would take hundreds of times its size.
        len if len > RECOVERED_BYTES_MAX => vec![first],
        _ => DeTable::parse_recoverable(text).1,
    };
    let problem = |error: &toml::de::Error| Problem {
        line: error.span().map_or(0, |span| lines.at(span.start)),
        key: String::new(),
        message: shorten(&error.message().replace('\n', "; ")),
        missing: false,
    };
    errors.iter().take(REPORTED_MAX).map(problem).collect()
}

type Value<'t, 'i> = &'t Spanned<DeValue<'i>>;

/// The values of the known keys, with the table that each stands in.
type Fields<'t, 'i> = BTreeMap<&'static str, (String, Value<'t, 'i>)>;

struct Reader {
    lines: Lines,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Keys that are not known, by line, with the known key that each is near to.
    misspelt: Vec<((usize, String), &'static str)>,
}

impl Reader {
    fn gpack<'i>(&mut self, table: &DeTable<'i>, given: Option<&Version>) -> Option<Gpack> {
        let fields = self.fields(table);
        let name = self.required(&fields, "name", |text| PackageName::from_str(text).map_err(say));
        let version = self.version(&fields, given);
        let description =
            self.required(&fields, "description", |text| field::description(text).map(|()| text.to_owned()));
        let gpack = Gpack {
            license: self.optional(&fields, "license"),
            tags: self.labels(&fields, "tags"),
            categories: self.labels(&fields, "categories"),
            authors: self.list(&fields, "authors", field::author_count, field::short),
            repository: self.optional(&fields, "repository"),
            dependencies: self.dependencies(&fields),
            name: name?,
            version: version?,
            description: description?,
        };
        Some(gpack)
    }

    fn problem(&mut self, at: Range<usize>, key: impl Into<String>, message: impl Into<String>) {
        let line = self.lines.at(at.start);
        self.problems.push(Problem { line, key: key.into(), message: message.into(), missing: false });
    }

    /// Collects the known keys of the top level and of `[package]`, and warns of the others.
    fn fields<'t, 'i>(&mut self, table: &'t DeTable<'i>) -> Fields<'t, 'i> {
        let mut fields = Fields::new();
        let package = table.get("package");
        if let Some(value) = package {
            match value.get_ref().as_table() {
                Some(package) => self.collect("package.", package, &mut fields),
                None => self.wrong_type("package", value, "a table"),
            }
        }
        self.collect("", table, &mut fields);
        fields
    }

    fn collect<'t, 'i>(&mut self, prefix: &str, table: &'t DeTable<'i>, fields: &mut Fields<'t, 'i>) {
        for (key, value) in table {
            let (name, full) = (key.get_ref().as_ref(), format!("{prefix}{}", shorten(key.get_ref())));
            if prefix.is_empty() && name == "package" {
                continue;
            }
            let Some(known) = KEYS.iter().find(|known| **known == name) else {
                self.warn_of(name, &full, key.span().start);
                continue;
            };
            if let Some((other, _)) = fields.insert(known, (full.clone(), value)) {
                self.problem(key.span(), full, format!("it is given twice, also as {other}"));
            }
        }
    }

    fn warn_of(&mut self, name: &str, full: &str, at: usize) {
        // To look for what may be meant costs more than to read the key.
        if self.warnings.len() >= REPORTED_MAX {
            return;
        }
        let (near, line) = (nearest(name), self.lines.at(at));
        self.misspelt.extend(near.map(|near| ((line, full.to_owned()), near)));
        self.warn(at, full, near.or_else(|| held_in(name)).map(str::to_owned));
    }

    /// Warns of a key that is not known, and names the one that may be meant.
    fn warn(&mut self, at: usize, full: &str, near: Option<String>) {
        if self.warnings.len() < REPORTED_MAX {
            let line = self.lines.at(at);
            let nearest = near.map(|near| format!(" Did you mean {near}?")).unwrap_or_default();
            self.warnings.push(format!("line {line}: the key {full} is not known and is ignored.{nearest}"));
        }
    }

    fn wrong_type(&mut self, key: &str, value: Value<'_, '_>, expected: &str) {
        let found = value.get_ref().type_str();
        self.problem(value.span(), key, format!("expected {expected}, found {} {found}", article(found)));
    }

    /// The text of a field; `None` where it is not there, or is no text, which is then a problem.
    fn string<'t>(&mut self, fields: &Fields<'t, '_>, key: &str) -> Option<(String, &'t str, Range<usize>)> {
        let (full, value) = fields.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((full.clone(), text, value.span())),
            None => {
                self.wrong_type(full, value, "a string");
                None
            }
        }
    }

    fn required<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &'static str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !fields.contains_key(key) {
            let message = "it is required and not there".to_owned();
            self.problems.push(Problem { line: 0, key: key.to_owned(), message, missing: true });
            return None;
        }
        let (full, text, span) = self.string(fields, key)?;
        if text.trim().is_empty() {
            self.problem(span, full, "it is required and empty");
            self.problems.last_mut()?.missing = true;
            return None;
        }
        self.checked(full, span, check(text))
    }

    fn checked<T>(&mut self, key: String, span: Range<usize>, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.problem(span, key, why)).ok()
    }

    fn version(&mut self, fields: &Fields<'_, '_>, given: Option<&Version>) -> Option<Version> {
        let Some(given) = given else {
            return self.required(fields, "version", |text| parse_version(text).map_err(say));
        };
        if let Some((full, text, span)) = self.string(fields, "version")
            && !text.trim().is_empty()
            && let Some(own) = self.checked(full, span, parse_version(text).map_err(say))
            && own != *given
        {
            self.warnings
                .push(format!("The version {given} is published as asked, although gpack.toml says {own}."));
        }
        Some(given.clone())
    }

    fn optional(&mut self, fields: &Fields<'_, '_>, key: &str) -> Option<String> {
        let (full, text, span) = self.string(fields, key)?;
        self.checked(full, span, field::short(text).map(|()| text.to_owned()))
    }

    fn list(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        count: fn(usize) -> Result<(), String>,
        check: fn(&str) -> Result<(), String>,
    ) -> Vec<String> {
        let Some((full, value)) = fields.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(full, value, "an array of strings");
            return Vec::new();
        };
        if let Err(why) = count(items.len()) {
            self.problem(value.span(), full, why);
            return Vec::new();
        }
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let full = format!("{full}[{index}]");
            match item.get_ref().as_str() {
                Some(text) => {
                    list.extend(self.checked(full, item.span(), check(text).map(|()| text.to_owned())));
                }
                None => self.wrong_type(&full, item, "a string"),
            }
        }
        list
    }

    /// A list of tags or categories, each once, whatever its case.
    fn labels(&mut self, fields: &Fields<'_, '_>, key: &str) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for label in self.list(fields, key, field::label_count, field::label) {
            if labels.iter().any(|other| other.to_lowercase() == label.to_lowercase()) {
                self.warnings
                    .push(format!("{key}: \"{}\" is there twice and is kept once.", shorten(&label)));
            } else {
                labels.push(label);
            }
        }
        labels
    }

    fn dependencies(&mut self, fields: &Fields<'_, '_>) -> BTreeMap<PackageId, VersionReq> {
        let mut dependencies = BTreeMap::new();
        let Some((full, value)) = fields.get("dependencies") else { return dependencies };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(full, value, "a table of \"publisher/name\" = \"version requirement\"");
            return dependencies;
        };
        if let Err(why) = field::dependency_count(table.len()) {
            self.problem(value.span(), full, why);
            return dependencies;
        }
        for (key, value) in table {
            let full = format!("{full}.\"{}\"", shorten(key.get_ref()));
            let id = self.checked(full.clone(), key.span(), dependency_id(key.get_ref()));
            let requirement = match value.get_ref().as_str() {
                Some(text) => self.checked(full, value.span(), requirement(text)),
                None => {
                    self.wrong_type(&full, value, "a version requirement such as \"^1.2\"");
                    None
                }
            };
            dependencies.extend(id.zip(requirement));
        }
        dependencies
    }
}

fn dependency_id(text: &str) -> Result<PackageId, String> {
    let reference: PackageRef = text.parse().map_err(say)?;
    match reference {
        PackageRef { publisher: Some(publisher), name, version: None } => Ok(PackageId { publisher, name }),
        PackageRef { publisher: None, name, .. } => Err(format!(
            "a dependency names its publisher too, since a bare name may mean several packages: \"<publisher>/{name}\""
        )),
        PackageRef { name, .. } => Err(format!("the version of {name} belongs to the right of the '='")),
    }
}

pub(crate) fn requirement(text: &str) -> Result<VersionReq, String> {
    field::requirement(text)?;
    text.parse().map_err(|error| format!("\"{}\" is not a version requirement: {error}", shorten(text)))
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// The known key that a person probably meant.
fn nearest(key: &str) -> Option<&'static str> {
    let near = |known: &&&str| strsim::damerau_levenshtein(&key.to_lowercase(), known) <= 2;
    // The distance costs the product of the lengths; no known key is near a long one.
    if key.len() > 64 {
        return None;
    }
    KEYS.iter().filter(near).min_by_key(|known| strsim::damerau_levenshtein(key, known)).copied()
}

/// The known key that is one of the words of another, as in `dev-dependencies`.
fn held_in(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|known| key.split(['-', '_', '.']).any(|word| word.eq_ignore_ascii_case(known))).copied()
}
