//! `info`: all that is known of a package.

use clap::Args;
use ggen_marketplace::{
    control::api::{self, InfoRequest},
    package::PackageRef,
};

use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Tell all that is known of a package: versions, providers, dependencies, where it is installed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p info web-tools
  ggen marketplace p2p info <publisher>/web-tools --format json")]
pub(crate) struct Info {
    /// The package: [publisher/]name[@version].
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: PackageRef,
    /// Refuse if its publisher is overdue, or has not confirmed it within DURATION, such as 7d or 12h.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = values::duration)]
    fresh: Option<Option<u64>>,
}

impl Info {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = InfoRequest {
            package: self.package.to_string(),
            fresh: self.fresh == Some(None),
            fresh_secs: self.fresh.flatten(),
        };
        let info = session.client().info(&request).await?;
        session.print(&info, show)?;
        Ok(Exit::Ok)
    }
}

fn show(info: &api::Info, page: &mut Page) {
    let package = &info.package;
    page.heading(format!("{} {}", package.name, package.version));
    page.warnings(&package.notes);
    page.field("id", &package.id)
        .field("description", &package.description)
        .optional("license", package.license.as_deref())
        .optional("repository", info.repository.as_deref())
        .list("authors", &info.authors)
        .optional("tags", Some(package.tags.join(", ")))
        .optional("categories", Some(package.categories.join(", ")))
        .field("cid", &package.cid)
        .field("size", page::bytes(package.size))
        .field("updated", page::when(&package.updated))
        .optional("freshness", Some(&package.freshness.freshness))
        .field("sequence", info.sequence)
        .field("publisher", if info.pinned { "pinned for this name" } else { "not pinned" })
        .field("reputation", page::reputation(package.reputation))
        .list("providers", &package.providers)
        .list("installed at", &info.installed_at);
    let dependencies: Vec<String> =
        info.dependencies.iter().map(|(id, requirement)| format!("{id} {requirement}")).collect();
    page.list("depends on", &dependencies);
    if !info.versions.is_empty() {
        page.line("");
        page.table(
            &["VERSION", "SIZE", "RELEASED", "", "CID"],
            info.versions.iter().rev().map(|version| {
                vec![
                    version.version.clone(),
                    page::bytes(version.size),
                    version.released.clone(),
                    match (version.yanked, &version.yank_reason) {
                        (true, Some(reason)) => format!("yanked: {reason}"),
                        (true, None) => "yanked".to_owned(),
                        (false, _) => String::new(),
                    },
                    version.cid.clone(),
                ]
            }),
        );
    }
}
