//! One disk: real files stand for the page cache of its machine, and beside them is kept what a power cut would take.
//!
//! A sync is not passed on to the kernel. What is unlinked or replaced stays in an attic for as long as it may come back.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    names::{Folders, Names, Number, TOP},
    pending::{Fate, Losses, Pending},
};
use crate::{
    draw::Draws,
    virtualise::files::{Answer, Call, Identity, Opened, Watcher, unwatched},
};

/// How files end whose bytes mean nothing after a power cut: memory that SQLite's connections share, and whose lock it is. They are
/// left as they are.
const MEANINGLESS: [&str; 2] = ["-shm", ".lock"];

/// A file, with what a draw for it is keyed by.
#[derive(Debug)]
struct File {
    key: String,
    pending: Pending,
}

/// One disk.
#[derive(Debug)]
pub(crate) struct Drive {
    draws: Draws,
    /// Of which node.
    node: String,
    /// Where its files are.
    top: PathBuf,
    attic: PathBuf,
    /// Nothing is written any more.
    is_dead: Cell<bool>,
    /// It dies before it does so many things more.
    dies_in: Cell<Option<u64>>,
    cuts: Cell<u64>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    names: Names,
    files: BTreeMap<Number, File>,
    known: BTreeMap<Identity, Number>,
    in_attic: BTreeSet<Number>,
    /// The file whose change is not done yet.
    in_progress: Option<Number>,
}

