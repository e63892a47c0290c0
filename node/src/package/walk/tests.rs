use std::{
    fs::File,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
};

use super::*;
use crate::code::Code;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn names(root: &Path) -> Vec<String> {
    walk(root).unwrap().into_iter().map(|found| found.path.into()).collect()
}

fn offenders(root: &Path) -> Vec<String> {
    match walk(root) {
        Err(Error::Offenders { offenders }) => offenders.into_iter().map(|offender| offender.path).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_come_sorted_by_the_bytes_of_their_paths() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("a/b", ""), ("a-b", ""), ("a0", ""), ("Z", ""), ("ä", "")]);
    assert_eq!(names(root.path()), ["Z", "a-b", "a/b", "a0", "ä"]);
}

#[test]
fn ignore_files_inside_are_honoured_and_those_outside_of_any_repository_are_not() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("package");
    write(outer.path(), &[(".gitignore", "*"), (".ggenignore", "*"), (".ignore", "*")]);
    write(
        &root,
        &[
            ("gpack.toml", ""),
            (".gitignore", "*.log\n/target/\n!keep.log\n"),
            (".ggenignore", "secret*\n"),
            (".ignore", "*\n"),
            (".git/config", ""),
            (".git/info/exclude", "*"),
            (".hidden", ""),
            ("a.log", ""),
            ("keep.log", ""),
            ("target/x", ""),
            ("src/target/x", ""),
            ("src/.gitignore", "only-here\n"),
            ("src/only-here", ""),
            ("only-here", ""),
            ("secret.txt", ""),
            ("sub/.git", "gitdir: elsewhere"),
            (".gpack.journal/journal.json", "{}"),
            ("sub/.ggen/index.json", "{}"),
        ],
    );
    let expected = [
        ".ggenignore",
        ".gitignore",
        ".hidden",
        ".ignore",
        "gpack.toml",
        "keep.log",
        "only-here",
        "src/.gitignore",
        "src/target/x",
    ];
    assert_eq!(names(&root), expected);
}

#[test]
fn git_ignores_count_up_to_the_root_of_the_repository_as_for_git() {
    let outer = tempfile::tempdir().unwrap();
    write(
        outer.path(),
        &[
            // Above the repository: of no account, nor is anybody's .ggenignore out here.
            (".gitignore", "*\n"),
            (".ggenignore", "*\n!secret.env\n"),
            ("repo/.git/HEAD", ""),
            ("repo/.ggenignore", "*\n"),
            ("repo/.gitignore", "*.log\n*.env\n/packages/one/build\n/top\nnode_modules/\n"),
            ("repo/packages/.gitignore", "!kept.log\n/one/only\n"),
            ("repo/packages/one/gpack.toml", ""),
            ("repo/packages/one/.gitignore", "!very.log\n"),
            ("repo/packages/one/a.log", ""),
            ("repo/packages/one/kept.log", ""),
            ("repo/packages/one/deep/very.log", ""),
            ("repo/packages/one/secret.env", "A=1"),
            ("repo/packages/one/build/x", ""),
            ("repo/packages/one/top", ""),
            ("repo/packages/one/only", ""),
            ("repo/packages/one/src/only", ""),
            ("repo/packages/one/node_modules/x/y", ""),
        ],
    );
    let expected = [".gitignore", "deep/very.log", "gpack.toml", "kept.log", "src/only", "top"];
    let root = outer.path().join("repo/packages/one");
    assert_eq!(names(&root), expected);
    // Through a link, and with a path that is not the shortest, it is the same directory.
    symlink(&root, outer.path().join("link")).unwrap();
    assert_eq!(names(&outer.path().join("link/../one")), expected);
    assert_eq!(names(&outer.path().join("link")), expected);
    // A repository of its own begins again.
    write(&root, &[(".git", "gitdir: elsewhere")]);
    assert!(names(&root).contains(&"a.log".to_owned()));
}

