use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    sync::Mutex,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;
use crate::{
    code::Code,
    control::{
        api::{
            AmendRequest, Amended, BootstrapRequest, Bootstrapped, CollectRequest, Collected,
            DisconnectRequest, Disconnected, DropRequest, Dropped, Failure, Info, InfoRequest,
            InstallRequest, Installed, KeepRequest, KeptList, KeysRenewed, Listing, PeerDetails, PeerInfo,
            PeerInfoRequest, PeerList, PeerListRequest, Planned, PublishRequest, Published, Reloaded,
            RemoveRequest, Removed, ResolveRequest, Resolved, SearchRequest, SearchResults, Status, Stopping,
            Trust, TrustRequest, Verified, VerifyRequest,
        },
        client::Client,
        events::{EventReceiver, EventSender},
        service::{Outcome, ProgressSender},
    },
};

/// Answers every verb from its request, so that a test can see what arrived.
#[derive(Default)]
struct Fake {
    /// Told when an installation that never ends is dropped.
    dropped: Mutex<Option<oneshot::Sender<()>>>,
    events: EventSender,
}

/// Tells when it goes out of scope.
struct OnDrop(Option<oneshot::Sender<()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

fn refused() -> Failure {
    Failure::new(Code::Conflict, "It exists.", "Name another.")
}

impl Service for Fake {
    fn events(&self) -> EventReceiver {
        self.events.listen()
    }

    async fn status(&self) -> Outcome<Status> {
        panic!("a defect of the node")
    }

    async fn publish(
        &self,
        request: PublishRequest,
        _: ProgressSender,
        cancel: Cancel,
    ) -> Outcome<Published> {
        if request.path == "/endless" {
            cancel.cancelled().await;
        }
        assert!(request.path.starts_with('/'));
        Err(refused())
    }

    async fn search(&self, request: SearchRequest) -> Outcome<SearchResults> {
        if request.text == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(SearchResults { total: request.limit.unwrap_or_default(), complete: true, ..Default::default() })
    }

    async fn install(&self, request: InstallRequest, progress: ProgressSender) -> Outcome<Installed> {
        if request.package == "endless" {
            let _told = OnDrop(self.dropped.lock().unwrap().take());
            progress.report("fetching", 1, None, "bytes");
            std::future::pending::<()>().await;
        }
        for done in 0..=3 {
            progress.report("fetching", done, Some(3), "blocks");
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        Ok(Installed { id: request.package, path: request.to, ..Default::default() })
    }

    async fn info(&self, request: InfoRequest) -> Outcome<Info> {
        let mut info = Info::default();
        info.package.id = request.package;
        Ok(info)
    }

    async fn list(&self) -> Outcome<Listing> {
        Ok(Listing::default())
    }

    async fn remove(&self, _request: RemoveRequest) -> Outcome<Removed> {
        Ok(Removed::default())
    }

    async fn verify(&self, request: VerifyRequest) -> Outcome<Verified> {
        Ok(Verified { id: request.package, path: request.path.unwrap_or_default(), ..Default::default() })
    }

    async fn peer_list(&self, request: PeerListRequest) -> Outcome<PeerList> {
        let peer = PeerInfo { reputation: request.min_reputation.unwrap_or(-1.0), ..Default::default() };
        Ok(PeerList { peers: vec![peer], total: 1, ..Default::default() })
    }

    async fn peer_info(&self, request: PeerInfoRequest) -> Outcome<PeerDetails> {
        let peer = PeerInfo { peer_id: request.peer_id, ..Default::default() };
        Ok(PeerDetails { peer, history: request.full.then(Vec::new), derivation: None })
    }

    async fn bootstrap(&self, request: BootstrapRequest) -> Outcome<Bootstrapped> {
        Ok(Bootstrapped { reached: request.addresses.len(), ..Default::default() })
    }

    async fn connect(&self, _: BootstrapRequest) -> Outcome<Bootstrapped> {
        Ok(Bootstrapped::default())
    }

    async fn amend(&self, _: AmendRequest) -> Outcome<Amended> {
        unreachable!()
    }

    async fn plan(&self, _: PublishRequest, _: ProgressSender) -> Outcome<Planned> {
        unreachable!()
    }

    async fn collect(&self, _: CollectRequest) -> Outcome<Collected> {
        unreachable!()
    }

    async fn keep(&self, _: KeepRequest) -> Outcome<KeptList> {
        unreachable!()
    }

    async fn drop_queued(&self, request: DropRequest) -> Outcome<Dropped> {
        Ok(Dropped { id: request.package, ..Dropped::default() })
    }

    async fn disconnect(&self, request: DisconnectRequest) -> Outcome<Disconnected> {
        Ok(Disconnected { peer_id: request.peer_id, connections: 1 })
    }

    async fn renew_keys(&self) -> Outcome<KeysRenewed> {
        Ok(KeysRenewed::default())
    }

    async fn resolve(&self, request: ResolveRequest) -> Outcome<Resolved> {
        Ok(Resolved { package: request.package, ..Resolved::default() })
    }

    async fn trust(&self, _: TrustRequest) -> Outcome<Trust> {
        Ok(Trust::default())
    }

    async fn reload(&self) -> Outcome<Reloaded> {
        Ok(Reloaded::default())
    }

    async fn stop(&self) -> Outcome<Stopping> {
        Ok(Stopping { pid: 7 })
    }

    async fn readiness(&self) -> bool {
        true
    }
}

/// A served fake, its client, and how it ended.
struct World {
    home: TempDir,
    client: Client,
    in_progress: InProgress,
    serving: JoinHandle<Ended>,
    dropped: oneshot::Receiver<()>,
    _stop: oneshot::Sender<()>,
}

fn serve() -> World {
    let home = tempfile::tempdir().unwrap();
    let server = Server::bind(home.path()).unwrap();
    let (told, dropped) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let fake = Arc::new(Fake { dropped: Mutex::new(Some(told)), ..Fake::default() });
    let in_progress = server.in_progress();
    let serving = tokio::spawn(async move { server.serve(fake, async { drop(stopped.await) }).await });
    World { client: Client::new(home.path()), home, in_progress, serving, dropped, _stop: stop }
}

fn code_of<T: std::fmt::Debug>(outcome: Outcome<T>) -> Code {
    outcome.unwrap_err().code
}

#[tokio::test]
async fn arguments_arrive_as_they_were_sent() {
    let world = serve();
    let odd = "gp1x/näme & more?#+%41";
    let info = InfoRequest { package: odd.to_owned(), ..InfoRequest::default() };
    assert_eq!(world.client.info(&info).await.unwrap().package.id, odd);
    let search = SearchRequest { limit: Some(7), ..Default::default() };
    assert_eq!(world.client.search(&search).await.unwrap().total, 7);
    let peers = PeerListRequest { min_reputation: Some(0.7) };
    assert_eq!(world.client.peer_list(&peers).await.unwrap().peers[0].reputation, 0.7);
    let peers = PeerListRequest { min_reputation: None };
    assert_eq!(world.client.peer_list(&peers).await.unwrap().peers[0].reputation, -1.0);
    let peer = PeerInfoRequest { peer_id: "Qm/..".to_owned(), full: true };
    let details = world.client.peer_info(&peer).await.unwrap();
    assert_eq!((details.peer.peer_id.as_str(), details.history), ("Qm/..", Some(vec![])));
    let verify = VerifyRequest { package: "a".to_owned(), path: Some("/b".to_owned()), project: None };
    assert_eq!(world.client.verify(&verify).await.unwrap().path, "/b");
    let nodes = BootstrapRequest { addresses: vec!["/a".to_owned(); 3], timeout_secs: Some(1) };
    assert_eq!(world.client.bootstrap(&nodes).await.unwrap().reached, 3);
    assert_eq!(world.client.connect(&nodes).await.unwrap().reached, 0);
    let peer = DisconnectRequest { peer_id: "Qm".to_owned() };
    assert_eq!(world.client.disconnect(&peer).await.unwrap().connections, 1);
    assert_eq!(world.client.list().await.unwrap().total, 0);
    assert!(world.client.is_ready().await.unwrap());
}

#[tokio::test]
async fn an_installation_reports_progress_and_then_its_result() {
    let world = serve();
    let request =
        InstallRequest { package: "a".to_owned(), to: "/b".to_owned(), ..InstallRequest::default() };
    let mut seen = Vec::new();
    let installed = world.client.install(&request, |state| seen.push(state.done)).await.unwrap();
    assert_eq!((installed.id.as_str(), installed.path.as_str()), ("a", "/b"));
    assert!(seen.len() >= 2 && seen.is_sorted(), "{seen:?}");
}

#[tokio::test]
async fn a_failure_of_a_streamed_verb_keeps_its_code() {
    let world = serve();
    let request = PublishRequest { path: "/a".to_owned(), ..Default::default() };
    assert_eq!(world.client.publish(&request, |_| {}).await.unwrap_err(), refused());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_installation() {
    let world = serve();
    let (started, start) = oneshot::channel();
    let client = world.client.clone();
    let waiting = tokio::spawn(async move {
        let request = InstallRequest { package: "endless".to_owned(), ..Default::default() };
        let mut started = Some(started);
        client
            .install(&request, move |_| {
                if let Some(started) = started.take() {
                    let _ = started.send(());
                }
            })
            .await
    });
    start.await.unwrap();
    waiting.abort();
    tokio::time::timeout(Duration::from_secs(5), world.dropped).await.expect("cancelled").unwrap();
}

/// Listens to events until the server ends; returns once it listens, or is refused.
async fn listen(client: &Client) -> Result<JoinHandle<Outcome<()>>, Failure> {
    let (heard, hears) = oneshot::channel();
    let client = client.clone();
    let listening = tokio::spawn(async move {
        let mut heard = Some(heard);
        let take = move |_| {
            if let Some(heard) = heard.take() {
                let _ = heard.send(());
            }
            std::ops::ControlFlow::<()>::Continue(())
        };
        client.events(take).await
    });
    match hears.await {
        Ok(()) => Ok(listening),
        Err(_) => Err(listening.await.unwrap().unwrap_err()),
    }
}

#[tokio::test]
async fn those_who_listen_hold_up_no_publication_and_no_end() {
    let world = serve();
    let mut listening = Vec::new();
    for _ in 0..LISTENERS_MAX {
        listening.push(listen(&world.client).await.unwrap());
    }
    assert!(world.in_progress.is_none(), "nothing is in progress that is waited for");
    assert_eq!(listen(&world.client).await.unwrap_err().code, Code::Busy);
    let request = PublishRequest { path: "/a".to_owned(), ..Default::default() };
    let mut publishing = Vec::new();
    for n in 0..STREAMS_MAX {
        let endless =
            PublishRequest { path: "/endless".to_owned(), ticket: format!("{n}"), ..Default::default() };
        let client = world.client.clone();
        publishing.push(tokio::spawn(async move { client.publish(&endless, |_| {}).await }));
    }
    while !world.in_progress.is_full() {
        tokio::task::yield_now().await;
    }
    // Others are still answered, and what is refused leaves nothing behind.
    for _ in 0..2 {
        let refused = PublishRequest { ticket: "mine".to_owned(), ..request.clone() };
        assert_eq!(code_of(world.client.publish(&refused, |_| {}).await), Code::Busy);
    }
    assert!(world.client.is_ready().await.unwrap());
    for n in 0..STREAMS_MAX {
        let ticket = n.to_string();
        assert!(world.client.cancel_publish(&api::CancelRequest { ticket }).await.unwrap().found);
    }
    for publishing in publishing {
        assert_eq!(publishing.await.unwrap().unwrap_err(), refused());
    }
    let noted = PublishRequest { ticket: "mine".to_owned(), ..request };
    assert_eq!(world.client.publish(&noted, |_| {}).await.unwrap_err(), refused());
    // One that panics leaves nothing behind either.
    let panics =
        PublishRequest { path: "relative".to_owned(), ticket: "mine".to_owned(), ..Default::default() };
    for _ in 0..2 {
        assert_eq!(code_of(world.client.publish(&panics, |_| {}).await), Code::Failed);
    }
}

#[tokio::test]
async fn connections_that_do_nothing_keep_no_command_out() {
    let world = serve();
    let slow = SearchRequest { text: "slow".to_owned(), ..Default::default() };
    let mut working = std::pin::pin!(world.client.search(&slow));
    assert!(tokio::time::timeout(Duration::from_millis(50), working.as_mut()).await.is_err());
    let path = socket_path(world.home.path());
    let mut idle = Vec::new();
    for n in 0..CONNECTIONS_MAX + 30 {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        // Nothing, a part of a head, and a head without its body.
        match n % 3 {
            0 => {}
            1 => stream.write_all(b"GET /v1/status HTT").await.unwrap(),
            _ => {
                let head = b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n";
                stream.write_all(head).await.unwrap();
            }
        }
        idle.push(stream);
    }
    let ready = tokio::time::timeout(Duration::from_secs(5), world.client.is_ready()).await;
    assert!(ready.expect("it gets in").unwrap());
    let is_done = tokio::time::timeout(Duration::from_millis(50), working.as_mut()).await.is_ok();
    assert!(!is_done, "what works goes on");
}

#[tokio::test]
async fn a_panic_in_a_verb_is_its_error_and_the_node_goes_on() {
    let world = serve();
    assert_eq!(code_of(world.client.status().await), Code::Failed);
    let request = PublishRequest { path: "relative".to_owned(), ..Default::default() };
    assert_eq!(code_of(world.client.publish(&request, |_| {}).await), Code::Failed);
    assert!(world.client.is_ready().await.unwrap());
}

#[tokio::test]
async fn without_a_node_the_client_says_so_and_how_to_start_one() {
    let home = tempfile::tempdir().unwrap();
    let failure = Client::new(home.path()).status().await.unwrap_err();
    assert_eq!((failure.code, failure.exit_code()), (Code::NotRunning, 3));
    assert!(failure.hint.contains("p2p start"), "{failure:?}");
    // The socket of a dead node refuses.
    drop(std::os::unix::net::UnixListener::bind(socket_path(home.path())).unwrap());
    assert_eq!(code_of(Client::new(home.path()).status().await), Code::NotRunning);
    // A new node takes its place.
    let server = Server::bind(home.path()).unwrap();
    let metadata = std::fs::symlink_metadata(server.path()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "nothing else is left");
}

#[tokio::test]
async fn stop_is_answered_and_then_the_socket_is_gone() {
    let world = serve();
    assert_eq!(world.client.stop().await.unwrap().pid, 7);
    let ended = tokio::time::timeout(Duration::from_secs(5), world.serving).await.expect("in time");
    assert_eq!(ended.unwrap(), Ended::Asked);
    assert_eq!(std::fs::read_dir(world.home.path()).unwrap().count(), 0);
    assert_eq!(code_of(world.client.list().await), Code::NotRunning);
}

#[tokio::test]
async fn stopping_does_not_wait_for_an_endless_verb() {
    let world = serve();
    let client = world.client.clone();
    let slow = tokio::spawn(async move {
        let request =
            SearchRequest { text: "slow".to_owned(), timeout_secs: Some(60.0), ..Default::default() };
        client.search(&request).await
    });
    while world.client.list().await.is_err() {}
    world.client.stop().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), world.serving).await.expect("in time").unwrap();
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn a_state_folder_with_a_very_long_path_works() {
    let home = tempfile::tempdir().unwrap();
    let deep = home.path().join("x".repeat(100)).join("y".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let server = Server::bind(&deep).unwrap();
    let _serving = tokio::spawn(server.serve(Arc::new(Fake::default()), std::future::pending()));
    assert!(Client::new(&deep).is_ready().await.unwrap());
}

#[tokio::test]
async fn many_clients_at_once_are_all_answered() {
    let world = serve();
    let asking = (0..400).map(|_| world.client.list());
    for outcome in futures::future::join_all(asking).await {
        outcome.unwrap();
    }
}

/// Sends raw bytes and returns what comes back.
async fn raw(world: &World, request: &[u8]) -> String {
    let mut stream = socket::connect(world.home.path()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn malformed_and_oversized_requests_are_refused_as_json() {
    let world = serve();
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let nested = "[".repeat(100_000);
    let huge = format!("{{\"text\":\"{}\"}}", "x".repeat(REQUEST_BYTES_MAX));
    for (path, body, status) in [
        ("/v1/search", "{", "400"),
        ("/v1/search", "{\"limit\":-1}", "400"),
        ("/v1/search", &nested, "400"),
        ("/v1/search", &huge, "400"),
        ("/v1/install", "{\"package\":7}", "400"),
        ("/v2/search", "{}", "400"),
        ("/v1/status", "{}", "405"),
    ] {
        let answer = raw(&world, post(path, body).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains("E_USAGE"), "{path}: {answer}");
    }
    let get = "GET /v1/peers?min_reputation=x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(raw(&world, get.as_bytes()).await.contains("E_USAGE"));
    assert!(world.client.is_ready().await.unwrap());
}

/// Answers one connection with fixed bytes in place of a node.
async fn stand_in(answer: &'static str) -> (TempDir, Client) {
    let home = tempfile::tempdir().unwrap();
    let listener = socket::bind(home.path()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let client = Client::new(home.path());
    (home, client)
}

#[tokio::test]
async fn an_answer_of_another_version_is_told_and_not_guessed() {
    for (answer, reason) in [
        ("{\"schema_version\":2,\"packages\":[],\"total\":0}", "version 2"),
        ("{\"packages\":[],\"total\":0}", "does not say"),
        ("{\"schema_version\":1,\"packages\":7}", "cannot be understood"),
        ("<html>", "not JSON"),
    ] {
        let (_home, client) = stand_in(answer).await;
        let failure = client.list().await.unwrap_err();
        assert!(failure.message.contains(reason), "{answer}: {failure:?}");
        assert!(failure.hint.contains("restart"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_stream_without_an_end_is_a_failure() {
    let (_home, client) = stand_in(
        "{\"event\":\"progress\",\"phase\":\"fetching\",\"done\":1,\"total\":null,\"unit\":\"bytes\"}\n",
    )
    .await;
    let mut steps = 0;
    let failure = client.install(&InstallRequest::default(), |_| steps += 1).await.unwrap_err();
    assert_eq!((failure.code, steps), (Code::Io, 1));
}

#[tokio::test]
async fn a_request_is_in_progress_until_it_is_answered_and_listening_to_events_is_not() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::bind(home.path()).unwrap();
    let in_progress = server.in_progress();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(Arc::new(Fake::default()), async { drop(stopped.await) }));
    let client = Client::new(home.path());
    client.list().await.unwrap();
    assert!(in_progress.is_none());
    let settled = async |is_none: bool| {
        while in_progress.is_none() != is_none {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let asking = {
        let client = client.clone();
        let request = SearchRequest { text: "slow".to_owned(), ..SearchRequest::default() };
        tokio::spawn(async move { client.search(&request).await })
    };
    tokio::time::timeout(Duration::from_secs(5), settled(false)).await.expect("it is asked");
    asking.abort();
    tokio::time::timeout(Duration::from_secs(5), settled(true)).await.expect("nobody waits for it");
    drop(stop);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_node_that_goes_away_before_it_answers_does_not_run() {
    let home = tempfile::tempdir().unwrap();
    let listener = socket::bind(home.path()).unwrap();
    let closing = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 16];
        stream.read_exact(&mut request).await.unwrap();
    });
    let failure = Client::new(home.path()).list().await.unwrap_err();
    assert_eq!(failure.code, Code::NotRunning, "{failure:?}");
    closing.await.unwrap();
}
