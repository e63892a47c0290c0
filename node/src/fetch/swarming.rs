//! A retrieval of a tree among others who fetch the same: whom it follows the tree at, and what it tells of itself.

use std::collections::BTreeSet;

use libp2p::PeerId;
use tokio::sync::mpsc;

use super::{
    swarm::{News, Share},
    transport::Transport,
};
use crate::content::ContentId;

/// News that wait to be read; what comes beyond is lost, and others are asked for what it spoke of.
const NEWS_QUEUED_MAX: usize = 1_024;

/// What a retrieval knows of its swarm.
pub(super) struct Swarming {
    tree: ContentId,
    share: Option<Share>,
    tells: mpsc::Sender<(PeerId, News)>,
    news: mpsc::Receiver<(PeerId, News)>,
    /// The peers that were asked to tell of the tree.
    followed: BTreeSet<PeerId>,
}

impl Swarming {
    /// Joins the swarm of a tree.
    pub(super) fn join(transport: &impl Transport, tree: ContentId) -> Self {
        let (tells, news) = mpsc::channel(NEWS_QUEUED_MAX);
        Self { tree, share: transport.share(tree), tells, news, followed: BTreeSet::new() }
    }

    /// Has a peer tell of the tree, where it does not yet.
    pub(super) fn follow(&mut self, transport: &impl Transport, peer: PeerId) {
        if self.followed.insert(peer) {
            transport.follow(peer, self.tree, self.tells.clone());
        }
    }

    /// What is told next. Cancel safe.
    pub(super) async fn next(&mut self) -> (PeerId, News) {
        match self.news.recv().await {
            Some((peer, News::Ended)) => {
                self.followed.remove(&peer);
                (peer, News::Ended)
            }
            Some(news) => news,
            // Never, since this side holds a sender too.
            None => std::future::pending().await,
        }
    }

    /// Tells others of blocks that are in the store.
    pub(super) fn has<'a>(&self, blocks: impl IntoIterator<Item = &'a ContentId>) {
        if let Some(share) = &self.share {
            share.has(blocks);
        }
    }

    /// Whether others wait for what comes.
    pub(super) fn is_followed(&self) -> bool {
        self.share.as_ref().is_some_and(Share::is_followed)
    }
}
