//! The flags of the last start that succeeded: `restart` starts with them, and other verbs learn from them which configuration file the
//! running node reads.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ggen_marketplace::{
    code::Code,
    config,
    control::{api::Failure, service::Outcome},
};
use tracing::warn;

use super::{ConfigFile, Flags, config_file};
use crate::session::Session;

/// Where they are, in the state folder.
pub(super) const FILE: &str = "start-flags.json";
/// Bytes of [`FILE`] at most.
const BYTES_MAX: u64 = 64 << 10;

/// Keeps the flags, which may be asked for from another folder and under another environment: a configuration file that was named is kept
/// by its whole path. They are a convenience: a start does not fail for them.
pub(super) fn remember(home: &Path, flags: &Flags) {
    let file = config_file(home, flags.config.as_deref()).ok();
    let named = file.filter(|file| file.is_named).map(|file| file.path);
    let flags = Flags { config: named.or_else(|| flags.config.clone()), ..flags.clone() };
    let written = serde_json::to_vec(&flags).map_err(io::Error::from).and_then(|bytes| {
        let mut file = tempfile::NamedTempFile::new_in(home)?;
        io::Write::write_all(&mut file, &bytes)?;
        file.persist(home.join(FILE)).map(drop).map_err(|error| error.error)
    });
    if let Err(error) = written {
        warn!(%error, "flags not kept for a restart");
    }
}

/// The flags of the last start; none where there was none. Without those of a file that cannot be read a node would listen elsewhere than
/// it was told to.
pub(crate) fn remembered(home: &Path) -> Outcome<Flags> {
    let path = home.join(FILE);
    let read = match fs::File::open(&path) {
        Ok(file) => serde_json::from_reader(io::Read::take(file, BYTES_MAX)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Flags::default()),
        Err(error) => Err(serde_json::Error::io(error)),
    };
    read.map_err(|error| {
        Failure::new(
            Code::Config,
            format!("The flags of the last start cannot be read from {}: {error}.", path.display()),
            format!(
                "A node that runs goes on. Delete the file, and start with the flags that you want: rm {}, then: ggen marketplace p2p restart \
                 --listen ADDRESS",
                path.display()
            ),
        )
    })
}

/// The configuration file that a verb works on, and the one that the running node reads where that is another one.
pub(crate) struct FileInUse {
    /// The one that was named, or else the one that the running node reads, or else that of the state folder.
    pub(crate) file: ConfigFile,
    /// The one that the running node reads, where another one was named.
    pub(crate) node_reads: Option<PathBuf>,
    /// The one that `restart` would read, where no node runs and none was named.
    pub(crate) restart_reads: Option<PathBuf>,
}

/// Finds the configuration file that a verb works on.
pub(crate) async fn file_in_use(session: &Session, flag: Option<&Path>) -> Outcome<FileInUse> {
    let home = session.home();
    let file = config_file(home, flag)?;
    let is_running = !session.client().status().await.is_err_and(|failure| failure.is_not_running());
    let started_with = match (is_running, remembered(home)) {
        (true, Ok(flags)) => flags,
        (true, Err(failure)) if !file.is_named => return Err(failure),
        (false, Ok(flags)) if !file.is_named => {
            let restart_reads = flags.config.filter(|read| !is_same(read, &file.path));
            return Ok(FileInUse { file, node_reads: None, restart_reads });
        }
        _ => return Ok(FileInUse { file, node_reads: None, restart_reads: None }),
    };
    let read = started_with.config.unwrap_or_else(|| home.join(config::FILE_NAME));
    let (file, node_reads) = match (is_same(&read, &file.path), file.is_named) {
        (true, _) => (file, None),
        (false, true) => (file, Some(read)),
        (false, false) => (ConfigFile { path: read, is_named: true }, None),
    };
    Ok(FileInUse { file, node_reads, restart_reads: None })
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}
