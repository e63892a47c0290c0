//! Paths inside a package, and what a whole list of them must obey.
//!
//! A [`PackagePath`] is safe to join to a folder on every system we know of; it is the only kind of path that a manifest
//! holds and that installing ever writes. Nothing here touches the file system.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{
    is_hidden,
    name::RESERVED,
    shorten,
    unpack::{MARK, replace::REPLACED_MARK},
};
use icu_normalizer::DecomposingNormalizerBorrowed as DecomposingNormalizer;

use crate::{
    code::Code,
    limits::{COMPONENT_BYTES_MAX, DEPTH_MAX, DIRECTORIES_MAX, FILES_MAX, PATH_BYTES_MAX},
};

/// A relative path of UTF-8 components, separated by `/`, that means the same file on every system.
///
/// Ordered by its bytes, which keeps all files of a directory next to each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackagePath(String);

impl PackagePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories above the file, outermost first, then the file's own name.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The file's own name.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for PackagePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        check_path(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PackagePath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        check_path(&text)?;
        Ok(Self(text))
    }
}

impl From<PackagePath> for String {
    fn from(path: PackagePath) -> String {
        path.0
    }
}

impl fmt::Display for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_path(text: &str) -> Result<(), Error> {
    let refuse = |why| Err(Error::Refused { path: shorten(text), why });
    if text.len() > PATH_BYTES_MAX {
        return Err(Error::Long { path: shorten(text), limit: PATH_BYTES_MAX });
    }
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.starts_with('/') {
        return refuse("it is absolute");
    }
    if text.split('/').count() > DEPTH_MAX + 1 {
        return Err(Error::Deep { path: shorten(text) });
    }
    for component in text.split('/') {
        if component.len() > COMPONENT_BYTES_MAX {
            return Err(Error::Long { path: shorten(text), limit: COMPONENT_BYTES_MAX });
        }
        if let Err(why) = check_component(component) {
            return refuse(why);
        }
    }
    Ok(())
}

/// Whether a name is one of the folders in which this program keeps its own notes, or of those into which it unpacks: a journal or an index
/// that came with a package would be taken for what was done here, and what was left of an installation is swept away.
pub(crate) fn is_own(name: &str) -> bool {
    let is_unpacking = || [MARK, REPLACED_MARK].iter().any(|mark| name.to_ascii_lowercase().contains(mark));
    [".ggen", ".gpack.journal"].iter().any(|own| name.eq_ignore_ascii_case(own))
        || name.starts_with('.') && is_unpacking()
}

/// A name without the characters that some file systems pass over when they compare names, as HFS+ does with the joiners
/// ([CVE-2014-9390](https://nvd.nist.gov/vuln/detail/CVE-2014-9390)), and most programs when they show them. Names of emoji and of Persian
/// words hold such.
fn seen(name: &str) -> Cow<'_, str> {
    // Those of them that hide text are refused before: see `is_hidden`.
    let is_passed_over = |char: char| {
        matches!(char, '\u{200c}' | '\u{200d}' | '\u{206a}'..='\u{206f}' | '\u{ad}' | '\u{180e}')
            || matches!(char, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    if name.chars().any(is_passed_over) {
        return Cow::Owned(name.chars().filter(|char| !is_passed_over(*char)).collect());
    }
    Cow::Borrowed(name)
}

fn check_component(component: &str) -> Result<(), &'static str> {
    if component.is_empty() {
        return Err("it holds an empty name ('//' or a '/' at the end)");
    }
    if component == "." || component == ".." {
        return Err("it holds '.' or '..'");
    }
    if component.chars().any(is_hidden) {
        return Err("it holds control or invisible characters");
    }
    if component.contains(['\\', ':', '*', '?', '"', '<', '>', '|']) {
        return Err("it holds one of \\ : * ? \" < > |, which some systems refuse or read as something else");
    }
    let component = &*seen(component);
    if component.is_empty() || component == "." || component == ".." {
        return Err("a name in it holds nothing but what some systems pass over");
    }
    if component.ends_with([' ', '.']) {
        return Err("a name in it ends with a space or dot, which some systems drop");
    }
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    if RESERVED.contains(&stem.as_str()) {
        return Err("some systems reserve a name in it");
    }
    // A repository inside an installed package would run its hooks when a person calls git there.
    if component.eq_ignore_ascii_case(".git") || component.eq_ignore_ascii_case("git~1") {
        return Err("git's own folder is never part of a package");
    }
    if is_own(component) {
        return Err("ggen's own folder is never part of a package");
    }
    Ok(())
}

