//! What the state folder of a node tells while none runs: nothing is written, nobody is asked, and no lock is taken, so that a node
//! can start meanwhile.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    amend::{TakenBack, taken_back_of},
    describe::{package_info, with_keys, with_providers},
    failure::fail,
    find::{self, Asked, known_publishers, local, show_which},
    fresh::{Demand, Newest, freshness_here, told},
    gone,
    install::head_key,
    meant::meant_in,
    offer::log_here,
    resolve::{ambiguous, did_you_mean, own_of},
    two_chains,
    verify::{Held, list_in, look_in},
};
use crate::{
    catalog,
    code::Code,
    control::api::{
        Failure, Info, InfoRequest, Listing, PackageInfo, SearchRequest, SearchResults, Verified,
        VerifyRequest,
    },
    network::Offload,
    package::{PackageId, PackageRef, asked::Which},
    project::{Lock, Locked},
    release::VerifiedHead,
    reputation::Score,
    store::{Store, meta, pins},
    time::Timestamp,
};

/// Why what a view tells may not be all there is.
const ALONE: &str = "no node runs: only what this machine knows already was looked at";

/// The state folder of a node that does not run, for reading.
#[derive(Debug, Clone)]
pub struct View {
    store: Store,
}

impl View {
    /// Opens the store in a state folder for reading; an empty one where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be read, or was made by another version of the program.
    pub async fn open(folder: &Path) -> Result<Self, Failure> {
        let folder = folder.to_owned();
        let opened = Offload::Threads.run(move || Store::open_for_reading(&folder)).await;
        let store = opened.ok_or_else(|| gone("the store was not opened"))?.map_err(fail)?;
        Ok(Self { store })
    }

    /// Lists what is installed or published here.
    ///
    /// # Errors
    /// Where the store cannot be read; as for every other method.
    pub async fn list(&self) -> Result<Listing, Failure> {
        self.with(|store| list_in(store, Timestamp::now(), false)).await
    }

    /// Compares an installed package with its signed manifest.
    ///
    /// # Errors
    /// [`Code::NotFound`] where it is not installed.
    pub async fn verify(&self, request: VerifyRequest) -> Result<Verified, Failure> {
        let asked = request.clone();
        let first = match self.with(move |store| Ok(look_in(store, &asked))).await?.settled() {
            Ok(told) => return told,
            Err(differs) => differs,
        };
        let Held { guards, busy } = first.hold(Offload::Threads).await;
        let looked = self.with(move |store| {
            let _kept = guards;
            Ok(look_in(store, &request))
        });
        looked.await?.told_without(&busy)
    }

    /// Finds packages among those that were announced to this machine; the answer is never complete.
    ///
    /// # Errors
    /// Where the request makes no sense.
    pub async fn search(&self, request: SearchRequest) -> Result<SearchResults, Failure> {
        let asked = find::asked(request)?;
        self.with(move |store| search(store, asked)).await
    }

    /// Tells what this machine knows of a package.
    ///
    /// # Errors
    /// [`Code::NotFound`] where it knows nothing.
    pub async fn info(&self, request: InfoRequest) -> Result<Info, Failure> {
        self.with(move |store| info(store, &request, Timestamp::now())).await
    }

    /// What the publishers of what a lock file names took back of it, as far as this machine knows.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn taken_back(&self, lock: Lock) -> Result<BTreeMap<PackageId, TakenBack>, Failure> {
        self.with(move |store| {
            let of = |(id, locked): (PackageId, Locked)| {
                let it = taken_back_of(store, &id, &locked)?;
                Ok((id, it))
            };
            lock.packages.into_iter().map(of).collect()
        })
        .await
    }

    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = self.store.clone();
        let done = Offload::Threads.run(move || work(&store)).await;
        done.ok_or_else(|| gone("a look into the store"))?
    }
}

