//! Telling others: now, and again until somebody has heard.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use libp2p::PeerId;
use rusqlite::Connection;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{history, node::Node};
use crate::{
    catalog,
    content::ContentId,
    network::Handle,
    package::PackageId,
    release::VerifiedHead,
    reputation::ban,
    store::{self, heads, packages, published},
    time::Timestamp,
};

/// How often it is told at most of all trees that this node holds: a large store has thousands of them.
const PROVIDE_INTERVAL: Duration = Duration::from_secs(30);
/// The same where a peer that was lost is back: its side lacks the records. Not less, as connections may break again and again.
const PROVIDE_INTERVAL_REUNITED: Duration = Duration::from_secs(5);
/// Newcomers often come in groups; they are told together.
const GATHER: Duration = Duration::from_millis(300);
/// How soon somebody who waits for a head to be taken tries again.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// How long one round of telling may take for one package.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);
/// Packages that are told of at once.
const AT_ONCE: usize = 4;
/// Below this many peers in the routing table every newcomer may be one of the nodes nearest to our records, and is told
/// at once; in a larger network the DHT's own renewal finds them.
const SMALL_NETWORK: usize = 20;
/// How often all records are renewed, well before they expire (48 hours).
const RENEW_INTERVAL: Duration = Duration::from_secs(12 * 3600);
/// How often it is looked whose bans are over.
const LOOK_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Who was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// DHT nodes that stored the head.
    pub(super) stored: usize,
    /// Peers that the announcement was sent to.
    pub(super) heard: usize,
}

impl Told {
    pub(super) fn anybody(self) -> bool {
        self.stored > 0 || self.heard > 0
    }
}

/// When all trees that are held are told of again.
#[derive(Debug, Default)]
struct Providing {
    /// The trees that were told of.
    told: BTreeSet<ContentId>,
    last: Option<Instant>,
    owed: Option<Owed>,
}

/// What was put off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Owed {
    /// Whether the heads of others are stored again as well.
    everything: bool,
    /// Whether somebody is back who may have missed something.
    reunited: bool,
}

impl Providing {
    /// Notes that there is somebody to tell.
    fn owe(&mut self, more: Owed) {
        let owed = self.owed.unwrap_or_default();
        self.owed = Some(Owed {
            everything: owed.everything || more.everything,
            reunited: owed.reunited || more.reunited,
        });
    }

    /// When it is time to tell, where anything is owed; without a time where nothing was told so far.
    fn due(&self) -> Option<Option<Instant>> {
        let owed = self.owed?;
        let interval = if owed.reunited { PROVIDE_INTERVAL_REUNITED } else { PROVIDE_INTERVAL };
        Some(self.last.map(|last| last + interval))
    }

    /// What to tell of now: of `held` all where that is due, and otherwise what was never told of; and whether the heads of
    /// others are stored again as well.
    fn take(&mut self, held: &BTreeSet<ContentId>, now: Instant) -> (BTreeSet<ContentId>, bool) {
        let everything = self.owed.unwrap_or_default().everything;
        let trees = if self.due().is_some_and(|due| due.is_none_or(|due| due <= now)) {
            (self.last, self.owed) = (Some(now), None);
            held.clone()
        } else {
            held.difference(&self.told).copied().collect()
        };
        self.told.clone_from(held);
        (trees, everything)
    }
}

impl Node {
    /// Tells of a head of ours: in the DHT, by gossip, and as a provider of its latest tree.
    pub(super) async fn tell(&self, head: &VerifiedHead, deadline: Instant) -> Told {
        if !self.first_contact.is_over() {
            // Nobody is there, and what was signed may still be taken back.
            return Told::default();
        }
        self.confirming.notify_one();
        let left = deadline.saturating_duration_since(Instant::now());
        let told = head.clone();
        let read = self.with_store(move |store| {
            store.read(|conn| {
                let own = heads::get(conn, &told.package_id())?;
                // One that was taken back, or is no longer the newest, is not told.
                let is_own = own.is_some_and(|own| own.bytes == told.bytes());
                Ok((is_own, held_tree(conn, &told)?))
            })
        });
        let Ok((true, root)) = read.await else { return Told::default() };
        let (stored, heard, ()) = tokio::join!(
            self.network.put_head(head.clone(), left),
            self.network.announce(head.bytes().to_vec()),
            provide(&self.network, root, left),
        );
        Told { stored: stored.unwrap_or_default(), heard: heard.unwrap_or_default() }
    }

