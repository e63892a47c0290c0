//! The key behind a node's peer id.

use std::path::Path;

use libp2p::identity::Keypair;

use super::{
    SecretKey,
    key_file::{self, Contents, Error, Kind},
};

/// The name of the file in the folder of keys.
pub const FILE_NAME: &str = "node.key";

/// Loads the node's Ed25519 key, or makes it where there is nothing at `path`.
///
/// # Errors
/// [`Error`] with the exact way to mend it. What is there already is never replaced, however damaged.
pub fn load_or_create(path: &Path) -> Result<Keypair, Error> {
    if key_file::is_missing(path) {
        let contents =
            Contents { kind: Kind::Node, secret: super::publisher::random()?, documents: Vec::new() };
        match key_file::create(path, &contents) {
            // Somebody else was faster: theirs is the key.
            Err(Error::Exists { .. }) => {}
            made => return made.map(|()| keypair(&contents.secret)),
        }
    }
    load(path)
}

/// Loads the node's key.
///
/// # Errors
/// As [`load_or_create`], and [`Error::Missing`].
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
