//! Many clients at once on one node.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::Duration,
};

use ggen_marketplace::control::{
    api::{Failure, PeerListRequest, PublishRequest, SearchRequest},
    client::Client,
};

use crate::{tree, world::Node};

/// Clients at once.
const CLIENTS: usize = 64;
/// What each of them does.
const ROUNDS: usize = 3;
/// Packages that those who publish take turns with.
const PACKAGES: usize = 4;
/// After which a node that has not answered everybody hangs.
const WATCHDOG: Duration = Duration::from_secs(240);

/// A version that was published: of which package, by which client, as its how-manieth, and where it stands in the log.
type Entry = (usize, usize, usize, u64);

async fn attend(client: Client, number: usize, paths: Vec<String>) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for round in 0..ROUNDS {
        match number % 4 {
            0 => {
                let package = number / 4 % PACKAGES;
                let request = PublishRequest {
                    path: paths[package].clone(),
                    version: Some(format!("1.{number}.{round}")),
                    ..PublishRequest::default()
                };
                let published = client.publish(&request, |_| {}).await?;
                entries.push((package, number, round, published.sequence));
            }
            1 => drop(client.peer_list(&PeerListRequest::default()).await?),
            _ => {
                let request = SearchRequest { text: "crowd".to_owned(), ..SearchRequest::default() };
                let found = client.search(&request).await?;
                assert!(found.packages.len() <= PACKAGES, "no package twice: {found:?}");
            }
        }
    }
    Ok(entries)
}

#[test]
fn a_crowd_of_clients_is_served_and_every_package_has_one_order_of_versions() {
    let node = Node::start(&[]);
    let other = Node::start(&[&node]);
    node.knows(&[&other]);
    let paths: Vec<String> = (0..PACKAGES)
        .map(|package| {
            let name = format!("crowd-{package}");
            tree::small(&node.path(&name), &name, "1.0.0", "Published by a crowd", "");
            node.text(&name)
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let outcomes = runtime.block_on(async {
        let clients =
            (0..CLIENTS).map(|number| tokio::spawn(attend(Client::new(node.state()), number, paths.clone())));
        tokio::time::timeout(WATCHDOG, futures::future::join_all(clients)).await
    });
    let outcomes = outcomes.unwrap_or_else(|_| panic!("not within {WATCHDOG:?}\n{}", node.log()));
    let mut logs: BTreeMap<usize, Vec<(u64, usize, usize)>> = BTreeMap::new();
    for outcome in outcomes {
        for (package, client, round, sequence) in outcome.unwrap().unwrap() {
            logs.entry(package).or_default().push((sequence, client, round));
        }
    }
    assert_eq!(logs.len(), PACKAGES);
    for (package, mut entries) in logs {
        entries.sort_unstable();
        let sequences: Vec<u64> = entries.iter().map(|(sequence, ..)| *sequence).collect();
        assert_eq!(
            sequences,
            (0..entries.len() as u64).collect::<Vec<_>>(),
            "crowd-{package}: each place once"
        );
        let mut last = BTreeMap::new();
        for (_, client, round) in entries {
            let before = last.insert(client, round);
            assert!(
                before.is_none_or(|before| before < round),
                "crowd-{package}: in the order of client {client}"
            );
        }
    }
    node.is_well();
    assert_eq!(node.json(&["list"])["total"], CLIENTS / 4 * ROUNDS);
    let found = other.finds("crowd-0", "crowd-0", Duration::from_secs(30));
    assert!(found["version"].as_str().unwrap().starts_with("1."), "{found}");
}

/// Nodes that install at the same moment.
const INSTALLERS: usize = 5;
const FILES: usize = 4;
const FILE_BYTES: usize = 2_000_000;

#[test]
fn a_publisher_sends_little_more_to_several_that_install_at_once_than_to_one() {
    let author = Node::start(&[]);
    author.run(&["config", "set", "limits.upload_bytes_per_second", "4000000"]).exits(0);
    tree::bulk(&author.path("amber"), "amber", 91, FILES, FILE_BYTES);
    author.json(&["publish", &author.text("amber")]);
    let installers: Vec<Node> = (0..INSTALLERS).map(|_| Node::start(&[&author])).collect();
    for node in &installers {
        node.finds("nothing else holds", "amber", Duration::from_secs(20));
    }
    let sent = |node: &Node| node.json(&["status"])["bytes_sent"].as_u64().unwrap();
    let before = sent(&author);
    let install = |node: &Node| {
        let mut command = node.command(&["install", "amber", "--to", &node.text("amber")]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let installs: Vec<Child> = installers.iter().map(install).collect();
    for mut install in installs {
        assert!(install.wait().unwrap().success());
    }
    let package = (FILES * FILE_BYTES) as u64;
    let of_author = sent(&author) - before;
    let of_others: u64 = installers.iter().map(sent).sum();
    // Until they know each other, each of them has asked for something: on a busy machine that takes a second.
    let of_most = package * INSTALLERS as u64 * 3 / 5;
    assert!(of_author < of_most, "{of_author} bytes of {package}, and {of_others} from the others");
    assert!(of_author + of_others >= package * INSTALLERS as u64, "{of_author} and {of_others}");
    assert!(of_author + of_others < package * (INSTALLERS as u64 + 2), "{of_author} and {of_others}: twice");
    for node in &installers {
        assert_eq!(node.json(&["verify"])["ok"], true);
        node.is_well();
    }
}
