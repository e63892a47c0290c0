//! Publishing: from a directory to a signed head that is durable here, or to content that waits in the outbox.
//!
//! One transaction makes the blocks, the manifest, the log entry and the head durable together; only then is anybody told. Nothing
//! is signed before it is known how far the log went elsewhere: until then the content waits, without a place in the log. To pack it
//! may take minutes, so that this is looked at before, and again directly before it is signed.
//! Telling is [`announce`](super::announce)'s: what was not heard now is told again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    KEYS_FOLDER, P2PConfig,
    collect::{PATIENCE, make_room_in},
    dependencies::check_offline,
    failure::fail,
    gone,
    history::{Standing, Thoroughness},
    node::{Node, asked_time},
    open_store,
    packed::{Before, Content, Done, Work, conflicts_with_queued},
    plan::{cancelled, unless_cancelled},
    prepared::{Prepared, job, prepare},
    signing::{Keys, published_before, refuse_second_package},
    trust,
};
use crate::{
    catalog,
    code::Code,
    content::ContentId,
    control::{
        api::{Failure, PublishRequest, Published},
        service::{Cancel, ProgressSender},
    },
    identity::{Publisher, PublisherId},
    network::{FirstContact, Offload},
    package::{PackageId, PackageName, manifest::Manifest, pack},
    release::Seen,
    store::{self, Batch, HomeLock, Store, published},
    time::Timestamp,
};

/// How long `publish` waits to tell others, unless it was asked to wait longer. The rest is told in the background.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was found out of a log holds while it is packed, where nothing that this node has heard since speaks against it.
const CHECK_HOLDS: Duration = Duration::from_secs(2);
/// How soon a publication that waits for somebody who can be asked tries again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long `publish --wait` waits where no time was given.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// What becomes of a package once it is packed.
#[derive(Debug)]
pub(super) enum Plan {
    /// It is signed and listed, at this time: others can ask for it from then on.
    Sign(FirstContact, Timestamp),
    /// It waits in the outbox, unsigned, for this reason.
    Queue(Failure),
}

impl Node {
    pub(super) async fn publish(
        self: &Arc<Self>,
        request: PublishRequest,
        progress: ProgressSender,
        cancel: Cancel,
    ) -> Result<Published, Failure> {
        let timeout =
            asked_time(request.timeout_secs, if request.wait { WAIT_TIMEOUT } else { TELL_TIMEOUT });
        let waits_until = Instant::now() + timeout;
        let ready = tokio::select! { biased;
            () = cancel.cancelled() => Err(cancelled()),
            ready = self.make_ready(&request, &progress, timeout) => ready,
        };
        let Ready { signable, new_key, prepared } = ready?;
        let relied_on = tokio::select! { biased;
            () = cancel.cancelled() => Err(cancelled()),
            relied_on = self.collecting.rely(Instant::now() + PATIENCE) => relied_on,
        };
        let relied_on = relied_on?;
        let (node, asked, telling, wanted) =
            (self.clone(), request.clone(), progress.clone(), cancel.clone());
        // From here on it is run to its end, and looks itself whether it is still wanted.
        let done = self.run_to_its_end(async move {
            let _relied_on = relied_on;
            node.carry_out(signable, prepared, &asked, waits_until, telling, wanted).await
        });
        let done = done.await.ok_or_else(|| gone("the publication"))?;
        let Done { head, mut answer } = done.map_err(|failure| with_new_key(failure, new_key.as_deref()))?;
        answer.new_key = new_key;
        // How much it takes is known by now.
        self.trim().await;
        let wait = request.wait;
        let Some(head) = head else {
            self.outbox.notify_one();
            return if wait && answer.queued { Err(still_waits(&answer, timeout)) } else { Ok(answer) };
        };
        progress.report("announcing", 0, None, "peers");
        let deadline = waits_until.max(Instant::now() + timeout.min(TELL_TIMEOUT));
        let package = head.package_id();
        answer.warnings.extend(self.said_of_unseen(&package));
        let telling = async {
            if wait { self.tell_until(&head, deadline).await } else { self.tell(&head, deadline).await }
        };
        let told = tokio::select! { biased;
            told = telling => told,
            // It is signed and listed: others hear of it from those who tell of everything.
            () = cancel.cancelled() => {
                self.audience.notify_one();
                return Ok(answer);
            }
        };
        answer.dht_stored = told.stored;
        answer.announced_to = told.heard;
        answer.announced = told.anybody();
        if told.anybody() {
            let sequence = answer.sequence;
            self.with_store(move |store| store.write(|tx| published::set_announced(tx, &package, sequence)))
                .await?;
        } else {
            answer
                .warnings
                .push("nobody has heard of it yet: it is announced as soon as a peer connects".to_owned());
            if wait {
                return Err(nobody_took(&answer, timeout));
            }
        }
        if wait && request.copies > 0 {
            progress.report("copying", 0, Some(request.copies as u64), "copies");
            tokio::select! { biased;
                copied = self.copied(&mut answer, request.copies, deadline, &progress) => copied?,
                () = cancel.cancelled() => {}
            }
        }
        Ok(answer)
    }

