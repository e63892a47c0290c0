//! The chain of a publisher's keys, from its genesis to the current ones.
//!
//! Rotation follows the root rotation of [The Update Framework](https://theupdateframework.github.io/specification/latest/),
//! section 5.3: document n is signed by a threshold of the keys of document n−1 and by a threshold of its own, and only
//! the keys of the last document count for anything signed from then on.
//!
//! Whoever holds a key that was rotated out can still sign *another* document n. The chain alone cannot tell the two apart;
//! what was seen first does, through [`KeyLog::fingerprint`], and [`crate::release::choice`] refuses the fork.
//!
//! **Discrepancies:** keys do not expire, and there is one role; delegation is by [`KeyDocument::scopes`].

use serde::{Deserialize, Serialize};

use super::{Context, Envelope, Error, PublicKey, PublisherId, SecretKey, canonical, envelope::require};
use crate::{
    content::{Block, Codec, ContentId},
    limits::{KEY_DOCUMENT_BYTES_MAX, KEY_DOCUMENTS_MAX, KEYS_MAX, SCOPES_MAX},
    package::PackageName,
    time::Timestamp,
};

/// The version of key documents that this program reads and writes.
pub const VERSION: u64 = 1;

const WHAT: &str = "a key document";

/// The keys that may sign for a publisher from one point on.
///
/// Closed: a document with a field that is not listed here, or of a higher version, is refused, because what it may say of
/// its keys must not be passed over. A later version is a later number, and older programs ask to be renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDocument {
    /// [`VERSION`].
    pub version: u64,
    /// Its place in the chain, 0 for the genesis.
    pub n: u64,
    /// The id of the signed document before it, as encoded; none for the genesis.
    pub previous: Option<ContentId>,
    /// The keys, ascending.
    pub keys: Vec<PublicKey>,
    /// How many of the keys must sign, at least one.
    pub threshold: u32,
    /// The packages that the keys may sign for, ascending; all of them where it is empty.
    pub scopes: Vec<PackageName>,
    /// When it was made, as its maker says.
    pub created: Timestamp,
}

impl KeyDocument {
    /// The first document of a publisher with one key and no limits.
    pub fn genesis(key: PublicKey, created: Timestamp) -> Self {
        let (keys, scopes) = (vec![key], Vec::new());
        Self { version: VERSION, n: 0, previous: None, keys, threshold: 1, scopes, created }
    }

    /// Signs the document; gives the encoded envelope.
    ///
    /// # Errors
    /// As [`KeyLog::verify`] has for a document by itself; whether it continues a chain is not known here.
    pub fn sign(&self, keys: &[&SecretKey]) -> Result<Vec<u8>, Error> {
        self.check()?;
        let bytes = Envelope::seal(Context::KeyDocument, canonical::encode(self), keys).encode();
        Envelope::decode(&bytes, KEY_DOCUMENT_BYTES_MAX)?;
        Ok(bytes)
    }

    /// Whether its keys may sign for a package of this name.
    pub fn allows(&self, name: &PackageName) -> bool {
        self.scopes.is_empty() || self.scopes.contains(name)
    }

    fn decode(payload: &[u8]) -> Result<Self, Error> {
        canonical::check_version(WHAT, payload, VERSION)?;
        let document: Self = canonical::decode_closed(WHAT, payload)?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), Error> {
        let limit = |found, unit, max| Err(Error::Limit { what: WHAT, found, unit, max });
        if self.keys.len() > KEYS_MAX {
            return limit(self.keys.len(), "keys", KEYS_MAX);
        }
        if self.scopes.len() > SCOPES_MAX {
            return limit(self.scopes.len(), "scopes", SCOPES_MAX);
        }
        if !self.keys.is_sorted_by(|a, b| a < b) || !self.scopes.is_sorted_by(|a, b| a < b) {
            return Err(Error::malformed(WHAT, "its keys or scopes are not in order, or doubled"));
        }
        if self.threshold == 0 || usize::try_from(self.threshold).is_ok_and(|needed| needed > self.keys.len())
        {
            return Err(Error::malformed(WHAT, "its threshold is not between 1 and the number of its keys"));
        }
        if (self.n == 0) != self.previous.is_none() {
            return Err(Error::malformed(WHAT, "only the first one has none before it"));
        }
        Ok(())
    }
}

