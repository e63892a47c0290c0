//! How the rest of the node speaks to the loop.

use std::{collections::BTreeSet, time::Duration};

use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use super::{
    Error,
    blocks::Interest,
    command::{Command, Sought, Target},
    dialling::DialFailure,
    limiter::Line,
    logs::Question,
    snapshot::Snapshot,
    spawner::Spawner,
};
use crate::{
    content::ContentId,
    fetch::{
        RequestFailure, Transport, log,
        protocol::{Answer, Arrived, Request},
        swarm::{News, Share, Trees},
    },
    heads::lookup::Ended,
    identity::PublisherId,
    limits::FETCH_TIMEOUT_MAX,
    package::PackageId,
    peers::trim::Marks,
    release::{VerifiedConfirmation, head::VerifiedHead},
    sync::ahead::Ahead,
    time::Timestamp,
};

/// How long the loop may take for what needs no peer.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Providers that wait to be read: more than honest nodes name of one tree.
const PROVIDERS_QUEUED_MAX: usize = 256;
/// How long the loop may take to tell what came of a request to a peer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(FETCH_TIMEOUT_MAX.as_secs() + LOCAL_TIMEOUT.as_secs());

/// Nodes that answered a lookup with the same newest head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answers {
    /// How many.
    pub peers: usize,
    /// In how many networks, as [`Locality`](crate::peers::policy::Locality) counts them.
    pub networks: usize,
}

/// What a lookup of providers tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// A peer says that it provides the tree.
    Found {
        /// Who.
        peer: PeerId,
        /// Whether it cannot be reached, as far as this node knows.
        is_gone: bool,
    },
    /// The lookup is over. Where the channel closes without a word of that, the lookup was cut off, or there was no room for it.
    End(Ended),
}

/// Speaks to the loop; cheap to clone.
///
/// # Cancel safety
/// Dropping any of the futures drops the answer only; what was begun goes on within its own bounds.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) local: PeerId,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) heads: watch::Receiver<HeadsRead>,
    pub(super) near: watch::Receiver<BTreeSet<PeerId>>,
    pub(super) line: Line,
    pub(super) trees: Trees,
    pub(super) ahead: Ahead,
    pub(super) spawner: Spawner,
}

/// How many of the connected peers' catalogues have been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadsRead {
    /// Connected peers whose heads can be read.
    pub peers: usize,
    /// Those of them of which there is nothing to wait for: their heads were read to the end, or reading them failed.
    pub complete: usize,
    /// Connections that stand and have not yet told who they are.
    pub unidentified: usize,
}

impl HeadsRead {
    /// Whether nothing is outstanding.
    pub fn is_complete(&self) -> bool {
        self.complete >= self.peers && self.unidentified == 0
    }
}

impl Handle {
    /// The connected peers of the local network.
    pub fn near(&self) -> BTreeSet<PeerId> {
        self.near.borrow().clone()
    }

