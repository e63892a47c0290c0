//! What this node keeps for the DHT: value records and provider records, within quotas.
//!
//! libp2p's memory store refuses what comes after it is full, so that the first flood wins permanently. This one keeps what is
//! nearest to this node's own id and evicts the farthest: a flood displaces itself, and the records that lookups will ask
//! this node for stay. The order of everything is the order of keys, never of hashing.
//!
//! What a value record says holds permanently, so any node that holds one may hand it on with a lease of full length, and
//! renews its own lease for as long as it is one of the nearest: nothing here needs the publisher. The lease ends copies at nodes
//! that others are nearer than.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    kad::{
        KBucketDistance, KBucketKey, ProviderRecord, Record, RecordKey,
        store::{Error, RecordStore, Result},
    },
};

use super::diversity::Network;
use crate::limits::{
    DHT_ADDRESSES_PER_PROVIDER_MAX, DHT_KEYS_PER_NETWORK_MAX, DHT_KEYS_PER_PROVIDER_MAX,
    DHT_PROVIDED_KEYS_MAX, DHT_PROVIDERS_PER_KEY_MAX, DHT_PROVIDERS_PER_NETWORK_MAX, DHT_RECORDS_MAX,
    DHT_RECORDS_PER_NETWORK_MAX, DHT_RECORDS_PER_PEER_MAX, HEAD_BYTES_MAX,
};

/// How long a value record is kept that nobody brings again.
pub(super) const LEASE: Duration = Duration::from_secs(48 * 3600);
/// Bytes of a key: a SHA-256, or a multihash of one.
const KEY_BYTES_MAX: usize = 64;

/// The record store of one node.
#[derive(Debug)]
pub(super) struct Records {
    local: PeerId,
    values: Nearest<Value>,
    /// Keys of the value records that each peer brought, and the peers of each public network together, nearest first.
    brought: BTreeMap<Bringer, BTreeSet<(KBucketDistance, Vec<u8>)>>,
    providers: Nearest<Vec<ProviderRecord>>,
    keys_of_provider: BTreeMap<PeerId, BTreeSet<Vec<u8>>>,
    /// The public network of each provider that has a record, as it was when its first one came.
    network_of: BTreeMap<PeerId, Network>,
    /// Provider records of the peers of each public network.
    of_network: BTreeMap<Network, usize>,
    provided: BTreeMap<Vec<u8>, ProviderRecord>,
}

/// A value record.
#[derive(Debug)]
struct Value {
    record: Record,
    /// Who brought the first one under this key, and from which network; nobody for our own.
    source: Option<(PeerId, Option<Network>)>,
}

/// Whom value records are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bringer {
    Peer(PeerId),
    Network(Network),
}

impl Bringer {
    /// Those whom what comes from a peer is counted for.
    fn of((peer, network): (PeerId, Option<Network>)) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Peer(peer)).chain(network.map(Self::Network))
    }

    /// How many records it may have brought.
    fn most(self) -> usize {
        match self {
            Self::Peer(_) => DHT_RECORDS_PER_PEER_MAX,
            Self::Network(_) => DHT_RECORDS_PER_NETWORK_MAX,
        }
    }
}

impl Records {
    pub(super) fn new(local: PeerId) -> Self {
        Self {
            local,
            values: Nearest::new(local, DHT_RECORDS_MAX),
            brought: BTreeMap::new(),
            providers: Nearest::new(local, DHT_PROVIDED_KEYS_MAX),
            keys_of_provider: BTreeMap::new(),
            network_of: BTreeMap::new(),
            of_network: BTreeMap::new(),
            provided: BTreeMap::new(),
        }
    }

    /// Value records held.
    pub(super) fn len(&self) -> usize {
        self.values.by_key.len()
    }

