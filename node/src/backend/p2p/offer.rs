//! Which versions of a package there are, and what each of them needs: for a publication that is checked, and a project that is planned.
//!
//! Versions are offered as all there are only where the whole log is here, and somebody who knew of newer ones could tell of them.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream};
use semver::Version;
use tokio::time::{Instant, timeout_at};

use super::{
    gone, install::manifest_of, node::Node, part::Missing, sources::Looking, withdrawn::names_withdrawn,
};
use crate::{
    catalog,
    content::ContentId,
    control::api::Failure,
    fetch::session::Session,
    package::{
        PackageId,
        dependencies::{Candidate, Dependencies, Need, Ranges, Resolution, Versions},
    },
    project::{Locked, plan::Planner},
    release::{Gathered, Kind, Log, Release, SignedEntry, VerifiedHead},
    store::{self, Store},
};

/// Packages that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 8;

/// What is said of a package of which nobody could tell newer versions.
pub(super) const UNHEARD: &str = "no peer could be asked whether there are newer versions";

/// How something is looked up for a project.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Nothing is taken from other nodes.
    pub(super) offline: bool,
    /// Others are asked for something newer, also where nothing is overdue.
    pub(super) asks: bool,
    pub(super) deadline: Instant,
}

/// For whom versions are looked up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker<'a> {
    /// A package that is about to be published.
    Publication { own: &'a PackageId, deadline: Instant },
    /// A project.
    Project(How),
}

impl Asker<'_> {
    fn deadline(&self) -> Instant {
        match self {
            Self::Publication { deadline, .. } => *deadline,
            Self::Project(how) => how.deadline,
        }
    }

    fn is_offline(&self) -> bool {
        matches!(self, Self::Project(how) if how.offline)
    }

    fn looking(&self) -> Looking {
        match self {
            Self::Publication { .. } => Looking::Once,
            Self::Project(_) => Looking::Twice,
        }
    }
}

/// One version that a publisher released.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    pub(super) release: Release,
    /// Where the log says so; none where the log is not here.
    pub(super) place: Option<EntryPlace>,
    /// Why it was yanked, where it was.
    pub(super) yanked: Option<String>,
}

/// An entry of a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryPlace {
    pub(super) entry: ContentId,
    pub(super) sequence: u64,
    /// The number of the document of keys that it was signed under.
    pub(super) key_n: u64,
}

/// The versions that a publisher released, as far as they are known.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) head: VerifiedHead,
    pub(super) releases: BTreeMap<Version, Offered>,
    /// Why these are not all versions of the head's log, where they are not.
    pub(super) missing: Option<String>,
    /// Whether nobody could tell of newer ones.
    pub(super) unheard: bool,
    /// What is said of a publisher that has not confirmed in time.
    pub(super) stale: Option<String>,
    /// Why nothing new of it is taken that nobody named, where it is not as fresh as the configuration demands.
    pub(super) refused: Option<Failure>,
    /// The log, where a double signing was ended in it.
    pub(super) resolved: Option<Arc<Log>>,
}

impl Offer {
    pub(super) fn of_log(head: VerifiedHead, log: &Log, missing: Option<&Missing>) -> Self {
        let mut places: BTreeMap<&Version, EntryPlace> = BTreeMap::new();
        for entry in log.entries() {
            let id = entry.id();
            let entry = entry.entry();
            let place = EntryPlace { entry: id, sequence: entry.sequence.get(), key_n: entry.key_n };
            match &entry.kind {
                Kind::Release(release) => places.extend([(&release.version, place)]),
                Kind::Resolve(resolve) => {
                    places.extend(resolve.kept.iter().map(|release| (&release.version, place)));
                }
                _ => {}
            }
        }
        let gone = || log.tombstone().map(|_| "its publisher deleted the package".to_owned());
        let one = |(version, state): (&Version, &crate::release::VersionState)| {
            let place = places.get(version).copied();
            let yanked = state.yanked.clone().or_else(gone);
            (version.clone(), Offered { release: state.release.clone(), place, yanked })
        };
        let releases = log.versions().iter().map(one).collect();
        let resolved = log.resolves().next().is_some().then(|| Arc::new(log.clone()));
        Self {
            head,
            releases,
            missing: missing.map(Missing::warning),
            unheard: false,
            stale: None,
            refused: None,
            resolved,
        }
    }

