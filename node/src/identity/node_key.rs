//! The key behind a node's peer id.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use libp2p::{PeerId, identity::Keypair};

use super::{
    SecretKey,
    key_file::{self, Contents, Error, Kind},
};

/// The name of the file in the folder of keys.
pub const FILE_NAME: &str = "node.key";

/// The name of the file in the state folder that says whose folder it is, so that a key that was lost is missed.
pub const OWNER_FILE_NAME: &str = "peer-id";

/// Bytes of the owner's file that are shown.
const OWNER_BYTES_MAX: usize = 128;

/// Loads the node's Ed25519 key, or makes it where there is nothing at `path`, and notes in the file `owner` whose it is.
///
/// # Errors
/// [`Error`] with the exact way to mend it. What is there already is never replaced, however damaged; a key that is gone
/// while `owner` says that there was one is [`Error::Lost`].
pub fn load_or_create(path: &Path, owner: &Path) -> Result<Keypair, Error> {
    let key = match load_of(path, owner) {
        Err(Error::Missing { .. }) => match create(path) {
            // Somebody else was faster: theirs is the key.
            Err(Error::Exists { .. }) => load(path),
            made => made,
        },
        loaded => loaded,
    }?;
    let peer = key.public().to_peer_id();
    match known(owner)? {
        Some(known) if known == peer.to_string() => {}
        known => {
            if let Some(before) = known {
                tracing::warn!(%before, now = %peer, "the node has another key than it had");
            }
            note(owner, &peer)?;
        }
    }
    Ok(key)
}

/// Loads the node's key.
///
/// # Errors
/// [`Error`] with the exact way to mend it: [`Error::Missing`] where there never was one as far as `owner` says, and
/// otherwise [`Error::Lost`].
pub fn load_of(path: &Path, owner: &Path) -> Result<Keypair, Error> {
    match load(path) {
        Err(Error::Missing { path }) => Err(match known(owner)? {
            Some(peer) => {
                let identity = format!("peer {peer}");
                Error::Lost { path, kind: Kind::Node, identity, has_recovery: false }
            }
            None => Error::Missing { path },
        }),
        loaded => loaded,
    }
}

/// Makes the node's key.
///
/// # Errors
/// [`Error::Exists`] where one is there, and whatever keeps the file from being written.
pub fn create(path: &Path) -> Result<Keypair, Error> {
    let contents = Contents { kind: Kind::Node, secret: super::publisher::random()?, documents: Vec::new() };
    key_file::create(path, &contents)?;
    Ok(keypair(&contents.secret))
}

/// Makes a new key for the node in place of the one at `path`, which is kept beside it under the name that is given back.
///
/// # Errors
/// [`Error::Missing`] where there is none, [`Error::Exists`] where the same key was put aside before, and whatever keeps the files
/// from being written.
pub fn replace(path: &Path, owner: &Path) -> Result<(Keypair, PathBuf), Error> {
    let before = load(path)?.public().to_peer_id();
    let kept = path.with_extension(format!("key.{before}"));
    if !key_file::is_missing(&kept) {
        return Err(Error::Exists { path: kept });
    }
    fs::rename(path, &kept).map_err(|source| Error::Write { path: kept.clone(), source })?;
    let key = create(path)?;
    note(owner, &key.public().to_peer_id())?;
    Ok((key, kept))
}

/// Who the state folder belongs to, as far as that was noted.
fn known(owner: &Path) -> Result<Option<String>, Error> {
    match fs::read(owner) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(OWNER_BYTES_MAX)]);
            Ok(Some(text.trim().to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: owner.to_owned(), source }),
    }
}

/// The file is whole or not there, and is there only once the key is.
fn note(owner: &Path, peer: &PeerId) -> Result<(), Error> {
    let folder = owner.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{peer}")?;
        file.as_file().sync_all()?;
        file.persist(owner).map(drop).map_err(|error| error.error)
    };
    written().map_err(|source| Error::Write { path: owner.to_owned(), source })
}

/// Loads the node's key.
///
/// # Errors
/// [`Error`] with the exact way to mend it.
pub fn load(path: &Path) -> Result<Keypair, Error> {
    let contents = key_file::load(path, Kind::Node)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        key_file::check_folder(folder)?;
    }
    Ok(keypair(&contents.secret))
}

fn keypair(secret: &SecretKey) -> Keypair {
    Keypair::ed25519_from_bytes(*secret.as_bytes()).expect("any 32 bytes are a secret key")
}