    /// Starts a task where those of the node run.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner.start(task);
    }

    /// This node's peer id.
    pub fn local_peer(&self) -> PeerId {
        self.local
    }

    /// What was met of our own packages that is ahead of the clock.
    pub fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// How many bytes of blocks and logs move in a second.
    pub fn line(&self) -> &Line {
        &self.line
    }

    async fn call<T>(
        &self,
        deadline: Duration,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.commands.send(command(reply)).await.map_err(|_| Error::Stopped)?;
            // A loop that still takes commands had no room for this one.
            answer.await.map_err(|_| if self.commands.is_closed() { Error::Stopped } else { Error::Busy })
        };
        timeout(deadline, ask).await.map_err(|_| Error::Timeout(deadline))?
    }

    /// Gives the loop a command that it does not answer.
    async fn tell(&self, deadline: Duration, command: Command) -> Result<(), Error> {
        let sent = timeout(deadline, self.commands.send(command)).await;
        sent.map_err(|_| Error::Timeout(deadline))?.map_err(|_| Error::Stopped)
    }

    /// Begins to look which networks this machine is in, and who is there, as far as the settings say.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn look_around(&self) -> Result<(), Error> {
        self.tell(LOCAL_TIMEOUT, Command::LookAround).await
    }

    /// Listens on an address and yields what was bound.
    ///
    /// # Errors
    /// [`Error::Listen`] where the address cannot be bound.
    pub async fn listen(&self, address: Multiaddr) -> Result<Vec<Multiaddr>, Error> {
        self.call(LOCAL_TIMEOUT, |reply| Command::Listen(address, reply)).await?
    }

    /// Subscribes to the announcement topic; false where it was subscribed already.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn subscribe(&self) -> Result<bool, Error> {
        self.call(LOCAL_TIMEOUT, Command::Subscribe).await
    }

    /// Connects to whoever answers under an address.
    ///
    /// # Errors
    /// Why nobody answered.
    pub async fn dial(&self, address: Multiaddr, deadline: Duration) -> Result<PeerId, DialFailure> {
        self.dial_target(Target::Address(address), deadline).await
    }

    /// Connects to a peer: under the addresses given, those known here, and, where all fail, those that the DHT knows.
    ///
    /// # Errors
    /// Why it was not reached.
    pub async fn connect(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Duration,
    ) -> Result<(), DialFailure> {
        let attempt = async {
            match self.dial_target(Target::Peer(peer, addresses), deadline).await {
                Ok(_) => return Ok(()),
                Err(DialFailure::Own) => return Err(DialFailure::Own),
                // Both sides dialled at once and one connection was one too many: it may be connected by now.
                Err(DialFailure::Denied(_)) => {
                    return self.dial_target(Target::Peer(peer, Vec::new()), deadline).await.map(drop);
                }
                Err(_) => {}
            }
            let found = self.find_peer(peer, deadline).await?;
            self.dial_target(Target::Peer(peer, found), deadline).await.map(drop)
        };
        timeout(deadline, attempt).await.unwrap_or(Err(DialFailure::Timeout))
    }

    /// Where the DHT says that a peer is.
    async fn find_peer(&self, peer: PeerId, deadline: Duration) -> Result<Vec<Multiaddr>, DialFailure> {
        let until = Instant::now() + deadline;
        match self.call(deadline, |reply| Command::FindPeer(peer, until, reply)).await {
            Ok((found, _)) if !found.is_empty() => Ok(found),
            // Those who were not asked may know it.
            Ok((_, Ended::CutOff)) | Err(Error::Timeout(_)) => Err(DialFailure::Timeout),
            Ok((_, Ended::Complete | Ended::Silent | Ended::Unanswered)) => Err(DialFailure::NoAddress),
            Err(error) => Err(DialFailure::Failed(error.to_string())),
        }
    }

    /// Whether a peer can be reached: it is connected, or can be dialled where it is known to be. Nothing where that was not found out
    /// in time.
    pub async fn reaches(&self, peer: PeerId, deadline: Duration) -> Option<bool> {
        match self.dial_target(Target::Peer(peer, Vec::new()), deadline).await {
            Ok(_) | Err(DialFailure::Own) => Some(true),
            Err(DialFailure::Timeout | DialFailure::Denied(_)) => None,
            Err(_) => Some(false),
        }
    }

    async fn dial_target(&self, target: Target, deadline: Duration) -> Result<PeerId, DialFailure> {
        match self.call(deadline, |reply| Command::Dial(target, reply)).await {
            Ok(result) => result,
            Err(Error::Timeout(_)) => Err(DialFailure::Timeout),
            Err(error) => Err(DialFailure::Failed(error.to_string())),
        }
    }

    /// Looks for peers near this node; true where it ended well.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn bootstrap(&self, deadline: Duration) -> Result<bool, Error> {
        self.call(deadline, Command::Bootstrap).await
    }

    /// Stores a head in the DHT and yields how many other nodes took it within the time; what is not stored by then goes on.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn put_head(&self, head: VerifiedHead, deadline: Duration) -> Result<usize, Error> {
        self.put_record(head.dht_key(), head.bytes().to_vec(), deadline).await
    }

    /// Stores a confirmation in the DHT and yields to how many nodes took it.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn put_confirmation(
        &self,
        confirmation: &VerifiedConfirmation,
        deadline: Duration,
    ) -> Result<usize, Error> {
        self.put_record(confirmation.dht_key(), confirmation.bytes().to_vec(), deadline).await
    }

    async fn put_record(&self, key: [u8; 32], value: Vec<u8>, deadline: Duration) -> Result<usize, Error> {
        match self.call(deadline, |reply| Command::PutRecord(key, value.clone(), reply)).await {
            Err(Error::Timeout(_)) => self.call(LOCAL_TIMEOUT, |reply| Command::Stored(value, reply)).await,
            stored => stored,
        }
    }

    /// Looks a head up in the DHT: the newest valid one that was found. Nothing is a certain answer: all that are nearest to the
    /// record and live have said that they have none.
    ///
    /// # Errors
    /// [`Error::Contradiction`] where those that were found contradict each other, [`Error::Early`] where all that were found are from
    /// ahead of this node's clock,
    /// [`Error::Unanswered`] where nobody answered, [`Error::CutOff`] where the time ran out before all had;
    /// [`Error::Busy`], [`Error::Timeout`], [`Error::Stopped`].
    pub async fn get_head(
        &self,
        package: PackageId,
        deadline: Duration,
    ) -> Result<Option<VerifiedHead>, Error> {
        Ok(self.get_newest(package, deadline).await?.map(|(head, _)| head))
    }

    /// Looks up in the DHT what a publisher confirmed last, under each chain of its keys that is met; tells how that ended. Where nothing
    /// was found, there is nothing only if all were asked.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Timeout`], [`Error::Stopped`].
    pub async fn get_confirmations(
        &self,
        publisher: PublisherId,
        deadline: Duration,
    ) -> Result<(Vec<VerifiedConfirmation>, Ended), Error> {
        let (until, patience) = (Instant::now() + deadline, deadline + LOCAL_TIMEOUT);
        self.call(patience, |reply| Command::GetConfirmation(publisher, until, reply)).await
    }

    /// As [`Handle::get_head`], with how many have that head.
    ///
    /// # Errors
    /// As [`Handle::get_head`].
    pub async fn get_newest(
        &self,
        package: PackageId,
        deadline: Duration,
    ) -> Result<Option<(VerifiedHead, Answers)>, Error> {
        let until = Instant::now() + deadline;
        // The loop ends the lookup itself, and says what it had come to by then.
        let patience = deadline + LOCAL_TIMEOUT;
        match self.call(patience, |reply| Command::GetHead(package.clone(), until, reply)).await? {
            Sought::Found(head, answers) => Ok(Some((*head, answers))),
            Sought::Nothing => Ok(None),
            Sought::Early(released_at) => Err(Error::Early { package, released_at, now: Timestamp::now() }),
            Sought::CutOff(answered) => Err(Error::CutOff { package, answered, deadline }),
            Sought::Unanswered => Err(Error::Unanswered { package }),
            Sought::Contradiction => Err(Error::Contradiction { package }),
        }
    }

    /// Announces a head by gossip and yields to how many peers it went.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn announce(&self, head: Vec<u8>) -> Result<usize, Error> {
        self.call(LOCAL_TIMEOUT, |reply| Command::Announce(head, reply)).await
    }

    /// Tells the DHT that this node provides a tree; yields how many nodes were told.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn provide(&self, root: ContentId, deadline: Duration) -> Result<usize, Error> {
        self.call(deadline, |reply| Command::Provide(root, reply)).await
    }

    /// Stops telling that this node provides a tree; records at other nodes expire by themselves.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn stop_providing(&self, root: ContentId) -> Result<(), Error> {
        self.tell(LOCAL_TIMEOUT, Command::StopProviding(root)).await
    }

    /// Looks up who provides a tree, until `deadline` at the latest; peers come as they are found, and the last word is how the lookup
    /// ended.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn providers(
        &self,
        root: ContentId,
        deadline: Instant,
    ) -> Result<mpsc::Receiver<Provider>, Error> {
        let (found, providers) = mpsc::channel(PROVIDERS_QUEUED_MAX);
        self.tell(LOCAL_TIMEOUT, Command::Providers(root, deadline, found)).await?;
        Ok(providers)
    }

    /// Reads the heads of all connected peers once more; ends when they were read.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn refresh(&self, deadline: Duration) -> Result<(), Error> {
        self.call(deadline, Command::Refresh).await
    }

    /// As [`Handle::refresh`], and also for what could not be taken before: what kept it from being taken is over.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn reread(&self, deadline: Duration) -> Result<(), Error> {
        self.call(deadline, Command::Reread).await
    }

    /// How many of the connected peers' catalogues have been read, as it changes.
    pub(crate) fn heads(&self) -> watch::Receiver<HeadsRead> {
        self.heads.clone()
    }

    /// Waits until every connected peer's heads have been read; false where the time ran out first.
    pub async fn heads_read(&self, deadline: Duration) -> bool {
        let mut heads = self.heads.clone();
        timeout(deadline, heads.wait_for(HeadsRead::is_complete)).await.is_ok_and(|read| read.is_ok())
    }

    /// Changes the topic, the bound of connections, and between which numbers they are kept.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn reconfigure(
        &self,
        topic: String,
        connections_max: u32,
        connections: Marks,
    ) -> Result<(), Error> {
        self.tell(LOCAL_TIMEOUT, Command::Reconfigure { topic, connections_max, connections }).await
    }

    /// The network at this moment.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(*self.call(LOCAL_TIMEOUT, Command::Snapshot).await?)
    }

    /// Closes the connections to a peer, and yields how many there were.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<usize, Error> {
        self.call(LOCAL_TIMEOUT, |reply| Command::Disconnect(peer, reply)).await
    }

    /// Asks all peers once more what time it is.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn greet(&self) -> Result<(), Error> {
        self.tell(LOCAL_TIMEOUT, Command::Greet).await
    }

    /// Refuses a peer from now on.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn block(&self, peer: PeerId, reason: String) -> Result<(), Error> {
        self.tell(LOCAL_TIMEOUT, Command::Block(peer, reason)).await
    }

    /// Accepts a peer again.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn unblock(&self, peer: PeerId) -> Result<(), Error> {
        self.tell(LOCAL_TIMEOUT, Command::Unblock(peer)).await
    }

    /// Stops the loop and closes every connection.
    pub async fn stop(&self) {
        // An error means that it has stopped already.
        let _ = self.call(LOCAL_TIMEOUT, Command::Stop).await;
    }
}

