//! What a chain of key documents allows, and what it refuses.

use super::*;
use crate::{
    code::Code,
    identity::{envelope::tests::MESSAGES, hex},
};

const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn keys(seeds: &[u8]) -> Vec<PublicKey> {
    let mut keys: Vec<_> = seeds.iter().map(|seed| secret(*seed).public_key()).collect();
    keys.sort();
    keys
}

fn signed(document: &KeyDocument, seeds: &[u8]) -> Vec<u8> {
    let secrets: Vec<_> = seeds.iter().map(|seed| secret(*seed)).collect();
    let refs: Vec<_> = secrets.iter().collect();
    Envelope::seal(Context::KeyDocument, canonical::encode(document), &refs).encode()
}

fn genesis(seeds: &[u8], threshold: u32) -> KeyDocument {
    KeyDocument { keys: keys(seeds), threshold, ..KeyDocument::genesis(secret(1).public_key(), THEN) }
}

fn refusal(documents: &[Vec<u8>]) -> Code {
    KeyLog::verify(documents).unwrap_err().code()
}

/// Three keys of which two must sign, and the log of them alone.
fn trio() -> (Vec<u8>, KeyLog) {
    let first = signed(&genesis(&[1, 2, 3], 2), &[1, 2]);
    let log = KeyLog::verify(std::slice::from_ref(&first)).unwrap();
    (first, log)
}

#[test]
fn the_publisher_is_the_hash_of_the_genesis_payload_whoever_signed() {
    use sha2::{Digest, Sha256};
    let document = genesis(&[1, 2, 3], 2);
    let expected: [u8; 32] = Sha256::digest(canonical::encode(&document)).into();
    for signers in [&[1, 2][..], &[2, 3], &[1, 2, 3]] {
        let log = KeyLog::verify(&[signed(&document, signers)]).unwrap();
        assert_eq!(log.publisher().as_bytes(), &expected);
    }
}

#[test]
fn a_rotation_signed_by_old_and_new_keys_continues_the_chain() {
    let (first, log) = trio();
    let second = signed(&log.next(keys(&[4, 5]), 1, THEN), &[1, 3, 4]);
    let rotated = KeyLog::verify(&[first.clone(), second.clone()]).unwrap();
    assert_eq!(rotated.publisher(), log.publisher());
    assert_eq!((rotated.current().n, &rotated.current().keys), (1, &keys(&[4, 5])));
    assert_eq!(rotated.tip(), ContentId::of(Codec::DagCbor, &second));
    assert_eq!(rotated.documents().collect::<Vec<_>>(), [first, second.clone()]);
    assert_eq!(log.clone().extended(&second).unwrap(), rotated);
    assert!(rotated.agrees_with(&log) && log.agrees_with(&rotated));
}

#[test]
fn a_rotation_below_the_old_threshold_is_refused() {
    let (first, log) = trio();
    let next = log.next(keys(&[4]), 1, THEN);
    for signers in [&[1, 4][..], &[4], &[], &[1]] {
        assert_eq!(refusal(&[first.clone(), signed(&next, signers)]), Code::Signature, "{signers:?}");
    }
    assert!(KeyLog::verify(&[first, signed(&next, &[1, 2, 4])]).is_ok());
}

#[test]
fn a_rotation_below_the_new_threshold_is_refused() {
    let (first, log) = trio();
    let next = log.next(keys(&[4, 5]), 2, THEN);
    assert_eq!(refusal(&[first.clone(), signed(&next, &[1, 2, 4])]), Code::Signature);
    assert_eq!(refusal(&[first.clone(), signed(&next, &[1, 2])]), Code::Signature);
    assert!(KeyLog::verify(&[first, signed(&next, &[1, 2, 4, 5])]).is_ok());
}

