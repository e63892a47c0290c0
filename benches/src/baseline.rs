//! Figures beside those of an earlier state of the program. Simulated figures are exact: what differs was changed.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

use serde::Serialize;
use serde_json::Value;

use crate::figures::Figures;

/// The key under which times stand by the number of bootstrap nodes.
const FANOUT: &str = "bootstrap_fanout";

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Baseline {
    /// Figures by the number of nodes.
    pub sizes: BTreeMap<usize, Figures>,
    /// Milliseconds until a fresh node finds something, by the number of bootstrap nodes that it was told of.
    pub fanout: BTreeMap<usize, f64>,
}

/// Reads a baseline; an empty one where there is no such file.
///
/// # Errors
/// Where the file cannot be read, or holds something else.
pub fn read(path: &Path) -> io::Result<Baseline> {
    match fs::read(path) {
        Ok(bytes) => {
            let mut values: BTreeMap<String, Value> = serde_json::from_slice(&bytes)?;
            let fanout = values.remove(FANOUT).map(serde_json::from_value).transpose()?.unwrap_or_default();
            let sizes = serde_json::from_value(serde_json::to_value(values)?)?;
            Ok(Baseline { sizes, fanout })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Baseline::default()),
        Err(error) => Err(error),
    }
}

/// Writes a baseline.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(path: &Path, baseline: &Baseline) -> io::Result<()> {
    /// The numbers of nodes, ascending, and then the rest.
    #[derive(Serialize)]
    struct Written<'a> {
        #[serde(flatten)]
        sizes: &'a BTreeMap<usize, Figures>,
        bootstrap_fanout: &'a BTreeMap<usize, f64>,
    }
    let written = Written { sizes: &baseline.sizes, bootstrap_fanout: &baseline.fanout };
    fs::write(path, serde_json::to_string_pretty(&written)? + "\n")
}

/// One line a figure: its name, the baseline's value, today's, and the difference in per cent; `=` where there is none.
pub fn table(now: &Figures, before: Option<&Figures>) -> String {
    let mut text = format!("{} nodes at {} sites, seed {}\n", now.nodes, now.sites, now.seed);
    let before = before.map(values).unwrap_or_default();
    let _ = writeln!(text, "  {:<34} {:>12} {:>12} {:>9}", "figure", "baseline", "now", "change");
    for (name, now) in values(now) {
        let was = before.get(&name);
        let (shown, change) = match was {
            None => ("-".to_owned(), "new".to_owned()),
            Some(was) => (number(*was), change(*was, now)),
        };
        let _ = writeln!(text, "  {name:<34} {shown:>12} {:>12} {change:>9}", number(now));
    }
    text
}

/// The same for the times of a fresh node.
pub fn fanout_table(now: &BTreeMap<usize, f64>, before: &BTreeMap<usize, f64>) -> String {
    let mut text = "a fresh node's first result, by bootstrap nodes\n".to_owned();
    for (entries, now) in now {
        let was = before.get(entries);
        let (shown, change) =
            was.map_or(("-".to_owned(), "new".to_owned()), |was| (number(*was), change(*was, *now)));
        let name = format!("{FANOUT}.{entries}.ms");
        let _ = writeln!(text, "  {name:<34} {shown:>12} {:>12} {change:>9}", number(*now));
    }
    text
}

fn change(was: f64, now: f64) -> String {
    if was == now {
        "=".to_owned()
    } else if was == 0.0 {
        "from 0".to_owned()
    } else {
        format!("{:+.1} %", (now - was) / was * 100.0)
    }
}

fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Every number of some figures, under its path.
fn values(figures: &Figures) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let tree = serde_json::to_value(figures).expect("numbers and structures of them");
    walk("", &tree, &mut found);
    for key in ["nodes", "sites", "seed"] {
        found.remove(key);
    }
    found
}

fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, value, found);
            }
        }
        other => {
            if let Some(number) = other.as_f64() {
                found.insert(path.to_owned(), number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Gossip, Joining, Lookups, Spread};

    fn figures(p50: f64) -> Figures {
        let spread = Spread { p50, ..Spread::default() };
        Figures {
            nodes: 20,
            sites: 5,
            seed: 1,
            simulated_secs: 10.0,
            lookup: Lookups {
                count: 1,
                not_found: 0.0,
                ms: spread,
                round_trips: Spread::default(),
                requests: Spread::default(),
                requests_failed: 0,
            },
            gossip: Gossip {
                count: 1,
                reached: 1.0,
                ms: Spread::default(),
                hops: Spread::default(),
                copies: 19.0,
                duplicates_per_delivery: 0.0,
            },
            joining: Joining { connections: 0.0, bootstraps: 0, requests: Spread::default() },
        }
    }

    #[test]
    fn a_table_shows_what_changed_and_what_did_not() {
        let line = |table: &str, name: &str| {
            let line = table.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let table_now = table(&figures(150.0), Some(&figures(100.0)));
        assert_eq!(line(&table_now, "lookup.ms.p50"), ["lookup.ms.p50", "100", "150", "+50.0", "%"]);
        assert_eq!(line(&table_now, "gossip.reached"), ["gossip.reached", "1", "1", "="]);
        let first = table(&figures(150.0), None);
        assert_eq!(line(&first, "lookup.ms.p50"), ["lookup.ms.p50", "-", "150", "new"]);
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.json");
        assert_eq!(read(&path).unwrap(), Baseline::default());
        let written = Baseline { sizes: [(20, figures(0.1))].into(), fanout: [(1, 2.5), (3, 0.5)].into() };
        write(&path, &written).unwrap();
        assert_eq!(read(&path).unwrap(), written);
    }
}
