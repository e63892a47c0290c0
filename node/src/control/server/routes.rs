//! Which path asks for which verb, and how a request becomes its arguments.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{FromRequest, Path, Query, Request, State, rejection::QueryRejection},
    http::{Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    REQUEST_BYTES_MAX, REQUEST_READ_DEADLINE, Requests, Shared,
    answer::{ClientGone, Refusal, json, plain, stepwise, told},
    connections::Activity,
};
use crate::{
    code::Code,
    control::{
        api::{
            AmendRequest, BanRequest, BootstrapRequest, CancelRequest, Cancelled, CollectRequest,
            DisconnectRequest, DropRequest, ErrorBody, ExplainRequest, Failure, Health, InfoRequest,
            InstallRequest, KeepRequest, KeyDocumentsRequest, OutdatedRequest, PeerInfoRequest,
            PeerListRequest, ProjectRequest, PublishRequest, RemoveRequest, ResolveRequest, SearchRequest,
            TrustRequest, UnbanRequest, VerifyRequest,
        },
        service::{Cancel, ProgressSender, Service},
    },
};

/// How long a verb may take that only looks things up here.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(30);
/// How long hashing an installed package may take.
const VERIFY_DEADLINE: Duration = Duration::from_secs(3600);
/// What a verb may take beyond the time that was asked for.
const SLACK: Duration = Duration::from_secs(5);
/// Bytes of the word by which a publication can be cancelled.
const TICKET_BYTES_MAX: usize = 64;
/// The longest time that can be asked for.
const ASKED_SECS_MAX: f64 = 86_400.0;

type Shares<S> = State<Arc<Shared<S>>>;
type Answer = Result<Response, Refusal>;

/// The routes of `/v1`.
pub(super) fn router<S: Service>(shared: Arc<Shared<S>>) -> Router {
    let v1 = Router::new()
        .route("/status", get(status))
        .route("/publish", post(publish))
        .route("/publish/drop", post(drop_queued))
        .route("/publish/plan", post(plan))
        .route("/publish/cancel", post(cancel))
        .route("/amend", post(amend))
        .route("/gc", post(collect))
        .route("/pins", post(keep))
        .route("/search", post(search))
        .route("/install", post(install))
        .route("/project", post(project))
        .route("/project/outdated", post(outdated))
        .route("/info", get(info))
        .route("/list", get(list))
        .route("/remove", post(remove))
        .route("/verify", post(verify))
        .route("/peers", get(peer_list))
        .route("/peers/{id}", get(peer_info))
        .route("/bootstrap", post(bootstrap))
        .route("/connect", post(connect))
        .route("/disconnect", post(disconnect))
        .route("/bans", get(bans).post(ban))
        .route("/bans/lift", post(unban))
        .route("/explain", get(explain))
        .route("/events", get(events))
        .route("/keys/renew", post(renew_keys))
        .route("/keys/documents", post(key_documents))
        .route("/resolve", post(resolve))
        .route("/trust", post(trust))
        .route("/stop", post(stop));
    Router::new()
        .nest("/v1", v1)
        .route("/livez", get(async || json(StatusCode::OK, &Health { ok: true })))
        .route("/v1/reload", post(reload::<S>))
        .route("/metrics", get(metrics))
        .route("/readyz", get(readyz))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(shared.requests.clone(), counted))
        .with_state(shared)
}

/// Counts a request until its answer begins. What comes a line at a time is counted as a stream after that, and events are waited for by
/// nobody.
async fn counted(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let _unanswered = requests.enter();
    next.run(request).await
}

