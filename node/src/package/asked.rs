//! What a person types to name a package and a version of it: `[<publisher>/]<name>[@<version or requirement>]`.
//!
//! A publisher may be written as tables print it, `gp1abcdef…wxyz`, or cut off, `gp1abcdef`. What such a short id means is a
//! question to those parts that know publishers; this module only says which ids it fits.

use std::{fmt, str::FromStr};

use semver::{Version, VersionReq};

use super::{
    name::{Error, PackageName, PackageRef, parse_version},
    shorten,
};
use crate::{
    identity::PublisherId,
    limits::{REQUIREMENT_BYTES_MAX, SHORT_ID_LETTERS_MIN},
};

/// What every publisher id begins with.
const PREFIX: &str = "gp1";
/// Characters of a whole publisher id.
const WHOLE_LETTERS: usize = 61;
/// The word for the newest version.
const LATEST: &str = "latest";

/// A package as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The publisher, where one was named.
    pub publisher: Option<Who>,
    /// The name.
    pub name: PackageName,
    /// Which version.
    pub which: Which,
}

/// A publisher as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// By its whole id.
    Whole(PublisherId),
    /// By part of its id.
    Short(ShortId),
}

/// The first letters of a publisher id, and its last ones where they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortId {
    head: String,
    tail: String,
}

/// Which version of a package is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Which {
    /// The newest stable one, or the newest pre-release where there is no stable one.
    #[default]
    Latest,
    /// This one.
    Exact(Version),
    /// The newest one that meets a requirement.
    Range(VersionReq),
}

impl Asked {
    /// The same with the publisher that was meant; the version only where it is an exact one.
    pub fn reference(&self, publisher: Option<PublisherId>) -> PackageRef {
        let version = match &self.which {
            Which::Exact(version) => Some(version.clone()),
            Which::Latest | Which::Range(_) => None,
        };
        PackageRef { publisher, name: self.name.clone(), version }
    }
}

impl Which {
    /// Whether a version is one of those asked for.
    pub fn fits(&self, version: &Version) -> bool {
        match self {
            Self::Latest => true,
            Self::Exact(wanted) => wanted == version,
            Self::Range(range) => range.matches(version),
        }
    }
}

impl ShortId {
    /// The letters that the id begins with, `gp1` among them.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// How many letters it has, beside `gp1`.
    pub fn letters(&self) -> usize {
        self.head.len().saturating_sub(PREFIX.len()) + self.tail.len()
    }

    /// Whether this may stand for a publisher.
    pub fn fits(&self, publisher: &PublisherId) -> bool {
        let id = publisher.to_string();
        id.starts_with(&self.head) && id.ends_with(&self.tail)
    }
}

impl FromStr for Asked {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (package, which) = match text.split_once('@') {
            Some((package, which)) => (package, which.parse()?),
            None => (text, Which::Latest),
        };
        let (publisher, name) = match package.split_once('/') {
            Some((publisher, name)) => {
                let publisher = publisher.parse().map_err(|_| Error::Reference { text: shorten(text) })?;
                (Some(publisher), name)
            }
            None => (None, package),
        };
        Ok(Self { publisher, name: name.parse()?, which })
    }
}

impl FromStr for Who {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(whole) = text.parse() {
            return Ok(Self::Whole(whole));
        }
        let refuse = || Error::Publisher { text: shorten(text) };
        let (head, tail) = text.split_once('…').or_else(|| text.split_once("...")).unwrap_or((text, ""));
        let letters = head.strip_prefix(PREFIX).ok_or_else(refuse)?;
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_short = letters.bytes().chain(tail.bytes()).all(is_letter)
            && letters.len() + tail.len() >= SHORT_ID_LETTERS_MIN
            && head.len() + tail.len() < WHOLE_LETTERS - 1;
        if !is_short {
            return Err(refuse());
        }
        Ok(Self::Short(ShortId { head: head.to_owned(), tail: tail.to_owned() }))
    }
}

