use super::*;
use crate::code::Code;

const GUIDE: &str = include_str!("../fixtures/guide.toml");

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn place(text: &str) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    fs::write(&path, text).unwrap();
    Place { folder, path }
}

impl Place {
    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    /// Nothing that was written aside is left over.
    fn assert_tidy(&self) {
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn setting_a_key_changes_its_value_and_nothing_else() {
    let place = place(GUIDE);
    assert_eq!(set(&place.path, "dht_server_mode", "false").unwrap(), Reload::Restart);
    assert_eq!(place.text(), GUIDE.replace("dht_server_mode = true", "dht_server_mode = false"));
    set(&place.path, "packages_topic", "/x # y").unwrap();
    assert!(
        place.text().ends_with("# Gossipsub topic for package announcements\npackages_topic = \"/x # y\"\n")
    );
    place.assert_tidy();
}

#[test]
fn a_key_that_is_commented_out_is_set_in_its_place() {
    let whole = render(&P2PConfig::for_daemon(""));
    for (name, text, before, after) in [
        (
            "limits.upload_bytes_per_second",
            "2MB",
            "# upload_bytes_per_second =\n",
            "upload_bytes_per_second = 2000000\n",
        ),
        ("limits.store_bytes_max", "2GB", "# store_bytes_max =\n", "store_bytes_max = 2000000000\n"),
    ] {
        assert!(whole.contains(before), "{whole}");
        let place = place(&whole);
        set(&place.path, name, text).unwrap();
        assert_eq!(place.text(), whole.replace(before, after));
    }
    // One in another table is no such place.
    let odd = "packages_topic = \"/x\"\n[limits]\n# query_timeout_secs = 3\n";
    let place = place(odd);
    set(&place.path, "query_timeout_secs", "6").unwrap();
    assert!(place.text().contains("packages_topic = \"/x\"\nquery_timeout_secs = 6\n"), "{}", place.text());
}

#[test]
fn a_comment_behind_the_value_stays() {
    let place = place("query_timeout_secs   =   5   # not too long\n");
    set(&place.path, "query_timeout_secs", "6").unwrap();
    assert_eq!(place.text(), "query_timeout_secs   =   6   # not too long\n");
}

#[test]
fn lists_are_written_one_address_a_line_and_none_is_an_empty_list() {
    let place = place("");
    set(&place.path, "listen_addresses", "/ip4/127.0.0.1/tcp/1, /ip6/::1/tcp/2").unwrap();
    assert_eq!(
        place.text(),
        "listen_addresses = [\n    \"/ip4/127.0.0.1/tcp/1\",\n    \"/ip6/::1/tcp/2\",\n]\n"
    );
    set(&place.path, "listen_addresses", "none").unwrap();
    assert_eq!(place.text(), "listen_addresses = []\n");
}

#[test]
fn a_key_is_set_where_it_stands_or_beside_its_neighbours() {
    let inside = place("[p2p]\npackages_topic = \"/a\"\n");
    set(&inside.path, "packages_topic", "/b").unwrap();
    set(&inside.path, "dht_server_mode", "false").unwrap();
    set(&inside.path, "limits.connections_max", "50").unwrap();
    assert_eq!(
        inside.text(),
        "[p2p]\npackages_topic = \"/b\"\ndht_server_mode = false\n\n[p2p.limits]\nconnections_max = 50\n"
    );
    let flat = place("packages_topic = \"/a\"\n\n[limits] # few\nconnections_max = 9\n");
    set(&flat.path, "dht_server_mode", "false").unwrap();
    set(&flat.path, "limits.store_bytes_max", "1000000000").unwrap();
    set(&flat.path, "log.level", "debug").unwrap();
    assert_eq!(
        flat.text(),
        "packages_topic = \"/a\"\ndht_server_mode = false\n\n[limits] # few\nconnections_max = 9\n\
         store_bytes_max = 1000000000\n\n[log]\nlevel = \"debug\"\n"
    );
    let inline = place("limits = { connections_max = 9 }\nlog.level = 'info'\n");
    set(&inline.path, "limits.connections_max", "50").unwrap();
    set(&inline.path, "log.level", "warn").unwrap();
    assert_eq!(inline.text(), "limits = { connections_max = 50 }\nlog.level = \"warn\"\n");
}

#[test]
fn every_key_can_be_set_and_read_back_from_a_fresh_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/p2p-config.toml");
    for (name, text) in [
        ("listen_addresses", "/ip4/127.0.0.1/tcp/1"),
        ("bootstrap_nodes", "/dnsaddr/bootstrap.libp2p.io"),
        ("dht_server_mode", "false"),
        ("reach", "relay"),
        ("relay_server", "false"),
        ("mdns", "false"),
        ("upnp", "false"),
        ("packages_topic", "/x"),
        ("query_timeout_secs", "5"),
        ("role", "peer"),
        ("topology", "hub-and-spoke"),
        ("topology.hubs", "/ip4/127.0.0.1/tcp/2"),
        ("limits.connections_max", "50"),
        ("peers.connections_low", "5"),
        ("peers.connections_high", "60"),
        ("limits.store_bytes_max", "1000000000"),
        ("limits.upload_bytes_per_second", "100000"),
        ("limits.download_bytes_per_second", "200000"),
        ("limits.schedule", "mon-fri 08:00-18:00 up=1MB/s down=4MB/s,22:00-06:00 up=none"),
        ("peers.min_reputation", "0.5"),
        ("publish.confirm_days", "7"),
        ("publish.trust_clock", "true"),
        ("install.max_age", "14"),
        ("log.level", "trace"),
    ] {
        if name == "topology.hubs" {
            // A mesh has none.
            set(&path, "topology", "hub-and-spoke").unwrap();
        }
        set(&path, name, text).unwrap();
        let document = document::read(&path, Unknown::Refuse).unwrap();
        assert_eq!(Key::named(name).unwrap().of(&document.values).unwrap().to_string(), text);
        unset(&path, name).unwrap();
        let document = document::read(&path, Unknown::Refuse).unwrap();
        assert_eq!(Key::named(name).unwrap().of(&document.values), None);
    }
    assert_eq!(KEYS.len(), 24, "a new key wants a row above");
}

#[test]
fn what_is_unset_leaves_the_comments_around_it() {
    let place = place(
        "# Mine.\n# Of the office.\nlisten_addresses = []\n# Which.\nrole = \"peer\"\n\n[log]\n# Loud.\nlevel = \"info\"\n",
    );
    unset(&place.path, "listen_addresses").unwrap();
    let rest = "# Mine.\n# Of the office.\n# listen_addresses =\n# Which.\nrole = \"peer\"\n\n[log]\n# Loud.\nlevel = \"info\"\n";
    assert_eq!(place.text(), rest);
    fs::write(&place.path, "log.level = \"info\"\n# Which.\nrole = \"peer\"\n").unwrap();
    unset(&place.path, "role").unwrap();
    assert_eq!(place.text(), "log.level = \"info\"\n# Which.\n# role =\n");
    unset(&place.path, "log.level").unwrap();
    assert_eq!(place.text(), "# Which.\n# role =\n");
    fs::write(&place.path, "dht_server_mode = false\n# Which.\nrole = \"peer\"\n").unwrap();
    unset(&place.path, "role").unwrap();
    assert_eq!(place.text(), "dht_server_mode = false\n# Which.\n# role =\n");
    let inline = "limits = { connections_max = 9, store_bytes_max = 100000000 } # Both.\n# Loud.\n[log] # here\nlevel = \"info\" # very\n";
    fs::write(&place.path, inline).unwrap();
    unset(&place.path, "limits.connections_max").unwrap();
    unset(&place.path, "log.level").unwrap();
    let left = place.text();
    assert!(left.ends_with(" } # Both.\n# Loud.\n[log] # here\n"), "{left}");
    assert!(left.contains("store_bytes_max = 100000000") && !left.contains("connections_max"), "{left}");
}

#[test]
fn a_key_that_is_set_and_unset_leaves_the_file_of_the_first_start_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p2p-config.toml");
    write_default(&path, &P2PConfig::for_daemon(folder.path())).unwrap();
    let text = || fs::read_to_string(&path).unwrap();
    let comments = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("# ") && !line.contains(" ="));
        lines.map(ToOwned::to_owned).collect()
    };
    let before = text();
    for key in KEYS {
        let _none_where_others_forbid_it = unset(&path, key.name);
        assert_eq!(comments(&text()), comments(&before), "{}", key.name);
    }
    fs::write(&path, &before).unwrap();
    for (key, value) in [("install.max_age", "14"), ("limits.store_bytes_max", "100000000")] {
        set(&path, key, value).unwrap();
        assert_ne!(text(), before);
        unset(&path, key).unwrap();
        assert_eq!(text(), before, "{key}");
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let place = place(GUIDE);
    let refused = |name: &str, text: &str| {
        let error = set(&place.path, name, text).unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        error.to_string()
    };
    assert_eq!(
        refused("dht_server", "true"),
        "'dht_server' is not a configuration key, did you mean dht_server_mode?"
    );
    assert_eq!(
        refused("listen_addresses", "/ip4/127.0.0.1/tcp/1,/ip4/1.1.1/tcp/1"),
        "the value of listen_addresses is not valid: [1] '/ip4/1.1.1/tcp/1': '1.1.1' is not an IPv4 address"
    );
    assert_eq!(place.text(), GUIDE);
    fs::write(&place.path, "packages_topic = 3\n").unwrap();
    assert_eq!(set(&place.path, "dht_server_mode", "true").unwrap_err().code(), Code::Config);
    assert_eq!(place.text(), "packages_topic = 3\n");
    // The bad value itself can be set right.
    set(&place.path, "packages_topic", "/x").unwrap();
    assert_eq!(place.text(), "packages_topic = \"/x\"\n");
    fs::write(&place.path, "packages_topic = \n").unwrap();
    assert!(matches!(set(&place.path, "packages_topic", "/x"), Err(Error::Invalid { .. })));
    fs::write(&place.path, "limits = 3\n").unwrap();
    assert!(refused("limits.connections_max", "9").contains("'limits' in the file is not a table"));
    place.assert_tidy();
}

