//! Tests of heads: their bytes, and which of them are refused.

use std::time::Duration;

use super::*;
use crate::{
    code::Code,
    content::ContentId,
    identity::{KeyDocument, SecretKey, hex, publisher::Change},
    release::{
        Kind,
        fixture::{NOW, draft, head, publisher, release, releases, rotated},
    },
};

fn unsigned() -> Head {
    let publisher = publisher(1);
    draft(&publisher, &releases(&publisher, &["1.0.0", "1.1.0"]))
}

/// Signs whatever `head` says.
fn seal(head: &Head, publisher: &Publisher) -> Vec<u8> {
    publisher.seal(Context::Head, canonical::encode(head)).encode()
}

fn refusal(bytes: &[u8]) -> Code {
    VerifiedHead::verify(bytes, NOW).unwrap_err().code()
}

#[test]
fn a_head_survives_its_encoding() {
    let signed = unsigned().sign(&publisher(1)).unwrap();
    let read = VerifiedHead::verify(signed.bytes(), NOW).unwrap();
    assert_eq!(read, signed);
    assert_eq!(read.head(), &unsigned());
    assert_eq!(read.package_id().to_string(), format!("{}/pack", publisher(1).id()));
    assert_eq!(read.head().latest, Some(release("1.1.0")));
}

#[test]
fn unsigned_zero_truncated_and_foreign_signatures_are_refused() {
    let payload = canonical::encode(&unsigned());
    let none = Envelope::seal(Context::Head, payload.clone(), &[]).encode();
    assert_eq!(refusal(&none), Code::Signature, "unsigned");
    assert_eq!(
        refusal(&publisher(2).seal(Context::Head, payload.clone()).encode()),
        Code::Signature,
        "foreign"
    );
    assert_eq!(
        refusal(&publisher(1).seal(Context::Entry, payload).encode()),
        Code::Signature,
        "as something else"
    );
    let good = seal(&unsigned(), &publisher(1));
    let mut zero = good.clone();
    let end = zero.len();
    zero[end - 64..].fill(0);
    assert_eq!(refusal(&zero), Code::Signature, "zero");
    let mut changed = good.clone();
    let at = changed.windows(9).position(|window| window == b"A package").unwrap();
    changed[at] = b'B';
    assert_eq!(refusal(&changed), Code::Signature, "another description");
    for length in [0, 1, good.len() / 2, good.len() - 1] {
        assert_eq!(refusal(&good[..length]), Code::Malformed, "cut off at {length}");
    }
}

#[test]
fn a_head_that_names_another_publisher_is_refused() {
    let claimed = Head { publisher: publisher(2).id(), ..unsigned() };
    assert_eq!(refusal(&seal(&claimed, &publisher(1))), Code::Signature);
    let other = publisher(2);
    let keys = other.key_log().documents().map(ByteBuf::from).collect();
    let borrowed = Head { keys, key_log: other.key_log().tip(), publisher: other.id(), ..unsigned() };
    assert_eq!(refusal(&seal(&borrowed, &publisher(1))), Code::Signature, "with that one's key documents");
    let tip = Head { key_log: other.key_log().tip(), ..unsigned() };
    assert_eq!(refusal(&seal(&tip, &publisher(1))), Code::Malformed);
}

#[test]
fn a_replaced_key_signs_no_head_with_the_new_chain() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let head = draft(&new, &releases(&old, &["1.0.0"]));
    assert!(VerifiedHead::verify(&seal(&head, &new), NOW).is_ok());
    assert_eq!(refusal(&seal(&head, &old)), Code::Signature);
    let broken = Head { keys: head.keys[1..].to_vec(), ..head.clone() };
    assert_eq!(refusal(&seal(&broken, &new)), Code::Signature, "without the genesis");
    let none = Head { keys: vec![], ..head };
    assert_eq!(refusal(&seal(&none, &new)), Code::Signature, "without keys");
}

