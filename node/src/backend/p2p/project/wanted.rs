//! What a project is to ask for after a command, and the versions that answer it.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};

use super::{LISTED_MAX, Opened};
use crate::{
    backend::p2p::{
        disputed::frozen,
        failure::fail,
        node::Node,
        offer::{How, Offer, Offers},
        withdrawn::{self, WITHDRAWN},
    },
    catalog,
    code::Code,
    control::api::{Failure, ProjectAction, ProjectRequest},
    package::{
        PackageId, PackageName, PackageRef, asked::Which, dependencies::Ranges, gpack, name::parse_version,
    },
    project::{
        LOCK_FILE, Lock, Requirements,
        plan::{Free, Misfit, Wishes, compatible, misfits, number},
    },
    release::{Release, VerifiedHead},
    store::pins,
};

/// What a project is to ask for, and what answers it.
pub(super) struct Wanted {
    pub(super) requirements: Requirements,
    pub(super) lock: Lock,
    /// Packages whose name a person typed.
    pub(super) named: BTreeSet<PackageId>,
    pub(super) warnings: Vec<String>,
    /// Packages that a person added without a range: the newest release, and the range that was there before.
    open: Vec<(VerifiedHead, Release, Option<VersionReq>)>,
}

impl Node {
    /// What a project is to ask for, and the versions that answer it.
    pub(super) async fn wanted(
        &self,
        request: &ProjectRequest,
        opened: &Opened,
        how: How,
        offers: &mut Offers,
    ) -> Result<Wanted, Failure> {
        let lock_path = opened.guard.root().join(LOCK_FILE);
        let no_lock = || fail(crate::project::Error::NoLock { path: lock_path.clone() });
        let mut wanted = Wanted {
            requirements: opened.requirements.clone(),
            lock: opened.lock.clone().unwrap_or_default(),
            named: BTreeSet::new(),
            warnings: Vec::new(),
            open: Vec::new(),
        };
        if request.frozen {
            return if opened.lock.is_some() { Ok(wanted) } else { Err(no_lock()) };
        }
        let (mut free, mut exact) = (Free::Nothing, BTreeMap::new());
        match &request.action {
            ProjectAction::Install => {}
            ProjectAction::Add { packages, alias } => {
                for text in packages {
                    self.add(text, alias.as_deref(), how, &mut wanted).await?;
                }
            }
            ProjectAction::Remove { packages } => {
                let mut gone = BTreeSet::new();
                for text in packages {
                    let asked = &opened.requirements;
                    let id = one(asked, text, &Lock::default())
                        .map_err(|failure| needed_by(&wanted, text).unwrap_or(failure))?;
                    // Named twice, it goes once.
                    if !gone.insert(id.clone()) {
                        continue;
                    }
                    wanted.requirements = wanted.requirements.without(&id).map_err(fail)?;
                }
            }
            ProjectAction::Update { packages, precise } => {
                let ids = packages.iter().map(|text| one(&wanted.requirements, text, &wanted.lock));
                let ids: BTreeSet<PackageId> = ids.collect::<Result<_, _>>()?;
                if let (Some(precise), Some(id)) = (precise, ids.first()) {
                    exact.insert(id.clone(), version(precise)?);
                }
                free = if ids.is_empty() { Free::Everything } else { Free::Only(ids) };
            }
        }
        // Who adds it again does not mean content that counts no more.
        for id in self.withdrawn(&wanted.lock).await? {
            if wanted.named.contains(&id) {
                wanted.lock.packages.remove(&id);
            }
        }
        let mut asked = wanted.requirements.project().dependencies.clone();
        let found = misfits(&asked, &wanted.lock);
        if request.locked {
            return match (&opened.lock, found.is_empty()) {
                (None, _) => Err(no_lock()),
                (Some(_), true) => Ok(wanted),
                (Some(_), false) => Err(unanswered(&found)),
            };
        }
        let is_unneeded = |misfit: &Misfit| matches!(misfit, Misfit::Unneeded { .. });
        if free == Free::Nothing && found.iter().all(is_unneeded) {
            for misfit in &found {
                if let Misfit::Unneeded { package } = misfit {
                    wanted.lock.packages.remove(package);
                }
            }
            return Ok(wanted);
        }
        let mut old = std::mem::take(&mut wanted.lock);
        // Who names the version does not ask what there is.
        let asks_what_there_is = how.asks && !how.offline && exact.is_empty();
        let chosen = loop {
            let (lock, free, exact) = (old.clone(), free.clone(), exact.clone());
            let is_free = |id: &PackageId| free.holds(id) || exact.contains_key(id);
            let wishes = Wishes { asked: asked.clone(), lock, free: free.clone(), exact: exact.clone() };
            let chosen = match self.plan_asking(wishes, how, offers).await {
                Ok(chosen) => chosen,
                Err(failure) if !how.offline && self.ask_for_older(&mut wanted, offers).await? => {
                    tracing::info!(failure.message, "the newest version is not to be had");
                    asked = wanted.requirements.project().dependencies.clone();
                    continue;
                }
                Err(failure) => return Err(self.with_what_is_disputed(failure, &asked, &old).await?),
            };
            // A version whose content was withdrawn is another one by now, which needs other packages.
            let withdrawn = offers.withdrawn(&old);
            let before = old.packages.len();
            old.packages.retain(|id, locked| {
                !is_free(id) || chosen.get(id) != Some(&locked.version) || !withdrawn.contains(id)
            });
            if old.packages.len() == before {
                break chosen;
            }
        };
        if asks_what_there_is {
            let freed: Vec<PackageId> = chosen.keys().filter(|id| free.holds(id)).cloned().collect();
            self.refuse_unheard(&freed, offers).await?;
        }
        wanted.lock = offers.lock(&chosen, &old)?;
        for (id, version) in &chosen {
            let is_locked = old.packages.get(id).is_some_and(|locked| locked.version == *version);
            if let Some(offer) = offers.packages.get(id) {
                let is_named =
                    exact.contains_key(id) || asked.get(id).and_then(number) == Some(version.clone());
                if let Some(failure) = offer.refused.clone().filter(|_| !is_locked && !is_named) {
                    let hint = format!(
                        "Name the version, which is then what you want: ggen marketplace p2p add {id}@={version}\n\
                         Or demand less: ggen marketplace p2p config set install.max_age <DAYS>"
                    );
                    return Err(Failure { hint, ..failure });
                }
                let stale = offer.stale.as_deref().filter(|_| !is_locked);
                let doubts = offer.doubts().filter(|_| !is_locked || asks_what_there_is);
                wanted.warnings.extend(stale.into_iter().chain(doubts).map(|why| format!("{id}: {why}")));
            }
        }
        Ok(wanted)
    }

