//! What follows from a change of a publisher's keys: new heads of all its packages, and who is missed. And what a machine does by
//! itself whose key signs elsewhere too: it reads on what was added there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use semver::Version;
use tokio::time::{Duration, Instant, sleep};

use super::{
    confirm,
    doubtful::{
        Elsewhere, listed_elsewhere, not_published_here, said_of_doubtful, said_of_dropped, said_of_foreign,
    },
    failure::fail,
    gone,
    history::{self, Standing, Thoroughness, held_log, keep_head, labels_of, not_kept},
    node::Node,
    recover,
    signing::{Keys, published_before},
    two_chains::{Ending, others_follow_another},
};
use crate::{
    catalog,
    code::Code,
    control::api::{Failure, KeysRenewed},
    identity::{KeyLog, Publisher, PublisherId, Replaced},
    package::PackageId,
    release::{Head, VerifiedHead, fork},
    store::{self, Store, heads},
    time::Timestamp,
};

/// How long telling of one package may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether heads that wait can be signed, and whether a log of ours went on elsewhere.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Packages that a thief may have published of which the heads are kept, for whoever takes one over.
const DOUBTFUL_KEPT_MAX: usize = 64;

/// What became of the head of one package.
enum Renewed {
    /// It was signed under the current keys.
    Signed(Box<Signed>),
    /// It is frozen: its next head is one that resolves it.
    Frozen,
    /// It is under the current keys.
    Current,
}

/// A head that was signed again.
struct Signed {
    head: VerifiedHead,
    /// Whether that ended a double signing.
    ends: bool,
    /// What others have of the log that does not count, because a revoked key signed it and it was not known here before.
    dropped: Option<VerifiedHead>,
    /// Versions that the revoked key signed, and that were not published here.
    foreign: Vec<Version>,
}

/// Signs the heads again that are under keys which were replaced, as soon as that can be done, and says which keys are gone.
pub(super) async fn renew(node: Arc<Node>) {
    match node.lost_keys().await {
        Ok(lost) => lost.iter().for_each(|publisher| {
            tracing::warn!(%publisher, "the key of a publisher that published here is gone; see: ggen marketplace p2p key list");
        }),
        Err(failure) => tracing::warn!(failure.message, "which keys are here is not known"),
    }
    if let Err(failure) = node.keep_key_documents().await {
        tracing::warn!(
            failure.message,
            "the key documents of the publishers here are not kept apart from their keys"
        );
    }
    let (mut told, mut is_due, mut pause) = (BTreeSet::new(), true, LOOK_INTERVAL);
    loop {
        let mut said: BTreeSet<String> = node.read_on().await.into_iter().collect();
        if is_due {
            said.extend(node.keys.unreadable());
            match node.renew_keys().await {
                Ok(answer) => {
                    is_due = !answer.waiting.is_empty();
                    said.extend(answer.warnings);
                }
                Err(failure) => drop(said.insert(failure.message)),
            }
        }
        for warning in said.difference(&told) {
            tracing::warn!("{warning}");
        }
        // What cannot be had is asked for less often, until somebody comes.
        pause = if said.is_empty() { LOOK_INTERVAL } else { (pause * 2).min(LOOK_INTERVAL_MAX) };
        told = said;
        tokio::select! { biased;
            () = node.renewing.notified() => { (is_due, pause) = (true, LOOK_INTERVAL); }
            () = sleep(pause) => {}
        }
    }
}

