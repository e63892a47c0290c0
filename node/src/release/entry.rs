//! The entries of a package's log.

use std::fmt;

use semver::Version;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, Visitor},
};

use super::{Error, Resolve, text};
use crate::{
    content::{Block, Codec, ContentId},
    identity::{Context, Envelope, KeyLog, Publisher, PublisherId, canonical},
    limits::{DEPRECATION_BYTES_MAX, ENTRY_BYTES_MAX, FILES_MAX, PACKAGE_BYTES_MAX, REASON_BYTES_MAX},
    package::{PackageId, PackageName, name::parse_version},
    time::Timestamp,
};

/// The version of entries that this program reads and writes.
pub const VERSION: u64 = 1;

const WHAT: &str = "a log entry";

/// The place of an entry in its log, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// A place by its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place after it; none after the last number there is.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One step in a package's history.
///
/// Open: a field that is not known is ignored, and so is what an entry of an unknown [`Kind`] says, so that both can be
/// added later. What older programs must not ignore comes with a higher `version`, which they refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`VERSION`].
    pub version: u64,
    /// Whose package it is.
    pub publisher: PublisherId,
    /// The package.
    pub name: PackageName,
    /// Its place in the log.
    pub sequence: Sequence,
    /// The id of the signed entry before it, as encoded; none for the first.
    pub previous: Option<ContentId>,
    /// The number of the key document whose keys signed it; it never falls along a log.
    pub key_n: u64,
    /// What happened.
    pub kind: Kind,
    /// When it was made, as its maker says.
    pub created: Timestamp,
}

/// What an entry says. In DAG-CBOR it is `{type: "release", detail: {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A version is there.
    Release(Release),
    /// A version is withdrawn: it is still served, but not chosen.
    Yank {
        /// The version.
        version: Version,
        /// Why, for people.
        reason: String,
    },
    /// A withdrawn version is there again.
    Unyank {
        /// The version.
        version: Version,
    },
    /// The package should no longer be used; an empty message takes that back.
    Deprecate {
        /// What to use in its place, for people.
        message: String,
    },
    /// Further releases come from another publisher, under the same name.
    Transfer {
        /// The other publisher.
        to: PublisherId,
    },
    /// The package is gone; nothing follows.
    Tombstone {
        /// Why, for people.
        reason: String,
    },
    /// The log goes on here after it was signed twice from this place on, by keys that were replaced since.
    Resolve(Box<Resolve>),
    /// A kind of a later program, which changes nothing that this one knows of; cannot be signed.
    #[serde(skip)]
    Unknown {
        /// Its word.
        word: String,
    },
}

/// A version of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The version.
    pub version: Version,
    /// The id of the signed manifest, which is stored as a file of the same layout as every other.
    pub manifest: ContentId,
    /// The id of the tree.
    pub root: ContentId,
    /// Bytes of all files.
    pub size: u64,
    /// Number of files.
    pub files: u64,
}

impl Release {
    /// The id of what it says, to be compared and remembered.
    ///
    /// The fields are named here, so that a later one changes nothing of what older programs remember.
    pub fn fingerprint(&self) -> ContentId {
        let fields = (self.version.to_string(), self.manifest, self.root, self.size, self.files);
        ContentId::of(Codec::DagCbor, &canonical::encode(&fields))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        check_version(&self.version)?;
        if self.manifest.codec() == Codec::DagCbor || self.root.codec() != Codec::DagPb {
            return Err(Error::malformed(
                "a release",
                "its manifest is not a file, or its tree not a directory",
            ));
        }
        for (what, found, max) in [
            ("a release's total size", self.size, PACKAGE_BYTES_MAX),
            ("a release's number of files", self.files, FILES_MAX as u64),
        ] {
            if found > max {
                return Err(Error::Limit { what, found, max });
            }
        }
        Ok(())
    }
}

/// The derived form would refuse kinds that are not known, and hold the content in memory where it comes before the type.
impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of type and detail")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        // The canonical order of keys has `type` before `detail`.
        let (mut word, mut kind) = (None::<String>, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => word = Some(map.next_value()?),
                "detail" => {
                    let word = word.as_deref().ok_or_else(|| de::Error::missing_field("type"))?;
                    kind = Some(read_detail(word, &mut map)?);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        kind.ok_or_else(|| de::Error::missing_field("detail"))
    }
}

