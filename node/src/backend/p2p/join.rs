//! Joining the network, and coming back to it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use rand::SeedableRng;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    home::{self, InProgress, Lack},
    node::Node,
};
use crate::{
    config::Role,
    network::DialFailure,
    peers::{
        Redial, address_book,
        limits::REDIAL_AT_START_MAX,
        policy,
        redial::{Need, REFRESH},
    },
};

/// How long one dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the dial of a name may keep it from being resolved and dialled again: it may hang at an address that the name no longer
/// leads to. What hangs goes on beside, and may still succeed.
const NAME_DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long filling the routing table may take.
const BOOTSTRAP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a verb waits for the first dials of a node that has just started: a dial and its handshakes on a slow line.
const ENTRANCE_PATIENCE: Duration = Duration::from_secs(5);

/// How far a node is on its first way into the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entering {
    /// It has dialled since then, and nobody has answered yet.
    Since(Instant),
    /// Somebody answered, or everybody was dialled in vain, or there is nobody to dial.
    Decided,
}

impl Node {
    /// Waits while nobody is connected and those that are dialled first may still answer: for `most` at the longest, and no longer than
    /// a few seconds after the start. False where that is still open.
    ///
    /// # Cancel safety
    /// Loses nothing when dropped.
    pub(super) async fn await_entrance(&self, most: Duration) -> bool {
        let mut entering = self.entering.subscribe();
        let Entering::Since(since) = *entering.borrow() else { return true };
        if !self.is_alone().await {
            return true;
        }
        let until = (since + ENTRANCE_PATIENCE).min(Instant::now() + most);
        let decided = entering.wait_for(|entering| *entering == Entering::Decided);
        timeout_at(until, decided).await.is_ok() || !self.is_alone().await
    }

    /// What helps a node that is connected with nobody.
    pub(super) fn ways_in(&self) -> String {
        let entrances = match self.config().entry_points().is_empty() {
            true => "No bootstrap node is configured. Name one, then run this again",
            false => {
                "The bootstrap nodes do not answer; what is wrong with them: ggen marketplace p2p doctor\nOr name another one"
            }
        };
        format!(
            "{entrances}: ggen marketplace p2p config set bootstrap_nodes <ADDRESS>\n\
             A node that runs joins at once with: ggen marketplace p2p bootstrap <ADDRESS>"
        )
    }
}

/// How often it is looked whether this node lacks somebody.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// Dials the bootstrap list and the peers of earlier days until there is somebody to ask for others, and the list again from time to time.
pub(super) async fn join(node: Arc<Node>) {
    let started = Instant::now();
    #[expect(
        clippy::disallowed_methods,
        reason = "the driver's side: seeds the generator that the pure part is given"
    )]
    let mut generator = rand::rngs::StdRng::from_rng(&mut rand::rng());
    let entry_points: BTreeSet<Multiaddr> = node.config().entry_points().into_iter().collect();
    let mut redial = Redial::new(node.config().entry_points());
    // Those that are dialled first, and have neither answered nor failed yet.
    let mut first = entry_points.clone();
    for address in saved(&node).await {
        first.insert(address.clone());
        redial.add(address);
    }
    if first.is_empty() {
        node.entering.send_replace(Entering::Decided);
    }
    let mut dials: FuturesUnordered<BoxFuture<'static, Dialled>> = FuturesUnordered::new();
    let (mut in_progress, mut reported) = (InProgress::default(), BTreeSet::new());
    let reached_so_far = Arc::new(AtomicU64::new(0));
    let (is_spoke, is_told) = (node.config().role == Role::Spoke, !entry_points.is_empty());
    let mut lacked = 0;
    // Those of the configuration that were not reached when they were dialled last.
    let mut unanswered: BTreeSet<Multiaddr> = BTreeSet::new();
    loop {
        let snapshot = node.network.snapshot().await.ok();
        let lack = snapshot.as_ref().map_or(Lack::NOTHING, |snapshot| match is_spoke {
            true => Lack::of_spoke(is_told, snapshot),
            // One that holds as many connections as it wants was let go by a bootstrap node that holds too many, and is on no island.
            false => {
                let is_small = snapshot.peers.len() < super::node::marks(&node.config()).low;
                Lack::of_node(is_told && is_small, snapshot)
            }
        });
        let (wanted, need) = (lack.wanted(), lack.need(is_spoke));
        if wanted > lacked {
            // Peers that were met in the meantime.
            for address in saved(&node).await {
                redial.add(address);
            }
        }
        lacked = wanted;
        node.set_without_entrance(is_told && lack.entry_point && unanswered.len() == entry_points.len());
        let now = started.elapsed();
        let mut next = now + LOOK_AFTER;
        loop {
            let step = redial.poll(now, need, &mut generator);
            next = next.min(step.next.unwrap_or(next));
            // Again, because an address that is put back may have kept another one from being named.
            if step.dial.is_empty() {
                break;
            }
            for address in step.dial {
                let is_entry_point = entry_points.contains(&address);
                if is_spoke {
                    let held = |snapshot| home::is_held(snapshot, lack, is_entry_point, &address);
                    let wait = match snapshot.as_ref().is_some_and(held) {
                        true => Some(now + LOOK_AFTER),
                        false => in_progress.wait(lack, is_entry_point, now),
                    };
                    // A spoke dials no more hubs than it lacks; the others have their turn where those do not answer.
                    if let Some(until) = wait {
                        // The hub that is lost next is missed at once.
                        redial.put_back(&address, if wanted > 0 { until } else { now }, until);
                        continue;
                    }
                    in_progress.begun(address.clone(), is_entry_point, now);
                } else if need == Need::Company
                    && snapshot.as_ref().is_some_and(|it| home::is_idle(it, is_entry_point, &address))
                {
                    redial.put_back(&address, now + LOOK_AFTER, now + REFRESH);
                    continue;
                }
                dials.push(dial(&node, address, &mut reported));
            }
        }
        tokio::select! { biased;
            Some((address, outcome)) = dials.next(), if !dials.is_empty() => {
                let reached = outcome.is_ok();
                if entry_points.contains(&address) {
                    node.note_stranger(&address, outcome.err().flatten());
                }
                in_progress.ended(&address);
                first.remove(&address);
                if reached || first.is_empty() {
                    node.entering.send_if_modified(|entering| std::mem::replace(entering, Entering::Decided) != Entering::Decided);
                }
                redial.ended(&address, reached, started.elapsed(), &mut generator);
                if reached {
                    unanswered.remove(&address);
                } else if entry_points.contains(&address) {
                    unanswered.insert(address);
                }
                if reached {
                    fill_table(&node, &reached_so_far);
                }
            }
            () = sleep_until(started + next) => {}
        }
    }
}

