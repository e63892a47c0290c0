//! The gate, `.ci/run`: in which order it does what it does.

use crate::root;

#[test]
fn the_gate_knows_what_can_be_had_before_it_runs_the_tests_that_need_it() {
    let gate = std::fs::read_to_string(root().join(".ci/run")).expect("the gate");
    let line = |wanted: &str| {
        let found = gate.lines().position(|line| line == wanted);
        found.unwrap_or_else(|| panic!("no line {wanted:?} in .ci/run"))
    };
    assert!(line("        export CI=true") < line("javascript"), "it is a function, called later");
    assert!(line("javascript") < line("section \"all tests\" all_tests"));
}