#[test]
fn a_revoked_key_signs_no_further_document_and_no_document_is_replayed() {
    let (first, log) = trio();
    let second = signed(&log.next(keys(&[4]), 1, THEN), &[1, 2, 4]);
    let log = log.extended(&second).unwrap();
    let by_old = signed(&log.next(keys(&[1]), 1, THEN), &[1, 2]);
    let code = |third: Vec<u8>| refusal(&[first.clone(), second.clone(), third]);
    assert_eq!(code(by_old), Code::Signature);
    assert_eq!(code(second.clone()), Code::Signature, "replayed");
    assert_eq!(code(first.clone()), Code::Signature, "replayed");
    assert_eq!(refusal(std::slice::from_ref(&second)), Code::Signature, "without its genesis");
    let mut forward = log.next(keys(&[5]), 1, THEN);
    forward.n += 1;
    assert_eq!(code(signed(&forward, &[4, 5])), Code::Signature, "a number left out");
    let mut elsewhere = log.next(keys(&[5]), 1, THEN);
    elsewhere.previous = Some(ContentId::of(Codec::DagCbor, b"another"));
    assert_eq!(code(signed(&elsewhere, &[4, 5])), Code::Signature, "another one before it");
}

#[test]
fn two_documents_in_one_place_do_not_agree() {
    let (_, log) = trio();
    let fork = |seed| {
        let next = signed(&log.next(keys(&[seed]), 1, THEN), &[1, 2, seed]);
        log.clone().extended(&next).unwrap()
    };
    assert!(!fork(4).agrees_with(&fork(5)));
    assert_eq!(fork(4).fingerprint(0), fork(5).fingerprint(0));
    assert_ne!(fork(4).fingerprint(1), fork(5).fingerprint(1));
    assert_eq!(fork(4).fingerprint(2), None);
}

#[test]
fn a_genesis_that_breaks_a_rule_is_refused() {
    let good = genesis(&[1, 2], 1);
    assert!(KeyLog::verify(&[signed(&good, &[1])]).is_ok());
    let nine: Vec<u8> = (1..=9).collect();
    let scopes = |count: usize| (0..count).map(|i| format!("p{i}").parse().unwrap()).collect();
    for (bad, code, why) in [
        (KeyDocument { threshold: 0, ..good.clone() }, Code::Malformed, "threshold of zero"),
        (KeyDocument { threshold: 3, ..good.clone() }, Code::Malformed, "threshold above the keys"),
        (KeyDocument { keys: vec![], ..good.clone() }, Code::Malformed, "no keys"),
        (KeyDocument { keys: keys(&[1, 1]), ..good.clone() }, Code::Malformed, "doubled key"),
        (
            KeyDocument { keys: keys(&[1, 2]).into_iter().rev().collect(), ..good.clone() },
            Code::Malformed,
            "unsorted",
        ),
        (KeyDocument { keys: keys(&nine), ..good.clone() }, Code::Limit, "too many keys"),
        (KeyDocument { scopes: scopes(SCOPES_MAX + 1), ..good.clone() }, Code::Limit, "too many scopes"),
        (KeyDocument { n: 1, ..good.clone() }, Code::Malformed, "a later number"),
        (
            KeyDocument { previous: Some(ContentId::of(Codec::DagCbor, b"")), ..good.clone() },
            Code::Malformed,
            "one before it",
        ),
        (KeyDocument { version: 0, ..good.clone() }, Code::Malformed, "version zero"),
    ] {
        assert_eq!(refusal(&[signed(&bad, &[1])]), code, "{why}");
    }
    assert_eq!(refusal(&[signed(&good, &[])]), Code::Signature, "unsigned");
    assert_eq!(refusal(&[signed(&good, &[3])]), Code::Signature, "signed by another key");
    assert_eq!(refusal(&[]), Code::Signature, "nothing");
    assert_eq!(refusal(&[vec![0; KEY_DOCUMENT_BYTES_MAX + 1]]), Code::Limit, "too large");
}

#[test]
fn a_later_version_asks_for_a_newer_program_whatever_else_it_holds() {
    #[derive(Serialize)]
    struct Later {
        version: u64,
        quorum: &'static str,
    }
    let payload = canonical::encode(&Later { version: 2, quorum: "x" });
    let bytes = Envelope::seal(Context::KeyDocument, payload, &[&secret(1)]).encode();
    let error = KeyLog::verify(&[bytes]).unwrap_err();
    assert!(matches!(error, Error::Newer { version: 2, known: 1, .. }), "{error}");
    assert!(error.hint().contains("newer version"));
}

