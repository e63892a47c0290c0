use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;

#[test]
fn a_pattern_that_can_match_nothing_is_not_passed_over() {
    let folder = Path::new("/home/me/app");
    let wrong = |line: &str| parse(folder, format!("target\n{line}\n").as_bytes()).1.map(|it| it.0);
    for line in [
        "./private.txt",
        "./sub/",
        "../app/private.txt",
        "/home/me/app/private.txt",
        "!./kept",
        "a.txt # mine",
        r"sub\p.txt",
        "a\t",
        "a[b",
        "[[:digits:]]",
        "a\\",
    ] {
        assert_eq!(wrong(line), Some(2), "{line}");
    }
    for line in [
        "private.txt",
        "/private.txt",
        "a\\ b",
        "# mine",
        r"\#a",
        r"a \#1.txt",
        "**/x",
        ".hidden",
        "..data",
        r"\!a",
        "!",
        " ",
        "\t",
        "{a}",
        "[[:digit:]]",
        r"[a\]]x",
    ] {
        assert_eq!(wrong(line), None, "{line}");
    }
}

/// Names of files and folders that are asked about; each folder has all of them.
const NAMES: [&str; 18] = [
    "a", "b", "ab", "aab", "A", "1", "{a}", "{{a.b}}", "a,b", "]", "]x", "ax", "a]x", "-", "[a]", "!a", "#a",
    "a b",
];
const FOLDERS: [&str; 5] = ["", "a/", "b/", "a/b/", "b/a/b/"];
/// Patterns with which this program and Git differed, and others that are easily read wrong.
const FIXED: [&str; 44] = [
    "{{a.b}}",
    "{a}",
    "{a,b}",
    "[[:digit:]]*",
    "[[:upper:]]",
    "[![:alpha:]]",
    "[[:nothing:]]",
    "[[:alpha:]b",
    "a\n!",
    "*\n!a\n!",
    r"[a\]]x",
    "[]]x",
    "[]-a]x",
    "[a-]",
    "[-a]",
    "[!-a]",
    "[^a]",
    "[b-a]",
    r"[\a-b]",
    r"[a-\b]",
    "[[:]",
    "[[a]]",
    "a\t",
    "a ",
    r"a\ b",
    "a  \\",
    r"\!a",
    r"\#a",
    "#a",
    "!a",
    "*\n!a\n!b/",
    "/a",
    "a/",
    "a/b",
    "/a/**",
    "a/**/b",
    "**/b",
    "**/a/b",
    "b**/b",
    "b/**b",
    "a/*",
    "?",
    "b[/]a",
    "*b\n!/a/b",
];

#[test]
fn what_is_left_out_is_what_git_leaves_out() {
    if Command::new("git").arg("--version").output().is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "git is missing: apt-get install git");
        // To the stream itself: the harness keeps what a passing test prints.
        writeln!(std::io::stderr(), "SKIPPED: git is not installed").unwrap();
        return;
    }
    const PARTS: [&str; 26] = [
        "a",
        "b",
        "a",
        "b",
        "x",
        "1",
        "A",
        "/",
        "/",
        "*",
        "*",
        "**/",
        "/**",
        "?",
        "[",
        "]",
        "[a-b]",
        "!",
        "^",
        "-",
        "\\",
        "{",
        "}",
        ",",
        "[:alpha:]",
        " ",
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut below = |most: usize| rng.next_u32() as usize % most;
    let mut drawn = || {
        let lines = (0..1 + below(3)).map(|_| (0..1 + below(7)).map(|_| PARTS[below(PARTS.len())]).collect());
        lines.collect::<Vec<String>>().join("\n")
    };
    let files: Vec<String> = FIXED.iter().map(ToString::to_string).chain((0..400).map(|_| drawn())).collect();

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(&root).args(["-c", "core.excludesFile=/dev/null"]);
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(variable);
        }
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", &root);
        git
    };
    assert!(git().args(["init", "-q", "-b", "main"]).status().unwrap().success());
    let paths: Vec<String> =
        FOLDERS.iter().flat_map(|folder| NAMES.map(|name| format!("{folder}{name}"))).collect();
    let (mut asked, mut ours) = (Vec::new(), Vec::new());
    for (number, text) in files.iter().enumerate() {
        let top = root.join(number.to_string());
        FOLDERS.iter().for_each(|folder| fs::create_dir_all(top.join(folder)).unwrap());
        fs::write(top.join(GIT), text).unwrap();
        let mut ignored = IgnoreFiles::above(&top);
        assert!(ignored.enter(&top));
        for path in &paths {
            asked.extend(format!("{number}/{path}\0").bytes());
            let whole = top.join(path);
            let above: Vec<&Path> = whole.ancestors().take_while(|above| *above != top).collect();
            ours.push(above.into_iter().rev().any(|path| ignored.leaves_out(path, path.is_dir())));
        }
    }
    let mut process = git()
        .args(["check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let writes = std::thread::spawn(move || stdin.write_all(&asked).unwrap());
    let output = process.wait_with_output().unwrap();
    writes.join().unwrap();
    // Of each path: the file, the line, the pattern, and the path itself.
    let fields: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    let theirs = fields.chunks_exact(4).map(|it| !it[2].is_empty() && !it[2].starts_with(b"!"));
    let asked = files.iter().flat_map(|text| paths.iter().map(move |path| (text, path)));
    assert_eq!(theirs.len(), ours.len());
    let differ: Vec<_> = asked.zip(theirs.zip(&ours)).filter(|(_, (theirs, ours))| theirs != *ours).collect();
    assert!(differ.is_empty(), "{}: {:#?}", differ.len(), &differ[..differ.len().min(10)]);
    let left_out = ours.iter().filter(|it| **it).count();
    assert!(left_out * 50 > ours.len() && left_out * 10 < ours.len() * 9, "{left_out} of {}", ours.len());
}
