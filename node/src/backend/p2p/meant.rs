//! From what a person typed to the package that is meant: short publisher ids become whole ones here and nowhere else, and a
//! version requirement becomes a release.

use std::collections::BTreeMap;

use rusqlite::Connection;
use semver::{Version, VersionReq};

use super::{
    failure::fail,
    node::Node,
    resolve::{Chosen, in_doubt},
};
use crate::{
    catalog,
    code::Code,
    control::api::Failure,
    identity::PublisherId,
    limits::{CLAIMS_LISTED_MAX, SHORT_ID_FITTING_MAX, STRANGER_ID_LETTERS_MIN},
    package::{
        Asked, PackageId, PackageName, PackageRef,
        asked::{ShortId, Which, Who},
    },
    release::{Log, VerifiedHead},
    store::{self, Store, heads, installed, outbox, pins, published},
};

/// What a reference means.
#[derive(Debug, Clone)]
pub(super) struct Meant {
    /// The package, with the version where an exact one was asked for.
    pub(super) reference: PackageRef,
    /// Which version.
    pub(super) which: Which,
    /// As it was typed.
    pub(super) typed: String,
}

impl Node {
    /// Parses what a person typed, and finds out which publisher a short id means.
    pub(super) async fn meant(&self, text: &str) -> Result<Meant, Failure> {
        let text = text.to_owned();
        self.offload_store(move |store| meant_in(store, &text)).await
    }

    /// The release that was asked for, with the head that has it: where the known one does not, others may know a newer one.
    pub(super) async fn release_asked(
        &self,
        head: VerifiedHead,
        which: &Which,
    ) -> Result<(VerifiedHead, Chosen), Failure> {
        let missing = match self.release_in(&head, which).await {
            Err(missing) if *which != Which::Latest && is_lack(&missing) => missing,
            known => return Ok((head, known?)),
        };
        match self.something_newer(&head).await? {
            Some(newer) => {
                let chosen = self.release_in(&newer, which).await?;
                Ok((newer, chosen))
            }
            None => Err(missing),
        }
    }

    async fn release_in(&self, head: &VerifiedHead, which: &Which) -> Result<Chosen, Failure> {
        match which {
            Which::Range(range) => self.release_within(head, range).await,
            Which::Exact(version) => self.release_of(head, Some(version)).await,
            Which::Latest => self.release_of(head, None).await,
        }
    }

    /// The newest release that meets a requirement.
    async fn release_within(&self, head: &VerifiedHead, range: &VersionReq) -> Result<Chosen, Failure> {
        if self.dispute(&head.package_id()).await?.is_none()
            && let Some(latest) = &head.head().latest
            && range.matches(&latest.version)
        {
            // Nothing that was not yanked is newer, and no pre-release is where it is stable.
            return Ok(Chosen::from(latest.clone()));
        }
        let reading = self.log_as_held(head, None).await?;
        let version = newest_within(&reading.log, range)
            .map_err(|failure| in_doubt(failure, reading.missing.as_ref()))?;
        self.release_of(head, Some(&version)).await
    }
}

/// Whether a failure says that a version is not there, as far as is known.
fn is_lack(failure: &Failure) -> bool {
    matches!(failure.code, Code::NotFound | Code::NoProviders)
}

/// The newest version of a log that meets a requirement and was not yanked.
pub(super) fn newest_within(log: &Log, range: &VersionReq) -> Result<Version, Failure> {
    let mut any_yanked = false;
    for (version, state) in log.versions().iter().rev() {
        if range.matches(version) {
            if state.yanked.is_none() && !log.is_tombstoned() {
                return Ok(version.clone());
            }
            any_yanked = true;
        }
    }
    let package = log.package();
    let known: Vec<String> = log.versions().keys().map(ToString::to_string).collect();
    let why = match any_yanked {
        true => format!("Every version of {package} that meets {range} was yanked."),
        false => format!("{package} has no version that meets {range}."),
    };
    let is_early = |version: &Version| !version.pre.is_empty();
    let mut hint = format!("Its versions: {}", known.join(", "));
    if let Some(newest) = log.versions().keys().next_back().filter(|_| log.versions().keys().all(is_early)) {
        hint.push_str(&format!(
            "\nA pre-release is only taken where the range names one of its numbers, such as ^{newest}, or without a range: {package}"
        ));
    }
    Err(Failure::new(Code::NotFound, why, hint))
}

/// Likewise, on a store.
pub(super) fn meant_in(store: &Store, text: &str) -> Result<Meant, Failure> {
    let asked: Asked = text.parse().map_err(|error: crate::package::name::Error| {
        Failure::new(
            error.code(),
            error.to_string(),
            "For example: my-package, my-package@1.2.3, my-package@^1.2, gp1…/my-package",
        )
    })?;
    let publisher = match &asked.publisher {
        None => None,
        Some(Who::Whole(publisher)) => Some(*publisher),
        Some(Who::Short(short)) => Some(whole(store, short, Some(&asked.name))?),
    };
    Ok(Meant { reference: asked.reference(publisher), which: asked.which, typed: text.to_owned() })
}

