//! What waits to be published: content without a signature (changes of what is published wait likewise, see `changes`), until it is known how far the log went elsewhere.
//!
//! A version waits because no node ran when it was published, because nobody could be asked about its log, or because the clock is
//! wrong. One after the other is signed as soon as that has changed, behind all that the same key published elsewhere meanwhile.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    P2PConfig,
    failure::fail,
    gone,
    history::{Standing, Thoroughness, held_log},
    install::manifest_of,
    meant::{Meant, meant_in},
    node::Node,
    open_store,
    packed::{Done, sign_queued},
    signing::Keys,
};
use crate::{
    catalog,
    code::Code,
    control::api::{DropRequest, Dropped, Failure, QueuedChange, QueuedPackage},
    identity::{Publisher, PublisherId},
    network::Offload,
    package::{PackageId, asked::Which, name::PackageRef},
    release::{Kind, Release, Seen, SignedEntry},
    store::{HomeLock, Store, changes, entries, heads, outbox, published},
};

/// How soon what waits is tried again, where nothing tells that something has changed.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// How long what is signed with a key that was made elsewhere lets the other machine go first, and up to how much longer.
const ADOPTED_WAITS: Duration = Duration::from_secs(3);
const ADOPTED_SPREAD: Duration = Duration::from_secs(5);
/// How long a node waits for those through whom it joins: after its start before it publishes what nobody can have continued, and in the
/// company of others before it believes those alone that a log did not go on elsewhere.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// How long peers that have just come may take to tell what they know. Newcomers often come in groups.
const GATHER: Duration = Duration::from_secs(1);

/// Signs and announces what waits, until the node stops.
pub(super) async fn release(node: Arc<Node>) {
    let (mut waits, mut seen) = (true, Vec::new());
    loop {
        let again = Instant::now() + TRY_AGAIN;
        loop {
            tokio::select! { biased;
                () = node.outbox.notified() => break,
                () = sleep_until(again), if waits => break,
                // The other machine with the key has published: what waits goes on behind that.
                () = node.events.heads_came(), if waits => if node.seen_of_waiting().await != seen { break },
            }
        }
        // Before it is tried: what comes meanwhile is a reason to try again.
        seen = node.seen_of_waiting().await;
        waits = match node.release_all().await {
            Ok(waits) => waits,
            Err(failure) => {
                tracing::warn!(failure.message, "the outbox was not looked at");
                true
            }
        };
    }
}

impl Node {
    /// How far the logs of what waits were seen.
    async fn seen_of_waiting(&self) -> Vec<(PackageId, Option<Seen>)> {
        let read = self.with_store(|store| {
            store.read(|conn| {
                let changes = changes::list_all(conn)?.into_iter().map(|row| row.subject.package);
                let versions = outbox::list_all(conn)?.into_iter().map(|row| row.package);
                let packages: BTreeSet<PackageId> = versions.chain(changes).collect();
                let seen = packages.into_iter().map(|package| {
                    let seen = catalog::seen(conn, &package)?;
                    Ok((package, seen))
                });
                seen.collect::<Result<Vec<_>, crate::store::Error>>()
            })
        });
        // Where it cannot be read, it is tried again when it is time.
        read.await.unwrap_or_default()
    }

    /// Tries everything that waits, once; says whether something still does.
    async fn release_all(&self) -> Result<bool, Failure> {
        let mut open = self.with_store(|store| store.read(outbox::list_all)).await?;
        // What conflicts with what is published waits for its publisher.
        open.retain(|row| !is_conflict(row));
        let changes = self.with_store(|store| store.read(changes::list_all)).await?;
        if open.is_empty() && changes.is_empty() {
            return Ok(false);
        }
        let of_versions = open.iter().map(|row| row.package.publisher);
        let publishers = of_versions.chain(super::changes::publishers(&changes)).collect();
        sleep(GATHER + self.precedence(publishers)?).await;
        if self.may_be_joined_soon().await? {
            return Ok(true);
        }
        let (mut waits, mut released) = (false, false);
        for row in &open {
            match self.release_one(row).await {
                Ok(Some(Done { answer, .. })) => {
                    released = true;
                    self.tell_published(&answer);
                }
                Ok(None) => {}
                Err(failure) => {
                    waits |= failure.code != Code::Conflict || failure.retryable;
                    self.keep_waiting(row, failure).await?;
                }
            }
        }
        if released {
            self.audience.notify_one();
        }
        // Behind the versions, which they may be about.
        waits |= self.release_changes().await?;
        Ok(waits)
    }

