//! The dependency tree as `Cargo.lock` has it, held against the bans of `deny.toml` and against the layers of the design.
//!
//! The lock file lists what any feature or platform could need, so that what is absent here is absent everywhere.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};

use crate::{assert_none, read};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Packages that are built from this repository although they bear the name of a published crate.
const PATCHED: &[(&str, &str)] =
    &[("asynchronous-codec", "sim/shims/asynchronous-codec"), ("futures-timer", "sim/shims/futures-timer")];

/// One `[[package]]` of a lock file.
#[derive(Debug, PartialEq)]
struct Package {
    name: String,
    version: Version,
    /// Where it comes from; nothing for a path.
    source: Option<String>,
    dependencies: Vec<String>,
}

fn parse_lock(text: &str) -> Vec<Package> {
    let lock: toml::Table = text.parse().expect("a lock file is TOML");
    let packages = lock["package"].as_array().expect("packages are a list");
    let string = |value: &toml::Value| value.as_str().expect("a string").to_owned();
    packages
        .iter()
        .map(|package| Package {
            name: string(&package["name"]),
            version: package["version"].as_str().expect("a string").parse().expect("a version"),
            source: package.get("source").map(string),
            dependencies: package
                .get("dependencies")
                .and_then(toml::Value::as_array)
                .map(|list| list.iter().map(string).collect())
                .unwrap_or_default(),
        })
        .collect()
}

/// One row of `bans.deny`.
struct Ban {
    name: String,
    versions: VersionReq,
    wrappers: Option<Vec<String>>,
    reason: String,
}

fn bans() -> Vec<Ban> {
    let deny: toml::Table = read("deny.toml").parse().expect("deny.toml is TOML");
    let rows = deny["bans"]["deny"].as_array().expect("bans are a list");
    rows.iter()
        .map(|row| {
            let spec = row["crate"].as_str().expect("a string");
            let (name, versions) = spec.split_once(':').unwrap_or((spec, "*"));
            Ban {
                name: name.to_owned(),
                versions: versions.parse().unwrap_or_else(|error| panic!("{spec}: {error}")),
                wrappers: row.get("wrappers").and_then(toml::Value::as_array).map(|list| {
                    list.iter().map(|name| name.as_str().expect("a string").to_owned()).collect()
                }),
                reason: row["reason"].as_str().expect("every ban has a reason").to_owned(),
            }
        })
        .collect()
}

/// Packages that a ban meets, unless every package that depends on them directly is named as a wrapper.
fn banned(packages: &[Package], bans: &[Ban]) -> Vec<String> {
    let mut findings = Vec::new();
    for ban in bans {
        let met = packages
            .iter()
            .filter(|package| package.name == ban.name && ban.versions.matches(&package.version));
        for package in met {
            let found = format!("{} {}: {}", package.name, package.version, ban.reason);
            match &ban.wrappers {
                None => findings.push(found),
                Some(wrappers) => {
                    let users = packages.iter().filter(|user| depends_on(user, package));
                    let others = users.filter(|user| !wrappers.contains(&user.name));
                    findings.extend(others.map(|user| format!("{} uses {found}", user.name)));
                }
            }
        }
    }
    findings
}

/// Whether `user` names `package`: as `name`, `name version`, or `name version (source)`.
fn depends_on(user: &Package, package: &Package) -> bool {
    user.dependencies.iter().any(|dependency| {
        let mut parts = dependency.split(' ');
        parts.next() == Some(package.name.as_str())
            && parts.next().is_none_or(|version| version == package.version.to_string())
    })
}

/// Packages that come neither from crates.io nor from this repository.
fn foreign(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter_map(|package| Some((package, package.source.as_deref()?)))
        .filter(|(_, source)| *source != CRATES_IO)
        .map(|(package, source)| format!("{} {} comes from {source}", package.name, package.version))
        .collect()
}

