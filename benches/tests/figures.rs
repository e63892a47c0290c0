//! The figures of a small world, pinned: whoever changes how the network behaves sees it in review.

use std::path::Path;

use ggen_benches::child;

#[test]
fn the_figures_of_twenty_nodes_are_as_they_were() {
    let program = Path::new(env!("CARGO_BIN_EXE_ggen-measure"));
    let measured = child::measure(program, 20, 1, true).unwrap();
    insta::assert_json_snapshot!(measured.figures);
}
