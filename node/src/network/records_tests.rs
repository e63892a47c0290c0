use super::*;

fn record(n: u32, publisher: Option<PeerId>) -> Record {
    Record { key: RecordKey::new(&n.to_be_bytes()), value: vec![1], publisher, expires: None }
}

#[test]
fn a_flood_displaces_the_farthest_and_never_our_own() {
    let local = PeerId::random();
    let mut records = Records::new(local);
    records.values.max = 100;
    records.put(record(u32::MAX, Some(local))).unwrap();
    let kept: usize = (0..5_000).filter(|n| records.put(record(*n, None)).is_ok()).count();
    assert!(kept < 5_000, "the farthest are refused");
    assert_eq!(records.len(), 101);
    assert!(records.get(&record(u32::MAX, None).key).is_some());
    // What is left is exactly what is nearest.
    let own = KBucketKey::from(local);
    let distance = |n: u32| own.distance(&KBucketKey::new(record(n, None).key));
    let mut all: Vec<u32> = (0..5_000).collect();
    all.sort_by_key(|n| distance(*n));
    assert!(all[..100].iter().all(|n| records.get(&record(*n, None).key).is_some()));
}

#[test]
fn one_peer_cannot_fill_the_value_records() {
    let mut records = Records::new(PeerId::random());
    let (flooder, other) = (PeerId::random(), PeerId::random());
    let many = 2 * DHT_RECORDS_PER_PEER_MAX as u32;
    records.put_from(other, None, record(0, None)).unwrap();
    let near = |records: &Records, n: u32| records.values.distance(record(n, None).key.as_ref());
    (0..many).for_each(|n| drop(records.put_from(flooder, None, record(n, None))));
    assert_eq!(records.len(), DHT_RECORDS_PER_PEER_MAX + 1);
    assert!(records.get(&record(0, None).key).is_some(), "what others brought stays");
    let mut all: Vec<u32> = (1..many).collect();
    all.sort_by_key(|n| near(&records, *n));
    let kept = all.iter().filter(|n| records.get(&record(**n, None).key).is_some());
    assert!(kept.eq(&all[..DHT_RECORDS_PER_PEER_MAX]), "its own nearest are kept");
    assert!(records.put_from(flooder, None, record(all[0], None)).is_ok(), "a renewal is no new key");
    assert!(records.put_from(other, None, record(many, None)).is_ok());
    assert_eq!(records.brought.values().map(BTreeSet::len).sum::<usize>(), records.len());
}

#[test]
fn the_peers_of_one_network_cannot_fill_the_value_records() {
    let mut records = Records::new(PeerId::random());
    let (here, there) = (Some([1; 7]), Some([2; 7]));
    let honest = DHT_RECORDS_MAX as u32;
    records.put_from(PeerId::random(), there, record(honest, None)).unwrap();
    let flooders: Vec<PeerId> = (0..64).map(|_| PeerId::random()).collect();
    for n in 0..honest {
        drop(records.put_from(flooders[n as usize % flooders.len()], here, record(n, None)));
    }
    assert_eq!(records.len(), DHT_RECORDS_PER_NETWORK_MAX + 1);
    assert!(records.get(&record(honest, None).key).is_some());
    for n in 0..100 {
        records.put_from(PeerId::random(), there, record(honest + 1 + n, None)).unwrap();
    }
    let of_networks = records.brought.iter().filter(|(it, _)| matches!(it, Bringer::Network(_)));
    assert_eq!(of_networks.map(|(_, keys)| keys.len()).sum::<usize>(), records.len());
}

#[test]
fn what_is_held_already_is_kept_for_longer_and_not_verified_again() {
    let mut records = Records::new(PeerId::random());
    let later = clock() + Duration::from_secs(60);
    let until = |expires| Record { expires: Some(expires), ..record(1, None) };
    assert!(!records.renew(&until(later)), "it is not here");
    records.put_from(PeerId::random(), None, until(clock())).unwrap();
    assert!(!records.renew(&Record { value: vec![2], ..until(later) }), "it is another");
    assert!(records.renew(&until(later)));
    assert_eq!(records.get(&until(later).key).unwrap().expires, Some(later));
}

#[test]
fn values_whose_lease_is_over_are_swept_without_a_look_at_them() {
    let mut records = Records::new(PeerId::random());
    let (peer, now) = (PeerId::random(), clock());
    let leased = |n, expires| Record { expires: Some(expires), ..record(n, None) };
    records.put_from(peer, None, leased(1, now)).unwrap();
    records.put_from(peer, None, leased(2, now + LEASE / 3)).unwrap();
    records.put_from(peer, None, leased(3, now + LEASE)).unwrap();
    records.put(record(4, Some(records.local))).unwrap();
    assert_eq!(records.due(), [1, 2].map(|n| record(n, None).key), "less than half of it is left");
    records.renew_lease(&record(2, None).key);
    assert_eq!(records.due(), [record(1, None).key]);
    records.sweep_values();
    let kept: Vec<bool> = (1..=4).map(|n| records.get(&record(n, None).key).is_some()).collect();
    assert_eq!(kept, [false, true, true, true]);
    assert_eq!(records.brought.values().map(BTreeSet::len).sum::<usize>(), 2);
}

#[test]
fn a_record_is_handed_on_with_the_full_time_whatever_is_left_of_it_here() {
    let mut records = Records::new(PeerId::random());
    let expires = Some(clock() + Duration::from_secs(60));
    records.put_from(PeerId::random(), None, Record { expires, ..record(1, None) }).unwrap();
    assert_eq!(records.records().map(|it| it.expires).collect::<Vec<_>>(), [None]);
    assert_eq!(records.get(&record(1, None).key).unwrap().expires, expires);
}