impl Node {
    /// Signs the heads of our packages again that are under keys that were replaced, and tells of them.
    ///
    /// A head under later keys takes back what it does not hold, so that none is signed before all of the log is here.
    pub(super) async fn renew_keys(&self) -> Result<KeysRenewed, Failure> {
        let mut answer = KeysRenewed::default();
        for replaced in self.all_replaced().await? {
            answer.warnings.push(format!("{} {}", replaced.message, replaced.hint));
        }
        let own = self.with_store(|store| store.read(heads::list_all)).await?;
        let own: BTreeSet<PackageId> = own.into_iter().map(|own| own.package).collect();
        let elsewhere = self.listed_elsewhere(&own).await?;
        answer.warnings.extend(said_of_doubtful(&elsewhere.doubtful));
        let mut others_follow: BTreeMap<PublisherId, Option<Failure>> = BTreeMap::new();
        for package in own.iter().cloned().chain(elsewhere.due) {
            let Some(publisher) = self.publisher_of(package.publisher)? else { continue };
            let (by, named, is_own) = (publisher.clone(), package.clone(), own.contains(&package));
            if is_own && !self.offload_store(move |store| is_due(store, &by, &named)).await? {
                continue;
            }
            if !is_own && self.dispute(&package).await?.is_some() {
                self.tell_frozen(&package, &mut answer).await?;
                continue;
            }
            let renewed = match self.fetch_rest(&publisher, &package).await {
                Ok(()) => {
                    let _turn = self.publishing.lock().await;
                    self.renew_head(&publisher, &package, &mut others_follow).await
                }
                Err(failure) => Err(failure),
            };
            match renewed {
                Ok(Renewed::Signed(signed)) => {
                    let Signed { head, ends, dropped, foreign } = *signed;
                    answer.warnings.extend(dropped.as_ref().map(said_of_dropped));
                    answer.warnings.extend(said_of_foreign(&package, &foreign));
                    if ends {
                        answer.warnings.push(format!(
                            "{package}: with the revoked key its double signing ended; what the other branch held does not count. \
                             Publish what you want to keep of it again."
                        ));
                    }
                    let told = self.tell(&head, Instant::now() + TELL_TIMEOUT).await;
                    answer.announced += usize::from(told.anybody());
                    answer.packages.push(package.to_string());
                }
                Ok(Renewed::Frozen) => self.tell_frozen(&package, &mut answer).await?,
                Ok(Renewed::Current) => {}
                Err(failure) => {
                    if failure.code == Code::Rollback || failure.code == Code::Clock || failure.retryable {
                        answer.waiting.push(package.to_string());
                    }
                    answer.warnings.push(format!(
                        "{package}: its head is not signed again yet: {} {}",
                        failure.message, failure.hint
                    ));
                }
            }
        }
        // A key that only confirms may be new too.
        self.confirming.notify_one();
        Ok(answer)
    }

    /// Says of a package that is frozen what ends that.
    async fn tell_frozen(&self, package: &PackageId, answer: &mut KeysRenewed) -> Result<(), Failure> {
        match self.ending(package).await? {
            Ending::Rotate { .. } | Ending::Resolve { .. } => answer.frozen.push(package.to_string()),
            ending => answer.warnings.push(format!("{package} is frozen. {}", ending.said(package))),
        }
        Ok(())
    }

    /// Packages that were not published here, and are under keys which those here replaced.
    async fn listed_elsewhere(&self, own: &BTreeSet<PackageId>) -> Result<Elsewhere, Failure> {
        let (publishers, own) = (self.keys.all()?, own.clone());
        let ahead = self.network.ahead();
        publishers.iter().for_each(|publisher| ahead.mind(publisher.id()));
        let unlisted: Vec<PackageId> =
            publishers.iter().flat_map(|publisher| ahead.all_revoked(&publisher.id())).collect();
        self.with_store(move |store| {
            let mut found = listed_elsewhere(store, &publishers, &own)?;
            let is_new = |package: &PackageId| !own.contains(package) && !found.doubtful.contains(package);
            found.doubtful.extend(unlisted.into_iter().filter(is_new).collect::<Vec<_>>());
            // Whoever takes one over needs its head, which others may have given up by then.
            let kept = found.doubtful.iter().take(DOUBTFUL_KEPT_MAX);
            store.write(|tx| {
                kept.clone().try_for_each(|package| catalog::keep(tx, package)).map_err(Into::into)
            })?;
            Ok(found)
        })
        .await
    }

