//! Whether the publishers of what a lock file names stand behind it.
//!
//! A lock file is verified by the chain of keys that it names, which ends where it was written: what a publisher said of its keys since is
//! not in it. Where more is known here, that counts: what keys signed that were revoked, or that are in no chain known here, has to stand in
//! the log that the head of the package names. What only replaced keys signed goes on counting, as far as that log goes.
//!
//! Where nothing is known of a package, a lock file counts as it stands. It needs no head, and no peer.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::{How, LISTED_MAX, bring::Brought};
use crate::{
    backend::p2p::{
        failure::fail,
        node::Node,
        offer::{entries_here, log_here},
        two_chains, withdrawn,
    },
    catalog,
    code::Code,
    content::ContentId,
    control::api::Failure,
    identity::{KeyLog, PublisherId},
    limits::PROJECT_FETCHES_MAX,
    package::PackageId,
    project::{Lock, Locked},
    release::{Log, VerifiedHead, fork::Side},
    store::Store,
};

/// How long the log of a package may take to come that has to say whether a version stands in it.
const LOG_PATIENCE: Duration = Duration::from_secs(20);
/// How long all of them may take, where a lock file names many.
const LOGS_TIMEOUT: Duration = Duration::from_secs(120);

/// Why an entry that a lock file names may not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Its publisher revoked the keys that signed it.
    Revoked,
    /// The keys that signed it are in another chain than those that are known here.
    OtherChain,
    /// It is behind the end of the log, by keys that were replaced before.
    Replaced,
    /// Another entry stands in its place.
    OtherEntry,
}

impl Doubt {
    /// The middle of a sentence about the version.
    fn why(self) -> &'static str {
        match self {
            Self::Revoked => "its publisher revoked the key that signed it",
            Self::OtherChain => {
                "it was signed with a key of another chain than is known here of its publisher"
            }
            Self::Replaced => "it was signed with a key that its publisher had replaced",
            Self::OtherEntry => "its publisher signed something else in its place",
        }
    }
}

/// What is known of an entry that a lock file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backing {
    /// Its publisher stands behind it, or nothing known here says otherwise.
    Stands,
    /// The log of the package has to say, and is not here as far as that.
    Unread(Doubt),
    /// It is not in the log of the package.
    Denied(Doubt),
}

/// A package as a lock file names it, and the chain of keys that its entry was verified by.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) id: PackageId,
    pub(super) locked: Locked,
    pub(super) keys: KeyLog,
}

impl Named {
    fn version(&self) -> String {
        format!("{}@{}", self.id, self.locked.version)
    }
}

/// Chains of keys of publishers, beside those of the heads of the packages themselves: each is read once.
#[derive(Debug, Default)]
pub(super) struct Chains(BTreeMap<PublisherId, Vec<KeyLog>>);

impl Chains {
    /// The chain of our own publisher, where it is that, and the longest one of those that other packages have.
    fn of(&mut self, store: &Store, publisher: PublisherId) -> Result<&[KeyLog], Failure> {
        Ok(match self.0.entry(publisher) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => {
                let longest =
                    store.read(|conn| Ok(catalog::longest_keys(conn, &publisher)?)).map_err(fail)?;
                let longest = longest.map(|head| head.key_log().clone());
                free.insert(two_chains::kept(store, &publisher).into_iter().chain(longest).collect())
            }
        })
    }
}