impl FromStr for Which {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // A requirement may have spaces around it; with them, a version would be taken for a requirement.
        let text = text.trim();
        if text == LATEST {
            return Ok(Self::Latest);
        }
        // `=1.2.3` names one as `1.2.3` does.
        let number = text.strip_prefix('=').map_or(text, str::trim_start);
        match parse_version(number) {
            Ok(version) => return Ok(Self::Exact(version)),
            // A requirement would leave the metadata out of account.
            Err(error) if text.contains('+') => return Err(error),
            Err(_) => {}
        }
        let refuse = |why: String| Error::Requirement { text: shorten(text), why };
        if text.len() > REQUIREMENT_BYTES_MAX {
            return Err(refuse(format!("it is longer than {REQUIREMENT_BYTES_MAX} bytes")));
        }
        VersionReq::parse(text).map(Self::Range).map_err(|error| refuse(error.to_string()))
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(publisher) = &self.publisher {
            write!(f, "{publisher}/")?;
        }
        write!(f, "{}", self.name)?;
        match &self.which {
            Which::Latest => Ok(()),
            which => write!(f, "@{which}"),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(publisher) => publisher.fmt(f),
            Self::Short(short) => short.fmt(f),
        }
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…{}", self.head, self.tail)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str(LATEST),
            Self::Exact(version) => version.fmt(f),
            Self::Range(range) => range.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(text: &str) -> Which {
        text.parse::<Asked>().unwrap().which
    }

    #[test]
    fn a_whole_version_is_exact_and_everything_else_a_requirement() {
        assert_eq!(wanted("web"), Which::Latest);
        assert_eq!(wanted("web@latest"), Which::Latest);
        assert_eq!(wanted("web@1.2.3"), Which::Exact("1.2.3".parse().unwrap()));
        assert_eq!(wanted("web@ 1.2.3 \n"), Which::Exact("1.2.3".parse().unwrap()));
        assert_eq!(wanted("web@latest "), Which::Latest);
        for (text, fits, fails) in [
            ("^1.2", "1.9.0", "2.0.0"),
            ("1", "1.0.0", "2.0.0"),
            ("1.2", "1.3.0", "1.1.0"),
            ("~1.2", "1.2.9", "1.3.0"),
            (">=1, <3", "2.9.9", "3.0.0"),
            ("1.2.x", "1.2.9", "1.3.0"),
            ("*", "9.0.0", "1.0.0-rc.1"),
        ] {
            let wanted = wanted(&format!("web@{text}"));
            assert!(matches!(wanted, Which::Range(_)), "{text}");
            assert!(wanted.fits(&fits.parse().unwrap()), "{text}");
            assert!(!wanted.fits(&fails.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        for bad in ["", "@", "^", "1.2.3+meta", "01.2.3", "newest", "1 2", &">=1,".repeat(100), "../x"] {
            assert!(format!("web@{bad}").parse::<Asked>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_id_fits_what_it_was_cut_from() {
        let id = PublisherId::from_bytes([7; 32]);
        let text = id.to_string();
        let (head, tail) = (&text[..9], &text[57..]);
        for short in [format!("{head}…{tail}"), format!("{head}...{tail}"), text[..12].to_owned()] {
            let Ok(Who::Short(short)) = short.parse() else { panic!("{short}") };
            assert!(short.fits(&id) && !short.fits(&PublisherId::from_bytes([8; 32])), "{short}");
        }
        for bad in ["gp1", "gp1ab", "gp1…", "GP1ABCDEF", "gp1abc/def", "abcdefgh", "gp1abc…d…e", &text[..60]]
        {
            assert!(bad.parse::<Who>().is_err(), "{bad}");
        }
        assert_eq!(text.parse::<Who>().unwrap(), Who::Whole(id));
    }

    proptest! {
        #[test]
        fn what_was_understood_is_understood_again(text in "(gp1[a-z0-9]{4,20}(…|\\.\\.\\.)?[a-z0-9]{0,4}/)?[a-z][a-z0-9]{0,8}(@[\\^~=<>]{0,2}[0-9x*]{1,2}(\\.[0-9x*]{1,2}){0,2}(, ?<[0-9])?)?") {
            if let Ok(asked) = text.parse::<Asked>() {
                let again: Asked = asked.to_string().parse().unwrap();
                prop_assert_eq!(again, asked);
            }
        }
    }
}
