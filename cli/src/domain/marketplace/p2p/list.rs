//! `list`: what is installed or published here, or waits to be published.

use clap::Args;
use ggen_marketplace::control::api::{ListedPackage, Listing};

use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
};

/// List the packages that were installed or published here, or wait to be published.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p list
  ggen marketplace p2p list --format yaml")]
pub(crate) struct List {}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let listing = session.client().list().await?;
        session.print(&listing, show)?;
        Ok(Exit::Ok)
    }
}

/// The kind, and what the publisher took back since.
fn kind(package: &ListedPackage) -> String {
    match (package.yanked, &package.deprecated) {
        (true, _) => format!("{}, yanked", package.kind),
        (false, Some(_)) => format!("{}, deprecated", package.kind),
        (false, None) => package.kind.clone(),
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
}
