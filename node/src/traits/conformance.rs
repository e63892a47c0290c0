//! What every [`Registry`] must do, whatever stands behind it.
//!
//! For the tests of whoever implements one: [`publishes`] fills a registry, [`reads`] holds for it and for every other one that has
//! heard of the package, and [`republishes`], [`amends`] and [`deletes`] come last. The first promise that is not kept is the error.

use std::{fmt, io, path::Path};

use semver::Version;

use super::{CollectRequest, Error, KeepAction, KeepRequest, Package, Query, Registry, Release};
use crate::package::PackageId;

/// The name of the package that is published.
pub const NAME: &str = "conformance";
/// Its versions, in the order of their publication: neither that of their numbers nor that of their letters.
pub const VERSIONS: [&str; 4] = ["1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1"];
/// The same, ascending.
const ASCENDING: [&str; 4] = ["1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1"];
/// The newest one that is stable.
const STABLE: &str = "1.10.0";

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{promise}: {found}")]
pub struct Broken {
    /// What was promised.
    pub promise: &'static str,
    /// What came instead.
    pub found: String,
}

impl Broken {
    fn by(promise: &'static str) -> impl FnOnce(Error) -> Self {
        move |error| Self { promise, found: error.to_string() }
    }
}

/// Holds where the two are equal.
fn same<T: PartialEq + fmt::Debug>(promise: &'static str, found: T, expected: T) -> Result<(), Broken> {
    if found == expected { Ok(()) } else { Err(Broken { promise, found: format!("{found:?}") }) }
}

/// Holds where the error is the one that was promised.
fn refused<T: fmt::Debug>(
    promise: &'static str,
    outcome: Result<T, Error>,
    is_promised: impl FnOnce(&Error) -> bool,
) -> Result<(), Broken> {
    match outcome {
        Err(error) if is_promised(&error) => Ok(()),
        other => Err(Broken { promise, found: format!("{other:?}") }),
    }
}

fn version(text: &str) -> Version {
    text.parse().expect("a version of this file")
}

/// Writes the package of one version into a folder of its own in `scratch`, with what `content` says in its one file.
fn write(scratch: &Path, version: &str, content: &str) -> Result<Package, Broken> {
    let folder = scratch.join(format!("{NAME}-{version}"));
    let description = format!("name = {NAME:?}\nversion = {version:?}\ndescription = \"Four versions\"\n");
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("gpack.toml"), description))
        .and_then(|()| std::fs::write(folder.join("content"), content));
    let cannot = |error: io::Error| Broken { promise: "the folder can be written", found: error.to_string() };
    written.map_err(cannot)?;
    Ok(Package::from_dir(folder))
}

/// Publishes [`VERSIONS`] one after the other, from folders that it makes in `scratch`.
///
/// # Errors
/// Where one of them was not published as it stands.
pub async fn publishes(registry: &impl Registry, scratch: &Path) -> Result<PackageId, Broken> {
    const PROMISE: &str = "publish yields what was published";
    let mut published: Option<Release> = None;
    for text in VERSIONS {
        let release = registry.publish(write(scratch, text, text)?).await.map_err(Broken::by(PROMISE))?;
        same(PROMISE, &release.version, &version(text))?;
        if let Some(before) = &published {
            same("a name of one publisher is one package", &release.package, &before.package)?;
        }
        published = Some(release);
    }
    Ok(published.expect("there are versions").package)
}

/// Reads what was published, in every way.
///
/// # Errors
/// The first promise that was not kept.
pub async fn reads(registry: &impl Registry, id: &PackageId) -> Result<(), Broken> {
    let promise = "get_package yields the latest stable version";
    let latest = registry.get_package(id).await.map_err(Broken::by(promise))?;
    same(promise, latest.version, version(STABLE))?;
    let promise = "list_versions yields all versions, ascending";
    let versions = registry.list_versions(id).await.map_err(Broken::by(promise))?;
    let texts: Vec<String> = versions.iter().map(|release| release.version.to_string()).collect();
    same(promise, texts, ASCENDING.map(str::to_owned).to_vec())?;
    for release in &versions {
        let promise = "get_package_version yields exactly that version";
        let exact = registry.get_package_version(id, &release.version).await.map_err(Broken::by(promise))?;
        same(promise, &exact, release)?;
    }
    let is_unknown = |error: &Error| matches!(error, Error::NotFound(_));
    let promise = "a version that was never published is not found";
    refused(promise, registry.get_package_version(id, &version("9.9.9")).await, is_unknown)?;
    let unknown = PackageId { name: "never-published".parse().expect("a name"), ..id.clone() };
    let promise = "a package that was never published is not found";
    refused(promise, registry.get_package(&unknown).await, is_unknown)?;
    let promise = "exists says what is known";
    same(promise, registry.exists(id).await.map_err(Broken::by(promise))?, true)?;
    same(promise, registry.exists(&unknown).await.map_err(Broken::by(promise))?, false)?;
    searches(registry, id).await?;
    // Every registry can tell that it knows of something.
    same("metadata counts the packages", registry.metadata().await.packages > 0, true)
}