#[test]
fn a_field_that_is_not_known_is_refused() {
    #[derive(Serialize)]
    struct Extended {
        #[serde(flatten)]
        document: KeyDocument,
        weights: u8,
    }
    let payload = canonical::encode(&Extended { document: genesis(&[1], 1), weights: 1 });
    let bytes = Envelope::seal(Context::KeyDocument, payload, &[&secret(1)]).encode();
    let error = KeyLog::verify(&[bytes]).unwrap_err();
    assert_eq!(error.code(), Code::Malformed);
    assert!(error.to_string().contains("weights"), "{error}");
}

#[test]
fn a_field_left_out_is_no_second_encoding() {
    #[derive(Serialize)]
    struct Without {
        version: u64,
        n: u64,
        keys: Vec<PublicKey>,
        threshold: u32,
        scopes: Vec<PackageName>,
        created: Timestamp,
    }
    let KeyDocument { version, n, keys, threshold, scopes, created, .. } = genesis(&[1], 1);
    let payload = canonical::encode(&Without { version, n, keys, threshold, scopes, created });
    let bytes = Envelope::seal(Context::KeyDocument, payload, &[&secret(1)]).encode();
    assert_eq!(refusal(&[bytes]), Code::Malformed);
}

#[test]
fn a_later_document_may_narrow_the_scopes_and_never_widen_them() {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<PackageName>>();
    let first = KeyDocument { scopes: names(&["both", "only"]), ..genesis(&[1], 1) };
    let log = KeyLog::verify(&[signed(&first, &[1])]).unwrap();
    let then = |scopes: &[&str]| {
        let next = KeyDocument { scopes: names(scopes), ..log.next(keys(&[1]), 1, THEN) };
        log.clone().extended(&signed(&next, &[1])).map(drop)
    };
    then(&["both", "only"]).unwrap();
    then(&["only"]).unwrap();
    for wider in [&[][..], &["other"], &["both", "only", "other"]] {
        assert!(matches!(then(wider), Err(Error::Chain { n: 1, .. })), "{wider:?}");
    }
}

#[test]
fn only_keys_that_still_count_contradict_a_chain() {
    let genesis = KeyLog::verify(&[signed(&genesis(&[1], 1), &[1])]).unwrap();
    let with = |seeds: &[u8], by: &[u8]| {
        genesis.clone().extended(&signed(&genesis.next(keys(seeds), 1, THEN), by)).unwrap()
    };
    let (replaced, stolen) = (with(&[2], &[1, 2]), with(&[3], &[1, 3]));
    assert!(!replaced.is_contradicted_by(&stolen), "the first key is out");
    let (added, other) = (with(&[1, 2], &[1]), with(&[1, 3], &[1]));
    assert!(added.is_contradicted_by(&other));
    assert!(added.is_contradicted_by(&stolen), "the first key still counts");
    assert!(!added.is_contradicted_by(&added) && !added.is_contradicted_by(&genesis));
}

#[test]
fn a_later_document_is_no_genesis() {
    let later = KeyDocument { n: 1, previous: Some(ContentId::of(Codec::DagCbor, b"")), ..genesis(&[1], 1) };
    assert!(matches!(KeyLog::verify(&[signed(&later, &[1])]), Err(Error::Chain { n: 0, .. })));
}

#[test]
fn the_largest_document_fits() {
    let seeds: Vec<u8> = (1..=KEYS_MAX as u8).collect();
    let scope = |i: usize| format!("{i}{}", "x".repeat(63)).parse().unwrap();
    let scopes: Vec<PackageName> = (0..SCOPES_MAX).map(scope).collect();
    let document = KeyDocument {
        n: u64::MAX,
        previous: Some(ContentId::of(Codec::DagCbor, b"")),
        scopes,
        created: Timestamp::from_secs(u64::MAX),
        ..genesis(&seeds, 8)
    };
    let secrets: Vec<_> = seeds.iter().map(|seed| secret(*seed)).collect();
    let bytes = document.sign(&secrets.iter().collect::<Vec<_>>()).unwrap();
    assert!(bytes.len() <= KEY_DOCUMENT_BYTES_MAX, "{}", bytes.len());
}

