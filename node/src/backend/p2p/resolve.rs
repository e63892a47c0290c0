//! From what a person typed to one signed head, and from there to a release.
//!
//! A bare name is never guessed: the publisher that was pinned for it, or the only one that claims it; otherwise the
//! candidates are listed and the command fails.

use std::time::Duration;

use rusqlite::Connection;
use semver::Version;
use tokio::{sync::mpsc, time::Instant};

use super::{
    describe, disputed,
    failure::fail,
    install::head_key,
    node::Node,
    part::Missing,
    sources::{Looking, connected},
};
use crate::{
    catalog::{self, Claims},
    code::Code,
    control::api::Failure,
    fetch::{Source, log},
    heads::exchange::Outcome,
    identity::PublisherId,
    network::Snapshot,
    package::{PackageId, PackageName, PackageRef},
    release::{self, Log, Place, Release, SignedEntry, VerifiedHead, choice},
    store::{self, Store, heads, meta, pins},
    time::Timestamp,
};

/// How long a name is looked for among the peers before it is not found.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a head is looked up in the DHT: where all nodes but one that have it died a moment ago, the paths of a lookup wait for
/// three dead ones in a row, four seconds each.
const DHT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a log may take to come.
const LOG_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the log of a package was not read.
pub(super) enum Unread {
    /// It did not come: that proves nothing.
    Unavailable(Failure),
    /// Nobody who was reached holds some of it, or sent it in time; up to where some said that they hold it.
    Unheld(Failure, Vec<log::UpTo>),
    /// What its publisher signed contradicts the head, or itself: nothing of the package may be used.
    Contradicts(Failure),
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Unavailable(failure) | Unread::Unheld(failure, _) | Unread::Contradicts(failure) => {
                failure
            }
        }
    }
}

/// What is said of what a key signed that its publisher revoked, where this machine heard of it only after that.
pub(super) fn though_revoked(since: Timestamp) -> String {
    format!(
        "its publisher revoked the key that signed it, on {since}, and this machine heard of it only after that: a thief may have published it"
    )
}

impl Unread {
    fn of(error: log::Error, older: Vec<log::UpTo>) -> Self {
        match error {
            log::Error::NoProviders | log::Error::Missing { .. } | log::Error::Timeout { .. } => {
                Self::Unheld(fail(error), older)
            }
            log::Error::Contradiction(error) if error.is_newer() => Self::Unavailable(fail(error)),
            log::Error::Contradiction(error) => Self::contradicts(error),
            other => Self::Unavailable(fail(other)),
        }
    }

    fn contradicts(error: release::Error) -> Self {
        let mut failure = fail(error);
        if failure.exit_code() != Code::Malformed.exit_code() {
            // To its publisher it may be a conflict, or too much; to others that read it, it is no log.
            failure.code = Code::Malformed;
        }
        if failure.hint.is_empty() {
            failure.hint =
                "Nothing was installed. Ask its publisher, over another channel, which state counts."
                    .to_owned();
        }
        Self::Contradicts(failure)
    }
}

/// The release that was meant.
pub(super) struct Chosen {
    pub(super) release: Release,
    pub(super) warnings: Vec<String>,
    /// Whether only a part of the log is known, which was said already.
    pub(super) is_of_part: bool,
}

impl From<Release> for Chosen {
    fn from(release: Release) -> Self {
        Self { release, warnings: Vec::new(), is_of_part: false }
    }
}

impl Node {
    /// The head of the package that a reference means, to take it.
    pub(super) async fn resolve(&self, reference: &PackageRef) -> Result<VerifiedHead, Failure> {
        let head = self.resolve_listed(reference).await?;
        self.refuse_revoked(&head.package_id()).await?;
        Ok(head)
    }

    /// Refuses a package whose publisher revoked the key that signed it, and that was heard of only after that.
    pub(super) async fn refuse_revoked(&self, package: &PackageId) -> Result<(), Failure> {
        let since = self.revoked_since(package).await?;
        since.map_or(Ok(()), |since| Err(fail(release::Error::Revoked { since })))
    }

    /// What is said of a package that [`Node::refuse_revoked`] refuses.
    pub(super) async fn revoked_note(&self, package: &PackageId) -> Result<Option<String>, Failure> {
        Ok(self.revoked_since(package).await?.map(though_revoked))
    }

