//! `events`, `watch`: what happens, line by line.

use std::ops::ControlFlow;

use clap::Args;
use ggen_marketplace::control::api::{PackageInfo, SearchRequest};
use serde_json::Value;

use crate::{
    session::{End, Exit, Finished, Format, Session},
    values,
};

/// Show what happens at the node, line by line, until you interrupt it.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what happens at the node, line by line, until you interrupt it.\n\n\
        With --format json each line is one JSON object with the fields time and event: connected, disconnected, provider_lost, listed, \
        frozen, disputed, published, queued, installed, banned, unbanned. A reader that is too slow gets the event missed, \
        with how many it missed. If nothing happens, the event alive comes every five seconds in JSON and YAML.\n\n\
        listed says how the package stands now: its newest version, the number of the newest entry of its log, what is yanked, \
        and whether it is deprecated.",
    after_help = "\
Examples:
  ggen marketplace p2p events
  ggen marketplace p2p events --only listed --only frozen
  ggen marketplace p2p events --format json"
)]
pub(crate) struct Events {
    /// Only events of this kind; repeatable.
    #[arg(long, value_name = "EVENT", value_parser = KINDS)]
    only: Vec<String>,
    /// Stop after this many events.
    #[arg(long, value_name = "N", value_parser = values::count)]
    count: Option<usize>,
}

/// The kinds that can be asked for.
const KINDS: [&str; 11] = [
    "connected",
    "disconnected",
    "provider_lost",
    "listed",
    "frozen",
    "disputed",
    "published",
    "queued",
    "installed",
    "banned",
    "unbanned",
];

impl Events {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let is_wanted =
            |event: &Value| self.only.is_empty() || self.only.iter().any(|kind| kind == kind_of(event));
        listen(session, self.count, is_wanted).await
    }
}

/// Show how a package stands after each change of it, of the packages of a publisher, or of those with a tag: a new version, a
/// yank, a deprecation.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p watch my-package
  ggen marketplace p2p watch tag:sql
  ggen marketplace p2p watch publisher:gp1qqqqqq --count 1")]
pub(crate) struct Watch {
    /// [publisher/]name, publisher:ID or the beginning of an id, tag:TAG, category:CATEGORY.
    #[arg(value_name = "WHAT", required = true, value_parser = watched)]
    what: Vec<Watched>,
    /// Stop after this many events.
    #[arg(long, value_name = "N", value_parser = values::count)]
    count: Option<usize>,
}

/// Packages that are looked at, and seconds, before it is said that nothing is known of what is watched.
const LOOKED_AT_MAX: usize = 100;
const LOOK_SECONDS: f64 = 1.0;

/// Letters of a publisher id behind `gp1`.
const ID_LETTERS_MAX: usize = 58;

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watched {
    /// A package by name, of any publisher.
    Name(String),
    /// A package by the beginning of its publisher's id, and its name.
    Package(String, String),
    /// All packages of a publisher.
    Publisher(String),
    Tag(String),
    Category(String),
}

fn watched(text: &str) -> Result<Watched, String> {
    let id = |text: &str| {
        let beginning = text.split(['…', '.']).next().unwrap_or_default().to_lowercase();
        match can_begin_an_id(&beginning) {
            true => Ok(beginning),
            false => {
                Err(format!("{text} cannot be a publisher id, nor the beginning of one: such as gp1qqqqqq"))
            }
        }
    };
    let rest = |prefix: &str| text.strip_prefix(prefix).map(str::trim).filter(|rest| !rest.is_empty());
    if let Some(tag) = rest("tag:") {
        Ok(Watched::Tag(tag.to_lowercase()))
    } else if let Some(category) = rest("category:") {
        Ok(Watched::Category(category.to_lowercase()))
    } else if let Some(publisher) = rest("publisher:") {
        Ok(Watched::Publisher(id(publisher)?))
    } else if let Some((publisher, name)) = text.split_once('/') {
        if publisher.is_empty() || name.is_empty() || name.contains(['/', '@']) {
            return Err("expected a publisher, a slash and a name without a version, such as gp1…/web-tools"
                .to_owned());
        }
        Ok(Watched::Package(id(publisher)?, name.to_owned()))
    } else if text.starts_with("gp1") {
        Ok(Watched::Publisher(id(text)?))
    } else if text.is_empty() || text.contains(':') || text.contains('@') {
        Err("expected [publisher/]name, publisher:ID, tag:TAG or category:CATEGORY".to_owned())
    } else {
        Ok(Watched::Name(text.to_owned()))
    }
}

