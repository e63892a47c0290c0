//! A double signing that only entries of a log prove: branches of different length.

use super::*;
use crate::{
    content::ContentId,
    identity::{Publisher, SecretKey, publisher::Change},
    release::{
        Head, Kind, Log, Resolve,
        fixture::{NOW, draft, head, publisher, release, releases, rotated},
    },
};

const COMMON: &[&str] = &["1.0.0"];
const SHORT: &[&str] = &["1.0.0", "1.1.0"];
const LONG: &[&str] = &["1.0.0", "2.0.0", "2.1.0"];

/// The head of the shorter branch and that of the longer one, and the second entries of both.
fn branches() -> ([VerifiedHead; 2], [Vec<u8>; 2]) {
    let publisher = publisher(1);
    let second = |versions| releases(&publisher, versions).entries()[1].block().bytes().to_vec();
    ([head(&publisher, SHORT), head(&publisher, LONG)], [second(SHORT), second(LONG)])
}

fn takes(store: &Store, page: &[&[u8]]) -> Taken {
    let page: Vec<ByteBuf> = page.iter().map(|bytes| ByteBuf::from(*bytes)).collect();
    take_page(store, &Verified::default(), &page, &Source::unknown(), NOW).unwrap()
}

fn listing(head: &VerifiedHead) -> Store {
    let store = Store::in_memory().unwrap();
    assert_eq!(takes(&store, &[head.bytes()]).new, 1);
    store
}

fn is_frozen(store: &Store) -> bool {
    let package = head(&publisher(1), COMMON).package_id();
    store.read(|conn| Ok(catalog::is_frozen(conn, &package)?)).unwrap()
}

/// All that a store serves.
fn served(store: &Store) -> Vec<Vec<u8>> {
    let epoch = epoch(store).unwrap();
    let page = page(store, &Verified::default(), epoch, Position::default()).unwrap();
    page.heads.into_iter().map(ByteBuf::into_vec).collect()
}

#[test]
fn a_proof_of_entries_goes_from_node_to_node_in_pages() {
    let ([short, long], [first, second]) = branches();
    let reader = listing(&short);
    assert_eq!(takes(&reader, &[long.bytes()]).new, 1, "the heads alone show nothing");
    assert!(!is_frozen(&reader));
    // Who reads the log has the head of before as one statement, and the entry in its place as the other.
    let before = reader.read(|conn| Ok(catalog::before(conn, &long.package_id())?)).unwrap();
    assert_eq!(before.as_ref(), Some(&short));
    let statements = [short.bytes(), &second];
    let convicted =
        reader.write(|tx| Ok(catalog::convict_log(tx, &long, short.head().sequence, statements, NOW)?));
    assert!(convicted.unwrap() && is_frozen(&reader));
    let mut from = reader;
    for _ in 0..3 {
        let page = served(&from);
        assert!(page.contains(&second) && page.contains(&long.bytes().to_vec()));
        let next = listing(&long);
        let page: Vec<&[u8]> = page.iter().map(Vec::as_slice).collect();
        assert_eq!(takes(&next, &page).malformed, 0);
        assert!(is_frozen(&next));
        let again = takes(&next, &page);
        assert_eq!((again.known, again.new), (page.len(), 0), "what is held costs nothing");
        from = next;
    }
    let entries_alone = listing(&long);
    assert_eq!(takes(&entries_alone, &[&first, &second]).new, 2);
    assert!(is_frozen(&entries_alone));
}

#[test]
fn entries_that_prove_nothing_freeze_nothing() {
    let ([short, long], [first, second]) = branches();
    let store = listing(&long);
    let stranger = publisher(2);
    let foreign = releases(&stranger, SHORT).entries()[1].block().bytes().to_vec();
    let mut forged = first.clone();
    let end = forged.len();
    forged[end - 8..].fill(0);
    for page in [
        &[second.as_slice()][..],
        &[&second, long.bytes()],
        &[&foreign],
        &[&foreign, &second],
        &[&forged],
        &[&forged, &second],
    ] {
        let taken = takes(&store, page);
        assert_eq!((taken.new, taken.malformed, taken.forged), (0, 0, 0));
        assert!(!is_frozen(&store));
    }
    let unlisted = Store::in_memory().unwrap();
    assert_eq!(takes(&unlisted, &[&first, &second]).new, 0);
    assert!(!is_frozen(&unlisted), "of a package that is not listed nothing is known");
    assert_eq!(takes(&unlisted, &[short.bytes(), &first, &second]).new, 3);
    assert!(is_frozen(&unlisted));
}

#[test]
fn entries_of_keys_that_were_revoked_and_branches_that_were_resolved_freeze_nothing() {
    let (_, [first, second]) = branches();
    let old = publisher(1);
    let revoked = Change {
        secret: Some(SecretKey::from_bytes(&[2; 32])),
        revoked: vec![old.public_key()],
        ..Change::default()
    };
    let revoked = old.changed(revoked, &[], NOW).unwrap();
    let by = |publisher: &Publisher, log: &Log| draft(publisher, log).sign(publisher).unwrap();
    let store = listing(&by(&revoked, &releases(&old, COMMON)));
    assert_eq!(takes(&store, &[&first, &second]).new, 0);
    assert!(!is_frozen(&store));
    let new = rotated(&old, 2);
    let mut branches: Vec<Vec<ContentId>> = [SHORT, LONG]
        .map(|it| releases(&old, it).entries()[1..].iter().map(SignedEntry::id).collect())
        .into();
    branches.sort();
    let kept = vec![release("1.1.0")];
    let resolve = Resolve { key_n: 0, branches, kept, withdrawn: Vec::new() };
    let mut log = releases(&old, COMMON);
    log.push(log.next(Kind::Resolve(Box::new(resolve)), &new, NOW).unwrap()).unwrap();
    let store = listing(&by(&new, &log));
    assert_eq!(takes(&store, &[&first, &second]).new, 0);
    assert!(!is_frozen(&store));
}

#[test]
fn the_head_of_before_is_kept_until_a_log_was_read() {
    let ([short, long], _) = branches();
    let package = short.package_id();
    let store = listing(&short);
    let before = || store.read(|conn| Ok(catalog::before(conn, &package)?)).unwrap();
    assert_eq!(before(), None);
    takes(&store, &[long.bytes()]);
    assert_eq!(before(), Some(short));
    store.write(|tx| Ok(catalog::log_read(tx, &long, NOW)?)).unwrap();
    assert_eq!(before(), None);
    let new = rotated(&publisher(1), 2);
    let later: Head = draft(&new, &releases(&publisher(1), LONG));
    takes(&store, &[later.sign(&new).unwrap().bytes()]);
    assert_eq!(before(), None, "what other keys signed contradicts nothing");
}