impl Node {
    /// Refuses to write what its publisher does not stand behind, whatever a lock file says. Yields a warning for what is in its place
    /// already, and for what nothing can be found out about without peers.
    pub(super) async fn refuse_unbacked(
        &self,
        lock: &Lock,
        packages: &[Brought],
        written: &[Brought],
        how: How,
    ) -> Result<Vec<String>, Failure> {
        let written: BTreeSet<&PackageId> = written.iter().map(|it| &it.id).collect();
        let named = |it: &Brought| {
            let locked = lock.packages.get(&it.id)?.clone();
            let named = Named { id: it.id.clone(), keys: it.keys.clone(), locked };
            Some((named, written.contains(&it.id)))
        };
        let all: Vec<(Named, bool)> = packages.iter().filter_map(named).collect();
        let looked = self.offload_store(move |store| {
            let (mut chains, mut doubted) = (Chains::default(), Vec::new());
            for (named, is_written) in all {
                let backing = backing_here(store, &named, is_written, &mut chains)?;
                if backing != Backing::Stands {
                    doubted.push((named, is_written, backing));
                }
            }
            Ok(doubted)
        });
        let looked = looked.await?;
        if looked.is_empty() {
            return Ok(Vec::new());
        }
        let can_ask = !how.offline && !self.is_alone().await;
        let until = how.deadline.min(Instant::now() + LOGS_TIMEOUT);
        let asked = stream::iter(looked).map(|(named, is_written, known)| async move {
            let is_asked = is_written && can_ask;
            let backing = match is_asked {
                true => timeout_at(until, self.backing_asked(&named, known)).await.unwrap_or(Ok(known))?,
                false => known,
            };
            let is_known = is_asked || self.indexed(&named.id).await?.is_some();
            Ok::<_, Failure>((named, is_written, is_known, backing))
        });
        let asked: Vec<_> = asked.buffered(PROJECT_FETCHES_MAX).try_collect().await?;
        let (mut warnings, mut denied, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for (named, is_written, is_known, backing) in asked {
            match backing {
                Backing::Denied(doubt) if is_written => denied.push((named, doubt)),
                Backing::Denied(doubt) => warnings.push(told(&named, doubt)),
                Backing::Unread(doubt) if is_written && is_known => unread.push((named, doubt)),
                // Nothing of it is known but what the lock file says, and nobody can be asked.
                Backing::Unread(doubt) if is_written => {
                    let why = "whether its log has it all the same is not known here";
                    warnings.push(format!("{}: {}, and {why}", named.version(), doubt.why()));
                }
                Backing::Unread(_) | Backing::Stands => {}
            }
        }
        match (denied.is_empty(), unread.is_empty()) {
            (true, true) => Ok(warnings),
            (false, _) => Err(refused(&denied)),
            (true, false) => Err(not_read(&unread, how)),
        }
    }

    /// Reads the log of a package to find out whether an entry stands in it; where not, whether others know a newer state.
    async fn backing_asked(&self, named: &Named, known: Backing) -> Result<Backing, Failure> {
        let (Backing::Unread(doubt) | Backing::Denied(doubt)) = known else { return Ok(known) };
        let listed = self.indexed(&named.id).await?;
        let head = match listed.clone() {
            Some(head) => head,
            None => match self.head_of(&named.id).await {
                Ok(head) if self.is_backed_head(&head).await? => head,
                Ok(_) | Err(_) => return Ok(known),
            },
        };
        let mut backing = known;
        if matches!(known, Backing::Unread(_)) || listed.is_none() {
            backing = self.backing_of_log(&head, &named.locked, doubt).await?;
        }
        if backing == Backing::Stands || listed.is_none() || doubt == Doubt::OtherEntry {
            return Ok(backing);
        }
        match self.something_newer(&head).await? {
            Some(newer) => self.backing_of_log(&newer, &named.locked, doubt).await,
            None => Ok(backing),
        }
    }

    /// What the log says that a head names.
    async fn backing_of_log(
        &self,
        head: &VerifiedHead,
        locked: &Locked,
        doubt: Doubt,
    ) -> Result<Backing, Failure> {
        let reading = match timeout(LOG_PATIENCE, self.log_as_held(head, None)).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) | Err(_) => return Ok(Backing::Unread(doubt)),
        };
        Ok(match is_in(&reading.log, locked) {
            true => Backing::Stands,
            false if reading.missing.is_some() => Backing::Unread(doubt),
            false => Backing::Denied(doubt),
        })
    }

    /// Whether a head that is not listed here may say what counts: keys that were revoked sign none.
    async fn is_backed_head(&self, head: &VerifiedHead) -> Result<bool, Failure> {
        let head = head.clone();
        self.offload_store(move |store| {
            let mut chains = Chains::default();
            let known = chains.of(store, head.head().publisher)?;
            let side = Side::read(head.bytes()).map(|(_, side)| side);
            Ok(side.is_some_and(|side| doubt(&side, head.key_log(), 0, known, None).is_none()))
        })
        .await
    }
}

/// What is known here of an entry that a lock file names. Where nothing of it is to be written, only publishers are looked at that ever
/// replaced a key.
pub(super) fn backing_here(
    store: &Store,
    named: &Named,
    is_written: bool,
    chains: &mut Chains,
) -> Result<Backing, Failure> {
    let Named { id, keys, locked } = named;
    let known = chains.of(store, id.publisher)?;
    if known.is_empty() && !is_written {
        return Ok(Backing::Stands);
    }
    let read = store.read(|conn| Ok((catalog::get(conn, id)?, catalog::is_frozen(conn, id)?)));
    let (listed, is_frozen) = read.map_err(fail)?;
    let head = listed.map(|listed| VerifiedHead::verify_stored(&listed.bytes)).transpose().map_err(fail)?;
    // Of a frozen package only that counts which no branch contests, and that stands in its log.
    if is_frozen {
        return Ok(Backing::Stands);
    }
    let entry = store.block(&locked.entry).map_err(fail)?;
    let Some((_, side)) = entry.and_then(|block| Side::read(block.bytes())) else {
        return Ok(Backing::Stands);
    };
    let doubt = doubt(&side, keys, locked.sequence, known, head.as_ref());
    // The log that such a head names may be a thief's.
    if doubt == Some(Doubt::Revoked)
        && store.read(|conn| Ok(catalog::listed_though_revoked(conn, id)?)).map_err(fail)?.is_some()
    {
        return Ok(Backing::Denied(Doubt::Revoked));
    }
    let Some(head) = head else { return Ok(doubt.map_or(Backing::Stands, Backing::Unread)) };
    match entry_at(store, &head, locked.sequence)? {
        Some(there) if there == locked.entry => return Ok(Backing::Stands),
        // Later keys than are known here may have written the history again.
        Some(_) if doubt.is_none() && side.key_n > head.seen().key_n => return Ok(Backing::Stands),
        None if doubt.is_none() => return Ok(Backing::Stands),
        Some(_) | None => {}
    }
    let doubt = doubt.unwrap_or(Doubt::OtherEntry);
    Ok(match log_here(store, &head) {
        Some(log) if is_in(&log, locked) => Backing::Stands,
        Some(_) => Backing::Denied(doubt),
        None => Backing::Unread(doubt),
    })
}

