//! What users do.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::Need;
use crate::ledger::Ended;

/// Something that a user does at a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// Where.
    pub node: usize,
    /// What.
    pub action: Action,
    /// Whether the run may hold in spite of its failure.
    pub may_fail: bool,
    /// The stable code with which it must fail.
    pub fails: Option<String>,
    /// The name of the share of steps that end as they must to which it counts; it may fail then.
    pub share: Option<String>,
}

/// What a user does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Publishes a package.
    Publish {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// Bytes of its content.
        bytes: u64,
        /// Words to find it by.
        tags: Vec<String>,
        /// Categories that it belongs to.
        categories: Vec<String>,
        /// What it depends on.
        needs: Vec<Need>,
    },
    /// Searches.
    Search {
        /// The words.
        text: String,
        /// What else the user asks for.
        filter: Filter,
        /// How many packages must be found, where that is said.
        finds: Option<usize>,
        /// The names of exactly those that must be found, in any order.
        names: Option<BTreeSet<String>>,
        /// How many must be hidden because nobody who provides them has the reputation asked for.
        hides: Option<usize>,
        /// What the node must say of why the result is not complete.
        says: Option<String>,
    },
    /// Installs a package by its bare name.
    Install {
        /// Its name.
        package: String,
        /// The version; the newest where none is named.
        version: Option<String>,
        /// Bytes that may come over the network at most.
        fetches_at_most: Option<u64>,
        /// Whether the node must say that its publisher is overdue, or that it is not.
        overdue: Option<bool>,
    },
    /// Gets the head of a package that was published before, through the DHT alone.
    Lookup {
        /// Its name.
        package: String,
    },
    /// Dials a node and fills the routing table from it.
    Bootstrap {
        /// The node.
        to: usize,
    },
    /// Starts the node.
    Join,
    /// Stops the node in good order.
    Leave,
}

/// What a search asks for besides words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Any of these categories.
    pub categories: Vec<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Any of the tags is enough.
    pub any_tag: bool,
    /// Results at most.
    pub limit: Option<usize>,
    /// Only what somebody of this reputation provides.
    pub min_reputation: Option<f64>,
}

impl Step {
    /// What is wrong with how the step ended by itself, where something is; `None` for the end of one that has not ended.
    pub(super) fn shortcoming(&self, ended: Option<&Ended>) -> Option<String> {
        match (ended, &self.fails, &self.action) {
            (None, ..) => Some("did not end".to_owned()),
            (Some(Ended::Failed { code, leaves_files: true, .. }), ..) => {
                Some(format!("failed with {code}, and left files behind"))
            }
            (Some(Ended::Failed { code, .. }), Some(fails), _) if code == fails => None,
            (Some(Ended::Failed { code, message, .. }), ..) => Some(format!("failed with {code}: {message}")),
            (Some(_), Some(fails), _) => Some(format!("did not fail with {fails}")),
            (Some(found @ Ended::Found { .. }), _, Action::Search { .. }) => self.action.falls_short(found),
            (Some(Ended::Installed { id, .. }), _, Action::Install { package, .. })
                if id.rsplit('/').next() != Some(package.as_str()) =>
            {
                Some(format!("installed {id}, and not {package}"))
            }
            (
                Some(Ended::Installed { fetched, .. }),
                _,
                Action::Install { fetches_at_most: Some(most), .. },
            ) if fetched > most => Some(format!("fetched {fetched} bytes, and not at most {most}")),
            (Some(Ended::Installed { overdue, .. }), _, Action::Install { overdue: Some(expected), .. })
                if overdue != expected =>
            {
                Some(match expected {
                    true => "did not say that its publisher is overdue".to_owned(),
                    false => "said that its publisher is overdue, who is not".to_owned(),
                })
            }
            (Some(Ended::Bootstrapped { reached: 0 }), ..) => Some("reached nobody".to_owned()),
            _ => None,
        }
    }
}

impl Action {
    /// The name of the package that is published, where one is.
    pub fn published(&self) -> Option<&str> {
        match self {
            Self::Publish { package, .. } => Some(package),
            _ => None,
        }
    }

    /// What is wrong with what a search found, where something is.
    fn falls_short(&self, found: &Ended) -> Option<String> {
        let (Self::Search { finds, names, hides, says, .. }, Ended::Found { ids, hidden, because }) =
            (self, found)
        else {
            return None;
        };
        let named: BTreeSet<String> =
            ids.iter().filter_map(|id| id.rsplit('/').next()).map(str::to_owned).collect();
        let said = because.join("; ");
        if let Some(finds) = finds.filter(|finds| ids.len() != *finds) {
            return Some(format!("found {} packages instead of {finds}", ids.len()));
        }
        if let Some(names) = names.as_ref().filter(|names| **names != named) {
            return Some(format!("found {named:?} instead of {names:?}"));
        }
        if let Some(hides) = hides.filter(|hides| hidden != hides) {
            return Some(format!("hid {hidden} packages instead of {hides}"));
        }
        let says = says.as_ref().filter(|says| !said.contains(says.as_str()))?;
        Some(format!("said {said:?}, and not {says:?}"))
    }
}

impl Action {
    /// What is done, in one word.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Publish { .. } => "publish",
            Self::Search { .. } => "search",
            Self::Install { .. } => "install",
            Self::Lookup { .. } => "lookup",
            Self::Bootstrap { .. } => "bootstrap",
            Self::Join => "join",
            Self::Leave => "leave",
        }
    }
}

/// For people.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { package, .. } => write!(f, "publish {package}"),
            Self::Search { text, .. } => write!(f, "search {text:?}"),
            Self::Install { package, .. } => write!(f, "install {package}"),
            Self::Lookup { package } => write!(f, "look up {package}"),
            Self::Bootstrap { .. } => f.write_str("bootstrap"),
            Self::Join => f.write_str("join"),
            Self::Leave => f.write_str("leave"),
        }
    }
}
