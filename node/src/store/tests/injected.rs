//! Every system call of a publish may be the last one, or fail.
//!
//! `strace` kills a child at its n-th write, fsync, rename, …, or makes that call fail, for every n in turn. It is slow
//! and needs the tool, so it runs where `GGEN_TEST_STRACE` is set; its value is how many calls of a kind to go through.

use std::{path::Path, process::Command};

use super::{kill::child_command, *};
use crate::code::Code;

/// Says to the child that it is one, and where to store.
const HOME_VARIABLE: &str = "GGEN_TEST_INJECTED_HOME";
/// Batches that the child stores.
const BATCHES: u64 = 6;
/// Calls with which something changes on the disk.
const CALLS: &[&str] =
    &["write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate", "mkdir", "openat"];

fn batch_blocks(n: u64) -> Vec<Block> {
    [500, 10_000, 20_000, 60_000].into_iter().zip(n * 10..).map(|(size, seed)| block(seed, size)).collect()
}

fn key(n: u64) -> String {
    format!("batch {n}")
}

/// The child: goes on after a failure, and says what it could store.
#[test]
fn child_with_failing_calls() {
    use std::io::Write;
    let Some(home) = std::env::var_os(HOME_VARIABLE) else { return };
    let mut out = std::io::stdout();
    let store = match Store::open(Path::new(&home), NOW) {
        Ok((store, _)) => store,
        Err(error) => {
            let _ = writeln!(out, "code {}", error.code());
            return;
        }
    };
    for n in 0..BATCHES {
        let blocks = batch_blocks(n);
        let stored = (|| {
            let mut batch = store.batch();
            for block in &blocks {
                batch.put(block.clone())?;
            }
            batch.commit(|tx| meta::set(tx, &key(n), b"done"))
        })();
        match stored {
            Ok(()) => {
                // Reading may fail as well, but never say that it is not there.
                let gone = blocks.iter().any(|block| matches!(store.block(&block.id()), Ok(None)));
                assert!(!gone, "acknowledged and not there");
                let _ = writeln!(out, "acknowledged {n}");
            }
            Err(error) => {
                let _ = writeln!(out, "code {}", error.code());
            }
        }
        if n == 3 {
            let _ = store.remove_blocks(&ids(&batch_blocks(1)));
        }
    }
}

/// Runs the child under `strace` with `inject`; returns what it printed, and whether it reported a panic of ours.
fn run(home: &Path, inject: &str) -> (String, String) {
    let (program, arguments) = child_command("injected::child_with_failing_calls");
    let output = Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", inject])
        .arg(program)
        .args(arguments)
        .env(HOME_VARIABLE, home)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Everything acknowledged is there, and every batch is there whole or not at all.
fn check(home: &Path, out: &str, context: &str) {
    let (store, notes) = open(home);
    let mended = notes.iter().find(|note| !matches!(note, Note::LeftoverRemoved { .. }));
    assert_eq!(mended, None, "{context}: {notes:?}");
    for n in 0..BATCHES {
        let held = held_blocks(&store, &batch_blocks(n));
        let there = store.read(|c| meta::get(c, &key(n))).unwrap().is_some();
        let removed = n == 1 && held == 0;
        assert!(if there { held == 4 || removed } else { held == 0 }, "{context}: {held} of batch {n}");
        assert!(there || !out.contains(&format!("acknowledged {n}\n")), "{context}: batch {n} lost\n{out}");
    }
    drop(store);
    open_quietly(home);
}

fn calls_to_go_through() -> Option<u32> {
    let asked = std::env::var("GGEN_TEST_STRACE").ok()?;
    Some(asked.parse().expect("GGEN_TEST_STRACE is a number of calls"))
}

#[test]
fn a_kill_at_every_system_call_loses_nothing_that_was_acknowledged() {
    let Some(calls) = calls_to_go_through() else { return };
    for call in CALLS {
        for n in 1..=calls {
            let home = tempfile::tempdir().unwrap();
            let inject = format!("inject={call}:signal=KILL:when={n}");
            let (out, _) = run(home.path(), &inject);
            check(home.path(), &out, &inject);
            if out.contains("test result") {
                break;
            }
        }
    }
}

#[test]
fn a_failure_of_every_system_call_is_an_error_and_loses_nothing() {
    let Some(calls) = calls_to_go_through() else { return };
    let codes = [
        ("EIO", [Code::Io, Code::Io, Code::Io]),
        ("ENOSPC", [Code::DiskFull, Code::Io, Code::ReadOnly]),
        ("EROFS", [Code::ReadOnly, Code::Io, Code::Io]),
        ("EMFILE", [Code::Io, Code::Io, Code::Io]),
    ];
    for (errno, expected) in codes {
        for call in CALLS {
            // One failure, and failures from there on.
            for (n, on) in (1..=calls).flat_map(|n| [(n, ""), (n, "+")]) {
                let home = tempfile::tempdir().unwrap();
                let inject = format!("inject={call}:error={errno}:when={n}{on}");
                let (out, err) = run(home.path(), &inject);
                // The test harness itself fails where it cannot write; the store must not.
                assert!(!err.contains("src/store"), "{inject}: {err}");
                for code in out.lines().filter_map(|line| line.rsplit_once("code ")) {
                    // SQLite tries to open for reading what it cannot open for writing, whatever the reason.
                    let fell_back = *call == "openat" && code.1 == Code::ReadOnly.as_str();
                    let known = fell_back || expected.iter().any(|e| e.as_str() == code.1);
                    assert!(known, "{inject}: {out}");
                }
                check(home.path(), &out, &inject);
            }
        }
    }
}
