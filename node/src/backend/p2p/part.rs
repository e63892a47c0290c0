//! The part of a log that can be had where its newest entries cannot: its author announced them, and went away before anybody had
//! fetched them.
//!
//! What was released before must not be lost with them. An entry is signed and names the one before it, so that a log that ends
//! earlier than the head says is as genuine as the whole one; only what was said since is not known, and anyone who uses the part
//! is told so.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, stream};
use semver::Version;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    at_hand,
    install::{as_held, head_key},
    node::Node,
    resolve::{Unread, how_yanked},
};
use crate::{
    catalog,
    code::Code,
    control::api::Failure,
    fetch::{Source, log},
    package::{PackageId, asked::Which},
    release::{Log, Place, Release, VerifiedHead, fork::Side},
    store::meta,
};

/// Places of a log that are tried of those that were seen here, the newest first: more than this node was at.
const PLACES_TRIED_MAX: usize = 4;
/// Places that are tried of those that peers named, each for so long, and all of them together: who names one that nobody has cannot
/// keep the honest from their turn.
const NAMED_TRIED_MAX: usize = 24;
const NAMED_PATIENCE: Duration = Duration::from_secs(4);
const NAMED_TIMEOUT: Duration = Duration::from_secs(45);

/// Releases that are looked for in place of one that nobody has, all at once, and how long that may take.
const OLDER_TRIED_MAX: usize = 8;
const HELD_PATIENCE: Duration = Duration::from_secs(8);

/// A log, as far as it could be read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) log: Log,
    /// What of it is not here; none where it is whole.
    pub(super) missing: Option<Missing>,
}

/// The newest entries of a log, which nobody who was reached holds.
#[derive(Debug)]
pub(super) struct Missing {
    /// The newest version that the head names.
    announced: Option<Version>,
    /// How many entries.
    entries: u64,
}

impl Missing {
    #[cfg(test)]
    pub(super) fn of(announced: Option<Version>, entries: u64) -> Self {
        Self { announced, entries }
    }

    /// What is said beside anything that is taken from the part.
    pub(super) fn warning(&self) -> String {
        let Self { announced, entries, .. } = self;
        let what = match announced {
            Some(version) => format!("something newer was announced ({version})"),
            None => "something newer was announced".to_owned(),
        };
        let number = if *entries == 1 { "1 entry is".to_owned() } else { format!("{entries} entries are") };
        format!(
            "{what}, and nobody who was reached holds it: of the log {number} missing, so what its publisher said last is \
             not known"
        )
    }
}

impl Node {
    /// The log of a package as far as those hold it who can be reached, with whatever a double signing leaves of it.
    pub(super) async fn log_as_held(
        &self,
        head: &VerifiedHead,
        found: Option<mpsc::Receiver<Source>>,
    ) -> Result<Reading, Unread> {
        let (why, older) = match self.log_from(head, found).await {
            Ok(log) => return Ok(Reading { log, missing: None }),
            Err(Unread::Unheld(why, older)) => (why, older),
            Err(unread) => return Err(unread),
        };
        let Some(log) = self.part(head, older).await? else {
            let (announced, entries) = (None, head.head().sequence.get().saturating_add(1));
            return match self.undisputed_of_another(head).await {
                Some(log) => Ok(Reading { log, missing: Some(Missing { announced, entries }) }),
                None => Err(Unread::Unheld(why, Vec::new())),
            };
        };
        let entries = head.head().sequence.get().saturating_add(1).saturating_sub(log.entries().len() as u64);
        let announced = head.head().latest.as_ref().filter(|latest| log.latest() != Some(latest));
        let announced = announced.map(|latest| latest.version.clone());
        let log = match self.dispute(&head.package_id()).await.map_err(Unread::Unavailable)? {
            Some(proofs) => self.undisputed(head, log, &proofs).await?,
            None => {
                // What was yanked since stands in the head, whoever keeps the newest entries back.
                let mut log = log;
                log.yank_as_told(head.head());
                log
            }
        };
        Ok(Reading { log, missing: Some(Missing { announced, entries }) })
    }