/// Why an entry may not count, by what is known of the keys of its publisher; `side` is the entry, `keys` the chain that it was verified
/// by. The chain of the package's own head comes first: of the others only those count that agree with it.
fn doubt(
    side: &Side,
    keys: &KeyLog,
    sequence: u64,
    known: &[KeyLog],
    head: Option<&VerifiedHead>,
) -> Option<Doubt> {
    let n = side.key_n;
    let own = head.map(VerifiedHead::key_log);
    let agreeing = known.iter().filter(|log| own.is_none_or(|own| own.agrees_with(log)));
    let chains = || own.into_iter().chain(agreeing.clone());
    if chains().any(|log| keys.parts_from(log).is_some_and(|at| at <= n)) {
        return Some(Doubt::OtherChain);
    }
    if chains().any(|log| side.is_void(log)) {
        return Some(Doubt::Revoked);
    }
    let is_behind = |head: &VerifiedHead| n < head.seen().key_n && sequence > head.seen().sequence.get();
    head.is_some_and(is_behind).then_some(Doubt::Replaced)
}

/// The entry at a place of the log that a head names, as far as the blocks are here that lead to it.
fn entry_at(store: &Store, head: &VerifiedHead, sequence: u64) -> Result<Option<ContentId>, Failure> {
    let Some(behind) = head.seen().sequence.get().checked_sub(sequence) else { return Ok(None) };
    let Some(skipped) = behind.checked_sub(1) else { return Ok(Some(head.head().entry)) };
    let Ok(skipped) = usize::try_from(skipped) else { return Ok(None) };
    let after = entries_here(store, head).nth(skipped).transpose().map_err(fail)?;
    Ok(after.and_then(|after| after.entry().previous))
}

/// Whether what a lock file names stands in a log: the entry itself, or the same content under the same version.
fn is_in(log: &Log, locked: &Locked) -> bool {
    let at = usize::try_from(locked.sequence).ok().and_then(|at| log.entries().get(at));
    at.is_some_and(|entry| entry.id() == locked.entry)
        || log
            .versions()
            .get(&locked.version)
            .is_some_and(|it| (it.release.manifest, it.release.root) == (locked.manifest, locked.root))
}

/// What is said of a version that its publisher does not stand behind.
pub(super) fn told(named: &Named, doubt: Doubt) -> String {
    let remedy = withdrawn::remedy(std::slice::from_ref(&named.id));
    format!(
        "{}: {}, and its log does not have it; take what its publisher stands behind: {remedy}",
        named.version(),
        doubt.why()
    )
}

fn lines(doubted: &[(Named, Doubt)]) -> String {
    let one = |(named, doubt): &(Named, Doubt)| format!("  {}: {}", named.version(), doubt.why());
    let mut lines: Vec<String> = doubted.iter().take(LISTED_MAX).map(one).collect();
    if let Some(more) = doubted.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

fn refused(denied: &[(Named, Doubt)]) -> Failure {
    let ids: Vec<PackageId> = denied.iter().map(|(named, _)| named.id.clone()).collect();
    Failure::new(
        Code::Equivocation,
        format!(
            "gpack.lock names content that is not in the log of its package; nothing was changed.\n{}",
            lines(denied)
        ),
        format!(
            "Somebody may use a stolen key: ask where the lock file comes from. Take what its publisher stands behind: {}",
            withdrawn::remedy(&ids)
        ),
    )
}

fn not_read(unread: &[(Named, Doubt)], how: How) -> Failure {
    let (code, hint) = match how.offline {
        true => (Code::NotFound, "Run the same command without --offline."),
        false => {
            (Code::NoProviders, "Try again when more peers are connected: ggen marketplace p2p peer-list")
        }
    };
    let message = format!(
        "Only the logs of some packages say whether gpack.lock may be followed, and they could not be had; nothing was changed.\n{}",
        lines(unread)
    );
    Failure { retryable: !how.offline, ..Failure::new(code, message, hint) }
}
