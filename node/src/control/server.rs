//! Serves a node's [`Service`] as HTTP and JSON on the Unix socket of its state folder.
//!
//! Only the same user, or root, is answered. Requests, connections and waiting are bounded; a panic in a verb becomes an
//! error of that verb. The server never shuts the node down itself: it stops serving and says why.
//!
//! `publish`, `publish/plan`, `install` and `project` answer with one [`Step`] a line, `events` with one event a line. A client that
//! goes away cancels its verb. `publish` is told so, and runs to its end all the same, so that nothing signed is left unannounced; so do
//! `amend` and `resolve`.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::Request,
    middleware::{self, Next},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    api,
    service::{Cancel, Service},
    socket, socket_path,
};
use crate::code::Code;

mod answer;
mod connections;
mod routes;

use api::Step;
use connections::Connections;

/// Bytes of a request's body.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Connections served at once; where there are more, those that do nothing give way, and the rest waits. Some are left where all streams and listeners are taken.
const CONNECTIONS_MAX: usize = STREAMS_MAX + LISTENERS_MAX + 64;
/// Streamed verbs at once, counting a `publish` whose client went away.
const STREAMS_MAX: usize = 128;
/// Clients at once that listen to events.
const LISTENERS_MAX: usize = 64;
/// How long a client may take for its request, head and body each.
const REQUEST_READ_DEADLINE: Duration = Duration::from_secs(10);
/// How long running answers may take once the server was told to stop.
const GRACE: Duration = Duration::from_secs(1);
/// Pause after a failed `accept`, as when no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a server stopped serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The `shutdown` future was done.
    Shutdown,
    /// A client asked the node to stop.
    Asked,
}

/// The bound socket of a state folder, not yet served.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
    streams: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    requests: Requests,
}

/// Tells whether a server has anything in progress but telling events.
#[derive(Debug, Clone)]
pub struct InProgress {
    streams: Arc<Semaphore>,
    requests: Requests,
}

impl InProgress {
    /// Whether there is nothing.
    pub fn is_none(&self) -> bool {
        self.streams.available_permits() == STREAMS_MAX && self.requests.0.load(Ordering::SeqCst) == 0
    }

    #[cfg(test)]
    fn is_full(&self) -> bool {
        self.streams.available_permits() == 0
    }
}

/// How many requests have come whose answer has not begun.
#[derive(Debug, Clone, Default)]
struct Requests(Arc<AtomicUsize>);

impl Requests {
    fn enter(&self) -> Unanswered {
        self.0.fetch_add(1, Ordering::SeqCst);
        Unanswered(self.clone())
    }
}

/// A request whose answer has not begun.
#[derive(Debug)]
struct Unanswered(Requests);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    /// Binds the socket of the state folder `home`, mode 0600, in place of the one that a dead node left.
    ///
    /// The caller holds the lock of `home`, so that no live node's socket is replaced.
    ///
    /// # Errors
    /// [`Error::Bind`] with the path.
    pub fn bind(home: &Path) -> Result<Self, Error> {
        let path = socket_path(home);
        let bound = socket::bind(home).and_then(|listener| Ok((listener, SocketFile::of(path.clone())?)));
        let (listener, file) = bound.map_err(|source| Error::Bind { path, source })?;
        let (streams, listeners) = (Semaphore::new(STREAMS_MAX), Semaphore::new(LISTENERS_MAX));
        let (streams, listeners) = (Arc::new(streams), Arc::new(listeners));
        Ok(Self { listener, file, streams, listeners, requests: Requests::default() })
    }

    /// Tells, while it serves, whether anything is in progress.
    pub fn in_progress(&self) -> InProgress {
        InProgress { streams: Arc::clone(&self.streams), requests: self.requests.clone() }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Serves until `shutdown` is done or a client asks the node to stop; then removes the socket.
    ///
    /// Answers that are in progress get a second to finish, and are cancelled after it.
    pub async fn serve<S: Service>(self, service: Arc<S>, shutdown: impl Future<Output = ()>) -> Ended {
        let shared = Arc::new(Shared {
            service,
            stop_asked: CancellationToken::new(),
            closing: CancellationToken::new(),
            cancelled: CancellationToken::new(),
            tracker: TaskTracker::new(),
            streams: Arc::clone(&self.streams),
            listeners: Arc::clone(&self.listeners),
            requests: self.requests.clone(),
            publications: Mutex::new(BTreeMap::new()),
        });
        let ended = {
            let mut shutdown = pin!(shutdown);
            let mut accepting = pin!(accept(&self.listener, &shared));
            tokio::select! {
                biased;
                () = &mut shutdown => Ended::Shutdown,
                () = shared.stop_asked.cancelled() => Ended::Asked,
                () = &mut accepting => Ended::Shutdown,
            }
        };
        let Self { listener, file, .. } = self;
        drop(file);
        drop(listener);
        shared.closing.cancel();
        shared.tracker.close();
        if tokio::time::timeout(GRACE, shared.tracker.wait()).await.is_err() {
            shared.cancelled.cancel();
            shared.tracker.wait().await;
        }
        ended
    }
}

/// What every connection of one server has in common.
struct Shared<S> {
    service: Arc<S>,
    /// A client asked the node to stop, and was answered.
    stop_asked: CancellationToken,
    /// Connections finish their answer and close.
    closing: CancellationToken,
    /// Whatever still runs is dropped.
    cancelled: CancellationToken,
    tracker: TaskTracker,
    streams: Arc<Semaphore>,
    /// Apart from the streams: one that listens does nothing that is waited for.
    listeners: Arc<Semaphore>,
    requests: Requests,
    /// What is being published, by the word with which its client can cancel it.
    publications: Mutex<BTreeMap<String, Cancel>>,
}

/// Accepts permanently.
async fn accept<S: Service>(listener: &UnixListener, shared: &Arc<Shared<S>>) {
    let router = routes::router(Arc::clone(shared));
    let connections = Connections::new(CONNECTIONS_MAX);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "control connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !is_allowed(&stream) {
            warn!("control connection of another user refused");
            continue;
        }
        let place = connections.enter().await;
        let activity = place.activity();
        let router = router.clone().layer(middleware::from_fn(move |request: Request, next: Next| {
            let activity = activity.clone();
            async move { activity.watch(request, next).await }
        }));
        let (closing, cancelled) = (shared.closing.clone(), shared.cancelled.clone());
        shared.tracker.spawn(async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = place.close.cancelled() => debug!("an idle control connection gave way to another one"),
                () = converse(stream, router, closing) => {}
            }
            drop(place);
        });
    }
}

/// Whether the other end belongs to the same user, or to root.
fn is_allowed(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}

/// Answers the requests of one connection until it is closed.
async fn converse(stream: UnixStream, router: axum::Router, closing: CancellationToken) {
    let service = hyper_util::service::TowerToHyperService::new(router);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_READ_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "control connection ended early");
    }
}

/// The file of the bound socket; removes it when dropped, unless another took its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn of(path: PathBuf) -> io::Result<Self> {
        let inode = fs::symlink_metadata(&path)?.ino();
        Ok(Self { path, inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket cannot be made.
    #[error("the control socket {} cannot be made: {source}", path.display())]
    Bind {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Bind { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => Code::DiskFull,
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Code::ReadOnly,
                _ => Code::Io,
            },
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Bind { .. } => {
                "Name a state folder that you can write to and whose path is short: GGEN_HOME=/path"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests;
