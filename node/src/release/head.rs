//! The head of a package: where its log ends now, and what a search needs to know.
//!
//! A head stands by itself: it holds the publisher's whole chain of key documents, so that whoever receives one can check
//! it without asking anyone. That the log and the manifest say the same is checked when they are fetched.
//!
//! A head follows from the log and the keys alone: it holds no time of its own, its bytes stay the same until the log grows
//! or the keys change, and it is valid permanently. How fresh it is, its publisher says apart from it.

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use super::{Error, Log, Release, Seen, Sequence, SignedEntry, confirmation, resolve, text, yanked};
use crate::{
    content::{Codec, ContentId},
    identity::{Chains, Context, Envelope, KeyLog, Publisher, PublisherId, canonical},
    limits::{
        CLOCK_SKEW_MAX, DEPRECATION_BYTES_MAX, DESCRIPTION_BYTES_MAX, FIELD_BYTES_MAX, HEAD_BYTES_MAX,
        LABEL_BYTES_MAX, LABELS_MAX, RESOLVED_NAMES_MAX,
    },
    package::{PackageId, PackageName},
    time::Timestamp,
};

/// The version of heads that this program reads and writes.
pub const VERSION: u64 = 1;

const WHAT: &str = "a head";

/// The release that a head names as the latest.
pub type Latest = Release;

/// The current state of a package, as its publisher signs it.
///
/// Open: a field that is not known is ignored, so that fields can be added later. What older programs must not ignore
/// comes with a higher `version`, which they refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub version: u64,
    /// Whose package it is.
    pub publisher: PublisherId,
    /// The package.
    pub name: PackageName,
    /// The publisher's signed key documents, from the genesis to the current one.
    pub keys: Vec<ByteBuf>,
    /// The id of the last of [`Head::keys`].
    pub key_log: ContentId,
    /// The place of the newest log entry.
    pub sequence: Sequence,
    /// The id of the newest log entry.
    pub entry: ContentId,
    /// The id of the first log entry.
    pub log: ContentId,
    /// The latest release ([`Log::latest`]).
    pub latest: Option<Latest>,
    /// Short names of the entries that were resolved, eight bytes each ([`Log::resolved_names`]).
    #[serde(default, skip_serializing_if = "is_empty")]
    pub resolved: ByteBuf,
    /// The highest versions that are yanked, descending ([`Log::yanked_named`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yanked: Vec<Version>,
    /// What to use in place of the package, where it should no longer be used ([`Log::deprecated`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
    /// What the package is, for people and for search.
    pub description: String,
    /// The licence, as an SPDX expression.
    pub license: Option<String>,
    /// Tags for search.
    pub tags: Vec<String>,
    /// Categories for search.
    pub categories: Vec<String>,
    /// Whether the checks before publishing were skipped.
    pub preflight_skipped: bool,
    /// Whether files were published that look as if they held secrets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets_allowed: bool,
    /// When the newest log entry was made, as its maker says.
    pub released_at: Timestamp,
    /// When the latest release was made, where that is another entry with another time ([`Log::latest_released_at`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_released_at: Option<Timestamp>,
}

/// What a head says of a package for people and for search, taken from its description file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// What the package is.
    pub description: String,
    /// The licence, as an SPDX expression.
    pub license: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Whether the checks before publishing were skipped.
    pub preflight_skipped: bool,
    /// Whether files were published that look as if they held secrets.
    pub secrets_allowed: bool,
}

/// The key of a package's head in the DHT: SHA-256 of `"ggen/head/v1" ‖ publisher (32 bytes) ‖ "/" ‖ name`.
pub fn dht_key(package: &PackageId) -> [u8; 32] {
    Sha256::new()
        .chain_update(Context::Head.as_str())
        .chain_update(package.publisher.as_bytes())
        .chain_update("/")
        .chain_update(package.name.as_str())
        .finalize()
        .into()
}

