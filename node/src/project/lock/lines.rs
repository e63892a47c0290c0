//! Reads a lock file line by line, as the program writes it.
//!
//! A lock file comes with a project, and may be anybody's. Nothing is built of it but the packages, and no more of them than a project may
//! have: a parser of any TOML would make a tree of whatever stands there, of many times its size. Spaces, comments, the order of the values
//! and the lines of a list may be other than the program writes them; all else that TOML allows is refused.

use std::{collections::BTreeMap, path::Path};

use semver::VersionReq;

use super::{FORMAT, Lock, Locked};
use crate::{
    content::{Codec, ContentId},
    limits::DEPENDENCIES_MAX,
    package::{
        PackageId,
        dependencies::{PACKAGES_MAX, RANGES_MAX, Ranges},
        name::parse_version,
        shorten,
    },
    project::Error,
};

/// What stands before each package.
const TABLE: &str = "[[package]]";
/// Single conditions of all ranges together, such as the two of `>=1, <3`.
const CONDITIONS_MAX: usize = 2 * RANGES_MAX;

/// Reads the text of a lock file; `path` is only for messages.
pub(super) fn read(path: &Path, text: &str) -> Result<Lock, Error> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { path, packages: BTreeMap::new(), row: None, list: None, needs: 0, conditions: 0 };
    reader.format(text)?;
    for (number, line) in numbered(text) {
        reader.line(number, line)?;
    }
    if let Some(line) = reader.list {
        return Err(reader.wrong(line, "the list does not end"));
    }
    reader.finish()?;
    Ok(Lock { packages: reader.packages })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).map(|(number, line)| (number, line.trim_matches([' ', '\t'])))
}

/// A value, and the line that it stands on.
type Value<'a> = (usize, &'a str);

/// A package, as far as it was read.
#[derive(Default)]
struct Row<'a> {
    line: usize,
    values: BTreeMap<&'static str, Value<'a>>,
    dependencies: Option<Vec<Value<'a>>>,
}

/// The values of a package that are text, and those that are numbers.
const TEXTS: &[&str] = &["id", "version", "cid", "entry", "keys", "manifest"];
const NUMBERS: &[&str] = &["sequence", "size"];

