//! A manifest with the signature of its publisher.

use std::convert::Infallible;

use super::{Error, Manifest};
use crate::{
    content::Block,
    identity::{self, Context, Envelope, KeyLog, Publisher},
    limits::MANIFEST_BYTES_MAX,
    package::unixfs::{FileBuilder, FileRoot},
};

/// Bytes that the envelope adds to the payload, at most: eight signatures of about 110 bytes, and its own frame.
const ENVELOPE_BYTES_MAX: usize = 1 << 10;

/// A manifest, and the proof that its publisher signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl SignedManifest {
    /// Largest encoding.
    pub const BYTES_MAX: usize = MANIFEST_BYTES_MAX + ENVELOPE_BYTES_MAX;

    /// Signs a manifest.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and [`Error::Publisher`] where the manifest names another publisher.
    pub fn sign(manifest: Manifest, publisher: &Publisher) -> Result<Self, Error> {
        if manifest.publisher() != publisher.id() {
            return Err(Error::Publisher { stated: manifest.publisher(), signer: publisher.id() });
        }
        let bytes = publisher.seal(Context::Manifest, manifest.payload()?).encode();
        Ok(Self { manifest, bytes })
    }

    /// Decodes `bytes` and checks that the publisher of `keys` signed them, with its current keys or earlier ones.
    ///
    /// An earlier key is enough because the signed log of the package names each manifest by its hash; the caller takes
    /// the bytes from there.
    ///
    /// # Errors
    /// [`Error`]; the signature is checked before anything of the manifest is read.
    pub fn decode_and_verify(bytes: Vec<u8>, keys: &KeyLog) -> Result<Self, Error> {
        let envelope = Envelope::decode(&bytes, Self::BYTES_MAX)?;
        let document = keys.verify_any(Context::Manifest, &envelope)?;
        let manifest = Manifest::from_payload(envelope.payload())?;
        if manifest.publisher() != keys.publisher() {
            return Err(Error::Publisher { stated: manifest.publisher(), signer: keys.publisher() });
        }
        if !document.allows(&manifest.gpack().name) {
            let why = format!("the key that signed it may not sign for {}", manifest.gpack().name);
            return Err(identity::Error::signature(super::WHAT, why).into());
        }
        Ok(Self { manifest, bytes })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signed encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the manifest away.
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// The encoding as a file of the same layout as every other, so that one of any size fits into blocks: its root, whose
    /// id is the id of the signed manifest, and its blocks, children before their parents.
    ///
    /// Read it back with [`read_file`](crate::package::unixfs::read_file).
    pub fn to_blocks(&self) -> (FileRoot, Vec<Block>) {
        let mut blocks = Vec::new();
        let mut sink = |block: Block| {
            blocks.push(block);
            Ok::<_, Infallible>(())
        };
        let mut builder = FileBuilder::new();
        let root = builder.push(&self.bytes, &mut sink).and_then(|()| builder.finish(&mut sink));
        match root {
            Ok(root) => (root, blocks),
            Err(never) => match never {},
        }
    }
}