/// The body of a request, read within its bounds.
struct Ask<T>(T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Ask<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let activity = request.extensions().get::<Activity>().cloned();
        let body = axum::body::to_bytes(request.into_body(), REQUEST_BYTES_MAX);
        let body = match tokio::time::timeout(REQUEST_READ_DEADLINE, body).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(malformed("the body is cut short, or larger than 1 MiB")),
            Err(_) => return Err(malformed("the body did not arrive within 10 seconds")),
        };
        if let Some(activity) = activity {
            activity.begin();
        }
        // An empty body asks for the defaults, so that `curl -X POST` is enough.
        let body = if body.is_empty() { b"{}".as_slice() } else { &body };
        serde_json::from_slice(body).map(Self).map_err(|error| malformed(&error.to_string()))
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal(Failure::new(
        Code::Usage,
        format!("The request is malformed: {why}."),
        "Use a ggen of the same version as the node: ggen marketplace p2p status",
    ))
}

fn malfunction() -> Failure {
    Failure::new(
        Code::Failed,
        "internal error: the work on the request was cut off",
        "Run the same command again.",
    )
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(value)| value).map_err(|error| malformed(&error.body_text()))
}

/// The time asked for, or `default`, with some slack for the answer itself.
fn deadline(asked_secs: Option<f64>, default: Duration) -> Duration {
    let asked = asked_secs.filter(|secs| secs.is_finite() && *secs >= 0.0);
    asked.map_or(default, |secs| Duration::from_secs_f64(secs.min(ASKED_SECS_MAX))).saturating_add(SLACK)
}

async fn status<S: Service>(State(shared): Shares<S>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.status()).await
}

async fn publish<S: Service>(State(shared): Shares<S>, Ask(request): Ask<PublishRequest>) -> Answer {
    let (sender, receiver) = ProgressSender::channel();
    let cancel = Cancel::default();
    let noted = match request.ticket.is_empty() {
        true => None,
        false => Some(Noted::new(&shared, request.ticket.clone(), &cancel)?),
    };
    let (publishing, told) = (Arc::clone(&shared), cancel.clone());
    let work = async move {
        let _noted = noted;
        publishing.service.publish(request, sender, told).await
    };
    stepwise(&shared, ClientGone::Tells(cancel), receiver, work)
}

async fn plan<S: Service>(State(shared): Shares<S>, Ask(request): Ask<PublishRequest>) -> Answer {
    let (sender, receiver) = ProgressSender::channel();
    let service = Arc::clone(&shared.service);
    let work = async move { service.plan(request, sender).await };
    stepwise(&shared, ClientGone::Cancels, receiver, work)
}

async fn cancel<S: Service>(State(shared): Shares<S>, Ask(request): Ask<CancelRequest>) -> Answer {
    let found = shared.cancel(&request.ticket);
    plain(LOOKUP_DEADLINE, async move { Ok(Cancelled { found }) }).await
}

/// A publication that can be cancelled, for as long as this lives: also where it is refused, cut off or panics.
struct Noted<S> {
    shared: Arc<Shared<S>>,
    ticket: String,
}

impl<S> Noted<S> {
    fn new(shared: &Arc<Shared<S>>, ticket: String, cancel: &Cancel) -> Result<Self, Refusal> {
        if ticket.len() > TICKET_BYTES_MAX {
            return Err(malformed("its ticket is too long"));
        }
        let mut publications = shared.publications.lock().unwrap_or_else(PoisonError::into_inner);
        if publications.contains_key(&ticket) {
            return Err(malformed("its ticket is in use"));
        }
        // As many as there are streams: each of them has one, but for those that are being refused.
        publications.insert(ticket.clone(), cancel.clone());
        Ok(Self { shared: Arc::clone(shared), ticket })
    }
}

impl<S> Drop for Noted<S> {
    fn drop(&mut self) {
        self.shared.publications.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ticket);
    }
}

impl<S> Shared<S> {
    /// Cancels the publication of a ticket; false where there is none.
    fn cancel(&self, ticket: &str) -> bool {
        let publications = self.publications.lock().unwrap_or_else(PoisonError::into_inner);
        publications.get(ticket).inspect(|publication| publication.cancel()).is_some()
    }
}