struct Reader<'a> {
    path: &'a Path,
    packages: BTreeMap<PackageId, Locked>,
    row: Option<Row<'a>>,
    /// The line on which a list of dependencies began that has not ended.
    list: Option<usize>,
    needs: usize,
    conditions: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, line: usize, why: impl Into<String>) -> Error {
        Error::Lock { path: self.path.to_owned(), line, why: why.into() }
    }

    /// Checks the format before anything else: a later one may say other things.
    fn format(&self, text: &str) -> Result<(), Error> {
        let before = numbered(text).take_while(|(_, line)| !line.starts_with('['));
        let mut said = before.filter_map(|(number, line)| Some((number, key_of(line)?)));
        let Some((number, (_, value))) = said.find(|(_, (key, _))| *key == "version") else {
            return Err(
                self.wrong(1, format!("it does not begin with the number of its format: version = {FORMAT}"))
            );
        };
        match self.number((number, value))? {
            FORMAT => Ok(()),
            found => Err(Error::Newer { path: self.path.to_owned(), found, known: FORMAT }),
        }
    }

    fn line(&mut self, number: usize, line: &'a str) -> Result<(), Error> {
        if self.list.is_some() {
            return self.items(number, line);
        }
        if is_blank(line) {
            return Ok(());
        }
        if line.strip_prefix(TABLE).is_some_and(is_blank) {
            self.finish()?;
            if self.packages.len() >= PACKAGES_MAX {
                return Err(self.wrong(number, format!("it names more than {PACKAGES_MAX} packages")));
            }
            self.row = Some(Row { line: number, ..Row::default() });
            return Ok(());
        }
        let Some((key, value)) = key_of(line) else {
            return Err(self.wrong(number, format!("\"{}\" is no line of a lock file", shorten(line))));
        };
        let known = TEXTS.iter().chain(NUMBERS).find(|known| **known == key);
        let (Some(row), true) = (&mut self.row, known.is_some() || key == "dependencies") else {
            // The format was read before.
            return match self.row.is_none() && key == "version" {
                true => Ok(()),
                false => Err(self.wrong(number, format!("the key {} is not known", shorten(key)))),
            };
        };
        let is_twice = match known {
            Some(known) => row.values.insert(known, (number, value)).is_some(),
            None => row.dependencies.replace(Vec::new()).is_some(),
        };
        match (is_twice, known, value.strip_prefix('[')) {
            (true, ..) => Err(self.wrong(number, format!("{key} is given twice"))),
            (false, Some(_), _) => Ok(()),
            (false, None, Some(rest)) => {
                self.list = Some(number);
                self.items(number, rest)
            }
            (false, None, None) => Err(self.wrong(number, "expected a list of what it needs")),
        }
    }

    /// Reads what stands on one line of a list.
    fn items(&mut self, number: usize, line: &'a str) -> Result<(), Error> {
        let mut rest = line;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if let Some(after) = rest.strip_prefix(']') {
                self.list = None;
                return match is_blank(after) {
                    true => Ok(()),
                    false => Err(self.wrong(number, "something stands behind the list")),
                };
            }
            if is_blank(rest) {
                return Ok(());
            }
            let Some((item, after)) = quoted(rest) else {
                let why = format!("\"{}\" is not \"<publisher>/<name> <range>\"", shorten(rest));
                return Err(self.wrong(number, why));
            };
            let items = self
                .row
                .as_mut()
                .and_then(|row| row.dependencies.as_mut())
                .expect("a list is one of a package");
            items.push((number, item));
            self.needs += 1;
            if items.len() > DEPENDENCIES_MAX {
                return Err(self.wrong(number, format!("it needs more than {DEPENDENCIES_MAX} packages")));
            }
            if self.needs > RANGES_MAX {
                return Err(self.wrong(number, format!("it names more than {RANGES_MAX} dependencies")));
            }
            rest = after;
        }
    }

    /// Adds the package that was read.
    fn finish(&mut self) -> Result<(), Error> {
        let Some(row) = self.row.take() else { return Ok(()) };
        let (version_line, version) = self.text(&row, "version")?;
        let version = parse_version(version).map_err(|error| self.wrong(version_line, error.to_string()))?;
        let mut dependencies = Ranges::new();
        for (line, text) in row.dependencies.iter().flatten().copied() {
            let (id, range) = self.dependency(line, text)?;
            self.conditions += range.comparators.len();
            if self.conditions > CONDITIONS_MAX {
                return Err(
                    self.wrong(line, format!("its ranges have more than {CONDITIONS_MAX} conditions"))
                );
            }
            if dependencies.insert(id, range).is_some() {
                return Err(self.wrong(line, "it needs the same package twice"));
            }
        }
        let locked = Locked {
            version,
            root: self.content_id(&row, "cid", |codec| codec == Codec::DagPb)?,
            entry: self.content_id(&row, "entry", |codec| codec == Codec::DagCbor)?,
            sequence: self.number(self.value(&row, "sequence")?)?,
            keys: self.content_id(&row, "keys", |codec| codec == Codec::DagCbor)?,
            manifest: self.content_id(&row, "manifest", |codec| codec != Codec::DagCbor)?,
            size: self.number(self.value(&row, "size")?)?,
            dependencies,
        };
        let (line, id) = self.text(&row, "id")?;
        let id = self.package_id(line, id)?;
        match self.packages.insert(id, locked) {
            Some(_) => Err(self.wrong(line, "the package stands there twice")),
            None => Ok(()),
        }
    }

    fn value(&self, row: &Row<'a>, key: &str) -> Result<Value<'a>, Error> {
        row.values.get(key).copied().ok_or_else(|| self.wrong(row.line, format!("the package has no {key}")))
    }

    fn text(&self, row: &Row<'a>, key: &str) -> Result<Value<'a>, Error> {
        let (line, value) = self.value(row, key)?;
        match quoted(value).filter(|(_, after)| is_blank(after)) {
            Some((text, _)) => Ok((line, text)),
            None => Err(self.wrong(line, format!("expected text between quotes, found {}", shorten(value)))),
        }
    }

    fn number(&self, (line, value): Value<'_>) -> Result<u64, Error> {
        let digits = value.split('#').next().unwrap_or_default().trim_end();
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| is_number);
        number.ok_or_else(|| self.wrong(line, format!("expected a number, found {}", shorten(value))))
    }

    fn package_id(&self, line: usize, text: &str) -> Result<PackageId, Error> {
        text.parse().map_err(|_| self.wrong(line, format!("\"{}\" is not <publisher>/<name>", shorten(text))))
    }

    fn content_id(&self, row: &Row<'a>, key: &str, fits: fn(Codec) -> bool) -> Result<ContentId, Error> {
        let (line, text) = self.text(row, key)?;
        let id = text.parse::<ContentId>().ok().filter(|id| fits(id.codec()));
        id.ok_or_else(|| {
            self.wrong(line, format!("\"{}\" is not the id of what belongs there", shorten(text)))
        })
    }

    fn dependency(&self, line: usize, text: &str) -> Result<(PackageId, VersionReq), Error> {
        let wrong =
            || self.wrong(line, format!("\"{}\" is not \"<publisher>/<name> <range>\"", shorten(text)));
        let (id, range) = text.split_once(' ').ok_or_else(wrong)?;
        let range = range.parse().map_err(|_| wrong())?;
        Ok((self.package_id(line, id)?, range))
    }
}

/// The key and the value of a line that has both.
fn key_of(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    Some((key.trim_end(), value.trim_start()))
}

/// The text between the quotes that a text begins with, and what follows. Nothing that belongs into a lock file has to be escaped.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let (inside, after) = text.strip_prefix('"')?.split_once('"')?;
    (!inside.contains(|it: char| it == '\\' || it.is_control())).then_some((inside, after))
}

/// Whether nothing but a comment follows.
fn is_blank(text: &str) -> bool {
    let text = text.trim_start();
    text.is_empty() || text.starts_with('#')
}
