use super::*;
use crate::{
    code::Code,
    identity::{KeyDocument, SecretKey, hex},
    release::fixture::{NOW, publisher, release, rotated},
};

fn entry(kind: Kind) -> Entry {
    Entry {
        version: VERSION,
        publisher: publisher(1).id(),
        name: "pack".parse().unwrap(),
        sequence: Sequence::default(),
        previous: None,
        key_n: 0,
        kind,
        created: NOW,
    }
}

fn seal(payload: Vec<u8>) -> Vec<u8> {
    publisher(1).seal(Context::Entry, payload).encode()
}

fn refusal(bytes: &[u8]) -> Code {
    SignedEntry::decode_and_verify(bytes, publisher(1).key_log()).unwrap_err().code()
}

fn kinds() -> Vec<Kind> {
    let version: Version = "1.2.3".parse().unwrap();
    vec![
        Kind::Release(release("1.2.3")),
        Kind::Yank { version: version.clone(), reason: "broken".to_owned() },
        Kind::Unyank { version },
        Kind::Deprecate { message: "use other".to_owned() },
        Kind::Transfer { to: publisher(2).id() },
        Kind::Tombstone { reason: "gone".to_owned() },
    ]
}

#[test]
fn every_kind_survives_its_encoding() {
    for kind in kinds() {
        let signed = SignedEntry::sign(&entry(kind.clone()), &publisher(1)).unwrap();
        let read = SignedEntry::decode_and_verify(signed.block().bytes(), publisher(1).key_log()).unwrap();
        assert_eq!(read, signed);
        assert_eq!(read.entry().kind, kind);
        assert_eq!(read.id(), ContentId::of(Codec::DagCbor, signed.block().bytes()));
    }
}

#[test]
fn an_entry_that_names_another_publisher_is_refused() {
    let stolen = Entry { publisher: publisher(2).id(), ..entry(Kind::Deprecate { message: String::new() }) };
    let bytes = seal(canonical::encode(&stolen));
    let error = SignedEntry::decode_and_verify(&bytes, publisher(1).key_log()).unwrap_err();
    assert!(matches!(error, Error::Publisher { .. }));
    assert_eq!(error.code(), Code::Signature);
    // Nor does it pass with the keys of the one whom it names.
    let error = SignedEntry::decode_and_verify(&bytes, publisher(2).key_log()).unwrap_err();
    assert_eq!(error.code(), Code::Signature);
}

#[test]
fn the_keys_of_the_document_that_it_names_must_have_signed() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let kind = Kind::Deprecate { message: String::new() };
    let by = |key_n, publisher: &Publisher| {
        let payload = canonical::encode(&Entry { key_n, ..entry(kind.clone()) });
        let bytes = publisher.seal(Context::Entry, payload).encode();
        SignedEntry::decode_and_verify(&bytes, new.key_log()).map_err(|error| error.code())
    };
    assert!(by(0, &old).is_ok(), "an entry outlives the key that signed it");
    assert!(by(1, &new).is_ok());
    assert_eq!(by(1, &old).unwrap_err(), Code::Signature);
    assert_eq!(by(0, &new).unwrap_err(), Code::Signature);
    assert_eq!(by(2, &new).unwrap_err(), Code::Malformed);
}

#[test]
fn keys_sign_within_their_scopes_only() {
    let secret = SecretKey::from_bytes(&[1; 32]);
    let scopes = vec!["other".parse().unwrap()];
    let genesis = KeyDocument { scopes, ..KeyDocument::genesis(secret.public_key(), NOW) };
    let keys = KeyLog::verify(&[genesis.sign(&[&secret]).unwrap()]).unwrap();
    let limited = Publisher::new(secret, keys).unwrap();
    let kind = Kind::Deprecate { message: String::new() };
    let within = Entry { publisher: limited.id(), name: "other".parse().unwrap(), ..entry(kind) };
    assert!(SignedEntry::sign(&within, &limited).is_ok());
    let outside = Entry { name: "pack".parse().unwrap(), ..within };
    assert!(matches!(SignedEntry::sign(&outside, &limited).unwrap_err(), Error::Scope { .. }));
}

#[test]
fn entries_that_break_a_rule_are_refused() {
    let good = entry(Kind::Release(release("1.0.0")));
    assert!(SignedEntry::decode_and_verify(&seal(canonical::encode(&good)), publisher(1).key_log()).is_ok());
    let with = |change: fn(&mut Release)| {
        let mut release = release("1.0.0");
        change(&mut release);
        entry(Kind::Release(release))
    };
    let version = || "1.0.0".parse::<Version>().unwrap();
    let long = "x".repeat(REASON_BYTES_MAX + 1);
    for (bad, code, why) in [
        (
            Entry { sequence: Sequence::new(1), ..good.clone() },
            Code::Malformed,
            "later without one before it",
        ),
        (
            Entry { previous: Some(ContentId::of(Codec::DagCbor, b"")), ..good.clone() },
            Code::Malformed,
            "first with one before it",
        ),
        (Entry { version: 0, ..good.clone() }, Code::Malformed, "version zero"),
        (Entry { version: 2, ..good.clone() }, Code::Malformed, "a later version"),
        (with(|r| r.version = "1.0.0+meta".parse().unwrap()), Code::Malformed, "build metadata"),
        (
            with(|r| r.version = format!("1.0.0-{}", "x".repeat(64)).parse().unwrap()),
            Code::Malformed,
            "long version",
        ),
        (
            with(|r| r.manifest = ContentId::of(Codec::DagCbor, b"")),
            Code::Malformed,
            "manifest that is no file",
        ),
        (with(|r| r.root = ContentId::of(Codec::Raw, b"")), Code::Malformed, "tree that is no directory"),
        (with(|r| r.size = PACKAGE_BYTES_MAX + 1), Code::Limit, "size"),
        (with(|r| r.files = FILES_MAX as u64 + 1), Code::Limit, "files"),
        (entry(Kind::Yank { version: version(), reason: long.clone() }), Code::Limit, "long reason"),
        (
            entry(Kind::Yank { version: version(), reason: "\u{1b}[2J".to_owned() }),
            Code::Malformed,
            "control",
        ),
        (entry(Kind::Deprecate { message: long.clone() }), Code::Limit, "long message"),
        (entry(Kind::Tombstone { reason: long }), Code::Limit, "long reason"),
    ] {
        assert_eq!(refusal(&seal(canonical::encode(&bad))), code, "{why}");
        assert!(SignedEntry::sign(&bad, &publisher(1)).is_err(), "{why}");
    }
    assert_eq!(refusal(&vec![0; ENTRY_BYTES_MAX + 1]), Code::Limit);
    assert_eq!(
        refusal(&publisher(1).seal(Context::Head, canonical::encode(&good)).encode()),
        Code::Signature
    );
}

