//! The verbs of the control socket.

use std::sync::atomic::Ordering;

use super::P2PRegistry;
use crate::control::{
    api::{
        AmendRequest, Amended, BanRequest, BannedPeer, Bans, BootstrapRequest, Bootstrapped, CollectRequest,
        Collected, DisconnectRequest, Disconnected, DropRequest, Dropped, ExplainRequest, Explained, Info,
        InfoRequest, InstallRequest, Installed, KeepRequest, KeptList, KeyDocuments, KeyDocumentsRequest,
        KeysRenewed, Listing, Outdated, OutdatedRequest, PeerDetails, PeerInfoRequest, PeerList,
        PeerListRequest, Planned, ProjectDone, ProjectRequest, PublishRequest, Published, Reloaded,
        RemoveRequest, Removed, ResolveRequest, Resolved, SearchRequest, SearchResults, Status, Stopping,
        Trust, TrustRequest, UnbanRequest, Unbanned, Verified, VerifyRequest,
    },
    events::EventReceiver,
    service::{Cancel, Outcome, ProgressSender, Service},
};

impl Service for P2PRegistry {
    async fn status(&self) -> Outcome<Status> {
        self.node.status().await
    }

    async fn publish(
        &self,
        request: PublishRequest,
        progress: ProgressSender,
        cancel: Cancel,
    ) -> Outcome<Published> {
        let published = self.node.publish(request, progress, cancel).await?;
        self.node.tell_published(&published);
        Ok(published)
    }

    async fn plan(&self, request: PublishRequest, progress: ProgressSender) -> Outcome<Planned> {
        self.node.plan_publication(request, progress).await
    }

    async fn drop_queued(&self, request: DropRequest) -> Outcome<Dropped> {
        self.node.drop_queued(request).await
    }

    async fn amend(&self, request: AmendRequest) -> Outcome<Amended> {
        self.node.amend(request).await
    }

    async fn collect(&self, request: CollectRequest) -> Outcome<Collected> {
        self.node.collect(request).await
    }

    async fn keep(&self, request: KeepRequest) -> Outcome<KeptList> {
        self.node.keep(request).await
    }

    async fn search(&self, request: SearchRequest) -> Outcome<SearchResults> {
        self.node.search(request).await
    }

    async fn install(&self, request: InstallRequest, progress: ProgressSender) -> Outcome<Installed> {
        let installed = self.node.install(request, progress).await?;
        if !installed.dry_run {
            self.node.tell_installed(&installed);
        }
        Ok(installed)
    }

    async fn project(&self, request: ProjectRequest, progress: ProgressSender) -> Outcome<ProjectDone> {
        self.node.project(request, progress).await
    }

    async fn outdated(&self, request: OutdatedRequest) -> Outcome<Outdated> {
        self.node.outdated(request).await
    }

    async fn info(&self, request: InfoRequest) -> Outcome<Info> {
        self.node.info(request).await
    }

    async fn list(&self) -> Outcome<Listing> {
        self.node.list().await
    }

    async fn remove(&self, request: RemoveRequest) -> Outcome<Removed> {
        self.node.remove(request).await
    }

    async fn verify(&self, request: VerifyRequest) -> Outcome<Verified> {
        self.node.verify(request).await
    }

    async fn peer_list(&self, request: PeerListRequest) -> Outcome<PeerList> {
        self.node.peer_list(request).await
    }

    async fn peer_info(&self, request: PeerInfoRequest) -> Outcome<PeerDetails> {
        self.node.peer_info(request).await
    }

    async fn bootstrap(&self, request: BootstrapRequest) -> Outcome<Bootstrapped> {
        self.node.bootstrap(request).await
    }

    async fn connect(&self, request: BootstrapRequest) -> Outcome<Bootstrapped> {
        self.node.connect(request).await
    }

    async fn disconnect(&self, request: DisconnectRequest) -> Outcome<Disconnected> {
        self.node.disconnect(request).await
    }

    async fn ban(&self, request: BanRequest) -> Outcome<BannedPeer> {
        self.node.ban(request).await
    }

    async fn bans(&self) -> Outcome<Bans> {
        self.node.bans().await
    }

    async fn unban(&self, request: UnbanRequest) -> Outcome<Unbanned> {
        self.node.unban(request).await
    }

    async fn explain(&self, request: ExplainRequest) -> Outcome<Explained> {
        self.node.explain(request).await
    }

    fn events(&self) -> EventReceiver {
        self.node.listen_to_events()
    }

    async fn metrics(&self) -> Outcome<String> {
        self.node.metrics().await
    }

    async fn renew_keys(&self) -> Outcome<KeysRenewed> {
        // What waits may do so for a key that is here by now.
        self.node.outbox.notify_one();
        self.node.renew_keys().await
    }

    async fn key_documents(&self, request: KeyDocumentsRequest) -> Outcome<KeyDocuments> {
        self.node.key_documents(request).await
    }

    async fn resolve(&self, request: ResolveRequest) -> Outcome<Resolved> {
        self.node.resolve_branches(request).await
    }

    async fn trust(&self, request: TrustRequest) -> Outcome<Trust> {
        self.node.trust(request).await
    }

    async fn reload(&self) -> Outcome<Reloaded> {
        self.node.reload().await
    }

    async fn stop(&self) -> Outcome<Stopping> {
        Ok(Stopping { pid: std::process::id() })
    }

    async fn readiness(&self) -> bool {
        self.node.listening.load(Ordering::Relaxed)
            && !self.node.store.has_stopped_writing()
            && self.node.network.snapshot().await.is_ok()
    }
}
