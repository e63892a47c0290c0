//! The documents do what they say: every command that a guide shows is run as it stands there, by a real shell and the real program.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{
    tree,
    world::{Answer, Guard, Home, LOOPBACK, Node, closed_port, ggen, run, text},
};

/// A document of the repository.
pub(crate) struct Guide(String);

impl Guide {
    /// Reads one, by its path from the root of the repository.
    pub(crate) fn read(path: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        Self(fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    }

    /// The blocks of a language in a text, in order.
    fn fenced(text: &str, language: &str) -> Vec<String> {
        let fence = format!("```{language}\n");
        let rest = text.split(&fence).skip(1);
        rest.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    }

    /// The section below a heading.
    fn section(&self, heading: &str) -> &str {
        let mut sections = self.0.split("\n## ");
        let found = sections.find(|section| section.lines().next().is_some_and(|line| line == heading));
        found.unwrap_or_else(|| panic!("no heading {heading:?}"))
    }

    /// The shell commands below a heading, one text for each block.
    pub(crate) fn blocks(&self, heading: &str) -> Vec<String> {
        Self::fenced(self.section(heading), "bash")
    }

    /// The first block of another language below a heading.
    fn file(&self, heading: &str, language: &str) -> String {
        Self::fenced(self.section(heading), language).remove(0)
    }

    /// All shell commands, one for each line.
    pub(crate) fn commands(&self) -> Vec<String> {
        Self::fenced(&self.0, "bash").iter().flat_map(|block| block.lines()).map(str::to_owned).collect()
    }

    /// How many blocks of commands there are, so that a test notices one that it does not run.
    fn count(&self) -> usize {
        Self::fenced(&self.0, "bash").len()
    }
}

/// Runs a block of a guide in the folder of a user; every command must succeed.
#[track_caller]
pub(crate) fn follow(home: &Home, block: &str) -> Answer {
    follow_with(home, home.path("").as_path(), &[], block)
}

/// The same in another folder, and with variables that the guide speaks of.
#[track_caller]
fn follow_with(home: &Home, folder: &Path, variables: &[(&str, &str)], block: &str) -> Answer {
    run(shell(home, folder, variables, block)).exits(0)
}

/// A shell that runs a block of a guide.
fn shell(home: &Home, folder: &Path, variables: &[(&str, &str)], block: &str) -> Command {
    let mut shell = home.program(Path::new("bash"));
    let programs = ggen().parent().unwrap().to_str().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    // The node listens where no other test does; the guide leaves that to the configuration.
    shell.env("PATH", format!("{programs}:{path}")).env("GGEN_P2P_LISTEN", LOOPBACK);
    shell.envs(variables.iter().copied()).current_dir(folder).args(["-euo", "pipefail", "-c", block]);
    shell
}

/// A daemon on a state folder, which is ended with the test.
fn guard(home: &Home, state: &Path) -> Guard {
    let mut status = home.program(ggen());
    status.args(["p2p", "status", "--format", "json", "--home"]).arg(state);
    Guard::new(run(status).exits(0).json()["pid"].as_u64().unwrap().try_into().unwrap())
}

#[test]
fn the_five_minutes_of_the_readme_are_as_it_says() {
    let home = Home::new();
    let blocks = Guide::read("README.md").blocks("Five minutes");
    let [publish, install, stop] = &blocks[..] else { panic!("the README changed: {blocks:#?}") };
    let ports = [closed_port().to_string(), closed_port().to_string()];
    let of_test = |block: &str| block.replace("4101", &ports[0]).replace("4102", &ports[1]);
    assert!(publish.contains("4101") && install.contains("4102"), "the ports are those that are replaced");

    follow(&home, &of_test(publish));
    let alice = guard(&home, &home.path("alice"));
    let found = follow(&home, &of_test(install));
    let bob = guard(&home, &home.path("bob"));
    assert!(found.stdout.contains("Says hello"), "{found:#?}");
    assert_eq!(fs::read_to_string(home.path("hello-from-a-peer/hello.txt")).unwrap(), "Hello!\n");
    follow(&home, &format!("export GGEN_HOME=\"$PWD/bob\"\n{stop}"));
    assert!(!alice.is_alive() && !bob.is_alive());
}

#[test]
fn the_guide_to_publishing_does_what_it_says() {
    let node = Node::start(&[]);
    let guide = Guide::read("docs/publish.md");
    let parts = ["Make a package", "Look before you publish", "Publish", "Take a version back"];
    let blocks: Vec<Vec<String>> = parts.iter().map(|part| guide.blocks(part)).collect();
    assert_eq!(blocks.iter().map(Vec::len).sum::<usize>(), guide.count(), "every block is run");
    follow(&node, &blocks[0][0]);
    let gpack = node.path("web-tools/gpack.toml");
    assert!(fs::read_to_string(&gpack).unwrap().contains("description"), "one was written");
    fs::write(&gpack, guide.file("Make a package", "toml")).unwrap();
    let looked = follow(&node, &blocks[1][0]);
    assert!(looked.stdout.contains("web-tools 1.2.3 would be published"), "{looked:#?}");
    assert_eq!(node.json(&["list"])["packages"], serde_json::json!([]));
    follow(&node, &blocks[2][0]).says("Published web-tools 1.2.3");
    follow(&node, &blocks[2][1]).says("Published web-tools 1.3.0");
    follow(&node, &blocks[3][0]);
    let info = node.json(&["info", "web-tools"]);
    assert_eq!(
        (&info["version"], &info["deprecated"]),
        (&"1.3.0".into(), &serde_json::Value::Null),
        "{info}"
    );
    node.is_well();
}

#[test]
fn the_guide_to_hubs_does_what_it_says() {
    let (hub, spoke) = (Home::new(), Home::new());
    let guide = Guide::read("docs/run-a-hub.md");
    let [start, doctor, service] = &guide.blocks("Start the hub")[..] else { panic!("the guide changed") };
    let join = guide.blocks("Join through the hub");
    let watch = guide.blocks("Watch the hub");
    assert_eq!(3 + join.len() + watch.len(), guide.count(), "every block is run");
    let of_test = start.replace("/ip4/0.0.0.0/tcp/4001", LOOPBACK);
    assert_ne!(&of_test, start);
    let told = follow(&hub, &of_test);
    let first = guard(&hub, hub.state());
    assert!(told.stdout.contains("--role spoke --hub /ip4/127.0.0.1/tcp/"), "{told:#?}");
    follow(&hub, doctor);
    follow(&hub, service);
    assert!(!first.is_alive());
    let _second = guard(&hub, hub.state());
    let status = hub.json(&["status"]);
    assert_eq!(status["role"], "hub", "it was saved: {status}");

    let example = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
    assert!(join[0].contains(example));
    follow(&spoke, &join[0].replace(example, &text(&status["listen_addresses"][0])));
    let _third = guard(&spoke, spoke.state());
    crate::world::eventually("the spoke is connected", Duration::from_secs(20), || {
        (spoke.json(&["peer-list"])["peers"][0]["peer_id"] == status["peer_id"]).then_some(())
    });
    follow(&hub, &watch[0]);
    if run_quietly("curl") {
        follow(&hub, &watch[1]).says("# EOF");
    } else {
        crate::world::skipped("curl is not installed");
    }
}

/// Whether a program can be run.
fn run_quietly(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn the_guide_to_ci_does_what_it_says() {
    let hub = Node::start(&[]);
    let log_tools = hub.path("log-tools");
    tree::small(&log_tools, "log-tools", "1.0.0", "Tools for logs", "license = \"MIT\"");
    hub.json(&["publish", log_tools.to_str().unwrap()]);
    let project = hub.path("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("gpack.toml"), "").unwrap();
    hub.json(&["add", "log-tools", "--project", project.to_str().unwrap()]);

    let guide = Guide::read("docs/ci.md");
    let [install, offline] = &guide.blocks("Install what is locked")[..] else { panic!("the guide changed") };
    let [publish, take] = &guide.blocks("Publish from a build server")[..] else {
        panic!("the guide changed")
    };
    assert_eq!(guide.count(), 4, "every block is run");
    let (server, checkout) = (Home::new(), hub.path("checkout"));
    fs::create_dir(&checkout).unwrap();
    for file in ["gpack.toml", "gpack.lock"] {
        fs::copy(project.join(file), checkout.join(file)).unwrap();
    }
    let variables = [("HUB", hub.address.as_str())];
    follow_with(&server, &checkout, &variables, install).says("log-tools");
    assert!(checkout.join("gpacks/log-tools/gpack.toml").exists());
    fs::remove_dir_all(checkout.join("gpacks")).unwrap();
    follow_with(&server, &checkout, &[], offline);
    assert!(checkout.join("gpacks/log-tools/gpack.toml").exists());
    // The statuses that the guide speaks of.
    fs::remove_file(checkout.join("gpack.lock")).unwrap();
    let mut unlocked = server.command(&["install", "--locked"]);
    unlocked.env("GGEN_P2P_LISTEN", LOOPBACK).current_dir(&checkout);
    run(unlocked).exits(9);

    let (builder, key) = (Home::new(), hub.run(&["key", "export"]).exits(0).stdout);
    let here = builder.path("work");
    tree::small(&here, "log-tools", "1.1.0", "Tools for logs", "license = \"MIT\"");
    let publisher = text(&hub.json(&["key", "list"])["keys"][0]["publisher"]);
    let mut taking = shell(&hub, &hub.path(""), &[("PUBLISHER", publisher.as_str())], take).spawn().unwrap();
    let variables = [("HUB", hub.address.as_str()), ("GGEN_PUBLISHER_KEY", key.trim_end())];
    let published = follow_with(&builder, &here, &variables, publish);
    published.says("Published log-tools 1.1.0").says("copies");
    taking.kill().unwrap();
    taking.wait().unwrap();
    assert!(
        hub.path("releases/log-tools/gpack.toml").exists(),
        "the hub took it before the builder was gone"
    );
    let publishers = [&hub.json(&["key", "list"]), &builder.json(&["key", "list"])]
        .map(|keys| text(&keys["keys"][0]["publisher"]));
    assert_eq!(publishers[0], publishers[1], "one publisher on two machines");
    hub.json(&["install", "log-tools@1.0.0", "--to", &hub.text("old")]);
    hub.is_well();
}