impl State {
    /// Whether a power cut could take something.
    fn is_unsynced(&self) -> bool {
        self.names.is_unsynced() || self.files.values().any(|file| !file.pending.is_empty())
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drive {
    /// An empty disk in a folder of its own, which must not exist yet; its path has no links in it.
    pub(crate) fn new(folder: &Path, node: &str, draws: Draws) -> io::Result<Self> {
        let drive = Self {
            draws,
            node: node.to_owned(),
            top: folder.join("now"),
            attic: folder.join("attic"),
            is_dead: Cell::new(false),
            dies_in: Cell::new(None),
            cuts: Cell::new(0),
            state: RefCell::new(State {
                names: Names::new(),
                files: BTreeMap::new(),
                known: BTreeMap::new(),
                in_attic: BTreeSet::new(),
                in_progress: None,
            }),
        };
        unwatched(|| {
            fs::create_dir_all(&drive.top)?;
            fs::create_dir_all(&drive.attic)
        })?;
        drive.state.borrow_mut().known.insert(identity(&drive.top)?, TOP);
        Ok(drive)
    }

    /// Where its files are.
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// From now on nothing is written to it.
    pub(crate) fn kill(&self) {
        self.is_dead.set(true);
    }

    /// It dies by itself when it has done so many more things, writes, syncs and changes of names, and is to do the first of
    /// those after which something is not synced.
    pub(crate) fn kill_after(&self, operations: u64) {
        self.dies_in.set(Some(operations));
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.get()
    }

    /// It works again, with everything that was written to it: its machine was running all the while.
    pub(crate) fn revive(&self) {
        self.is_dead.set(false);
        self.dies_in.set(None);
    }

    /// Takes everything from it.
    pub(crate) fn wipe(&self) -> io::Result<()> {
        self.replace(|_, _| Ok(()), |_| Folders::from([(TOP, BTreeMap::new())]))
    }

    /// The power fails and comes back: what was not synced is lost or not, by draws, and everything else is there.
    pub(crate) fn cut_power(&self) -> io::Result<Losses> {
        let cut = self.cuts.replace(self.cuts.get() + 1);
        let fate = Fate::new(self.draws, &self.node, cut);
        let mut losses = Losses::default();
        let mut more = Losses::default();
        self.replace(
            |folders, next| {
                let state = self.state.borrow();
                let paths = state.names.paths();
                self.rebuild(&state, folders, &paths, (TOP, next), fate, &mut losses)
            },
            |names| names.survivors(fate, &mut more),
        )?;
        Ok(Losses { lost: losses.lost + more.lost, torn: losses.torn })
    }

    /// Puts other files in place of those that there are.
    fn replace(
        &self,
        fill: impl FnOnce(&Folders, &Path) -> io::Result<()>,
        image: impl FnOnce(&Names) -> Folders,
    ) -> io::Result<()> {
        unwatched(|| {
            let next = self.top.with_file_name("next");
            fs::create_dir(&next)?;
            let folders = image(&self.state.borrow().names);
            fill(&folders, &next)?;
            fs::remove_dir_all(&self.top)?;
            fs::rename(&next, &self.top)?;
            fs::remove_dir_all(&self.attic)?;
            fs::create_dir(&self.attic)?;
            let state = &mut *self.state.borrow_mut();
            state.names.restart(folders);
            state.in_attic.clear();
            state.known.clear();
            let paths = state.names.paths();
            // What was not known before is meaningless.
            let is_known =
                |number: &Number| state.files.contains_key(number) || state.names.is_folder(*number);
            for (number, path) in paths.iter().filter(|(number, _)| is_known(number)) {
                state.known.insert(identity(&self.top.join(path))?, *number);
            }
            state.files.retain(|number, _| paths.contains_key(number));
            state.files.values_mut().for_each(|file| file.pending.synced());
            self.revive();
            Ok(())
        })
    }

    /// Writes what a power cut left of a folder.
    fn rebuild(
        &self,
        state: &State,
        folders: &Folders,
        paths: &BTreeMap<Number, PathBuf>,
        (folder, target): (Number, &Path),
        fate: Fate<'_>,
        losses: &mut Losses,
    ) -> io::Result<()> {
        for (name, number) in folders.get(&folder).into_iter().flatten() {
            let target = target.join(name);
            let from = self.source(state, paths, *number);
            if folders.contains_key(number) {
                fs::create_dir(&target)?;
                self.rebuild(state, folders, paths, (*number, &target), fate, losses)?;
            } else {
                let bytes = fs::read(&from)?;
                let left = match state.files.get(number) {
                    Some(file) => file.pending.survivors(bytes, &file.key, fate, losses),
                    None => bytes,
                };
                fs::write(&target, left)?;
            }
            // Of a folder that was removed and is back, nobody knows the mode.
            if let Ok(metadata) = fs::metadata(&from) {
                fs::set_permissions(&target, metadata.permissions())?;
            }
        }
        Ok(())
    }

    fn source(&self, state: &State, paths: &BTreeMap<Number, PathBuf>, number: Number) -> PathBuf {
        match paths.get(&number).filter(|_| !state.in_attic.contains(&number)) {
            Some(path) => self.top.join(path),
            None => self.attic.join(number.to_string()),
        }
    }

    /// Notes that one thing more is to be done; none where the disk is dead.
    fn operate(&self, what: Answer) -> Answer {
        match self.dies_in.get() {
            // Where everything is on the disk, a power cut takes nothing.
            Some(0) if self.state.borrow().is_unsynced() => self.is_dead.set(true),
            Some(0) => {}
            Some(left) if !self.is_dead.get() => self.dies_in.set(Some(left - 1)),
            _ => {}
        }
        if self.is_dead.get() { Answer::Refuse(libc::EIO) } else { what }
    }

    fn below(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.top).ok().map(Path::to_owned)
    }

    /// Notes what stands where a file is changed.
    fn change(
        &self,
        file: &Opened,
        (at, length): (u64, u64),
        note: impl FnOnce(&mut Pending, Vec<u8>),
    ) -> Option<Answer> {
        let number = *self.state.borrow().known.get(&file.identity)?;
        let answer = self.operate(Answer::Watch);
        if answer == Answer::Watch {
            let Ok(old) = file.read(at, length) else { return Some(Answer::Refuse(libc::EIO)) };
            let mut state = self.state.borrow_mut();
            note(&mut state.files.get_mut(&number)?.pending, old);
            state.in_progress = Some(number);
        }
        Some(answer)
    }

    /// Keeps a file that is about to lose its name.
    fn keep(&self, path: &Path) -> Option<Number> {
        let mut state = self.state.borrow_mut();
        let number = state.names.find(&self.below(path)?)?;
        if !state.names.is_folder(number) && fs::hard_link(path, self.attic.join(number.to_string())).is_ok()
        {
            state.in_attic.insert(number);
            state.in_progress = Some(number);
        }
        Some(number)
    }

    /// Removes what can never come back.
    fn bury(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.in_attic.is_empty() {
            return;
        }
        let held = state.names.held();
        let gone: Vec<Number> = state.in_attic.difference(&held).copied().collect();
        for number in gone {
            state.in_attic.remove(&number);
            // What stays is removed with everything else when the run ends.
            let _ = fs::remove_file(self.attic.join(number.to_string()));
            state.files.remove(&number);
            state.known.retain(|_, it| *it != number);
        }
    }

    fn before(&self, call: &Call<'_>) -> Option<Answer> {
        match call {
            Call::Open { path, creates, truncates } => {
                let name = self.below(path)?;
                let found = self.state.borrow().names.find(&name);
                match found {
                    None if *creates && self.state.borrow().names.has_folder_of(&name) => {
                        Some(self.operate(Answer::Watch))
                    }
                    Some(number) if *truncates => {
                        let old = fs::read(path).ok().filter(|old| !old.is_empty());
                        let Some(old) = old else { return Some(Answer::Watch) };
                        let answer = self.operate(Answer::Watch);
                        if answer == Answer::Watch {
                            let mut state = self.state.borrow_mut();
                            state.files.get_mut(&number)?.pending.truncate(old.len() as u64, 0, old);
                            state.in_progress = Some(number);
                        }
                        Some(answer)
                    }
                    _ => Some(Answer::Watch),
                }
            }
            Call::Write { file, at, bytes } => {
                self.change(file, (*at, bytes.len() as u64), |pending, old| {
                    pending.write(file.size, *at, bytes, old);
                })
            }
            Call::Truncate { file, length } => self.change(file, (*length, u64::MAX), |pending, old| {
                pending.truncate(file.size, *length, old);
            }),
            Call::Sync { file } => {
                let number = *self.state.borrow().known.get(&file.identity)?;
                let answer = self.operate(Answer::Done);
                if answer == Answer::Done {
                    let state = &mut *self.state.borrow_mut();
                    match state.files.get_mut(&number) {
                        Some(file) => file.pending.synced(),
                        None => state.names.sync(number),
                    }
                }
                self.bury();
                Some(answer)
            }
            Call::SyncAll { file } => {
                self.state.borrow().known.get(&file.identity)?;
                let answer = self.operate(Answer::Done);
                if answer == Answer::Done {
                    let state = &mut *self.state.borrow_mut();
                    state.names.sync_all();
                    state.files.values_mut().for_each(|file| file.pending.synced());
                }
                self.bury();
                Some(answer)
            }
            Call::Rename { from, to } => {
                let (from, name) = (self.below(from)?, self.below(to)?);
                self.state.borrow().names.find(&from)?;
                self.state.borrow().names.has_folder_of(&name).then_some(())?;
                let answer = self.operate(Answer::Watch);
                if answer == Answer::Watch {
                    self.keep(to);
                }
                Some(answer)
            }
            Call::Unlink { path } => {
                self.state.borrow().names.find(&self.below(path)?)?;
                let answer = self.operate(Answer::Watch);
                if answer == Answer::Watch {
                    self.keep(path);
                }
                Some(answer)
            }
            Call::MakeFolder { path } => {
                let name = self.below(path)?;
                let is_new = {
                    let names = &self.state.borrow().names;
                    names.find(&name).is_none() && names.has_folder_of(&name)
                };
                is_new.then(|| self.operate(Answer::Watch))
            }
            Call::RemoveFolder { path } => {
                self.state.borrow().names.find(&self.below(path)?)?;
                Some(self.operate(Answer::Watch))
            }
        }
    }

    fn after(&self, call: &Call<'_>, is_done: bool, opened: Option<Opened>) {
        let state = &mut *self.state.borrow_mut();
        let in_progress = state.in_progress.take();
        let changed = in_progress.and_then(|number| state.files.get_mut(&number));
        match call {
            Call::Open { .. } | Call::Write { .. } | Call::Truncate { .. } if !is_done => {
                changed.into_iter().for_each(|file| file.pending.take_back());
            }
            Call::Rename { .. } | Call::Unlink { .. } if !is_done => {
                if let Some(number) = in_progress {
                    state.in_attic.remove(&number);
                    // Another link to what kept its name.
                    let _ = fs::remove_file(self.attic.join(number.to_string()));
                }
            }
            _ if !is_done => {}
            Call::Open { path, creates: true, .. } => {
                let Some(name) = self.below(path) else { return };
                let is_meaningless = MEANINGLESS
                    .iter()
                    .any(|end| name.as_os_str().as_encoded_bytes().ends_with(end.as_bytes()));
                if state.names.find(&name).is_none()
                    && let Some(opened) = opened
                    && let Some((number, key)) = state.names.make(&name, false)
                    && !is_meaningless
                {
                    state.known.insert(opened.identity, number);
                    state.files.insert(number, File { key, pending: Pending::default() });
                }
            }
            Call::MakeFolder { path } => {
                if let Some(name) = self.below(path)
                    && let Some((number, _)) = state.names.make(&name, true)
                    && let Ok(identity) = identity(path)
                {
                    state.known.insert(identity, number);
                }
            }
            Call::Rename { from, to } => {
                if let (Some(from), Some(to)) = (self.below(from), self.below(to)) {
                    state.names.rename(&from, &to);
                }
            }
            Call::Unlink { path } | Call::RemoveFolder { path } => {
                let Some(path) = self.below(path) else { return };
                if matches!(call, Call::RemoveFolder { .. })
                    && let Some(number) = state.names.find(&path)
                {
                    // Its place on the real disk may be given to anything now.
                    state.known.retain(|_, it| *it != number);
                }
                state.names.remove(&path);
            }
            _ => {}
        }
    }
}

/// All disks of a run: each call concerns one of them at most.
#[derive(Debug, Default)]
pub(crate) struct Drives(pub(crate) Vec<Rc<Drive>>);

impl Watcher for Drives {
    fn before(&self, call: &Call<'_>) -> Answer {
        self.0.iter().find_map(|drive| drive.before(call)).unwrap_or(Answer::Pass)
    }

    fn after(&self, call: &Call<'_>, is_done: bool, opened: Option<Opened>) {
        let is_of = |drive: &&Rc<Drive>| match call {
            Call::Open { path, .. }
            | Call::Unlink { path }
            | Call::MakeFolder { path }
            | Call::RemoveFolder { path } => drive.below(path).is_some(),
            Call::Rename { to, .. } => drive.below(to).is_some(),
            Call::Write { file, .. }
            | Call::Truncate { file, .. }
            | Call::Sync { file }
            | Call::SyncAll { file } => drive.state.borrow().known.contains_key(&file.identity),
        };
        if let Some(drive) = self.0.iter().find(is_of) {
            drive.after(call, is_done, opened);
        }
    }
}

#[cfg(test)]
mod tests;
