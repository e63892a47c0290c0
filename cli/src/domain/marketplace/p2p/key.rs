//! `key`: the publisher keys of a state folder. They are files; no node needs to run, but for `key resolve`.

mod change;
mod confirm;
mod forget;
mod recover;
mod recovery;
mod resolve;

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use ggen_marketplace::{
    code::Code,
    control::{api::Failure, service::Outcome},
    identity::{Publisher, Replaced, key_file, node_key},
    limits::KEY_FILE_BYTES_MAX,
    store::HomeLock,
};
use serde::Serialize;

use crate::{
    domain::marketplace::p2p_state,
    session::{Exit, Finished, Session},
};

/// How long a running node may take to go on with a key that was imported.
const NODE_PATIENCE: Duration = Duration::from_secs(5);

/// List, make, export, import, replace and revoke publisher keys, and end a double signing.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  ggen marketplace p2p key list
  ggen marketplace p2p key new work --recovery /media/stick/recovery.key
  ggen marketplace p2p key export default --to ./publisher.key
  ggen marketplace p2p key import laptop ./publisher.key
  ggen marketplace p2p key recovery make --to /media/stick/recovery.key
  ggen marketplace p2p key rotate --recovery /media/stick/recovery.key
  ggen marketplace p2p key confirm make --to ./confirm.key
  ggen marketplace p2p key resolve my-package --dry-run"
)]
pub(crate) struct Key {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
enum Action {
    /// List the keys: the node's, and those of publishers.
    List,
    /// Make a new publisher with a key of its own, or a new node key if it was lost.
    New {
        /// What to call the key.
        #[arg(value_name = "NAME", default_value = p2p_state::KEY_DEFAULT)]
        name: String,
        /// Make the node's key instead: the node is another peer from then on.
        #[arg(long, conflicts_with = "name")]
        node: bool,
        /// Put the node's present key aside first; the node must not run.
        #[arg(long, requires = "node")]
        replace: bool,
        /// Make a recovery key too and write it to this file, best on a medium that is kept away from this machine; repeatable,
        /// one key each. From the first key document on, they alone can replace the publisher key.
        #[arg(long, value_name = "FILE", conflicts_with = "node")]
        recovery: Vec<PathBuf>,
        /// How many of the recovery keys are needed to replace the publisher key.
        #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "recovery")]
        threshold: u32,
    },
    /// Print a publisher key, which is secret, or write it to a file for its owner alone.
    Export {
        /// The key.
        #[arg(value_name = "NAME", default_value = p2p_state::KEY_DEFAULT)]
        name: String,
        /// The file to make.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Take a publisher key that was exported.
    Import {
        /// What to call the key here.
        #[arg(value_name = "NAME")]
        name: String,
        /// The file; - reads stdin.
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
    /// Stop missing a publisher key that is lost: nothing warns of it any more. It is used again if it comes back.
    Forget {
        /// What the key was called, or the id of its publisher.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Replace a publisher key with a new one; the publisher stays the same.
    Rotate(change::Rotate),
    /// Replace a publisher key that may be stolen: what the old key signs from now on counts for nothing.
    Revoke(change::Revoke),
    /// Recovery keys: they alone can replace a publisher key, so a stolen publisher key cannot.
    #[command(subcommand)]
    Recovery(recovery::Recovery),
    /// Confirm keys: a server that has one says that your packages are still the newest while your machine is off.
    #[command(subcommand)]
    Confirm(confirm::Confirm),
    /// End a double signing of a package of yours: decide which of the versions count.
    Resolve(resolve::Resolve),
}

/// One publisher key.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    publisher: Option<String>,
    public_key: Option<String>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What replaced it on another machine, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<String>,
}

#[derive(Debug, Serialize)]
struct Keys {
    peer_id: Option<String>,
    /// Why the node's key cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_error: Option<String>,
    keys: Vec<Row>,
    /// Keys that were here and are gone.
    lost: Vec<Gone>,
    total: usize,
}

/// A key that was here and is gone.
#[derive(Debug, Serialize)]
struct Gone {
    /// What it was called.
    name: String,
    /// Whether another key is called so by now.
    name_taken: bool,
    publisher: String,
    /// What is wrong, and what to do.
    error: String,
    #[serde(skip)]
    warning: String,
}

/// What was exported: the text itself, or where it is now.
#[derive(Debug, Serialize)]
struct Exported {
    name: String,
    publisher: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Key {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        match &self.action {
            Action::List => "list the keys",
            Action::New { .. } => "make the key",
            Action::Export { .. } => "export the key",
            Action::Import { .. } => "import the key",
            Action::Forget { .. } => "forget the key",
            Action::Rotate(_) => "replace the key",
            Action::Revoke { .. } => "revoke the key",
            Action::Recovery(recovery::Recovery::Make { .. }) => "make the recovery keys",
            Action::Recovery(_) => "list the recovery keys",
            Action::Confirm(confirm::Confirm::Make { .. }) => "make the confirm key",
            Action::Confirm(confirm::Confirm::Use { .. }) => "take the confirm key into use",
            Action::Confirm(confirm::Confirm::Remove { .. }) => "remove the confirm key",
            Action::Confirm(_) => "list the confirm keys",
            Action::Resolve(_) => "end the double signing",
        }
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let folder = p2p_state::keys_folder(session.home());
        match self.action {
            Action::List => list(session, &folder)?,
            Action::New { node: true, replace: true, .. } => replace_node_key(session, &folder)?,
            Action::New { node: true, .. } => new_node_key(session, &folder)?,
            Action::New { name, recovery, threshold, .. } => {
                change::create(session, &folder, name, &recovery, threshold)?;
            }
            Action::Export { name, to } => export(session, &folder, name, to.as_deref())?,
            Action::Import { name, from } => {
                let publisher = Publisher::import(&read(&from)?).map_err(|error| of_file(error, &from))?;
                refuse_second_name(&folder, &name, &publisher, &from)?;
                // The same publisher with later keys takes the place of what is there: it was rotated on another machine.
                let kept = match Publisher::load(&folder, &name) {
                    Ok(there) if is_replaced_by(&publisher, &there) => return Err(older(&name, &from).into()),
                    Ok(there) if there.id() == publisher.id() => publisher.supersede(&folder, &name),
                    _ => publisher.adopt(&folder, &name).map(|()| None),
                };
                if let Some(kept) = kept.map_err(refused)? {
                    session.warn(&kept_aside(&kept));
                }
                // A running node goes on with it at once: what waited for this key needs to wait no more. Where none runs, or it takes
                // long, the next look finds the key.
                let _ = tokio::time::timeout(NODE_PATIENCE, session.client().renew_keys()).await;
                session.warn("use the key in one place at a time, and publish while connected: two versions that are signed apart from each other freeze the package until you resolve it");
                print_one(session, "Imported", name, &publisher)?;
            }
            Action::Forget { name } => forget::forget(session, &folder, &name)?,
            Action::Rotate(rotate) => rotate.run(session, &folder).await?,
            Action::Revoke(revoke) => revoke.run(session, &folder).await?,
            Action::Recovery(recovery) => recovery.run(session, &folder).await?,
            Action::Confirm(confirm) => confirm.run(session, &folder).await?,
            Action::Resolve(resolve) => resolve.run(session).await?,
        }
        Ok(Exit::Ok)
    }
}

/// What is said of a key that gave way to another one.
fn kept_aside(kept: &Path) -> String {
    format!("the key that was here before is kept as {}", kept.display())
}

/// What is wrong with a key that was read from a file is said of that file, which is no key of this state folder.
fn of_file(error: key_file::Error, from: &Path) -> Failure {
    match error {
        key_file::Error::Text { flaw } if from.as_os_str() != "-" => {
            let error = key_file::Error::Flaw { path: from.to_owned(), flaw };
            Failure {
                hint: "Give a file that `key export` wrote. Nothing was changed.".to_owned(),
                ..refused(error)
            }
        }
        error => refused(error),
    }
}

/// Whether the key that is here replaced another one of the same publisher.
fn is_replaced_by(key: &Publisher, there: &Publisher) -> bool {
    let (old, new) = (key.key_log(), there.key_log());
    key.id() == there.id() && new.agrees_with(old) && new.current().n > old.current().n
}

fn older(name: &str, from: &Path) -> Failure {
    let what = match from.as_os_str() == "-" {
        true => "The text given".to_owned(),
        false => format!("The key file {}", from.display()),
    };
    Failure::new(
        Code::KeyFile,
        format!(
            "{what} holds a key that its publisher has replaced; \"{name}\" is a newer one, and nothing was changed."
        ),
        "Go on with the one that is here: ggen marketplace p2p key list",
    )
}

/// Refuses the key of a publisher that is here under another name: one of the two would stay behind when it is rotated.
fn refuse_second_name(folder: &Path, name: &str, publisher: &Publisher, from: &Path) -> Finished<()> {
    for other in Publisher::list(folder).map_err(refused)?.into_iter().filter(|other| other != name) {
        let Ok(there) = Publisher::load(folder, &other) else { continue };
        if there.id() != publisher.id() {
            continue;
        }
        if is_replaced_by(publisher, &there) {
            return Err(older(&other, from).into());
        }
        let mut hint = "Use it under that name.".to_owned();
        if there.export() != publisher.export() {
            hint.push_str(&format!(
                " To replace it by this one: ggen marketplace p2p key import {other} {}",
                from.display()
            ));
        }
        let what = format!("The key of this publisher is here already, as \"{other}\".");
        return Err(Failure::new(Code::Conflict, what, hint).into());
    }
    Ok(())
}

fn refused(error: key_file::Error) -> Failure {
    p2p_state::failure(error.code(), &error, error.hint())
}

fn row(name: String, publisher: &Publisher) -> Row {
    Row {
        name,
        publisher: Some(publisher.id().to_string()),
        public_key: Some(publisher.public_key().to_string()),
        error: None,
        replaced: None,
    }
}

/// An error and what to do about it, a line each.
fn in_lines(error: &key_file::Error) -> String {
    format!("{error}\n{}", error.hint())
}

fn with_hint(error: &key_file::Error) -> String {
    format!("{error}; {}", error.hint().replace('\n', "; "))
}

/// The peer that a new node key stands for.
#[derive(Debug, Serialize)]
struct NewNode {
    peer_id: String,
    /// Where the key before is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

fn new_node_key(session: &Session, folder: &Path) -> Finished<()> {
    let key = node_key::create(&folder.join(node_key::FILE_NAME)).map_err(refused)?;
    let peer_id = key.public().to_peer_id().to_string();
    session.print(&NewNode { peer_id, kept: None }, |made, page| {
        page.line(format!("Made the node's key: it is peer {}.", made.peer_id));
    })
}

fn replace_node_key(session: &Session, folder: &Path) -> Finished<()> {
    let locked = HomeLock::acquire(session.home());
    let _lock = locked.map_err(|error| p2p_state::failure(error.code(), &error, error.hint()))?;
    let owner = session.home().join(node_key::OWNER_FILE_NAME);
    let (key, kept) = node_key::replace(&folder.join(node_key::FILE_NAME), &owner).map_err(refused)?;
    let (peer_id, kept) = (key.public().to_peer_id().to_string(), Some(kept.display().to_string()));
    session.print(&NewNode { peer_id, kept }, |made, page| {
        page.line(format!("Made a new key for the node: it is peer {} now.", made.peer_id));
        page.optional("the key before", made.kept.as_deref());
    })
}

fn list(session: &Session, folder: &Path) -> Finished<()> {
    let names = Publisher::list(folder).map_err(refused)?;
    let keys: Vec<Row> = names
        .into_iter()
        .map(|name| match Publisher::load(folder, &name) {
            Ok(publisher) => {
                let replaced = Replaced::of(folder, &name, publisher.key_log());
                let replaced = replaced.map(|replaced| in_lines(&replaced.error(&name)));
                Row { replaced, ..row(name, &publisher) }
            }
            Err(error) => Row {
                name,
                publisher: None,
                public_key: None,
                error: Some(with_hint(&error)),
                replaced: None,
            },
        })
        .collect();
    let owner = session.home().join(node_key::OWNER_FILE_NAME);
    let (peer_id, node_error) = match node_key::load_of(&folder.join(node_key::FILE_NAME), &owner) {
        Ok(key) => (Some(key.public().to_peer_id().to_string()), None),
        Err(key_file::Error::Missing { .. }) => (None, None),
        Err(error) => (None, Some(with_hint(&error))),
    };
    let lost = Publisher::lost(folder).map_err(refused)?;
    let lost: Vec<Gone> = lost
        .into_iter()
        .map(|lost| Gone {
            error: in_lines(&lost.error(folder)),
            warning: format!("{}\n{}", lost.message(folder), lost.error(folder).hint()),
            name_taken: lost.is_name_taken(folder),
            name: lost.name,
            publisher: lost.id,
        })
        .collect();
    session.print(&Keys { peer_id, node_error, total: keys.len(), lost, keys }, |answer, page| {
        page.line(match (&answer.peer_id, &answer.node_error) {
            (Some(peer), _) => format!("This node is peer {peer}."),
            (None, Some(error)) => format!("This node's key cannot be used: {error}"),
            (None, None) => "This node has no key yet; its first start makes it.".to_owned(),
        });
        for lost in &answer.lost {
            page.warnings(&[&lost.warning]);
        }
        for key in &answer.keys {
            page.warnings(key.replaced.as_slice());
        }
        if answer.keys.is_empty() {
            if answer.lost.is_empty() {
                page.line("There is no publisher key yet; the first publish makes one.");
            }
            return;
        }
        // No table: both are wide, and both are needed whole.
        for key in &answer.keys {
            page.line("").heading(&key.name).optional("publisher", key.publisher.as_deref());
            page.optional("public key", key.public_key.as_deref()).optional("error", key.error.as_deref());
        }
    })
}

fn print_one(session: &Session, done: &str, name: String, publisher: &Publisher) -> Finished<()> {
    session.print(&row(name, publisher), |row, page| {
        page.heading(format!("{done} the publisher key {}", row.name))
            .optional("publisher", row.publisher.as_deref())
            .optional("public key", row.public_key.as_deref());
    })
}

/// The key of a name. One that never was is not found, which is no damage.
fn load(folder: &Path, name: &str) -> Outcome<Publisher> {
    Publisher::load(folder, name).map_err(|error| match error {
        key_file::Error::Missing { .. } => {
            let lost = Publisher::lost(folder).unwrap_or_default().into_iter().find(|lost| lost.name == name);
            match lost {
                Some(lost) => refused(lost.error(folder)),
                None => Failure::new(
                    Code::NotFound,
                    format!("There is no publisher key \"{name}\"."),
                    "See which there are: ggen marketplace p2p key list",
                ),
            }
        }
        error => refused(error),
    })
}

fn export(session: &Session, folder: &Path, name: String, to: Option<&Path>) -> Finished<()> {
    let publisher = load(folder, &name)?;
    Publisher::share(folder, &name).map_err(refused)?;
    let text = publisher.export();
    if let Some(to) = to {
        write_new(to, &text)?;
    } else if io::stdout().is_terminal() {
        session.warn("this is the secret key: anyone who has it can publish as you");
    }
    let answer = Exported {
        name,
        publisher: publisher.id().to_string(),
        key: to.is_none().then_some(text),
        path: to.map(|to| to.display().to_string()),
    };
    session.print(&answer, |answer, page| {
        for line in answer.key.iter().flat_map(|key| key.lines()) {
            page.line(line);
        }
        if let Some(path) = &answer.path {
            page.line(format!("Wrote the secret key {} to {path}; keep it safe.", answer.name));
        }
    })
}

/// Writes a secret for its owner alone; never over another file.
fn write_new(path: &Path, text: &str) -> Outcome<()> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(
            Code::Conflict,
            format!("The file {} exists.", path.display()),
            "Name another file, or move that one away.",
        ),
        _ => Failure::new(
            Code::Io,
            format!("The key cannot be written to {}: {error}.", path.display()),
            "Name a file in a folder that you can write to.",
        ),
    })
}

/// Reads an exported key from a file or from stdin, within its bound.
fn read(path: &Path) -> Outcome<String> {
    // One byte more shows that there is more, which the parser then refuses.
    let most = KEY_FILE_BYTES_MAX as u64 + 1;
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| {
        Failure::new(
            Code::KeyFile,
            format!("The key {} cannot be read: {error}.", path.display()),
            "Name a file that `key export` wrote, or - for stdin.",
        )
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::{
        identity::{key_file::Flaw, publisher::Change},
        time::Timestamp,
    };

    use super::*;

    #[test]
    fn what_cannot_be_imported_is_told_as_what_it_is() {
        let said = of_file(key_file::Error::Text { flaw: Flaw::NotAKey }, Path::new("/src/fr.txt"));
        assert!(
            said.message.contains("/src/fr.txt") && !said.hint.to_lowercase().contains("move"),
            "{said:?}"
        );
        let home = tempfile::tempdir().unwrap();
        let old = Publisher::create(home.path(), "default", Timestamp::now()).unwrap();
        let refused =
            |key: &Publisher| match refuse_second_name(home.path(), "again", key, Path::new("old.key")) {
                Err(crate::session::End::Failed(failure)) => failure,
                other => panic!("{other:?}"),
            };
        assert!(!refused(&old).hint.contains("key import"), "it is the same key: {:?}", refused(&old));
        let new = old.rotated_at_random(Change::default(), &[], Timestamp::now()).unwrap();
        assert!(refused(&new).hint.contains("key import default old.key"));
        new.replace(home.path(), "default").unwrap();
        assert!(refused(&old).message.contains("has replaced"), "{:?}", refused(&old));
    }
}