    /// Brings the blocks of a log of ours here that went on elsewhere. It may take long, so that nothing is kept from being published
    /// meanwhile: whatever comes is only put in its place later.
    ///
    /// Of what a revoked key signed since nothing is needed, and whoever has that key need not give it.
    async fn fetch_rest(&self, publisher: &Publisher, package: &PackageId) -> Result<(), Failure> {
        if !self.with_store(history::behind_others).await?.contains(package) {
            return Ok(());
        }
        let head = self.head_of(package).await?;
        if self.is_of_revoked_key(publisher, &head, true).await? {
            return Ok(());
        }
        let read = self.read_log(&head).await.map(drop);
        read.map_err(|unread| history::behind(package, &Failure::from(unread).message))
    }

    /// Signs one head again, once all that others have of its log is here.
    async fn renew_head(
        &self,
        publisher: &Publisher,
        package: &PackageId,
        others_follow: &mut BTreeMap<PublisherId, Option<Failure>>,
    ) -> Result<Renewed, Failure> {
        // What its branches are worth is decided by its publisher, not by who has more of them.
        if self.dispute(package).await?.is_none()
            && let Standing::Unknown(why) =
                self.catch_up(publisher, &package.name, Thoroughness::Brief).await?
        {
            return Err(why);
        }
        // To find out, all that is listed of a publisher is read: once for all of its packages.
        let another = match others_follow.get(&publisher.id()) {
            Some(another) => another.clone(),
            None => {
                let keys = publisher.key_log().clone();
                let another = self.offload_store(move |store| others_follow_another(store, &keys)).await?;
                others_follow.insert(publisher.id(), another.clone());
                another
            }
        };
        if let Some(failure) = another {
            return Err(failure);
        }
        let now = self.time_to_sign()?;
        let ((at_work, store), package, publisher) = (self.at_work(), package.clone(), publisher.clone());
        let done = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            sign_again(&store, &publisher, &package, now)
        });
        done.await.ok_or_else(|| gone("the new head"))?
    }

    /// Brings logs of ours here that went on elsewhere, so that they outlive the other machine, and so that two entries in one
    /// place are found before anybody installs one of them. Yields what a person should know.
    async fn read_on(&self) -> Vec<String> {
        let behind =
            self.with_store(|store| Ok((history::behind_others(store)?, recover::without_head(store)?)));
        let (behind, found_again) = match behind.await {
            Ok(found) => found,
            Err(failure) => return vec![failure.message],
        };
        let mut said = Vec::new();
        for package in behind.into_iter().chain(found_again) {
            let Ok(Some(publisher)) = self.publisher_of(package.publisher) else { continue };
            if let Err(failure) = self.fetch_rest(&publisher, &package).await {
                said.push(format!("{package}: {} {}", failure.message, failure.hint));
                continue;
            }
            let _turn = self.publishing.lock().await;
            match self.catch_up(&publisher, &package.name, Thoroughness::Brief).await {
                Ok(Standing::Known) => match self.sign_found(publisher, &package).await {
                    Ok(()) => tracing::debug!(%package, "its log is here as far as others have it"),
                    Err(failure) => said.push(format!("{package}: {} {}", failure.message, failure.hint)),
                },
                Ok(Standing::Unknown(failure)) | Err(failure) => {
                    said.push(format!("{package}: {} {}", failure.message, failure.hint));
                }
            }
        }
        said
    }

    /// Signs the head of a package that was found again after the database was lost, where that is due.
    async fn sign_found(&self, publisher: Publisher, package: &PackageId) -> Result<(), Failure> {
        let (now, package) = (self.time_to_sign()?, package.clone());
        let signed =
            self.offload_store(move |store| recover::sign_head(store, &publisher, &package, now)).await?;
        if let Some(head) = signed {
            self.tell(&head, Instant::now() + TELL_TIMEOUT).await;
        }
        Ok(())
    }

    /// What to say of a publisher whose key was replaced on another machine; nothing where its key is the current one as far as
    /// this node knows.
    pub(super) async fn replaced(
        &self,
        publisher: &Publisher,
        package: Option<&PackageId>,
    ) -> Result<Option<Failure>, Failure> {
        let (by, package) = (publisher.clone(), package.cloned());
        let found = self.with_store(move |store| replaced_here(store, &by, package.as_ref())).await?;
        let Some(replaced) = found else { return Ok(None) };
        let name = self.keys.note_replaced(publisher.id(), &replaced)?;
        Ok(Some(fail(replaced.error(&name))))
    }

    /// The same of all publishers whose keys are here.
    pub(super) async fn all_replaced(&self) -> Result<Vec<Failure>, Failure> {
        let mut replaced = Vec::new();
        for publisher in self.keys.all()? {
            replaced.extend(self.replaced(&publisher, None).await?);
        }
        Ok(replaced)
    }

    /// Publishers that published here, and whose keys are gone.
    pub(super) async fn lost_keys(&self) -> Result<BTreeSet<PublisherId>, Failure> {
        let Keys::Folder(folder) = &self.keys else { return Ok(BTreeSet::new()) };
        let before = self.with_store(published_before).await?;
        let mut here: BTreeSet<PublisherId> = self.keys.all()?.iter().map(Publisher::id).collect();
        here.append(&mut self.keys.unusable());
        here.append(&mut Publisher::forgotten(folder).map_err(fail)?);
        Ok(before.difference(&here).copied().collect())
    }
}

