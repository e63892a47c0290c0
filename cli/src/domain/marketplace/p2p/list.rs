//! `list`: what is installed or published here, or waits to be published.

use std::collections::BTreeSet;

use clap::Args;
use ggen_marketplace::control::api::{Failure, ListedPackage, Listing};

use super::yank;
use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
};

/// Packages whose publishers are overdue that are told one by one; the rest is counted.
const OVERDUE_SHOWN_MAX: usize = 5;

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
        ListedPackage { out_of_sight: true, .. } => "out of sight",
        ListedPackage { interrupted: true, .. } => "cut off",
        package => &package.kind,
    };
    let said = [
        (package.yanked, "yanked"),
        (package.withdrawn, "withdrawn"),
        (package.deprecated.is_some(), "deprecated"),
        (package.frozen, "frozen"),
    ];
    let said = said.into_iter().filter(|(is_so, _)| *is_so).map(|(_, word)| word);
    std::iter::once(kind).chain(said).collect::<Vec<_>>().join(", ")
}

fn show(listing: &Listing, page: &mut Page) {
    if listing.packages.is_empty() && listing.changes.is_empty() {
        page.line("Nothing is installed or published here.");
        return;
    }
    if !listing.packages.is_empty() {
        table(listing, page);
    }
    for change in &listing.changes {
        page.line("").line(format!(
            "the {} of {} waits: {}",
            yank::noun(change.change),
            change.id,
            change.why
        ));
    }
    if let Some(change) = listing.changes.first() {
        page.line(format!("Take it out: ggen marketplace p2p publish --drop {}", change.id));
    }
    remarks(listing, page);
}

