//! What the publishers of a project's packages took back since: versions that were yanked, and packages that should no longer be used.

use std::time::Duration;

use futures::{StreamExt, stream};
use semver::Version;
use tokio::time::{Instant, timeout};

use super::{How, Offers};
use crate::{
    backend::p2p::{
        amend::{TakenBack, taken_back_in},
        describe,
        failure::fail,
        node::Node,
        offer::log_here,
    },
    catalog,
    control::api::Failure,
    limits::PROJECT_FETCHES_MAX,
    package::PackageId,
    project::Lock,
    release::VerifiedHead,
};

/// How long peers that are being read may take to tell of what was yanked.
const NEWS_PATIENCE: Duration = Duration::from_secs(2);
/// How long the log of a yanked version may take to come, which has the reason.
const REASON_PATIENCE: Duration = Duration::from_secs(4);

impl Node {
    /// One warning for each package of a lock file of which its publisher took something back, as far as that is known.
    pub(super) async fn taken_back(
        &self,
        lock: &Lock,
        how: How,
        offers: &Offers,
    ) -> Result<Vec<String>, Failure> {
        let left = how.deadline.saturating_duration_since(Instant::now());
        if !how.offline {
            self.network.heads_read(NEWS_PATIENCE.min(left)).await;
        }
        let locked: Vec<(PackageId, Version)> =
            lock.packages.iter().map(|(id, locked)| (id.clone(), locked.version.clone())).collect();
        let known = self.offload_store(move |store| {
            let of = |(id, version): (PackageId, Version)| {
                let taken_back = taken_back_in(store, &id, &version).map_err(fail)?;
                Ok((id, version, taken_back))
            };
            locked.into_iter().map(of).collect::<Result<Vec<_>, Failure>>()
        });
        let any = known.await?.into_iter().filter(|(_, _, it)| *it != TakenBack::default());
        let told = stream::iter(any).map(|(id, version, it)| async move {
            let reason = match it.yanked {
                true => Some(self.reason_of(&id, &version, how, offers).await),
                false => None,
            };
            warnings(&id, &version, reason.as_deref(), it.deprecated.as_deref())
        });
        Ok(told.buffered(PROJECT_FETCHES_MAX).collect::<Vec<_>>().await.concat())
    }

    /// Why a version was yanked; empty where no reason was given, or it is not known.
    async fn reason_of(&self, id: &PackageId, version: &Version, how: How, offers: &Offers) -> String {
        if let Some(offered) = offers.packages.get(id).and_then(|offer| offer.releases.get(version)) {
            return offered.yanked.clone().unwrap_or_default();
        }
        let package = id.clone();
        let here = self.offload_store(move |store| {
            let listed = store.read(|conn| Ok(catalog::get(conn, &package)?)).map_err(fail)?;
            let head = listed.and_then(|listed| VerifiedHead::verify_stored(&listed.bytes).ok());
            Ok(head.map(|head| (log_here(store, &head), head)))
        });
        let log = match here.await {
            Ok(Some((Some(log), _))) => Some(log),
            Ok(Some((None, head))) if !how.offline => {
                let left = how.deadline.saturating_duration_since(Instant::now());
                let read = timeout(REASON_PATIENCE.min(left), self.log_as_held(&head, None)).await;
                read.ok().and_then(Result::ok).map(|reading| reading.log)
            }
            _ => None,
        };
        log.and_then(|log| log.versions().get(version)?.yanked.clone()).unwrap_or_default()
    }
}

fn warnings(
    id: &PackageId,
    version: &Version,
    reason: Option<&str>,
    deprecated: Option<&str>,
) -> Vec<String> {
    let yanked = reason.map(|reason| {
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        format!("{id}@{version} was yanked by its publisher, and stays locked{why}")
    });
    let deprecated = deprecated.map(|message| format!("{id}: {}", describe::deprecated(message)));
    yanked.into_iter().chain(deprecated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublisherId;

    #[test]
    fn a_reason_that_was_not_given_leaves_no_empty_end() {
        let id =
            PackageId { publisher: PublisherId::from_bytes([1; 32]), name: "web-tools".parse().unwrap() };
        let version = "1.2.3".parse().unwrap();
        let told = |reason, deprecated| warnings(&id, &version, reason, deprecated);
        assert_eq!(told(None, None), [""; 0]);
        assert!(told(Some(""), None)[0].ends_with("@1.2.3 was yanked by its publisher, and stays locked"));
        let both = told(Some("loses a line"), Some("use web-kit"));
        assert!(both[0].ends_with("stays locked: loses a line"), "{both:?}");
        assert!(both[1].ends_with("web-tools: deprecated by its publisher: use web-kit"), "{both:?}");
    }
}
