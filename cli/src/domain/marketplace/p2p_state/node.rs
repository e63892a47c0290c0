//! The only place that knows how a node is made.
//!
//! SEAM: `open` and `publish_offline` are to be wired to `ggen_marketplace::backend::p2p`; everything else talks to
//! [`Node`], which the registry implements beside [`Service`], and `Unwired` goes away.

use std::future::Future;

use ggen_marketplace::{
    code::Code,
    config::P2PConfig,
    control::{
        api::{
            BootstrapRequest, Bootstrapped, DisconnectRequest, Disconnected, Failure, Info, InfoRequest,
            InstallRequest, Installed, Listing, PeerDetails, PeerInfoRequest, PeerList, PeerListRequest,
            PublishRequest, Published, SearchRequest, SearchResults, Status, Stopping, Verified,
            VerifyRequest,
        },
        service::{Outcome, ProgressSender, Service},
    },
};

/// What the life of a node asks of it, beside its verbs.
pub(super) trait Node: Service {
    /// Binds every address, and subscribes to announcements.
    fn listen(&self) -> impl Future<Output = Outcome<()>> + Send;

    /// Withdraws, flushes and closes.
    fn shutdown(&self) -> impl Future<Output = Outcome<()>> + Send;
}

/// Takes the lock of the state folder and makes the node; opens no sockets yet.
pub(super) async fn open(_config: P2PConfig) -> Outcome<impl Node> {
    Err::<Unwired, _>(not_built())
}

/// Packs and signs a package into the outbox of the state folder, under its lock.
pub(super) async fn publish_offline(
    _config: P2PConfig,
    _request: PublishRequest,
    _progress: ProgressSender,
) -> Outcome<Published> {
    Err(not_built())
}

fn not_built() -> Failure {
    Failure::new(Code::Failed, "This build has no node.", "Build the whole program.")
}

/// No node: never made.
enum Unwired {}

impl Node for Unwired {
    async fn listen(&self) -> Outcome<()> {
        match *self {}
    }

    async fn shutdown(&self) -> Outcome<()> {
        match *self {}
    }
}

impl Service for Unwired {
    async fn status(&self) -> Outcome<Status> {
        match *self {}
    }

    async fn publish(&self, _: PublishRequest, _: ProgressSender) -> Outcome<Published> {
        match *self {}
    }

    async fn search(&self, _: SearchRequest) -> Outcome<SearchResults> {
        match *self {}
    }

    async fn install(&self, _: InstallRequest, _: ProgressSender) -> Outcome<Installed> {
        match *self {}
    }

    async fn info(&self, _: InfoRequest) -> Outcome<Info> {
        match *self {}
    }

    async fn list(&self) -> Outcome<Listing> {
        match *self {}
    }

    async fn verify(&self, _: VerifyRequest) -> Outcome<Verified> {
        match *self {}
    }

    async fn peer_list(&self, _: PeerListRequest) -> Outcome<PeerList> {
        match *self {}
    }

    async fn peer_info(&self, _: PeerInfoRequest) -> Outcome<PeerDetails> {
        match *self {}
    }

    async fn bootstrap(&self, _: BootstrapRequest) -> Outcome<Bootstrapped> {
        match *self {}
    }

    async fn connect(&self, _: BootstrapRequest) -> Outcome<Bootstrapped> {
        match *self {}
    }

    async fn disconnect(&self, _: DisconnectRequest) -> Outcome<Disconnected> {
        match *self {}
    }

    async fn stop(&self) -> Outcome<Stopping> {
        match *self {}
    }

    async fn readiness(&self) -> bool {
        match *self {}
    }
}
