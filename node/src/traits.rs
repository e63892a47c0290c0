//! What a package registry does, whatever stands behind it.
//!
//! [`Registry`] is the face that programs use; [`P2PRegistry`](crate::backend::p2p::P2PRegistry) is the one without a server.
//! Anyone who implements another one can check it against [`conformance`].

pub mod conformance;

use std::{
    future::Future,
    path::{Path, PathBuf},
};

use semver::Version;

pub use crate::control::api::{
    AnyPath, CollectRequest, Collected, KeepAction, KeepRequest, KeptList, Outdated, OutdatedRequest,
    PackageInfo, ProjectAction, ProjectDone, ProjectRequest,
};
use crate::{
    code::Code,
    control::api::Failure,
    package::{PackageId, name::parse_version},
};

/// A directory with a `gpack.toml`, to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    directory: PathBuf,
    version: Option<Version>,
    skip_verify: bool,
    allow_secrets: bool,
}

impl Package {
    /// The package in a directory; nothing is read yet.
    pub fn from_dir(directory: impl AsRef<Path>) -> Self {
        Self {
            directory: directory.as_ref().to_owned(),
            version: None,
            skip_verify: false,
            allow_secrets: false,
        }
    }

    /// Publishes under this version in place of the one in `gpack.toml`.
    ///
    /// # Errors
    /// [`Error::ValidationError`] for anything but a semantic version without build metadata.
    pub fn with_version(mut self, version: &str) -> Result<Self, Error> {
        let parsed = parse_version(version).map_err(|error| {
            Error::from(Failure::new(
                error.code(),
                error.to_string(),
                "Write three numbers, for example 1.2.3.",
            ))
        })?;
        self.version = Some(parsed);
        Ok(self)
    }

    /// Publishes files that look as if they held secrets too; never a key file of this program.
    #[must_use]
    pub fn allow_secrets(mut self) -> Self {
        self.allow_secrets = true;
        self
    }

    /// Whether files are published that look as if they held secrets.
    pub fn allows_secrets(&self) -> bool {
        self.allow_secrets
    }

    /// Skips the local checks that concern neither form, hashes, signatures nor secrets.
    #[must_use]
    pub fn skip_verify(mut self) -> Self {
        self.skip_verify = true;
        self
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The version to publish under, where it is not the one in `gpack.toml`.
    pub fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Whether local checks are skipped.
    pub fn skips_verify(&self) -> bool {
        self.skip_verify
    }
}

/// What to search for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// Words, all of which must match; empty lists everything by recency.
    pub text: String,
    /// Any of these categories.
    pub categories: Vec<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Any of the tags is enough.
    pub any_tag: bool,
    /// Results at most; 20 where not given.
    pub limit: Option<usize>,
    /// Results to pass over.
    pub offset: usize,
    /// Only packages with a provider of at least this reputation, 0.0 to 1.0.
    pub min_reputation: Option<f64>,
}

impl Query {
    /// A query for words.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// A version that a registry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The package.
    pub package: PackageId,
    /// The version.
    pub version: Version,
    /// The content id of its tree, as text.
    pub cid: String,
    /// Bytes of all files.
    pub size: u64,
    /// Whether its publisher yanked it.
    pub yanked: bool,
}

/// What a registry says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryMetadata {
    /// What kind it is: `p2p`.
    pub kind: String,
    /// Its name for others: the peer id.
    pub id: String,
    /// Packages it knows of.
    pub packages: usize,
    /// Peers it is connected with.
    pub peers: usize,
}

