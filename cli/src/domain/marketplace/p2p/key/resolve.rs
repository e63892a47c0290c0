//! `key resolve`: ends a double signing, through the running node.

use clap::Args;
use ggen_marketplace::{
    control::api::{ResolveRequest, Resolved},
    package::Asked,
};

use crate::{
    page::Page,
    session::{Finished, Session},
    values,
};

/// `key resolve`.
#[derive(Debug, Args)]
#[command(
    long_about = "End a double signing of a package of yours.\n\n\
        If the same key signs two different versions in two places, nothing newer is installed by anyone. Replace the key first \
        (key rotate), then say what counts. Without --keep and --withdraw, every version is kept; if two branches have different \
        content under one version, that of this machine is kept, and the other is withdrawn. What is withdrawn is never used again.",
    after_help = "\
Examples:
  ggen marketplace p2p key resolve web-tools --dry-run
  ggen marketplace p2p key resolve web-tools
  ggen marketplace p2p key resolve web-tools --keep 1.2.0:b --withdraw 1.3.0"
)]
pub(super) struct Resolve {
    /// The package.
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: Asked,
    /// A version to keep, with the letter of a branch if several have it; repeatable.
    #[arg(long, value_name = "VERSION[:BRANCH]")]
    keep: Vec<String>,
    /// A version to withdraw; repeatable.
    #[arg(long, value_name = "VERSION[:BRANCH]")]
    withdraw: Vec<String>,
    /// Explain the branches and what would become of each version, and sign nothing.
    #[arg(long)]
    dry_run: bool,
    /// The publisher key to sign with, if there are several.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
}

impl Resolve {
    pub(super) async fn run(self, session: &Session) -> Finished<()> {
        let request = ResolveRequest {
            package: self.package.to_string(),
            key: self.key,
            keep: self.keep,
            withdraw: self.withdraw,
            dry_run: self.dry_run,
            timeout_secs: None,
        };
        let resolved = session.client().resolve(&request).await?;
        session.print(&resolved, show)
    }
}

fn show(resolved: &Resolved, page: &mut Page) {
    page.warnings(&resolved.warnings);
    page.heading(match resolved.resolved {
        true => format!("Resolved {}", resolved.package),
        false => format!("{} was signed twice", resolved.package),
    });
    page.field(
        "undisputed",
        if resolved.undisputed.is_empty() { "no version".to_owned() } else { resolved.undisputed.join(", ") },
    )
    .field("differs from entry", resolved.from_sequence);
    for branch in &resolved.branches {
        let label = format!("branch {}{}", branch.name, if branch.here { " (here)" } else { "" });
        page.list(&label, &branch.says);
    }
    if !resolved.versions.is_empty() {
        page.line("");
        page.table(
            &["VERSION", "BRANCH", "", "", "CID"],
            resolved.versions.iter().map(|version| {
                vec![
                    version.version.clone(),
                    version.branch.clone(),
                    if version.kept { "kept" } else { "withdrawn" }.to_owned(),
                    version.why.clone(),
                    version.cid.clone(),
                ]
            }),
        );
    }
    if !resolved.repeated.is_empty() {
        page.list("said again", &resolved.repeated);
    }
    if resolved.resolved {
        page.field("dht_stored", resolved.dht_stored).field("announced_to", resolved.announced_to);
    } else {
        page.line("").line("Nothing was signed.");
        let name = resolved.package.rsplit('/').next().unwrap_or(&resolved.package);
        let sign = format!(
            "ggen marketplace p2p key resolve {name}, with --keep and --withdraw as here, where they were given"
        );
        page.line(match resolved.needs_rotation {
            true => format!("First replace the key: ggen marketplace p2p key rotate. Then sign it: {sign}"),
            false => format!("To sign it: {sign}"),
        });
    }
}
