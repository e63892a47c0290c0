//! The life of a node: its state folder, its configuration, its start and its end, and the socket between.
//!
//! One node runs on a state folder: the process that opens the node holds the folder's lock, which ends with the process. The socket is
//! bound only while the lock is held, so the socket of a dead node is in nobody's way. [`run`] is a node in this process,
//! [`daemon`] one in the background, [`node`] the only place that knows how a node is made.

pub(crate) mod daemon;
pub(crate) mod descriptors;
pub(crate) mod flags;
pub(crate) mod log;
mod node;
pub(crate) mod own_time;
mod port_owner;
mod signals;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ggen_marketplace::{
    backend::p2p::View,
    code::Code,
    config::{self, Effective, Layers, Origin, P2PConfig, Partial, Unknown},
    control::{
        api::{
            AmendRequest, Amended, CollectRequest, Collected, DropRequest, Dropped, Failure, InstallRequest,
            Installed, KeepRequest, KeptList, Planned, Progress, ProjectDone, ProjectRequest, PublishRequest,
            Published, RemoveRequest, Removed, Stopping, Trust, TrustRequest,
        },
        server::Server,
        service::{Cancel, Outcome, ProgressSender},
        socket_path,
    },
    identity::{Publisher, publisher::Lost},
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::p2p::start::Flags;
use crate::{
    session::{End, Exit, Finished, Session},
    values,
};
use node::Node;
use signals::{Hangup, Signals};

/// The folder of keys inside the state folder.
const KEYS_FOLDER: &str = "keys";
/// The publisher key that is used where none is named.
pub(crate) const KEY_DEFAULT: &str = "default";
/// How long a node may take to flush and close, after the second that the socket gives to answers in progress: all of it within
/// five seconds. It bounds the parts of the node's own shutdown, which come to three.
const SHUTDOWN_DEADLINE: Duration = Duration::from_millis(3_500);
/// How long `stop` waits for the process to be gone.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How often `stop` looks.
const STOP_PAUSE: Duration = Duration::from_millis(20);

/// A node that is ready, as `start` tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The node's peer id.
    pub(crate) peer_id: String,
    /// Full addresses, each ending in `/p2p/<peer id>`.
    pub(crate) listen_addresses: Vec<String>,
    /// Lines for others to copy.
    pub(crate) bootstrap_lines: Vec<String>,
    /// Process id of the node.
    pub(crate) pid: u32,
    /// The state folder.
    pub(crate) home: String,
    /// The control socket.
    pub(crate) socket: String,
    /// The log file, of a daemon.
    pub(crate) log: Option<String>,
    /// The configuration file.
    #[serde(default)]
    pub(crate) config: String,
    /// What is not as it is by default, and where that comes from.
    #[serde(default)]
    pub(crate) uses: Vec<Used>,
    /// What a person should know of keys that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// A value that a node was started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Used {
    /// The key of the configuration.
    pub(crate) key: String,
    /// The value, as text.
    pub(crate) value: String,
    /// Where it comes from: a flag, a variable of the environment, a line of the file.
    pub(crate) origin: String,
}

/// What a start uses that is not as it is by default.
fn uses(home: &Path, effective: &Effective, save: bool) -> Vec<Used> {
    let defaults = Partial::of(&P2PConfig::for_daemon(home));
    let shown = effective.show().into_iter().filter(|shown| match shown.origin {
        Origin::Default => false,
        // The file that the first start wrote holds the defaults.
        Origin::File { .. } => shown.value != shown.key.of(&defaults),
        Origin::Flag | Origin::Env(_) => true,
    });
    let used = shown.map(|shown| Used {
        key: shown.key.name.to_owned(),
        value: shown.value.as_ref().map_or_else(|| "(not set)".to_owned(), ToString::to_string),
        origin: match shown.origin {
            Origin::Flag if save => "flag, saved".to_owned(),
            Origin::Flag => "flag, for this time; --save keeps it".to_owned(),
            origin => origin.to_string(),
        },
    });
    used.collect()
}

/// The state folder, absolute: the flag, or `GGEN_HOME`, or `~/.ggen`.
pub(crate) fn home(flag: Option<PathBuf>) -> Outcome<PathBuf> {
    let user_home = std::env::home_dir();
    let lookup = |name: &str| match (&flag, name) {
        (Some(flag), config::env::HOME) => Some(flag.clone().into_os_string()),
        _ => std::env::var_os(name),
    };
    let home =
        config::env::state_dir(&lookup, user_home.as_deref()).map_err(|error| config_failure(&error))?;
    values::absolute(&home)
}

