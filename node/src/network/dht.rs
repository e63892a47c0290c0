//! The DHT: what this node asks of it, and what it keeps for it.

use libp2p::{
    Multiaddr, PeerId,
    core::Endpoint,
    kad::{
        self, AddProviderPhase, GetProvidersOk, GetRecordOk, InboundRequest, ProviderRecord, PutRecordError,
        PutRecordPhase, QueryId, QueryInfo, QueryResult, Quorum, Record, store::RecordStore,
    },
    swarm::{ConnectionId, NetworkBehaviour},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Event, Lookup,
    driver::{Driver, PENDING_MAX},
    events::origin_of,
    patience::Patience,
};
use crate::{
    code::Code,
    content::ContentId,
    limits::{ADDRESSES_PER_PEER_MAX, DHT_ADDRESSES_PER_PROVIDER_MAX},
    package::PackageId,
    peers::policy,
    release::{
        choice::{Choice, compare},
        head::{VerifiedHead, dht_key},
    },
    sync,
    time::Timestamp,
};

/// Copies of one record that a lookup looks at.
const COPIES_MAX: usize = 64;
/// Providers whose addresses are kept after the lookup that found them.
const WHEREABOUTS_MAX: usize = 256;
/// Bytes of a provider key: the multihash of a SHA-256.
const PROVIDER_KEY_BYTES: usize = 34;

/// A lookup under way, and who waits for it.
pub(super) enum Query {
    Bootstrap(oneshot::Sender<bool>),
    Put(Patience, oneshot::Sender<usize>),
    Get {
        found: Vec<(Option<PeerId>, VerifiedHead)>,
        package: PackageId,
        patience: Patience,
        reply: oneshot::Sender<Option<Box<VerifiedHead>>>,
    },
    Provide(Patience, oneshot::Sender<bool>),
    Providers(mpsc::Sender<PeerId>),
    FindPeer(PeerId, oneshot::Sender<Vec<Multiaddr>>),
    /// Nobody waits: a newer record is written back to those who held an older one.
    WriteBack,
}

impl Driver {
    fn room_for_query(&self) -> bool {
        self.queries.len() < PENDING_MAX
    }

    pub(super) fn bootstrap(&mut self, reply: oneshot::Sender<bool>) {
        match self.swarm.behaviour_mut().kad.bootstrap() {
            Ok(id) => {
                self.queries.insert(id, Query::Bootstrap(reply));
            }
            Err(_) => {
                let _ = reply.send(false);
            }
        }
    }

    pub(super) fn put_head(&mut self, head: VerifiedHead, reply: oneshot::Sender<usize>) {
        if !self.room_for_query() {
            return;
        }
        let record = Record::new(head.dht_key().to_vec(), head.bytes().to_vec());
        // All: the answer then names every node that took the record, where there are fewer than the full number.
        let (key, kad) = (record.key.clone(), &mut self.swarm.behaviour_mut().kad);
        match kad.put_record(record, Quorum::All) {
            Ok(id) => {
                kad.store_mut().lapses(&key, head.head().expires);
                self.queries.insert(id, Query::Put(Patience::new(Instant::now()), reply));
            }
            Err(error) => tracing::warn!(%error, "a head of ours found no room in our own record store"),
        }
    }

    /// How many nodes have taken this head so far, where it is still being stored.
    pub(super) fn stored(&self, head: &VerifiedHead) -> usize {
        let taken = self.swarm.behaviour().kad.iter_queries().map(|query| match query.info() {
            QueryInfo::PutRecord { record, phase: PutRecordPhase::PutRecord { success, .. }, .. }
                if record.value == head.bytes() =>
            {
                success.len()
            }
            _ => 0,
        });
        taken.max().unwrap_or(0)
    }

    /// Ends the search for the nodes nearest to a record where only the silent are still waited for: it goes to those that
    /// answered. So does the search for a head that somebody has brought already. The dead are many in a network that has just
    /// lost some, and each would take its whole timeout: longer than anybody waits for a head.
    pub(super) fn leave_the_silent(&mut self) {
        let now = Instant::now();
        for (id, query) in &mut self.queries {
            let patience = match query {
                Query::Put(patience, _) | Query::Provide(patience, _) => patience,
                Query::Get { patience, found, .. } if !found.is_empty() => patience,
                _ => continue,
            };
            let Some(mut lookup) = self.swarm.behaviour_mut().kad.query_mut(id) else { continue };
            let is_searching = matches!(
                lookup.info(),
                QueryInfo::PutRecord { phase: PutRecordPhase::GetClosestPeers, .. }
                    | QueryInfo::AddProvider { phase: AddProviderPhase::GetClosestPeers, .. }
                    | QueryInfo::GetRecord { .. }
            );
            if is_searching && patience.is_over(lookup.stats().num_successes(), now) {
                tracing::debug!(stats = ?lookup.stats(), "the silent are not waited for");
                lookup.finish();
            }
        }
    }