/// The first key document that others know of a publisher and that its key here does not stand behind, as its confirmation, the
/// head of a package of its, and the longest chain of any other say; without a package, of the first which was published here.
fn replaced_here(
    store: &Store,
    publisher: &Publisher,
    package: Option<&PackageId>,
) -> Result<Option<Replaced>, store::Error> {
    let id = publisher.id();
    let confirmed = confirm::held(store, id)?.map(|(confirmation, _)| confirmation.key_log().clone());
    let listed = store.read(|conn| {
        let package = match package {
            Some(package) => Some(package.clone()),
            None => heads::list_all(conn)?.into_iter().map(|own| own.package).find(|it| it.publisher == id),
        };
        Ok(package.map(|package| catalog::known(conn, &package)).transpose()?)
    })?;
    let (listed, other) = listed.map_or((None, None), |known| (known.listed, known.other_keys));
    // Of a chain that goes apart from ours, `two_chains` tells.
    let other = other.filter(|other| are_replaced(publisher.key_log(), other.key_log()));
    let chains = confirmed.into_iter().chain(listed.into_iter().chain(other).map(|it| it.key_log().clone()));
    Ok(chains.filter_map(|keys| Replaced::find(publisher.key_log(), &keys)).next())
}

/// Whether the keys of one chain were replaced by those of another, which continues it.
pub(super) fn are_replaced(old: &KeyLog, new: &KeyLog) -> bool {
    old.current().n < new.current().n && old.agrees_with(new)
}

/// Whether a head of ours is under keys that were replaced by those that are here.
fn is_due(store: &Store, publisher: &Publisher, package: &PackageId) -> Result<bool, Failure> {
    let own = store.read(|conn| heads::get(conn, package)).map_err(fail)?;
    let Some(own) = own.and_then(|own| VerifiedHead::verify_stored(&own.bytes).ok()) else {
        return Ok(false);
    };
    Ok(are_replaced(own.key_log(), publisher.key_log()))
}

