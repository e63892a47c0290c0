//! Tests of the search, on a database in memory.

use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rusqlite::params;

use super::*;
use crate::{
    catalog::fixture::*,
    code::Code,
    release::{Head, VerifiedHead},
};

struct Package<'a> {
    publisher: u8,
    name: &'a str,
    description: &'a str,
    tags: &'a [&'a str],
    categories: &'a [&'a str],
}

const PLAIN: Package<'_> = Package { publisher: 1, name: "x", description: "", tags: &[], categories: &[] };

impl Package<'_> {
    fn head(&self) -> VerifiedHead {
        let publisher = publisher(self.publisher);
        let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect();
        Head {
            description: self.description.to_owned(),
            tags: labels(self.tags),
            categories: labels(self.categories),
            ..blank(&publisher, self.name)
        }
        .sign(&publisher)
        .unwrap()
    }
}

fn index(packages: &[Package<'_>]) -> Connection {
    let mut conn = database();
    for package in packages {
        put(&mut conn, &package.head(), NOW);
    }
    conn
}

fn text(text: &str) -> Query {
    Query { text: text.to_owned(), ..Query::default() }
}

fn names(conn: &Connection, query: &Query) -> Vec<String> {
    let found = search(conn, query).unwrap();
    found.hits.iter().map(|hit| hit.head.name.to_string()).collect()
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

/// Enough unrelated packages that a word is rare, as it is in any real index.
fn noise() -> impl Iterator<Item = Package<'static>> {
    ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"].into_iter().map(|name| Package {
        name,
        description: "something else entirely",
        ..PLAIN
    })
}

#[test]
fn a_name_outranks_a_tag_a_tag_a_category_and_a_category_the_description() {
    let long =
        "a very long text about many different things that has nothing to do with what is searched for";
    let packages: Vec<_> = [
        Package { name: "a", description: "database database database database", ..PLAIN },
        Package { name: "b", categories: &["database"], description: "short", ..PLAIN },
        Package { name: "c", tags: &["database"], description: "short", ..PLAIN },
        Package { name: "d-database", description: long, ..PLAIN },
    ]
    .into_iter()
    .chain(noise())
    .collect();
    let conn = index(&packages);
    assert_eq!(names(&conn, &text("database")), ["d-database", "c", "b", "a"]);
}

#[test]
fn an_exact_name_comes_first() {
    let packages: Vec<_> = [
        Package { name: "web-server-kit", tags: &["web", "server"], categories: &["web", "server"], ..PLAIN },
        Package { name: "web-server", description: "one of very many things that can be said here", ..PLAIN },
        Package { name: "server-web", tags: &["web-server"], ..PLAIN },
    ]
    .into_iter()
    .chain(noise())
    .collect();
    let conn = index(&packages);
    for query in ["web-server", "Web-Server", " web_server ", "web server"] {
        assert_eq!(names(&conn, &text(query))[0], "web-server", "{query}");
    }
}

#[test]
fn the_last_word_is_a_prefix_of_the_name_and_other_words_are_whole() {
    let conn = index(&[
        Package { name: "http-client", description: "requests", ..PLAIN },
        Package { name: "other", description: "clients", ..PLAIN },
    ]);
    assert_eq!(names(&conn, &text("cli")), ["http-client"]);
    assert_eq!(names(&conn, &text("http cli")), ["http-client"]);
    assert_eq!(names(&conn, &text("cli http")), Vec::<String>::new());
    assert_eq!(names(&conn, &text("client http")), ["http-client"]);
    assert_eq!(names(&conn, &text("reque")), Vec::<String>::new());
}

#[test]
fn all_words_must_match_in_whatever_column() {
    let conn = index(&[
        Package { name: "a", description: "fast storage", tags: &["cloud"], ..PLAIN },
        Package { name: "b", description: "fast", ..PLAIN },
    ]);
    assert_eq!(names(&conn, &text("fast cloud")), ["a"]);
    assert_eq!(names(&conn, &text("fast")).len(), 2);
    assert_eq!(names(&conn, &text("fast cloud missing")), Vec::<String>::new());
}

