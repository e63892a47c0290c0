use std::process::Command;

use super::*;
use crate::{content::Codec, identity::PublisherId, package::PackageName, project::numbers::Numbers};

fn id(publisher: u8, name: &str) -> PackageId {
    PackageId {
        publisher: PublisherId::from_bytes([publisher; 32]),
        name: name.parse::<PackageName>().unwrap(),
    }
}

fn locked(version: &str, needs: &[(&PackageId, &str)]) -> Locked {
    Locked {
        version: version.parse().unwrap(),
        root: ContentId::of(Codec::DagPb, version.as_bytes()),
        entry: ContentId::of(Codec::DagCbor, version.as_bytes()),
        sequence: 3,
        keys: ContentId::of(Codec::DagCbor, b"keys"),
        manifest: ContentId::of(Codec::Raw, version.as_bytes()),
        size: 1234,
        dependencies: needs.iter().map(|(id, range)| ((*id).clone(), range.parse().unwrap())).collect(),
    }
}

fn two() -> Lock {
    let (one, other) = (id(1, "web-tools"), id(2, "log-tools"));
    Lock {
        packages: [
            (other.clone(), locked("1.0.0-rc.1", &[])),
            (one, locked("1.2.3", &[(&other, "^1.0.0-rc.1")])),
        ]
        .into(),
    }
}

fn parse(text: &str) -> Result<Lock, Error> {
    Lock::parse(Path::new("gpack.lock"), text.as_bytes())
}

#[test]
fn what_was_written_is_read_and_written_the_same_again() {
    let text = two().to_text();
    assert_eq!(parse(&text).unwrap(), two());
    assert_eq!(parse(&text).unwrap().to_text(), text);
    assert!(!text.contains('\r') && text.ends_with('\n'), "{text}");
    assert_eq!(parse(&text.replace('\n', "\r\n")).unwrap(), two(), "git may have changed the ends of lines");
    assert_eq!(parse(&Lock::default().to_text()).unwrap(), Lock::default());
}

#[test]
fn the_format_is_this() {
    let one = id(1, "web-tools");
    let lock = Lock { packages: [(one.clone(), locked("1.2.3", &[(&id(2, "a"), ">=1, <3")]))].into() };
    let other = id(2, "a");
    let expected = format!(
        "# Written by ggen from gpack.toml. Keep it in version control, and do not edit it.\nversion = 1\n\n[[package]]\n\
         id = \"{one}\"\nversion = \"1.2.3\"\ncid = \"{}\"\nentry = \"{}\"\nsequence = 3\nkeys = \"{}\"\nmanifest = \"{}\"\n\
         size = 1234\ndependencies = [\n  \"{other} >=1, <3\",\n]\n",
        ContentId::of(Codec::DagPb, b"1.2.3"),
        ContentId::of(Codec::DagCbor, b"1.2.3"),
        ContentId::of(Codec::DagCbor, b"keys"),
        ContentId::of(Codec::Raw, b"1.2.3"),
    );
    assert_eq!(lock.to_text(), expected);
}

