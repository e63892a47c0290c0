//! The DHT: what this node asks of it, and what it keeps for it.

use libp2p::{
    Multiaddr, PeerId,
    core::Endpoint,
    kad::{
        self, AddProviderPhase, GetProvidersOk, GetRecordOk, InboundRequest, K_VALUE, KBucketKey,
        ProviderRecord, PutRecordError, PutRecordPhase, QueryId, QueryInfo, QueryResult, Quorum, Record,
        store::RecordStore,
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
    handle::Sought,
    intake::{Offered, Way},
    patience::Patience,
    peers::origin_of,
    serve::Work,
};
use crate::{
    catalog,
    content::ContentId,
    heads::{self, Door, Known, Verdict},
    limits::{ADDRESSES_PER_PEER_MAX, DHT_ADDRESSES_PER_PROVIDER_MAX},
    package::PackageId,
    peers::policy,
    release::{
        choice::{Choice, compare},
        head::{VerifiedHead, dht_key},
    },
    store::Store,
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
        reply: oneshot::Sender<Sought>,
    },
    Provide(Patience, oneshot::Sender<bool>),
    Providers(mpsc::Sender<PeerId>),
    FindPeer(PeerId, oneshot::Sender<Vec<Multiaddr>>),
    /// Nobody waits: a newer record is written back to those who held an older one.
    WriteBack,
}

/// What a lookup of a head found, with what is known of the package.
pub(super) struct Answered {
    found: Vec<(Option<PeerId>, VerifiedHead)>,
    known: Known,
    /// Whether anybody answered at all.
    was_answered: bool,
    reply: oneshot::Sender<Sought>,
}

/// The head that counts among those of one package; the first two that contradict each other where some do.
fn newest<'a>(
    heads: &[&'a VerifiedHead],
) -> Result<Option<&'a VerifiedHead>, (Choice, &'a VerifiedHead, &'a VerifiedHead)> {
    let mut newest: Option<&VerifiedHead> = None;
    for (at, head) in heads.iter().copied().enumerate() {
        for before in heads[..at].iter().copied() {
            match compare(before, head) {
                choice @ (Choice::Equivocation | Choice::Fork) => return Err((choice, before, head)),
                Choice::First | Choice::Second | Choice::Same => {}
            }
        }
        if newest.is_none_or(|newest| compare(newest, head) == Choice::Second) {
            newest = Some(head);
        }
    }
    Ok(newest)
}