/// Packages without a source that are neither ours nor a patch that is known.
fn unexpected_paths(packages: &[Package]) -> Vec<String> {
    let ours = |name: &str| name.starts_with("ggen-") || PATCHED.iter().any(|(patched, _)| *patched == name);
    packages
        .iter()
        .filter(|package| package.source.is_none() && !ours(&package.name))
        .map(|package| format!("{} {} is built from a path", package.name, package.version))
        .collect()
}

/// Everything that `name` depends on, itself included, for whatever feature, platform or purpose.
fn closure(packages: &[Package], name: &str) -> BTreeSet<String> {
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let names = package.dependencies.iter().filter_map(|dependency| dependency.split(' ').next());
        users.entry(&package.name).or_default().extend(names);
    }
    let (mut seen, mut open) = (BTreeSet::new(), vec![name]);
    while let Some(name) = open.pop() {
        if seen.insert(name.to_owned()) {
            open.extend(users.get(name).into_iter().flatten());
        }
    }
    seen
}

/// What the node and the command must not depend on and do.
fn layer_breaks(packages: &[Package]) -> Vec<String> {
    let layers: [(&str, &[&str]); 2] = [
        (
            "ggen-marketplace",
            &["clap", "clap_builder", "turmoil", "ggen-cli", "ggen-harness", "ggen-sim", "ggen-tests"],
        ),
        ("ggen-cli", &["turmoil", "ggen-harness", "ggen-sim", "ggen-tests"]),
    ];
    let breaks = layers.iter().flat_map(|(layer, banned)| {
        let reached = closure(packages, layer);
        let met = banned.iter().filter(move |name| reached.contains(**name));
        met.map(move |name| format!("{layer} depends on {name}"))
    });
    breaks.collect()
}

/// A lock file with packages of the given names, versions, sources and dependencies.
fn planted(rows: &[(&str, &str, Option<&str>, &[&str])]) -> Vec<Package> {
    let text: String = rows
        .iter()
        .map(|(name, version, source, dependencies)| {
            let source = source.map_or_else(String::new, |source| format!("source = {source:?}\n"));
            format!("[[package]]\nname = {name:?}\nversion = {version:?}\n{source}dependencies = {dependencies:?}\n")
        })
        .collect();
    parse_lock(&text)
}

#[test]
fn no_package_is_banned() {
    let packages = parse_lock(&read("Cargo.lock"));
    assert!(packages.len() > 100, "the lock file was read");
    assert_none(&banned(&packages, &bans()));
}

#[test]
fn every_version_known_to_be_bad_is_refused_and_its_successor_is_not() {
    let bans = bans();
    for (name, bad, good) in [
        ("libp2p-gossipsub", "0.49.2", "0.50.1"),
        ("libp2p-gossipsub", "0.50.0", "0.50.1"),
        ("yamux", "0.12.1", "0.14.1"),
        ("yamux", "0.13.8", "0.14.1"),
        ("yamux", "0.14.0", "0.14.1"),
        ("libp2p-rendezvous", "0.17.0", "0.17.1"),
        ("libp2p-quic", "0.13.0", "0.13.1"),
        ("quinn-proto", "0.11.14", "0.11.15"),
        ("tar", "0.4.44", "0.4.45"),
        ("hickory-proto", "0.26.0", "0.26.1"),
        ("hickory-proto", "0.25.2", "0.26.1"),
        ("ed25519-dalek", "1.0.1", "2.0.0"),
    ] {
        let found = banned(&planted(&[(name, bad, Some(CRATES_IO), &[])]), &bans);
        assert_eq!(found.len(), 1, "{name} {bad}");
        assert!(found[0].starts_with(&format!("{name} {bad}: ")), "{found:?}");
        assert_none(&banned(&planted(&[(name, good, Some(CRATES_IO), &[])]), &bans));
    }
}

