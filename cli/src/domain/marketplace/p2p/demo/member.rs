//! One node of the demonstration: a process of this same program on a folder of its own.
//!
//! It has a process group of its own, so that Ctrl-C reaches the demonstration alone, and it is ended when its [`Member`] is
//! dropped, however the demonstration ends.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use ggen_marketplace::{
    code::Code,
    control::{api::Failure, client::Client, service::Outcome},
};
use tokio::{
    io::{AsyncReadExt, BufReader},
    process::{Child, Command},
};

use crate::domain::marketplace::p2p_state::{Started, log};

/// Where the nodes listen: on this machine alone, at any port that is free.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
/// How long a node may take until it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// Bytes that a node tells when it is ready, at most.
const REPORT_BYTES_MAX: u64 = 64 << 10;
/// How long a node may take to end in good order.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long a node that was killed may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(2);
/// How often it is looked whether a killed node is gone.
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// A running node.
#[derive(Debug)]
pub(super) struct Member {
    /// Its number in the story, from 1.
    pub(super) number: usize,
    /// What it told when it was ready.
    pub(super) started: Started,
    home: PathBuf,
    process: Process,
}

impl Member {
    /// Starts a node that joins through `bootstrap`, where there is one, and waits until it is ready.
    pub(super) async fn start(root: &Path, number: usize, bootstrap: Option<&str>) -> Outcome<Self> {
        let home = root.join(format!("node-{number}"));
        let mut process = Process(spawn(&home, bootstrap).map_err(|error| {
            Failure::new(
                Code::Io,
                format!("Node {number} cannot be started: {error}."),
                "Free some disk space or processes, and run the demonstration again.",
            )
        })?);
        let reading = tokio::time::timeout(READY_DEADLINE, read_report(&mut process.0)).await;
        let Some(started) = reading.ok().flatten() else {
            return Err(Failure::new(
                Code::Failed,
                format!("Node {number} was not ready within {} seconds.", READY_DEADLINE.as_secs()),
                format!("Its log may say why: tail {}", log::path(&home).display()),
            ));
        };
        Ok(Self { number, started, home, process })
    }

    /// Asks this node.
    pub(super) fn client(&self) -> Client {
        Client::new(&self.home)
    }

    /// Its folder.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Stops the node in good order; false where it had to be killed.
    pub(super) async fn stop(mut self) -> bool {
        let asked = self.client().stop().await.is_ok();
        let ended = tokio::time::timeout(STOP_DEADLINE, self.process.0.wait()).await;
        asked && matches!(ended, Ok(Ok(status)) if status.success())
    }
}

/// A process that does not outlive this value.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) || self.0.start_kill().is_err() {
            return;
        }
        // Its folder is removed next, which must not race with its last writes.
        #[expect(clippy::disallowed_methods, reason = "waiting for a real process takes real time")]
        let deadline = Instant::now() + KILL_DEADLINE;
        #[expect(clippy::disallowed_methods, reason = "waiting for a real process takes real time")]
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(KILL_PAUSE);
        }
    }
}

fn spawn(home: &Path, bootstrap: Option<&str>) -> std::io::Result<Child> {
    std::fs::create_dir_all(home)?;
    let mut arguments: Vec<OsString> = vec!["--home".into(), home.into(), "--format".into(), "json".into()];
    arguments.extend(["marketplace", "p2p", "start", "--listen", LISTEN].map(OsString::from));
    if let Some(address) = bootstrap {
        arguments.extend(["--bootstrap".into(), address.into()]);
    }
    let mut command = Command::new(std::env::current_exe()?);
    // What is set for the user's own node does not concern these.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GGEN_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log::open(home)?)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Reads the one JSON document that a node prints when it is ready.
async fn read_report(child: &mut Child) -> Option<Started> {
    let mut stdout = BufReader::new(child.stdout.take()?.take(REPORT_BYTES_MAX));
    let mut text = Vec::new();
    while stdout.read_buf(&mut text).await.ok()? > 0 {
        if let Ok(started) = serde_json::from_slice(&text) {
            return Some(started);
        }
    }
    None
}
