//! Which files of a directory are published, and opening them so that nothing else is read in their place.
//!
//! What ignore files leave out is not published: those inside the directory, and in a Git repository the `.gitignore` files above it up
//! to the root of the repository (`ignore_files.rs`). Hidden files belong to a package unless they are ignored; `.git` never does, and
//! the `gpack.toml` at the top always does.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ignore::{DirEntry, WalkBuilder};
use rustix::fs::OFlags;

pub use self::error::{Error, Misread, Offender};
use super::{PackagePath, gpack, ignore_files::IgnoreFiles, path, shorten};
use crate::limits::{DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, IGNORE_FILE_BYTES_MAX, PACKAGE_BYTES_MAX};

mod error;

/// Offenders that are collected; a directory with more of them is not looked through any further.
const OFFENDERS_MAX: usize = 100;

/// A file up to this size is read when it is found.
const HELD_FILE_BYTES_MAX: u64 = 256 << 10;
/// Bytes of one package that are held so; the rest is read when it is packed.
const HELD_BYTES_MAX: u64 = 64 << 20;

/// One file to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path inside the package.
    pub path: PackagePath,
    /// Where it is.
    pub source: PathBuf,
    /// Whether it may be executed: mode 755 rather than 644.
    pub executable: bool,
    /// What it was when it was found.
    pub state: State,
    /// Its bytes, where it is small: they were read when it was found, so that it is opened once.
    pub held: Option<Arc<[u8]>>,
}

impl Found {
    /// Whether what is there is still what was found.
    pub(super) fn is_same(&self) -> bool {
        fs::symlink_metadata(&self.source).is_ok_and(|metadata| State::of(&metadata) == self.state)
    }
}

/// What a file looked like from outside; another state means other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Bytes.
    pub size: u64,
    modified: (i64, i64),
    file: (u64, u64),
}

impl State {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }
}

/// Collects the files of `directory`, sorted by path.
///
/// # Errors
/// [`Error::Offenders`] with everything that cannot be published, [`Error::IgnoreFile`] where a `.ggenignore` is not understood, and
/// [`Error::Limit`] for too much of it.
pub fn walk(directory: &Path) -> Result<Vec<Found>, Error> {
    walk_and_warn(directory, &mut Vec::new())
}

/// As [`walk`]; what is not understood in a `.gitignore`, and so leaves nothing out, is added to the warnings, as full sentences.
///
/// # Errors
/// As [`walk`].
pub fn walk_and_warn(directory: &Path, warnings: &mut Vec<String>) -> Result<Vec<Found>, Error> {
    let mut search = Search { root: directory, found: Vec::new(), offenders: Vec::new(), bytes: 0, held: 0 };
    let ignored = Arc::new(Mutex::new(IgnoreFiles::above(directory)));
    if lock(&ignored).enter(directory) {
        for entry in walker(directory, ignored.clone()) {
            search.visit(entry)?;
            if search.offenders.len() >= OFFENDERS_MAX {
                break;
            }
        }
        search.visit_description()?;
    }
    let [misread, of_git] = lock(&ignored).take_misread();
    if !misread.is_empty() {
        return Err(Error::IgnoreFile { misread });
    }
    warnings.extend(
        of_git
            .iter()
            .map(|it| format!("A line of an ignore file is not understood and leaves nothing out: {it}.")),
    );
    let bad = lock(&ignored).take_bad();
    for path in bad {
        search.offend(
            &path,
            format!("an ignore file must be a regular file of at most {IGNORE_FILE_BYTES_MAX} bytes"),
        );
    }
    let Search { mut found, mut offenders, .. } = search;
    if !offenders.is_empty() {
        offenders.sort_by(|left, right| left.path.cmp(&right.path));
        return Err(Error::Offenders { offenders });
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    path::check_list(found.iter().map(|found| &found.path))?;
    Ok(found)
}

fn walker(directory: &Path, ignored: Arc<Mutex<IgnoreFiles>>) -> ignore::Walk {
    WalkBuilder::new(directory)
        .standard_filters(false)
        .follow_links(false)
        // A directory of this depth is seen and refused, rather than left out with all that it holds.
        .max_depth(Some(DEPTH_MAX + 1))
        .filter_entry(move |entry| {
            let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            let mut ignored = lock(&ignored);
            !is_git(entry.path())
                && !ignored.leaves_out(entry.path(), is_folder)
                && (!is_folder || ignored.enter(entry.path()))
        })
        .build()
}

fn lock(ignored: &Mutex<IgnoreFiles>) -> MutexGuard<'_, IgnoreFiles> {
    ignored.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_git(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.eq_ignore_ascii_case(".git"))
}

struct Search<'a> {
    root: &'a Path,
    found: Vec<Found>,
    offenders: Vec<Offender>,
    bytes: u64,
    /// Bytes of the small files that are held.
    held: u64,
}