    /// How long this node lets others go first: two machines with one key that meet, and ask each other at the same moment, would
    /// both hear that there is nothing, and both sign the next entry. The machine on which the key was made goes first.
    fn precedence(&self, publishers: BTreeSet<PublisherId>) -> Result<Duration, Failure> {
        for publisher in publishers {
            if self.publisher_of(publisher)?.is_some_and(|publisher| publisher.is_adopted()) {
                // Of several, each has its own turn.
                let turn = self.network.local_peer().to_bytes().last().copied().unwrap_or_default();
                return Ok(ADOPTED_WAITS + ADOPTED_SPREAD * u32::from(turn) / 256);
            }
        }
        Ok(Duration::ZERO)
    }

    /// Whether nobody is there yet of those through whom this node joins: they may know more than is known here.
    async fn may_be_joined_soon(&self) -> Result<bool, Failure> {
        if self.config().entry_points().is_empty() || self.started.elapsed() > JOIN_PATIENCE {
            return Ok(false);
        }
        Ok(self.network.snapshot().await.map_err(fail)?.peers.is_empty())
    }

    /// Signs one version and lists it; nothing where it was dropped.
    async fn release_one(&self, row: &outbox::Queued) -> Result<Option<Done>, Failure> {
        let turn = self.publishing.clone().lock_owned().await;
        let publisher = self.publisher_of(row.package.publisher)?;
        let publisher = publisher.ok_or_else(|| key_missing(row.package.publisher))?;
        self.time_to_add()?;
        match self.catch_up(&publisher, &row.package.name, Thoroughness::Full).await? {
            Standing::Known => {}
            Standing::Unknown(why) => return Err(why),
        }
        let now = self.time_to_add()?;
        let ((at_work, store), row, contact) = (self.at_work(), row.clone(), self.first_contact.clone());
        let signed = self.offload.run(move || {
            let (_turn, _at_work, store) = (turn, at_work, store);
            sign_queued(&store, &publisher, &row, &contact, now)
        });
        signed.await.ok_or_else(|| gone("a publication from the outbox"))?
    }

    /// Notes why a version waits on.
    async fn keep_waiting(&self, row: &outbox::Queued, failure: Failure) -> Result<(), Failure> {
        // One that may be tried again is no conflict of its content.
        let code = match failure.code == Code::Conflict && failure.retryable {
            true => Code::Busy,
            false => failure.code,
        };
        let code = code.as_str();
        if row.code.as_deref() == Some(code) && row.why == failure.message {
            return Ok(());
        }
        let id = format!("{}@{}", row.package, row.version);
        tracing::warn!(id, code, failure.message, "a version waits in the outbox");
        let row = row.clone();
        let note = move |store: &Store| {
            store.write(|tx| outbox::set_reason(tx, &row.package, &row.version, code, &failure.message))
        };
        self.with_store(note).await
    }

    pub(super) async fn drop_queued(&self, request: DropRequest) -> Result<Dropped, Failure> {
        // Not while it is being signed.
        let turn = self.publishing.clone().lock_owned().await;
        let ((at_work, store), dropping) = (self.at_work(), self.offload);
        let dropped = dropping.run(move || {
            let (_turn, _at_work, store) = (turn, at_work, store);
            drop_from(&store, &request.package)
        });
        dropped.await.ok_or_else(|| gone("the outbox"))?
    }
}

/// Takes a version out of the outbox of a node that does not run.
///
/// # Errors
/// [`Code::NotFound`] where it does not wait there, [`Code::AlreadyRunning`] where the node does run.
pub async fn drop_offline(config: P2PConfig, request: DropRequest) -> Result<Dropped, Failure> {
    let dropped = Offload::Threads.run(move || {
        let lock = HomeLock::acquire(&config.state_dir).map_err(fail)?;
        let store = open_store(&config.state_dir)?;
        let dropped = drop_from(&store, &request.package);
        drop((store, lock));
        dropped
    });
    dropped.await.ok_or_else(|| gone("the outbox"))?
}

