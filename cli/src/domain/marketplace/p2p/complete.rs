//! `complete`: what may stand at the cursor of a command line. The scripts of `completions` call it; people do not.
//!
//! It is bounded in time and silent: where nothing is known, nothing is offered.

mod grammar;
mod known;

use std::time::Duration;

use clap::{Args, CommandFactory};

use self::grammar::{Asked, Wanted};
use crate::{
    arguments::{Cli, Global},
    page,
    session::{Exit, Finished, Session},
};

/// How long the node, or the store, may take to answer: a person waits for the list.
const PATIENCE: Duration = Duration::from_millis(100);
/// The answer that tells the shell to complete names of files.
const FILES: &str = ":files";

/// Print what may stand at the end of a command line, for the scripts of `completions`.
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "\
One candidate a line, and a description behind a tab. The line \":files\" alone asks the shell for names of files.

Example:
  ggen marketplace p2p complete --line 'ggen p2p install we'"
)]
pub(crate) struct Complete {
    /// The command line, as far as the cursor.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    line: String,
}

impl Complete {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let mut grammar = Cli::command();
        grammar.build();
        let asked = grammar::asked(&grammar, &self.line);
        let home = asked.home.clone();
        // The command that is typed may name another state folder than this one was started with.
        let meant = match home {
            Some(_) => Session::new(Global { format: session.format(), home })?,
            None => session.clone(),
        };
        let mut text = String::new();
        for (word, description) in candidates(&meant, &asked).await {
            text.push_str(&page::clean(&word));
            if !description.is_empty() {
                text.push('\t');
                text.push_str(&page::clean(&description));
            }
            text.push('\n');
        }
        session.print_verbatim(&text)?;
        Ok(Exit::Ok)
    }
}

/// What fits, sorted and each once.
async fn candidates(session: &Session, asked: &Asked) -> Vec<(String, String)> {
    let mut found = asked.words.clone();
    if let Some(wanted) = asked.wanted {
        if wanted == Wanted::Files && found.is_empty() {
            return vec![(FILES.to_owned(), String::new())];
        }
        let values = known::values(session, wanted, asked);
        // Slow or broken, it is the same to a person who presses a key: there is nothing to choose from.
        found.extend(tokio::time::timeout(PATIENCE, values).await.unwrap_or_default());
    }
    let before = &asked.before;
    found.retain(|(word, _)| word.starts_with(&asked.prefix));
    found.sort();
    found.dedup_by(|one, other| one.0 == other.0);
    found.into_iter().map(|(word, description)| (format!("{before}{word}"), description)).collect()
}
