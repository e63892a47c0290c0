//! The logs of our own packages: continuing them, and never twice from the same place.
//!
//! Two entries with one number are a double signing, on whatever machine they were signed: a package whose publisher does so is frozen for
//! everybody. The same key may publish from several machines, and a machine may lose its database. So before anything is
//! signed, what others have seen of the log is looked at, and a log that went on elsewhere is fetched first. Where nobody can be
//! asked, nothing is signed, unless no entry of the log can have left this machine. Peers that
//! came by themselves, such as neighbours in the local network, may know less than those through whom this node joins: `continued` says
//! when these are waited for.

use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use super::{
    continued::{Company, OwnLog, Verdict},
    failure::fail,
    node::Node,
    outbox::JOIN_PATIENCE,
    recover,
    resolve::Unread,
    two_chains::Ending,
};
use crate::{
    catalog::{self, Outcome, Refusal},
    code::Code,
    control::api::Failure,
    identity::{KeyLog, Publisher},
    limits::CLOCK_SKEW_MAX,
    network,
    package::{PackageId, PackageName},
    release::{Head, Kind, Labels, Log, SignedEntry, VerifiedHead, choice, fork},
    store::{self, Store, entries, heads, outbox, pins},
    sync::ahead::State,
    time::Timestamp,
};

/// How long the peers, and then the DHT, are asked how far the log of a package of ours went.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long telling of a change may take before it goes on in the background.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// What it is called where a log went on elsewhere while it was being continued here.
const OVERTAKEN: Code = Code::Conflict;

/// How far a log of ours is known, before it is continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is here as far as anybody has seen it, or nobody can have continued it.
    Known,
    /// Nobody could be asked, or what was added elsewhere cannot be had: signing now could sign a second entry for one place.
    Unknown(Failure),
}

/// Who is asked how far a log went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoroughness {
    /// The peers, and the DHT only where the log is new here, or may be elsewhere.
    Brief,
    /// The peers and the DHT: what waits may have waited for long.
    Full,
}

/// What is here of a log of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Here {
    /// The sequence of the newest entry.
    newest: Option<u64>,
    /// The sequence of the newest head that was seen.
    seen: Option<u64>,
    /// Whether entries may be lost.
    is_uncertain: bool,
    /// Whether nothing of it has left this machine.
    is_unsent: bool,
    /// Whether it may have begun elsewhere without anybody here knowing.
    is_foreign: bool,
}

impl Here {
    /// Whether nothing is here, and nobody told of anything.
    fn is_new(&self) -> bool {
        self.newest.is_none() && self.seen.is_none()
    }

    /// Whether the log went on elsewhere.
    fn is_behind(&self) -> bool {
        self.seen.is_some() && self.newest < self.seen
    }

    /// Whether nobody can have continued it: it has no entry that anybody could have seen, by a key that was made here.
    fn risks_nothing(&self) -> bool {
        !self.is_uncertain && !self.is_foreign && !self.is_behind() && (self.is_new() || self.is_unsent)
    }

    /// Why it is not continued where nobody could be asked.
    fn unknown(&self, package: &PackageId, why: &str) -> Failure {
        match (self.is_foreign, self.is_uncertain) {
            (true, _) => unasked(package, why),
            (false, true) => {
                behind(package, &format!("some of it was lost with a damaged database, and {why}"))
            }
            (false, false) => Failure::new(
                Code::Rollback,
                format!("Whether the log of {package} went on elsewhere is not known: {why}."),
                "It is published as soon as a peer can be asked. See who is connected: ggen marketplace p2p peer-list",
            ),
        }
    }
}

impl Node {
    /// Makes sure that the log of a package of ours is here as far as anybody has seen it.
    ///
    /// # Errors
    /// Where what others have of it contradicts itself or what is here.
    pub(super) async fn catch_up(
        &self,
        publisher: &Publisher,
        name: &PackageName,
        thoroughness: Thoroughness,
    ) -> Result<Standing, Failure> {
        let package = PackageId { publisher: publisher.id(), name: name.clone() };
        let standing = self.caught_up(publisher, &package, thoroughness).await;
        // What was just heard may be the reason.
        match self.replaced(publisher, Some(&package)).await? {
            Some(replaced) => Err(replaced),
            None => standing,
        }
    }

