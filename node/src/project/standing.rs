//! What the notes of a project say of one of its folders, for those who only look: nothing is locked, completed or changed.

use std::path::{Path, PathBuf};

use super::{
    Placed,
    journal::{Journal, Way},
    site,
};

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
        let (Some(site), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()))
        else {
            return Self::default();
        };
        let roots = site.ancestors().skip(1).take(LEVELS_MAX);
        let unfinished = roots.into_iter().find(|root| is_changing(root, site, name)).map(Path::to_owned);
        let index = site::index_in(site).ok();
        let placed = index.and_then(|mut index| index.packages.remove(name));
        Self { placed, unfinished }
    }
}

/// Whether a change of this project that has not come to its end has to do with a folder.
fn is_changing(root: &Path, site: &Path, name: &str) -> bool {
    let Ok(Some(journal)) = Journal::read(root) else { return false };
    journal.way != Way::Clean
        && root.join(&journal.folder) == site
        && journal.swaps.iter().any(|swap| swap.name == name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::project::{
        Guard, Site, Swap, Was,
        disk::Disk,
        site::{Index, recover_with},
    };

    #[test]
    fn a_folder_whose_change_was_cut_off_is_known_by_it_until_that_is_completed() {
        let root = tempfile::tempdir().unwrap();
        let guard = Guard::lock(root.path()).unwrap();
        let swaps = || {
            let swap = |name: &str| Swap { name: name.to_owned(), was: Was::Nothing, brings: true };
            vec![swap("a"), swap("b")]
        };
        let change = |disk: Disk| {
            let mut site = Site::with_disk(&guard, Path::new("deep/gpacks"), disk).unwrap();
            site.prepare()?;
            for name in ["a", "b"] {
                fs::create_dir_all(site.next(name)).unwrap();
            }
            site.commit(swaps(), &Index::default(), &[], &mut |_, _| false)
        };
        let folder = |name: &str| guard.root().join("deep/gpacks").join(name);
        let (mut seen, mut steps) = (0, 0);
        while change(Disk::killed_after(steps)).is_err() {
            let unfinished = Standing::of(&folder("a")).unfinished;
            assert!(Standing::of(&folder("c")).unfinished.is_none(), "it has nothing to do with that");
            if unfinished.is_some() {
                seen += 1;
                assert_eq!(unfinished.as_deref(), Some(guard.root()), "after {steps} steps");
            }
            recover_with(&guard, &mut |_, _| false, Disk::default()).unwrap();
            assert_eq!(Standing::of(&folder("a")), Standing::default(), "it was completed");
            let _ = fs::remove_dir_all(guard.root().join("deep"));
            steps += 1;
        }
        assert!(seen > 0);
        assert_eq!(Standing::of(Path::new("/")), Standing::default());
    }
}