    /// Waits until so many other nodes that can be reached say that they have all of the content. Whether it is true shows only when
    /// somebody fetches it from them.
    async fn copied(
        &self,
        answer: &mut Published,
        copies: usize,
        deadline: Instant,
        progress: &ProgressSender,
    ) -> Result<(), Failure> {
        let root: ContentId = answer.cid.parse().map_err(|_| gone("the publication"))?;
        let own = self.network.local_peer();
        loop {
            // What was remembered of them is from before somebody fetched it.
            self.forget_providers(&root);
            let (providers, _) = self.providers(root, deadline).await;
            let others = providers.iter().filter(|peer| **peer != own).count();
            answer.copies = Some(others);
            progress.report("copying", others as u64, Some(copies as u64), "copies");
            if others >= copies {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(too_few_copies(answer, copies));
            }
            sleep_until((Instant::now() + ASK_AGAIN).min(deadline)).await;
        }
    }

    /// Looks a package over, and finds out whether it can be signed now: nothing is written.
    async fn make_ready(
        &self,
        request: &PublishRequest,
        progress: &ProgressSender,
        timeout: Duration,
    ) -> Result<Ready, Failure> {
        let job = job(request, &self.keys, self.offload)?;
        let prepared = self.offload.run(move || prepare(job)).await;
        let prepared = prepared.ok_or_else(|| gone("the publication"))??;
        let new_key = {
            let _turn = self.publishing.lock().await;
            let before = self.with_store(published_before).await?;
            let (keys, key, name) = (self.keys.clone(), request.key.clone(), prepared.gpack.name.clone());
            self.offload_store(move |store| refuse_second_package(&keys, store, &name, key.as_deref()))
                .await?;
            self.keys.make_missing(request.key.as_deref(), &before)?
        };
        let ready = self.look_over(request, prepared, progress, timeout).await;
        let ready = ready.map_err(|failure| with_new_key(failure, new_key.as_deref()))?;
        Ok(Ready { new_key, ..ready })
    }

    async fn look_over(
        &self,
        request: &PublishRequest,
        mut prepared: Prepared,
        progress: &ProgressSender,
        timeout: Duration,
    ) -> Result<Ready, Failure> {
        if !prepared.gpack.dependencies.is_empty() {
            // Others may publish while this one asks around.
            let turn = self.publishing.lock().await;
            let publisher = self.publisher(request.key.as_deref()).await?.id();
            drop(turn);
            if let Some(root) = prepared.dependencies(publisher)? {
                let warnings = self.check_dependencies(root).await?;
                prepared.warnings.extend(warnings);
            }
        }
        let waits_until = Instant::now() + timeout;
        let name = prepared.gpack.name.clone();
        let signable = self.signable(request, &name, waits_until, progress).await?;
        let mut bytes = 0;
        if let Some(most) = self.config().store_bytes_max {
            let id = signable.publisher.id();
            let counted = self.offload_store(move |store| {
                let bytes = prepared.added_bytes(store, id, most)?;
                Ok((bytes, prepared))
            });
            (bytes, prepared) = counted.await?;
        }
        self.make_room(bytes, Vec::new(), PATIENCE).await?;
        Ok(Ready { signable, new_key: None, prepared })
    }