    async fn caught_up(
        &self,
        publisher: &Publisher,
        package: &PackageId,
        thoroughness: Thoroughness,
    ) -> Result<Standing, Failure> {
        let package = package.clone();
        // Of a log with branches none is put in the place of another by itself.
        if let Some(proofs) = self.dispute(&package).await? {
            return Err(fail(is_frozen(&package, &Ending::of(&proofs, Some(publisher.key_log())))));
        }
        // What a peer has of it may not be taken for the clock here, and is noted for those who are watched alone.
        let was_unwatched = self.network.ahead().watch(publisher.id());
        // Peers that were connected a moment ago may not have told how far it went.
        let mut are_read = self.network.heads_read(LOOK_TIMEOUT).await;
        let here = {
            let (package, publisher) = (package.clone(), publisher.clone());
            self.with_store(move |store| newest_here(store, &package, &publisher)).await?
        };
        let was_ahead = self.ahead(publisher, &package).await?.is_some();
        if was_ahead || (was_unwatched && publisher.is_elsewhere()) {
            are_read &= self.network.reread(LOOK_TIMEOUT).await.is_ok();
        } else if !here.is_new() && !here.risks_nothing() {
            // What they told before says nothing of now: a connection that stands may be cut.
            are_read &= self.network.refresh(LOOK_TIMEOUT).await.is_ok();
        }
        let snapshot = self.network.snapshot().await.map_err(fail)?;
        are_read &= snapshot.heads_complete > 0;
        let mut asked = None;
        let is_sought = thoroughness == Thoroughness::Full
            || here.is_uncertain
            || here.is_new()
            || publisher.is_elsewhere()
            || was_ahead
            || !are_read;
        if is_sought && !snapshot.peers.is_empty() {
            asked = self.sought(&package).await?;
        }
        if let Some(ahead) = self.ahead(publisher, &package).await? {
            let is_found = asked.as_ref().is_some_and(|asked| reaches(asked.as_ref(), ahead));
            if !is_found {
                return Ok(Standing::Unknown(went_ahead(&package, ahead, self.now())));
            }
        }
        if !are_read && asked.is_none() && !here.risks_nothing() {
            let why = match snapshot.peers.is_empty() {
                true => "no peer is connected that could say",
                false => "neither the peers nor the DHT answered in time",
            };
            return Ok(Standing::Unknown(Failure { retryable: true, ..here.unknown(&package, why) }));
        }
        let log = OwnLog {
            may_be_elsewhere: publisher.is_elsewhere() || here.is_uncertain,
            was_told: here.newest.is_some() && !here.is_unsent,
        };
        let company = self.company().await?;
        let verdict = self.continued().judge(&package, log, company);
        if verdict == Verdict::NotYet {
            return Ok(Standing::Unknown(Failure { retryable: true, ..among_strangers(&package) }));
        }
        let are_asked = are_read && asked.is_some();
        let here = {
            let (package, publisher) = (package.clone(), publisher.clone());
            self.with_store(move |store| newest_here(store, &package, &publisher)).await?
        };
        let newest = match here.is_behind() {
            true => match self.head_or_revoked(&package).await {
                Ok(head) => Some(head),
                Err(failure) => return unless_final(failure, &package),
            },
            false => asked.flatten(),
        };
        // What nobody lists for its revoked key is its publisher's to take over.
        let newest = newest.or_else(|| {
            let is_new = here.newest.is_none();
            self.network.ahead().revoked(&package).filter(|_| is_new)
        });
        if let Some(head) = newest.filter(|head| here.newest.is_none_or(|it| it < head.head().sequence.get()))
        {
            let is_ours = here.newest.is_some();
            let is_revoked = self.is_of_revoked_key(publisher, &head, is_ours).await?;
            if is_revoked && !is_ours && !self.is_pinned(&package).await? {
                return Err(may_be_stolen(&package));
            }
            if !(is_revoked && is_ours)
                && let Err(failure) = self.fetch_log(publisher, &package, head).await
            {
                return unless_final(failure, &package);
            }
        }
        if here.is_uncertain && are_asked {
            let package = package.clone();
            self.with_store(move |store| store.write(|tx| recover::set_certain(tx, &package))).await?;
        }
        self.continued().note(package, verdict);
        Ok(Standing::Known)
    }