#[test]
fn an_edit_in_between_is_noticed() {
    let place = place("packages_topic = \"/theirs\"\n");
    let error = replace(&place.path, Some("packages_topic = \"/seen\"\n"), "packages_topic = \"/mine\"\n")
        .unwrap_err();
    assert!(matches!(error, Error::Changed { .. }));
    assert!(error.code().retryable());
    assert!(matches!(replace(&place.path, None, "").unwrap_err(), Error::Changed { .. }));
    assert_eq!(place.text(), "packages_topic = \"/theirs\"\n");
    place.assert_tidy();
}

#[cfg(unix)]
#[test]
fn mode_and_symbolic_link_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let place = place(GUIDE);
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o640)).unwrap();
    let link = place.folder.path().join("link.toml");
    std::os::unix::fs::symlink(FILE_NAME, &link).unwrap();
    set(&link, "dht_server_mode", "false").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(place.text().contains("dht_server_mode = false"));
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn the_first_start_writes_every_value_with_its_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let config = P2PConfig { min_reputation: 0.25, ..P2PConfig::for_daemon(folder.path().join("state")) };
    let path = config.file_path();
    assert!(write_default(&path, &config).unwrap());
    let file = document::read(&path, Unknown::Refuse).unwrap();
    let layers = Layers {
        flags: Partial::default(),
        env: Partial::default(),
        file: Some(file),
        defaults: P2PConfig { state_dir: config.state_dir.clone(), ..P2PConfig::with_state_dir("") },
    };
    assert_eq!(layers.resolve().unwrap().config, config);
    let text = fs::read_to_string(&path).unwrap();
    for key in KEYS {
        assert!(text.contains(key.doc), "{} is not explained", key.name);
    }
    fs::write(&path, "# mine\n").unwrap();
    assert!(!write_default(&path, &config).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n");
    assert_eq!(fs::read_dir(&config.state_dir).unwrap().count(), 1);
}

