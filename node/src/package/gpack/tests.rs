use std::os::unix::fs::symlink;

use super::*;
use crate::{limits::TOML_DEPTH_MAX, package::testing};

const GOOD: &str = "name = \"a\"\nversion = \"1.0.0\"\ndescription = \"d\"\n";

fn parse_text(text: &str) -> Result<Parsed, Error> {
    parse(Path::new("gpack.toml"), text.as_bytes(), None)
}

/// The line, key and whether it is missing, of each problem.
fn problems(text: &str) -> Vec<(usize, String, bool)> {
    match parse_text(text) {
        Err(Error::Invalid { problems, .. }) => {
            problems.into_iter().map(|problem| (problem.line, problem.key, problem.missing)).collect()
        }
        other => panic!("{text}: {other:?}"),
    }
}

fn full(publisher: &str) -> String {
    format!(
        "license = \"MIT\"\ntags = [\"db\", \"Fast\"]\ncategories = [\"middleware\"]\nauthors = [\"A <a@b.c>\"]\n\
         repository = \"https://example.org\"\n\n[dependencies]\n\"{publisher}/other\" = \"^1.2\"\n"
    )
}

#[test]
fn keys_stand_at_the_top_or_in_the_package_table() {
    let publisher = testing::publisher(1).id().to_string();
    let flat = parse_text(&format!("{GOOD}{}", full(&publisher))).unwrap();
    let table = parse_text(&format!("[package]\n{GOOD}{}", full(&publisher))).unwrap();
    let inner = full(&publisher).replace("[dependencies]", "[package.dependencies]");
    assert_eq!(parse_text(&format!("[package]\n{GOOD}{inner}")).unwrap(), table);
    assert_eq!(flat, table);
    assert_eq!(flat.warnings, [""; 0]);
    let gpack = flat.gpack;
    assert_eq!(
        (gpack.name.as_str(), gpack.version.to_string().as_str(), gpack.description.as_str()),
        ("a", "1.0.0", "d")
    );
    assert_eq!(gpack.tags, ["db", "Fast"]);
    assert_eq!(gpack.authors, ["A <a@b.c>"]);
    assert_eq!(gpack.license.as_deref(), Some("MIT"));
    let (id, requirement) = gpack.dependencies.first_key_value().unwrap();
    assert_eq!((id.to_string(), requirement.to_string()), (format!("{publisher}/other"), "^1.2".to_owned()));
}

#[test]
fn the_example_that_hints_show_is_valid() {
    assert_eq!(parse_text(MINIMAL).unwrap().warnings, [""; 0]);
}

#[test]
fn missing_and_empty_keys_are_all_listed_at_once() {
    assert_eq!(
        problems("description = \" \"\n"),
        [(0, "name".to_owned(), true), (0, "version".to_owned(), true), (1, "description".to_owned(), true)]
    );
    let error = parse_text("").unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (Code::Package, 2));
    for key in ["name", "version", "description"] {
        assert!(error.to_string().contains(key), "{error}");
    }
    assert!(error.hint().contains(MINIMAL));
}

#[test]
fn every_wrong_value_is_named_with_its_key_and_line() {
    let text = "name = \"Ünïcode\"\nversion = 1\ndescription = [\"x\"]\nlicense = 3\ntags = \"db\"\n\
                categories = [\"ok\", 7]\nauthors = [\"\"]\n\n[dependencies]\nbare = \"1\"\n\"x/y\" = \"1\"\n";
    assert_eq!(
        problems(text),
        [
            (1, "name".to_owned(), false),
            (2, "version".to_owned(), false),
            (3, "description".to_owned(), false),
            (4, "license".to_owned(), false),
            (5, "tags".to_owned(), false),
            (6, "categories[1]".to_owned(), false),
            (7, "authors[0]".to_owned(), false),
            (10, "dependencies.\"bare\"".to_owned(), false),
            (11, "dependencies.\"x/y\"".to_owned(), false),
        ]
    );
    let error = parse_text(text).unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (Code::PackageInvalid, 7));
    assert!(error.to_string().contains("expected a string, found an integer"), "{error}");
    assert!(error.to_string().contains("\"<publisher>/bare\""), "{error}");
}

#[test]
fn names_and_versions_outside_their_grammar_are_refused() {
    for name in ["", "A", "../x", "nul", "раypal", &"x".repeat(300)] {
        assert!(parse_text(&GOOD.replace("\"a\"", &format!("\"{name}\""))).is_err(), "{name}");
    }
    for version in ["1.2", "01.2.3", "1.2.3+meta", "99999999999999999999.0.0", "v1.0.0"] {
        assert!(parse_text(&GOOD.replace("1.0.0", version)).is_err(), "{version}");
    }
}

