//! What is published, before it is packed: its description was read, its files were found, and both were looked over.
//!
//! Nothing is written, and nobody is asked.

use std::path::{Path, PathBuf};

use semver::Version;

use super::{failure::fail, place, signing::Keys};
use crate::{
    code::Code,
    control::api::{Failure, PublishRequest},
    identity::PublisherId,
    network::Offload,
    package::{
        PackageId,
        dependencies::Root,
        gpack::{self, Gpack},
        manifest::Preflight,
        name::parse_version,
        own::OwnSecrets,
        preflight, walk,
    },
};

/// What a publication needs to know, checked.
pub(super) struct Job {
    pub(super) directory: PathBuf,
    version: Option<Version>,
    skip_verify: bool,
    allow_secrets: bool,
    /// Where the keys are that must not be among the files.
    pub(super) keys: Option<PathBuf>,
    /// Threads that help to pack it.
    pub(super) workers: usize,
}

pub(super) fn job(request: &PublishRequest, keys: &Keys, offload: Offload) -> Result<Job, Failure> {
    let version = request.version.as_deref().map(parse_version).transpose().map_err(|error| {
        Failure::new(error.code(), error.to_string(), "Write three numbers, for example --version 1.2.3.")
    })?;
    Ok(Job {
        directory: place::normal(Path::new(&request.path)),
        version,
        skip_verify: request.skip_verify,
        allow_secrets: request.allow_secrets,
        keys: keys.folder().map(Path::to_owned),
        workers: offload.workers(),
    })
}

/// A package that was read and looked over, but not packed.
pub(super) struct Prepared {
    pub(super) job: Job,
    pub(super) gpack: Gpack,
    pub(super) found: Vec<walk::Found>,
    /// What must not be in the files.
    pub(super) own: OwnSecrets,
    pub(super) warnings: Vec<String>,
    pub(super) preflight: Preflight,
}

impl Prepared {
    /// The dependencies to check; none where there are none, or where checks are skipped.
    ///
    /// # Errors
    /// Where the package names itself, which no check that is skipped makes possible.
    pub(super) fn dependencies(&self, publisher: PublisherId) -> Result<Option<Root>, Failure> {
        let package = PackageId { publisher, name: self.gpack.name.clone() };
        let dependencies = self.gpack.dependencies.clone();
        if dependencies.contains_key(&package) {
            return Err(Failure::new(
                Code::PackageInvalid,
                format!("{package} depends on itself; nothing was changed."),
                "Take the line out of the table [dependencies] of gpack.toml.",
            ));
        }
        let is_checked = !self.job.skip_verify && !dependencies.is_empty();
        Ok(is_checked.then_some(Root { package, dependencies }))
    }
}

/// Reads the description, walks the tree and looks it over. Runs beside the runtime.
///
/// The tree is walked before anything takes long: what changes from then on is noticed when it is packed.
pub(super) fn prepare(job: Job) -> Result<Prepared, Failure> {
    let gpack::Parsed { gpack, mut warnings } =
        gpack::read(&job.directory, job.version.as_ref()).map_err(fail)?;
    let found = walk::walk_and_warn(&job.directory, &mut warnings).map_err(fail)?;
    let own = job.keys.as_deref().map(OwnSecrets::in_folder).unwrap_or_default();
    let secrets = preflight::secrets(&found, &own).map_err(fail)?;
    if !secrets.forbidden.is_empty() {
        return Err(refused(
            "Key files of this program are never published",
            &secrets.forbidden,
            preflight::FORBIDDEN_HINT,
        ));
    }
    let is_overruled = !secrets.findings.is_empty();
    if is_overruled && !job.allow_secrets {
        return Err(refused(
            "Some files look as if they held secrets",
            &secrets.findings,
            preflight::SECRETS_HINT,
        ));
    }
    warnings.extend(secrets.findings.iter().map(|finding| format!("published all the same: {finding}")));
    warnings.extend(secrets.warnings);
    if !job.skip_verify {
        warnings.extend(preflight::inspect(&found, &gpack));
    }
    let preflight = match (job.skip_verify, is_overruled) {
        (true, _) => Preflight::Skipped,
        (false, true) => Preflight::SecretsAllowed,
        (false, false) => Preflight::Passed,
    };
    Ok(Prepared { job, gpack, found, own, warnings, preflight })
}

fn refused(what: &str, findings: &[preflight::Finding], hint: &str) -> Failure {
    let list: Vec<String> = findings.iter().map(|finding| format!("  {finding}")).collect();
    Failure::new(Code::PackageInvalid, format!("{what}:\n{}", list.join("\n")), hint)
}
