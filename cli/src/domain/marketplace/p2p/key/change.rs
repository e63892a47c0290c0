//! `key rotate` and `key revoke`: another key document after the ones that there are.
//!
//! The key file is replaced whole. A running node signs the heads of the publisher's packages again at once, another one when
//! it starts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::{
        api::{Failure, KeysRenewed},
        service::Outcome,
    },
    identity::{KeyDocument, KeyLog, PublicKey, Publisher, RecoveryKey, Replaced, publisher},
    time::Timestamp,
};
use serde::Serialize;

use super::{load, read, recover::Found, refused, write_new};
use crate::{
    domain::marketplace::p2p_state,
    page::Page,
    session::{Finished, Session},
};

/// What is said of files with recovery keys.
const RECOVERY_FILES: &str = "these files are secret, and they are the only copies: keep them away from this machine. Without enough of \
                              them the publisher key can never be replaced; with them, and without the publisher key, it can";
/// What is said of them where the publisher had its key before.
pub(super) const LATER_RECOVERY_FILES: &str = "these files are secret, and they are the only copies: keep them away from this machine. Without enough of \
                                    them the publisher key can never be replaced; with them, it can, also when it is lost. Against a theft they \
                                    help once the key from before them is replaced too: ggen marketplace p2p key rotate <NAME> --recovery <FILE>";
/// What is said of a file with a confirm key.
pub(super) const CONFIRM_FILES: &str = "this file is secret: move it to the machine that is to confirm, and give it to the node there: ggen \
                                        marketplace p2p key confirm use <NAME> <FILE>. Anyone who has it can confirm for you, and release nothing";

/// Which key is changed, and what allows it.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The key; one that is lost is also named by its publisher's id, or by a package of it.
    #[arg(value_name = "NAME", default_value = p2p_state::KEY_DEFAULT)]
    pub(super) name: String,
    /// A file with a recovery key, if the publisher has any; repeatable.
    #[arg(long = "recovery", value_name = "FILE")]
    recovery: Vec<PathBuf>,
}

/// `key rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    target: Target,
}

/// `key revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    target: Target,
    /// Revoke this public key, which the publisher had before or was given on another machine, and keep the current one;
    /// repeatable.
    #[arg(long = "public-key", value_name = "HEX")]
    public_keys: Vec<String>,
}

/// What a change came to.
#[derive(Debug, Serialize)]
struct Changed {
    name: String,
    publisher: String,
    public_key: String,
    /// The number of the new key document.
    document: u64,
    /// Keys that were revoked.
    revoked: Vec<String>,
    /// The public recovery keys from now on.
    recovery: Vec<String>,
    /// How many of them are needed.
    recovery_threshold: u32,
    /// The public recovery keys that count no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recovery_ended: Vec<String>,
    /// How many more key documents such as this one fit, beside two that revoke a key.
    further_documents: usize,
    /// The public confirm keys from now on.
    confirm: Vec<String>,
    /// Files that were written, with secret recovery or confirm keys.
    files: Vec<String>,
    /// What a person should know of those.
    #[serde(skip)]
    of_files: &'static str,
    /// What the running node did; nothing where none runs.
    node: Option<KeysRenewed>,
}

impl Target {
    /// The publisher, and the recovery keys that were given.
    pub(super) async fn load(
        &self,
        session: &Session,
        folder: &Path,
    ) -> Outcome<(Publisher, Vec<RecoveryKey>)> {
        // A running node may have learnt that the key was replaced elsewhere: it notes that beside the file.
        let _ = session.client().renew_keys().await;
        let publisher = load(folder, &self.name)?;
        if let Some(replaced) = Replaced::of(folder, &self.name, publisher.key_log()) {
            return Err(refused(replaced.error(&self.name)));
        }
        let keys = self.recovery_keys()?;
        let current = publisher.key_log().current();
        check_recovery(current, &keys)
            .map_err(|failure| super::recover::of_lost(folder, failure, current, &keys))?;
        Ok((publisher, keys))
    }

    /// The recovery keys that were given.
    pub(super) fn recovery_keys(&self) -> Outcome<Vec<RecoveryKey>> {
        let hint = "Give the file that `key recovery make` wrote: --recovery <FILE>";
        let read = |path: &PathBuf| {
            let text = read(path).map_err(|failure| Failure { hint: hint.to_owned(), ..failure })?;
            RecoveryKey::import(&text).map_err(|error| {
                let said = refused(error);
                Failure::new(said.code, format!("{}: {}", path.display(), said.message), hint)
            })
        };
        self.recovery.iter().map(read).collect()
    }
}

