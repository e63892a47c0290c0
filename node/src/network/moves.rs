//! Copies of records on their way to those who are to hold them: between [`Moves`](crate::heads::moves::Moves), which says to
//! whom, and the DHT.

use libp2p::{
    PeerId,
    kad::{KBucketKey, PutRecordError, PutRecordResult, Quorum, RecordKey, store::RecordStore},
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::{Metrics, dht::Query, driver::Driver, kademlia};
use crate::heads::moves::{HOLDERS, Moves};

/// Records that are looked at in one pulse of the loop, which is half a second.
const LOOKS_MAX: usize = 32;
/// Records whose copies are on their way at once.
const MOVING_MAX: usize = 16;

/// The records held here, and how late their renewal is.
pub(super) struct Moving {
    pub(super) moves: Moves,
    lag: Gauge,
}

impl Moving {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let lag = Gauge::default();
        let help = "Seconds since the oldest record held here was due to be renewed by this node";
        metrics.register("dht", |registry| registry.register("renewal_lag_seconds", help, lag.clone()));
        Self { moves: Moves::default(), lag }
    }

    /// Notes that a record came, or came again.
    pub(super) fn came(&mut self, key: &RecordKey, kad: &mut kademlia::Behaviour, now: Instant) {
        self.moves.came(key.as_ref(), &kad.nearest(key, now), now);
    }

    /// Notes who took a copy.
    pub(super) fn gave(&mut self, key: &RecordKey, to: Vec<PeerId>, result: PutRecordResult, now: Instant) {
        let taken_by = match result {
            Ok(_) => to,
            Err(PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. }) => {
                success
            }
        };
        self.moves.gave(key.as_ref(), &taken_by, now);
    }
}

impl Driver {
    /// Gives copies of the records held here to those who are to hold them now.
    pub(super) fn move_records(&mut self) {
        if self.swarm.behaviour_mut().kad.take_routing_changed() {
            self.moving.moves.changed();
        }
        let now = Instant::now();
        let lag = self.moving.moves.lag(now).as_secs();
        self.moving.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        let own = KBucketKey::from(*self.swarm.local_peer_id());
        let mut moving = self.queries.values().filter(|query| matches!(query, Query::Move(..))).count();
        for _ in 0..LOOKS_MAX {
            if moving >= MOVING_MAX || !self.room_for_query() {
                return;
            }
            let Some(key) = self.moving.moves.next(now) else { return };
            let key = RecordKey::from(key);
            let kad = &mut self.swarm.behaviour_mut().kad;
            let Some(record) = kad.store_mut().get(&key).map(|record| record.into_owned()) else { continue };
            let mut nearest = kad.nearest(&key, now);
            nearest.truncate(HOLDERS);
            let target = KBucketKey::new(key.clone());
            let distance = target.distance(&own);
            let nearer =
                nearest.iter().filter(|peer| target.distance(&KBucketKey::from(**peer)) < distance).count();
            let to = self.moving.moves.look(key.as_ref(), &nearest, nearer, now);
            if to.is_empty() {
                continue;
            }
            tracing::debug!(copies = to.len(), "copies of a record go to its new holders");
            let id = kad.put_record_to(record, to.clone().into_iter(), Quorum::All);
            self.queries.insert(id, Query::Move(key, to));
            moving += 1;
        }
    }
}