/// Waits for Ctrl-C, a polite kill, or the end of the terminal; permanently where they cannot be caught.
pub(crate) async fn told_to_stop() {
    match Signals::new(Hangup::Ends) {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// The folder of keys.
pub(crate) fn keys_folder(home: &Path) -> PathBuf {
    home.join(KEYS_FOLDER)
}

/// The configuration file: the flag, or `GGEN_P2P_CONFIG`, both of which must exist, or the one of the state folder.
pub(crate) fn config_file(home: &Path, flag: Option<&Path>) -> Outcome<ConfigFile> {
    let user_home = std::env::home_dir();
    let named = match flag {
        Some(flag) => Some(config::expand_home(flag, user_home.as_deref())),
        None => config::env::config_path(&|name| std::env::var_os(name), user_home.as_deref()).transpose(),
    };
    match named.transpose().map_err(|error| config_failure(&error))? {
        Some(path) => Ok(ConfigFile { path: values::absolute(&path)?, is_named: true }),
        None => Ok(ConfigFile { path: home.join(config::FILE_NAME), is_named: false }),
    }
}

/// Where the configuration file is.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    /// Its path, absolute.
    pub(crate) path: PathBuf,
    /// Whether somebody named it, so that it must exist.
    pub(crate) is_named: bool,
}

/// What flags, environment, file and defaults come to.
pub(crate) fn effective(home: &Path, flags: &Flags) -> Outcome<Effective> {
    let failed = |error| config_failure(&error);
    let unknown = if flags.strict_config { Unknown::Refuse } else { Unknown::Warn };
    let file = config_file(home, flags.config.as_deref())?;
    let file = if file.is_named {
        config::document::read(&file.path, unknown).map(Some)
    } else {
        config::document::read_if_present(&file.path, unknown)
    };
    let layers = Layers {
        flags: from_flags(flags)?,
        env: Partial::from_env(&|name| std::env::var_os(name)).map_err(failed)?,
        file: file.map_err(failed)?,
        defaults: P2PConfig::for_daemon(home),
    };
    let mut effective = layers.resolve().map_err(failed)?;
    effective.warnings.extend(config::env::unknown(std::env::vars_os().map(|(name, _)| name)));
    Ok(effective)
}

fn from_flags(flags: &Flags) -> Outcome<Partial> {
    let word =
        |what: String| Failure::new(Code::Usage, format!("{}.", sentence(&what)), "Choose one of these.");
    let mut given = Partial {
        dht_server_mode: flags.dht_server,
        mdns: flags.no_mdns.then_some(false),
        upnp: flags.no_upnp.then_some(false),
        ..Default::default()
    };
    let refused = |error: config::AddressError| {
        Failure::new(error.code(), format!("The address {error}."), error.hint())
    };
    // Checked when the arguments were parsed; those of an earlier start may be from another version.
    if !flags.listen.is_empty() {
        let parsed: Result<_, _> = flags.listen.iter().map(|text| config::parse_listen(text)).collect();
        given.listen_addresses = Some(parsed.map_err(refused)?);
    }
    if !flags.bootstrap.is_empty() {
        let parsed: Result<_, _> = flags.bootstrap.iter().map(|text| config::parse_dial(text)).collect();
        given.bootstrap_nodes = Some(parsed.map_err(refused)?);
    }
    if !flags.hub.is_empty() {
        let parsed: Result<_, _> = flags.hub.iter().map(|text| config::parse_dial(text)).collect();
        given.hubs = Some(parsed.map_err(refused)?);
    }
    given.topology = flags.topology.as_deref().map(str::parse).transpose().map_err(word)?;
    given.role = flags.role.as_deref().map(str::parse).transpose().map_err(word)?;
    Ok(given)
}

/// A configuration's error as a failure.
pub(crate) fn config_failure(error: &config::Error) -> Failure {
    failure(error.code(), error, error.hint())
}

/// An error and what lies under it as a failure.
pub(crate) fn failure(code: Code, error: &dyn std::error::Error, hint: String) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let below = error.to_string();
        // Some errors repeat what they hold.
        if !message.contains(&below) {
            message.push_str(&format!(": {below}"));
        }
        source = error.source();
    }
    Failure::new(code, sentence(&message), sentence(&hint))
}

