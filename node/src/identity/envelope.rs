//! The one signed form: some bytes, and signatures over them.
//!
//! The payload is kept as the bytes that were signed; nothing parses it before the signatures are checked except to find
//! out which keys must have signed. A signature is over `context ‖ 0x00 ‖ payload`, so that what was signed as one thing
//! never passes for another.

use std::{collections::BTreeSet, io};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    Error, PublicKey, SecretKey,
    canonical::{
        self,
        parts::{self, Kind},
    },
};
use crate::{
    content::{Block, Codec},
    limits::KEYS_MAX,
};

/// What messages call it.
const WHAT: &str = "a signed structure";

/// What a payload was signed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// The current state of a package.
    Head,
    /// An entry of a package's log.
    Entry,
    /// The list of a package's files.
    Manifest,
    /// The keys of a publisher.
    KeyDocument,
    /// That some heads are a publisher's newest.
    Confirmation,
}

impl Context {
    /// The string that is signed before the payload.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "ggen/head/v1",
            Self::Entry => "ggen/entry/v1",
            Self::Manifest => "ggen/manifest/v1",
            Self::KeyDocument => "ggen/key/v1",
            Self::Confirmation => "ggen/confirm/v1",
        }
    }

    /// What a person calls the signed thing.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Head => "a head",
            Self::Entry => "a log entry",
            Self::Manifest => "a manifest",
            Self::KeyDocument => "a key document",
            Self::Confirmation => "a confirmation",
        }
    }

    fn message(self, payload: &[u8]) -> Vec<u8> {
        #[cfg(test)]
        tests::MESSAGES.set(tests::MESSAGES.get() + 1);
        [self.as_str().as_bytes(), &[0], payload].concat()
    }
}

/// Bytes and the signatures over them, in ascending order of the keys.
///
/// Its encoding is the DAG-CBOR map `{payload: bytes, signatures: [{key: 32 bytes, sig: 64 bytes}, …]}`, closed: no other
/// field, order or length passes. Nobody but a holder of a key can therefore make a second encoding of one envelope that
/// adds anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<(PublicKey, [u8; 64])>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct WireEnvelope {
    payload: ByteBuf,
    signatures: Vec<WireSignature>,
}

impl WireEnvelope {
    /// Decodes what has no encoding but the one it is given in.
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let wire: Self = canonical::decode_open(WHAT, bytes)?;
        match canonical::are_written(bytes, |out| write(out, &wire.payload, &wire.signatures)) {
            true => Ok(wire),
            false => Err(Error::malformed(WHAT, "it is not in its canonical encoding")),
        }
    }
}

/// Writes the encoding. The payload may be large, and is not copied.
fn write(out: &mut dyn io::Write, payload: &[u8], signatures: &[WireSignature]) -> io::Result<()> {
    parts::head(out, Kind::Map, 2)?;
    parts::text(out, "payload")?;
    parts::bytes(out, payload)?;
    parts::field(out, "signatures", &signatures)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    key: ByteBuf,
    sig: ByteBuf,
}

impl Envelope {
    /// Signs `payload` as `context` with each of `keys`.
    pub fn seal(context: Context, payload: Vec<u8>, keys: &[&SecretKey]) -> Self {
        let message = context.message(&payload);
        let mut signatures: Vec<_> = keys.iter().map(|key| (key.public_key(), key.sign(&message))).collect();
        signatures.sort();
        signatures.dedup_by_key(|(key, _)| *key);
        Self { payload, signatures }
    }

