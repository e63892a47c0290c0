//! What may stand behind a flag, with a message that names the range.

use std::path::{Path, PathBuf};

use ggen_marketplace::{
    code::Code,
    config,
    control::{api::Failure, peer_id},
    limits::{DEPRECATION_BYTES_MAX, QUERY_BYTES_MAX, REASON_BYTES_MAX, SEARCH_RESULTS_MAX, SEARCH_SECONDS},
    package::{Asked, asked::Which, name},
};

/// Seconds that a command may be told to wait at most: a day.
const SECONDS_MAX: u64 = 86_400;
/// Results that may be passed over.
const OFFSET_MAX: u64 = 1_000_000;
/// Lines of a log that may be asked for.
const LINES_MAX: u64 = 1_000_000;
/// Nodes of a demonstration.
const DEMO_NODES_MAX: u64 = 16;

fn whole(text: &str, least: u64, most: u64) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("expected a whole number from {least} to {most}"))
}

fn index(text: &str, least: u64, most: u64) -> Result<usize, String> {
    whole(text, least, most).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// Results of a search.
pub(crate) fn limit(text: &str) -> Result<usize, String> {
    index(text, 1, SEARCH_RESULTS_MAX as u64)
}

/// Results to pass over.
pub(crate) fn offset(text: &str) -> Result<usize, String> {
    index(text, 0, OFFSET_MAX)
}

/// How many there are to be, one at least.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    index(text, 1, OFFSET_MAX)
}

/// Lines of a log.
pub(crate) fn lines(text: &str) -> Result<usize, String> {
    index(text, 0, LINES_MAX)
}

/// Nodes of a demonstration.
pub(crate) fn demo_nodes(text: &str) -> Result<usize, String> {
    index(text, 2, DEMO_NODES_MAX)
}

/// Whole seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    whole(text, 1, SECONDS_MAX).map_err(|expected| format!("{expected} (seconds)"))
}

/// A time in days, hours, minutes or seconds, such as `7d`; without a unit, days.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];
    let expected = || {
        "expected a time such as 7d, 12h, 30m or 90s, or a number of days; to leave it out, write --fresh last".to_owned()
    };
    let (number, unit) = UNITS
        .iter()
        .find_map(|(letter, secs)| Some((text.strip_suffix(*letter)?, *secs)))
        .unwrap_or((text, 24 * 3600));
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(unit).filter(|secs| (1..=10 * 366 * 24 * 3600).contains(secs)).ok_or_else(expected)
}

/// Seconds of a search, parts of one too.
pub(crate) fn search_seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| SEARCH_SECONDS.contains(number)).ok_or_else(|| {
        let (least, most) = (SEARCH_SECONDS.start(), SEARCH_SECONDS.end());
        format!("expected a number from {least} to {most} (seconds)")
    })
}

/// A reputation; the range also refuses what is not a number.
pub(crate) fn reputation(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        // Minus zero is in the range, and would look odd further on.
        .map(|number: f64| number.abs())
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// A topology.
pub(crate) fn topology(text: &str) -> Result<String, String> {
    text.parse().map(|topology: config::Topology| topology.to_string())
}

/// A role in a topology.
pub(crate) fn role(text: &str) -> Result<String, String> {
    text.parse().map(|role: config::Role| role.to_string())
}

/// Letters of a peer id that its short form begins with at least: the first eight are the same for all of a kind.
const SHORT_PEER_MIN: usize = 10;
/// Letters of a whole peer id at least.
const WHOLE_PEER_MIN: usize = 46;

/// The beginning and the end of an id that was cut short as tables show it, or the beginning alone.
pub(crate) fn cut(text: &str) -> Option<(&str, &str)> {
    let begins = ["12D3", "16Uiu2", "Qm", "bafz"].iter().any(|prefix| text.starts_with(prefix));
    // Some beginnings can be parsed as ids, of keys that nobody has.
    let is_beginning =
        || begins && text.len() < WHOLE_PEER_MIN && text.chars().all(|char| char.is_ascii_alphanumeric());
    let parts = text.split_once('…').or_else(|| text.split_once("..."));
    parts.or_else(|| is_beginning().then_some((text, "")))
}

/// A peer id, in its base58 form, or cut short as tables show it.
pub(crate) fn peer(text: &str) -> Result<String, String> {
    if cut(text).is_some_and(|(head, _)| head.len() >= SHORT_PEER_MIN) {
        return Ok(text.to_owned());
    }
    peer_id::parse(text).map(|peer| peer.to_string()).map_err(|_| {
        format!(
            "expected a peer id, which begins with 12D3, Qm or bafz, or its first {SHORT_PEER_MIN} letters"
        )
    })
}

/// An address to listen on.
pub(crate) fn listen(text: &str) -> Result<String, String> {
    config::parse_listen(text).map(|address| address.to_string()).map_err(|error| error.what().to_owned())
}

/// An address to dial.
pub(crate) fn dial(text: &str) -> Result<String, String> {
    config::parse_dial(text).map(|address| address.to_string()).map_err(|error| error.what().to_owned())
}

/// `[publisher/]name[@version]`; the publisher may be short, the version a requirement.
pub(crate) fn package(text: &str) -> Result<Asked, String> {
    text.parse().map_err(|error: name::Error| error.to_string())
}

/// A package, or the folder that one is installed in.
#[derive(Debug, Clone)]
pub(crate) enum PackageOrFolder {
    Package(Asked),
    Folder(PathBuf),
}

/// What begins with a dot or a slash is a folder, everything else a package, unless it can only be the folder that is there.
pub(crate) fn package_or_folder(text: &str) -> Result<PackageOrFolder, String> {
    if text.starts_with(['.', '/']) {
        return Ok(PackageOrFolder::Folder(PathBuf::from(text)));
    }
    match package(text) {
        Ok(package) => Ok(PackageOrFolder::Package(package)),
        Err(_) if Path::new(text).is_dir() => Ok(PackageOrFolder::Folder(PathBuf::from(text))),
        Err(why) if text.contains('/') => Err(format!("{why}; a folder is named with ./ before it")),
        Err(why) => Err(why),
    }
}

/// `[publisher/]name@version`.
pub(crate) fn package_version(text: &str) -> Result<Asked, String> {
    let package = package(text)?;
    match package.which {
        Which::Exact(_) => Ok(package),
        Which::Range(_) => Err("expected one version, of three numbers: name@1.2.3".to_owned()),
        Which::Latest => Err("expected a version too: name@version".to_owned()),
    }
}

/// Why something was done, for people.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    sentence(text, REASON_BYTES_MAX)
}

