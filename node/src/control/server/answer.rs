//! How verbs become HTTP answers: status codes, deadlines, panics, and one step a line.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{FutureExt, stream};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Shared, Step};
use crate::{
    code::Code,
    control::{
        api::{ErrorBody, Failure, Happening, NodeEvent, SCHEMA_VERSION, Versioned},
        events::EventReceiver,
        service::{Cancel, Outcome, ProgressReceiver},
    },
    time::Timestamp,
};

/// Shortest time between two progress lines.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// Longest time without any line, so that a client can tell slow work from a dead node.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a client may leave the last line unread.
const LAST_LINE_DEADLINE: Duration = Duration::from_secs(30);
/// The type of an answer of one line after the other.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Lines that wait for a slow client; more progress is dropped.
const LINES_QUEUED_MAX: usize = 8;

/// A failure as an HTTP answer.
pub(super) struct Refusal(pub(super) Failure);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = status_of(self.0.code);
        json(status, &ErrorBody::from(self.0))
    }
}

/// The HTTP status that goes with a code.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Usage | Code::Package | Code::PackageInvalid => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict | Code::Ambiguous | Code::PinMismatch | Code::AlreadyRunning => StatusCode::CONFLICT,
        Code::Limit => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Signature
        | Code::HashMismatch
        | Code::Size
        | Code::Path
        | Code::Malformed
        | Code::Stale
        | Code::Rollback
        | Code::Equivocation => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Network | Code::NoProviders => StatusCode::BAD_GATEWAY,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Busy | Code::NotRunning | Code::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        Code::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A value as a JSON answer.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Runs a verb within `deadline` and answers with what it says.
pub(super) async fn plain<T: Serialize>(
    deadline: Duration,
    work: impl Future<Output = Outcome<T>>,
) -> Result<Response, Refusal> {
    let outcome = tokio::time::timeout(deadline, guarded(work)).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Code::Timeout,
            format!("The node did not finish within {} seconds.", deadline.as_secs()),
            "Try again; if it goes on, read the log: ggen marketplace p2p logs",
        ))
    });
    outcome.map(|body| json(StatusCode::OK, &Versioned::new(body))).map_err(Refusal)
}

/// Turns a panic of `work` into a failure, so that one verb's defect is not the end of the node.
async fn guarded<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        Err(Failure::new(
            Code::Failed,
            "The node hit a defect of its own while it did this.",
            "The node goes on. Please report this with the log: ggen marketplace p2p logs",
        ))
    })
}

/// What happens to the work when its client goes away.
#[derive(Debug)]
pub(super) enum ClientGone {
    /// It is dropped.
    Cancels,
    /// It is told, and runs to its end.
    Tells(Cancel),
}

/// Runs a verb in a task of its own and answers with one step a line.
pub(super) fn stepwise<S, T: Serialize + Send + 'static>(
    shared: &Shared<S>,
    gone: ClientGone,
    progress: ProgressReceiver,
    work: impl Future<Output = Outcome<T>> + Send + 'static,
) -> Result<Response, Refusal> {
    let permit = Arc::clone(&shared.streams).try_acquire_owned().map_err(|_| {
        Refusal(Failure::new(Code::Busy, "The node does too many things at once.", "Try again in a moment."))
    })?;
    let (sender, receiver) = mpsc::channel::<Bytes>(LINES_QUEUED_MAX);
    let cancelled = shared.cancelled.clone();
    shared.tracker.spawn(async move {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = drive(gone, progress, work, sender) => {}
        }
        drop(permit);
    });
    Ok(ndjson(receiver))
}

/// An answer of one line after the other.
fn ndjson(receiver: mpsc::Receiver<Bytes>) -> Response {
    let lines = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|line| (Ok::<_, std::convert::Infallible>(line), receiver))
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

/// Answers with one event a line until the client goes away or the node stops.
pub(super) fn told<S>(shared: &Shared<S>, mut events: EventReceiver) -> Result<Response, Refusal> {
    let permit = Arc::clone(&shared.listeners).try_acquire_owned().map_err(|_| {
        Refusal(Failure::new(
            Code::Busy,
            "Too many clients listen to the node already.",
            "End one of them, and try again.",
        ))
    })?;
    let (sender, receiver) = mpsc::channel::<Bytes>(LINES_QUEUED_MAX);
    let (cancelled, closing) = (shared.cancelled.clone(), shared.closing.clone());
    let tell = async move {
        let now = Timestamp::now;
        let mut next = NodeEvent {
            time: now().to_string(),
            what: Happening::Listening { schema_version: SCHEMA_VERSION },
        };
        loop {
            let mut line = serde_json::to_vec(&next).unwrap_or_default();
            line.push(b'\n');
            // A client that reads nothing holds up this task alone; what it misses meanwhile is counted.
            if sender.send(line.into()).await.is_err() {
                return;
            }
            next = tokio::select! {
                biased;
                () = sender.closed() => return,
                event = tokio::time::timeout(HEARTBEAT, events.next(now)) => match event {
                    Ok(Some(event)) => event,
                    Ok(None) => return,
                    Err(_) => NodeEvent { time: now().to_string(), what: Happening::Alive },
                },
            };
        }
    };
    shared.tracker.spawn(async move {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = closing.cancelled() => {}
            () = tell => {}
        }
        drop(permit);
    });
    Ok(ndjson(receiver))
}

/// Polls the work, passes its progress on, and ends with its result.
async fn drive<T: Serialize>(
    gone: ClientGone,
    mut progress: ProgressReceiver,
    work: impl Future<Output = Outcome<T>>,
    sender: mpsc::Sender<Bytes>,
) {
    let mut work = std::pin::pin!(guarded(work));
    let (mut reporting, mut is_gone) = (true, false);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut work => break outcome,
            () = sender.closed(), if !is_gone => match &gone {
                ClientGone::Cancels => return,
                ClientGone::Tells(cancel) => {
                    cancel.cancel();
                    is_gone = true;
                }
            },
            state = paced(&mut progress), if reporting => match state {
                Some(state) => drop(sender.try_send(line(&Step::<()>::Progress(state)))),
                None => reporting = false,
            },
        }
    };
    let last = match outcome {
        Ok(body) => line(&Step::Done { result: Versioned::new(body) }),
        Err(failure) => line(&Step::<()>::Failed(failure.into())),
    };
    let _ = sender.send_timeout(last, LAST_LINE_DEADLINE).await;
}

/// The next state worth a line: a new one, not too soon, or the last one again as a sign of life.
async fn paced(progress: &mut ProgressReceiver) -> Option<crate::control::api::Progress> {
    tokio::time::sleep(PROGRESS_PAUSE).await;
    match tokio::time::timeout(HEARTBEAT, progress.next()).await {
        Ok(state) => state,
        Err(_) => Some(progress.last().unwrap_or_else(|| crate::control::api::Progress {
            phase: "working".to_owned(),
            done: 0,
            total: None,
            unit: String::new(),
        })),
    }
}

/// One step as a line.
fn line<T: Serialize>(step: &Step<T>) -> Bytes {
    let mut line = serde_json::to_vec(step).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
