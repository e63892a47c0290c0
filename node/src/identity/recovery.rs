//! Recovery keys: they name a publisher's next keys, sign nothing else, and are kept away from the machine that publishes.

use super::{
    PublicKey, SecretKey,
    key_file::{Contents, Error, Kind},
    publisher::random,
};

/// A recovery key.
#[derive(Debug, Clone)]
pub struct RecoveryKey(SecretKey);

impl RecoveryKey {
    /// Makes one of the system's random numbers.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn random() -> Result<Self, Error> {
        random().map(Self)
    }

    /// The one with these bytes, for simulations and tests.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(SecretKey::from_bytes(&secret))
    }

    /// What a key document names.
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// The key as text, **which is secret**.
    pub fn export(&self) -> String {
        Contents { kind: Kind::Recovery, secret: self.0.clone(), documents: Vec::new() }.write()
    }

    /// Reads what [`RecoveryKey::export`] gave.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn import(text: &str) -> Result<Self, Error> {
        let text = format!("{}\n", text.trim().replace("\r\n", "\n"));
        let read = Contents::read(&text, Kind::Recovery).map_err(|flaw| Error::Text { flaw })?;
        Ok(Self(read.secret))
    }

    pub(super) fn secret(&self) -> &SecretKey {
        &self.0
    }
}