async fn drop_queued<S: Service>(State(shared): Shares<S>, Ask(request): Ask<DropRequest>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.drop_queued(request)).await
}

async fn amend<S: Service>(State(shared): Shares<S>, Ask(request): Ask<AmendRequest>) -> Answer {
    let deadline = deadline(request.timeout_secs.map(|secs| secs as f64), VERIFY_DEADLINE);
    let service = Arc::clone(&shared.service);
    // What was signed is told of also where the client is gone.
    let work = tokio::spawn(async move { service.amend(request).await });
    let done = async move { work.await.unwrap_or_else(|_| Err(malfunction())) };
    plain(deadline, done).await
}

async fn collect<S: Service>(State(shared): Shares<S>, Ask(request): Ask<CollectRequest>) -> Answer {
    plain(VERIFY_DEADLINE, shared.service.collect(request)).await
}

async fn keep<S: Service>(State(shared): Shares<S>, Ask(request): Ask<KeepRequest>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.keep(request)).await
}

async fn install<S: Service>(State(shared): Shares<S>, Ask(request): Ask<InstallRequest>) -> Answer {
    let (sender, receiver) = ProgressSender::channel();
    let service = Arc::clone(&shared.service);
    let work = async move { service.install(request, sender).await };
    stepwise(&shared, ClientGone::Cancels, receiver, work)
}

async fn project<S: Service>(State(shared): Shares<S>, Ask(request): Ask<ProjectRequest>) -> Answer {
    let (sender, receiver) = ProgressSender::channel();
    let service = Arc::clone(&shared.service);
    let work = async move { service.project(request, sender).await };
    stepwise(&shared, ClientGone::Cancels, receiver, work)
}

async fn outdated<S: Service>(State(shared): Shares<S>, Ask(request): Ask<OutdatedRequest>) -> Answer {
    let deadline = deadline(request.timeout_secs.map(|secs| secs as f64), VERIFY_DEADLINE);
    plain(deadline, shared.service.outdated(request)).await
}

async fn search<S: Service>(State(shared): Shares<S>, Ask(request): Ask<SearchRequest>) -> Answer {
    let deadline = deadline(request.timeout_secs, LOOKUP_DEADLINE);
    plain(deadline, shared.service.search(request)).await
}

async fn info<S: Service>(
    State(shared): Shares<S>,
    request: Result<Query<InfoRequest>, QueryRejection>,
) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.info(query(request)?)).await
}

async fn reload<S: Service>(State(shared): Shares<S>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.reload()).await
}

async fn list<S: Service>(State(shared): Shares<S>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.list()).await
}

async fn remove<S: Service>(State(shared): Shares<S>, Ask(request): Ask<RemoveRequest>) -> Answer {
    plain(VERIFY_DEADLINE, shared.service.remove(request)).await
}

async fn verify<S: Service>(State(shared): Shares<S>, Ask(request): Ask<VerifyRequest>) -> Answer {
    plain(VERIFY_DEADLINE, shared.service.verify(request)).await
}

async fn peer_list<S: Service>(
    State(shared): Shares<S>,
    request: Result<Query<PeerListRequest>, QueryRejection>,
) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.peer_list(query(request)?)).await
}

/// The part of [`PeerInfoRequest`] that is not in the path.
#[derive(Deserialize)]
struct PeerInfoOptions {
    #[serde(default)]
    full: bool,
}

async fn peer_info<S: Service>(
    State(shared): Shares<S>,
    Path(peer_id): Path<String>,
    options: Result<Query<PeerInfoOptions>, QueryRejection>,
) -> Answer {
    let request = PeerInfoRequest { peer_id, full: query(options)?.full };
    plain(LOOKUP_DEADLINE, shared.service.peer_info(request)).await
}

