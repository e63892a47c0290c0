//! What the notes of a project say of one of its folders, for those who only look: nothing is locked, completed or changed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Error, Index, Lock, Placed, Requirements, graph,
    journal::{Journal, Way},
    site,
};
use crate::package::{PackageId, gpack};

/// Folders above an installed package in which the `gpack.toml` of its project is looked for.
const LEVELS_MAX: usize = 16;

/// What the notes of a project say of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The package that this program put there, which may be newer than what the store knows of.
    pub placed: Option<Placed>,
    /// The project whose change was cut off, or is in progress, and has to do with this folder.
    pub unfinished: Option<PathBuf>,
}

impl Standing {
    /// Reads the notes; what is not there, or makes no sense, says nothing.
    pub fn of(folder: &Path) -> Self {
        Standings::default().of(folder)
    }
}

/// The notes of projects, each of which is read once.
#[derive(Debug, Default)]
pub struct Standings {
    sites: BTreeMap<PathBuf, Notes>,
}

/// What stands in the notes of one folder of packages.
#[derive(Debug, Default)]
struct Notes {
    index: Index,
    /// Changes of projects above it that have not come to their end.
    changes: Vec<(PathBuf, Journal)>,
}

impl Notes {
    fn of(site: &Path) -> Self {
        let roots = site.ancestors().skip(1).take(LEVELS_MAX);
        let changes = roots.filter_map(|root| Some((root.to_owned(), changing(root, site)?))).collect();
        Self { index: site::index_in(site).unwrap_or_default(), changes }
    }
}

impl Standings {
    /// As [`Standing::of`].
    pub fn of(&mut self, folder: &Path) -> Standing {
        let (Some(site), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()))
        else {
            return Standing::default();
        };
        if !self.sites.contains_key(site) {
            self.sites.insert(site.to_owned(), Notes::of(site));
        }
        let Some(Notes { index, changes }) = self.sites.get(site) else { return Standing::default() };
        let has = |journal: &Journal| journal.swaps.iter().any(|swap| swap.name == name);
        let unfinished = changes.iter().find(|(_, journal)| has(journal));
        Standing {
            placed: index.packages.get(name).cloned(),
            unfinished: unfinished.map(|(root, _)| root.clone()),
        }
    }
}

/// The project that put a package into this folder; none where none did.
pub fn project_of(folder: &Path) -> Option<PathBuf> {
    let site = folder.parent().filter(|site| site::has_index(site))?;
    let mut above = site.ancestors().skip(1).take(LEVELS_MAX);
    above.find(|root| root.join(gpack::FILE_NAME).is_file()).map(Path::to_owned)
}

/// The project whose lock file has the package in a folder, and the id of that package.
pub fn asked_by(folder: &Path) -> Option<(PathBuf, PackageId)> {
    let (above, name) = (folder.parent()?.canonicalize().ok()?, folder.file_name()?);
    let root = project_of(&above.join(name))?;
    let requirements = Requirements::read(&root).ok()?;
    if root.join(&requirements.project().folder).canonicalize().ok()? != above {
        return None;
    }
    let (lock, _) = Lock::read(&root).ok()??;
    let mut folders = graph::folders(requirements.project(), &lock).into_iter();
    let (id, _) = folders.find(|(_, it)| name == it.as_str())?;
    Some((root, id))
}

/// Which packages the notes of a folder say were put there; what makes no sense says nothing.
pub fn placed_in(site: &Path) -> Vec<Placed> {
    site::index_in(site).map(|index| index.packages.into_values().collect()).unwrap_or_default()
}

/// Whether a change of a project has not come to its end: its files may be of before and of after it.
///
/// # Errors
/// As [`recover`](super::recover), for a journal that cannot be read.
pub fn is_unfinished(root: &Path) -> Result<bool, Error> {
    Ok(Journal::read(root)?.is_some_and(|journal| journal.way != Way::Clean))
}

/// A change of this project that has not come to its end and has to do with a folder of packages.
fn changing(root: &Path, site: &Path) -> Option<Journal> {
    let journal = Journal::read(root).ok().flatten()?;
    (journal.way != Way::Clean && root.join(&journal.folder) == site).then_some(journal)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::project::{
        Guard, Seal, Site, Swap, Was,
        disk::Disk,
        site::{Index, recover_with, tests::placed},
    };

    #[test]
    fn a_folder_whose_change_was_cut_off_is_known_by_it_until_that_is_completed() {
        let root = tempfile::tempdir().unwrap();
        let guard = Guard::lock(root.path()).unwrap();
        let seal = Seal::from_bytes([1; 32]);
        let swaps = || {
            let brings = |name: &str| Some(Box::new(placed(name, "1.0.0")));
            let swap = |name: &str| Swap { name: name.to_owned(), was: Was::Nothing, brings: brings(name) };
            vec![swap("a"), swap("b")]
        };
        let change = |disk: Disk| {
            let mut site = Site::with_disk(&guard, Path::new("deep/gpacks"), disk).unwrap();
            site.prepare()?;
            for name in ["a", "b"] {
                fs::create_dir_all(site.next(name)).unwrap();
            }
            site.commit(swaps(), &Index::default(), &[], &seal, &mut |_, _| false)
        };
        let folder = |name: &str| guard.root().join("deep/gpacks").join(name);
        let (mut seen, mut steps) = (0, 0);
        while change(Disk::killed_after(steps)).is_err() {
            let unfinished = Standing::of(&folder("a")).unfinished;
            assert!(Standing::of(&folder("c")).unfinished.is_none(), "it has nothing to do with that");
            assert_eq!(is_unfinished(guard.root()).unwrap(), unfinished.is_some(), "after {steps} steps");
            if unfinished.is_some() {
                seen += 1;
                assert_eq!(unfinished.as_deref(), Some(guard.root()), "after {steps} steps");
            }
            recover_with(&guard, &seal, &mut |_, _| false, Disk::default()).unwrap();
            assert_eq!(Standing::of(&folder("a")), Standing::default(), "it was completed");
            let _ = fs::remove_dir_all(guard.root().join("deep"));
            steps += 1;
        }
        assert!(seen > 0);
        assert!(!is_unfinished(guard.root()).unwrap());
        assert_eq!(Standing::of(Path::new("/")), Standing::default());
    }
}