    /// The latest version only: the log could not be had.
    pub(super) fn of_head(head: VerifiedHead) -> Self {
        let one = |latest: &Release| {
            let offered = Offered { release: latest.clone(), place: None, yanked: None };
            (latest.version.clone(), offered)
        };
        let releases = head.head().latest.iter().map(one).collect();
        let missing = Some("not all of its versions are known now".to_owned());
        Self { head, releases, missing, unheard: false, stale: None, refused: None, resolved: None }
    }

    /// Why there may be newer versions than these, as halves of sentences.
    pub(super) fn doubts(&self) -> impl Iterator<Item = &str> {
        self.missing.as_deref().into_iter().chain(self.unheard.then_some(UNHEARD))
    }

    /// Whether what a lock file names counts no more since a double signing was ended.
    pub(super) fn has_withdrawn(&self, locked: &Locked) -> bool {
        self.resolved.as_ref().is_some_and(|log| names_withdrawn(&self.head, log, locked))
    }

    /// Whether the log has other content under the version that a lock file names.
    pub(super) fn has_other(&self, locked: &Locked) -> bool {
        self.releases.get(&locked.version).is_some_and(|it| it.release.manifest != locked.manifest)
    }

    /// The newest stable version that was not yanked.
    pub(super) fn latest(&self) -> Option<&Version> {
        let usable =
            self.releases.iter().filter(|(version, it)| version.pre.is_empty() && it.yanked.is_none());
        usable.map(|(version, _)| version).next_back()
    }

    /// The versions; all of them only where that is known.
    pub(super) fn versions(&self) -> Versions {
        let one = |(version, it): (&Version, &Offered)| Candidate {
            version: version.clone(),
            yanked: it.yanked.is_some(),
        };
        let list = self.releases.iter().map(one).collect();
        match &self.missing {
            Some(why) => Versions::Some(list, why.clone()),
            None if self.unheard => Versions::Some(list, UNHEARD.to_owned()),
            None => Versions::All(list),
        }
    }

    fn release(&self, version: &Version) -> Result<&Release, Failure> {
        let release = self.releases.get(version).map(|offered| &offered.release);
        release.ok_or_else(|| gone("a version that was just looked up"))
    }
}

/// What was looked up.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) packages: BTreeMap<PackageId, Offer>,
    pub(super) needs: BTreeMap<PackageId, BTreeMap<Version, Ranges>>,
    /// Versions of which the manifest could not be had, and why.
    pub(super) unread: BTreeMap<(PackageId, Version), String>,
}

/// What chooses among versions, and says what it has to know for that.
pub(super) trait Chooser {
    fn needs(&mut self) -> Vec<Need>;
    fn learn_versions(&mut self, package: PackageId, versions: Versions);
    fn learn_dependencies(&mut self, package: PackageId, version: Version, dependencies: Dependencies);
}

impl Chooser for Planner {
    fn needs(&mut self) -> Vec<Need> {
        self.needs()
    }

    fn learn_versions(&mut self, package: PackageId, versions: Versions) {
        self.learn_versions(package, versions);
    }

    fn learn_dependencies(&mut self, package: PackageId, version: Version, dependencies: Dependencies) {
        self.learn_dependencies(package, version, dependencies);
    }
}

impl Chooser for Resolution {
    fn needs(&mut self) -> Vec<Need> {
        self.needs()
    }

    fn learn_versions(&mut self, package: PackageId, versions: Versions) {
        self.learn_versions(package, versions);
    }

    fn learn_dependencies(&mut self, package: PackageId, version: Version, dependencies: Dependencies) {
        self.learn_dependencies(package, version, dependencies);
    }
}

/// What one lookup yielded.
pub(super) enum Answer {
    Versions(PackageId, Versions, Option<Box<Offer>>),
    Dependencies(PackageId, Version, Result<Ranges, String>),
}

