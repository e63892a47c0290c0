//! `info`: all that is known of a package.

use clap::Args;
use ggen_marketplace::{
    control::api::{self, Failure, InfoRequest},
    package::Asked,
};

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Show what is known about a package: versions, providers, dependencies, where it is installed.
#[derive(Debug, Args)]
#[command(after_help = "\
If no node runs, it shows what this machine knows.

Examples:
  ggen marketplace p2p info web-tools
  ggen marketplace p2p info <publisher>/web-tools --format json")]
pub(crate) struct Info {
    /// The package: [publisher/]name[@version], also @^1.2 or @latest.
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: Asked,
    /// Fail with exit status 6 if its publisher is overdue; with DURATION, such as 7d or 12h or a number of days, if it has not
    /// confirmed it within that time.
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
        let mut outcome = session.client().info(&request).await;
        if outcome.as_ref().is_err_and(Failure::is_not_running) {
            outcome = p2p_state::view(session.home()).await?.info(request).await;
        }
        let info = outcome?;
        session.print(&info, show)?;
        Ok(Exit::Ok)
    }
}

fn show(info: &api::Info, page: &mut Page) {
    let package = &info.package;
    page.heading(format!("{} {}", package.name, package.version).trim_end());
    page.warnings(&package.notes);
    page.field("id", &package.id)
        .field("description", &package.description)
        .optional("license", package.license.as_deref())
        .optional("repository", info.repository.as_deref())
        .list("authors", &info.authors)
        .optional("tags", Some(package.tags.join(", ")))
        .optional("categories", Some(package.categories.join(", ")))
        .optional("cid", Some(&package.cid))
        .optional("size", (!package.cid.is_empty()).then(|| page::bytes(package.size)))
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
