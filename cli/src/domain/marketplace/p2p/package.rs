//! `package`: what publishing a directory would pack.

use std::path::PathBuf;

use clap::Args;
use ggen_marketplace::{
    control::api::{PlannedFile, PublishRequest},
    package::{gpack, walk},
};
use serde::Serialize;

use super::publish;
use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Show what publishing a directory would pack, and publish nothing.
#[derive(Debug, Args)]
#[command(
    disable_version_flag = true,
    long_about = "Show what publishing a directory would pack, and publish nothing.\n\n\
        Files that .gitignore or .ggenignore leave out are not part of a package. --list shows the files alone: gpack.toml has to be valid, and \
        nothing else is checked; otherwise the answer is that of `publish --dry-run`.",
    after_help = "\
Examples:
  ggen marketplace p2p package ./my-package
  ggen marketplace p2p package ./my-package --list"
)]
pub(crate) struct Package {
    /// The directory.
    #[arg(value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// List the files, one a line.
    #[arg(long)]
    list: bool,
    /// The version, instead of the one in gpack.toml.
    #[arg(long, value_name = "VERSION", value_parser = values::version, allow_hyphen_values = true)]
    version: Option<String>,
}

/// What `--list` shows.
#[derive(Debug, Serialize)]
struct Files {
    files: Vec<PlannedFile>,
    total: usize,
    size: u64,
}

impl Package {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        publish::check_directory(&self.path)?;
        if !self.list {
            let path = values::absolute_text(&self.path)?;
            let request = PublishRequest { path, version: self.version, ..PublishRequest::default() };
            return publish::plan(session, request).await;
        }
        let directory = values::absolute(&self.path)?;
        gpack::read(&directory, None)
            .map_err(|error| p2p_state::failure(error.code(), &error, error.hint()))?;
        let mut warnings = Vec::new();
        let found = walk::walk_and_warn(&directory, &mut warnings)
            .map_err(|error| p2p_state::failure(error.code(), &error, error.hint()))?;
        warnings.iter().for_each(|warning| session.warn(warning));
        let files: Vec<PlannedFile> = found
            .into_iter()
            .map(|found| PlannedFile {
                size: found.state.size,
                executable: found.executable,
                path: found.path.into(),
            })
            .collect();
        let (total, size) = (files.len(), files.iter().map(|file| file.size).sum());
        session.print(&Files { files, total, size }, |answer, page| {
            for file in &answer.files {
                page.line(&file.path);
            }
        })?;
        Ok(Exit::Ok)
    }
}

/// A table of files, and how many more there are.
pub(super) fn table(files: &[PlannedFile], page: &mut Page) {
    const SHOWN_MAX: usize = 50;
    page.table(
        &["SIZE", "MODE", "FILE"],
        files.iter().take(SHOWN_MAX).map(|file| {
            let mode = if file.executable { "755" } else { "644" };
            vec![page::bytes(file.size), mode.to_owned(), file.path.clone()]
        }),
    );
    if let Some(more) = files.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        page.line(format!("and {more} more; all of them: ggen marketplace p2p package <DIR> --list"));
    }
}