    async fn revoked_since(&self, package: &PackageId) -> Result<Option<Timestamp>, Failure> {
        let package = package.clone();
        self.with_store(move |store| store.read(|conn| Ok(catalog::listed_though_revoked(conn, &package)?)))
            .await
    }

    async fn resolve_listed(&self, reference: &PackageRef) -> Result<VerifiedHead, Failure> {
        match self.resolve_as_known(reference).await {
            // Nobody could be asked: later it may be found.
            Err(failure) if failure.code == Code::NotFound && self.is_alone().await => {
                Err(Failure::new(Code::Network, failure.message, failure.hint))
            }
            resolved => resolved,
        }
    }

    /// As [`Node::resolve`], to look at the package only: a full id says which one is meant, whatever its name is pinned to.
    pub(super) async fn resolve_to_look(&self, reference: &PackageRef) -> Result<VerifiedHead, Failure> {
        match reference.publisher {
            Some(publisher) => self.head_of(&PackageId { publisher, name: reference.name.clone() }).await,
            None => self.resolve_listed(reference).await,
        }
    }

    async fn resolve_as_known(&self, reference: &PackageRef) -> Result<VerifiedHead, Failure> {
        let name = reference.name.clone();
        let pinned = self.with_store(move |store| store.read(|conn| pins::pinned(conn, &name))).await?;
        match (reference.publisher, pinned) {
            (Some(named), Some(pinned)) if named != pinned => {
                Err(pin_mismatch(&reference.name, named, pinned))
            }
            (Some(publisher), _) | (None, Some(publisher)) => {
                self.head_of(&PackageId { publisher, name: reference.name.clone() }).await
            }
            (None, None) => self.only_claim(&reference.name).await,
        }
    }

    /// The newest head that is known of a package, here or in the DHT.
    pub(super) async fn head_of(&self, package: &PackageId) -> Result<VerifiedHead, Failure> {
        if let Some(head) = self.indexed(package).await? {
            return Ok(head);
        }
        self.await_entrance(LOOK_TIMEOUT).await;
        // Peers that were connected a moment ago may not have told of it yet.
        self.network.heads_read(LOOK_TIMEOUT).await;
        if let Some(head) = self.indexed(package).await? {
            return Ok(head);
        }
        match self.dht_head(package).await {
            Ok(Some(head)) => return self.not_older(head).await,
            Ok(None) => {}
            // A node that is alone is told so below.
            Err(failure) if failure.code == Code::Network && self.is_alone().await => {}
            // That it was not found proves nothing where not everybody was asked.
            Err(failure) => return Err(failure),
        }
        Err(self.not_found(&package.name, &package.to_string()).await)
    }

    /// What the DHT alone says of a package.
    pub(super) async fn dht_head(&self, package: &PackageId) -> Result<Option<VerifiedHead>, Failure> {
        self.network.get_head(package.clone(), DHT_TIMEOUT).await.map_err(fail)
    }

    /// Compares a head of the DHT with what was seen of its package, which outlives the index, and with what is known of its keys.
    pub(super) async fn not_older(&self, head: VerifiedHead) -> Result<VerifiedHead, Failure> {
        let package = head.package_id();
        let known =
            self.with_store(move |store| store.read(|conn| Ok(catalog::known(conn, &package)?))).await?;
        choice::accept(&head, known.seen).map_err(fail)?;
        match known.revoked_since(&head) {
            Some(since) => Err(fail(release::Error::Revoked { since })),
            None => Ok(head),
        }
    }

    pub(super) async fn indexed(&self, package: &PackageId) -> Result<Option<VerifiedHead>, Failure> {
        let (wanted, now) = (package.clone(), self.now());
        let (listed, frozen) = self
            .with_store(move |store| {
                store.read(|conn| Ok((catalog::get(conn, &wanted)?, catalog::is_frozen(conn, &wanted)?)))
            })
            .await?;
        // It stays frozen after its head left the index, and then nothing says what is not contested.
        if frozen && listed.is_none() {
            return Err(disputed::frozen(package, "its head is not here any more"));
        }
        let Some(listed) = listed else { return Ok(None) };
        listed.verify(now).map(Some).map_err(fail)
    }