    /// Tells of a head until somebody took it, or the time ran out.
    pub(super) async fn tell_until(&self, head: &VerifiedHead, deadline: Instant) -> Told {
        loop {
            let told = self.tell(head, deadline).await;
            if told.anybody() || Instant::now() >= deadline {
                return told;
            }
            // Not by `audience`: it wakes one, and that is who tells newcomers of everything.
            sleep_until((Instant::now() + TELL_AGAIN).min(deadline)).await;
        }
    }

    /// Tells of every head that waits or that somebody missed, and of all others where `everything` is to be renewed.
    async fn tell_heads(&self, everything: bool, missed: Option<Timestamp>) {
        let listed = self.with_store(|store| {
            store.read(|conn| {
                let pending = published::list_unannounced(conn)?;
                Ok((pending, current_heads(conn)?))
            })
        });
        let Ok((pending, own)) = listed.await else { return };
        let own = own.into_iter().map(|head| {
            // Some took it at the time; those that were cut off did not.
            let pending = pending.iter().any(|it| it.package == head.package_id())
                || missed.is_some_and(|since| head.head().released_at >= since);
            (head, pending)
        });
        stream::iter(own)
            .for_each_concurrent(AT_ONCE, |(head, pending)| async move {
                if pending {
                    let told = self.tell(&head, Instant::now() + ROUND_TIMEOUT).await;
                    if told.anybody() {
                        self.mark_announced(head.package_id(), head.head().sequence.get()).await;
                    }
                } else if everything {
                    // Gossip is for news; the record is renewed where lookups will look for it.
                    let _ = self.network.put_head(head, ROUND_TIMEOUT).await;
                }
            })
            .await;
    }

    /// Tells that this node provides what it holds, as far as it is time for it.
    async fn tell_held(&self, providing: &mut Providing) {
        let Ok(mut held) = self.with_store(|store| store.read(packages::list_all)).await else {
            // What is owed stays owed.
            providing.last = Some(Instant::now());
            return;
        };
        let roots = held.iter().map(|held| held.root).collect();
        let (trees, everything) = providing.take(&roots, Instant::now());
        held.retain(|held| trees.contains(&held.root));
        stream::iter(held)
            .for_each_concurrent(AT_ONCE, |held| async move {
                provide(&self.network, Some(held.root), ROUND_TIMEOUT).await;
                if everything {
                    self.republish(&held.package).await;
                }
            })
            .await;
    }

    /// Stores the newest head that is known of somebody else's package, so that it outlives its author's node.
    async fn republish(&self, package: &PackageId) {
        let (package, now) = (package.clone(), self.now());
        let known = self.with_store(move |store| store.read(|conn| Ok(catalog::get(conn, &package)?)));
        if let Ok(Some(listed)) = known.await
            && let Ok(head) = listed.verify(now)
        {
            let _ = self.network.put_head(head, ROUND_TIMEOUT).await;
        }
    }

    pub(super) async fn mark_announced(&self, package: PackageId, sequence: u64) {
        let marked =
            self.with_store(move |store| store.write(|tx| published::set_announced(tx, &package, sequence)));
        if let Err(failure) = marked.await {
            tracing::warn!(failure.message, "an announcement was not noted, and will be repeated");
        }
    }

    async fn is_small(&self) -> bool {
        let snapshot = self.network.snapshot().await;
        snapshot.is_ok_and(|snapshot| snapshot.buckets.iter().sum::<usize>() < SMALL_NETWORK)
    }
}

/// Our own heads, without those that something that was seen of their package speaks against: two heads for one place, told
/// by the same publisher, freeze a package for everybody.
fn current_heads(conn: &Connection) -> Result<Vec<VerifiedHead>, store::Error> {
    let mut current = Vec::new();
    for own in heads::list_all(conn)? {
        let Ok(head) = VerifiedHead::verify_stored(&own.bytes) else { continue };
        if history::is_current(conn, &head)? {
            current.push(head);
        } else {
            tracing::warn!(package = %own.package, "a head of ours is not told: others have seen another one");
        }
    }
    Ok(current)
}

