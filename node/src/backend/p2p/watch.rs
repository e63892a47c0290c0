//! Watches what changes without anybody telling: the wall clock, and nodes with the key of this one. Says it in the log once, and
//! does at once what had to wait for the clock to be right, or for the other node to be gone.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::node::Node;

/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often peers are asked while the clock cannot be signed by, or another node runs with the key of this one.
const ASK_INTERVAL: Duration = Duration::from_secs(15);
/// How long the heads of peers may take to be read again once the clock is right.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is said in the log that heads of others were refused: once for all of them, so that nobody can fill it.
const REFUSED_INTERVAL: Duration = Duration::from_secs(60);

/// Looks until the node stops.
pub(super) async fn watch(node: Arc<Node>) {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut was_off, mut was_signing, mut had_twin, mut asked) = (false, true, false, None::<Instant>);
    let mut refused = (Instant::now(), 0);
    loop {
        look.tick().await;
        if refused.0.elapsed() >= REFUSED_INTERVAL
            && let Ok(snapshot) = node.network.snapshot().await
        {
            let heads = snapshot.heads_refused.saturating_sub(refused.1);
            refused = (Instant::now(), snapshot.heads_refused);
            if heads > 0 {
                tracing::info!(
                    heads,
                    "heads of other peers were refused: stale, or not signed as they must be"
                );
            }
        }
        let off = node.clock_off();
        if let Some(off) = &off
            && !was_off
        {
            tracing::warn!(code = %off.code, "{} {}", off.message, off.hint);
        }
        let is_signing = node.time_to_add().is_ok();
        if (off.is_some() || !is_signing) && asked.is_none_or(|asked| asked.elapsed() >= ASK_INTERVAL) {
            // Their clocks may have been put right together with this one, and another node with the key of this one may be gone.
            asked = Some(Instant::now());
            if let Err(error) = node.network.greet().await {
                tracing::debug!(%error, "the peers were not greeted");
            }
        }
        if was_off && off.is_none() && node.is_clock_right() {
            tracing::info!("the clock is right again, as the peers say");
            let node = node.clone();
            node.clone().spawn(async move {
                if let Err(error) = node.network.reread(READ_TIMEOUT).await {
                    tracing::warn!(%error, "not all that was refused for the clock was read again");
                }
            });
        }
        if is_signing && !was_signing {
            node.outbox.notify_one();
            node.renewing.notify_one();
            node.confirming.notify_one();
        }
        let twin = node.twin();
        if let Some(twin) = &twin
            && !had_twin
        {
            tracing::warn!("{twin}");
        }
        // Where the peers are gone that said so, nobody says that it is right again.
        was_off = off.is_some() || (was_off && !node.is_clock_right());
        (was_signing, had_twin) = (is_signing, twin.is_some());
    }
}
