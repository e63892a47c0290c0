//! The choice of versions for a project: what is looked up for it, and what is said where there is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use semver::{Version, VersionReq};
use tokio::time::{Instant, timeout_at};

use crate::{
    backend::p2p::{
        failure::fail,
        fresh::Newest,
        gone,
        node::Node,
        offer::{Answer, Asker, How, Offer, Offered, Offers, clause, log_here},
    },
    catalog,
    code::Code,
    control::api::Failure,
    package::{PackageId, dependencies::Problem},
    project::{
        Lock, Locked,
        plan::{Planner, Unplanned, Wishes, explain},
    },
    release::VerifiedHead,
    store::Store,
};

/// How long peers that have only just connected may take to tell what they know.
const HEADS_PATIENCE: Duration = Duration::from_secs(4);
/// How often versions are left out that nobody has now.
const SET_ASIDE_MAX: usize = 8;
/// Packages of which others are asked again for newer versions, before it is said that there are none that fit.
const ASKED_AGAIN_MAX: usize = 32;
/// Packages that a failure names one by one; the rest is counted.
const NAMED_MAX: usize = 20;

impl Offers {
    /// The lock file of a choice of versions: what was locked before stays word for word.
    pub(super) fn lock(&self, chosen: &BTreeMap<PackageId, Version>, old: &Lock) -> Result<Lock, Failure> {
        let mut packages = BTreeMap::new();
        for (package, version) in chosen {
            let locked = match old.packages.get(package).filter(|locked| locked.version == *version) {
                Some(locked) => locked.clone(),
                None => {
                    self.locked(package, version).ok_or_else(|| gone("a version that was just chosen"))?
                }
            };
            packages.insert(package.clone(), locked);
        }
        Ok(Lock { packages })
    }

    /// The packages of a lock file of which the content that it names counts no more, or never did, by what was looked up.
    pub(super) fn withdrawn(&self, lock: &Lock) -> BTreeSet<PackageId> {
        let is_withdrawn = |(id, locked): &(&PackageId, &Locked)| {
            self.packages.get(*id).is_some_and(|offer| offer.has_withdrawn(locked) || offer.has_other(locked))
        };
        lock.packages.iter().filter(is_withdrawn).map(|(id, _)| id.clone()).collect()
    }

    /// The packages of which no known version is one of those that somebody asks for.
    fn unanswered(&self, wishes: &Wishes) -> BTreeSet<PackageId> {
        let of_others = self.needs.values().flat_map(BTreeMap::values).flatten();
        let asked = wishes.asked.iter().chain(of_others);
        let lacks = |(id, range): &(&PackageId, &VersionReq)| {
            let offer = self.packages.get(*id);
            offer.is_some_and(|offer| !offer.releases.keys().any(|version| range.matches(version)))
        };
        let exact = wishes.exact.iter().filter(|(id, version)| {
            self.packages.get(id).is_some_and(|offer| !offer.releases.contains_key(version))
        });
        asked.filter(lacks).map(|(id, _)| id.clone()).chain(exact.map(|(id, _)| id.clone())).collect()
    }

    /// Why the version that a person wants of a package cannot be had, where there is no such version.
    fn without_exact(&self, wishes: &Wishes) -> Option<Failure> {
        let lacks = |(id, version): &(&PackageId, &Version)| {
            self.packages.get(*id).is_some_and(|offer| !offer.releases.contains_key(version))
        };
        let (id, version) = wishes.exact.iter().find(lacks)?;
        let known = self.packages.get(id)?.releases.keys().rev();
        let mut known: Vec<String> = known.map(ToString::to_string).collect();
        let more = known.len().saturating_sub(NAMED_MAX);
        known.truncate(NAMED_MAX);
        let rest = if more == 0 { String::new() } else { format!(", and {more} more") };
        Some(Failure::new(
            Code::NotFound,
            format!("{id} has no version {version}; nothing was changed."),
            format!("Its versions: {}{rest}", known.join(", ")),
        ))
    }

    /// Leaves the versions out of which the manifest could not be had, where the package has others and the lock file does not name
    /// them. False where there are none.
    fn set_aside_unread(&mut self, lock: &Lock) -> bool {
        let mut any = false;
        for ((id, version), why) in std::mem::take(&mut self.unread) {
            let is_locked = lock.packages.get(&id).is_some_and(|locked| locked.version == version);
            let Some(offer) = self.packages.get_mut(&id).filter(|it| !is_locked && it.releases.len() > 1)
            else {
                continue;
            };
            if offer.releases.remove(&version).is_some() {
                offer.missing = Some(format!("version {version} is left out: {why}"));
                any = true;
            }
        }
        any
    }

    fn locked(&self, package: &PackageId, version: &Version) -> Option<Locked> {
        let offer = self.packages.get(package)?;
        let Offered { release, place, .. } = offer.releases.get(version)?;
        let place = (*place)?;
        Some(Locked {
            version: version.clone(),
            root: release.root,
            entry: place.entry,
            sequence: place.sequence,
            // That of the entry, and not the newest one: whoever locks this version later writes the same.
            keys: offer.head.key_log().document_id(place.key_n)?,
            manifest: release.manifest,
            size: release.size,
            dependencies: self.needs.get(package)?.get(version)?.clone(),
        })
    }
}

