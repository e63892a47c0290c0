//! Secrets on disk: one text file each, for its owner alone.
//!
//! ```text
//! ggen-key 1
//! kind: publisher
//! public: <64 hexadecimal digits>
//! secret: <64 hexadecimal digits>
//! document: <hexadecimal>
//! sha256: <of everything above>
//! ```
//!
//! The same text is what `export` gives and `import` takes. The last line tells a file that was cut off or changed from one
//! that is whole, so that damage never turns into another identity.
//!
//! **Invariant:** nothing here repairs or removes a key file, and only a later key replaces one (`replace`). A file is written
//! whole beside its place, with mode 0600, forced to the disk, and then given its name, which fails if the name is taken.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::{PublicKey, SecretKey, hex};
use crate::{
    code::Code,
    limits::{KEY_DOCUMENTS_MAX, KEY_FILE_BYTES_MAX, KEY_NAME_BYTES_MAX},
    time::Timestamp,
};

const MAGIC: &str = "ggen-key 1";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The key behind a node's peer id.
    Node,
    /// The key that signs releases.
    Publisher,
    /// A key that names a publisher's next keys, and signs nothing else.
    Recovery,
    /// A key that signs a publisher's confirmations, and nothing else.
    Confirm,
}

impl Kind {
    /// The kind as it stands in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Publisher => "publisher",
            Self::Recovery => "recovery",
            Self::Confirm => "confirm",
        }
    }
}

/// What a key file holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) kind: Kind,
    pub(super) secret: SecretKey,
    /// Signed key documents, from the genesis; none for a node or a recovery key.
    pub(super) documents: Vec<Vec<u8>>,
}

/// The names of the keys in a folder, sorted; none where it is not there. Whether they can be loaded is not known.
///
/// # Errors
/// [`Error::Read`] where it is there and cannot be read.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(read)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let file = entry.map_err(read)?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".key"));
        names.extend(name.filter(|name| check_name(name).is_ok()).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

impl Contents {
    /// The text of the file.
    pub(super) fn write(&self) -> String {
        let mut text = format!(
            "{MAGIC}\nkind: {}\npublic: {}\nsecret: {}\n",
            self.kind.as_str(),
            self.secret.public_key(),
            hex::encode(self.secret.as_bytes()),
        );
        for document in &self.documents {
            text.push_str(&format!("document: {}\n", hex::encode(document)));
        }
        with_sum(text)
    }

    /// Reads a text that a person passed on: copying it through a terminal or an editor may lose the last line's end, or change the
    /// ends of all.
    pub(super) fn read_copied(text: &str, kind: Kind) -> Result<Self, Flaw> {
        Self::read(&format!("{}\n", text.trim().replace("\r\n", "\n")), kind)
    }

    /// Reads the text of a file that must be of one kind.
    pub(super) fn read(text: &str, kind: Kind) -> Result<Self, Flaw> {
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(Flaw::TooLarge);
        }
        if text.trim().is_empty() {
            return Err(Flaw::Empty);
        }
        let rest = text.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix('\n'));
        let Some(mut rest) = rest else {
            // A file that ends within its first line was cut off; anything else was never ours.
            return Err(if MAGIC.starts_with(text.trim_end()) { Flaw::CutOff } else { Flaw::NotAKey });
        };
        above_sum(text)?;
        let found = field(&mut rest, "kind")?;
        if found != kind.as_str() {
            let kinds = [Kind::Node, Kind::Publisher, Kind::Recovery, Kind::Confirm];
            let found = kinds.into_iter().find(|kind| kind.as_str() == found);
            return Err(found.map_or(Flaw::Damaged, |found| Flaw::Kind { found, wanted: kind }));
        }
        let public = bytes(field(&mut rest, "public")?)?;
        let secret = SecretKey::from_bytes(&bytes(field(&mut rest, "secret")?)?);
        if PublicKey::from_bytes(public).ok() != Some(secret.public_key()) {
            return Err(Flaw::Damaged);
        }
        let mut documents = Vec::new();
        while rest.starts_with("document: ") && documents.len() < KEY_DOCUMENTS_MAX {
            documents.push(hex::decode(field(&mut rest, "document")?).ok_or(Flaw::Damaged)?);
        }
        field(&mut rest, "sha256")?;
        if rest.is_empty() { Ok(Self { kind, secret, documents }) } else { Err(Flaw::Damaged) }
    }
}

