//! What a start keeps and says, and the unit file for systemd.

use std::fs;

use crate::world::{Guard, Home, LOOPBACK, text, texts};

#[test]
fn flags_count_for_one_start_unless_they_are_saved_and_a_start_says_what_it_uses() {
    let home = Home::new();
    let start = |arguments: &[&str]| {
        let started = home.json(&[&["start", "--daemon"], arguments].concat());
        let guard = Guard::new(started["pid"].as_u64().unwrap().try_into().unwrap());
        home.run(&["stop"]).exits(0);
        drop(guard);
        started
    };
    let used = |started: &serde_json::Value| -> Vec<(String, String)> {
        let uses = started["uses"].as_array().unwrap().iter();
        uses.map(|used| (text(&used["key"]), text(&used["origin"]))).collect()
    };
    let started = start(&["--listen", LOOPBACK, "--topology", "hybrid"]);
    assert_eq!(text(&started["config"]), home.state().join("p2p-config.toml").to_str().unwrap());
    let flag = "flag, for this time; --save keeps it".to_owned();
    let expected = [("listen_addresses", &flag), ("topology", &flag)];
    assert_eq!(used(&started), expected.map(|(key, origin)| (key.to_owned(), origin.clone())));
    assert_eq!(
        texts(&home.json(&["config", "get", "listen_addresses"])["value"]).len(),
        4,
        "the default, and nothing was kept"
    );
    let saved = start(&["--listen", LOOPBACK, "--save"]);
    assert_eq!(used(&saved), [("listen_addresses".to_owned(), "flag, saved".to_owned())]);
    let again = start(&[]);
    let [(key, origin)] = &used(&again)[..] else { panic!("{again}") };
    assert!(key == "listen_addresses" && origin.contains("p2p-config.toml:"), "{again}");
    assert!(text(&again["listen_addresses"][0]).starts_with("/ip4/127.0.0.1/tcp/"), "{again}");
}

#[test]
fn the_unit_of_systemd_is_written_and_removed_and_nobody_elses() {
    let home = Home::new();
    let unit = home.path("user/.config/systemd/user/ggen.service");
    home.error(4, &["service", "uninstall"]);
    let written = home.json(&["service", "install"]);
    assert_eq!(text(&written["path"]), unit.to_str().unwrap());
    let said = fs::read_to_string(&unit).unwrap();
    assert!(
        said.contains("marketplace p2p start\n") && said.contains(home.state().to_str().unwrap()),
        "{said}"
    );
    let answer =
        home.run(&["service", "install"]).exits(0).says("systemctl --user enable --now ggen.service");
    let runs = std::path::Path::new("/run/systemd/system").exists();
    assert_eq!(answer.stderr.contains("systemd does not run this machine"), !runs, "{answer:#?}");
    assert_eq!(home.json(&["service", "install"])["changed"], false);
    home.json(&["service", "install", "--name", "second"]);
    // As `systemctl --user enable` links it.
    let wanted = unit.with_file_name("default.target.wants").join("ggen.service");
    fs::create_dir(wanted.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&unit, &wanted).unwrap();
    home.run(&["service", "uninstall"]).exits(0).says("systemctl --user stop ggen.service");
    assert!(!unit.exists() && !wanted.is_symlink() && unit.with_file_name("second.service").exists());
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    for verb in ["install", "uninstall"] {
        assert_eq!(home.error(9, &["service", verb])["code"], "E_CONFLICT");
    }
    assert!(fs::read_to_string(&unit).unwrap().contains("/bin/true"));
    home.error(2, &["service", "install", "--name", "../escape"]);
}