impl Head {
    /// The head of `log` as it ends now.
    ///
    /// # Errors
    /// [`Error::Anchor`] where the log has no entries or is of another publisher.
    pub fn of(log: &Log, labels: Labels, publisher: &Publisher) -> Result<Self, Error> {
        let (Some(newest), Some(first)) = (log.newest(), log.id()) else {
            return Err(Error::Anchor { why: "the log has no entries" });
        };
        if log.package().publisher != publisher.id() {
            return Err(Error::Anchor { why: "the log is of another publisher" });
        }
        let Labels { description, license, tags, categories, preflight_skipped, secrets_allowed } = labels;
        Ok(Self {
            version: VERSION,
            publisher: publisher.id(),
            name: log.package().name.clone(),
            keys: publisher.key_log().documents().map(ByteBuf::from).collect(),
            key_log: publisher.key_log().tip(),
            sequence: newest.entry().sequence,
            entry: SignedEntry::id(newest),
            log: first,
            latest: log.latest().cloned(),
            resolved: ByteBuf::from(log.resolved_names()),
            yanked: log.yanked_named(),
            deprecated: log.deprecated().map(str::to_owned),
            description,
            license,
            tags,
            categories,
            preflight_skipped,
            secrets_allowed,
            released_at: newest.entry().created,
            latest_released_at: log.latest_released_at(),
        })
    }

    /// Signs the head.
    ///
    /// # Errors
    /// [`Error`] where it would be refused by everyone else, or is too large.
    pub fn sign(&self, publisher: &Publisher) -> Result<VerifiedHead, Error> {
        let bytes = publisher.seal(Context::Head, canonical::encode(self)).encode();
        VerifiedHead::verify_stored(&bytes)
    }

    /// When the latest release was made; where there is none, when the newest entry was.
    pub fn release_time(&self) -> Timestamp {
        self.latest_released_at.unwrap_or(self.released_at)
    }

    /// The fingerprint of what was resolved, yanked and deprecated; none where that is nothing.
    fn follows(&self) -> Option<ContentId> {
        let says = (&self.resolved, &self.yanked, &self.deprecated);
        let is_nothing = self.resolved.is_empty() && self.yanked.is_empty() && self.deprecated.is_none();
        (!is_nothing).then(|| ContentId::of(Codec::DagCbor, &canonical::encode(&says)))
    }

    /// Checks everything but the keys, the signatures and the time now.
    fn check(&self) -> Result<(), Error> {
        text::check("a description", &self.description, DESCRIPTION_BYTES_MAX)?;
        if let Some(license) = &self.license {
            text::check_label("a licence", license, FIELD_BYTES_MAX)?;
        }
        for labels in [&self.tags, &self.categories] {
            if labels.len() > LABELS_MAX {
                let (found, max) = (labels.len() as u64, LABELS_MAX as u64);
                return Err(Error::Limit { what: "a list of tags or categories", found, max });
            }
            labels
                .iter()
                .try_for_each(|label| text::check_label("a tag or category", label, LABEL_BYTES_MAX))?;
        }
        if let Some(latest) = &self.latest {
            latest.check()?;
        }
        if self.latest.is_none() && self.latest_released_at.is_some() {
            return Err(Error::malformed(WHAT, "it dates a release that it does not name"));
        }
        yanked::check(&self.yanked)?;
        if let Some(message) = &self.deprecated {
            text::check_label("a deprecation", message, DEPRECATION_BYTES_MAX)?;
        }
        if self.latest.as_ref().is_some_and(|latest| self.yanked.contains(&latest.version)) {
            return Err(Error::malformed(WHAT, "it names a yanked version as the latest"));
        }
        if !resolve::are_names(&self.resolved, RESOLVED_NAMES_MAX) {
            return Err(Error::malformed(WHAT, "what it names as resolved are no names, or too many"));
        }
        if [self.entry, self.log].iter().any(|id| id.codec() != Codec::DagCbor) {
            return Err(Error::malformed(WHAT, "a log entry is not a signed structure"));
        }
        if (self.sequence.get() == 0) != (self.entry == self.log) {
            return Err(Error::malformed(WHAT, "only the first entry is both the first and the newest"));
        }
        Ok(())
    }
}

fn is_empty(bytes: &ByteBuf) -> bool {
    bytes.is_empty()
}

/// A head whose keys, signatures and fields were checked, with its bytes as they were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHead {
    head: Head,
    keys: KeyLog,
    /// Follows from both.
    seen: Seen,
    bytes: Vec<u8>,
}

