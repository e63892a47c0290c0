//! Why a package is what it is: whose keys signed it and why those count, who confirmed it, and from whom it came.

use super::{
    fresh,
    meant::Meant,
    node::Node,
    resolve::Chosen,
    two_chains::{self, TWO_CHAINS},
};
use crate::{
    control::api::{ExplainRequest, Explained, ExplainedKeys, ExplainedPeer, Failure},
    identity::{Envelope, KeyLog},
    limits::HEAD_BYTES_MAX,
    package::{PackageRef, asked::Which},
    release::{Release, VerifiedHead},
    reputation::ledger,
    store::{installed, pins},
};

/// Peers of which it is told that they served a package: those that did last.
const PEERS_MAX: usize = 50;

impl Node {
    pub(super) async fn explain(&self, request: ExplainRequest) -> Result<Explained, Failure> {
        let Meant { reference, which, .. } = self.meant(&request.package).await?;
        let head = self.resolve(&reference).await?;
        let Chosen { release, warnings: mut notes, .. } = match &which {
            Which::Range(range) => self.release_within(&head, range).await?,
            Which::Latest | Which::Exact(_) => self.release_of(&head, reference.version.as_ref()).await?,
        };
        let package = head.package_id();
        let (of_package, root) = (package.clone(), release.root);
        let (pinned, here, served) = self
            .with_store(move |store| {
                store.read(|conn| {
                    let served = ledger::retrievals_of(conn, &root, PEERS_MAX)?;
                    Ok((pins::pinned(conn, &of_package.name)?, installed::list_all(conn)?, served))
                })
            })
            .await?;
        let freshness = self.freshness(&head).await?;
        let told = fresh::told(&freshness, None, self.now());
        let frozen = self.dispute(&package).await?.is_some();
        let publisher = package.publisher;
        let keys_disputed =
            self.with_store(move |store| store.read(|conn| two_chains::are_two(conn, &publisher))).await?;
        if keys_disputed {
            notes.push(format!("{TWO_CHAINS}; see both: ggen marketplace p2p trust list"));
        }
        if served.is_empty() {
            notes.push("no block of it came from another peer, as far as is remembered here".to_owned());
        }
        Ok(Explained {
            id: format!("{package}@{}", release.version),
            cid: release.root.to_string(),
            why_publisher: why_publisher(&reference, pinned.is_some()),
            why_version: why_version(&which, &head, &release, frozen),
            signed_by: signers(&head),
            key_chain: chain(head.key_log()),
            sequence: head.head().sequence.get(),
            released_at: told.released_at,
            confirmed_at: told.confirmed_at,
            next_by: told.next_by,
            freshness: told.freshness,
            frozen,
            keys_disputed,
            installed_at: here
                .into_iter()
                .filter(|row| row.package == package && row.version == release.version)
                .map(|row| row.path.display().to_string())
                .collect(),
            served_by: served
                .into_iter()
                .map(|(peer, event)| ExplainedPeer {
                    peer_id: peer.to_string(),
                    bytes: event.bytes,
                    time: event.time.to_string(),
                    outcome: event.outcome,
                })
                .collect(),
            notes,
        })
    }
}

fn why_publisher(reference: &PackageRef, is_pinned: bool) -> String {
    match (reference.publisher, is_pinned) {
        (Some(_), _) => "its publisher was named",
        (None, true) => {
            "the name is pinned to this publisher here; see and change that: ggen marketplace p2p trust list"
        }
        (None, false) => "it is the only publisher known here that has a package of this name",
    }
    .to_owned()
}

fn why_version(which: &Which, head: &VerifiedHead, release: &Release, frozen: bool) -> String {
    let latest = head.head().latest.as_ref();
    match which {
        Which::Exact(_) => "this version was named".to_owned(),
        _ if frozen => {
            "it is the newest version that is not contested: its publisher signed two different states after it"
                .to_owned()
        }
        Which::Range(range) => format!("it is the newest version that meets {range} and was not withdrawn"),
        Which::Latest if latest.is_some_and(|latest| latest.version == release.version) => {
            let kind = match release.version.pre.is_empty() {
                true => "stable version",
                false => "version, and there is no stable one",
            };
            let entry = head.head().sequence.get();
            format!("it is the newest {kind}, as entry {entry} of the log says, which the head names")
        }
        Which::Latest => "it is the newest version that can be installed".to_owned(),
    }
}

/// The keys whose signatures stand on the head; it was verified that they count.
fn signers(head: &VerifiedHead) -> Vec<String> {
    let envelope = Envelope::decode(head.bytes(), HEAD_BYTES_MAX).ok();
    envelope.iter().flat_map(Envelope::keys).map(|key| key.to_string()).collect()
}

fn chain(log: &KeyLog) -> Vec<ExplainedKeys> {
    (0..=log.current().n)
        .filter_map(|n| log.document(n))
        .map(|document| ExplainedKeys {
            n: document.n,
            created: document.created.to_string(),
            keys: document.keys.iter().map(ToString::to_string).collect(),
            threshold: document.threshold,
            revoked: document.revoked.len(),
        })
        .collect()
}
