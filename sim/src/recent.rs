//! What happened last at each node and in the world: what whoever reads of a violation wants to know first.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    time::Duration,
};

use ggen_marketplace::network::Event;

/// Moments that are kept of each node, and of the world.
const KEPT: usize = 12;
/// Moments that are told.
const TOLD: usize = 10;

/// What happened last.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    world: VecDeque<(Duration, String)>,
    of_node: BTreeMap<usize, VecDeque<(Duration, String)>>,
}

impl Recent {
    /// Something happened to the world.
    pub(crate) fn world(&mut self, at: Duration, what: &impl Display) {
        keep(&mut self.world, at, what.to_string());
    }

    /// Something happened at a node.
    pub(crate) fn node(&mut self, node: usize, at: Duration, what: &str) {
        keep(self.of_node.entry(node).or_default(), at, what.to_owned());
    }

    /// What happened last at a node and in the world, the newest last.
    pub(crate) fn before(&self, node: usize) -> Vec<String> {
        let own = self.of_node.get(&node).into_iter().flatten();
        let mut moments: Vec<&(Duration, String)> = self.world.iter().chain(own).collect();
        moments.sort_by_key(|(at, _)| *at);
        let last = moments.len().saturating_sub(TOLD);
        moments[last..].iter().map(|(at, what)| format!("{:.3} s {what}", at.as_secs_f64())).collect()
    }
}

fn keep(moments: &mut VecDeque<(Duration, String)>, at: Duration, what: String) {
    if moments.len() == KEPT {
        moments.pop_front();
    }
    moments.push_back((at, what));
}

/// Whether an event says something to whoever asks how it came to what follows: not what happens all the time.
pub(crate) fn is_notable(event: &Event) -> bool {
    !matches!(
        event,
        Event::Identified { .. }
            | Event::Seen { .. }
            | Event::Claimed { .. }
            | Event::Routed { .. }
            | Event::Introduced { .. }
            | Event::Asked
            | Event::Read { .. }
            | Event::Audience
            | Event::Kept { .. }
            | Event::Greeted { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moments_of_a_node_and_of_the_world_are_told_in_their_order() {
        let mut recent = Recent::default();
        for second in 0..30 {
            recent.node(1, Duration::from_secs(second), &format!("event {second}"));
            recent.node(2, Duration::from_secs(second), "of another");
        }
        recent.world(Duration::from_millis(28_500), &"fault 0 partition begins");
        let told = recent.before(1);
        assert_eq!(told.len(), TOLD);
        assert_eq!(told[0], "21.000 s event 21");
        assert_eq!(told[TOLD - 2..], ["28.500 s fault 0 partition begins", "29.000 s event 29"]);
        assert_eq!(recent.before(3), ["28.500 s fault 0 partition begins"]);
    }
}
