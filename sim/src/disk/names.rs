//! The names on a disk: those that there are now, those that are there for certain, and the changes between the two.
//!
//! A name is there for certain when its folder was synced, and not before: that its file was synced is not enough. File systems
//! in use promise more; POSIX does not, and a program that holds to POSIX holds on all of them. A file or folder has one name:
//! a rename happens or does not, and leaves it with the old name or the new one. A rename between two folders is certain when
//! either of them was synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

use super::pending::{Fate, Losses};

/// A file or a folder of a disk.
pub(super) type Number = u64;
/// The folder at the top.
pub(super) const TOP: Number = 0;
/// What follows in the name of a staging folder is drawn by a library, and is not part of what a draw is keyed by.
const STAGING: &str = ".ggen-partial-";

/// Folders, each with what is in it.
pub(super) type Folders = BTreeMap<Number, BTreeMap<OsString, Number>>;

/// Where a name stands.
type Place = (Number, OsString);

/// A change of names that is not there for certain.
#[derive(Debug, Clone)]
enum Change {
    Made { place: Place, number: Number, is_folder: bool },
    Removed { place: Place, number: Number },
    Moved { from: Place, to: Place, number: Number, is_folder: bool },
}

impl Change {
    fn number(&self) -> Number {
        match self {
            Self::Made { number, .. } | Self::Removed { number, .. } | Self::Moved { number, .. } => *number,
        }
    }

    fn concerns(&self, folder: Number) -> bool {
        match self {
            Self::Made { place, .. } | Self::Removed { place, .. } => place.0 == folder,
            Self::Moved { from, to, .. } => from.0 == folder || to.0 == folder,
        }
    }

    /// Makes the change; false where it cannot be without one that was lost.
    fn apply(&self, folders: &mut Folders) -> bool {
        match self {
            Self::Made { place, number, is_folder } => {
                put(folders, place, *number);
                if *is_folder {
                    folders.entry(*number).or_default();
                }
            }
            Self::Removed { place, number } => {
                // A folder goes only when it is empty.
                if folders.get(number).is_some_and(|names| !names.is_empty()) {
                    return false;
                }
                let names = folders.entry(place.0).or_default();
                if names.get(&place.1) == Some(number) {
                    names.remove(&place.1);
                }
            }
            // It has its new name whether or not it ever had the old one.
            Self::Moved { to, number, is_folder, .. } => {
                put(folders, to, *number);
                if *is_folder {
                    folders.entry(*number).or_default();
                }
            }
        }
        true
    }
}

/// Gives something its one name.
fn put(folders: &mut Folders, place: &Place, number: Number) {
    for names in folders.values_mut() {
        names.retain(|_, it| *it != number);
    }
    folders.entry(place.0).or_default().insert(place.1.clone(), number);
}

/// The names of one disk.
#[derive(Debug)]
pub(super) struct Names {
    now: Folders,
    certain: Folders,
    changes: Vec<(String, Change)>,
    next: Number,
    /// How often something was done under a name, for keys that are never used twice.
    counts: BTreeMap<String, u64>,
}

impl Names {
    /// Those of an empty disk.
    pub(super) fn new() -> Self {
        let top = Folders::from([(TOP, BTreeMap::new())]);
        Self { now: top.clone(), certain: top, changes: Vec::new(), next: TOP + 1, counts: BTreeMap::new() }
    }

    /// Continues with what a power cut left.
    pub(super) fn restart(&mut self, image: Folders) {
        self.changes.clear();
        self.now.clone_from(&image);
        self.certain = image;
    }

    /// What has this name, below the top.
    pub(super) fn find(&self, path: &Path) -> Option<Number> {
        path.components().try_fold(TOP, |folder, part| {
            let Component::Normal(name) = part else { return None };
            self.now.get(&folder)?.get(name).copied()
        })
    }

    /// Whether something can be made there.
    pub(super) fn has_folder_of(&self, path: &Path) -> bool {
        self.place(path).is_some()
    }

    pub(super) fn is_folder(&self, number: Number) -> bool {
        self.now.contains_key(&number)
    }

    fn place(&self, path: &Path) -> Option<Place> {
        let folder = self.find(path.parent()?).filter(|it| self.is_folder(*it))?;
        Some((folder, path.file_name()?.to_owned()))
    }

