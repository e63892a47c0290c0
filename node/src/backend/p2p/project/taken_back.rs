//! What the publishers of a project's packages took back since: versions that were yanked, and packages that should no longer be used.

use std::time::Duration;

use futures::{StreamExt, stream};
use semver::Version;
use tokio::time::{Instant, timeout};

use super::{How, LISTED_MAX, Offers, bring::Brought};
use crate::{
    backend::p2p::{
        amend::{TakenBack, taken_back_of},
        describe,
        failure::fail,
        node::Node,
        offer::log_here,
        withdrawn::{self, WITHDRAWN},
    },
    catalog,
    code::Code,
    control::api::Failure,
    limits::PROJECT_FETCHES_MAX,
    package::PackageId,
    project::{Lock, Locked},
    release::VerifiedHead,
};

/// How long peers that are being read may take to tell of what was yanked.
const NEWS_PATIENCE: Duration = Duration::from_secs(2);
/// How long the log of a yanked version may take to come, which has the reason.
const REASON_PATIENCE: Duration = Duration::from_secs(4);

impl Node {
    /// Waits for what peers tell, and reads the logs of packages of which something was withdrawn. Yields a warning where one did not
    /// come.
    pub(super) async fn hear_news(&self, lock: &Lock, how: How) -> Result<Option<String>, Failure> {
        let left = how.deadline.saturating_duration_since(Instant::now());
        self.network.heads_read(NEWS_PATIENCE.min(left)).await;
        let missing = self.read_resolved(lock.packages.keys().cloned().collect()).await?;
        let Some(first) = missing.first() else { return Ok(None) };
        let more = match missing.len() - 1 {
            0 => String::new(),
            more => format!(", nor is it of {more} more"),
        };
        Ok(Some(format!(
            "{first}: its publisher ended a double signing, and its log could not be had: whether what is locked was withdrawn is not \
             known{more}"
        )))
    }

    /// Refuses to write content that its publisher withdrew, whatever a lock file says. What is in its place already stays.
    pub(super) async fn refuse_withdrawn(&self, lock: &Lock, written: &[Brought]) -> Result<(), Failure> {
        let mut withdrawn = self.withdrawn(lock).await?;
        withdrawn.retain(|id| written.iter().any(|it| it.id == *id));
        if withdrawn.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = withdrawn
            .iter()
            .take(LISTED_MAX)
            .filter_map(|id| Some(format!("  {id}@{}", lock.packages.get(id)?.version)))
            .collect();
        if withdrawn.len() > LISTED_MAX {
            lines.push(format!("  and {} more", withdrawn.len() - LISTED_MAX));
        }
        Err(Failure::new(
            Code::Equivocation,
            format!(
                "gpack.lock names content that its publisher withdrew when it ended a double signing; nothing was changed.\n{}",
                lines.join("\n")
            ),
            format!("Take what counts in its place: {}", withdrawn::remedy(&withdrawn)),
        ))
    }

    /// One warning for each package of a lock file of which its publisher took something back, as far as that is known.
    pub(super) async fn taken_back(
        &self,
        lock: &Lock,
        how: How,
        offers: &Offers,
    ) -> Result<Vec<String>, Failure> {
        let locked: Vec<(PackageId, Locked)> = lock.packages.clone().into_iter().collect();
        let known = self.offload_store(move |store| {
            let of = |(id, locked): (PackageId, Locked)| {
                let taken_back = taken_back_of(store, &id, &locked)?;
                Ok((id, locked.version, taken_back))
            };
            locked.into_iter().map(of).collect::<Result<Vec<_>, Failure>>()
        });
        let any = known.await?.into_iter().filter(|(_, _, it)| *it != TakenBack::default());
        let told = stream::iter(any).map(|(id, version, it)| async move {
            let reason = match it.yanked {
                true => Some(self.reason_of(&id, &version, how, offers).await),
                false => None,
            };
            let reason = reason.as_ref().map(|reason| reason.as_deref());
            let told = warnings(&id, &version, reason, it.deprecated.as_deref());
            it.frozen
                .into_iter()
                .chain(it.withdrawn.then(|| told_withdrawn(&id, &version)))
                .chain(told)
                .collect()
        });
        Ok(told.buffered(PROJECT_FETCHES_MAX).collect::<Vec<Vec<String>>>().await.concat())
    }

    /// Why a version was yanked; empty where no reason was given, and none where it is not known.
    async fn reason_of(
        &self,
        id: &PackageId,
        version: &Version,
        how: How,
        offers: &Offers,
    ) -> Option<String> {
        let offer = offers.packages.get(id).filter(|offer| offer.missing.is_none());
        if let Some(offered) = offer.and_then(|offer| offer.releases.get(version)) {
            return offered.yanked.clone();
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
                // Of a part of the log it is known from the head alone that it was yanked.
                read.ok().and_then(Result::ok).filter(|it| it.missing.is_none()).map(|it| it.log)
            }
            _ => None,
        };
        log.and_then(|log| log.versions().get(version)?.yanked.clone())
    }
}

fn told_withdrawn(id: &PackageId, version: &Version) -> String {
    let remedy = withdrawn::remedy(std::slice::from_ref(id));
    format!("{id}@{version} was {WITHDRAWN}; take what does: {remedy}")
}

fn warnings(
    id: &PackageId,
    version: &Version,
    reason: Option<Option<&str>>,
    deprecated: Option<&str>,
) -> Vec<String> {
    let yanked = reason.map(|reason| {
        let why = match reason {
            None => ", for a reason that is not known here: the newest part of its log is missing".to_owned(),
            Some("") => String::new(),
            Some(reason) => format!(": {reason}"),
        };
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
        assert!(
            told(Some(Some("")), None)[0].ends_with("@1.2.3 was yanked by its publisher, and stays locked")
        );
        assert!(told(Some(None), None)[0].contains("is not known here"));
        let both = told(Some(Some("loses a line")), Some("use web-kit"));
        assert!(both[0].ends_with("stays locked: loses a line"), "{both:?}");
        assert!(both[1].ends_with("web-tools: deprecated by its publisher: use web-kit"), "{both:?}");
    }
}
