//! Where nodes and packages stand in the DHT: who has which key, and who is how near to the record of a package.
//!
//! A node's key is drawn, but for whoever wants to stand somewhere: it makes keys until one is where it wants to be, as anybody can
//! in a network where an id costs nothing ([arXiv 2307.12212](https://arxiv.org/abs/2307.12212)).

use ggen_marketplace::{package::PackageId, release::dht_key, time::Timestamp};
use libp2p::{
    PeerId,
    identity::Keypair,
    kad::{KBucketDistance, KBucketKey},
};

use crate::{
    draw::{Draws, Publishers},
    scenario::Scenario,
    virtualise,
};

/// Keys that one node makes at most: among a thousand honest nodes, the first thousand of them hold one that is nearer than all.
const TRIES_MAX: u64 = 100_000;

/// A node could not get to where it wanted to be.
#[derive(Debug, thiserror::Error)]
#[error("{node} made {TRIES_MAX} keys, and none was nearer to the package than every honest node")]
pub struct Error {
    node: String,
}

/// When the keys of publishers were made.
pub(crate) fn created() -> Timestamp {
    Timestamp::from_secs(virtualise::EPOCH.as_secs())
}

/// The package that a step publishes.
///
/// # Panics
/// Where the step publishes nothing, which no checked scenario has.
pub(crate) fn package_of(scenario: &Scenario, draws: Draws, step: usize) -> PackageId {
    let step = &scenario.steps[step];
    let publisher = draws.publisher(scenario.nodes[step.node].signer(), created()).id();
    let name = step.action.published().expect("a step that publishes");
    PackageId { publisher, name: name.parse().expect("a checked scenario has valid names") }
}

/// How far a peer is from the record of a package, as Kademlia counts.
fn distance(package: &PackageId, peer: PeerId) -> KBucketDistance {
    KBucketKey::new(dht_key(package).to_vec()).distance(&KBucketKey::from(peer))
}

/// The key of every node.
///
/// # Errors
/// Where a node that wants to stand somewhere finds no key for it.
pub(crate) fn keys(scenario: &Scenario, draws: Draws) -> Result<Vec<Keypair>, Error> {
    let mut keys: Vec<Keypair> = scenario.nodes.iter().map(|node| draws.node_key(&node.name)).collect();
    let peer = |key: &Keypair| key.public().to_peer_id();
    let honest: Vec<PeerId> = keys
        .iter()
        .zip(&scenario.nodes)
        .filter(|(_, node)| node.script.is_none())
        .map(|(key, _)| peer(key))
        .collect();
    for (key, node) in keys.iter_mut().zip(&scenario.nodes) {
        let Some(target) = node.script.and_then(|script| script.target) else { continue };
        let package = package_of(scenario, draws, target);
        let nearest = honest.iter().map(|peer| distance(&package, *peer)).min();
        let mut ground = (0..TRIES_MAX).map(|n| draws.ground_key(&node.name, n));
        let is_nearer = |key: &Keypair| nearest.is_none_or(|nearest| distance(&package, peer(key)) < nearest);
        *key = ground.find(is_nearer).ok_or_else(|| Error { node: node.name.clone() })?;
    }
    Ok(keys)
}

/// Nodes by how near they are to the record of the package that a step publishes, without its author: that has the record whoever
/// it is.
pub(crate) fn nearest(
    scenario: &Scenario,
    draws: Draws,
    keys: &[Keypair],
    step: usize,
    nodes: impl Iterator<Item = usize>,
) -> Vec<usize> {
    let package = package_of(scenario, draws, step);
    let author = scenario.steps[step].node;
    let mut nodes: Vec<usize> = nodes.filter(|node| *node != author).collect();
    nodes.sort_by_key(|node| distance(&package, keys[*node].public().to_peer_id()));
    nodes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn scenario(added: &str) -> Scenario {
        let text = format!(
            "duration = \"60s\"\nlatency = \"10ms\"\n[topology]\nkind = \"mesh\"\nnodes = 40\n\
             [[workload]]\nat = \"10s\"\nnode = \"node-7\"\ndo = \"publish\"\npackage = \"amber\"\n{added}"
        );
        Scenario::parse(Path::new("small.toml"), &text).unwrap()
    }

    /// The hashes themselves, without libp2p's buckets.
    fn far(package: &PackageId, key: &Keypair) -> Vec<u8> {
        use sha2::{Digest, Sha256};
        let (one, other) =
            (Sha256::digest(dht_key(package)), Sha256::digest(key.public().to_peer_id().to_bytes()));
        one.iter().zip(other).map(|(one, other)| one ^ other).collect()
    }

    #[test]
    fn whoever_grinds_is_nearer_than_every_honest_node_and_nobody_else_changes() {
        let adversary = |node: &str| {
            format!("[[adversaries]]\nnode = \"{node}\"\nscript = \"eclipse\"\npackage = \"amber\"\n")
        };
        let draws = Draws::new(3);
        let plain = keys(&scenario(""), draws).unwrap();
        let eclipsed = scenario(&format!("{}{}", adversary("node-3"), adversary("node-30")));
        let ground = keys(&eclipsed, draws).unwrap();
        let package = package_of(&eclipsed, draws, 0);
        let peer = |key: &Keypair| key.public().to_peer_id();
        let honest = (0..40).filter(|node| ![3, 30].contains(node));
        let nearest = honest.clone().map(|node| far(&package, &plain[node])).min().unwrap();
        for node in [3, 30] {
            assert!(far(&package, &ground[node]) < nearest, "{node}");
            assert_ne!(peer(&ground[node]), peer(&plain[node]));
        }
        assert_ne!(peer(&ground[3]), peer(&ground[30]));
        for node in honest {
            assert_eq!(peer(&ground[node]), peer(&plain[node]), "{node}");
        }
        assert_eq!(peer(&keys(&eclipsed, draws).unwrap()[3]), peer(&ground[3]), "as often as one asks");
    }

    #[test]
    fn the_nearest_are_those_whose_hash_is_and_the_author_is_none_of_them() {
        let (scenario, draws) = (scenario(""), Draws::new(3));
        let keys = keys(&scenario, draws).unwrap();
        let ranked = nearest(&scenario, draws, &keys, 0, 0..40);
        assert_eq!(ranked.len(), 39);
        assert!(!ranked.contains(&7));
        let package = package_of(&scenario, draws, 0);
        assert!(ranked.is_sorted_by_key(|node| far(&package, &keys[*node])));
        assert_eq!(nearest(&scenario, draws, &keys, 0, 0..2).len(), 2);
    }
}