/// Whether a publisher id may begin so: `gp1`, and then letters of bech32.
fn can_begin_an_id(text: &str) -> bool {
    const LETTERS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    match text.strip_prefix("gp1") {
        Some(rest) if rest.len() <= ID_LETTERS_MAX => rest.chars().all(|letter| LETTERS.contains(letter)),
        Some(_) => false,
        None => !text.is_empty() && "gp1".starts_with(text),
    }
}

impl Watched {
    fn is(&self, event: &Value) -> bool {
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        let has = |field: &str, label: &str| {
            event[field].as_array().is_some_and(|labels| {
                labels.iter().filter_map(Value::as_str).any(|it| it.trim().to_lowercase() == label)
            })
        };
        match self {
            Self::Name(name) => text("name") == name,
            Self::Package(publisher, name) => {
                text("name") == name && text("publisher").starts_with(publisher)
            }
            Self::Publisher(publisher) => text("publisher").starts_with(publisher),
            Self::Tag(tag) => has("tags", tag),
            Self::Category(category) => has("categories", category),
        }
    }
}

impl Watched {
    /// The search that finds what is watched.
    fn query(&self) -> String {
        match self {
            Self::Name(name) | Self::Package(_, name) => name.clone(),
            Self::Publisher(publisher) => format!("publisher:{publisher}"),
            Self::Tag(tag) => format!("tag:\"{tag}\""),
            Self::Category(category) => format!("category:\"{category}\""),
        }
    }

    /// Whether a package that a search found is watched.
    fn is_of(&self, package: &PackageInfo) -> bool {
        match self {
            Self::Name(name) => package.name == *name,
            Self::Package(publisher, name) => {
                package.name == *name && package.publisher.starts_with(publisher)
            }
            Self::Publisher(_) | Self::Tag(_) | Self::Category(_) => true,
        }
    }

    /// As a person types it.
    fn typed(&self) -> String {
        match self {
            Self::Package(publisher, name) => format!("{publisher}/{name}"),
            other => other.query(),
        }
    }
}

impl Watch {
    /// Says of what nothing is known yet: it may be misspelt.
    async fn tell_unknown(&self, session: &Session) -> Finished<()> {
        for watched in &self.what {
            let request = SearchRequest {
                text: watched.query(),
                limit: Some(LOOKED_AT_MAX),
                timeout_secs: Some(LOOK_SECONDS),
                ..SearchRequest::default()
            };
            let found = session.client().search(&request).await?;
            let is_whole = found.packages.len() == found.total;
            if is_whole && !found.packages.iter().any(|package| watched.is_of(package)) {
                session.note(&format!(
                    "Nothing is known of {} yet; it is shown as soon as something is announced.",
                    watched.typed()
                ));
            }
        }
        Ok(())
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        self.tell_unknown(session).await?;
        let is_wanted = |event: &Value| {
            matches!(kind_of(event), "listed" | "frozen" | "disputed")
                && self.what.iter().any(|watched| watched.is(event))
        };
        listen(session, self.count, is_wanted).await
    }
}

fn kind_of(event: &Value) -> &str {
    event["event"].as_str().unwrap_or_default()
}

