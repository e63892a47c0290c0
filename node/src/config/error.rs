//! What can be wrong with a configuration, and where.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::keys::Key;
use crate::{code::Code, limits::CONFIG_BYTES_MAX};

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A line of a file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag,
    /// A value that a program set.
    Program,
}

impl Place {
    pub(super) fn line(path: &Path, line: usize) -> Self {
        Self::File { path: path.to_owned(), line }
    }
}

/// One thing that is wrong, or worth a warning, in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key, with an index where one element of a list is meant: `listen_addresses[3]`.
    pub key: Option<String>,
    /// What is wrong and what was expected, in lower case without a full stop.
    pub what: String,
}

impl Problem {
    pub(super) fn new(place: Place, key: Option<String>, what: impl Into<String>) -> Self {
        Self { place, key, what: what.into() }
    }
}

/// `file:line: key: what`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line } => write!(f, "{}:{line}: ", path.display())?,
            Place::Variable(name) => write!(f, "{name}: ")?,
            Place::Flag | Place::Program => {}
        }
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Why a configuration could not be read, made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that was named is not there.
    #[error("the configuration file {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path names something that holds no configuration.
    #[error("{} is {what}, not a configuration file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it names.
        what: &'static str,
    },
    /// The file is larger than any configuration.
    #[error("the configuration file {} is larger than {CONFIG_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Values are wrong: all of them, in the order in which they stand.
    #[error("{}", listed(problems))]
    Invalid {
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// A path begins with `~`, or the default folder is needed, and no home folder is known.
    #[error("no home folder is known")]
    NoHome,
    /// No key has that name.
    #[error("{} is not a configuration key{}", quoted(key), did_you_mean(*nearest))]
    UnknownKey {
        /// What was asked for.
        key: String,
        /// The key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A value given to [`super::edit::set`] does not fit its key.
    #[error("the value of {key} is not valid: {what}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what was expected.
        what: String,
    },
    /// A change was refused, because the file's values would not go together afterwards; nothing was written.
    #[error("{}", listed(problems))]
    Conflict {
        /// What does not go together.
        problems: Vec<Problem>,
        /// Commands after which the change is valid, from `config` on, in their order.
        first: Vec<String>,
    },
    /// Somebody else changed the file in the meantime.
    #[error("{} was changed by somebody else while it was being edited", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written; the old one is still whole.
    #[error("cannot write the configuration file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid { problems } if problems.iter().all(|problem| problem.place == Place::Flag) => {
                Code::Usage
            }
            Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::NotAFile { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. }
            | Self::Conflict { .. }
            | Self::NoHome => Code::Config,
            Self::UnknownKey { .. } | Self::Value { .. } => Code::Usage,
            Self::Changed { .. } => Code::Busy,
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::ReadOnly,
                _ => Code::Io,
            },
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { .. } => {
                "check the path given with --config or GGEN_P2P_CONFIG, or write a file with `ggen marketplace p2p config init`".into()
            }
            Self::Unreadable { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("make it readable: chmod u+r '{}'", path.display())
            }
            Self::Unreadable { .. } => "check the path and the disk".into(),
            Self::NotAFile { path, what: super::document::LEADS_NOWHERE } => {
                format!("bring back what {} leads to, or remove the link", path.display())
            }
            Self::NotAFile { .. } => format!("name the file itself, as in DIR/{}", super::FILE_NAME),
            Self::TooLarge { .. } => "name a configuration file; one of a few hundred bytes is usual".into(),
            Self::Invalid { problems } => match problems.iter().find_map(|problem| match &problem.place {
                Place::File { path, .. } => Some(path),
                _ => None,
            }) {
                Some(path) => format!("correct {}; `ggen marketplace p2p config check` reads it again", path.display()),
                None => "correct the values named".into(),
            },
            Self::Conflict { first, .. } => {
                let first: Vec<String> =
                    first.iter().map(|it| format!("`ggen marketplace p2p {it}`")).collect();
                format!("the file is as it was; run first {}, and then this again", first.join(", then "))
            }
            Self::NoHome => "set GGEN_HOME to a folder for this node's state, or set HOME".into(),
            Self::UnknownKey { key, .. } => {
                let keys: Vec<&str> = Key::in_table(key).map(|key| key.name).collect();
                match keys.is_empty() {
                    true => "`ggen marketplace p2p config show` lists every key".into(),
                    false => format!("it is a table; its keys: {}", keys.join(", ")),
                }
            }
            Self::Value { key, .. } => format!("`ggen marketplace p2p config show {key}` shows the present value"),
            Self::Changed { .. } => "run the command again".into(),
            Self::Write { path, .. } => {
                let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                format!("check that {} can be written and has space", folder.unwrap_or(Path::new(".")).display())
            }
        }
    }
}

/// One problem as it is; several counted and one a line.
fn listed(problems: &[Problem]) -> String {
    match problems {
        [problem] => problem.to_string(),
        _ => problems.iter().fold(
            format!("{} problems in the configuration", problems.len()),
            |mut text, problem| {
                text.push_str("\n  ");
                text.push_str(&problem.to_string());
                text
            },
        ),
    }
}

pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(", did you mean {nearest}?"))
}

/// `text` in quotes, without control characters and not longer than a line: it may come from anywhere.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut shown: String = text.chars().take(CHARS_MAX).flat_map(escaped).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

/// Control and invisible formatting characters escaped, so that a terminal shows what is there.
fn escaped(char: char) -> Vec<char> {
    let invisible = char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if invisible { char.escape_unicode().collect() } else { vec![char] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_cannot_drive_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m\nb\u{202e}"), "'a\\u{1b}[31m\\u{a}b\\u{202e}'");
        assert_eq!(quoted(&"x".repeat(81)), format!("'{}…'", "x".repeat(80)));
    }

    #[test]
    fn only_problems_of_flags_alone_are_usage_errors() {
        let at = |place| Problem::new(place, None, "x");
        let code =
            |places: Vec<Place>| Error::Invalid { problems: places.into_iter().map(at).collect() }.code();
        assert_eq!(code(vec![Place::Flag]), Code::Usage);
        assert_eq!(code(vec![Place::Flag, Place::Program]), Code::Config);
    }
}