    /// The newest release before one that nobody has, of those that somebody holds; where nobody is known to hold any, the newest. Of
    /// many only the newest few are looked for. None where there is nothing before it.
    ///
    /// # Errors
    /// [`Code::NoProviders`] where all that is held was yanked: that is taken only where it is named.
    pub(super) async fn older_release(
        &self,
        head: &VerifiedHead,
        gone: &Release,
        which: &Which,
    ) -> Result<Option<(Release, String)>, Failure> {
        let Ok(Reading { log, missing }) = self.log_as_held(head, None).await else { return Ok(None) };
        let Before { usable, yanked } = before(&log, gone, which);
        let held = self.newest_held(&head.package_id(), &usable).await;
        if let Some(release) = held.or_else(|| usable.into_iter().next()) {
            let warning = match missing {
                Some(missing) => missing.warning(),
                None => {
                    format!("version {} is the newest, and nobody who was reached holds it", gone.version)
                }
            };
            return Ok(Some((release, warning)));
        }
        match self.newest_held(&head.package_id(), &yanked).await {
            Some(held) => Err(only_yanked(&head.package_id(), &gone.version, &held.version)),
            None => Ok(None),
        }
    }

    /// The first of some releases that is here or that somebody provides.
    async fn newest_held(&self, package: &PackageId, releases: &[Release]) -> Option<Release> {
        let held: Vec<_> = releases.iter().map(|release| as_held(package.clone(), release)).collect();
        let here =
            self.offload_store(move |store| held.iter().map(|it| at_hand::is_whole(store, it)).collect());
        let here: Vec<bool> = here.await.ok()?;
        let deadline = Instant::now() + HELD_PATIENCE;
        let releases: Vec<(Release, bool)> = releases.iter().cloned().zip(here).collect();
        let held = stream::iter(releases)
            .map(|(release, is_here)| async move {
                // Who holds a newer one may not be found in the whole time: then one that is here has waited long enough.
                let is_held =
                    is_here || timeout_at(deadline, self.is_provided(&release, deadline)).await == Ok(true);
                is_held.then_some(release)
            })
            .buffered(OLDER_TRIED_MAX)
            .filter_map(std::future::ready);
        pin!(held).next().await
    }

    /// Whether somebody who can be reached provides a release.
    async fn is_provided(&self, release: &Release, deadline: Instant) -> bool {
        let (providers, is_complete) = self.providers(release.root, deadline).await;
        // Those of a lookup that was cut off were not tried.
        let reached = if is_complete { providers } else { self.reachable(providers, deadline).await };
        !reached.is_empty()
    }

    /// The longest part of a log that is here, or that peers said they hold.
    async fn part(&self, head: &VerifiedHead, older: Vec<log::UpTo>) -> Result<Option<Log>, Unread> {
        let package = head.package_id();
        let read = self.with_store(move |store| {
            let installed = store.read(|conn| meta::get(conn, &head_key(&package)))?;
            let installed = installed.and_then(|bytes| VerifiedHead::verify_stored(&bytes).ok());
            let mut places = store.read(|conn| Ok(catalog::places(conn, &package)?))?;
            places.extend(installed.map(|head| Place::from(head.seen())));
            Ok(places)
        });
        let places = read.await.map_err(Unread::Unavailable)?;
        let named_until = Instant::now() + NAMED_TIMEOUT;
        for (log::UpTo { sequence, entry }, is_seen) in ends(older, &places, head) {
            let wanted = log::Wanted { newest: entry, sequence, ..log::Wanted::of(head, None) };
            let reading = self.entries(head, wanted, Some(self.connected_sources()));
            let read = match is_seen {
                true => reading.await.ok(),
                false => {
                    let patience = named_until.min(Instant::now() + NAMED_PATIENCE);
                    timeout_at(patience, reading).await.ok().and_then(Result::ok)
                }
            };
            let Some(entries) = read else { continue };
            match Log::verify(entries) {
                Ok(log) if stands(&log, head, &places) => return Ok(Some(log)),
                Ok(_) => {
                    tracing::debug!(package = %head.package_id(), %sequence, "a part of a log does not stand")
                }
                Err(error) => tracing::debug!(%error, "a part of a log is none"),
            }
        }
        Ok(None)
    }
}

/// The newest releases of a log from before one, the newest first.
struct Before {
    /// Those that will do in its place.
    usable: Vec<Release>,
    /// Those that would, had they not been yanked.
    yanked: Vec<Release>,
}