/// Signs a head again where it is under keys that were replaced. Runs beside the runtime.
fn sign_again(
    store: &Store,
    publisher: &Publisher,
    package: &PackageId,
    now: Timestamp,
) -> Result<Renewed, Failure> {
    // Only now: a publication that was waited for has made another one.
    if !is_due(store, publisher, package)? {
        return Ok(Renewed::Current);
    }
    let own = store.read(|conn| heads::get(conn, package)).map_err(fail)?;
    let own = own.ok_or_else(|| gone("the head of a package that was published"))?;
    let before = VerifiedHead::verify_stored(&own.bytes).map_err(fail)?;
    let is_revoking = fork::revoked_since(&before, publisher.key_log()).is_some();
    let log = held_log(store, publisher, package).map_err(fail)?;
    let log = log.ok_or_else(|| gone("the log of a package that was published"))?;
    let head = Head::of(&log, labels_of(&before), publisher);
    let head = head.and_then(|head| head.sign(publisher)).map_err(fail)?;
    let known = store.read(|conn| Ok(catalog::known(conn, package)?)).map_err(fail)?;
    let ends = known.is_thawed_by(&head);
    if known.is_frozen && !ends {
        return Ok(Renewed::Frozen);
    }
    let is_short = |seen: &crate::release::Seen| !known.is_frozen && head.head().sequence < seen.sequence;
    let may_be_a_thiefs = |listed| history::is_of_revoked_key(store, publisher.key_log(), listed, true);
    let is_behind = known.seen.as_ref().is_some_and(is_short);
    let dropped = known.listed.as_ref().filter(|_| is_behind);
    if is_behind && !dropped.map_or(Ok(false), may_be_a_thiefs).map_err(fail)? {
        return Err(not_kept(history::overtaken(package)));
    }
    let foreign = if is_revoking { not_published_here(store, &log).map_err(fail)? } else { Vec::new() };
    let mut batch = store.lasting_batch();
    for block in publisher.key_log().blocks() {
        batch.put(block).map_err(fail)?;
    }
    batch.commit(|tx| keep_head(tx, &head, now)).map_err(not_kept)?;
    Ok(Renewed::Signed(Box::new(Signed { head, ends, dropped: dropped.cloned(), foreign })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::p2p::history::keep_log,
        catalog::Source,
        identity::{SecretKey, publisher::Change},
        release::{
            Log,
            fixture::{NOW, draft, head, publisher, releases},
        },
    };

    fn listed(store: &Store, head: &VerifiedHead) {
        store.write(|tx| Ok(catalog::insert(tx, head, &Source::unknown(), NOW)?)).unwrap();
    }

    /// The store of a machine that signed this log.
    fn machine(by: &Publisher, log: &Log) -> Store {
        let store = Store::in_memory().unwrap();
        keep_log(&store, by.key_log(), log, &draft(by, log).sign(by).unwrap(), NOW).unwrap();
        store
    }

    fn next(old: &Publisher, revoked: Vec<crate::identity::PublicKey>) -> Publisher {
        let secret = Some(SecretKey::from_bytes(&[2; 32]));
        old.changed(Change { secret, revoked, ..Change::default() }, &[], NOW).unwrap()
    }

    #[test]
    fn a_head_is_not_signed_again_over_a_log_that_went_on_elsewhere() {
        let old = publisher(1);
        let log = releases(&old, &["1.0.0", "1.1.0"]);
        for revoked in [Vec::new(), vec![old.public_key()]] {
            let (store, is_revoked) = (machine(&old, &log), !revoked.is_empty());
            let change = |revoked, at| {
                let secret = Some(SecretKey::from_bytes(&[2; 32]));
                old.changed(Change { secret, revoked, ..Change::default() }, &[], at).unwrap()
            };
            let new = change(revoked.clone(), NOW.plus(Duration::from_secs(1)));
            listed(&store, &head(&old, &["1.0.0", "1.1.0", "2.0.0"]));
            // What came after the key was revoked may be a thief's.
            let before = change(revoked, NOW);
            let newest = head(&old, &["1.0.0", "1.1.0", "2.0.0"]);
            assert_eq!(
                history::is_of_revoked_key(&store, before.key_log(), &newest, true).unwrap(),
                is_revoked
            );
            assert!(!history::is_of_revoked_key(&store, new.key_log(), &newest, true).unwrap());
            let failure = sign_again(&store, &new, log.package(), NOW).err().unwrap();
            assert!(failure.retryable, "{failure:?}");
            assert_eq!(history::behind_others(&store).unwrap(), [log.package().clone()]);
            // Once all of it is here, it is.
            let whole = releases(&old, &["1.0.0", "1.1.0", "2.0.0"]);
            keep_log(&store, new.key_log(), &whole, &newest, NOW).unwrap();
            let Ok(Renewed::Signed(signed)) = sign_again(&store, &new, log.package(), NOW) else { panic!() };
            assert_eq!((signed.head.seen().key_n, signed.head.head().sequence.get()), (1, 2));
            // Of a thief who is not known to be one, a person hears.
            let foreign: Vec<String> = signed.foreign.iter().map(ToString::to_string).collect();
            let expected: &[&str] = if is_revoked { &["1.0.0", "1.1.0", "2.0.0"] } else { &[] };
            assert_eq!(
                (foreign.iter().map(String::as_str).collect::<Vec<_>>(), signed.ends),
                (expected.to_vec(), false)
            );
            assert!(history::behind_others(&store).unwrap().is_empty());
        }
    }

    #[test]
    fn revoking_the_key_that_signed_twice_thaws_what_it_froze_and_rotating_does_not() {
        let old = publisher(1);
        let log = releases(&old, &["1.0.0", "1.1.0"]);
        for (revoked, thaws) in [(Vec::new(), false), (vec![old.public_key()], true)] {
            let (store, new) = (machine(&old, &log), next(&old, revoked));
            listed(&store, &head(&old, &["1.0.0", "6.6.6"]));
            let is_frozen = || store.read(|conn| Ok(catalog::is_frozen(conn, log.package())?)).unwrap();
            assert!(is_frozen());
            let renewed = sign_again(&store, &new, log.package(), NOW).unwrap();
            assert_eq!(matches!(renewed, Renewed::Signed(signed) if signed.ends), thaws);
            assert_eq!(is_frozen(), !thaws);
        }
    }

    #[test]
    fn a_key_that_was_replaced_elsewhere_is_known_by_the_head_of_any_package() {
        let old = publisher(1);
        let log = releases(&old, &["1.0.0"]);
        let (store, new) = (machine(&old, &log), next(&old, vec![old.public_key()]));
        let other = Head { name: "another".parse().unwrap(), ..draft(&new, &log) }.sign(&new).unwrap();
        listed(&store, &other);
        assert_eq!(replaced_here(&store, &old, None).unwrap().map(|it| it.n), Some(1));
        let thief = old.rotated(SecretKey::from_bytes(&[3; 32]), NOW).unwrap();
        assert_eq!(replaced_here(&store, &thief, None).unwrap(), None, "it goes apart");
        // What this machine signs now counts nowhere.
        let next = releases(&old, &["1.0.0", "1.1.0"]);
        let kept = keep_log(&store, old.key_log(), &next, &draft(&old, &next).sign(&old).unwrap(), NOW);
        assert!(kept.is_err());
    }

    #[test]
    fn a_key_that_was_replaced_elsewhere_is_known_by_the_heads_of_its_packages() {
        let old = publisher(1);
        let log = releases(&old, &["1.0.0"]);
        let (store, new) = (machine(&old, &log), next(&old, vec![old.public_key()]));
        let replaced = |by: &Publisher| replaced_here(&store, by, None).unwrap();
        assert_eq!(replaced(&old), None);
        listed(&store, &draft(&new, &log).sign(&new).unwrap());
        assert_eq!(replaced(&old).map(|it| it.n), Some(1));
        assert_eq!(replaced(&new), None);
    }
}
