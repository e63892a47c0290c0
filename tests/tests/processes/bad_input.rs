//! What else a command line can be given: numbers out of range, addresses of other machines, odd folders, closed pipes.

use std::{
    ffi::OsStr,
    fs::File,
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    os::unix::ffi::OsStrExt,
    process::Stdio,
    time::Duration,
};

use crate::{
    tree,
    world::{Guard, Home, LOOPBACK, Node, eventually, run, text},
};

#[test]
fn numbers_out_of_range_are_refused_by_every_flag_that_takes_one() {
    let node = Node::start(&[]);
    tree::small(&node.path("package"), "numbers", "1.0.0", "Counts", "");
    let package = node.text("package");
    let whole =
        ["0", "-1", "1.5", "9223372036854775808", "18446744073709551616", "nan", "inf", "", " 1", "1e3", "٣"];
    let takes: [(&[&str], &str); 8] = [
        (&["search", "x"], "--limit"),
        (&["bootstrap", "/ip4/127.0.0.1/tcp/1"], "--timeout"),
        (&["connect", "/ip4/127.0.0.1/tcp/1"], "--timeout"),
        (&["install", "x"], "--timeout"),
        (&["publish", &package, "--wait"], "--timeout"),
        (&["demo"], "--nodes"),
        (&["search", "x"], "--offset"),
        (&["logs"], "--lines"),
    ];
    for (verb, flag) in takes {
        for number in whole {
            // Nothing to pass over, or no lines, is a sensible number.
            if number == "0" && matches!(flag, "--offset" | "--lines") {
                continue;
            }
            let value = format!("{flag}={number}");
            let answer = node.run(&[verb, &[&value]].concat()).calmly().exits(2);
            assert!(answer.stderr.contains(flag), "{value}: {answer:#?}");
            node.run(&[verb, &[flag, number]].concat()).calmly().exits(2);
        }
    }
    for number in ["-1", "-0.001", "1.001", "nan", "inf", "-inf", "1e300", "9223372036854775808", "", "0,5"] {
        for verb in [&["search", "x"][..], &["peer-list"]] {
            let value = format!("--min-reputation={number}");
            node.run(&[verb, &[&value]].concat()).calmly().exits(2).says("0 to 1");
            node.run(&[verb, &["--min-reputation", number]].concat()).calmly().exits(2);
        }
    }
    for number in ["0", "-1", "nan", "inf", "1e300", "9223372036854775808", ""] {
        node.run(&["search", "x", "--timeout", number]).calmly().exits(2).says("--timeout");
    }
    node.run(&["search", "x", "--limit", "1000", "--offset", "1000000", "--min-reputation", "0"]).exits(0);
    node.is_well();
}

#[test]
fn text_of_any_kind_is_taken_or_refused_and_never_harms() {
    let node = Node::start(&[]);
    let long = "x".repeat(5000);
    let texts = [
        "\u{1b}[31mred",
        "日本語",
        "a\"b'c`d$(e)",
        "NEAR(x y)",
        "x* OR y",
        "\"",
        "-",
        "(",
        "\u{202e}abc",
        &long,
    ];
    for odd in texts {
        let found = node.run(&["search", "--", odd]).calmly();
        assert!(found.code == 0 || found.code == 2, "{found:#?}");
        assert!(!found.stdout.contains('\u{1b}') && !found.stderr.contains('\u{1b}'), "{found:#?}");
        let answer = node.run(&["install", "--", odd]).calmly();
        assert!(answer.code == 2 || answer.code == 4, "{answer:#?}");
        assert!(!answer.stderr.contains('\u{1b}'), "{answer:#?}");
        node.run(&["peer-info", "--", odd]).calmly().exits(2);
    }
    let mut command = node.command(&["search"]);
    command.arg(OsStr::from_bytes(b"\xff\xfe"));
    let answer = run(command).calmly();
    assert_eq!(answer.code, 2, "{answer:#?}");
    node.is_well();
}

