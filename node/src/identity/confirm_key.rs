//! Confirm keys: they say that a publisher's heads are still its newest, and sign nothing else. A server that has one confirms while
//! the publisher's own machine is off, and whoever takes it from there can release nothing.

use std::path::Path;

use super::{
    Context, Envelope, KeyLog, PublicKey, Publisher, PublisherId, RecoveryKey, SecretKey,
    key_file::{self, Contents, Error, Flaw, Kind},
    publisher::{Change, random},
};
use crate::time::Timestamp;

/// The folder of confirm keys in the folder of keys.
const FOLDER_NAME: &str = "confirming";

/// A confirm key, with the publisher's chain of key documents, of which the last names it.
#[derive(Debug, Clone)]
pub struct ConfirmKey {
    secret: SecretKey,
    log: KeyLog,
}

impl ConfirmKey {
    /// Makes one of the system's random numbers, and the publisher with one more key document, which names it.
    ///
    /// # Errors
    /// [`Error::Entropy`], and [`Error::Keys`] as [`Publisher::changed`] has.
    pub fn make(
        publisher: &Publisher,
        recovery: &[RecoveryKey],
        created: Timestamp,
    ) -> Result<(Self, Publisher), Error> {
        let secret = random()?;
        let mut confirm = publisher.key_log().current().confirm.clone();
        confirm.push(secret.public_key());
        let change = Change { confirm: Some(confirm), ..Change::default() };
        let next = publisher.amended(change, recovery, created)?;
        Ok((Self { secret, log: next.key_log().clone() }, next))
    }

    fn new(secret: SecretKey, log: KeyLog) -> Result<Self, Flaw> {
        match log.current().confirm.contains(&secret.public_key()) {
            true => Ok(Self { secret, log }),
            false => Err(Flaw::Replaced),
        }
    }

    /// The same key with a later chain of its publisher; none where that is another chain, or names the key no more.
    pub fn with(&self, log: &KeyLog) -> Option<Self> {
        let goes_on = log.agrees_with(&self.log) && log.publisher() == self.id();
        let longer = if log.current().n > self.log.current().n { log } else { &self.log };
        goes_on.then(|| Self::new(self.secret.clone(), longer.clone()).ok()).flatten()
    }

    /// The publisher that it confirms for.
    pub fn id(&self) -> PublisherId {
        self.log.publisher()
    }

    /// What a key document names.
    pub fn public_key(&self) -> PublicKey {
        self.secret.public_key()
    }

    /// The publisher's chain of key documents, as far as it is known here.
    pub fn key_log(&self) -> &KeyLog {
        &self.log
    }

    /// Signs a confirmation.
    pub fn seal(&self, payload: Vec<u8>) -> Envelope {
        Envelope::seal(Context::Confirmation, payload, &[&self.secret])
    }

    /// The key and the documents as one text, **which is secret**.
    pub fn export(&self) -> String {
        self.contents().write()
    }

    /// Reads what [`ConfirmKey::export`] gave.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn import(text: &str) -> Result<Self, Error> {
        Contents::read_copied(text, Kind::Confirm)
            .and_then(Self::from_contents)
            .map_err(|flaw| Error::Text { flaw })
    }

    /// Writes the key as `name` into the folder of keys `dir`, so that the node there confirms with it.
    ///
    /// # Errors
    /// [`Error::Exists`] where the name is taken, and whatever keeps the file from being written.
    pub fn store(&self, dir: &Path, name: &str) -> Result<(), Error> {
        key_file::check_name(name)?;
        key_file::create(&dir.join(FOLDER_NAME).join(format!("{name}.key")), &self.contents())
    }

    /// The keys of the folder of keys `dir` with their names, sorted.
    ///
    /// # Errors
    /// [`Error`] for the first that cannot be read.
    pub fn all(dir: &Path) -> Result<Vec<(String, Self)>, Error> {
        let folder = dir.join(FOLDER_NAME);
        let names = key_file::names(&folder)?;
        if folder.exists() {
            key_file::check_folder(&folder)?;
        }
        let load = |name: String| {
            let path = folder.join(format!("{name}.key"));
            let key = Self::from_contents(key_file::load(&path, Kind::Confirm)?);
            Ok((name, key.map_err(|flaw| Error::Flaw { path, flaw })?))
        };
        names.into_iter().map(load).collect()
    }

    fn contents(&self) -> Contents {
        Contents {
            kind: Kind::Confirm,
            secret: self.secret.clone(),
            documents: self.log.documents().map(<[u8]>::to_vec).collect(),
        }
    }

    fn from_contents(contents: Contents) -> Result<Self, Flaw> {
        let log = KeyLog::verify(&contents.documents).map_err(|_| Flaw::Documents)?;
        Self::new(contents.secret, log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn a_confirm_key_survives_its_file_and_follows_the_keys_of_its_publisher() {
        let publisher = Publisher::from_secret([1; 32], THEN);
        let (key, named) = ConfirmKey::make(&publisher, &[], THEN).unwrap();
        let read = ConfirmKey::import(&key.export()).unwrap();
        assert_eq!((read.id(), read.public_key()), (publisher.id(), key.public_key()));
        assert_eq!(ConfirmKey::import(&publisher.export()).unwrap_err().code(), Code::KeyFile);
        let home = tempfile::tempdir().unwrap();
        assert!(ConfirmKey::all(home.path()).unwrap().is_empty());
        key.store(home.path(), "server").unwrap();
        assert_eq!(key.store(home.path(), "server").unwrap_err().code(), Code::Conflict);
        assert!(key.store(home.path(), "../away").is_err());
        let all = ConfirmKey::all(home.path()).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].0.as_str(), all[0].1.public_key()), ("server", key.public_key()));
        // The publisher's key is replaced: the confirm key stays, and goes on under the new chain.
        let later = named.rotated(SecretKey::from_bytes(&[2; 32]), THEN).unwrap();
        assert_eq!(key.with(later.key_log()).unwrap().key_log(), later.key_log());
        assert_eq!(key.with(publisher.key_log()).unwrap().key_log(), named.key_log(), "never back");
        let without = Change { confirm: Some(Vec::new()), ..Change::default() };
        let without = named.changed(without, &[], THEN).unwrap();
        assert!(key.with(without.key_log()).is_none(), "it is named no more");
        assert!(key.with(Publisher::from_secret([3; 32], THEN).key_log()).is_none());
    }
}