    /// Whom this node is connected with, as far as it says how much can be believed.
    async fn company(&self) -> Result<Company, Failure> {
        let snapshot = self.network.snapshot().await.map_err(fail)?;
        let is_cut_off = snapshot.peers.is_empty() && !self.config().entry_points().is_empty();
        Ok(Company {
            among_strangers: snapshot.among_strangers.or(is_cut_off.then_some(Duration::ZERO)),
            is_shown: snapshot.is_shown,
        })
    }

    /// Whether those through whom this node joins have not answered yet, who may know more than all that are connected.
    pub(super) async fn is_among_strangers(&self) -> Result<bool, Failure> {
        Ok(self.company().await?.among_strangers.is_some_and(|so_far| so_far < JOIN_PATIENCE))
    }

    /// What was met of a package of ours that is ahead of the clock here, or was a moment ago, and that nobody has seen here since.
    async fn ahead(&self, publisher: &Publisher, package: &PackageId) -> Result<Option<State>, Failure> {
        let of = package.clone();
        let seen = self.with_store(move |store| store.read(|conn| Ok(catalog::seen(conn, &of)?))).await?;
        // By a key that was replaced anybody may have signed it who stole it.
        let is_ours = |state: &State| state.seen.key_n >= publisher.key_log().current().n;
        Ok(self.network.ahead().beyond(package, seen).filter(is_ours))
    }

    pub(super) async fn is_of_revoked_key(
        &self,
        publisher: &Publisher,
        head: &VerifiedHead,
        is_ours: bool,
    ) -> Result<bool, Failure> {
        let (keys, head) = (publisher.key_log().clone(), head.clone());
        self.with_store(move |store| is_of_revoked_key(store, &keys, &head, is_ours)).await
    }

    /// The head of a package of ours, also one that is not listed because its key was revoked: what it is worth is for the caller to say.
    pub(super) async fn head_or_revoked(&self, package: &PackageId) -> Result<VerifiedHead, Failure> {
        let failure = match self.head_of(package).await {
            Ok(head) => return Ok(head),
            Err(failure) => failure,
        };
        match (self.network.ahead().revoked(package), failure.code) {
            (Some(head), Code::Signature | Code::NotFound) => Ok(head),
            (None, Code::Signature) => self.dht_head(package).await.ok().flatten().ok_or(failure),
            _ => Err(failure),
        }
    }

    /// Whether a person said, on this machine, that the name of a package is its publisher's.
    async fn is_pinned(&self, package: &PackageId) -> Result<bool, Failure> {
        let name = package.name.clone();
        let pinned = self.with_store(move |store| store.read(|conn| pins::pinned(conn, &name))).await?;
        Ok(pinned == Some(package.publisher))
    }

    /// Brings a log of ours here that went on elsewhere.
    async fn fetch_log(
        &self,
        publisher: &Publisher,
        package: &PackageId,
        head: VerifiedHead,
    ) -> Result<(), Failure> {
        tracing::info!(%package, sequence = head.head().sequence.get(), "its log went on elsewhere");
        let log = self.log_of(&head).await.map_err(|unread| match unread {
            Unread::Unavailable(failure) | Unread::Unheld(failure, _) => behind(package, &failure.message),
            Unread::Contradicts(failure) => failure,
        })?;
        let (package, publisher) = (package.clone(), publisher.clone());
        self.offload_store(move |store| {
            let now = Timestamp::now();
            if prove_own(store, &publisher, &log, &head, now).map_err(fail)? {
                return Err(fail(is_frozen(&package, &Ending::of(&[], Some(publisher.key_log())))));
            }
            keep_log(store, publisher.key_log(), &log, &head, now).map_err(fail)
        })
        .await
    }