/// A verified chain of key documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLog {
    links: Vec<Link>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    document: KeyDocument,
    bytes: Vec<u8>,
    /// Of the signed document as encoded, which the next one names.
    id: ContentId,
    /// Of the payload, which stays the same whichever keys signed.
    fingerprint: ContentId,
}

impl KeyLog {
    /// Verifies the signed documents of a chain, from its genesis.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::Malformed`] or [`Error::Newer`] for a document that is none by itself; [`Error::Chain`]
    /// or [`Error::Signature`] for one that does not follow from the one before it.
    pub fn verify(documents: &[Vec<u8>]) -> Result<Self, Error> {
        let (first, rest) = documents.split_first().ok_or(Error::Chain { n: 0, why: "it is missing" })?;
        if documents.len() > KEY_DOCUMENTS_MAX {
            let found = documents.len();
            return Err(Error::Limit {
                what: "a chain of keys",
                found,
                unit: "documents",
                max: KEY_DOCUMENTS_MAX,
            });
        }
        let mut log = Self { links: vec![Link::genesis(first)?] };
        for bytes in rest {
            log = log.extended(bytes)?;
        }
        Ok(log)
    }

    /// The chain with one more signed document.
    ///
    /// # Errors
    /// As [`KeyLog::verify`].
    pub fn extended(mut self, bytes: &[u8]) -> Result<Self, Error> {
        if self.links.len() >= KEY_DOCUMENTS_MAX {
            let found = self.links.len().saturating_add(1);
            return Err(Error::Limit {
                what: "a chain of keys",
                found,
                unit: "documents",
                max: KEY_DOCUMENTS_MAX,
            });
        }
        let link = Link::after(self.last(), bytes)?;
        self.links.push(link);
        Ok(self)
    }

    /// The document that would change the keys, to be signed by a threshold of the current keys and of `keys`.
    ///
    /// It takes no more than [`KEYS_MAX`] signatures in all; where both thresholds together need more, a document that
    /// lowers the threshold comes first.
    pub fn next(&self, mut keys: Vec<PublicKey>, threshold: u32, created: Timestamp) -> KeyDocument {
        keys.sort_unstable();
        KeyDocument {
            version: VERSION,
            n: self.current().n.saturating_add(1),
            previous: Some(self.tip()),
            keys,
            threshold,
            scopes: self.current().scopes.clone(),
            created,
        }
    }

    /// The name of the publisher, which the genesis fixes.
    pub fn publisher(&self) -> PublisherId {
        PublisherId::from_bytes(self.links[0].fingerprint.digest())
    }

    /// The document whose keys count now.
    pub fn current(&self) -> &KeyDocument {
        &self.last().document
    }

    /// Document number `n`.
    pub fn document(&self, n: u64) -> Option<&KeyDocument> {
        self.link(n).map(|link| &link.document)
    }

    /// The id of the payload of document number `n`: two chains with the same fingerprint at `n` are the same up to it.
    pub fn fingerprint(&self, n: u64) -> Option<ContentId> {
        self.link(n).map(|link| link.fingerprint)
    }

    /// The signed documents as they were given, from the genesis.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.links.iter().map(|link| link.bytes.as_slice())
    }

    /// The signed documents as blocks, from the genesis.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = Block> {
        self.links.iter().map(|link| Block::new(Codec::DagCbor, link.bytes.clone()))
    }

    /// The id of the last signed document, as encoded.
    pub fn tip(&self) -> ContentId {
        self.last().id
    }

    /// Whether one chain continues the other, or is the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.links.iter().zip(&other.links).all(|(a, b)| a.fingerprint == b.fingerprint)
    }

    /// Checks that a threshold of the current keys signed `envelope` as `context`.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify_current(&self, context: Context, envelope: &Envelope) -> Result<(), Error> {
        envelope.verify(context, &self.current().keys, self.current().threshold)
    }

    /// Checks that a threshold of the keys of any one document signed `envelope` as `context`, and gives the newest such
    /// document.
    ///
    /// For what a current signature names by its hash, such as the manifest of an older release; by itself it would let a
    /// key that was rotated out sign anew.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify_any(&self, context: Context, envelope: &Envelope) -> Result<&KeyDocument, Error> {
        // Whether the signatures are right is the same for all documents, and is looked at once: there may be many of them,
        // and what was signed may be large.
        let suffices = |document: &&KeyDocument| {
            envelope.would_suffice(context, &document.keys, document.threshold).is_ok()
        };
        let found = self.links.iter().rev().map(|link| &link.document).find(suffices);
        let refused = || Error::signature(context.noun(), "no keys of its publisher signed it");
        let document = found.ok_or_else(refused)?;
        envelope.check(context).map_err(|_| refused())?;
        Ok(document)
    }

    fn last(&self) -> &Link {
        self.links.last().expect("a chain has a genesis")
    }

    fn link(&self, n: u64) -> Option<&Link> {
        self.links.get(usize::try_from(n).ok()?)
    }
}