#[test]
fn what_no_program_wrote_is_refused_with_its_line() {
    let good = two().to_text();
    let first = id(1, "web-tools").to_string();
    let line_of = |needle: &str| 1 + good.lines().position(|line| line.contains(needle)).unwrap();
    for (bad, line, why) in [
        (good.replace("sequence = 3", "sequence = -3"), line_of("sequence"), "negative"),
        (good.replacen("size", "sizes", 1), line_of("size"), "unknown key"),
        (good.replace("version = \"1.2.3\"", "version = \"1.2\""), line_of("\"1.2.3\""), "no version"),
        (
            good.replace(&format!("id = \"{first}\""), "id = \"web-tools\""),
            line_of(&format!("id = \"{first}")),
            "no publisher",
        ),
        (good.replace("^1.0.0-rc.1", "one"), line_of("^1.0.0"), "no range"),
        (good.replacen("cid = \"baf", "cid = \"xaf", 1), line_of("cid"), "no content id"),
        (good.replacen("keys = \"bafy", "keys = \"bafk", 1), line_of("keys"), "another kind of content"),
        (format!("{good}\n{}", good.split_once("\n\n").unwrap().1), 0, "twice"),
        (good.replacen("version = 1", "version = \"1\"", 1), 2, "a word"),
        (good.replacen("version = 1\n", "", 1), 1, "no version of the format"),
        (good.replacen("version = 1\n", "version = 1\nz = [{},{}]\n", 1), 3, "another value of the file"),
        (good.replacen("size = 1234\n", "", 1), 4, "no size"),
        (good.replacen("size = 1234", "size = 1234\nsize = 1234", 1), 1 + line_of("size"), "a size twice"),
        (
            good.replacen("size = 1234", "size = 1_234", 1),
            line_of("size"),
            "a number as the program writes none",
        ),
        (good.replacen("\"1.2.3\"", "\"1.2.3\" x", 1), line_of("\"1.2.3\""), "something behind a text"),
        (good.replacen("\"1.2.3\"", "\"\\u0031.2.3\"", 1), line_of("\"1.2.3\""), "something escaped"),
        (good.replacen("[\n", "[[\n", 1), line_of("dependencies"), "a list in a list"),
        (good.split_once("]\n\n").unwrap().0.to_owned(), line_of("dependencies"), "a list without an end"),
        (good.replacen(",\n]\n", ",\n] x\n", 1), 2 + line_of("dependencies"), "something behind a list"),
        (format!("{good}x = {}", "[".repeat(40)), good.lines().count() + 1, "too deep"),
        ("\u{0}".to_owned(), 1, "no TOML"),
    ] {
        match parse(&bad) {
            Err(Error::Lock { line: found, .. }) if line == 0 || found == line => {}
            other => panic!("{why}, line {line}: {other:?}"),
        }
    }
    let whole = Lock::parse(Path::new("x"), b"\xff").unwrap_err().to_string();
    assert_eq!(whole, "x is not a lock file: it is not UTF-8", "a line is named only where one is meant");
    assert!(Lock::parse(Path::new("x"), &vec![b'#'; LOCK_BYTES_MAX + 1]).is_err());
}

#[test]
fn nothing_is_built_of_what_no_project_has() {
    use crate::{
        limits::DEPENDENCIES_MAX,
        package::dependencies::{PACKAGES_MAX, RANGES_MAX},
    };
    // A tree of these would take fifty times their size.
    for filler in ["{},", "\"\",", "[],", "0,"] {
        let text = format!("version = 1\nz = [{}]\n", filler.repeat((LOCK_BYTES_MAX - 64) / filler.len()));
        let error = parse(&text).unwrap_err();
        assert!(matches!(error, Error::Lock { line: 2, .. }), "{error}");
        assert!(error.to_string().len() < 1000 && error.to_string().contains("the key z"), "{error}");
    }
    let one = |n: usize, needs: &str| {
        let text = Lock { packages: [(id(1, &format!("p{n}")), locked("1.0.0", &[]))].into() }.to_text();
        format!("{}dependencies = [{needs}]\n", text.split_once("\n\n").unwrap().1)
    };
    let needs = |count: usize, range: &str| -> String {
        (0..count).map(|n| format!("\"{} {range}\",\n", id(2, &format!("q{n}")))).collect()
    };
    let file = |packages: usize, needs: &str| -> String {
        std::iter::once("version = 1\n".to_owned()).chain((0..packages).map(|n| one(n, needs))).collect()
    };
    assert_eq!(parse(&file(3, &needs(DEPENDENCIES_MAX, "^1"))).unwrap().packages.len(), 3);
    let full = needs(DEPENDENCIES_MAX, "^1");
    let many = vec![">1"; 32].join(",");
    for (text, why) in [
        (file(1, &needs(DEPENDENCIES_MAX + 1, "^1")), "needs more than"),
        (file(RANGES_MAX / DEPENDENCIES_MAX + 1, &full), "dependencies"),
        (file(RANGES_MAX / DEPENDENCIES_MAX / 8, &needs(DEPENDENCIES_MAX, &many)), "conditions"),
        (file(PACKAGES_MAX + 1, ""), "packages"),
    ] {
        let error = parse(&text).map(|lock| lock.packages.len()).unwrap_err().to_string();
        assert!(error.contains("more than") && error.contains(why), "{why}: {error}");
    }
}

