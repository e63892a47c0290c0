//! What a node can be asked to do, one method a verb.
//!
//! The node implements [`Service`]; the server calls it. Every method may be dropped before it is done, except
//! [`Service::publish`], which the server always runs to its end.

use std::future::Future;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::code::Code;

use super::api::{
    AmendRequest, Amended, BootstrapRequest, Bootstrapped, CollectRequest, Collected, DisconnectRequest,
    Disconnected, DropRequest, Dropped, Failure, Info, InfoRequest, InstallRequest, Installed, KeepRequest,
    KeptList, KeyDocuments, KeyDocumentsRequest, KeysRenewed, Listing, Outdated, OutdatedRequest,
    PeerDetails, PeerInfoRequest, PeerList, PeerListRequest, Planned, Progress, ProjectDone, ProjectRequest,
    PublishRequest, Published, Reloaded, RemoveRequest, Removed, ResolveRequest, Resolved, SearchRequest,
    SearchResults, Status, Stopping, Trust, TrustRequest, Verified, VerifyRequest,
};
use super::{
    api::{BanRequest, BannedPeer, Bans, ExplainRequest, Explained, UnbanRequest, Unbanned},
    events::{EventReceiver, EventSender},
};

/// The result of every verb.
pub type Outcome<T> = Result<T, Failure>;

/// What a node can be asked to do.
///
/// An implementation writes plain `async fn`s. What arrives was parsed but not checked: numbers may be out of range, names
/// and addresses malformed, paths relative.
///
/// # Cancel safety
/// The future of any method but `publish` is dropped when the client disconnects.
pub trait Service: Send + Sync + 'static {
    /// Tells how the node is.
    fn status(&self) -> impl Future<Output = Outcome<Status>> + Send;

    /// Packs, signs, stores and announces a directory.
    ///
    /// Nothing is signed and nothing waits once `cancel` was told; what was signed before that stays.
    fn publish(
        &self,
        request: PublishRequest,
        progress: ProgressSender,
        cancel: Cancel,
    ) -> impl Future<Output = Outcome<Published>> + Send;

    /// Says what a publication would be, and changes nothing.
    fn plan(
        &self,
        request: PublishRequest,
        progress: ProgressSender,
    ) -> impl Future<Output = Outcome<Planned>> + Send;

    /// Takes a version out of the outbox.
    fn drop_queued(&self, request: DropRequest) -> impl Future<Output = Outcome<Dropped>> + Send;

    /// Signs a change of a package of ours, and tells of it.
    fn amend(&self, request: AmendRequest) -> impl Future<Output = Outcome<Amended>> + Send;

    /// Frees blocks that nobody here needs, or says which those are.
    fn collect(&self, request: CollectRequest) -> impl Future<Output = Outcome<Collected>> + Send;

    /// Pins content, takes a pin away, and lists what is pinned.
    fn keep(&self, request: KeepRequest) -> impl Future<Output = Outcome<KeptList>> + Send;

    /// Finds packages.
    fn search(&self, request: SearchRequest) -> impl Future<Output = Outcome<SearchResults>> + Send;

    /// Fetches, verifies and writes a package.
    fn install(
        &self,
        request: InstallRequest,
        progress: ProgressSender,
    ) -> impl Future<Output = Outcome<Installed>> + Send;

    /// Changes what a project asks for and what is in its folders.
    fn project(
        &self,
        _request: ProjectRequest,
        _progress: ProgressSender,
    ) -> impl Future<Output = Outcome<ProjectDone>> + Send {
        async { Err(no_projects()) }
    }

    /// Tells of which packages of a project there are newer versions.
    fn outdated(&self, _request: OutdatedRequest) -> impl Future<Output = Outcome<Outdated>> + Send {
        async { Err(no_projects()) }
    }

    /// Tells all that is known of a package.
    fn info(&self, request: InfoRequest) -> impl Future<Output = Outcome<Info>> + Send;

    /// Lists what is installed or published here.
    fn list(&self) -> impl Future<Output = Outcome<Listing>> + Send;

    /// Removes what is installed in a folder.
    fn remove(&self, request: RemoveRequest) -> impl Future<Output = Outcome<Removed>> + Send;

    /// Holds an installed package against its signed manifest.
    fn verify(&self, request: VerifyRequest) -> impl Future<Output = Outcome<Verified>> + Send;

    /// Lists the peers connected now.
    fn peer_list(&self, request: PeerListRequest) -> impl Future<Output = Outcome<PeerList>> + Send;

    /// Tells all that is known of a peer.
    fn peer_info(&self, request: PeerInfoRequest) -> impl Future<Output = Outcome<PeerDetails>> + Send;

    /// Dials peers and fills the routing table from them.
    fn bootstrap(&self, request: BootstrapRequest) -> impl Future<Output = Outcome<Bootstrapped>> + Send;

    /// Dials peers, and nothing more.
    fn connect(&self, request: BootstrapRequest) -> impl Future<Output = Outcome<Bootstrapped>> + Send;

    /// Closes the connections to a peer.
    fn disconnect(&self, request: DisconnectRequest) -> impl Future<Output = Outcome<Disconnected>> + Send;

    /// Refuses a peer from now on.
    fn ban(&self, request: BanRequest) -> impl Future<Output = Outcome<BannedPeer>> + Send {
        let _ = request;
        async { Err(not_offered()) }
    }

    /// Lists who is banned.
    fn bans(&self) -> impl Future<Output = Outcome<Bans>> + Send {
        async { Err(not_offered()) }
    }

    /// Welcomes a banned peer again.
    fn unban(&self, request: UnbanRequest) -> impl Future<Output = Outcome<Unbanned>> + Send {
        let _ = request;
        async { Err(not_offered()) }
    }

    /// Tells why a package is what it is: whose keys signed it, who confirmed it, and from whom it came.
    fn explain(&self, request: ExplainRequest) -> impl Future<Output = Outcome<Explained>> + Send {
        let _ = request;
        async { Err(not_offered()) }
    }

    /// Listens to what happens from now on.
    fn events(&self) -> EventReceiver {
        EventSender::default().listen()
    }

    /// What the node counts, in the text form of [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).
    fn metrics(&self) -> impl Future<Output = Outcome<String>> + Send {
        async { Err(not_offered()) }
    }

    /// Signs the heads of our packages again that are under keys which were replaced in their files, and tells of them.
    fn renew_keys(&self) -> impl Future<Output = Outcome<KeysRenewed>> + Send;

    /// Which chains of key documents of a publisher are known.
    fn key_documents(
        &self,
        request: KeyDocumentsRequest,
    ) -> impl Future<Output = Outcome<KeyDocuments>> + Send {
        let _ = request;
        async { Err(not_offered()) }
    }

    /// Explains a double signing of our own, and ends it.
    fn resolve(&self, request: ResolveRequest) -> impl Future<Output = Outcome<Resolved>> + Send;

    /// Lists and changes which publisher a bare name means.
    fn trust(&self, request: TrustRequest) -> impl Future<Output = Outcome<Trust>> + Send;

    /// Reads the configuration again and applies what can be applied to a running node.
    fn reload(&self) -> impl Future<Output = Outcome<Reloaded>> + Send;

    /// Agrees to stop. The server stops serving after the answer; its caller then shuts the node down.
    fn stop(&self) -> impl Future<Output = Outcome<Stopping>> + Send;

    /// Whether the node listens and takes work.
    fn readiness(&self) -> impl Future<Output = bool> + Send;
}