impl Answer {
    pub(super) fn unchecked(package: PackageId, why: impl Into<String>) -> Self {
        Self::Versions(package, Versions::Unchecked(why.into()), None)
    }

    pub(super) fn offered(package: PackageId, offer: Offer) -> Self {
        Self::Versions(package, offer.versions(), Some(Box::new(offer)))
    }

    /// Tells it to the one who chooses, and keeps what was looked up.
    pub(super) fn learn(self, chooser: &mut impl Chooser, offers: &mut Offers) {
        match self {
            Self::Versions(package, versions, offer) => {
                offers.packages.extend(offer.map(|offer| (package.clone(), *offer)));
                chooser.learn_versions(package, versions);
            }
            Self::Dependencies(package, version, found) => {
                let dependencies = match found {
                    Ok(ranges) => {
                        let of = offers.needs.entry(package.clone()).or_default();
                        of.insert(version.clone(), ranges.clone());
                        Dependencies::Known(ranges)
                    }
                    Err(why) => {
                        offers.unread.insert((package.clone(), version.clone()), why.clone());
                        Dependencies::Unchecked(format!(
                            "what its version {version} needs is not known: {why}"
                        ))
                    }
                };
                chooser.learn_dependencies(package, version, dependencies);
            }
        }
    }
}

impl Node {
    /// Looks up what one who chooses asks for, until it asks for nothing more or the time is over.
    pub(super) async fn look_up_for<C>(
        &self,
        mut chooser: C,
        asker: Asker<'_>,
        offers: &mut Offers,
    ) -> Result<C, Failure>
    where
        C: Chooser + Send + 'static,
    {
        while Instant::now() < asker.deadline() {
            // A hostile graph can keep a processor busy for a second.
            let thought = self.offload.run(move || {
                let needs = chooser.needs();
                (chooser, needs)
            });
            let needs;
            (chooser, needs) = thought.await.ok_or_else(|| gone("the choice of versions"))?;
            if needs.is_empty() {
                break;
            }
            let known = &*offers;
            let lookups = stream::iter(needs).map(|need| self.answer_need(need, asker, known));
            let answers: Vec<Answer> = lookups.buffer_unordered(LOOKUPS_AT_ONCE).collect().await;
            for answer in answers {
                answer.learn(&mut chooser, offers);
            }
        }
        Ok(chooser)
    }

    async fn answer_need(&self, need: Need, asker: Asker<'_>, known: &Offers) -> Answer {
        match need {
            Need::Versions(package) => {
                if let Some(offer) = known.packages.get(&package) {
                    return Answer::offered(package, offer.clone());
                }
                let looked = async {
                    match asker {
                        Asker::Publication { own, .. } => self.look_up(&package, own).await,
                        Asker::Project(how) => self.offered(&package, how).await,
                    }
                };
                let late = || Answer::unchecked(package.clone(), "the time to look it up ran out");
                timeout_at(asker.deadline(), looked).await.unwrap_or_else(|_| late())
            }
            Need::Dependencies(package, version) => {
                let found = match known.packages.get(&package) {
                    Some(offer) => timeout_at(asker.deadline(), self.needs_of(offer, &version, asker)).await,
                    None => Ok(Err(gone("a package that was just looked up"))),
                };
                let found = match found {
                    Ok(found) => found.map_err(|failure| clause(&failure)),
                    Err(_) => Err("the time to fetch its manifest ran out".to_owned()),
                };
                Answer::Dependencies(package, version, found)
            }
        }
    }

    /// What a version needs, from its signed manifest.
    async fn needs_of(&self, offer: &Offer, version: &Version, asker: Asker<'_>) -> Result<Ranges, Failure> {
        let release = offer.release(version)?;
        let (looked, wanted) = (offer.clone(), version.clone());
        let held = self.offload_store(move |store| needed_here(store, &looked, &wanted)).await;
        match held {
            Err(_) if !asker.is_offline() => {}
            held => return held,
        }
        let deadline = asker.deadline();
        let sources = self.sources(release.root, deadline, asker.looking());
        let mut session =
            Session::new(self.network.clone(), self.store.clone(), self.offload, deadline, sources);
        let manifest = self.manifest(&mut session, &offer.head, release).await;
        self.refuse_forgers(session.report()).await;
        Ok(manifest?.gpack().dependencies.clone())
    }