    /// What the DHT has of a package, and nothing where it does not answer.
    ///
    /// # Errors
    /// Where what it has contradicts itself.
    async fn sought(&self, package: &PackageId) -> Result<Option<Option<VerifiedHead>>, Failure> {
        match self.network.get_newest(package.clone(), LOOK_TIMEOUT).await {
            Err(error @ network::Error::Contradiction { .. }) => Err(fail(error)),
            // There is something, and it says no more than that: whoever asks looks at what was met.
            Err(network::Error::Early { .. }) => Ok(None),
            // This node's own copy of the record says nothing of what others have.
            Ok(Some((_, answers))) if answers.peers == 0 => Ok(None),
            found => Ok(found.ok().map(|found| found.map(|(head, _)| head))),
        }
    }

    /// Adds an entry to the log of one of our own packages and makes the new head known; nothing for those of others.
    pub(super) async fn append_if_own(&self, package: &PackageId, kind: Kind) -> Result<(), Failure> {
        let turn = self.publishing.clone().lock_owned().await;
        let Some(publisher) = self.publisher_of(package.publisher)? else { return Ok(()) };
        if let Standing::Unknown(why) = self.catch_up(&publisher, &package.name, Thoroughness::Brief).await? {
            return Err(why);
        }
        let package = package.clone();
        let now = self.time_to_add()?;
        let appended = self.with_store(move |store| {
            let _turn = turn;
            let log = match held_log(store, &publisher, &package)? {
                Some(log) if !log.is_tombstoned() => log,
                _ => return Ok(None),
            };
            let Some(own) = store.read(|conn| heads::get(conn, &package))? else { return Ok(None) };
            append(store, &publisher, log, kind, &own.bytes, now).map(Some)
        });
        let head = appended.await?;
        if let Some(head) = head {
            let head = head?;
            self.tell(&head, Instant::now() + TELL_TIMEOUT).await;
        }
        Ok(())
    }
}

/// Whether a head was signed with a key that these keys revoked, and was not known here before that. Then its publisher may not have
/// signed it, and a log that `is_ours` goes on from what is here, under later keys.
///
/// What was heard in the very second of the revocation counts as known only of a package that is not ours: a machine that is
/// connected to revoke a lost key hears of the packages then.
pub(super) fn is_of_revoked_key(
    store: &Store,
    keys: &KeyLog,
    head: &VerifiedHead,
    is_ours: bool,
) -> Result<bool, store::Error> {
    let Some(since) = fork::revoked_since(head, keys) else { return Ok(false) };
    let listed = store.read(|conn| Ok(catalog::dated_head(conn, &head.package_id())?))?;
    let is_before = |at: Timestamp| at < since || (!is_ours && at == since);
    let was_known = listed.is_some_and(|(listed, at)| listed == head.bytes() && is_before(at));
    if !was_known {
        let (package, sequence) = (head.package_id(), head.head().sequence.get());
        tracing::debug!(%package, sequence, "a revoked key signed this, and it was not known before: it does not count");
    }
    Ok(!was_known)
}

/// Whether a head that others have goes as far as a state that was met.
fn reaches(head: Option<&VerifiedHead>, met: State) -> bool {
    head.is_some_and(|head| !met.is_beyond(Some(head.seen())))
}

/// A log that went on elsewhere with what cannot be taken for the clock here.
fn went_ahead(package: &PackageId, State { released_at, .. }: State, now: Timestamp) -> Failure {
    if released_at <= now.plus(CLOCK_SKEW_MAX) {
        return behind(
            package,
            "what others have of it was ahead of this machine's clock, and has not come again",
        );
    }
    Failure::new(
        Code::Clock,
        format!(
            "This machine's clock is probably behind: it says {now}, and {package} went on elsewhere at {released_at}."
        ),
        "Put the clock right (timedatectl set-ntp true). Where it is right, the clock of the machine that published last was ahead: what \
         is asked for here is signed once that time has come.",
    )
}

