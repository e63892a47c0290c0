//! A stand-in for a node: the real control socket, with answers made up from the requests.

use std::{path::Path, sync::Arc, time::Duration};

use ggen_marketplace::{
    code::Code,
    control::{
        api::{
            AmendRequest, Amended, BootstrapRequest, Bootstrapped, CollectRequest, Collected, DialResult,
            DisconnectRequest, Disconnected, DropRequest, Dropped, Failure, Info, InfoRequest,
            InstallRequest, Installed, KeepRequest, KeptList, KeysRenewed, ListedPackage, Listing,
            PackageInfo, PeerDetails, PeerEvent, PeerInfo, PeerInfoRequest, PeerList, PeerListRequest, Pin,
            Planned, PublishRequest, Published, Reachability, Reloaded, RemoveRequest, Removed,
            ResolveRequest, Resolved, ResolvedBranch, ResolvedVersion, SearchRequest, SearchResults, Status,
            Stopping, Trust, TrustAction, TrustRequest, Verified, VerifyRequest,
        },
        server::Server,
        service::{Cancel, Outcome, ProgressSender, Service},
    },
};
use tokio::sync::oneshot;

/// What a hostile peer may call itself: colours, a cleared screen, a line break, text from right to left.
pub(crate) const HOSTILE: &str = "evil\u{1b}[31m\u{1b}[2J\u{9b}1A\r\n\u{202e}cod\u{7}";

/// A served stand-in; ends when dropped.
pub(crate) struct StandIn {
    runtime: Option<tokio::runtime::Runtime>,
    _stop: oneshot::Sender<()>,
}

