//! Tests of what a confirmation is and of which one counts.

use super::*;
use crate::{
    code::Code,
    identity::{KeyDocument, SecretKey, hex},
    release::{
        Head,
        fixture::{DAY, NOW, draft, head, publisher, releases, rotated},
    },
};

fn heads() -> Heads {
    Heads::of([&head(&publisher(1), &["1.0.0"]), &head(&publisher(1), &["1.0.0", "1.1.0"])])
}

fn made(by: &Publisher, last: Option<u64>, as_of: Timestamp) -> VerifiedConfirmation {
    Confirmation::make(by, &heads(), last, as_of, DAY * 30).unwrap().0
}

fn unsigned() -> Confirmation {
    made(&publisher(1), None, NOW).confirmation().clone()
}

fn seal(confirmation: &Confirmation, by: &Publisher) -> Vec<u8> {
    by.seal(Context::Confirmation, canonical::encode(confirmation)).encode()
}

fn refusal(bytes: &[u8], now: Timestamp) -> Code {
    VerifiedConfirmation::verify(bytes, now).unwrap_err().code()
}

/// A head of the publisher that says `words`.
fn worded(by: &Publisher, words: &str) -> VerifiedHead {
    let draft = draft(by, &releases(by, &["1.0.0"]));
    Head { description: words.to_owned(), ..draft }.sign(by).unwrap()
}

#[test]
fn a_confirmation_survives_its_encoding_and_confirms_its_heads_alone() {
    let made = made(&publisher(1), None, NOW);
    assert_eq!(VerifiedConfirmation::verify(made.bytes(), NOW).unwrap(), made);
    assert!(is_likely(made.bytes()));
    let [one, other] = [head(&publisher(1), &["1.0.0"]), head(&publisher(1), &["2.0.0"])];
    assert!(!is_likely(one.bytes()));
    assert_eq!(made.confirms(Digest::of(one.bytes()), None), Some(true));
    assert_eq!(made.confirms(Digest::of(other.bytes()), None), Some(false));
    assert_eq!(made.heads(), Some(heads()));
}

#[test]
fn nothing_is_a_head_and_a_confirmation() {
    #[derive(Serialize)]
    struct Both {
        #[serde(flatten)]
        head: Head,
        next_by: Timestamp,
    }
    let by = publisher(1);
    let both = Both { head: draft(&by, &releases(&by, &["1.0.0"])), next_by: NOW.plus(DAY) };
    let bytes = by.seal(Context::Head, canonical::encode(&both)).encode();
    assert!(is_likely(&bytes));
    let refused = VerifiedHead::verify(&bytes, NOW).unwrap_err();
    assert!(refused.to_string().contains("confirmation"), "{refused}");
}

#[test]
fn foreign_keys_other_contexts_and_borrowed_names_are_refused() {
    let good = unsigned();
    assert_eq!(refusal(&seal(&good, &publisher(2)), NOW), Code::Signature, "another key");
    let as_head = publisher(1).seal(Context::Head, canonical::encode(&good)).encode();
    assert_eq!(refusal(&as_head, NOW), Code::Signature, "signed as something else");
    let claimed = Confirmation { publisher: publisher(2).id(), ..good.clone() };
    assert_eq!(refusal(&seal(&claimed, &publisher(1)), NOW), Code::Signature, "another name");
    let replaced = rotated(&publisher(1), 2);
    let keys = replaced.key_log().documents().map(ByteBuf::from).collect();
    let by_old = Confirmation { keys, ..good.clone() };
    assert_eq!(refusal(&seal(&by_old, &publisher(1)), NOW), Code::Signature, "a key that was replaced");
    assert!(VerifiedConfirmation::verify(&seal(&by_old, &replaced), NOW).is_ok());
    let bytes = seal(&good, &publisher(1));
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(refusal(&bytes[..length], NOW), Code::Malformed, "cut off at {length}");
    }
}

#[test]
fn a_key_that_is_named_for_something_else_confirms_nothing() {
    let key = |seed| SecretKey::from_bytes(&[seed; 32]);
    let genesis = KeyDocument {
        recovery: vec![key(9).public_key()],
        recovery_threshold: 1,
        confirm: vec![key(8).public_key()],
        ..KeyDocument::genesis(key(1).public_key(), NOW)
    };
    let document = genesis.sign(&[&key(1)]).unwrap();
    let keys = KeyLog::verify(std::slice::from_ref(&document)).unwrap();
    let said =
        Confirmation { publisher: keys.publisher(), keys: vec![ByteBuf::from(document)], ..unsigned() };
    let by = |seed| {
        let sealed = Envelope::seal(Context::Confirmation, canonical::encode(&said), &[&key(seed)]);
        VerifiedConfirmation::verify(&sealed.encode(), NOW).map(drop)
    };
    assert_eq!(by(9).unwrap_err().code(), Code::Signature, "a recovery key");
    for seed in [1, 8] {
        assert!(by(seed).is_ok(), "the release key, and one that confirms");
    }
}