#[test]
fn the_written_file_reads_well() {
    insta::assert_snapshot!(render(&P2PConfig::for_daemon("/n1")), @r#"
    # Configuration of this node: p2p-config.toml
    # Flags win over environment variables, those over this file.
    # `ggen marketplace p2p config show --origin` lists what a start would use, and where it comes from.

    # Addresses to listen on: /tcp/<port> over TCP, /udp/<port>/quic-v1 over QUIC. Port 0 takes any free port; an empty list makes a node that only dials. Needs a restart.
    listen_addresses = [
        "/ip4/0.0.0.0/tcp/4001",
        "/ip6/::/tcp/4001",
        "/ip4/0.0.0.0/udp/4001/quic-v1",
        "/ip6/::/udp/4001/quic-v1",
    ]

    # Peers to join the network through, best with /p2p/<peer id> at the end. Needs a restart.
    bootstrap_nodes = []

    # Whether this node answers DHT queries of others; false for a spoke and an ephemeral node. Needs a restart.
    # dht_server_mode = true

    # How others reach this node: direct at the addresses that it listens on, relay through other nodes alone, or auto. Needs a restart.
    reach = "auto"

    # Whether this node relays for those that nobody can connect to, within limits; false for a spoke and an ephemeral node. Needs a restart.
    # relay_server = true

    # Whether this node finds peers of the local network by mDNS, and is found there; false in hub-and-spoke. A node that listens on loopback alone never does. Needs a restart.
    # mdns = true

    # Whether this node asks its router to map ports to it, by UPnP and NAT-PMP, where a NAT stands before it. A node that listens on loopback alone never does. Needs a restart.
    upnp = true

    # Gossipsub topic of package announcements. Nodes with different topics hear nothing of each other.
    packages_topic = "/ggen/packages/v1"

    # Seconds that a query to the network may take. Needs a restart.
    query_timeout_secs = 30

    # What this node is: peer in a mesh; spoke or hub in hub-and-spoke; permanent or ephemeral in hybrid. Needs a restart.
    # role = "peer"

    [topology]
    # How the network is laid out: mesh, hub-and-spoke or hybrid. Outside of a table, topology = "mesh" says the same. Needs a restart.
    kind = "mesh"

    # Hubs to hold on to, best with /p2p/<peer id> at the end. Needs a restart.
    hubs = []

    [limits]
    # Connections held at once; more are refused. A hub has 8 times as many.
    # connections_max = 200

    # Bytes of blocks kept on disk, at least 16 MiB. No limit where absent.
    # store_bytes_max =

    # Bytes of packages sent in a second, to all peers together, at least 16384. No limit where absent.
    # upload_bytes_per_second =

    # Bytes of packages received in a second, from all peers together, at least 16384. No limit where absent.
    # download_bytes_per_second =

    # Other limits at some times of the week, in local time, such as "mon-fri 08:00-18:00 up=1MB/s down=4MB/s" or "22:00-06:00 up=none". The first span that holds counts.
    schedule = []

    [peers]
    # Connections that are left at least when some are closed. A hub has 8 times as many.
    # connections_low = 24

    # Connections above which those of the least value are closed. A hub has 8 times as many.
    # connections_high = 48

    # Peers with a reputation below this are not fetched from, from 0.0 to 1.0.
    min_reputation = 0.0

    [publish]
    # Days within which the next confirmation of this node's packages is promised. It is made after a third of them; others call the packages overdue when all of them are over.
    confirm_days = 30

    # Whether packages are signed by this machine's clock although peers say that it is wrong. Set it only where the clock is right and the peers are not.
    trust_clock = false

    [install]
    # Days: the newest version of a package is installed only where its publisher confirmed it within them. No limit where absent; a version that is named is always installed.
    # max_age =

    [log]
    # Least severe messages that are logged: off, error, warn, info, debug or trace.
    level = "info"
    "#);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let place = place("");
    let path = place.path.join("below/a/file.toml");
    let error = write_default(&path, &P2PConfig::for_daemon("/n1")).unwrap_err();
    assert!(matches!(error, Error::Write { .. }));
    assert_eq!(error.code(), Code::Io);
}

#[test]
fn the_topology_is_set_as_a_word_and_in_a_table() {
    let place = place("topology = \"mesh\" # all\n\n[log]\nlevel = \"info\"\n");
    set(&place.path, "topology", "hub-and-spoke").unwrap();
    assert_eq!(place.text(), "topology = \"hub-and-spoke\" # all\n\n[log]\nlevel = \"info\"\n");
    set(&place.path, "topology.hubs", "/ip4/10.0.0.1/tcp/1").unwrap();
    let hubs = "[\n    \"/ip4/10.0.0.1/tcp/1\",\n]";
    assert_eq!(
        place.text(),
        format!("topology = {{ kind = \"hub-and-spoke\", hubs = {hubs}}} # all\n\n[log]\nlevel = \"info\"\n")
    );
    unset(&place.path, "topology.hubs").unwrap();
    unset(&place.path, "topology.kind").unwrap();
    assert!(!place.text().contains("kind"), "{}", place.text());
    fs::write(&place.path, "[p2p]\ntopology = 'hybrid'\n").unwrap();
    unset(&place.path, "topology").unwrap();
    assert_eq!(place.text(), "[p2p]\n");
    set(&place.path, "topology", "mesh").unwrap();
    assert_eq!(place.text(), "[p2p]\n\n[p2p.topology]\nkind = \"mesh\"\n");
}

#[test]
fn a_number_of_days_that_is_none_is_refused_with_its_unit() {
    let place = place("");
    let error = set(&place.path, "install.max_age", "7d").unwrap_err().to_string();
    assert!(error.contains("'7d' is not a whole number from 1 to 3650 (days)"), "{error}");
}

#[test]
fn a_check_holds_values_against_each_other() {
    let place = place("role = \"spoke\"\n");
    let error = check(&place.path, Unknown::Warn).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "p2p-config.toml:1: role: spoke is no role of the topology mesh, expected peer; spoke is one of hub-and-spoke"
        ),
        "{error}"
    );
    set(&place.path, "topology", "hub-and-spoke").unwrap();
    // What a start warns of.
    let warnings = check(&place.path, Unknown::Warn).unwrap();
    assert!(matches!(warnings.as_slice(), [it] if it.what.contains("hubs of earlier days")), "{warnings:?}");
    fs::write(&place.path, "bootstrap_nodes = ['/ip4/127.0.0.1/tcp/4001']\n").unwrap();
    let warnings = check(&place.path, Unknown::Warn).unwrap();
    assert!(matches!(warnings.as_slice(), [it] if it.to_string().contains("names no peer")), "{warnings:?}");
}

