//! Ending a double signing of our own: what the branches are, what becomes of each of their versions, and the entry that
//! says so.

mod fates;

use std::{collections::BTreeSet, time::Duration};

use rusqlite::Connection;
use semver::Version;
use tokio::time::Instant;

use self::fates::{Fate, decide, letter};
use super::{
    disputed::{self, Withheld},
    failure::fail,
    gone,
    history::{self, LOOK_TIMEOUT, keep_head, labels_of, not_kept, stored_entry},
    node::{Node, asked_time},
    two_chains::Ending,
};
use crate::{
    catalog::{self, Proof},
    code::Code,
    content::ContentId,
    control::api::{Failure, ResolveRequest, Resolved, ResolvedBranch, ResolvedVersion},
    identity::Publisher,
    limits::{RESOLVED_BRANCHES_MAX, RESOLVED_ENTRIES_MAX, RESOLVED_VERSIONS_MAX},
    network,
    package::PackageId,
    release::{Head, Kind, Log, Release, Resolve, SignedEntry, VerifiedHead, Withdrawn},
    store::{Store, entries, heads, published},
    time::Timestamp,
};

/// How long telling of the end may take before it goes on in the background.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the branch is waited for that is listed.
const READ_PATIENCE: Duration = Duration::from_secs(12);

/// What is known of a double signing before anything is decided.
#[derive(Debug)]
struct Branches {
    /// What all of them have in common.
    common: Log,
    /// Those that could be read.
    logs: Vec<Log>,
    /// Those of which only the last entry is known.
    withheld: Vec<Withheld>,
    /// Which of them this machine signed, or holds; none where all that is here is what they have in common.
    here: Option<usize>,
    /// The last key document under which anything in them was signed.
    key_n: u64,
}

impl Branches {
    /// The branches of these logs, of which `here` is the one of this machine.
    fn of(
        read: Vec<Log>,
        withheld: Vec<Withheld>,
        here: Option<Log>,
        key_n: u64,
    ) -> Result<Self, crate::release::Error> {
        let mut logs: Vec<Log> = Vec::new();
        for log in read.into_iter().chain(here.clone()) {
            let Some(tip) = log.newest().map(SignedEntry::id) else { continue };
            if logs.iter().any(|other| disputed::holds(other, tip)) {
                continue;
            }
            logs.retain(|other| other.newest().is_none_or(|newest| !disputed::holds(&log, newest.id())));
            logs.push(log);
        }
        let whole = logs.first().cloned().or(here.clone());
        let whole = whole.ok_or(crate::release::Error::Anchor { why: "no branch of it is known" })?;
        let common = disputed::until(disputed::common(whole, &logs)?, &withheld)?;
        let tip = here.filter(|here| here.entries().len() > common.entries().len());
        let tip = tip.and_then(|here| Some(here.newest()?.id()));
        let here = tip.and_then(|tip| logs.iter().position(|log| disputed::holds(log, tip)));
        Ok(Self { common, logs, withheld, here, key_n })
    }

    /// The entries of a branch that not all have.
    fn own<'a>(&self, log: &'a Log) -> &'a [SignedEntry] {
        &log.entries()[self.common.entries().len()..]
    }
}