#[test]
fn one_from_the_future_is_deferred_and_a_forged_one_is_called_forged_all_the_same() {
    let good = made(&publisher(1), None, NOW);
    let early = NOW.minus(CLOCK_SKEW_MAX);
    assert!(VerifiedConfirmation::verify(good.bytes(), early).is_ok());
    let second = Duration::from_secs(1);
    assert_eq!(refusal(good.bytes(), early.minus(second)), Code::Clock);
    assert_eq!(refusal(&seal(&unsigned(), &publisher(2)), Timestamp::default()), Code::Signature);
}

#[test]
fn confirmations_that_break_a_rule_are_refused() {
    let second = Duration::from_secs(1);
    let list = unsigned().heads.unwrap();
    let root = Some(heads().block().id());
    for (bad, code, why) in [
        (Confirmation { version: 0, ..unsigned() }, Code::Malformed, "version zero"),
        (Confirmation { version: 2, ..unsigned() }, Code::Malformed, "a later version"),
        (Confirmation { next_by: NOW, ..unsigned() }, Code::Malformed, "promises nothing"),
        (Confirmation { next_by: NOW.minus(DAY), ..unsigned() }, Code::Malformed, "promises the past"),
        (
            Confirmation { next_by: NOW.plus(CONFIRM_INTERVAL_MIN - second), ..unsigned() },
            Code::Malformed,
            "too soon",
        ),
        (
            Confirmation { next_by: NOW.plus(CONFIRM_INTERVAL_MAX + second), ..unsigned() },
            Code::Malformed,
            "too late",
        ),
        (
            Confirmation { next_by: Timestamp::from_secs(u64::MAX), ..unsigned() },
            Code::Malformed,
            "permanently",
        ),
        (Confirmation { heads: None, ..unsigned() }, Code::Malformed, "neither a list nor a root"),
        (Confirmation { root, ..unsigned() }, Code::Malformed, "both"),
        (Confirmation { heads: Some(vec![list[1], list[0]]), ..unsigned() }, Code::Malformed, "not in order"),
        (Confirmation { heads: Some(vec![list[0]; 2]), ..unsigned() }, Code::Malformed, "doubled"),
        (
            Confirmation { heads: Some(vec![list[0]; CONFIRMED_LISTED_MAX + 1]), ..unsigned() },
            Code::Limit,
            "too many",
        ),
        (
            Confirmation { heads: None, root: Some(ContentId::of(Codec::DagCbor, b"")), ..unsigned() },
            Code::Malformed,
            "the root is no raw block",
        ),
    ] {
        assert_eq!(refusal(&seal(&bad, &publisher(1)), NOW), code, "{why}");
        assert_eq!(bad.sign(&publisher(1)).unwrap_err().code(), code, "{why}");
    }
    assert_eq!(refusal(&vec![0; CONFIRMATION_BYTES_MAX + 1], NOW), Code::Limit);
}

#[test]
fn a_list_of_heads_is_read_in_its_one_form_only() {
    let list = heads();
    let bytes = list.block().bytes().to_vec();
    assert_eq!(Heads::from_bytes(&bytes).unwrap(), list);
    assert_eq!(Heads::from_bytes(&[]).unwrap(), Heads::default());
    let swapped = [&bytes[DIGEST_BYTES..], &bytes[..DIGEST_BYTES]].concat();
    for bad in [&bytes[..40], &swapped, &[&bytes[..DIGEST_BYTES], &bytes[..DIGEST_BYTES]].concat()] {
        assert_eq!(Heads::from_bytes(bad).unwrap_err().code(), Code::Malformed);
    }
    assert_eq!(Heads::from_bytes(&vec![0; LIST_BYTES_MAX + 32]).unwrap_err().code(), Code::Limit);
}

