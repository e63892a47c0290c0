//! Searching: the local index of verified heads, who provides what it finds, and how complete that is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use libp2p::PeerId;
use semver::Version;
use tokio::time::Instant;

use super::{
    describe::{package_info, with_keys, with_providers},
    failure::fail,
    fresh::{self, Demand},
    install::manifest_of,
    meant::Meant,
    node::Node,
    part::Reading,
    place,
    resolve::{Unread, in_doubt},
    two_chains,
};
use crate::{
    catalog::{self, Found, Listed},
    code::Code,
    content::ContentId,
    control::api::{Failure, Info, InfoRequest, PackageInfo, SearchRequest, SearchResults, VersionInfo},
    identity::PublisherId,
    limits::{SEARCH_FILTERED_MAX, SEARCH_RESULTS_MAX, SEARCH_SECONDS},
    network::Snapshot,
    package::asked::Which,
    release::{Log, Release, VerifiedHead},
    reputation::{Score, ledger},
    store::{self, Store, heads, installed, pins},
};

/// Results where no limit was given.
const LIMIT: usize = 20;
/// How long a search asks others where no time was given.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the log of a package may take before `info` tells what is known without it.
const LOG_PATIENCE: Duration = Duration::from_secs(8);
/// Parts into which a search divides its time: what the peers know, what they have learnt since, and who provides it.
const WAITS: u32 = 3;
/// Lookups of providers at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// Matches that are read at once when the result is filtered by reputation.
const FILTERED_AT_ONCE: usize = 200;

/// A search, checked.
pub(super) struct Asked {
    pub(super) query: catalog::Query,
    limit: usize,
    offset: usize,
    pub(super) least: Option<Score>,
    deadline: Instant,
}

/// What a search shows.
#[derive(Default)]
struct Shown {
    packages: Vec<PackageInfo>,
    /// Matches, but for those that are known to be hidden.
    total: usize,
    /// Whether there are more of them.
    more: bool,
    hidden: usize,
    /// Why there may be more.
    because: Vec<String>,
    /// Whether some of the lookups of providers were cut off.
    cut_off: bool,
}

impl Asked {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Node {
    pub(super) async fn search(&self, request: SearchRequest) -> Result<SearchResults, Failure> {
        let asked = asked(request)?;
        // Of the rest, those who come are asked.
        let is_decided = self.await_entrance(asked.left() - asked.left() / WAITS).await;
        // One peer that does not answer must not use up the time in which the others could.
        let mut is_told = self.network.heads_read(asked.left() / WAITS).await;
        let mut snapshot = self.network.snapshot().await.map_err(fail)?;
        let mut found = self.look(&asked).await?;
        if (found.total == 0 || found.corrected.is_some()) && Instant::now() < asked.deadline {
            // Nothing here: somebody may have published since we last asked.
            is_told = self.network.refresh(asked.left() / WAITS).await.is_ok();
            snapshot = self.network.snapshot().await.map_err(fail)?;
            found = self.look(&asked).await?;
        }
        let mut because = incomplete_because(&snapshot, is_told);
        if !is_decided {
            because.push(
                "the node has just started, and the peers that it dials have not answered yet".to_owned(),
            );
        }
        because.extend(self.clock_off().map(|off| {
            format!("{} ({}) What was published lately may not be taken. {}", off.message, off.code, off.hint)
        }));
        let (corrected, did_you_mean) = (found.corrected.clone(), found.did_you_mean.clone());
        let warnings = catalog::query_warnings(&asked.query.text);
        let shown = self.shown(asked, found).await?;
        because.extend(shown.because);
        // Without peers it is said already that nobody could be asked.
        if shown.cut_off && !snapshot.peers.is_empty() {
            because.push("who provides some of the packages was not found out in time".to_owned());
        }
        let counts = move |store: &Store| {
            store.read(|conn| Ok((catalog::count(conn)?, catalog::newest_received(conn)?)))
        };
        let (indexed, index_time) = self.with_store(counts).await?;
        Ok(SearchResults {
            packages: shown.packages,
            total: shown.total,
            more: shown.more,
            complete: because.is_empty(),
            incomplete_because: because,
            hidden_by_reputation: shown.hidden,
            connected_peers: snapshot.peers.len(),
            indexed,
            index_time: index_time.map(|time| time.to_string()),
            corrected,
            did_you_mean,
            warnings,
        })
    }

