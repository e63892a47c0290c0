//! Under which addresses peers see this node, as they say.

use std::collections::BTreeMap;

use libp2p::Multiaddr;

/// Addresses that are remembered: what is said most often, and of the rest what was said last.
const OBSERVED_MAX: usize = 64;

/// The addresses, how often each was reported, and the number of its last report.
#[derive(Debug, Default)]
pub(super) struct Observed {
    reports: BTreeMap<Multiaddr, (usize, u64)>,
    count: u64,
}

impl Observed {
    /// Notes what one peer says.
    pub(super) fn note(&mut self, address: Multiaddr) {
        self.count += 1;
        if !self.reports.contains_key(&address) && self.reports.len() >= OBSERVED_MAX {
            let least =
                self.reports.iter().min_by_key(|(_, report)| **report).map(|(least, _)| least.clone());
            if let Some(least) = least {
                self.reports.remove(&least);
            }
        }
        let report = self.reports.entry(address).or_default();
        *report = (report.0.saturating_add(1), self.count);
    }

    /// The addresses, and how often each was reported.
    pub(super) fn all(&self) -> BTreeMap<Multiaddr, usize> {
        self.reports.iter().map(|(address, (reports, _))| (address.clone(), *reports)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_give_way_to_what_comes_after_them_and_the_truth_stays() {
        let mut observed = Observed::default();
        let address = |port: usize| format!("/ip4/203.0.113.1/tcp/{port}").parse::<Multiaddr>().unwrap();
        (1..=OBSERVED_MAX).for_each(|port| observed.note(address(port)));
        (0..2).for_each(|_| observed.note(address(4001)));
        (1_000..2_000).for_each(|port| observed.note(address(port)));
        let held = observed.all();
        assert_eq!((held.len(), held.get(&address(4001))), (OBSERVED_MAX, Some(&2)));
        assert!(held.contains_key(&address(1_999)) && !held.contains_key(&address(1_000)));
    }
}
