//! `demo`: the main job on this machine alone – several nodes on loopback publish, search, install and verify.
//!
//! The nodes are real ones, processes of this program with folders of their own, and everything is asked of them through
//! their control sockets as any other verb would. Nothing outside of the demonstration's folder is read or written.

mod example;
mod member;
mod story;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_marketplace::{code::Code, control::api::Failure};
use tokio::signal::unix::{SignalKind, signal};

use self::story::Summary;
use crate::{
    page::{self, Page},
    session::{End, Exit, Finished, Session},
    values,
};

/// Show the whole thing on this machine: real nodes on loopback publish, search, install and verify.
#[derive(Debug, Args)]
#[command(after_help = "\
Uses folders of its own and leaves ~/.ggen alone.

Examples:
  ggen marketplace p2p demo
  ggen marketplace p2p demo --nodes 5 --keep ./demo")]
pub(crate) struct Demo {
    /// How many nodes to run.
    #[arg(long, value_name = "N", default_value = "3", value_parser = values::demo_nodes, allow_negative_numbers = true)]
    nodes: usize,
    /// Keep the nodes' folders here, instead of a temporary folder that is removed.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let stage = Stage::new(self.keep.as_deref())?;
        let outcome = tokio::select! {
            biased;
            outcome = story::tell(session, stage.path(), self.nodes) => outcome,
            () = told_to_end() => Err(Failure::new(
                Code::Interrupted,
                "The demonstration was told to end.",
                "Its nodes are stopped. Run it again: ggen marketplace p2p demo",
            )),
        };
        match outcome {
            Ok(mut summary) => {
                summary.kept = stage.close(session)?;
                session.print(&summary, show)?;
                Ok(Exit::Ok)
            }
            Err(failure) => Err(stage.explain(failure)),
        }
    }
}

/// Waits for a polite kill or the end of the terminal. Ctrl-C is the session's: it drops the whole demonstration.
async fn told_to_end() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut hangup)) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// The folder of the demonstration; a temporary one is removed when this is dropped.
#[derive(Debug)]
enum Stage {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Stage {
    fn new(keep: Option<&Path>) -> Finished<Self> {
        let Some(keep) = keep else {
            let folder = tempfile::Builder::new().prefix("ggen-demo-").tempdir();
            return Ok(Self::Temporary(folder.map_err(|error| no_folder(&std::env::temp_dir(), &error))?));
        };
        let folder = values::absolute(keep)?;
        fs::create_dir_all(&folder).map_err(|error| no_folder(&folder, &error))?;
        let mut entries = fs::read_dir(&folder).map_err(|error| no_folder(&folder, &error))?;
        if entries.next().is_some() {
            return Err(Failure::new(
                Code::Conflict,
                format!("The folder {} is not empty.", folder.display()),
                "Name a folder that is empty or does not exist.",
            )
            .into());
        }
        Ok(Self::Kept(folder))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// Removes a temporary folder and tells so; gives the path of one that stays.
    fn close(self, session: &Session) -> Finished<Option<String>> {
        match self {
            Self::Kept(path) => Ok(Some(path.display().to_string())),
            Self::Temporary(folder) => {
                let path = folder.path().to_owned();
                folder.close().map_err(|error| {
                    Failure::new(
                        Code::Io,
                        format!("The folder {} cannot be removed: {error}.", path.display()),
                        format!("Remove it: rm -r {}", path.display()),
                    )
                })?;
                session.note(&format!("   Removed {}.", path.display()));
                Ok(None)
            }
        }
    }

    /// Keeps the folder of a demonstration that failed, and tells where its logs are; one that was told to end leaves nothing.
    fn explain(self, mut failure: Failure) -> End {
        if failure.code == Code::Interrupted {
            return failure.into();
        }
        let path = match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.keep(),
        };
        let separator = if failure.hint.is_empty() { "" } else { "\n" };
        let logs = path.join("node-*").join("node.log");
        failure.hint.push_str(&format!("{separator}The nodes' logs are kept: tail {}", logs.display()));
        failure.into()
    }
}

fn no_folder(folder: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Code::Io,
        format!("No folder for the demonstration can be made at {}: {error}.", folder.display()),
        "Name a folder that you can write to: --keep <DIR>",
    )
}

fn show(summary: &Summary, page: &mut Page) {
    page.heading(format!(
        "It works: {} took {:.1} seconds",
        page::count(summary.nodes.len(), "node"),
        summary.seconds
    ))
    .field("package", &summary.package)
    .field("content id", &summary.cid)
    .field("size", format!("{} in {} files", page::bytes(summary.bytes), summary.files));
    for share in &summary.providers {
        page.field(&format!("from node {}", share.node), page::bytes(share.bytes));
    }
    page.field("sha-256", format!("{} (all files, before and after)", summary.sha256))
        .optional("kept in", summary.kept.as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Failure {
        Failure::new(Code::Network, "No.", "Try again.")
    }

    #[test]
    fn a_failure_keeps_the_logs_and_says_where() {
        let stage = Stage::new(None).unwrap();
        let path = stage.path().to_owned();
        let End::Failed(failure) = stage.explain(refused()) else { panic!("it failed") };
        assert!(failure.hint.starts_with("Try again.\n"), "{failure:?}");
        assert!(failure.hint.contains(&path.display().to_string()), "{failure:?}");
        assert!(path.is_dir());
        fs::remove_dir(path).unwrap();
    }

    #[test]
    fn an_interruption_leaves_nothing() {
        let stage = Stage::new(None).unwrap();
        let path = stage.path().to_owned();
        let End::Failed(failure) = stage.explain(Failure::new(Code::Interrupted, "It ended.", "")) else {
            panic!("it failed")
        };
        assert_eq!(failure.exit_code(), 130);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let Err(End::Failed(failure)) = Stage::new(Some(folder.path())) else { panic!("it is taken") };
        assert_eq!(failure.exit_code(), 9);
        assert!(folder.path().join("a").exists());
    }
}