/// Keeps as a proof what was signed here and, with the same keys, otherwise elsewhere; tells whether there is such a thing. Nothing
/// that was signed here ever gives way to that without its publisher.
fn prove_own(
    store: &Store,
    publisher: &Publisher,
    log: &Log,
    head: &VerifiedHead,
    now: Timestamp,
) -> Result<bool, store::Error> {
    let Some(own) = held_log(store, publisher, log.package())? else { return Ok(false) };
    let Some(own_head) = store.read(|conn| heads::get(conn, log.package()))? else { return Ok(false) };
    let is_under_same_keys = VerifiedHead::verify_stored(&own_head.bytes)
        .is_ok_and(|own| own.key_log().current().n == head.key_log().current().n);
    let mut pairs = own.entries().iter().zip(log.entries());
    let Some((ours, theirs)) = pairs.find(|(ours, theirs)| is_under_same_keys && ours.id() != theirs.id())
    else {
        return Ok(false);
    };
    let (sequence, statements) = (ours.entry().sequence, [ours, theirs].map(|entry| entry.block().bytes()));
    store.write(|tx| Ok(catalog::convict_log(tx, head, sequence, statements, now)?))
}

/// Packages of ours of which others have seen more than is here, and no double signing.
pub(super) fn behind_others(store: &Store) -> Result<Vec<PackageId>, store::Error> {
    store.read(|conn| {
        let mut behind = Vec::new();
        for (package, sequence) in heads::list_places(conn)? {
            let seen = catalog::seen(conn, &package)?;
            if seen.is_some_and(|seen| seen.sequence.get() > sequence) && !catalog::is_frozen(conn, &package)?
            {
                behind.push(package);
            }
        }
        Ok(behind)
    })
}

/// Writes a log of ours that came from elsewhere, in place of what was here of it; `keys` are those that are here.
pub(super) fn keep_log(
    store: &Store,
    keys: &KeyLog,
    log: &Log,
    head: &VerifiedHead,
    now: Timestamp,
) -> Result<(), store::Error> {
    // As what is published here: it is found again where the database is lost.
    let (mut batch, package) = (store.lasting_batch(), log.package());
    for entry in log.entries() {
        batch.put(entry.block().clone())?;
    }
    batch.commit(|tx| {
        entries::remove(tx, package)?;
        for entry in log.entries() {
            entries::insert(tx, &stored_entry(entry))?;
        }
        let is_taken_over = fork::revoked_since(head, keys).is_some()
            && crate::heads::stand(head, &catalog::known(tx, package)?, now)
                == crate::heads::Standing::Revoked;
        if !is_taken_over {
            return keep_head(tx, head, now).map(drop);
        }
        // It is to be signed again under later keys, those that are here, by which it is listed again.
        catalog::keep(tx, package)?;
        heads::put(tx, &own_head(head))
    })
}

/// A package that others know by a revoked key alone, and that this machine did not publish.
fn may_be_stolen(package: &PackageId) -> Failure {
    Failure::new(
        Code::Signature,
        format!(
            "Others know {package}, signed with a key that you revoked, and not published on this machine: a thief may have published it. Nothing was signed."
        ),
        format!(
            "If it is yours, say so: ggen marketplace p2p trust pin {package}, then try again; what its log holds is taken over. If it is not, \
             it does not count for nodes that know of the revocation: take another name, or this one in the same way, and yank what is not yours. Where nobody gives its log: ggen marketplace p2p key resolve {package}"
        ),
    )
}

fn own_head(head: &VerifiedHead) -> heads::OwnHead {
    heads::OwnHead {
        package: head.package_id(),
        sequence: head.head().sequence.get(),
        bytes: head.bytes().to_vec(),
    }
}

