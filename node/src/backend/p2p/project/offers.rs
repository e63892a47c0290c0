//! Which versions of a package there are, and what each of them needs, for a project that is planned.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use semver::{Version, VersionReq};
use tokio::time::{Instant, timeout_at};

use super::How;
use crate::{
    backend::p2p::{
        dependencies::log_here, failure::fail, fresh::Demand, gone, install::manifest_of, node::Node,
        sources::Looking,
    },
    catalog,
    code::Code,
    content::ContentId,
    control::api::Failure,
    fetch::session::Session,
    package::{
        PackageId,
        dependencies::{Candidate, Dependencies, Need, Problem, Ranges, Versions},
    },
    project::{
        Lock, Locked,
        plan::{Planner, Unplanned, Wishes, explain},
    },
    release::{Kind, Log, Release, VerifiedHead},
    store::Store,
};

/// Packages that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// Packages of which others are asked again for newer versions, before it is said that there are none that fit.
const ASKED_AGAIN_MAX: usize = 32;
/// Packages that a failure names one by one; the rest is counted.
const NAMED_MAX: usize = 20;

/// One version that a publisher released.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    pub(super) release: Release,
    entry: ContentId,
    sequence: u64,
    /// Why it was withdrawn, where it was.
    pub(super) yanked: Option<String>,
}

/// All versions that a publisher released.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) head: VerifiedHead,
    pub(super) releases: BTreeMap<Version, Offered>,
    /// What is said of a publisher that has not confirmed in time.
    pub(super) stale: Option<String>,
}

impl Offer {
    pub(super) fn of(head: VerifiedHead, log: &Log) -> Self {
        let mut places: BTreeMap<&Version, (ContentId, u64)> = BTreeMap::new();
        for entry in log.entries() {
            let place = (entry.id(), entry.entry().sequence.get());
            match &entry.entry().kind {
                Kind::Release(release) => places.extend([(&release.version, place)]),
                Kind::Resolve(resolve) => {
                    places.extend(resolve.kept.iter().map(|release| (&release.version, place)));
                }
                _ => {}
            }
        }
        let gone = || log.tombstone().map(|_| "its publisher deleted the package".to_owned());
        let one = |(version, state): (&Version, &crate::release::VersionState)| {
            let (entry, sequence) = *places.get(version)?;
            let yanked = state.yanked.clone().or_else(gone);
            Some((version.clone(), Offered { release: state.release.clone(), entry, sequence, yanked }))
        };
        let releases = log.versions().iter().filter_map(one).collect();
        Self { head, releases, stale: None }
    }

    /// The newest stable version that was not withdrawn.
    pub(super) fn latest(&self) -> Option<&Version> {
        let usable =
            self.releases.iter().filter(|(version, it)| version.pre.is_empty() && it.yanked.is_none());
        usable.map(|(version, _)| version).next_back()
    }

    fn versions(&self) -> Versions {
        let one = |(version, it): (&Version, &Offered)| Candidate {
            version: version.clone(),
            yanked: it.yanked.is_some(),
        };
        Versions::All(self.releases.iter().map(one).collect())
    }
}

/// What was looked up while a project was planned.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) packages: BTreeMap<PackageId, Offer>,
    needs: BTreeMap<PackageId, BTreeMap<Version, Ranges>>,
}

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

    fn locked(&self, package: &PackageId, version: &Version) -> Option<Locked> {
        let offer = self.packages.get(package)?;
        let Offered { release, entry, sequence, .. } = offer.releases.get(version)?;
        Some(Locked {
            version: version.clone(),
            root: release.root,
            entry: *entry,
            sequence: *sequence,
            keys: offer.head.key_log().tip(),
            manifest: release.manifest,
            size: release.size,
            dependencies: self.needs.get(package)?.get(version)?.clone(),
        })
    }
}

