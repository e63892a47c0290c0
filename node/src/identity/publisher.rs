//! The secret side of a publisher: what signs.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    Context, Envelope, KeyDocument, KeyLog, PublicKey, PublisherId, RecoveryKey, SecretKey, documents,
    key_file::{self, Contents, Error, Flaw, Kind},
};
use crate::{
    limits::{KEY_CHAIN_BYTES_MAX, KEY_REVOCATIONS_RESERVED},
    time::Timestamp,
};

/// Bytes by which a key document grows that revokes a key.
const REVOKED_BYTES: usize = 64;
/// The folder of publisher keys in the folder of keys.
pub const FOLDER_NAME: &str = "publishers";
/// The ending of the empty file beside a key that was made elsewhere.
const ADOPTED: &str = "adopted";
/// The ending of the empty file beside a key that was given to another machine.
const SHARED: &str = "shared";
/// The file in the state folder that says which publishers' keys were in the folder of keys, so that a lost one is missed.
pub const OWNERS_FILE_NAME: &str = "publisher-ids";
/// What its lines of keys end in that are gone and not missed.
const FORGOTTEN: &str = " forgotten";
/// What a key is called there whose name is not known.
const UNNAMED: &str = "default";
/// Bytes of that file that are read: some thousand names.
const OWNERS_BYTES_MAX: u64 = 256 << 10;

/// One of a publisher's current secret keys, with the publisher's whole chain of key documents.
#[derive(Debug, Clone)]
pub struct Publisher {
    secret: SecretKey,
    log: KeyLog,
    is_adopted: bool,
    is_shared: bool,
}

/// What a new key document changes; what is not given stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The key that takes the place of the publisher's own.
    pub secret: Option<SecretKey>,
    /// The recovery keys, and how many of them must sign; empty where the release keys rotate themselves from then on.
    pub recovery: Option<(Vec<PublicKey>, u32)>,
    /// The keys that may sign confirmations alone.
    pub confirm: Option<Vec<PublicKey>>,
    /// Keys that never count again.
    pub revoked: Vec<PublicKey>,
}

impl Publisher {
    /// The publisher with this one key, made at `created`: the same bytes and time always give the same publisher.
    ///
    /// For simulations and tests, which draw the bytes themselves.
    pub fn from_secret(secret: [u8; 32], created: Timestamp) -> Self {
        Self::founded(SecretKey::from_bytes(&secret), created)
    }

    fn founded(secret: SecretKey, created: Timestamp) -> Self {
        let signed = KeyDocument::genesis(secret.public_key(), created).sign(&[&secret]);
        let log = KeyLog::verify(&[signed.expect("a genesis of one key is within limits")]);
        Self {
            secret,
            log: log.expect("a genesis signed by its one key verifies"),
            is_adopted: false,
            is_shared: false,
        }
    }

    /// A publisher that was verified, with one of its current keys.
    ///
    /// # Errors
    /// [`Flaw::Replaced`] where the key is not among the current ones.
    pub fn new(secret: SecretKey, log: KeyLog) -> Result<Self, Flaw> {
        if log.current().keys.contains(&secret.public_key()) {
            Ok(Self { secret, log, is_adopted: false, is_shared: false })
        } else {
            Err(Flaw::Replaced)
        }
    }

    /// The publisher after its one key was replaced by `new`.
    ///
    /// # Errors
    /// As [`Publisher::changed`].
    pub fn rotated(&self, new: SecretKey, created: Timestamp) -> Result<Self, super::Error> {
        self.changed(Change { secret: Some(new), ..Change::default() }, &[], created)
    }

