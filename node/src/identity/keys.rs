//! Ed25519 keys of publishers.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Error, hex};

/// A publisher's public key.
///
/// Holds only points that can sign: neither a point of small order, for which one signature fits many messages, nor a
/// second encoding of a point. Shown in hexadecimal; a byte string in CBOR.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// [`Error::PublicKey`] where they are not a point that may sign.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, Error> {
        let refuse = |why| Error::PublicKey { why };
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| refuse("it is not a point of the curve"))?;
        if key.is_weak() {
            return Err(refuse("it is a point of small order"));
        }
        if key.to_edwards().compress().to_bytes() != bytes {
            return Err(refuse("it is not in its canonical encoding"));
        }
        Ok(Self(bytes))
    }

    /// The key of bytes that [`PublicKey::from_bytes`] took before: whether it does depends on nothing else.
    pub(super) const fn checked_before(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` over `message` is by this key, with every malleable form refused.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl std::str::FromStr for PublicKey {
    type Err = Error;

    /// Reads the text that a key is shown as.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes: Option<[u8; 32]> = hex::decode(text).and_then(|bytes| bytes.try_into().ok());
        let malformed = || Error::malformed("a public key", "it is not 64 hexadecimal digits");
        Self::from_bytes(bytes.ok_or_else(malformed)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serde_bytes::Bytes::new(&self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let bytes = hex::decode(&text).and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| de::Error::custom("a public key is 64 hexadecimal digits"))?
        } else {
            serde_bytes::ByteArray::<32>::deserialize(deserializer)?.into_array()
        };
        Self::from_bytes(bytes).map_err(de::Error::custom)
    }
}

/// A publisher's secret key; wiped from memory when dropped, and never shown.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key made of these 32 bytes, any of which will do.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The public key that goes with it.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The bytes, for a key file.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_cannot_sign_are_refused() {
        let mut zero = [0; 32];
        let mut one = [0; 32];
        one[0] = 1;
        // y = p + 1, the second encoding of the neutral point; y = p + 3, the second encoding of an ordinary one.
        let mut above = [0xff; 32];
        above[31] = 0x7f;
        above[0] = 0xee;
        let mut ordinary = above;
        ordinary[0] = 0xf0;
        let mut canonical = [0; 32];
        canonical[0] = 3;
        assert!(PublicKey::from_bytes(canonical).is_ok(), "else the case after it proves nothing");
        for bad in [zero, one, above, ordinary, [0xff; 32]] {
            assert!(matches!(PublicKey::from_bytes(bad), Err(Error::PublicKey { .. })), "{bad:?}");
        }
        zero[0] = 2;
        assert!(PublicKey::from_bytes(zero).is_err(), "not on the curve");
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = SecretKey::from_bytes(&[0xab; 32]);
        assert_eq!(format!("{secret:?}"), "SecretKey(…)");
    }

    #[test]
    fn a_key_survives_its_forms() {
        let key = SecretKey::from_bytes(&[7; 32]).public_key();
        assert_eq!(PublicKey::from_bytes(*key.as_bytes()).unwrap(), key);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
        let cbor = serde_ipld_dagcbor::to_vec(&key).unwrap();
        assert_eq!(serde_ipld_dagcbor::from_slice::<PublicKey>(&cbor).unwrap(), key);
    }

    /// With the neutral point as R, S = H(R ‖ A ‖ M) · a satisfies the plain equation; it was computed outside of this crate.
    #[test]
    fn a_signature_that_only_the_plain_check_takes_is_refused() {
        use ed25519_dalek::Verifier;
        let sig = "0100000000000000000000000000000000000000000000000000000000000000\
                   d33e1bf275bce774a9cd3e78c7e9ce762f69ac97c3b78e665182453134a04c0b";
        let sig: [u8; 64] = hex::decode(sig).unwrap().try_into().unwrap();
        let key = SecretKey::from_bytes(&[1; 32]).public_key();
        let plain = VerifyingKey::from_bytes(key.as_bytes()).unwrap();
        assert!(plain.verify(b"payload", &Signature::from_bytes(&sig)).is_ok(), "else nothing is proved");
        assert!(!key.verifies(b"payload", &sig));
    }
}
