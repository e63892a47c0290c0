//! `search`: finds packages, says how complete the answer is, and what to do where nothing was found.

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{Failure, PackageInfo, SearchRequest, SearchResults},
};

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Format, Session},
    values,
};

/// Results shown where no limit was given.
const LIMIT_DEFAULT: &str = "20";

/// Find packages by name, tag, category and description.
#[derive(Debug, Args)]
#[command(
    long_about = "Find packages by name, tag, category and description.\n\n\
        The node searches the signed announcements that it has verified, and says how complete that is. Where no node runs, \
        those that this machine knows are searched. Without words it lists the newest packages.",
    after_help = "\
Examples:
  ggen marketplace p2p search \"database\"
  ggen marketplace p2p search \"database\" --category middleware
  ggen marketplace p2p search \"auth\" --tags security --tags oauth
  ggen marketplace p2p search \"web\" --limit 10
  ggen marketplace p2p search \"crypto\" --min-reputation 0.8"
)]
pub(crate) struct Search {
    /// Words to look for; the last one may be the beginning of a name.
    #[arg(default_value = "", hide_default_value = true, value_name = "QUERY", value_parser = values::query)]
    query: String,
    /// Only packages of this category; repeated, of any of them.
    #[arg(long, value_name = "CATEGORY")]
    category: Vec<String>,
    /// Only packages with this tag; repeated or as a comma list, with all of them.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// One of the tags is enough.
    #[arg(long)]
    any_tag: bool,
    /// Show at most so many packages.
    #[arg(long, value_name = "N", default_value = LIMIT_DEFAULT, value_parser = values::limit, allow_negative_numbers = true)]
    limit: usize,
    /// Pass over so many packages first.
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::offset, allow_negative_numbers = true)]
    offset: usize,
    /// Only packages with a provider of at least this reputation, from 0 to 1.
    #[arg(long, value_name = "REPUTATION", value_parser = values::reputation, allow_negative_numbers = true)]
    min_reputation: Option<f64>,
    /// How long the network may be asked.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = values::search_seconds, allow_negative_numbers = true)]
    timeout: f64,
    /// Exit with status 10 if the answer is not complete.
    #[arg(long)]
    strict: bool,
}

impl Search {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = SearchRequest {
            text: self.query,
            categories: self.category,
            tags: self.tags,
            any_tag: self.any_tag,
            limit: Some(self.limit),
            offset: self.offset,
            min_reputation: self.min_reputation,
            timeout_secs: Some(self.timeout),
        };
        let mut outcome = session.client().search(&request).await;
        if outcome.as_ref().is_err_and(Failure::is_not_running) {
            outcome = p2p_state::view(session.home()).await?.search(request.clone()).await;
        }
        let results = outcome?;
        let is_table = session.format() == Format::Table;
        session.print(&results, |results, page| show(results, &request, is_table, page))?;
        if self.strict && !results.complete {
            session.note("The answer is not complete, as --strict demands; exit status 10.");
            return Ok(Exit::Told(Code::Partial));
        }
        Ok(Exit::Ok)
    }
}

fn show(results: &SearchResults, request: &SearchRequest, is_table: bool, page: &mut Page) {
    if results.connected_peers == 0 {
        let time = results.index_time.as_deref().map_or_else(|| "never".to_owned(), page::when);
        let packages = page::count(results.indexed, "package");
        page.line(format!("(offline: index of {time}, {packages})"));
    }
    if results.packages.is_empty() {
        nothing_found(results, request, page);
        return;
    }
    if is_table {
        page.table(
            &["NAME", "PUBLISHER", "VERSION", "DESCRIPTION", "PROVIDERS", "REPUTATION"],
            results.packages.iter().map(row),
        );
    } else {
        results.packages.iter().for_each(|package| entry(package, page));
    }
    page.line("").line(completeness(results));
    for reason in &results.incomplete_because {
        page.line(format!("  {reason}"));
    }
    if results.hidden_by_reputation > 0 {
        page.line(hidden(results, request));
    }
}

fn row(package: &PackageInfo) -> Vec<String> {
    vec![
        package.name.clone(),
        page::short_id(&package.publisher),
        package.version.clone(),
        package.description.clone(),
        package.providers.len().to_string(),
        page::reputation(package.reputation),
    ]
}

