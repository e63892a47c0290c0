//! What users do.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use ggen_marketplace::{code::Code, package::PackageName};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Action, EVERY_NODE, Filter, Need, Step,
    breaking::TIMES_MAX,
    document::{Names, Span, moment, node_named},
    problem::{Problem, unknown},
};

/// Bytes of the content of one package at most.
const PACKAGE_BYTES_MAX: u64 = 64 << 20;
/// Steps of one scenario at most: each has a folder of its own and is looked at as long as the run lasts.
const STEPS_MAX: usize = 20_000;

/// One of `[[workload]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Doing {
    at: Spanned<Span>,
    every: Option<Spanned<Span>>,
    times: Option<Spanned<u32>>,
    node: Spanned<String>,
    #[serde(rename = "do")]
    what: Spanned<Verb>,
    package: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    bytes: Option<Spanned<u64>>,
    needs: Option<Spanned<BTreeMap<String, String>>>,
    text: Option<Spanned<String>>,
    tags: Option<Spanned<Vec<String>>>,
    categories: Option<Spanned<Vec<String>>>,
    any_tag: Option<Spanned<bool>>,
    limit: Option<Spanned<usize>>,
    min_reputation: Option<Spanned<f64>>,
    finds: Option<Spanned<usize>>,
    names: Option<Spanned<BTreeSet<String>>>,
    hides: Option<Spanned<usize>>,
    says: Option<Spanned<String>>,
    to: Option<Spanned<String>>,
    fetches_at_most: Option<Spanned<u64>>,
    overdue: Option<Spanned<bool>>,
    fails: Option<Spanned<String>>,
    #[serde(default)]
    may_fail: bool,
    share: Option<Spanned<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Publish,
    Search,
    Install,
    Lookup,
    Bootstrap,
    Join,
    Leave,
}

/// A key, where it stands, and the verbs that it belongs to.
type Belonging<'a> = (&'a str, Option<Range<usize>>, &'a [Verb]);

/// All steps, in order of time.
pub(super) fn steps(workload: &[Doing], names: &Names<'_>, end: Duration) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    for doing in workload {
        steps.extend(doing.steps(names, end)?);
        if steps.len() > STEPS_MAX {
            return Err(Problem::at(&doing.at, format!("a scenario has at most {STEPS_MAX} steps")));
        }
    }
    check_packages(workload, &steps)?;
    check_found(workload, &steps)?;
    steps.sort_by_key(|step| step.at);
    Ok(steps)
}

/// What is installed or looked up must be published somewhere.
fn check_packages(workload: &[Doing], steps: &[Step]) -> Result<(), Problem> {
    let published = steps.iter().filter_map(|step| match &step.action {
        Action::Publish { package, .. } => Some(package.as_str()),
        _ => None,
    });
    let published: BTreeSet<&str> = published.collect();
    let needs = |doing: &&Doing| matches!(doing.what.get_ref(), Verb::Install | Verb::Lookup);
    for doing in workload.iter().filter(needs) {
        if let Some(package) = &doing.package
            && !published.contains(package.get_ref().as_str())
        {
            return Err(unknown("package", package, published.into_iter()));
        }
    }
    Ok(())
}

/// The first step that publishes a package, of which there must be one author: whose it is says where its record stands.
pub(super) fn published(package: &Spanned<String>, steps: &[Step]) -> Result<usize, Problem> {
    let is_it = |step: &&Step| step.action.published() == Some(package.get_ref());
    let mut authors = steps.iter().filter(is_it).map(|step| step.node);
    let Some(first) = authors.next() else {
        return Err(unknown("package", package, steps.iter().filter_map(|step| step.action.published())));
    };
    if authors.any(|author| author != first) {
        let what =
            format!("`{}` is published by more than one node, and each has a record", package.get_ref());
        return Err(Problem::at(package, what));
    }
    Ok(steps.iter().position(|step| is_it(&step)).expect("it was found"))
}