    /// Has the project ask for an older version of what was added without a range, where nobody has the newest one. False where there
    /// is nothing to change.
    async fn ask_for_older(&self, wanted: &mut Wanted, offers: &Offers) -> Result<bool, Failure> {
        let mut any = false;
        for (head, newest, before) in std::mem::take(&mut wanted.open) {
            let id = head.package_id();
            let is_there = |offer: &Offer| offer.releases.contains_key(&newest.version);
            if offers.packages.get(&id).is_none_or(is_there) {
                continue;
            }
            let Some((older, warning)) = self.older_release(&head, &newest, &Which::Latest).await? else {
                continue;
            };
            let range = again_asked(before.as_ref(), &older.version);
            wanted.requirements = wanted.requirements.with(&id, &range, None).map_err(fail)?;
            wanted.warnings.push(format!("{id}: {warning}"));
            any = true;
        }
        Ok(any)
    }

    /// Says of a plan that failed which packages are frozen, or were withdrawn as they are locked.
    async fn with_what_is_disputed(
        &self,
        failure: Failure,
        asked: &Ranges,
        lock: &Lock,
    ) -> Result<Failure, Failure> {
        let (mut ids, lock): (BTreeSet<PackageId>, Lock) = (asked.keys().cloned().collect(), lock.clone());
        ids.extend(lock.packages.keys().cloned());
        let looked = self.offload_store(move |store| {
            let (mut frozen, mut said) = (false, Vec::new());
            for id in ids {
                let locked = lock.packages.get(&id);
                if let Some(dispute) = withdrawn::frozen_in(store, &id, locked)? {
                    frozen = true;
                    said.push(dispute);
                } else if let Some(locked) = locked
                    && withdrawn::is_locked_withdrawn(store, &id, locked)?
                {
                    said.push(format!("{id}@{} was {WITHDRAWN}", locked.version));
                }
            }
            Ok((frozen, said))
        });
        let (any_frozen, said) = looked.await?;
        if said.is_empty() {
            return Ok(failure);
        }
        let lines: Vec<String> = said.iter().take(LISTED_MAX).map(|said| format!("\n{said}")).collect();
        let hint = match any_frozen {
            true => "Leave what is frozen as it is until its publisher has resolved it, or ask for one version from before: \
                     ggen marketplace p2p add <package>@=<version>"
                .to_owned(),
            false => failure.hint,
        };
        Ok(Failure { message: format!("{}{}", failure.message, lines.concat()), hint, ..failure })
    }