#[test]
fn a_chain_has_an_end() {
    let mut log = KeyLog::verify(&[signed(&genesis(&[1], 1), &[1])]).unwrap();
    let extend = |log: KeyLog| {
        let next = signed(&log.next(keys(&[1]), 1, THEN), &[1]);
        log.extended(&next)
    };
    for _ in 1..KEY_DOCUMENTS_MAX {
        log = extend(log).unwrap();
    }
    assert_eq!(extend(log).unwrap_err().code(), Code::Limit);
}

#[test]
fn a_rotated_out_key_verifies_old_things_only() {
    let (_, log) = trio();
    let second = signed(&log.next(keys(&[4]), 1, THEN), &[1, 2, 4]);
    let log = log.extended(&second).unwrap();
    let old = Envelope::seal(Context::Manifest, vec![], &[&secret(1), &secret(2)]);
    assert_eq!(log.verify_any(Context::Manifest, &old).unwrap().n, 0);
    assert_eq!(log.verify_current(Context::Manifest, &old).unwrap_err().code(), Code::Signature);
    let third = signed(&log.next(keys(&[1]), 1, THEN), &[1, 4]);
    let latest = log.clone().extended(&third).unwrap();
    let before = MESSAGES.get();
    assert_eq!(latest.verify_any(Context::Manifest, &old).unwrap().n, 0);
    assert_eq!(MESSAGES.get() - before, 1, "only for the document whose keys these are");
    let mixed = Envelope::seal(Context::Manifest, vec![], &[&secret(1)]);
    assert_eq!(log.verify_any(Context::Manifest, &mixed).unwrap_err().code(), Code::Signature);
}

/// The format is final: these bytes may never change.
#[test]
fn the_format_is_fixed() {
    let first = genesis(&[1], 1).sign(&[&secret(1)]).unwrap();
    insta::assert_snapshot!(hex::encode(&first), @"a2677061796c6f6164585fa7616e00646b6579738158208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c6673636f7065738067637265617465641a6553f1006776657273696f6e016870726576696f7573f6697468726573686f6c64016a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840cc24b26a6bed7d128f847b726f995468be9b5d9afc32ca291dfc1448e0afe50d04ada489e0db90ab151ca1acdfb08d837c9b0f1289291f428e2a36d2e2156007");
    let log = KeyLog::verify(&[first]).unwrap();
    insta::assert_snapshot!(log.publisher(), @"gp1pduxf57522ctf23kxsa6p2szexd5e9fqfuxew6v73uj9nnjqq68qeepzvd");
    insta::assert_snapshot!(log.tip(), @"bafyreid3plltmxl3i3helg242ob6df44pxcx6hzba5g5fuwtlwqueohete");
    let next = KeyDocument { scopes: vec!["only".parse().unwrap()], ..log.next(keys(&[2, 3]), 2, THEN) };
    let second = next.sign(&[&secret(1), &secret(2), &secret(3)]).unwrap();
    insta::assert_snapshot!(hex::encode(&second), @"a2677061796c6f616458aea7616e01646b6579738258208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b3945820ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d16673636f70657381646f6e6c7967637265617465641a6553f1006776657273696f6e016870726576696f7573d82a582500017112207b7ad7365d7b46ce459b5cd383e1979c7dc57f1f21074dd2d2d35da14238e499697468726573686f6c64026a7369676e61747572657383a2636b657958208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394637369675840fec0d27c00607a0de6dcadf1abf047b192a87eb6024e1c4815b5f3cc6a7f95f3fd2ef16656b4e6df6d1bcb47393b5fa90159b91a30ca37a152156a62162b5a09a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840a235bea8daa79a119928d5ba23b301d8a2c28faf2d19b44bcda8fa7cdebbd849e82f85bb492bcd9ac349197c14cf5c40e792aedaf5a87ae44efd8dede875b50aa2636b65795820ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1637369675840a19fa30b2b488cc8367463f14e9f20535daf3b5182418df5937bb7ed36c06142b4eb6bab5485fd26d5074683046bbfe842a9ce28ba788cb7e27c7c63f5cdaa04");
}

/// A chain with release key 1, and recovery keys of which two must sign.
fn recoverable() -> (Vec<u8>, KeyLog) {
    let genesis = KeyDocument { recovery: keys(&[11, 12, 13]), recovery_threshold: 2, ..genesis(&[1], 1) };
    let bytes = signed(&genesis, &[1]);
    let log = KeyLog::verify(std::slice::from_ref(&bytes)).unwrap();
    (bytes, log)
}

