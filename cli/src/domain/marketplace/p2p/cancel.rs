//! Ctrl-C while something is published: what is not signed yet is not published, and what became of it is told truthfully.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use ggen_marketplace::{
    code::Code,
    control::{
        api::{CancelRequest, Failure, PublishRequest, Published},
        service::{Cancel, Outcome},
    },
};

use crate::{
    domain::marketplace::p2p_state,
    progress::Bar,
    session::{Finished, Session},
};

/// How long the node may take to say what became of a publication.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes through the running node, or into the outbox where none runs, until it is done or interrupted.
pub(super) async fn publish(session: &Session, mut request: PublishRequest) -> Finished<Published> {
    // No two processes that publish now have the same one, in whatever containers they are.
    request.ticket = format!("publish-{:016x}", RandomState::new().hash_one(std::process::id()));
    let bar = Bar::new(session);
    let cancel = Cancel::default();
    let client = session.client();
    let work = async {
        let outcome = client.publish(&request, |step| bar.update(&step)).await;
        let is_alone = outcome.as_ref().is_err_and(|failure| failure.code == Code::NotRunning);
        match is_alone && !request.no_queue {
            false => outcome,
            true => {
                let (request, cancel) = (request.clone(), cancel.clone());
                p2p_state::publish_offline(session.home(), request, |step| bar.update(&step), cancel).await
            }
        }
    };
    let mut work = std::pin::pin!(work);
    tokio::select! { biased;
        outcome = &mut work => return Ok(outcome?),
        () = p2p_state::told_to_stop() => {}
    }
    session.note(
        "Interrupted: what is not signed yet is not published. Waiting for the answer; again to leave now.",
    );
    cancel.cancel();
    let asked = async {
        // Without a node there is nobody to ask, and the answer comes from here.
        let _ = client.cancel_publish(&CancelRequest { ticket: request.ticket.clone() }).await;
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! { biased;
        outcome = &mut work => Some(outcome),
        () = p2p_state::told_to_stop() => None,
        () = tokio::time::sleep(PATIENCE) => None,
        () = asked => None,
    };
    Err(ended(outcome).into())
}

/// What is told of a publication that was interrupted.
fn ended(outcome: Option<Outcome<Published>>) -> Failure {
    let interrupted = |message: String, hint: String| Failure::new(Code::Interrupted, message, hint);
    match outcome {
        Some(Ok(Published { id, already_published: true, queued: false, .. })) => interrupted(
            format!("It was interrupted. {id} was published before; nothing was changed."),
            "Nothing has to be done.".to_owned(),
        ),
        Some(Ok(Published { id, name, version, queued: true, .. })) => interrupted(
            format!(
                "It was interrupted when {id} was in the outbox already: it is published as soon as that can be done."
            ),
            format!("Take it out: ggen marketplace p2p publish --drop {name}@{version}"),
        ),
        Some(Ok(Published { id, name, version, .. })) => interrupted(
            format!("It was interrupted after {id} was signed: it is published."),
            format!("Where it should not be used, yank it: ggen marketplace p2p yank {name}@{version}"),
        ),
        Some(Err(failure)) => failure,
        None => interrupted(
            "It was interrupted, and whether it was signed before is not known.".to_owned(),
            "See whether the version is there: ggen marketplace p2p list".to_owned(),
        ),
    }
}