fn drop_from(store: &Store, package: &str) -> Result<Dropped, Failure> {
    let Meant { reference, which, .. } = meant_in(store, package)?;
    let rows = store.read(outbox::list_all).map_err(fail)?;
    let fits = |row: &&outbox::Queued| {
        row.package.name == reference.name
            && reference.publisher.is_none_or(|publisher| row.package.publisher == publisher)
            && which.fits(&row.version)
    };
    let fitting: Vec<_> = rows.iter().filter(fits).collect();
    let all_changes = store.read(changes::list_all).map_err(fail)?;
    let fits = |it: &&changes::Waiting| {
        let changes::Subject { package, version } = &it.subject;
        package.name == reference.name
            && reference.publisher.is_none_or(|publisher| package.publisher == publisher)
            && version.as_ref().map_or(which == Which::Latest, |version| which.fits(version))
    };
    let mut of_changes: Vec<_> = all_changes.iter().filter(fits).collect();
    // A change of a package as a whole can be named by the name alone only; each version by its number too.
    let is_of_whole = |it: &&changes::Waiting| it.subject.version.is_none();
    let fitting: &[&outbox::Queued] = match of_changes.iter().any(is_of_whole) {
        true => {
            of_changes.retain(is_of_whole);
            &[]
        }
        false => fitting.as_slice(),
    };
    match (fitting, of_changes.as_slice()) {
        ([row], _) => {
            let subject =
                changes::Subject { package: row.package.clone(), version: Some(row.version.clone()) };
            let removed = store.write(|tx| {
                // What was to be changed of it goes with it.
                changes::remove(tx, &subject)?;
                outbox::remove(tx, &row.package, &row.version)
            });
            removed.map_err(fail)?;
            let id = format!("{}@{}", row.package, row.version);
            Ok(Dropped { id, cid: row.root.to_string(), change: None })
        }
        ([], [waiting]) => {
            store.write(|tx| changes::remove(tx, &waiting.subject)).map_err(fail)?;
            let QueuedChange { id, change, .. } = super::changes::described(waiting);
            Ok(Dropped { id, cid: String::new(), change: Some(change) })
        }
        (rows_fitting, changes_fitting) => {
            let fitting = rows_fitting.len() + changes_fitting.len();
            Err(not_one(&reference, &rows, &all_changes, fitting))
        }
    }
}

fn not_one(
    reference: &PackageRef,
    rows: &[outbox::Queued],
    changes: &[changes::Waiting],
    fitting: usize,
) -> Failure {
    let mut waiting: Vec<String> =
        rows.iter().map(|row| format!("  {}@{}", row.package, row.version)).collect();
    waiting.extend(changes.iter().map(|it| format!("  a change of {}", super::changes::described(it).id)));
    let hint = match waiting.is_empty() {
        true => "Nothing waits in the outbox.".to_owned(),
        false => format!("These wait:\n{}", waiting.join("\n")),
    };
    match fitting {
        0 => Failure::new(Code::NotFound, format!("\"{reference}\" does not wait in the outbox."), hint),
        _ => Failure::new(
            Code::Ambiguous,
            format!("Several versions or changes of \"{reference}\" wait in the outbox."),
            hint,
        ),
    }
}

pub(super) fn key_missing(publisher: PublisherId) -> Failure {
    Failure::new(
        Code::KeyFile,
        format!("The key of {publisher} is not here, so that nothing can be signed with it."),
        "Bring it back from a copy: ggen marketplace p2p key import <NAME> <FILE>. See which keys there are: ggen marketplace p2p key list",
    )
}

/// Whether a version is published already with other content, so that it never can be.
pub(super) fn is_conflict(row: &outbox::Queued) -> bool {
    row.code.as_deref() == Some(Code::Conflict.as_str())
}

/// Why a version waits while a node runs. What was packed without one waits for the first peer now.
pub(super) fn reason(row: &outbox::Queued) -> (String, String) {
    while_running(row.code.as_deref().unwrap_or_default(), &row.why)
}

/// Why something waits while a node runs, where the reason may be from when none did.
pub(super) fn while_running(code: &str, why: &str) -> (String, String) {
    if code == Code::NotRunning.as_str() {
        let why = "No other node is connected yet that could say how far the package went.";
        return (Code::Network.as_str().to_owned(), why.to_owned());
    }
    (code.to_owned(), why.to_owned())
}