/// Checks that `paths` can stand together in one folder on every system.
///
/// They are no more than there may be, with the directories above them, sorted by bytes and unique, no file is also a directory, and no two names of one directory differ in case
/// only, or in characters that some systems pass over. Case is compared by Unicode lower-casing. Names that differ only in their Unicode normalisation are not told apart
/// here: a file system that merges them makes installing fail, because no file is ever opened that exists already.
///
/// # Errors
/// The first rule that is broken, naming the paths.
pub fn check_list<'a>(paths: impl IntoIterator<Item = &'a PackagePath>) -> Result<(), Error> {
    /// A name in the tree, by the number of the directory that holds it.
    struct Known<'a> {
        number: usize,
        name: &'a str,
        path: &'a PackagePath,
        is_file: bool,
    }
    let mut known: HashMap<(usize, String), Known<'a>> = HashMap::new();
    let mut previous: Option<&PackagePath> = None;
    let mut directories = 0;
    for (count, path) in paths.into_iter().enumerate() {
        if count >= FILES_MAX {
            return Err(Error::Many);
        }
        if previous.is_some_and(|previous| previous >= path) {
            return Err(Error::Order { path: shorten(path.as_str()) });
        }
        previous = Some(path);
        let (mut directory, depth) = (0, path.components().count());
        for (level, name) in path.components().enumerate() {
            let is_file = level + 1 == depth;
            let number = known.len() + 1;
            match known.entry((directory, folded(name))) {
                Entry::Vacant(entry) => {
                    directories += usize::from(!is_file);
                    if directories > DIRECTORIES_MAX {
                        return Err(Error::ManyDirectories);
                    }
                    entry.insert(Known { number, name, path, is_file });
                    directory = number;
                }
                Entry::Occupied(entry) => {
                    let other = entry.get();
                    let (first, second) = (shorten(other.path.as_str()), shorten(path.as_str()));
                    if other.name != name {
                        return Err(Error::Collision { first, second });
                    }
                    if other.is_file || is_file {
                        return Err(Error::FileAndDirectory { first, second });
                    }
                    directory = other.number;
                }
            }
        }
    }
    Ok(())
}

/// A name as it is on systems that tell neither upper and lower case nor the forms of one letter apart: decomposed, in lower case, and
/// decomposed again ([Unicode](https://www.unicode.org/versions/latest/core-spec/chapter-3/), definition 145).
fn folded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let decompose = DecomposingNormalizer::new_nfd();
    let lower: String = decompose.normalize(&seen(name)).to_lowercase().chars().map(one_lower_case).collect();
    decompose.normalize(&lower).into_owned()
}

/// Of the letters that have two forms in lower case the one that the other is folded to
/// ([Unicode](https://www.unicode.org/Public/UCD/latest/ucd/CaseFolding.txt), those of status C in lower case).
fn one_lower_case(letter: char) -> char {
    match letter {
        'ς' => 'σ',
        'ſ' => 's',
        'µ' => 'μ',
        'ϐ' => 'β',
        'ϑ' => 'θ',
        'ϕ' => 'φ',
        'ϖ' => 'π',
        'ϰ' => 'κ',
        'ϱ' => 'ρ',
        'ϵ' => 'ε',
        other => other,
    }
}

