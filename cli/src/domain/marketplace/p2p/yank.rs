//! `yank` and `unyank`: a version that is no longer chosen, and one that is again.

use clap::Args;
use ggen_marketplace::{
    control::api::{AmendRequest, Amended, Change, Failure},
    package::Asked,
};

use crate::{
    domain::marketplace::p2p_state,
    page::Page,
    session::{Exit, Finished, Session},
    values,
};

/// Yank a version of a package of yours: it is no longer chosen for new requirements.
#[derive(Debug, Args)]
#[command(
    long_about = "Yank a version of a package of yours: it is no longer chosen for new requirements.\n\n\
        Nothing is deleted. Anyone who names the version exactly, or has it in a lock file, still gets it, with a warning that gives your \
        reason. The log of the package says so, signed with your key; `unyank` takes it back. Where nobody can be asked how far the log went, \
        or no node runs, it waits in the outbox until it can be signed.",
    after_help = "\
Examples:
  ggen marketplace p2p yank my-package@1.2.3
  ggen marketplace p2p yank my-package@1.2.3 --reason 'loses data on 32-bit machines'"
)]
pub(crate) struct Yank {
    /// The version: [publisher/]name@version.
    #[arg(value_name = "PACKAGE@VERSION", value_parser = values::package_version)]
    package: Asked,
    /// Why, for those who use it.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = values::reason)]
    reason: String,
    /// How long telling others may take [default: 5].
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
}

/// Take a yank back: the version is chosen again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p unyank my-package@1.2.3")]
pub(crate) struct Unyank {
    /// The version: [publisher/]name@version.
    #[arg(value_name = "PACKAGE@VERSION", value_parser = values::package_version)]
    package: Asked,
    /// How long telling others may take [default: 5].
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
}

impl Yank {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let Self { package, reason, timeout } = self;
        ask(session, &package, Change::Yank, reason, timeout).await
    }
}

impl Unyank {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        ask(session, &self.package, Change::Unyank, String::new(), self.timeout).await
    }
}

/// What a change is called.
pub(super) fn noun(change: Change) -> &'static str {
    match change {
        Change::Yank => "yank",
        Change::Unyank => "end of the yank",
        Change::Deprecate => "deprecation",
        Change::Undeprecate => "end of the deprecation",
    }
}

/// Asks the node to sign a change, or has it wait where no node runs, and shows what came of it.
pub(super) async fn ask(
    session: &Session,
    package: &Asked,
    change: Change,
    message: String,
    timeout_secs: Option<u64>,
) -> Finished<Exit> {
    let request = AmendRequest { package: package.to_string(), change, message, timeout_secs };
    let mut outcome = session.client().amend(&request).await;
    if outcome.as_ref().is_err_and(Failure::is_not_running) {
        outcome = p2p_state::amend_offline(session.home(), request).await;
    }
    session.print(&outcome?, show)?;
    Ok(Exit::Ok)
}

fn show(amended: &Amended, page: &mut Page) {
    page.warnings(&amended.warnings);
    let what = match &amended.version {
        Some(version) => format!("{} {version}", amended.name),
        None => amended.name.clone(),
    };
    if amended.queued {
        let change = match amended.change {
            Change::Yank => format!("The yank of {what}"),
            Change::Unyank => format!("That {what} is chosen again"),
            Change::Deprecate => format!("The deprecation of {what}"),
            Change::Undeprecate => format!("That {what} is not deprecated"),
        };
        page.heading(format!("{change} is queued: it is signed and announced as soon as that can be done"));
        page.field("id", &amended.id).line("").line("See what it waits for: ggen marketplace p2p list");
        page.line("It is signed by a node that runs: ggen marketplace p2p start --daemon");
        return;
    }
    page.heading(match (amended.change, amended.unchanged) {
        (Change::Yank, false) => format!("Yanked {what}"),
        (Change::Yank, true) => format!("{what} was yanked before, nothing changed"),
        (Change::Unyank, false) => format!("{what} is chosen again"),
        (Change::Unyank, true) => format!("{what} is not yanked, nothing changed"),
        (Change::Deprecate, false) => format!("Deprecated {what}"),
        (Change::Deprecate, true) => {
            format!("{what} was deprecated with these words before, nothing changed")
        }
        (Change::Undeprecate, false) => format!("{what} is no longer deprecated"),
        (Change::Undeprecate, true) => format!("{what} is not deprecated, nothing changed"),
    });
    page.field("id", &amended.id)
        .optional("latest now", amended.latest.as_deref())
        .field("sequence", amended.sequence)
        .field("dht_stored", format!("{}/20", amended.dht_stored))
        .field("announced_to", amended.announced_to);
}