/// A version that waits, as `status` shows it.
pub(super) fn described(row: &outbox::Queued) -> QueuedPackage {
    let id = format!("{}@{}", row.package, row.version);
    let short = format!("{}@{}", row.package.name, row.version);
    let hint = match is_conflict(row) {
        true => format!(
            "Publish it under another version, and take this one out: ggen marketplace p2p publish --drop {short}"
        ),
        false => "It is published as soon as that has changed.".to_owned(),
    };
    let (code, why) = reason(row);
    QueuedPackage {
        id,
        cid: row.root.to_string(),
        size: row.bytes,
        path: row.path.display().to_string(),
        queued_at: row.queued_at.to_string(),
        code,
        why,
        hint,
    }
}

/// What `status` warns of, one line for all that waits and one for each conflict.
pub(super) fn warnings(rows: &[outbox::Queued]) -> Vec<String> {
    let (conflicts, waiting): (Vec<_>, Vec<_>) = rows.iter().partition(|row| is_conflict(row));
    let mut warnings = Vec::new();
    if let Some(first) = waiting.first() {
        let number = match waiting.len() {
            1 => "1 version waits".to_owned(),
            several => format!("{several} versions wait"),
        };
        warnings.push(format!("{number} in the outbox, unsigned: {}", reason(first).1));
    }
    warnings.extend(conflicts.into_iter().map(|row| {
        let described = described(row);
        format!("{} stays in the outbox ({}): {} {}", described.id, described.code, row.why, described.hint)
    }));
    warnings
}

/// To be done before the first connection stands: from then on all that was signed counts as sent.
///
/// What was signed alone with a key that another machine has too is taken back into the outbox before: the other one may have
/// begun the same log. It is signed again behind what comes.
///
/// # Errors
/// Where the store cannot be written.
pub(super) fn meet(store: &Store, keys: &Keys) -> Result<(), Failure> {
    // What waited for a node waits for its first peers from now on.
    let starting = "The node has just started, and has asked nobody yet.";
    let queued = store.read(outbox::list_all).map_err(fail)?;
    for row in queued.iter().filter(|row| row.code.as_deref() == Some(Code::NotRunning.as_str())) {
        let code = Code::Network.as_str();
        store.write(|tx| outbox::set_reason(tx, &row.package, &row.version, code, starting)).map_err(fail)?;
    }
    let changes = store.read(changes::list_all).map_err(fail)?;
    for row in changes.iter().filter(|row| row.code == Code::NotRunning.as_str()) {
        let code = Code::Network.as_str();
        store.write(|tx| changes::set_reason(tx, &row.subject, code, starting)).map_err(fail)?;
    }
    let unsent = store.read(outbox::list_unsent).map_err(fail)?;
    if unsent.is_empty() {
        return Ok(());
    }
    // Where a key cannot be read, nothing is signed with it either.
    let publishers = keys.all().unwrap_or_default();
    for package in unsent {
        let publisher = publishers.iter().find(|it| it.id() == package.publisher && it.is_elsewhere());
        // One that cannot be made content again counts as sent, which is safe where the other machine has not begun it.
        if let Some(publisher) = publisher
            && let Err(failure) = take_back(store, publisher, &package)
        {
            tracing::warn!(%package, failure.message, "what was signed alone is not taken back");
        }
    }
    store.write(outbox::set_all_sent).map_err(fail)
}