#[test]
fn what_is_named_is_published_even_where_git_ignores_it_as_a_whole() {
    let outer = tempfile::tempdir().unwrap();
    write(outer.path(), &[(".git/HEAD", ""), (".gitignore", "dist/\n*.tmp\n"), ("dist/gpack.toml", "")]);
    write(outer.path(), &[("dist/a", ""), ("dist/b.tmp", "")]);
    assert_eq!(names(&outer.path().join("dist")), ["a", "gpack.toml"]);
}

#[test]
fn an_ignore_file_that_is_not_understood_is_told_by_its_line() {
    let utf_16 = "*.dat\n".encode_utf16().flat_map(u16::to_le_bytes);
    let cases: [(Vec<u8>, usize); 7] = [
        ([0xff, 0xfe].into_iter().chain(utf_16.clone()).collect(), 1),
        (utf_16.collect(), 1),
        (b"a\nnotes.da[t\n".to_vec(), 2),
        (b"# one\r*.dat\rother\r".to_vec(), 1),
        (b"a\r\nb\r\n*.d\0at\n".to_vec(), 3),
        (b"*.d\xe4t\n".to_vec(), 1),
        (b"\n[[:digits:]]\n".to_vec(), 2),
    ];
    for (text, line) in cases {
        let (outer, shown) = (tempfile::tempdir().unwrap(), String::from_utf8_lossy(&text).into_owned());
        write(outer.path(), &[(".git/HEAD", ""), ("in/gpack.toml", ""), ("in/sub/notes.dat", "")]);
        let root = outer.path().join("in");
        fs::write(root.join("sub/.ggenignore"), &text).unwrap();
        let error = walk(&root).unwrap_err();
        assert_eq!((error.code(), error.code().exit_code()), (Code::PackageInvalid, 7), "{shown:?}");
        assert!(error.to_string().contains(&format!("sub/.ggenignore:{line}: ")), "{error}");
        fs::remove_file(root.join("sub/.ggenignore")).unwrap();
        for place in ["in/sub", ""] {
            let file = outer.path().join(place).join(".gitignore");
            fs::write(&file, &text).unwrap();
            let mut warnings = Vec::new();
            walk_and_warn(&root, &mut warnings).unwrap();
            let at = format!(".gitignore:{line}: ");
            assert!(warnings.len() == 1 && warnings[0].contains(&at), "{shown:?}: {warnings:?}");
            fs::remove_file(file).unwrap();
        }
    }
    // What is a comment, and what Git understands, may be anything.
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("gpack.toml", ""), ("a.dat", "")]);
    fs::write(root.path().join(".ggenignore"), b"# K\xe4se\r\n*.dat\r\n").unwrap();
    assert_eq!(names(root.path()), [".ggenignore", "gpack.toml"]);
}

#[test]
fn an_ignore_file_above_that_would_block_is_refused() {
    let outer = tempfile::tempdir().unwrap();
    write(outer.path(), &[(".git/HEAD", ""), ("in/gpack.toml", "")]);
    let pipe = outer.path().join(".gitignore");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let offenders = offenders(&outer.path().join("in"));
    assert!(offenders[0].ends_with(".gitignore"), "{offenders:?}");
}

#[test]
fn the_description_is_never_left_out() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("gpack.toml", ""), (".gitignore", "*\n")]);
    assert_eq!(names(root.path()), ["gpack.toml"]);
}

#[test]
fn everything_that_is_no_regular_file_is_listed_at_once() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    write(root.path(), &[("gpack.toml", ""), ("real/file", ""), ("bad\\name", ""), ("nul.txt", "")]);
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("real", at("folder")).unwrap();
    symlink("nothing", at("dangling")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let expected = ["absolute", "bad\\\\name", "dangling", "folder", "nul.txt", "pipe", "socket"];
    assert_eq!(offenders(root.path()), expected);
    let error = walk(root.path()).unwrap_err();
    assert_eq!(error.code(), Code::PackageInvalid);
    assert!(error.to_string().contains("pipe: it is a named pipe"), "{error}");
    write(root.path(), &[(".ggenignore", "absolute\nfolder\ndangling\nsocket\npipe\nbad*\nnul.txt\n")]);
    assert_eq!(names(root.path()), [".ggenignore", "gpack.toml", "real/file"], "ignored is not published");
}