    /// Finds out whether a version of a package can be signed now; waits until then for somebody who can be asked.
    ///
    /// # Errors
    /// Where it never can be, and where it cannot be now and is not to wait in the outbox.
    async fn signable(
        &self,
        request: &PublishRequest,
        name: &PackageName,
        waits_until: Instant,
        progress: &ProgressSender,
    ) -> Result<Signable, Failure> {
        loop {
            let turn = self.publishing.clone().lock_owned().await;
            let publisher = self.publisher(request.key.as_deref()).await?;
            let standing = self.catch_up(&publisher, name, Thoroughness::Brief).await?;
            let may_wait = Instant::now() < waits_until && !progress.is_forsaken();
            match standing {
                // For the clock nobody waits here: it is put right by a person.
                Standing::Unknown(why) if why.code != Code::Clock && may_wait => {
                    drop(turn);
                    tracing::info!(why.message, "a publication waits for somebody who can be asked");
                    progress.report("waiting", 0, None, "peers");
                    sleep_until((Instant::now() + ASK_AGAIN).min(waits_until)).await;
                }
                standing => {
                    let package = PackageId { publisher: publisher.id(), name: name.clone() };
                    let checked =
                        Checked { at: Instant::now(), heard: self.heard_of(&package).await?, package };
                    return Ok(Signable { turn, publisher, plan: self.planned(standing, request)?, checked });
                }
            }
        }
    }

    /// What becomes of a version of a log that is known so far, by the clock as it is now.
    fn planned(&self, standing: Standing, request: &PublishRequest) -> Result<Plan, Failure> {
        match (standing, self.time_to_add()) {
            (Standing::Known, Ok(now)) => Ok(Plan::Sign(self.first_contact.clone(), now)),
            (Standing::Unknown(why), _) | (Standing::Known, Err(why)) if request.no_queue => Err(why),
            (Standing::Unknown(why), _) | (Standing::Known, Err(why)) => Ok(Plan::Queue(why)),
        }
    }

    /// What this node has heard of a package by now, and from how many it can hear more.
    async fn heard_of(&self, package: &PackageId) -> Result<(Option<Seen>, usize), Failure> {
        let package = package.clone();
        let seen = self.with_store(move |store| store.read(|conn| Ok(catalog::seen(conn, &package)?)));
        Ok((seen.await?, self.network.heads().borrow().peers))
    }

    /// Whether what was found out of a log still holds, as far as can be told without asking anybody.
    async fn holds(&self, checked: &Checked) -> Result<bool, Failure> {
        let (seen, peers) = self.heard_of(&checked.package).await?;
        let (seen_before, peers_before) = checked.heard;
        Ok(checked.at.elapsed() < CHECK_HOLDS && seen == seen_before && peers >= peers_before)
    }

    /// Packs a package. Then signs it, or has it wait, as it stands by then.
    async fn carry_out(
        &self,
        signable: Signable,
        prepared: Prepared,
        request: &PublishRequest,
        waits_until: Instant,
        progress: ProgressSender,
        cancel: Cancel,
    ) -> Result<Done, Failure> {
        let ((at_work, store), id) = (self.at_work(), signable.publisher.id());
        let (telling, wanted) = (progress.clone(), cancel.clone());
        let packed = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            pack_up(&store, id, prepared, &telling, &wanted)
        });
        let packed = packed.await.ok_or_else(|| gone("the publication"))??;
        let Signable { turn, publisher, plan, .. } = tokio::select! { biased;
            () = cancel.cancelled() => Err(cancelled()),
            signable = self.signable_still(signable, request, waits_until, &progress) => signable,
        }?;
        let (at_work, store) = self.at_work();
        let done = self.offload.run(move || {
            // The next one begins when this one is done, also where nobody waits for it any more.
            let (_turn, _at_work, store) = (turn, at_work, store);
            finish(&store, &publisher, packed, plan, &cancel)
        });
        done.await.ok_or_else(|| gone("the publication"))?
    }

    /// Looks again, now that it is packed, whether a version can be signed: others may have published meanwhile, the line may have
    /// dropped, or the clock may have jumped.
    async fn signable_still(
        &self,
        before: Signable,
        request: &PublishRequest,
        waits_until: Instant,
        progress: &ProgressSender,
    ) -> Result<Signable, Failure> {
        if matches!(before.plan, Plan::Queue(_)) {
            return Ok(before);
        }
        if self.holds(&before.checked).await? {
            return Ok(Signable { plan: self.planned(Standing::Known, request)?, ..before });
        }
        let Signable { turn, publisher, checked, .. } = before;
        drop(turn);
        // Who is asked may be busy for a moment, also where no time is left.
        let waits_until = waits_until
            .max(Instant::now() + TELL_TIMEOUT.min(asked_time(request.timeout_secs, TELL_TIMEOUT)));
        let signable = self.signable(request, &checked.package.name, waits_until, progress).await?;
        if signable.publisher.id() != publisher.id() {
            return Err(Failure::new(
                Code::Conflict,
                "Another publisher's key took the place of this one while the package was packed; nothing was signed.",
                "Name the key that is to sign: --key <NAME>. See which there are: ggen marketplace p2p key list",
            ));
        }
        Ok(signable)
    }
}

