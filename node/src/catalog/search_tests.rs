//! Tests of the search, on a database in memory.

use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rusqlite::params;

use super::*;
use crate::{
    catalog::{fixture::*, insert},
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
fn every_word_may_be_the_beginning_of_one_in_every_field() {
    let conn = index(&[
        Package { name: "http-client", description: "requests", tags: &["network"], ..PLAIN },
        Package { name: "other", description: "clients", categories: &["web-programming"], ..PLAIN },
    ]);
    for both in ["cli", "c"] {
        assert_eq!(
            names(&conn, &text(both)),
            ["http-client", "other"],
            "{both}: a name before a description"
        );
    }
    for first in ["http cli", "cli http", "reque", "netw", "reque htt"] {
        assert_eq!(names(&conn, &text(first)), ["http-client"], "{first}");
    }
    assert_eq!(names(&conn, &text("prog")), ["other"]);
    assert_eq!(names(&conn, &text("ient")), Vec::<String>::new(), "not the end of one");
}

#[test]
fn a_whole_word_comes_before_the_beginning_of_one() {
    let conn = index(&[
        Package { name: "webs", ..PLAIN },
        Package { name: "webassembly", tags: &["web"], ..PLAIN },
        Package { name: "the-web-kit", ..PLAIN },
        Package { name: "x", description: "web", ..PLAIN },
    ]);
    assert_eq!(names(&conn, &text("web")), ["webs", "the-web-kit", "webassembly", "x"]);
    assert_eq!(names(&conn, &text("weba")), ["webassembly"]);
}

#[test]
fn phrases_exclusions_and_filters_are_understood() {
    let conn = index(&[
        Package { name: "a", description: "a fast web server", tags: &["Async", "two words"], ..PLAIN },
        Package { name: "b", description: "a server of the web", tags: &["async"], ..PLAIN },
        Package { name: "c", publisher: 2, description: "web", categories: &["async"], ..PLAIN },
    ]);
    let by = |query: &str| {
        let mut names = names(&conn, &text(query));
        names.sort();
        names.join("")
    };
    let id = publisher(2).id().to_string();
    let short = format!("{}…{}", &id[..9], &id[id.len() - 4..]);
    for (query, expected) in [
        ("\"web server\"", "a"),
        ("web -server", "c"),
        ("web -fast", "bc"),
        ("web not:fast", "bc"),
        ("web -\"web server\"", "bc"),
        ("web tag:ASYNC", "ab"),
        ("tag:async", "ab"),
        ("tag:\"two words\"", "a"),
        ("tag:\"two\"", ""),
        ("-tag:async", "c"),
        ("web -category:async", "ab"),
        ("category:async", "c"),
        ("-server", "c"),
        (&format!("publisher:{id}"), "c"),
        (&format!("web -publisher:{id}"), "ab"),
        (&format!("publisher:{short}"), "c"),
        (&format!("publisher:{}", &id[..12]), "c"),
        ("publisher:gp1nobody", ""),
        ("web publisher:\"\"", ""),
        ("web-server", "ab"),
        // What the index holds for filters is no word.
        ("every", ""),
        ("-every", "abc"),
        (&id, ""),
    ] {
        assert_eq!(by(query), expected, "{query}");
    }
}

#[test]
fn words_are_found_inside_text_without_spaces() {
    let conn = index(&[
        Package { name: "a", description: "高性能数据库连接池", ..PLAIN },
        Package { name: "b", description: "数和据", ..PLAIN },
        Package { name: "c", description: "高速なデータベース", tags: &["検索"], ..PLAIN },
    ]);
    for (query, expected) in [
        ("数据库", "a"),
        ("数据", "a"),
        ("连接 数据", "a"),
        ("据", "ab"),
        ("ベース", "c"),
        ("検索 高速", "c"),
        ("数和据", "b"),
    ] {
        let mut names = names(&conn, &text(query));
        names.sort();
        assert_eq!(names.join(""), expected, "{query}");
    }
}

#[test]
fn singular_and_plural_find_each_other() {
    let conn = index(&[
        Package { name: "a", description: "runs queries over databases", ..PLAIN },
        Package { name: "b", description: "a query builder with an index", ..PLAIN },
    ]);
    for query in ["query", "queries"] {
        assert_eq!(names(&conn, &text(query)).len(), 2, "{query}");
    }
    for (query, expected) in [("database", "a"), ("databases", "a"), ("indices", "b"), ("builders", "b")] {
        assert_eq!(names(&conn, &text(query)), [expected], "{query}");
    }
}

#[test]
fn one_typo_is_corrected_where_nothing_else_is_found() {
    let conn = index(&[
        Package { name: "postgres-pool", description: "connections to a database", ..PLAIN },
        Package { name: "redis", description: "a cache", tags: &["database"], ..PLAIN },
    ]);
    for (query, meant, first) in [
        ("databse", "database", "redis"),
        ("datbaase", "database", "redis"),
        ("postgers pool", "postgres pool", "postgres-pool"),
        ("Databse -cache", "database -cache", "postgres-pool"),
        ("rredis", "redis", "redis"),
        ("conections databaze", "connections database", "postgres-pool"),
    ] {
        let found = search(&conn, &text(query)).unwrap();
        assert_eq!(found.corrected.as_deref(), Some(meant), "{query}");
        assert_eq!(found.hits[0].head.name.as_str(), first, "{query}");
    }
    for nothing in ["dtabsae", "redos pool xyzzy", "cach tag:none", "poo1234"] {
        let found = search(&conn, &text(nothing)).unwrap();
        assert_eq!((found.total, found.corrected), (0, None), "{nothing}");
    }
    assert_eq!(search(&conn, &text("database")).unwrap().corrected, None);
}

#[test]
fn a_rare_word_beside_a_common_one_is_pointed_out_and_nothing_is_replaced() {
    let names_of: Vec<String> = (0..50).map(|n| format!("requests-{n}")).collect();
    let mut packages: Vec<Package<'_>> = names_of.iter().map(|name| Package { name, ..PLAIN }).collect();
    packages.push(Package { name: "requets", publisher: 2, ..PLAIN });
    let conn = index(&packages);
    let found = search(&conn, &text("requets")).unwrap();
    assert_eq!((found.total, found.corrected), (1, None));
    assert_eq!(found.did_you_mean.as_deref(), Some("requests"));
}

#[test]
fn known_publishers_come_first_among_equals_and_ids_decide_nothing() {
    let same: Vec<Package<'_>> = (1..=40)
        .map(|publisher| Package { publisher, name: "web", description: "the same", ..PLAIN })
        .collect();
    let conn = index(&same);
    let known = publisher(23).id();
    for words in ["web", "same", "the same"] {
        let query = Query { limit: 100, known: [known].into(), ..text(words) };
        let found = search(&conn, &query).unwrap();
        assert_eq!(found.hits[0].id.publisher, known, "{words}");
        let order = |words: &str| -> Vec<String> {
            let found = search(&conn, &Query { limit: 100, ..text(words) }).unwrap();
            found.hits.iter().map(|hit| hit.id.to_string()).collect()
        };
        let ids = order(words);
        assert!(!ids.is_sorted(), "{words}");
        assert_ne!(ids, order(&format!("{words} ")), "another query, another order");
    }
}

#[test]
fn what_matches_equally_well_by_the_thousand_is_found_page_by_page_and_once() {
    let publishers = [publisher(1), publisher(2)];
    let mut conn = database();
    within(&mut conn, |tx| {
        for n in 0..SEARCH_SORTED_MAX + 100 {
            let head = at(&publishers[n % 2], &format!("pack-{n}"), 0, 0);
            insert(tx, &head, &source(1), NOW).unwrap();
        }
    });
    for words in ["pack", "-nothing"] {
        let mut seen = std::collections::BTreeSet::new();
        let page = |offset| search(&conn, &Query { limit: 1_000, offset, ..text(words) }).unwrap();
        for offset in [0, 1_000] {
            let found = page(offset);
            assert_eq!(found.total, SEARCH_SORTED_MAX + 100, "{words}");
            for hit in &found.hits {
                assert!(seen.insert(hit.id.to_string()), "{words}: {} twice", hit.id);
            }
        }
        assert_eq!(seen.len(), SEARCH_SORTED_MAX + 100, "{words}");
    }
}

#[test]
fn near_pages_come_in_the_order_of_one_that_holds_all() {
    let (publisher, mut conn) = (publisher(1), database());
    within(&mut conn, |tx| {
        for n in 0..READ_MAX + 60 {
            let (name, description) = match n % 3 {
                0 => (format!("pack-{n}"), ""),
                1 => (format!("packer-{n}"), ""),
                _ => (format!("other-{n}"), "a pack"),
            };
            let head = Head { description: description.to_owned(), ..blank(&publisher, &name) };
            insert(tx, &head.sign(&publisher).unwrap(), &source(1), NOW).unwrap();
        }
    });
    let page = |offset, limit| {
        let found = search(&conn, &Query { limit, offset, ..text("pack") }).unwrap();
        assert_eq!((found.total, found.more), (READ_MAX + 60, false));
        found.hits.into_iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>()
    };
    let all = page(0, 1_000);
    assert_eq!(all.len(), READ_MAX + 60);
    let near: Vec<_> = (0..all.len()).step_by(50).flat_map(|offset| page(offset, 50)).collect();
    assert_eq!(near, all);
}

#[test]
fn matches_are_counted_up_to_a_bound_and_it_is_said_that_there_are_more() {
    let mut conn = database();
    let fill = |conn: &Connection, from: usize, to: usize, word: &str| {
        let rows =
            "WITH RECURSIVE numbers (n) AS (VALUES (?1) UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2)
                    INSERT INTO catalog_text (rowid, name, labels) SELECT n, ?3, 'every' FROM numbers";
        conn.execute(rows, params![from as i64, to as i64, word]).unwrap();
    };
    put(&mut conn, &at(&publisher(1), "pack", 0, 0), NOW);
    // There are words alone, and no heads, of all but one.
    let counted = |conn: &Connection, words: &str, limit| {
        let found = search(conn, &Query { limit, ..text(words) }).unwrap();
        (found.total, found.more, found.hits.len())
    };
    fill(&conn, 2, SEARCH_COUNTED_MAX, "packer");
    assert_eq!(counted(&conn, "pack", 1), (SEARCH_COUNTED_MAX, false, 1));
    fill(&conn, SEARCH_COUNTED_MAX + 1, SEARCH_COUNTED_MAX + 9, "packer");
    assert_eq!(
        counted(&conn, "pack", 1),
        (SEARCH_COUNTED_MAX, true, 1),
        "the one that is named so comes first"
    );
    assert_eq!(counted(&conn, "packer", 0), (SEARCH_COUNTED_MAX, true, 0));
    let far = Query { limit: 0, offset: SEARCH_COUNTED_MAX, ..text("packer") };
    let found = search(&conn, &far).unwrap();
    assert_eq!(
        (found.total, found.more),
        (SEARCH_COUNTED_MAX + 8, false),
        "a page that is far behind needs all"
    );
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