/// What became of a dial; where it failed, which other peer answered, if one did.
type Dialled = (Multiaddr, Result<(), Option<PeerId>>);

fn dial(
    node: &Arc<Node>,
    address: Multiaddr,
    reported: &mut BTreeSet<Multiaddr>,
) -> BoxFuture<'static, Dialled> {
    let network = node.network.clone();
    let timeout = if policy::is_name(&address) { NAME_DIAL_TIMEOUT } else { DIAL_TIMEOUT };
    // The first failure of an address is worth a line; that it goes on failing is not.
    let first = reported.insert(address.clone());
    async move {
        match network.dial(address.clone(), timeout).await {
            Ok(peer) => {
                tracing::info!(%peer, %address, "connected");
                (address, Ok(()))
            }
            // A list that names all entrances names this node too, where it is one.
            Err(DialFailure::Own) => (address, Ok(())),
            Err(error) => {
                let said = error.beside(&address.to_string());
                match first {
                    true => {
                        tracing::warn!(%address, error = said, "a peer was not reached; it is tried again")
                    }
                    false => tracing::debug!(%address, error = said, "a peer was not reached"),
                }
                let stranger = match error {
                    DialFailure::WrongPeer { obtained, .. } => Some(obtained),
                    _ => None,
                };
                (address, Err(stranger))
            }
        }
    }
    .boxed()
}

/// Looks for more peers once there is one to ask; of dials that succeed together, the last one does it for all.
fn fill_table(node: &Arc<Node>, reached_so_far: &Arc<AtomicU64>) {
    let (network, reached_so_far) = (node.network.clone(), reached_so_far.clone());
    let reached = reached_so_far.fetch_add(1, Ordering::Relaxed) + 1;
    node.spawn(async move {
        // The first peer enters the routing table when it has said who it is.
        network.heads_read(Duration::from_secs(5)).await;
        if reached_so_far.load(Ordering::Relaxed) != reached {
            return;
        }
        if let Err(error) = network.bootstrap(BOOTSTRAP_TIMEOUT).await {
            tracing::debug!(%error, "the routing table was not filled");
        }
    });
}

async fn saved(node: &Node) -> Vec<Multiaddr> {
    let now = node.now();
    let best = match node.config().role {
        Role::Spoke => address_book::best_servers,
        _ => address_book::best,
    };
    let best = node.with_store(move |store| store.read(|conn| Ok(best(conn, REDIAL_AT_START_MAX, now)?)));
    match best.await {
        Ok(best) => best.iter().flat_map(|saved| saved.dialable().take(2).collect::<Vec<_>>()).collect(),
        Err(failure) => {
            tracing::warn!(failure.message, "the peers of earlier days are not known");
            Vec::new()
        }
    }
}