/// Makes a sentence of an error's message; a command to copy stays as it is.
fn sentence(message: &str) -> String {
    let is_command = |line: &str| line.starts_with("chmod ") || line.contains("ggen marketplace");
    // A key of a file or a path keeps its spelling.
    let is_name = message.split([' ', ':']).next().is_some_and(|word| word.contains(['.', '_', '/']));
    if is_name || message.lines().next().is_none_or(is_command) {
        return message.to_owned();
    }
    let mut characters = message.chars();
    let mut sentence: String = characters.by_ref().take(1).flat_map(char::to_uppercase).collect();
    sentence.push_str(characters.as_str());
    let is_open = sentence.ends_with(|last: char| last.is_alphanumeric() || matches!(last, ')' | '\'' | '"'));
    if is_open && !sentence.lines().last().is_some_and(is_command) {
        sentence.push('.');
    }
    sentence
}

/// Points out a state folder that was there already and into which others may write.
fn open_to_others(home: &Path) -> Option<String> {
    let mode = fs::metadata(home).ok()?.permissions().mode();
    (mode & 0o022 != 0).then(|| {
        let home = home.display();
        format!("others can write into the state folder {home}, and so put files of theirs in it: chmod 700 {home}")
    })
}

/// Makes the state folder, for its owner alone.
fn make_home(home: &Path) -> Outcome<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::StorageFull => Code::DiskFull,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::ReadOnly,
            _ => Code::Io,
        };
        Failure::new(
            code,
            format!("The state folder {} cannot be made: {error}.", home.display()),
            "Name a folder that you can write to: GGEN_HOME=/path",
        )
    })
}

/// Where a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At somebody's terminal, whose end is the node's.
    Foreground,
    /// On its own.
    Background,
}

/// Runs a node in this process until it is told to stop; `ready` tells of it once it listens.
///
/// The first signal stops it in good order, the second one at once.
pub(crate) async fn run(
    session: &Session,
    flags: &Flags,
    save: bool,
    place: Place,
    ready: impl FnOnce(&Started) -> Finished<()>,
) -> Finished<Exit> {
    let home = session.home();
    let mut effective = effective(home, flags)?;
    if let Some(warning) = log::init(effective.config.log_level) {
        session.warn(&warning);
    }
    for problem in &effective.warnings {
        session.warn(&problem.to_string());
    }
    if let Some(warning) = open_to_others(home) {
        session.warn(&warning);
    }
    let room = descriptors::room();
    if let Some(warning) = descriptors::fit(&mut effective.config, room) {
        session.warn(&warning);
    }
    make_home(home)?;
    let mut signals = Signals::new(place.into())?;
    let listen: Vec<String> = effective.config.listen_addresses.iter().map(ToString::to_string).collect();
    let uses = uses(home, &effective, save);
    let config = config_file(home, flags.config.as_deref())?.path.display().to_string();
    let starting = async {
        let node = Arc::new(node::open(effective.config.clone()).await?);
        keep_configuration(session, &effective.config, flags, save)?;
        Ok::<_, Failure>(node)
    };
    let node = tokio::select! {
        biased;
        () = signals.next() => return Ok(Exit::Ok),
        node = starting => node?,
    };
    let (folder, given, level) = (home.to_owned(), flags.clone(), effective.config.log_level);
    node.on_reload(move || {
        let mut config = self::effective(&folder, &given)?.config;
        if let Some(warning) = descriptors::fit(&mut config, room) {
            warn!("{warning}");
        }
        if !log::set_level(config.log_level) {
            // The environment decides it, and goes on doing so: there is nothing that the node could take.
            config.log_level = level;
        }
        Ok(config)
    });
    let ready = |started: Started| {
        // Not before it listens: a start that fails is none whose flags a restart should have.
        flags::remember(home, &flags.not_saved(save));
        ready(&Started { config, uses, ..started })
    };
    serve(home, node, &listen, &mut signals, ready).await
}

