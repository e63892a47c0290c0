//! What a package registry does, whatever stands behind it.
//!
//! [`Registry`] is the face that programs use; [`P2PRegistry`](crate::backend::p2p::P2PRegistry) is the one without a server.
//! Whoever implements another one can hold it against [`conformance`].

pub mod conformance;

use std::{
    future::Future,
    path::{Path, PathBuf},
};

use semver::Version;

pub use crate::control::api::PackageInfo;
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
}

impl Package {
    /// The package in a directory; nothing is read yet.
    pub fn from_dir(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_owned(), version: None, skip_verify: false }
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

    /// Skips the local checks that concern neither form, hashes nor signatures.
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
    /// Whether its publisher withdrew it.
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
    /// Publishes a package: it is either durable here with its signed head, announced now or as soon as somebody listens,
    /// or nothing has changed.
    fn publish(&self, package: Package) -> impl Future<Output = Result<Release, Error>> + Send;

    /// Finds packages, best first, at most `limit`, none twice; an empty text lists all by recency.
    fn search(&self, query: &Query) -> impl Future<Output = Result<Vec<PackageInfo>, Error>> + Send;

    /// The latest stable version that was not withdrawn.
    fn get_package(&self, package: &PackageId) -> impl Future<Output = Result<Release, Error>> + Send;

    /// Exactly this version, withdrawn or not.
    fn get_package_version(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> impl Future<Output = Result<Release, Error>> + Send;

    /// All versions, ascending.
    fn list_versions(&self, package: &PackageId) -> impl Future<Output = Result<Vec<Release>, Error>> + Send;

    /// Stops serving a package; one of our own gets a tombstone, after which nothing can be published under its name.
    fn delete(&self, package: &PackageId) -> impl Future<Output = Result<(), Error>> + Send;

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
    /// Nothing is known under that name.
    #[error("{}", .0.message)]
    NotFound(Failure),
    /// Nobody could be reached, or not in time.
    #[error("{}", .0.message)]
    NetworkError(Failure),
    /// A signature, a hash or a rule did not hold.
    #[error("{}", .0.message)]
    VerificationError(Failure),
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
            | Self::NotFound(failure)
            | Self::NetworkError(failure)
            | Self::VerificationError(failure)
            | Self::Other(failure) => failure,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        Code::from_word(&self.failure().code).unwrap_or(Code::Failed)
    }

    /// What to do next.
    pub fn hint(&self) -> &str {
        &self.failure().hint
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure.exit_code() {
            2 | 7 => Self::ValidationError(failure),
            4 => Self::NotFound(failure),
            5 => Self::NetworkError(failure),
            6 => Self::VerificationError(failure),
            9 => Self::AlreadyExists(failure),
            _ => Self::Other(failure),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.failure().clone()
    }
}