/// A version that can be signed, or can only wait.
struct Signable {
    /// Nobody else adds to a log of ours as long as this is here.
    turn: tokio::sync::OwnedMutexGuard<()>,
    publisher: Publisher,
    plan: Plan,
    checked: Checked,
}

/// When it was found out how far the log of a package went, and what this node had heard of it by then, from how many peers.
struct Checked {
    at: Instant,
    package: PackageId,
    heard: (Option<Seen>, usize),
}

/// A publication that can be made.
struct Ready {
    signable: Signable,
    /// Where the key is, if it was made just now.
    new_key: Option<String>,
    prepared: Prepared,
}

/// A failure of a publication that made a key all the same: nobody says so again.
fn with_new_key(failure: Failure, new_key: Option<&str>) -> Failure {
    let Some(path) = new_key else { return failure };
    let made =
        format!("A publisher key was made: {path}. Keep a copy: ggen marketplace p2p key export --to <FILE>");
    let hint = if failure.hint.is_empty() { made } else { format!("{}\n{made}", failure.hint) };
    Failure { hint, ..failure }
}

/// What `--wait` comes to where a publication could not be signed in time.
fn still_waits(answer: &Published, timeout: Duration) -> Failure {
    let why = answer.warnings.join("\n");
    Failure::new(
        Code::Timeout,
        format!("{} still waits after {} s.\n{why}", answer.id, timeout.as_secs()),
        "It is published as soon as that has changed. See what it waits for: ggen marketplace p2p status",
    )
}

/// What `--wait` comes to where no other node took a publication in time.
fn nobody_took(answer: &Published, timeout: Duration) -> Failure {
    Failure::new(
        Code::Timeout,
        format!("{} is published here, and no other node took it within {} s.", answer.id, timeout.as_secs()),
        "It is announced as soon as a peer connects. See who is connected: ggen marketplace p2p peer-list",
    )
}

/// What `--copies` comes to where too few nodes fetched a publication in time.
fn too_few_copies(answer: &Published, copies: usize) -> Failure {
    let others = answer.copies.unwrap_or_default();
    Failure::new(
        Code::Timeout,
        format!(
            "{} is published and announced, and {others} of {copies} other nodes say that they have all of it.",
            answer.id
        ),
        "Keep this node running, or install the package on another one: nobody else can serve it yet.",
    )
}

/// Packs a directory while no node runs, and puts it into the outbox: the node signs and announces it once it runs.
///
/// # Errors
/// As [`Registry::publish`](crate::traits::Registry::publish); also [`Code::AlreadyRunning`] where the node does run.
pub async fn publish_offline(
    config: P2PConfig,
    request: PublishRequest,
    progress: ProgressSender,
    cancel: Cancel,
) -> Result<Published, Failure> {
    let done = Offload::Threads.run(move || {
        let folder = config.state_dir.clone();
        let keys = Keys::Folder(folder.join(KEYS_FOLDER));
        let job = job(&request, &keys, Offload::Threads)?;
        let lock = HomeLock::acquire(&folder).map_err(fail)?;
        let store = open_store(&folder)?;
        let before = published_before(&store).map_err(fail)?;
        let prepared = prepare(job)?;
        refuse_second_package(&keys, &store, &prepared.gpack.name, request.key.as_deref())?;
        let new_key = keys.make_missing(request.key.as_deref(), &before)?;
        let publisher = keys.publisher(request.key.as_deref(), &before)?;
        let done = Ok(prepared).and_then(|mut prepared| {
            if let Some(root) = prepared.dependencies(publisher.id())? {
                prepared.warnings.extend(check_offline(&store, root)?);
            }
            if let Some(most) = config.store_bytes_max {
                let bytes = prepared.added_bytes(&store, publisher.id(), most)?;
                make_room_in(&store, bytes, most)?;
            }
            make(&store, &publisher, prepared, Plan::Queue(not_running()), &progress, &cancel)
        });
        drop((store, lock));
        let mut done = done.map_err(|failure| with_new_key(failure, new_key.as_deref()))?;
        done.answer.new_key = new_key;
        Ok::<_, Failure>(done)
    });
    Ok(done.await.ok_or_else(|| gone("the publication"))??.answer)
}