    /// What it means that no head of a package was found.
    pub(super) async fn not_known(&self, package: &PackageId) -> Versions {
        if !self.is_informed().await {
            return Versions::Unchecked("no peer that was read completely is connected to ask".to_owned());
        }
        let package = package.clone();
        let listed = self.with_store(move |store| store.read(|conn| Ok(catalog::get(conn, &package)?)));
        match listed.await {
            Ok(None) => Versions::Missing,
            Ok(Some(_)) => Versions::Unchecked("its head does not verify".to_owned()),
            Err(failure) => Versions::Unchecked(clause(&failure)),
        }
    }

    /// Whether what is not known here is not known to the peers either: some are connected, and all of them were read.
    pub(super) async fn is_informed(&self) -> bool {
        self.network
            .snapshot()
            .await
            .is_ok_and(|snapshot| snapshot.heads_peers > 0 && snapshot.heads_complete == snapshot.heads_peers)
    }
}

/// The log of a package, where all of it is here.
pub(super) fn log_here(store: &Store, head: &VerifiedHead) -> Option<Log> {
    let mut entries = Gathered::default();
    let mut next = Some(head.head().entry);
    while let Some(id) = next {
        let block = store.block(&id).ok()??;
        let signed = SignedEntry::decode_and_verify(block.bytes(), head.key_log()).ok()?;
        next = signed.entry().previous;
        entries.push(signed).ok()?;
    }
    let log = Log::verify(entries.into_entries()).ok()?;
    log.anchored(head).ok()?;
    Some(log)
}

/// The entries of the log that a head names, the newest first, as far as the blocks are here that lead to them. A head is signed, and each
/// entry names the one before it by its hash: no signature is checked again.
pub(super) fn entries_here<'a>(
    store: &'a Store,
    head: &'a VerifiedHead,
) -> impl Iterator<Item = Result<SignedEntry, store::Error>> + 'a {
    let mut next = Some(head.head().entry);
    std::iter::from_fn(move || {
        let block = match store.block(&next.take()?) {
            Ok(block) => block?,
            Err(error) => return Some(Err(error)),
        };
        let signed = SignedEntry::decode_linked(block.bytes(), head.key_log()).ok()?;
        next = signed.entry().previous;
        Some(Ok(signed))
    })
}

/// What a version needs, from its manifest where that is here.
pub(super) fn needed_here(store: &Store, offer: &Offer, version: &Version) -> Result<Ranges, Failure> {
    let release = offer.release(version)?;
    let manifest = manifest_of(store, &offer.head.package_id(), release, offer.head.key_log())?;
    Ok(manifest.gpack().dependencies.clone())
}

/// A message as the second half of a sentence.
pub(super) fn clause(failure: &Failure) -> String {
    failure.message.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::fixture::{head, publisher, releases};

    #[test]
    fn versions_are_all_there_are_only_where_the_log_is_whole_and_somebody_was_heard() {
        let author = publisher(1);
        let newest = head(&author, &["1.0.0", "1.1.0"]);
        let log = releases(&author, &["1.0.0", "1.1.0"]);
        let whole = Offer::of_log(newest.clone(), &log, None);
        assert!(matches!(whole.versions(), Versions::All(list) if list.len() == 2));
        assert!(whole.releases.values().all(|offered| offered.place.is_some()));
        let unheard = Offer { unheard: true, ..whole };
        assert!(matches!(unheard.versions(), Versions::Some(list, why) if list.len() == 2 && why == UNHEARD));
        let part = releases(&author, &["1.0.0"]);
        let missing = Missing::of(Some(Version::new(1, 1, 0)), 1);
        let offer = Offer::of_log(newest.clone(), &part, Some(&missing));
        assert!(
            matches!(offer.versions(), Versions::Some(list, why) if list.len() == 1 && why.contains("1.1.0"))
        );
        assert!(matches!(Offer::of_head(newest).versions(), Versions::Some(list, _) if list.len() == 1));
    }
}