    /// Adds what a person typed to what a project asks for.
    async fn add(
        &self,
        text: &str,
        alias: Option<&str>,
        how: How,
        wanted: &mut Wanted,
    ) -> Result<(), Failure> {
        let (package, range) = parse_added(text)?;
        let reference = self.meant(package).await?.reference;
        if how.offline {
            self.known_here(&reference).await?;
        }
        let head = self.resolve(&reference).await?;
        let id = head.package_id();
        if how.offline && self.dispute(&id).await?.is_some() {
            return Err(frozen(&id, "what of it is not contested is not asked for with --offline"));
        }
        let before = wanted.requirements.project().dependencies.get(&id);
        let range = match (range, before) {
            (Some(range), _) => range,
            // Only its short name changes.
            (None, Some(range)) if alias.is_some() => range.clone(),
            (None, before) => {
                let newest = self.release_of(&head, None).await?.release;
                let range = again_asked(before, &newest.version);
                wanted.open.push((head.clone(), newest, before.cloned()));
                range
            }
        };
        let alias = match (alias, wanted.requirements.alias(&id)) {
            (Some(alias), _) => alias
                .parse::<PackageName>()
                .map_err(|error| Failure::new(error.code(), error.to_string(), "For example: --as web"))?,
            (None, Some(alias)) => alias.clone(),
            (None, None) => id.name.clone(),
        };
        if let Some(other) = wanted.requirements.project().aliases.get(&alias).filter(|other| **other != id) {
            return Err(Failure::new(
                Code::Conflict,
                format!("The short name \"{alias}\" means {other} in this project; nothing was changed."),
                format!("Give this one another: ggen marketplace p2p add {id} --as <name>"),
            ));
        }
        wanted.requirements = wanted.requirements.with(&id, &range, Some(&alias)).map_err(fail)?;
        if wanted.named.contains(&id) {
            return Err(Failure::new(
                Code::Usage,
                format!("{id} is named twice; nothing was changed."),
                "Name it once, with one range that allows what you need: web-tools@^1.2",
            ));
        }
        wanted.named.insert(id);
        Ok(())
    }

    /// Refuses a package of which nothing is known here.
    async fn known_here(&self, reference: &PackageRef) -> Result<(), Failure> {
        let (name, publisher) = (reference.name.clone(), reference.publisher);
        let known = self.with_store(move |store| {
            store.read(|conn| {
                let publisher = match publisher {
                    Some(publisher) => Some(publisher),
                    None => pins::pinned(conn, &name)?,
                };
                match publisher {
                    Some(publisher) => Ok(catalog::get(conn, &PackageId { publisher, name })?.is_some()),
                    None => Ok(catalog::by_name(conn, &name)?.total > 0),
                }
            })
        });
        if known.await? {
            return Ok(());
        }
        Err(Failure::new(
            Code::NotFound,
            format!("{reference} is not known on this machine; nothing was changed."),
            "Run the same command without --offline.",
        ))
    }
}