fn newest_here(store: &Store, package: &PackageId, publisher: &Publisher) -> Result<Here, store::Error> {
    store.read(|conn| {
        let (last, seen) = (entries::last(conn, package)?, catalog::seen(conn, package)?);
        // Later keys may have taken back what is here: it is no more than what others have then, whatever its number.
        let own = heads::get(conn, package)?.and_then(|own| VerifiedHead::verify_stored(&own.bytes).ok());
        let is_taken_back = match (&last, &seen, &own) {
            (Some(last), Some(seen), Some(own)) => seen.entry != last.id && seen.key_n > own.seen().key_n,
            _ => false,
        };
        let newest = last.filter(|_| !is_taken_back).map(|entry| entry.sequence);
        let is_unsent = outbox::is_unsent(conn, package)?;
        Ok(Here {
            newest,
            seen: seen.map(|seen| seen.sequence.get()),
            is_uncertain: recover::is_uncertain(conn, package)?,
            is_unsent,
            is_foreign: publisher.is_elsewhere() && (newest.is_none() || is_unsent),
        })
    })
}

/// What keeps a log from being brought here for now; what contradicts itself will not change.
fn unless_final(failure: Failure, package: &PackageId) -> Result<Standing, Failure> {
    let is_final = [Code::Equivocation, Code::Malformed, Code::Signature].contains(&failure.code);
    match is_final {
        true => Err(failure),
        false if failure.code == Code::Rollback => Ok(Standing::Unknown(failure)),
        false => Ok(Standing::Unknown(behind(package, &failure.message))),
    }
}

fn unasked(package: &PackageId, why: &str) -> Failure {
    Failure::new(
        Code::Rollback,
        format!(
            "The key of {package} was made elsewhere, or given to another machine, and whether a log of it began there is not known: {why}."
        ),
        "It is published as soon as a peer can be asked. Connect to some: ggen marketplace p2p bootstrap <bootstrap-nodes>",
    )
}

/// The peers that are connected may know less of a log than those through whom this node joins.
fn among_strangers(package: &PackageId) -> Failure {
    Failure::new(
        Code::Rollback,
        format!(
            "Whether the log of {package} went on elsewhere is not known: none of the bootstrap nodes has answered yet, and the peers that \
             are connected may know less."
        ),
        "It is published as soon as a bootstrap node answers, or in about a minute where none does. See why: ggen marketplace p2p doctor",
    )
}

pub(super) fn behind(package: &PackageId, why: &str) -> Failure {
    Failure::new(
        Code::Rollback,
        format!("The log of {package} went on elsewhere, and what was added is not here: {why}"),
        format!(
            "Publish from the machine that published last, or start it: nobody else has what it added. Where it is gone permanently, or \
             was not yours: ggen marketplace p2p key rotate, then: ggen marketplace p2p key resolve {}",
            package.name
        ),
    )
}

pub(super) fn stored_entry(entry: &SignedEntry) -> entries::Entry {
    entries::Entry {
        package: entry.entry().package_id(),
        sequence: entry.entry().sequence.get(),
        id: entry.id(),
        bytes: entry.block().bytes().to_vec(),
    }
}

/// Whether nothing that was seen of its package is newer than a head, or contradicts it: what may be told.
pub(super) fn is_current(conn: &Connection, head: &VerifiedHead) -> Result<bool, store::Error> {
    let package = head.package_id();
    let seen = catalog::seen(conn, &package)?;
    let is_contested = catalog::is_frozen(conn, &package)? && seen != Some(head.seen());
    Ok(!is_contested && choice::accept(head, seen).is_ok())
}

/// Writes a head of our own: as the one to announce, and into the index, where there is always room for it.
///
/// What the index says is for the one that asked: a head that it refused is found by nobody here.
///
/// # Errors
/// Where a newer head of the package came in the meantime, or one that contradicts this one. The transaction then has to be
/// given up as a whole: what was signed never leaves this machine, and the package is not frozen on its account.
pub(super) fn keep_head(
    tx: &rusqlite::Transaction<'_>,
    head: &VerifiedHead,
    now: Timestamp,
) -> Result<Outcome, store::Error> {
    let package = head.package_id();
    let was_frozen = catalog::is_frozen(tx, &package)?;
    catalog::keep(tx, &package)?;
    let outcome = catalog::insert(tx, head, &catalog::Source::own(), now)?;
    match outcome {
        Outcome::Refused(Refusal::Rollback | Refusal::Equivocation | Refusal::Contradiction)
            if was_frozen =>
        {
            let ending = Ending::of(&catalog::proofs(tx, &package)?, Some(head.key_log()));
            return Err(is_frozen(&package, &ending));
        }
        Outcome::Refused(
            Refusal::Rollback | Refusal::Equivocation | Refusal::Contradiction | Refusal::Revoked,
        ) => {
            return Err(overtaken(&package));
        }
        Outcome::Refused(refusal) => {
            tracing::warn!(%package, ?refusal, "a head of our own is not in the index");
        }
        _ => tracing::debug!(%package, ?outcome, "a head of our own is in the index"),
    }
    // Under later keys a log may end at an earlier place: the catalogue has judged that.
    let before = heads::get(tx, &package)?.and_then(|own| VerifiedHead::verify_stored(&own.bytes).ok());
    if before.is_some_and(|before| before.seen().key_n < head.seen().key_n) {
        heads::remove(tx, &package)?;
    }
    heads::put(tx, &own_head(head))?;
    Ok(outcome)
}

