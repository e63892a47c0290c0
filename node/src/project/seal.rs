//! What shows that a journal was written with this state folder.
//!
//! A project comes from others: a clone, an archive, a package. A journal that came along with it would have this program move
//! and remove what its user wrote. So each journal is sealed with a secret that never leaves the state folder.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::identity::hex;

/// The secret of a state folder that seals its journals.
#[derive(Clone)]
pub struct Seal([u8; Seal::BYTES]);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Bytes of the secret.
    pub const BYTES: usize = 32;

    /// The seal with this secret, which is random.
    pub const fn from_bytes(secret: [u8; Self::BYTES]) -> Self {
        Self(secret)
    }

    /// What stands beside `text` to show who wrote it: HMAC-SHA-256, as digits.
    pub(super) fn of(&self, text: &[u8]) -> String {
        hex::encode(&self.mac(text).finalize().into_bytes())
    }

    /// Whether a seal that was found is the one of `text`.
    pub(super) fn is_on(&self, text: &[u8], found: &str) -> bool {
        hex::decode(found).is_some_and(|found| self.mac(text).verify_slice(&found).is_ok())
    }

    fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        mac.expect("a secret may have any length").chain_update(text)
    }
}