async fn bootstrap<S: Service>(State(shared): Shares<S>, Ask(request): Ask<BootstrapRequest>) -> Answer {
    let deadline = deadline(request.timeout_secs.map(|secs| secs as f64), LOOKUP_DEADLINE);
    plain(deadline, shared.service.bootstrap(request)).await
}

async fn connect<S: Service>(State(shared): Shares<S>, Ask(request): Ask<BootstrapRequest>) -> Answer {
    let deadline = deadline(request.timeout_secs.map(|secs| secs as f64), LOOKUP_DEADLINE);
    plain(deadline, shared.service.connect(request)).await
}

async fn disconnect<S: Service>(State(shared): Shares<S>, Ask(request): Ask<DisconnectRequest>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.disconnect(request)).await
}

async fn ban<S: Service>(State(shared): Shares<S>, Ask(request): Ask<BanRequest>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.ban(request)).await
}

async fn bans<S: Service>(State(shared): Shares<S>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.bans()).await
}

async fn unban<S: Service>(State(shared): Shares<S>, Ask(request): Ask<UnbanRequest>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.unban(request)).await
}

async fn explain<S: Service>(
    State(shared): Shares<S>,
    request: Result<Query<ExplainRequest>, QueryRejection>,
) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.explain(query(request)?)).await
}

async fn events<S: Service>(State(shared): Shares<S>) -> Answer {
    let receiver = shared.service.events();
    told(&shared, receiver)
}

async fn metrics<S: Service>(State(shared): Shares<S>) -> Answer {
    let text = tokio::time::timeout(LOOKUP_DEADLINE, shared.service.metrics()).await;
    let text = text.unwrap_or_else(|_| Err(malfunction())).map_err(Refusal)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn renew_keys<S: Service>(State(shared): Shares<S>) -> Answer {
    // Each package is told of in turn.
    plain(VERIFY_DEADLINE, shared.service.renew_keys()).await
}

async fn key_documents<S: Service>(
    State(shared): Shares<S>,
    Ask(request): Ask<KeyDocumentsRequest>,
) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.key_documents(request)).await
}

async fn resolve<S: Service>(State(shared): Shares<S>, Ask(request): Ask<ResolveRequest>) -> Answer {
    let deadline = deadline(request.timeout_secs.map(|secs| secs as f64), VERIFY_DEADLINE);
    let service = Arc::clone(&shared.service);
    // What was signed is told of also where the client is gone.
    let work = tokio::spawn(async move { service.resolve(request).await });
    let done = async move { work.await.unwrap_or_else(|_| Err(malfunction())) };
    plain(deadline, done).await
}

async fn trust<S: Service>(State(shared): Shares<S>, Ask(request): Ask<TrustRequest>) -> Answer {
    plain(LOOKUP_DEADLINE, shared.service.trust(request)).await
}

async fn stop<S: Service>(State(shared): Shares<S>) -> Answer {
    let answer = plain(LOOKUP_DEADLINE, shared.service.stop()).await?;
    shared.stop_asked.cancel();
    Ok(answer)
}

async fn readyz<S: Service>(State(shared): Shares<S>) -> Response {
    let ready = tokio::time::timeout(LOOKUP_DEADLINE, shared.service.readiness()).await.unwrap_or(false);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Health { ok: ready })
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let method: String = method.as_str().chars().take(20).collect();
    let failure = Failure::new(
        Code::Usage,
        format!("The request {} is not made with {method}.", shown(&uri)),
        "The header \"allow\" of this answer says how it is made.",
    );
    json(StatusCode::METHOD_NOT_ALLOWED, &ErrorBody::from(failure))
}

fn shown(uri: &Uri) -> String {
    uri.path().chars().take(80).flat_map(char::escape_default).collect()
}

async fn unknown(uri: Uri) -> Refusal {
    let path = shown(&uri);
    Refusal(Failure::new(
        Code::Usage,
        format!("The node does not know the request {path}."),
        "The node may be of another version than this ggen. Restart it: ggen marketplace p2p restart",
    ))
}
