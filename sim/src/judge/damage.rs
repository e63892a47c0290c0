//! `starts-find-no-damage`: a start after a crash or a power cut finds nothing damaged, and leaves no temporary file of an
//! earlier life.

use std::time::Duration;

use super::{Fact, Found};

/// Its name.
pub(super) const RULE: &str = "starts-find-no-damage";

pub(super) fn hear(found: &mut Found, at: Duration, fact: &Fact) {
    let Fact::Opened { node, damage, leftovers } = fact else { return };
    for what in damage {
        found.add(RULE, at, *node, what);
    }
    for name in leftovers {
        found.add(RULE, at, *node, format!("{name} is there still after a start"));
    }
}
