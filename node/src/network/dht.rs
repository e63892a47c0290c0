//! The DHT: what this node asks of it, and what it keeps for it.

use std::collections::BTreeSet;

use libp2p::{
    PeerId,
    kad::{
        self, ConnectionType, InboundRequest, K_VALUE, KBucketKey, KadPeer, ProviderRecord, QueryId,
        QueryResult, Quorum, Record, RecordKey, store::RecordStore,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Event, Lookup,
    command::Sought,
    driver::Driver,
    handle::{Answers, Provider},
    intake::{Offered, Way},
    kademlia::{self, Gift, Question},
    lookups::{Heads, Purpose},
    peers::origin_of,
    records,
    serve::Work,
};
use crate::{
    catalog::{self, Source},
    content::ContentId,
    heads::{
        self, Door, Known, Standing,
        copies::Copies,
        lookup::{Cost, Ended},
    },
    limits::DHT_ADDRESSES_PER_PROVIDER_MAX,
    peers::policy,
    release::head::VerifiedHead,
    store::Store,
    sync,
    time::Timestamp,
};

/// Bytes of a provider key: the multihash of a SHA-256.
const PROVIDER_KEY_BYTES: usize = 34;

/// A lookup in progress, and who waits for it.
pub(super) enum Query {
    Bootstrap(oneshot::Sender<bool>),
    /// Nobody waits: copies of a record go to those who are to hold it.
    Move(RecordKey, Vec<PeerId>),
    /// Nobody waits: a newer record is written back to those who held an older one.
    WriteBack,
}

/// What a lookup of a head found, with what is known of the package.
pub(super) struct Answered {
    heads: Heads,
    /// None where the database failed.
    known: Option<Known>,
    ended: Ended,
    cost: Cost,
}

impl Driver {
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

    /// Stores a record of ours with the nodes nearest to its key, and here; tells how many others took it.
    pub(super) fn put_record(&mut self, key: [u8; 32], value: Vec<u8>, reply: oneshot::Sender<usize>) {
        let record = Record { expires: Some(records::expiry()), ..Record::new(key.to_vec(), value) };
        let own = Record { publisher: Some(*self.swarm.local_peer_id()), expires: None, ..record.clone() };
        let kad = &mut self.swarm.behaviour_mut().kad;
        match kad.store_mut().put(own) {
            Ok(()) => {
                self.exchanging.shown.told();
                self.moving.came(&record.key, kad, Instant::now());
                self.give(record.key.clone(), Gift::Record(record), reply);
            }
            Err(error) => tracing::warn!(%error, "what we say found no room in our own record store"),
        }
    }

    /// Tells the nodes nearest to a tree that this one provides it; tells how many were reached.
    pub(super) fn provide(&mut self, root: ContentId, reply: oneshot::Sender<usize>) {
        let key = RecordKey::from(root.multihash_bytes());
        let own = *self.swarm.local_peer_id();
        let record = ProviderRecord::new(key.clone(), own, Vec::new());
        if let Err(error) = self.swarm.behaviour_mut().kad.store_mut().add_provider(record) {
            tracing::warn!(%error, "a tree of ours found no room in our own provider records");
            return;
        }
        let provider = KadPeer {
            node_id: own,
            multiaddrs: self.swarm.external_addresses().cloned().collect(),
            connection_ty: ConnectionType::Connected,
        };
        self.give(key.clone(), Gift::Provided(key, provider), reply);
    }

    fn give(&mut self, key: RecordKey, gift: Gift, reply: oneshot::Sender<usize>) {
        let deadline = Instant::now() + self.lookups.time_max();
        self.begin_lookup(Question::Nearest(key), deadline, Purpose::Give(gift, reply));
    }

    pub(super) fn stop_providing(&mut self, root: ContentId) {
        self.swarm.behaviour_mut().kad.stop_providing(&root.multihash_bytes().into());
    }

    pub(super) fn providers(&mut self, root: ContentId, deadline: Instant, found: mpsc::Sender<Provider>) {
        let question = Question::Providers(root.multihash_bytes().into());
        self.begin_lookup(question, deadline, Purpose::Providers { found, told: BTreeSet::new() });
    }

    pub(super) fn kad_event(&mut self, event: kademlia::Event) {
        let event = match event {
            kademlia::Event::Answer(answer) => return self.lookup_answered(*answer),
            kademlia::Event::Kad(event) => *event,
        };
        self.routing_gained(&event);
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, stats } => {
                // Filling the table is one lookup for each place that is asked for.
                if step.last || matches!(result, QueryResult::Bootstrap(_)) {
                    self.outbox.observer.tell(&Event::LookedUp(Lookup::of(&result, &stats)));
                }
                self.progressed(id, result, step.last)
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

    fn progressed(&mut self, id: QueryId, result: QueryResult, last: bool) {
        if let QueryResult::Bootstrap(Ok(ok)) = &result
            && ok.num_remaining == 0
        {
            self.last_bootstrap = Some(Timestamp::now());
        }
        match (result, self.queries.get_mut(&id)) {
            (QueryResult::PutRecord(result), Some(Query::Move(..))) => {
                if let Some(Query::Move(key, to)) = self.queries.remove(&id) {
                    self.moving.gave(&key, to, result, Instant::now());
                }
            }
            (QueryResult::PutRecord(_), Some(Query::WriteBack)) => drop(self.queries.remove(&id)),
            (QueryResult::Bootstrap(result), Some(Query::Bootstrap(_))) if last => {
                if let Some(Query::Bootstrap(reply)) = self.queries.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            _ => {}
        }
    }

    /// Judges beside the loop what a lookup of a head has found.
    pub(super) fn sought(&mut self, heads: Heads, ended: Ended, cost: Cost) {
        self.settling += 1;
        let package = heads.package.clone();
        let known = move |store: &Store, _: &sync::Verified| {
            let read = store.read(|conn| Ok(catalog::known(conn, &package)?));
            read.inspect_err(|error| tracing::warn!(%error, "the catalogue was not read")).ok()
        };
        self.beside.run(known, move |known| {
            Work::Answered(Box::new(Answered { heads, known: known.flatten(), ended, cost }))
        });
    }

    /// Answers who asked for a head, once what was found is judged.
    pub(super) fn answered(&mut self, answered: Answered) {
        self.settling -= 1;
        let Answered { heads, known, ended, cost } = answered;
        let sought = match known {
            Some(known) => self.settle(&heads.copies, &known),
            // What was seen may speak against all of them: it is as if nobody had been asked.
            None => Sought::CutOff(cost.answered),
        };
        let _ = heads.reply.send(match (sought, ended) {
            (Sought::Nothing, Ended::Unanswered) => Sought::Unanswered,
            (Sought::Nothing, Ended::CutOff | Ended::Silent) => Sought::CutOff(cost.answered),
            (sought, _) => sought,
        });
    }

    /// Chooses the newest of the heads that a lookup found and writes it back to those who returned an older one.
    ///
    /// Where two of them contradict each other, none is chosen, and the two go to the catalogue as proof.
    fn settle(&mut self, copies: &Copies<VerifiedHead>, known: &Known) -> Sought {
        let now = Timestamp::now();
        let offer = |head: &VerifiedHead| heads::offer(Door::Answer, head, known, now);
        for (peer, head) in copies.iter() {
            let verdict = offer(head);
            self.beside.ahead().heard(head, verdict.standing);
            self.carry_out(Door::Answer, peer, head, verdict, known.against(head));
        }
        // What was seen before decides between a chain of keys and its fork. Where it speaks against all of them, whoever
        // asked is told so.
        let newest = match copies.newest(|head| !offer(head).standing.is_refused()) {
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
        // What cannot be taken for the clock hides nothing that can.
        let may_be_taken = |head: &VerifiedHead| {
            let standing = offer(head).standing;
            !standing.is_refused() && standing != Standing::Early
        };
        let newest = match offer(newest).standing {
            Standing::Early => match copies.newest(may_be_taken) {
                Ok(Some(before)) if may_be_taken(before) => before,
                _ => return Sought::Early(newest.head().released_at),
            },
            _ => newest,
        };
        let behind = copies.behind(newest);
        // What does not count here is told to nobody.
        if !behind.is_empty() && !offer(newest).standing.is_refused() && self.room_for_query() {
            let record = Record::new(newest.dht_key().to_vec(), newest.bytes().to_vec());
            let id = self.swarm.behaviour_mut().kad.put_record_to(record, behind.into_iter(), Quorum::One);
            self.queries.insert(id, Query::WriteBack);
        }
        let peers = copies.holders_of(newest);
        let networks = policy::Locality::networks(peers.iter().map(|peer| self.peers.locality_of(peer)));
        let answers = Answers { peers: peers.len(), networks };
        Sought::Found(Box::new(newest.clone()), answers)
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
            self.moving.came(&record.key, &mut self.swarm.behaviour_mut().kad, Instant::now());
            self.outbox.observer.tell(&Event::Kept { from });
            return;
        }
        let held = store.get(&record.key).map(|held| held.value.clone());
        let bytes = record.value.clone();
        self.offer(Offered { from, bytes, way: Way::Record { record, held } });
    }

    /// Keeps a record that was judged to be newer than `held`, which was here when it came.
    pub(super) fn keep_record(&mut self, from: PeerId, record: Record, held: Option<Vec<u8>>) {
        let network = self.peers.network_of(&from);
        let store = self.swarm.behaviour_mut().kad.store_mut();
        let holds = store.get(&record.key).map(|held| held.value.clone());
        if holds != held {
            // Another one came meanwhile.
            let bytes = record.value.clone();
            self.offer(Offered { from, bytes, way: Way::Record { record, held: holds } });
            return;
        }
        let (key, record) = (record.key.clone(), Record { publisher: None, ..record });
        match store.put_from(from, network, record) {
            Ok(()) => {
                self.moving.came(&key, &mut self.swarm.behaviour_mut().kad, Instant::now());
                self.outbox.observer.tell(&Event::Kept { from });
            }
            Err(error) => tracing::debug!(peer = %from, %error, "a record found no room"),
        }
    }

    /// Judges a provider record before it is kept. That the provider is the sender, libp2p has checked.
    fn offered_provider(&mut self, mut record: ProviderRecord) {
        let key = record.key.to_vec();
        if key == kademlia::LEAVE_KEY {
            return self.took_leave(record.provider);
        }
        if key.len() != PROVIDER_KEY_BYTES || key[..2] != [0x12, 0x20] {
            return;
        }
        let reached_at = self.peers.reached_at(&record.provider);
        let origin = origin_of(&reached_at);
        policy::retain(&mut record.addresses, origin);
        if record.addresses.is_empty() {
            // A provider that is no server stands in no routing table, and libp2p tells nobody of one without an address.
            record.addresses =
                self.peers.get(&record.provider).map_or_else(Vec::new, |peer| peer.told.clone());
        }
        record.addresses.truncate(DHT_ADDRESSES_PER_PROVIDER_MAX);
        let provider = record.provider;
        let network = self.peers.network_of(&provider);
        let store = self.swarm.behaviour_mut().kad.store_mut();
        let is_renewal = store.providers(&record.key).iter().any(|held| held.provider == provider);
        match store.add_provider_from(network, record) {
            Ok(()) => {
                self.outbox.observer.tell(&Event::Kept { from: provider });
                if !is_renewal {
                    let source = Source::of(&provider, network);
                    self.outbox.tell(Event::Claimed { peer: provider, multihash: key, source });
                }
            }
            Err(error) => tracing::debug!(peer = %provider, %error, "a provider record found no room"),
        }
    }

    /// A peer leaves in good order: what it provides is provided no more, and nobody is sent to it until it is back.
    fn took_leave(&mut self, peer: PeerId) {
        tracing::debug!(%peer, "a peer leaves");
        let kad = &mut self.swarm.behaviour_mut().kad;
        kad.left(peer, Instant::now());
        kad.store_mut().remove_provider_everywhere(&peer);
        // It waits for that, so that it does not go before everybody has heard it.
        self.send_away(&peer);
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
        let records = kad.store_mut();
        self.moving.moves.retain(|key| records.holds(key));
    }
}
