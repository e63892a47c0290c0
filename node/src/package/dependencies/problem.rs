//! What can be wrong with dependencies, and how it is said.

use std::fmt;

use semver::{Version, VersionReq};

use super::{Candidate, DEPTH_MAX, PACKAGES_MAX, RANGES_MAX};
use crate::package::PackageId;

/// Versions, or dependents, that a message lists; the rest is counted.
const LISTED_MAX: usize = 12;

/// A range, and who named it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The dependent; its version is absent for the root.
    pub by: (PackageId, Option<Version>),
    /// The range, as text.
    pub range: String,
    /// Why the dependent is there: who needs it, who needs that, and so on; the last of them is needed by the root. Empty where the
    /// dependent is the root, or is needed by it.
    pub needed_by: Vec<(PackageId, Version)>,
}

impl Wanted {
    pub(super) fn new(by: &PackageId, version: Option<&Version>, range: &VersionReq) -> Self {
        Self { by: (by.clone(), version.cloned()), range: range.to_string(), needed_by: Vec::new() }
    }

    pub(super) fn is_by_root(&self) -> bool {
        self.by.1.is_none()
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            (_, None) => write!(f, "{} by this package", self.range),
            (package, Some(version)) => {
                write!(f, "{} by {package}@{version}", self.range)?;
                let needed_by: Vec<String> =
                    self.needed_by.iter().map(|(package, version)| format!("{package}@{version}")).collect();
                match needed_by.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", needed by {}", needed_by.join(", needed by ")),
                }
            }
        }
    }
}

/// Something that is wrong. The order of the variants is that of the report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Problem {
    /// The package depends on itself.
    Itself {
        /// The package.
        package: PackageId,
    },
    /// A package names more dependencies than are allowed.
    TooManyDependencies {
        /// The package.
        package: PackageId,
        /// How many it names.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// More packages or ranges are reached than are looked at.
    TooMany,
    /// Packages depend on one another in a chain that is too long.
    TooDeep {
        /// A package at which looking ended.
        package: PackageId,
        /// The packages before it.
        depth: usize,
    },
    /// Nobody knows the package.
    Missing {
        /// The package.
        package: PackageId,
        /// Who wants it.
        wanted: Vec<Wanted>,
    },
    /// No version of a package satisfies a range.
    NoVersion {
        /// The package.
        package: PackageId,
        /// The ranges that are not satisfied.
        wanted: Vec<Wanted>,
        /// The versions there are, highest first, and whether they were withdrawn.
        versions: Vec<(Version, bool)>,
    },
    /// Each range is satisfied by some version, but all of them by none.
    Conflict {
        /// The package.
        package: PackageId,
        /// The ranges.
        wanted: Vec<Wanted>,
        /// The versions there are, highest first, and whether they were withdrawn.
        versions: Vec<(Version, bool)>,
    },
    /// Each package can be had by itself, but there is no choice of versions that satisfies all ranges at once.
    NoChoice,
    /// Packages depend on each other in a circle.
    Cycle {
        /// The packages in order; the first one stands at the end again.
        packages: Vec<PackageId>,
    },
}

impl Problem {
    /// Whether packages depend on one another in a circle.
    pub(crate) fn is_circle(&self) -> bool {
        matches!(self, Self::Itself { .. } | Self::Cycle { .. })
    }

    /// Whether it is that nobody knows the package.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether it is that no version is in a range.
    pub(crate) fn is_without_version(&self) -> bool {
        matches!(self, Self::NoVersion { .. })
    }

    pub(super) fn versions(all: &[Candidate]) -> Vec<(Version, bool)> {
        let mut versions: Vec<_> =
            all.iter().map(|candidate| (candidate.version.clone(), candidate.yanked)).collect();
        versions.sort_by(|a, b| b.cmp(a));
        versions
    }

    /// Whether the root itself asks for what cannot be had, whatever versions of other packages are chosen.
    pub(super) fn is_of_root(&self) -> bool {
        match self {
            Self::Missing { wanted, .. } | Self::NoVersion { wanted, .. } => {
                wanted.iter().any(Wanted::is_by_root)
            }
            Self::Conflict { .. } | Self::NoChoice => false,
            Self::Itself { .. }
            | Self::TooManyDependencies { .. }
            | Self::TooMany
            | Self::TooDeep { .. }
            | Self::Cycle { .. } => true,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself { package } => write!(f, "{package} depends on itself"),
            Self::TooManyDependencies { package, count, max } => {
                write!(f, "{package} names {count} dependencies; at most {max} are allowed")
            }
            Self::TooMany => write!(
                f,
                "more than {PACKAGES_MAX} packages, or {RANGES_MAX} ranges, are needed all together"
            ),
            Self::TooDeep { package, depth } => {
                write!(f, "{package} stands behind a chain of {depth} packages; it is not followed further")
            }
            Self::Missing { package, wanted } => {
                write!(f, "{package} is not known to anybody (wanted: {})", list(wanted, "; "))
            }
            Self::NoVersion { package, wanted, versions } => write!(
                f,
                "no version of {package} is in the range that is wanted ({}); {}",
                list(wanted, "; "),
                there(versions)
            ),
            Self::Conflict { package, wanted, versions } => write!(
                f,
                "no version of {package} is in all the ranges that are wanted ({}); {}",
                list(wanted, "; "),
                there(versions)
            ),
            Self::NoChoice => {
                f.write_str("no choice of versions satisfies the ranges of all packages at once")
            }
            Self::Cycle { packages } => {
                let mut names: Vec<String> = packages.iter().map(ToString::to_string).collect();
                if names.len() > DEPTH_MAX + 1 {
                    // Its ends are what helps to find it.
                    let last = names.len() - 1;
                    names.splice(DEPTH_MAX..last, ["…".to_owned()]);
                }
                write!(f, "packages depend on each other in a circle: {}", names.join(" -> "))
            }
        }
    }
}

fn there(versions: &[(Version, bool)]) -> String {
    if versions.is_empty() {
        return "it has no versions".to_owned();
    }
    let named: Vec<String> = versions
        .iter()
        .map(|(version, yanked)| format!("{version}{}", if *yanked { " (withdrawn)" } else { "" }))
        .collect();
    format!("its versions: {}", list(&named, ", "))
}

fn list<T: fmt::Display>(items: &[T], separator: &str) -> String {
    let mut shown: Vec<String> = items.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    if items.len() > LISTED_MAX {
        shown.push(format!("and {} more", items.len() - LISTED_MAX));
    }
    shown.join(separator)
}

/// Puts problems into the order of the report.
pub(super) fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup();
    problems
}