#[test]
fn a_change_that_does_not_go_with_the_rest_leaves_the_file_and_says_what_to_do_first() {
    let hub_set = "topology = 'hub-and-spoke'\nrole = 'hub'\n";
    let ggen = |commands: &[&str]| {
        let quoted: Vec<String> =
            commands.iter().map(|it| format!("`ggen marketplace p2p config {it}`")).collect();
        quoted.join(", then ")
    };
    for (text, key, value, first) in [
        ("# mine\n", "role", "hub", &["set topology hub-and-spoke"][..]),
        ("role = 'peer'\n", "role", "hub", &["unset role", "set topology hub-and-spoke"]),
        (hub_set, "topology.kind", "hybrid", &["unset role"]),
        ("topology = 'mesh'\n", "topology.hubs", "/ip4/10.0.0.1/tcp/1", &["set topology hub-and-spoke"]),
        ("topology = 'hub-and-spoke'\n", "dht_server_mode", "true", &["set role hub"]),
        ("", "peers.connections_low", "100", &["set peers.connections_high <a larger number>"]),
        ("", "peers.connections_high", "9", &["set peers.connections_low <a smaller number>"]),
    ] {
        let place = place(text);
        let error = set(&place.path, key, value).unwrap_err();
        assert_eq!(place.text(), text, "{key}: {error}");
        assert_eq!(error.code(), Code::Config);
        assert!(error.hint().contains(&ggen(first)), "{key}: {}", error.hint());
        // What the hint says works.
        for command in first.iter().filter(|it| !it.contains('<')) {
            match *command.split(' ').collect::<Vec<_>>() {
                ["set", key, value] => set(&place.path, key, value).map(drop).unwrap(),
                ["unset", key] => unset(&place.path, key).map(drop).unwrap(),
                _ => panic!("{command}"),
            }
            check(&place.path, Unknown::Warn).unwrap();
        }
        if !first[0].contains('<') {
            set(&place.path, key, value).unwrap();
        }
    }
    let place = place(hub_set);
    assert!(matches!(unset(&place.path, "topology"), Err(Error::Conflict { .. })));
    assert_eq!(place.text(), hub_set);
    let both = [("topology", "hybrid".to_owned()), ("role", "ephemeral".to_owned())];
    set_all(&place.path, &both).unwrap();
    assert_eq!(place.text(), "topology = 'hybrid'\nrole = 'ephemeral'\n".replace('\'', "\""));
}