/// What to use in place of a package.
pub(crate) fn deprecation(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("expected what to use in its place; --undo takes a deprecation back".to_owned()),
        false => sentence(text, DEPRECATION_BYTES_MAX),
    }
}

/// One line of text without control characters.
fn sentence(text: &str, bytes_max: usize) -> Result<String, String> {
    if text.len() > bytes_max {
        return Err(format!("expected at most {bytes_max} bytes"));
    }
    match text.chars().any(char::is_control) {
        true => Err("expected one line without control characters".to_owned()),
        false => Ok(text.trim().to_owned()),
    }
}

/// A version of a package.
pub(crate) fn version(text: &str) -> Result<String, String> {
    name::parse_version(text).map(|version| version.to_string()).map_err(|error| error.to_string())
}

/// The words of a search.
pub(crate) fn query(text: &str) -> Result<String, String> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(format!("expected at most {QUERY_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

/// A path of the command line as the node, which runs in another folder, can read it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("The path \"{}\" cannot be made absolute: {error}.", path.display()),
            "Name an existing path; an empty one names nothing.",
        )
    })
}

/// Whether the folder that the command runs in is this one, or lies in it: it is then not to be swapped for another one, or the
/// shell would be in one that is deleted.
pub(crate) fn holds_this_shell(folder: &Path) -> bool {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    matches!((here, folder.canonicalize()), (Ok(here), Ok(folder)) if here.starts_with(&folder))
}

/// As [`absolute`], as text, which is what crosses the control socket.
pub(crate) fn absolute_text(path: &Path) -> Result<String, Failure> {
    absolute(path)?.into_os_string().into_string().map_err(|path| {
        Failure::new(
            Code::Usage,
            format!("The path {} is not UTF-8.", path.display()),
            "Rename the folder, or reach it through a link whose path is UTF-8.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused_by_it() {
        for bad in ["0", "-1", "9223372036854775808", "18446744073709551616", "nan", "", " 1", "1001", "１"]
        {
            assert!(limit(bad).unwrap_err().contains("1 to 1000"), "{bad}");
        }
        for bad in ["0", "-1", "1.5", "86401", "inf"] {
            assert!(seconds(bad).unwrap_err().contains("1 to 86400"), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "1e300", "3600.1"] {
            assert!(search_seconds(bad).unwrap_err().contains("0.001 to 3600"), "{bad}");
        }
        for bad in ["1.5", "-1", "nan", "inf", "-0.0001", "1.0000001", ""] {
            assert!(reputation(bad).unwrap_err().contains("0 to 1"), "{bad}");
        }
        assert_eq!((limit("1000"), offset("0"), seconds("1")), (Ok(1000), Ok(0), Ok(1)));
        assert_eq!((search_seconds("0.5"), reputation("1")), (Ok(0.5), Ok(1.0)));
        assert!(reputation("-0").unwrap().is_sign_positive());
    }

    #[test]
    fn a_folder_that_can_be_no_package_need_not_begin_with_a_dot() {
        // The tests of a crate run in its folder.
        assert!(matches!(package_or_folder("src/domain"), Ok(PackageOrFolder::Folder(_))));
        assert!(matches!(package_or_folder("src"), Ok(PackageOrFolder::Package(_))), "it may be one");
        let why = package_or_folder("src/nothing").unwrap_err();
        assert!(why.contains("./ before it"), "{why}");
    }

    #[test]
    fn a_peer_is_named_by_its_id_or_by_a_short_form_of_it() {
        let whole = "12D3KooWCu3sZtCv9p3dmFAo7XWQdQByUtAHqQdTTtq5tyfhuLbm";
        assert_eq!(peer(whole), Ok(whole.to_owned()));
        assert_eq!(cut(whole), None);
        for letters in 10..46 {
            let short = &whole[..letters];
            assert_eq!(peer(short), Ok(short.to_owned()));
            assert_eq!(cut(short), Some((short, "")));
        }
        assert_eq!(cut("12D3KooWCu3s…fhuLbm"), Some(("12D3KooWCu3s", "fhuLbm")));
        for bad in ["hello-world", "", "12D3-KooWCu3s"] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn relative_paths_become_absolute() {
        assert!(absolute(Path::new("a/../b")).unwrap().is_absolute());
        assert_eq!(absolute(Path::new("")).unwrap_err().exit_code(), 2);
    }
}