    /// Keeps a record that `source` brought, which is reached in that network, for the time of its lease. Where the peer, or its network,
    /// has brought as many as it may, its own farthest one goes.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub(super) fn put_from(
        &mut self,
        source: PeerId,
        network: Option<Network>,
        record: Record,
    ) -> Result<()> {
        let key = record.key.to_vec();
        let held = self.values.get(&key);
        // Whoever brings again what is here already does not become answerable for it: it could have it evicted so.
        let source = held.and_then(|held| held.source).unwrap_or((source, network));
        let distance = self.values.distance(&key);
        if held.is_none_or(|held| held.source.is_none()) {
            for bringer in Bringer::of(source) {
                let brought = self.brought.get(&bringer).filter(|brought| brought.len() >= bringer.most());
                match brought.and_then(BTreeSet::last) {
                    None => {}
                    Some((farthest, far)) if *farthest > distance => {
                        let far = far.clone();
                        self.drop_value(&far);
                    }
                    Some(_) => return Err(Error::MaxRecords),
                }
            }
        }
        self.insert(Value { record, source: Some(source) })?;
        for bringer in Bringer::of(source) {
            self.brought.entry(bringer).or_default().insert((distance, key.clone()));
        }
        Ok(())
    }

    /// Keeps a record for longer that is here already, as it stands; false where it is not.
    pub(super) fn renew(&mut self, record: &Record) -> bool {
        let Some((_, held)) = self.values.by_key.get_mut(record.key.as_ref()) else { return false };
        let is_same = held.record.value == record.value;
        if is_same && held.record.publisher.is_none() {
            held.record.expires = held.record.expires.max(record.expires);
        }
        is_same
    }

    /// The value records held for others whose lease has less than half of its time left.
    pub(super) fn due(&self) -> Vec<RecordKey> {
        let soon = clock() + LEASE / 2;
        let held = self.values.by_key.values().filter(|(_, value)| value.record.is_expired(soon));
        held.map(|(_, value)| value.record.key.clone()).collect()
    }

    /// Gives a value record a lease of full length.
    pub(super) fn renew_lease(&mut self, key: &RecordKey) {
        if let Some((_, held)) = self.values.by_key.get_mut(key.as_ref()) {
            held.record.expires = Some(expiry());
        }
    }

    /// Drops the value records whose lease is over.
    pub(super) fn sweep_values(&mut self) {
        let now = clock();
        let held = self.values.by_key.iter();
        let over: Vec<Vec<u8>> =
            held.filter(|(_, (_, value))| value.record.is_expired(now)).map(|(key, _)| key.clone()).collect();
        over.iter().for_each(|key| self.drop_value(key));
    }

    fn insert(&mut self, value: Value) -> Result<()> {
        let key = &value.record.key;
        if value.record.value.len() > HEAD_BYTES_MAX || key.as_ref().len() > KEY_BYTES_MAX {
            return Err(Error::ValueTooLarge);
        }
        let key = key.to_vec();
        // What this node published itself is never evicted by what others send.
        let own = value.record.publisher == Some(self.local);
        match self.values.insert(key, value, own) {
            Inserted::Refused => Err(Error::MaxRecords),
            Inserted::Kept { evicted } => {
                evicted.iter().for_each(|(key, value)| self.forget_value(key, value));
                Ok(())
            }
        }
    }

    fn drop_value(&mut self, key: &[u8]) {
        if let Some(value) = self.values.remove(key) {
            self.forget_value(key, &value);
        }
    }

    fn forget_value(&mut self, key: &[u8], value: &Value) {
        let place = (self.values.distance(key), key.to_vec());
        for bringer in value.source.into_iter().flat_map(Bringer::of) {
            if let Some(keys) = self.brought.get_mut(&bringer) {
                keys.remove(&place);
                if keys.is_empty() {
                    self.brought.remove(&bringer);
                }
            }
        }
    }

    /// Whether a value is held under a key.
    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.values.get(key).is_some()
    }

    /// Drops all that a provider provides.
    pub(super) fn remove_provider_everywhere(&mut self, provider: &PeerId) {
        let keys: Vec<Vec<u8>> = self.keys_of_provider.get(provider).into_iter().flatten().cloned().collect();
        keys.iter().for_each(|key| self.remove_provider(&RecordKey::new(key), provider));
    }

    /// Drops the provider records that expired; libp2p does so only for keys that are asked for.
    pub(super) fn sweep_providers(&mut self) {
        let now = clock();
        let keys: Vec<Vec<u8>> = self.providers.by_key.keys().cloned().collect();
        keys.iter().for_each(|key| self.drop_lapsed(key, now));
    }

    fn drop_lapsed(&mut self, key: &[u8], now: Instant) {
        let held = self.providers.get(key).into_iter().flatten();
        let expired: Vec<PeerId> =
            held.filter(|record| record.is_expired(now)).map(|record| record.provider).collect();
        expired.iter().for_each(|provider| self.remove_provider(&RecordKey::new(&key), provider));
    }

    fn forget_provider(&mut self, key: &[u8], provider: &PeerId) {
        let Some(keys) = self.keys_of_provider.get_mut(provider) else { return };
        let was_there = keys.remove(key);
        let network = self.network_of.get(provider).copied();
        if keys.is_empty() {
            self.keys_of_provider.remove(provider);
            self.network_of.remove(provider);
        }
        if let Some(network) = network.filter(|_| was_there) {
            let left = self.of_network.remove(&network).unwrap_or(0).saturating_sub(1);
            if left > 0 {
                self.of_network.insert(network, left);
            }
        }
    }

    /// Keeps a provider record of a peer that is reached in this network.
    ///
    /// # Errors
    /// Where there is no room for it, or the peers of its network have as many as they may, of all keys or of this one.
    pub(super) fn add_provider_from(
        &mut self,
        network: Option<Network>,
        record: ProviderRecord,
    ) -> Result<()> {
        let (provider, key) = (record.provider, record.key.to_vec());
        let has_it =
            |records: &Self| records.keys_of_provider.get(&provider).is_some_and(|keys| keys.contains(&key));
        if has_it(self) {
            return self.add_provider(record);
        }
        // Those that are dead do not count.
        self.drop_lapsed(&key, clock());
        let network = self.network_of.get(&provider).copied().or(network);
        if let Some(network) = network {
            let held = self.providers.get(&key).into_iter().flatten();
            let of_key = held.filter(|held| self.network_of.get(&held.provider) == Some(&network)).count();
            let of_all = self.of_network.get(&network).copied().unwrap_or(0);
            if of_key >= DHT_PROVIDERS_PER_NETWORK_MAX || of_all >= DHT_KEYS_PER_NETWORK_MAX {
                return Err(Error::MaxProvidedKeys);
            }
        }
        self.add_provider(record)?;
        if let Some(network) = network.filter(|_| has_it(self)) {
            self.network_of.insert(provider, network);
            *self.of_network.entry(network).or_default() += 1;
        }
        Ok(())
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.values.get(key.as_ref()).map(|value| Cow::Borrowed(&value.record))
    }

    fn put(&mut self, record: Record) -> Result<()> {
        // Libp2p's own way in: what this node publishes.
        self.drop_value(record.key.as_ref());
        self.insert(Value { record, source: None })
    }

    fn remove(&mut self, key: &RecordKey) {
        self.drop_value(key.as_ref());
    }

    /// The records as they are handed on to other nodes: each of these decides how long it keeps its copy.
    fn records(&self) -> Self::RecordsIter<'_> {
        let values = self.values.by_key.values();
        let records = values.map(|(_, value)| Cow::Owned(Record { expires: None, ..value.record.clone() }));
        records.collect::<Vec<_>>().into_iter()
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        let key = record.key.to_vec();
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::ValueTooLarge);
        }
        record.addresses.truncate(DHT_ADDRESSES_PER_PROVIDER_MAX);
        // The dead do not keep the living out.
        self.drop_lapsed(&key, clock());
        let own = record.provider == self.local;
        let keys = self.keys_of_provider.get(&record.provider);
        let known = keys.is_some_and(|keys| keys.contains(&key));
        if !own && !known && keys.is_some_and(|keys| keys.len() >= DHT_KEYS_PER_PROVIDER_MAX) {
            return Err(Error::MaxProvidedKeys);
        }
        let mut of_key = self.providers.get(&key).cloned().unwrap_or_default();
        of_key.retain(|held| held.provider != record.provider);
        let target = KBucketKey::new(record.key.clone());
        let provider = record.provider;
        of_key.push(record.clone());
        of_key.sort_by_key(|held| {
            (held.provider != self.local, target.distance(&KBucketKey::from(held.provider)))
        });
        if of_key.len() > DHT_PROVIDERS_PER_KEY_MAX
            && let Some(farthest) = of_key.pop()
        {
            self.forget_provider(&key, &farthest.provider);
            if farthest.provider == provider {
                return Err(Error::MaxProvidedKeys);
            }
        }
        let own_key = own || self.provided.contains_key(&key);
        match self.providers.insert(key.clone(), of_key, own_key) {
            Inserted::Refused => return Err(Error::MaxProvidedKeys),
            Inserted::Kept { evicted } => {
                for (evicted_key, records) in evicted {
                    for record in records {
                        self.forget_provider(&evicted_key, &record.provider);
                    }
                }
            }
        }
        self.keys_of_provider.entry(provider).or_default().insert(key.clone());
        if own {
            self.provided.insert(key, record);
        }
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.get(key.as_ref()).cloned().unwrap_or_default()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let provided: Vec<_> = self.provided.values().map(Cow::Borrowed).collect();
        provided.into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        let key = key.as_ref();
        if let Some(mut of_key) = self.providers.get(key).cloned() {
            of_key.retain(|held| held.provider != *provider);
            if of_key.is_empty() {
                self.providers.remove(key);
            } else if let Some((_, held)) = self.providers.by_key.get_mut(key) {
                *held = of_key;
            }
        }
        self.forget_provider(key, provider);
        if *provider == self.local {
            self.provided.remove(key);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "libp2p says by this clock when a record expires")]