/// A package whose log has branches.
fn is_frozen(package: &PackageId, ending: &Ending) -> store::Error {
    store::Error::Refused {
        code: Code::Equivocation,
        message: format!("two different states of {package} were signed for one place: it is frozen"),
        hint: format!("Nothing was changed, and nobody would take it. {}", ending.said(package)),
    }
}

/// A log that went on elsewhere while it was being continued here.
pub(super) fn overtaken(package: &PackageId) -> store::Error {
    store::Error::Refused {
        code: OVERTAKEN,
        message: format!("the log of {package} went on elsewhere while this was being signed"),
        hint: "Nothing was changed. Try again: what was added is fetched first.".to_owned(),
    }
}

/// Turns what kept a head of our own from being written into what is told: one that was overtaken can be tried again.
pub(super) fn not_kept(error: store::Error) -> Failure {
    let is_overtaken = matches!(&error, store::Error::Refused { code: OVERTAKEN, .. });
    let failure = fail(error);
    Failure { retryable: failure.retryable || is_overtaken, ..failure }
}

/// The log of one of our packages as it is stored; nothing where there is none yet.
pub(super) fn held_log(
    store: &Store,
    publisher: &Publisher,
    package: &PackageId,
) -> Result<Option<Log>, store::Error> {
    let stored = store.read(|conn| entries::list_of(conn, package))?;
    if stored.is_empty() {
        return Ok(None);
    }
    let stored = stored.iter().map(|entry| entry.bytes.as_slice());
    Ok(Some(Log::verify_stored(stored, publisher.key_log())?))
}

/// Adds an entry to a log and writes it with the head that follows from it, whose labels are those of the head before.
pub(super) fn append(
    store: &Store,
    publisher: &Publisher,
    mut log: Log,
    kind: Kind,
    head_before: &[u8],
    now: Timestamp,
) -> Result<Result<VerifiedHead, Failure>, store::Error> {
    let made = || -> Result<(SignedEntry, VerifiedHead), Failure> {
        let before = VerifiedHead::verify_stored(head_before).map_err(fail)?;
        let entry = log.next(kind, publisher, now).map_err(fail)?;
        log.push(entry.clone()).map_err(fail)?;
        let head = Head::of(&log, labels_of(&before), publisher).map_err(fail)?;
        Ok((entry, head.sign(publisher).map_err(fail)?))
    };
    let (entry, head) = match made() {
        Ok(made) => made,
        Err(failure) => return Ok(Err(failure)),
    };
    let mut batch = store.lasting_batch();
    batch.put(entry.block().clone())?;
    let written = batch.commit(|tx| {
        entries::insert(tx, &stored_entry(&entry))?;
        keep_head(tx, &head, now)
    });
    Ok(written.map(|_| head).map_err(not_kept))
}

/// What a head says of its package, to be said again.
pub(super) fn labels_of(head: &VerifiedHead) -> Labels {
    let head = head.head();
    Labels {
        description: head.description.clone(),
        license: head.license.clone(),
        tags: head.tags.clone(),
        categories: head.categories.clone(),
        preflight_skipped: head.preflight_skipped,
        secrets_allowed: head.secrets_allowed,
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