fn table(listing: &Listing, page: &mut Page) {
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

/// What is said below the table.
fn remarks(listing: &Listing, page: &mut Page) {
    if let Some(cut_off) = listing.packages.iter().find(|package| package.interrupted) {
        page.line("").line(format!("{}: {}", cut_off.name, cut_off.why));
    }
    for queued in
        listing.packages.iter().filter(|package| package.kind == "queued" && !package.why.is_empty())
    {
        page.line("").line(format!("{} {} waits: {}", queued.name, queued.version, queued.why));
    }
    let deprecated = listing.packages.iter().filter_map(|package| {
        Some((package.id.split('@').next().unwrap_or_default(), &package.name, package.deprecated.as_ref()?))
    });
    for (_, name, message) in deprecated.collect::<BTreeSet<_>>() {
        page.line("").line(format!("{name} is deprecated by its publisher: {message}"));
    }
    let mut named = BTreeSet::new();
    for package in &listing.packages {
        let id = package.id.split('@').next().unwrap_or_default();
        if package.frozen && named.insert(("frozen", id)) {
            page.line("").line(format!(
                "{} is frozen: its publisher signed two different states for one place. See: ggen marketplace p2p info {id}",
                package.name
            ));
        }
        if package.withdrawn && named.insert(("withdrawn", &package.id)) {
            page.line("").line(format!(
                "{} {} is withdrawn: a double signing was ended, and this content counts no more.",
                package.name, package.version
            ));
        }
        if package.yanked && named.insert(("yanked", &package.id)) {
            page.line("").line(format!(
                "Why {} {} was yanked: ggen marketplace p2p info {}",
                package.name, package.version, package.id
            ));
        }
    }
    let overdue =
        listing.packages.iter().filter(|it| it.kind == "installed" && it.freshness.overdue && !it.frozen);
    let overdue: BTreeSet<_> =
        overdue.map(|it| (&it.id, &it.name, &it.version, &it.freshness.freshness)).collect();
    for (_, name, version, freshness) in overdue.iter().take(OVERDUE_SHOWN_MAX) {
        page.line("").line(format!("{name} {version}: {freshness}"));
    }
    if overdue.len() > OVERDUE_SHOWN_MAX {
        let more = overdue.len() - OVERDUE_SHOWN_MAX;
        page.line(format!("So it is with {more} more: ggen marketplace p2p list --format json"));
    }
    let out_of_sight = listing.packages.iter().filter(|package| package.out_of_sight).count();
    if out_of_sight > 0 {
        let verb = if out_of_sight == 1 { "is" } else { "are" };
        page.line("").line(format!(
            "{} {verb} out of sight: the drive is not mounted, or may not be read. Nothing is forgotten.",
            page::count(out_of_sight, "folder")
        ));
    }
    let gone: Vec<&str> =
        listing.packages.iter().filter(|package| package.gone).map(|package| package.path.as_str()).collect();
    if !gone.is_empty() {
        page.line("").line("What is gone was deleted by hand. Forget it:");
        for path in gone {
            page.line(format!("  ggen marketplace p2p remove {path}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::control::api::Freshness;

    use super::*;

    #[test]
    fn a_folder_out_of_sight_is_not_said_to_be_gone() {
        let row = ListedPackage {
            kind: "installed".to_owned(),
            path: "/media/stick/web".to_owned(),
            out_of_sight: true,
            ..ListedPackage::default()
        };
        let mut page = Page::new(None);
        show(&Listing { total: 1, packages: vec![row], ..Listing::default() }, &mut page);
        let text = page.into_text();
        assert!(text.contains("1 folder is out of sight: the drive is not mounted"), "{text}");
        assert!(!text.contains("gone") && !text.contains("p2p remove"), "{text}");
    }

    #[test]
    fn all_that_was_taken_back_is_said_and_what_is_frozen_once_a_package() {
        let row = |version: &str| ListedPackage {
            id: format!("gp1a/web@{version}"),
            name: "web".to_owned(),
            version: version.to_owned(),
            kind: "published".to_owned(),
            yanked: true,
            deprecated: Some("use web-kit".to_owned()),
            frozen: true,
            withdrawn: version == "1.1.0",
            ..ListedPackage::default()
        };
        let mut page = Page::new(None);
        show(&Listing { packages: vec![row("1.0.0"), row("1.1.0")], ..Listing::default() }, &mut page);
        let text = page.into_text();
        assert!(text.contains("published, yanked, deprecated, frozen"), "{text}");
        assert!(text.contains("published, yanked, withdrawn, deprecated, frozen"), "{text}");
        for (said, times) in [
            ("web is frozen", 1),
            ("web 1.1.0 is withdrawn", 1),
            ("p2p info gp1a/web@1.0.0", 1),
            ("web 1.0.0 is withdrawn", 0),
        ] {
            assert_eq!(text.matches(said).count(), times, "{said}: {text}");
        }
    }

    #[test]
    fn every_folder_that_is_gone_is_named_and_a_deprecation_says_what_to_use() {
        let row = |path: &str, gone| ListedPackage {
            id: "gp1a/web@1.0.0".to_owned(),
            name: "web".to_owned(),
            kind: "installed".to_owned(),
            path: path.to_owned(),
            gone,
            deprecated: Some("use web-kit".to_owned()),
            ..ListedPackage::default()
        };
        let packages = vec![row("/a/web", true), row("/b/web", true), row("/c/web", false)];
        let mut page = Page::new(None);
        show(&Listing { total: packages.len(), packages, ..Listing::default() }, &mut page);
        let text = page.into_text();
        for line in ["p2p remove /a/web\n", "p2p remove /b/web\n"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("remove /c/web"), "{text}");
        assert!(!text.contains("out of sight"), "{text}");
        assert_eq!(text.matches("web is deprecated by its publisher: use web-kit").count(), 1, "{text}");
    }

    #[test]
    fn what_is_overdue_is_told_once_a_version_and_the_rest_is_counted() {
        let row = |name: usize, overdue| ListedPackage {
            id: format!("gp1a/web{name}@1.0.0"),
            name: format!("web{name}"),
            version: "1.0.0".to_owned(),
            kind: "installed".to_owned(),
            freshness: Freshness { overdue, freshness: "not confirmed".to_owned(), ..Freshness::default() },
            ..ListedPackage::default()
        };
        let told = |packages| {
            let mut page = Page::new(None);
            show(&Listing { packages, ..Listing::default() }, &mut page);
            page.into_text()
        };
        let text = told(vec![row(1, true), row(1, true), row(2, false)]);
        assert!(
            text.matches("not confirmed").count() == 1 && text.contains("web1 1.0.0: not confirmed"),
            "{text}"
        );
        let text = told((0..7).map(|name| row(name, true)).collect());
        assert!(text.matches("not confirmed").count() == 5 && text.contains("2 more"), "{text}");
    }
}