    /// The bytes that were signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The keys that claim to have signed, in ascending order.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.signatures.iter().map(|(key, _)| *key)
    }

    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let wire = |(key, sig): &(PublicKey, [u8; 64])| WireSignature {
            key: ByteBuf::from(*key.as_bytes()),
            sig: ByteBuf::from(*sig),
        };
        let signatures: Vec<WireSignature> = self.signatures.iter().map(wire).collect();
        parts::all(|out| write(out, &self.payload, &signatures))
    }

    /// The encoded form as a block.
    pub fn block(&self) -> Block {
        Block::new(Codec::DagCbor, self.encode())
    }

    /// Decodes `bytes`, of which there may be `max_bytes`; the signatures are not checked yet.
    ///
    /// # Errors
    /// [`Error::Limit`] for too many bytes or signatures, [`Error::Malformed`] for anything but the one encoding, and
    /// [`Error::Signature`] for a key or signature that cannot be one.
    pub fn decode(bytes: &[u8], max_bytes: usize) -> Result<Self, Error> {
        Self::decode_with(bytes, max_bytes, PublicKey::from_bytes)
    }

    /// As [`Envelope::decode`], with the keys checked by `check`, which takes and refuses what [`PublicKey::from_bytes`] does.
    pub(crate) fn decode_with(
        bytes: &[u8],
        max_bytes: usize,
        check: impl Fn([u8; 32]) -> Result<PublicKey, Error>,
    ) -> Result<Self, Error> {
        if bytes.len() > max_bytes {
            return Err(Error::Limit { what: WHAT, found: bytes.len(), unit: "bytes", max: max_bytes });
        }
        let wire = WireEnvelope::decode(bytes)?;
        let found = wire.signatures.len();
        if found > KEYS_MAX {
            return Err(Error::Limit { what: WHAT, found, unit: "signatures", max: KEYS_MAX });
        }
        let mut signatures: Vec<(PublicKey, [u8; 64])> = Vec::with_capacity(found);
        for WireSignature { key, sig } in wire.signatures {
            let sized = key.into_vec().try_into().ok().zip(sig.into_vec().try_into().ok());
            let (key, sig) = sized.ok_or_else(|| {
                Error::signature(WHAT, "a key is not 32 bytes long, or a signature is not 64 bytes long")
            })?;
            let key = check(key).map_err(|error| Error::signature(WHAT, error.to_string()))?;
            if signatures.last().is_some_and(|(last, _)| *last >= key) {
                return Err(Error::malformed(WHAT, "its signatures are not in order, or doubled"));
            }
            signatures.push((key, sig));
        }
        Ok(Self { payload: wire.payload.into_vec(), signatures })
    }

    /// What is signed in bytes that look like an envelope; nothing of them is checked. Costs a fraction of [`Envelope::decode`], which takes
    /// a square root for each key.
    pub fn peek(bytes: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
        let wire = || WireEnvelope::decode(bytes).ok();
        (bytes.len() <= max_bytes).then(wire).flatten().map(|wire| wire.payload.into_vec())
    }

    /// Checks every signature and gives the keys that signed.
    ///
    /// A signature that is wrong, or by a key not in `allowed`, refuses the whole: it proves nothing, and would let anyone
    /// make endless variants of one signed thing.
    ///
    /// # Errors
    /// [`Error::Signature`] as said.
    pub fn signers(&self, context: Context, allowed: &[PublicKey]) -> Result<BTreeSet<PublicKey>, Error> {
        let signers = self.claims(context, allowed)?;
        self.check(context)?;
        Ok(signers)
    }

    /// The keys that claim to have signed, all of which must be `allowed`. Their signatures are not checked.
    fn claims(&self, context: Context, allowed: &[PublicKey]) -> Result<BTreeSet<PublicKey>, Error> {
        if let Some(key) = self.keys().find(|key| !allowed.contains(key)) {
            let why = format!("key {key} signed it, which has no say in it");
            return Err(Error::signature(context.noun(), why));
        }
        Ok(self.keys().collect())
    }

    /// Refuses what [`Envelope::verify`] would refuse even if every signature were right: it costs nothing.
    ///
    /// # Errors
    /// As [`Envelope::verify`].
    pub(crate) fn would_suffice(
        &self,
        context: Context,
        keys: &[PublicKey],
        threshold: u32,
    ) -> Result<(), Error> {
        require(context, &self.claims(context, keys)?, keys, threshold)
    }

    /// Checks every signature, whoever may sign. The one place where what was signed is put together: it may be large.
    pub(super) fn check(&self, context: Context) -> Result<(), Error> {
        let message = context.message(&self.payload);
        let wrong = self.signatures.iter().find(|(key, sig)| !key.verifies(&message, sig));
        match wrong {
            Some((key, _)) => {
                Err(Error::signature(context.noun(), format!("the signature by key {key} is wrong")))
            }
            None => Ok(()),
        }
    }

    /// Checks every signature, and that `threshold` of `keys` signed.
    ///
    /// # Errors
    /// [`Error::Signature`] where a signature is wrong or by another key, or where too few signed. A threshold of zero is
    /// taken as one.
    pub fn verify(&self, context: Context, keys: &[PublicKey], threshold: u32) -> Result<(), Error> {
        self.would_suffice(context, keys, threshold)?;
        self.check(context)
    }
}