impl Node {
    /// Explains the branches of a package of ours whose log was signed twice, and ends the double signing where that was asked
    /// for.
    pub(super) async fn resolve_branches(&self, request: ResolveRequest) -> Result<Resolved, Failure> {
        let deadline = Instant::now() + asked_time(request.timeout_secs, TELL_TIMEOUT);
        let reference = self.meant(&request.package).await?.reference;
        // A publisher that is named says which key is meant.
        let publisher = match (&request.key, reference.publisher) {
            (None, Some(named)) => self.publisher_of(named)?,
            (key, named) => {
                let own = self.publisher_at_hand(key.as_deref()).await?;
                own.filter(|own| named.is_none_or(|named| named == own.id()))
            }
        };
        let Some(publisher) = publisher else { return Err(not_ours(&request.package)) };
        let package = PackageId { publisher: publisher.id(), name: reference.name };
        // Another machine with the key may have ended it already.
        let unheard = self.unheard(&publisher, &package).await?;
        // Others are asked before: that may take its time, and keeps nobody from publishing.
        let _turn = self.publishing.lock().await;
        let proofs = match self.dispute(&package).await? {
            Some(proofs) => proofs,
            None if self.is_withheld(&package).await? => Vec::new(),
            None => return Err(self.not_frozen(&package).await?),
        };
        let ending = Ending::of(&proofs, Some(publisher.key_log()));
        if !matches!(ending, Ending::Resolve { .. } | Ending::Rotate { .. }) {
            return Err(Failure::new(
                Code::Equivocation,
                format!(
                    "{package} is frozen because two chains of its publisher's keys contradict each other, and no entry of its log ends \
                     that. Nothing was signed."
                ),
                ending.said(&package),
            ));
        }
        let head = self.head_or_revoked(&package).await?;
        let branches = self.known_branches(&publisher, &head, &proofs).await?;
        let fates = decide(&branches, &request.keep, &request.withdraw)?;
        let needs_rotation = publisher.key_log().current().n <= branches.key_n;
        let Said { repeated, left_out } = said_besides(&branches);
        let mut answer = described(&package, &branches, &fates);
        answer.needs_rotation = needs_rotation;
        answer.repeated = repeated.iter().map(said).collect();
        answer.warnings.extend(left_out.iter().map(|kind| {
            format!("not said again, as another branch than the one here did it: {}; do it again where you want it", said(kind))
        }));
        answer.warnings.extend(branches.withheld.iter().map(|branch| {
            format!(
                "a branch could not be read, and all of it is taken back: only its entry {} is known ({})",
                branch.entry,
                branch.why.trim_end_matches('.')
            )
        }));
        let chosen = resolve(&branches, &fates, &proofs)?;
        answer.warnings.extend(chosen.warning);
        if request.dry_run {
            return Ok(answer);
        }
        if needs_rotation {
            return Err(Failure::new(
                Code::Conflict,
                format!(
                    "{package} was signed twice with the key that is the current one: that key cannot say what counts."
                ),
                format!(
                    "Replace it first: ggen marketplace p2p key rotate. If it was stolen: ggen marketplace p2p key revoke. Then: \
                     ggen marketplace p2p key resolve {}",
                    package.name
                ),
            ));
        }
        if let Some(why) = unheard {
            return Err(why);
        }
        let (at_work, store) = self.at_work();
        let now = self.time_to_add()?;
        let done = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            let end = End { resolve: chosen.resolve, repeated, fates };
            end.write(&store, &publisher, &head, branches.common, now)
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

    /// Asks others how far a package of ours went that is frozen: another machine with the key may have ended that. Yields why it is not
    /// known; nothing where the key is nowhere else.
    async fn unheard(&self, publisher: &Publisher, package: &PackageId) -> Result<Option<Failure>, Failure> {
        if !publisher.is_elsewhere() {
            return Ok(None);
        }
        self.await_entrance(LOOK_TIMEOUT).await;
        let were_strangers = self.is_among_strangers().await?;
        let mut are_read = self.network.heads_read(LOOK_TIMEOUT).await;
        are_read &= self.network.refresh(LOOK_TIMEOUT).await.is_ok();
        let snapshot = self.network.snapshot().await.map_err(fail)?;
        are_read &= snapshot.heads_complete > 0;
        let why = match self.network.get_newest(package.clone(), LOOK_TIMEOUT).await {
            Ok(Some((head, answers))) if answers.peers > 0 => {
                let of = package.clone();
                let seen = self.with_store(move |store| store.read(|conn| Ok(catalog::seen(conn, &of)?)));
                (seen.await? != Some(head.seen())).then_some("what was found of it is not read yet")
            }
            // Both branches are there.
            Ok(None) | Err(network::Error::Contradiction { .. }) => None,
            Ok(Some(_)) | Err(_) if are_read => None,
            Ok(Some(_)) | Err(_) => Some(match snapshot.peers.is_empty() {
                true => "no peer is connected that could say",
                false => "neither the peers nor the DHT answered in time",
            }),
        };
        let why = match were_strangers || self.is_among_strangers().await? {
            true if !snapshot.peers.is_empty() => Some("none of the bootstrap nodes has answered yet"),
            _ => why,
        };
        Ok(why.map(|why| Failure { retryable: true, ..unended(package, why) }))
    }

    /// Whether a log of ours went on elsewhere under the keys that it has here, or is elsewhere altogether, and nobody gives what is not
    /// here: a machine that is gone, or a thief, must not keep its owner from going on.
    async fn is_withheld(&self, package: &PackageId) -> Result<bool, Failure> {
        let (of, is_noted) = (package.clone(), self.network.ahead().revoked(package).is_some());
        let is_behind = self.with_store(move |store| {
            let is_elsewhere = |conn: &Connection| {
                // What was listed until its key was revoked was seen all the same.
                let is_listed = is_noted || catalog::seen(conn, &of)?.is_some();
                Ok(is_listed && heads::get(conn, &of)?.is_none() && entries::last(conn, &of)?.is_none())
            };
            Ok(history::behind_others(store)?.contains(&of) || store.read(is_elsewhere)?)
        });
        if !is_behind.await? {
            return Ok(false);
        }
        let head = self.head_or_revoked(package).await?;
        let read = tokio::time::timeout(READ_PATIENCE, self.read_log(&head)).await;
        Ok(!matches!(read, Ok(Ok(_))))
    }

    async fn not_frozen(&self, package: &PackageId) -> Result<Failure, Failure> {
        let named = package.clone();
        let is_known = self.with_store(move |store| {
            store.read(|conn| {
                Ok(catalog::seen(conn, &named)?.is_some() || entries::last(conn, &named)?.is_some())
            })
        });
        if !is_known.await? {
            return Ok(not_ours(&package.to_string()));
        }
        Ok(Failure::new(
            Code::Conflict,
            format!("{package} is not frozen: nobody knows of two states for one place of its log."),
            format!("Nothing has to be resolved. See how it is: ggen marketplace p2p info {package}"),
        ))
    }

    /// All branches that are known: the listed one, the one here, and those that the proofs name. What a revoked key alone signed
    /// needs no word of its publisher.
    async fn known_branches(
        &self,
        publisher: &Publisher,
        head: &VerifiedHead,
        proofs: &[Proof],
    ) -> Result<Branches, Failure> {
        let package = head.package_id();
        let (of, by) = (package.clone(), publisher.clone());
        let here = self.with_store(move |store| history::held_log(store, &by, &of)).await?;
        let mut known: Vec<Log> = here.clone().into_iter().collect();
        let mut withheld = Vec::new();
        let is_listed_here = known.iter().any(|log| disputed::holds(log, head.head().entry));
        if !is_listed_here {
            let read = tokio::time::timeout(READ_PATIENCE, self.read_log(head)).await;
            let why = match read {
                Ok(Ok(log)) => {
                    known.push(log);
                    None
                }
                Ok(Err(unread)) => Some(Failure::from(unread).message),
                Err(_) => Some("it did not come in time".to_owned()),
            };
            let entry = head.head().entry;
            let named =
                proofs.iter().filter(|proof| proof.proves.sides.iter().any(|side| side.entry == entry));
            let place = named.map(|proof| proof.proves.sequence).min();
            // Without a proof it goes on from what is here, as far as anybody knows.
            let place = place.unwrap_or(head.head().sequence);
            withheld.extend(why.map(|why| Withheld { entry, place, why }));
        }
        let counting: Vec<Proof> =
            proofs.iter().filter(|proof| proof.proves.counts_in(publisher.key_log())).cloned().collect();
        let others = self.branches(head, &known, &counting).await;
        let is_news = |branch: &Withheld| withheld.iter().all(|known| known.entry != branch.entry);
        let more: Vec<Withheld> = others.withheld.into_iter().filter(is_news).collect();
        withheld.extend(more);
        let logs: Vec<Log> = known.into_iter().chain(others.logs).collect();
        // Where nobody has anything of a log that was signed once, it begins again.
        let begins = logs.is_empty() && proofs.is_empty();
        let here = here.or_else(|| begins.then(|| Log::empty(package.clone())));
        if logs.is_empty() && !begins {
            return Err(Failure {
                retryable: true,
                ..disputed::frozen(&package, "no branch of its log can be read now")
            });
        }
        let signed = logs.iter().filter_map(|log| log.newest().map(|entry| entry.entry().key_n));
        let key_n = signed
            .chain(counting.iter().map(|proof| proof.proves.key_n))
            .chain([head.key_log().current().n])
            .max()
            .unwrap_or_default();
        Branches::of(logs, withheld, here, key_n).map_err(fail)
    }
}

/// Whether a double signing was ended elsewhere is not known.
fn unended(package: &PackageId, why: &str) -> Failure {
    Failure::new(
        Code::Rollback,
        format!(
            "The key of {package} is on another machine too, and whether its double signing was ended there is not known: {why}. Nothing was \
             signed."
        ),
        "Run this again once a peer can be asked. Connect to some: ggen marketplace p2p bootstrap <bootstrap-nodes>",
    )
}

/// What is answered where this machine has no package of that name.
fn not_ours(package: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("No publisher whose key is here has a package {package}."),
        "See what was published here: ggen marketplace p2p list; which keys there are: ggen marketplace p2p key list",
    )
}