#[test]
fn one_peer_cannot_fill_the_provider_records() {
    let mut records = Records::new(PeerId::random());
    let flooder = PeerId::random();
    let provider = |n: usize, provider| ProviderRecord {
        key: RecordKey::new(&n.to_be_bytes()),
        provider,
        expires: None,
        addresses: Vec::new(),
    };
    for n in 0..DHT_KEYS_PER_PROVIDER_MAX {
        records.add_provider(provider(n, flooder)).unwrap();
    }
    assert!(records.add_provider(provider(DHT_KEYS_PER_PROVIDER_MAX, flooder)).is_err());
    assert!(records.add_provider(provider(0, flooder)).is_ok(), "a renewal is no new key");
    records.add_provider(provider(DHT_KEYS_PER_PROVIDER_MAX, PeerId::random())).unwrap();
    records.remove_provider(&provider(0, flooder).key, &flooder);
    assert!(records.add_provider(provider(DHT_KEYS_PER_PROVIDER_MAX, flooder)).is_ok());
}

#[test]
fn the_peers_of_one_network_leave_room_for_others_of_each_key_and_of_all() {
    let (mut records, here) = (Records::new(PeerId::random()), Some([1; 7]));
    let provider = |n: usize, provider| ProviderRecord {
        key: RecordKey::new(&n.to_be_bytes()),
        provider,
        expires: None,
        addresses: Vec::new(),
    };
    let ground: Vec<PeerId> = (0..100).map(|_| PeerId::random()).collect();
    let kept = ground.iter().filter(|id| records.add_provider_from(here, provider(0, **id)).is_ok());
    let kept: Vec<PeerId> = kept.copied().collect();
    assert_eq!(kept.len(), DHT_PROVIDERS_PER_NETWORK_MAX);
    assert!(records.add_provider_from(here, provider(0, kept[0])).is_ok(), "a renewal is no new record");
    for network in [Some([2; 7]), None] {
        records.add_provider_from(network, provider(0, PeerId::random())).unwrap();
    }
    // What goes makes room, and is counted once.
    records.remove_provider(&provider(0, kept[0]).key, &kept[0]);
    records.remove_provider(&provider(0, kept[0]).key, &kept[0]);
    assert!(records.add_provider_from(here, provider(0, ground[99])).is_ok());
    assert!(records.add_provider_from(here, provider(0, PeerId::random())).is_err());
    // Of all keys together, with as many ids as it takes.
    let (mut taken, mut n) = (DHT_PROVIDERS_PER_NETWORK_MAX, 1);
    for id in &ground {
        for _ in 0..DHT_KEYS_PER_PROVIDER_MAX / 16 {
            taken += usize::from(records.add_provider_from(here, provider(n, *id)).is_ok());
            n += 1;
        }
    }
    assert_eq!((taken, records.of_network[&[1; 7]]), (DHT_KEYS_PER_NETWORK_MAX, DHT_KEYS_PER_NETWORK_MAX));
    assert!(records.add_provider_from(Some([2; 7]), provider(n, PeerId::random())).is_ok());
    for id in &ground {
        records.remove_provider_everywhere(id);
    }
    assert!(!records.of_network.contains_key(&[1; 7]) && records.network_of.len() == 2);
}

#[test]
fn a_key_keeps_its_nearest_providers_and_ourselves() {
    let local = PeerId::random();
    let mut records = Records::new(local);
    let key = RecordKey::new(b"key");
    let provider =
        |provider| ProviderRecord { key: key.clone(), provider, expires: None, addresses: Vec::new() };
    records.add_provider(provider(local)).unwrap();
    for _ in 0..100 {
        let _ = records.add_provider(provider(PeerId::random()));
    }
    let held = records.providers(&key);
    assert_eq!(held.len(), DHT_PROVIDERS_PER_KEY_MAX);
    assert!(held.iter().any(|held| held.provider == local));
    assert_eq!(records.provided().count(), 1);
    let counted: usize = records.keys_of_provider.values().map(BTreeSet::len).sum();
    assert_eq!(counted, DHT_PROVIDERS_PER_KEY_MAX, "what was evicted is not counted");
}

#[test]
fn records_that_lapsed_keep_no_provider_out() {
    let mut records = Records::new(PeerId::random());
    let key = RecordKey::new(b"key");
    let target = KBucketKey::new(key.clone());
    let mut peers: Vec<PeerId> = (0..=DHT_PROVIDERS_PER_KEY_MAX).map(|_| PeerId::random()).collect();
    peers.sort_by_key(|peer| target.distance(&KBucketKey::from(*peer)));
    let farthest = peers.pop().unwrap();
    let expiry = clock();
    let provider =
        |provider, expires| ProviderRecord { key: key.clone(), provider, expires, addresses: Vec::new() };
    for peer in &peers {
        records.add_provider(provider(*peer, Some(expiry))).unwrap();
        // Those that came before have expired already, and are gone.
        assert_eq!(records.providers(&key).len(), 1);
    }
    records.add_provider(provider(farthest, None)).unwrap();
    assert_eq!(records.providers(&key).len(), 1);
    assert_eq!(records.keys_of_provider.len(), 1, "what expired is not counted");
    records.add_provider(provider(peers[0], Some(expiry))).unwrap();
    records.sweep_providers();
    assert_eq!(records.providers(&key).len(), 1);
}
