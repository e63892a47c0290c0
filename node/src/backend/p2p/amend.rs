//! Taking back: a version that is no longer chosen, and a package that should no longer be used.
//!
//! Each is one more entry of the log and a new head. Nothing is deleted: a yanked version is still served to those who name it.

use std::time::Duration;

use semver::Version;
use tokio::time::Instant;

use super::{
    changes, disputed,
    failure::fail,
    history::{Standing, Thoroughness, append, held_log},
    node::{Node, asked_time},
    offer::log_here,
    withdrawn,
};
use crate::{
    catalog,
    code::Code,
    control::api::{AmendRequest, Amended, Change, Failure},
    identity::Publisher,
    package::{PackageId, PackageRef},
    project::Locked,
    release::{Kind, Log, VerifiedHead},
    store::{self, Store, heads, outbox, published},
    time::Timestamp,
};

/// How long telling others may take, unless more was asked for. The rest is told in the background.
pub(super) const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a change.
#[derive(Debug)]
pub(super) enum Done {
    /// It is signed and durable.
    Signed(Box<VerifiedHead>),
    /// It was so already.
    Already(Box<VerifiedHead>),
}

impl Node {
    /// Signs a change of a package of ours, and tells of it.
    pub(super) async fn amend(&self, request: AmendRequest) -> Result<Amended, Failure> {
        let reference = self.meant(&request.package).await?.reference;
        let kind = kind(&request, &reference)?;
        let turn = self.publishing.clone().lock_owned().await;
        let (publisher, package) = self.own_package(&reference).await?;
        let standing = self.catch_up(&publisher, &package.name, Thoroughness::Brief).await?;
        let signable = match (standing, self.time_to_add()) {
            (Standing::Unknown(why), _) | (Standing::Known, Err(why)) => Err(why),
            (Standing::Known, Ok(now)) => Ok(now),
        };
        let now = match self.unless_it_waits(&package, &reference, signable).await? {
            Ok(now) => now,
            Err(why) => {
                let (of, since) = (package.clone(), self.now());
                let queued = self
                    .offload_store(move |store| {
                        let queued = changes::queue(store, &publisher, &of, &kind, &why, since)?;
                        Ok((queued, why))
                    })
                    .await?;
                drop(turn);
                self.outbox.notify_one();
                return Ok(changes::answer(&request, &reference, &package, queued.0, &queued.1));
            }
        };
        let of = package.clone();
        let done = self.offload_store(move |store| {
            let _turn = turn;
            sign(store, &publisher, &of, kind, now)
        });
        let done = done.await?;
        let mut answer = changes::about(&request, &reference, &package);
        let (head, is_new) = match &done {
            Done::Signed(head) => (head, true),
            Done::Already(head) => (head, false),
        };
        answer.unchanged = !is_new;
        answer.sequence = head.head().sequence.get();
        answer.latest = head.head().latest.as_ref().map(|latest| latest.version.to_string());
        if request.change == Change::Yank && answer.latest.is_none() {
            answer.warnings.push(
                "no version is left to choose: the package is found, and installed only by a version that is named"
                    .to_owned(),
            );
        }
        answer.warnings.extend(self.said_of_unseen(&package));
        let deadline = Instant::now() + asked_time(request.timeout_secs, TELL_TIMEOUT);
        let told = self.tell(head, deadline).await;
        answer.announced = told.anybody();
        answer.dht_stored = told.stored;
        answer.announced_to = told.heard;
        if told.anybody() {
            self.mark_announced(package, answer.sequence).await;
        } else {
            answer
                .warnings
                .push("nobody has heard of it yet: it is announced as soon as a peer connects".to_owned());
        }
        Ok(answer)
    }

    /// The package that a reference means, of those whose publisher's key is here.
    async fn own_package(&self, reference: &PackageRef) -> Result<(Publisher, PackageId), Failure> {
        let keys = self.keys.clone();
        let publishers = self.offload.run(move || keys.all()).await;
        let publishers = publishers.ok_or_else(|| super::gone("the keys"))??;
        let named = candidates(publishers, reference);
        let ids: Vec<PackageId> = named.iter().map(|(_, id)| id.clone()).collect();
        let known = self.with_store(move |store| {
            store.read(|conn| {
                ids.iter().map(|id| changes::is_known(conn, id)).collect::<Result<Vec<bool>, _>>()
            })
        });
        let known = known.await?;
        let mut found: Vec<_> = named.iter().zip(known).filter(|(_, known)| *known).collect();
        if let ([], [only]) = (found.as_slice(), named.as_slice()) {
            // It may have been published on another machine only.
            self.head_of(&only.1).await.map_err(|failure| not_ours(reference, Some(failure)))?;
            found.push((only, true));
        }
        one_of(reference, found.into_iter().map(|(one, _)| one.clone()).collect())
    }