/// Adds the last line.
pub(super) fn with_sum(mut text: String) -> String {
    let sum = hex::encode(&Sha256::digest(text.as_bytes()));
    text.push_str(&format!("sha256: {sum}\n"));
    text
}

/// Checks the last line against everything above it, which it yields.
pub(super) fn above_sum(text: &str) -> Result<&str, Flaw> {
    let (above, sum) = text.rsplit_once("sha256: ").ok_or(Flaw::CutOff)?;
    let sum = sum.strip_suffix('\n').ok_or(Flaw::CutOff)?;
    if !above.ends_with('\n') || sum != hex::encode(&Sha256::digest(above.as_bytes())) {
        return Err(Flaw::Damaged);
    }
    Ok(above)
}

/// Takes the next line, which must be `name: value`.
fn field<'a>(rest: &mut &'a str, name: &str) -> Result<&'a str, Flaw> {
    let (line, after) = rest.split_once('\n').ok_or(Flaw::Damaged)?;
    *rest = after;
    line.strip_prefix(name).and_then(|line| line.strip_prefix(": ")).ok_or(Flaw::Damaged)
}

fn bytes(text: &str) -> Result<[u8; 32], Flaw> {
    hex::decode(text).and_then(|bytes| bytes.try_into().ok()).ok_or(Flaw::Damaged)
}

/// Reads a key file.
pub(super) fn load(path: &Path, kind: Kind) -> Result<Contents, Error> {
    let refuse = |flaw| Error::Flaw { path: path.to_owned(), flaw };
    let text = read_private(path)?;
    let text = std::str::from_utf8(&text).map_err(|_| refuse(Flaw::NotAKey))?;
    Contents::read(text, kind).map_err(refuse)
}

