//! Whether those who are connected can be believed that a log of ours did not go on elsewhere.
//!
//! A folder that was restored from a backup, and a machine that shares its key with another, may know less of a log than others do. Peers
//! that came by themselves may know nothing of it. So a log that others know already is continued only where one of those through whom
//! this node joins has told what it has, or a peer had by itself all that is here. Where nobody does for [`JOIN_PATIENCE`], it is continued
//! all the same, and whoever publishes is told.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{node::Node, outbox::JOIN_PATIENCE};
use crate::package::PackageId;

/// What matters of a log of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnLog {
    /// Whether another machine has the key, or entries may be lost.
    pub(super) may_be_elsewhere: bool,
    /// Whether others may have seen it.
    pub(super) was_told: bool,
}

/// What matters of those who are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Company {
    /// Since when nobody of those that the configuration names has told what it has; nothing where one has now, and where it names nobody.
    pub(super) among_strangers: Option<Duration>,
    /// Whether a peer had by itself all that was here when this node began to run.
    pub(super) is_shown: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can be continued.
    Enough,
    /// Nobody who may know more answers: it is continued, and that is said.
    Unseen,
    /// Those who may know more are waited for.
    NotYet,
}

/// What this process has found out about its own logs.
#[derive(Debug, Default)]
pub(super) struct Continued {
    /// Logs of which it was known once how far they went: whatever is added to them since was signed here, unless another machine has
    /// the key.
    known: BTreeSet<PackageId>,
    /// Those that were continued, and nobody showed what others have of them.
    unseen: BTreeSet<PackageId>,
}

impl Continued {
    /// Whether a log can be continued in this company.
    pub(super) fn judge(&self, package: &PackageId, log: OwnLog, company: Company) -> Verdict {
        let may_be_behind = log.was_told && !self.known.contains(package) && !company.is_shown;
        match company.among_strangers {
            Some(so_far) if log.may_be_elsewhere || may_be_behind => match so_far < JOIN_PATIENCE {
                true => Verdict::NotYet,
                false => Verdict::Unseen,
            },
            _ => Verdict::Enough,
        }
    }

    /// Notes that a log can be continued.
    pub(super) fn note(&mut self, package: PackageId, verdict: Verdict) {
        match verdict {
            Verdict::Unseen => drop(self.unseen.insert(package.clone())),
            Verdict::Enough => drop(self.unseen.remove(&package)),
            Verdict::NotYet => return,
        }
        self.known.insert(package);
    }
}

impl Node {
    pub(super) fn continued(&self) -> MutexGuard<'_, Continued> {
        self.continued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said of an addition to a log that others may have continued.
    pub(super) fn said_of_unseen(&self, package: &PackageId) -> Option<String> {
        self.continued().unseen.contains(package).then(|| {
            format!(
                "no bootstrap node has answered for {} s, and no peer showed how far {package} went: if another machine has published it since, \
                 the package is frozen as soon as both are seen",
                JOIN_PATIENCE.as_secs()
            )
        })
    }
}

/// As a node keeps it.
pub(super) type Kept = Mutex<Continued>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_others_know_is_continued_where_somebody_shows_how_far_it_went_or_nobody_does_for_a_minute()
    {
        let package = PackageId {
            publisher: crate::identity::PublisherId::from_bytes([1; 32]),
            name: "pack".parse().unwrap(),
        };
        let second = Duration::from_secs(1);
        let entrance = Company { among_strangers: None, is_shown: false };
        let newcomer = Company { among_strangers: Some(2 * second), is_shown: false };
        let late = Company { among_strangers: Some(JOIN_PATIENCE), is_shown: false };
        let known = Company { is_shown: true, ..newcomer };
        let new = OwnLog { may_be_elsewhere: false, was_told: false };
        let told = OwnLog { was_told: true, ..new };
        let shared = OwnLog { may_be_elsewhere: true, ..told };
        let mut continued = Continued::default();
        for (log, company, verdict) in [
            (new, newcomer, Verdict::Enough),
            (told, newcomer, Verdict::NotYet),
            (told, known, Verdict::Enough),
            (told, entrance, Verdict::Enough),
            (told, late, Verdict::Unseen),
            // A neighbour that shows what is here may know nothing of the other machine.
            (shared, known, Verdict::NotYet),
            (shared, entrance, Verdict::Enough),
            (shared, late, Verdict::Unseen),
        ] {
            assert_eq!(continued.judge(&package, log, company), verdict, "{log:?} {company:?}");
        }
        continued.note(package.clone(), Verdict::Enough);
        assert_eq!(continued.judge(&package, told, newcomer), Verdict::Enough, "it went on here alone since");
        assert_eq!(continued.judge(&package, shared, newcomer), Verdict::NotYet);
    }
}