impl VerifiedHead {
    /// Checks a head that came from outside.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Future`] is decided last, so that it is only said of heads that are genuine.
    pub fn verify(bytes: &[u8], now: Timestamp) -> Result<Self, Error> {
        let verified = Self::verify_stored(bytes)?;
        if verified.is_ahead(now) {
            return Err(Error::Future { released_at: verified.head.released_at, now });
        }
        Ok(verified)
    }

    /// Checks a head that was found in the DHT under `key`.
    ///
    /// # Errors
    /// As [`VerifiedHead::verify`], and [`Error::Key`] where it does not belong there.
    pub fn verify_at(key: &[u8], bytes: &[u8], now: Timestamp) -> Result<Self, Error> {
        let verified = Self::verify(bytes, now)?;
        if key == verified.dht_key() { Ok(verified) } else { Err(Error::Key) }
    }

    /// Checks a head of our own database, whatever the time now.
    ///
    /// # Errors
    /// As [`VerifiedHead::verify`], apart from the time now.
    pub fn verify_stored(bytes: &[u8]) -> Result<Self, Error> {
        Self::verify_bytes(bytes, None)
    }

    /// As [`VerifiedHead::verify_stored`], at a fraction of the cost where its publisher's keys are among `chains`, into which
    /// they go otherwise.
    ///
    /// # Errors
    /// As [`VerifiedHead::verify_stored`].
    pub fn verify_known(bytes: &[u8], chains: &Chains) -> Result<Self, Error> {
        Self::verify_bytes(bytes, Some(chains))
    }

    fn verify_bytes(bytes: &[u8], chains: Option<&Chains>) -> Result<Self, Error> {
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(Error::Limit { what: WHAT, found: bytes.len() as u64, max: HEAD_BYTES_MAX as u64 });
        }
        let envelope = match chains {
            Some(chains) => chains.decode(bytes, HEAD_BYTES_MAX)?,
            None => Envelope::decode(bytes, HEAD_BYTES_MAX)?,
        };
        canonical::check_version(WHAT, envelope.payload(), VERSION)?;
        // Bytes are one or the other, at every door: as both they would be taken at one and blamed on whoever passed them on at another.
        if confirmation::publisher_in(envelope.payload()).is_some() {
            return Err(Error::malformed(WHAT, "it is a confirmation too"));
        }
        let head: Head = canonical::decode_open(WHAT, envelope.payload())?;
        let keys = match chains {
            Some(chains) => chains.verify(&head.keys)?,
            None => KeyLog::verify(&head.keys)?,
        };
        if head.publisher != keys.publisher() {
            return Err(Error::Publisher { what: WHAT, claimed: head.publisher, actual: keys.publisher() });
        }
        if head.key_log != keys.tip() {
            return Err(Error::malformed(WHAT, "it names another key document than the last that it holds"));
        }
        keys.verify_current(Context::Head, &envelope)?;
        if !keys.current().allows(&head.name) {
            return Err(Error::Scope { name: head.name.to_string() });
        }
        head.check()?;
        let n = keys.current().n;
        let seen = Seen {
            key_n: n,
            key_document: keys.fingerprint(n).expect("the current document is in the chain"),
            sequence: head.sequence,
            entry: head.entry,
            log: head.log,
            latest: head.latest.as_ref().map(Release::fingerprint),
            follows: head.follows(),
        };
        Ok(Self { head, keys, seen, bytes: bytes.to_vec() })
    }

    /// Whether its newest entry was made further ahead of `now` than clocks differ, so that nobody takes it yet.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.head.released_at > now.plus(CLOCK_SKEW_MAX)
    }

    /// What it says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its publisher's keys.
    pub fn key_log(&self) -> &KeyLog {
        &self.keys
    }

    /// Its bytes as they were signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The package.
    pub fn package_id(&self) -> PackageId {
        PackageId { publisher: self.head.publisher, name: self.head.name.clone() }
    }

    /// Its key in the DHT: see [`dht_key`].
    pub fn dht_key(&self) -> [u8; 32] {
        dht_key(&self.package_id())
    }

    /// Whether the log that it names resolved a double signing of which this entry was a part.
    pub fn resolved(&self, entry: &ContentId) -> bool {
        resolve::holds_name(&self.head.resolved, entry)
    }

    /// What to remember of it, durably, so that nothing older is accepted later.
    pub fn seen(&self) -> Seen {
        self.seen
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
