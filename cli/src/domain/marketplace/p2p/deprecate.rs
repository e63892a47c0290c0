//! `deprecate`: says that a package should no longer be used.

use clap::Args;
use ggen_marketplace::{control::api::Change, package::Asked};

use super::yank;
use crate::{
    session::{Exit, Finished, Session},
    values,
};

/// Say that a package of yours should no longer be used, and what to use in its place.
#[derive(Debug, Args)]
#[command(
    long_about = "Say that a package of yours should no longer be used, and what to use in its place.\n\n\
        It is still found and installed; search, info, list and install show your message.",
    after_help = "\
Examples:
  ggen marketplace p2p deprecate my-package --message 'use new-package'
  ggen marketplace p2p deprecate my-package --undo"
)]
pub(crate) struct Deprecate {
    /// The package: [publisher/]name.
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: Asked,
    /// What to use in its place.
    #[arg(long, value_name = "TEXT", required_unless_present = "undo", value_parser = values::deprecation)]
    message: Option<String>,
    /// Take it back: the package can be used again.
    #[arg(long, conflicts_with = "message")]
    undo: bool,
    /// How long telling others may take [default: 5].
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
}

impl Deprecate {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let (change, message) = match self.message {
            Some(message) if !self.undo => (Change::Deprecate, message),
            _ => (Change::Undeprecate, String::new()),
        };
        yank::ask(session, &self.package, change, message, self.timeout).await
    }
}