/// Refuses fewer than `threshold` of `keys` among `signers`.
pub(super) fn require(
    context: Context,
    signers: &BTreeSet<PublicKey>,
    keys: &[PublicKey],
    threshold: u32,
) -> Result<(), Error> {
    let needed = usize::try_from(threshold.max(1)).unwrap_or(usize::MAX);
    let valid = signers.iter().filter(|key| keys.contains(key)).count();
    if valid >= needed {
        Ok(())
    } else {
        Err(Error::signature(context.noun(), format!("{valid} of the {needed} keys needed signed it")))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::code::Code;

    thread_local! {
        /// How often this thread put together what was signed.
        pub(in crate::identity) static MESSAGES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    fn secret(seed: u8) -> SecretKey {
        SecretKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn what_was_signed_is_put_together_only_where_its_signatures_may_do() {
        let both = Envelope::seal(Context::Head, b"payload".to_vec(), &[&secret(1), &secret(2)]);
        let made = |verify: &dyn Fn() -> Result<(), Error>| {
            let before = MESSAGES.get();
            let is_ok = verify().is_ok();
            (is_ok, MESSAGES.get() - before)
        };
        assert_eq!(made(&|| both.verify(Context::Head, &[public(1), public(2)], 2)), (true, 1));
        assert_eq!(made(&|| both.verify(Context::Head, &[public(1)], 1)), (false, 0), "one has no say");
        assert_eq!(made(&|| both.verify(Context::Head, &[1, 2, 3].map(public), 3)), (false, 0), "too few");
    }

    fn public(seed: u8) -> PublicKey {
        secret(seed).public_key()
    }

    /// An encoding with whatever stands in `signatures`.
    fn forged(payload: &[u8], signatures: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
        let wire = |(key, sig)| WireSignature { key: ByteBuf::from(key), sig: ByteBuf::from(sig) };
        let signatures = signatures.into_iter().map(wire).collect();
        canonical::encode(&WireEnvelope { payload: ByteBuf::from(payload), signatures })
    }

    fn refusal(bytes: &[u8], keys: &[PublicKey], threshold: u32) -> Code {
        Envelope::decode(bytes, 4096)
            .and_then(|envelope| envelope.verify(Context::Head, keys, threshold))
            .unwrap_err()
            .code()
    }

    #[test]
    fn what_was_sealed_verifies_after_its_encoding() {
        let envelope =
            Envelope::seal(Context::Head, b"payload".to_vec(), &[&secret(1), &secret(2), &secret(1)]);
        let decoded = Envelope::decode(&envelope.encode(), 4096).unwrap();
        assert_eq!(decoded, envelope);
        assert_eq!(decoded.keys().count(), 2, "a key signs once");
        decoded.verify(Context::Head, &[public(1), public(2), public(3)], 2).unwrap();
    }

    #[test]
    fn unsigned_zero_random_truncated_and_foreign_signatures_are_refused() {
        let key = public(1).as_bytes().to_vec();
        let good = Envelope::seal(Context::Head, b"payload".to_vec(), &[&secret(1)]);
        let sig = good.signatures[0].1.to_vec();
        assert_eq!(
            good.encode(),
            forged(b"payload", vec![(key.clone(), sig.clone())]),
            "else nothing is proved"
        );
        let foreign = Envelope::seal(Context::Head, b"payload".to_vec(), &[&secret(2)]).encode();
        let mut flipped = sig.clone();
        flipped[0] ^= 1;
        for (bad, why) in [
            (forged(b"payload", vec![]), "unsigned"),
            (forged(b"payload", vec![(key.clone(), vec![0; 64])]), "zero"),
            (forged(b"payload", vec![(key.clone(), vec![0xa5; 64])]), "random"),
            (forged(b"payload", vec![(key.clone(), flipped)]), "one bit changed"),
            (forged(b"payload", vec![(key.clone(), sig[..63].to_vec())]), "truncated"),
            (forged(b"payload", vec![(key.clone(), vec![])]), "empty"),
            (forged(b"payload", vec![(key[..31].to_vec(), sig.clone())]), "truncated key"),
            (forged(b"payload", vec![(vec![0; 32], sig.clone())]), "weak key"),
            (forged(b"another", vec![(key, sig)]), "another payload"),
            (foreign, "another key"),
        ] {
            assert_eq!(refusal(&bad, &[public(1)], 1), Code::Signature, "{why}");
        }
    }

    #[test]
    fn a_signature_of_a_weak_key_is_worth_nothing() {
        // With the neutral point as key and R, S = 0 satisfies the plain equation for every message.
        let mut one = vec![0; 32];
        one[0] = 1;
        let sig = [one.clone(), vec![0; 32]].concat();
        assert!(Envelope::decode(&forged(b"payload", vec![(one, sig)]), 4096).is_err());
    }

    #[test]
    fn a_signature_counts_in_its_own_context_only() {
        let contexts = [Context::Head, Context::Entry, Context::Manifest, Context::KeyDocument];
        for signed in contexts {
            let envelope = Envelope::seal(signed, b"payload".to_vec(), &[&secret(1)]);
            for read in contexts {
                assert_eq!(envelope.verify(read, &[public(1)], 1).is_ok(), signed == read);
            }
        }
    }

    #[test]
    fn the_context_is_separated_from_the_payload() {
        let signature = secret(1).sign(b"ggen/head/v1\0payload");
        let bytes = forged(b"payload", vec![(public(1).as_bytes().to_vec(), signature.to_vec())]);
        Envelope::decode(&bytes, 4096).unwrap().verify(Context::Head, &[public(1)], 1).unwrap();
        let signature = secret(1).sign(b"ggen/head/v1payload");
        let bytes = forged(b"payload", vec![(public(1).as_bytes().to_vec(), signature.to_vec())]);
        assert_eq!(refusal(&bytes, &[public(1)], 1), Code::Signature);
    }

    #[test]
    fn one_key_is_not_a_threshold_of_two() {
        let keys = [public(1), public(2), public(3)];
        let one = Envelope::seal(Context::Head, b"payload".to_vec(), &[&secret(1)]);
        assert_eq!(refusal(&one.encode(), &keys, 2), Code::Signature);
        assert_eq!(refusal(&forged(b"payload", vec![]), &keys, 0), Code::Signature, "zero is taken as one");
        let (key, sig) = one.signatures[0];
        let twice = vec![(key.as_bytes().to_vec(), sig.to_vec()); 2];
        assert_eq!(refusal(&forged(b"payload", twice), &keys, 2), Code::Malformed);
        let doubled = [public(1), public(1)];
        assert_eq!(refusal(&one.encode(), &doubled, 2), Code::Signature, "a key listed twice counts once");
    }

    #[test]
    fn a_stranger_cannot_make_a_variant() {
        let both = Envelope::seal(Context::Head, b"payload".to_vec(), &[&secret(1), &secret(9)]);
        assert_eq!(refusal(&both.encode(), &[public(1)], 1), Code::Signature);
        let mut swapped = Envelope::seal(Context::Head, b"payload".to_vec(), &[&secret(1), &secret(2)]);
        swapped.signatures.reverse();
        assert_eq!(refusal(&swapped.encode(), &[public(1), public(2)], 1), Code::Malformed);
    }

    #[test]
    fn size_and_number_are_capped_before_anything_else() {
        assert_eq!(Envelope::decode(&[0xff; 100], 99).unwrap_err().code(), Code::Limit);
        let secrets: Vec<SecretKey> = (0..=KEYS_MAX as u8).map(secret).collect();
        let refs: Vec<&SecretKey> = secrets.iter().collect();
        let many = Envelope::seal(Context::Head, vec![], &refs).encode();
        assert_eq!(Envelope::decode(&many, 4096).unwrap_err().code(), Code::Limit);
        let most = Envelope::seal(Context::Head, vec![], &refs[1..]).encode();
        assert!(Envelope::decode(&most, 4096).is_ok());
    }

    #[test]
    fn another_encoding_of_the_same_envelope_is_refused() {
        #[derive(Serialize)]
        struct Extended {
            payload: ByteBuf,
            signatures: Vec<WireSignature>,
            extra: u8,
        }
        let extended = Extended { payload: ByteBuf::new(), signatures: vec![], extra: 0 };
        assert_eq!(
            Envelope::decode(&canonical::encode(&extended), 4096).unwrap_err().code(),
            Code::Malformed
        );
        let mut trailing = Envelope::seal(Context::Head, vec![1], &[&secret(1)]).encode();
        trailing.push(0);
        assert_eq!(Envelope::decode(&trailing, 4096).unwrap_err().code(), Code::Malformed);
        let mut long = Envelope::seal(Context::Head, vec![1], &[&secret(1)]).encode();
        // The payload's length, 0x41, on two bytes.
        let at = long.iter().position(|byte| *byte == 0x41).unwrap();
        long.splice(at..=at, [0x58, 0x01]);
        assert_eq!(Envelope::decode(&long, 4096).unwrap_err().code(), Code::Malformed);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_changed_byte_passes(payload: Vec<u8>, at: prop::sample::Index, change in 1..=255u8) {
            let mut bytes = Envelope::seal(Context::Head, payload, &[&secret(1)]).encode();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            let verified = Envelope::decode(&bytes, 4096)
                .and_then(|envelope| envelope.verify(Context::Head, &[public(1)], 1));
            prop_assert!(verified.is_err());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Envelope::decode(&bytes, 4096);
        }
    }
}
