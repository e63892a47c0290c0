//! Some space that is kept for a disk that is full: it is given up, so that the log of the database has room while blocks are removed.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{Place, Store};

/// Name of the file inside the state folder.
const NAME: &str = "store.reserve";
/// Its bytes: more than the log of a transaction takes that removes a few blocks.
const BYTES: usize = 1 << 20;

impl Store {
    /// Keeps the space, where there is some and it is not kept yet.
    pub fn keep_reserve(&self) {
        let Place::Disk(disk) = &self.shared.place else { return };
        let path = disk.folder.join(NAME);
        let is_kept = fs::symlink_metadata(&path).is_ok_and(|it| it.is_file() && it.len() == BYTES as u64);
        if disk.lock.is_none() || is_kept {
            return;
        }
        let _ = fs::remove_file(&path);
        if let Err(error) = write(&path) {
            tracing::debug!(%error, "no space is kept for a disk that is full");
            let _ = fs::remove_file(&path);
        }
    }

    /// Whether it is kept.
    pub fn has_reserve(&self) -> bool {
        self.folder().is_some_and(|folder| folder.join(NAME).is_file())
    }

    /// Gives the space up; false where none was kept.
    pub fn give_up_reserve(&self) -> bool {
        match &self.shared.place {
            Place::Disk(disk) => disk.lock.is_some() && Self::give_up_reserve_in(&disk.folder),
            Place::Memory => false,
        }
    }

    /// Likewise in the folder of a store that cannot be opened for want of space.
    pub fn give_up_reserve_in(folder: &Path) -> bool {
        fs::remove_file(folder.join(NAME)).is_ok()
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    // No zeros: a file system that compresses would keep no space for them.
    let mut state = 1_u32;
    let bytes = (0..BYTES).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    file.write_all(&bytes.collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use crate::{store::Store, time::Timestamp};

    #[test]
    fn space_is_kept_once_and_given_up_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(super::NAME);
        let (store, _) = Store::open(home.path(), Timestamp::default()).unwrap();
        assert!(!store.give_up_reserve());
        store.keep_reserve();
        let made = std::fs::metadata(&path).unwrap();
        assert_eq!(made.len(), super::BYTES as u64);
        assert!(store.give_up_reserve() && !path.exists() && !store.give_up_reserve());
        // A link in its place leads nowhere.
        let other = home.path().join("other");
        std::fs::write(&other, "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        store.keep_reserve();
        assert_eq!(std::fs::read_to_string(other).unwrap(), "somebody's");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
        // Who only reads changes nothing.
        drop(store);
        let reader = Store::open_for_reading(home.path()).unwrap();
        assert!(!reader.give_up_reserve() && path.exists());
    }
}
