//! A chain that is known by its bytes is taken exactly where the plain check takes it.

use proptest::prelude::*;

use super::*;
use crate::{
    code::Code,
    identity::{Context, KeyDocument, SecretKey, envelope::tests::MESSAGES},
    time::Timestamp,
};

const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn genesis(seed: u8) -> Vec<u8> {
    KeyDocument::genesis(secret(seed).public_key(), THEN).sign(&[&secret(seed)]).unwrap()
}

/// The documents of a chain, each of which replaces the key before it.
fn chain(seeds: &[u8]) -> Vec<Vec<u8>> {
    let mut documents = vec![genesis(seeds[0])];
    for pair in seeds.windows(2) {
        let log = KeyLog::verify(&documents).unwrap();
        let next = log.next(vec![secret(pair[1]).public_key()], 1, THEN);
        documents.push(next.sign(&[&secret(pair[0]), &secret(pair[1])]).unwrap());
    }
    documents
}

/// What a check says: the chain, or why not.
fn said(outcome: Result<KeyLog, Error>) -> Result<KeyLog, (Code, String)> {
    outcome.map_err(|error| (error.code(), error.to_string()))
}

fn assert_same(chains: &Chains, documents: &[Vec<u8>]) {
    assert_eq!(said(chains.verify(documents)), said(KeyLog::verify(documents)));
}

#[test]
fn a_known_chain_costs_no_signature_and_any_other_is_verified() {
    let (chains, documents) = (Chains::default(), chain(&[1, 2, 3]));
    let messages = |documents: &[Vec<u8>]| {
        let before = MESSAGES.get();
        assert_same(&chains, documents);
        MESSAGES.get() - before
    };
    let plain = 3;
    assert_eq!(messages(&documents), 2 * plain, "for the first time");
    assert_eq!(messages(&documents), plain, "those of the plain check alone");
    assert_eq!(messages(&documents[..2]), 2 * 2, "a shorter one is another");
}

#[test]
fn other_documents_before_a_known_last_one_are_refused() {
    let (chains, documents) = (Chains::default(), chain(&[1, 2, 3]));
    assert_same(&chains, &documents);
    let [first, second, third] = &documents[..] else { unreachable!() };
    let also_signed = |bytes: &[u8], by: u8| {
        let envelope = Envelope::decode(bytes, 4096).unwrap();
        Envelope::seal(Context::KeyDocument, envelope.payload().to_vec(), &[&secret(by)]).encode()
    };
    for other in [
        vec![],
        vec![third.clone()],
        vec![second.clone(), third.clone()],
        vec![first.clone(), third.clone()],
        vec![genesis(9), second.clone(), third.clone()],
        vec![also_signed(first, 9), second.clone(), third.clone()],
        vec![first.clone(), also_signed(second, 2), third.clone()],
        vec![first.clone(), first.clone(), second.clone(), third.clone()],
        vec![first.clone(), second.clone(), third.clone(), third.clone()],
    ] {
        assert!(KeyLog::verify(&other).is_err(), "else nothing is proved");
        assert_same(&chains, &other);
    }
    assert!(chains.verify(&documents).is_ok());
}

#[test]
fn what_is_remembered_is_bounded_and_what_is_asked_for_stays() {
    let number = |n: usize| {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let secret = SecretKey::from_bytes(&secret);
        vec![KeyDocument::genesis(secret.public_key(), THEN).sign(&[&secret]).unwrap()]
    };
    let (chains, often) = (Chains::default(), chain(&[1]));
    for n in 0..2 * KEY_CHAINS_MAX + 10 {
        assert!(chains.verify(&number(n)).is_ok());
        if n % (KEY_CHAINS_MAX / 2) == 0 {
            assert!(chains.verify(&often).is_ok());
        }
    }
    let held = chains.held();
    for generation in [&held.young, &held.old] {
        assert!(generation.chains.len() <= KEY_CHAINS_MAX && generation.keys.len() <= KEY_CHAINS_MAX);
        let documents = generation.chains.values().flat_map(KeyLog::documents);
        assert_eq!(generation.bytes, documents.map(<[u8]>::len).sum::<usize>());
        assert!(generation.bytes < KEY_CHAINS_BYTES + 4096);
    }
    let tip = KeyLog::verify(&often).unwrap().tip();
    assert!(held.young.chains.contains_key(&tip), "it was asked for all the time");
    assert!(!held.young.chains.contains_key(&KeyLog::verify(&number(0)).unwrap().tip()));
}

#[test]
fn a_key_that_was_not_checked_is_checked_also_beside_known_chains() {
    let chains = Chains::default();
    chains.verify(&chain(&[1, 2])).unwrap();
    let sealed = |key: [u8; 32]| {
        #[derive(serde::Serialize)]
        struct Signature {
            key: serde_bytes::ByteBuf,
            sig: serde_bytes::ByteBuf,
        }
        #[derive(serde::Serialize)]
        struct Wire {
            payload: serde_bytes::ByteBuf,
            signatures: Vec<Signature>,
        }
        let signature = Signature { key: key.to_vec().into(), sig: vec![0; 64].into() };
        crate::identity::canonical::encode(&Wire { payload: vec![1].into(), signatures: vec![signature] })
    };
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut second_encoding = [0xff; 32];
    (second_encoding[0], second_encoding[31]) = (0xf0, 0x7f);
    let known = *secret(2).public_key().as_bytes();
    let unknown = *secret(5).public_key().as_bytes();
    for (key, is_taken) in [
        (known, true),
        (unknown, true),
        (neutral, false),
        (second_encoding, false),
        ([0; 32], false),
        ([0xff; 32], false),
    ] {
        let bytes = sealed(key);
        let said =
            |outcome: Result<Envelope, Error>| outcome.map_err(|error| (error.code(), error.to_string()));
        let plain = said(Envelope::decode(&bytes, 4096));
        assert_eq!(plain.is_ok(), is_taken, "{key:?}");
        assert_eq!(said(chains.decode(&bytes, 4096)), plain, "{key:?}");
    }
}

proptest! {
    /// One bit of one document is another, and its place in the chain as well now and then.
    #[test]
    fn altered_chains_are_judged_as_without_a_memory(
        length in 1usize..4,
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        swapped in any::<bool>(),
    ) {
        let (chains, mut documents) = (Chains::default(), chain(&[1, 2, 3][..length]));
        assert_same(&chains, &documents);
        let of = at.index(documents.iter().map(Vec::len).sum());
        let mut left = of;
        for document in &mut documents {
            if left < document.len() {
                document[left] ^= 1 << bit;
                break;
            }
            left -= document.len();
        }
        assert_same(&chains, &documents);
        if swapped {
            documents.reverse();
            assert_same(&chains, &documents);
        }
    }
}
