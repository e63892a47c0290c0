//! `outdated`: of which packages of a project there are newer versions.

use clap::Args;
use ggen_marketplace::control::api::{AnyPath, Outdated as Answer, OutdatedPackage, OutdatedRequest};

use super::project::Where;
use crate::{
    domain::marketplace::p2p_state::own_time,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// List the packages of a project that have newer versions.
#[derive(Debug, Args)]
#[command(
    long_about = "List the packages of a project that have newer versions.\n\n\
        WANTED is the newest version that every range allows: update takes it. LATEST is the newest of all: to get it, ask for it \
        in gpack.toml. A version that was yanked or withdrawn is listed too.",
    after_help = "\
Examples:
  ggen marketplace p2p outdated
  ggen marketplace p2p outdated --format json"
)]
pub(crate) struct Outdated {
    #[command(flatten)]
    place: Where,
    /// How long it may take in all.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
    /// Fail if no node runs, instead of starting one for the time of this command.
    #[arg(long)]
    no_start: bool,
}

impl Outdated {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        // No node is started in vain.
        self.place.read()?;
        let request =
            OutdatedRequest { directory: AnyPath(self.place.directory()?), timeout_secs: self.timeout };
        let answer =
            own_time::with_node(session, !self.no_start, async |client| client.outdated(&request).await)
                .await?;
        session.print(&answer, show)?;
        Ok(Exit::Ok)
    }
}

fn show(answer: &Answer, page: &mut Page) {
    page.warnings(&answer.warnings);
    if answer.packages.is_empty() {
        page.line(match answer.unheard {
            0 => format!("No newer versions can be had now: {} looked at.", page::count(answer.total, "package")),
            unheard => format!(
                "No newer versions are known here: {} looked at, {unheard} of which nobody could be asked about.",
                page::count(answer.total, "package")
            ),
        });
        return;
    }
    page.table(
        &["NAME", "CURRENT", "WANTED", "LATEST", "NOTE"],
        answer.packages.iter().map(|it| {
            let cells = [&it.name, &it.current, &it.wanted, &it.latest];
            cells.into_iter().cloned().chain([note(it)]).collect()
        }),
    );
}

fn note(package: &OutdatedPackage) -> String {
    let yanked = package.yanked.as_ref().map(|reason| match reason.as_str() {
        "" => "yanked".to_owned(),
        reason => format!("yanked: {reason}"),
    });
    let deprecated = package.deprecated.as_ref().map(|message| format!("deprecated: {message}"));
    let withdrawn =
        package.withdrawn.then(|| "withdrawn by its publisher: update takes what counts".to_owned());
    let taken_back: Vec<String> = withdrawn.into_iter().chain(yanked).chain(deprecated).collect();
    match (taken_back.is_empty(), package.direct) {
        (false, _) => taken_back.join("; "),
        (true, true) => String::new(),
        (true, false) => "needed by others".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_taken_back_without_an_empty_end() {
        let of = |yanked: Option<&str>, deprecated: Option<&str>, direct| {
            let [yanked, deprecated] = [yanked, deprecated].map(|text| text.map(str::to_owned));
            note(&OutdatedPackage { yanked, deprecated, direct, ..OutdatedPackage::default() })
        };
        assert_eq!(of(Some(""), None, true), "yanked");
        let withdrawn = OutdatedPackage { withdrawn: true, ..OutdatedPackage::default() };
        assert!(note(&withdrawn).starts_with("withdrawn by its publisher"));
        assert_eq!(of(Some("slow"), Some("use b"), false), "yanked: slow; deprecated: use b");
        assert_eq!(
            (of(None, None, true), of(None, None, false)),
            (String::new(), "needed by others".to_owned())
        );
    }
}