#[test]
fn fewer_signatures_than_the_threshold_are_refused() {
    let secrets = [SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32])];
    let mut keys: Vec<_> = secrets.iter().map(SecretKey::public_key).collect();
    keys.sort();
    let genesis = KeyDocument { keys, threshold: 2, ..KeyDocument::genesis(secrets[0].public_key(), NOW) };
    let signed = genesis.sign(&[&secrets[0], &secrets[1]]).unwrap();
    let log = KeyLog::verify(&[signed]).unwrap();
    let keys = log.documents().map(ByteBuf::from).collect();
    let head = Head { keys, key_log: log.tip(), publisher: log.publisher(), ..unsigned() };
    let sealed = |by: &[&SecretKey]| Envelope::seal(Context::Head, canonical::encode(&head), by).encode();
    assert!(VerifiedHead::verify(&sealed(&[&secrets[0], &secrets[1]]), NOW).is_ok());
    assert_eq!(refusal(&sealed(&[&secrets[0]])), Code::Signature);
}

#[test]
fn keys_sign_within_their_scopes_only() {
    let secret = SecretKey::from_bytes(&[1; 32]);
    let scopes = vec!["other".parse().unwrap()];
    let genesis = KeyDocument { scopes, ..KeyDocument::genesis(secret.public_key(), NOW) };
    let log = KeyLog::verify(&[genesis.sign(&[&secret]).unwrap()]).unwrap();
    let publisher = Publisher::new(secret, log).unwrap();
    let keys = publisher.key_log().documents().map(ByteBuf::from).collect();
    let head = Head { keys, key_log: publisher.key_log().tip(), publisher: publisher.id(), ..unsigned() };
    assert!(matches!(head.sign(&publisher).unwrap_err(), Error::Scope { .. }));
    assert!(Head { name: "other".parse().unwrap(), ..head }.sign(&publisher).is_ok());
}

#[test]
fn a_head_is_valid_permanently_and_says_the_same_until_its_log_grows_or_its_keys_change() {
    let (one, log) = (publisher(1), releases(&publisher(1), &["1.0.0", "1.1.0"]));
    let head = draft(&one, &log).sign(&one).unwrap();
    for now in [NOW, NOW.plus(Duration::from_secs(400 * 24 * 3600)), Timestamp::from_secs(u64::MAX)] {
        assert_eq!(VerifiedHead::verify(head.bytes(), now).unwrap(), head);
    }
    assert_eq!(draft(&one, &log).sign(&one).unwrap().bytes(), head.bytes());
    assert_eq!(head.head().released_at, log.newest().unwrap().entry().created);
    let longer = releases(&one, &["1.0.0", "1.1.0", "1.2.0"]);
    assert_ne!(draft(&one, &longer).sign(&one).unwrap().bytes(), head.bytes());
    let replaced = rotated(&one, 2);
    assert_ne!(draft(&replaced, &log).sign(&replaced).unwrap().bytes(), head.bytes());
}

#[test]
fn a_head_from_the_future_is_refused() {
    let head = unsigned().sign(&publisher(1)).unwrap();
    let at = |now| VerifiedHead::verify(head.bytes(), now).map_err(|error| error.code());
    assert!(at(NOW.minus(CLOCK_SKEW_MAX)).is_ok());
    assert_eq!(at(NOW.minus(CLOCK_SKEW_MAX + Duration::from_secs(1))).unwrap_err(), Code::Clock);
    assert_eq!(at(Timestamp::default()).unwrap_err(), Code::Clock);
}

#[test]
fn a_forged_head_is_called_forged_even_when_it_is_early() {
    let head = seal(&unsigned(), &publisher(2));
    let early = VerifiedHead::verify(&head, Timestamp::default()).unwrap_err();
    assert_eq!(early.code(), Code::Signature);
}

