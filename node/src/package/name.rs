//! Names and versions of packages.

use std::{fmt, str::FromStr};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::shorten;
use crate::{
    code::Code,
    identity::PublisherId,
    limits::{NAME_BYTES_MAX, VERSION_BYTES_MAX},
};

/// Names that some file system refuses, whatever their case or extension.
pub(super) const RESERVED: &[&str] = &[
    "con", "prn", "aux", "nul", "com0", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt0", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// A package's name: 1 to 64 of `a-z 0-9 - _`, beginning and ending with a letter or digit.
///
/// ASCII only, so that no two names look alike through other scripts, and fit to be a folder's name on every system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

impl PackageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why| Err(Error::Name { name: shorten(text), why });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > NAME_BYTES_MAX {
            return refuse("it is longer than 64 bytes");
        }
        if !text.is_ascii() {
            return refuse("it holds characters outside ASCII, which can look like other letters");
        }
        if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) {
            return refuse("only a-z, 0-9, '-' and '_' are allowed");
        }
        if !(text.as_bytes()[0].is_ascii_alphanumeric()
            && text.as_bytes()[text.len() - 1].is_ascii_alphanumeric())
        {
            return refuse("it must begin and end with a letter or digit");
        }
        if RESERVED.contains(&text) {
            return refuse("some systems reserve it");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PackageName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PackageName> for String {
    fn from(name: PackageName) -> String {
        name.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a version as [semver 2](https://semver.org) has it, without build metadata.
///
/// Two versions that differ in build metadata only are equal in precedence, so the metadata cannot be part of an identity
/// that is used once, permanently.
///
/// # Errors
/// [`Error::Version`] with the reason.
pub fn parse_version(text: &str) -> Result<Version, Error> {
    let refuse = |why: String| Error::Version { version: shorten(text), why };
    if text.len() > VERSION_BYTES_MAX {
        return Err(refuse("it is longer than 64 bytes".to_owned()));
    }
    let version = Version::parse(text).map_err(|error| refuse(error.to_string()))?;
    if !version.build.is_empty() {
        return Err(refuse("build metadata ('+…') cannot be part of a published version".to_owned()));
    }
    Ok(version)
}

/// A package of one publisher: `<publisher>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId {
    /// Who signs its releases.
    pub publisher: PublisherId,
    /// Its name.
    pub name: PackageName,
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.name)
    }
}

impl FromStr for PackageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse::<PackageRef>()? {
            PackageRef { publisher: Some(publisher), name, version: None } => Ok(Self { publisher, name }),
            _ => Err(Error::Reference { text: shorten(text) }),
        }
    }
}

/// What a person types: `[<publisher>/]<name>[@<version>]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRef {
    /// The publisher, where it was named.
    pub publisher: Option<PublisherId>,
    /// The name.
    pub name: PackageName,
    /// The version, where it was named.
    pub version: Option<Version>,
}

impl FromStr for PackageRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (package, version) = match text.split_once('@') {
            Some((package, version)) => (package, Some(parse_version(version)?)),
            None => (text, None),
        };
        let (publisher, name) = match package.split_once('/') {
            Some((publisher, name)) => {
                let publisher = publisher.parse().map_err(|_| Error::Reference { text: shorten(text) })?;
                (Some(publisher), name)
            }
            None => (None, package),
        };
        Ok(Self { publisher, name: name.parse()?, version })
    }
}

impl fmt::Display for PackageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(publisher) = &self.publisher {
            write!(f, "{publisher}/")?;
        }
        write!(f, "{}", self.name)?;
        if let Some(version) = &self.version {
            write!(f, "@{version}")?;
        }
        Ok(())
    }
}

/// Why a name, a version or a reference was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a package name.
    #[error("\"{name}\" is not a package name: {why}")]
    Name {
        /// The text, shortened.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not a version.
    #[error("\"{version}\" is not a version: {why}")]
    Version {
        /// The text, shortened.
        version: String,
        /// The rule that it breaks.
        why: String,
    },
    /// Not a publisher's id, nor part of one.
    #[error("\"{text}\" is not a publisher id, which begins with gp1, nor a short form of one")]
    Publisher {
        /// The text, shortened.
        text: String,
    },
    /// Neither a version nor a requirement of one.
    #[error("\"{text}\" is neither a version nor a requirement such as ^1.2, 1 or latest: {why}")]
    Requirement {
        /// The text, shortened.
        text: String,
        /// The rule that it breaks.
        why: String,
    },
    /// Not a reference to a package.
    #[error(
        "\"{text}\" is not a package: write name, name@version, publisher/name or publisher/name@version; \
         a publisher is an id as search shows it (gp1…), or its short form"
    )]
    Reference {
        /// The text, shortened.
        text: String,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        Code::Usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for bad in
            ["", "A", "päckchen", "pаypal", "a/b", "../x", "-a", "a-", "a b", "a.b", "nul", &"x".repeat(65)]
        {
            assert!(bad.parse::<PackageName>().is_err(), "{bad}");
        }
        for good in ["a", "a-b_c", "0x", &"x".repeat(64)] {
            assert!(good.parse::<PackageName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn versions_outside_semver_are_refused() {
        for bad in ["", "1.2", "01.2.3", "1.2.3+meta", "99999999999999999999999.0.0", "v1.2.3", " 1.2.3"] {
            assert!(parse_version(bad).is_err(), "{bad}");
        }
        assert!(parse_version("1.2.3-rc.1").is_ok());
    }

    #[test]
    fn control_characters_do_not_reach_the_message() {
        let error = "\u{1b}[31mred".parse::<PackageName>().unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}