/// Why what is published while no node runs waits.
fn not_running() -> Failure {
    Failure::new(
        Code::NotRunning,
        "No node runs on this state folder.",
        "Start the node: ggen marketplace p2p start --daemon",
    )
}

/// Packs a directory, and signs it or puts it into the outbox. Runs beside the runtime.
fn make(
    store: &Store,
    publisher: &Publisher,
    prepared: Prepared,
    plan: Plan,
    progress: &ProgressSender,
    cancel: &Cancel,
) -> Result<Done, Failure> {
    let packed = pack_up(store, publisher.id(), prepared, progress, cancel)?;
    finish(store, publisher, packed, plan, cancel)
}

/// Content that is packed: its blocks become durable with what is written of it.
struct Packed {
    batch: Batch,
    content: Content,
}

/// Packs a directory. Runs beside the runtime.
fn pack_up(
    store: &Store,
    publisher: PublisherId,
    prepared: Prepared,
    progress: &ProgressSender,
    cancel: &Cancel,
) -> Result<Packed, Failure> {
    let Prepared { job, gpack, found, own, mut warnings, preflight } = prepared;
    let package = PackageId { publisher, name: gpack.name.clone() };
    warnings.extend(
        trust::warnings(store, job.keys.as_deref(), &package.name, Some(package.publisher)).map_err(fail)?,
    );
    let mut batch = store.lasting_batch();
    let mut put = |block| match cancel.is_cancelled() {
        true => Err(store::Error::Refused {
            code: Code::Interrupted,
            message: "it was cancelled".to_owned(),
            hint: String::new(),
        }),
        false => batch.put(block).map(drop),
    };
    let packed = pack::pack_on(&found, job.workers, &own, &mut put, &mut |done, total| {
        progress.report("packing", done, Some(total), "bytes");
    });
    unless_cancelled(cancel)?;
    let packed = packed.map_err(fail)?;
    // They may be many, and so may the manifest be.
    drop(found);
    let blocks = packed.blocks;
    progress.report("storing", 0, None, "bytes");
    let manifest = Manifest::new(publisher, gpack, preflight, packed).map_err(fail)?;
    let content = Content { manifest, path: job.directory, blocks, warnings, now: Timestamp::now() };
    Ok(Packed { batch, content })
}

/// Signs what is packed, or puts it into the outbox. Runs beside the runtime.
fn finish(
    store: &Store,
    publisher: &Publisher,
    packed: Packed,
    plan: Plan,
    cancel: &Cancel,
) -> Result<Done, Failure> {
    let Packed { batch, mut content } = packed;
    if let Plan::Sign(_, now) = &plan {
        content.now = *now;
    }
    let queued = content.queued(store).map_err(fail)?;
    if let Some(there) = &queued
        && !content.is_same_as(there)
    {
        return Err(conflicts_with_queued(&content));
    }
    let work = Work::new(store, publisher, content)?;
    let before = work.before()?;
    // The last moment: what follows is one transaction.
    unless_cancelled(cancel)?;
    match (before, plan) {
        (Before::Same(state), _) => work.again(batch, &state),
        (Before::Other(why), _) => Err(work.conflict(why)),
        (Before::None, Plan::Sign(contact, _)) => work.commit(batch, &contact),
        (Before::None, Plan::Queue(why)) if queued.is_some() => work.queued_before(batch, &why),
        (Before::None, Plan::Queue(why)) => work.queue(batch, &why),
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
pub(super) mod tests;