    /// Why a change cannot be signed yet, where the version that it is about waits in the outbox itself.
    async fn unless_it_waits(
        &self,
        package: &PackageId,
        reference: &PackageRef,
        signable: Result<Timestamp, Failure>,
    ) -> Result<Result<Timestamp, Failure>, Failure> {
        let Some(version) = reference.version.clone().filter(|_| signable.is_ok()) else {
            return Ok(signable);
        };
        let package = package.clone();
        let row =
            self.with_store(move |store| store.read(|conn| outbox::get(conn, &package, &version))).await?;
        Ok(if row.is_some() { Err(changes::waits_itself()) } else { signable })
    }
}

/// The packages of a name that these publishers may have, of the one that is named where one is.
pub(super) fn candidates(publishers: Vec<Publisher>, reference: &PackageRef) -> Vec<(Publisher, PackageId)> {
    let is_meant = |publisher: &Publisher| reference.publisher.is_none_or(|named| publisher.id() == named);
    let publishers = publishers.into_iter().filter(is_meant);
    let with_id = publishers.map(|publisher| {
        let id = PackageId { publisher: publisher.id(), name: reference.name.clone() };
        (publisher, id)
    });
    with_id.collect()
}

/// The only one of several packages of ours that a reference may mean.
pub(super) fn one_of(
    reference: &PackageRef,
    mut found: Vec<(Publisher, PackageId)>,
) -> Result<(Publisher, PackageId), Failure> {
    if found.len() > 1 {
        let list: Vec<String> = found.iter().map(|(_, id)| format!("  {id}")).collect();
        return Err(Failure::new(
            Code::Ambiguous,
            format!(
                "{} of your publishers have a package \"{}\":\n{}",
                found.len(),
                reference.name,
                list.join("\n")
            ),
            "Name the one you mean by its full id: <publisher>/<name>",
        ));
    }
    found.pop().ok_or_else(|| not_ours(reference, None))
}

/// What the publisher of a version took back of it, as far as that is known here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenBack {
    /// The version was yanked.
    pub yanked: bool,
    /// What to use in place of the package, where it should no longer be used.
    pub deprecated: Option<String>,
    /// The content that a lock file names of it counts no more, since a double signing was ended.
    pub withdrawn: bool,
    /// What is said of a package that is frozen.
    pub frozen: Option<String>,
}

/// What is known here of a version that is named by its full id.
pub(super) fn taken_back(store: &Store, id: &str) -> Result<TakenBack, store::Error> {
    let parsed = id.parse::<PackageRef>().ok();
    let Some(PackageRef { publisher: Some(publisher), name, version: Some(version) }) = parsed else {
        return Ok(TakenBack::default());
    };
    taken_back_in(store, &PackageId { publisher, name }, &version)
}

/// What is known here of what a lock file names.
pub(super) fn taken_back_of(
    store: &Store,
    package: &PackageId,
    locked: &Locked,
) -> Result<TakenBack, Failure> {
    Ok(TakenBack {
        withdrawn: withdrawn::is_locked_withdrawn(store, package, locked)?,
        frozen: withdrawn::frozen_in(store, package, Some(locked))?,
        ..taken_back_in(store, package, &locked.version).map_err(fail)?
    })
}

/// What is known here of one version of a package.
fn taken_back_in(store: &Store, package: &PackageId, version: &Version) -> Result<TakenBack, store::Error> {
    let Some(listed) = store.read(|conn| Ok(catalog::get(conn, package)?))? else {
        return Ok(TakenBack::default());
    };
    let head = &listed.head;
    let yanked = head.yanked.contains(version) || {
        // A head names the highest ones only; the log names all, where it is here.
        let may_be_cut = head.yanked.last().is_some_and(|lowest| version < lowest);
        may_be_cut
            && VerifiedHead::verify_stored(&listed.bytes)
                .ok()
                .and_then(|head| log_here(store, &head))
                .is_some_and(|log| log.versions().get(version).is_some_and(|state| state.yanked.is_some()))
    };
    let frozen = store.read(|conn| Ok(catalog::is_frozen(conn, package)?))?;
    Ok(TakenBack {
        yanked,
        deprecated: head.deprecated.clone(),
        frozen: frozen.then(|| format!("{package}: {}", disputed::FROZEN)),
        ..TakenBack::default()
    })
}