#[test]
fn heads_that_break_a_rule_are_refused() {
    let label = |length| vec!["x".repeat(length)];
    let raw = ContentId::of(Codec::Raw, b"");
    for (bad, code, why) in [
        (Head { version: 0, ..unsigned() }, Code::Malformed, "version zero"),
        (Head { version: 2, ..unsigned() }, Code::Malformed, "a later version"),
        (
            Head { description: "x".repeat(DESCRIPTION_BYTES_MAX + 1), ..unsigned() },
            Code::Limit,
            "description",
        ),
        (
            Head { description: "a\u{1b}[31mb".to_owned(), ..unsigned() },
            Code::Malformed,
            "escape in description",
        ),
        (Head { license: Some("x".repeat(FIELD_BYTES_MAX + 1)), ..unsigned() }, Code::Limit, "licence"),
        (Head { license: Some("MIT\n".to_owned()), ..unsigned() }, Code::Malformed, "line end in licence"),
        (Head { tags: label(LABEL_BYTES_MAX + 1), ..unsigned() }, Code::Limit, "tag"),
        (Head { tags: label(0), ..unsigned() }, Code::Malformed, "empty tag"),
        (Head { tags: vec!["a".to_owned(); LABELS_MAX + 1], ..unsigned() }, Code::Limit, "tags"),
        (Head { tags: vec!["a\0".to_owned()], ..unsigned() }, Code::Malformed, "control in tag"),
        (Head { categories: label(LABEL_BYTES_MAX + 1), ..unsigned() }, Code::Limit, "category"),
        (Head { categories: vec!["\u{202e}x".to_owned()], ..unsigned() }, Code::Malformed, "reordering"),
        (Head { entry: raw, ..unsigned() }, Code::Malformed, "entry of another codec"),
        (Head { log: raw, ..unsigned() }, Code::Malformed, "log of another codec"),
        (Head { sequence: Sequence::default(), ..unsigned() }, Code::Malformed, "first but not first"),
        (Head { entry: unsigned().log, ..unsigned() }, Code::Malformed, "later but first"),
        (
            Head { latest: Some(Release { size: u64::MAX, ..release("1.0.0") }), ..unsigned() },
            Code::Limit,
            "size of the latest",
        ),
        (
            Head { deprecated: Some("x".repeat(DEPRECATION_BYTES_MAX + 1)), ..unsigned() },
            Code::Limit,
            "deprecation",
        ),
        (Head { deprecated: Some(String::new()), ..unsigned() }, Code::Malformed, "empty deprecation"),
        (Head { yanked: vec![Version::new(1, 1, 0)], ..unsigned() }, Code::Malformed, "the latest is yanked"),
    ] {
        assert_eq!(refusal(&seal(&bad, &publisher(1))), code, "{why}");
        assert_eq!(bad.sign(&publisher(1)).unwrap_err().code(), code, "{why}");
    }
    assert_eq!(refusal(&vec![0; HEAD_BYTES_MAX + 1]), Code::Limit);
    assert_eq!(refusal(&[0; HEAD_BYTES_MAX]), Code::Malformed);
}

#[test]
fn a_name_that_is_none_is_refused() {
    #[derive(Serialize)]
    struct Renamed {
        name: &'static str,
    }
    let bytes = publisher(1).seal(Context::Head, canonical::encode(&Renamed { name: "../x" })).encode();
    assert_eq!(refusal(&bytes), Code::Malformed);
    let mut payload = canonical::encode(&unsigned());
    let at = payload.windows(5).position(|window| window == b"\x64pack").unwrap();
    payload[at + 1] = b'P';
    assert_eq!(refusal(&publisher(1).seal(Context::Head, payload).encode()), Code::Malformed);
}

#[test]
fn a_field_of_a_later_program_is_passed_over_and_kept() {
    #[derive(Serialize)]
    struct Extended {
        #[serde(flatten)]
        head: Head,
        witnesses: u8,
    }
    let payload = canonical::encode(&Extended { head: unsigned(), witnesses: 3 });
    let bytes = publisher(1).seal(Context::Head, payload).encode();
    let read = VerifiedHead::verify(&bytes, NOW).unwrap();
    assert_eq!((read.head(), read.bytes()), (&unsigned(), bytes.as_slice()));
}

#[test]
fn a_head_belongs_under_its_own_key_only() {
    let head = head(&publisher(1), &["1.0.0"]);
    let verify = |key: &[u8]| VerifiedHead::verify_at(key, head.bytes(), NOW).map_err(|error| error.code());
    assert_eq!(verify(&head.dht_key()).unwrap(), head);
    let name = PackageId { name: "other".parse().unwrap(), ..head.package_id() };
    let publisher = PackageId { publisher: publisher(2).id(), ..head.package_id() };
    for key in [&dht_key(&name)[..], &dht_key(&publisher), &[], &head.dht_key()[..31], &[0; 32]] {
        assert_eq!(verify(key).unwrap_err(), Code::HashMismatch);
    }
}

