//! Changes of our own packages that wait until they can be signed, as versions wait in the outbox: `yank`, `unyank` and `deprecate`
//! where no node runs, nobody can be asked how far the log went, the clock is wrong, or the version itself waits.

use std::collections::BTreeSet;

use semver::Version;
use tokio::time::Instant;

use super::{
    KEYS_FOLDER,
    amend::{Done, TELL_TIMEOUT, candidates, is_so, kind, one_of, sign},
    failure::fail,
    gone,
    history::{Standing, Thoroughness, held_log},
    meant::meant_in,
    node::Node,
    open_store,
    outbox::key_missing,
    signing::Keys,
};
use crate::{
    catalog,
    code::Code,
    config::P2PConfig,
    control::api::{AmendRequest, Amended, Change, Failure, QueuedChange},
    identity::{Publisher, PublisherId},
    network::Offload,
    package::{PackageId, PackageRef},
    release::Kind,
    store::{
        self, HomeLock, Store,
        changes::{self, Subject, Waiting},
        entries, outbox,
    },
    time::Timestamp,
};

/// What became of a change that cannot be signed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queued {
    /// It waits.
    Waits,
    /// It is so already.
    Already,
    /// It is so already, and what would have changed that waits no more.
    TakenOut,
}

impl Node {
    /// Signs a change that waits, and tells of it; says what keeps it where it waits on.
    async fn release_change(&self, waiting: &Waiting) -> Result<(), Failure> {
        let turn = self.publishing.clone().lock_owned().await;
        let subject = waiting.subject.clone();
        let (now_waiting, version_waits) = self
            .with_store(move |store| {
                store.read(|conn| Ok((changes::get(conn, &subject)?, version_waits(conn, &subject)?)))
            })
            .await?;
        if now_waiting.as_ref() != Some(waiting) {
            // Something else was asked for meanwhile.
            return Ok(());
        }
        if version_waits {
            return Err(waits_itself());
        }
        let package = waiting.subject.package.clone();
        let publisher =
            self.publisher_of(package.publisher)?.ok_or_else(|| key_missing(package.publisher))?;
        self.time_to_add()?;
        if let Standing::Unknown(why) = self.catch_up(&publisher, &package.name, Thoroughness::Full).await? {
            return Err(why);
        }
        let now = self.time_to_add()?;
        let (of, subject, kind) = (package.clone(), waiting.subject.clone(), kind_of(waiting));
        let done = self
            .offload_store(move |store| {
                // Whoever waits for this may leave: nobody else signs before it has ended.
                let _turn = turn;
                let done = sign(store, &publisher, &of, kind, now)?;
                store.write(|tx| changes::remove(tx, &subject)).map_err(fail)?;
                Ok(done)
            })
            .await?;
        let Done::Signed(head) = done else { return Ok(()) };
        tracing::info!(%package, "a change that waited was signed");
        if self.tell(&head, Instant::now() + TELL_TIMEOUT).await.anybody() {
            self.mark_announced(package, head.head().sequence.get()).await;
        }
        Ok(())
    }

    /// Tries every change that waits, once; says whether some still do.
    pub(super) async fn release_changes(&self) -> Result<bool, Failure> {
        let mut waits = false;
        for waiting in self.with_store(|store| store.read(changes::list_all)).await? {
            let Err(failure) = self.release_change(&waiting).await else { continue };
            let (package, subject) = (waiting.subject.package.clone(), waiting.subject.clone());
            let (code, why) = (failure.code.as_str(), failure.message.clone());
            if failure.code == Code::NotFound {
                tracing::warn!(%package, code, why, "a change that waited can never be signed, and is dropped");
                self.with_store(move |store| store.write(|tx| changes::remove(tx, &subject))).await?;
                continue;
            }
            waits = true;
            if (waiting.code.as_str(), &waiting.why) != (code, &why) {
                tracing::warn!(%package, code, why, "a change waits in the outbox");
                let note = move |store: &Store| {
                    store.write(|tx| changes::set_reason(tx, &subject, code, &failure.message))
                };
                self.with_store(note).await?;
            }
        }
        Ok(waits)
    }
}

/// Has a change wait that cannot be signed now. Runs beside the runtime.
///
/// # Errors
/// [`Code::NotFound`] where the version is neither in the log that is here nor in the outbox.
pub(super) fn queue(
    store: &Store,
    publisher: &Publisher,
    package: &PackageId,
    kind: &Kind,
    why: &Failure,
    now: Timestamp,
) -> Result<Queued, Failure> {
    let (version, is_undone, message) = match kind {
        Kind::Yank { version, reason } => (Some(version.clone()), false, reason.clone()),
        Kind::Unyank { version } => (Some(version.clone()), true, String::new()),
        Kind::Deprecate { message } => (None, message.is_empty(), message.clone()),
        _ => return Err(gone("a change that can wait")),
    };
    let subject = Subject { package: package.clone(), version };
    let is_unsigned = store.read(|conn| version_waits(conn, &subject)).map_err(fail)?;
    let is_so = match held_log(store, publisher, package).map_err(fail)? {
        // What was not signed yet was not yanked either.
        _ if is_unsigned => is_undone,
        Some(log) => is_so(&log, kind)?,
        None => false,
    };
    if is_so {
        let was_there = store.write(|tx| changes::remove(tx, &subject)).map_err(fail)?;
        return Ok(if was_there { Queued::TakenOut } else { Queued::Already });
    }
    let code = why.code.as_str().to_owned();
    let waiting = Waiting { subject, is_undone, message, queued_at: now, code, why: why.message.clone() };
    store.write(|tx| changes::put(tx, &waiting)).map_err(fail)?;
    Ok(Queued::Waits)
}

