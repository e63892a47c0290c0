//! `outdated`: of which packages of a project there are newer versions.

use std::{collections::BTreeMap, path::Path};

use tokio::time::Instant;

use super::{LISTED_MAX, PROJECT_TIMEOUT, of_file, refuse_relative, refuse_unfinished};
use crate::{
    backend::p2p::{
        failure::fail,
        gone,
        node::{Node, asked_time},
        offer::{How, Offer, Offers, UNHEARD},
        withdrawn,
    },
    control::api::{Failure, Outdated, OutdatedPackage, OutdatedRequest},
    package::PackageId,
    project::{
        LOCK_FILE, Lock, Requirements,
        plan::{Free, Wishes},
    },
};

impl Node {
    /// Tells of which packages of a project there are newer versions.
    pub(in crate::backend::p2p) async fn outdated(
        &self,
        request: OutdatedRequest,
    ) -> Result<Outdated, Failure> {
        let deadline = Instant::now() + asked_time(request.timeout_secs, PROJECT_TIMEOUT);
        let how = How { offline: false, asks: true, deadline };
        let directory = request.directory.0.clone();
        refuse_relative(&directory)?;
        let read = self.offload.run(move || read_settled(&directory).map_err(of_reading));
        let (requirements, lock) = read.await.ok_or_else(|| gone("a look at the project"))??;
        self.await_entrance(how.deadline.saturating_duration_since(Instant::now())).await;
        let asked = requirements.project().dependencies.clone();
        let mut offers = Offers::default();
        let warnings = of_file(&requirements).collect();
        let mut outdated = Outdated { total: lock.packages.len(), warnings, ..Outdated::default() };
        let wishes = Wishes {
            asked: asked.clone(),
            lock: lock.clone(),
            free: Free::Everything,
            exact: BTreeMap::new(),
        };
        let chosen = match self.plan(wishes, how, &mut offers).await {
            Ok(chosen) => chosen,
            Err(failure) => {
                outdated.warnings.push(of_reading(failure).message);
                BTreeMap::new()
            }
        };
        let mut unheard = Vec::new();
        for (id, locked) in &lock.packages {
            if !offers.packages.contains_key(id) {
                match self.offer(id, how).await {
                    Ok(offer) => drop(offers.packages.insert(id.clone(), offer)),
                    Err(failure) => {
                        outdated.warnings.push(format!("{id}: {}", of_reading(failure).message));
                    }
                }
            }
            let offer = offers.packages.get(id);
            match offer {
                Some(offer) if offer.unheard => unheard.push(id),
                Some(_) => {}
                None => outdated.unheard += 1,
            }
            let missing = offer.and_then(|offer| offer.missing.as_ref());
            outdated.warnings.extend(missing.map(|why| format!("{id}: {why}")));
            let (of, is) = (id.clone(), locked.clone());
            let looked = self.offload_store(move |store| {
                let frozen = withdrawn::frozen_in(store, &of, Some(&is))?;
                Ok((frozen, withdrawn::is_locked_withdrawn(store, &of, &is)?))
            });
            let (frozen, is_withdrawn) = looked.await?;
            outdated.warnings.extend(frozen);
            let withdrawn = is_withdrawn || offer.is_some_and(|offer| offer.has_withdrawn(locked));
            let latest = offer.and_then(Offer::latest).unwrap_or(&locked.version);
            let wanted = chosen.get(id).unwrap_or(&locked.version);
            let yanked = offer.and_then(|offer| offer.releases.get(&locked.version)?.yanked.clone());
            let deprecated = offer.and_then(|offer| offer.head.head().deprecated.clone());
            let is_newest = *latest <= locked.version && *wanted == locked.version;
            if is_newest && yanked.is_none() && deprecated.is_none() && !withdrawn {
                continue;
            }
            outdated.packages.push(OutdatedPackage {
                id: id.to_string(),
                name: requirements.alias(id).unwrap_or(&id.name).to_string(),
                current: locked.version.to_string(),
                wanted: wanted.to_string(),
                latest: latest.to_string(),
                direct: asked.contains_key(id),
                yanked,
                deprecated,
                withdrawn,
            });
        }
        outdated.unheard += unheard.len();
        outdated.warnings.extend(said_of_unheard(&unheard, outdated.total));
        Ok(outdated)
    }
}

/// A failure of what only reads: that nothing was changed goes without saying.
pub(in crate::backend::p2p) fn of_reading(failure: Failure) -> Failure {
    Failure { message: failure.message.replace("; nothing was changed", ""), ..failure }
}

/// What a project asks for and its lock file, as no change has them in the middle.
fn read_settled(directory: &Path) -> Result<(Requirements, Lock), Failure> {
    refuse_unfinished(directory)?;
    let requirements = Requirements::read(directory).map_err(fail)?;
    let lock = match Lock::read(directory).map_err(fail)? {
        Some((lock, _)) => lock,
        None if requirements.project().dependencies.is_empty() => Lock::default(),
        None => return Err(fail(crate::project::Error::NoLock { path: directory.join(LOCK_FILE) })),
    };
    // One may have begun, or come to its end, meanwhile.
    refuse_unfinished(directory)?;
    let again = Requirements::read(directory).map_err(fail)?;
    match again.bytes() == requirements.bytes() {
        true => Ok((requirements, lock)),
        false => Err(fail(crate::project::Error::Busy { directory: directory.to_owned() })),
    }
}

/// What is said of packages of which nobody could tell newer versions: once, where that is so of all.
fn said_of_unheard(unheard: &[&PackageId], total: usize) -> Vec<String> {
    if !unheard.is_empty() && unheard.len() == total {
        return vec![format!("{UNHEARD}: what is shown is what was known here before")];
    }
    let mut said: Vec<String> =
        unheard.iter().take(LISTED_MAX).map(|id| format!("{id}: {UNHEARD}")).collect();
    if unheard.len() > LISTED_MAX {
        said.push(format!("so it is with {} more packages", unheard.len() - LISTED_MAX));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::Publisher, time::Timestamp};

    #[test]
    fn what_nobody_was_heard_of_is_said_once_where_it_is_so_of_all() {
        let ids: Vec<PackageId> = (0..30)
            .map(|n| {
                format!("{}/p{n}", Publisher::from_secret([1; 32], Timestamp::now()).id()).parse().unwrap()
            })
            .collect();
        let all: Vec<&PackageId> = ids.iter().collect();
        assert_eq!(said_of_unheard(&all, 30).len(), 1);
        assert_eq!(said_of_unheard(&all, 31).len(), LISTED_MAX + 1);
        assert_eq!(said_of_unheard(&[], 0), [""; 0]);
    }
}
