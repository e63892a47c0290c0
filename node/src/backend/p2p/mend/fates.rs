//! What becomes of each version that the branches of a log have, and what a person says of that.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use super::Branches;
use crate::{code::Code, control::api::Failure, release::Release};

/// One version of a branch, and what becomes of it.
#[derive(Debug, Clone)]
pub(super) struct Fate {
    pub(super) release: Release,
    pub(super) branch: usize,
    pub(super) kept: bool,
    pub(super) why: String,
}

/// The letter by which a branch is named.
pub(super) fn letter(branch: usize) -> String {
    char::from_u32(u32::from(b'a') + u32::try_from(branch).unwrap_or_default()).unwrap_or('?').to_string()
}

/// Says what becomes of each version of the branches: what nobody decided is kept, unless two branches have other content
/// under one version; then that of the branch on this machine is.
pub(super) fn decide(
    branches: &Branches,
    keep: &[String],
    withdraw: &[String],
) -> Result<Vec<Fate>, Failure> {
    let mut fates: Vec<Fate> = Vec::new();
    for (branch, log) in branches.logs.iter().enumerate() {
        for (version, state) in log.versions() {
            let is_common = branches.common.versions().contains_key(version);
            if is_common || fates.iter().any(|fate| fate.release == state.release) {
                continue;
            }
            let (kept, why) = match &state.yanked {
                Some(_) => (false, "it was withdrawn in its branch".to_owned()),
                None => (true, String::new()),
            };
            fates.push(Fate { release: state.release.clone(), branch, kept, why });
        }
    }
    let mut contents: BTreeMap<Version, usize> = BTreeMap::new();
    for fate in &fates {
        *contents.entry(fate.release.version.clone()).or_default() += 1;
    }
    for fate in &mut fates {
        if contents[&fate.release.version] > 1 && fate.kept {
            fate.kept = branches.here == Some(fate.branch);
            let which = if fate.kept { "this machine's content of it" } else { "other content than here" };
            fate.why = format!("two branches have it: {which}");
        }
    }
    refuse_both(&fates, keep, withdraw)?;
    for (list, kept) in [(withdraw, false), (keep, true)] {
        for asked in list {
            choose(&mut fates, asked, kept)?;
        }
    }
    fates.sort_by(|a, b| (&a.release.version, a.branch).cmp(&(&b.release.version, b.branch)));
    let mut kept = BTreeSet::new();
    for fate in fates.iter().filter(|fate| fate.kept) {
        if !kept.insert(&fate.release.version) {
            return Err(Failure::new(
                Code::Usage,
                format!("Version {} cannot be kept with two contents.", fate.release.version),
                "Name the branch whose content is kept: --keep <version>:<branch>",
            ));
        }
    }
    Ok(fates)
}

/// Refuses a version of which it is said that it is kept and that it is withdrawn. A version may be withdrawn apart from what one branch
/// has of it.
fn refuse_both(fates: &[Fate], keep: &[String], withdraw: &[String]) -> Result<(), Failure> {
    for (kept, gone) in keep.iter().flat_map(|kept| withdraw.iter().map(move |gone| (kept, gone))) {
        let is_narrower = kept.contains(':') && !gone.contains(':');
        if !is_narrower && fates.iter().any(|fate| is_meant(fate, kept) && is_meant(fate, gone)) {
            return Err(Failure::new(
                Code::Usage,
                format!("Both --keep {kept} and --withdraw {gone} mean the same content."),
                "Say one of the two of it. To keep what one branch has of a version, and withdraw the rest: --keep <version>:<branch> \
                 --withdraw <version>",
            ));
        }
    }
    Ok(())
}

/// Whether a person who wrote `version` or `version:branch` means this.
fn is_meant(fate: &Fate, asked: &str) -> bool {
    let (version, branch) = match asked.split_once(':') {
        Some((version, branch)) => (version, Some(branch)),
        None => (asked, None),
    };
    fate.release.version.to_string() == version
        && branch.is_none_or(|branch| letter(fate.branch).eq_ignore_ascii_case(branch))
}

/// Takes what a person said of `version` or `version:branch`.
fn choose(fates: &mut [Fate], asked: &str, kept: bool) -> Result<(), Failure> {
    let meant: Vec<usize> = (0..fates.len()).filter(|at| is_meant(&fates[*at], asked)).collect();
    let Some(first) = meant.first() else {
        let known: BTreeSet<String> = fates.iter().map(|fate| fate.release.version.to_string()).collect();
        return Err(Failure::new(
            Code::Usage,
            format!("No branch has a version {asked} that is contested."),
            format!("Those are: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        ));
    };
    let version = fates[*first].release.version.clone();
    for (at, fate) in fates.iter_mut().enumerate().filter(|(_, fate)| fate.release.version == version) {
        if meant.contains(&at) {
            (fate.kept, fate.why) = (kept, "as asked".to_owned());
        } else if kept {
            (fate.kept, fate.why) = (false, "another content of it is kept".to_owned());
        }
    }
    Ok(())
}