#[test]
fn accents_and_case_do_not_matter() {
    let conn = index(&[Package { name: "a", description: "Étude für Größe", ..PLAIN }]);
    for query in ["etude", "ÉTUDE", "e\u{301}tude", "fur", "FÜR"] {
        assert_eq!(names(&conn, &text(query)), ["a"], "{query}");
    }
}

#[test]
fn user_text_is_never_syntax() {
    let conn = index(&[
        Package { name: "a", description: "plain OR text near here", ..PLAIN },
        Package { name: "b", description: "plain", ..PLAIN },
    ]);
    for query in [
        "\"",
        "\"\"",
        "'",
        "*",
        "a*\"",
        "(",
        ")",
        "()",
        "AND",
        "OR",
        "NOT",
        "NEAR",
        "NEAR(plain text, 5)",
        "name:",
        "name : plain",
        "{name tags}: plain",
        "-name: plain",
        "^plain",
        "plain AND",
        "plain OR",
        "NOT plain",
        "plain + text",
        "\\",
        "\0",
        "plain\0text",
        "; DROP TABLE catalog_heads; --",
        "%s",
        "🦀",
        "\u{202e}abc",
        "Ⓐ",
        "\u{93f}",
        "?1",
        ":x",
        "@x",
        "$x",
        "plain\u{0}\" OR name:*",
    ] {
        let found = search(&conn, &text(query));
        assert!(found.is_ok(), "{query:?}: {found:?}");
    }
    assert_eq!(names(&conn, &text("plain OR text")), ["a"], "OR is a word like any other");
    assert_eq!(names(&conn, &text("plain NOT text")), Vec::<String>::new());
    assert_eq!(names(&conn, &text("NEAR(plain)")), ["a"]);
    assert_eq!(search(&conn, &text(&"x".repeat(100_000))).unwrap_err().code(), Code::Usage);
    let words: Vec<_> = (0..32).map(|n| format!("w{n}")).collect();
    assert_eq!(names(&conn, &text(&words.join(" "))), Vec::<String>::new());
}

#[test]
fn blank_text_lists_by_recency_and_text_without_words_finds_nothing() {
    let mut conn = database();
    for (n, name) in ["b", "a", "d", "c"].into_iter().enumerate() {
        let publisher = publisher(1);
        let released_at = later([0, 5, 5, 9][n]);
        let head = Head { released_at, ..blank(&publisher, name) };
        put(&mut conn, &head.sign(&publisher).unwrap(), later(9));
    }
    for blank in ["", "  \t"] {
        assert_eq!(names(&conn, &text(blank)), ["c", "a", "d", "b"]);
    }
    for wordless in ["--", "\"\"", "***", "🦀"] {
        assert_eq!(search(&conn, &text(wordless)).unwrap(), Found::default(), "{wordless}");
    }
}

#[test]
fn categories_are_alternatives_and_tags_add_up_without_regard_to_case() {
    let conn = index(&[
        Package { name: "a", tags: &["Security", "oauth"], categories: &["Middleware"], ..PLAIN },
        Package { name: "b", tags: &["security"], categories: &["tools"], ..PLAIN },
        Package { name: "c", tags: &["security-extra"], categories: &["middleware-extra"], ..PLAIN },
    ]);
    let by = |categories: &[&str], tags: &[&str], any_tag| {
        let query = Query { categories: owned(categories), tags: owned(tags), any_tag, ..Query::default() };
        let mut names = names(&conn, &query);
        names.sort();
        names.join("")
    };
    assert_eq!(by(&["middleware"], &[], false), "a", "exact, not a part");
    assert_eq!(by(&["MIDDLEWARE", "Tools"], &[], false), "ab");
    assert_eq!(by(&[], &["SECURITY"], false), "ab");
    assert_eq!(by(&[], &["security", "oauth"], false), "a");
    assert_eq!(by(&[], &["oauth", "security-extra"], true), "ac");
    assert_eq!(by(&["tools"], &["oauth"], false), "");
    assert_eq!(by(&["x' OR 1=1 --"], &[], false), "");
    let many = Query { tags: vec![String::new(); QUERY_LABELS_MAX + 1], ..Query::default() };
    assert_eq!(search(&conn, &many).unwrap_err().code(), Code::Usage);
}

