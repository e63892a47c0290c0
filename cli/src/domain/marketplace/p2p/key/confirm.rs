//! `key confirm`: keys that say that a publisher's packages are still its newest, and can release nothing.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ggen_marketplace::{
    code::Code,
    control::{api::Failure, service::Outcome},
    identity::{ConfirmKey, PublicKey, Publisher, publisher},
    time::Timestamp,
};
use serde::Serialize;

use super::{
    change::{CONFIRM_FILES, Target, done},
    read, refused, write_new,
};
use crate::session::{Finished, Session};

/// `key confirm`.
#[derive(Debug, Subcommand)]
pub(super) enum Confirm {
    /// Make a confirm key, write it to a file for the server that is to confirm, and name it as the publisher's.
    Make {
        #[command(flatten)]
        target: Target,
        /// The file to make.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Let the node here confirm with a key that `key confirm make` wrote.
    Use {
        /// What to call the key here.
        #[arg(value_name = "NAME")]
        name: String,
        /// The file; - reads stdin.
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
    /// Remove a confirm key: what it signs from then on counts for nothing.
    Remove {
        #[command(flatten)]
        target: Target,
        /// The public key.
        #[arg(long, value_name = "HEX")]
        public_key: String,
    },
    /// List the confirm keys that each publisher names, and those that the node here confirms with.
    List,
}

/// The confirm keys of one publisher.
#[derive(Debug, Serialize)]
struct Named {
    name: String,
    publisher: String,
    confirm: Vec<String>,
}

/// A confirm key that the node here uses.
#[derive(Debug, Serialize)]
struct Used {
    name: String,
    publisher: String,
    public_key: String,
}

#[derive(Debug, Serialize)]
struct Rows {
    publishers: Vec<Named>,
    used: Vec<Used>,
    total: usize,
}

impl Confirm {
    pub(super) async fn run(self, session: &Session, folder: &Path) -> Finished<()> {
        match self {
            Self::Make { target, to } => make(session, folder, target, &to).await,
            Self::Use { name, from } => take(session, folder, name, &from).await,
            Self::Remove { target, public_key } => remove(session, folder, target, &public_key).await,
            Self::List => list(session, folder),
        }
    }
}

async fn make(session: &Session, folder: &Path, target: Target, to: &Path) -> Finished<()> {
    let (publisher, recovery) = target.load(session, folder).await?;
    let (key, next) = ConfirmKey::make(&publisher, &recovery, Timestamp::now()).map_err(refused)?;
    write_new(to, &key.export())?;
    done(session, folder, target.name, &next, vec![to.display().to_string()], CONFIRM_FILES).await
}

async fn take(session: &Session, folder: &Path, name: String, from: &Path) -> Finished<()> {
    let hint = "Give the file that `key confirm make` wrote.";
    let text = read(from).map_err(|failure| Failure { hint: hint.to_owned(), ..failure })?;
    let key = ConfirmKey::import(&text).map_err(|error| {
        let said = refused(error);
        Failure::new(said.code, format!("{}: {}", from.display(), said.message), hint)
    })?;
    key.store(folder, &name).map_err(refused)?;
    match session.client().renew_keys().await {
        Ok(_) => {}
        Err(failure) if failure.code == Code::NotRunning => {
            session.note("No node runs here: it confirms once it is started.");
        }
        Err(failure) => session.warn(&format!(
            "the running node was not told ({}); it looks for the key within ten minutes",
            failure.message
        )),
    }
    let used = Used { name, publisher: key.id().to_string(), public_key: key.public_key().to_string() };
    session.print(&used, |used, page| {
        page.heading(format!("The node here confirms with the key {}", used.name))
            .field("publisher", &used.publisher)
            .field("public key", &used.public_key);
    })
}

async fn remove(session: &Session, folder: &Path, target: Target, text: &str) -> Finished<()> {
    let (publisher, recovery) = target.load(session, folder).await?;
    let mut confirm = publisher.key_log().current().confirm.clone();
    let before = confirm.len();
    confirm.retain(|key| key.to_string() != text);
    if confirm.len() == before {
        return Err(Failure::new(
            Code::Usage,
            format!("{text} is no confirm key of this publisher."),
            "See which are: ggen marketplace p2p key confirm list",
        )
        .into());
    }
    let change = publisher::Change { confirm: Some(confirm), ..Default::default() };
    let next = publisher.amended(change, &recovery, Timestamp::now()).map_err(refused)?;
    done(session, folder, target.name, &next, Vec::new(), CONFIRM_FILES).await
}

fn list(session: &Session, folder: &Path) -> Finished<()> {
    let named = |name: String| -> Outcome<Named> {
        let publisher = Publisher::load(folder, &name).map_err(refused)?;
        let confirm = &publisher.key_log().current().confirm;
        let confirm = confirm.iter().map(PublicKey::to_string).collect();
        Ok(Named { name, publisher: publisher.id().to_string(), confirm })
    };
    let names = Publisher::list(folder).map_err(refused)?;
    let publishers = names.into_iter().map(named).collect::<Outcome<Vec<_>>>()?;
    let used = ConfirmKey::all(folder).map_err(refused)?.into_iter().map(|(name, key)| Used {
        name,
        publisher: key.id().to_string(),
        public_key: key.public_key().to_string(),
    });
    let used: Vec<Used> = used.collect();
    session.print(&Rows { total: publishers.len(), publishers, used }, |rows, page| {
        for row in &rows.publishers {
            page.heading(&row.name).field("publisher", &row.publisher);
            if row.confirm.is_empty() {
                page.line("  It has no confirm keys: it is confirmed where its own key is.");
            } else {
                page.list("confirm keys", &row.confirm);
            }
        }
        for used in &rows.used {
            page.heading(format!("The node here confirms with {}", used.name))
                .field("publisher", &used.publisher)
                .field("public key", &used.public_key);
        }
        if rows.publishers.is_empty() && rows.used.is_empty() {
            page.line("There is no publisher key and no confirm key here.");
        }
    })
}