#[test]
fn an_ignore_file_that_would_block_or_lead_out_is_refused() {
    for place in ["", "sub"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(place);
        write(root.path(), &[("gpack.toml", "")]);
        fs::create_dir_all(&folder).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.join(".gitignore"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(offenders(root.path()), [Path::new(place).join(".gitignore").to_str().unwrap()]);
    }
}

#[test]
fn an_ignore_file_that_is_too_large_is_refused_before_it_is_read() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("gpack.toml", "")]);
    let largest = vec![b'#'; usize::try_from(IGNORE_FILE_BYTES_MAX).unwrap()];
    fs::write(root.path().join(".ggenignore"), &largest).unwrap();
    assert!(walk(root.path()).is_ok());
    fs::write(root.path().join(".ggenignore"), [&largest[..], b"#"].concat()).unwrap();
    assert_eq!(offenders(root.path()), [".ggenignore"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("gpack.toml", ""), ("closed", ""), ("shut/inside", "")]);
    fs::set_permissions(root.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(root.path().join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything; then there is nobody to refuse.
    if File::open(root.path().join("closed")).is_err() {
        assert_eq!(offenders(root.path()), ["closed", "shut"]);
    }
    fs::set_permissions(root.path().join("shut"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn names_that_are_not_utf8_are_named() {
    use std::os::unix::ffi::OsStrExt;

    let root = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"a\xff");
    fs::write(root.path().join(name), "").unwrap();
    assert_eq!(offenders(root.path()).len(), 1);
}

#[test]
fn depth_is_bounded_and_seen() {
    let root = tempfile::tempdir().unwrap();
    let deepest = format!("{}f", "d/".repeat(DEPTH_MAX));
    write(root.path(), &[(&deepest, "")]);
    assert_eq!(names(root.path()), [deepest]);
    write(root.path(), &[(&format!("{}f", "d/".repeat(500)), "")]);
    assert_eq!(offenders(root.path()).len(), 1);
}

#[test]
fn sizes_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    let sparse = |name: &str, size| File::create(root.path().join(name)).unwrap().set_len(size).unwrap();
    sparse("a", FILE_BYTES_MAX);
    sparse("b", PACKAGE_BYTES_MAX - FILE_BYTES_MAX);
    assert_eq!(walk(root.path()).unwrap().len(), 2, "exactly at the limit");
    sparse("c", 1);
    assert_eq!(walk(root.path()).unwrap_err().code(), Code::Limit);
    sparse("b", 0);
    sparse("a", FILE_BYTES_MAX + 1);
    assert_eq!(walk(root.path()).unwrap_err().code(), Code::Limit);
}

#[test]
fn names_that_differ_in_case_only_are_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("README", ""), ("readme", "")]);
    let error = walk(root.path()).unwrap_err();
    assert!(matches!(error, Error::Path(path::Error::Collision { .. })), "{error}");
    assert_eq!(
        error.code(),
        Code::PackageInvalid,
        "it is a folder that was named, and nothing that was signed"
    );
    assert_eq!(error.code().exit_code(), 7);
}

#[test]
fn names_that_differ_in_normalisation_only_are_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("caf\u{e9}", ""), ("cafe\u{301}", "")]);
    // A file system that does not tell them apart holds one file.
    if fs::read_dir(root.path()).unwrap().count() == 2 {
        assert!(matches!(walk(root.path()).unwrap_err(), Error::Path(path::Error::Collision { .. })));
    }
}

#[test]
fn directories_are_bounded() {
    let many = Error::from(path::Error::ManyDirectories);
    assert_eq!(many.code(), Code::Limit);
    assert!(many.hint().contains(".ggenignore"));
}

#[test]
fn a_hard_link_is_a_file_like_any_other() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("a", "x")]);
    fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
    assert_eq!(names(root.path()), ["a", "b"]);
}

#[test]
fn the_bit_for_executing_is_kept() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("a", ""), ("b", "")]);
    fs::set_permissions(root.path().join("b"), fs::Permissions::from_mode(0o700)).unwrap();
    let found = walk(root.path()).unwrap();
    assert_eq!([found[0].executable, found[1].executable], [false, true]);
}