/// Prints events as they come.
async fn listen(
    session: &Session,
    count: Option<usize>,
    is_wanted: impl Fn(&Value) -> bool,
) -> Finished<Exit> {
    let mut left = count.unwrap_or(usize::MAX);
    let take = |event: Value| {
        match kind_of(&event) {
            "listening" => {
                session.note("Listening; Ctrl-C ends it.");
                return ControlFlow::Continue(());
            }
            "missed" => session.warn(&sentence(&event)),
            "alive" if session.format() == Format::Human => return ControlFlow::Continue(()),
            "alive" => {}
            _ if !is_wanted(&event) => return ControlFlow::Continue(()),
            _ => left -= 1,
        }
        match session.print_line(&event, &sentence(&event)) {
            Err(end) => ControlFlow::Break(Err(end)),
            Ok(()) if left == 0 => ControlFlow::Break(Ok(Exit::Ok)),
            Ok(()) => ControlFlow::Continue(()),
        }
    };
    session.client().events(take).await.map_err(End::from)?
}

/// How a package stands after a change: the event tells no more of what the change was.
fn state(event: &Value) -> String {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let yanked: Vec<&str> =
        event["yanked"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut state = match text("version") {
        "" => "without a version".to_owned(),
        version => version.to_owned(),
    };
    if let Some(entry) = event["sequence"].as_u64() {
        state += &format!(", entry {entry}");
    }
    if !yanked.is_empty() {
        state += &format!(", yanked: {}", yanked.join(" "));
    }
    if !text("deprecated").is_empty() {
        state += &format!(", deprecated: {}", text("deprecated"));
    }
    state
}

/// An event for people.
fn sentence(event: &Value) -> String {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let number = |field: &str| event[field].as_u64().unwrap_or_default();
    let what = match kind_of(event) {
        "missed" => format!("{} left out: this reader is too slow", plural(number("events"), "event")),
        "connected" if text("address").is_empty() => format!("connected    {}", text("peer_id")),
        "connected" => format!("connected    {} at {}", text("peer_id"), text("address")),
        "disconnected" => format!("disconnected {}", text("peer_id")),
        "provider_lost" => {
            format!("provider of {} is gone: {}", plural(number("packages"), "package"), text("peer_id"))
        }
        "listed" => format!("listed       {} {}", text("id"), state(event)),
        "frozen" => {
            format!("frozen       {}: its publisher signed two different states for one place", text("id"))
        }
        "disputed" => {
            format!("disputed     {}: two chains of its publisher's keys contradict each other", text("id"))
        }
        "published" => format!("published    {}", text("id")),
        "queued" => format!("queued       {} waits in the outbox", text("id")),
        "installed" => format!("installed    {} in {}", text("id"), text("path")),
        "banned" => format!("banned       {}: {}", text("peer_id"), text("reason")),
        "unbanned" => format!("unbanned     {}", text("peer_id")),
        other => other.to_owned(),
    };
    format!("{}  {what}", text("time"))
}

fn plural(number: u64, noun: &str) -> String {
    crate::page::count(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_watched_is_a_name_a_package_a_publisher_or_a_label() {
        let event = json!({"event": "listed", "name": "web", "publisher": "gp1acdefg", "tags": ["SQL "], "categories": ["x"]});
        for (text, is_it) in [
            ("web", true),
            ("other", false),
            ("gp1acd/web", true),
            ("gp1acd…wxyz/web", true),
            ("gp1xyz/web", false),
            ("gp1acd", true),
            ("publisher:gp1acdefg", true),
            ("publisher:gp1e", false),
            ("tag:sql", true),
            ("tag:nosql", false),
            ("category:X", true),
        ] {
            assert_eq!(watched(text).unwrap().is(&event), is_it, "{text}");
        }
        let long = format!("publisher:gp1{}", "q".repeat(59));
        for bad in [
            "",
            "tag:",
            "web@1.0.0",
            "name:x",
            "gp1acd/",
            "/web",
            "gp1acd/web/x",
            "gp1acd/web@1",
            "publisher:xx",
            "publisher:gp1b",
            "xx/web",
            &long,
        ] {
            assert!(watched(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_of_a_newer_node_is_shown_by_its_kind() {
        assert_eq!(sentence(&json!({"event": "eaten", "time": "now"})), "now  eaten");
    }
}