fn read_detail<'de, A: MapAccess<'de>>(word: &str, map: &mut A) -> Result<Kind, A::Error> {
    #[derive(Deserialize)]
    struct Yank {
        version: Version,
        reason: String,
    }
    #[derive(Deserialize)]
    struct Unyank {
        version: Version,
    }
    #[derive(Deserialize)]
    struct Deprecate {
        message: String,
    }
    #[derive(Deserialize)]
    struct Transfer {
        to: PublisherId,
    }
    #[derive(Deserialize)]
    struct Tombstone {
        reason: String,
    }
    Ok(match word {
        "release" => Kind::Release(map.next_value()?),
        "resolve" => Kind::Resolve(map.next_value()?),
        "yank" => {
            let Yank { version, reason } = map.next_value()?;
            Kind::Yank { version, reason }
        }
        "unyank" => {
            let Unyank { version } = map.next_value()?;
            Kind::Unyank { version }
        }
        "deprecate" => {
            let Deprecate { message } = map.next_value()?;
            Kind::Deprecate { message }
        }
        "transfer" => {
            let Transfer { to } = map.next_value()?;
            Kind::Transfer { to }
        }
        "tombstone" => {
            let Tombstone { reason } = map.next_value()?;
            Kind::Tombstone { reason }
        }
        unknown => {
            map.next_value::<IgnoredAny>()?;
            Kind::Unknown { word: canonical::shorten(unknown) }
        }
    })
}

impl Kind {
    fn check(&self) -> Result<(), Error> {
        let reason = |text| text::check("a reason", text, REASON_BYTES_MAX);
        match self {
            Self::Release(release) => release.check(),
            Self::Resolve(resolve) => resolve.check(),
            Self::Yank { version, reason: why } => check_version(version).and_then(|()| reason(why)),
            Self::Unyank { version } => check_version(version),
            Self::Deprecate { message } => text::check("a deprecation", message, DEPRECATION_BYTES_MAX),
            Self::Tombstone { reason: why } => reason(why),
            Self::Transfer { .. } | Self::Unknown { .. } => Ok(()),
        }
    }
}

pub(super) fn check_version(version: &Version) -> Result<(), Error> {
    let parsed = parse_version(&version.to_string());
    parsed.map(drop).map_err(|error| Error::malformed("a version", error.to_string()))
}

impl Entry {
    /// The package.
    pub fn package_id(&self) -> PackageId {
        PackageId { publisher: self.publisher, name: self.name.clone() }
    }

    fn check(&self) -> Result<(), Error> {
        if (self.sequence.get() == 0) != self.previous.is_none() {
            return Err(Error::malformed(WHAT, "only the first one has none before it"));
        }
        if let Kind::Resolve(resolve) = &self.kind
            && self.key_n <= resolve.key_n
        {
            return Err(Error::malformed(WHAT, "keys that signed two branches cannot resolve them"));
        }
        self.kind.check()
    }
}

/// An entry whose signatures were checked, with its bytes as they were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEntry {
    entry: Entry,
    block: Block,
}

impl SignedEntry {
    /// Signs an entry.
    ///
    /// Whether it continues a log is not known here; use [`super::Log::next`] for one that does.
    ///
    /// # Errors
    /// [`Error`] where it would be refused by everyone else.
    pub fn sign(entry: &Entry, publisher: &Publisher) -> Result<Self, Error> {
        if let Kind::Unknown { word } = &entry.kind {
            return Err(Error::malformed(WHAT, format!("\"{word}\" is of a later program")));
        }
        let bytes = publisher.seal(Context::Entry, canonical::encode(entry)).encode();
        Self::decode_and_verify(&bytes, publisher.key_log())
    }

    /// Decodes a signed entry and checks it against its publisher's keys.
    ///
    /// The keys of the document that the entry names count, even where later ones replaced them, since entries outlive
    /// keys. That an entry belongs to the package is known only once a head by the *current* keys names it or one after
    /// it: see [`super::Log::anchored`].
    ///
    /// # Errors
    /// [`Error`].
    pub fn decode_and_verify(bytes: &[u8], keys: &KeyLog) -> Result<Self, Error> {
        let envelope = Envelope::decode(bytes, ENTRY_BYTES_MAX)?;
        canonical::check_version(WHAT, envelope.payload(), VERSION)?;
        let entry: Entry = canonical::decode_open(WHAT, envelope.payload())?;
        if entry.publisher != keys.publisher() {
            return Err(Error::Publisher { what: WHAT, claimed: entry.publisher, actual: keys.publisher() });
        }
        let Some(document) = keys.document(entry.key_n) else {
            return Err(Error::malformed(WHAT, "it names a key document that there is not"));
        };
        envelope.verify(Context::Entry, &document.keys, document.threshold)?;
        if !document.allows(&entry.name) {
            return Err(Error::Scope { name: entry.name.to_string() });
        }
        entry.check()?;
        Ok(Self { entry, block: Block::new(Codec::DagCbor, bytes.to_vec()) })
    }