/// A head whose every field is as long as it may be.
fn largest() -> Head {
    let labels = vec!["x".repeat(LABEL_BYTES_MAX); LABELS_MAX];
    Head {
        name: "x".repeat(64).parse().unwrap(),
        sequence: Sequence::new(u64::MAX),
        latest: Some(Release {
            version: format!("1.0.0-{}", "x".repeat(58)).parse().unwrap(),
            size: crate::limits::PACKAGE_BYTES_MAX,
            files: crate::limits::FILES_MAX as u64,
            ..release("1.0.0")
        }),
        description: "x".repeat(DESCRIPTION_BYTES_MAX),
        license: Some("x".repeat(FIELD_BYTES_MAX)),
        tags: labels.clone(),
        categories: labels,
        released_at: Timestamp::from_secs(u64::MAX),
        yanked: (0..13).rev().map(|patch| Version::new(1, 10, 100 + patch)).collect(),
        deprecated: Some("x".repeat(DEPRECATION_BYTES_MAX)),
        ..unsigned()
    }
}

#[test]
fn the_largest_head_fits_beside_the_longest_chain_of_keys() {
    let publisher = replaced_as_often_as_possible(1);
    let keys = publisher.key_log().documents().map(ByteBuf::from).collect();
    let head = Head { keys, key_log: publisher.key_log().tip(), ..largest() };
    let signed = head.sign(&publisher).unwrap();
    assert!(signed.bytes().len() <= HEAD_BYTES_MAX, "{}", signed.bytes().len());
}

/// A publisher after one replacement of its key after another, and after all revocations that still fit.
fn replaced_as_often_as_possible(seed: u8) -> Publisher {
    let mut publisher = publisher(seed);
    let mut secrets = (100..).map(|seed| SecretKey::from_bytes(&[seed; 32]));
    let mut counts = [0, 0];
    for is_revocation in [false, true] {
        loop {
            let revoked = if is_revocation { vec![publisher.public_key()] } else { Vec::new() };
            let change = Change { secret: secrets.next(), revoked, ..Change::default() };
            match publisher.changed(change, &[], NOW) {
                Ok(next) => publisher = next,
                Err(error) => {
                    assert_eq!(error.code(), Code::Limit);
                    assert!(!error.hint().is_empty());
                    break;
                }
            }
            counts[usize::from(is_revocation)] += 1;
        }
    }
    assert!(counts[0] >= 10 && counts[1] >= 2, "{counts:?}");
    publisher
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn every_head_within_its_limits_fits(
        description in "[a-zé包]{0,170}",
        tags in proptest::collection::vec("[a-z]{1,32}", 0..=LABELS_MAX),
        categories in proptest::collection::vec("[a-z]{32}", 0..=LABELS_MAX),
        license in proptest::option::of("[A-Z]{1,256}"),
        (preflight_skipped, secrets_allowed) in proptest::prelude::any::<(bool, bool)>(),
    ) {
        let flags = Head { preflight_skipped, secrets_allowed, ..largest() };
        let head = Head { description, tags, categories, license, ..flags };
        let signed = head.sign(&publisher(1)).unwrap();
        proptest::prop_assert_eq!(signed.head(), &head);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, payload: Vec<u8>) {
        let _ = VerifiedHead::verify(&bytes, NOW);
        let _ = VerifiedHead::verify(&publisher(1).seal(Context::Head, payload).encode(), NOW);
    }
}