impl Link {
    fn parse(bytes: &[u8]) -> Result<(Self, Envelope), Error> {
        let envelope = Envelope::decode(bytes, KEY_DOCUMENT_BYTES_MAX)?;
        let link = Self {
            document: KeyDocument::decode(envelope.payload())?,
            bytes: bytes.to_vec(),
            id: ContentId::of(Codec::DagCbor, bytes),
            fingerprint: ContentId::of(Codec::DagCbor, envelope.payload()),
        };
        Ok((link, envelope))
    }

    fn genesis(bytes: &[u8]) -> Result<Self, Error> {
        let (link, envelope) = Self::parse(bytes)?;
        if link.document.n != 0 {
            return Err(Error::Chain { n: 0, why: "it says that it is a later one" });
        }
        envelope.verify(Context::KeyDocument, &link.document.keys, link.document.threshold)?;
        Ok(link)
    }

    fn after(last: &Self, bytes: &[u8]) -> Result<Self, Error> {
        let (link, envelope) = Self::parse(bytes)?;
        let (old, new) = (&last.document, &link.document);
        let n = usize::try_from(old.n).unwrap_or(usize::MAX).saturating_add(1);
        if old.n.checked_add(1) != Some(new.n) {
            return Err(Error::Chain { n, why: "its number is not the next one" });
        }
        if new.previous != Some(last.id) {
            return Err(Error::Chain { n, why: "it does not name the document before it" });
        }
        let context = Context::KeyDocument;
        let signers = envelope.signers(context, &[old.keys.as_slice(), &new.keys].concat())?;
        require(context, &signers, &old.keys, old.threshold)?;
        require(context, &signers, &new.keys, new.threshold)?;
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        code::Code,
        identity::{envelope::tests::MESSAGES, hex},
    };

    const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn secret(seed: u8) -> SecretKey {
        SecretKey::from_bytes(&[seed; 32])
    }

    fn keys(seeds: &[u8]) -> Vec<PublicKey> {
        let mut keys: Vec<_> = seeds.iter().map(|seed| secret(*seed).public_key()).collect();
        keys.sort();
        keys
    }

    fn signed(document: &KeyDocument, seeds: &[u8]) -> Vec<u8> {
        let secrets: Vec<_> = seeds.iter().map(|seed| secret(*seed)).collect();
        let refs: Vec<_> = secrets.iter().collect();
        Envelope::seal(Context::KeyDocument, canonical::encode(document), &refs).encode()
    }

    fn genesis(seeds: &[u8], threshold: u32) -> KeyDocument {
        KeyDocument { keys: keys(seeds), threshold, ..KeyDocument::genesis(secret(1).public_key(), THEN) }
    }

    fn refusal(documents: &[Vec<u8>]) -> Code {
        KeyLog::verify(documents).unwrap_err().code()
    }

    /// Three keys of which two must sign, and the log of them alone.
    fn trio() -> (Vec<u8>, KeyLog) {
        let first = signed(&genesis(&[1, 2, 3], 2), &[1, 2]);
        let log = KeyLog::verify(std::slice::from_ref(&first)).unwrap();
        (first, log)
    }

    #[test]
    fn the_publisher_is_the_hash_of_the_genesis_payload_whoever_signed() {
        use sha2::{Digest, Sha256};
        let document = genesis(&[1, 2, 3], 2);
        let expected: [u8; 32] = Sha256::digest(canonical::encode(&document)).into();
        for signers in [&[1, 2][..], &[2, 3], &[1, 2, 3]] {
            let log = KeyLog::verify(&[signed(&document, signers)]).unwrap();
            assert_eq!(log.publisher().as_bytes(), &expected);
        }
    }