impl Transport for Handle {
    async fn reach(&self, peer: PeerId, addresses: Vec<Multiaddr>, within: Duration) -> bool {
        let reached = self.connect(peer, addresses, within).await;
        if let Err(error) = &reached {
            tracing::debug!(%peer, %error, "a provider was not reached");
        }
        reached.is_ok()
    }

    async fn ask(&self, peer: PeerId, request: Request) -> Result<Answer, RequestFailure> {
        // The loop tells of a peer's silence itself: where it does not, the silence is ours.
        let asked = self.call(ANSWER_TIMEOUT, |reply| Command::Fetch(peer, request, reply)).await;
        asked.unwrap_or(Err(RequestFailure::Own))
    }

    fn own(&self) -> PeerId {
        self.local
    }

    fn is_near(&self, peer: &PeerId) -> bool {
        self.near.borrow().contains(peer)
    }

    fn follow(&self, peer: PeerId, tree: ContentId, news: mpsc::Sender<(PeerId, News)>) {
        // Where the loop has too much to do, nothing is told.
        let follow = Command::Follow(peer, Interest { tree, news });
        if let Err(mpsc::error::TrySendError::Full(Command::Follow(_, interest))) =
            self.commands.try_send(follow)
        {
            interest.end(peer);
        }
    }