/// A package registry.
///
/// Futures are [`Send`]; all methods may be called at once from many tasks.
pub trait Registry: Send + Sync + 'static {
    /// Publishes a package: it is either durable here with its signed head, announced now or as soon as somebody listens;
    /// or it waits, durable and unsigned, until it can be signed without risk; or nothing has changed. A future that is dropped
    /// before it is signed leaves nothing behind.
    fn publish(&self, package: Package) -> impl Future<Output = Result<Release, Error>> + Send;

    /// Finds packages, best first, at most `limit`, none twice; an empty text lists all by recency.
    fn search(&self, query: &Query) -> impl Future<Output = Result<Vec<PackageInfo>, Error>> + Send;

    /// The latest stable version that is not yanked.
    fn get_package(&self, package: &PackageId) -> impl Future<Output = Result<Release, Error>> + Send;

    /// Exactly this version, yanked or not.
    fn get_package_version(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> impl Future<Output = Result<Release, Error>> + Send;

    /// All versions, ascending.
    fn list_versions(&self, package: &PackageId) -> impl Future<Output = Result<Vec<Release>, Error>> + Send;

    /// Yanks a version of a package of ours: it is no longer chosen, and still had by who names it. Again changes nothing.
    fn yank(
        &self,
        package: &PackageId,
        version: &Version,
        reason: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Puts a yanked version of a package of ours back: it is chosen again.
    fn unyank(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says what to use in place of a package of ours; an empty message takes that back.
    fn deprecate(&self, package: &PackageId, message: &str)
    -> impl Future<Output = Result<(), Error>> + Send;

    /// Stops serving a package; one of our own gets a tombstone, after which nothing can be published under its name.
    fn delete(&self, package: &PackageId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Changes what a project asks for, and makes its folders what it asks for: all of them, or none.
    fn project(&self, request: ProjectRequest) -> impl Future<Output = Result<ProjectDone, Error>> + Send;

    /// Tells of which packages of a project there are newer versions.
    fn outdated(&self, request: OutdatedRequest) -> impl Future<Output = Result<Outdated, Error>> + Send;

    /// Frees what is neither installed, published nor pinned, or says what that is.
    fn collect(&self, request: CollectRequest) -> impl Future<Output = Result<Collected, Error>> + Send;

    /// Pins content that is here, so that it is never freed; takes a pin away; lists the pins.
    fn keep(&self, request: KeepRequest) -> impl Future<Output = Result<KeptList, Error>> + Send;

    /// Whether the package is known.
    fn exists(&self, package: &PackageId) -> impl Future<Output = Result<bool, Error>> + Send;

    /// What the registry says of itself; what cannot be told is left at its default.
    fn metadata(&self) -> impl Future<Output = RegistryMetadata> + Send;
}

/// Why a registry did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was given is not valid.
    #[error("{}", .0.message)]
    ValidationError(Failure),
    /// The version exists with other content, or the target exists.
    #[error("{}", .0.message)]
    AlreadyExists(Failure),
    /// A name has several publishers and none was named.
    #[error("{}", .0.message)]
    Ambiguous(Failure),
    /// A name belongs to another publisher than the one pinned.
    #[error("{}", .0.message)]
    PinMismatch(Failure),
    /// A node runs on the state folder already.
    #[error("{}", .0.message)]
    AlreadyRunning(Failure),
    /// Nothing is known under that name.
    #[error("{}", .0.message)]
    NotFound(Failure),
    /// Nobody could be reached, or not in time.
    #[error("{}", .0.message)]
    NetworkError(Failure),
    /// A signature, a hash or a rule did not hold.
    #[error("{}", .0.message)]
    VerificationError(Failure),
    /// The disk or the database did not do its work.
    #[error("{}", .0.message)]
    StorageError(Failure),
    /// Anything else; the code in the failure says what.
    #[error("{}", .0.message)]
    Other(Failure),
}

impl Error {
    /// The failure with its code, message and hint.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::ValidationError(failure)
            | Self::AlreadyExists(failure)
            | Self::Ambiguous(failure)
            | Self::PinMismatch(failure)
            | Self::AlreadyRunning(failure)
            | Self::NotFound(failure)
            | Self::NetworkError(failure)
            | Self::VerificationError(failure)
            | Self::StorageError(failure)
            | Self::Other(failure) => failure,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.failure().code
    }

    /// What to do next.
    pub fn hint(&self) -> &str {
        &self.failure().hint
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        // Without a wildcard: a new code has to say here what it means to a program.
        let variant = match failure.code {
            Code::Usage
            | Code::Package
            | Code::PackageInvalid
            | Code::Config
            | Code::KeyFile
            | Code::Limit => Self::ValidationError,
            Code::Conflict => Self::AlreadyExists,
            Code::Ambiguous => Self::Ambiguous,
            Code::PinMismatch => Self::PinMismatch,
            Code::AlreadyRunning => Self::AlreadyRunning,
            Code::NotFound => Self::NotFound,
            Code::Network | Code::Timeout | Code::NoProviders => Self::NetworkError,
            Code::Signature
            | Code::HashMismatch
            | Code::Size
            | Code::Path
            | Code::Malformed
            | Code::Stale
            | Code::Rollback
            | Code::Equivocation => Self::VerificationError,
            Code::DiskFull
            | Code::ReadOnly
            | Code::Io
            | Code::StoreDamaged
            | Code::StoreTooNew
            | Code::StoreTooOld => Self::StorageError,
            Code::Failed
            | Code::NotRunning
            | Code::AddressInUse
            | Code::Partial
            | Code::Busy
            | Code::Clock
            | Code::NodeKey
            | Code::Interrupted => Self::Other,
        };
        variant(failure)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.failure().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code, the error that it is to a program, and the exit status that it is to a script.
    type Meaning = (Code, fn(Failure) -> Error, u8);

    /// What every code means. Written out, so that a change of either is deliberate.
    #[rustfmt::skip]
    const MEANINGS: &[Meaning] = &[
        (Code::Failed,         Error::Other,             1),
        (Code::Usage,          Error::ValidationError,   2),
        (Code::NotRunning,     Error::Other,             3),
        (Code::NotFound,       Error::NotFound,          4),
        (Code::Network,        Error::NetworkError,      5),
        (Code::Timeout,        Error::NetworkError,      5),
        (Code::NoProviders,    Error::NetworkError,      5),
        (Code::Signature,      Error::VerificationError, 6),
        (Code::HashMismatch,   Error::VerificationError, 6),
        (Code::Size,           Error::VerificationError, 6),
        (Code::Path,           Error::VerificationError, 6),
        (Code::Malformed,      Error::VerificationError, 6),
        (Code::Limit,          Error::ValidationError,   7),
        (Code::Stale,          Error::VerificationError, 6),
        (Code::Rollback,       Error::VerificationError, 6),
        (Code::Equivocation,   Error::VerificationError, 6),
        (Code::Config,         Error::ValidationError,   7),
        (Code::Package,        Error::ValidationError,   2),
        (Code::PackageInvalid, Error::ValidationError,   7),
        (Code::KeyFile,        Error::ValidationError,   7),
        (Code::AddressInUse,   Error::Other,             8),
        (Code::Conflict,       Error::AlreadyExists,     9),
        (Code::Ambiguous,      Error::Ambiguous,         9),
        (Code::PinMismatch,    Error::PinMismatch,       9),
        (Code::AlreadyRunning, Error::AlreadyRunning,    9),
        (Code::Partial,        Error::Other,             10),
        (Code::DiskFull,       Error::StorageError,      1),
        (Code::ReadOnly,       Error::StorageError,      1),
        (Code::Io,             Error::StorageError,      1),
        (Code::StoreDamaged,   Error::StorageError,      1),
        (Code::StoreTooNew,    Error::StorageError,      1),
        (Code::StoreTooOld,    Error::StorageError,      1),
        (Code::Busy,           Error::Other,             1),
        (Code::Clock,          Error::Other,             1),
        (Code::NodeKey,        Error::Other,             1),
        (Code::Interrupted,    Error::Other,             130),
    ];

    #[test]
    fn every_code_is_one_error_and_one_exit_status() {
        for code in Code::ALL {
            let meanings: Vec<_> = MEANINGS.iter().filter(|(it, ..)| it == code).collect();
            let [(_, variant, exit)] = meanings[..] else {
                panic!("{code} stands {} times in the table", meanings.len());
            };
            let failure = Failure::new(*code, "It failed.", "Try again.");
            let error = Error::from(failure.clone());
            assert_eq!(format!("{error:?}"), format!("{:?}", variant(failure)), "{code}");
            assert_eq!((error.code(), error.failure().exit_code()), (*code, *exit));
        }
        assert_eq!(MEANINGS.len(), Code::ALL.len());
    }

    #[test]
    fn a_code_of_a_newer_node_can_be_read() {
        let wire = r#"{"code":"E_TOMORROW","message":"It rains.","hint":"Wait.","retryable":true}"#;
        let read: Failure = serde_json::from_str(wire).unwrap();
        assert_eq!((read.code, read.exit_code(), read.retryable), (Code::Failed, 1, true));
        assert_eq!((&*read.message, &*read.hint), ("It rains. (E_TOMORROW)", "Wait."));
    }

    #[test]
    fn a_failure_crosses_the_socket_as_it_was() {
        for code in Code::ALL {
            let failure = Failure::new(*code, "It failed.", "Try again.");
            let wire = serde_json::to_value(&failure).unwrap();
            assert_eq!(wire["code"], code.as_str());
            assert_eq!(serde_json::from_value::<Failure>(wire).unwrap(), failure);
        }
    }
}