#[test]
fn addresses_that_cannot_be_listened_on_are_named() {
    let answer = Home::new().run(&["start", "--listen", "/ip4/192.0.2.1/tcp/0"]).calmly();
    assert!(matches!(answer.code, 1 | 5 | 7 | 8), "{answer:#?}");
    answer.says("/ip4/192.0.2.1/tcp/0");
    let home = Home::new();
    let arguments = ["start", "--listen", "/ip4/127.0.0.1/tcp/81"];
    let answer = match TcpListener::bind("127.0.0.1:81") {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => home.run(&arguments),
        // Whoever may bind low ports, as root may, is asked to do without that right.
        _ => {
            let give_up =
                "cd /; set -- setpriv --bounding-set=-net_bind_service --inh-caps=-net_bind_service \"$@\"";
            run(home.limited(give_up, &arguments))
        }
    };
    let answer = answer.calmly();
    assert!(matches!(answer.code, 1 | 5 | 7 | 8), "{answer:#?}");
    answer.says("/ip4/127.0.0.1/tcp/81");
}

#[test]
fn a_reader_of_stdout_that_went_away_is_no_error() {
    let node = Node::start(&[]);
    for verb in
        [&["status"][..], &["search"], &["peer-list", "--format", "json"], &["--help"], &["config", "show"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = node.command(verb).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let status = child.wait().unwrap();
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
        assert_eq!(status.code(), Some(0), "{verb:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{verb:?}: {stderr}");
    }
    let mut command = node.command(&["status"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap()).stderr(Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(1), "a full disk behind stdout is an error");
}

#[test]
fn a_node_whose_reader_went_away_keeps_running() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.command(&["start", "--listen", LOOPBACK]);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    let guard = Guard::new(child.id());
    eventually("it answers", Duration::from_secs(20), || (home.run(&["status"]).code == 0).then_some(()));
    home.run(&["stop"]).exits(0);
    assert!(child.wait().unwrap().success());
    assert!(!guard.is_alive());
}

#[test]
fn without_a_home_folder_the_command_says_what_to_set() {
    let home = Home::new();
    let mut command = home.command(&["config", "path"]);
    command.env_remove("HOME").env_remove("GGEN_HOME");
    let answer = run(command).calmly();
    // The system may know a home folder of this user all the same.
    assert!(answer.code == 0 || answer.code == 7 && answer.stderr.contains("GGEN_HOME"), "{answer:#?}");
    let mut command = home.command(&["start", "--listen", LOOPBACK, "--daemon"]);
    command.env_remove("HOME");
    let started = run(command).exits(0);
    home.run(&["stop"]).exits(0);
    drop(started);
}

#[test]
fn state_folders_may_have_any_name() {
    let long = "n".repeat(200);
    for name in ["with some spaces", "with\na line break", "日本語 'quoted' \"twice\" $HOME", "-flag", &long]
    {
        let home = Home::with_state(name);
        let started = home.json(&["start", "--daemon", "--listen", LOOPBACK]);
        let guard = Guard::new(started["pid"].as_u64().unwrap().try_into().unwrap());
        assert_eq!(started["home"].as_str().unwrap(), home.state().to_str().unwrap());
        tree::small(&home.path("package"), "anywhere", "1.0.0", "Lives in an odd folder", "");
        home.json(&["publish", &home.text("package")]);
        home.json(&["install", "anywhere", "--to", &home.text("out")]);
        let again = home.error(9, &["start", "--listen", LOOPBACK]);
        assert_eq!(again["code"], "E_ALREADY_RUNNING");
        home.run(&["stop"]).exits(0);
        assert!(!guard.is_alive());
    }
    let home = Home::new();
    let mut command = home.command(&["status", "--format", "json"]);
    command.env("GGEN_HOME", OsStr::from_bytes(b"/tmp/\xff-not-text"));
    let answer = run(command).calmly();
    assert!(answer.code == 3 || answer.code == 2 || answer.code == 7, "{answer:#?}");
    answer.json();
}

#[test]
fn few_open_files_are_enough() {
    let author = Node::start(&[]);
    tree::rich(&author.path("package"), "narrow", "Comes through a narrow door", 15);
    author.json(&["publish", &author.text("package")]);
    let mut node = Node::start(&[]);
    node.stop();
    let command =
        node.limited("ulimit -n 64", &["start", "--listen", LOOPBACK, "--bootstrap", &author.address]);
    node.start_with(command);
    node.finds("narrow", "narrow", Duration::from_secs(20));
    node.json(&["install", "narrow", "--to", &node.text("out")]);
    tree::assert_same(&author.path("package"), &node.path("out"));
    let crowd: Vec<Node> = (0..3).map(|_| Node::start(&[&node])).collect();
    node.knows(&[&author, &crowd[0], &crowd[1], &crowd[2]]);
    node.is_well();
    // What the node itself has open takes nothing away from it when it reads its configuration again.
    node.run(&["config", "set", "log.level", "debug"]).exits(0);
    node.run(&["config", "set", "log.level", "info"]).exits(0);
    let log = node.log();
    let rooms: Vec<&str> = log.lines().filter_map(|line| line.split("are limited: ").nth(1)).collect();
    assert!(rooms.len() >= 3 && rooms.iter().all(|room| *room == rooms[0]), "{rooms:?}");
    // A crowd of strangers that says nothing uses up what is left; the node outlives it, and answers.
    let listening = node.address.split('/').nth(4).unwrap().to_owned();
    let strangers: Vec<TcpStream> =
        (0..80).filter_map(|_| TcpStream::connect(format!("127.0.0.1:{listening}")).ok()).collect();
    assert!(strangers.len() > 64, "{}", strangers.len());
    drop(strangers);
    eventually("it answers", Duration::from_secs(20), || (node.run(&["status"]).code == 0).then_some(()));
    node.json(&["install", "narrow", "--to", &node.text("again")]);
}

#[test]
fn files_that_may_grow_no_further_fail_a_publication_and_not_the_node() {
    let mut node = Node::start(&[]);
    node.stop();
    // In blocks of 512 or of 1024 bytes, as the shell has it.
    let command = node.limited("ulimit -f 8000", &["start", "--listen", LOOPBACK]);
    node.start_with(command);
    tree::bulk(&node.path("large"), "large", 23, 12, 1 << 20);
    let refused = node.run(&["publish", &node.text("large")]).calmly();
    assert_ne!(refused.code, 0, "{refused:#?}");
    tree::small(&node.path("small"), "small", "1.0.0", "Has room", "");
    node.json(&["publish", &node.text("small")]);
    node.is_well();
}

#[test]
fn too_few_open_files_are_refused_before_a_node_starts() {
    for files in [8, 12, 16, 17, 18, 19, 20, 21, 22, 24, 32, 40, 47] {
        let home = Home::new();
        let limit = format!("ulimit -n {files}");
        let answer =
            run(home.limited(&limit, &["start", "--daemon", "--listen", LOOPBACK, "--format", "json"]));
        // Below what the system's own loader needs, it is not the program that speaks.
        let answer = answer.calmly();
        if answer.code == 127 {
            assert!(files < 16, "{answer:#?}");
            continue;
        }
        let answer = answer.exits(7);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "E_LIMIT", "{files}: {error}");
        assert!(text(&error["hint"]).contains("ulimit -n 1024"), "{files}: {error}");
        assert!(!home.state().exists(), "nothing was begun");
    }
    let home = Home::new();
    let low =
        home.limited("ulimit -S -n 20; ulimit -H -n 1024", &["start", "--daemon", "--listen", LOOPBACK]);
    run(low).exits(0);
    home.run(&["status"]).exits(0);
    home.run(&["stop"]).exits(0);
}
