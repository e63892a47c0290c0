//! Why a package is what it is: whose keys signed it and why those count, who confirmed it, and from whom it came.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    fresh,
    meant::Meant,
    node::Node,
    part::Reading,
    resolve::Chosen,
    two_chains::{self, TWO_CHAINS},
};
use crate::{
    control::api::{ExplainRequest, Explained, ExplainedKeys, ExplainedPeer, Failure},
    identity::{Envelope, KeyLog},
    limits::{ENTRY_BYTES_MAX, HEAD_BYTES_MAX},
    package::{PackageRef, asked::Which},
    release::{Release, VerifiedHead},
    reputation::ledger,
    store::{installed, pins},
    time::Timestamp,
};

/// How long the log may take that says which entry released a version.
const LOG_PATIENCE: Duration = Duration::from_secs(4);
/// Peers of which it is told that they served a package: those that did last.
const PEERS_MAX: usize = 50;

impl Node {
    pub(super) async fn explain(&self, request: ExplainRequest) -> Result<Explained, Failure> {
        let Meant { reference, which, .. } = self.meant(&request.package).await?;
        let head = self.resolve_to_look(&reference).await?;
        let (head, chosen) = self.release_asked(head, &which).await?;
        let Chosen { release, warnings: mut notes, .. } = chosen;
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
        let place = self.place_of(&head, &release, &mut notes).await;
        let frozen = self.dispute(&package).await?.is_some();
        let newest = head.head().latest.as_ref().filter(|latest| latest.version != release.version);
        let freshness = match newest.filter(|_| !frozen) {
            Some(newest) => format!("version {} is newer: {}", newest.version, told.freshness),
            None => told.freshness,
        };
        let publisher = package.publisher;
        let keys_disputed = self.offload_store(move |store| two_chains::are_two(store, &publisher)).await?;
        if keys_disputed {
            notes.push(format!("{TWO_CHAINS}; see both: ggen marketplace p2p trust list"));
        }
        notes.extend(self.revoked_note(&package).await?);
        if served.is_empty() {
            notes.push("no block of it came from another peer, as far as is remembered here".to_owned());
        }
        Ok(Explained {
            id: format!("{package}@{}", release.version),
            cid: release.root.to_string(),
            why_publisher: why_publisher(&reference, pinned.is_some()),
            why_version: why_version(&which, &head, &release, frozen),
            signed_by: place.2,
            head_signed_by: signers(head.bytes()),
            key_chain: chain(head.key_log()),
            sequence: place.0,
            released_at: place.1.to_string(),
            confirmed_at: told.confirmed_at,
            next_by: told.next_by,
            freshness,
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

    /// The number of the log entry that released a version, when that was made, and with which keys.
    async fn place_of(
        &self,
        head: &VerifiedHead,
        release: &Release,
        notes: &mut Vec<String>,
    ) -> (u64, Timestamp, Vec<String>) {
        let newest = (head.head().sequence.get(), head.head().released_at, signers(head.bytes()));
        let is_latest = head.head().latest.as_ref() == Some(release);
        let is_alone = head.key_log().current().n == 0;
        if is_latest
            && is_alone
            && head.head().latest_released_at.is_none()
            && head.head().deprecated.is_none()
        {
            return newest;
        }
        let reading = timeout(LOG_PATIENCE, self.log_as_held(head, None)).await;
        let place = match reading {
            Ok(Ok(Reading { log, .. })) => log.entry_of(&release.version).map(|signed| {
                let entry = signed.entry();
                (entry.sequence.get(), entry.created, signers(signed.block().bytes()))
            }),
            Ok(Err(_)) | Err(_) => None,
        };
        place.unwrap_or_else(|| {
            notes.push(
                "which entry of the log released it, and with which key, is not known: its log is not here; what is shown is of the newest \
                 entry"
                    .to_owned(),
            );
            newest
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

/// The keys whose signatures stand on a head or an entry; it was verified that they count.
fn signers(signed: &[u8]) -> Vec<String> {
    let envelope = Envelope::decode(signed, HEAD_BYTES_MAX.max(ENTRY_BYTES_MAX)).ok();
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
