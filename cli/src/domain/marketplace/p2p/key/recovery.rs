//! `key recovery`: keys that are kept away from the machine, and that alone can then replace a publisher key.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ggen_marketplace::{
    code::Code,
    control::{api::Failure, service::Outcome},
    identity::{KeyDocument, KeyLog, Publisher, documents, publisher},
    time::Timestamp,
};
use serde::Serialize;

use super::{
    change::{LATER_RECOVERY_FILES, Target, done, made, written},
    refused,
};
use crate::{
    page::Page,
    session::{Finished, Session},
};

/// `key recovery`.
#[derive(Debug, Subcommand)]
pub(super) enum Recovery {
    /// Make recovery keys, write each to a file that you keep elsewhere, and name them as the publisher's. They take the place of all that
    /// it had: those count no more.
    Make {
        #[command(flatten)]
        target: Target,
        /// The file to make, best on a medium that is kept away from this machine; repeatable, one key each.
        #[arg(long, value_name = "FILE", required = true)]
        to: Vec<PathBuf>,
        /// How many of the keys are needed to replace the publisher key [default: 1]. Where more are needed until now, say it.
        #[arg(long, value_name = "NUMBER")]
        threshold: Option<u32>,
    },
    /// List the recovery keys of each publisher: their public keys, not where their files are.
    List,
}

impl Recovery {
    pub(super) async fn run(self, session: &Session, folder: &Path) -> Finished<()> {
        match self {
            Self::Make { target, to, threshold } => make(session, folder, target, &to, threshold).await,
            Self::List => list(session, folder),
        }
    }
}

async fn make(
    session: &Session,
    folder: &Path,
    target: Target,
    to: &[PathBuf],
    threshold: Option<u32>,
) -> Finished<()> {
    let (publisher, recovery) = target.load(session, folder).await?;
    let before = publisher.key_log().current();
    refuse_fewer(before, to.len(), threshold)?;
    let threshold = threshold.unwrap_or(1);
    let (keys, named) = made(session, to, threshold)?;
    let change = publisher::Change { recovery: Some((named, threshold)), ..Default::default() };
    let next = publisher.amended(change, &recovery, Timestamp::now()).map_err(refused)?;
    // The secrets first: a document that names a key which nobody has could never be followed by another one.
    let files = written(to, &keys)?;
    done(session, folder, target.name, &next, files, LATER_RECOVERY_FILES).await
}

/// Refuses that fewer recovery keys are needed than before, unless that was said.
fn refuse_fewer(before: &KeyDocument, made: usize, threshold: Option<u32>) -> Outcome<()> {
    let needed = before.recovery_threshold;
    if threshold.is_some() || before.recovery.is_empty() || needed <= 1 {
        return Ok(());
    }
    Err(Failure::new(
        Code::Usage,
        format!(
            "{needed} of {} recovery keys are needed to replace this publisher's key. With the new ones, 1 of {made} would be enough, and those \
             from before would count no more. Nothing was changed.",
            before.recovery.len()
        ),
        format!(
            "Say how many are to be needed: --threshold {needed}, with a --to <FILE> for each key that is made; or --threshold 1, where one is to \
             be enough."
        ),
    ))
}

/// The recovery keys of one publisher.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    publisher: String,
    recovery: Vec<String>,
    threshold: u32,
}

#[derive(Debug, Serialize)]
struct Rows {
    publishers: Vec<Row>,
    /// Those whose keys were here and are gone, each by the name that its key gets if it comes back.
    lost: Vec<Row>,
    /// What keeps others from being listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    total: usize,
}

fn list(session: &Session, folder: &Path) -> Finished<()> {
    let row = |name: String, log: &KeyLog| Row {
        name,
        publisher: log.publisher().to_string(),
        recovery: log.current().recovery.iter().map(ToString::to_string).collect(),
        threshold: log.current().recovery_threshold,
    };
    let (mut publishers, mut lost, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for name in Publisher::list(folder).map_err(refused)? {
        match Publisher::load(folder, &name) {
            Ok(publisher) => publishers.push(row(name, publisher.key_log())),
            Err(error) => warnings.push(super::with_hint(&error)),
        }
    }
    for gone in Publisher::lost(folder).map_err(refused)? {
        let kept = gone.id.parse().ok().map(|id| documents::kept(folder, &id));
        match kept.transpose().map_err(refused)?.flatten() {
            Some(log) => lost.push(row(gone.name, &log)),
            None => warnings.push(format!(
                "{}; its key documents are not here\n{}",
                gone.message(folder),
                gone.error(folder).hint()
            )),
        }
    }
    session.print(&Rows { total: publishers.len(), publishers, lost, warnings }, |rows, page| {
        page.warnings(&rows.warnings);
        if rows.publishers.is_empty() && rows.lost.is_empty() {
            page.line("There is no publisher key here.");
        }
        for row in &rows.publishers {
            page.heading(&row.name).field("publisher", &row.publisher);
            if row.recovery.is_empty() {
                page.line("  It has no recovery keys: anyone who has its key can replace it.");
                page.line(format!(
                    "  Make some: ggen marketplace p2p key recovery make {} --to <file>",
                    row.name
                ));
            } else {
                show_recovery(row, page);
            }
        }
        for row in &rows.lost {
            page.heading(format!("{} (lost)", row.name)).field("publisher", &row.publisher);
            if row.recovery.is_empty() {
                page.line("  It has no recovery keys: without a copy of the key, nobody can go on as this publisher.");
            } else {
                show_recovery(row, page);
                page.line(format!(
                    "  Replace the lost key: ggen marketplace p2p key revoke {} --recovery <file>",
                    row.publisher
                ));
            }
        }
    })
}

fn show_recovery(row: &Row, page: &mut Page) {
    page.list("recovery keys", &row.recovery)
        .field("needed to rotate", format!("{} of {}", row.threshold, row.recovery.len()));
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::identity::RecoveryKey;

    use super::*;

    #[test]
    fn fewer_recovery_keys_than_before_are_needed_only_where_that_was_said() {
        let keys = [1, 2].map(|seed| RecoveryKey::from_secret([seed; 32]));
        let named = keys.iter().map(RecoveryKey::public_key).collect();
        let both = Publisher::random_with_recovery(named, 2, Timestamp::now()).unwrap();
        let before = both.key_log().current();
        let failure = refuse_fewer(before, 1, None).unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert!(failure.message.contains("1 of 1 would be enough"), "{failure:?}");
        assert!(failure.hint.contains("--threshold 2"), "{failure:?}");
        for said in [1, 2] {
            refuse_fewer(before, 2, Some(said)).unwrap();
        }
        let one = Publisher::random_with_recovery(vec![keys[0].public_key()], 1, Timestamp::now()).unwrap();
        refuse_fewer(one.key_log().current(), 1, None).unwrap();
    }
}