    /// What of the matches is shown: their providers are looked up, and where only some of them are wanted, one stretch of
    /// matches is read after the other until there are enough.
    async fn shown(&self, mut asked: Asked, mut found: Found) -> Result<Shown, Failure> {
        let (wanted, mut looked_at) = (asked.offset.saturating_add(asked.limit), 0);
        let (mut shown, mut all_known) = (Shown::default(), true);
        loop {
            let (providers, known) = self.providers_of(&found.hits, asked.deadline).await;
            all_known &= known;
            let described = self.described(&asked, &found, &providers).await?;
            (shown.total, shown.more) = (found.total, found.more);
            if asked.least.is_none() {
                shown.packages = described;
                break;
            }
            let before = described.len();
            shown.packages.extend(described.into_iter().filter(|info| !info.providers.is_empty()));
            looked_at += FILTERED_AT_ONCE;
            shown.hidden += before;
            if shown.packages.len() >= wanted || looked_at >= found.total {
                break;
            }
            if looked_at >= SEARCH_FILTERED_MAX || asked.left().is_zero() {
                shown.because.push(format!(
                    "who provides them was looked up of the first {looked_at} matches, and there are {}",
                    found.total
                ));
                break;
            }
            asked.query.offset = looked_at;
            found = self.look(&asked).await?;
        }
        if asked.least.is_some() {
            shown.hidden -= shown.packages.len();
            shown.total = shown.total.saturating_sub(shown.hidden);
            shown.packages = shown.packages.into_iter().skip(asked.offset).take(asked.limit).collect();
        }
        shown.cut_off = !all_known;
        Ok(shown)
    }

