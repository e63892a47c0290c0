//! Asks a running node over the socket of its state folder.
//!
//! One connection a request. Answers are capped and have a deadline; what does not parse, or has another version, is told
//! as a failure and never guessed at.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::answer::{Answer, Connection, Lines, broken, incompatible, step, stopped, unanswered, whole};
use super::{
    api::{
        AmendRequest, Amended, BanRequest, BannedPeer, Bans, BootstrapRequest, Bootstrapped, CancelRequest,
        Cancelled, CollectRequest, Collected, DisconnectRequest, Disconnected, DropRequest, Dropped,
        ExplainRequest, Explained, Failure, Info, InfoRequest, InstallRequest, Installed, KeepRequest,
        KeptList, KeyDocuments, KeyDocumentsRequest, KeysRenewed, Listing, Outdated, OutdatedRequest,
        PeerDetails, PeerInfoRequest, PeerList, PeerListRequest, Planned, Progress, ProjectDone,
        ProjectRequest, PublishRequest, Published, Reloaded, RemoveRequest, Removed, ResolveRequest,
        Resolved, SearchRequest, SearchResults, Status, Step, Stopping, Trust, TrustRequest, UnbanRequest,
        Unbanned, Verified, VerifyRequest,
    },
    service::Outcome,
    socket, socket_path,
};
use crate::code::Code;

mod answer;

/// Bytes of a whole answer, and of one line of a streamed one.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long the node may take for what it has at hand.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(40);
/// How long hashing an installed package may take.
const VERIFY_DEADLINE: Duration = Duration::from_secs(3610);
/// What a verb may take beyond the time that was asked for; more than the node allows itself, so that its own error comes
/// first.
const SLACK: Duration = Duration::from_secs(10);
/// How long a streamed answer may be silent; the node gives a sign of life every five seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Asks the node of one state folder.
#[derive(Debug, Clone)]
pub struct Client {
    home: PathBuf,
}