    pub(super) fn get_head(
        &mut self,
        package: &PackageId,
        reply: oneshot::Sender<Option<Box<VerifiedHead>>>,
    ) {
        if !self.room_for_query() {
            return;
        }
        let id = self.swarm.behaviour_mut().kad.get_record(dht_key(package).to_vec().into());
        let patience = Patience::new(Instant::now());
        self.queries.insert(id, Query::Get { found: Vec::new(), package: package.clone(), patience, reply });
    }

    pub(super) fn provide(&mut self, root: ContentId, reply: oneshot::Sender<bool>) {
        match self.swarm.behaviour_mut().kad.start_providing(root.multihash_bytes().into()) {
            Ok(id) => {
                self.queries.insert(id, Query::Provide(Patience::new(Instant::now()), reply));
            }
            Err(error) => {
                tracing::warn!(%error, "a tree of ours found no room in our own provider records");
                let _ = reply.send(false);
            }
        }
    }

    pub(super) fn stop_providing(&mut self, root: ContentId) {
        self.swarm.behaviour_mut().kad.stop_providing(&root.multihash_bytes().into());
    }

    pub(super) fn providers(&mut self, root: ContentId, found: mpsc::Sender<PeerId>) {
        if !self.room_for_query() {
            return;
        }
        let id = self.swarm.behaviour_mut().kad.get_providers(root.multihash_bytes().into());
        self.queries.insert(id, Query::Providers(found));
    }

    pub(super) fn find_peer(&mut self, peer: PeerId, reply: oneshot::Sender<Vec<Multiaddr>>) {
        if !self.room_for_query() {
            return;
        }
        let id = self.swarm.behaviour_mut().kad.get_closest_peers(peer);
        self.queries.insert(id, Query::FindPeer(peer, reply));
    }

