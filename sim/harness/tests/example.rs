//! The example, as processes: a run is repeatable once a process.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::{env, process::Command};

fn swarm(argument: &str) -> String {
    // Beside the folder of the tests; cargo builds it with them.
    let folder = env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let output = Command::new(folder.join("examples/swarm")).arg(argument).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn another_program_survives_a_short_partition_and_is_the_same_in_two_processes() {
    let one = swarm("1");
    assert!(one.starts_with("0 of 8 hosts did not hear the message"), "{one}");
    assert_ne!(one, swarm("2"));
    assert!(swarm("prove").starts_with("the same in two processes: 0 of 8"));
}