/// What one lookup yielded.
enum Answer {
    Versions(PackageId, Versions, Option<Box<Offer>>),
    Dependencies(PackageId, Version, Result<Ranges, String>),
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
        let failure = match self.plan(wishes.clone(), how, offers).await {
            Err(failure) if failure.code == Code::Conflict && !how.offline => failure,
            planned => return planned,
        };
        let mut found_any = false;
        for id in offers.unanswered(&wishes).into_iter().take(ASKED_AGAIN_MAX) {
            let Some(known) = offers.packages.get(&id).map(|offer| offer.head.clone()) else { continue };
            let newer = timeout_at(how.deadline, self.something_newer(&known)).await;
            let Some(newer) = newer.unwrap_or(Ok(None))? else { continue };
            offers.packages.insert(id, self.offer_of(newer).await?);
            found_any = true;
        }
        if found_any { self.plan(wishes, how, offers).await } else { Err(failure) }
    }

    /// Finds the versions that a project uses.
    pub(super) async fn plan(
        &self,
        wishes: Wishes,
        how: How,
        offers: &mut Offers,
    ) -> Result<BTreeMap<PackageId, Version>, Failure> {
        let mut planner = Planner::new(wishes.clone());
        while Instant::now() < how.deadline {
            // A hostile graph can keep a processor busy for a second.
            let thought = self.offload.run(move || {
                let needs = planner.needs();
                (planner, needs)
            });
            let needs;
            (planner, needs) = thought.await.ok_or_else(|| gone("the choice of versions"))?;
            if needs.is_empty() {
                break;
            }
            let known = &*offers;
            let lookups = stream::iter(needs).map(|need| self.answer_need(need, how, known));
            let answers: Vec<Answer> = lookups.buffer_unordered(LOOKUPS_AT_ONCE).collect().await;
            for answer in answers {
                learn(&mut planner, offers, answer);
            }
        }
        let finished = self.offload.run(move || planner.finish("the time to look it up ran out")).await;
        match finished.ok_or_else(|| gone("the choice of versions"))? {
            Ok(chosen) => Ok(chosen),
            Err(Unplanned::Impossible(problems)) => Err(impossible(&problems, &wishes)),
            Err(Unplanned::TooMuch) => Err(Failure::new(
                Code::Conflict,
                "Whether some versions go together was not found out: there are too many combinations; nothing was changed.",
                "Ask for fewer versions of some packages in gpack.toml, with ranges like =1.2.3 or ~1.2",
            )),
            Err(Unplanned::Unknown(unknown)) => {
                let ways_in = match self.is_alone().await {
                    true => self.ways_in(),
                    false => {
                        "Try again when more peers are connected: ggen marketplace p2p peer-list".to_owned()
                    }
                };
                Err(unplanned(&unknown, how, &ways_in))
            }
        }
    }

    async fn answer_need(&self, need: Need, how: How, known: &Offers) -> Answer {
        match need {
            Need::Versions(package) => {
                let looked = async {
                    match known.packages.get(&package) {
                        Some(offer) => Ok(offer.clone()),
                        None => self.offer(&package, how).await,
                    }
                };
                match timeout_at(how.deadline, looked).await {
                    Ok(Ok(offer)) => Answer::Versions(package, offer.versions(), Some(Box::new(offer))),
                    Ok(Err(failure)) if failure.code == Code::NotFound && !how.offline => {
                        let versions = self.not_known(&package).await;
                        Answer::Versions(package, versions, None)
                    }
                    Ok(Err(failure)) => {
                        Answer::Versions(package, Versions::Unchecked(clause(&failure)), None)
                    }
                    Err(_) => {
                        let why = "the time to look it up ran out".to_owned();
                        Answer::Versions(package, Versions::Unchecked(why), None)
                    }
                }
            }
            Need::Dependencies(package, version) => {
                let found = match known.packages.get(&package) {
                    Some(offer) => timeout_at(how.deadline, self.needs_of(offer, &version, how)).await,
                    None => Ok(Err(gone("a package that was just looked up"))),
                };
                let found = match found {
                    Ok(Ok(ranges)) => Ok(ranges),
                    Ok(Err(failure)) => Err(clause(&failure)),
                    Err(_) => Err("the time to fetch its manifest ran out".to_owned()),
                };
                Answer::Dependencies(package, version, found)
            }
        }
    }

    /// All versions of a package.
    pub(super) async fn offer(&self, package: &PackageId, how: How) -> Result<Offer, Failure> {
        if how.offline {
            let id = package.clone();
            let here = self.offload_store(move |store| offer_here(store, &id)).await?;
            return here.ok_or_else(|| {
                Failure::new(
                    Code::NotFound,
                    format!("{package}, or its log, is not known here."),
                    "Run the same command without --offline.",
                )
            });
        }
        let head = self.head_of(package).await?;
        let newest = self.newest(head, Demand::default(), how.asks, how.deadline).await?;
        let stale = newest.warning(self.now());
        Ok(Offer { stale, ..self.offer_of(newest.head).await? })
    }

    /// The versions of which the log is held somewhere; others are offered to nobody.
    async fn offer_of(&self, head: VerifiedHead) -> Result<Offer, Failure> {
        let reading = self.log_as_held(&head, None).await.map_err(Failure::from)?;
        if let Some(missing) = &reading.missing {
            tracing::warn!(package = %head.package_id(), "{}", missing.warning());
        }
        Ok(Offer::of(head, &reading.log))
    }

    /// What a version needs, from its signed manifest.
    async fn needs_of(&self, offer: &Offer, version: &Version, how: How) -> Result<Ranges, Failure> {
        let offered = offer.releases.get(version).ok_or_else(|| gone("a version that was just looked up"))?;
        let (head, release) = (offer.head.clone(), offered.release.clone());
        let held =
            self.offload_store(move |store| manifest_of(store, &head.package_id(), &release, head.key_log()));
        let manifest = match held.await {
            Ok(manifest) => manifest,
            Err(failure) if how.offline => return Err(failure),
            Err(_) => {
                let sources = self.sources(offered.release.root, how.deadline, Looking::Twice);
                let mut session = Session::new(
                    self.network.clone(),
                    self.store.clone(),
                    self.offload,
                    how.deadline,
                    sources,
                );
                let manifest = self.manifest(&mut session, &offer.head, &offered.release).await;
                self.refuse_forgers(session.report()).await;
                manifest?
            }
        };
        Ok(manifest.gpack().dependencies.clone())
    }
}