#[test]
fn where_recovery_keys_are_named_they_alone_rotate() {
    let (first, log) = recoverable();
    let next = log.next(keys(&[4]), 1, THEN);
    assert_eq!((&next.recovery, next.recovery_threshold), (&keys(&[11, 12, 13]), 2), "they stay");
    for (signers, passes) in [
        (&[1, 4][..], false),
        (&[4], false),
        (&[11, 4], false),
        (&[11, 12], false),
        (&[1, 11, 12, 4], false),
        (&[], false),
        (&[11, 12, 4], true),
        (&[11, 12, 13, 4], true),
        (&[13, 12, 4], true),
    ] {
        let verified = KeyLog::verify(&[first.clone(), signed(&next, signers)]);
        assert_eq!(verified.is_ok(), passes, "{signers:?}");
        assert!(verified.is_ok() || refusal(&[first.clone(), signed(&next, signers)]) == Code::Signature);
    }
}

#[test]
fn what_recovery_keys_signed_twice_contradicts_and_a_stolen_release_key_contradicts_nobody() {
    let (_, log) = recoverable();
    let with = |seed: u8| {
        let next = log.next(keys(&[seed]), 1, THEN);
        log.clone().extended(&signed(&next, &[11, 12, seed])).unwrap()
    };
    assert!(with(4).is_contradicted_by(&with(5)) && with(5).is_contradicted_by(&with(4)));
    let thief = log.next(keys(&[5]), 1, THEN);
    assert!(log.clone().extended(&signed(&thief, &[1, 5])).is_err(), "there is no such chain");
    // Recovery keys that were replaced themselves say nothing any more.
    let moved = KeyDocument { recovery: keys(&[14]), recovery_threshold: 1, ..log.next(keys(&[6]), 1, THEN) };
    let moved = log.clone().extended(&signed(&moved, &[11, 12, 6])).unwrap();
    assert!(!moved.is_contradicted_by(&with(4)));
}

#[test]
fn release_recovery_and_confirm_keys_do_nothing_but_their_own() {
    let genesis = KeyDocument {
        recovery: keys(&[11]),
        recovery_threshold: 1,
        confirm: keys(&[21, 22]),
        ..genesis(&[1, 2], 2)
    };
    let log = KeyLog::verify(&[signed(&genesis, &[1, 2])]).unwrap();
    let by = |seeds: &[u8]| {
        let secrets: Vec<_> = seeds.iter().map(|seed| secret(*seed)).collect();
        Envelope::seal(Context::Head, b"said".to_vec(), &secrets.iter().collect::<Vec<_>>())
    };
    for (signers, releases, confirms) in [
        (&[1, 2][..], true, true),
        (&[21], false, true),
        (&[21, 22], false, true),
        (&[1], false, false),
        (&[11], false, false),
        (&[21, 11], false, false),
        (&[1, 21], false, false),
        (&[9], false, false),
        (&[], false, false),
    ] {
        let envelope = by(signers);
        assert_eq!(log.verify_current(Context::Head, &envelope).is_ok(), releases, "{signers:?}");
        assert_eq!(log.verify_confirm(Context::Head, &envelope).is_ok(), confirms, "{signers:?}");
        assert!(log.verify_confirm(Context::Entry, &envelope).is_err(), "as something else");
    }
    let replaced = KeyDocument { confirm: keys(&[22]), ..log.next(keys(&[3]), 1, THEN) };
    let log = log.extended(&signed(&replaced, &[11, 3])).unwrap();
    for (signer, confirms) in [(21, false), (22, true), (3, true)] {
        assert_eq!(log.verify_confirm(Context::Head, &by(&[signer])).is_ok(), confirms, "{signer}");
    }
}

