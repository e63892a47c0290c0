//! A node in the background.
//!
//! The parent starts this program again, detached; the child reports on its stdout, a pipe, that it is ready or why not, in
//! one line of JSON. The parent returns only then, so `start --daemon` never succeeds for a node that did not come up.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use ggen_marketplace::{
    code::Code,
    control::{
        api::{ErrorBody, Failure},
        service::Outcome,
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use super::{Flags, Place, Started, config_file, effective, log, make_home, open_to_others, run};
use crate::session::{End, Exit, Finished, Session};

/// How long a node may take until it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of a report at most.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// What the allocator of glibc is told, which nobody else reads: all threads share one arena, and what is free beyond 4 MiB goes back to
/// the system. Otherwise each thread keeps what the largest transfer needed of it.
pub(crate) const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=4194304:glibc.malloc.trim_threshold=4194304",
);

/// Begins this program again, as the same process, with what the allocator is told: it reads that only when a program begins. Where that
/// is set already, or cannot be done, the node goes on as it is and keeps more memory.
pub(crate) fn begin_again(arguments: &[OsString]) {
    let (name, tunables) = ALLOCATOR;
    if !cfg!(target_env = "gnu") || std::env::var_os(name).is_some() {
        return;
    }
    if let (Ok(program), Some(arguments)) = (std::env::current_exe(), arguments.get(1..)) {
        // Returns only where it fails.
        let _ = std::process::Command::new(program).args(arguments).env(name, tunables).exec();
    }
}

/// What the child tells the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Ready(Started),
    Failed(ErrorBody),
}

/// Starts a daemon and waits until it is ready. A daemon that is not ready in time, or whose parent is interrupted, is ended.
pub(crate) async fn launch(session: &Session, flags: &Flags, save: bool) -> Finished<Started> {
    let home = session.home();
    // The child would tell the same, but its warnings go to the log.
    for problem in &effective(home, flags)?.warnings {
        session.warn(&problem.to_string());
    }
    if let Some(warning) = open_to_others(home) {
        session.warn(&warning);
    }
    make_home(home)?;
    let mut child = Launched(Some(spawn(home, flags, save)?));
    let log = log::path(home).display().to_string();
    let report = match tokio::time::timeout(READY_DEADLINE, child.report()).await {
        Ok(report) => report,
        Err(_) => {
            let _ = child.end().await;
            let seconds = READY_DEADLINE.as_secs();
            let message = format!("The node was not ready within {seconds} seconds, and was ended.");
            return Err(died(Code::Timeout, &log, &message).into());
        }
    };
    match report {
        Some(Report::Ready(started)) => {
            child.let_go();
            Ok(Started { log: Some(log), ..started })
        }
        Some(Report::Failed(body)) => {
            child.let_go();
            Err(body.error.into())
        }
        None => {
            let status = child.end().await;
            let status = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
            Err(died(Code::Failed, &log, &format!("The node ended before it was ready ({status}).")).into())
        }
    }
}

/// A child that is ended unless it is let go.
struct Launched(Option<Child>);

impl Launched {
    /// Waits for the child's one line; `None` where there is none.
    async fn report(&mut self) -> Option<Report> {
        let stdout = self.0.as_mut()?.stdout.take()?;
        let mut line = Vec::new();
        BufReader::new(stdout.take(REPORT_BYTES_MAX)).read_until(b'\n', &mut line).await.ok()?;
        serde_json::from_slice(&line).ok()
    }

    /// Leaves the child to itself.
    fn let_go(&mut self) {
        self.0 = None;
    }

    /// Ends the child, if it has not ended.
    async fn end(&mut self) -> Option<ExitStatus> {
        let mut child = self.0.take()?;
        let _ = child.start_kill();
        child.wait().await.ok()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.start_kill();
        }
    }
}

fn died(code: Code, log: &str, message: &str) -> Failure {
    Failure::new(code, message, format!("Its log may say why: tail {log}"))
}

/// Starts this program again, with its own log, without a terminal, in the root folder so that no disk is held.
fn spawn(home: &Path, flags: &Flags, save: bool) -> Outcome<Child> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::new(
            Code::Io,
            format!("The daemon cannot be started: {what}: {error}."),
            "Start the node in the foreground instead: ggen marketplace p2p start",
        )
    };
    let program = std::env::current_exe().map_err(|error| failed("this program cannot be found", error))?;
    let log = log::open(home)
        .map_err(|error| failed(&format!("the log {} cannot be opened", log::path(home).display()), error))?;
    let mut command = Command::new(program);
    let (name, tunables) = ALLOCATOR;
    if std::env::var_os(name).is_none() {
        command.env(name, tunables);
    }
    command
        .args(arguments(home, flags, save)?)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(false)
        .spawn()
        .map_err(|error| failed("the process cannot be made", error))
}

/// The arguments of the child: all paths absolute, since it runs in another folder.
fn arguments(home: &Path, flags: &Flags, save: bool) -> Outcome<Vec<OsString>> {
    let mut arguments: Vec<OsString> = vec!["--home".into(), home.into()];
    arguments.extend(["marketplace", "p2p", "start", "--daemon-child"].map(OsString::from));
    for (name, addresses) in
        [("--listen", &flags.listen), ("--bootstrap", &flags.bootstrap), ("--hub", &flags.hub)]
    {
        for address in addresses {
            arguments.extend([name.into(), address.into()]);
        }
    }
    let file = config_file(home, flags.config.as_deref())?;
    if file.is_named {
        arguments.extend(["--config".into(), file.path.into_os_string()]);
    }
    if let Some(dht_server) = flags.dht_server {
        arguments.push(format!("--dht-server={dht_server}").into());
    }
    for (name, word) in [("--topology", &flags.topology), ("--role", &flags.role)] {
        if let Some(word) = word {
            arguments.extend([name.into(), word.into()]);
        }
    }
    arguments.extend(flags.no_mdns.then(|| "--no-mdns".into()));
    arguments.extend(flags.no_upnp.then(|| "--no-upnp".into()));
    arguments.extend(flags.strict_config.then(|| "--strict-config".into()));
    arguments.extend(save.then(|| "--save".into()));
    Ok(arguments)
}

/// The child: leaves the terminal's session, runs the node, and reports once.
pub(crate) async fn become_one(session: &Session, flags: &Flags, save: bool) -> Finished<Exit> {
    // Fails only for the leader of a group, which a fresh child is not.
    let _ = rustix::process::setsid();
    let mut is_reported = false;
    let result = run(session, flags, save, Place::Background, |started| {
        is_reported = true;
        report(&Report::Ready(started.clone()))
    })
    .await;
    if let (Err(End::Failed(failure)), false) = (&result, is_reported) {
        report(&Report::Failed(failure.clone().into()))?;
    }
    result
}

/// Writes the one line and gives stdout up, so that the parent sees its end.
fn report(report: &Report) -> Finished<()> {
    let failed = |error: std::io::Error| {
        Failure::new(Code::Io, format!("The daemon cannot report: {error}."), "Start the node again.")
    };
    let mut line = serde_json::to_vec(report).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    // Before anything is told: a node that was reported ready does not end for want of a descriptor.
    let nowhere: File = OpenOptions::new().write(true).open("/dev/null").map_err(failed)?;
    let mut stdout = std::io::stdout().lock();
    // A parent that went away does not matter to the node.
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    rustix::stdio::dup2_stdout(&nowhere).map_err(|error| failed(error.into()))?;
    Ok(())
}