fn before(log: &Log, gone: &Release, which: &Which) -> Before {
    let is_meant = |version: &Version| match which {
        Which::Range(range) => range.matches(version),
        Which::Latest | Which::Exact(_) => version.pre.is_empty() || !gone.version.pre.is_empty(),
    };
    let older = |is_yanked: bool| {
        let states = log.versions().iter().rev().filter(|_| !log.is_tombstoned());
        let meant = states.filter(|(version, state)| {
            is_meant(version) && **version < gone.version && state.yanked.is_some() == is_yanked
        });
        meant.map(|(_, state)| state.release.clone()).take(OLDER_TRIED_MAX).collect()
    };
    Before { usable: older(false), yanked: older(true) }
}

fn only_yanked(package: &PackageId, gone: &Version, held: &Version) -> Failure {
    let failure = Failure::new(
        Code::NoProviders,
        format!(
            "Nobody who was reached holds version {gone} of {package}. Version {held} is held, and was yanked by its publisher."
        ),
        format!(
            "Try again when more peers are connected: ggen marketplace p2p peer-list\n{}",
            how_yanked(&package.to_string(), held)
        ),
    );
    Failure { retryable: true, ..failure }
}

/// The places at which a part of a log may end, the newest first, each with whether it was seen here: some of those, and some that peers
/// named.
fn ends(named: Vec<log::UpTo>, seen: &[Place], head: &VerifiedHead) -> Vec<(log::UpTo, bool)> {
    let is_before = |end: &log::UpTo| end.sequence < head.head().sequence;
    let mut here: Vec<log::UpTo> =
        seen.iter().map(|place| log::UpTo { sequence: place.sequence, entry: place.entry }).collect();
    let mut named: Vec<log::UpTo> = named.into_iter().filter(|it| !here.contains(it)).collect();
    for (ends, most) in [(&mut here, PLACES_TRIED_MAX), (&mut named, NAMED_TRIED_MAX)] {
        ends.retain(is_before);
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.dedup();
        ends.truncate(most);
    }
    let mut ends: Vec<_> = here.into_iter().map(|end| (end, true)).collect();
    ends.extend(named.into_iter().map(|end| (end, false)));
    ends.sort_unstable_by(|a, b| b.cmp(a));
    ends
}