/// Refuses recovery keys that are too few for the document after this one, or not of its publisher.
pub(super) fn check_recovery(current: &KeyDocument, keys: &[RecoveryKey]) -> Outcome<()> {
    let named = &current.recovery;
    let given: BTreeSet<PublicKey> = keys.iter().map(RecoveryKey::public_key).collect();
    let needed = usize::try_from(current.recovery_threshold).unwrap_or(usize::MAX);
    if given.len() < needed && given.iter().all(|key| named.contains(key)) {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "The keys of this publisher are changed with {needed} of its {} recovery keys, and the command got {}.",
                named.len(),
                given.len()
            ),
            "Give the files of enough of them: --recovery <FILE>, repeatable. See which keys those are: ggen marketplace p2p key \
             recovery list",
        ));
    }
    match keys.iter().find(|key| !named.contains(&key.public_key())) {
        Some(stranger) => Err(Failure::new(
            Code::Usage,
            format!("{} is no recovery key of this publisher.", stranger.public_key()),
            "See which are: ggen marketplace p2p key recovery list",
        )),
        None => Ok(()),
    }
}

impl Rotate {
    pub(super) async fn run(self, session: &Session, folder: &Path) -> Finished<()> {
        let found = Found::find(&self.target, session, folder).await?;
        let (change, now) = (publisher::Change::default(), Timestamp::now());
        let next = match &found.here {
            Some(publisher) => publisher.rotated_at_random(change, &found.recovery, now),
            None => Publisher::recovered(&found.log, change, &found.recovery, now),
        };
        replaced(session, folder, found, &next.map_err(refused)?).await
    }
}

impl Revoke {
    pub(super) async fn run(self, session: &Session, folder: &Path) -> Finished<()> {
        let found = Found::find(&self.target, session, folder).await?;
        let now = Timestamp::now();
        let named = |publisher: Option<&Publisher>| {
            self.public_keys.iter().map(|text| public_key(publisher, text)).collect::<Outcome<Vec<_>>>()
        };
        let next = match &found.here {
            Some(publisher) if self.public_keys.is_empty() => {
                let revoked = vec![publisher.public_key()];
                let change = publisher::Change { revoked, ..Default::default() };
                publisher.rotated_at_random(change, &found.recovery, now)
            }
            Some(publisher) => {
                let revoked = named(Some(publisher))?;
                publisher.amended(publisher::Change { revoked, ..Default::default() }, &found.recovery, now)
            }
            // The current key is not here, so that nobody can go on with it.
            None => {
                let current = found.log.current().keys.iter().copied();
                let revoked: BTreeSet<PublicKey> = current.chain(named(None)?).chain(found.ended).collect();
                let revoked = revoked.into_iter().collect();
                let change = publisher::Change { revoked, ..Default::default() };
                Publisher::recovered(&found.log, change, &found.recovery, now)
            }
        };
        replaced(session, folder, found, &next.map_err(refused)?).await
    }
}

/// Writes the next key where that is of use, tells the running node, and shows what was done.
async fn replaced(session: &Session, folder: &Path, found: Found, next: &Publisher) -> Finished<()> {
    found.refuse_useless(next)?;
    if let Some(kept) = found.store(next, folder).map_err(refused)? {
        session.warn(&super::kept_aside(&kept));
    }
    told(session, found.name, next, Vec::new(), RECOVERY_FILES).await
}

/// A public key other than the publisher's own, by its text.
fn public_key(publisher: Option<&Publisher>, text: &str) -> Outcome<PublicKey> {
    let key = text.parse::<PublicKey>().map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("{text} is no public key: {error}."),
            "Give the 64 hexadecimal digits that `key list` shows on the machine that has it.",
        )
    })?;
    if publisher.is_some_and(|publisher| publisher.public_key() == key) {
        return Err(Failure::new(
            Code::Usage,
            format!("{text} is the current key of this publisher."),
            "To revoke it and go on with a new one, leave --public-key out.",
        ));
    }
    Ok(key)
}