    /// The publisher after one more key document, which `recovery` signs where the current one names recovery keys.
    ///
    /// # Errors
    /// [`super::Error`] where the chain is full, so that no head could hold it, or where other keys must sign too. Nothing is
    /// changed then. Room for [`KEY_REVOCATIONS_RESERVED`] documents like this one is left for those that revoke a key.
    pub fn changed(
        &self,
        change: Change,
        recovery: &[SecretKey],
        created: Timestamp,
    ) -> Result<Self, super::Error> {
        let current = self.log.current();
        let secret = change.secret.clone().unwrap_or_else(|| self.secret.clone());
        let mut keys: Vec<PublicKey> =
            current.keys.iter().copied().filter(|key| *key != self.public_key()).collect();
        keys.push(secret.public_key());
        keys.retain(|key| !change.revoked.contains(key));
        let document = self.log.next(keys, current.threshold, created);
        let signers: Vec<&SecretKey> = match current.recovery.is_empty() {
            true => vec![&self.secret, &secret],
            false => recovery.iter().chain([&secret]).collect(),
        };
        let log = extended(&self.log, document, change, &signers)?;
        Ok(Self { secret, log, is_adopted: self.is_adopted, is_shared: self.is_shared })
    }

    /// How many more key documents such as the newest one fit into the chain, beside the room that is left for those that revoke a key.
    pub fn further_documents(&self) -> usize {
        let newest = self.log.documents().last().map_or(0, <[u8]>::len);
        let taken = self.log.documents().map(<[u8]>::len).sum::<usize>() + reserved(newest);
        KEY_CHAIN_BYTES_MAX.saturating_sub(taken).checked_div(newest).unwrap_or_default()
    }

    /// The publisher of a chain of which no key is at hand, after one more key document that its recovery keys sign: a key of the
    /// system's random numbers takes the place of all keys of the current one.
    ///
    /// # Errors
    /// [`Error::Entropy`], and [`Error::Keys`] as [`Publisher::changed`] has.
    pub fn recovered(
        log: &KeyLog,
        change: Change,
        recovery: &[RecoveryKey],
        created: Timestamp,
    ) -> Result<Self, Error> {
        let secret = random()?;
        let document = log.next(vec![secret.public_key()], 1, created);
        let signers: Vec<&SecretKey> = recovery.iter().map(RecoveryKey::secret).chain([&secret]).collect();
        let log = extended(log, document, change, &signers)?;
        Ok(Self { secret, log, is_adopted: false, is_shared: false })
    }

    /// Loads the key called `name` from the folder of keys `dir`, or makes a new publisher where there is none.
    ///
    /// # Errors
    /// [`Error`] with the exact way to mend it. What is there already is never replaced, however damaged.
    pub fn load_or_create(dir: &Path, name: &str, now: Timestamp) -> Result<Self, Error> {
        let path = path(dir, name)?;
        if key_file::is_missing(&path) {
            let lost = Self::lost(dir)?.into_iter().find(|lost| lost.name == name);
            // A key is written before it is noted: one that another thread has just made is there by now.
            if let Some(lost) = lost.filter(|_| key_file::is_missing(&path)) {
                return Err(lost.error(dir));
            }
            match Self::create(dir, name, now) {
                // Somebody else was faster: theirs is the key.
                Err(Error::Exists { .. }) => {}
                made => return made,
            }
        }
        Self::load(dir, name)
    }

    /// Loads the key called `name` from the folder of keys `dir`.
    ///
    /// # Errors
    /// [`Error`] with the exact way to mend it.
    pub fn load(dir: &Path, name: &str) -> Result<Self, Error> {
        let path = path(dir, name)?;
        let contents = key_file::load(&path, Kind::Publisher)?;
        key_file::check_folder(&dir.join(FOLDER_NAME))?;
        let is_adopted = path.with_extension(ADOPTED).exists();
        let is_shared = path.with_extension(SHARED).exists();
        let loaded = Self::from_contents(contents).map_err(|flaw| Error::Flaw { path, flaw })?;
        Ok(Self { is_adopted, is_shared, ..loaded })
    }

    /// Makes a new publisher and writes its key as `name` into the folder of keys `dir`.
    ///
    /// # Errors
    /// [`Error::Exists`] where the name is taken, and whatever keeps the file from being written.
    pub fn create(dir: &Path, name: &str, now: Timestamp) -> Result<Self, Error> {
        let publisher = Self::founded(random()?, now);
        publisher.store(dir, name)?;
        Ok(publisher)
    }