    /// The head of the only publisher that claims a bare name.
    async fn only_claim(&self, name: &PackageName) -> Result<VerifiedHead, Failure> {
        let mut claims = self.claims(name).await?;
        if claims.total == 0 {
            self.await_entrance(LOOK_TIMEOUT).await;
            self.network.heads_read(LOOK_TIMEOUT).await;
            claims = self.claims(name).await?;
        }
        let mut is_told = true;
        if claims.total == 0 {
            is_told = self.network.refresh(LOOK_TIMEOUT).await.is_ok()
                && self.network.snapshot().await.is_ok_and(|snapshot| !is_unread(&snapshot));
            claims = self.claims(name).await?;
        }
        match (claims.listed.as_slice(), claims.total) {
            ([], _) if !is_told => Err(untold(name)),
            ([], _) => Err(self.not_found(name, name.as_str()).await),
            ([only], 1) => self.head_of(&only.id).await,
            _ => {
                let wanted = name.clone();
                let own = self.with_store(move |store| store.read(|conn| own_of(conn, &wanted))).await?;
                match own {
                    Some(own) => self.head_of(&own).await,
                    None => Err(ambiguous(name, &claims)),
                }
            }
        }
    }

    async fn claims(&self, name: &PackageName) -> Result<Claims, Failure> {
        let name = name.clone();
        self.with_store(move |store| store.read(|conn| Ok(catalog::by_name(conn, &name)?))).await
    }

    async fn connected_peers(&self) -> usize {
        self.network.snapshot().await.map_or(0, |snapshot| snapshot.peers.len())
    }

    pub(super) async fn is_alone(&self) -> bool {
        self.connected_peers().await == 0
    }

    async fn not_found(&self, name: &PackageName, what: &str) -> Failure {
        let wanted = name.clone();
        let near = self.with_store(move |store| did_you_mean(store, &wanted)).await.unwrap_or_default();
        let peers = self.connected_peers().await;
        let hint = if peers == 0 {
            self.ways_in()
        } else {
            let told = match peers {
                1 => "The one connected peer did not tell".to_owned(),
                several => format!("None of the {several} connected peers told"),
            };
            format!("{told} of it. Look for it by a word: ggen marketplace p2p search {name}")
        };
        let hint = if near.is_empty() { hint } else { format!("{near}\n{hint}") };
        let hint = match self.clock_off() {
            Some(off) => format!(
                "{} ({}) What was published lately may not have been taken. {}\n{hint}",
                off.message, off.code, off.hint
            ),
            None => hint,
        };
        let message = match peers {
            0 => {
                format!("No package \"{what}\" is known here, and no peer is connected that could be asked.")
            }
            _ => format!("No package \"{what}\" is known."),
        };
        Failure::new(Code::NotFound, message, hint)
    }

    /// The release that a reference means: the version it names, or the latest.
    pub(super) async fn release_of(
        &self,
        head: &VerifiedHead,
        version: Option<&Version>,
    ) -> Result<Chosen, Failure> {
        if self.dispute(&head.package_id()).await?.is_some() {
            return self.undisputed_release(head, version).await;
        }
        let latest = head.head().latest.as_ref();
        match (version, latest) {
            (None, Some(latest)) => Ok(Chosen::from(latest.clone())),
            (None, None) => Err(Failure::new(
                Code::NotFound,
                format!("{} has no version to install: all were yanked.", head.package_id()),
                by_number(head),
            )),
            (Some(version), Some(latest)) if *version == latest.version => Ok(Chosen::from(latest.clone())),
            (Some(version), _) => {
                let reading = self.log_as_held(head, None).await?;
                let Some(state) = reading.log.versions().get(version) else {
                    let known: Vec<String> = reading.log.versions().keys().map(Version::to_string).collect();
                    let failure = Failure::new(
                        Code::NotFound,
                        format!("{} has no version {version}.", head.package_id()),
                        format!("Its versions: {}", known.join(", ")),
                    );
                    return Err(in_doubt(failure, reading.missing.as_ref()));
                };
                let warnings = state.yanked.iter().map(|reason| describe::yanked(version, reason));
                Ok(Chosen {
                    release: state.release.clone(),
                    warnings: reading.missing.iter().map(Missing::warning).chain(warnings).collect(),
                    is_of_part: reading.missing.is_some(),
                })
            }
        }
    }

    /// The log of a package, from the store and from those who provide it: all of it, or where its publisher signed two of
    /// them, what they have in common.
    pub(super) async fn log_of(&self, head: &VerifiedHead) -> Result<Log, Unread> {
        self.log_from(head, None).await
    }