/// `key new`: a publisher, with recovery keys from its first document on where files for them are named.
pub(super) fn create(
    session: &Session,
    folder: &Path,
    name: String,
    to: &[PathBuf],
    threshold: u32,
) -> Finished<()> {
    let mut created = Created { name, threshold, ..Created::default() };
    let publisher = if to.is_empty() {
        created.threshold = 0;
        Publisher::create(folder, &created.name, Timestamp::now()).map_err(refused)?
    } else {
        let (keys, named) = made(session, to, threshold)?;
        created.recovery = named.iter().map(ToString::to_string).collect();
        Publisher::is_free(folder, &created.name).map_err(refused)?;
        let publisher =
            Publisher::random_with_recovery(named, threshold, Timestamp::now()).map_err(refused)?;
        created.files = written(to, &keys)?;
        publisher.store(folder, &created.name).map_err(refused)?;
        publisher
    };
    created.publisher = publisher.id().to_string();
    created.public_key = publisher.public_key().to_string();
    created.is_one_of_several = Publisher::list(folder).map_err(refused)?.len() > 1;
    session.print(&created, |created, page| {
        page.heading(format!("Made the publisher key {}", created.name))
            .field("publisher", &created.publisher)
            .field("public key", &created.public_key)
            .list("recovery keys", &created.recovery);
        if created.files.is_empty() {
            page.line("It has no recovery keys: anyone who steals the key can replace it as well as you, and nobody can tell who is who.");
            page.line(format!(
                "Better make some before you publish: ggen marketplace p2p key recovery make {} --to <file>",
                created.name
            ));
        } else {
            page.field("needed to rotate", format!("{} of {}", created.threshold, created.recovery.len()));
            page.list("written to", &created.files);
            page.warnings(&[RECOVERY_FILES]);
            let files: Vec<String> = created.files.iter().map(|file| format!(" --recovery {file}")).collect();
            page.line(format!(
                "Where the publisher key is lost or stolen: ggen marketplace p2p key revoke {}{}",
                created.name,
                files.concat()
            ));
        }
        if created.is_one_of_several {
            page.line(format!("Publish with it: ggen marketplace p2p publish --key {}", created.name));
        }
    })
}

/// A publisher that was made.
#[derive(Debug, Default, Serialize)]
struct Created {
    name: String,
    publisher: String,
    public_key: String,
    /// The public recovery keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recovery: Vec<String>,
    /// How many of them are needed.
    #[serde(rename = "recovery_threshold", skip_serializing_if = "is_zero")]
    threshold: u32,
    /// Files that were written, with the secret recovery keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
    /// Whether it has to be named to sign with it.
    #[serde(skip)]
    is_one_of_several: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// New recovery keys for these files, which are to be elsewhere, and their public keys in order.
pub(super) fn made(
    session: &Session,
    to: &[PathBuf],
    threshold: u32,
) -> Outcome<(Vec<RecoveryKey>, Vec<PublicKey>)> {
    if threshold == 0 || usize::try_from(threshold).is_ok_and(|threshold| threshold > to.len()) {
        return Err(Failure::new(
            Code::Usage,
            match to.len() {
                1 => format!("One recovery key is made, so that {threshold} cannot be needed."),
                several => format!("{several} recovery keys are made, so that {threshold} cannot be needed."),
            },
            "Name a file for each key that is made, and a --threshold from 1 to their number.",
        ));
    }
    if let Some(path) = to.iter().find(|path| is_inside(path, session.home())) {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "{} is in the state folder: anyone who takes that would have the recovery key too.",
                path.display()
            ),
            "Name a file elsewhere, best on a medium that is kept away from this machine.",
        ));
    }
    let keys = to.iter().map(|_| RecoveryKey::random().map_err(refused)).collect::<Outcome<Vec<_>>>()?;
    let named = keys.iter().map(RecoveryKey::public_key).collect();
    Ok((keys, named))
}

/// Writes recovery keys, each to its file.
pub(super) fn written(to: &[PathBuf], keys: &[RecoveryKey]) -> Outcome<Vec<String>> {
    for (path, key) in to.iter().zip(keys) {
        write_new(path, &key.export())?;
    }
    Ok(to.iter().map(|path| path.display().to_string()).collect())
}

/// Whether a file would be below a folder.
fn is_inside(path: &Path, folder: &Path) -> bool {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), folder.canonicalize()) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => false,
    }
}

