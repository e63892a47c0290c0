use std::fs;

use proptest::prelude::*;

use super::*;
use crate::code::Code;

/// The file of the guide, byte for byte.
const GUIDE: &str = include_str!("../fixtures/guide.toml");

fn warn(text: &str) -> Result<Document, Error> {
    parse(Path::new("c.toml"), text, Unknown::Warn)
}

fn problems(text: &str) -> Vec<String> {
    match warn(text) {
        Err(Error::Invalid { problems }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn the_file_of_the_guide_parses_as_it_stands() {
    let document = warn(GUIDE).unwrap();
    assert!(document.warnings.is_empty());
    let shown = |list: Option<Vec<libp2p::Multiaddr>>| -> Vec<String> {
        list.unwrap().iter().map(ToString::to_string).collect()
    };
    let values = document.values;
    assert_eq!(shown(values.listen_addresses), ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"]);
    assert_eq!(
        shown(values.bootstrap_nodes),
        [
            "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
            "/dnsaddr/bootstrap.libp2p.io"
        ]
    );
    assert_eq!(values.dht_server_mode, Some(true));
    assert_eq!(values.packages_topic.as_deref(), Some("/ggen/packages/v1"));
    assert_eq!(values.query_timeout_secs, None);
}

#[test]
fn the_same_keys_in_a_p2p_table_mean_the_same() {
    let table = warn(&format!("[p2p]\n{GUIDE}")).unwrap();
    assert_eq!(table.values, warn(GUIDE).unwrap().values);
    assert!(table.warnings.is_empty());
    let nested = warn("[p2p.limits]\nconnections_max = 9\n[p2p]\nlog.level = 'warn'").unwrap();
    assert_eq!(nested.values.connections_max, Some(9));
    assert_eq!(nested.values.log_level, Some(crate::config::LogLevel::Warn));
}

#[test]
fn a_key_at_both_places_is_refused_with_both_lines() {
    let text = "packages_topic = '/a'\n\n[p2p]\npackages_topic = '/a'\n[limits]\nconnections_max = 9\n\
        [p2p.limits]\nconnections_max = 9";
    assert_eq!(
        problems(text),
        [
            "c.toml:4: packages_topic: it stands twice: in [p2p] on line 4 and at the top level on line 1; remove one of them",
            "c.toml:8: limits.connections_max: it stands twice: at the top level on line 6 and in [p2p] on line 8; remove one of them",
        ]
    );
}

#[test]
fn a_key_that_stands_twice_in_one_table_is_refused_with_both_lines() {
    assert_eq!(
        problems("packages_topic = '/a'\ndht_server_mode = true\npackages_topic = '/b'\n"),
        ["c.toml:3: packages_topic: it stands twice, first on line 1; remove one of them"]
    );
    assert_eq!(
        problems("[p2p]\npackages_topic = '/a'\npackages_topic = '/b'\n"),
        ["c.toml:3: packages_topic: it stands twice, first on line 2; remove one of them"]
    );
}

#[test]
fn every_problem_is_listed_at_once_with_its_line() {
    let text = "listen_addresses = [\n  '/ip4/0.0.0.0/tcp/1',\n  '/ip4/0.0.0.0/tcp/2',\n  '/ip4/0.0.0.0/tcp/3',\n  \
        '/ip4/999.1.1.1/tcp/4',\n  7,\n]\nbootstrap_nodes = '/ip4/10.0.0.1/tcp/1'\ndht_server_mode = 'yes'\n\
        query_timeout_secs = -1\nlimits = 4\n[peers]\nmin_reputation = 1.5\n[log]\nlevel = 'loud'\n";
    assert_eq!(
        problems(text),
        [
            "c.toml:5: listen_addresses[3]: '/ip4/999.1.1.1/tcp/4': '999.1.1.1' is not an IPv4 address",
            "c.toml:6: listen_addresses[4]: '7' is a whole number, expected an address in quotes",
            "c.toml:8: bootstrap_nodes: '/ip4/10.0.0.1/tcp/1' is a string, expected a list of addresses",
            "c.toml:9: dht_server_mode: 'yes' is a string, expected true or false",
            "c.toml:10: query_timeout_secs: '-1' is out of range, expected a whole number from 1 to 3600",
            "c.toml:11: limits: it is a whole number, expected a table",
            "c.toml:13: peers.min_reputation: 1.5 is out of range, expected a number from 0.0 to 1.0",
            "c.toml:15: log.level: 'loud' is not a log level, expected off, error, warn, info, debug or trace",
        ]
    );
}

#[test]
fn broken_syntax_is_listed_beside_wrong_values_and_blamed_once() {
    let found = problems("packages_topic = \ndht_server_mode = 3\nquery_timeout_secs = = 4\n");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("c.toml:1: "), "{found:#?}");
    assert!(found[1].starts_with("c.toml:2: dht_server_mode: "), "{found:#?}");
    assert!(found[2].starts_with("c.toml:3: "), "{found:#?}");
}

#[test]
fn unknown_keys_are_warned_of_with_their_neighbour_or_refused() {
    let text = "listen_adresses = []\n[limits]\nconections_max = 9\n[colours]\nblue = 1\n\"limits.connections_max\" = 3\n";
    let warnings: Vec<String> = warn(text).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "c.toml:1: listen_adresses: unknown key, it has no effect, did you mean listen_addresses?",
            "c.toml:3: limits.conections_max: unknown key, it has no effect, did you mean limits.connections_max?",
            "c.toml:4: colours: unknown key, it has no effect",
        ]
    );
    let Error::Invalid { problems } = parse(Path::new("c.toml"), text, Unknown::Refuse).unwrap_err() else {
        panic!("invalid")
    };
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), warnings);
    let quoted = warn("\"limits.connections_max\" = 3\n").unwrap();
    assert_eq!((quoted.warnings.len(), quoted.values), (1, Partial::default()));
}

