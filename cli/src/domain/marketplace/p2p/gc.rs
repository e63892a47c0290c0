//! `gc`: frees blocks that nobody here needs.

use clap::Args;
use ggen_marketplace::control::api::{CollectRequest, Collected, Failure};

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
};

/// Free the disk of packages and blocks that are neither installed, published nor pinned.
#[derive(Debug, Args)]
#[command(
    long_about = "Free the disk of packages and blocks that are neither installed, published nor pinned.\n\n\
        That is what interrupted installations left, packages that were removed, or whose folder was deleted, and are only provided to \
        others, and what belongs to nothing. With limits.store_bytes_max set, the node does so by itself where room is needed.",
    after_help = "\
Works while no node runs too.

Examples:
  ggen marketplace p2p gc --dry-run
  ggen marketplace p2p gc"
)]
pub(crate) struct Gc {
    /// Show what would be freed, and free nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = CollectRequest { dry_run: self.dry_run };
        let mut outcome = session.client().collect(&request).await;
        if outcome.as_ref().is_err_and(Failure::is_not_running) {
            outcome = p2p_state::collect_offline(session.home(), request).await;
        }
        session.print(&outcome?, show)?;
        Ok(Exit::Ok)
    }
}

fn show(collected: &Collected, page: &mut Page) {
    let bytes = page::bytes(collected.bytes);
    page.heading(match (collected.dry_run, collected.items.is_empty()) {
        (_, true) => "Nothing can be freed: all of it is installed, published or pinned".to_owned(),
        (true, false) => format!("{bytes} would be freed; nothing was changed"),
        (false, false) => format!("Freed {bytes}"),
    });
    page.field("left", page::bytes(collected.bytes_left));
    if !collected.forgotten.is_empty() {
        page.line("");
        page.line(if collected.dry_run {
            "Installed folders that were deleted, and would be forgotten:"
        } else {
            "Installed folders that were deleted, and are forgotten now:"
        });
        for path in &collected.forgotten {
            page.line(format!("  {path}"));
        }
    }
    if collected.items.is_empty() {
        return;
    }
    page.line("");
    page.table(
        &["SIZE", "BLOCKS", "WHAT"],
        collected.items.iter().map(|item| {
            let what = match item.kind.as_str() {
                "leftover" => "belongs to nothing".to_owned(),
                "partial" => format!("{}, an interrupted installation", item.id),
                _ => format!("{}, neither installed nor pinned", item.id),
            };
            vec![page::bytes(item.bytes), item.blocks.to_string(), what]
        }),
    );
}
