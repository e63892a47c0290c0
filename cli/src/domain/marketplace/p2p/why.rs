//! `why`: who needs a package of a project.

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{Failure, ProjectBranch, ProjectWhy},
    project::{graph, plan},
};

use super::project::{self, Where};
use crate::{
    page::Page,
    session::{Exit, Finished, Session},
};

/// Show why a package is in a project: which packages need it.
#[derive(Debug, Args)]
#[command(
    long_about = "Show why a package is in a project: which packages need it.\n\n\
        One line for each package that asks for it, with the shortest way there from the project. Only gpack.toml and gpack.lock \
        are read: no node is needed.",
    after_help = "\
Examples:
  ggen marketplace p2p why log-tools
  ggen marketplace p2p why <publisher>/log-tools --format json"
)]
pub(crate) struct Why {
    /// The package: a short name, a name or a full id.
    #[arg(value_name = "PACKAGE")]
    package: String,
    #[command(flatten)]
    place: Where,
}

impl Why {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let (requirements, lock) = self.place.read()?;
        let found = requirements.named(&self.package, lock.packages.keys());
        let id = match found[..] {
            [id] => id.clone(),
            [] => {
                return Err(Failure::new(
                    Code::NotFound,
                    format!("This project does not use \"{}\".", self.package),
                    "See what it uses: ggen marketplace p2p tree",
                )
                .into());
            }
            ref several => {
                let list: Vec<String> = several.iter().map(|id| format!("  {id}")).collect();
                return Err(Failure::new(
                    Code::Ambiguous,
                    format!("\"{}\" means several packages:\n{}", self.package, list.join("\n")),
                    "Name the one you mean by its full id: <publisher>/<name>",
                )
                .into());
            }
        };
        let Some(locked) = lock.packages.get(&id) else {
            return Err(Failure::new(
                Code::NotFound,
                format!("gpack.lock has no version of {id}."),
                "Bring it up to date: ggen marketplace p2p install",
            )
            .into());
        };
        let chains = graph::why(&requirements.project().dependencies, &lock, &id);
        let chains = chains.into_iter().map(|chain| {
            let steps = chain.into_iter().enumerate().map(|(depth, step)| ProjectBranch {
                depth,
                name: project::name(&requirements, &step.package),
                id: step.package.to_string(),
                version: Some(step.version.to_string()),
                range: step.range,
                ..ProjectBranch::default()
            });
            steps.collect()
        });
        let answer = ProjectWhy {
            id: format!("{id}@{}", locked.version),
            name: project::name(&requirements, &id),
            chains: chains.collect(),
        };
        session.print(&answer, show)?;
        if !plan::misfits(&requirements.project().dependencies, &lock).is_empty() {
            session.note("gpack.lock does not match gpack.toml: ggen marketplace p2p install");
        }
        Ok(Exit::Ok)
    }
}

fn show(why: &ProjectWhy, page: &mut Page) {
    page.heading(&why.id);
    if why.chains.is_empty() {
        page.line("  Nobody asks for it any more: ggen marketplace p2p install");
    }
    let all: Vec<ProjectBranch> = why.chains.iter().flatten().cloned().collect();
    for chain in &why.chains {
        let steps: Vec<String> = chain
            .iter()
            .map(|step| {
                let name = project::told_apart(step, &all);
                format!("{name} {} ({})", step.version.as_deref().unwrap_or_default(), step.range)
            })
            .collect();
        page.line(format!("  this project -> {}", steps.join(" -> ")));
    }
}