impl StandIn {
    pub(crate) fn serve(home: &Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = {
            let _guard = runtime.enter();
            Server::bind(home).unwrap()
        };
        runtime.spawn(server.serve(Arc::new(Answers), async move { drop(stopped.await) }));
        Self { runtime: Some(runtime), _stop: stop }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Answers;

fn peer(id: &str) -> PeerInfo {
    PeerInfo {
        peer_id: id.to_owned(),
        connected: true,
        addresses: vec![format!("/dns4/{HOSTILE}/tcp/1")],
        reputation: 0.75,
        successful_retrievals: 3,
        failed_retrievals: 1,
        last_seen: Some("2023-11-14T22:13:20Z".to_owned()),
        agent: Some(HOSTILE.to_owned()),
        protocols: vec![HOSTILE.to_owned()],
        ..Default::default()
    }
}

impl Service for Answers {
    async fn status(&self) -> Outcome<Status> {
        Ok(Status {
            peer_id: "12D3KooWTest".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 7,
            home: "/home".to_owned(),
            listen_addresses: vec!["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWTest".to_owned()],
            external_addresses: vec![],
            reachability: Reachability {
                reach: "direct".to_owned(),
                reach_reason: "it is configured".to_owned(),
                ..Default::default()
            },
            bootstrap_lines: vec!["--bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3KooWTest".to_owned()],
            connected_peers: 2,
            dht_server: true,
            topology: "mesh".to_owned(),
            role: "peer".to_owned(),
            routing_table_peers: 3,
            routing_table_buckets: vec![1, 2],
            dht_records: 4,
            dht_renewal_lag_secs: 0,
            packages_topic: "/ggen/packages/v1".to_owned(),
            mesh_peers: 1,
            topic_peers: 2,
            packages_published: 5,
            packages_indexed: 6,
            packages_provided: 5,
            announcements_pending: 0,
            changes: vec![],
            outbox: vec![],
            partial: vec![],
            upload_bytes_per_second: Some(1_000_000),
            download_bytes_per_second: None,
            index_peers_complete: 2,
            index_peers_total: 2,
            store_bytes: 2048,
            store_blocks: 8,
            bytes_received: 1,
            bytes_sent: 2,
            uptime_secs: 3700,
            last_bootstrap: None,
            strangers: Vec::new(),
            clock_fault: None,
            health: "degraded".to_owned(),
            warnings: vec!["no bootstrap peer answers".to_owned()],
        })
    }

    async fn publish(&self, request: PublishRequest, _: ProgressSender, _: Cancel) -> Outcome<Published> {
        Ok(Published {
            id: request.path,
            publisher: "gp1x".to_owned(),
            name: "web".to_owned(),
            version: request.version.unwrap_or_default(),
            cid: String::new(),
            sha256: String::new(),
            manifest: String::new(),
            size: 1,
            files: 1,
            blocks: 1,
            sequence: 1,
            announced: true,
            dht_stored: 3,
            announced_to: 2,
            copies: None,
            new_key: None,
            already_published: false,
            queued: false,
            warnings: vec![],
        })
    }

    async fn plan(&self, request: PublishRequest, _: ProgressSender) -> Outcome<Planned> {
        Ok(Planned { id: request.path, warnings: vec![HOSTILE.to_owned()], ..Planned::default() })
    }

    async fn collect(&self, request: CollectRequest) -> Outcome<Collected> {
        Ok(Collected { dry_run: request.dry_run, ..Collected::default() })
    }

    async fn keep(&self, request: KeepRequest) -> Outcome<KeptList> {
        Ok(KeptList { changed: Some(request.name + HOSTILE), ..KeptList::default() })
    }

    async fn drop_queued(&self, request: DropRequest) -> Outcome<Dropped> {
        Ok(Dropped { id: format!("gp1x/{}", request.package), ..Dropped::default() })
    }

    async fn amend(&self, request: AmendRequest) -> Outcome<Amended> {
        Ok(Amended {
            id: format!("gp1x/{}", request.package),
            name: HOSTILE.to_owned(),
            version: Some("1.2.3".to_owned()),
            change: request.change,
            warnings: vec![request.message],
            ..Amended::default()
        })
    }

    /// Echoes the request in the fields of one package; the word `nothing` finds none.
    async fn search(&self, request: SearchRequest) -> Outcome<SearchResults> {
        let results = SearchResults { connected_peers: 1, indexed: 9, complete: true, ..Default::default() };
        if request.text == "nothing" {
            return Ok(results);
        }
        let package = PackageInfo {
            id: format!("gp1x/{}", request.text),
            publisher: format!("gp1{}", "q".repeat(58)),
            name: request.text,
            version: "1.2.3".to_owned(),
            description: HOSTILE.to_owned(),
            tags: request.tags,
            categories: request.categories,
            size: request.limit.unwrap_or_default() as u64,
            providers: vec!["12D3KooWTest".to_owned()],
            reputation: request.min_reputation.unwrap_or(1.0),
            ..Default::default()
        };
        let incomplete_because = vec!["one peer was not read in time".to_owned()];
        Ok(SearchResults {
            packages: vec![package],
            total: 1,
            complete: false,
            incomplete_because,
            ..results
        })
    }

    async fn install(&self, request: InstallRequest, progress: ProgressSender) -> Outcome<Installed> {
        progress.report("fetching", 1, Some(2), "bytes");
        match request.package.as_str() {
            "endless" => std::future::pending().await,
            "forged" => {
                Err(Failure::new(Code::HashMismatch, format!("Block {HOSTILE} is forged."), "Try again."))
            }
            _ => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(Installed { id: request.package, path: request.to, ..Default::default() })
            }
        }
    }

    async fn info(&self, request: InfoRequest) -> Outcome<Info> {
        Err(Failure::new(
            Code::NotFound,
            format!("Nobody has announced {}.", request.package),
            "Search for it.",
        ))
    }

    async fn list(&self) -> Outcome<Listing> {
        let package =
            ListedPackage { name: "web".to_owned(), path: HOSTILE.to_owned(), ..Default::default() };
        Ok(Listing { packages: vec![package], total: 1, ..Listing::default() })
    }

    async fn remove(&self, request: RemoveRequest) -> Outcome<Removed> {
        Ok(Removed {
            id: format!("gp1abc/{}@1.0.0", request.package),
            name: request.package,
            version: "1.0.0".to_owned(),
            path: request.path.unwrap_or_else(|| format!("/folder/{HOSTILE}")),
            files: 2,
            left: vec![HOSTILE.to_owned()],
            ..Default::default()
        })
    }

    async fn verify(&self, request: VerifyRequest) -> Outcome<Verified> {
        let path = request.path.unwrap_or_default();
        let differences = vec!["changed: a.txt".to_owned()];
        Ok(Verified { id: request.package, path, ok: false, differences, ..Default::default() })
    }

    async fn peer_list(&self, _: PeerListRequest) -> Outcome<PeerList> {
        Ok(PeerList { peers: vec![peer("12D3KooWTest")], total: 1, ..Default::default() })
    }

    async fn peer_info(&self, request: PeerInfoRequest) -> Outcome<PeerDetails> {
        let event = PeerEvent { subject: HOSTILE.to_owned(), outcome: "ok".to_owned(), ..Default::default() };
        Ok(PeerDetails {
            peer: peer(&request.peer_id),
            history: request.full.then(|| vec![event]),
            derivation: None,
        })
    }

    async fn bootstrap(&self, request: BootstrapRequest) -> Outcome<Bootstrapped> {
        let failed = |address: &String| DialResult {
            address: address.clone(),
            error: Some("connection refused".to_owned()),
            ..Default::default()
        };
        let results = request.addresses.iter().map(failed).collect();
        Ok(Bootstrapped { results, ..Default::default() })
    }

    async fn connect(&self, request: BootstrapRequest) -> Outcome<Bootstrapped> {
        self.bootstrap(request).await
    }

    async fn disconnect(&self, request: DisconnectRequest) -> Outcome<Disconnected> {
        Ok(Disconnected { peer_id: request.peer_id, connections: 2 })
    }

    async fn renew_keys(&self) -> Outcome<KeysRenewed> {
        Ok(KeysRenewed { packages: vec![HOSTILE.to_owned()], announced: 1, ..Default::default() })
    }

    async fn resolve(&self, request: ResolveRequest) -> Outcome<Resolved> {
        let branch = |name: &str, here| ResolvedBranch {
            name: name.to_owned(),
            here,
            entries: vec!["bafy".to_owned()],
            says: vec![format!("released {HOSTILE}")],
        };
        Ok(Resolved {
            package: request.package,
            undisputed: vec!["1.0.0".to_owned()],
            from_sequence: 1,
            branches: vec![branch("a", true), branch("b", false)],
            versions: vec![ResolvedVersion {
                version: "2.0.0".to_owned(),
                branch: "a".to_owned(),
                kept: true,
                ..Default::default()
            }],
            resolved: !request.dry_run,
            ..Default::default()
        })
    }

    async fn trust(&self, request: TrustRequest) -> Outcome<Trust> {
        let pin = Pin {
            name: "web".to_owned(),
            publisher: if request.publisher.is_empty() { "gp1x".to_owned() } else { request.publisher },
            pinned_at: "2023-11-14T22:13:20Z".to_owned(),
        };
        Ok(Trust {
            pins: vec![pin],
            total: 1,
            changed: request.action != TrustAction::List,
            before: None,
            ..Trust::default()
        })
    }

    async fn reload(&self) -> Outcome<Reloaded> {
        Ok(Reloaded::default())
    }

    async fn stop(&self) -> Outcome<Stopping> {
        Err(Failure::new(Code::Busy, "A stand-in does not stop.", ""))
    }

    async fn readiness(&self) -> bool {
        true
    }
}
