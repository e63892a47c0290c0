//! Full disks, folders that cannot be written, two owners.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use super::{kill::child_command, *};
use crate::code::Code;

#[test]
fn a_store_opens_once() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let mut batch = store.batch();
    batch.put(block(1, 20_000)).unwrap();
    let error = Store::open(home.path(), NOW).unwrap_err();
    assert_eq!(error.code(), Code::AlreadyRunning);
    batch.commit(|_| Ok(())).unwrap();
    drop(store);
    open_quietly(home.path());
}

#[test]
fn a_store_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Store>();
    sent::<Batch>();
}

#[test]
fn a_folder_with_any_name_works() {
    use std::os::unix::ffi::OsStrExt;
    let outer = tempfile::tempdir().unwrap();
    let long = "x".repeat(200);
    for name in
        [b"not \xff utf-8".as_slice(), b"spaces and\na newline", b"file:a?mode=memory#b%20", long.as_bytes()]
    {
        let home = outer.path().join(std::ffi::OsStr::from_bytes(name));
        let blocks = [block(1, 100), block(2, 100_000)];
        open_quietly(&home).put_blocks(&blocks).unwrap();
        assert_eq!(held_blocks(&open_quietly(&home), &blocks), 2);
        assert!(home.join(database::NAME).is_file(), "nowhere else");
    }
}

#[test]
fn a_full_database_is_a_clear_error_and_what_is_there_is_still_served() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let (small, large) = (block(1, 9_000), block(2, 90_000));
    store.put_blocks(&[small.clone(), large.clone()]).unwrap();
    let pages: i64 = store
        .read(|connection| Ok(connection.pragma_query_value(None, "page_count", |row| row.get(0))?))
        .unwrap();
    let limit = |pages: i64| {
        let writer = held(&store.shared.writer);
        writer.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(pages + 2);
    let more: Vec<Block> = (10..20).map(|seed| block(seed, 9_000 + 20_000 * (seed as usize % 2))).collect();
    let error = store.put_blocks(&more).unwrap_err();
    assert_eq!(error.code(), Code::DiskFull);
    assert!(error.hint().contains(&home.path().display().to_string()), "{}", error.hint());
    assert_eq!(store.missing(&ids(&more)).unwrap().len(), 10, "nothing of it is there");
    assert_eq!(names_in(&home.path().join("blocks")), ["1.seg"]);
    assert_eq!(held_blocks(&store, &[small, large]), 2);
    limit(1_000_000);
    store.put_blocks(&more).unwrap();
    assert_eq!(held_blocks(&store, &more), 10);
}

#[test]
fn a_folder_that_cannot_be_written_is_a_clear_error() {
    let home = tempfile::tempdir().unwrap();
    let inner = home.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).unwrap();
    // The permission bits do not bind root.
    if fs::write(inner.join("probe"), "").is_ok() {
        return;
    }
    for error in [Store::open(&inner, NOW).unwrap_err(), HomeLock::acquire(&inner).unwrap_err()] {
        assert_eq!(error.code(), Code::ReadOnly);
        assert!(error.hint().contains(&inner.display().to_string()), "{}", error.hint());
    }
}

#[test]
fn system_errors_have_their_codes() {
    use std::io::{Error as Io, ErrorKind as Kind};
    let code = |kind| Error::from(Io::from(kind)).code();
    assert_eq!(code(Kind::StorageFull), Code::DiskFull);
    assert_eq!(code(Kind::QuotaExceeded), Code::DiskFull);
    assert_eq!(code(Kind::ReadOnlyFilesystem), Code::ReadOnly);
    assert_eq!(code(Kind::PermissionDenied), Code::ReadOnly);
    assert_eq!(code(Kind::Other), Code::Io);
    let code = |number| {
        let cause = rusqlite::ffi::Error::new(number);
        Error::from(rusqlite::Error::SqliteFailure(cause, None)).code()
    };
    assert_eq!(code(rusqlite::ffi::SQLITE_FULL), Code::DiskFull);
    assert_eq!(code(rusqlite::ffi::SQLITE_READONLY_DBMOVED), Code::ReadOnly);
    assert_eq!(code(rusqlite::ffi::SQLITE_CORRUPT_VTAB), Code::StoreDamaged);
    assert_eq!(code(rusqlite::ffi::SQLITE_NOTADB), Code::StoreDamaged);
    assert_eq!(code(rusqlite::ffi::SQLITE_BUSY_SNAPSHOT), Code::Busy);
    assert_eq!(code(rusqlite::ffi::SQLITE_IOERR_READ), Code::Io);
}

#[test]
fn after_a_failed_fsync_nothing_more_is_written_and_reading_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let block = block(1, 50_000);
    store.put_blocks(std::slice::from_ref(&block)).unwrap();
    let failed = || {
        let cause = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        Error::from(rusqlite::Error::SqliteFailure(cause, None))
    };
    store.write(|_| Err::<(), _>(failed())).unwrap_err();
    let error = store.put_blocks(&[super::block(2, 50_000)]).unwrap_err();
    assert!(matches!(error, Error::Stopped { .. }), "{error}");
    assert_eq!(store.block(&block.id()).unwrap(), Some(block));
}

/// In a child process, whose files may not grow beyond a limit: every write fails at some point.
#[test]
fn child_with_limited_files() {
    let Some(home) = std::env::var_os("GGEN_TEST_LIMITED_HOME") else { return };
    let (store, _) = Store::open(Path::new(&home), NOW).unwrap();
    let kept = block(1, 100_000);
    store.put_blocks(std::slice::from_ref(&kept)).unwrap();
    let mut codes = std::collections::BTreeSet::new();
    for seed in 10..400 {
        let size = if seed % 2 == 0 { 12_000 } else { 1_000_000 };
        let fresh = [block(seed, size), block(seed + 1_000, 500_000)];
        match store.put_blocks(&fresh) {
            Ok(()) => assert_eq!(held_blocks(&store, &fresh), 2),
            Err(error) => {
                codes.insert(error.code());
                assert_eq!(store.missing(&ids(&fresh)).unwrap().len(), 2);
            }
        }
    }
    assert!(codes.contains(&Code::DiskFull), "{codes:?}");
    let named: Result<i64, _> =
        store.read(|conn| Ok(conn.query_row("SELECT count(*) FROM segments", [], |row| row.get(0))?));
    let there = names_in(&Path::new(&home).join("blocks")).len();
    assert_eq!(named.unwrap(), there as i64, "no file of a batch that failed stays");
    assert_eq!(store.block(&kept.id()).unwrap(), Some(kept));
    println!("limited: done");
}

#[test]
fn a_limit_on_the_size_of_files_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (program, arguments) = child_command("faults::child_with_limited_files");
    // A shell sets the limit and has the signal ignored that would otherwise end the process.
    let script = "trap '' XFSZ; ulimit -f 2400; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(program)
        .args(arguments)
        .env("GGEN_TEST_LIMITED_HOME", home.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("limited: done"), "{out}\n{err}");
    let (store, notes) = open(home.path());
    assert!(!notes.iter().any(|note| matches!(note, Note::DatabaseReplaced { .. })), "{notes:?}");
    assert_eq!(held_blocks(&store, &[block(1, 100_000)]), 1);
}
