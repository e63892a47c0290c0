//! Searching: the local index of verified heads, who provides what it finds, and how complete that is.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    describe::{package_info, with_providers},
    failure::fail,
    install::manifest_of,
    node::Node,
    resolve::Unread,
};
use crate::{
    catalog::{self, Found, Listed},
    code::Code,
    content::ContentId,
    control::api::{Failure, Info, InfoRequest, PackageInfo, SearchRequest, SearchResults, VersionInfo},
    limits::SEARCH_RESULTS_MAX,
    network::Snapshot,
    release::{Log, VerifiedHead},
    reputation::{Score, ledger},
    store::{installed, pins},
    time::Timestamp,
};

/// Results where no limit was given.
const LIMIT: usize = 20;
/// How long a search asks others where no time was given.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a search asks others, at most.
const SEARCH_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// How long the log of a package may take before `info` tells what is known without it.
const LOG_PATIENCE: Duration = Duration::from_secs(8);
/// Parts into which a search divides its time: what the peers know, what they have learnt since, and who provides it.
const WAITS: u32 = 3;
/// Lookups of providers at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// Matches whose providers are looked up when the result is filtered by reputation.
const FILTERED_MAX: usize = 200;

/// A search, checked.
struct Asked {
    query: catalog::Query,
    limit: usize,
    offset: usize,
    least: Option<Score>,
    deadline: Instant,
}

impl Asked {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Node {
    pub(super) async fn search(&self, request: SearchRequest) -> Result<SearchResults, Failure> {
        let asked = asked(request)?;
        // One peer that does not answer must not use up the time in which the others could.
        let mut is_told = self.network.heads_read(asked.left() / WAITS).await;
        let mut snapshot = self.network.snapshot().await.map_err(fail)?;
        let mut found = self.look(&asked).await?;
        if found.total == 0 && Instant::now() < asked.deadline {
            // Nothing here: somebody may have published since we last asked.
            is_told = self.network.refresh(asked.left() / WAITS).await.is_ok();
            snapshot = self.network.snapshot().await.map_err(fail)?;
            found = self.look(&asked).await?;
        }
        let mut because = incomplete_because(&snapshot, is_told);
        let (providers, all_known) = self.providers_of(&found.hits, asked.deadline).await;
        if !all_known {
            because.push("who provides some of the packages was not found out in time".to_owned());
        }
        let (packages, hidden, indexed, index_time) = self.present(&asked, &found, &providers).await?;
        Ok(SearchResults {
            packages,
            total: found.total,
            complete: because.is_empty(),
            incomplete_because: because,
            hidden_by_reputation: hidden,
            connected_peers: snapshot.peers.len(),
            indexed,
            index_time: index_time.map(|time| time.to_string()),
        })
    }

    async fn look(&self, asked: &Asked) -> Result<Found, Failure> {
        let (query, now) = (asked.query.clone(), self.now());
        self.with_store(move |store| store.read(|conn| Ok(catalog::search(conn, &query, now)?))).await
    }

    /// Who provides the latest tree of each match; false where a lookup was cut off.
    async fn providers_of(
        &self,
        hits: &[Listed],
        deadline: Instant,
    ) -> (BTreeMap<ContentId, Vec<PeerId>>, bool) {
        let roots: Vec<ContentId> =
            hits.iter().filter_map(|hit| Some(hit.head.latest.as_ref()?.root)).collect();
        let lookups: Vec<_> = stream::iter(roots)
            .map(|root| async move {
                let (peers, complete) = self.providers(root, deadline).await;
                (root, peers, complete)
            })
            .buffered(LOOKUPS_AT_ONCE)
            .collect()
            .await;
        let complete = lookups.iter().all(|(_, _, complete)| *complete);
        (lookups.into_iter().map(|(root, peers, _)| (root, peers)).collect(), complete)
    }