fn no_projects() -> Failure {
    Failure::new(Code::Usage, "This node does not work on projects.", "Ask a node that has a state folder.")
}

fn not_offered() -> Failure {
    Failure::new(
        Code::Failed,
        "The node does not offer this.",
        "The node may be of another version than this ggen. Restart it: ggen marketplace p2p restart",
    )
}

/// Whether who asked for some work wants it no longer.
#[derive(Debug, Clone, Default)]
pub struct Cancel(CancellationToken);

/// Cancels when it is dropped.
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Cancel {
    /// Says that it is not wanted any longer.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether that was said.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is said.
    ///
    /// # Cancel safety
    /// Loses nothing when dropped.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Says so when the guard is dropped.
    #[must_use]
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Where work reports how far it is; never blocks, and only the last report counts.
#[derive(Debug, Clone)]
pub struct ProgressSender {
    sender: watch::Sender<Option<Progress>>,
    /// Whether the work is for whoever reads.
    is_attended: bool,
}

/// The other end of a [`ProgressSender`].
#[derive(Debug)]
pub struct ProgressReceiver(watch::Receiver<Option<Progress>>);

impl ProgressSender {
    /// Makes a pair of ends.
    pub fn channel() -> (Self, ProgressReceiver) {
        let (sender, receiver) = watch::channel(None);
        (Self { sender, is_attended: true }, ProgressReceiver(receiver))
    }

    /// An end that nobody reads, and that is not forsaken for it.
    pub fn discard() -> Self {
        Self { is_attended: false, ..Self::channel().0 }
    }

    /// Whether whoever read is gone: what was not done by then need not be done.
    pub fn is_forsaken(&self) -> bool {
        self.is_attended && self.sender.is_closed()
    }

    /// Reports `done` of `total` `unit`s in `phase`.
    pub fn report(&self, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        self.send(Progress { phase: phase.to_owned(), done, total, unit: unit.to_owned() });
    }

    /// Reports a state.
    pub fn send(&self, progress: Progress) {
        self.sender.send_replace(Some(progress));
    }
}

impl ProgressReceiver {
    /// Waits for a report that was not seen yet; `None` once the work is gone.
    ///
    /// # Cancel safety
    /// Loses nothing when dropped.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            self.0.changed().await.ok()?;
            if let Some(progress) = self.0.borrow_and_update().clone() {
                return Some(progress);
            }
        }
    }

    /// The last report.
    pub fn last(&self) -> Option<Progress> {
        self.0.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_last_report_counts_and_nothing_blocks() {
        let (sender, mut receiver) = ProgressSender::channel();
        for done in 0..10_000 {
            sender.report("fetching", done, Some(10_000), "blocks");
        }
        assert_eq!(receiver.next().await.unwrap().done, 9_999);
        drop(sender);
        assert_eq!(receiver.next().await, None);
    }
}