    fn share(&self, tree: ContentId) -> Option<Share> {
        self.trees.share(tree)
    }

    async fn read_log(
        &self,
        peer: PeerId,
        request: log::Request,
        frames: mpsc::Sender<log::Frame>,
        arrived: Arrived,
    ) -> Result<(), RequestFailure> {
        let question = Question { request, frames: Some(frames), arrived };
        let asked = self.call(ANSWER_TIMEOUT, |reply| Command::Log(peer, question, reply)).await;
        asked.unwrap_or(Err(RequestFailure::Own))
    }

    fn credit(&self, peer: PeerId) {
        // Lost where the loop has too much to do.
        if self.commands.try_send(Command::Credit(peer)).is_err() {
            tracing::debug!(%peer, "a peer was not credited");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::Codec,
        identity::Publisher,
        release::{Head, Kind, Labels, Log, Release},
    };

    fn head() -> VerifiedHead {
        let now = Timestamp::now();
        let publisher = Publisher::from_secret([7; 32], now);
        let release = Release {
            version: "1.0.0".parse().unwrap(),
            manifest: ContentId::of(Codec::Raw, b"manifest"),
            root: ContentId::of(Codec::DagPb, b"root"),
            size: 1,
            files: 1,
        };
        let mut log = Log::empty(PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() });
        log.push(log.next(Kind::Release(release), &publisher, now).unwrap()).unwrap();
        let labels = Labels { description: "A package".to_owned(), ..Labels::default() };
        let head = Head::of(&log, labels, &publisher).unwrap();
        head.sign(&publisher).unwrap()
    }

    /// A handle whose commands somebody else takes.
    fn handle(commands: mpsc::Sender<Command>) -> Handle {
        let (_, heads) = watch::channel(HeadsRead::default());
        let (line, trees, ahead, spawner) = Default::default();
        let (_, near) = watch::channel(BTreeSet::new());
        Handle { local: PeerId::random(), commands, heads, near, line, trees, ahead, spawner }
    }

    #[tokio::test]
    async fn nodes_that_took_a_head_count_although_others_still_let_it_wait() {
        let (commands, mut received) = mpsc::channel(1);
        let handle = handle(commands);
        let driver = async {
            let Some(Command::PutRecord(_, _, _unanswered)) = received.recv().await else {
                panic!("not stored")
            };
            let Some(Command::Stored(_, reply)) = received.recv().await else { panic!("not asked") };
            reply.send(2).unwrap();
        };
        let (stored, ()) = tokio::join!(handle.put_head(head(), Duration::from_millis(20)), driver);
        assert_eq!(stored.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_loop_that_takes_no_commands_is_not_waited_for() {
        let (commands, received) = mpsc::channel(1);
        let handle = handle(commands);
        let soon = Duration::from_millis(20);
        let unblock = || handle.tell(soon, Command::Unblock(PeerId::random()));
        unblock().await.unwrap();
        assert!(matches!(unblock().await, Err(Error::Timeout(_))));
        drop(received);
        assert!(matches!(unblock().await, Err(Error::Stopped)));
    }
}