fn search(store: &Store, asked: Asked) -> Result<SearchResults, Failure> {
    let (mut query, now) = (asked.query, Timestamp::now());
    let warnings = catalog::query_warnings(&query.text);
    let (found, frozen, indexed, newest) = store
        .read(|conn| {
            query.known = known_publishers(conn)?;
            let found = catalog::search(conn, &query)?;
            let frozen = found.hits.iter().map(|hit| catalog::is_frozen(conn, &hit.id));
            let frozen = frozen.collect::<Result<Vec<_>, _>>()?;
            Ok((found, frozen, catalog::count(conn)?, catalog::newest_received(conn)?))
        })
        .map_err(fail)?;
    let mut packages = Vec::new();
    for (hit, frozen) in found.hits.iter().zip(frozen) {
        let freshness = told(&freshness_here(store, &hit.head, &hit.bytes).map_err(fail)?, None, now);
        let described = with_providers(hit, frozen, &[], &BTreeMap::new(), Score::ZERO);
        packages.push(PackageInfo { freshness, ..described });
    }
    let mut results = SearchResults {
        packages,
        total: found.total,
        more: found.more,
        complete: false,
        incomplete_because: vec![ALONE.to_owned()],
        indexed,
        index_time: newest.map(|time| time.to_string()),
        corrected: found.corrected,
        did_you_mean: found.did_you_mean,
        warnings,
        ..SearchResults::default()
    };
    if asked.least.is_some() {
        // Who provides a package is not known without asking, so nobody is known to have the reputation.
        results.hidden_by_reputation = found.total;
        results.packages.clear();
        (results.total, results.more) = (0, false);
    }
    Ok(results)
}

fn info(store: &Store, request: &InfoRequest, now: Timestamp) -> Result<Info, Failure> {
    let meant = meant_in(store, &request.package)?;
    let (head, is_frozen) = head_here(store, &meant.reference)?;
    let freshness = freshness_here(store, head.head(), head.bytes()).map_err(fail)?;
    let within = request.fresh_secs.map(Duration::from_secs);
    let newest = Newest { head, freshness, answers: None, heard: None };
    if !matches!(meant.which, Which::Exact(_)) {
        newest.demanded(Demand { promised: request.fresh, within }, now)?;
    }
    let freshness = newest.told(now);
    let head = newest.head;
    // What two signed states contest is not told apart here: that takes the branches of both.
    let log = if is_frozen { None } else { log_here(store, &head) };
    let two = two_chains::are_two(store, &head.head().publisher)?;
    let mut info = Info {
        package: PackageInfo { freshness, ..with_keys(package_info(head.head(), is_frozen), two) },
        sequence: head.head().sequence.get(),
        versions: if is_frozen { Vec::new() } else { find::versions(&head, log.as_ref()) },
        ..Info::default()
    };
    info.package.notes.push(ALONE.to_owned());
    if log.is_none() && !is_frozen {
        info.package.notes.push("only the latest version is known".to_owned());
    }
    show_which(&mut info, &meant.which)?;
    let release = find::shown(&info, &head, log.as_ref());
    local(store, &head, (release.as_ref(), &meant.which), &mut info)?;
    Ok(info)
}

/// The newest head that is known here of the package that a reference means, and whether the package is frozen.
pub(super) fn head_here(store: &Store, reference: &PackageRef) -> Result<(VerifiedHead, bool), Failure> {
    let pinned = store.read(|conn| pins::pinned(conn, &reference.name)).map_err(fail)?;
    let publisher = match (reference.publisher, pinned) {
        (Some(publisher), _) | (None, Some(publisher)) => publisher,
        (None, None) => {
            let claims = store.read(|conn| Ok(catalog::by_name(conn, &reference.name)?)).map_err(fail)?;
            match (claims.listed.as_slice(), claims.total) {
                ([], _) => return Err(unknown(store, reference)),
                ([only], 1) => only.id.publisher,
                _ => match store.read(|conn| own_of(conn, &reference.name)).map_err(fail)? {
                    Some(own) => own.publisher,
                    None => return Err(ambiguous(&reference.name, &claims)),
                },
            }
        }
    };
    let package = PackageId { publisher, name: reference.name.clone() };
    let (bytes, is_frozen) = store
        .read(|conn| {
            let bytes = match catalog::get(conn, &package)? {
                Some(listed) => Some(listed.bytes),
                None => meta::get(conn, &head_key(&package))?,
            };
            Ok((bytes, catalog::is_frozen(conn, &package)?))
        })
        .map_err(fail)?;
    let bytes = bytes.ok_or_else(|| unknown(store, reference))?;
    Ok((VerifiedHead::verify_stored(&bytes).map_err(fail)?, is_frozen))
}

fn unknown(store: &Store, reference: &PackageRef) -> Failure {
    let start = "Start the node, then ask again: ggen marketplace p2p start --daemon";
    let near = did_you_mean(store, &reference.name).unwrap_or_default();
    Failure::new(
        Code::NotFound,
        format!(
            "No package \"{reference}\" is known on this machine, and no node runs that could ask others."
        ),
        if near.is_empty() { start.to_owned() } else { format!("{near}\n{start}") },
    )
}