    /// Likewise; where a search for providers of the package runs already, those that it finds are asked.
    pub(super) async fn log_from(
        &self,
        head: &VerifiedHead,
        found: Option<mpsc::Receiver<Source>>,
    ) -> Result<Log, Unread> {
        let log = self.read_log_from(head, found).await?;
        match self.dispute(&head.package_id()).await.map_err(Unread::Unavailable)? {
            Some(proofs) => self.undisputed(head, log, &proofs).await,
            None => {
                self.continues_what_was_seen(&log, head).await?;
                Ok(log)
            }
        }
    }

    /// The log that a head names, whatever else is known of its package.
    pub(super) async fn read_log(&self, head: &VerifiedHead) -> Result<Log, Unread> {
        self.read_log_from(head, None).await
    }

    async fn read_log_from(
        &self,
        head: &VerifiedHead,
        found: Option<mpsc::Receiver<Source>>,
    ) -> Result<Log, Unread> {
        let package = head.package_id();
        let places =
            self.with_store(move |store| store.read(|conn| Ok(catalog::places(conn, &package)?))).await;
        let above = places.map_err(Unread::Unavailable)?.iter().map(|place| place.sequence).max();
        let entries = self.entries(head, log::Wanted::of(head, above), found).await?;
        let log = Log::verify(entries).map_err(Unread::contradicts)?;
        log.anchored(head).map_err(Unread::contradicts)?;
        Ok(log)
    }

    /// Entries of a log of this package from the first on, from the store and from those who provide it.
    pub(super) async fn entries(
        &self,
        head: &VerifiedHead,
        wanted: log::Wanted,
        found: Option<mpsc::Receiver<Source>>,
    ) -> Result<Vec<SignedEntry>, Unread> {
        let deadline = Instant::now() + LOG_TIMEOUT;
        let (network, store) = (self.network.clone(), self.store.clone());
        let read = |error| Unread::of(error, Vec::new());
        let mut session = log::Session::new(network, store, self.offload, deadline, wanted).map_err(read)?;
        if !session.look().await.map_err(read)? {
            let found = found.unwrap_or_else(|| match &head.head().latest {
                Some(latest) => self.sources(latest.root, deadline, Looking::Once),
                None => self.connected_sources(),
            });
            let fetched = session.fetch(found).await;
            self.judge_log(head, session.report()).await;
            fetched.map_err(|error| Unread::of(error, session.older()))?;
        }
        Ok(session.into_entries())
    }

    /// Holds a log against where it ended before: a head that passes over a number may name another history.
    async fn continues_what_was_seen(&self, log: &Log, head: &VerifiedHead) -> Result<(), Unread> {
        let package = head.package_id();
        let places =
            self.with_store(move |store| store.read(|conn| Ok(catalog::places(conn, &package)?))).await;
        let places = places.map_err(Unread::Unavailable)?;
        let now = self.now();
        let Err((place, instead)) = log.continues(&places, head) else {
            if places != [Place::from(head.seen())] {
                let head = head.clone();
                let noted =
                    self.with_store(move |store| store.write(|tx| Ok(catalog::log_read(tx, &head, now)?)));
                noted.await.map_err(Unread::Unavailable)?;
            }
            return Ok(());
        };
        let (instead, keys, package) = (instead.clone(), head.key_log().clone(), head.package_id());
        let named = head.clone();
        let convicted = self.with_store(move |store| {
            // What says what stood there before has to be signed: the row alone proves nothing to anybody.
            let before = store.block(&place.entry)?;
            let before = before.and_then(|it| SignedEntry::decode_and_verify(it.bytes(), &keys).ok());
            let installed = store.read(|conn| meta::get(conn, &head_key(&package)))?;
            let installed = installed.and_then(|bytes| VerifiedHead::verify_stored(&bytes).ok());
            let listed_before = store.read(|conn| Ok(catalog::before(conn, &package)?))?;
            let heads = [installed, listed_before].into_iter().flatten();
            let head = heads.into_iter().find(|head| head.head().entry == place.entry);
            let first = match (&before, &head) {
                (Some(entry), _) => entry.block().bytes(),
                (None, Some(head)) => head.bytes(),
                (None, None) => return Ok(false),
            };
            let statements = [first, instead.block().bytes()];
            store.write(|tx| Ok(catalog::convict_log(tx, &named, place.sequence, statements, now)?))
        });
        let convicted = convicted.await.map_err(Unread::Unavailable)?;
        tracing::warn!(package = %head.package_id(), sequence = %place.sequence, convicted, "a log was written again, with other entries");
        let number = place.sequence.get();
        Err(Unread::contradicts(release::Error::Equivocation { what: "entry", number }))
    }