/// The publisher that a reference means on this machine: the one that it names, or the one that its name is pinned to.
pub(super) fn publisher_meant(store: &Store, reference: &PackageRef) -> Result<Option<PublisherId>, Failure> {
    match reference.publisher {
        Some(publisher) => Ok(Some(publisher)),
        None => store.read(|conn| pins::pinned(conn, &reference.name)).map_err(fail),
    }
}

/// The publisher that a text names, by its whole id or a short one.
pub(super) fn publisher_in(
    store: &Store,
    text: &str,
    name: Option<&PackageName>,
) -> Result<PublisherId, Failure> {
    let who = text.parse().map_err(|error: crate::package::name::Error| {
        let hint = "A publisher id begins with gp1. See those of your packages: ggen marketplace p2p list";
        Failure::new(error.code(), error.to_string(), hint)
    })?;
    match who {
        Who::Whole(publisher) => Ok(publisher),
        Who::Short(short) => whole(store, &short, name),
    }
}

/// The one publisher known here that a short id fits; of several, the one that has a package of this name. One whose packages are
/// installed, pinned or published here comes before a stranger, who can make ids until a short one fits.
fn whole(store: &Store, short: &ShortId, name: Option<&PackageName>) -> Result<PublisherId, Failure> {
    let (fitting, is_cut_off) = store.read(|conn| fitting(conn, short, name)).map_err(fail)?;
    let is_cut_off = is_cut_off && !fitting.values().any(|it| it.is_here);
    let of = |wanted: fn(&Fitting) -> bool| -> Vec<PublisherId> {
        fitting.iter().filter(|(_, it)| wanted(it)).map(|(id, _)| *id).collect()
    };
    let [here_having, here, having] = [of(|it| it.is_here && it.has), of(|it| it.is_here), of(|it| it.has)];
    let narrowed = [here_having, here, having].into_iter().find(|ids| !ids.is_empty());
    let narrowed = narrowed.unwrap_or_else(|| of(|_| true));
    let list = || {
        let ids = narrowed.iter().take(CLAIMS_LISTED_MAX).map(|id| format!("  {id}"));
        ids.collect::<Vec<_>>().join("\n")
    };
    match narrowed[..] {
        [only] if !is_cut_off && short.letters() < STRANGER_ID_LETTERS_MIN && !fitting[&only].is_here => {
            Err(Failure::new(
                Code::Ambiguous,
                format!(
                    "{short} is too short for a publisher that this machine has nothing of: anybody makes an id that begins so. \
                     It fits:\n{}",
                    list()
                ),
                "Name the one you mean by its whole id, or by the short one that tables print.",
            ))
        }
        [only] if !is_cut_off => Ok(only),
        [] if !is_cut_off => Err(Failure::new(
            Code::NotFound,
            format!("No publisher is known here whose id is {short}."),
            "Name it by its whole id, as this shows it: ggen marketplace p2p info <package>",
        )),
        _ => Err(Failure::new(
            Code::Ambiguous,
            format!("Several publishers have an id like {short}:\n{}", list()),
            "Name the one you mean by its whole id.",
        )),
    }
}

/// How a publisher fits a short id.
#[derive(Debug, Clone, Copy, Default)]
struct Fitting {
    /// Whether it has a package of the name that was asked for.
    has: bool,
    /// Whether something of it is installed, pinned or published here.
    is_here: bool,
}

/// Whom a short id fits, of all that this machine knows. The second value says that there may be more.
fn fitting(
    conn: &Connection,
    short: &ShortId,
    name: Option<&PackageName>,
) -> Result<(BTreeMap<PublisherId, Fitting>, bool), store::Error> {
    let mut here: Vec<PackageId> = installed::list_all(conn)?.into_iter().map(|row| row.package).collect();
    here.extend(published::list_all(conn)?.into_iter().map(|row| row.package));
    here.extend(outbox::list_all(conn)?.into_iter().map(|row| row.package));
    here.extend(heads::list_all(conn)?.into_iter().map(|row| row.package));
    let pins = pins::list_all(conn)?.into_iter();
    here.extend(pins.map(|pin| PackageId { publisher: pin.publisher, name: pin.name }));
    let mut found: BTreeMap<PublisherId, Fitting> = BTreeMap::new();
    for package in here.into_iter().filter(|package| short.fits(&package.publisher)) {
        let fits = found.entry(package.publisher).or_default();
        fits.is_here = true;
        fits.has |= Some(&package.name) == name;
    }
    let listed = catalog::fitting(conn, short, SHORT_ID_FITTING_MAX)?;
    for publisher in listed.publishers {
        let has = match name {
            Some(name) => catalog::get(conn, &PackageId { publisher, name: name.clone() })?.is_some(),
            None => false,
        };
        found.entry(publisher).or_default().has |= has;
    }
    Ok((found, listed.is_cut_off))
}

#[cfg(test)]
#[path = "meant_tests.rs"]
mod tests;