#[test]
fn a_ban_with_wrappers_allows_them_alone() {
    let bans = bans();
    let clap = ("clap", "4.6.0", Some(CRATES_IO), &[] as &[&str]);
    assert_none(&banned(&planted(&[clap, ("ggen-cli", "0.1.0", None, &["clap"])]), &bans));
    for dependency in ["clap", "clap 4.6.0", "clap 4.6.0 (registry+x)"] {
        let found = banned(&planted(&[clap, ("ggen-marketplace", "0.1.0", None, &[dependency])]), &bans);
        assert_eq!(found.len(), 1, "{dependency}");
        assert!(found[0].starts_with("ggen-marketplace uses clap 4.6.0"), "{found:?}");
    }
    let turmoil = ("turmoil", "0.7.0", Some(CRATES_IO), &[] as &[&str]);
    let found = banned(&planted(&[turmoil, ("ggen-marketplace", "0.1.0", None, &["turmoil"])]), &bans);
    assert_eq!(found.len(), 1);
}

#[test]
fn every_package_comes_from_crates_io_or_from_here() {
    let packages = parse_lock(&read("Cargo.lock"));
    assert_none(&foreign(&packages));
    assert_none(&unexpected_paths(&packages));
}

#[test]
fn another_source_is_refused() {
    let git = "git+https://github.com/somebody/rust-libp2p#0123";
    let packages = planted(&[
        ("libp2p", "0.57.1", Some(git), &[]),
        ("tokio", "1.0.0", Some(CRATES_IO), &[]),
        ("serde", "1.0.0", None, &[]),
    ]);
    assert_eq!(foreign(&packages), [format!("libp2p 0.57.1 comes from {git}")]);
    assert_eq!(unexpected_paths(&packages), ["serde 1.0.0 is built from a path"]);
}

#[test]
fn libp2p_is_unforked_and_its_timers_and_framing_are_ours() {
    let packages = parse_lock(&read("Cargo.lock"));
    let libp2p: Vec<&Package> =
        packages.iter().filter(|package| package.name.starts_with("libp2p")).collect();
    assert!(libp2p.len() > 10, "libp2p is in the tree");
    for package in libp2p {
        assert_eq!(package.source.as_deref(), Some(CRATES_IO), "{}", package.name);
    }
    let manifest: toml::Table = read("Cargo.toml").parse().expect("a manifest is TOML");
    let patches = manifest["patch"]["crates-io"].as_table().expect("patches are a table");
    let found: Vec<(&str, &str)> = patches
        .iter()
        .map(|(name, patch)| (name.as_str(), patch["path"].as_str().expect("patches are paths")))
        .collect();
    assert_eq!(found, PATCHED);
    for (name, _) in PATCHED {
        let found: Vec<&Package> = packages.iter().filter(|package| package.name == *name).collect();
        assert!(matches!(found[..], [Package { source: None, .. }]), "one {name}, the patch: {found:?}");
    }
}

#[test]
fn the_node_depends_on_no_layer_above_it() {
    let packages = parse_lock(&read("Cargo.lock"));
    assert!(closure(&packages, "ggen-marketplace").contains("yamux"), "the tree was walked");
    assert_none(&layer_breaks(&packages));
}

#[test]
fn a_layer_reached_through_another_package_is_found() {
    let packages = planted(&[
        ("ggen-marketplace", "0.1.0", None, &["innocent 1.0.0"]),
        ("innocent", "1.0.0", Some(CRATES_IO), &["clap"]),
        ("clap", "4.6.0", Some(CRATES_IO), &["innocent"]),
    ]);
    assert_eq!(layer_breaks(&packages), ["ggen-marketplace depends on clap"]);
    let packages = planted(&[("ggen-cli", "0.1.0", None, &["ggen-sim"]), ("ggen-sim", "0.1.0", None, &[])]);
    assert_eq!(layer_breaks(&packages), ["ggen-cli depends on ggen-sim"]);
}