#[test]
fn an_empty_list_is_not_the_same_as_no_list() {
    assert_eq!(warn("listen_addresses = []").unwrap().values.listen_addresses, Some(Vec::new()));
    assert_eq!(warn("").unwrap().values.listen_addresses, None);
}

#[test]
fn a_whole_number_is_a_reputation_and_other_notations_are_numbers() {
    assert_eq!(warn("peers.min_reputation = 1").unwrap().values.min_reputation, Some(1.0));
    assert_eq!(warn("limits.connections_max = 0x1_0").unwrap().values.connections_max, Some(16));
    assert!(warn("peers.min_reputation = nan").is_err());
    assert_eq!(warn("peers.min_reputation = 0x1").unwrap().values.min_reputation, Some(1.0));
    assert!(warn("peers.min_reputation = 2").is_err());
    assert!(warn("query_timeout_secs = 99999999999999999999").is_err());
}

#[test]
fn nesting_is_bounded_before_the_text_is_parsed() {
    let deep = |count: usize| format!("x = {}{}", "[".repeat(count), "]".repeat(count));
    assert!(warn(&deep(TOML_DEPTH_MAX)).is_ok());
    for text in [
        deep(TOML_DEPTH_MAX + 1),
        deep(100_000),
        format!("a{} = 1", ".a".repeat(TOML_DEPTH_MAX + 1)),
        format!("[a{}]", ".a".repeat(TOML_DEPTH_MAX + 1)),
        "{a.b.c = ".repeat(50_000),
    ] {
        let found = problems(&text);
        assert_eq!(found, ["c.toml:1: tables and lists are nested more than 32 deep"]);
    }
    // Dots and brackets in strings and comments nest nothing.
    let flat = format!("packages_topic = '{}'\n# {}\n", "/[".repeat(40), "[".repeat(40));
    assert!(warn(&flat).is_ok());
    let long = format!("x = \"\"\"{}\"\n\"\"\"\ny = \"\\\"{}\"", "[".repeat(40), "[".repeat(40));
    assert!(warn(&long).is_ok());
}