    /// A new publisher whose first document names recovery keys, of which `threshold` must sign the next one: a release key that is
    /// stolen can replace none.
    ///
    /// # Errors
    /// [`Error::Entropy`], and [`Error::Keys`] where the document breaks its rules.
    pub fn random_with_recovery(
        mut recovery: Vec<PublicKey>,
        threshold: u32,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let secret = random()?;
        recovery.sort_unstable();
        let genesis = KeyDocument {
            recovery,
            recovery_threshold: threshold,
            ..KeyDocument::genesis(secret.public_key(), now)
        };
        let log = KeyLog::verify(&[genesis.sign(&[&secret])?])?;
        Ok(Self { secret, log, is_adopted: false, is_shared: false })
    }

    /// Makes sure that no key is called `name` in the folder of keys `dir`.
    ///
    /// # Errors
    /// [`Error::Exists`] where the name is taken.
    pub fn is_free(dir: &Path, name: &str) -> Result<(), Error> {
        let path = path(dir, name)?;
        match key_file::is_missing(&path) {
            true => Ok(()),
            false => Err(Error::Exists { path }),
        }
    }

    /// Writes the key as `name` into the folder of keys `dir`.
    ///
    /// # Errors
    /// As [`Publisher::create`].
    pub fn store(&self, dir: &Path, name: &str) -> Result<(), Error> {
        Self::is_free(dir, name)?;
        documents::keep(dir, &self.log)?;
        key_file::create(&path(dir, name)?, &self.contents())?;
        self.note(dir, name)
    }

    /// Writes the key, which follows the one that is called `name` in the folder of keys `dir`, in the place of that one.
    ///
    /// # Errors
    /// [`Flaw::Replaced`] where the one that is there is not what this one followed, and whatever keeps the file from being
    /// written; what is there then stays.
    pub fn replace(&self, dir: &Path, name: &str) -> Result<(), Error> {
        let there = Self::load(dir, name)?;
        let path = path(dir, name)?;
        let (old, new) = (there.key_log(), self.key_log());
        if !old.agrees_with(new) || old.current().n > new.current().n || there.id() != self.id() {
            return Err(Error::Flaw { path, flaw: Flaw::Replaced });
        }
        documents::keep(dir, &self.log)?;
        key_file::replace(&path, &self.contents())?;
        self.note(dir, name)
    }

    /// Keeps the key documents of the key beside the folder of keys `dir`, where it lies: see [`documents`].
    ///
    /// # Errors
    /// Whatever keeps the file from being written.
    pub fn keep_documents(&self, dir: &Path) -> Result<(), Error> {
        documents::keep(dir, &self.log)
    }

    /// Notes that the key called `name` in the folder of keys `dir` is this publisher's.
    fn note(&self, dir: &Path, name: &str) -> Result<(), Error> {
        let file = owners_file(dir);
        let mut owners = owners(&file)?;
        let id = self.id().to_string();
        let owner = Owner { name: name.to_owned(), id, is_forgotten: false };
        if owners.contains(&owner) {
            return Ok(());
        }
        // One whose name another key has now is still missed, unless it is here under another name.
        owners.retain(|it| it.id != owner.id);
        owners.push(owner);
        write_owners(&file, owners)
    }

    /// Notes that a key which is gone from the folder of keys `dir` is not missed any more. It is missed again once it was back.
    ///
    /// # Errors
    /// Whatever keeps the note from being read or written.
    pub fn forget(dir: &Path, publisher: &PublisherId) -> Result<(), Error> {
        let file = owners_file(dir);
        let mut owners = owners(&file)?;
        let id = publisher.to_string();
        let known = owners.iter().find(|owner| owner.id == id).map(|owner| owner.name.clone());
        owners.retain(|owner| owner.id != id);
        // What it was called is not known where it was lost with the note of it.
        owners.push(Owner { name: known.unwrap_or_else(|| UNNAMED.to_owned()), id, is_forgotten: true });
        write_owners(&file, owners)
    }