/// Replaces the key file, tells the running node, and shows what was done.
pub(super) async fn done(
    session: &Session,
    folder: &Path,
    name: String,
    next: &Publisher,
    files: Vec<String>,
    of_files: &'static str,
) -> Finished<()> {
    next.replace(folder, &name).map_err(refused)?;
    told(session, name, next, files, of_files).await
}

/// Tells the running node of a key that was replaced, and shows what was done.
async fn told(
    session: &Session,
    name: String,
    next: &Publisher,
    files: Vec<String>,
    of_files: &'static str,
) -> Finished<()> {
    let node = match session.client().renew_keys().await {
        Ok(renewed) => Some(renewed),
        Err(failure) if failure.code == Code::NotRunning => None,
        Err(failure) => {
            session.warn(&format!(
                "the key was replaced, and the running node did not sign its heads again ({}); restart it: \
                 ggen marketplace p2p restart",
                failure.message
            ));
            None
        }
    };
    let document = next.key_log().current();
    let texts = |keys: &[PublicKey]| keys.iter().map(ToString::to_string).collect();
    let answer = Changed {
        name,
        publisher: next.id().to_string(),
        public_key: next.public_key().to_string(),
        document: document.n,
        revoked: texts(&document.revoked),
        recovery: texts(&document.recovery),
        recovery_threshold: document.recovery_threshold,
        recovery_ended: texts(&recovery_ended(next.key_log())),
        further_documents: next.further_documents(),
        confirm: texts(&document.confirm),
        files,
        of_files,
        node,
    };
    session.print(&answer, show)
}

/// The recovery keys that the newest document of a chain no longer names.
fn recovery_ended(log: &KeyLog) -> Vec<PublicKey> {
    let before = log.current().n.checked_sub(1).and_then(|before| log.document(before));
    let named = before.map_or(&[][..], |before| &before.recovery);
    named.iter().filter(|key| !log.current().recovery.contains(key)).copied().collect()
}

/// What is said where few more key documents fit.
fn few_left(further: usize) -> Option<String> {
    let times = match further {
        0 => {
            return Some(
                "the keys of this publisher have room for no further change: what is left is kept for key revoke".to_owned(),
            );
        }
        1 => "once",
        2 => "twice",
        _ => return None,
    };
    Some(format!(
        "the keys of this publisher can be changed {times} more: each of key rotate, key recovery make, key confirm make and key confirm \
         remove is a change. Then what room is left is kept for key revoke"
    ))
}

fn show(changed: &Changed, page: &mut Page) {
    page.heading(format!("The publisher key {} is at key document {}", changed.name, changed.document))
        .field("publisher", &changed.publisher)
        .field("public key", &changed.public_key)
        .list("revoked", &changed.revoked)
        .list("recovery keys", &changed.recovery)
        .list("confirm keys", &changed.confirm);
    if !changed.recovery.is_empty() {
        page.field(
            "needed to rotate",
            format!("{} of {}", changed.recovery_threshold, changed.recovery.len()),
        );
    }
    if !changed.recovery_ended.is_empty() {
        page.list("recovery keys that count no more", &changed.recovery_ended);
        page.line("The files of those can go: they replace no key of this publisher any more.");
    }
    if !changed.files.is_empty() {
        page.list("written to", &changed.files);
        page.warnings(&[changed.of_files]);
    }
    page.warnings(few_left(changed.further_documents).as_slice());
    match &changed.node {
        Some(node) => {
            page.warnings(&node.warnings);
            page.list("signed again", &node.packages);
            page.list("waiting", &node.waiting);
            page.list("frozen", &node.frozen);
            if !changed.revoked.is_empty() && node.packages.is_empty() {
                page.line("No package was signed again yet: other nodes hear of the revocation with the next confirmation, or your next release.");
            }
            for frozen in &node.frozen {
                let name = frozen.rsplit('/').next().unwrap_or(frozen);
                page.line(format!("Say what counts of it: ggen marketplace p2p key resolve {name}"));
            }
        }
        None => {
            page.line("No node runs here: the heads of its packages are signed again at the next start.");
        }
    }
    page.line("Export it again for other machines: they cannot publish with the key from before.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_few_changes_are_left_is_said_before_there_are_none() {
        assert_eq!(few_left(3), None);
        for (further, said) in [(2, "twice more"), (1, "once more"), (0, "no further change")] {
            assert!(few_left(further).is_some_and(|text| text.contains(said)), "{further}");
        }
    }
}
