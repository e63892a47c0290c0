//! Ending a double signing of our own: what the branches are, what becomes of each of their versions, and the entry that
//! says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use semver::Version;
use tokio::time::Instant;

use super::{
    disputed,
    failure::fail,
    gone,
    history::{self, keep_head, labels_of, not_kept, stored_entry},
    node::{Node, asked_time},
};
use crate::{
    code::Code,
    content::ContentId,
    control::api::{Failure, ResolveRequest, Resolved, ResolvedBranch, ResolvedVersion},
    identity::Publisher,
    package::PackageId,
    release::{Head, Kind, Log, Release, Resolve, SignedEntry, VerifiedHead, Withdrawn},
    store::{Store, entries, published},
    time::Timestamp,
};

/// How long telling of the end may take before it goes on in the background.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other branches are looked for.
const BRANCH_PATIENCE: Duration = Duration::from_secs(30);

/// One version of a branch, and what becomes of it.
#[derive(Debug, Clone)]
struct Fate {
    release: Release,
    branch: usize,
    kept: bool,
    why: String,
}

/// What is known of a double signing before anything is decided.
#[derive(Debug)]
struct Branches {
    /// What all of them have in common.
    common: Log,
    logs: Vec<Log>,
    /// Which of them is on this machine.
    here: Option<usize>,
    /// The last key document under which anything in them was signed.
    key_n: u64,
}

impl Node {
    /// Explains the branches of a package of ours whose log was signed twice, and ends the double signing where that was asked
    /// for.
    pub(super) async fn resolve_branches(&self, request: ResolveRequest) -> Result<Resolved, Failure> {
        let deadline = Instant::now() + asked_time(request.timeout_secs, TELL_TIMEOUT);
        let _turn = self.publishing.lock().await;
        let publisher = self.publisher(request.key.as_deref()).await?;
        let reference = self.meant(&request.package).await?.reference;
        if reference.publisher.is_some_and(|named| named != publisher.id()) {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "{} is not a package of the publisher that signs here, {}.",
                    request.package,
                    publisher.id()
                ),
                "Name the key of its publisher with --key. See which there are: ggen marketplace p2p key list",
            ));
        }
        let package = PackageId { publisher: publisher.id(), name: reference.name };
        let Some(proofs) = self.dispute(&package).await? else {
            return Err(Failure::new(
                Code::Conflict,
                format!("{package} is not frozen: nobody knows of two states for one place of its log."),
                "Nothing has to be resolved. See how it is: ggen marketplace p2p info <package>",
            ));
        };
        let head = self.head_of(&package).await?;
        let looked = tokio::time::timeout(BRANCH_PATIENCE, self.known_branches(&publisher, &head, &proofs));
        let branches = looked
            .await
            .unwrap_or_else(|_| Err(disputed::frozen(&package, "its other branch did not come in time")))?;
        let fates = decide(&branches, &request.keep, &request.withdraw)?;
        let needs_rotation = publisher.key_log().current().n <= branches.key_n;
        let mut answer = described(&package, &branches, &fates);
        answer.needs_rotation = needs_rotation;
        if request.dry_run {
            return Ok(answer);
        }
        if needs_rotation {
            return Err(Failure::new(
                Code::Conflict,
                format!(
                    "{package} was signed twice with the key that is the current one: that key cannot say what counts."
                ),
                "Replace it first: ggen marketplace p2p key rotate; then run this again. If it was stolen: ggen marketplace p2p key revoke",
            ));
        }
        let (at_work, store) = self.at_work();
        let now = self.time_to_sign()?;
        let done = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            end(&store, &publisher, &head, branches, &fates, now)
        });
        let head = done.await.ok_or_else(|| gone("the resolve"))??;
        let told = self.tell(&head, deadline).await;
        answer.resolved = true;
        answer.sequence = Some(head.head().sequence.get());
        answer.dht_stored = told.stored;
        answer.announced_to = told.heard;
        if !told.anybody() {
            answer
                .warnings
                .push("nobody has heard of it yet: it is announced as soon as a peer connects".to_owned());
        }
        Ok(answer)
    }

    /// All branches that are known: the listed one, the one here, and those that the proofs name.
    async fn known_branches(
        &self,
        publisher: &Publisher,
        head: &VerifiedHead,
        proofs: &[crate::catalog::Proof],
    ) -> Result<Branches, Failure> {
        let package = head.package_id();
        let unread = |unread: super::resolve::Unread| {
            let failure = Failure::from(unread);
            let why =
                format!("a branch of its log cannot be read now: {}", failure.message.trim_end_matches('.'));
            Failure { retryable: true, ..disputed::frozen(&package, &why) }
        };
        let listed = self.read_log(head).await.map_err(&unread)?;
        let others = self.branches(head, &listed, proofs).await.map_err(&unread)?;
        let (of, by) = (package.clone(), publisher.clone());
        let here = self.with_store(move |store| history::held_log(store, &by, &of)).await?;
        let mut logs = vec![listed];
        let mut add = |log: Log| {
            let tip = log.newest().map(SignedEntry::id);
            let holds = |other: &Log| other.entries().iter().any(|entry| Some(entry.id()) == tip);
            match logs.iter().position(holds) {
                Some(at) => at,
                None => {
                    logs.push(log);
                    logs.len() - 1
                }
            }
        };
        for log in others {
            add(log);
        }
        let here = here.map(add);
        let common = disputed::common(logs[0].clone(), &logs).map_err(fail)?;
        let signed = logs.iter().filter_map(|log| log.newest().map(|entry| entry.entry().key_n));
        let key_n = signed
            .chain(proofs.iter().map(|proof| proof.proves.key_n))
            .chain([head.key_log().current().n])
            .max()
            .unwrap_or_default();
        Ok(Branches { common, logs, here, key_n })
    }
}