#[test]
fn the_newer_one_counts_and_what_is_replayed_does_not() {
    let one = publisher(1);
    let (first, second) = (made(&one, None, NOW), made(&one, None, NOW.plus(DAY)));
    let by_new_key = made(&rotated(&one, 2), None, NOW.minus(DAY));
    let (thief, owner) = (rotated(&one, 3), rotated(&one, 2));
    let number = first.confirmation().number;
    let twin = Confirmation { number, ..second.confirmation().clone() }.sign(&one).unwrap();
    for (candidate, held, verdict, why) in [
        (&first, None, Verdict::Newer, "the first"),
        (&second, Some(&first), Verdict::Newer, "a later number"),
        (&first, Some(&first), Verdict::Known, "the same"),
        (&first, Some(&second), Verdict::Older, "replayed"),
        (&by_new_key, Some(&second), Verdict::Newer, "a later key document, whatever the number"),
        (&second, Some(&by_new_key), Verdict::Older, "a key that was replaced"),
        (&twin, Some(&first), Verdict::Instead, "one number, later"),
        (&first, Some(&twin), Verdict::Beaten, "one number, earlier"),
        (&made(&thief, None, NOW), Some(&made(&owner, None, NOW)), Verdict::Fork, "another chain"),
    ] {
        assert_eq!(judge(candidate, held), verdict, "{why}");
        assert_eq!(verdict.is_doubled(), why.starts_with("one number"));
    }
}

#[test]
fn numbers_go_on_after_a_database_was_lost_and_on_another_machine() {
    let one = publisher(1);
    let last = made(&one, Some(NOW.as_secs() + 7), NOW);
    assert_eq!(last.confirmation().number, NOW.as_secs() + 8);
    assert_eq!(judge(&made(&one, None, NOW.plus(DAY)), Some(&last)), Verdict::Newer);
    assert_eq!(Confirmation::number_after(Some(u64::MAX), NOW), u64::MAX);
}

#[test]
fn many_heads_or_a_long_chain_of_keys_are_named_by_a_block() {
    let one = publisher(1);
    let digests = |n: usize| (0..n).map(|n| Digest::of(&n.to_be_bytes())).collect::<Heads>();
    let make = |by: &Publisher, n| Confirmation::make(by, &digests(n), None, NOW, DAY).unwrap();
    let (listed, block) = make(&one, CONFIRMED_LISTED_MAX);
    assert!(block.is_none() && listed.bytes().len() <= CONFIRMATION_BYTES_MAX);
    let (named, block) = make(&one, CONFIRMED_LISTED_MAX + 1);
    assert_eq!(block.map(|block| block.id()), named.confirmation().root);
    assert_eq!(named.heads(), None);
    let long = (2..=11).fold(one, |publisher, seed| rotated(&publisher, seed));
    let (listed, block) = make(&long, CONFIRMED_LISTED_MAX);
    assert!(block.is_none() && listed.bytes().len() <= CONFIRMATION_BYTES_MAX, "there is room for the list");
}

