//! The simulator replaces clocks and entropy of whatever it is linked into: never of the command.

use std::fs;

use crate::world::ggen;

#[test]
fn the_command_does_not_contain_the_simulator() {
    // That the name would be there is held by a test of the package `ggen-sim`.
    let program = fs::read(ggen()).unwrap();
    let holds = |name: &[u8]| program.windows(name.len()).any(|bytes| bytes == name);
    assert!(holds(b"ggen_marketplace"), "names of packages are in the program");
    assert!(!holds(b"ggen_sim") && !holds(b"turmoil"));
}