/// Listens, serves the socket, and shuts the node down when that ends, however it ends.
async fn serve<N: Node>(
    home: &Path,
    node: Arc<N>,
    listen: &[String],
    signals: &mut Signals,
    ready: impl FnOnce(Started) -> Finished<()>,
) -> Finished<Exit> {
    let preparing = async {
        node.listen().await.map_err(|failure| port_owner::explain(failure, listen))?;
        let server = Server::bind(home).map_err(|error| failure(error.code(), &error, error.hint()))?;
        Ok::<_, Failure>((server, started(home, &*node).await?))
    };
    let prepared = tokio::select! {
        biased;
        () = signals.next() => Ok(None),
        prepared = preparing => prepared.map(Some),
    };
    let result = match prepared {
        Ok(None) => Ok(()),
        Err(failure) => Err(failure.into()),
        Ok(Some((server, started))) => match ready(started) {
            // The reader of this may connect at once: the socket is bound, and questions wait until it is served. That
            // nobody reads it is no reason to stop.
            Ok(()) | Err(End::StdoutClosed) => {
                signals.reload_on_hangup(Arc::clone(&node));
                let ended = server.serve(Arc::clone(&node), signals.next()).await;
                info!(?ended, "node stops");
                Ok(())
            }
            Err(end) => Err(end),
        },
    };
    let exit = shut_down(&*node, signals).await;
    // Of one that never was up, its failure says all there is.
    if result.is_ok() {
        info!("node stopped");
    }
    result.map(|()| exit)
}

/// Shuts the node down in good order, within its time, or at once if a signal asks again.
async fn shut_down<N: Node>(node: &N, signals: &mut Signals) -> Exit {
    tokio::select! {
        biased;
        outcome = tokio::time::timeout(SHUTDOWN_DEADLINE, node.shutdown()) => {
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => warn!(code = %failure.code, error = failure.message, "node did not stop cleanly"),
                Err(_) => warn!("node did not stop in time"),
            }
            Exit::Ok
        }
        () = signals.next() => Exit::Forced,
    }
}

async fn started<N: Node>(home: &Path, node: &N) -> Outcome<Started> {
    let status = node.status().await?;
    Ok(Started {
        peer_id: status.peer_id,
        listen_addresses: status.listen_addresses,
        bootstrap_lines: status.bootstrap_lines,
        pid: std::process::id(),
        home: home.display().to_string(),
        socket: socket_path(home).display().to_string(),
        log: None,
        config: String::new(),
        uses: Vec::new(),
        warnings: lost_keys(home),
    })
}

/// Says which publisher keys were in a state folder and are gone, and what to do.
fn lost_keys(home: &Path) -> Vec<String> {
    let folder = keys_folder(home);
    let said = |lost: Lost| format!("{}\n{}", lost.message(&folder), lost.error(&folder).hint());
    match Publisher::lost(&folder) {
        Ok(lost) => lost.into_iter().map(said).collect(),
        Err(error) => vec![format!("which publisher keys are gone is not known: {error}")],
    }
}

/// Writes the configuration file at the first start, and the flags into it where that was asked for.
fn keep_configuration(session: &Session, config: &P2PConfig, flags: &Flags, save: bool) -> Outcome<()> {
    let failed = |error| config_failure(&error);
    let file = config_file(session.home(), flags.config.as_deref())?;
    let written = config::edit::write_default(&file.path, &P2PConfig::for_daemon(session.home()));
    if written.map_err(failed)? {
        session.note(&format!("Wrote the configuration file {}", file.path.display()));
    }
    if !save {
        return Ok(());
    }
    let list = |addresses: &[String]| addresses.join(",");
    let given = [
        ("listen_addresses", (!flags.listen.is_empty()).then(|| list(&flags.listen))),
        ("bootstrap_nodes", (!flags.bootstrap.is_empty()).then(|| list(&flags.bootstrap))),
        ("dht_server_mode", flags.dht_server.map(|_| config.dht_server_mode.to_string())),
        ("mdns", flags.no_mdns.then(|| "false".to_owned())),
        ("upnp", flags.no_upnp.then(|| "false".to_owned())),
        ("topology", flags.topology.clone()),
        ("role", flags.role.clone()),
        ("topology.hubs", (!flags.hub.is_empty()).then(|| list(&flags.hub))),
    ];
    // At once, because a topology and a role may go together and neither with what the file holds.
    let given: Vec<_> = given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    config::edit::set_all(&file.path, &given).map_err(failed)
}