    async fn look(&self, asked: &Asked) -> Result<Found, Failure> {
        let mut query = asked.query.clone();
        let search = move |store: &Store| {
            store.read(|conn| {
                query.known = known_publishers(conn)?;
                Ok(catalog::search(conn, &query)?)
            })
        };
        self.with_store(search).await
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

    /// Describes matches, with those of their providers that have the reputation asked for.
    async fn described(
        &self,
        asked: &Asked,
        found: &Found,
        providers: &BTreeMap<ContentId, Vec<PeerId>>,
    ) -> Result<Vec<PackageInfo>, Failure> {
        let peers: Vec<PeerId> = providers.values().flatten().copied().collect();
        let ids: Vec<_> = found.hits.iter().map(|hit| hit.id.clone()).collect();
        let (scores, frozen) = self
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
                    Ok((scores, frozen))
                })
            })
            .await?;
        let heads: Vec<_> = found.hits.iter().map(|hit| (hit.head.clone(), hit.bytes.clone())).collect();
        let now = self.now();
        let fresh = self
            .with_store(move |store| {
                heads
                    .iter()
                    .map(|(head, bytes)| fresh::freshness_here(store, head, bytes))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let least = asked.least.unwrap_or(Score::ZERO);
        Ok(found
            .hits
            .iter()
            .zip(frozen)
            .zip(fresh)
            .map(|((hit, frozen), fresh)| {
                let root = hit.head.latest.as_ref().map(|latest| latest.root);
                let of_hit = root.and_then(|root| providers.get(&root)).map_or(&[][..], Vec::as_slice);
                let freshness = fresh::told(&fresh, None, now);
                PackageInfo { freshness, ..with_providers(hit, frozen, of_hit, &scores, least) }
            })
            .collect())
    }

    pub(super) async fn info(&self, request: InfoRequest) -> Result<Info, Failure> {
        let Meant { reference, which, .. } = self.meant(&request.package).await?;
        self.await_entrance(SEARCH_TIMEOUT).await;
        let head = self.resolve_to_look(&reference).await?;
        let demand = match which {
            // A version that is named is what it is, however long its publisher has been away.
            Which::Exact(_) => Demand::default(),
            Which::Latest | Which::Range(_) => self.demand(request.fresh, request.fresh_secs, false),
        };
        let newest = self.newest(head, demand, true, Instant::now() + SEARCH_TIMEOUT).await?;
        let now = self.now();
        newest.demanded(demand, now)?;
        let freshness = newest.told(now);
        let head = newest.head;
        let package = head.package_id();
        // Without those who hold it the latest version has to do, within the time of the verb.
        let log = tokio::time::timeout(LOG_PATIENCE, self.log_as_held(&head, None)).await;
        let log = log.unwrap_or_else(|_| Err(Unread::Unavailable(slow_log()))).map_err(Failure::from);
        let (log, missing) = match log {
            Ok(Reading { log, missing }) => (Ok(log), missing),
            Err(failure) => (Err(failure), None),
        };
        let deadline = Instant::now() + SEARCH_TIMEOUT;
        let frozen = self.dispute(&package).await?.is_some();
        let publisher = package.publisher;
        let two = self.offload_store(move |store| two_chains::are_two(store, &publisher)).await?;
        let mut info = Info {
            package: PackageInfo { freshness, ..with_keys(package_info(head.head(), frozen), two) },
            sequence: head.head().sequence.get(),
            versions: match (&log, frozen) {
                (Err(_), true) => Vec::new(),
                (log, _) => versions(&head, log.as_ref().ok()),
            },
            ..Info::default()
        };
        info.package.notes.extend(self.revoked_note(&head.package_id()).await?);
        if frozen {
            // What the head names as the latest is contested.
            let latest = log.as_ref().ok().and_then(Log::latest);
            info.package.version = latest.map(|latest| latest.version.to_string()).unwrap_or_default();
            info.package.cid = latest.map(|latest| latest.root.to_string()).unwrap_or_default();
            info.package.size = latest.map(|latest| latest.size).unwrap_or_default();
            if log.as_ref().is_ok_and(|log| log.versions().is_empty()) && missing.is_none() {
                info.package.notes.push("none of its versions is from before that".to_owned());
            }
        }
        if let Err(failure) = &log {
            let known = match frozen {
                true => "which of its versions are from before that is not known yet",
                false => "only the latest version is known",
            };
            info.package.notes.push(format!("{known}: {}", failure.message));
        }
        if let Some(missing) = &missing {
            info.package.notes.push(missing.warning());
            let is_listed = |it: &VersionInfo| info.versions.iter().any(|known| known.version == it.version);
            let announced: Vec<_> =
                versions(&head, None).into_iter().filter(|it| !frozen && !is_listed(it)).collect();
            info.versions.extend(announced);
        }
        show_which(&mut info, &which).map_err(|failure| in_doubt(failure, missing.as_ref()))?;
        if let Ok(root) = info.package.cid.parse::<ContentId>() {
            let (peers, is_complete) = self.providers(root, deadline).await;
            if !is_complete {
                info.package
                    .notes
                    .push("who provides it was not found out in time: there may be more".to_owned());
            }
            info.package.providers = peers.iter().map(ToString::to_string).collect();
            info.package.reputation = self.best_score(peers).await?.get();
        }
        let release = shown(&info, &head, log.as_ref().ok());
        self.add_local(&head, release, which, info).await
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

    async fn add_local(
        &self,
        head: &VerifiedHead,
        release: Option<Release>,
        which: Which,
        mut info: Info,
    ) -> Result<Info, Failure> {
        let head = head.clone();
        self.offload_store(move |store| {
            local(store, &head, (release.as_ref(), &which), &mut info)?;
            Ok(info)
        })
        .await
    }
}

/// The release that is shown, where it is known what was signed of it.
pub(super) fn shown(info: &Info, head: &VerifiedHead, log: Option<&Log>) -> Option<Release> {
    let version: Version = info.package.version.parse().ok()?;
    let of_log = log.and_then(|log| log.versions().get(&version)).map(|state| state.release.clone());
    of_log.or_else(|| head.head().latest.clone().filter(|latest| latest.version == version))
}

/// Adds what only this machine knows of the version that is shown: its manifest, where it is installed, and whether the name is
/// pinned. Where no version was asked for, all folders are told.
pub(super) fn local(
    store: &Store,
    head: &VerifiedHead,
    (release, which): (Option<&Release>, &Which),
    info: &mut Info,
) -> Result<(), Failure> {
    let package = head.package_id();
    let (here, pinned) = store
        .read(|conn| Ok((installed::list_all(conn)?, pins::pinned(conn, &package.name)?)))
        .map_err(fail)?;
    info.pinned = pinned == Some(package.publisher);
    if let Some(other) = pinned.filter(|pinned| *pinned != package.publisher) {
        info.package
            .notes
            .push(format!("the name \"{}\" is pinned to another publisher: {other}", package.name));
    }
    info.installed_at = here
        .into_iter()
        .filter(|it| it.package == package && which.fits(&it.version) && !place::is_gone(&it.path))
        .map(|installed| installed.path.display().to_string())
        .collect();
    let Some(release) = release else { return Ok(()) };
    if !store.has(&release.manifest).map_err(fail)? {
        return Ok(());
    }
    let manifest = manifest_of(store, &package, release, head.key_log())?;
    let gpack = manifest.gpack();
    info.authors.clone_from(&gpack.authors);
    info.repository.clone_from(&gpack.repository);
    info.dependencies =
        gpack.dependencies.iter().map(|(id, range)| (id.to_string(), range.to_string())).collect();
    Ok(())
}

/// Makes the version that was asked for the one that is shown.
pub(super) fn show_which(info: &mut Info, which: &Which) -> Result<(), Failure> {
    if *which == Which::Latest {
        return Ok(());
    }
    let fits = |it: &&VersionInfo| it.version.parse().is_ok_and(|version| which.fits(&version));
    let fitting = || info.versions.iter().rev().filter(fits);
    let Some(known) = fitting().find(|it| !it.yanked).or_else(|| fitting().next()).cloned() else {
        let known: Vec<&str> = info.versions.iter().map(|it| it.version.as_str()).collect();
        let what = match which {
            Which::Range(range) => format!("version that meets {range}"),
            which => format!("version {which}"),
        };
        return Err(Failure::new(
            Code::NotFound,
            format!("{} has no {what}.", info.package.id),
            match known.is_empty() {
                true => "None of its versions is known here now. Try again when more peers are connected: ggen marketplace p2p peer-list"
                    .to_owned(),
                false => format!("Its versions: {}", known.join(", ")),
            },
        ));
    };
    info.package.version = known.version;
    info.package.cid = known.cid;
    info.package.size = known.size;
    // Of a version that was named, its own time is told.
    info.package.freshness.released_at = known.released;
    Ok(())
}

/// Why an index that is read after this moment may lack what connected peers know. A peer that connects while the index is read, or
/// while providers are looked up, is not spoken of: nothing is claimed of it.
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
        because.push(match peers {
            1 => "the one peer has not been read completely".to_owned(),
            several => format!("{behind} of {several} peers have not been read completely"),
        });
        let ended = before.heads_failed.iter();
        because.extend(ended.map(|(outcome, peers)| match peers {
            1 => format!("one peer {}", outcome.as_str()),
            several => format!("each of {several} peers {}", outcome.as_str()),
        }));
    }
    because
}

