//! Damaged databases and damaged segments.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::*;
use crate::code::Code;

/// A store with small and large blocks and other rows, closed; with its blocks.
fn filled(home: &Path) -> (Vec<Block>, Vec<Block>) {
    let small: Vec<Block> = (0..60).map(|seed| block(seed, 3_000)).collect();
    let large: Vec<Block> = (100..106).map(|seed| block(seed, 70_000)).collect();
    let store = open_quietly(home);
    store.put_blocks(&small).unwrap();
    store.put_blocks(&large[..3]).unwrap();
    store.put_blocks(&large[3..]).unwrap();
    store.write(|tx| meta::set(tx, "key", b"value")).unwrap();
    fs::write(home.join("node.key"), "secret").unwrap();
    (small, large)
}

fn database(home: &Path) -> PathBuf {
    home.join(database::NAME)
}

/// Opens after damage: the large blocks are all there, the key is untouched, and the damaged file is kept as it was.
fn expect_replaced(home: &Path, large: &[Block], damaged: &[u8]) -> Store {
    let (store, notes) = open(home);
    let replaced = notes.iter().find_map(|note| match note {
        Note::DatabaseReplaced { to, .. } => Some(to.clone()),
        _ => None,
    });
    let to = replaced.unwrap_or_else(|| panic!("no word of the damage in {notes:?}"));
    assert_eq!(fs::read(&to).unwrap(), damaged, "kept as it was");
    assert!(to.starts_with(home.join("quarantine")));
    assert_eq!(held_blocks(&store, large), large.len());
    assert_eq!(fs::read_to_string(home.join("node.key")).unwrap(), "secret");
    store.put_blocks(&[block(999, 50_000), block(998, 5)]).unwrap();
    drop(store);
    open_quietly(home)
}

#[test]
fn an_empty_database_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    fs::write(database(home.path()), "").unwrap();
    expect_replaced(home.path(), &large, b"");
}

#[test]
fn a_file_that_is_no_database_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    for text in ["hello", &"not a database ".repeat(1000)] {
        fs::write(database(home.path()), text).unwrap();
        expect_replaced(home.path(), &large, text.as_bytes());
    }
    assert_eq!(names_in(&home.path().join("quarantine")).len(), 2, "none overwrites another");
}

#[test]
fn another_programs_database_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    fs::remove_file(database(home.path())).unwrap();
    rusqlite::Connection::open(database(home.path())).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let theirs = fs::read(database(home.path())).unwrap();
    expect_replaced(home.path(), &large, &theirs);
}

#[test]
fn a_missing_database_is_made_again_from_the_segments() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    fs::remove_file(database(home.path())).unwrap();
    let (store, notes) = open(home.path());
    assert_eq!(notes, [Note::BlocksRebuilt { blocks: 6, damaged: 0 }]);
    assert_eq!(held_blocks(&store, &large), 6);
    assert!(!home.path().join("quarantine").exists());
}

#[test]
fn a_log_without_its_database_is_not_replayed_into_a_new_one() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    store.write(|tx| meta::set(tx, "key", b"value")).unwrap();
    let wal = database::with_suffix(&database(home.path()), "-wal");
    let log = fs::read(&wal).unwrap();
    drop(store);
    fs::remove_file(database(home.path())).unwrap();
    fs::write(&wal, &log).unwrap();
    let (store, _) = open(home.path());
    assert_eq!(store.read(|connection| meta::get(connection, "key")).unwrap(), None);
    let kept = names_in(&home.path().join("quarantine"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].ends_with("-wal"), "{kept:?}");
}

#[test]
fn what_can_still_be_read_is_taken_over() {
    let home = tempfile::tempdir().unwrap();
    let (small, large) = filled(home.path());
    let mut bytes = fs::read(database(home.path())).unwrap();
    // One page in the middle of the small blocks.
    let at = (0..bytes.len()).step_by(4096).nth(bytes.len() / 4096 * 3 / 5).unwrap();
    bytes[at..at + 4096].fill(0xa5);
    fs::write(database(home.path()), &bytes).unwrap();
    let store = expect_replaced(home.path(), &large, &bytes);
    let left = held_blocks(&store, &small);
    assert!((40..60).contains(&left), "{left} of 60 small blocks");
    assert_eq!(store.read(|connection| meta::get(connection, "key")).unwrap().unwrap(), b"value");
}