    /// A key for the next thing that is done under a name.
    fn key(&mut self, path: &Path) -> String {
        let name = |part: Component<'_>| {
            let name = part.as_os_str().to_string_lossy().into_owned();
            name.split_once(STAGING).map_or_else(|| name.clone(), |(before, _)| format!("{before}{STAGING}"))
        };
        let name = path.components().map(name).collect::<Vec<_>>().join("/");
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        format!("{name} {count}")
    }

    fn change(&mut self, key: String, change: Change) {
        let is_done = change.apply(&mut self.now);
        debug_assert!(is_done, "what the kernel did can be done");
        self.changes.push((key, change));
    }

    /// Notes that a file or a folder was made; its number, and a key that nothing else has.
    pub(super) fn make(&mut self, path: &Path, is_folder: bool) -> Option<(Number, String)> {
        let place = self.place(path)?;
        let (number, key) = (self.next, self.key(path));
        self.next += 1;
        self.change(key.clone(), Change::Made { place, number, is_folder });
        Some((number, key))
    }

    /// Notes that a file or a folder was removed.
    pub(super) fn remove(&mut self, path: &Path) {
        let (Some(place), Some(number)) = (self.place(path), self.find(path)) else { return };
        let key = self.key(path);
        self.change(key, Change::Removed { place, number });
        if self.is_folder(number) {
            self.now.remove(&number);
        }
    }

    /// Notes that a file or a folder was renamed, over whatever had the name.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        let (Some(number), Some(from), Some(place)) = (self.find(from), self.place(from), self.place(to))
        else {
            return;
        };
        let (key, is_folder) = (self.key(to), self.is_folder(number));
        self.change(key, Change::Moved { from, to: place, number, is_folder });
    }

    /// Notes that a folder was brought to the disk, with the names in it.
    pub(super) fn sync(&mut self, folder: Number) {
        let certain = &mut self.certain;
        self.changes.retain(|(_, change)| {
            let is_synced = change.concerns(folder);
            if is_synced {
                change.apply(certain);
            }
            !is_synced
        });
    }

    /// Notes that everything was brought to the disk.
    pub(super) fn sync_all(&mut self) {
        self.changes.clear();
        self.certain.clone_from(&self.now);
    }

    /// Whether any change is not on the disk for certain.
    pub(super) fn is_unsynced(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What can still have a name after a power cut, or has one now.
    pub(super) fn held(&self) -> BTreeSet<Number> {
        let named = self.now.values().chain(self.certain.values()).flat_map(|names| names.values().copied());
        named.chain(self.changes.iter().map(|(_, change)| change.number())).collect()
    }

    /// The names after a power cut: only what can be reached from the top.
    pub(super) fn survivors(&self, fate: Fate<'_>, losses: &mut Losses) -> Folders {
        let mut folders = self.certain.clone();
        for (key, change) in &self.changes {
            if !fate.keeps(&format!("{key} name"), 0) || !change.apply(&mut folders) {
                losses.lost += 1;
            }
        }
        let mut reached = Folders::new();
        let mut open = vec![TOP];
        while let Some(folder) = open.pop() {
            let Some(names) = folders.remove(&folder) else { continue };
            open.extend(names.values().filter(|number| folders.contains_key(number)));
            reached.insert(folder, names);
        }
        reached
    }

    /// Where everything is now.
    pub(super) fn paths(&self) -> BTreeMap<Number, PathBuf> {
        let mut paths = BTreeMap::new();
        let mut open = vec![(TOP, PathBuf::new())];
        while let Some((folder, path)) = open.pop() {
            let names = self.now.get(&folder).into_iter().flatten();
            open.extend(
                names.map(|(name, number): (&OsString, &Number)| (*number, path.join::<&OsStr>(name))),
            );
            paths.insert(folder, path);
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Draws;

    /// After each of many power cuts: where the file is that was made in `make`.
    fn cuts(make: impl Fn(&mut Names) -> Number) -> BTreeSet<Option<PathBuf>> {
        let cut = |n| {
            let mut names = Names::new();
            let number = make(&mut names);
            let fate = Fate::new(Draws::new(1), "node-0", n);
            let image = names.survivors(fate, &mut Losses::default());
            names.restart(image);
            names.paths().remove(&number)
        };
        (0..100).map(cut).collect()
    }

    fn made(names: &mut Names, path: &str) -> Number {
        names.make(Path::new(path), false).unwrap().0
    }

    #[test]
    fn a_name_is_there_for_certain_once_its_folder_was_synced() {
        let unsynced = cuts(|names| made(names, "a"));
        assert_eq!(unsynced, [None, Some("a".into())].into());
        let synced = cuts(|names| {
            let number = made(names, "a");
            names.sync(TOP);
            number
        });
        assert_eq!(synced, [Some("a".into())].into());
        let in_a_folder = cuts(|names| {
            let (folder, _) = names.make(Path::new("folder"), true).unwrap();
            let number = made(names, "folder/a");
            names.sync(folder);
            number
        });
        assert_eq!(
            in_a_folder,
            [None, Some("folder/a".into())].into(),
            "the folder's own name is not synced"
        );
    }

    #[test]
    fn a_rename_without_a_sync_of_its_folder_may_be_undone_and_is_never_half_done() {
        let renamed = |syncs: bool| {
            cuts(move |names| {
                made(names, "old");
                let number = made(names, "new");
                names.sync_all();
                names.rename(Path::new("new"), Path::new("old"));
                if syncs {
                    names.sync(TOP);
                }
                number
            })
        };
        assert_eq!(renamed(false), [Some("new".into()), Some("old".into())].into());
        assert_eq!(renamed(true), [Some("old".into())].into());
    }

    #[test]
    fn what_was_removed_may_be_back_until_its_folder_was_synced() {
        let removed = |syncs: bool| {
            cuts(move |names| {
                let number = made(names, "a");
                names.sync(TOP);
                names.remove(Path::new("a"));
                if syncs {
                    names.sync(TOP);
                }
                number
            })
        };
        assert_eq!(removed(false), [None, Some("a".into())].into());
        assert_eq!(removed(true), [None].into());
    }

    #[test]
    fn a_folder_that_is_not_empty_does_not_vanish() {
        for cut in 0..100 {
            let mut names = Names::new();
            names.make(Path::new("folder"), true).unwrap();
            made(&mut names, "folder/a");
            names.sync_all();
            names.remove(Path::new("folder/a"));
            names.remove(Path::new("folder"));
            let image = names.survivors(Fate::new(Draws::new(4), "node-0", cut), &mut Losses::default());
            names.restart(image);
            let (folder, file) = (names.find(Path::new("folder")), names.find(Path::new("folder/a")));
            assert!(folder.is_some() || file.is_none());
        }
    }

    #[test]
    fn the_drawn_end_of_a_name_is_no_part_of_its_key() {
        let keys = |name: &str| Names::new().make(Path::new(name), true).unwrap().1;
        assert_eq!(keys(".7.ggen-partial-abcdef"), keys(".7.ggen-partial-ghijkl"));
        assert_ne!(keys(".7.ggen-partial-abcdef"), keys(".8.ggen-partial-abcdef"));
    }
}