/// The format is final: these bytes may never change.
#[test]
fn the_format_is_fixed() {
    let signed = unsigned().sign(&publisher(1)).unwrap();
    insta::assert_snapshot!(hex::encode(signed.bytes()), @"a2677061796c6f61645902abaf636c6f67d82a58250001711220ac25fa29d8277511f0f3f46760f881df42c9544b230edbfb290555ea04becb00646b6579738158e3a2677061796c6f6164585fa7616e00646b6579738158208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c6673636f7065738067637265617465641a6553f1006776657273696f6e016870726576696f7573f6697468726573686f6c64016a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840cc24b26a6bed7d128f847b726f995468be9b5d9afc32ca291dfc1448e0afe50d04ada489e0db90ab151ca1acdfb08d837c9b0f1289291f428e2a36d2e2156007646e616d65647061636b64746167738165736d616c6c65656e747279d82a582500017112204932fbf54911fcabb1efab0180d572788cd835b032fdfbf363141be751e38e94666c6174657374a564726f6f74d82a582500017012207fbd210ebec11f65a97190ef900795c4b8da3805af3f5a1b8d1d272556b292ca6473697a651904d26566696c6573056776657273696f6e65312e312e30686d616e6966657374d82a582500015512207fbd210ebec11f65a97190ef900795c4b8da3805af3f5a1b8d1d272556b292ca676b65795f6c6f67d82a582500017112207b7ad7365d7b46ce459b5cd383e1979c7dc57f1f21074dd2d2d35da14238e499676c6963656e7365634d49546776657273696f6e016873657175656e636501697075626c697368657258200b7864d3d452b0b4aa36343ba0aa02c99b4c95204f0d97699e8f2459ce40068e6a63617465676f72696573816574657374736b6465736372697074696f6e6941207061636b6167656b72656c65617365645f61741a6553f10071707265666c696768745f736b6970706564f46a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c6373696758406bbca923e586ef13e77e5af899fc4ffcfe4e6a10c6e70e30e80f836d177e27939de1de6a0600556150c5f78e2a35a82870eb21eeb5cebc7a605265d468c2de0f");
    insta::assert_snapshot!(hex::encode(&signed.dht_key()), @"bd99b9337499b41c195105ce647dc534d33f033a91abce4fbbf46802d767524b");
}

#[test]
fn what_came_after_the_latest_release_does_not_make_it_younger() {
    let publisher = publisher(1);
    let mut log = releases(&publisher, &["1.0.0", "1.1.0"]);
    assert_eq!(draft(&publisher, &log).latest_released_at, None, "the newest entry is the release");
    let later = NOW.plus(Duration::from_secs(86_400));
    let kind = Kind::Deprecate { message: "use other".to_owned() };
    let entry = log.next(kind, &publisher, later).unwrap();
    log.push(entry).unwrap();
    let head = draft(&publisher, &log);
    assert_eq!((head.released_at, head.release_time()), (later, NOW));
    let places: Vec<_> = ["1.0.0", "1.1.0"]
        .iter()
        .map(|version| log.place_of(&version.parse().unwrap()).unwrap().0.get())
        .collect();
    assert_eq!(places, [0, 1]);
    let signed = head.sign(&publisher).unwrap();
    log.anchored(&signed).unwrap();
    let lie = Head { latest_released_at: Some(later), ..head.clone() };
    assert!(log.anchored(&lie.sign(&publisher).unwrap()).is_err(), "its log dates the release");
    assert_eq!(refusal(&seal(&Head { latest: None, ..lie }, &publisher)), Code::Malformed);
}

/// What is known of a publisher's keys changes what a check costs, and never what it says: of no byte that is another.
#[test]
fn a_head_is_judged_alike_whether_its_keys_are_known_or_not() {
    let owner = rotated(&publisher(1), 2);
    let [good, other] = [
        draft(&owner, &releases(&owner, &["1.0.0"])).sign(&owner).unwrap(),
        draft(&owner, &releases(&owner, &["1.0.0", "1.1.0"])).sign(&owner).unwrap(),
    ];
    let chains = Chains::default();
    let said =
        |outcome: Result<VerifiedHead, Error>| outcome.map_err(|error| (error.code(), error.to_string()));
    for head in [&good, &other, &good] {
        assert_eq!(said(VerifiedHead::verify_known(head.bytes(), &chains)), Ok(head.clone()));
    }
    for at in 0..good.bytes().len() {
        let mut changed = good.bytes().to_vec();
        changed[at] ^= 1 << (at % 8);
        let plain = said(VerifiedHead::verify_stored(&changed));
        assert!(plain.is_err(), "else nothing is proved: {at}");
        assert_eq!(said(VerifiedHead::verify_known(&changed, &chains)), plain, "{at}");
    }
    // Keys that are known and may no longer sign, or may for another publisher.
    let stranger = publisher(3);
    chains.verify(&stranger.key_log().documents().map(<[u8]>::to_vec).collect::<Vec<_>>()).unwrap();
    for signer in [&publisher(1), &stranger] {
        let forged = seal(good.head(), signer);
        let plain = said(VerifiedHead::verify_stored(&forged));
        assert_eq!(plain.as_ref().unwrap_err().0, Code::Signature);
        assert_eq!(said(VerifiedHead::verify_known(&forged, &chains)), plain);
    }
}