/// Flips a bit in the letter `at` of `text` wherever it stands after the beginning of the statement that makes `table`: a page that was
/// split keeps a copy.
fn flip_in_schema(home: &Path, table: &str, text: &str, at: usize) -> Vec<u8> {
    let mut bytes = fs::read(database(home)).unwrap();
    let find = |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|it| it == text.as_bytes());
    let statement = format!("CREATE TABLE {table} (");
    let mut from = 0;
    while let Some(start) = find(&bytes[from..], &statement) {
        from += start;
        let place = from + find(&bytes[from..], text).unwrap_or_else(|| panic!("no {text} in {table}"));
        from += statement.len();
        bytes[place + at] ^= 0x01;
    }
    assert!(from > 0, "no {table}");
    fs::write(database(home), &bytes).unwrap();
    bytes
}

#[test]
fn a_flipped_bit_in_the_schema_is_damage_and_costs_no_row() {
    // A column, a table, its type, the word that makes it.
    let places = [
        ("installed", " manifest ", 3),
        ("blocks", " crc ", 2),
        ("blocks", " data ", 1),
        ("meta", " value ", 3),
    ];
    let names = [("blocks", "blocks", 2), ("meta", "meta", 0), ("blocks", "BLOB", 0), ("meta", "CREATE", 0)];
    for (table, text, at) in places.into_iter().chain(names) {
        let home = tempfile::tempdir().unwrap();
        let (small, large) = filled(home.path());
        let bytes = flip_in_schema(home.path(), table, text, at);
        let error = Store::open_for_reading(home.path()).unwrap_err();
        assert_eq!(error.code(), Code::StoreDamaged, "{table}, {text}: {error}");
        let store = expect_replaced(home.path(), &large, &bytes);
        assert_eq!(held_blocks(&store, &small), small.len(), "{table}, {text}");
        let value = store.read(|connection| meta::get(connection, "key")).unwrap();
        assert_eq!(value.as_deref(), Some(&b"value"[..]), "{table}, {text}");
        assert!(!names_in(home.path()).iter().any(|name| name.contains("mended")), "the copy is removed");
    }
}

#[test]
fn a_statement_that_does_not_fit_the_schema_says_that_the_database_is_damaged() {
    let store = Store::in_memory().unwrap();
    for sql in ["SELECT other FROM blocks", "SELECT id FROM others"] {
        let error = store.read(|conn| Ok(conn.prepare(sql).map(drop)?)).unwrap_err();
        assert_eq!(error.code(), Code::StoreDamaged, "{error}");
    }
    store.put_blocks(&[block(1, 10)]).unwrap();
    let read = store
        .read(|conn| Ok(conn.query_row("SELECT id FROM blocks", [], |row| row.get::<_, Vec<u8>>("other"))?));
    assert_eq!(read.unwrap_err().code(), Code::StoreDamaged);
}

#[test]
fn a_cut_off_database_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let bytes = fs::read(database(home.path())).unwrap();
    for keep in [1, 99, 100, 511, 512, 4095, 4096, 8192, bytes.len() / 2, bytes.len() - 1] {
        fs::write(database(home.path()), &bytes[..keep]).unwrap();
        expect_replaced(home.path(), &large, &bytes[..keep]);
    }
}

#[test]
fn a_database_of_an_older_program_is_refused_and_not_touched() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path());
    let connection = rusqlite::Connection::open(database(home.path())).unwrap();
    connection.pragma_update(None, "user_version", database::VERSION - 1).unwrap();
    drop(connection);
    let bytes = fs::read(database(home.path())).unwrap();
    let refusals =
        [Store::open(home.path(), NOW).unwrap_err(), Store::open_for_reading(home.path()).unwrap_err()];
    for error in refusals {
        assert_eq!(error.code(), Code::StoreTooOld);
        assert!(error.to_string().contains(&home.path().display().to_string()), "{error}");
    }
    assert_eq!(fs::read(database(home.path())).unwrap(), bytes);
    assert!(!home.path().join("quarantine").exists());
}

#[test]
fn other_tables_have_another_version() {
    let tables = Store::in_memory().unwrap().read(|connection| {
        let mut statement =
            connection.prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")?;
        let tables = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(tables.collect::<Result<Vec<_>, _>>()?.join("\n"))
    });
    let now = (database::VERSION, crc32fast::hash(tables.unwrap().as_bytes()));
    assert_eq!(
        now,
        (7, 1_441_113_581),
        "where the tables change, raise VERSION in database.rs, and write both numbers down here"
    );
}