#[test]
fn dependencies_are_bounded_and_have_requirements() {
    let publisher = testing::publisher(1).id();
    let with = |line: &str| problems(&format!("{GOOD}[dependencies]\n{line}\n")).len();
    assert_eq!(with(&format!("\"{publisher}/b\" = \"not a version\"")), 1);
    assert_eq!(with(&format!("\"{publisher}/b\" = 1")), 1);
    assert_eq!(with(&format!("\"{publisher}/b@1.0.0\" = \"1\"")), 1);
    assert_eq!(with(&format!("\"{publisher}/B\" = \"also bad\"")), 2);
    let many: String = (0..10_000).map(|n| format!("\"{publisher}/p{n}\" = \"1\"\n")).collect();
    let error = parse_text(&format!("{GOOD}[dependencies]\n{many}")).unwrap_err().to_string();
    assert!(error.contains("at most"), "{error}");
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_known_one() {
    let parsed = parse_text(&format!("{GOOD}licence = \"MIT\"\nzzz = 1\n[package]\ntag = []\n")).unwrap();
    assert_eq!(parsed.warnings.len(), 3);
    let find = |text: &str| parsed.warnings.iter().any(|warning| warning.contains(text));
    assert!(
        find("line 4: the key licence is not known and is ignored. Did you mean license?"),
        "{:?}",
        parsed.warnings
    );
    assert!(find("line 5: the key zzz is not known and is ignored."));
    assert!(find("line 7: the key package.tag is not known and is ignored. Did you mean tags?"));
}

#[test]
fn a_version_that_is_given_takes_the_place_of_the_one_in_the_file() {
    let given = Version::new(2, 0, 0);
    let parse_given = |text: &str| parse(Path::new("gpack.toml"), text.as_bytes(), Some(&given));
    let differs = parse_given(GOOD).unwrap();
    assert_eq!(differs.gpack.version, given);
    assert!(differs.warnings[0].contains("1.0.0") && differs.warnings[0].contains("2.0.0"));
    let same = parse_given(&GOOD.replace("1.0.0", "2.0.0")).unwrap();
    assert_eq!(same.warnings, [""; 0]);
    for absent in ["", "version = \"\"\n"] {
        assert!(parse_given(&GOOD.replace("version = \"1.0.0\"\n", absent)).is_ok(), "given, so not missing");
    }
    assert!(parse_given(&GOOD.replace("1.0.0", "one")).is_err(), "what stands there must still be a version");
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    assert_eq!(problems("name = \"a\"\nname = \"b\"\n")[0].0, 2, "a key that is there twice");
    assert_eq!(problems("name = \"a\"\n\nversion = \n")[0].0, 3);
    assert!(problems("a = [\nb = {\n\n= = =\n").len() > 1, "all errors, not the first");
    let both = problems(&format!("{GOOD}[package]\nname = \"b\"\n"));
    assert_eq!(both, [(1, "name".to_owned(), false)], "in both places");
    let not_text = parse(Path::new("g"), b"name = \"a\"\nversion = \"\xff\"", None).unwrap_err();
    assert!(not_text.to_string().contains("line 2: byte 22 is not UTF-8"), "{not_text}");
    assert_eq!(problems("name = \"\u{0}\"")[0].0, 1);
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let text = format!("\u{feff}{GOOD}");
    assert_eq!(parse_text(&text).unwrap().gpack, parse_text(GOOD).unwrap().gpack);
}

#[test]
fn size_and_depth_are_bounded() {
    let large = format!("{GOOD}#{}", "x".repeat(GPACK_BYTES_MAX));
    assert!(parse_text(&large).unwrap_err().to_string().contains("too large"));
    let exact = format!("{GOOD}#{}", "x".repeat(GPACK_BYTES_MAX - GOOD.len() - 1));
    assert!(parse_text(&exact).is_ok());
    let key = vec!["k"; TOML_DEPTH_MAX].join(".");
    for deep in [
        format!("x = {}", "[".repeat(10_000)),
        format!("x = {}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("x = {}", "{a=".repeat(10_000)),
        format!("[{}]", vec!["a"; 10_000].join(".")),
        format!("{} = 1", vec!["a"; 10_000].join(".")),
        format!("x = {}", format!("{{{key} = ").repeat(79)),
    ] {
        // On a small stack, to be sure that the depth costs none.
        let error = std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || parse_text(&deep).unwrap_err().to_string())
            .unwrap()
            .join()
            .unwrap();
        assert!(error.contains("nested more than"), "{error:.100}");
    }
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let error = parse_text("name = \"\\u001b[31m\"\n\"\\u001b[2J\" = 1\n").unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
    let parsed = parse_text(&format!("{GOOD}\"\\u001b[2J\" = 1\n")).unwrap();
    assert!(!parsed.warnings[0].contains('\u{1b}'));
    for bad in ["\\u001b", "\\u202e", "a\\nb"] {
        assert_eq!(problems(&GOOD.replace("\"d\"", &format!("\"{bad}\"")))[0].1, "description", "{bad}");
    }
}

#[test]
fn the_directory_and_the_file_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = read(directory.path(), None).unwrap_err();
    assert_eq!(missing.to_string(), format!("missing gpack.toml in {}", directory.path().display()));
    assert_eq!(missing.code().exit_code(), 2);
    assert!(missing.hint().contains(MINIMAL));
    let nowhere = read(&directory.path().join("no"), None).unwrap_err();
    assert_eq!((nowhere.code(), nowhere.to_string().contains("there is no directory")), (Code::Usage, true));

    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, GOOD).unwrap();
    assert_eq!(read(directory.path(), None).unwrap(), parse_text(GOOD).unwrap());
    let file = read(&path, None).unwrap_err();
    assert_eq!((file.code(), file.to_string().contains("is not a directory")), (Code::Usage, true));

    let other = tempfile::tempdir().unwrap();
    symlink(&path, other.path().join(FILE_NAME)).unwrap();
    assert_eq!(read(other.path(), None).unwrap_err().code(), Code::PackageInvalid);
}