    /// Filters by reputation, pages, and describes.
    async fn present(
        &self,
        asked: &Asked,
        found: &Found,
        providers: &BTreeMap<ContentId, Vec<PeerId>>,
    ) -> Result<(Vec<PackageInfo>, usize, usize, Option<Timestamp>), Failure> {
        let peers: Vec<PeerId> = providers.values().flatten().copied().collect();
        let ids: Vec<_> = found.hits.iter().map(|hit| hit.id.clone()).collect();
        let now = self.now();
        let (scores, frozen, indexed, index_time) = self
            .with_store(move |store| {
                store.read(|conn| {
                    let mut scores = BTreeMap::new();
                    for peer in peers {
                        scores.insert(peer, ledger::get(conn, &peer)?.score());
                    }
                    let mut frozen = Vec::new();
                    for id in ids {
                        frozen.push(catalog::is_frozen(conn, &id)?);
                    }
                    Ok((scores, frozen, catalog::count(conn, now)?, catalog::newest_received(conn)?))
                })
            })
            .await?;
        let least = asked.least.unwrap_or(Score::ZERO);
        let mut described: Vec<PackageInfo> = found
            .hits
            .iter()
            .zip(frozen)
            .map(|(hit, frozen)| {
                let root = hit.head.latest.as_ref().map(|latest| latest.root);
                let of_hit = root.and_then(|root| providers.get(&root)).map_or(&[][..], Vec::as_slice);
                with_providers(hit, frozen, of_hit, &scores, least)
            })
            .collect();
        let before = described.len();
        if asked.least.is_some() {
            described.retain(|info| !info.providers.is_empty());
            let hidden = before - described.len();
            described = described.into_iter().skip(asked.offset).take(asked.limit).collect();
            return Ok((described, hidden, indexed, index_time));
        }
        Ok((described, 0, indexed, index_time))
    }

    pub(super) async fn info(&self, request: InfoRequest) -> Result<Info, Failure> {
        let reference = Self::parse_reference(&request.package)?;
        let head = self.resolve(&reference).await?;
        let package = head.package_id();
        // Without those who hold it the latest version has to do, within the time of the verb.
        let log = tokio::time::timeout(LOG_PATIENCE, self.log_of(&head)).await;
        let log = log.unwrap_or_else(|_| Err(Unread::Unavailable(slow_log()))).map_err(Failure::from);
        let deadline = Instant::now() + SEARCH_TIMEOUT;
        let mut info = Info {
            package: package_info(head.head(), false),
            sequence: head.head().sequence.get(),
            expires: head.head().expires.to_string(),
            versions: versions(&head, log.as_ref().ok()),
            ..Info::default()
        };
        if let Err(failure) = log {
            info.package.notes.push(format!("only the latest version is known: {}", failure.message));
        }
        if let Some(version) = &reference.version {
            let wanted = version.to_string();
            let known = info.versions.iter().find(|it| it.version == wanted).ok_or_else(|| {
                let known: Vec<&str> = info.versions.iter().map(|it| it.version.as_str()).collect();
                Failure::new(
                    Code::NotFound,
                    format!("{package} has no version {wanted}."),
                    format!("Its versions: {}", known.join(", ")),
                )
            })?;
            info.package.version.clone_from(&known.version);
            info.package.cid.clone_from(&known.cid);
            info.package.size = known.size;
        }
        if let Ok(root) = info.package.cid.parse::<ContentId>() {
            let (peers, _) = self.providers(root, deadline).await;
            info.package.providers = peers.iter().map(ToString::to_string).collect();
            info.package.reputation = self.best_score(peers).await?.get();
        }
        self.add_local(&head, &mut info).await?;
        Ok(info)
    }

    async fn best_score(&self, peers: Vec<PeerId>) -> Result<Score, Failure> {
        let scores = self.with_store(move |store| {
            store.read(|conn| {
                let mut best = None;
                for peer in peers {
                    best = best.max(Some(ledger::get(conn, &peer)?.score()));
                }
                Ok(best)
            })
        });
        Ok(scores.await?.unwrap_or(Score::NEW))
    }

