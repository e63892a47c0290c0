//! Where a node logs: to stderr, which is a file for a daemon.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ggen_marketplace::config::{LogLevel, env};
use tracing_subscriber::EnvFilter;

/// Name of a daemon's log inside the state folder.
const NAME: &str = "node.log";
/// A log over this size is put aside, as `node.log.1`, when a daemon starts.
const BYTES_MAX: u64 = 16 << 20;

/// A daemon's log file.
pub(crate) fn path(home: &Path) -> PathBuf {
    home.join(NAME)
}

/// Opens a daemon's log file to append to; one that has grown large is put aside first.
pub(crate) fn open(home: &Path) -> io::Result<File> {
    let path = path(home);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > BYTES_MAX) {
        fs::rename(&path, home.join(format!("{NAME}.1")))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Changes the filter of a log that has begun.
type Refilter = Box<dyn Fn(LogLevel) + Send + Sync>;

/// How the level of this process's log is changed.
static REFILTER: OnceLock<Refilter> = OnceLock::new();

/// Logs at another level from now on; false where `RUST_LOG` says what is logged.
pub(super) fn set_level(level: LogLevel) -> bool {
    let is_free = !matches!(named_filter(), Some(Ok(_)));
    if let Some(refilter) = REFILTER.get().filter(|_| is_free) {
        refilter(level);
    }
    is_free
}

/// The filter of `RUST_LOG`, or what is wrong with it; none where it is not set.
fn named_filter() -> Option<Result<EnvFilter, String>> {
    let text = std::env::var_os(env::RUST_LOG).filter(|text| !text.is_empty())?;
    let parsed = text.to_str().ok_or_else(|| "it is not valid UTF-8".to_owned());
    Some(parsed.and_then(|text| EnvFilter::try_new(text).map_err(|error| error.to_string())))
}

/// What the log lets through without `RUST_LOG`.
fn filter(level: LogLevel) -> EnvFilter {
    let ours = level.as_str();
    let others = if matches!(level, LogLevel::Off | LogLevel::Error) { ours } else { "warn" };
    // That a node knows nobody yet is said by us, in words for people.
    let kad = if others == "warn" { ",libp2p_kad=error" } else { "" };
    EnvFilter::new(format!("{others}{kad},ggen_marketplace={ours},ggen_cli={ours}"))
}

/// Begins to log: as `RUST_LOG` says, or else our own modules at `level` and all others only when they warn. Yields what to
/// warn of, where `RUST_LOG` says nothing that can be understood.
pub(super) fn init(level: LogLevel) -> Option<String> {
    let (filter, warning) = match named_filter() {
        None => (filter(level), None),
        Some(Ok(named)) => (named, None),
        Some(Err(why)) => {
            let warning = format!(
                "RUST_LOG is not a filter, and log.level ({}) counts: {why}. Write for example RUST_LOG=debug",
                level.as_str()
            );
            (filter(level), Some(warning))
        }
    };
    let is_colourful = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second node in one process, as in a demonstration, logs where the first one does.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(is_colourful)
        // Where stderr is gone, as a terminal that was closed, nobody can be told that; the attempt would be a panic.
        .log_internal_errors(false)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    if subscriber.try_init().is_ok() {
        let refilter: Refilter = Box::new(move |level| {
            if let Err(error) = handle.reload(self::filter(level)) {
                tracing::warn!(%error, "the level of the log was not changed");
            }
        });
        let _ = REFILTER.set(refilter);
    }
    warning
}