    /// The publishers whose keys are gone from the folder of keys `dir` and not missed any more.
    ///
    /// # Errors
    /// [`Error::Read`] where it cannot be told.
    pub fn forgotten(dir: &Path) -> Result<BTreeSet<PublisherId>, Error> {
        let owners = owners(&owners_file(dir))?;
        Ok(owners.iter().filter(|it| it.is_forgotten).filter_map(|it| it.id.parse().ok()).collect())
    }

    /// The publishers whose keys are in the folder of keys `dir` and cannot be used as they are, such as a file that others may read:
    /// they are not lost.
    ///
    /// # Errors
    /// [`Error::Read`] where it cannot be told.
    pub fn unusable(dir: &Path) -> Result<BTreeSet<PublisherId>, Error> {
        let owners = owners(&owners_file(dir))?;
        let names = Self::list(dir)?.into_iter().filter(|name| Self::load(dir, name).is_err());
        let names: BTreeSet<String> = names.collect();
        let unusable = owners.iter().filter(|owner| names.contains(&owner.name));
        Ok(unusable.filter_map(|owner| owner.id.parse().ok()).collect())
    }

    /// The keys that were in the folder of keys `dir` and are gone.
    ///
    /// # Errors
    /// [`Error::Read`] where it cannot be told.
    pub fn lost(dir: &Path) -> Result<Vec<Lost>, Error> {
        let mut owners = owners(&owners_file(dir))?;
        let mut here = BTreeSet::new();
        let mut unread = BTreeSet::new();
        for name in Self::list(dir)? {
            match Self::load(dir, &name) {
                Ok(publisher) => drop(here.insert(publisher.id().to_string())),
                // What is wrong with it is told where it is loaded.
                Err(_) => drop(unread.insert(name)),
            }
        }
        owners.retain(|owner| {
            let is_gone = path(dir, &owner.name).is_ok_and(|path| key_file::is_missing(&path));
            let is_missed = !owner.is_forgotten && !here.contains(&owner.id);
            is_missed && !unread.contains(&owner.name) && (is_gone || !here.is_empty())
        });
        Ok(owners.into_iter().map(|owner| Lost { name: owner.name, id: owner.id }).collect())
    }

    /// As [`Publisher::store`], for a key that was made elsewhere: what was published with it there is not known here.
    ///
    /// # Errors
    /// As [`Publisher::create`].
    pub fn adopt(&self, dir: &Path, name: &str) -> Result<(), Error> {
        let path = path(dir, name)?;
        if !key_file::is_missing(&path) {
            return Err(Error::Exists { path });
        }
        // The mark first: a key without it would be taken for one that published nothing elsewhere.
        mark_adopted(dir, &path)?;
        self.store(dir, name)
    }

    /// The same, of which is said that its key was made elsewhere, as [`Publisher::adopt`] does of a file.
    #[must_use]
    pub fn adopted(self) -> Self {
        Self { is_adopted: true, ..self }
    }

    /// Notes that the key `name` of the folder of keys `dir` was given to another machine, which may publish with it too.
    ///
    /// # Errors
    /// Whatever keeps the mark from being written.
    pub fn share(dir: &Path, name: &str) -> Result<(), Error> {
        let mark = path(dir, name)?.with_extension(SHARED);
        fs::write(&mark, "").map_err(|source| Error::Write { path: mark.clone(), source })
    }

    /// Whether another machine may publish with the key: it was made there, or given there.
    pub fn is_elsewhere(&self) -> bool {
        self.is_adopted || self.is_shared
    }

    /// Whether the key was made elsewhere, so that its packages may have logs which are not here.
    pub fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// The names of the publisher keys in the folder of keys `dir`, sorted; whether they can be loaded is not known.
    ///
    /// # Errors
    /// [`Error::Read`] where the folder is there and cannot be read.
    pub fn list(dir: &Path) -> Result<Vec<String>, Error> {
        key_file::names(&dir.join(FOLDER_NAME))
    }

    /// The key and its documents as one text, **which is secret**.
    pub fn export(&self) -> String {
        self.contents().write()
    }

