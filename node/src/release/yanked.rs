//! Which yanked versions a head names, so that a node knows of them without the log.
//!
//! A head has room for few: the highest ones are named, since they are what people have.

use semver::Version;

use super::{Error, entry};
use crate::limits::YANKED_NAMED_BYTES_MAX;

/// Bytes of one version in a head beside its text.
const OVERHEAD: usize = 2;

/// Those of the yanked versions of a log, ascending, that its head names: the highest first, as many as fit.
pub(super) fn named<'a>(yanked: impl DoubleEndedIterator<Item = &'a Version>) -> Vec<Version> {
    let mut left = YANKED_NAMED_BYTES_MAX;
    let fitting = yanked.rev().take_while(|version| match left.checked_sub(bytes(version)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    fitting.cloned().collect()
}

/// Checks a list of a head: versions, the highest first, none twice, within the bytes that they may have.
pub(super) fn check(named: &[Version]) -> Result<(), Error> {
    let found = named.iter().map(bytes).sum::<usize>();
    if found > YANKED_NAMED_BYTES_MAX {
        let (found, max) = (found as u64, YANKED_NAMED_BYTES_MAX as u64);
        return Err(Error::Limit { what: "the yanked versions that a head names", found, max });
    }
    if named.windows(2).any(|pair| pair[0] <= pair[1]) {
        return Err(Error::malformed("a head", "the yanked versions that it names are out of order"));
    }
    named.iter().try_for_each(entry::check_version)
}

fn bytes(version: &Version) -> usize {
    version.to_string().len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    fn versions(texts: &[&str]) -> Vec<Version> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_highest_are_named_as_far_as_there_is_room() {
        assert_eq!(named(versions(&["1.0.0", "1.1.0"]).iter()), versions(&["1.1.0", "1.0.0"]));
        assert_eq!(named([].iter()), []);
        let many: Vec<Version> = (0..1_000).map(|patch| Version::new(1, 0, patch)).collect();
        let some = named(many.iter());
        assert_eq!(some[0], Version::new(1, 0, 999));
        assert!(some.len() > 15 && check(&some).is_ok(), "{}", some.len());
        assert_eq!(check(&many.into_iter().rev().collect::<Vec<_>>()).unwrap_err().code(), Code::Limit);
    }

    #[test]
    fn a_list_out_of_order_is_refused() {
        for bad in [&["1.0.0", "1.1.0"][..], &["1.0.0", "1.0.0"]] {
            assert_eq!(check(&versions(bad)).unwrap_err().code(), Code::Malformed, "{bad:?}");
        }
    }
}