#[test]
fn a_revoked_key_never_comes_back() {
    let log = KeyLog::verify(&[signed(&genesis(&[1, 2], 1), &[1])]).unwrap();
    let revoking = KeyDocument { revoked: keys(&[2]), ..log.next(keys(&[1]), 1, THEN) };
    let revoked = log.clone().extended(&signed(&revoking, &[1])).unwrap();
    assert!(revoked.is_revoked(&secret(2).public_key()) && !revoked.is_revoked(&secret(1).public_key()));
    let then = |change: &dyn Fn(&mut KeyDocument)| {
        let mut next = revoked.next(keys(&[1]), 1, THEN);
        change(&mut next);
        revoked.clone().extended(&signed(&next, &[1])).map(drop)
    };
    then(&|_| {}).unwrap();
    for (change, role) in [
        (&(|next: &mut KeyDocument| next.keys = keys(&[1, 2])) as &dyn Fn(&mut KeyDocument), "release"),
        (&|next| (next.recovery, next.recovery_threshold) = (keys(&[2]), 1), "recovery"),
        (&|next| next.confirm = keys(&[2]), "confirm"),
    ] {
        assert!(matches!(then(change), Err(Error::Chain { n: 2, .. })), "{role}");
    }
    // Rotated out only, it may come back.
    let out = log.clone().extended(&signed(&log.next(keys(&[1]), 1, THEN), &[1])).unwrap();
    assert!(out.clone().extended(&signed(&out.next(keys(&[1, 2]), 1, THEN), &[1])).is_ok());
}

#[test]
fn keys_for_recovery_confirmation_and_revocation_keep_the_rules_of_a_document() {
    let good = KeyDocument {
        recovery: keys(&[11, 12]),
        recovery_threshold: 1,
        confirm: keys(&[21]),
        ..genesis(&[1, 2], 1)
    };
    assert!(KeyLog::verify(&[signed(&good, &[1])]).is_ok());
    let unsorted = || keys(&[11, 12]).into_iter().rev().collect::<Vec<_>>();
    let nine: Vec<u8> = (31..=39).collect();
    for (bad, code, why) in [
        (KeyDocument { recovery_threshold: 0, ..good.clone() }, Code::Malformed, "threshold of zero"),
        (KeyDocument { recovery_threshold: 3, ..good.clone() }, Code::Malformed, "threshold above the keys"),
        (KeyDocument { recovery: vec![], ..good.clone() }, Code::Malformed, "threshold without keys"),
        (KeyDocument { recovery: unsorted(), ..good.clone() }, Code::Malformed, "unsorted recovery"),
        (KeyDocument { confirm: unsorted(), ..good.clone() }, Code::Malformed, "unsorted confirm"),
        (KeyDocument { recovery: keys(&[1, 11]), ..good.clone() }, Code::Malformed, "release for recovery"),
        (KeyDocument { confirm: keys(&[2]), ..good.clone() }, Code::Malformed, "release for confirm"),
        (KeyDocument { confirm: keys(&[11]), ..good.clone() }, Code::Malformed, "recovery for confirm"),
        (KeyDocument { revoked: keys(&[1]), ..good.clone() }, Code::Malformed, "revoked for release"),
        (KeyDocument { confirm: keys(&nine), ..good.clone() }, Code::Limit, "too many confirm keys"),
        (KeyDocument { revoked: keys(&nine), ..good.clone() }, Code::Limit, "too many revoked keys"),
        (KeyDocument { recovery: keys(&nine), ..good.clone() }, Code::Limit, "too many recovery keys"),
    ] {
        assert_eq!(refusal(&[signed(&bad, &[1])]), code, "{why}");
        assert!(bad.sign(&[&secret(1)]).is_err(), "{why}");
    }
}

#[test]
fn an_empty_list_that_is_written_out_is_no_second_encoding() {
    #[derive(Serialize)]
    struct WrittenOut {
        n: u64,
        keys: Vec<PublicKey>,
        scopes: Vec<PackageName>,
        confirm: Vec<PublicKey>,
        created: Timestamp,
        version: u64,
        previous: Option<ContentId>,
        threshold: u32,
    }
    let KeyDocument { version, n, previous, keys, threshold, scopes, created, .. } = genesis(&[1], 1);
    let confirm = Vec::new();
    let out = WrittenOut { n, keys, scopes, confirm, created, version, previous, threshold };
    let bytes = Envelope::seal(Context::KeyDocument, canonical::encode(&out), &[&secret(1)]).encode();
    let error = KeyLog::verify(&[bytes]).unwrap_err();
    assert!(error.to_string().contains("canonical"), "{error}");
}