#[test]
fn pages_are_stable_the_total_is_whole_and_a_larger_limit_is_a_superset() {
    let names_of: Vec<_> = (0..60).map(|n| format!("web-{n}")).collect();
    let packages: Vec<_> =
        names_of.iter().map(|name| Package { name, description: "same words", ..PLAIN }).collect();
    let conn = index(&packages);
    for words in ["web", ""] {
        let page = |limit, offset| search(&conn, &Query { limit, offset, ..text(words) }).unwrap();
        let (small, large) = (page(20, 0), page(50, 0));
        assert_eq!((small.total, large.total, large.hits.len()), (60, 60, 50));
        assert_eq!(small.hits, large.hits[..20]);
        assert_eq!(page(30, 20).hits, large.hits[20..]);
        assert_eq!((page(20, 60).hits.len(), page(20, usize::MAX).total), (0, 60));
        assert_eq!((page(0, 0).hits.len(), page(0, 0).total), (0, 60));
        assert_eq!(page(usize::MAX, 0).hits.len(), 60);
        assert!(page(60, 0).hits.is_sorted_by(|a, b| a.id.to_string() < b.id.to_string()), "ties go by id");
    }
}

#[test]
fn a_damaged_row_hides_itself_only() {
    let conn = index(&[Package { name: "web-a", ..PLAIN }, Package { name: "web-b", ..PLAIN }]);
    conn.execute("UPDATE catalog_heads SET bytes = x'00' WHERE name = ?1", params!["web-a"]).unwrap();
    assert_eq!(names(&conn, &text("web")), ["web-b"]);
}

/// Heads with overlapping words, some of them of the same text under several publishers.
fn crowd() -> Vec<VerifiedHead> {
    let words = ["web", "server", "database", "cloud", "fast", "auth", "secure", "kit"];
    let mut generator = ChaCha8Rng::seed_from_u64(3);
    let mut pick = move || words[generator.random_range(0..words.len())];
    let mut heads = Vec::new();
    for n in 0..40u8 {
        let name = format!("{}-{}", pick(), pick());
        let description = format!("{} {} and {}", pick(), pick(), pick());
        let (tag, category) = (pick(), pick());
        for publisher in [n % 3, n % 3 + 3] {
            let package = Package {
                publisher,
                name: &name,
                description: &description,
                tags: &[tag],
                categories: &[category],
            };
            heads.push(package.head());
        }
    }
    heads
}

#[test]
fn results_depend_on_what_is_there_and_not_on_how_it_came() {
    let heads = crowd();
    let queries: Vec<_> =
        ["web", "server data", "fast auth", "secure", "", "k", "web server"].map(text).into();
    let answers = |conn: &Connection| -> Vec<Vec<String>> {
        let ids = |query: &Query| {
            let found = search(conn, &Query { limit: 1000, ..query.clone() }).unwrap();
            assert_eq!(found.total, found.hits.len());
            found.hits.into_iter().map(|hit| hit.id.to_string()).collect()
        };
        queries.iter().map(ids).collect()
    };
    let mut reference = None;
    for seed in 0..12 {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<_> = heads.iter().collect();
        for at in (1..order.len()).rev() {
            order.swap(at, generator.random_range(0..=at));
        }
        let mut conn = database();
        // A past of other heads that are gone by now must leave no trace either.
        for n in 0..seed {
            let publisher = publisher(9);
            let gone = Head {
                description: "web server database ".repeat(usize::try_from(n % 5).unwrap()),
                ..blank(&publisher, &format!("web-gone-{n}"))
            };
            put(&mut conn, &gone.sign(&publisher).unwrap(), NOW);
        }
        evict(&mut conn, |head| head.name.as_str().starts_with("web-gone-"));
        for head in order {
            put(&mut conn, head, later(3));
        }
        let found = answers(&conn);
        assert!(found.iter().all(|ids| !ids.is_empty()));
        assert_eq!(*reference.get_or_insert_with(|| found.clone()), found, "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_query_fails_or_finds_twice(text in ".{0,80}", tags in proptest::collection::vec(".{0,8}", 0..3)) {
        let conn = index(&[PLAIN, Package { name: "web", description: "any", ..PLAIN }]);
        let found = search(&conn, &Query { text, tags, ..Query::default() }).unwrap();
        prop_assert!(found.hits.len() <= 2);
        prop_assert_eq!(found.hits.len(), found.total);
    }
}
