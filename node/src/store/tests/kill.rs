//! Kills at any moment: a child process stores batches and says when each is acknowledged; the parent kills it, opens
//! the store, and finds everything that was acknowledged and nothing half-done.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use super::*;

/// Rounds of a normal run; `GGEN_TEST_KILL_ROUNDS` asks for more.
const ROUNDS: u64 = 15;
/// Says to the child that it is one, and where to store.
const HOME_VARIABLE: &str = "GGEN_TEST_KILL_HOME";

/// This test binary, and the arguments that run one test of this module in it.
pub(super) fn child_command(test: &str) -> (OsString, Vec<String>) {
    let program = std::env::current_exe().unwrap().into_os_string();
    let name = format!("{}::{test}", module_path!().rsplit_once("::kill").unwrap().0);
    // The crate's name is not part of a test's name.
    let name = name.split_once("::").unwrap().1.to_owned();
    (program, [name.as_str(), "--exact", "--nocapture", "--test-threads=1"].map(ToOwned::to_owned).to_vec())
}

/// The blocks of batch `n`: what a publish looks like, small and large.
fn batch_blocks(n: u64) -> Vec<Block> {
    let sizes = [200, 5_000, 16_000, 17_000, 120_000, 400_000];
    sizes.into_iter().zip(n * 10..).map(|(size, seed)| block(seed, size)).collect()
}

/// What is removed of every third batch: in its segment, one block stays between two that go.
fn removed_of(n: u64) -> Vec<ContentId> {
    let all = ids(&batch_blocks(n));
    vec![all[3], all[5]]
}

/// The child: stores batches from the first that is not there, until it is killed.
#[test]
fn child_that_stores_batches() {
    let Some(home) = std::env::var_os(HOME_VARIABLE) else { return };
    let (store, _) = Store::open(Path::new(&home), NOW).unwrap();
    let key = |n: u64| format!("batch {n}");
    let first = (0..).find(|n| store.read(|c| meta::get(c, &key(*n))).unwrap().is_none()).unwrap();
    for n in first..first + 10_000 {
        let mut batch = store.batch();
        for block in batch_blocks(n) {
            batch.put(block).unwrap();
        }
        batch.commit(|tx| meta::set(tx, &key(n), b"done")).unwrap();
        println!("acknowledged {n}");
        if n % 3 == 2 {
            // Removing goes through the same crashes; what else is in the segment stays.
            store.remove_blocks(&removed_of(n)).unwrap();
            store.free_dead_space();
            println!("removed {n}");
        }
    }
}

/// What the child said before it was killed.
#[derive(Default)]
struct Said {
    acknowledged: Option<u64>,
}

fn run_and_kill(home: &Path, delay: Duration) -> Said {
    let (program, arguments) = child_command("kill::child_that_stores_batches");
    let mut child = Command::new(program)
        .args(arguments)
        .env(HOME_VARIABLE, home)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut said = Said::default();
        for line in out.lines().map_while(Result::ok) {
            if let Some(n) = line.rsplit_once("acknowledged ").and_then(|(_, n)| n.parse().ok()) {
                said.acknowledged = Some(n);
            }
        }
        said
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// Every batch is there whole – or, every third, possibly without what is removed of it – or not at all.
fn check(home: &Path, acknowledged: Option<u64>) -> u64 {
    let (store, notes) = open(home);
    let replaced = notes.iter().any(|note| !matches!(note, Note::LeftoverRemoved { .. }));
    assert!(!replaced, "{notes:?}");
    let mut n = 0;
    loop {
        let blocks = batch_blocks(n);
        let held = held_blocks(&store, &blocks);
        if store.read(|c| meta::get(c, &format!("batch {n}"))).unwrap().is_none() {
            assert_eq!(held, 0, "batch {n} was not committed, and {held} of its blocks are there");
            break;
        }
        let gone = removed_of(n);
        let removed =
            n % 3 == 2 && held == blocks.len() - gone.len() && store.missing(&gone).unwrap() == gone;
        assert!(held == blocks.len() || removed, "{held} blocks of batch {n}");
        n += 1;
    }
    assert!(
        acknowledged.is_none_or(|last| last < n),
        "batch {acknowledged:?} was acknowledged, {n} are there"
    );
    let left = names_in(&home.join("blocks"));
    assert!(left.iter().all(|name| name.ends_with(".seg")), "{left:?}");
    drop(store);
    open_quietly(home);
    n
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let rounds = std::env::var("GGEN_TEST_KILL_ROUNDS").ok().and_then(|text| text.parse().ok());
    let home = tempfile::tempdir().unwrap();
    let (mut there, mut advanced) = (0, 0);
    for round in 0..rounds.unwrap_or(ROUNDS) {
        // From within the start of the process up to some batches later, differently each time.
        #[expect(clippy::disallowed_methods, reason = "a kill comes at any moment")]
        let nanos =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        let delay = Duration::from_micros(u64::from(nanos) / 1_000 % 250_000 + 1_000);
        let said = run_and_kill(home.path(), delay);
        let now = check(home.path(), said.acknowledged);
        assert!(now >= there, "batches do not go away");
        advanced += u64::from(now > there);
        there = now;
        if round % 10 == 9 {
            // Keeps the check short in a long run.
            std::fs::remove_dir_all(home.path()).unwrap();
            std::fs::create_dir(home.path()).unwrap();
            there = 0;
        }
    }
    assert!(advanced > 0, "no round stored anything: the test shows nothing");
}

#[test]
fn a_kill_during_the_first_start_leaves_a_folder_that_opens() {
    for micros in (0..20_000).step_by(2_500) {
        let home = tempfile::tempdir().unwrap();
        let said = run_and_kill(home.path(), Duration::from_micros(micros));
        check(home.path(), said.acknowledged);
    }
}
