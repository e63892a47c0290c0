//! What a shell offers where a person presses the tab key, in the shells that are installed.

use std::{fs, path::Path, time::Duration};

use crate::{
    tree,
    world::{Home, Node, eventually, ggen, run, skipped},
};

/// What bash would show, or put in.
fn bash(home: &Home, line: &str) -> Vec<String> {
    shell(home, "bash", &["--norc", "--noprofile", "-c", BASH, "bash", line])
}

/// Calls the completion as bash does; `compopt` is for a real line alone.
const BASH: &str = r#"
set -eu
source ./ggen.completion
compopt() { printf ':files\n'; }
COMP_LINE=$1 COMP_POINT=${#1}
_ggen ggen
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"#;

const FISH: &str = "source ./ggen.completion; complete -C $argv[1]";

const ZSH: &str = r#"
compdef() { :; }
_files() { print -r -- :files }
compadd() { print -rl -- $values }
source ./ggen.completion
words=(${(z)1}) CURRENT=${#words}
if [[ $1 == *' ' ]]; then words+=("") CURRENT=${#words}; fi
_ggen || true
"#;

fn shell(home: &Home, program: &str, arguments: &[&str]) -> Vec<String> {
    let mut shell = home.program(Path::new(program));
    let programs = ggen().parent().unwrap().display().to_string();
    shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()));
    shell.args(arguments);
    let answer = run(shell).exits(0);
    assert_eq!(answer.stderr, "", "{answer:#?}");
    answer.stdout.lines().map(str::to_owned).collect()
}

/// Demands that this is what is offered. On a busy machine the node may not answer in the time that a person waits, and then nothing is.
#[track_caller]
fn offers(call: impl Fn() -> Vec<String>, expected: &[&str]) {
    eventually(&format!("{expected:?} is offered"), Duration::from_secs(30), || {
        (call() == expected).then_some(())
    });
}

fn script(home: &Home, shell: &str) {
    let script = home.run(&["completions", shell]).exits(0).stdout;
    fs::write(home.path("ggen.completion"), script).unwrap();
}

fn is_installed(program: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").output();
    let is_there = found.is_ok_and(|output| output.status.success());
    if !is_there {
        skipped(&format!("{program} is not installed"));
    }
    is_there
}

/// A node with a package of its own and an installed one, and a second node that it is connected with.
fn world() -> (Node, Node) {
    let author = Node::start(&[]);
    for version in ["1.1.0", "1.1.1", "1.2.0"] {
        let web = author.path(version);
        tree::small(&web, "web-tools", version, "Tools for the web", "license = \"MIT\"");
        author.json(&["publish", web.to_str().unwrap()]);
    }
    author.json(&["yank", "web-tools@1.1.0"]);
    let node = Node::start(&[&author]);
    let own = node.path("own-tools");
    tree::small(&own, "own-tools", "0.1.0", "Tools of this node", "license = \"MIT\"");
    node.json(&["publish", own.to_str().unwrap()]);
    node.finds("web", "web-tools", Duration::from_secs(20));
    node.json(&["install", "web-tools", "--to", &node.text("web")]);
    node.knows(&[&author]);
    (author, node)
}

#[test]
fn bash_completes_what_the_node_knows_and_what_the_store_says_without_it() {
    if !is_installed("bash") {
        return;
    }
    let (author, mut node) = world();
    script(&node, "bash");
    offers(|| bash(&node, "ggen p2p peer-l"), &["peer-list"]);
    offers(|| bash(&node, "ggen p2p config set limits.st"), &["limits.store_bytes_max"]);
    offers(|| bash(&node, "ggen marketplace p2p install we"), &["web-tools"]);
    offers(|| bash(&node, "ggen p2p info "), &["own-tools", "web-tools"]);
    offers(|| bash(&node, "ggen p2p peer-info "), &[author.peer.as_str()]);
    offers(|| bash(&node, "ggen p2p key rotate d"), &["default"]);
    offers(|| bash(&node, "ggen p2p trust unpin "), &["web-tools"]);
    offers(|| bash(&node, "ggen p2p verify "), &["web-tools"]);
    // bash takes @ and = for ends of words.
    offers(|| bash(&node, "ggen p2p yank own"), &["own-tools@0.1.0"]);
    offers(|| bash(&node, "ggen p2p yank own-tools@0"), &["0.1.0"]);
    offers(|| bash(&node, "ggen p2p install web-tools@1"), &["1.1.1", "1.2.0"]);
    offers(|| bash(&node, "ggen p2p status --format=y"), &["yaml"]);
    offers(|| bash(&node, "ggen p2p publish ./"), &[":files"]);
    offers(|| bash(&node, "ggen p2p search we"), &[]);

    node.stop();
    offers(|| bash(&node, "ggen p2p install we"), &["web-tools"]);
    offers(|| bash(&node, "ggen p2p yank "), &["own-tools@0.1.0"]);
    offers(|| bash(&node, "ggen p2p peer-info "), &[]);
    // A state folder that does not exist, and one that is damaged, are nothing to choose from.
    offers(|| bash(&node, &format!("ggen p2p --home {} install we", node.text("nowhere"))), &[]);
    assert!(!node.path("nowhere").exists());
    fs::write(node.state().join("store.db"), "nonsense").unwrap();
    offers(|| bash(&node, "ggen p2p install we"), &[]);
}

#[test]
fn fish_and_zsh_complete_the_same() {
    let (author, node) = world();
    let words = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    };
    let calls: [(&str, &[&str]); 2] =
        [("fish", &["--no-config", "-c", FISH]), ("zsh", &["-f", "-c", ZSH, "zsh"])];
    for (name, call) in calls {
        if !is_installed(name) {
            continue;
        }
        script(&node, name);
        let offered = |line: &str| words(shell(&node, name, &[call, &[line]].concat()));
        offers(|| offered("ggen p2p peer-l"), &["peer-list"]);
        offers(|| offered("ggen p2p install we"), &["web-tools"]);
        offers(|| offered("ggen p2p peer-info "), &[author.peer.as_str()]);
        offers(|| offered("ggen p2p yank "), &["own-tools@0.1.0"]);
        offers(|| offered("ggen p2p add web-tools@"), &["web-tools@1.1.1", "web-tools@1.2.0"]);
        offers(|| offered("ggen p2p search we"), &[]);
    }
}

#[test]
fn a_node_that_does_not_answer_holds_nobody_up() {
    let home = Home::new();
    fs::create_dir(home.state()).unwrap();
    // A socket that takes connections and never says anything.
    let _silent = std::os::unix::net::UnixListener::bind(home.state().join("control.sock")).unwrap();
    let began = std::time::Instant::now();
    let answer = home.run(&["complete", "--line", "ggen p2p install we"]).exits(0);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
    assert!(began.elapsed() < Duration::from_secs(5), "it waited {:?}", began.elapsed());
}

#[test]
fn a_script_is_printed_for_every_shell() {
    let home = Home::new();
    for (shell, word) in [
        ("bash", "complete -F _ggen ggen"),
        ("zsh", "#compdef ggen"),
        ("fish", "complete -c ggen"),
        ("elvish", "peer-list"),
        ("powershell", "peer-list"),
    ] {
        let script = home.run(&["completions", shell]).exits(0).stdout;
        assert!(script.contains(word), "{shell}: {script}");
    }
}