    /// Reads what [`Publisher::export`] gave.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn import(text: &str) -> Result<Self, Error> {
        Contents::read_copied(text, Kind::Publisher)
            .and_then(Self::from_contents)
            .map_err(|flaw| Error::Text { flaw })
    }

    /// The name of the publisher.
    pub fn id(&self) -> PublisherId {
        self.log.publisher()
    }

    /// The public key that goes with the secret.
    pub fn public_key(&self) -> PublicKey {
        self.secret.public_key()
    }

    /// The publisher's chain of key documents.
    pub fn key_log(&self) -> &KeyLog {
        &self.log
    }

    /// The publisher after its key was replaced by one of the system's random numbers, as `change` says for the rest.
    ///
    /// # Errors
    /// [`Error::Entropy`], and [`Error::Keys`] as [`Publisher::changed`] has.
    pub fn rotated_at_random(
        &self,
        change: Change,
        recovery: &[RecoveryKey],
        created: Timestamp,
    ) -> Result<Self, Error> {
        let change = Change { secret: Some(random()?), ..change };
        let recovery: Vec<SecretKey> = recovery.iter().map(|key| key.secret().clone()).collect();
        Ok(self.changed(change, &recovery, created)?)
    }

    /// The publisher with the same key after one more key document.
    ///
    /// # Errors
    /// [`Error::Keys`] as [`Publisher::changed`] has.
    pub fn amended(
        &self,
        change: Change,
        recovery: &[RecoveryKey],
        created: Timestamp,
    ) -> Result<Self, Error> {
        let recovery: Vec<SecretKey> = recovery.iter().map(|key| key.secret().clone()).collect();
        Ok(self.changed(change, &recovery, created)?)
    }

    /// Signs `payload` as `context`.
    pub fn seal(&self, context: Context, payload: Vec<u8>) -> Envelope {
        Envelope::seal(context, payload, &[&self.secret])
    }

    pub(super) fn contents(&self) -> Contents {
        Contents {
            kind: Kind::Publisher,
            secret: self.secret.clone(),
            documents: self.log.documents().map(<[u8]>::to_vec).collect(),
        }
    }

    fn from_contents(contents: Contents) -> Result<Self, Flaw> {
        let log = KeyLog::verify(&contents.documents).map_err(|_| Flaw::Documents)?;
        Self::new(contents.secret, log)
    }
}

/// A key that is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// What it was called.
    pub name: String,
    /// Whose it was.
    pub id: String,
}

impl Lost {
    /// What its key is called if it comes back: another key may have its name by now.
    pub fn free_name(&self, dir: &Path) -> String {
        free_name(dir, &self.name)
    }

    /// Whether another key has its name by now.
    pub fn is_name_taken(&self, dir: &Path) -> bool {
        self.free_name(dir) != self.name
    }

    /// What is said of it, without what to do.
    pub fn message(&self, dir: &Path) -> String {
        match self.is_name_taken(dir) {
            true => self.error(dir).to_string(),
            false => format!("the publisher key {} is lost: {}", self.name, self.error(dir)),
        }
    }

    /// The same as an error, with the way to mend it.
    pub fn error(&self, dir: &Path) -> Error {
        let has_recovery = self.id.parse().is_ok_and(|id| documents::has_recovery(dir, &id));
        let free = self.free_name(dir);
        if free != self.name {
            return Error::LostBeside { name: self.name.clone(), free, id: self.id.clone(), has_recovery };
        }
        let path = dir.join(FOLDER_NAME).join(format!("{free}.key"));
        let identity = format!("publisher {}", self.id);
        Error::Lost { path, kind: Kind::Publisher, identity, has_recovery }
    }
}

/// This name, or the first like it that no key of the folder of keys `dir` has.
pub fn free_name(dir: &Path, name: &str) -> String {
    let is_free = |name: &String| key_file::is_missing(&dir.join(FOLDER_NAME).join(format!("{name}.key")));
    let others = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(others).find(is_free).unwrap_or_default()
}