/// The range of a package that is added without one: what is compatible with the newest version, or the range that is there, where
/// that allows it.
pub(super) fn again_asked(before: Option<&VersionReq>, newest: &Version) -> VersionReq {
    before.filter(|range| range.matches(newest)).cloned().unwrap_or_else(|| compatible(newest))
}

/// Takes apart what a person types after `add`: `[publisher/]name[@range]`.
fn parse_added(text: &str) -> Result<(&str, Option<VersionReq>), Failure> {
    let (package, range) = match text.split_once('@') {
        Some((package, "latest")) => (package, None),
        Some((package, range)) => (package, Some(range)),
        None => (text, None),
    };
    let range = range.map(|range| {
        gpack::range(range).map_err(|why| {
            Failure::new(
                Code::Usage,
                format!("{}: {why}", crate::package::shorten(text)),
                "For example: web-tools@^1.2, or \"web-tools@>=1.2, <2\"",
            )
        })
    });
    Ok((package, range.transpose()?))
}

fn version(text: &str) -> Result<Version, Failure> {
    parse_version(text).map_err(|error| {
        Failure::new(error.code(), error.to_string(), "Write three numbers, for example 1.2.3.")
    })
}

/// The one package of a project that a person means.
fn one(requirements: &Requirements, text: &str, lock: &Lock) -> Result<PackageId, Failure> {
    match requirements.named(text, lock.packages.keys())[..] {
        [id] => Ok(id.clone()),
        [] => Err(Failure::new(
            Code::NotFound,
            format!(
                "This project does not ask for \"{}\"; nothing was changed.",
                crate::package::shorten(text)
            ),
            match text.rsplit_once('@') {
                Some((name, version)) if !name.is_empty() && !version.starts_with("gp1") => format!(
                    "Name it without a version. To take one of its versions: ggen marketplace p2p update {name} --precise {version}"
                ),
                _ => "See what it uses: ggen marketplace p2p tree".to_owned(),
            },
        )),
        ref several => {
            let list: Vec<String> = several.iter().take(LISTED_MAX).map(|id| format!("  {id}")).collect();
            Err(Failure::new(
                Code::Ambiguous,
                format!("\"{}\" means several packages:\n{}", crate::package::shorten(text), list.join("\n")),
                "Name the one you mean by its full id: <publisher>/<name>",
            ))
        }
    }
}

/// Why a package cannot be taken out that the project does not ask for itself: others need it.
fn needed_by(wanted: &Wanted, text: &str) -> Option<Failure> {
    let id = one(&wanted.requirements, text, &wanted.lock).ok()?;
    let name = |id: &PackageId| wanted.requirements.alias(id).unwrap_or(&id.name).to_string();
    let by = wanted.lock.packages.iter().filter(|(_, locked)| locked.dependencies.contains_key(&id));
    let by: Vec<String> = by.map(|(by, _)| name(by)).take(LISTED_MAX).collect();
    let verb = if by.len() == 1 { "needs" } else { "need" };
    (!by.is_empty()).then(|| {
        Failure::new(
            Code::Conflict,
            format!(
                "This project does not ask for {} itself: {} {verb} it; nothing was changed.",
                name(&id),
                by.join(", ")
            ),
            format!(
                "It goes when nobody needs it any more. See why it is here: ggen marketplace p2p why {}",
                name(&id)
            ),
        )
    })
}

pub(super) fn unanswered(found: &[Misfit]) -> Failure {
    let mut lines: Vec<String> = found.iter().take(LISTED_MAX).map(|misfit| format!("  {misfit}")).collect();
    if found.len() > LISTED_MAX {
        lines.push(format!("  and {} more", found.len() - LISTED_MAX));
    }
    Failure::new(
        Code::Conflict,
        format!("gpack.lock does not match gpack.toml; nothing was changed.\n{}", lines.join("\n")),
        "Bring it up to date, and keep it in version control: ggen marketplace p2p install",
    )
}