fn described(package: &PackageId, branches: &Branches, fates: &[Fate]) -> Resolved {
    let branch = |(at, log): (usize, &Log)| ResolvedBranch {
        name: letter(at),
        here: branches.here == Some(at),
        entries: branches.own(log).iter().map(|entry| entry.id().to_string()).collect(),
        says: branches.own(log).iter().map(|entry| said(&entry.entry().kind)).collect(),
    };
    let withheld = |(at, branch): (usize, &Withheld)| ResolvedBranch {
        name: letter(branches.logs.len() + at),
        here: false,
        entries: vec![branch.entry.to_string()],
        says: vec!["something that nobody who was reached gives".to_owned()],
    };
    let read = branches.logs.iter().enumerate().filter(|(_, log)| !branches.own(log).is_empty()).map(branch);
    Resolved {
        package: package.to_string(),
        undisputed: branches.common.versions().keys().map(Version::to_string).collect(),
        from_sequence: branches.common.entries().len() as u64,
        branches: read.chain(branches.withheld.iter().enumerate().map(withheld)).collect(),
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

/// What the branches said besides releasing versions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// What is said again behind the end.
    repeated: Vec<Kind>,
    /// What is not: somebody else may have said it.
    left_out: Vec<Kind>,
}

/// Chooses what of the branches is said again. A version that was withdrawn stays so, and a deprecation stands, on whatever branch it was said;
/// what gives a package away, or brings something back, is believed of the branch on this machine alone.
fn said_besides(branches: &Branches) -> Said {
    let mut said = Said::default();
    for (at, log) in branches.logs.iter().enumerate() {
        for entry in branches.own(log) {
            let kind = &entry.entry().kind;
            let is_here = branches.here == Some(at);
            let list = match kind {
                Kind::Yank { version, .. } if !branches.common.versions().contains_key(version) => continue,
                Kind::Unyank { version } if !branches.common.versions().contains_key(version) => continue,
                Kind::Yank { .. } | Kind::Deprecate { .. } => &mut said.repeated,
                Kind::Unyank { .. } | Kind::Transfer { .. } | Kind::Tombstone { .. } if is_here => {
                    &mut said.repeated
                }
                Kind::Unyank { .. } | Kind::Transfer { .. } | Kind::Tombstone { .. } => &mut said.left_out,
                Kind::Release(_) | Kind::Resolve(_) | Kind::Unknown { .. } => continue,
            };
            if !list.contains(kind) {
                list.push(kind.clone());
            }
        }
    }
    // Nothing follows the end of a package.
    said.repeated.sort_by_key(|kind| match kind {
        Kind::Unyank { .. } => 0,
        Kind::Yank { .. } => 1,
        Kind::Transfer { .. } => 3,
        Kind::Tombstone { .. } => 4,
        _ => 2,
    });
    said
}

/// The entry that ends it, and what to say of it.
#[derive(Debug)]
struct Chosen {
    resolve: Resolve,
    warning: Option<String>,
}

/// What the entry says that ends the double signing.
fn resolve(branches: &Branches, fates: &[Fate], proofs: &[Proof]) -> Result<Chosen, Failure> {
    let versions = fates.len();
    if versions > RESOLVED_VERSIONS_MAX {
        return Err(too_much(format!(
            "The branches have {versions} versions that not all of them have, and one resolve decides at most \
             {RESOLVED_VERSIONS_MAX}."
        )));
    }
    let mut named: BTreeSet<ContentId> = BTreeSet::new();
    let mut lists: Vec<Vec<ContentId>> = Vec::new();
    let mut add = |ids: Vec<ContentId>| {
        let new: Vec<ContentId> = ids.into_iter().filter(|id| named.insert(*id)).collect();
        if !new.is_empty() {
            lists.push(new);
        }
    };
    for log in &branches.logs {
        add(branches.own(log).iter().map(SignedEntry::id).collect());
    }
    branches.withheld.iter().for_each(|branch| add(vec![branch.entry]));
    // What an earlier resolve in one of the branches named stays resolved.
    let count = branches.common.entries().len() as u64;
    let earlier = branches.logs.iter().flat_map(|log| log.resolves());
    for (_, earlier) in earlier.filter(|(sequence, _)| sequence.get() >= count) {
        earlier.branches.iter().for_each(|branch| add(branch.clone()));
    }
    if lists.len() > RESOLVED_BRANCHES_MAX {
        let branches = lists.len();
        return Err(too_much(format!(
            "The log has {branches} branches, and one resolve ends at most {RESOLVED_BRANCHES_MAX}."
        )));
    }
    let entries: usize = lists.iter().map(Vec::len).sum();
    let proved: BTreeSet<ContentId> =
        proofs.iter().flat_map(|proof| &proof.proves.sides).map(|side| side.entry).collect();
    shorten(&mut lists, &proved);
    let left: usize = lists.iter().map(Vec::len).sum();
    let warning = (left < entries).then(|| {
        format!(
            "the branches have {entries} entries, and one resolve names at most {RESOLVED_ENTRIES_MAX}: the oldest are left out. \
             Where a proof with one of those turns up, the package is frozen again until you revoke the key: \
             ggen marketplace p2p key revoke"
        )
    });
    lists.sort();
    let kept: Vec<Release> = fates.iter().filter(|fate| fate.kept).map(|fate| fate.release.clone()).collect();
    let gone = fates.iter().filter(|fate| !fate.kept).map(|fate| Withdrawn::of(&fate.release));
    let earlier = branches.logs.iter().flat_map(|log| log.withdrawn().iter().cloned());
    let is_new = |it: &Withdrawn| {
        !branches.common.withdrawn().contains(it) && !kept.iter().any(|kept| Withdrawn::of(kept) == *it)
    };
    let withdrawn: BTreeSet<Withdrawn> = gone.chain(earlier).filter(is_new).collect();
    let withdrawn = withdrawn.into_iter().collect();
    Ok(Chosen { resolve: Resolve { key_n: branches.key_n, branches: lists, kept, withdrawn }, warning })
}

/// One resolve cannot say all that there is to say.
fn too_much(what: String) -> Failure {
    Failure::new(
        Code::Limit,
        what,
        "Revoke the key that signed them instead, and publish again what you want to keep: ggen marketplace p2p key revoke",
    )
}

/// Leaves entries of branches out where there are more than one resolve may name: those stay that are proved to be signed twice, and
/// of the others the newest, of which heads were told last.
fn shorten(lists: &mut Vec<Vec<ContentId>>, proved: &BTreeSet<ContentId>) {
    let mut over = lists.iter().map(Vec::len).sum::<usize>().saturating_sub(RESOLVED_ENTRIES_MAX);
    while over > 0 {
        let Some(longest) = lists.iter_mut().max_by_key(|list| list.len()) else { return };
        let Some(oldest) = longest.iter().position(|id| !proved.contains(id)) else { return };
        longest.remove(oldest);
        over -= 1;
    }
    lists.retain(|list| !list.is_empty());
}

/// What is signed to end a double signing.
struct End {
    resolve: Resolve,
    repeated: Vec<Kind>,
    fates: Vec<Fate>,
}

impl End {
    /// Signs and writes it. Runs beside the runtime.
    fn write(
        self,
        store: &Store,
        publisher: &Publisher,
        listed: &VerifiedHead,
        mut log: Log,
        now: Timestamp,
    ) -> Result<VerifiedHead, Failure> {
        let package = listed.package_id();
        for kind in std::iter::once(Kind::Resolve(Box::new(self.resolve))).chain(self.repeated) {
            let is_repeated = !matches!(kind, Kind::Resolve(_));
            match log.next(kind, publisher, now) {
                Ok(entry) => log.push(entry).map_err(fail)?,
                // What two branches said, or what is so already.
                Err(crate::release::Error::Refused { why }) if is_repeated => {
                    tracing::debug!(%package, why, "not said again");
                }
                Err(error) => return Err(fail(error)),
            }
        }
        let head = Head::of(&log, labels_of(listed), publisher);
        let head = head.and_then(|head| head.sign(publisher)).map_err(fail)?;
        let mut batch = store.lasting_batch();
        for block in publisher.key_log().blocks() {
            batch.put(block).map_err(fail)?;
        }
        for entry in log.entries() {
            batch.put(entry.block().clone()).map_err(fail)?;
        }
        let gone = self.fates.iter().filter(|fate| !fate.kept);
        let withdrawn: Vec<&Release> = gone.map(|fate| &fate.release).collect();
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
}

#[cfg(test)]
#[path = "mend_tests.rs"]
mod tests;