/// The publishers that this node has to do with: what is pinned, installed or published here is theirs.
pub(super) fn known_publishers(conn: &rusqlite::Connection) -> Result<BTreeSet<PublisherId>, store::Error> {
    let pinned = pins::list_all(conn)?.into_iter().map(|pin| pin.publisher);
    let here = installed::list_all(conn)?.into_iter().map(|installed| installed.package.publisher);
    let own = heads::list_all(conn)?.into_iter().map(|own| own.package.publisher);
    Ok(pinned.chain(here).chain(own).collect())
}

fn slow_log() -> Failure {
    Failure::new(Code::Timeout, "its log was not fetched in time", "Try again when more peers are connected.")
}

pub(super) fn versions(head: &VerifiedHead, log: Option<&Log>) -> Vec<VersionInfo> {
    if let Some(log) = log {
        return log
            .versions()
            .values()
            .map(|state| VersionInfo {
                version: state.release.version.to_string(),
                cid: state.release.root.to_string(),
                size: state.release.size,
                yanked: state.yanked.is_some() || log.is_tombstoned(),
                yank_reason: state.yanked.clone().filter(|reason| !reason.is_empty()),
                released: state.released.to_string(),
            })
            .collect();
    }
    let latest = head.head().latest.iter().map(|latest| VersionInfo {
        version: latest.version.to_string(),
        cid: latest.root.to_string(),
        size: latest.size,
        yanked: false,
        yank_reason: None,
        released: head.head().release_time().to_string(),
    });
    latest.collect()
}

pub(super) fn asked(request: SearchRequest) -> Result<Asked, Failure> {
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
    let timeout = Some(secs)
        .filter(|secs| SEARCH_SECONDS.contains(secs))
        .and_then(|secs| Duration::try_from_secs_f64(secs).ok())
        .ok_or_else(|| {
            let (least, most) = (SEARCH_SECONDS.start(), SEARCH_SECONDS.end());
            let hint = format!("Choose a --timeout from {least} to {most} seconds.");
            usage(format!("{secs} seconds make no sense."), &hint)
        })?;
    let (row_limit, row_offset) = match least {
        // Which matches are left is known only after their providers were looked up.
        Some(_) => (FILTERED_AT_ONCE, 0),
        None => (limit, request.offset),
    };
    Ok(Asked {
        query: catalog::Query {
            text: request.text,
            categories: request.categories,
            tags: request.tags,
            any_tag: request.any_tag,
            known: BTreeSet::new(),
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
#[path = "find_tests.rs"]
mod tests;
