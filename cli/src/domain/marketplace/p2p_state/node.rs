//! The only place that knows how a node is made.

use std::future::Future;

use ggen_marketplace::{
    backend::p2p::{self, P2PRegistry},
    config::P2PConfig,
    control::{
        api::{
            AmendRequest, Amended, CollectRequest, Collected, DropRequest, Dropped, Failure, InstallRequest,
            Installed, KeepRequest, KeptList, Planned, ProjectDone, ProjectRequest, PublishRequest,
            Published, RemoveRequest, Removed, Trust, TrustRequest,
        },
        service::{Cancel, Outcome, ProgressSender, Service},
    },
};

/// What the life of a node asks of it, beside its verbs.
pub(super) trait Node: Service {
    /// Binds every address, and subscribes to announcements.
    fn listen(&self) -> impl Future<Output = Outcome<()>> + Send;

    /// Says where the configuration can be read again.
    fn on_reload(&self, read: impl Fn() -> Outcome<P2PConfig> + Send + Sync + 'static);

    /// Flushes and closes. What other nodes know of this one expires by itself: the DHT has no way to take a record back.
    fn shutdown(&self) -> impl Future<Output = Outcome<()>> + Send;
}

impl Node for P2PRegistry {
    async fn listen(&self) -> Outcome<()> {
        self.start_listening().await.map_err(Failure::from)?;
        self.subscribe_to_packages().await.map_err(Failure::from)
    }

    fn on_reload(&self, read: impl Fn() -> Outcome<P2PConfig> + Send + Sync + 'static) {
        P2PRegistry::on_reload(self, read);
    }

    async fn shutdown(&self) -> Outcome<()> {
        P2PRegistry::shutdown(self).await;
        Ok(())
    }
}

/// Takes the lock of the state folder and makes the node; opens no sockets yet.
pub(super) async fn open(config: P2PConfig) -> Outcome<impl Node> {
    P2PRegistry::new(config).await.map_err(Failure::from)
}

/// Works on a project with what is in the state folder alone, under its lock.
pub(super) async fn project_offline(
    config: P2PConfig,
    request: ProjectRequest,
    progress: ProgressSender,
) -> Outcome<ProjectDone> {
    p2p::project_offline(config, request, progress).await
}

/// Installs a package from what is in the state folder alone, under its lock.
pub(super) async fn install_offline(
    config: P2PConfig,
    request: InstallRequest,
    progress: ProgressSender,
) -> Outcome<Installed> {
    p2p::install_offline(config, request, progress).await
}

/// Has a change of an own package wait in the outbox of the state folder, under its lock.
pub(super) async fn amend_offline(config: P2PConfig, request: AmendRequest) -> Outcome<Amended> {
    p2p::amend_offline(config, request).await
}

/// Takes a version out of the outbox of the state folder, under its lock.
pub(super) async fn drop_offline(config: P2PConfig, request: DropRequest) -> Outcome<Dropped> {
    p2p::drop_offline(config, request).await
}

/// Removes an installed package on the state folder, under its lock.
pub(super) async fn remove_offline(config: P2PConfig, request: RemoveRequest) -> Outcome<Removed> {
    p2p::remove_offline(config, request).await
}

/// Frees what nobody needs in the state folder, or says what that is, under its lock.
pub(super) async fn collect_offline(config: P2PConfig, request: CollectRequest) -> Outcome<Collected> {
    p2p::collect_offline(config, request).await
}

/// Changes and lists pins of content in the state folder, under its lock.
pub(super) async fn keep_offline(config: P2PConfig, request: KeepRequest) -> Outcome<KeptList> {
    p2p::keep_offline(config, request).await
}

/// Lists and changes pins in the state folder, under its lock.
pub(super) fn trust_offline(config: &P2PConfig, request: &TrustRequest) -> Outcome<Trust> {
    p2p::trust_offline(config, request)
}

/// Packs a package into the outbox of the state folder, under its lock.
pub(super) async fn publish_offline(
    config: P2PConfig,
    request: PublishRequest,
    progress: ProgressSender,
    cancel: Cancel,
) -> Outcome<Published> {
    p2p::publish_offline(config, request, progress, cancel).await
}

/// Says what a publication would be, from the state folder, under its lock.
pub(super) async fn plan_offline(
    config: P2PConfig,
    request: PublishRequest,
    progress: ProgressSender,
) -> Outcome<Planned> {
    p2p::plan_offline(config, request, progress).await
}
