//! What `search` finds, in which order, and what it says where it finds nothing.

use std::{collections::BTreeSet, time::Duration};

use ggen_marketplace::{
    content::{Codec, ContentId},
    reputation::{Cause, Event, ledger},
    store::Store,
    time::Timestamp,
};
use serde_json::Value;

use crate::{
    tree,
    world::{Node, eventually, text},
};

/// What the library of every test holds: name, description, categories, tags.
const BOOKS: [(&str, &str, &str, &str); 6] = [
    ("pg-pool", "A pool of database connections", "\"Middleware\"", "\"sql\", \"pool\""),
    ("mongo-kit", "Documents in a database", "\"storage\"", "\"nosql\""),
    ("gate-auth", "Log in with tokens", "\"middleware\"", "\"security\", \"oauth\""),
    ("key-auth", "Log in with keys", "\"middleware\"", "\"security\""),
    ("database", "Only named like it", "\"storage\"", "\"sql\""),
    ("web-page", "Shows pages", "\"web\"", "\"html\""),
];

/// A node with the library, and thirty packages named by number.
fn library() -> Node {
    let mut node = Node::start(&[]);
    node.stop();
    for (name, description, categories, tags) in BOOKS {
        let more = format!("categories = [{categories}]\ntags = [{tags}]");
        tree::small(&node.path(name), name, "1.0.0", description, &more);
        node.json(&["publish", &node.text(name)]);
    }
    for number in 0..30 {
        let name = format!("numbered-{number:02}");
        tree::small(&node.path(&name), &name, "1.0.0", "One of a series", "");
        node.json(&["publish", &node.text(&name)]);
    }
    node.start_again(&[]);
    // What was queued is signed once the node runs.
    let is_there = |node: &Node| node.json(&["status"])["packages_indexed"].as_u64() == Some(36);
    let mut looks = 0;
    while !is_there(&node) {
        looks += 1;
        assert!(looks < 300, "the queue is not emptied");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    node
}

/// The names found, in order.
fn names(found: &Value) -> Vec<String> {
    found["packages"].as_array().unwrap().iter().map(|package| text(&package["name"])).collect()
}

fn set(found: &Value) -> BTreeSet<String> {
    names(found).into_iter().collect()
}

fn of<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn filters_by_category_and_tags() {
    let node = library();
    let search = |arguments: &[&str]| node.json(&[&["search"], arguments].concat());
    let found = search(&["database"]);
    assert_eq!(names(&found)[0], "database", "a name counts more than a description: {found}");
    assert_eq!(set(&found), of(["database", "pg-pool", "mongo-kit"]));
    assert_eq!(set(&search(&["database", "--category", "MIDDLEWARE"])), of(["pg-pool"]));
    assert_eq!(set(&search(&["database", "--category", "middle"])), of([]), "the whole category");
    let both = search(&["database", "--category", "middleware", "--category", "storage"]);
    assert_eq!(set(&both), of(["database", "pg-pool", "mongo-kit"]), "any of them");
    assert_eq!(set(&search(&["auth", "--tags", "security"])), of(["gate-auth", "key-auth"]));
    assert_eq!(
        set(&search(&["auth", "--tags", "security", "--tags", "oauth"])),
        of(["gate-auth"]),
        "all of them"
    );
    assert_eq!(set(&search(&["auth", "--tags", "security,oauth"])), of(["gate-auth"]));
    let any = search(&["", "--tags", "oauth", "--tags", "nosql", "--any-tag"]);
    assert_eq!(set(&any), of(["gate-auth", "mongo-kit"]));
    assert_eq!(set(&search(&["log in", "--tags", "html"])), of([]));
    assert_eq!(set(&search(&["mong"])), of(["mongo-kit"]), "the beginning of a name");

    // Pages are stable, disjoint, and make up the whole.
    let all = names(&search(&["series", "--limit", "1000"]));
    assert_eq!(all.len(), 30);
    let mut pages = Vec::new();
    for offset in ["0", "7", "14", "21", "28"] {
        let page = search(&["series", "--limit", "7", "--offset", offset]);
        assert_eq!(page["total"], 30);
        pages.extend(names(&page));
    }
    assert_eq!(pages, all);
    let twenty = names(&search(&["series"]));
    assert_eq!(twenty.len(), 20, "the default");
    assert_eq!(names(&search(&["series", "--limit", "20"])), twenty);
    let fifty = set(&search(&["series", "--limit", "50"]));
    assert!(twenty.iter().all(|name| fifty.contains(name)), "a larger limit shows no less");
    assert_eq!(fifty.len(), 30);
    assert_eq!(names(&search(&["series", "--limit", "50", "--offset", "30"])), Vec::<String>::new());
    let beyond = node.run(&["search", "series", "--offset", "99"]).exits(0).says("fewer than --offset 99");
    assert!(!beyond.stdout.contains("p2p bootstrap"), "{beyond:#?}");
    for _ in 0..5 {
        assert_eq!(names(&search(&["series", "--limit", "1000"])), all, "the same order each time");
    }
}

#[test]
fn an_empty_query_lists_the_newest_first() {
    let node = Node::start(&[]);
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for name in ["middle", "zebra", "apple"] {
        tree::small(&node.path(name), name, "1.0.0", "Published in turn", "");
        node.json(&["publish", &node.text(name)]);
        // Heads carry whole seconds.
        let published = second();
        eventually("the next second", Duration::from_secs(5), || (second() > published).then_some(()));
    }
    assert_eq!(names(&node.json(&["search"])), ["apple", "zebra", "middle"]);
    assert_eq!(names(&node.json(&["search", ""])), ["apple", "zebra", "middle"]);
    assert_eq!(names(&node.json(&["search", "", "--limit", "1"])), ["apple"]);
}

#[test]
fn where_nothing_is_found_the_three_steps_are_told_with_the_reason() {
    let node = Node::start(&[]);
    let steps = ["p2p bootstrap", "p2p peer-list", "--limit 50"];
    let alone = node.run(&["search", "anything"]).exits(0);
    for text in steps.iter().chain(&["no peers", "(offline: this node has not heard of any package yet"]) {
        assert!(alone.stdout.contains(text), "{text}: {alone:#?}");
    }
    let other = Node::start(&[&node]);
    node.knows(&[&other]);
    let empty = eventually("the empty index is the reason", Duration::from_secs(10), || {
        Some(node.run(&["search", "anything"]).exits(0))
            .filter(|answer| answer.stdout.contains("index is empty"))
    });
    for text in steps {
        assert!(empty.stdout.contains(text), "{text}: {empty:#?}");
    }
    assert!(!empty.stdout.contains("offline"), "{empty:#?}");
    tree::small(&other.path("package"), "something", "1.0.0", "Is there", "");
    other.json(&["publish", &other.text("package")]);
    node.finds("something", "something", Duration::from_secs(10));
    node.run(&["search", "anything"]).exits(0).says("Nothing matches among 1 indexed package");
}

#[test]
fn without_peers_the_index_still_answers_and_says_so() {
    let author = Node::start(&[]);
    tree::small(&author.path("package"), "remembered", "1.0.0", "Heard before", "");
    author.json(&["publish", &author.text("package")]);
    let mut reader = Node::start(&[&author]);
    reader.finds("heard", "remembered", Duration::from_secs(10));
    drop(author);
    reader.stop();
    reader.start_again(&[]);
    let found = reader.run(&["search", "heard"]).exits(0);
    assert!(
        found.stdout.contains("(offline: index of ") && found.stdout.contains("1 package)"),
        "{found:#?}"
    );
    assert!(found.stdout.contains("remembered 1.0.0"), "{found:#?}");
    assert_eq!(reader.json(&["search", "heard"])["complete"], false);
}

#[test]
fn packages_of_disreputable_providers_are_hidden_and_counted() {
    let author = Node::start(&[]);
    let mut reader = Node::start(&[&author]);
    author.knows(&[&reader]);
    for name in ["one", "two"] {
        tree::bulk(&author.path(name), name, 9, 2, 1000);
        author.json(&["publish", &author.text(name)]);
        reader.finds(name, name, Duration::from_secs(10));
    }
    let good = reader.json(&["search", "bytes", "--min-reputation", "1.0"]);
    assert_eq!(
        (names(&good).len(), &good["hidden_by_reputation"]),
        (2, &0.into()),
        "the new are trusted: {good}"
    );
    assert_eq!(
        reader.json(&["search", "bytes", "--min-reputation", "0"])["packages"].as_array().unwrap().len(),
        2
    );

    reader.json(&["install", "one", "--to", &reader.text("one")]);
    fail_once(&mut reader, &author);
    let found = reader.json(&["search", "bytes"]);
    assert_eq!(names(&found).len(), 2);
    let hidden = reader.json(&["search", "two", "--min-reputation", "0.9"]);
    assert_eq!((names(&hidden).len(), &hidden["hidden_by_reputation"]), (0, &1.into()), "{hidden}");
    reader
        .run(&["search", "two", "--min-reputation", "0.9"])
        .exits(0)
        .says("1 package hidden: no provider is known that has a reputation of 0.90");
    let low = reader.json(&["search", "two", "--min-reputation", "0.3"]);
    assert_eq!((names(&low).len(), &low["hidden_by_reputation"]), (1, &0.into()), "{low}");
    assert_eq!(low["packages"][0]["reputation"], 0.5, "{low}");
    let peers = reader.json(&["peer-list", "--min-reputation", "0.9"]);
    assert_eq!((&peers["total"], &peers["hidden_by_reputation"]), (&0.into(), &1.into()), "{peers}");
    let told = reader.run(&["peer-list", "--min-reputation", "0.9"]).exits(0);
    let told = told.says("No peer has that reputation; 1 peer is connected.");
    assert!(!told.stdout.contains("Bootstrap"), "{told:#?}");
    let full = reader.json(&["peer-info", &author.peer, "--full"]);
    assert_eq!(full["history"][0]["penalty"], "one failed retrieval", "{full}");
    assert_eq!(reader.json(&["peer-list", "--min-reputation", "0.5"])["total"], 1, "inclusive");
}

/// Notes in the ledger of a node that another one let it wait in vain.
fn fail_once(node: &mut Node, other: &Node) {
    node.stop();
    let (store, _) = Store::open(node.state(), Timestamp::now()).unwrap();
    let event = Event::RetrievalFailed {
        root: ContentId::of(Codec::Raw, b"what never came"),
        cause: Cause::Timeout,
        blocks: 0,
        bytes: 0,
        duration: Duration::from_secs(20),
    };
    let peer = other.peer.parse().unwrap();
    store.write(|tx| Ok(ledger::record(tx, &peer, &event, Timestamp::now())?)).unwrap();
    drop(store);
    node.start_again(&[other]);
    node.knows(&[other]);
}
