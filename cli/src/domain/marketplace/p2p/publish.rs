//! `publish`: packs, signs and announces a directory; without a node, it waits in the outbox for the next start.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{DropRequest, Dropped, Failure, Planned, PublishRequest, Published},
    package::{Asked, gpack},
};
use serde::Serialize;

use super::{cancel, package, yank};
use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    progress::Bar,
    session::{Exit, Finished, Session},
    values,
};

/// What `--wait` comes to where nobody can be waited for.
const NOT_WAITED: &str = "no node runs, so nobody can be waited for: the package is queued, and other nodes hear of it once \
                          the node has started";

/// What to do where Ctrl-C ended what changes nothing.
const AGAIN: &str = "Run the same command again.";

/// Publish a directory that holds a gpack.toml as a signed package.
#[derive(Debug, Args)]
#[command(
    disable_version_flag = true,
    long_about = "Publish a directory that holds a gpack.toml as a signed package.\n\n\
        gpack.toml must name a name, a version and a description. The files are packed so that the same tree has the same content \
        id everywhere, signed with your publisher key, stored, and announced to the network. A version can be published once: the \
        same content again changes nothing, other content is refused.\n\n\
        If no node runs, the package is packed into the outbox, and signed and announced once the node runs. It also waits there if \
        nobody can be asked how far the package went elsewhere with the same key, or if the clock is wrong: nothing is signed that \
        others would refuse. See what waits, and why: ggen marketplace p2p list\n\n\
        Ctrl-C before the package is signed cancels it; after that it is published. What is published cannot be taken back, so files \
        that look as if they held secrets are refused.",
    after_help = "\
Examples:
  ggen marketplace p2p publish ./my-package --init-manifest
  ggen marketplace p2p publish ./my-package
  ggen marketplace p2p publish ./my-package --dry-run
  ggen marketplace p2p publish ./my-package --version 1.2.3
  ggen marketplace p2p publish ./my-package --wait --timeout 30 --format json
  ggen marketplace p2p publish ./my-package --wait --copies 1 --timeout 600
  ggen marketplace p2p publish --drop my-package@1.2.3"
)]
pub(crate) struct Publish {
    /// The directory [default: the current one].
    #[arg(value_name = "DIR")]
    path: Option<PathBuf>,
    /// Publish under this version instead of the one in gpack.toml.
    #[arg(long, value_name = "VERSION", value_parser = values::version, allow_hyphen_values = true)]
    version: Option<String>,
    /// Skip the checks of dependencies, licence and size; form, hashes, signatures and secrets are never skipped.
    #[arg(long)]
    skip_verify: bool,
    /// Publish files that look as if they held secrets; key files of this program never are.
    #[arg(long)]
    allow_secrets: bool,
    /// Show what would be published, and store and announce nothing.
    #[arg(long, conflicts_with_all = ["wait", "copies", "no_queue"])]
    dry_run: bool,
    /// Wait until other nodes hold the announcement; needs a running node.
    #[arg(long)]
    wait: bool,
    /// With --wait: wait until this many other nodes that can be reached say that they have all of the content.
    #[arg(long, value_name = "COUNT", value_parser = values::count, requires = "wait")]
    copies: Option<usize>,
    /// How long to wait: for a peer that can be asked about the package, and with --wait for nodes that take it.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
    /// The publisher key to sign with, if there are several.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Fail if the package cannot be signed now, instead of putting it into the outbox.
    #[arg(long)]
    no_queue: bool,
    /// Write a gpack.toml to fill in, if the directory has none, and publish nothing.
    #[arg(long, conflicts_with_all = ["version", "skip_verify", "allow_secrets", "dry_run", "wait", "copies", "timeout", "key", "no_queue"])]
    init_manifest: bool,
    /// Remove a waiting version, yank or deprecation from the outbox, and publish nothing.
    #[arg(
        long,
        value_name = "PACKAGE",
        value_parser = values::package,
        conflicts_with_all = [
            "path", "version", "skip_verify", "allow_secrets", "dry_run", "wait", "copies", "timeout", "key", "no_queue", "init_manifest"
        ]
    )]
    drop: Option<Asked>,
}

/// What `--init-manifest` did.
#[derive(Debug, Serialize)]
struct Initialised {
    path: String,
    written: bool,
}

impl Publish {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        if self.drop.is_some() { "take the version out of the outbox" } else { "publish the package" }
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        if let Some(package) = self.drop {
            return session.attend(AGAIN, drop_queued(session, &package)).await;
        }
        let directory = self.path.unwrap_or_else(|| PathBuf::from("."));
        check_directory(&directory)?;
        if self.init_manifest {
            return init_manifest(session, &directory);
        }
        let request = PublishRequest {
            path: values::absolute_text(&directory)?,
            version: self.version,
            skip_verify: self.skip_verify,
            wait: self.wait,
            copies: self.copies.unwrap_or_default(),
            key: self.key,
            timeout_secs: self.timeout,
            no_queue: self.no_queue,
            allow_secrets: self.allow_secrets,
            ticket: String::new(),
        };
        if self.dry_run {
            return session.attend(AGAIN, plan(session, request)).await;
        }
        let wait = request.wait;
        let mut published = cancel::publish(session, request).await?;
        let is_waited_for = !(wait && published.queued);
        if !is_waited_for {
            published.warnings.push(NOT_WAITED.to_owned());
        }
        session.print(&published, show)?;
        Ok(if is_waited_for { Exit::Ok } else { Exit::Told(Code::NotRunning) })
    }
}