#[test]
fn a_file_of_garbage_gives_a_bounded_list() {
    let found = problems(&"=\n".repeat(5_000));
    assert_eq!(found.len(), CONFIG_PROBLEMS_MAX + 1);
    assert!(found[CONFIG_PROBLEMS_MAX].starts_with("and "), "{}", found[CONFIG_PROBLEMS_MAX]);
}

#[test]
fn files_that_cannot_be_a_configuration_are_refused_by_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let fails = |path: &Path| {
        let error = read(path, Unknown::Warn).unwrap_err();
        assert_eq!(error.code(), Code::Config);
        error
    };
    assert!(matches!(fails(&path), Error::Missing { .. }));
    assert_eq!(read_if_present(&path, Unknown::Warn).unwrap(), None);
    assert!(matches!(fails(folder.path()), Error::NotAFile { what: "a directory", .. }));
    fs::write(&path, vec![b'#'; CONFIG_BYTES_MAX + 1]).unwrap();
    assert!(matches!(fails(&path), Error::TooLarge { .. }));
    fs::write(&path, vec![b'#'; CONFIG_BYTES_MAX]).unwrap();
    assert_eq!(read(&path, Unknown::Warn).unwrap().values, Partial::default());
    fs::write(&path, b"# a\n# b\npackages_topic = '\xff'\n").unwrap();
    assert_eq!(fails(&path).to_string(), format!("{}:3: the text is not UTF-8", path.display()));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_instead_of_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(matches!(read(&path, Unknown::Warn), Err(Error::NotAFile { what: "a pipe", .. })));
}

proptest! {
    #[test]
    fn no_text_panics(text in "([a-z_0-9.=\\[\\]{}\"'#,\\\\ \n]|listen_addresses|p2p|limits|\"\"\"|'''|é){0,80}") {
        let _ = warn(&text);
        let _ = parse(Path::new("c.toml"), &text, Unknown::Refuse);
    }

    #[test]
    fn cut_or_damaged_files_never_panic(at in 0..GUIDE.len(), byte in 0x20u8..0x7f) {
        let _ = warn(&GUIDE[..at]);
        let mut bytes = GUIDE.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = warn(std::str::from_utf8(&bytes).unwrap());
    }
}

#[test]
fn a_topology_is_a_word_or_a_table() {
    use crate::config::Topology;
    let path = Path::new("c.toml");
    for text in [
        "topology = 'hybrid'",
        "[topology]\nkind = 'hybrid'",
        "topology = { kind = 'hybrid' }",
        "[p2p]\ntopology = 'hybrid'",
    ] {
        let document = parse(path, text, Unknown::Refuse).unwrap();
        assert_eq!(document.values.topology, Some(Topology::Hybrid), "{text}");
    }
    let problem = |text| parse(path, text, Unknown::Refuse).unwrap_err().to_string();
    assert_eq!(
        problem("topology = 'star'"),
        "c.toml:1: topology: 'star' is not a topology, expected mesh, hub-and-spoke or hybrid"
    );
    assert_eq!(
        problem("role = 'boss'"),
        "c.toml:1: role: 'boss' is not a role, expected peer, hub, spoke, permanent or ephemeral"
    );
    assert_eq!(
        problem("topology = 3"),
        "c.toml:1: topology: '3' is a whole number, expected mesh, hub-and-spoke or hybrid"
    );
    assert_eq!(
        problem("[topology]\nhub = []"),
        "c.toml:2: topology.hub: unknown key, it has no effect, did you mean topology.hubs?"
    );
    assert_eq!(
        problem("[topology]\nrole = 'hub'"),
        "c.toml:2: topology.role: unknown key, it has no effect, role stands at the top level, above every table"
    );
    assert!(
        problem("topology = 'mesh'\n[topology]\nhubs = []").contains("write one table: [topology] with kind")
    );
    assert!(problem("topology = 'mesh'\n[p2p.topology]\nkind = 'mesh'").contains("stands twice"));
    let hubs =
        parse(path, "[topology]\nhubs = ['/ip4/10.0.0.1/tcp/1']", Unknown::Refuse).unwrap().values.hubs;
    assert_eq!(hubs.map(|hubs| hubs.len()), Some(1));
}