/// Reads a file that only its owner may touch, without following a link or waiting on a pipe.
fn read_private(path: &Path) -> Result<Vec<u8>, Error> {
    let refuse = |flaw| Error::Flaw { path: path.to_owned(), flaw };
    let read = |error| Error::read(path, error);
    if fs::symlink_metadata(path).map_err(read)?.is_symlink() {
        return Err(refuse(Flaw::Symlink));
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).expect("the flags of open are an int");
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(read)?;
    // From here on the file that was opened is asked, not its name, which may name another by now.
    let metadata = file.metadata().map_err(read)?;
    if metadata.is_dir() {
        return Err(refuse(Flaw::Directory));
    }
    if !metadata.is_file() {
        return Err(refuse(Flaw::NotAFile));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(refuse(Flaw::Mode { mode: metadata.mode() & 0o777 }));
    }
    if metadata.len() > KEY_FILE_BYTES_MAX as u64 {
        return Err(refuse(Flaw::TooLarge));
    }
    let mut bytes = Vec::with_capacity(KEY_FILE_BYTES_MAX.min(8 << 10));
    file.take(KEY_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

/// Writes a new key file; refuses where anything has its name already.
pub(super) fn create(path: &Path, contents: &Contents) -> Result<(), Error> {
    let write = |error| Error::write(path, error);
    let (folder, file) = written_beside(path, contents)?;
    file.persist_noclobber(path).map_err(|error| write(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(write)
}

/// Writes a key file in the place of the one that is there: after a crash it is the one or the other.
pub(super) fn replace(path: &Path, contents: &Contents) -> Result<(), Error> {
    let write = |error| Error::write(path, error);
    let (folder, file) = written_beside(path, contents)?;
    file.persist(path).map_err(|error| write(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(write)
}

fn written_beside<'a>(
    path: &'a Path,
    contents: &Contents,
) -> Result<(&'a Path, tempfile::NamedTempFile), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = |error| Error::write(path, error);
    make_private_folder(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-key-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(write)?;
    file.write_all(contents.write().as_bytes()).map_err(write)?;
    file.as_file().sync_all().map_err(write)?;
    Ok((folder, file))
}

/// Makes a folder, and those above it, for its owner alone; refuses one that others may write to.
fn make_private_folder(folder: &Path) -> Result<(), Error> {
    let write = |error| Error::write(folder, error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(write)?;
    check_folder(folder)
}

/// Refuses a folder in which somebody else could put another key in the place of ours.
pub(super) fn check_folder(folder: &Path) -> Result<(), Error> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.mode() & 0o022 != 0 => {
            Err(Error::Folder { path: folder.to_owned(), mode: metadata.mode() & 0o777 })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Error::read(folder, error)),
    }
}

/// Whether nothing at all is at `path`; what cannot be asked about counts as something.
pub(super) fn is_missing(path: &Path) -> bool {
    matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Refuses a name of a publisher key that is not 1 to 32 of `a-z 0-9 -`.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if (1..=KEY_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Error::Name { name: super::canonical::shorten(name) })
    }
}

/// What is wrong with a key file's content or kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Group or others may read or write it.
    #[error("is open to other users (mode {mode:04o}), and a key must be its owner's alone")]
    Mode {
        /// Its permission bits.
        mode: u32,
    },
    /// Nothing is in it.
    #[error("is empty")]
    Empty,
    /// Its end is missing.
    #[error("is cut off: its end is missing")]
    CutOff,
    /// Its text does not match its own checksum, or holds what does not belong together.
    #[error("is damaged: its text does not match its checksum, or its parts do not belong together")]
    Damaged,
    /// It holds something else.
    #[error("is not a key file")]
    NotAKey,
    /// It holds a key of another kind.
    #[error("holds a {} key, where a {} key is needed", found.as_str(), wanted.as_str())]
    Kind {
        /// The kind it holds.
        found: Kind,
        /// The kind needed.
        wanted: Kind,
    },
    /// It is larger than any key file.
    #[error("is too large to be a key file")]
    TooLarge,
    /// It is a directory.
    #[error("is a directory, where a key file is needed")]
    Directory,
    /// It is a symbolic link.
    #[error("is a symbolic link, which is not followed to a key")]
    Symlink,
    /// It is a pipe, a socket or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Its key documents do not verify.
    #[error("is damaged: its key documents do not verify")]
    Documents,
    /// Its key is not among the publisher's current ones.
    #[error("holds a key that its publisher has replaced")]
    Replaced,
}

/// Why a key could not be loaded or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is there and is not a key that may be used.
    #[error("the key file {} {flaw}", path.display())]
    Flaw {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: Flaw,
    },
    /// A text that was given is not a key that may be used.
    #[error("the text given {flaw}")]
    Text {
        /// What is wrong.
        flaw: Flaw,
    },
    /// Others may write to the folder of a key.
    #[error("other users may write to the key folder {} (mode {mode:04o})", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No such file.
    #[error("there is no key file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not there, although somebody is known by its key: another one would be another identity.
    #[error(
        "the key file {} is gone, and a new key would not be {identity}, whose folder this is", path.display()
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// Whose key it is.
        kind: Kind,
        /// Who is known by it.
        identity: String,
        /// Whether it is known that recovery keys can name another one.
        has_recovery: bool,
    },
    /// The key of a publisher is not there, and another publisher's has its name.
    #[error(
        "the key of publisher {id} is lost: it was called {name} here, as the key of another publisher is now"
    )]
    LostBeside {
        /// What it was called.
        name: String,
        /// What it can be called if it comes back.
        free: String,
        /// Whose key it is.
        id: String,
        /// Whether it is known that recovery keys can name another one.
        has_recovery: bool,
    },
    /// Something has the name of a new key already.
    #[error("the key file {} exists already, and a key is never replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the key file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("the key file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not a name of a publisher key.
    #[error("\"{name}\" is not a name of a publisher key: 1 to 32 of a-z, 0-9 and '-' are allowed")]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// The key was replaced on another machine.
    #[error(
        "the key {name} was replaced: others know key document {n} of its publisher, made on {created}, and it is not here"
    )]
    Replaced {
        /// What the key is called.
        name: String,
        /// The number of the first document that is not here.
        n: u64,
        /// When that was made.
        created: Timestamp,
        /// Whether it is known that recovery keys can name a later one.
        has_recovery: bool,
    },
    /// What belongs to the key was changed on another machine, such as its recovery keys; the key was not.
    #[error(
        "other keys of the publisher of {name} were changed: others know its key document {n}, made on {created}, which is not here; the \
         key {name} itself is the same as before"
    )]
    Amended {
        /// What the key is called.
        name: String,
        /// The number of the first document that is not here.
        n: u64,
        /// When that was made.
        created: Timestamp,
    },
    /// The new key document is none.
    #[error(transparent)]
    Keys(#[from] super::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers to make a key of")]
    Entropy {
        /// What the system says.
        source: getrandom::Error,
    },
}