/// Shows what a publication would be.
pub(super) async fn plan(session: &Session, request: PublishRequest) -> Finished<Exit> {
    let bar = Bar::new(session);
    let mut outcome = session.client().plan(&request, |step| bar.update(&step)).await;
    if outcome.as_ref().is_err_and(is_not_running) {
        outcome = p2p_state::plan_offline(session.home(), request, |step| bar.update(&step)).await;
    }
    drop(bar);
    session.print(&outcome?, show_plan)?;
    Ok(Exit::Ok)
}

fn show_plan(planned: &Planned, page: &mut Page) {
    page.warnings(&planned.warnings);
    let what = format!("{} {}", planned.name, planned.version);
    page.heading(match planned.already_published {
        true => format!("{what} is published with this content already, or waits to be"),
        false => format!("{what} would be published; nothing was stored or announced"),
    });
    page.field("id", &planned.id)
        .field("cid", &planned.cid)
        .field("size", page::sizes(planned.size, planned.files))
        .field("blocks", planned.blocks)
        .line("");
    package::table(&planned.contents, page);
}

async fn drop_queued(session: &Session, package: &Asked) -> Finished<Exit> {
    let request = DropRequest { package: package.to_string() };
    let mut outcome = session.client().drop_queued(&request).await;
    if outcome.as_ref().is_err_and(is_not_running) {
        outcome = p2p_state::drop_offline(session.home(), request).await;
    }
    session.print(&outcome?, |dropped: &Dropped, page| {
        let what = dropped.change.map(|change| format!("the {} of ", yank::noun(change))).unwrap_or_default();
        page.line(format!("Took {what}{} out of the outbox.", dropped.id));
    })?;
    Ok(Exit::Ok)
}

fn init_manifest(session: &Session, directory: &Path) -> Finished<Exit> {
    // Only a path that was made absolute always ends in a name.
    let absolute = values::absolute(directory)?;
    let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let path = gpack::write_sample(directory, &name)
        .map_err(|error| p2p_state::failure(error.code(), &error, error.hint()))?;
    let answer = Initialised { path: path.display().to_string(), written: true };
    session.print(&answer, |answer, page| {
        page.line(format!("Wrote {}.", answer.path));
        page.line(format!(
            "Fill in its description, then publish: ggen marketplace p2p publish {}",
            directory.display()
        ));
    })?;
    Ok(Exit::Ok)
}

fn is_not_running(failure: &Failure) -> bool {
    failure.code == Code::NotRunning
}

/// Refuses what is no directory, in the same words with and without a node.
pub(super) fn check_directory(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let why = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => format!("\"{shown}\" is not a directory."),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!("\"{shown}\" does not exist."),
        Err(error) => format!("\"{shown}\" cannot be read: {error}."),
    };
    Err(Failure::new(Code::Usage, why, "Name a directory that holds a gpack.toml."))
}

fn show(published: &Published, page: &mut Page) {
    page.warnings(&published.warnings);
    let what = format!("{} {}", published.name, published.version);
    page.heading(match published {
        Published { queued: true, already_published: true, .. } => {
            format!("{what} is queued already, nothing changed")
        }
        Published { queued: true, .. } => {
            format!("{what} is queued: it is signed and announced as soon as that can be done")
        }
        Published { already_published: true, .. } => format!("{what} was published before, nothing changed"),
        _ => format!("Published {what}"),
    });
    page.field("id", &published.id)
        .field("cid", &published.cid)
        .field("manifest sha256", &published.sha256)
        .field("size", page::sizes(published.size, published.files))
        .field("blocks", published.blocks);
    if !published.queued {
        page.field("dht_stored", format!("{}/20", published.dht_stored))
            .field("announced_to", published.announced_to);
        if let Some(copies) = published.copies {
            page.field("copies", copies);
        }
    }
    if let Some(path) = &published.new_key {
        page.line("").line(format!("Made your publisher key: {path}"));
        page.line("Without it nobody can publish a newer version. Keep a copy: ggen marketplace p2p key export --to <FILE>");
    }
    if published.queued {
        page.line("").line("See what it waits for: ggen marketplace p2p list");
        page.line("It is signed by a node that runs: ggen marketplace p2p start --daemon");
    } else {
        // What was published before may be held by many; nobody was asked now.
        if !published.announced && !published.already_published {
            page.line("").line(
                "No other node holds the announcement yet; this node repeats it. See: ggen marketplace p2p status",
            );
        }
    }
}