impl Client {
    /// A client of the node on the state folder `home`; does not connect yet.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into() }
    }

    /// The state folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Asks how the node is.
    ///
    /// # Errors
    /// [`Code::NotRunning`] where no node answers, and what the node says; as for every other method.
    pub async fn status(&self) -> Outcome<Status> {
        self.get("/v1/status".to_owned(), LOOKUP_DEADLINE).await
    }

    /// Asks whether the node listens and takes work.
    ///
    /// # Errors
    /// [`Code::NotRunning`] where no node answers.
    pub async fn is_ready(&self) -> Outcome<bool> {
        let response = self.send(Method::GET, "/readyz", Bytes::new());
        let response = within(LOOKUP_DEADLINE, response).await?;
        Ok(response.head.status().is_success())
    }

    /// Publishes a directory; `progress` is called for every step.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn publish(
        &self,
        request: &PublishRequest,
        progress: impl FnMut(Progress),
    ) -> Outcome<Published> {
        self.stream("/v1/publish", request, progress).await
    }

    /// Asks what a publication would be; `progress` is called for every step.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn plan(&self, request: &PublishRequest, progress: impl FnMut(Progress)) -> Outcome<Planned> {
        self.stream("/v1/publish/plan", request, progress).await
    }

    /// Cancels the publication of this ticket; what became of it is the answer to [`Client::publish`].
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn cancel_publish(&self, request: &CancelRequest) -> Outcome<Cancelled> {
        self.post("/v1/publish/cancel", request, LOOKUP_DEADLINE).await
    }

    /// Takes a version out of the outbox.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn drop_queued(&self, request: &DropRequest) -> Outcome<Dropped> {
        self.post("/v1/publish/drop", request, LOOKUP_DEADLINE).await
    }

    /// Yanks a version or puts it back, or says whether a package should be used.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn amend(&self, request: &AmendRequest) -> Outcome<Amended> {
        self.post("/v1/amend", request, VERIFY_DEADLINE).await
    }

    /// Lets go of blocks that nobody needs, or asks which those are.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn collect(&self, request: &CollectRequest) -> Outcome<Collected> {
        self.post("/v1/gc", request, VERIFY_DEADLINE).await
    }

    /// Pins content, takes a pin away, and lists what is pinned.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn keep(&self, request: &KeepRequest) -> Outcome<KeptList> {
        self.post("/v1/pins", request, LOOKUP_DEADLINE).await
    }

    /// Installs a package; `progress` is called for every step.
    ///
    /// # Errors
    /// As [`Client::status`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the installation.
    pub async fn install(
        &self,
        request: &InstallRequest,
        progress: impl FnMut(Progress),
    ) -> Outcome<Installed> {
        self.stream("/v1/install", request, progress).await
    }

    /// Changes what a project asks for and what is in its folders; `progress` is called for every step.
    ///
    /// # Errors
    /// As [`Client::status`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels what was not begun to be put in place.
    pub async fn project(
        &self,
        request: &ProjectRequest,
        progress: impl FnMut(Progress),
    ) -> Outcome<ProjectDone> {
        self.stream("/v1/project", request, progress).await
    }

    /// Asks of which packages of a project there are newer versions.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn outdated(&self, request: &OutdatedRequest) -> Outcome<Outdated> {
        let deadline = request.timeout_secs.map_or(VERIFY_DEADLINE, |secs| asked(Some(secs as f64)));
        self.post("/v1/project/outdated", request, deadline).await
    }

    /// Finds packages.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn search(&self, request: &SearchRequest) -> Outcome<SearchResults> {
        self.post("/v1/search", request, asked(request.timeout_secs)).await
    }

    /// Asks for all that is known of a package.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn info(&self, request: &InfoRequest) -> Outcome<Info> {
        let mut path = format!("/v1/info?package={}", percent(&request.package));
        if request.fresh {
            path.push_str("&fresh=true");
        }
        if let Some(secs) = request.fresh_secs {
            path.push_str(&format!("&fresh_secs={secs}"));
        }
        self.get(path, LOOKUP_DEADLINE).await
    }

    /// Lists what is installed or published on the node.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn list(&self) -> Outcome<Listing> {
        self.get("/v1/list".to_owned(), LOOKUP_DEADLINE).await
    }

    /// Removes what is installed in a folder.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn remove(&self, request: &RemoveRequest) -> Outcome<Removed> {
        self.post("/v1/remove", request, VERIFY_DEADLINE).await
    }

    /// Holds an installed package against its signed manifest.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn verify(&self, request: &VerifyRequest) -> Outcome<Verified> {
        self.post("/v1/verify", request, VERIFY_DEADLINE).await
    }

    /// Lists the peers connected now.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn peer_list(&self, request: &PeerListRequest) -> Outcome<PeerList> {
        let path = match request.min_reputation {
            Some(least) => format!("/v1/peers?min_reputation={least}"),
            None => "/v1/peers".to_owned(),
        };
        self.get(path, LOOKUP_DEADLINE).await
    }

    /// Asks for all that is known of a peer.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn peer_info(&self, request: &PeerInfoRequest) -> Outcome<PeerDetails> {
        let path = format!("/v1/peers/{}?full={}", percent(&request.peer_id), request.full);
        self.get(path, LOOKUP_DEADLINE).await
    }

    /// Dials peers and fills the routing table from them.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn bootstrap(&self, request: &BootstrapRequest) -> Outcome<Bootstrapped> {
        let deadline = asked(request.timeout_secs.map(|secs| secs as f64));
        self.post("/v1/bootstrap", request, deadline).await
    }

    /// Dials peers, and nothing more.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn connect(&self, request: &BootstrapRequest) -> Outcome<Bootstrapped> {
        let deadline = asked(request.timeout_secs.map(|secs| secs as f64));
        self.post("/v1/connect", request, deadline).await
    }

    /// Closes the connections to a peer.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn disconnect(&self, request: &DisconnectRequest) -> Outcome<Disconnected> {
        self.post("/v1/disconnect", request, LOOKUP_DEADLINE).await
    }

    /// Refuses a peer from now on.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn ban(&self, request: &BanRequest) -> Outcome<BannedPeer> {
        self.post("/v1/bans", request, LOOKUP_DEADLINE).await
    }

    /// Lists who is banned.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn bans(&self) -> Outcome<Bans> {
        self.get("/v1/bans".to_owned(), LOOKUP_DEADLINE).await
    }

    /// Welcomes a banned peer again.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn unban(&self, request: &UnbanRequest) -> Outcome<Unbanned> {
        self.post("/v1/bans/lift", request, LOOKUP_DEADLINE).await
    }

    /// Asks why a package is what it is.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn explain(&self, request: &ExplainRequest) -> Outcome<Explained> {
        self.get(format!("/v1/explain?package={}", percent(&request.package)), LOOKUP_DEADLINE).await
    }

    /// Hands on what happens, as it was told, until `take` breaks off or the node stops. The shape of a line is that of
    /// [`NodeEvent`](super::api::NodeEvent); a newer node may tell of more.
    ///
    /// # Errors
    /// As [`Client::status`], and where the node is gone.
    pub async fn events<B>(&self, mut take: impl FnMut(Value) -> std::ops::ControlFlow<B>) -> Outcome<B> {
        let mut answer = within(LOOKUP_DEADLINE, self.send(Method::GET, "/v1/events", Bytes::new())).await?;
        if !answer.head.status().is_success() {
            return within(LOOKUP_DEADLINE, whole(answer))
                .await
                .and_then(|_: Value| Err(broken("it has no end")));
        }
        let mut lines = Lines::default();
        loop {
            while let Some(line) = lines.next() {
                let value = serde_json::from_slice(&line)
                    .map_err(|error| incompatible(&format!("not JSON: {error}")))?;
                if let std::ops::ControlFlow::Break(result) = take(value) {
                    return Ok(result);
                }
            }
            match within(SILENCE_MAX, async { Ok(answer.head.frame().await) }).await? {
                Some(Ok(frame)) => lines.push(frame.data_ref().map_or(&[], |data| data))?,
                Some(Err(error)) => return Err(broken(&error.to_string())),
                None => return Err(stopped()),
            }
        }
    }

    /// What the node counts, in the text form of OpenMetrics.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn metrics(&self) -> Outcome<String> {
        let answer = within(LOOKUP_DEADLINE, self.send(Method::GET, "/metrics", Bytes::new())).await?;
        if !answer.head.status().is_success() {
            return within(LOOKUP_DEADLINE, whole(answer))
                .await
                .and_then(|_: Value| Err(broken("it is no text")));
        }
        let body = Limited::new(answer.head.into_body(), ANSWER_BYTES_MAX);
        let text = within(LOOKUP_DEADLINE, async {
            Ok(body.collect().await.map_err(|error| broken(&error.to_string()))?.to_bytes())
        });
        String::from_utf8(text.await?.to_vec()).map_err(|_| incompatible("it is not UTF-8"))
    }

    /// Asks the node to sign the heads again that are under keys which were replaced in their files.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn renew_keys(&self) -> Outcome<KeysRenewed> {
        self.post("/v1/keys/renew", &Value::Object(serde_json::Map::new()), VERIFY_DEADLINE).await
    }

    /// Asks which chains of key documents of a publisher are known.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn key_documents(&self, request: &KeyDocumentsRequest) -> Outcome<KeyDocuments> {
        self.post("/v1/keys/documents", request, LOOKUP_DEADLINE).await
    }

    /// Explains a double signing of our own, and ends it.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn resolve(&self, request: &ResolveRequest) -> Outcome<Resolved> {
        self.post("/v1/resolve", request, VERIFY_DEADLINE).await
    }

    /// Lists and changes which publisher a bare name means.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn trust(&self, request: &TrustRequest) -> Outcome<Trust> {
        self.post("/v1/trust", request, LOOKUP_DEADLINE).await
    }

    /// Asks the node to read its configuration again.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn reload(&self) -> Outcome<Reloaded> {
        self.post("/v1/reload", &Value::Object(serde_json::Map::new()), LOOKUP_DEADLINE).await
    }

    /// Asks the node to stop; it has agreed, not stopped, when this returns.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn stop(&self) -> Outcome<Stopping> {
        self.post("/v1/stop", &Value::Object(serde_json::Map::new()), LOOKUP_DEADLINE).await
    }

    async fn get<T: DeserializeOwned>(&self, path: String, deadline: Duration) -> Outcome<T> {
        within(deadline, async { whole(self.send(Method::GET, &path, Bytes::new()).await?).await }).await
    }

    async fn post<A: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &A,
        deadline: Duration,
    ) -> Outcome<T> {
        let body = encode(ask)?;
        within(deadline, async { whole(self.send(Method::POST, path, body).await?).await }).await
    }

    async fn stream<A: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &A,
        mut progress: impl FnMut(Progress),
    ) -> Outcome<T> {
        let mut answer = within(LOOKUP_DEADLINE, self.send(Method::POST, path, encode(ask)?)).await?;
        if !answer.head.status().is_success() {
            return within(LOOKUP_DEADLINE, whole(answer)).await;
        }
        let mut lines = Lines::default();
        loop {
            while let Some(line) = lines.next() {
                match step::<T>(&line)? {
                    Step::Progress(state) => progress(state),
                    Step::Done { result } => return Ok(result.body),
                    Step::Failed(body) => return Err(body.error),
                }
            }
            let frame = within(SILENCE_MAX, async { Ok(answer.head.frame().await) }).await?;
            match frame {
                Some(Ok(frame)) => lines.push(frame.data_ref().map_or(&[], |data| data))?,
                Some(Err(error)) => return Err(broken(&error.to_string())),
                None => return Err(broken("the answer has no end")),
            }
        }
    }

    /// Connects, sends one request, and waits for the head of the answer.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Outcome<Answer> {
        let stream = socket::connect(&self.home).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection): (SendRequest<Full<Bytes>>, _) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error.to_string()))?;
        let connection = Connection(tokio::spawn(async move {
            // Its errors also reach those who wait for the answer.
            let _ = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "ggen")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| {
                Failure::new(Code::Usage, format!("The request cannot be sent: {error}."), "")
            })?;
        let head = sender.send_request(request).await.map_err(|error| unanswered(&error))?;
        Ok(Answer { head: head.map(Box::new), _connection: connection })
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let path = socket_path(&self.home);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
                Code::NotRunning,
                format!("No node runs on the state folder {}.", self.home.display()),
                "Start one: ggen marketplace p2p start --daemon\nOr name the folder of the one you mean: GGEN_HOME=/path",
            ),
            io::ErrorKind::PermissionDenied => Failure::new(
                Code::Failed,
                format!("The control socket {} belongs to another user.", path.display()),
                "Run the command as the user who started the node, or use a state folder of your own: GGEN_HOME=/path",
            ),
            io::ErrorKind::NotADirectory => Failure::new(
                Code::Io,
                format!("The state folder {} is no folder.", self.home.display()),
                "Name a folder: GGEN_HOME=/path",
            ),
            _ => Failure::new(
                Code::Io,
                format!("The control socket {} cannot be reached: {error}.", path.display()),
                "If the node hangs, restart it: ggen marketplace p2p restart",
            ),
        }
    }
}

/// The time that a request may take when it asked for `secs`.
fn asked(secs: Option<f64>) -> Duration {
    secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok())
        .unwrap_or(LOOKUP_DEADLINE)
        .saturating_add(SLACK)
}

async fn within<T>(deadline: Duration, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Code::Timeout,
            format!("The node did not answer within {} seconds.", deadline.as_secs()),
            "If it hangs, restart it: ggen marketplace p2p restart",
        ))
    })
}

fn encode<A: Serialize>(ask: &A) -> Outcome<Bytes> {
    serde_json::to_vec(ask).map(Bytes::from).map_err(|error| {
        Failure::new(Code::Usage, format!("The request cannot be written as JSON: {error}."), "")
    })
}

/// Percent-encodes all but the unreserved characters ([RFC 3986](https://www.rfc-editor.org/rfc/rfc3986), section 2.3).
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