#[test]
fn a_database_from_the_future_is_refused_and_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let future = database::VERSION + 1;
    let connection = rusqlite::Connection::open(database(home.path())).unwrap();
    connection.pragma_update(None, "user_version", future).unwrap();
    drop(connection);
    let bytes = fs::read(database(home.path())).unwrap();
    let error = Store::open(home.path(), NOW).unwrap_err();
    assert_eq!(error.code(), Code::StoreTooNew);
    assert!(error.to_string().contains(&home.path().display().to_string()), "{error}");
    assert_eq!(fs::read(database(home.path())).unwrap(), bytes);
    assert!(!home.path().join("quarantine").exists());

    let connection = rusqlite::Connection::open(database(home.path())).unwrap();
    connection.pragma_update(None, "user_version", future - 1).unwrap();
    drop(connection);
    assert_eq!(held_blocks(&open_quietly(home.path()), &large), 6);
}

#[test]
fn a_link_or_folder_in_place_of_the_database_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = home.path().join("elsewhere.db");
    fs::write(&elsewhere, "somebody's").unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let place = database::with_suffix(&database(home.path()), suffix);
        std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
        let error = Store::open(home.path(), NOW).unwrap_err();
        assert!(matches!(error, Error::NotAFile { what: "a symbolic link", .. }), "{error}");
        fs::remove_file(place).unwrap();
    }
    // A link that leads nowhere must not be made into a file there either.
    let nowhere = home.path().join("nowhere.db");
    std::os::unix::fs::symlink(&nowhere, database(home.path())).unwrap();
    Store::open(home.path(), NOW).unwrap_err();
    assert!(!nowhere.exists());
    fs::remove_file(database(home.path())).unwrap();

    fs::create_dir(database(home.path())).unwrap();
    let error = Store::open(home.path(), NOW).unwrap_err();
    assert!(matches!(error, Error::NotAFile { what: "a folder", .. }), "{error}");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "somebody's");
}

#[test]
fn a_replacement_interrupted_at_any_step_is_finished() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let good = fs::read(database(home.path())).unwrap();
    let replacement = home.path().join("store.db.new");
    // Before the old one moved; after; and while the new one was being made.
    fs::write(&replacement, &good).unwrap();
    fs::write(database(home.path()), "damaged").unwrap();
    assert_eq!(held_blocks(&open_quietly(home.path()), &large), 6);
    assert_eq!(names_in(&home.path().join("quarantine")).len(), 1);
    fs::rename(database(home.path()), &replacement).unwrap();
    assert_eq!(held_blocks(&open_quietly(home.path()), &large), 6);
    fs::write(home.path().join("store.db.tmp"), "half").unwrap();
    fs::write(database(home.path()), "damaged").unwrap();
    expect_replaced(home.path(), &large, b"damaged");
    assert!(!replacement.exists() && !home.path().join("store.db.tmp").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever stands in the file, opening ends well or with a clear error, and the large blocks survive it.
    #[test]
    fn random_damage_never_loses_a_segment(flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..40)) {
        let home = tempfile::tempdir().unwrap();
        let (_, large) = filled(home.path());
        let mut bytes = fs::read(database(home.path())).unwrap();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        fs::write(database(home.path()), &bytes).unwrap();
        match Store::open(home.path(), NOW) {
            Ok((store, notes)) => {
                let replaced = notes.iter().any(|note| matches!(note, Note::DatabaseReplaced { .. }));
                // Flips inside a value are found when the block is read; it is then absent, never wrong.
                let read: Result<Vec<_>, _> = large.iter().map(|block| store.block(&block.id())).collect();
                match read {
                    Ok(found) => {
                        let whole = found.iter().flatten().count();
                        prop_assert!(whole == large.len() || !replaced, "{whole} of {}", large.len());
                    }
                    Err(error) => {
                        // Damage that the check at the start does not see is mended at the next one.
                        prop_assert_eq!(error.code(), Code::StoreDamaged);
                        drop(store);
                        let (store, notes) = open(home.path());
                        let replaced = notes.iter().any(|note| matches!(note, Note::DatabaseReplaced { .. }));
                        prop_assert!(replaced);
                        prop_assert_eq!(held_blocks(&store, &large), large.len());
                        prop_assert!(!home.path().join("store.db.suspect").exists());
                    }
                }
            }
            Err(error) => {
                let is_other_version = matches!(error.code(), Code::StoreTooNew | Code::StoreTooOld);
                prop_assert!(is_other_version, "{error:?}");
            }
        }
        for n in [1, 2] {
            let segment = home.path().join(format!("blocks/{n}.seg"));
            prop_assert!(segment.exists());
        }
        prop_assert_eq!(fs::read_to_string(home.path().join("node.key")).unwrap(), "secret");
    }

    /// A scan of a damaged segment never panics, and hands over nothing but whole blocks.
    #[test]
    fn a_damaged_segment_yields_only_whole_blocks(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let home = tempfile::tempdir().unwrap();
        let blocks: Vec<Block> = (0..6).map(|seed| block(seed, 17_000 + 100 * seed as usize)).collect();
        let mut writer = segment::Writer::create(home.path(), 1, false).unwrap();
        for block in &blocks {
            writer.append(block).unwrap();
        }
        let Ok(path) = writer.finish() else { panic!("not written") };
        let mut bytes = fs::read(&path).unwrap();
        let untouched = flips.is_empty();
        for (at, mask) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        let keep = cut.index(bytes.len() + 1);
        fs::write(&path, &bytes[..keep]).unwrap();
        let mut found = Vec::new();
        let file = segment::open(home.path(), 1).unwrap();
        segment::scan(&file, |block, place| {
            assert_eq!(segment::read(&file, place, block.bytes().len()).unwrap(), block.bytes());
            found.push(block);
            Ok(())
        }).unwrap();
        prop_assert!(found.iter().all(|block| blocks.contains(block)));
        if untouched && keep == bytes.len() {
            prop_assert_eq!(found.len(), 6);
        }
        // Each flip costs at most the record it hits.
        if keep == bytes.len() {
            prop_assert!(found.len() + flips.len() >= 6);
        }
    }
}