    pub(super) fn kad_event(&mut self, event: kad::Event) {
        self.routing_gained(&event);
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, stats } => {
                // Filling the table is one lookup for each place that is asked for.
                if step.last || matches!(result, QueryResult::Bootstrap(_)) {
                    self.observer.tell(&Event::LookedUp(Lookup::of(&result, &stats)));
                }
                self.progressed(id, result, step.last)
            }
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            } => {
                self.offered_record(source, record);
            }
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                self.offered_provider(record);
            }
            _ => {}
        }
    }

    fn progressed(&mut self, id: QueryId, result: QueryResult, last: bool) {
        if let QueryResult::Bootstrap(Ok(ok)) = &result
            && ok.num_remaining == 0
        {
            self.last_bootstrap = Some(Timestamp::now());
        }
        match (result, self.queries.get_mut(&id)) {
            (
                QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(record))),
                Some(Query::Get { found, package, .. }),
            ) => {
                if found.len() < COPIES_MAX
                    && let Ok(head) = VerifiedHead::verify(&record.record.value, Timestamp::now())
                    && head.package_id() == *package
                {
                    found.push((record.peer, head));
                }
            }
            (
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
                Some(Query::Providers(found)),
            ) => {
                let mut providers: Vec<PeerId> = providers.into_iter().collect();
                providers.sort();
                for provider in providers {
                    self.providers_met.push(provider);
                    // A reader that does not keep up has enough providers already.
                    let _ = found.try_send(provider);
                }
            }
            (QueryResult::GetClosestPeers(result), Some(Query::FindPeer(..))) => {
                let near = match result {
                    Ok(ok) => ok.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                if let Some(Query::FindPeer(peer, reply)) = self.queries.remove(&id) {
                    let addresses = near.into_iter().find(|it| it.peer_id == peer).map(|it| it.addrs);
                    let mut addresses = addresses.unwrap_or_default();
                    addresses.truncate(ADDRESSES_PER_PEER_MAX);
                    let _ = reply.send(addresses);
                }
            }
            (QueryResult::PutRecord(result), Some(Query::Put(..))) => {
                if let Some(Query::Put(_, reply)) = self.queries.remove(&id) {
                    let _ = reply.send(match result {
                        Ok(_) => kad::K_VALUE.get(),
                        Err(
                            PutRecordError::QuorumFailed { success, .. }
                            | PutRecordError::Timeout { success, .. },
                        ) => success.len(),
                    });
                }
            }
            (QueryResult::StartProviding(result), Some(Query::Provide(..))) => {
                if let Some(Query::Provide(_, reply)) = self.queries.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            (QueryResult::Bootstrap(result), Some(Query::Bootstrap(_))) if last => {
                if let Some(Query::Bootstrap(reply)) = self.queries.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            _ => {}
        }
        self.keep_addresses();
        if last && let Some(Query::Get { found, reply, .. }) = self.queries.remove(&id) {
            let newest = self.settle(found);
            let _ = reply.send(newest.map(Box::new));
        }
    }

    /// Keeps where the providers are that a lookup has just found: libp2p forgets it at the end of the lookup, and those that
    /// are no servers are found by no other one.
    fn keep_addresses(&mut self) {
        if self.providers_met.is_empty() {
            return;
        }
        for peer in std::mem::take(&mut self.providers_met) {
            let kad = &mut self.swarm.behaviour_mut().kad;
            // What a dial would be given now, while the lookup is under way: judged by who told of it.
            let asked = kad.handle_pending_outbound_connection(
                ConnectionId::new_unchecked(0),
                Some(peer),
                &[],
                Endpoint::Dialer,
            );
            let mut addresses = asked.unwrap_or_default();
            addresses.truncate(DHT_ADDRESSES_PER_PROVIDER_MAX);
            self.whereabouts.retain(|(known, _)| *known != peer);
            self.whereabouts.push_back((peer, addresses));
            if self.whereabouts.len() > WHEREABOUTS_MAX {
                self.whereabouts.pop_front();
            }
        }
    }

    /// Chooses the newest of the heads that a lookup found and writes it back to those who returned an older one.
    fn settle(&mut self, found: Vec<(Option<PeerId>, VerifiedHead)>) -> Option<VerifiedHead> {
        let newest = found
            .iter()
            .map(|(_, head)| head)
            .reduce(|best, head| if compare(best, head) == Choice::Second { head } else { best })?
            .clone();
        let behind: Vec<PeerId> = found
            .iter()
            .filter(|(_, head)| compare(&newest, head) == Choice::First)
            .filter_map(|(peer, _)| *peer)
            .collect();
        if !behind.is_empty() && self.room_for_query() {
            let record = Record::new(newest.dht_key().to_vec(), newest.bytes().to_vec());
            let id = self.swarm.behaviour_mut().kad.put_record_to(record, behind.into_iter(), Quorum::One);
            self.queries.insert(id, Query::WriteBack);
        }
        for (peer, head) in found {
            self.accept(peer, head);
        }
        Some(newest)
    }

    /// Judges a value record before it is kept.
    fn offered_record(&mut self, source: PeerId, record: Record) {
        if !self.pace.admits_record(source, Instant::now()) {
            return;
        }
        // Holders send each other all that they hold, again and again.
        if self.swarm.behaviour_mut().kad.store_mut().renew(&record, Timestamp::now()) {
            return;
        }
        let head = match VerifiedHead::verify(&record.value, Timestamp::now()) {
            Ok(head) => head,
            Err(error) => {
                self.heads_refused += 1;
                tracing::debug!(peer = %source, code = %error.code(), %error, "a record was refused");
                // Every honest node has verified what it passes on.
                if error.code() == Code::Signature {
                    self.block(source, "it stores forged heads in the DHT".to_owned());
                }
                return;
            }
        };
        if record.key.as_ref() != head.dht_key().as_slice() {
            self.heads_refused += 1;
            tracing::debug!(peer = %source, "a record stands under a key that is not its own");
            return;
        }
        if let Err((code, error)) = sync::admissible(&self.store, &head) {
            self.heads_refused += 1;
            tracing::debug!(peer = %source, %code, error, "a record was refused");
            self.convict(source, code, head);
            return;
        }
        let store = self.swarm.behaviour_mut().kad.store_mut();
        let held =
            store.get(&record.key).and_then(|held| VerifiedHead::verify(&held.value, Timestamp::now()).ok());
        let newer = held.is_none_or(|held| compare(&held, &head) == Choice::Second);
        let record = Record { publisher: None, ..record };
        if newer && let Err(error) = store.put_from(source, record, head.head().expires) {
            tracing::debug!(peer = %source, %error, "a record found no room");
        }
        self.accept(Some(source), head);
    }

    /// Judges a provider record before it is kept. That the provider is the sender, libp2p has checked.
    fn offered_provider(&mut self, mut record: ProviderRecord) {
        if !self.pace.admits_record(record.provider, Instant::now()) {
            return;
        }
        let key = record.key.to_vec();
        if key.len() != PROVIDER_KEY_BYTES || key[..2] != [0x12, 0x20] {
            return;
        }
        let reached_at: Vec<Multiaddr> = self.peers.get(&record.provider).map_or_else(Vec::new, |peer| {
            peer.connections.values().map(|(address, _)| address.clone()).collect()
        });
        let origin = origin_of(&reached_at);
        record.addresses.retain(|told| policy::acceptable(told, origin).is_ok());
        if record.addresses.is_empty() {
            // A provider that is no server stands in no routing table, and libp2p tells nobody of one without an address.
            record.addresses =
                self.peers.get(&record.provider).map_or_else(Vec::new, |peer| peer.told.clone());
        }
        record.addresses.truncate(DHT_ADDRESSES_PER_PROVIDER_MAX);
        let provider = record.provider;
        match self.swarm.behaviour_mut().kad.store_mut().add_provider(record) {
            Ok(()) => self.emit(Event::Claimed { peer: provider, multihash: key }),
            Err(error) => tracing::debug!(peer = %provider, %error, "a provider record found no room"),
        }
    }

    /// Drops value records whose heads have expired, and provider records that lapsed.
    pub(super) fn sweep_records(&mut self) {
        let records = self.swarm.behaviour_mut().kad.store_mut();
        records.sweep_values(Timestamp::now());
        records.sweep_providers();
    }
}
