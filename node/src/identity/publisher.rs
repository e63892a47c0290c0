//! The secret side of a publisher: what signs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Context, Envelope, KeyDocument, KeyLog, PublicKey, PublisherId, SecretKey,
    key_file::{self, Contents, Error, Flaw, Kind},
};
use crate::time::Timestamp;

/// The folder of publisher keys in the folder of keys.
pub const FOLDER_NAME: &str = "publishers";

/// One of a publisher's current secret keys, with the publisher's whole chain of key documents.
#[derive(Debug, Clone)]
pub struct Publisher {
    secret: SecretKey,
    log: KeyLog,
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
        Self { secret, log: log.expect("a genesis signed by its one key verifies") }
    }

    /// A publisher that was verified, with one of its current keys.
    ///
    /// # Errors
    /// [`Flaw::Replaced`] where the key is not among the current ones.
    pub fn new(secret: SecretKey, log: KeyLog) -> Result<Self, Flaw> {
        if log.current().keys.contains(&secret.public_key()) {
            Ok(Self { secret, log })
        } else {
            Err(Flaw::Replaced)
        }
    }

    /// The publisher after its one key was replaced by `new`.
    ///
    /// # Errors
    /// [`super::Error`] where the chain is full, or where other keys must sign too.
    pub fn rotated(&self, new: SecretKey, created: Timestamp) -> Result<Self, super::Error> {
        let document = self.log.next(vec![new.public_key()], 1, created);
        let signed = document.sign(&[&self.secret, &new])?;
        Ok(Self { secret: new, log: self.log.clone().extended(&signed)? })
    }

    /// Loads the key called `name` from the folder of keys `dir`, or makes a new publisher where there is none.
    ///
    /// # Errors
    /// [`Error`] with the exact way to mend it. What is there already is never replaced, however damaged.
    pub fn load_or_create(dir: &Path, name: &str, now: Timestamp) -> Result<Self, Error> {
        let path = path(dir, name)?;
        if key_file::is_missing(&path) {
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
        Self::from_contents(contents).map_err(|flaw| Error::Flaw { path, flaw })
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

    /// Writes the key as `name` into the folder of keys `dir`.
    ///
    /// # Errors
    /// As [`Publisher::create`].
    pub fn store(&self, dir: &Path, name: &str) -> Result<(), Error> {
        key_file::create(&path(dir, name)?, &self.contents())
    }

    /// The names of the publisher keys in the folder of keys `dir`, sorted; whether they can be loaded is not known.
    ///
    /// # Errors
    /// [`Error::Read`] where the folder is there and cannot be read.
    pub fn list(dir: &Path) -> Result<Vec<String>, Error> {
        let folder = dir.join(FOLDER_NAME);
        let read = |source| Error::Read { path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(read)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(read)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".key"));
            names.extend(name.filter(|name| key_file::check_name(name).is_ok()).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
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
        // Copying through a terminal or an editor may lose the last line's end or change the ends of all.
        let text = format!("{}\n", text.trim().replace("\r\n", "\n"));
        Contents::read(&text, Kind::Publisher)
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

    /// Signs `payload` as `context`.
    pub fn seal(&self, context: Context, payload: Vec<u8>) -> Envelope {
        Envelope::seal(context, payload, &[&self.secret])
    }

    fn contents(&self) -> Contents {
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

fn path(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    key_file::check_name(name)?;
    Ok(dir.join(FOLDER_NAME).join(format!("{name}.key")))
}

/// Makes a secret key of the system's random numbers.
pub(super) fn random() -> Result<SecretKey, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|source| Error::Entropy { source })?;
    Ok(SecretKey::from_bytes(&bytes))
}