/// Makes content of what was signed and never left this machine.
fn take_back(store: &Store, publisher: &Publisher, package: &PackageId) -> Result<(), Failure> {
    let log = held_log(store, publisher, package).map_err(fail)?;
    let is_release = |entry: &SignedEntry| matches!(entry.entry().kind, Kind::Release(_));
    if !log.is_some_and(|log| log.entries().iter().all(is_release)) {
        // What was withdrawn or said besides cannot be made content again.
        return Ok(());
    }
    let rows = store.read(published::list_all).map_err(fail)?;
    let mut taken = Vec::new();
    for row in rows.into_iter().filter(|row| row.package == *package) {
        let release = Release {
            version: row.version.clone(),
            manifest: row.manifest,
            root: row.root,
            size: row.bytes,
            files: row.files,
        };
        let manifest = manifest_of(store, package, &release, publisher.key_log())?;
        taken.push((row, manifest.payload().map_err(fail)?));
    }
    taken.sort_by_key(|(row, _)| row.sequence);
    tracing::info!(%package, versions = taken.len(), "signed here and never sent: it is signed again behind what comes");
    let written = store.write(|tx| {
        for (row, manifest) in taken {
            published::remove(tx, package, &row.version)?;
            let queued = outbox::Queued {
                number: 0,
                package: row.package,
                version: row.version,
                root: row.root,
                path: row.path,
                bytes: row.bytes,
                files: row.files,
                blocks: row.blocks,
                queued_at: row.published_at,
                code: None,
                why: "It waits until others were asked how far its log went.".to_owned(),
            };
            outbox::insert(tx, &queued, &manifest)?;
        }
        entries::remove(tx, package)?;
        heads::remove(tx, package)?;
        Ok(catalog::forget(tx, package)?)
    });
    written.map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::p2p::{
            history::keep_log,
            publish::tests::{package, published, queued},
        },
        network::FirstContact,
        release::{Head, Labels, Log},
        time::Timestamp,
    };

    struct World {
        folder: tempfile::TempDir,
        publisher: Publisher,
        store: Store,
    }

    impl World {
        fn new() -> Self {
            let publisher = Publisher::from_secret([1; 32], Timestamp::now());
            Self { folder: tempfile::tempdir().unwrap(), publisher, store: Store::in_memory().unwrap() }
        }

        fn queue(&self, version: &str) -> Result<Done, Failure> {
            queued(&self.store, &self.publisher, &package(self.folder.path(), version))
        }

        fn waiting(&self) -> Vec<outbox::Queued> {
            self.store.read(outbox::list_all).unwrap()
        }

        fn log(&self) -> Option<Log> {
            let package = PackageId { publisher: self.publisher.id(), name: "pack".parse().unwrap() };
            held_log(&self.store, &self.publisher, &package).unwrap()
        }

        fn sign(&self, row: &outbox::Queued) -> Result<Option<Done>, Failure> {
            sign_queued(&self.store, &self.publisher, row, &FirstContact::default(), Timestamp::now())
        }
    }

    #[test]
    fn nothing_of_what_waits_is_signed_and_the_same_again_changes_nothing() {
        let world = World::new();
        let first = world.queue("1.0.0").unwrap();
        assert!(first.head.is_none() && first.answer.queued && !first.answer.already_published);
        let again = world.queue("1.0.0").unwrap();
        assert!(again.answer.queued && again.answer.already_published);
        assert_eq!((again.answer.cid, again.answer.manifest), (first.answer.cid, first.answer.manifest));
        std::fs::write(world.folder.path().join("more"), "more").unwrap();
        let conflict = world.queue("1.0.0").err().unwrap();
        assert_eq!(conflict.code, Code::Conflict);
        assert!(conflict.hint.contains("--drop pack@1.0.0"), "{conflict:?}");
        assert_eq!(world.waiting().len(), 1);
        assert!(world.log().is_none());
        assert!(world.store.read(published::list_all).unwrap().is_empty());
        assert!(world.store.read(heads::list_all).unwrap().is_empty());
    }

    #[test]
    fn what_waits_is_put_behind_a_log_that_went_on_elsewhere() {
        let (here, there) = (World::new(), World::new());
        let there = World { publisher: here.publisher.clone(), ..there };
        here.queue("1.0.0").unwrap();
        here.queue("1.1.0").unwrap();
        // The other machine publishes one of the same content, one of its own, and one that is taken then.
        published(&there.store, &there.publisher, &package(there.folder.path(), "1.0.0")).unwrap();
        let last = published(&there.store, &there.publisher, &package(there.folder.path(), "2.0.0")).unwrap();
        let (head, log) = (last.head.unwrap(), there.log().unwrap());
        keep_log(&here.store, head.key_log(), &log, &head, Timestamp::now()).unwrap();
        let [same, own] = here.waiting().try_into().unwrap();
        let done = here.sign(&same).unwrap().unwrap();
        assert!(done.answer.already_published);
        let done = here.sign(&own).unwrap().unwrap();
        assert_eq!(done.answer.sequence, 2);
        assert!(here.waiting().is_empty());
        let versions: Vec<String> = here.log().unwrap().versions().keys().map(ToString::to_string).collect();
        assert_eq!(versions, ["1.0.0", "1.1.0", "2.0.0"]);
        // Once more, as after a crash that forgot that it was done.
        assert!(here.sign(&own).unwrap().is_none(), "it waits no longer");
    }

    #[test]
    fn a_version_that_is_taken_stays_until_it_is_dropped() {
        let world = World::new();
        world.queue("1.0.0").unwrap();
        let [row] = world.waiting().try_into().unwrap();
        let mut log = Log::empty(row.package.clone());
        let release = Release {
            version: row.version.clone(),
            manifest: row.root,
            root: crate::content::ContentId::of(crate::content::Codec::DagPb, b"other"),
            size: 1,
            files: 1,
        };
        let now = Timestamp::now();
        let kind = Kind::Release(Release { manifest: release.root, ..release });
        log.push(log.next(kind, &world.publisher, now).unwrap()).unwrap();
        let head = Head::of(&log, Labels::default(), &world.publisher);
        let head = head.unwrap().sign(&world.publisher).unwrap();
        keep_log(&world.store, head.key_log(), &log, &head, now).unwrap();
        let failure = world.sign(&row).err().unwrap();
        assert_eq!((failure.code, failure.retryable), (Code::Conflict, false));
        assert_eq!(world.waiting().len(), 1);
        for (reference, code) in [("other@1.0.0", Code::NotFound), ("pack@2.0.0", Code::NotFound)] {
            assert_eq!(drop_from(&world.store, reference).unwrap_err().code, code);
        }
        drop_from(&world.store, "pack@1.0.0").unwrap();
        assert!(world.sign(&row).unwrap().is_none());
    }

    #[test]
    fn a_change_of_a_package_is_dropped_by_its_name_and_a_version_with_what_was_to_be_changed_of_it() {
        let world = World::new();
        for version in ["1.0.0", "1.1.0"] {
            world.queue(version).unwrap();
        }
        let package = PackageId { publisher: world.publisher.id(), name: "pack".parse().unwrap() };
        let why = Failure::new(Code::NotRunning, "No node runs.", "");
        let deprecated = Kind::Deprecate { message: "use another".to_owned() };
        let yanked = Kind::Yank { version: "1.1.0".parse().unwrap(), reason: String::new() };
        for kind in [deprecated, yanked] {
            let now = Timestamp::now();
            super::super::changes::queue(&world.store, &world.publisher, &package, &kind, &why, now).unwrap();
        }
        let now = Timestamp::now();
        let listed =
            |runs| super::super::verify::list_in(&world.store, now, runs).unwrap().changes[0].why.clone();
        assert_eq!(listed(false), "No node runs.");
        assert!(listed(true).contains("No other node is connected"), "{}", listed(true));
        // As `list` prints it.
        let dropped = drop_from(&world.store, &package.to_string()).unwrap();
        assert!(dropped.change.is_some(), "{dropped:?}");
        assert_eq!((world.waiting().len(), world.store.read(changes::list_all).unwrap().len()), (2, 1));
        drop_from(&world.store, &format!("{package}@1.1.0")).unwrap();
        assert_eq!((world.waiting().len(), world.store.read(changes::list_all).unwrap().len()), (1, 0));
        drop_from(&world.store, &package.to_string()).unwrap();
        assert!(world.waiting().is_empty());
    }

    #[test]
    fn what_was_signed_alone_with_a_key_that_is_elsewhere_too_is_taken_back_at_the_first_contact() {
        for is_elsewhere in [false, true] {
            let world = World::new();
            for version in ["1.0.0", "1.1.0"] {
                published(&world.store, &world.publisher, &package(world.folder.path(), version)).unwrap();
            }
            let publisher = world.publisher.clone();
            let publisher = if is_elsewhere { publisher.adopted() } else { publisher };
            meet(&world.store, &Keys::Given(std::sync::Arc::new(std::sync::Mutex::new(publisher)))).unwrap();
            assert_eq!(world.waiting().len(), if is_elsewhere { 2 } else { 0 });
            assert_eq!(world.log().is_none(), is_elsewhere);
            assert!(world.store.read(outbox::list_unsent).unwrap().is_empty());
            for row in world.waiting() {
                world.sign(&row).unwrap().unwrap();
            }
            assert_eq!(world.log().unwrap().versions().len(), 2);
        }
    }
}