    #[test]
    fn a_rotation_signed_by_old_and_new_keys_continues_the_chain() {
        let (first, log) = trio();
        let second = signed(&log.next(keys(&[4, 5]), 1, THEN), &[1, 3, 4]);
        let rotated = KeyLog::verify(&[first.clone(), second.clone()]).unwrap();
        assert_eq!(rotated.publisher(), log.publisher());
        assert_eq!((rotated.current().n, &rotated.current().keys), (1, &keys(&[4, 5])));
        assert_eq!(rotated.tip(), ContentId::of(Codec::DagCbor, &second));
        assert_eq!(rotated.documents().collect::<Vec<_>>(), [first, second.clone()]);
        assert_eq!(log.clone().extended(&second).unwrap(), rotated);
        assert!(rotated.agrees_with(&log) && log.agrees_with(&rotated));
    }

    #[test]
    fn a_rotation_below_the_old_threshold_is_refused() {
        let (first, log) = trio();
        let next = log.next(keys(&[4]), 1, THEN);
        for signers in [&[1, 4][..], &[4], &[], &[1]] {
            assert_eq!(refusal(&[first.clone(), signed(&next, signers)]), Code::Signature, "{signers:?}");
        }
        assert!(KeyLog::verify(&[first, signed(&next, &[1, 2, 4])]).is_ok());
    }

    #[test]
    fn a_rotation_below_the_new_threshold_is_refused() {
        let (first, log) = trio();
        let next = log.next(keys(&[4, 5]), 2, THEN);
        assert_eq!(refusal(&[first.clone(), signed(&next, &[1, 2, 4])]), Code::Signature);
        assert_eq!(refusal(&[first.clone(), signed(&next, &[1, 2])]), Code::Signature);
        assert!(KeyLog::verify(&[first, signed(&next, &[1, 2, 4, 5])]).is_ok());
    }

    #[test]
    fn a_revoked_key_signs_no_further_document_and_no_document_is_replayed() {
        let (first, log) = trio();
        let second = signed(&log.next(keys(&[4]), 1, THEN), &[1, 2, 4]);
        let log = log.extended(&second).unwrap();
        let by_old = signed(&log.next(keys(&[1]), 1, THEN), &[1, 2]);
        let code = |third: Vec<u8>| refusal(&[first.clone(), second.clone(), third]);
        assert_eq!(code(by_old), Code::Signature);
        assert_eq!(code(second.clone()), Code::Signature, "replayed");
        assert_eq!(code(first.clone()), Code::Signature, "replayed");
        assert_eq!(refusal(std::slice::from_ref(&second)), Code::Signature, "without its genesis");
        let mut forward = log.next(keys(&[5]), 1, THEN);
        forward.n += 1;
        assert_eq!(code(signed(&forward, &[4, 5])), Code::Signature, "a number left out");
        let mut elsewhere = log.next(keys(&[5]), 1, THEN);
        elsewhere.previous = Some(ContentId::of(Codec::DagCbor, b"another"));
        assert_eq!(code(signed(&elsewhere, &[4, 5])), Code::Signature, "another one before it");
    }

    #[test]
    fn two_documents_in_one_place_do_not_agree() {
        let (_, log) = trio();
        let fork = |seed| {
            let next = signed(&log.next(keys(&[seed]), 1, THEN), &[1, 2, seed]);
            log.clone().extended(&next).unwrap()
        };
        assert!(!fork(4).agrees_with(&fork(5)));
        assert_eq!(fork(4).fingerprint(0), fork(5).fingerprint(0));
        assert_ne!(fork(4).fingerprint(1), fork(5).fingerprint(1));
        assert_eq!(fork(4).fingerprint(2), None);
    }