/// What must be found must be published somewhere.
fn check_found(workload: &[Doing], steps: &[Step]) -> Result<(), Problem> {
    let published = steps.iter().filter_map(|step| match &step.action {
        Action::Publish { package, .. } => Some(package.as_str()),
        _ => None,
    });
    let published: BTreeSet<&str> = published.collect();
    for names in workload.iter().filter_map(|doing| doing.names.as_ref()) {
        if let Some(name) = names.get_ref().iter().find(|name| !published.contains(name.as_str())) {
            return Err(Problem::at(names, format!("there is no package `{name}`")));
        }
    }
    Ok(())
}

/// The word of a share, which becomes part of the name of a metric.
fn check_share(share: &Spanned<String>) -> Result<(), Problem> {
    let is_part = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    let is_word = !share.get_ref().is_empty() && share.get_ref().chars().all(is_part);
    if is_word { Ok(()) } else { Err(Problem::at(share, "a share is named by a-z, 0-9 and _")) }
}

fn span<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

fn plain<T: Clone>(value: &Option<Spanned<T>>) -> Option<T> {
    value.as_ref().map(|value| value.get_ref().clone())
}

impl Doing {
    fn steps(&self, names: &Names<'_>, end: Duration) -> Result<Vec<Step>, Problem> {
        let at = moment(&self.at, end)?;
        let (times, every) = self.times(at, end)?;
        self.check_keys()?;
        let action = self.action(names)?;
        let nodes = match self.node.get_ref().as_str() {
            EVERY_NODE => (0..names.len()).collect(),
            _ => vec![node_named(&self.node, names)?],
        };
        if let Some(code) = &self.fails
            && Code::from_word(code.get_ref()).is_none()
        {
            return Err(unknown("code", code, Code::ALL.iter().map(|code| code.as_str())));
        }
        if let Some(share) = &self.share {
            check_share(share)?;
        }
        let (fails, share) = (plain(&self.fails), plain(&self.share));
        // Of a share, some may fail: how many, a threshold says.
        let may_fail = self.may_fail || share.is_some();
        let mut steps = Vec::new();
        for n in 0..times {
            let action = self.counted(&action, n)?;
            steps.extend(nodes.iter().map(|node| Step {
                at: at + every * n,
                node: *node,
                action: action.clone(),
                may_fail,
                fails: fails.clone(),
                share: share.clone(),
            }));
        }
        Ok(steps)
    }

    /// How often it is done, and the time from one to the next.
    fn times(&self, at: Duration, end: Duration) -> Result<(u32, Duration), Problem> {
        let (times, every) = match (&self.times, &self.every) {
            (None, None) => return Ok((1, Duration::ZERO)),
            (Some(times), Some(every)) => (times, every.get_ref().0),
            _ => return Err(Problem::at(&self.at, "`times` and `every` go together")),
        };
        let count = *times.get_ref();
        if count == 0 || count > TIMES_MAX || every.is_zero() {
            return Err(Problem::at(
                times,
                format!("a step is done 1 to {TIMES_MAX} times, some time apart"),
            ));
        }
        if every.checked_mul(count - 1).and_then(|late| at.checked_add(late)).is_none_or(|last| last >= end) {
            return Err(Problem::at(times, "the run has ended by the last of them"));
        }
        Ok((count, every))
    }

    /// What is done the time `n`: of a package another version is published each time, since a version is one tree permanently.
    fn counted(&self, action: &Action, n: u32) -> Result<Action, Problem> {
        let mut action = action.clone();
        if let (Action::Publish { version, .. }, 1..) = (&mut action, n) {
            let counted = version.rsplit_once('.').and_then(|(before, last)| {
                Some(format!("{before}.{}", last.parse::<u32>().ok()?.checked_add(n)?))
            });
            let no_number =
                "the version of what is published more than once ends with a number, which counts up";
            *version = counted.ok_or_else(|| Problem::at(&self.what, no_number))?;
        }
        Ok(action)
    }