    /// The peers that are connected, as sources of blocks that nobody announces.
    pub(super) fn connected_sources(&self) -> mpsc::Receiver<Source> {
        let (found, sources) = mpsc::channel(64);
        let (network, store, offload) = (self.network.clone(), self.store.clone(), self.offload);
        let least = self.least_reputation();
        self.spawn(async move {
            connected(&network, store, offload, least, &found).await;
        });
        sources
    }
}

/// What it means that a version is not among those that are known: where a part of the log is missing, it may be in that.
pub(super) fn in_doubt(failure: Failure, missing: Option<&Missing>) -> Failure {
    let Some(missing) = missing.filter(|_| failure.code == Code::NotFound) else { return failure };
    Failure {
        retryable: true,
        ..Failure::new(
            Code::NoProviders,
            format!("{} That is not certain: {}.", failure.message, missing.warning()),
            format!(
                "Try again when more peers are connected: ggen marketplace p2p peer-list. {}",
                failure.hint
            ),
        )
    }
}

fn pin_mismatch(name: &PackageName, named: PublisherId, pinned: PublisherId) -> Failure {
    Failure::new(
        Code::PinMismatch,
        format!("The name \"{name}\" is pinned to another publisher.\n  pinned: {pinned}\n  named:  {named}"),
        format!(
            "Install the pinned one by its bare name. To accept the other one in its place, knowingly: \
             ggen marketplace p2p trust accept {named}/{name}"
        ),
    )
}

/// The package of a name that was published from this machine, where it is one: its author means that one.
pub(super) fn own_of(conn: &Connection, name: &PackageName) -> Result<Option<PackageId>, store::Error> {
    let mut own = heads::list_all(conn)?.into_iter().filter(|head| head.package.name == *name);
    Ok(match (own.next(), own.next()) {
        (Some(only), None) => Some(only.package),
        _ => None,
    })
}

/// How a version is had that was yanked: by its number.
fn by_number(head: &VerifiedHead) -> String {
    let name = &head.head().name;
    let Some(newest) = head.head().yanked.first() else {
        return format!("See which there were: ggen marketplace p2p info {name}");
    };
    how_yanked(name.as_str(), newest)
}

pub(super) fn how_yanked(name: &str, version: &Version) -> String {
    format!(
        "A yanked version can still be had by its number: ggen marketplace p2p install {name}@{version}\n\
         In a project: ggen marketplace p2p add {name}@={version}"
    )
}

/// What is said of names that are nearly the one that nobody has; empty where there are none.
pub(super) fn did_you_mean(store: &Store, name: &PackageName) -> Result<String, store::Error> {
    let near = store.read(|conn| Ok(catalog::near_names(conn, name)?))?;
    let near: Vec<String> = near.iter().map(|name| format!("\"{name}\"")).collect();
    Ok(if near.is_empty() { String::new() } else { format!("Did you mean {}?", near.join(" or ")) })
}

/// Whether nobody could be read who may know of packages that are not known here.
fn is_unread(snapshot: &Snapshot) -> bool {
    let waits = snapshot.heads_failed.get(&Outcome::Waits).copied().unwrap_or_default();
    snapshot.heads_peers > 0 && snapshot.heads_complete + waits == 0
}

fn untold(name: &PackageName) -> Failure {
    Failure::new(
        Code::Timeout,
        format!(
            "No package \"{name}\" is known so far, and what the connected peers know could not be read."
        ),
        "Try again, or name it by its full id: <publisher>/<name>",
    )
}

pub(super) fn ambiguous(name: &PackageName, claims: &Claims) -> Failure {
    let mut list: Vec<String> =
        claims.listed.iter().map(|listed| format!("  {}  {}", listed.id, listed.head.description)).collect();
    match claims.total.saturating_sub(list.len()) {
        0 => {}
        more => list.push(format!("  and {more} more")),
    }
    Failure::new(
        Code::Ambiguous,
        format!("{} publishers have a package \"{name}\":\n{}", claims.total, list.join("\n")),
        "Name the one you mean by its full id: <publisher>/<name>",
    )
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
