//! Draws of the harness itself: each has a key, and none depends on how many came before it.
//!
//! A stream would shift whenever a node or a fault is taken away. Keyed draws stay as they were, so that a scenario can be
//! made smaller and still fail in the same way.

use std::{ops::RangeInclusive, time::Duration};

use libp2p::identity::Keypair;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};

/// Separates these hashes from all others.
const CONTEXT: &[u8] = b"ggen-sim/draw/v1";

/// Everything that is drawn from one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    /// The draws of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The generator of one draw: `site` is the place that draws, `link` what it is drawn for, `n` which draw of them it is.
    pub fn generator(self, site: &str, link: &str, n: u64) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.secret(site, link, n))
    }

    /// One number.
    pub fn draw(self, site: &str, link: &str, n: u64) -> u64 {
        self.generator(site, link, n).next_u64()
    }

    /// One number below `bound`, or zero where that is zero. The bias of the remainder is below 2⁻³² for any bound that fits
    /// into 32 bits.
    pub fn below(self, bound: u64, site: &str, link: &str, n: u64) -> u64 {
        self.draw(site, link, n).checked_rem(bound).unwrap_or(0)
    }

    /// One duration of a range, in whole microseconds.
    pub fn duration(self, range: &RangeInclusive<Duration>, site: &str, link: &str, n: u64) -> Duration {
        let width = range.end().saturating_sub(*range.start());
        let micros = u64::try_from(width.as_micros()).unwrap_or(u64::MAX - 1).saturating_add(1);
        *range.start() + Duration::from_micros(self.below(micros, site, link, n))
    }

    /// 32 bytes to seed a generator or a key with.
    pub fn secret(self, site: &str, link: &str, n: u64) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(CONTEXT);
        hash.update(self.seed.to_be_bytes());
        // With their lengths, so that no two keys run together.
        for part in [site, link] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(n.to_be_bytes());
        hash.finalize().into()
    }

    /// The node key of a name.
    pub fn node_key(self, name: &str) -> Keypair {
        let mut secret = self.secret("node-key", name, 0);
        Keypair::ed25519_from_bytes(&mut secret).expect("any 32 bytes are a key")
    }

    /// The `n`-th key that the node of a name makes, where it looks for a particular one.
    pub fn ground_key(self, name: &str, n: u64) -> Keypair {
        let mut secret = self.secret("ground-key", name, n);
        Keypair::ed25519_from_bytes(&mut secret).expect("any 32 bytes are a key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_key_and_on_nothing_else() {
        let draws = Draws::new(1);
        let first = draws.draw("latency", "a>b", 0);
        draws.draw("latency", "c>d", 0);
        assert_eq!(draws.draw("latency", "a>b", 0), first, "another draw in between changes nothing");
        for other in [
            Draws::new(2).draw("latency", "a>b", 0),
            draws.draw("delay", "a>b", 0),
            draws.draw("latency", "b>a", 0),
            draws.draw("latency", "a>b", 1),
            draws.draw("latencya", ">b", 0),
        ] {
            assert_ne!(other, first);
        }
    }

    #[test]
    fn draws_stay_in_their_range_and_fill_it() {
        let draws = Draws::new(7);
        let range = Duration::from_millis(10)..=Duration::from_millis(20);
        let drawn: Vec<Duration> = (0..1_000).map(|n| draws.duration(&range, "latency", "a>b", n)).collect();
        assert!(drawn.iter().all(|it| range.contains(it)));
        assert!(drawn.iter().any(|it| *it < Duration::from_millis(11)));
        assert!(drawn.iter().any(|it| *it > Duration::from_millis(19)));
        let only = Duration::from_secs(1)..=Duration::from_secs(1);
        assert_eq!(draws.duration(&only, "latency", "a>b", 0), Duration::from_secs(1));
        assert_eq!(draws.below(0, "x", "", 0), 0);
    }

    #[test]
    fn a_node_keeps_its_key_whoever_else_is_there() {
        let peer = |seed, name| Draws::new(seed).node_key(name).public().to_peer_id();
        assert_eq!(peer(1, "node-3"), peer(1, "node-3"));
        assert_ne!(peer(1, "node-3"), peer(1, "node-4"));
        assert_ne!(peer(1, "node-3"), peer(2, "node-3"));
    }
}