/// The letter by which a branch is named.
fn letter(branch: usize) -> String {
    char::from_u32(u32::from(b'a') + u32::try_from(branch).unwrap_or_default()).unwrap_or('?').to_string()
}

/// Says what becomes of each version of the branches: what nobody decided is kept, unless two branches have other content
/// under one version; then that of the branch on this machine is.
fn decide(branches: &Branches, keep: &[String], withdraw: &[String]) -> Result<Vec<Fate>, Failure> {
    let mut fates: Vec<Fate> = Vec::new();
    for (branch, log) in branches.logs.iter().enumerate() {
        for (version, state) in log.versions() {
            let is_common = branches.common.versions().contains_key(version);
            if is_common || fates.iter().any(|fate| fate.release == state.release) {
                continue;
            }
            let (kept, why) = match &state.yanked {
                Some(_) => (false, "it was withdrawn in its branch".to_owned()),
                None => (true, String::new()),
            };
            fates.push(Fate { release: state.release.clone(), branch, kept, why });
        }
    }
    let mut contents: BTreeMap<Version, usize> = BTreeMap::new();
    for fate in &fates {
        *contents.entry(fate.release.version.clone()).or_default() += 1;
    }
    for fate in &mut fates {
        if contents[&fate.release.version] > 1 && fate.kept {
            fate.kept = branches.here == Some(fate.branch);
            let which = if fate.kept { "this machine's content of it" } else { "other content than here" };
            fate.why = format!("two branches have it: {which}");
        }
    }
    for (list, kept) in [(withdraw, false), (keep, true)] {
        for asked in list {
            choose(&mut fates, asked, kept)?;
        }
    }
    fates.sort_by(|a, b| (&a.release.version, a.branch).cmp(&(&b.release.version, b.branch)));
    let mut kept = BTreeSet::new();
    for fate in fates.iter().filter(|fate| fate.kept) {
        if !kept.insert(&fate.release.version) {
            return Err(Failure::new(
                Code::Usage,
                format!("Version {} cannot be kept with two contents.", fate.release.version),
                "Name the branch whose content is kept: --keep <version>:<branch>",
            ));
        }
    }
    Ok(fates)
}

