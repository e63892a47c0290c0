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
        The node searches the signed announcements that it has verified, and says how complete that is. If no node runs, \
        those that this machine knows are searched. Without words it lists the newest packages.\n\n\
        All words must occur, in the name, a tag, a category or the description; each may be the beginning of a word, and a plural \
        finds its singular. A word that is found nowhere is corrected by one letter. In a query, \"two words\" in quotation marks \
        stand side by side, -word must not occur, and tag:, category: and publisher: (an id, or the beginning of one) filter.",
    after_help = "\
Examples:
  ggen marketplace p2p search web server
  ggen marketplace p2p search '\"connection pool\" tag:sql -mysql'
  ggen marketplace p2p search \"database\"
  ggen marketplace p2p search \"database\" --category middleware
  ggen marketplace p2p search \"auth\" --tags security --tags oauth
  ggen marketplace p2p search \"web\" --limit 10
  ggen marketplace p2p search \"crypto\" --min-reputation 0.8"
)]
pub(crate) struct Search {
    /// Words to look for; each may be the beginning of one.
    #[arg(value_name = "QUERY", num_args = 0.., value_parser = values::query)]
    query: Vec<String>,
    /// Only packages of this category; repeated, of any of them.
    #[arg(long, value_name = "CATEGORY")]
    category: Vec<String>,
    /// Only packages with this tag; repeated or as a comma list, with all of them.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// One of the tags is enough.
    #[arg(long)]
    any_tag: bool,
    /// Show at most this many packages.
    #[arg(long, value_name = "N", default_value = LIMIT_DEFAULT, value_parser = values::limit, allow_negative_numbers = true)]
    limit: usize,
    /// Skip this many packages first.
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
            text: self.query.iter().map(|piece| piece.trim()).collect::<Vec<_>>().join(" "),
            categories: self.category,
            tags: self.tags,
            any_tag: self.any_tag,
            limit: Some(self.limit),
            offset: self.offset,
            min_reputation: self.min_reputation,
            timeout_secs: Some(self.timeout),
        };
        let mut outcome = session.client().search(&request).await;
        let runs = !outcome.as_ref().is_err_and(Failure::is_not_running);
        if !runs {
            outcome = p2p_state::view(session.home()).await?.search(request.clone()).await;
        }
        let results = outcome?;
        let is_table = session.format() == Format::Table;
        session.print(&results, |results, page| show(results, &request, (runs, is_table), page))?;
        if self.strict && !results.complete {
            session.note("The answer is not complete, as --strict demands; exit status 10.");
            return Ok(Exit::Told(Code::Partial));
        }
        Ok(Exit::Ok)
    }
}

/// Shows what was found, by a node or, where none runs, in its store; as a table or one after the other.
fn show(results: &SearchResults, request: &SearchRequest, (runs, is_table): (bool, bool), page: &mut Page) {
    if results.connected_peers == 0 {
        let packages = page::count(results.indexed, "package");
        page.line(match results.index_time.as_deref() {
            Some(time) => format!("(offline: index of {}, {packages})", page::when(time)),
            None => format!("(offline: this node has not heard of any package yet, {packages})"),
        });
    }
    page.warnings(&results.warnings);
    if let Some(corrected) = &results.corrected {
        page.line(format!("Nothing matches \"{}\"; this matches \"{corrected}\".", request.text)).line("");
    }
    if results.packages.is_empty() {
        nothing_found(results, request, runs, page);
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
    if let Some(meant) = &results.did_you_mean {
        let other = SearchRequest { text: meant.clone(), ..request.clone() };
        page.line(format!("Did you mean \"{meant}\"?  {}", command(&other, None)));
    }
    let next = request.offset.saturating_add(results.packages.len());
    if next < results.total || (results.more && !results.packages.is_empty()) {
        page.line(format!(
            "The next ones:  {}",
            command(&SearchRequest { offset: next, ..request.clone() }, request.limit)
        ));
    }
}

/// The command that asks for this.
fn command(request: &SearchRequest, limit: Option<usize>) -> String {
    let mut words = vec!["ggen marketplace p2p search".to_owned()];
    if !request.text.is_empty() {
        words.push(quoted(&request.text));
    }
    for category in &request.categories {
        words.push(format!("--category {}", quoted(category)));
    }
    for tag in &request.tags {
        words.push(format!("--tags {}", quoted(tag)));
    }
    if request.any_tag {
        words.push("--any-tag".to_owned());
    }
    if let Some(least) = request.min_reputation {
        words.push(format!("--min-reputation {least}"));
    }
    if let Some(limit) = limit.filter(|limit| limit.to_string() != LIMIT_DEFAULT) {
        words.push(format!("--limit {limit}"));
    }
    if request.offset > 0 {
        words.push(format!("--offset {}", request.offset));
    }
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    match text {
        plain
            if !plain.is_empty() && plain.chars().all(|it| it.is_alphanumeric() || "-_.:/…".contains(it)) =>
        {
            plain.to_owned()
        }
        single if !single.contains(['"', '$', '`', '\\', '!']) => format!("\"{single}\""),
        other => format!("'{}'", other.replace('\'', "'\\''")),
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
        0 => format!(
            "    no provider has been found yet; an installation asks the connected peers too, {}",
            page::bytes(package.size)
        ),
        providers => format!(
            "    {}, reputation {}, {}",
            page::count(providers, "provider"),
            page::reputation(package.reputation),
            page::bytes(package.size)
        ),
    });
    if package.freshness.overdue {
        page.line(format!("    {}", package.freshness.freshness));
    }
    for note in &package.notes {
        page.line(format!("    note: {note}"));
    }
}