impl Error {
    fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Read { path, source },
        }
    }

    fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Write { path, source },
        }
    }

    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Name { .. } => Code::Usage,
            Self::Keys(error) => error.code(),
            Self::Exists { .. } => Code::Conflict,
            Self::Entropy { .. } => Code::Failed,
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Code::ReadOnly,
                _ => Code::Io,
            },
            _ => Code::KeyFile,
        }
    }

    /// What to do about it, as exactly as it can be said.
    pub fn hint(&self) -> String {
        match self {
            Self::Flaw { path, flaw } => flaw_hint(&path.display().to_string(), *flaw),
            Self::Text { .. } => {
                "give the whole text that `key export` printed, with its last line".to_owned()
            }
            Self::Folder { path, .. } => format!("chmod 700 {}", path.display()),
            Self::Missing { path } => format!("put the key back to {}, or make a new one", path.display()),
            Self::Lost { path, kind: Kind::Node, .. } => format!(
                "restore {} from your backup; to go on as another node, on purpose: ggen marketplace p2p key new --node",
                path.display()
            ),
            Self::LostBeside { free, id, has_recovery, .. } => {
                let recover = match has_recovery {
                    true => format!(
                        "Or go on as that publisher with a new key, which its recovery keys sign: ggen marketplace p2p key revoke {id} \
                         --recovery <file>\n"
                    ),
                    false => String::new(),
                };
                format!(
                    "bring it back from your backup under another name: ggen marketplace p2p key import {free} <file>\n{recover}\
                     If you do not miss it, and want to hear no more of it: ggen marketplace p2p key forget {id}"
                )
            }
            Self::Lost { path, identity, has_recovery, .. } => {
                let id = identity.trim_start_matches("publisher ");
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let recover = match has_recovery {
                    true => format!(
                        "Or go on as the same publisher with a new key, which its recovery keys sign: ggen marketplace p2p key revoke \
                         {name} --recovery <file>\n"
                    ),
                    false => String::new(),
                };
                format!(
                    "restore {} from your backup, or with: ggen marketplace p2p key import {name} <file>\n{recover}\
                     To publish as another publisher from now on, on purpose: ggen marketplace p2p key new {name}\n\
                     If you do not miss it, and want to hear no more of it: ggen marketplace p2p key forget {id}",
                    path.display()
                )
            }
            Self::Exists { path } if new_key(path).as_deref() == Some("--node") => {
                "to replace it, and keep the one that is there beside it: ggen marketplace p2p key new --node --replace".to_owned()
            }
            Self::Exists { path } => format!("use another name, or move {} away first", path.display()),
            Self::Read { path, .. } => {
                format!(
                    "let the user that runs the node own it: chown \"$USER\" {0} && chmod 600 {0}",
                    path.display()
                )
            }
            Self::Write { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!("check that {} can be written to and has space left", folder.display())
            }
            Self::Amended { name, .. } => format!(
                "If it was you (key recovery, key confirm), bring the documents here with the key. Where it was done: ggen marketplace p2p \
                 key export <its name there> --to <file>; here: ggen marketplace p2p key import {name} <file>\n\
                 If it was not you, somebody else has the key: ggen marketplace p2p key revoke {name}"
            ),
            Self::Replaced { name, has_recovery, .. } => {
                let import = format!(
                    "If it was you, import the new key. Where it is: ggen marketplace p2p key export <its name there> --to <file>; here: \
                     ggen marketplace p2p key import {name} <file>"
                );
                match has_recovery {
                    true => format!(
                        "{import}\nIf that key is lost, or it was not you, replace it by its recovery keys: ggen marketplace p2p key \
                         revoke {name} --recovery <file>"
                    ),
                    false => format!(
                        "{import}\nIf it was not you, somebody else has your key, and without recovery keys there is no way back: tell \
                         your users over another channel, and publish from a new key from now on: ggen marketplace p2p key new <name> \
                         --recovery <file>, then: ggen marketplace p2p publish --key <name>"
                    ),
                }
            }
            Self::Keys(super::Error::Signature { .. }) => {
                "its publisher named recovery keys, and only those rotate: give the files of enough of them with --recovery; see: \
                 ggen marketplace p2p key recovery list"
                    .to_owned()
            }
            Self::Keys(error) => error.hint(),
            Self::Name { .. } => "use a name such as \"default\" or \"work-2\"".to_owned(),
            Self::Entropy { .. } => "check that the system's random number generator works".to_owned(),
        }
    }
}