#[test]
fn a_huge_file_is_not_read_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::File::create(directory.path().join(FILE_NAME)).unwrap().set_len(100 << 30).unwrap();
    assert!(read(directory.path(), None).unwrap_err().to_string().contains("too large"));
}

#[test]
fn garbage_costs_little_time_and_says_little() {
    for garbage in ["= ", "=\n", "[", "[[a]]\n", "a", "\"\n", "a.", "{", "x = 1\n", "\u{ff}\n", "]\n"] {
        let text = garbage.repeat(GPACK_BYTES_MAX / garbage.len());
        #[expect(clippy::disallowed_methods, reason = "measures the test itself")]
        let begin = std::time::Instant::now();
        let error = parse_text(&text).unwrap_err().to_string();
        assert!(error.len() < 20_000, "{garbage:?}: {} bytes", error.len());
        assert!(begin.elapsed().as_secs() < 10, "{garbage:?}");
    }
    let keys: String = (0..50_000).map(|n| format!("x{n} = 1\n")).collect();
    assert_eq!(parse_text(&format!("{GOOD}{keys}")).unwrap().warnings.len(), 100);
}

/// What is known of unknown keys costs no more than to read them, once so many were told as are.
#[test]
fn keys_that_are_not_known_cost_little_more_than_their_values() {
    let keys: String = (0..50_000).map(|n| format!("depend{n} = 1\n")).collect();
    let (text, path) = (format!("{GOOD}{keys}"), Path::new("gpack.toml"));
    #[expect(clippy::disallowed_methods, reason = "measures the test itself")]
    let timed = |parse: &dyn Fn() -> bool| {
        let times = (0..3).map(|_| {
            let begin = std::time::Instant::now();
            assert!(parse());
            begin.elapsed()
        });
        times.min().unwrap()
    };
    let alone = timed(&|| toml::de::DeTable::parse(&text).is_ok());
    for parse in [&|| parse(path, text.as_bytes(), None).is_ok(), &|| project(path, text.as_bytes()).is_ok()]
        as [&dyn Fn() -> bool; 2]
    {
        let took = timed(parse);
        // Where each were compared with each, it would take thousands of times as long. A busy machine makes it several times.
        assert!(took < alone * 30, "{took:?}, and {alone:?} to read it");
    }
}

#[test]
fn what_git_could_not_merge_is_told_as_that() {
    let text =
        "name = \"a\"\n<<<<<<< ours\nversion = \"1.0.0\"\n=======\nversion = \"1.1.0\"\n>>>>>>> theirs\n";
    let path = Path::new("gpack.toml");
    for refused in [parse(path, text.as_bytes(), None).map(drop), project(path, text.as_bytes()).map(drop)] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Merge { line: 2, .. }), "{error}");
        assert!(error.hint().contains("by hand") && error.code() == Code::PackageInvalid, "{error}");
    }
    // In a text of several lines they are no marks.
    let fine = "name = \"a\"\nversion = \"1.0.0\"\ndescription = \"\"\"\n=======\n\"\"\"\n";
    assert!(!matches!(parse(path, fine.as_bytes(), None), Err(Error::Merge { .. })));
}