/// Stops the running node and waits until its process is gone.
pub(crate) async fn stop(session: &Session) -> Finished<Stopping> {
    let stopping = session.client().stop().await?;
    let gone = async {
        while is_alive(stopping.pid) {
            tokio::time::sleep(STOP_PAUSE).await;
        }
    };
    tokio::time::timeout(STOP_DEADLINE, gone).await.map_err(|_| {
        Failure::new(
            Code::Timeout,
            format!(
                "The node (pid {}) agreed to stop and still runs after {} seconds.",
                stopping.pid,
                STOP_DEADLINE.as_secs()
            ),
            format!("End it: kill -9 {}", stopping.pid),
        )
    })?;
    Ok(stopping)
}

/// Whether a process runs; one that nobody has reaped yet does not.
fn is_alive(pid: u32) -> bool {
    if cfg!(target_os = "linux") {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        return !matches!(state, Some('Z' | 'X'));
    }
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// Has a yank or a deprecation wait in the outbox while no node runs.
pub(crate) async fn amend_offline(home: &Path, request: AmendRequest) -> Outcome<Amended> {
    node::amend_offline(effective(home, &Flags::default())?.config, request).await
}

/// Takes a version out of the outbox while no node runs.
pub(crate) async fn drop_offline(home: &Path, request: DropRequest) -> Outcome<Dropped> {
    node::drop_offline(effective(home, &Flags::default())?.config, request).await
}

/// The state folder as it can be read while no node runs.
pub(crate) async fn view(home: &Path) -> Outcome<View> {
    View::open(home).await
}

/// Removes an installed package while no node runs.
pub(crate) async fn remove_offline(home: &Path, request: RemoveRequest) -> Outcome<Removed> {
    node::remove_offline(effective(home, &Flags::default())?.config, request).await
}

/// Frees what nobody needs while no node runs, or says what that is.
pub(crate) async fn collect_offline(home: &Path, request: CollectRequest) -> Outcome<Collected> {
    node::collect_offline(effective(home, &Flags::default())?.config, request).await
}

/// Changes and lists pins of content while no node runs.
pub(crate) async fn keep_offline(home: &Path, request: KeepRequest) -> Outcome<KeptList> {
    node::keep_offline(effective(home, &Flags::default())?.config, request).await
}

/// Packs a package while no node runs; the next one signs and announces it.
pub(crate) async fn publish_offline(
    home: &Path,
    request: PublishRequest,
    progress: impl FnMut(Progress),
    cancel: Cancel,
) -> Outcome<Published> {
    offline(home, progress, async |config, sender| {
        make_home(home)?;
        node::publish_offline(config, request, sender, cancel).await
    })
    .await
}

/// Says what a publication would be while no node runs.
pub(crate) async fn plan_offline(
    home: &Path,
    request: PublishRequest,
    progress: impl FnMut(Progress),
) -> Outcome<Planned> {
    offline(home, progress, async |config, sender| node::plan_offline(config, request, sender).await).await
}

/// Works on a project with what is here alone while no node runs.
pub(crate) async fn project_offline(
    home: &Path,
    request: ProjectRequest,
    progress: impl FnMut(Progress),
) -> Outcome<ProjectDone> {
    offline(home, progress, async |config, sender| {
        make_home(home)?;
        node::project_offline(config, request, sender).await
    })
    .await
}

/// Installs a package from what is here alone while no node runs.
pub(crate) async fn install_offline(
    home: &Path,
    request: InstallRequest,
    progress: impl FnMut(Progress),
) -> Outcome<Installed> {
    offline(home, progress, async |config, sender| {
        make_home(home)?;
        node::install_offline(config, request, sender).await
    })
    .await
}

/// Does work on a state folder while no node runs, to its end, and tells how far it is.
async fn offline<T>(
    home: &Path,
    mut progress: impl FnMut(Progress),
    work: impl AsyncFnOnce(P2PConfig, ProgressSender) -> Outcome<T>,
) -> Outcome<T> {
    let config = effective(home, &Flags::default())?.config;
    let (sender, mut receiver) = ProgressSender::channel();
    let mut work = std::pin::pin!(work(config, sender));
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            Some(state) = receiver.next() => progress(state),
        }
    }
}

/// Lists and changes pins in the store of a node that does not run.
pub(crate) fn trust_offline(home: &Path, request: &TrustRequest) -> Outcome<Trust> {
    let config = effective(home, &Flags::default())?.config;
    make_home(home)?;
    node::trust_offline(&config, request)
}

#[cfg(test)]
mod tests;