    /// Adds what only this machine knows: the manifest, where it is installed, and whether it is pinned.
    async fn add_local(&self, head: &VerifiedHead, info: &mut Info) -> Result<(), Failure> {
        let package = head.package_id();
        let (here, pinned) = {
            let package = package.clone();
            self.with_store(move |store| {
                store.read(|conn| Ok((installed::list_all(conn)?, pins::pinned(conn, &package.name)?)))
            })
            .await?
        };
        info.pinned = pinned == Some(package.publisher);
        info.installed_at = here
            .into_iter()
            .filter(|installed| installed.package == package)
            .map(|installed| installed.path.display().to_string())
            .collect();
        let Some(latest) = head.head().latest.clone() else { return Ok(()) };
        let (keys, named) = (head.key_log().clone(), package);
        let manifest = self
            .offload_store(move |store| match store.has(&latest.manifest).map_err(fail)? {
                true => manifest_of(store, &named, &latest, &keys).map(Some),
                false => Ok(None),
            })
            .await?;
        if let Some(manifest) = manifest {
            let gpack = manifest.gpack();
            info.authors.clone_from(&gpack.authors);
            info.repository.clone_from(&gpack.repository);
            info.dependencies =
                gpack.dependencies.iter().map(|(id, range)| (id.to_string(), range.to_string())).collect();
        }
        Ok(())
    }
}

/// Why an index that is read after this moment may lack what connected peers know. Whoever connects while the index is read, or
/// while providers are looked up, is not spoken of: nothing is claimed of them.
fn incomplete_because(before: &Snapshot, is_told: bool) -> Vec<String> {
    let mut because = Vec::new();
    if !is_told {
        because.push("not all connected peers answered in time".to_owned());
    }
    let peers = before.heads_peers + before.heads_unidentified;
    let behind = peers.saturating_sub(before.heads_complete);
    if before.peers.is_empty() {
        because.push("no peer is connected: only what this node knows already was searched".to_owned());
    } else if behind > 0 {
        because.push(format!("{behind} of {peers} peers have not been read completely"));
    }
    because
}

fn slow_log() -> Failure {
    Failure::new(Code::Timeout, "its log was not fetched in time", "Try again when more peers are connected.")
}

fn versions(head: &VerifiedHead, log: Option<&Log>) -> Vec<VersionInfo> {
    if let Some(log) = log {
        return log
            .versions()
            .values()
            .map(|state| VersionInfo {
                version: state.release.version.to_string(),
                cid: state.release.root.to_string(),
                size: state.release.size,
                yanked: state.yanked.is_some() || log.is_tombstoned(),
                released: state.released.to_string(),
            })
            .collect();
    }
    let latest = head.head().latest.iter().map(|latest| VersionInfo {
        version: latest.version.to_string(),
        cid: latest.root.to_string(),
        size: latest.size,
        yanked: false,
        released: head.head().created.to_string(),
    });
    latest.collect()
}

fn asked(request: SearchRequest) -> Result<Asked, Failure> {
    let usage = |message: String, hint: &str| Failure::new(Code::Usage, message, hint);
    let limit = request.limit.unwrap_or(LIMIT);
    if limit == 0 || limit > SEARCH_RESULTS_MAX {
        return Err(usage(
            format!("A limit of {limit} results makes no sense."),
            "Choose a --limit from 1 to 1000.",
        ));
    }
    let least = request.min_reputation.map(Score::try_from).transpose().map_err(fail)?;
    let secs = request.timeout_secs.unwrap_or(SEARCH_TIMEOUT.as_secs_f64());
    let timeout = Duration::try_from_secs_f64(secs)
        .ok()
        .filter(|timeout| !timeout.is_zero() && *timeout <= SEARCH_TIMEOUT_MAX)
        .ok_or_else(|| {
            usage(format!("{secs} seconds make no sense."), "Choose a --timeout from 0.1 to 3600 seconds.")
        })?;
    let (row_limit, row_offset) = match least {
        // Which matches are left is known only after their providers were looked up.
        Some(_) => (FILTERED_MAX, 0),
        None => (limit, request.offset),
    };
    Ok(Asked {
        query: catalog::Query {
            text: request.text,
            categories: request.categories,
            tags: request.tags,
            any_tag: request.any_tag,
            limit: row_limit,
            offset: row_offset,
        },
        limit,
        offset: request.offset,
        least,
        deadline: Instant::now() + timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::PeerSnapshot;

    fn snapshot(peers: usize, complete: usize, unidentified: usize) -> Snapshot {
        let connected = |_| PeerSnapshot {
            peer: PeerId::random(),
            addresses: Vec::new(),
            outbound: true,
            round_trip: None,
            ponged: None,
            agent: None,
            protocol_version: None,
            protocols: Vec::new(),
            is_entry_point: false,
        };
        Snapshot {
            peers: (0..peers + unidentified).map(connected).collect(),
            heads_peers: peers,
            heads_complete: complete,
            heads_unidentified: unidentified,
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_search_is_complete_only_when_everybody_connected_was_read() {
        assert_eq!(incomplete_because(&snapshot(2, 2, 0), true), [""; 0]);
        assert_eq!(incomplete_because(&snapshot(2, 2, 0), false).len(), 1);
        assert!(incomplete_because(&snapshot(2, 1, 0), true)[0].contains("1 of 2"));
        assert!(incomplete_because(&snapshot(2, 2, 1), true)[0].contains("1 of 3"));
        assert!(incomplete_because(&snapshot(0, 0, 0), true)[0].contains("no peer"));
    }
}