/// Has a change wait in the state folder of a node that does not run.
///
/// # Errors
/// As the running node, and [`Code::AlreadyRunning`] where one runs.
pub async fn amend_offline(config: P2PConfig, request: AmendRequest) -> Result<Amended, Failure> {
    let done = Offload::Threads.run(move || {
        let folder = config.state_dir;
        if !Store::is_in(&folder) {
            return Err(not_running());
        }
        let lock = HomeLock::acquire(&folder).map_err(fail)?;
        let store = open_store(&folder)?;
        let done = queue_in(&store, &Keys::Folder(folder.join(KEYS_FOLDER)), &request);
        drop((store, lock));
        done
    });
    done.await.ok_or_else(|| gone("the change"))?
}

fn queue_in(store: &Store, keys: &Keys, request: &AmendRequest) -> Result<Amended, Failure> {
    let reference = meant_in(store, &request.package)?.reference;
    let kind = kind(request, &reference)?;
    let named = candidates(keys.all()?, &reference);
    let is_ours = |id: &PackageId| store.read(|conn| is_known(conn, id)).map_err(fail);
    let mut ours = Vec::new();
    for (publisher, id) in named {
        if is_ours(&id)? {
            ours.push((publisher, id));
        }
    }
    let (publisher, package) = one_of(&reference, ours)?;
    let why = not_running();
    let queued = queue(store, &publisher, &package, &kind, &why, Timestamp::now())?;
    Ok(answer(request, &reference, &package, queued, &why))
}

/// Whether something of a package was published, waits to be, or was seen.
pub(super) fn is_known(conn: &rusqlite::Connection, id: &PackageId) -> Result<bool, store::Error> {
    Ok(entries::last(conn, id)?.is_some()
        || catalog::seen(conn, id)?.is_some()
        || outbox::list_all(conn)?.iter().any(|row| row.package == *id))
}

/// What every answer to a change says of it.
pub(super) fn about(request: &AmendRequest, reference: &PackageRef, package: &PackageId) -> Amended {
    let version = reference.version.as_ref();
    Amended {
        id: version.map_or_else(|| package.to_string(), |version| format!("{package}@{version}")),
        publisher: package.publisher.to_string(),
        name: package.name.to_string(),
        version: version.map(Version::to_string),
        change: request.change,
        ..Amended::default()
    }
}

/// What is answered where a change was not signed.
pub(super) fn answer(
    request: &AmendRequest,
    reference: &PackageRef,
    package: &PackageId,
    queued: Queued,
    why: &Failure,
) -> Amended {
    let mut answer = Amended {
        unchanged: queued != Queued::Waits,
        queued: queued == Queued::Waits,
        ..about(request, reference, package)
    };
    match queued {
        Queued::Waits => answer.warnings.push(why.message.clone()),
        Queued::TakenOut => {
            answer.warnings.push("the opposite waited in the outbox, and was taken out of it".to_owned());
        }
        Queued::Already => {}
    }
    answer
}

/// A change that waits, as `status` shows it.
pub(super) fn described(waiting: &Waiting) -> QueuedChange {
    let Subject { package, version } = &waiting.subject;
    let id = match version {
        Some(version) => format!("{package}@{version}"),
        None => package.to_string(),
    };
    QueuedChange {
        id,
        change: change_of(waiting),
        queued_at: waiting.queued_at.to_string(),
        code: waiting.code.clone(),
        why: waiting.why.clone(),
    }
}

/// The same while a node runs: that none did is no reason any more.
pub(super) fn described_while_running(waiting: &Waiting) -> QueuedChange {
    let (code, why) = super::outbox::while_running(&waiting.code, &waiting.why);
    QueuedChange { code, why, ..described(waiting) }
}

/// What `status` warns of, in one line.
pub(super) fn warning(rows: &[Waiting]) -> Option<String> {
    let first = rows.first()?;
    let number = match rows.len() {
        1 => "1 change waits".to_owned(),
        several => format!("{several} changes wait"),
    };
    Some(format!("{number} in the outbox, unsigned: {}", described_while_running(first).why))
}

/// The publishers of what waits.
pub(super) fn publishers(rows: &[Waiting]) -> BTreeSet<PublisherId> {
    rows.iter().map(|row| row.subject.package.publisher).collect()
}

fn change_of(waiting: &Waiting) -> Change {
    match (waiting.subject.version.is_some(), waiting.is_undone) {
        (true, false) => Change::Yank,
        (true, true) => Change::Unyank,
        (false, false) => Change::Deprecate,
        (false, true) => Change::Undeprecate,
    }
}

fn kind_of(waiting: &Waiting) -> Kind {
    let message = waiting.message.clone();
    match (&waiting.subject.version, waiting.is_undone) {
        (Some(version), false) => Kind::Yank { version: version.clone(), reason: message },
        (Some(version), true) => Kind::Unyank { version: version.clone() },
        (None, _) => Kind::Deprecate { message },
    }
}

/// Whether the version that a change is about waits to be published.
fn version_waits(conn: &rusqlite::Connection, subject: &Subject) -> Result<bool, store::Error> {
    let Some(version) = &subject.version else { return Ok(false) };
    Ok(outbox::get(conn, &subject.package, version)?.is_some())
}

pub(super) fn waits_itself() -> Failure {
    Failure::new(Code::Busy, "The version itself waits in the outbox.", "See why: ggen marketplace p2p list")
}

fn not_running() -> Failure {
    Failure::new(
        Code::NotRunning,
        "No node runs on this state folder.",
        "Start the node: ggen marketplace p2p start --daemon",
    )
}
