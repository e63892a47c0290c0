//! `key rotate`, `key revoke` and `key recovery`: another key document after the ones that there are.
//!
//! The key file is replaced whole. A running node signs the heads of the publisher's packages again at once, another one when
//! it starts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use ggen_marketplace::{
    code::Code,
    control::{
        api::{Failure, KeysRenewed},
        service::Outcome,
    },
    identity::{KeyDocument, KeyLog, PublicKey, Publisher, RecoveryKey, Replaced, documents, publisher},
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
const LATER_RECOVERY_FILES: &str = "these files are secret, and they are the only copies: keep them away from this machine. Without enough of \
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

/// `key recovery`.
#[derive(Debug, Subcommand)]
pub(super) enum Recovery {
    /// Make recovery keys, write each to a file that you keep elsewhere, and name them as the publisher's.
    Make {
        #[command(flatten)]
        target: Target,
        /// The file to make, best on a medium that is kept away from this machine; repeatable, one key each.
        #[arg(long, value_name = "FILE", required = true)]
        to: Vec<PathBuf>,
        /// How many of the keys are needed to replace the publisher key.
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        threshold: u32,
    },
    /// List the recovery keys of each publisher: their public keys, not where their files are.
    List,
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
        check_recovery(publisher.key_log().current(), &keys)?;
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
    threshold: u32,
) -> Finished<()> {
    let (publisher, recovery) = target.load(session, folder).await?;
    let (keys, named) = made(session, to, threshold)?;
    let change = publisher::Change { recovery: Some((named, threshold)), ..Default::default() };
    let next = publisher.amended(change, &recovery, Timestamp::now()).map_err(refused)?;
    // The secrets first: a document that names a key which nobody has could never be followed by another one.
    let files = written(to, &keys)?;
    done(session, folder, target.name, &next, files, LATER_RECOVERY_FILES).await
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
fn made(session: &Session, to: &[PathBuf], threshold: u32) -> Outcome<(Vec<RecoveryKey>, Vec<PublicKey>)> {
    if threshold == 0 || usize::try_from(threshold).is_ok_and(|threshold| threshold > to.len()) {
        return Err(Failure::new(
            Code::Usage,
            format!("{threshold} of {} recovery keys cannot be needed.", to.len()),
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
fn written(to: &[PathBuf], keys: &[RecoveryKey]) -> Outcome<Vec<String>> {
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
        confirm: texts(&document.confirm),
        files,
        of_files,
        node,
    };
    session.print(&answer, show)
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
    if !changed.files.is_empty() {
        page.list("written to", &changed.files);
        page.warnings(&[changed.of_files]);
    }
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