fn entry(package: &PackageInfo, page: &mut Page) {
    page.heading(format!("{} {}", package.name, package.version));
    page.line(format!("    {}", package.description));
    page.line(format!("    {}", package.id));
    page.line(match package.providers.len() {
        0 => format!("    no provider known yet, {}", page::bytes(package.size)),
        providers => format!(
            "    {}, reputation {}, {}",
            page::count(providers, "provider"),
            page::reputation(package.reputation),
            page::bytes(package.size)
        ),
    });
    for note in &package.notes {
        page.line(format!("    note: {note}"));
    }
}

/// One sentence on how much of what exists was seen.
fn completeness(results: &SearchResults) -> String {
    let shown = format!("{} of {}", results.packages.len(), page::count(results.total, "match"));
    let shown = shown.replace("matchs", "matches");
    if results.complete {
        format!("Showing {shown}; complete: every connected peer was read.")
    } else {
        format!("Showing {shown}; incomplete, there may be more:")
    }
}

fn hidden(results: &SearchResults, request: &SearchRequest) -> String {
    format!(
        "{} hidden: no provider is known that has a reputation of {} or more.",
        page::count(results.hidden_by_reputation, "package"),
        request.min_reputation.map_or_else(String::new, page::reputation)
    )
}

/// Why nothing was found, and the three steps that help.
fn nothing_found(results: &SearchResults, request: &SearchRequest, page: &mut Page) {
    page.heading("No packages found");
    let reason = if results.hidden_by_reputation > 0 {
        hidden(results, request)
    } else if request.offset > 0 && results.total > 0 {
        format!(
            "There are {} packages in all, fewer than --offset {} passes over.",
            results.total, request.offset
        )
    } else if results.connected_peers == 0 {
        "This node has no peers, so it only knows what it heard before.".to_owned()
    } else if results.indexed == 0 {
        "The index is empty: no connected peer has announced a package yet.".to_owned()
    } else {
        format!("Nothing matches among {}.", page::count(results.indexed, "indexed package"))
    };
    page.line(reason);
    for reason in &results.incomplete_because {
        page.line(format!("  {reason}"));
    }
    if results.hidden_by_reputation > 0 || (request.offset > 0 && results.total > 0) {
        // Something is there: it was the filter, or the offset, that passed over it.
        return;
    }
    let quoted = request.text.replace('"', "\\\"");
    page.line("")
        .line("What helps:")
        .line("  1. Ensure the node is bootstrapped:  ggen marketplace p2p bootstrap <bootstrap-nodes>")
        .line("  2. Check the peer connections:       ggen marketplace p2p peer-list")
        .line(format!(
            "  3. Increase the search limit:        ggen marketplace p2p search \"{quoted}\" --limit 50"
        ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(results: &SearchResults, request: &SearchRequest) -> String {
        let mut page = Page::new(None);
        show(results, request, false, &mut page);
        anstream::adapter::strip_str(&page.into_text()).to_string()
    }

    #[test]
    fn where_nothing_is_found_the_reason_that_applies_is_told() {
        let base = SearchResults { connected_peers: 2, indexed: 5, complete: true, ..Default::default() };
        let request = SearchRequest { text: "x".to_owned(), min_reputation: Some(0.8), ..Default::default() };
        let cases = [
            (
                SearchResults { hidden_by_reputation: 3, ..base.clone() },
                "3 packages hidden: no provider is known that has a reputation of 0.80",
            ),
            (SearchResults { connected_peers: 0, ..base.clone() }, "no peers"),
            (SearchResults { indexed: 0, ..base.clone() }, "index is empty"),
            (base, "Nothing matches among 5 indexed packages"),
        ];
        for (results, reason) in cases {
            let text = shown(&results, &request);
            assert!(text.contains(reason), "{text}");
            let is_hidden = results.hidden_by_reputation > 0;
            for step in ["p2p bootstrap <bootstrap-nodes>", "p2p peer-list", "search \"x\" --limit 50"] {
                assert_eq!(text.contains(step), !is_hidden, "{text}");
            }
        }
    }

    #[test]
    fn the_answer_says_how_complete_it_is() {
        let mut results = SearchResults {
            packages: vec![PackageInfo { name: "web".to_owned(), ..Default::default() }],
            total: 1,
            complete: true,
            connected_peers: 1,
            ..Default::default()
        };
        assert!(shown(&results, &SearchRequest::default()).contains("Showing 1 of 1 match; complete"));
        results.complete = false;
        results.total = 2;
        results.incomplete_because = vec!["1 peer was not read in time".to_owned()];
        let text = shown(&results, &SearchRequest::default());
        assert!(text.contains("1 of 2 matches; incomplete") && text.contains("not read in time"), "{text}");
    }
}