fn offer_here(store: &Store, package: &PackageId) -> Result<Option<Offer>, Failure> {
    let read = store.read(|conn| Ok((catalog::get(conn, package)?, catalog::is_frozen(conn, package)?)));
    let (Some(listed), false) = read.map_err(fail)? else { return Ok(None) };
    let head = VerifiedHead::verify_stored(&listed.bytes).map_err(fail)?;
    Ok(log_here(store, &head).map(|log| Offer::of(head, &log)))
}

fn learn(planner: &mut Planner, offers: &mut Offers, answer: Answer) {
    match answer {
        Answer::Versions(package, versions, offer) => {
            offers.packages.extend(offer.map(|offer| (package.clone(), *offer)));
            planner.learn_versions(package, versions);
        }
        Answer::Dependencies(package, version, found) => {
            let dependencies = match found {
                Ok(ranges) => {
                    let of = offers.needs.entry(package.clone()).or_default();
                    of.insert(version.clone(), ranges.clone());
                    Dependencies::Known(ranges)
                }
                Err(why) => {
                    Dependencies::Unchecked(format!("what its version {version} needs is not known: {why}"))
                }
            };
            planner.learn_dependencies(package, version, dependencies);
        }
    }
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

/// A message as the second half of a sentence.
fn clause(failure: &Failure) -> String {
    failure.message.trim_end_matches('.').to_owned()
}