async fn searches(registry: &impl Registry, id: &PackageId) -> Result<(), Broken> {
    let found = async |promise, query: Query| -> Result<Vec<String>, Broken> {
        let found = registry.search(&query).await.map_err(Broken::by(promise))?;
        Ok(found.into_iter().map(|package| package.id).collect())
    };
    let promise = "a search finds a package once, whatever it has of versions";
    same(promise, found(promise, Query::new(NAME)).await?, vec![id.to_string()])?;
    let promise = "an empty text finds everything";
    same(promise, found(promise, Query::default()).await?.contains(&id.to_string()), true)?;
    let promise = "what matches nothing finds nothing";
    same(promise, found(promise, Query::new("nothingofthekind")).await?, Vec::new())?;
    let promise = "a search yields its limit at most";
    let none = Query { offset: 1, limit: Some(1), ..Query::new(NAME) };
    same(promise, found(promise, none).await?, Vec::new())
}

/// What was published is kept, pinned or not, whatever is freed.
async fn keeps(registry: &impl Registry, id: &PackageId) -> Result<(), Broken> {
    let promise = "what was published is never freed";
    let before = registry.list_versions(id).await.map_err(Broken::by(promise))?;
    let pin = KeepRequest {
        action: KeepAction::Add,
        package: id.to_string(),
        name: "mine".to_owned(),
        ..KeepRequest::default()
    };
    let pins = registry.keep(pin.clone()).await.map_err(Broken::by("what is here can be pinned"))?;
    same("a pin is listed by its name", (pins.total, pins.changed.as_deref()), (1, Some("mine")))?;
    registry.collect(CollectRequest::default()).await.map_err(Broken::by(promise))?;
    let planned = registry.collect(CollectRequest { dry_run: true }).await.map_err(Broken::by(promise))?;
    same(promise, (planned.dry_run, planned.items.len()), (true, 0))?;
    same(promise, registry.list_versions(id).await.map_err(Broken::by(promise))?, before)?;
    let pin = KeepRequest { action: KeepAction::Remove, ..pin };
    let pins = registry.keep(pin.clone()).await.map_err(Broken::by("a pin can be taken away"))?;
    same("a pin that was taken away is gone", pins.total, 0)?;
    let is_missing = |error: &Error| matches!(error, Error::NotFound(_));
    refused("a pin is taken away once", registry.keep(pin).await, is_missing)
}

/// Publishes once more what is there, and other content in its place.
///
/// # Errors
/// The first promise that was not kept.
pub async fn republishes(registry: &impl Registry, id: &PackageId, scratch: &Path) -> Result<(), Broken> {
    keeps(registry, id).await?;
    let text = VERSIONS[0];
    let promise = "the same again is no news";
    let again = registry.publish(write(scratch, text, text)?).await.map_err(Broken::by(promise))?;
    same(promise, again.version, version(text))?;
    let other = registry.publish(write(scratch, text, "other")?).await;
    refused("other content under the same version is a conflict", other, |error| {
        matches!(error, Error::AlreadyExists(_))
    })?;
    let promise = "what was refused changes nothing";
    let versions = registry.list_versions(id).await.map_err(Broken::by(promise))?;
    same(promise, versions.len(), VERSIONS.len())
}

/// Yanks the newest version and puts it back, and deprecates the package, at its publisher.
///
/// # Errors
/// The first promise that was not kept.
pub async fn amends(registry: &impl Registry, id: &PackageId) -> Result<(), Broken> {
    let newest = version(STABLE);
    let promise = "a yanked version is no longer the latest";
    registry.yank(id, &newest, "broken").await.map_err(Broken::by(promise))?;
    let latest = registry.get_package(id).await.map_err(Broken::by(promise))?;
    same(promise, latest.version, version(ASCENDING[1]))?;
    let promise = "a yanked version is still had by its number";
    let exact = registry.get_package_version(id, &newest).await.map_err(Broken::by(promise))?;
    same(promise, (exact.version, exact.yanked), (newest.clone(), true))?;
    let promise = "to yank a version again changes nothing";
    registry.yank(id, &newest, "otherwise").await.map_err(Broken::by(promise))?;
    let promise = "a version that was put back is the latest again";
    registry.unyank(id, &newest).await.map_err(Broken::by(promise))?;
    let latest = registry.get_package(id).await.map_err(Broken::by(promise))?;
    same(promise, (latest.version, latest.yanked), (newest, false))?;
    let promise = "a version that was never published cannot be yanked";
    let never = registry.yank(id, &version("9.9.9"), "").await;
    refused(promise, never, |error| matches!(error, Error::NotFound(_)))?;
    let promise = "a search shows that a package is deprecated";
    for message in ["use another", ""] {
        registry.deprecate(id, message).await.map_err(Broken::by(promise))?;
        let found = registry.search(&Query::new(NAME)).await.map_err(Broken::by(promise))?;
        let said: Vec<_> = found.iter().map(|package| package.deprecated.as_deref()).collect();
        same(promise, said, vec![Some(message).filter(|message| !message.is_empty())])?;
    }
    Ok(())
}

/// Deletes the package, at its publisher.
///
/// # Errors
/// The first promise that was not kept.
pub async fn deletes(registry: &impl Registry, id: &PackageId, scratch: &Path) -> Result<(), Broken> {
    let promise = "what was deleted does not exist";
    registry.delete(id).await.map_err(Broken::by(promise))?;
    same(promise, registry.exists(id).await.map_err(Broken::by(promise))?, false)?;
    let promise = "nothing follows the end of a package";
    refused(promise, registry.publish(write(scratch, "3.0.0", "more")?).await, |_| true)
}