fn clock() -> Instant {
    Instant::now()
}

/// When what is given to somebody now expires there.
pub(super) fn expiry() -> Instant {
    clock() + LEASE
}

/// A bounded map that keeps the keys nearest to the local id.
#[derive(Debug)]
struct Nearest<V> {
    local: KBucketKey<PeerId>,
    max: usize,
    by_key: BTreeMap<Vec<u8>, (KBucketDistance, V)>,
    /// Evictable keys, nearest first.
    by_distance: BTreeSet<(KBucketDistance, Vec<u8>)>,
}

enum Inserted<V> {
    Kept { evicted: Vec<(Vec<u8>, V)> },
    Refused,
}

impl<V> Nearest<V> {
    fn new(local: PeerId, max: usize) -> Self {
        Self { local: local.into(), max, by_key: BTreeMap::new(), by_distance: BTreeSet::new() }
    }

    fn distance(&self, key: &[u8]) -> KBucketDistance {
        self.local.distance(&KBucketKey::new(RecordKey::new(&key)))
    }

    fn get(&self, key: &[u8]) -> Option<&V> {
        self.by_key.get(key).map(|(_, value)| value)
    }

    /// Inserts; `pinned` entries are never evicted, and are held even beyond the bound, since only this node makes them.
    fn insert(&mut self, key: Vec<u8>, value: V, pinned: bool) -> Inserted<V> {
        let distance = self.distance(&key);
        let mut evicted = Vec::new();
        if !self.by_key.contains_key(&key) && !pinned && self.by_distance.len() >= self.max {
            match self.by_distance.last() {
                Some((farthest, _)) if *farthest > distance => {
                    if let Some((_, far)) = self.by_distance.pop_last()
                        && let Some((_, value)) = self.by_key.remove(&far)
                    {
                        evicted.push((far, value));
                    }
                }
                _ => return Inserted::Refused,
            }
        }
        if pinned {
            self.by_distance.remove(&(distance, key.clone()));
        } else {
            self.by_distance.insert((distance, key.clone()));
        }
        self.by_key.insert(key, (distance, value));
        Inserted::Kept { evicted }
    }

    fn remove(&mut self, key: &[u8]) -> Option<V> {
        let (distance, value) = self.by_key.remove(key)?;
        self.by_distance.remove(&(distance, key.to_vec()));
        Some(value)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
