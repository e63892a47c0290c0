use std::sync::atomic::{AtomicBool, Ordering};

use ggen_marketplace::control::{
    api::{
        AmendRequest, Amended, BootstrapRequest, Bootstrapped, CollectRequest, Collected, DisconnectRequest,
        Disconnected, DropRequest, Dropped, Info, InfoRequest, InstallRequest, Installed, KeepRequest,
        KeptList, KeysRenewed, Listing, PeerDetails, PeerInfoRequest, PeerList, PeerListRequest, Reloaded,
        ResolveRequest, Resolved, SearchRequest, SearchResults, Status, Verified, VerifyRequest,
    },
    client::Client,
    service::Service,
};

use super::*;

/// A node that can only be started and stopped.
#[derive(Default)]
struct Fake {
    refuses_to_listen: bool,
    is_shut_down: AtomicBool,
}

fn no<T>() -> Outcome<T> {
    Err(Failure::new(Code::Failed, "Not here.", ""))
}

impl Node for Fake {
    async fn listen(&self) -> Outcome<()> {
        if self.refuses_to_listen {
            return Err(Failure::new(Code::AddressInUse, "The address is taken.", ""));
        }
        Ok(())
    }

    fn on_reload(&self, _: impl Fn() -> Outcome<P2PConfig> + Send + Sync + 'static) {}

    async fn shutdown(&self) -> Outcome<()> {
        self.is_shut_down.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl Service for Fake {
    async fn status(&self) -> Outcome<Status> {
        let status = serde_json::json!({
            "peer_id": "12D3", "version": "0", "pid": 1, "home": "/", "listen_addresses": ["/ip4/127.0.0.1/tcp/1/p2p/12D3"],
            "external_addresses": [], "bootstrap_lines": [], "connected_peers": 0, "dht_server": true, "topology": "mesh", "role": "peer",
            "routing_table_peers": 0, "routing_table_buckets": [], "dht_records": 0, "packages_topic": "/t",
            "mesh_peers": 0, "topic_peers": 0, "packages_published": 0, "packages_indexed": 0, "packages_provided": 0,
            "announcements_pending": 0, "index_peers_complete": 0, "index_peers_total": 0, "store_bytes": 0,
            "store_blocks": 0, "bytes_received": 0, "bytes_sent": 0, "uptime_secs": 0, "last_bootstrap": null,
            "health": "ok", "warnings": []
        });
        Ok(serde_json::from_value(status).unwrap())
    }
    async fn publish(&self, _: PublishRequest, _: ProgressSender, _: Cancel) -> Outcome<Published> {
        no()
    }
    async fn search(&self, _: SearchRequest) -> Outcome<SearchResults> {
        no()
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

    async fn drop_queued(&self, _: DropRequest) -> Outcome<Dropped> {
        no()
    }
    async fn install(&self, _: InstallRequest, _: ProgressSender) -> Outcome<Installed> {
        no()
    }
    async fn info(&self, _: InfoRequest) -> Outcome<Info> {
        no()
    }
    async fn list(&self) -> Outcome<Listing> {
        no()
    }
    async fn remove(&self, _: RemoveRequest) -> Outcome<Removed> {
        no()
    }
    async fn verify(&self, _: VerifyRequest) -> Outcome<Verified> {
        no()
    }
    async fn peer_list(&self, _: PeerListRequest) -> Outcome<PeerList> {
        no()
    }
    async fn peer_info(&self, _: PeerInfoRequest) -> Outcome<PeerDetails> {
        no()
    }
    async fn bootstrap(&self, _: BootstrapRequest) -> Outcome<Bootstrapped> {
        no()
    }
    async fn connect(&self, _: BootstrapRequest) -> Outcome<Bootstrapped> {
        no()
    }
    async fn disconnect(&self, _: DisconnectRequest) -> Outcome<Disconnected> {
        no()
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
        Ok(Stopping { pid: std::process::id() })
    }
    async fn readiness(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_node_is_ready_answers_and_is_shut_down_when_asked_to_stop() {
    let home = tempfile::tempdir().unwrap();
    let node = Arc::new(Fake::default());
    let mut signals = Signals::new(Place::Background.into()).unwrap();
    let (told, ready) = tokio::sync::oneshot::channel();
    let client = Client::new(home.path());
    let asking = async {
        let started: Started = ready.await.unwrap();
        assert_eq!(started.listen_addresses, ["/ip4/127.0.0.1/tcp/1/p2p/12D3"]);
        assert!(client.is_ready().await.unwrap());
        client.stop().await.unwrap();
    };
    let serving = serve(home.path(), Arc::clone(&node), &[], &mut signals, |started| {
        told.send(started.clone()).unwrap();
        Ok(())
    });
    let (exit, ()) = tokio::join!(serving, asking);
    assert_eq!(exit.unwrap(), Exit::Ok);
    assert!(node.is_shut_down.load(Ordering::SeqCst));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "the socket is gone");
}

#[tokio::test]
async fn a_node_that_cannot_listen_is_shut_down_and_says_why() {
    let home = tempfile::tempdir().unwrap();
    let node = Arc::new(Fake { refuses_to_listen: true, ..Fake::default() });
    let mut signals = Signals::new(Place::Background.into()).unwrap();
    let listen = ["/ip4/127.0.0.1/tcp/1".to_owned()];
    let ready = |_: Started| panic!("it is not ready");
    let end = serve(home.path(), Arc::clone(&node), &listen, &mut signals, ready).await.unwrap_err();
    let End::Failed(failure) = end else { panic!("{end:?}") };
    assert_eq!(failure.exit_code(), 8);
    assert!(failure.hint.contains("lsof -i :1") && failure.hint.contains("tcp/0"), "{failure:?}");
    assert!(node.is_shut_down.load(Ordering::SeqCst));
}

#[test]
fn flags_survive_until_a_restart() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(flags::remembered(home.path()).unwrap(), Flags::default(), "there was no start");
    let flags = Flags {
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        dht_server: Some(false),
        strict_config: true,
        topology: Some("hub-and-spoke".to_owned()),
        role: Some("hub".to_owned()),
        hub: vec!["/ip4/127.0.0.1/tcp/4001".to_owned()],
        ..Flags::default()
    };
    flags::remember(home.path(), &flags);
    let bytes = fs::read(home.path().join(flags::FILE)).unwrap();
    assert_eq!(flags::remembered(home.path()).unwrap(), flags);
    // Without them the node would listen on all interfaces.
    for damaged in [&bytes[..40], b"", b"null"] {
        fs::write(home.path().join(flags::FILE), damaged).unwrap();
        let failure = flags::remembered(home.path()).unwrap_err();
        assert_eq!(failure.code, Code::Config);
        assert!(failure.message.contains(flags::FILE) && failure.hint.contains("rm "), "{failure:?}");
    }
}

#[test]
fn only_living_processes_are_alive() {
    assert!(is_alive(std::process::id()));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    assert!(!is_alive(pid));
}

#[test]
fn messages_of_errors_become_sentences() {
    assert_eq!(sentence("the file is gone"), "The file is gone.");
    assert_eq!(sentence("chmod 600 /a"), "chmod 600 /a");
}