#[derive(Serialize)]
struct Later<K> {
    #[serde(flatten)]
    entry: BTreeEntry,
    kind: K,
    witness: u8,
}

#[derive(Serialize)]
struct BTreeEntry {
    version: u64,
    publisher: PublisherId,
    name: PackageName,
    sequence: Sequence,
    previous: Option<ContentId>,
    key_n: u64,
    created: Timestamp,
}

fn later<K: Serialize>(kind: K) -> Result<SignedEntry, Error> {
    let Entry { version, publisher: by, name, sequence, previous, key_n, created, .. } =
        entry(Kind::Deprecate { message: String::new() });
    let entry = BTreeEntry { version, publisher: by, name, sequence, previous, key_n, created };
    let bytes = seal(canonical::encode(&Later { entry, kind, witness: 1 }));
    SignedEntry::decode_and_verify(&bytes, publisher(1).key_log())
}

#[test]
fn fields_and_kinds_of_a_later_program_are_passed_over() {
    #[derive(Serialize)]
    struct Detail<'a> {
        message: &'a str,
        since: u8,
    }
    #[derive(Serialize)]
    struct Wire<'a> {
        r#type: &'a str,
        detail: Detail<'a>,
        more: u8,
    }
    let wire = |word| Wire { r#type: word, detail: Detail { message: "m", since: 1 }, more: 0 };
    let known = later(wire("deprecate")).unwrap();
    assert_eq!(known.entry().kind, Kind::Deprecate { message: "m".to_owned() });
    let unknown = later(wire("audit")).unwrap();
    assert_eq!(unknown.entry().kind, Kind::Unknown { word: "audit".to_owned() });
    assert!(SignedEntry::sign(unknown.entry(), &publisher(1)).is_err(), "it would lose what it holds");
}

#[test]
fn a_kind_without_its_parts_is_refused() {
    #[derive(Serialize)]
    struct Typed {
        r#type: &'static str,
    }
    #[derive(Serialize)]
    struct Detailed {
        detail: u8,
    }
    assert_eq!(later(Typed { r#type: "yank" }).unwrap_err().code(), Code::Malformed);
    assert_eq!(later(Detailed { detail: 0 }).unwrap_err().code(), Code::Malformed);
    assert_eq!(later(7).unwrap_err().code(), Code::Malformed);
}

/// The format is final: these bytes may never change.
#[test]
fn the_format_is_fixed() {
    let encoded: Vec<_> = kinds().iter().map(|kind| hex::encode(&canonical::encode(kind))).collect();
    insta::assert_snapshot!(encoded.join("\n"), @r"
        a264747970656772656c656173656664657461696ca564726f6f74d82a58250001701220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e6473697a651904d26566696c6573056776657273696f6e65312e322e33686d616e6966657374d82a58250001551220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e
        a264747970656479616e6b6664657461696ca266726561736f6e6662726f6b656e6776657273696f6e65312e322e33
        a2647479706566756e79616e6b6664657461696ca16776657273696f6e65312e322e33
        a26474797065696465707265636174656664657461696ca1676d65737361676569757365206f74686572
        a26474797065687472616e736665726664657461696ca162746f5820de547cd0c79710fab8fa2a84a65779fcc9a907696ee93f0576bf898821efe53e
        a2647479706569746f6d6273746f6e656664657461696ca166726561736f6e64676f6e65
        ");
    let signed = SignedEntry::sign(&entry(Kind::Release(release("1.2.3"))), &publisher(1)).unwrap();
    insta::assert_snapshot!(hex::encode(signed.block().bytes()), @"a2677061796c6f6164590100a8646b696e64a264747970656772656c656173656664657461696ca564726f6f74d82a58250001701220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e6473697a651904d26566696c6573056776657273696f6e65312e322e33686d616e6966657374d82a58250001551220c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e646e616d65647061636b656b65795f6e0067637265617465641a6553f1006776657273696f6e016870726576696f7573f66873657175656e636500697075626c697368657258200b7864d3d452b0b4aa36343ba0aa02c99b4c95204f0d97699e8f2459ce40068e6a7369676e61747572657381a2636b657958208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c637369675840635a0d06f43d74479c2cb924edfd07c06b514167ba86ee9806ad8a637f3804c24df8fd619d3e7742908d007f849c4b259c0d71eec63c64234662629a08e6270f");
    insta::assert_snapshot!(signed.id(), @"bafyreia6oyzeurqjxz55v3cf2htqyl3riyd6at7itisk55sgrfnmdznpbu");
}