    #[test]
    fn a_genesis_that_breaks_a_rule_is_refused() {
        let good = genesis(&[1, 2], 1);
        assert!(KeyLog::verify(&[signed(&good, &[1])]).is_ok());
        let nine: Vec<u8> = (1..=9).collect();
        let scopes = |count: usize| (0..count).map(|i| format!("p{i}").parse().unwrap()).collect();
        for (bad, code, why) in [
            (KeyDocument { threshold: 0, ..good.clone() }, Code::Malformed, "threshold of zero"),
            (KeyDocument { threshold: 3, ..good.clone() }, Code::Malformed, "threshold above the keys"),
            (KeyDocument { keys: vec![], ..good.clone() }, Code::Malformed, "no keys"),
            (KeyDocument { keys: keys(&[1, 1]), ..good.clone() }, Code::Malformed, "doubled key"),
            (
                KeyDocument { keys: keys(&[1, 2]).into_iter().rev().collect(), ..good.clone() },
                Code::Malformed,
                "unsorted",
            ),
            (KeyDocument { keys: keys(&nine), ..good.clone() }, Code::Limit, "too many keys"),
            (KeyDocument { scopes: scopes(SCOPES_MAX + 1), ..good.clone() }, Code::Limit, "too many scopes"),
            (KeyDocument { n: 1, ..good.clone() }, Code::Malformed, "a later number"),
            (
                KeyDocument { previous: Some(ContentId::of(Codec::DagCbor, b"")), ..good.clone() },
                Code::Malformed,
                "one before it",
            ),
            (KeyDocument { version: 0, ..good.clone() }, Code::Malformed, "version zero"),
        ] {
            assert_eq!(refusal(&[signed(&bad, &[1])]), code, "{why}");
        }
        assert_eq!(refusal(&[signed(&good, &[])]), Code::Signature, "unsigned");
        assert_eq!(refusal(&[signed(&good, &[3])]), Code::Signature, "signed by another key");
        assert_eq!(refusal(&[]), Code::Signature, "nothing");
        assert_eq!(refusal(&[vec![0; KEY_DOCUMENT_BYTES_MAX + 1]]), Code::Limit, "too large");
    }

    #[test]
    fn a_later_version_asks_for_a_newer_program_whatever_else_it_holds() {
        #[derive(Serialize)]
        struct Later {
            version: u64,
            quorum: &'static str,
        }
        let payload = canonical::encode(&Later { version: 2, quorum: "x" });
        let bytes = Envelope::seal(Context::KeyDocument, payload, &[&secret(1)]).encode();
        let error = KeyLog::verify(&[bytes]).unwrap_err();
        assert!(matches!(error, Error::Newer { version: 2, known: 1, .. }), "{error}");
        assert!(error.hint().contains("newer version"));
    }

    #[test]
    fn a_field_that_is_not_known_is_refused() {
        #[derive(Serialize)]
        struct Extended {
            #[serde(flatten)]
            document: KeyDocument,
            weights: u8,
        }
        let payload = canonical::encode(&Extended { document: genesis(&[1], 1), weights: 1 });
        let bytes = Envelope::seal(Context::KeyDocument, payload, &[&secret(1)]).encode();
        let error = KeyLog::verify(&[bytes]).unwrap_err();
        assert_eq!(error.code(), Code::Malformed);
        assert!(error.to_string().contains("weights"), "{error}");
    }

    #[test]
    fn a_field_left_out_is_no_second_encoding() {
        #[derive(Serialize)]
        struct Without {
            version: u64,
            n: u64,
            keys: Vec<PublicKey>,
            threshold: u32,
            scopes: Vec<PackageName>,
            created: Timestamp,
        }
        let KeyDocument { version, n, keys, threshold, scopes, created, .. } = genesis(&[1], 1);
        let payload = canonical::encode(&Without { version, n, keys, threshold, scopes, created });
        let bytes = Envelope::seal(Context::KeyDocument, payload, &[&secret(1)]).encode();
        assert_eq!(refusal(&[bytes]), Code::Malformed);
    }

    #[test]
    fn a_later_document_is_no_genesis() {
        let later =
            KeyDocument { n: 1, previous: Some(ContentId::of(Codec::DagCbor, b"")), ..genesis(&[1], 1) };
        assert!(matches!(KeyLog::verify(&[signed(&later, &[1])]), Err(Error::Chain { n: 0, .. })));
    }

    #[test]
    fn the_largest_document_fits() {
        let seeds: Vec<u8> = (1..=KEYS_MAX as u8).collect();
        let scope = |i: usize| format!("{i}{}", "x".repeat(63)).parse().unwrap();
        let scopes: Vec<PackageName> = (0..SCOPES_MAX).map(scope).collect();
        let document = KeyDocument {
            n: u64::MAX,
            previous: Some(ContentId::of(Codec::DagCbor, b"")),
            scopes,
            created: Timestamp::from_secs(u64::MAX),
            ..genesis(&seeds, 8)
        };
        let secrets: Vec<_> = seeds.iter().map(|seed| secret(*seed)).collect();
        let bytes = document.sign(&secrets.iter().collect::<Vec<_>>()).unwrap();
        assert!(bytes.len() <= KEY_DOCUMENT_BYTES_MAX, "{}", bytes.len());
    }