/// Why a path, or a list of paths, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A single path breaks a rule.
    #[error("the path \"{path}\" is not allowed: {why}")]
    Refused {
        /// The path, shortened.
        path: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A path or one of its names is too long.
    #[error("the path \"{path}\" is too long: at most {limit} bytes are allowed there")]
    Long {
        /// The path, shortened.
        path: String,
        /// Bytes allowed.
        limit: usize,
    },
    /// Too many directories above a file.
    #[error("the path \"{path}\" is too deep: at most {DEPTH_MAX} directories may stand above a file")]
    Deep {
        /// The path, shortened.
        path: String,
    },
    /// Too many files.
    #[error("there are too many files: at most {FILES_MAX} are allowed")]
    Many,
    /// Too many directories.
    #[error("there are too many directories: at most {DIRECTORIES_MAX} are allowed")]
    ManyDirectories,
    /// The list is not sorted, or holds a path twice.
    #[error("the path \"{path}\" is out of order or there twice")]
    Order {
        /// The path, shortened.
        path: String,
    },
    /// Two paths that some systems cannot tell apart.
    #[error(
        "\"{first}\" and \"{second}\" are the same on systems that do not tell upper and lower case, or two ways to write one letter, apart"
    )]
    Collision {
        /// The earlier one, shortened.
        first: String,
        /// The later one, shortened.
        second: String,
    },
    /// A file has the name of a directory.
    #[error("\"{first}\" and \"{second}\" make one name a file and a directory")]
    FileAndDirectory {
        /// The earlier one, shortened.
        first: String,
        /// The later one, shortened.
        second: String,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Long { .. } | Self::Deep { .. } | Self::Many | Self::ManyDirectories => Code::Limit,
            _ => Code::Path,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(texts: &[&str]) -> Vec<PackagePath> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn paths_that_leave_the_folder_or_mean_something_elsewhere_are_refused() {
        for bad in [
            "",
            "../../etc/x",
            "/abs",
            "a/../../b",
            "C:\\x",
            "C:/x",
            "\\\\srv\\x",
            "a\0b",
            "a//b",
            ".",
            "..",
            "./a",
            "a/",
            "a/./b",
            "a\nb",
            "\u{1b}[31m",
            "a\u{202e}txt",
            "nul",
            "dir/CON.txt",
            "Lpt1 .log",
            "a.",
            "a ",
            "dir./a",
            ".git/config",
            "x/.GIT/hooks/post-checkout",
            ".gpack.journal/journal.json",
            "src/.Ggen/index.json",
            "a?",
            ".g\u{200c}it/hooks/post-checkout",
            "x/.gi\u{206a}t/config",
            ".\u{ad}ggen/index.json",
            "co\u{e0020}n",
            ".\u{200d}.",
            "\u{200d}",
            ".x.ggen-partial-y/f",
            "x/.GGEN-replaced-z",
        ] {
            let error = bad.parse::<PackagePath>().unwrap_err();
            assert_eq!(error.code(), Code::Path, "{bad:?}");
            assert!(!error.to_string().contains(['\0', '\n', '\u{1b}']), "{error}");
        }
    }

    #[test]
    fn ordinary_paths_are_taken() {
        for good in [
            "a",
            ".hidden",
            ".gitignore",
            ".ggenignore",
            "a b/c d.txt",
            "päckchen/日本.md",
            "console.log",
            "...x",
            "a/b/c.tar.gz",
            "a.ggen-partial-b",
            "\u{1f469}\u{200d}\u{1f4bb}.png",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}.md",
        ] {
            assert_eq!(good.parse::<PackagePath>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn limits_are_exact() {
        let component = "x".repeat(COMPONENT_BYTES_MAX);
        assert!(component.parse::<PackagePath>().is_ok());
        assert_eq!(format!("{component}x").parse::<PackagePath>().unwrap_err().code(), Code::Limit);
        let deep = "d/".repeat(DEPTH_MAX);
        assert!(format!("{deep}f").parse::<PackagePath>().is_ok());
        assert_eq!(format!("{deep}d/f").parse::<PackagePath>().unwrap_err().code(), Code::Limit);
        let long = vec!["x".repeat(204); 5].join("/");
        assert_eq!(long.len(), PATH_BYTES_MAX);
        assert!(long.parse::<PackagePath>().is_ok());
        assert_eq!(format!("{long}x").parse::<PackagePath>().unwrap_err().code(), Code::Limit);
        assert_eq!("p".repeat(5_000).parse::<PackagePath>().unwrap_err().code(), Code::Limit);
    }

    #[test]
    fn a_list_is_sorted_unique_and_free_of_collisions() {
        assert_eq!(check_list(&parse(&["a", "a-b", "b/c", "b/d", "b0"])), Ok(()));
        assert!(matches!(check_list(&parse(&["b", "a"])), Err(Error::Order { .. })));
        assert!(matches!(check_list(&parse(&["a", "a"])), Err(Error::Order { .. })));
        assert!(matches!(check_list(&parse(&["README", "readme"])), Err(Error::Collision { .. })));
        assert!(matches!(check_list(&parse(&["Dir/a", "dir/b"])), Err(Error::Collision { .. })));
        assert!(matches!(check_list(&parse(&["Ä", "ä"])), Err(Error::Collision { .. })));
        assert!(matches!(check_list(&parse(&["Σ", "ς"])), Err(Error::Collision { .. })));
        assert!(matches!(check_list(&parse(&["sx", "ſx"])), Err(Error::Collision { .. })));
        assert!(matches!(check_list(&parse(&["ab", "a\u{ad}b"])), Err(Error::Collision { .. })));
        for (one, other) in [
            ("a\u{308}", "ä"),
            ("A\u{308}", "ä"),
            ("e\u{301}/x", "é/y"),
            ("\u{212b}", "å"),
            ("각", "\u{1100}\u{1161}\u{11a8}"),
        ] {
            let mut texts = [one, other];
            texts.sort_unstable();
            assert!(matches!(check_list(&parse(&texts)), Err(Error::Collision { .. })), "{texts:?}");
        }
        assert_eq!(check_list(&parse(&["a", "ä", "日本", "ﬁ"])), Ok(()));
        assert!(matches!(check_list(&parse(&["a", "a/b"])), Err(Error::FileAndDirectory { .. })));
        // Between the file and the directory of the same name another path may stand.
        assert!(matches!(check_list(&parse(&["a", "a-b", "a/b"])), Err(Error::FileAndDirectory { .. })));
        assert_eq!(check_list(&parse(&["x/a", "y/a"])), Ok(()), "other directories are other names");
    }

    #[test]
    fn one_file_too_many_is_refused() {
        let paths: Vec<_> = (0..=FILES_MAX).map(|n| format!("{n:07}").parse().unwrap()).collect();
        assert_eq!(check_list(&paths[1..]), Ok(()));
        assert_eq!(check_list(&paths), Err(Error::Many));
    }

    #[test]
    fn one_directory_too_many_is_refused() {
        // Fifty directories of its own for each file, which are few enough by themselves.
        let deep = |n: usize| format!("{n:07}/{}f", "d/".repeat(49)).parse().unwrap();
        let mut paths: Vec<PackagePath> = (0..DIRECTORIES_MAX / 50).map(deep).collect();
        assert_eq!(check_list(&paths), Ok(()));
        paths.push("9999999/f".parse().unwrap());
        assert_eq!(check_list(&paths), Err(Error::ManyDirectories));
        assert_eq!(Error::ManyDirectories.code(), Code::Limit);
        // Those that are shared count once.
        *paths.last_mut().unwrap() = "9999999".parse().unwrap();
        assert_eq!(check_list(&paths), Ok(()));
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_inside_its_folder(text in "[a./\\\\ :~-]{0,12}|\\PC{0,20}") {
            if let Ok(path) = text.parse::<PackagePath>() {
                let joined = std::path::Path::new("/root").join(path.as_str());
                prop_assert!(joined.starts_with("/root"));
                prop_assert!(joined.components().skip(2).all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(path.components().collect::<Vec<_>>().join("/"), text);
            }
        }
    }
}