/// The room that is kept for documents which revoke a key, where one that does not has so many bytes.
fn reserved(bytes: usize) -> usize {
    KEY_REVOCATIONS_RESERVED * (bytes + REVOKED_BYTES)
}

/// The chain after one more document, with what changes besides its keys.
fn extended(
    log: &KeyLog,
    mut document: KeyDocument,
    change: Change,
    signers: &[&SecretKey],
) -> Result<KeyLog, super::Error> {
    if let Some((keys, threshold)) = change.recovery {
        (document.recovery, document.recovery_threshold) = (keys, threshold);
    }
    document.confirm = change.confirm.unwrap_or(document.confirm);
    document.revoked = change.revoked;
    for keys in [&mut document.recovery, &mut document.confirm, &mut document.revoked] {
        keys.sort_unstable();
    }
    let signed = document.sign(signers)?;
    let is_revocation = !document.revoked.is_empty();
    let needed = log.documents().map(<[u8]>::len).sum::<usize>()
        + signed.len()
        + if is_revocation { 0 } else { reserved(signed.len()) };
    if needed > KEY_CHAIN_BYTES_MAX {
        return Err(super::Error::ChainFull { is_revocation });
    }
    log.clone().extended(&signed)
}

/// Whether recovery keys are known of the publisher whose key was written to this file, as `name`.
pub(super) fn has_recovery(file: &Path, name: &str) -> bool {
    let Some(dir) = file.parent().and_then(Path::parent) else { return false };
    let owners = owners(&owners_file(dir)).unwrap_or_default();
    let mut ids = owners.iter().filter(|owner| owner.name == name).filter_map(|owner| owner.id.parse().ok());
    ids.any(|id| documents::has_recovery(dir, &id))
}

/// Beside the folder of keys: that one may be lost as a whole.
fn owners_file(dir: &Path) -> PathBuf {
    dir.with_file_name(OWNERS_FILE_NAME)
}

fn write_owners(file: &Path, mut owners: Vec<Owner>) -> Result<(), Error> {
    owners.sort();
    let line = |owner: &Owner| {
        let mark = if owner.is_forgotten { FORGOTTEN } else { "" };
        format!("{} {}{mark}\n", owner.name, owner.id)
    };
    let lines: Vec<String> = owners.iter().map(line).collect();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || {
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        beside.write_all(lines.concat().as_bytes())?;
        beside.as_file().sync_all()?;
        beside.persist(file).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    written().map_err(|source| Error::Write { path: file.to_owned(), source })
}

/// Whose key was written to the folder of keys.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    name: String,
    id: String,
    /// Whether it is gone, and its owner does not miss it.
    is_forgotten: bool,
}

fn owners(file: &Path) -> Result<Vec<Owner>, Error> {
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|it| it.take(OWNERS_BYTES_MAX).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path: file.to_owned(), source }),
        Ok(_) => {}
    }
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let id = rest.strip_suffix(FORGOTTEN).unwrap_or(rest);
        let is_one = key_file::check_name(name).is_ok() && id.parse::<PublisherId>().is_ok();
        is_one.then(|| Owner { name: name.to_owned(), id: id.to_owned(), is_forgotten: id != rest })
    };
    Ok(text.lines().filter_map(line).collect())
}

pub(super) fn path(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    key_file::check_name(name)?;
    Ok(dir.join(FOLDER_NAME).join(format!("{name}.key")))
}

/// Makes a secret key of the system's random numbers.
pub(super) fn random() -> Result<SecretKey, Error> {
    let mut bytes = [0; 32];
    #[expect(clippy::disallowed_methods, reason = "a key is made here, from the system's entropy")]
    getrandom::fill(&mut bytes).map_err(|source| Error::Entropy { source })?;
    Ok(SecretKey::from_bytes(&bytes))
}

/// Notes beside a key file that its key was made elsewhere.
pub(super) fn mark_adopted(dir: &Path, file: &Path) -> Result<(), Error> {
    let mark = file.with_extension(ADOPTED);
    let folder = mark.parent().unwrap_or(dir);
    fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
    fs::write(&mark, "").map_err(|source| Error::Write { path: mark, source })
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