/// The entry that a request asks for.
pub(super) fn kind(request: &AmendRequest, reference: &PackageRef) -> Result<Kind, Failure> {
    let usage = |message: &str, hint: &str| Failure::new(Code::Usage, message, hint);
    let message = request.message.clone();
    match (request.change, &reference.version) {
        (Change::Yank, Some(version)) => Ok(Kind::Yank { version: version.clone(), reason: message }),
        (Change::Unyank, Some(version)) => Ok(Kind::Unyank { version: version.clone() }),
        (Change::Yank | Change::Unyank, None) => Err(usage(
            "Which version is meant is not said.",
            "Name it: <name>@<version>. See which there are: ggen marketplace p2p info <package>",
        )),
        (Change::Deprecate | Change::Undeprecate, Some(_)) => Err(usage(
            "A package is deprecated as a whole, with all its versions.",
            "Name it without a version, or yank the version: ggen marketplace p2p yank <name>@<version>",
        )),
        (Change::Deprecate, None) if message.is_empty() => {
            Err(usage("What to use in place of the package is not said.", "Say so with --message."))
        }
        (Change::Deprecate, None) => Ok(Kind::Deprecate { message }),
        (Change::Undeprecate, None) => Ok(Kind::Deprecate { message: String::new() }),
    }
}

/// Whether a log says already what an entry would.
///
/// # Errors
/// Where the version was never released.
pub(super) fn is_so(log: &Log, kind: &Kind) -> Result<bool, Failure> {
    let yanked = |version: &Version| match log.versions().get(version) {
        Some(state) => Ok(state.yanked.as_deref()),
        None => {
            let known: Vec<String> = log.versions().keys().map(Version::to_string).collect();
            Err(Failure::new(
                Code::NotFound,
                format!("{} has no version {version}.", log.package()),
                format!("Its versions: {}", known.join(", ")),
            ))
        }
    };
    Ok(match kind {
        Kind::Yank { version, .. } => yanked(version)?.is_some(),
        Kind::Unyank { version } => yanked(version)?.is_none(),
        Kind::Deprecate { message } => log.deprecated().unwrap_or_default() == message,
        _ => false,
    })
}

/// Signs and writes a change. Runs beside the runtime.
pub(super) fn sign(
    store: &Store,
    publisher: &Publisher,
    package: &PackageId,
    kind: Kind,
    now: Timestamp,
) -> Result<Done, Failure> {
    let log = held_log(store, publisher, package).map_err(fail)?;
    let own = store.read(|conn| heads::get(conn, package)).map_err(fail)?;
    let (Some(log), Some(own)) = (log, own) else {
        return Err(Failure::new(
            Code::NotFound,
            format!("Nothing of {package} was published yet."),
            "See what is published or waits: ggen marketplace p2p list",
        ));
    };
    if is_so(&log, &kind)? {
        return VerifiedHead::verify_stored(&own.bytes)
            .map(|head| Done::Already(Box::new(head)))
            .map_err(fail);
    }
    let head = append(store, publisher, log, kind, &own.bytes, now).map_err(fail)??;
    // Told again when a peer comes, until somebody has heard it.
    store.write(|tx| published::set_unannounced(tx, package)).map_err(fail)?;
    tracing::info!(%package, sequence = head.head().sequence.get(), "a package was amended");
    Ok(Done::Signed(Box::new(head)))
}

pub(super) fn not_ours(reference: &PackageRef, sought: Option<Failure>) -> Failure {
    // Where nobody could be asked, that is what is wrong.
    if let Some(failure) = sought.filter(|failure| failure.code != Code::NotFound) {
        return failure;
    }
    match reference.publisher {
        Some(publisher) => Failure::new(
            Code::Conflict,
            format!(
                "{reference} is not a package of yours: the key of {publisher} is not here, or published nothing of that name."
            ),
            "Only its publisher can change it. See which keys are here: ggen marketplace p2p key list",
        ),
        None => Failure::new(
            Code::NotFound,
            format!("None of your publisher keys has published a package \"{}\".", reference.name),
            "See what was published here: ggen marketplace p2p list",
        ),
    }
}