#[test]
fn how_it_is_laid_out_is_up_to_others() {
    let text = two().to_text();
    let laid_out = text
        .replace(" = ", "=")
        .replace("size=1234\n", "  size\t=  1234 # bytes\n\n# and\n")
        .replace("[\n  \"", "[ \"")
        .replace("\",\n]", "\" ] # all");
    assert_ne!(laid_out, text);
    assert_eq!(parse(&laid_out).unwrap(), two());
    assert_eq!(parse(&format!("\u{feff}{text}")).unwrap(), two());
}

#[test]
fn a_later_format_and_an_unresolved_merge_are_told_apart_from_damage() {
    let newer = two().to_text().replacen("version = 1", "version = 2\nmore = true", 1);
    let error = parse(&newer).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("format 2"), "{error}");
    let newer = two().to_text().replacen("version = 1", "more = [\n  1,\n]\nversion = 2", 1);
    assert!(matches!(parse(&newer).unwrap_err(), Error::Newer { found: 2, .. }));
    let merge = two().to_text().replacen("[[package]]", "<<<<<<< ours\n[[package]]", 1);
    let error = parse(&merge).unwrap_err();
    assert!(matches!(error, Error::Merge { line: 4, .. }), "{error:?}");
}

#[test]
fn two_branches_that_each_add_a_package_merge_with_plain_git() {
    let mut numbers = Numbers(7);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, lock: &Lock| {
        let path = folder.path().join(name);
        std::fs::write(&path, lock.to_text()).unwrap();
        path
    };
    let (mut clean, mut adjacent) = (0, 0);
    for round in 0..60 {
        let mut packages = BTreeMap::new();
        while packages.len() < 8 + round % 5 {
            let package = id(numbers.below(250) as u8, &format!("p{}", numbers.below(1000)));
            packages.insert(package, locked(&format!("1.{}.0", numbers.below(50)), &[]));
        }
        let base = Lock { packages };
        let add = |numbers: &mut Numbers| {
            let mut lock = base.clone();
            let new = id(numbers.below(250) as u8, &format!("new{}", numbers.below(1000)));
            let needs: Vec<_> = lock.packages.keys().take(numbers.below(3)).cloned().collect();
            let needs: Vec<_> = needs.iter().map(|id| (id, "^1")).collect();
            lock.packages.insert(new.clone(), locked("2.0.0", &needs));
            (new, lock)
        };
        let ((one, ours), (other, theirs)) = (add(&mut numbers), add(&mut numbers));
        let [ours_file, base_file, theirs_file] =
            [write("ours", &ours), write("base", &base), write("theirs", &theirs)];
        let merged =
            Command::new("git").args(["merge-file", "-p"]).args([ours_file, base_file, theirs_file]).output();
        let merged = merged.unwrap();
        // Both came to the same place between two others: there git cannot know the order.
        let (least, most) = if one < other { (&one, &other) } else { (&other, &one) };
        let is_adjacent = !base.packages.keys().any(|id| least < id && id < most);
        if merged.status.success() {
            let lock = Lock::parse(Path::new("merged"), &merged.stdout).unwrap();
            let mut both = ours.packages.clone();
            both.extend(theirs.packages.clone());
            assert_eq!(lock, Lock { packages: both });
            assert_eq!(lock.to_text().as_bytes(), merged.stdout, "nothing is left to be written again");
            clean += 1;
        } else {
            assert!(is_adjacent, "a conflict without need:\n{}", String::from_utf8_lossy(&merged.stdout));
            adjacent += 1;
        }
    }
    assert!(clean > 40 && clean + adjacent == 60, "{clean} of 60 merged");
}