impl Driver {
    fn room_for_query(&self) -> bool {
        self.queries.len() + self.settling < PENDING_MAX
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
        match self.swarm.behaviour_mut().kad.put_record(record, Quorum::All) {
            Ok(id) => {
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
        // In libp2p's order, which is the same in every run; that of `queries` is not.
        let ids: Vec<QueryId> = self.swarm.behaviour().kad.iter_queries().map(|query| query.id()).collect();
        for id in ids {
            let (patience, may_end) = match self.queries.get_mut(&id) {
                Some(Query::Put(patience, _) | Query::Provide(patience, _)) => (patience, true),
                Some(Query::Get { patience, found, .. }) => (patience, !found.is_empty()),
                _ => continue,
            };
            let Some(mut lookup) = self.swarm.behaviour_mut().kad.query_mut(&id) else { continue };
            let is_searching = matches!(
                lookup.info(),
                QueryInfo::PutRecord { phase: PutRecordPhase::GetClosestPeers, .. }
                    | QueryInfo::AddProvider { phase: AddProviderPhase::GetClosestPeers, .. }
                    | QueryInfo::GetRecord { .. }
            );
            if is_searching && patience.is_over(lookup.stats().num_successes(), may_end, now) {
                tracing::debug!(stats = ?lookup.stats(), "the silent are not waited for");
                lookup.finish();
            }
        }
    }

    pub(super) fn get_head(&mut self, package: &PackageId, reply: oneshot::Sender<Sought>) {
        if !self.room_for_query() {
            return;
        }
        let id = self.swarm.behaviour_mut().kad.get_record(dht_key(package).to_vec().into());
        let patience = Patience::new(Instant::now());
        let package = package.clone();
        self.queries.insert(id, Query::Get { found: Vec::new(), package, patience, reply });
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
                    self.outbox.observer.tell(&Event::LookedUp(Lookup::of(&result, &stats)));
                }
                self.progressed(id, result, step.last, stats.num_successes() > 0)
            }
            kad::Event::InboundRequest { request } => {
                self.outbox.observer.tell(&Event::Asked);
                self.asked_to_keep(request);
            }
            _ => {}
        }
    }

    /// Keeps what another node wants this one to keep, where it may.
    fn asked_to_keep(&mut self, request: InboundRequest) {
        match request {
            InboundRequest::PutRecord { source, record: Some(record), .. } => {
                self.offered_record(source, record);
            }
            InboundRequest::AddProvider { record: Some(record) } => self.offered_provider(record),
            _ => {}
        }
    }

    fn progressed(&mut self, id: QueryId, result: QueryResult, last: bool, was_answered: bool) {
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
        if last && let Some(Query::Get { found, package, reply, .. }) = self.queries.remove(&id) {
            self.settling += 1;
            let known = move |store: &Store, _: &sync::Verified| {
                let read = store.read(|conn| Ok(catalog::known(conn, &package)?));
                read.inspect_err(|error| tracing::warn!(%error, "the catalogue was not read")).ok()
            };
            self.beside.run(known, move |known| {
                let known = known.flatten().unwrap_or_default();
                Work::Answered(Box::new(Answered { found, known, was_answered, reply }))
            });
        }
    }

    /// Answers who asked for a head, once what was found is judged.
    pub(super) fn answered(&mut self, answered: Answered) {
        self.settling -= 1;
        let Answered { found, known, was_answered, reply } = answered;
        let _ = reply.send(match self.settle(found, &known) {
            // Nobody said that there is none.
            Sought::Nothing if !was_answered => Sought::Unanswered,
            sought => sought,
        });
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
    ///
    /// Where two of them contradict each other, none is chosen, and the two go to the catalogue as proof.
    fn settle(&mut self, found: Vec<(Option<PeerId>, VerifiedHead)>, known: &Known) -> Sought {
        let now = Timestamp::now();
        let judged =
            found.iter().map(|(peer, head)| (*peer, head, heads::offer(Door::Answer, head, known, now)));
        let judged: Vec<(Option<PeerId>, &VerifiedHead, Verdict)> = judged.collect();
        for (peer, head, verdict) in &judged {
            self.carry_out(Door::Answer, *peer, head, *verdict, known.listed.as_ref());
        }
        // What was seen before decides between a chain of keys and its fork. Where it speaks against all of them, whoever
        // asked is told so.
        let mut heads: Vec<&VerifiedHead> = judged
            .iter()
            .filter(|(.., verdict)| !verdict.standing.is_refused())
            .map(|(_, head, _)| *head)
            .collect();
        if heads.is_empty() {
            heads = judged.iter().map(|(_, head, _)| *head).collect();
        }
        let newest = match newest(&heads) {
            Ok(newest) => newest,
            Err((choice, first, second)) => {
                tracing::warn!(package = %first.package_id(), ?choice, "heads in the DHT contradict each other");
                if heads::proves(first, second, known).is_some() {
                    self.prove(first.clone(), second.clone(), known.is_frozen);
                }
                return Sought::Contradiction;
            }
        };
        let Some(newest) = newest else { return Sought::Nothing };
        let behind: Vec<PeerId> = found
            .iter()
            .filter(|(_, head)| compare(newest, head) == Choice::First)
            .filter_map(|(peer, _)| *peer)
            .collect();
        if !behind.is_empty() && self.room_for_query() {
            let record = Record::new(newest.dht_key().to_vec(), newest.bytes().to_vec());
            let id = self.swarm.behaviour_mut().kad.put_record_to(record, behind.into_iter(), Quorum::One);
            self.queries.insert(id, Query::WriteBack);
        }
        Sought::Found(Box::new(newest.clone()))
    }

    /// Keeps two heads that a lookup found as a proof, and tells others of them.
    fn prove(&mut self, first: VerifiedHead, second: VerifiedHead, is_known: bool) {
        if !is_known && self.admits_proof() {
            self.announce(first.bytes().to_vec());
            self.announce(second.bytes().to_vec());
        }
        self.beside.run(
            move |store, _| sync::convict(store, &first, &second, Timestamp::now()),
            |kept| {
                if let Some(Err(error)) = kept {
                    tracing::warn!(%error, "a proof against a publisher was not written");
                }
                Work::Kept
            },
        );
    }

    /// Takes a value record to be judged before it is kept.
    fn offered_record(&mut self, from: PeerId, record: Record) {
        // Holders send each other all that they hold, again and again.
        let store = self.swarm.behaviour_mut().kad.store_mut();
        if store.renew(&record) {
            self.outbox.observer.tell(&Event::Kept { from });
            return;
        }
        let held = store.get(&record.key).map(|held| held.value.clone());
        let bytes = record.value.clone();
        self.offer(Offered { from, bytes, way: Way::Record { record, held } });
    }

    /// Keeps a record that was judged to be newer than `held`, which was here when it came.
    pub(super) fn keep_record(&mut self, from: PeerId, record: Record, held: Option<Vec<u8>>) {
        let store = self.swarm.behaviour_mut().kad.store_mut();
        let holds = store.get(&record.key).map(|held| held.value.clone());
        if holds != held {
            // Another one came meanwhile.
            let bytes = record.value.clone();
            self.offer(Offered { from, bytes, way: Way::Record { record, held: holds } });
            return;
        }
        match store.put_from(from, Record { publisher: None, ..record }) {
            Ok(()) => self.outbox.observer.tell(&Event::Kept { from }),
            Err(error) => tracing::debug!(peer = %from, %error, "a record found no room"),
        }
    }

    /// Judges a provider record before it is kept. That the provider is the sender, libp2p has checked.
    fn offered_provider(&mut self, mut record: ProviderRecord) {
        let key = record.key.to_vec();
        if key.len() != PROVIDER_KEY_BYTES || key[..2] != [0x12, 0x20] {
            return;
        }
        let reached_at = self.peers.reached_at(&record.provider);
        let origin = origin_of(&reached_at);
        record.addresses.retain(|told| policy::acceptable(told, origin).is_ok());
        if record.addresses.is_empty() {
            // A provider that is no server stands in no routing table, and libp2p tells nobody of one without an address.
            record.addresses =
                self.peers.get(&record.provider).map_or_else(Vec::new, |peer| peer.told.clone());
        }
        record.addresses.truncate(DHT_ADDRESSES_PER_PROVIDER_MAX);
        let provider = record.provider;
        let store = self.swarm.behaviour_mut().kad.store_mut();
        let is_renewal = store.providers(&record.key).iter().any(|held| held.provider == provider);
        match store.add_provider(record) {
            Ok(()) => {
                self.outbox.observer.tell(&Event::Kept { from: provider });
                if !is_renewal {
                    self.outbox.tell(Event::Claimed { peer: provider, multihash: key });
                }
            }
            Err(error) => tracing::debug!(peer = %provider, %error, "a provider record found no room"),
        }
    }

    /// Renews the leases of the value records that this node is still one of the nearest to, and drops what lapsed.
    pub(super) fn sweep_records(&mut self) {
        let local = KBucketKey::from(*self.swarm.local_peer_id());
        let kad = &mut self.swarm.behaviour_mut().kad;
        for key in kad.store_mut().due() {
            let target = KBucketKey::new(key.clone());
            let farthest = kad.get_closest_local_peers(&target).nth(K_VALUE.get() - 1);
            if farthest.is_none_or(|farthest| local.distance(&target) < farthest.distance(&target)) {
                kad.store_mut().renew_lease(&key);
            }
        }
        let records = kad.store_mut();
        records.sweep_values();
        records.sweep_providers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::{Codec, ContentId},
        identity::{Publisher, SecretKey},
        package::PackageId,
        release::{Head, Kind, Labels, Log, Release},
    };

    fn head(publisher: &Publisher, versions: &[&str]) -> VerifiedHead {
        let now = Timestamp::from_secs(1_700_000_000);
        let mut log = Log::empty(PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() });
        for version in versions {
            let id = |codec| ContentId::of(codec, version.as_bytes());
            let (manifest, root) = (id(Codec::Raw), id(Codec::DagPb));
            let release = Release { version: version.parse().unwrap(), manifest, root, size: 1, files: 1 };
            log.push(log.next(Kind::Release(release), publisher, now).unwrap()).unwrap();
        }
        let head = Head::of(&log, Labels::default(), publisher).unwrap();
        head.sign(publisher).unwrap()
    }

    #[test]
    fn of_heads_that_contradict_each_other_none_is_the_newest() {
        let publisher = Publisher::from_secret([1; 32], Timestamp::from_secs(1_700_000_000));
        let (old, new) = (head(&publisher, &["1.0.0"]), head(&publisher, &["1.0.0", "1.1.0"]));
        assert_eq!(newest(&[]), Ok(None));
        assert_eq!(newest(&[&old, &new, &old]), Ok(Some(&new)));
        let (one, other) =
            (head(&publisher, &["1.0.0", "1.2.0"]), head(&publisher, &["1.0.0", "1.1.0", "1.2.0"]));
        assert_eq!(newest(&[&new, &one]), Err((Choice::Equivocation, &new, &one)));
        assert_eq!(
            newest(&[&other, &one, &new]),
            Err((Choice::Equivocation, &one, &new)),
            "also behind a newer one"
        );
        let rotated =
            |seed| publisher.rotated(SecretKey::from_bytes(&[seed; 32]), Timestamp::from_secs(1)).unwrap();
        let (owner, thief) = (head(&rotated(2), &["1.0.0"]), head(&rotated(3), &["1.0.0"]));
        assert_eq!(newest(&[&owner, &thief]), Err((Choice::Fork, &owner, &thief)));
    }
}