/// Flips one bit of a file.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_a_segment_makes_one_block_absent_and_it_can_be_stored_again() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    flip(&home.path().join("blocks/1.seg"), 60_000);
    let store = open_quietly(home.path());
    assert_eq!(store.block(&large[0].id()).unwrap(), None);
    assert!(!store.has(&large[0].id()).unwrap(), "out of the index");
    assert_eq!(held_blocks(&store, &large[1..]), 5);
    store.put_blocks(&large[..1]).unwrap();
    assert_eq!(held_blocks(&store, &large), 6);
}

#[test]
fn a_flipped_bit_in_a_row_makes_one_block_absent() {
    let store = Store::in_memory().unwrap();
    let block = block(1, 100);
    store.put_blocks(std::slice::from_ref(&block)).unwrap();
    store.write(|tx| Ok(tx.execute("UPDATE blocks SET data = zeroblob(100)", [])?)).unwrap();
    assert_eq!(store.block(&block.id()).unwrap(), None);
    assert!(!store.has(&block.id()).unwrap());
}

#[test]
fn a_segment_that_is_cut_off_loses_only_what_is_cut() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let path = home.path().join("blocks/1.seg");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (store, notes) = open(home.path());
    assert_eq!(notes, [Note::SegmentLost { path, blocks: 1 }]);
    assert_eq!(held_blocks(&store, &large), 5);
    drop(store);
    open_quietly(home.path());
}

#[test]
fn a_segment_that_is_gone_loses_its_blocks_only() {
    let home = tempfile::tempdir().unwrap();
    let (small, large) = filled(home.path());
    let path = home.path().join("blocks/1.seg");
    let store = open_quietly(home.path());
    fs::remove_file(&path).unwrap();
    assert_eq!(store.block(&large[0].id()).unwrap(), None, "while running");
    drop(store);
    let (store, notes) = open(home.path());
    assert_eq!(notes, [Note::SegmentLost { path, blocks: 2 }]);
    assert_eq!((held_blocks(&store, &large), held_blocks(&store, &small)), (3, 60));
    store.put_blocks(&large).unwrap();
    assert_eq!(held_blocks(&store, &large), 6);
}

#[test]
fn rebuilding_passes_over_damaged_records_and_a_torn_end() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let (first, second) = (home.path().join("blocks/1.seg"), home.path().join("blocks/2.seg"));
    // A header in the middle of one, the last record of the other.
    flip(&first, 70_000 + 48 + 8);
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, &bytes[..bytes.len() - 40_000]).unwrap();
    fs::remove_file(database(home.path())).unwrap();
    let (store, notes) = open(home.path());
    assert_eq!(notes, [Note::BlocksRebuilt { blocks: 4, damaged: 2 }]);
    assert_eq!(held_blocks(&store, &large), 4);
}

