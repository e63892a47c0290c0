//! `list`: what is installed or published here, or waits to be published.

use clap::Args;
use ggen_marketplace::control::api::{Failure, ListedPackage, Listing};

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
};

/// List the packages that were installed or published here, or wait to be published.
#[derive(Debug, Args)]
#[command(after_help = "\
If no node runs, the state folder is read.

Examples:
  ggen marketplace p2p list
  ggen marketplace p2p list --format yaml")]
pub(crate) struct List {}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let mut outcome = session.client().list().await;
        if outcome.as_ref().is_err_and(Failure::is_not_running) {
            outcome = p2p_state::view(session.home()).await?.list().await;
        }
        let listing = outcome?;
        session.print(&listing, show)?;
        Ok(Exit::Ok)
    }
}

/// The kind, and what the publisher took back since.
fn kind(package: &ListedPackage) -> String {
    let kind = match package {
        ListedPackage { gone: true, .. } => "gone",
        ListedPackage { interrupted: true, .. } => "cut off",
        package => &package.kind,
    };
    match (package.yanked, &package.deprecated) {
        (true, _) => format!("{kind}, yanked"),
        (false, Some(_)) => format!("{kind}, deprecated"),
        (false, None) => kind.to_owned(),
    }
}

fn show(listing: &Listing, page: &mut Page) {
    if listing.packages.is_empty() {
        page.line("Nothing is installed or published here.");
        return;
    }
    page.table(
        &["NAME", "VERSION", "PUBLISHER", "KIND", "SIZE", "TIME", "PATH"],
        listing.packages.iter().map(|package| {
            vec![
                package.name.clone(),
                package.version.clone(),
                page::short_id(package.id.split('/').next().unwrap_or_default()),
                kind(package),
                page::bytes(package.size),
                package.time.clone(),
                package.path.clone(),
            ]
        }),
    );
    if let Some(cut_off) = listing.packages.iter().find(|package| package.interrupted) {
        page.line("").line(format!("{}: {}", cut_off.name, cut_off.why));
    }
    for queued in
        listing.packages.iter().filter(|package| package.kind == "queued" && !package.why.is_empty())
    {
        page.line("").line(format!("{} {} waits: {}", queued.name, queued.version, queued.why));
    }
    if let Some(gone) = listing.packages.iter().find(|package| package.gone) {
        page.line("").line(format!(
            "What is gone was deleted by hand. Forget it: ggen marketplace p2p remove {}",
            gone.path
        ));
    }
}