#[test]
fn a_confirmation_is_small() {
    let one = publisher(1);
    let size = |n: usize| {
        let heads: Vec<_> = (0..n).map(|n| worded(&one, &n.to_string())).collect();
        Confirmation::make(&one, &Heads::of(&heads), None, NOW, DAY * 30).unwrap().0.bytes().len()
    };
    let (none, four, most) = (size(0), size(4), size(CONFIRMED_LISTED_MAX));
    assert!(none <= 520 && four <= none + 4 * 34 && most <= none + 64 * 34 + 8, "{none} {four} {most}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    /// Whatever the order in which they come, and however often, the same one is held in the end.
    #[test]
    fn the_one_that_counts_does_not_depend_on_the_order(
        drawn in proptest::collection::vec((0u64..3, 0u64..3, 1u64..3, 0u8..2), 1..7),
        order in proptest::collection::vec(0usize..7, 1..20),
    ) {
        let keys = [publisher(1), rotated(&publisher(1), 2)];
        let all: Vec<_> = drawn.iter().map(|(number, as_of, days, key)| {
            let by = &keys[usize::from(*key)];
            let as_of = NOW.plus(DAY * u32::try_from(*as_of).unwrap());
            let next_by = as_of.plus(DAY * u32::try_from(*days).unwrap());
            let made = made(by, None, as_of).confirmation().clone();
            Confirmation { number: *number, next_by, ..made }.sign(by).unwrap()
        }).collect();
        let fold = |indexes: &mut dyn Iterator<Item = usize>| {
            let mut held: Option<VerifiedConfirmation> = None;
            for at in indexes {
                let candidate = &all[at % all.len()];
                if judge(candidate, held.as_ref()).is_kept() {
                    held = Some(candidate.clone());
                }
            }
            held
        };
        let every = fold(&mut (0..all.len()));
        let reversed = fold(&mut (0..all.len()).rev());
        let shuffled = fold(&mut order.iter().copied().chain(0..all.len()));
        proptest::prop_assert_eq!(&every, &reversed);
        proptest::prop_assert_eq!(&every, &shuffled);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, payload: Vec<u8>) {
        let _ = (VerifiedConfirmation::verify(&bytes, NOW), Heads::from_bytes(&bytes), is_likely(&bytes));
        let _ = VerifiedConfirmation::verify(&publisher(1).seal(Context::Confirmation, payload).encode(), NOW);
    }
}

/// The format is final: these bytes may never change.
#[test]
fn the_format_is_fixed() {
    let digests: Heads = [Digest::of(b"one")].into_iter().collect();
    let made = Confirmation::make(&publisher(1), &digests, None, NOW, DAY * 30).unwrap().0;
    insta::assert_snapshot!(hex::encode(made.bytes()), @"a2677061796c6f6164590174a8646b6579738158e3a2677061796c6f6164585fa7616e00646b6579738158208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c6673636f7065738067637265617465641a6553f1006776657273696f6e016870726576696f7573f6697468726573686f6c64016a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840cc24b26a6bed7d128f847b726f995468be9b5d9afc32ca291dfc1448e0afe50d04ada489e0db90ab151ca1acdfb08d837c9b0f1289291f428e2a36d2e215600764726f6f74f66561735f6f661a6553f1006568656164738158207692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed666e756d6265721a6553f100676e6578745f62791a657b7e006776657273696f6e01697075626c697368657258200b7864d3d452b0b4aa36343ba0aa02c99b4c95204f0d97699e8f2459ce40068e6a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c6373696758404961d44ea5effc957d7386020a305404cf7afec4d6d9cff42ac494d813ac6bbd9e03ccf135ac417e4d9e9ab2396bf9c23d203808ff9c12f021bfbfddd0396703");
    insta::assert_snapshot!(hex::encode(&made.dht_key()), @"2da65f0d03f4c4c0c1703ec02fef9e0dab56532d0f66fb11850fa2374a69df62");
}

/// Assumptions: 100 000 packages, three of a publisher (as on crates.io: some 190 000 crates of 60 000 owners); heads with a usual
/// description, two tags and a category; heads that are renewed after half of seven days, as they were when they expired; the
/// default promise of thirty days, confirmed after a third of it. Both go the same ways: once through gossip to every node, and to
/// the twenty nodes that keep the record.
#[test]
fn confirming_costs_a_network_ten_times_fewer_bytes_than_renewing_every_head() {
    const PACKAGES: f64 = 100_000.0;
    const OF_A_PUBLISHER: usize = 3;
    const YEAR_DAYS: f64 = 365.0;
    let one = publisher(1);
    let heads: Vec<_> = (0..OF_A_PUBLISHER)
        .map(|n| {
            let draft = draft(&one, &releases(&one, &["1.0.0", "1.1.0"]));
            let description =
                format!("Number {n} of some tools that help with the weather and the tides at sea");
            let tags = vec!["weather".to_owned(), "sailing".to_owned()];
            Head { description, tags, categories: vec!["science".to_owned()], ..draft }.sign(&one).unwrap()
        })
        .collect();
    let made = Confirmation::make(&one, &Heads::of(&heads), None, NOW, DAY * 30).unwrap().0;
    // A head that expired said so in one more field.
    let head_bytes = (heads[0].bytes().len() + "expires".len() + 6) as f64;
    let renewing = PACKAGES * (YEAR_DAYS / 3.5) * head_bytes;
    let confirming = PACKAGES / OF_A_PUBLISHER as f64 * (YEAR_DAYS / 10.0) * made.bytes().len() as f64;
    let times = renewing / confirming;
    assert!(
        times >= 10.0,
        "{times:.1} times: {head_bytes} B a head, {} B a confirmation",
        made.bytes().len()
    );
}

#[test]
fn of_two_chains_of_keys_the_one_confirms_whose_recovery_keys_ended_the_other() {
    use crate::identity::{RecoveryKey, SecretKey, publisher::Change};
    let recovery = RecoveryKey::from_secret([9; 32]);
    let named = Change { recovery: Some((vec![recovery.public_key()], 1)), ..Change::default() };
    let first = publisher(1).amended(named, &[], NOW).unwrap();
    let next = |by: &Publisher, seed: u8, revoke: &[&Publisher]| {
        let secret = Some(SecretKey::from_bytes(&[seed; 32]));
        let revoked = revoke.iter().map(|it| it.public_key()).collect();
        let change = Change { secret, revoked, ..Change::default() };
        by.amended(change, std::slice::from_ref(&recovery), NOW).unwrap()
    };
    let (own, other) = (next(&first, 2, &[]), next(&first, 3, &[]));
    let ended = next(&own, 4, &[&other]);
    let [own, other, ended] = [&own, &other, &ended].map(|by| made(by, None, NOW));
    assert_eq!(judge(&own, Some(&other)), Verdict::Fork);
    assert_eq!(judge(&ended, Some(&other)), Verdict::Newer, "whatever came first");
    assert_eq!(judge(&other, Some(&ended)), Verdict::Fork);
}