impl Node {
    /// Finds the versions that a project uses; where a package has none of those that are asked for, as far as is known, others are
    /// asked whether there are newer ones.
    pub(super) async fn plan_asking(
        &self,
        wishes: Wishes,
        how: How,
        offers: &mut Offers,
    ) -> Result<BTreeMap<PackageId, Version>, Failure> {
        let failure = match self.plan_with_what_can_be_had(&wishes, how, offers).await {
            Err(failure)
                if matches!(failure.code, Code::Conflict | Code::Network | Code::NotFound)
                    && !how.offline =>
            {
                failure
            }
            planned => return planned,
        };
        if self.is_alone().await {
            return Err(failure);
        }
        let mut learned_any = false;
        for id in offers.unanswered(&wishes).into_iter().take(ASKED_AGAIN_MAX) {
            let Some(known) = offers.packages.get(&id).map(|offer| offer.head.clone()) else { continue };
            let newer = timeout_at(how.deadline, self.something_newer(&known)).await;
            if let Some(newer) = newer.unwrap_or(Ok(None))? {
                let newest = self.as_known(newer).await?;
                let offer = self.offer_of(newest.head.clone()).await?;
                offers.packages.insert(id, self.judged(offer, &newest));
                learned_any = true;
            } else if let Some(offer) = offers.packages.get_mut(&id).filter(|offer| offer.unheard) {
                offer.unheard = !self.is_informed().await;
                learned_any |= !offer.unheard;
            }
        }
        if learned_any { self.plan(wishes, how, offers).await } else { Err(failure) }
    }

    /// As [`Node::plan`]; a version that nobody has now gives way to another one that will do.
    async fn plan_with_what_can_be_had(
        &self,
        wishes: &Wishes,
        how: How,
        offers: &mut Offers,
    ) -> Result<BTreeMap<PackageId, Version>, Failure> {
        let first = match self.plan(wishes.clone(), how, offers).await {
            Err(failure) if matches!(failure.code, Code::Network | Code::NotFound) => failure,
            planned => return planned,
        };
        for _ in 0..SET_ASIDE_MAX {
            if !offers.set_aside_unread(&wishes.lock) {
                break;
            }
            if let Ok(chosen) = self.plan(wishes.clone(), how, offers).await {
                return Ok(chosen);
            }
        }
        // With those versions it may be possible: that they could not be had is why it is not known.
        Err(first)
    }

    /// Finds the versions that a project uses.
    pub(super) async fn plan(
        &self,
        wishes: Wishes,
        how: How,
        offers: &mut Offers,
    ) -> Result<BTreeMap<PackageId, Version>, Failure> {
        let planner = Planner::new(wishes.clone());
        let planner = self.look_up_for(planner, Asker::Project(how), offers).await?;
        let finished = self.offload.run(move || planner.finish("the time to look it up ran out")).await;
        match finished.ok_or_else(|| gone("the choice of versions"))? {
            Ok(chosen) => Ok(chosen),
            Err(Unplanned::Impossible(problems)) => {
                Err(offers.without_exact(&wishes).unwrap_or_else(|| impossible(&problems, &wishes)))
            }
            Err(Unplanned::TooMuch) => Err(Failure::new(
                Code::Conflict,
                "Whether some versions go together was not found out: there are too many combinations; nothing was changed.",
                "Ask for fewer versions of some packages in gpack.toml, with ranges like =1.2.3 or ~1.2",
            )),
            Err(Unplanned::Unknown(unknown)) => {
                let ways_in = self.hint_without_answers().await;
                Err(unplanned(&unknown, how, &ways_in))
            }
        }
    }

    /// Finds the versions of a package, here and, where that may be, among the peers.
    pub(in crate::backend::p2p) async fn offered(&self, package: &PackageId, how: How) -> Answer {
        match self.offer(package, how).await {
            Ok(offer) => Answer::offered(package.clone(), offer),
            Err(failure) if failure.code == Code::NotFound && !how.offline => {
                Answer::Versions(package.clone(), self.not_known(package).await, None)
            }
            Err(failure) => Answer::unchecked(package.clone(), clause(&failure)),
        }
    }

    /// All versions of a package.
    pub(super) async fn offer(&self, package: &PackageId, how: How) -> Result<Offer, Failure> {
        if how.offline {
            let id = package.clone();
            let here = self.offload_store(move |store| offer_here(store, &id)).await?;
            let here = match here {
                Some(offer) => {
                    let newest = self.as_known(offer.head.clone()).await?;
                    Some(self.judged(offer, &newest))
                }
                None => None,
            };
            return here.ok_or_else(|| {
                Failure::new(
                    Code::NotFound,
                    format!("{package}, or its log, is not known here."),
                    "Run the same command without --offline.",
                )
            });
        }
        let head = self.head_of(package).await?;
        self.refuse_revoked(package).await?;
        let newest = self.newest(head, self.demand(false, None, true), how.asks, how.deadline).await?;
        let unheard = newest.heard != Some(true) && !self.is_told_of(package, how.deadline).await;
        let offer = self.offer_of(newest.head.clone()).await?;
        Ok(Offer { unheard, ..self.judged(offer, &newest) })
    }

