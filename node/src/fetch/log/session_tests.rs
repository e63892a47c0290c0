use std::time::Duration;

use super::*;
use crate::{
    fetch::memory::{Manner, Memory, Peer},
    release::{
        Log,
        fixture::{draft, publisher, releases},
    },
};

/// A round trip of the network in memory.
const ROUND_TRIP: Duration = Duration::from_millis(5);
/// How long a retrieval may take: longer than it takes until others are asked beside one that is slow.
const DEADLINE: Duration = Duration::from_secs(4);

fn versions(number: usize) -> Log {
    let versions: Vec<String> = (0..number).map(|n| format!("1.0.{n}")).collect();
    releases(&publisher(1), &versions.iter().map(String::as_str).collect::<Vec<_>>())
}

fn wanted(log: &Log) -> Wanted {
    let publisher = publisher(1);
    Wanted::of(&draft(&publisher, log).sign(&publisher).unwrap(), None)
}

fn holding(entries: &[SignedEntry]) -> Store {
    let store = Store::in_memory().unwrap();
    let blocks: Vec<_> = entries.iter().map(|entry| entry.block().clone()).collect();
    store.put_blocks(&blocks).unwrap();
    store
}

/// Peers that hold a log, each with manners of its own.
fn network(log: &Log, manners: &[Manner]) -> (Memory, Vec<PeerId>) {
    let store = holding(log.entries());
    let ids: Vec<_> = manners.iter().map(|_| PeerId::random()).collect();
    let peers =
        ids.iter().zip(manners).map(|(id, manner)| (*id, Peer { store: store.clone(), manner: *manner }));
    (Memory::new(peers, ROUND_TRIP), ids)
}

fn session(network: &Memory, store: &Store, log: &Log) -> Session<Memory> {
    let deadline = Instant::now() + DEADLINE;
    Session::new(network.clone(), store.clone(), Offload::Inline, deadline, wanted(log)).unwrap()
}

async fn fetched(log: &Log, manners: &[Manner]) -> (Result<(), Error>, Session<Memory>, Memory, Vec<PeerId>) {
    let (network, ids) = network(log, manners);
    let store = Store::in_memory().unwrap();
    let mut session = session(&network, &store, log);
    assert!(!session.look().await.unwrap());
    let outcome = session.fetch(Memory::found(&ids)).await;
    (outcome, session, network, ids)
}

#[tokio::test]
async fn a_log_of_seven_hundred_versions_takes_one_answer() {
    let log = versions(700);
    let (outcome, session, network, ids) = fetched(&log, &[Manner::Honest, Manner::Honest]).await;
    outcome.unwrap();
    assert_eq!(network.seen().logs.len(), 1, "one request");
    let served = session.report().peers[&ids[0]];
    assert_eq!((served.blocks, served.fault, served.claimed), (700, None, true));
    assert!(network.seen().credited.contains(&ids[0]));
    for entry in log.entries() {
        assert!(session.store.block(&entry.id()).unwrap().is_some(), "it is kept");
    }
    assert_eq!(session.into_entries(), log.entries());
}

#[tokio::test]
async fn what_is_here_is_asked_of_nobody() {
    let log = versions(700);
    let (network, ids) = network(&log, &[Manner::Honest]);
    let mut whole = session(&network, &holding(log.entries()), &log);
    assert!(whole.look().await.unwrap());
    assert_eq!(whole.into_entries(), log.entries());
    // The newest half came before; of the oldest, some were kept too.
    let half = holding(&[&log.entries()[..100], &log.entries()[350..]].concat());
    let mut half = session(&network, &half, &log);
    assert!(!half.look().await.unwrap());
    half.fetch(Memory::found(&ids)).await.unwrap();
    let asked = network.seen().logs.clone();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1.newest, log.entries()[349].id());
    assert_eq!(half.into_entries(), log.entries());
}

#[tokio::test]
async fn one_honest_peer_is_enough_and_only_what_is_proved_is_charged() {
    let log = versions(300);
    for (manner, fault, is_forged) in [
        (Manner::Forging, Some(Attempt::BadBlock), true),
        (Manner::Endless, Some(Attempt::ProtocolViolation), false),
        (Manner::Broken, Some(Attempt::ProtocolViolation), false),
        (Manner::Breaking(1), None, false),
        (Manner::Away, None, false),
        (Manner::Busy, None, false),
        (Manner::Mute, None, false),
        (Manner::Dripping, None, false),
    ] {
        let (outcome, session, _, ids) = fetched(&log, &[manner, Manner::Honest]).await;
        outcome.unwrap();
        let served = session.report().peers.get(&ids[0]).copied().unwrap_or_default();
        assert_eq!((served.fault, served.forged.is_some()), (fault, is_forged), "{manner:?}");
        assert_eq!(session.report().peers[&ids[1]].fault, None, "{manner:?}");
        assert_eq!(session.into_entries(), log.entries(), "{manner:?}");
    }
}

#[tokio::test]
async fn without_an_honest_peer_it_ends_and_says_why() {
    let log = versions(300);
    for (manners, code) in [
        (&[][..], Code::NoProviders),
        (&[Manner::Away], Code::NoProviders),
        (&[Manner::Forging], Code::HashMismatch),
        (&[Manner::Busy], Code::NoProviders),
        (&[Manner::Dripping], Code::Timeout),
        (&[Manner::Mute, Manner::Dripping, Manner::Mute, Manner::Mute], Code::Timeout),
    ] {
        let (outcome, session, _, _) = fetched(&log, manners).await;
        assert_eq!(outcome.unwrap_err().code(), code, "{manners:?}");
        let mut faults = session.report().peers.values().map(|served| served.fault);
        assert!(faults.all(|fault| fault != Some(Attempt::Timeout)), "silence is charged to nobody");
    }
}

#[tokio::test]
async fn what_came_before_the_end_is_kept_and_not_asked_for_again() {
    let log = versions(700);
    let (network, ids) = network(&log, &[Manner::Breaking(1)]);
    let store = Store::in_memory().unwrap();
    let mut first = session(&network, &store, &log);
    first.look().await.unwrap();
    first.fetch(Memory::found(&ids[..1])).await.unwrap();
    assert_eq!(first.into_entries(), log.entries(), "each time it brings a frame, which is no try in vain");
    let newest = |at: usize| network.seen().logs[at].1.newest;
    assert_eq!(newest(0), log.newest().unwrap().id());
    assert_ne!(newest(1), newest(0), "it goes on where it was");
}