#[test]
fn a_segment_made_of_false_starts_is_given_up_in_bounded_time() {
    let home = tempfile::tempdir().unwrap();
    open_quietly(home.path());
    fs::write(home.path().join("blocks/1.seg"), b"ggb\x01".repeat(4 << 20)).unwrap();
    fs::remove_file(database(home.path())).unwrap();
    #[expect(clippy::disallowed_methods, reason = "measures the test itself")]
    let start = std::time::Instant::now();
    let (_, notes) = open(home.path());
    assert!(start.elapsed().as_secs() < 30);
    assert_eq!(notes[0], Note::BlocksRebuilt { blocks: 0, damaged: 1 });
}

#[test]
fn a_segment_of_which_nothing_can_be_read_is_moved_aside_and_the_others_are_rebuilt() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let (first, second) = (home.path().join("blocks/1.seg"), home.path().join("blocks/2.seg"));
    // One is noise, and the other cannot even be opened: links are not followed.
    let whole = fs::read(&second).unwrap();
    fs::write(&first, "noise").unwrap();
    fs::rename(&second, home.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(home.path().join("elsewhere"), &second).unwrap();
    fs::write(home.path().join("blocks/3.seg"), &whole).unwrap();
    fs::remove_file(database(home.path())).unwrap();
    let (store, notes) = open(home.path());
    let [Note::BlocksRebuilt { blocks, damaged: 2 }] = notes[..] else { panic!("{notes:?}") };
    assert!(blocks > 0 && held_blocks(&store, &large) as u64 == blocks);
    let aside = fs::read_dir(home.path().join("quarantine")).unwrap();
    let mut aside: Vec<String> = aside.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    aside.sort();
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert!(aside[0].ends_with("-1.seg") && aside[1].ends_with("-2.seg"), "{aside:?}");
    assert!(!first.exists() && home.path().join("elsewhere").exists());
}

#[test]
fn leftovers_of_a_crash_are_removed_and_other_files_are_not() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let blocks = home.path().join("blocks");
    for name in ["7.tmp", "8.seg", "notes.txt", "01.seg", "9.seg.bak"] {
        fs::write(blocks.join(name), "x").unwrap();
    }
    let (store, notes) = open(home.path());
    let removed = ["8.seg", "7.tmp"].map(|name| Note::LeftoverRemoved { path: blocks.join(name) });
    assert_eq!(notes, removed);
    store.put_blocks(&[block(500, 20_000)]).unwrap();
    assert_eq!(held_blocks(&store, &large), 6);
    assert_eq!(names_in(&blocks), ["01.seg", "1.seg", "2.seg", "9.seg", "9.seg.bak", "notes.txt"]);
}

#[test]
fn a_replaced_database_still_refuses_a_rollback_and_still_finds_packages() {
    use crate::{catalog, identity::Publisher};
    let home = tempfile::tempdir().unwrap();
    let publisher = Publisher::from_secret([1; 32], NOW);
    let (old, new) = (head(&publisher, 1), head(&publisher, 2));
    filled(home.path());
    let store = open_quietly(home.path());
    let outcome = store.write(|tx| Ok(catalog::insert(tx, &new, &catalog::Source::unknown(), NOW)?)).unwrap();
    assert_eq!(outcome, catalog::Outcome::Added);
    drop(store);
    // The application id: everything else can be read.
    let mut bytes = fs::read(database(home.path())).unwrap();
    bytes[70] ^= 1;
    fs::write(database(home.path()), &bytes).unwrap();
    let store = expect_replaced(home.path(), &[], &bytes);
    let query = catalog::Query { text: "words".to_owned(), ..Default::default() };
    assert_eq!(store.read(|c| Ok(catalog::search(c, &query)?.total)).unwrap(), 1);
    let outcome = store.write(|tx| Ok(catalog::insert(tx, &old, &catalog::Source::unknown(), NOW)?)).unwrap();
    assert_eq!(outcome, catalog::Outcome::Refused(catalog::Refusal::Rollback));
}

