//! Bans by hand.

use std::time::Duration;

use super::{failure::fail, node::Node};
use crate::{
    code::Code,
    control::{
        api::{BanRequest, BannedPeer, Bans, Failure, Happening, UnbanRequest, Unbanned},
        peer_id,
    },
    reputation::ban,
};

/// Why, where nobody says.
const REASON: &str = "banned by hand";
/// A ban that is to last permanently.
const PERMANENT: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// A ban with more than this to run is shown as a permanent one.
const LONG: Duration = Duration::from_secs(50 * 366 * 24 * 3600);
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 200;

impl Node {
    /// Refuses a peer until a time, and closes the connections to it.
    pub(super) async fn ban(&self, request: BanRequest) -> Result<BannedPeer, Failure> {
        let peer = peer_id::parse(&request.peer_id)?;
        if peer == self.network.local_peer() {
            return Err(Failure::new(
                Code::Usage,
                "This is the peer id of this node.",
                "Name another peer; see: ggen marketplace p2p peer-list",
            ));
        }
        let given = request.reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
        let reason: String =
            given.filter(|reason: &String| !reason.trim().is_empty()).unwrap_or(REASON.into());
        let length = request.secs.map_or(PERMANENT, |secs| Duration::from_secs(secs).min(PERMANENT));
        let now = self.now();
        let until = now.plus(length);
        let written = reason.clone();
        self.with_store(move |store| store.write(|tx| Ok(ban::by_hand(tx, &peer, until, &written)?))).await?;
        let connections = self.network.disconnect(peer).await.map_err(fail)?;
        self.network.block(peer, reason.clone()).await.map_err(fail)?;
        tracing::info!(%peer, reason, until = %until, "a peer is banned by hand");
        self.events.tell(now, Happening::Banned { peer_id: peer.to_string(), reason: reason.clone() });
        Ok(BannedPeer {
            peer_id: peer.to_string(),
            until: (length < LONG).then(|| until.to_string()),
            reason,
            manual: true,
            connections,
        })
    }

    /// Lists who is banned now.
    pub(super) async fn bans(&self) -> Result<Bans, Failure> {
        let now = self.now();
        let bans = self.with_store(move |store| store.read(|conn| Ok(ban::all(conn, now)?))).await?;
        let bans: Vec<BannedPeer> = bans
            .into_iter()
            .map(|(peer, ban)| BannedPeer {
                peer_id: peer.to_string(),
                until: (ban.until.since(now) < LONG).then(|| ban.until.to_string()),
                reason: ban.reason,
                manual: ban.manual,
                connections: 0,
            })
            .collect();
        Ok(Bans { total: bans.len(), bans })
    }

    /// Welcomes a peer again that is banned.
    pub(super) async fn unban(&self, request: UnbanRequest) -> Result<Unbanned, Failure> {
        let peer = peer_id::parse(&request.peer_id)?;
        let now = self.now();
        let was_banned = self
            .with_store(move |store| {
                store.write(|tx| {
                    let was_banned = ban::is_banned(tx, &peer, now)?;
                    ban::lift(tx, &peer)?;
                    Ok(was_banned)
                })
            })
            .await?;
        if !was_banned {
            return Err(Failure::new(
                Code::NotFound,
                format!("Peer {peer} is not banned."),
                "See who is: ggen marketplace p2p peer-ban",
            ));
        }
        self.network.unblock(peer).await.map_err(fail)?;
        tracing::info!(%peer, "a peer is no longer banned");
        self.events.tell(now, Happening::Unbanned { peer_id: peer.to_string() });
        Ok(Unbanned { peer_id: peer.to_string() })
    }
}