/// One sentence on how much of what exists was seen.
fn completeness(results: &SearchResults) -> String {
    let least = if results.more { "more than " } else { "" };
    let shown = format!("{} of {least}{}", results.packages.len(), page::count(results.total, "match"));
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

/// Why nothing was found, and what helps in that case.
fn nothing_found(results: &SearchResults, request: &SearchRequest, runs: bool, page: &mut Page) {
    page.heading("No packages found");
    let is_passed_over = request.offset > 0 && results.total > 0;
    let knows_nobody = results.connected_peers == 0 || results.indexed == 0;
    let reason = if results.hidden_by_reputation > 0 {
        hidden(results, request)
    } else if is_passed_over {
        let all = page::count(results.total, "package");
        format!("In all there are {all}, fewer than --offset {} passes over.", request.offset)
    } else if !runs && results.indexed == 0 {
        "No node runs, and this machine has not heard of any package yet.".to_owned()
    } else if !runs {
        format!(
            "Nothing matches among the {} that this machine has heard of.",
            page::count(results.indexed, "package")
        )
    } else if results.connected_peers == 0 {
        "This node has no peers, so it only knows what it heard before.".to_owned()
    } else if results.indexed == 0 {
        "The index is empty: no connected peer has announced a package yet.".to_owned()
    } else {
        format!("Nothing matches among {}.", page::count(results.indexed, "indexed package"))
    };
    page.line(reason);
    // Without a node that is said already.
    for reason in results.incomplete_because.iter().filter(|_| runs) {
        page.line(format!("  {reason}"));
    }
    let loosened = || {
        let (what, text) = looser(&request.text)?;
        Some((what, command(&SearchRequest { text, ..request.clone() }, request.limit)))
    };
    let mut steps: Vec<(&str, String)> = Vec::new();
    if results.hidden_by_reputation > 0 {
        let all = SearchRequest { min_reputation: None, ..request.clone() };
        steps.push(("Show them all the same", command(&all, request.limit)));
    } else if is_passed_over {
        let first = SearchRequest { offset: 0, ..request.clone() };
        steps.push(("Begin with the first", command(&first, request.limit)));
    } else if knows_nobody {
        if !runs {
            steps.push(("Start the node", "ggen marketplace p2p start --daemon".to_owned()));
        }
        steps.push((
            "Ensure the node is bootstrapped",
            "ggen marketplace p2p bootstrap <bootstrap-nodes>".to_owned(),
        ));
        steps.push(("Check the peer connections", "ggen marketplace p2p peer-list".to_owned()));
        steps.extend(loosened().filter(|_| results.indexed > 0));
        if request.limit.is_some_and(|limit| limit < 50) {
            steps.push(("Increase the search limit", command(request, Some(50))));
        }
    } else {
        let is_filtered = !(request.categories.is_empty() && request.tags.is_empty());
        if is_filtered && !request.text.trim().is_empty() {
            let bare = SearchRequest { text: request.text.clone(), ..SearchRequest::default() };
            steps.push(("Leave the filters away", command(&bare, None)));
        }
        steps.extend(loosened());
        if !results.complete {
            steps.push(("Search again once more peers were read", command(request, request.limit)));
        }
        steps.push(("See what there is", "ggen marketplace p2p search".to_owned()));
    }
    let width = steps.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0) + 1;
    page.line("").line("What helps:");
    for (number, (what, how)) in steps.iter().enumerate() {
        page.line(format!("  {}. {:<width$}  {how}", number + 1, format!("{what}:")));
    }
}