fn head(publisher: &crate::identity::Publisher, sequence: u64) -> crate::release::VerifiedHead {
    use crate::release::{Head, Sequence, head};
    let entry = |n: u64| ContentId::of(Codec::DagCbor, &n.to_be_bytes());
    let head = Head {
        version: head::VERSION,
        publisher: publisher.id(),
        name: "db".parse().unwrap(),
        keys: publisher.key_log().documents().map(serde_bytes::ByteBuf::from).collect(),
        key_log: publisher.key_log().tip(),
        sequence: Sequence::new(sequence),
        entry: entry(sequence),
        log: entry(0),
        latest: None,
        resolved: serde_bytes::ByteBuf::new(),
        yanked: Vec::new(),
        deprecated: None,
        description: "some words".to_owned(),
        license: None,
        tags: Vec::new(),
        categories: Vec::new(),
        preflight_skipped: false,
        secrets_allowed: false,
        released_at: NOW,
        latest_released_at: None,
    };
    head.sign(publisher).unwrap()
}

#[test]
fn a_row_of_the_index_that_says_nonsense_is_noticed_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let connection = rusqlite::Connection::open(database(home.path())).unwrap();
    connection.pragma_update(None, "ignore_check_constraints", true).unwrap();
    connection.execute("UPDATE blocks SET size = -size WHERE segment = 1", []).unwrap();
    drop(connection);
    let bytes = fs::read(database(home.path())).unwrap();
    expect_replaced(home.path(), &large, &bytes);
}

#[test]
fn a_row_that_says_nonsense_while_running_is_an_absent_block() {
    let home = tempfile::tempdir().unwrap();
    let (_, large) = filled(home.path());
    let store = open_quietly(home.path());
    held(&store.shared.writer).pragma_update(None, "ignore_check_constraints", true).unwrap();
    store.write(|tx| Ok(tx.execute("UPDATE blocks SET place = -1 WHERE segment = 2", [])?)).unwrap();
    assert_eq!(held_blocks(&store, &large), 3);
    assert_eq!(store.missing(&ids(&large)).unwrap().len(), 3);
    store.put_blocks(&large).unwrap();
    assert_eq!(held_blocks(&store, &large), 6);
}

/// Changes what one row says.
fn change_row(home: &Path, sql: &str, id: ContentId) {
    let connection = rusqlite::Connection::open(database(home)).unwrap();
    assert_eq!(connection.execute(sql, [id.to_bytes()]).unwrap(), 1);
}

#[test]
fn a_block_whose_checksum_is_damaged_is_still_served() {
    let home = tempfile::tempdir().unwrap();
    let (small, large) = filled(home.path());
    for block in [&small[0], &large[0]] {
        for crc in ["crc + 1", "-1", "1 << 40"] {
            change_row(home.path(), &format!("UPDATE blocks SET crc = {crc} WHERE id = ?1"), block.id());
            let store = open_quietly(home.path());
            assert_eq!(store.block(&block.id()).unwrap().as_ref(), Some(block), "{crc}");
        }
    }
}

#[test]
fn an_audit_finds_what_the_checksum_does_not() {
    let home = tempfile::tempdir().unwrap();
    let (small, large) = filled(home.path());
    let (damaged, other) = (small[7].id(), block(77, 3_000));
    let crc = crc32fast::hash(other.bytes());
    let connection = rusqlite::Connection::open(database(home.path())).unwrap();
    let sql = "UPDATE blocks SET data = ?2, crc = ?3 WHERE id = ?1";
    connection.execute(sql, rusqlite::params![damaged.to_bytes(), other.bytes(), crc]).unwrap();
    drop(connection);
    let store = open_quietly(home.path());
    assert!(store.block(&damaged).unwrap().is_some(), "the checksum is right");
    // In four parts, each of which goes on where the last one ended.
    let (mut last, mut blocks, mut found) = (None, 0, 0);
    let part_bytes = store.stats().unwrap().bytes / 4;
    for part in 0.. {
        let audited = store.audit(last, part_bytes).unwrap();
        (last, blocks, found) = (audited.last, blocks + audited.blocks, found + audited.damaged);
        if last.is_none() {
            assert!(part >= 3, "{part}");
            break;
        }
    }
    assert_eq!((blocks, found), ((small.len() + large.len()) as u64, 1));
    assert_eq!(store.block(&damaged).unwrap(), None, "it is fetched again where it is wanted");
    assert_eq!(store.audit(None, u64::MAX).unwrap().damaged, 0);
}
