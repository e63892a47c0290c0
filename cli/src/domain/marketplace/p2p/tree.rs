//! `tree`: what a project uses, and who needs it.

use clap::Args;
use ggen_marketplace::{
    control::api::{ProjectBranch, ProjectTree},
    project::{Requirements, graph, plan},
};

use super::project::{self, Where};
use crate::{
    domain::marketplace::p2p_state,
    page::Page,
    session::{Exit, Finished, Session},
};

/// Show the packages of a project as a tree: which package needs which.
#[derive(Debug, Args)]
#[command(
    long_about = "Show the packages of a project as a tree: which package needs which.\n\n\
        Each line has the version that is locked and the range that is asked for. What a package needs is shown once; (*) marks \
        the other places. Only gpack.toml, gpack.lock and what this \
        machine knows of what was yanked, withdrawn, frozen or deprecated are read: no node is needed.",
    after_help = "\
Examples:
  ggen marketplace p2p tree
  ggen marketplace p2p tree --format json"
)]
pub(crate) struct Tree {
    #[command(flatten)]
    place: Where,
}

impl Tree {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let (requirements, lock) = self.place.read()?;
        let asked = &requirements.project().dependencies;
        // As far as this machine knows: nobody is asked.
        let taken_back = p2p_state::view(session.home()).await?.taken_back(lock.clone()).await?;
        let lines = graph::tree(asked, &lock).into_iter().map(|branch| {
            let it = taken_back.get(&branch.package).cloned().unwrap_or_default();
            let frozen = it.frozen.is_some();
            let (yanked, withdrawn) = (it.yanked, it.withdrawn);
            let shape = shape(&requirements, branch);
            ProjectBranch { yanked, deprecated: it.deprecated, withdrawn, frozen, ..shape }
        });
        let lines = lines.collect();
        let misfits = plan::misfits(asked, &lock);
        let mut warnings: Vec<String> = misfits.iter().map(ToString::to_string).collect();
        let of_file = &requirements.project().warnings;
        warnings.splice(0..0, of_file.iter().map(|warning| format!("gpack.toml, {warning}")));
        warnings.extend(taken_back.values().filter_map(|it| it.frozen.clone()));
        if !misfits.is_empty() {
            warnings.push("gpack.lock does not match gpack.toml: ggen marketplace p2p install".to_owned());
        }
        let answer = ProjectTree { lines, total: lock.packages.len(), warnings };
        let root =
            requirements.project().name.as_ref().map_or("this project", |name| name.as_str()).to_owned();
        session.print(&answer, |answer, page| show(answer, &root, page))?;
        Ok(Exit::Ok)
    }
}

fn shape(requirements: &Requirements, branch: graph::Branch) -> ProjectBranch {
    ProjectBranch {
        depth: branch.depth,
        name: project::name(requirements, &branch.package),
        id: branch.package.to_string(),
        version: branch.version.map(|version| version.to_string()),
        range: branch.range,
        repeated: branch.repeated,
        ..ProjectBranch::default()
    }
}

fn show(tree: &ProjectTree, root: &str, page: &mut Page) {
    page.warnings(&tree.warnings);
    page.heading(root);
    // Whether another line of each depth comes further down.
    let mut goes_on: Vec<bool> = Vec::new();
    let mut drawn: Vec<String> = Vec::new();
    for line in tree.lines.iter().rev() {
        goes_on.resize(line.depth + 1, false);
        let bars: String =
            goes_on[..line.depth].iter().map(|more| if *more { "│   " } else { "    " }).collect();
        let corner = if goes_on[line.depth] { "├── " } else { "└── " };
        goes_on[line.depth] = true;
        let version = line.version.as_deref().unwrap_or("not locked");
        let repeated = if line.repeated { " (*)" } else { "" };
        let yanked = if line.yanked { ", yanked" } else { "" };
        let withdrawn = if line.withdrawn { ", withdrawn by its publisher" } else { "" };
        let frozen = if line.frozen { ", frozen" } else { "" };
        let deprecated = line.deprecated.as_ref().filter(|_| !line.repeated);
        let deprecated = deprecated.map(|message| format!(", deprecated: {message}")).unwrap_or_default();
        let name = project::told_apart(line, &tree.lines);
        drawn.push(format!(
            "{bars}{corner}{name} {version} ({}){repeated}{withdrawn}{frozen}{yanked}{deprecated}",
            line.range
        ));
    }
    for line in drawn.iter().rev() {
        page.line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_packages_of_one_name_are_told_apart_by_their_publishers() {
        let line = |publisher: &str, name: &str| ProjectBranch {
            name: name.to_owned(),
            id: format!("{publisher}/{name}"),
            version: Some("1.0.0".to_owned()),
            range: "^1".to_owned(),
            ..ProjectBranch::default()
        };
        let (one, two) =
            (format!("gp1aaaaaa{}wxyz", "q".repeat(48)), format!("gp1bbbbbb{}wxyz", "q".repeat(48)));
        let lines = vec![line(&one, "web"), line(&one, "log"), line(&two, "web"), line(&one, "web")];
        let mut page = Page::new(None);
        show(&ProjectTree { lines, total: 3, warnings: Vec::new() }, "this project", &mut page);
        let text = anstream::adapter::strip_str(&page.into_text()).to_string();
        assert_eq!(text.matches("gp1aaaaaa…wxyz/web 1.0.0").count(), 2, "{text}");
        assert!(text.contains("gp1bbbbbb…wxyz/web 1.0.0") && text.contains(" log 1.0.0"), "{text}");
    }
}