/// A query that finds more, and what it does: the words of a phrase for themselves, or only the first of several.
fn looser(text: &str) -> Option<(&'static str, String)> {
    let words = query_words(text);
    let apart: Vec<String> = words.iter().map(|word| word.replace('"', "")).collect();
    if apart.iter().any(|word| word.contains(' ') && !word.starts_with('-') && !word.contains(':')) {
        return Some(("Search for the words apart", apart.join(" ")));
    }
    let is_wanted = |word: &&String| !word.starts_with('-') && !word.starts_with("not:");
    let first = words.iter().find(is_wanted).filter(|word| !word.ends_with(':'))?;
    (words.len() > 1).then(|| ("Search for fewer words", first.clone()))
}

/// The pieces of a query, cut at spaces outside quotation marks.
fn query_words(text: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for letter in text.chars() {
        is_quoted ^= letter == '"';
        match words.last_mut() {
            Some(word) if is_quoted || !letter.is_whitespace() => word.push(letter),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(results: &SearchResults, request: &SearchRequest) -> String {
        let mut page = Page::new(None);
        show(results, request, (true, false), &mut page);
        anstream::adapter::strip_str(&page.into_text()).to_string()
    }

    #[test]
    fn where_nothing_is_found_the_reason_that_applies_is_told() {
        let base = SearchResults { connected_peers: 2, indexed: 5, complete: true, ..Default::default() };
        let request = SearchRequest {
            text: "x y".to_owned(),
            categories: vec!["a b".to_owned()],
            min_reputation: Some(0.8),
            limit: Some(20),
            ..Default::default()
        };
        let cases = [
            (
                SearchResults { hidden_by_reputation: 3, ..base.clone() },
                "3 packages hidden: no provider is known that has a reputation of 0.80",
                &["1. Show them all the same:  ggen marketplace p2p search \"x y\" --category \"a b\"\n"][..],
            ),
            (
                SearchResults { connected_peers: 0, ..base.clone() },
                "no peers",
                &[
                    "p2p bootstrap <bootstrap-nodes>",
                    "p2p peer-list",
                    "search \"x y\" --category \"a b\" --min-reputation 0.8 --limit 50",
                ],
            ),
            (
                SearchResults { indexed: 0, ..base.clone() },
                "index is empty",
                &["p2p bootstrap", "p2p peer-list", "--limit 50"],
            ),
            (
                base.clone(),
                "Nothing matches among 5 indexed packages",
                &["search \"x y\"\n", "search x --category \"a b\" --min-reputation 0.8\n"],
            ),
        ];
        for (results, reason, steps) in cases {
            let text = shown(&results, &request);
            for part in steps.iter().chain([&reason]) {
                assert!(text.contains(part), "{part}: {text}");
            }
            let is_alone = results.connected_peers == 0 || results.indexed == 0;
            assert_eq!(text.contains("bootstrap"), is_alone, "a hint that does not apply: {text}");
            assert_eq!(text.contains("--limit"), is_alone, "a hint that does not apply: {text}");
        }
    }

    #[test]
    fn a_query_that_found_nothing_is_loosened_to_one_that_finds_more() {
        for (text, expected) in [
            ("\"pool connection\"", Some("pool connection")),
            ("\"pool connection\" tag:sql", Some("pool connection tag:sql")),
            ("-net \"web server\"", Some("-net web server")),
            ("pool connection", Some("pool")),
            ("-net pool", Some("pool")),
            ("tag:\"a b\" pool", Some("tag:\"a b\"")),
            ("tag: sql", None),
            ("pool", None),
            ("-net -sql", None),
        ] {
            assert_eq!(looser(text).map(|(_, text)| text), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_command_that_is_told_keeps_the_filters() {
        let request = SearchRequest {
            text: "\"a b\" -c".to_owned(),
            tags: vec!["d".to_owned()],
            any_tag: true,
            offset: 20,
            ..Default::default()
        };
        assert_eq!(
            command(&request, Some(7)),
            "ggen marketplace p2p search '\"a b\" -c' --tags d --any-tag --limit 7 --offset 20"
        );
        let results =
            SearchResults { packages: vec![PackageInfo::default()], total: 99, ..Default::default() };
        assert!(
            shown(&results, &request).contains("The next ones:  ggen marketplace p2p search '\"a b\" -c'")
        );
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
