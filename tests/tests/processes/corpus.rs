//! Twenty searches among five hundred packages, each with what a person expects to see first.

use ggen_marketplace::{
    catalog::{self, Source},
    content::{Codec, ContentId},
    identity::Publisher,
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, VerifiedHead},
    store::Store,
    time::Timestamp,
};

use crate::world::{Home, Node, text};

/// The packages: name, description, tags, category.
const PACKAGES: &str = include_str!("packages.txt");
/// Who published them, in turn.
const PUBLISHERS: u8 = 7;

/// What is typed, and the package that should come first.
const EXPECTED: [(&[&str], &str); 20] = [
    (&["serde"], "serde"),
    (&["json", "serialization"], "serde-json"),
    (&["web server"], "web-server"),
    (&["http", "client"], "http-client"),
    (&["databases", "connections"], "connection-pool"),
    (&["databse", "migration"], "database-migrations"),
    (&["postgers", "driver"], "postgres-driver"),
    (&["progres"], "progress-bar"),
    (&["full text search"], "search-index"),
    (&["\"random numbers\""], "random-numbers"),
    (&["vector", "matrices"], "linear-algebra"),
    (&["compresion", "library"], "zstd-bindings"),
    (&["tag:auth", "password"], "two-factor"),
    (&["login"], "oauth-login"),
    (&["database", "-sql", "-cache", "pool"], "connection-pool"),
    (&["全文搜索"], "chinese-segmenter"),
    (&["形態素"], "japanese-tokenizer"),
    (&["category:games", "collision"], "physics-engine"),
    (&["kubernets", "client"], "kubernetes-client"),
    (&["asynchronous", "applications"], "tokio-runtime"),
];

fn head(line: &str, publisher: &Publisher, now: Timestamp) -> VerifiedHead {
    let fields: Vec<&str> = line.split('|').collect();
    let [name, description, tags, category] = fields[..] else { panic!("{line}") };
    let mut log = Log::empty(PackageId { publisher: publisher.id(), name: name.parse().unwrap() });
    let release = Release {
        version: "1.0.0".parse().unwrap(),
        manifest: ContentId::of(Codec::Raw, name.as_bytes()),
        root: ContentId::of(Codec::DagPb, name.as_bytes()),
        size: 1,
        files: 1,
    };
    let entry = log.next(Kind::Release(release), publisher, now).unwrap();
    log.push(entry).unwrap();
    let labels = Labels {
        description: description.to_owned(),
        tags: tags.split(',').map(str::to_owned).collect(),
        categories: vec![category.to_owned()],
        ..Labels::default()
    };
    Head::of(&log, labels, publisher).unwrap().sign(publisher).unwrap()
}

#[test]
fn twenty_searches_among_five_hundred_packages_find_first_what_is_expected() {
    let home = Home::new();
    std::fs::create_dir(home.state()).unwrap();
    let now = Timestamp::now();
    let publishers: Vec<Publisher> =
        (1..=PUBLISHERS).map(|number| Publisher::from_secret([number; 32], now)).collect();
    let (store, _) = Store::open(home.state(), now).unwrap();
    let heads: Vec<VerifiedHead> = PACKAGES
        .lines()
        .enumerate()
        .map(|(number, line)| head(line, &publishers[number % publishers.len()], now))
        .collect();
    assert_eq!(heads.len(), 500);
    store
        .write(|tx| {
            for head in &heads {
                catalog::insert(tx, head, &Source::own(), now)?;
            }
            Ok(())
        })
        .unwrap();
    drop(store);
    let node = Node::start_in(home, &[]);
    let mut wrong = Vec::new();
    for (words, expected) in EXPECTED {
        let found = node.json(&[&["search", "--timeout", "0.5"], words].concat());
        let names: Vec<String> =
            found["packages"].as_array().unwrap().iter().map(|package| text(&package["name"])).collect();
        if names.first().map(String::as_str) != Some(expected) {
            wrong.push(format!("{words:?}: expected {expected}, found {:?}", &names[..names.len().min(5)]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let corrected = node.run(&["search", "databse", "migration"]).exits(0);
    corrected.says("Nothing matches \"databse migration\"; this matches \"database migration\".");
    let publisher = publishers[0].id().to_string();
    let of_one = node.json(&["search", &format!("publisher:{}", &publisher[..10]), "--limit", "100"]);
    assert_eq!(of_one["total"], 72, "{of_one}");
    // A hint keeps the filters, and none is told that does not apply.
    let nothing = node.run(&["search", "xyzzyq", "--tags", "sql"]).exits(0);
    nothing.says("search xyzzyq --tags sql --limit 50");
}