impl Search<'_> {
    fn offend(&mut self, source: &Path, why: impl Into<String>) {
        let path = source.strip_prefix(self.root).unwrap_or(source);
        let path = shorten(&path.to_string_lossy());
        self.offenders.push(Offender { path, why: why.into() });
    }

    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> Result<(), Error> {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = path_of(&error).unwrap_or(self.root).to_owned();
                let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                self.offend(&path, format!("it cannot be read: {why}"));
                return Ok(());
            }
        };
        if entry.depth() == 0 {
            return Ok(());
        }
        match entry.file_type() {
            Some(kind) if kind.is_dir() => {
                self.visit_directory(&entry);
                Ok(())
            }
            kind => self.visit_file(entry.path(), kind.is_some_and(|kind| kind.is_file())),
        }
    }

    fn visit_directory(&mut self, entry: &DirEntry) {
        if entry.depth() > DEPTH_MAX {
            self.offend(entry.path(), format!("it is deeper than {DEPTH_MAX} directories"));
        }
    }

    /// Adds `gpack.toml` where an ignore file left it out.
    fn visit_description(&mut self) -> Result<(), Error> {
        let path = self.root.join(gpack::FILE_NAME);
        let is_found = self.found.iter().any(|found| found.path.as_str() == gpack::FILE_NAME);
        let is_offender = self.offenders.iter().any(|offender| offender.path == gpack::FILE_NAME);
        if is_found || is_offender || fs::symlink_metadata(&path).is_err() {
            return Ok(());
        }
        self.visit_file(&path, false)
    }

    fn visit_file(&mut self, source: &Path, is_regular: bool) -> Result<(), Error> {
        match self.file(source, is_regular) {
            Ok(found) => self.add(found),
            Err(why) => {
                self.offend(source, why);
                Ok(())
            }
        }
    }

    fn file(&mut self, source: &Path, is_regular: bool) -> Result<Found, String> {
        let relative = source.strip_prefix(self.root).map_err(|_| "it is outside of the directory")?;
        let relative = relative.to_str().ok_or("its name is not UTF-8")?;
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        if !is_regular && let Some(kind) = irregular(&fs::symlink_metadata(source).map_err(unreadable)?) {
            return Err(format!("it is {kind}; only regular files are published"));
        }
        let path = relative.parse::<PackagePath>().map_err(|error| error.to_string())?;
        // Opening shows now, with all other offenders, whether it can be read later.
        let (file, metadata) = open_with_metadata(source).map_err(unreadable)?;
        let executable = metadata.mode() & 0o111 != 0;
        let state = State::of(&metadata);
        let is_held = state.size <= HELD_FILE_BYTES_MAX && self.held + state.size <= HELD_BYTES_MAX;
        // What changes meanwhile is noticed when it is packed.
        let bytes = if is_held { read_whole(&file, state).map_err(unreadable)? } else { None };
        self.held += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(Found { path, source: source.to_owned(), executable, state, held: bytes.map(Arc::from) })
    }

    fn add(&mut self, found: Found) -> Result<(), Error> {
        let limit = |what, max| Error::Limit { path: found.path.to_string(), what, max };
        if found.state.size > FILE_BYTES_MAX {
            return Err(limit("bytes in one file", FILE_BYTES_MAX));
        }
        self.bytes = self.bytes.saturating_add(found.state.size);
        if self.bytes > PACKAGE_BYTES_MAX {
            return Err(limit("bytes in one package", PACKAGE_BYTES_MAX));
        }
        if self.found.len() == FILES_MAX {
            return Err(limit("files in one package", FILES_MAX as u64));
        }
        self.found.push(found);
        Ok(())
    }
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        _ => None,
    }
}

/// What a thing is that is no regular file.
fn irregular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device or folder")
    }
}

/// Opens a regular file for reading: never through a link, never waiting for the other end of a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with_metadata(path).map(|(file, _)| file)
}

pub(super) fn open_with_metadata(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// Reads all of a file that was just opened; nothing where it is not in this state any more.
pub(super) fn read_whole(mut file: &File, state: State) -> io::Result<Option<Vec<u8>>> {
    let size = usize::try_from(state.size).unwrap_or(usize::MAX);
    let (mut bytes, mut filled) = (vec![0; size], 0);
    while filled < size {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(None),
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // It grew, or was written to, where this is another one.
    Ok((State::of(&file.metadata()?) == state).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
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
            Err(Error::Offenders { offenders }) => {
                offenders.into_iter().map(|offender| offender.path).collect()
            }
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
            (b"\n{a,b\n".to_vec(), 2),
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
        assert_eq!(
            names(root.path()),
            [".ggenignore", "gpack.toml", "real/file"],
            "ignored is not published"
        );
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
}
