//! An author who is away for more than a year, by clocks that were put forward.

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    tree,
    world::{Home, LOOPBACK, Node, eventually, ggen, run, skipped, texts},
};

/// How far the clocks are put forward.
const AHEAD: &str = "+400d";
/// Set where this test cannot be had although everything else must be.
const WITHOUT: &str = "GGEN_WITHOUT_FAKETIME";

/// `ggen p2p start` with a clock that is ahead.
fn start_ahead(home: &Home, bootstrap: &[&Node]) -> Command {
    let mut command = home.program(Path::new("faketime"));
    command.args(["-f", AHEAD]).arg(ggen()).args(["p2p", "start", "--listen", LOOPBACK]);
    for other in bootstrap {
        command.args(["--bootstrap", &other.address]);
    }
    // Only the time of day is another one; timers run as ever.
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    command
}

fn warns_of_age(answer: &Value) -> bool {
    texts(&answer["warnings"]).iter().any(|warning| warning.starts_with("not confirmed since"))
}

#[test]
fn a_newcomer_installs_what_an_author_published_who_was_last_seen_a_year_ago_and_is_told_so() {
    if Command::new("faketime").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none() || std::env::var_os(WITHOUT).is_some(),
            "faketime is not installed: apt-get install faketime"
        );
        return skipped("faketime is not installed");
    }
    let mut author = Node::start(&[]);
    tree::rich(&author.path("sailing"), "sailing-weather", "Forecasts for sailors and their harbours", 1);
    let mut holder = Node::start(&[&author]);
    author.knows(&[&holder]);
    let published = author.json(&["publish", &author.text("sailing")]);
    holder.finds("harbours", "sailing-weather", Duration::from_secs(10));
    let installed = holder.json(&["install", "sailing-weather", "--to", &holder.text("here")]);
    assert_eq!((&installed["cid"], &installed["overdue"]), (&published["cid"], &Value::Bool(false)));
    // The author says that it is its newest, and promises to say so again.
    let info = eventually("it is confirmed", Duration::from_secs(60), || {
        let info = holder.json(&["info", "sailing-weather"]);
        info["next_by"].is_string().then_some(info)
    });
    assert!(info["confirmed_at"].is_string() && info["overdue"] == false, "{info}");
    author.stop();
    holder.stop();

    let command = start_ahead(&holder, &[]);
    holder.start_with(command);
    let home = Home::new();
    let command = start_ahead(&home, &[&holder]);
    let newcomer = Node::start_by(home, command);
    newcomer.finds("harbours", "sailing-weather", Duration::from_secs(20));
    let installed = newcomer.json(&["install", "sailing-weather", "--to", &newcomer.text("mine")]);
    assert_eq!(installed["cid"], published["cid"]);
    assert_eq!(installed["overdue"], true, "{installed}");
    assert!(warns_of_age(&installed), "{installed}");
    tree::assert_same(&author.path("sailing"), &newcomer.path("mine"));
    // Its holder has a moment to tell it to others again.
    eventually("somebody is told to know it", Duration::from_secs(60), || {
        let info = newcomer.json(&["info", "sailing-weather"]);
        let said = info["freshness"].as_str().unwrap().to_owned();
        said.contains("newest that 1 peer in 1 network knows").then_some(said)
    });

    // What is named installs without a word, and what is demanded to be fresh not at all.
    let named = newcomer.json(&["install", "sailing-weather@1.0.0", "--to", &newcomer.text("named")]);
    assert!(!warns_of_age(&named), "{named}");
    for fresh in [&["--fresh"][..], &["--fresh", "30d"]] {
        let target = newcomer.text("stale");
        let error = newcomer.error(6, &[&["install", "sailing-weather", "--to", &target], fresh].concat());
        assert_eq!(error["code"], "E_STALE", "{error}");
        assert!(!Path::new(&target).exists());
    }
    let lenient = newcomer.text("lenient");
    newcomer.json(&["install", "sailing-weather", "--to", &lenient, "--fresh", "3650d"]);
    newcomer.json(&["info", "sailing-weather@1.0.0", "--fresh"]);
    newcomer.json(&["install", "sailing-weather@=1.0.0", "--to", &newcomer.text("by-range"), "--fresh"]);
    // A project is told of it when it takes the package, and not again once it is locked.
    let project = newcomer.path("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("gpack.toml"), "# A project\n").unwrap();
    let in_project = |arguments: &[&str]| {
        let mut command = newcomer.command(&[arguments, &["--format", "json"]].concat());
        command.current_dir(&project);
        texts(&run(command).exits(0).json()["warnings"]).iter().any(|it| it.contains("not confirmed since"))
    };
    assert!(in_project(&["add", "sailing-weather"]) && !in_project(&["install"]));
    // What the configuration demands holds there too, but for what is locked or named by its version; and without the network.
    newcomer.run(&["config", "set", "install.max_age", "7"]).exits(0);
    assert!(!in_project(&["install"]));
    std::fs::remove_file(project.join("gpack.lock")).unwrap();
    let anew = |arguments: &[&str]| {
        let mut command = newcomer.command(&[arguments, &["--format", "json"]].concat());
        command.current_dir(&project);
        run(command)
    };
    for arguments in [&["install"][..], &["install", "--offline"], &["add", "sailing-weather"]] {
        let error = anew(arguments).exits(6).json()["error"].clone();
        assert_eq!(error["code"], "E_STALE", "{arguments:?}: {error}");
    }
    let error =
        newcomer.error(6, &["install", "sailing-weather", "--offline", "--to", &newcomer.text("stale")]);
    assert_eq!(error["code"], "E_STALE", "{error}");
    anew(&["add", "sailing-weather@=1.0.0"]).exits(0);
    newcomer.run(&["config", "unset", "install.max_age"]).exits(0);
    newcomer.run(&["install", "sailing-weather", "--to", &newcomer.text("strict"), "--strict"]).exits(10);
    assert!(newcomer.path("strict").exists(), "it is installed all the same");
}
