//! The key documents of the publishers whose keys are, or were, in a state folder: without its key file, a publisher that has recovery
//! keys still needs them to name its next key.
//!
//! ```text
//! ggen-key-documents 1
//! document: <hexadecimal>
//! sha256: <of everything above>
//! ```
//!
//! They are public, and lie beside the folder of keys, one file a publisher, because that folder may be lost as a whole. They are
//! written before the key file: nothing is ever signed under a document that is not among them.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    KeyLog, PublisherId, hex,
    key_file::{self, Error, Flaw},
};
use crate::limits::{KEY_DOCUMENTS_MAX, KEY_FILE_BYTES_MAX};

/// The folder in the state folder.
pub const FOLDER_NAME: &str = "publisher-documents";
const MAGIC: &str = "ggen-key-documents 1\n";

/// Keeps the documents of a publisher of the folder of keys `dir`.
///
/// # Errors
/// Whatever keeps the file from being written.
pub(super) fn keep(dir: &Path, log: &KeyLog) -> Result<(), Error> {
    let path = path(dir, &log.publisher());
    let text = write(log);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(dir);
    let written = || {
        fs::create_dir_all(folder)?;
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        beside.write_all(text.as_bytes())?;
        beside.as_file().sync_all()?;
        beside.persist(&path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    written().map_err(|source| Error::Write { path: path.clone(), source })
}

/// Keeps the documents that a store has of a publisher whose key is not in the folder of keys `dir`, where they go on from those that
/// are kept, or none are.
///
/// # Errors
/// Whatever keeps the file from being written.
pub fn keep_of_lost(dir: &Path, log: &KeyLog) -> Result<(), Error> {
    match kept(dir, &log.publisher()) {
        Ok(Some(there)) if !there.agrees_with(log) || there.current().n >= log.current().n => Ok(()),
        _ => keep(dir, log),
    }
}

/// The documents that are kept of a publisher of the folder of keys `dir`; none where there are none.
///
/// # Errors
/// Where the file cannot be read, or is damaged.
pub fn kept(dir: &Path, publisher: &PublisherId) -> Result<Option<KeyLog>, Error> {
    let path = path(dir, publisher);
    let mut text = String::new();
    let bytes_max = KEY_FILE_BYTES_MAX as u64 + 1;
    match fs::File::open(&path).and_then(|file| file.take(bytes_max).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path, source }),
        Ok(_) => {}
    }
    let log = read(&text).and_then(|log| match log.publisher() == *publisher {
        true => Ok(log),
        false => Err(Flaw::Documents),
    });
    log.map(Some).map_err(|flaw| Error::Flaw { path, flaw })
}

/// All documents that are kept beside the folder of keys `dir`; files that cannot be read are passed over.
///
/// # Errors
/// Where the folder is there and cannot be read.
pub fn all(dir: &Path) -> Result<Vec<KeyLog>, Error> {
    let folder = dir.with_file_name(FOLDER_NAME);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::Read { path: folder.clone(), source })?,
    };
    let publishers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(publishers.filter_map(|publisher| kept(dir, &publisher).ok().flatten()).collect())
}

/// Whether recovery keys are known of a publisher of the folder of keys `dir`.
pub fn has_recovery(dir: &Path, publisher: &PublisherId) -> bool {
    let kept = kept(dir, publisher).ok().flatten();
    kept.is_some_and(|log| !log.current().recovery.is_empty())
}

fn path(dir: &Path, publisher: &PublisherId) -> PathBuf {
    dir.with_file_name(FOLDER_NAME).join(publisher.to_string())
}

fn write(log: &KeyLog) -> String {
    let lines = log.documents().map(|document| format!("document: {}\n", hex::encode(document)));
    key_file::with_sum(format!("{MAGIC}{}", lines.collect::<String>()))
}

fn read(text: &str) -> Result<KeyLog, Flaw> {
    if text.len() > KEY_FILE_BYTES_MAX {
        return Err(Flaw::TooLarge);
    }
    let lines = key_file::above_sum(text)?.strip_prefix(MAGIC).ok_or(Flaw::NotAKey)?;
    let document = |line: &str| line.strip_prefix("document: ").and_then(hex::decode).ok_or(Flaw::Damaged);
    let documents: Vec<Vec<u8>> =
        lines.lines().take(KEY_DOCUMENTS_MAX + 1).map(document).collect::<Result<_, _>>()?;
    KeyLog::verify(&documents).map_err(|_| Flaw::Documents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Publisher, SecretKey},
        time::Timestamp,
    };

    const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn the_documents_outlive_the_folder_of_keys_and_are_never_behind_the_key_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("keys");
        let first = Publisher::create(&dir, "me", THEN).unwrap();
        let second = first.rotated(SecretKey::from_bytes(&[2; 32]), THEN).unwrap();
        let of = || kept(&dir, &first.id()).unwrap().unwrap();
        assert_eq!(&of(), first.key_log());
        second.replace(&dir, "me").unwrap();
        assert_eq!(&of(), second.key_log());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(&of(), second.key_log());
        assert_eq!(Publisher::lost(&dir).unwrap().len(), 1, "what is kept is no key");
        // What a store has is taken only where it goes on from there.
        keep_of_lost(&dir, first.key_log()).unwrap();
        assert_eq!(&of(), second.key_log());
        let fork = first.rotated(SecretKey::from_bytes(&[3; 32]), THEN).unwrap();
        keep_of_lost(&dir, fork.rotated(SecretKey::from_bytes(&[4; 32]), THEN).unwrap().key_log()).unwrap();
        assert_eq!(&of(), second.key_log());
        let third = second.rotated(SecretKey::from_bytes(&[5; 32]), THEN).unwrap();
        keep_of_lost(&dir, third.key_log()).unwrap();
        assert_eq!(&of(), third.key_log());
        assert_eq!(all(&dir).unwrap(), [third.key_log().clone()]);
    }

    #[test]
    fn a_file_that_was_cut_off_or_is_of_another_publisher_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("keys");
        let first = Publisher::create(&dir, "me", THEN).unwrap();
        let other = Publisher::create(&dir, "other", THEN).unwrap();
        let file = path(&dir, &first.id());
        let whole = fs::read_to_string(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert!(kept(&dir, &first.id()).is_err(), "{cut}");
        }
        fs::copy(path(&dir, &other.id()), &file).unwrap();
        assert!(kept(&dir, &first.id()).is_err());
        assert!(!has_recovery(&dir, &first.id()));
    }
}