/// Whether a log that ends earlier than a head says may be used: it begins as that one, contradicts nothing that was seen, and its
/// end was seen, or signed with keys that still count. Of one that only revoked keys signed nobody can tell whether it is theirs.
fn stands(log: &Log, head: &VerifiedHead, places: &[Place]) -> bool {
    let Some(newest) = log.newest() else { return false };
    let is_seen = places.iter().any(|place| place.entry == newest.id());
    let counts = || {
        let side = Side::read(newest.block().bytes());
        side.is_some_and(|(_, side)| !side.is_void(head.key_log()))
    };
    log.id() == Some(head.head().log)
        && newest.entry().sequence < head.head().sequence
        && log.continues(places, head).is_ok()
        && (is_seen || counts())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::{Codec, ContentId},
        identity::{SecretKey, publisher::Change},
        release::Sequence,
        release::{
            Kind,
            fixture::{NOW, draft, head, publisher, release, releases},
        },
    };

    #[test]
    fn a_part_stands_where_it_is_the_beginning_of_what_was_announced_by_keys_that_count() {
        let author = publisher(1);
        let newest = head(&author, &["1.0.0", "1.1.0", "1.2.0"]);
        let part = releases(&author, &["1.0.0", "1.1.0"]);
        assert!(stands(&part, &newest, &[]));
        let seen = |head: &VerifiedHead| [Place::from(head.seen())];
        assert!(stands(&part, &newest, &seen(&head(&author, &["1.0.0", "1.1.0"]))));
        let fork = head(&author, &["1.0.0", "1.1.1"]);
        assert!(!stands(&part, &newest, &seen(&fork)), "it contradicts what was seen");
        assert!(!stands(&releases(&author, &["0.9.0"]), &newest, &[]), "it begins otherwise");
        assert!(!stands(&releases(&author, &["1.0.0", "1.1.0", "1.2.0"]), &newest, &[]), "it is no part");
        assert!(!stands(&Log::empty(newest.package_id()), &newest, &[]));
    }

    #[test]
    fn in_place_of_what_nobody_has_the_newest_before_it_will_do_that_was_not_yanked() {
        let author = publisher(1);
        let mut log = releases(&author, &["1.0.0", "1.1.0", "1.2.0-rc.1", "1.2.0", "2.0.0"]);
        let yank = Kind::Yank { version: Version::new(1, 1, 0), reason: String::new() };
        log.push(log.next(yank, &author, NOW).unwrap()).unwrap();
        let told = |log: &Log, gone: &str, which| {
            let Before { usable, yanked } = before(log, &release(gone), &which);
            let names = |of: Vec<Release>| of.iter().map(|it| it.version.to_string()).collect::<Vec<_>>();
            (names(usable), names(yanked))
        };
        let (usable, yanked) = told(&log, "2.0.0", Which::Latest);
        assert_eq!(
            (usable.as_slice(), yanked.as_slice()),
            (&["1.2.0", "1.0.0"].map(String::from)[..], &["1.1.0".to_owned()][..])
        );
        assert_eq!(told(&log, "1.2.0", Which::Range("^1".parse().unwrap())).0, ["1.0.0"]);
        assert_eq!(told(&log, "1.0.0", Which::Latest).0, [""; 0]);
        // The newest entries, which nobody has, yanked more: the head says so.
        let mut part = releases(&author, &["1.0.0", "1.1.0"]);
        let mut whole = part.clone();
        for version in ["1.0.0", "1.1.0"] {
            let yank = Kind::Yank { version: version.parse().unwrap(), reason: "unsafe".to_owned() };
            whole.push(whole.next(yank, &author, NOW).unwrap()).unwrap();
        }
        whole.push(whole.next(Kind::Release(release("1.2.0")), &author, NOW).unwrap()).unwrap();
        assert_eq!(told(&part, "1.2.0", Which::Latest).0, ["1.1.0", "1.0.0"], "of the part alone");
        part.yank_as_told(draft(&author, &whole).sign(&author).unwrap().head());
        let (usable, yanked) = told(&part, "1.2.0", Which::Latest);
        assert_eq!(usable, [""; 0]);
        assert_eq!(yanked, ["1.1.0", "1.0.0"]);
    }

    #[test]
    fn places_that_peers_make_up_do_not_keep_those_that_were_seen_from_being_tried() {
        let author = publisher(1);
        let newest = head(&author, &["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
        let seen = Place::from(head(&author, &["1.0.0", "1.1.0"]).seen());
        let lie =
            |n: u8| log::UpTo { sequence: Sequence::new(2), entry: ContentId::of(Codec::DagCbor, &[n]) };
        let tried = ends((0..200).map(lie).collect(), &[seen], &newest);
        assert_eq!(tried.len(), NAMED_TRIED_MAX + 1);
        assert_eq!(tried.last(), Some(&(log::UpTo { sequence: seen.sequence, entry: seen.entry }, true)));
        let same = log::UpTo { sequence: seen.sequence, entry: seen.entry };
        assert_eq!(ends(vec![same, same], &[seen, seen], &newest), [(same, true)], "each once");
        let ahead = log::UpTo { sequence: Sequence::new(3), entry: seen.entry };
        assert_eq!(ends(vec![ahead], &[], &newest), [], "it is no part");
    }

    #[test]
    fn what_a_revoked_key_signed_stands_only_where_it_was_seen_before() {
        let old = publisher(1);
        let secret = Some(SecretKey::from_bytes(&[2; 32]));
        for (revoked, counts) in [(Vec::new(), true), (vec![old.public_key()], false)] {
            let change = Change { secret: secret.clone(), revoked, ..Change::default() };
            let new = old.changed(change, &[], NOW).unwrap();
            let part = releases(&old, &["1.0.0", "1.1.0"]);
            let newest = draft(&new, &releases(&old, &["1.0.0", "1.1.0", "1.2.0"])).sign(&new).unwrap();
            assert_eq!(stands(&part, &newest, &[]), counts);
            let seen = Place::from(head(&old, &["1.0.0", "1.1.0"]).seen());
            assert!(stands(&part, &newest, &[seen]));
        }
    }
}