    /// What it says.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its name: the id of its encoded envelope.
    pub fn id(&self) -> ContentId {
        self.block.id()
    }

    /// Its encoded envelope as a block.
    pub fn block(&self) -> &Block {
        &self.block
    }
}

/// Whether bytes look like a signed entry, and not like a head: nothing of them is checked.
pub fn is_likely(bytes: &[u8]) -> bool {
    let payload = Envelope::peek(bytes, ENTRY_BYTES_MAX);
    // Most of what is asked about is a head, which has no such field.
    payload.is_some_and(|payload| {
        canonical::has_field(&payload, "kind") && canonical::decode_open::<Entry>(WHAT, &payload).is_ok()
    })
}

/// The package that a block says it is an entry of: nothing of it is checked.
pub fn unverified_package(bytes: &[u8]) -> Option<PackageId> {
    let envelope = Envelope::decode(bytes, ENTRY_BYTES_MAX).ok()?;
    canonical::decode_open::<Entry>(WHAT, envelope.payload()).ok().map(|entry| entry.package_id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        code::Code,
        identity::{KeyDocument, SecretKey, hex},
        release::fixture::{NOW, publisher, release, rotated},
    };

    fn entry(kind: Kind) -> Entry {
        Entry {
            version: VERSION,
            publisher: publisher(1).id(),
            name: "pack".parse().unwrap(),
            sequence: Sequence::default(),
            previous: None,
            key_n: 0,
            kind,
            created: NOW,
        }
    }

    fn seal(payload: Vec<u8>) -> Vec<u8> {
        publisher(1).seal(Context::Entry, payload).encode()
    }

    fn refusal(bytes: &[u8]) -> Code {
        SignedEntry::decode_and_verify(bytes, publisher(1).key_log()).unwrap_err().code()
    }

    fn kinds() -> Vec<Kind> {
        let version: Version = "1.2.3".parse().unwrap();
        vec![
            Kind::Release(release("1.2.3")),
            Kind::Yank { version: version.clone(), reason: "broken".to_owned() },
            Kind::Unyank { version },
            Kind::Deprecate { message: "use other".to_owned() },
            Kind::Transfer { to: publisher(2).id() },
            Kind::Tombstone { reason: "gone".to_owned() },
        ]
    }

    #[test]
    fn every_kind_survives_its_encoding() {
        for kind in kinds() {
            let signed = SignedEntry::sign(&entry(kind.clone()), &publisher(1)).unwrap();
            let read =
                SignedEntry::decode_and_verify(signed.block().bytes(), publisher(1).key_log()).unwrap();
            assert_eq!(read, signed);
            assert_eq!(read.entry().kind, kind);
            assert_eq!(read.id(), ContentId::of(Codec::DagCbor, signed.block().bytes()));
        }
    }

    #[test]
    fn an_entry_that_names_another_publisher_is_refused() {
        let stolen =
            Entry { publisher: publisher(2).id(), ..entry(Kind::Deprecate { message: String::new() }) };
        let bytes = seal(canonical::encode(&stolen));
        let error = SignedEntry::decode_and_verify(&bytes, publisher(1).key_log()).unwrap_err();
        assert!(matches!(error, Error::Publisher { .. }));
        assert_eq!(error.code(), Code::Signature);
        // Nor does it pass with the keys of the one whom it names.
        let error = SignedEntry::decode_and_verify(&bytes, publisher(2).key_log()).unwrap_err();
        assert_eq!(error.code(), Code::Signature);
    }

    #[test]
    fn the_keys_of_the_document_that_it_names_must_have_signed() {
        let (old, new) = (publisher(1), rotated(&publisher(1), 2));
        let kind = Kind::Deprecate { message: String::new() };
        let by = |key_n, publisher: &Publisher| {
            let payload = canonical::encode(&Entry { key_n, ..entry(kind.clone()) });
            let bytes = publisher.seal(Context::Entry, payload).encode();
            SignedEntry::decode_and_verify(&bytes, new.key_log()).map_err(|error| error.code())
        };
        assert!(by(0, &old).is_ok(), "an entry outlives the key that signed it");
        assert!(by(1, &new).is_ok());
        assert_eq!(by(1, &old).unwrap_err(), Code::Signature);
        assert_eq!(by(0, &new).unwrap_err(), Code::Signature);
        assert_eq!(by(2, &new).unwrap_err(), Code::Malformed);
    }

    #[test]
    fn keys_sign_within_their_scopes_only() {
        let secret = SecretKey::from_bytes(&[1; 32]);
        let scopes = vec!["other".parse().unwrap()];
        let genesis = KeyDocument { scopes, ..KeyDocument::genesis(secret.public_key(), NOW) };
        let keys = KeyLog::verify(&[genesis.sign(&[&secret]).unwrap()]).unwrap();
        let limited = Publisher::new(secret, keys).unwrap();
        let kind = Kind::Deprecate { message: String::new() };
        let within = Entry { publisher: limited.id(), name: "other".parse().unwrap(), ..entry(kind) };
        assert!(SignedEntry::sign(&within, &limited).is_ok());
        let outside = Entry { name: "pack".parse().unwrap(), ..within };
        assert!(matches!(SignedEntry::sign(&outside, &limited).unwrap_err(), Error::Scope { .. }));
    }

    #[test]
    fn entries_that_break_a_rule_are_refused() {
        let good = entry(Kind::Release(release("1.0.0")));
        assert!(
            SignedEntry::decode_and_verify(&seal(canonical::encode(&good)), publisher(1).key_log()).is_ok()
        );
        let with = |change: fn(&mut Release)| {
            let mut release = release("1.0.0");
            change(&mut release);
            entry(Kind::Release(release))
        };
        let version = || "1.0.0".parse::<Version>().unwrap();
        let long = "x".repeat(REASON_BYTES_MAX + 1);
        for (bad, code, why) in [
            (
                Entry { sequence: Sequence::new(1), ..good.clone() },
                Code::Malformed,
                "later without one before it",
            ),
            (
                Entry { previous: Some(ContentId::of(Codec::DagCbor, b"")), ..good.clone() },
                Code::Malformed,
                "first with one before it",
            ),
            (Entry { version: 0, ..good.clone() }, Code::Malformed, "version zero"),
            (Entry { version: 2, ..good.clone() }, Code::Malformed, "a later version"),
            (with(|r| r.version = "1.0.0+meta".parse().unwrap()), Code::Malformed, "build metadata"),
            (
                with(|r| r.version = format!("1.0.0-{}", "x".repeat(64)).parse().unwrap()),
                Code::Malformed,
                "long version",
            ),
            (
                with(|r| r.manifest = ContentId::of(Codec::DagCbor, b"")),
                Code::Malformed,
                "manifest that is no file",
            ),
            (with(|r| r.root = ContentId::of(Codec::Raw, b"")), Code::Malformed, "tree that is no directory"),
            (with(|r| r.size = PACKAGE_BYTES_MAX + 1), Code::Limit, "size"),
            (with(|r| r.files = FILES_MAX as u64 + 1), Code::Limit, "files"),
            (entry(Kind::Yank { version: version(), reason: long.clone() }), Code::Limit, "long reason"),
            (
                entry(Kind::Yank { version: version(), reason: "\u{1b}[2J".to_owned() }),
                Code::Malformed,
                "control",
            ),
            (entry(Kind::Deprecate { message: long.clone() }), Code::Limit, "long message"),
            (entry(Kind::Tombstone { reason: long }), Code::Limit, "long reason"),
        ] {
            assert_eq!(refusal(&seal(canonical::encode(&bad))), code, "{why}");
            assert!(SignedEntry::sign(&bad, &publisher(1)).is_err(), "{why}");
        }
        assert_eq!(refusal(&vec![0; ENTRY_BYTES_MAX + 1]), Code::Limit);
        assert_eq!(
            refusal(&publisher(1).seal(Context::Head, canonical::encode(&good)).encode()),
            Code::Signature
        );
    }

    #[derive(Serialize)]
    struct Later<K> {
        #[serde(flatten)]
        entry: BTreeEntry,
        kind: K,
        witness: u8,
    }

    #[derive(Serialize)]
    struct BTreeEntry {
        version: u64,
        publisher: PublisherId,
        name: PackageName,
        sequence: Sequence,
        previous: Option<ContentId>,
        key_n: u64,
        created: Timestamp,
    }

    fn later<K: Serialize>(kind: K) -> Result<SignedEntry, Error> {
        let Entry { version, publisher: by, name, sequence, previous, key_n, created, .. } =
            entry(Kind::Deprecate { message: String::new() });
        let entry = BTreeEntry { version, publisher: by, name, sequence, previous, key_n, created };
        let bytes = seal(canonical::encode(&Later { entry, kind, witness: 1 }));
        SignedEntry::decode_and_verify(&bytes, publisher(1).key_log())
    }

    #[test]
    fn fields_and_kinds_of_a_later_program_are_passed_over() {
        #[derive(Serialize)]
        struct Detail<'a> {
            message: &'a str,
            since: u8,
        }
        #[derive(Serialize)]
        struct Wire<'a> {
            r#type: &'a str,
            detail: Detail<'a>,
            more: u8,
        }
        let wire = |word| Wire { r#type: word, detail: Detail { message: "m", since: 1 }, more: 0 };
        let known = later(wire("deprecate")).unwrap();
        assert_eq!(known.entry().kind, Kind::Deprecate { message: "m".to_owned() });
        let unknown = later(wire("audit")).unwrap();
        assert_eq!(unknown.entry().kind, Kind::Unknown { word: "audit".to_owned() });
        assert!(SignedEntry::sign(unknown.entry(), &publisher(1)).is_err(), "it would lose what it holds");
    }

    #[test]
    fn a_kind_without_its_parts_is_refused() {
        #[derive(Serialize)]
        struct Typed {
            r#type: &'static str,
        }
        #[derive(Serialize)]
        struct Detailed {
            detail: u8,
        }
        assert_eq!(later(Typed { r#type: "yank" }).unwrap_err().code(), Code::Malformed);
        assert_eq!(later(Detailed { detail: 0 }).unwrap_err().code(), Code::Malformed);
        assert_eq!(later(7).unwrap_err().code(), Code::Malformed);
    }

    /// The format is final: these bytes may never change.
    #[test]
    fn the_format_is_fixed() {
        let encoded: Vec<_> = kinds().iter().map(|kind| hex::encode(&canonical::encode(kind))).collect();
        insta::assert_snapshot!(encoded.join("\n"), @r"
        a264747970656772656c656173656664657461696ca564726f6f74d82a58250001701220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e6473697a651904d26566696c6573056776657273696f6e65312e322e33686d616e6966657374d82a58250001551220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e
        a264747970656479616e6b6664657461696ca266726561736f6e6662726f6b656e6776657273696f6e65312e322e33
        a2647479706566756e79616e6b6664657461696ca16776657273696f6e65312e322e33
        a26474797065696465707265636174656664657461696ca1676d65737361676569757365206f74686572
        a26474797065687472616e736665726664657461696ca162746f5820de547cd0c79710fab8fa2a84a65779fcc9a907696ee93f0576bf898821efe53e
        a2647479706569746f6d6273746f6e656664657461696ca166726561736f6e64676f6e65
        ");
        let signed = SignedEntry::sign(&entry(Kind::Release(release("1.2.3"))), &publisher(1)).unwrap();
        insta::assert_snapshot!(hex::encode(signed.block().bytes()), @"a2677061796c6f6164590100a8646b696e64a264747970656772656c656173656664657461696ca564726f6f74d82a58250001701220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e6473697a651904d26566696c6573056776657273696f6e65312e322e33686d616e6966657374d82a58250001551220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e646e616d65647061636b656b65795f6e0067637265617465641a6553f1006776657273696f6e016870726576696f7573f66873657175656e636500697075626c697368657258200b7864d3d452b0b4aa36343ba0aa02c99b4c95204f0d97699e8f2459ce40068e6a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840635a0d06f43d74479c2cb924edfd07c06b514167ba86ee9806ad8a637f3804c24df8fd619d3e7742908d007f849c4b259c0d71eec63c64234662629a08e6270f");
        insta::assert_snapshot!(signed.id(), @"bafyreia6oyzeurqjxz55v3cf2htqyl3riyd6at7itisk55sgrfnmdznpbu");
    }
}
