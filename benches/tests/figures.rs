//! The figures of a small world, pinned: whoever changes how the network behaves sees it in review.

use std::path::Path;

use ggen_benches::{child, fanout};

#[test]
fn a_fresh_node_that_is_told_of_more_bootstrap_nodes_finds_something_no_later() {
    let program = Path::new(env!("CARGO_BIN_EXE_ggen-measure"));
    let measured = (1..=3).map(|seed| {
        let times = (1..=fanout::ENTRIES_MAX)
            .map(|entries| child::fanout(program, entries, seed).unwrap().first_result_ms);
        times.collect::<Vec<f64>>()
    });
    let measured: Vec<Vec<f64>> = measured.collect();
    assert!(measured.iter().all(|times| times.is_sorted_by(|one, more| one >= more)), "{measured:?}");
    insta::assert_json_snapshot!(measured);
}

#[test]
fn the_figures_of_twenty_nodes_are_as_they_were() {
    let program = Path::new(env!("CARGO_BIN_EXE_ggen-measure"));
    let measured = child::measure(program, 20, 1, true).unwrap();
    insta::assert_json_snapshot!(measured.figures);
}