/// What `key new` is to make in the place of a key of a state folder; none for files that lie elsewhere.
fn new_key(path: &Path) -> Option<String> {
    let folder = path.parent()?.file_name()?;
    match (folder.to_str()?, path.file_name()?.to_str()?) {
        ("keys", super::node_key::FILE_NAME) => Some("--node".to_owned()),
        ("publishers", name) => name.strip_suffix(".key").map(str::to_owned),
        _ => None,
    }
}

fn flaw_hint(path: &str, flaw: Flaw) -> String {
    match flaw {
        Flaw::Mode { .. } => format!("chmod 600 {path}"),
        Flaw::Symlink => {
            format!("put the key itself there: cp --remove-destination \"$(readlink -f {path})\" {path}")
        }
        Flaw::Kind { found, .. } => {
            format!("move this {} key away from {path} and put the right one there", found.as_str())
        }
        Flaw::Replaced => "use the key that replaced it".to_owned(),
        Flaw::Directory | Flaw::NotAFile | Flaw::NotAKey | Flaw::TooLarge => {
            format!(
                "move {path} away, and put the key there from your backup; without one, a new key is a new identity"
            )
        }
        Flaw::Empty | Flaw::CutOff | Flaw::Damaged | Flaw::Documents => {
            let restore = format!("restore {path} from your backup");
            match new_key(Path::new(path)) {
                Some(name) if super::publisher::has_recovery(Path::new(path), &name) => format!(
                    "{restore}; without one, go on as the same publisher with a new key, which its recovery keys sign: mv {path} \
                     {path}.damaged; ggen marketplace p2p key revoke {name} --recovery <file>"
                ),
                Some(name) => format!(
                    "{restore}; without one, make a new key, which is a new identity: mv {path} {path}.damaged; \
                     ggen marketplace p2p key new {name}"
                ),
                None => format!("{restore}; without one, a new key is a new identity"),
            }
        }
    }
}
