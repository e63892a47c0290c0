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
    identity::{self, Context, Envelope, KeyDocument, KeyLog, Publisher, PublisherId, canonical},
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
        let check = |by: &KeyDocument| envelope.verify(Context::Entry, &by.keys, by.threshold);
        Self::checked(bytes, &envelope, keys, check)
    }

    /// Decodes an entry that was verified before it was stored, without checking its signatures again: a later one names it by its hash.
    /// For anyone who follows those names, as [`super::Log::verify_stored`] does.
    ///
    /// # Errors
    /// As [`SignedEntry::decode_and_verify`], apart from signatures that are wrong.
    pub fn decode_linked(bytes: &[u8], keys: &KeyLog) -> Result<Self, Error> {
        let envelope = Envelope::decode_with(bytes, ENTRY_BYTES_MAX, |key| keys.public_key(key))?;
        let check = |by: &KeyDocument| envelope.would_suffice(Context::Entry, &by.keys, by.threshold);
        Self::checked(bytes, &envelope, keys, check)
    }

    fn checked(
        bytes: &[u8],
        envelope: &Envelope,
        keys: &KeyLog,
        check: impl FnOnce(&KeyDocument) -> Result<(), identity::Error>,
    ) -> Result<Self, Error> {
        canonical::check_version(WHAT, envelope.payload(), VERSION)?;
        let entry: Entry = canonical::decode_open(WHAT, envelope.payload())?;
        if entry.publisher != keys.publisher() {
            return Err(Error::Publisher { what: WHAT, claimed: entry.publisher, actual: keys.publisher() });
        }
        let Some(document) = keys.document(entry.key_n) else {
            return Err(Error::malformed(WHAT, "it names a key document that there is not"));
        };
        check(document)?;
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
#[path = "entry_tests.rs"]
mod tests;
