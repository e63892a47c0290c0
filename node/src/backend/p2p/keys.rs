//! What follows from a change of a publisher's keys: new heads of all its packages, and who is missed.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::{Duration, Instant};

use super::{
    disputed::proofs_here,
    failure::fail,
    gone,
    history::{held_log, keep_head, labels_of, not_kept},
    node::{Keys, Node, published_before},
};
use crate::{
    control::api::{Failure, KeysRenewed},
    identity::{Publisher, PublisherId},
    package::PackageId,
    release::{Head, VerifiedHead},
    store::{Store, heads},
    time::Timestamp,
};

/// How long telling of one package may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of the head of one package.
enum Renewed {
    /// It was signed under the current keys.
    Signed(Box<VerifiedHead>),
    /// It is frozen: its next head is one that resolves it.
    Frozen,
    /// It is under the current keys.
    Current,
}

/// Signs the heads again that are under keys which were replaced while the node did not run, and says which keys are gone.
pub(super) async fn renew(node: Arc<Node>) {
    match node.lost_keys().await {
        Ok(lost) => lost.iter().for_each(|publisher| {
            tracing::warn!(%publisher, "the key of a publisher that published here is gone; see: ggen marketplace p2p key list");
        }),
        Err(failure) => tracing::warn!(failure.message, "which keys are here is not known"),
    }
    if let Err(failure) = node.renew_keys().await {
        tracing::warn!(failure.message, "heads may stay under keys that were replaced");
    }
}

impl Node {
    /// Signs the heads of our packages again that are under keys that were replaced, and tells of them.
    pub(super) async fn renew_keys(&self) -> Result<KeysRenewed, Failure> {
        let own = self.with_store(|store| store.read(heads::list_all)).await?;
        let mut answer = KeysRenewed::default();
        for own in own {
            let package = own.package.clone();
            let turn = self.publishing.lock().await;
            let Some(publisher) = self.publisher_of(package.publisher)? else { continue };
            let now = self.time_to_sign()?;
            let ((at_work, store), named) = (self.at_work(), package.clone());
            let done = self.offload.run(move || {
                let (_at_work, store) = (at_work, store);
                sign_again(&store, &publisher, &named, now)
            });
            let renewed = done.await.ok_or_else(|| gone("the new head"))?;
            drop(turn);
            match renewed {
                Ok(Renewed::Signed(head)) => {
                    let told = self.tell(&head, Instant::now() + TELL_TIMEOUT).await;
                    answer.announced += usize::from(told.anybody());
                    answer.packages.push(package.to_string());
                }
                Ok(Renewed::Frozen) => answer.frozen.push(package.to_string()),
                Ok(Renewed::Current) => {}
                Err(failure) => {
                    tracing::warn!(%package, failure.message, "its head stays under keys that were replaced");
                    answer.warnings.push(format!("{package}: {}", failure.message));
                }
            }
        }
        Ok(answer)
    }

    /// Publishers that published here, and whose keys are gone.
    pub(super) async fn lost_keys(&self) -> Result<BTreeSet<PublisherId>, Failure> {
        if matches!(self.keys, Keys::Given(_)) {
            return Ok(BTreeSet::new());
        }
        let before = self.with_store(published_before).await?;
        let here: BTreeSet<PublisherId> = self.keys.all()?.iter().map(Publisher::id).collect();
        Ok(before.difference(&here).copied().collect())
    }
}

/// Signs a head again where it is under keys that were replaced. Runs beside the runtime.
fn sign_again(
    store: &Store,
    publisher: &Publisher,
    package: &PackageId,
    now: Timestamp,
) -> Result<Renewed, Failure> {
    // Only now: a publication that was waited for has made another one.
    let Some(own) = store.read(|conn| heads::get(conn, package)).map_err(fail)? else {
        return Ok(Renewed::Current);
    };
    let before = VerifiedHead::verify_stored(&own.bytes).map_err(fail)?;
    let (old, new) = (before.key_log().current().n, publisher.key_log().current().n);
    if old >= new || !before.key_log().agrees_with(publisher.key_log()) {
        return Ok(Renewed::Current);
    }
    let log = held_log(store, publisher, package).map_err(fail)?;
    let log = log.ok_or_else(|| gone("the log of a package that was published"))?;
    let head = Head::of(&log, labels_of(&before), publisher);
    let head = head.and_then(|head| head.sign(publisher)).map_err(fail)?;
    if let Some(proofs) = proofs_here(store, package).map_err(fail)?
        && (proofs.is_empty() || !proofs.iter().all(|proof| proof.proves.is_ended_by(&head)))
    {
        return Ok(Renewed::Frozen);
    }
    let mut batch = store.lasting_batch();
    for block in publisher.key_log().blocks() {
        batch.put(block).map_err(fail)?;
    }
    batch.commit(|tx| keep_head(tx, &head, now)).map_err(not_kept)?;
    Ok(Renewed::Signed(Box::new(head)))
}