    /// An offer with what is to be said of how fresh it is.
    fn judged(&self, offer: Offer, newest: &Newest) -> Offer {
        let now = self.now();
        let refused = newest.demanded(self.demand(false, None, true), now).err();
        Offer { stale: newest.warning(now), refused, ..offer }
    }

    /// Whether a newer state of a package would be known here: it is our own, or all peers told what they know.
    async fn is_told_of(&self, package: &PackageId, deadline: Instant) -> bool {
        if self.publisher_of(package.publisher).is_ok_and(|own| own.is_some()) || self.is_informed().await {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now()).min(HEADS_PATIENCE);
        !self.is_alone().await && self.network.heads_read(left).await && self.is_informed().await
    }

    /// The versions of which the log is held somewhere; others are offered to nobody.
    async fn offer_of(&self, head: VerifiedHead) -> Result<Offer, Failure> {
        let reading = self.log_as_held(&head, None).await.map_err(Failure::from)?;
        Ok(Offer::of_log(head, &reading.log, reading.missing.as_ref()))
    }

    /// Refuses to say that there is nothing newer where nobody could be asked.
    pub(super) async fn refuse_unheard(&self, asked: &[PackageId], offers: &Offers) -> Result<(), Failure> {
        if !is_all_unheard(asked, offers) {
            return Ok(());
        }
        let hint = self.hint_without_answers().await;
        Err(Failure::new(
            Code::Network,
            "No peer could be asked whether there are newer versions; nothing was changed.",
            hint,
        ))
    }

    async fn hint_without_answers(&self) -> String {
        match self.is_alone().await {
            true => self.ways_in(),
            false => "Try again when more peers are connected: ggen marketplace p2p peer-list".to_owned(),
        }
    }
}

/// Whether some packages were looked up, and nobody could tell newer versions of any of them.
fn is_all_unheard(asked: &[PackageId], offers: &Offers) -> bool {
    let looked: Vec<&Offer> = asked.iter().filter_map(|id| offers.packages.get(id)).collect();
    !looked.is_empty() && looked.iter().all(|offer| offer.unheard)
}

fn offer_here(store: &Store, package: &PackageId) -> Result<Option<Offer>, Failure> {
    let read = store.read(|conn| Ok((catalog::get(conn, package)?, catalog::is_frozen(conn, package)?)));
    let (Some(listed), false) = read.map_err(fail)? else { return Ok(None) };
    let head = VerifiedHead::verify_stored(&listed.bytes).map_err(fail)?;
    Ok(log_here(store, &head).map(|log| Offer::of_log(head, &log, None)))
}

/// Why no versions answer everything that is asked for.
fn impossible(problems: &[Problem], wishes: &Wishes) -> Failure {
    let all = |is: fn(&Problem) -> bool| problems.iter().all(is);
    let (code, what, hint) = if all(Problem::is_missing) {
        (
            Code::NotFound,
            "Not every package that is asked for is known to anybody",
            "Check the ids in gpack.toml, and look for the packages: ggen marketplace p2p search <name>",
        )
    } else if wishes.exact.is_empty() && all(Problem::is_without_version) {
        (
            Code::NotFound,
            "There is no version in a range that is asked for",
            "Ask for another range in gpack.toml, or with: ggen marketplace p2p add <package>@<range>\nA version that was yanked is taken where it is named exactly: <package>@=1.2.3",
        )
    } else if all(Problem::is_circle) {
        (
            Code::Conflict,
            "Some packages need each other in a circle",
            "Leave one of them out of gpack.toml, or ask for a version from before the circle: only its publisher can end it.",
        )
    } else {
        (
            Code::Conflict,
            "No versions go together that answer everything that is asked for",
            "Ask for another range of one of them in gpack.toml, or with: ggen marketplace p2p add <package>@<range>",
        )
    };
    Failure::new(code, format!("{what}; nothing was changed.\n{}", explain(problems, wishes)), hint)
}

fn unplanned(unknown: &BTreeMap<PackageId, String>, how: How, ways_in: &str) -> Failure {
    let mut lines: Vec<String> =
        unknown.iter().take(NAMED_MAX).map(|(package, why)| format!("  {package}: {why}")).collect();
    if unknown.len() > NAMED_MAX {
        lines.push(format!("  and {} more", unknown.len() - NAMED_MAX));
    }
    let (code, hint) = match how.offline {
        true => (Code::NotFound, "Run the same command without --offline."),
        false => (Code::Network, ways_in),
    };
    Failure::new(
        code,
        format!(
            "Which versions there are is not known for all packages; nothing was changed.\n{}",
            lines.join("\n")
        ),
        hint,
    )
}