    /// Refuses keys that do not belong to this step.
    fn check_keys(&self) -> Result<(), Problem> {
        use Verb::{Bootstrap, Install, Lookup, Publish, Search};
        let verb = *self.what.get_ref();
        let belonging: [Belonging<'_>; 17] = [
            ("package", span(&self.package), &[Publish, Install, Lookup]),
            ("version", span(&self.version), &[Publish, Install]),
            ("bytes", span(&self.bytes), &[Publish]),
            ("needs", span(&self.needs), &[Publish]),
            ("text", span(&self.text), &[Search]),
            ("tags", span(&self.tags), &[Publish, Search]),
            ("categories", span(&self.categories), &[Publish, Search]),
            ("any-tag", span(&self.any_tag), &[Search]),
            ("limit", span(&self.limit), &[Search]),
            ("min-reputation", span(&self.min_reputation), &[Search]),
            ("finds", span(&self.finds), &[Search]),
            ("names", span(&self.names), &[Search]),
            ("hides", span(&self.hides), &[Search]),
            ("says", span(&self.says), &[Search]),
            ("to", span(&self.to), &[Bootstrap]),
            ("fetches-at-most", span(&self.fetches_at_most), &[Install]),
            ("overdue", span(&self.overdue), &[Install]),
        ];
        for (key, place, verbs) in belonging {
            if place.is_some() && !verbs.contains(&verb) {
                return Err(Problem { place, what: format!("`{key}` does not belong to this step") });
            }
        }
        Ok(())
    }

    /// What it depends on: `"node/package" = "range"`.
    fn needs(&self, names: &Names<'_>) -> Result<Vec<Need>, Problem> {
        let Some(needs) = &self.needs else { return Ok(Vec::new()) };
        let of_node = |(id, range): (&String, &String)| {
            let (node, package) = id.split_once('/').ok_or_else(|| {
                Problem::at(needs, format!("`{id}` is not a node and a package, such as \"node-1/amber\""))
            })?;
            let node = node_named(&Spanned::new(needs.span(), node.to_owned()), names)?;
            Ok(Need { node, package: package.to_owned(), range: range.clone() })
        };
        needs.get_ref().iter().map(of_node).collect()
    }

    fn action(&self, names: &Names<'_>) -> Result<Action, Problem> {
        let needs = |key: &str| Problem::at(&self.what, format!("this step needs `{key}`"));
        Ok(match *self.what.get_ref() {
            Verb::Publish => {
                let package = self.package.as_ref().ok_or_else(|| needs("package"))?;
                let bytes = plain(&self.bytes).unwrap_or(1_000);
                if bytes > PACKAGE_BYTES_MAX {
                    let what = format!("a package has at most {PACKAGE_BYTES_MAX} bytes");
                    return Err(Problem::at(&self.what, what));
                }
                // The name becomes one of a folder, too.
                let name = package.get_ref().parse::<PackageName>();
                name.map_err(|error| Problem::at(package, error.to_string()))?;
                let version = plain(&self.version).unwrap_or_else(|| "1.0.0".to_owned());
                Action::Publish {
                    package: package.get_ref().clone(),
                    version,
                    bytes,
                    tags: plain(&self.tags).unwrap_or_default(),
                    categories: plain(&self.categories).unwrap_or_default(),
                    needs: self.needs(names)?,
                }
            }
            Verb::Search => Action::Search {
                text: plain(&self.text).ok_or_else(|| needs("text"))?,
                filter: Filter {
                    categories: plain(&self.categories).unwrap_or_default(),
                    tags: plain(&self.tags).unwrap_or_default(),
                    any_tag: plain(&self.any_tag).unwrap_or_default(),
                    limit: plain(&self.limit),
                    min_reputation: plain(&self.min_reputation),
                },
                finds: plain(&self.finds),
                names: plain(&self.names),
                hides: plain(&self.hides),
                says: plain(&self.says),
            },
            Verb::Install => Action::Install {
                package: plain(&self.package).ok_or_else(|| needs("package"))?,
                version: plain(&self.version),
                fetches_at_most: plain(&self.fetches_at_most),
                overdue: plain(&self.overdue),
            },
            Verb::Lookup => Action::Lookup { package: plain(&self.package).ok_or_else(|| needs("package"))? },
            Verb::Bootstrap => {
                Action::Bootstrap { to: node_named(self.to.as_ref().ok_or_else(|| needs("to"))?, names)? }
            }
            Verb::Join => Action::Join,
            Verb::Leave => Action::Leave,
        })
    }
}