/// Takes what a person said of `version` or `version:branch`.
fn choose(fates: &mut [Fate], asked: &str, kept: bool) -> Result<(), Failure> {
    let (version, branch) = match asked.split_once(':') {
        Some((version, branch)) => (version, Some(branch)),
        None => (asked, None),
    };
    let is_meant = |fate: &Fate| {
        fate.release.version.to_string() == version
            && branch.is_none_or(|branch| letter(fate.branch) == branch)
    };
    let meant: Vec<usize> = (0..fates.len()).filter(|at| is_meant(&fates[*at])).collect();
    let Some(first) = meant.first() else {
        let known: BTreeSet<String> = fates.iter().map(|fate| fate.release.version.to_string()).collect();
        return Err(Failure::new(
            Code::Usage,
            format!("No branch has a version {asked} that is contested."),
            format!("Those are: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        ));
    };
    let version = fates[*first].release.version.clone();
    for (at, fate) in fates.iter_mut().enumerate().filter(|(_, fate)| fate.release.version == version) {
        if meant.contains(&at) {
            (fate.kept, fate.why) = (kept, "as asked".to_owned());
        } else if kept {
            (fate.kept, fate.why) = (false, "another content of it is kept".to_owned());
        }
    }
    Ok(())
}

fn described(package: &PackageId, branches: &Branches, fates: &[Fate]) -> Resolved {
    let count = branches.common.entries().len();
    let branch = |(at, log): (usize, &Log)| ResolvedBranch {
        name: letter(at),
        here: branches.here == Some(at),
        entries: log.entries()[count..].iter().map(|entry| entry.id().to_string()).collect(),
        says: log.entries()[count..].iter().map(|entry| said(&entry.entry().kind)).collect(),
    };
    Resolved {
        package: package.to_string(),
        undisputed: branches.common.versions().keys().map(Version::to_string).collect(),
        from_sequence: count as u64,
        branches: branches.logs.iter().enumerate().map(branch).collect(),
        versions: fates
            .iter()
            .map(|fate| ResolvedVersion {
                version: fate.release.version.to_string(),
                branch: letter(fate.branch),
                cid: fate.release.root.to_string(),
                kept: fate.kept,
                why: fate.why.clone(),
            })
            .collect(),
        ..Resolved::default()
    }
}

/// What an entry did, in a few words.
fn said(kind: &Kind) -> String {
    match kind {
        Kind::Release(release) => format!("released {}", release.version),
        Kind::Yank { version, .. } => format!("withdrew {version}"),
        Kind::Unyank { version } => format!("put {version} back"),
        Kind::Deprecate { .. } => "deprecated the package".to_owned(),
        Kind::Transfer { .. } => "transferred the package".to_owned(),
        Kind::Tombstone { .. } => "deleted the package".to_owned(),
        Kind::Resolve(_) => "resolved an earlier double signing".to_owned(),
        Kind::Unknown { word } => format!("did something that this program does not know: {word}"),
    }
}

/// What the entry says that ends the double signing.
fn resolve(branches: &Branches, fates: &[Fate]) -> Resolve {
    let count = branches.common.entries().len();
    let mut named: BTreeSet<ContentId> = BTreeSet::new();
    let mut lists: Vec<Vec<ContentId>> = Vec::new();
    let mut add = |ids: Vec<ContentId>| {
        let new: Vec<ContentId> = ids.into_iter().filter(|id| named.insert(*id)).collect();
        if !new.is_empty() {
            lists.push(new);
        }
    };
    for log in &branches.logs {
        add(log.entries()[count..].iter().map(SignedEntry::id).collect());
    }
    // What an earlier resolve in one of the branches named stays resolved.
    let earlier = branches.logs.iter().flat_map(|log| log.resolves());
    for (_, earlier) in earlier.filter(|(sequence, _)| sequence.get() >= count as u64) {
        earlier.branches.iter().for_each(|branch| add(branch.clone()));
    }
    lists.sort();
    let kept: Vec<Release> = fates.iter().filter(|fate| fate.kept).map(|fate| fate.release.clone()).collect();
    let gone = fates.iter().filter(|fate| !fate.kept).map(|fate| Withdrawn::of(&fate.release));
    let earlier = branches.logs.iter().flat_map(|log| log.withdrawn().iter().cloned());
    let is_new = |it: &Withdrawn| {
        !branches.common.withdrawn().contains(it) && !kept.iter().any(|kept| Withdrawn::of(kept) == *it)
    };
    let withdrawn: BTreeSet<Withdrawn> = gone.chain(earlier).filter(is_new).collect();
    Resolve { key_n: branches.key_n, branches: lists, kept, withdrawn: withdrawn.into_iter().collect() }
}

/// Signs and writes the end. Runs beside the runtime.
fn end(
    store: &Store,
    publisher: &Publisher,
    listed: &VerifiedHead,
    branches: Branches,
    fates: &[Fate],
    now: Timestamp,
) -> Result<VerifiedHead, Failure> {
    let kind = Kind::Resolve(Box::new(resolve(&branches, fates)));
    let package = listed.package_id();
    let mut log = branches.common;
    log.push(log.next(kind, publisher, now).map_err(fail)?).map_err(fail)?;
    let head = Head::of(&log, labels_of(listed), publisher);
    let head = head.and_then(|head| head.sign(publisher)).map_err(fail)?;
    let mut batch = store.lasting_batch();
    for block in publisher.key_log().blocks() {
        batch.put(block).map_err(fail)?;
    }
    for entry in log.entries() {
        batch.put(entry.block().clone()).map_err(fail)?;
    }
    let withdrawn: Vec<&Release> = fates.iter().filter(|fate| !fate.kept).map(|fate| &fate.release).collect();
    let written = batch.commit(|tx| {
        entries::remove(tx, &package)?;
        for entry in log.entries() {
            entries::insert(tx, &stored_entry(entry))?;
        }
        for release in withdrawn {
            let row = published::get(tx, &package, &release.version)?;
            if row.is_some_and(|row| row.manifest == release.manifest) {
                published::remove(tx, &package, &release.version)?;
            }
        }
        keep_head(tx, &head, now)
    });
    written.map_err(not_kept)?;
    tracing::info!(%package, sequence = head.head().sequence.get(), "a double signing was resolved");
    Ok(head)
}