/// The tree of the latest release of a head, where it is here: a log that went on elsewhere was fetched without its trees.
pub(super) fn held_tree(conn: &Connection, head: &VerifiedHead) -> Result<Option<ContentId>, store::Error> {
    let Some(latest) = &head.head().latest else { return Ok(None) };
    Ok((!packages::get(conn, &latest.root)?.is_empty()).then_some(latest.root))
}

async fn provide(network: &Handle, root: Option<ContentId>, deadline: Duration) {
    if let Some(root) = root
        && let Err(error) = network.provide(root, deadline).await
    {
        tracing::debug!(%root, %error, "not all were told that this node provides a tree");
    }
}

/// Tells newcomers, and everybody again from time to time.
pub(super) async fn announce(node: Arc<Node>) {
    let mut renew = interval(RENEW_INTERVAL);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renew.tick().await;
    let mut providing = Providing::default();
    loop {
        // The first time is never put off.
        let due = providing.due().flatten();
        let everything = tokio::select! { biased;
            _ = renew.tick() => Some(true),
            () = node.audience.notified() => {
                sleep_until(Instant::now() + GATHER).await;
                Some(node.is_small().await)
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
        };
        if let Some(everything) = everything {
            let missed = node.take_missed();
            providing.owe(Owed { everything, reunited: missed.is_some() });
            node.tell_heads(everything, missed).await;
        }
        node.tell_held(&mut providing).await;
    }
}

/// Tells the network whom to refuse, and whom no longer.
async fn refuse_banned(node: &Node, refused: &mut BTreeSet<PeerId>) {
    let now = node.now();
    let banned = node.with_store(move |store| store.read(|conn| Ok(ban::all(conn, now)?))).await;
    let Ok(banned) = banned else { return };
    let now_refused: BTreeSet<PeerId> = banned.iter().map(|(peer, _)| *peer).collect();
    for (peer, ban) in banned {
        if refused.insert(peer) {
            tracing::info!(%peer, reason = ban.reason, until = %ban.until, "a banned peer is refused");
            let _ = node.network.block(peer, ban.reason).await;
        }
    }
    let over: Vec<PeerId> = refused.difference(&now_refused).copied().collect();
    for peer in over {
        refused.remove(&peer);
        let _ = node.network.unblock(peer).await;
    }
}

/// Looks from time to time whose bans are over.
pub(super) async fn keep_bans(node: Arc<Node>) {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = BTreeSet::new();
    loop {
        look.tick().await;
        refuse_banned(&node, &mut refused).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    fn trees(n: u8) -> BTreeSet<ContentId> {
        (0..n).map(|n| ContentId::of(Codec::DagPb, &[n])).collect()
    }

    #[test]
    fn all_trees_are_told_of_once_in_an_interval_and_new_ones_at_once() {
        let (mut providing, start) = (Providing::default(), Instant::now());
        providing.owe(Owed::default());
        assert_eq!(providing.take(&trees(2), start), (trees(2), false));
        assert_eq!(providing.due(), None);
        // Somebody comes, and comes again: told once, when the time has come, and of everything that one of them needs.
        providing.owe(Owed { everything: true, reunited: false });
        providing.owe(Owed::default());
        let new: BTreeSet<_> = trees(3).difference(&trees(2)).copied().collect();
        assert_eq!(providing.take(&trees(3), start + Duration::from_secs(1)).0, new);
        assert_eq!(providing.take(&trees(3), start + Duration::from_secs(2)).0, trees(0));
        assert_eq!(providing.due(), Some(Some(start + PROVIDE_INTERVAL)));
        assert_eq!(providing.take(&trees(3), start + PROVIDE_INTERVAL), (trees(3), true));
        assert_eq!(providing.due(), None);
    }

    #[test]
    fn who_is_back_is_told_sooner_and_within_bounds() {
        let (mut providing, start) = (Providing::default(), Instant::now());
        providing.owe(Owed::default());
        providing.take(&trees(1), start);
        providing.owe(Owed { everything: false, reunited: true });
        assert_eq!(providing.take(&trees(1), start + Duration::from_secs(1)).0, trees(0));
        assert_eq!(providing.due(), Some(Some(start + PROVIDE_INTERVAL_REUNITED)));
        assert_eq!(providing.take(&trees(1), start + PROVIDE_INTERVAL_REUNITED).0, trees(1));
        assert_eq!(providing.due(), None, "once for a loss");
    }
}
