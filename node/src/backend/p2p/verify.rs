//! Holding what is installed against what was signed, and listing it.

use std::path::PathBuf;

use super::{
    amend::taken_back,
    failure::fail,
    fresh,
    install::{head_key, manifest_of},
    node::Node,
};
use crate::{
    code::Code,
    control::api::{Failure, ListedPackage, Listing, Verified, VerifyRequest},
    package::{PackageId, PackageRef, check},
    release::{Release, VerifiedHead},
    store::{self, installed, meta, outbox, published},
};

impl Node {
    pub(super) async fn verify(&self, request: VerifyRequest) -> Result<Verified, Failure> {
        let reference = Self::parse_reference(&request.package)?;
        let installations = self.installations(&reference, request.path.map(PathBuf::from)).await?;
        let is_one_of_several = installations.len() > 1;
        let mut all = Vec::new();
        for installed in installations {
            let (id, path) = (id(&installed), installed.path.display().to_string());
            all.push(match self.verify_one(installed).await {
                Ok(verified) => verified,
                // The others are told of all the same.
                Err(failure) if is_one_of_several => {
                    Verified { id, path, differences: vec![failure.message], ..Verified::default() }
                }
                Err(failure) => return Err(failure),
            });
        }
        // What differs comes first, so that the first answer says whether everything is as it should be.
        all.sort_by_key(|verified| verified.ok);
        let mut all = all.into_iter();
        let first = all.next().ok_or_else(|| not_installed(&reference))?;
        Ok(Verified { others: all.collect(), ..first })
    }

    async fn verify_one(&self, installed: installed::Installed) -> Result<Verified, Failure> {
        let head = self.head_of_installed(&installed.package).await?;
        let release = Release {
            version: installed.version.clone(),
            manifest: installed.manifest,
            root: installed.root,
            size: installed.bytes,
            files: installed.files,
        };
        let (keys, row) = (head.key_log().clone(), installed.clone());
        let report = self
            .offload_store(move |store| {
                let manifest = manifest_of(store, &row.package, &release, &keys)?;
                check::check(&manifest, &row.path).map_err(fail)
            })
            .await?;
        Ok(Verified {
            id: id(&installed),
            path: installed.path.display().to_string(),
            cid: installed.root.to_string(),
            ok: report.differences.is_empty(),
            files: report.files,
            bytes: report.bytes,
            differences: report.differences.iter().map(ToString::to_string).collect(),
            signed_by: signed_by(&head),
            publisher: installed.package.publisher.to_string(),
            key_path: key_path(&head),
            others: Vec::new(),
        })
    }

    /// The head that a package was installed from: its keys and signatures count also when nobody renews it any more.
    async fn head_of_installed(&self, package: &PackageId) -> Result<VerifiedHead, Failure> {
        let key = head_key(package);
        let kept = self.with_store(move |store| store.read(|conn| meta::get(conn, &key))).await?;
        match kept {
            Some(bytes) => VerifiedHead::verify_stored(&bytes).map_err(fail),
            None => self.head_of(package).await,
        }
    }

    /// The installations that a reference means, or the one that a folder means.
    async fn installations(
        &self,
        reference: &PackageRef,
        path: Option<PathBuf>,
    ) -> Result<Vec<installed::Installed>, Failure> {
        let all = self.with_store(|store| store.read(installed::list_all)).await?;
        let matches = |it: &installed::Installed| {
            it.package.name == reference.name
                && reference.publisher.is_none_or(|publisher| publisher == it.package.publisher)
                && reference.version.as_ref().is_none_or(|version| *version == it.version)
        };
        let mut fitting: Vec<_> = all.into_iter().filter(matches).collect();
        if let Some(path) = path {
            // Another copy of an installed package may be checked too, wherever it is.
            if let Some(at) = fitting.iter().position(|it| it.path == path) {
                return Ok(vec![fitting.swap_remove(at)]);
            }
            fitting.sort_by(|a, b| a.version.cmp(&b.version));
            let newest = fitting.pop().ok_or_else(|| not_installed(reference))?;
            return Ok(vec![installed::Installed { path, ..newest }]);
        }
        Ok(fitting)
    }

    pub(super) async fn list(&self) -> Result<Listing, Failure> {
        let (published, queued, installed) = self
            .with_store(|store| {
                store.read(|conn| {
                    Ok((published::list_all(conn)?, outbox::list_all(conn)?, installed::list_all(conn)?))
                })
            })
            .await?;
        let published = published.into_iter().map(|row| ListedPackage {
            id: format!("{}@{}", row.package, row.version),
            name: row.package.name.to_string(),
            version: row.version.to_string(),
            cid: row.root.to_string(),
            kind: "published".to_owned(),
            path: row.path.display().to_string(),
            time: row.published_at.to_string(),
            size: row.bytes,
            ..ListedPackage::default()
        });
        let queued = queued.into_iter().map(|row| ListedPackage {
            id: format!("{}@{}", row.package, row.version),
            name: row.package.name.to_string(),
            version: row.version.to_string(),
            cid: row.root.to_string(),
            kind: "queued".to_owned(),
            path: row.path.display().to_string(),
            time: row.queued_at.to_string(),
            size: row.bytes,
            why: row.why,
            ..ListedPackage::default()
        });
        let installed = installed.into_iter().map(|row| ListedPackage {
            id: format!("{}@{}", row.package, row.version),
            name: row.package.name.to_string(),
            version: row.version.to_string(),
            cid: row.root.to_string(),
            kind: "installed".to_owned(),
            path: row.path.display().to_string(),
            time: row.installed_at.to_string(),
            size: row.bytes,
            ..ListedPackage::default()
        });
        let mut packages: Vec<_> = published.chain(queued).chain(installed).collect();
        let ids: Vec<_> = packages.iter().map(|row| row.id.clone()).collect();
        let now = self.now();
        let known = self.with_store(move |store| {
            let known = |id: &String| Ok((fresh::of_listed(store, id, now)?, taken_back(store, id)?));
            ids.iter().map(known).collect::<Result<Vec<_>, store::Error>>()
        });
        for (row, (freshness, taken_back)) in packages.iter_mut().zip(known.await?) {
            row.freshness = freshness;
            row.yanked = taken_back.yanked;
            row.deprecated = taken_back.deprecated;
        }
        Ok(Listing { total: packages.len(), packages })
    }
}

fn id(installed: &installed::Installed) -> String {
    format!("{}@{}", installed.package, installed.version)
}

fn not_installed(reference: &PackageRef) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("{reference} is not installed here."),
        "See what is: ggen marketplace p2p list",
    )
}

/// The keys that stand behind a head, in hex.
fn signed_by(head: &VerifiedHead) -> String {
    let keys: Vec<String> = head.key_log().current().keys.iter().map(ToString::to_string).collect();
    keys.join(", ")
}

/// The key documents from the genesis to the current one.
fn key_path(head: &VerifiedHead) -> Vec<String> {
    let last = head.key_log().current().n;
    (0..=last).filter_map(|n| Some(format!("document {n}: {}", head.key_log().fingerprint(n)?))).collect()
}