    #[test]
    fn a_chain_has_an_end() {
        let mut log = KeyLog::verify(&[signed(&genesis(&[1], 1), &[1])]).unwrap();
        let extend = |log: KeyLog| {
            let next = signed(&log.next(keys(&[1]), 1, THEN), &[1]);
            log.extended(&next)
        };
        for _ in 1..KEY_DOCUMENTS_MAX {
            log = extend(log).unwrap();
        }
        assert_eq!(extend(log).unwrap_err().code(), Code::Limit);
    }

    #[test]
    fn a_rotated_out_key_verifies_old_things_only() {
        let (_, log) = trio();
        let second = signed(&log.next(keys(&[4]), 1, THEN), &[1, 2, 4]);
        let log = log.extended(&second).unwrap();
        let old = Envelope::seal(Context::Manifest, vec![], &[&secret(1), &secret(2)]);
        assert_eq!(log.verify_any(Context::Manifest, &old).unwrap().n, 0);
        assert_eq!(log.verify_current(Context::Manifest, &old).unwrap_err().code(), Code::Signature);
        let third = signed(&log.next(keys(&[1]), 1, THEN), &[1, 4]);
        let latest = log.clone().extended(&third).unwrap();
        let before = MESSAGES.get();
        assert_eq!(latest.verify_any(Context::Manifest, &old).unwrap().n, 0);
        assert_eq!(MESSAGES.get() - before, 1, "only for the document whose keys these are");
        let mixed = Envelope::seal(Context::Manifest, vec![], &[&secret(1)]);
        assert_eq!(log.verify_any(Context::Manifest, &mixed).unwrap_err().code(), Code::Signature);
    }

    /// The format is final: these bytes may never change.
    #[test]
    fn the_format_is_fixed() {
        let first = genesis(&[1], 1).sign(&[&secret(1)]).unwrap();
        insta::assert_snapshot!(hex::encode(&first), @"a2677061796c6f6164585fa7616e00646b6579738158208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c6673636f7065738067637265617465641a6553f1006776657273696f6e016870726576696f7573f6697468726573686f6c64016a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840cc24b26a6bed7d128f847b726f995468be9b5d9afc32ca291dfc1448e0afe50d04ada489e0db90ab151ca1acdfb08d837c9b0f1289291f428e2a36d2e2156007");
        let log = KeyLog::verify(&[first]).unwrap();
        insta::assert_snapshot!(log.publisher(), @"gp1pduxf57522ctf23kxsa6p2szexd5e9fqfuxew6v73uj9nnjqq68qeepzvd");
        insta::assert_snapshot!(log.tip(), @"bafyreid3plltmxl3i3helg242ob6df44pxcx6hzba5g5fuwtlwqueohete");
        let next = KeyDocument { scopes: vec!["only".parse().unwrap()], ..log.next(keys(&[2, 3]), 2, THEN) };
        let second = next.sign(&[&secret(1), &secret(2), &secret(3)]).unwrap();
        insta::assert_snapshot!(hex::encode(&second), @"a2677061796c6f616458aea7616e01646b6579738258208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b3945820ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d16673636f70657381646f6e6c7967637265617465641a6553f1006776657273696f6e016870726576696f7573d82a582500017112207b7ad7365d7b46ce459b5cd383e1979c7dc57f1f21074dd2d2d35da14238e499697468726573686f6c64026a7369676e61747572657383a2636b657958208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394637369675840fec0d27c00607a0de6dcadf1abf047b192a87eb6024e1c4815b5f3cc6a7f95f3fd2ef16656b4e6df6d1bcb47393b5fa90159b91a30ca37a152156a62162b5a09a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840a235bea8daa79a119928d5ba23b301d8a2c28faf2d19b44bcda8fa7cdebbd849e82f85bb492bcd9ac349197c14cf5c40e792aedaf5a87ae44efd8dede875b50aa2636b65795820ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1637369675840a19fa30b2b488cc8367463f14e9f20535daf3b5182418df5937bb7ed36c06142b4eb6bab5485fd26d5074683046bbfe842a9ce28ba788cb7e27c7c63f5cdaa04");
    }
}
