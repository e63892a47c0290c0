//! `config`: what the node is started with, where each value comes from, and the file that holds them.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use ggen_marketplace::{
    code::Code,
    config::{
        self, P2PConfig, Unknown,
        keys::{self, Key, Reload},
    },
    control::{
        api::{Failure, Reloaded},
        service::Outcome,
    },
};
use serde::Serialize;
use serde_json::Value;

use super::start::Flags;
use crate::{
    domain::marketplace::p2p_state::{
        self,
        flags::{FileInUse, file_in_use},
    },
    session::{Exit, Finished, Format, Session},
};

/// The key of the limit of the store.
const STORE_LIMIT: &str = "limits.store_bytes_max";

/// Show, check and change the configuration.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  ggen marketplace p2p config show --origin
  ggen marketplace p2p config set bootstrap_nodes /dnsaddr/bootstrap.libp2p.io
  ggen marketplace p2p config check"
)]
pub(crate) struct Config {
    /// The configuration file [default: the one that the running node reads, or p2p-config.toml in the state folder].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
enum Action {
    /// Show every value that a start without other flags would use, or one of them.
    Show {
        /// Only this key, or the keys of this table.
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// Also show where each value comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Print one value, and nothing else.
    Get {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Give a key a value in the file; comments and layout stay.
    Set {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        /// The value; items of a list are separated by commas, and `none` is an empty list.
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: String,
    },
    /// Take a key out of the file, so that its default counts; comments and layout stay.
    Unset {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Print the path of the file.
    Path,
    /// Check the file, and show every problem at once.
    Check {
        /// Refuse unknown keys, instead of warning.
        #[arg(long)]
        strict_config: bool,
    },
    /// Print the JSON schema of the file.
    Schema,
    /// Write a commented file with the defaults, if there is none.
    Init,
}

/// One key of `config show`.
#[derive(Debug, Serialize)]
struct Shown {
    key: &'static str,
    value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Serialize)]
struct Values {
    values: Vec<Shown>,
}

/// What became of the file.
#[derive(Debug, Serialize)]
struct FileAnswer {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exists: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<String>>,
    /// `live` or `restart`: when a running node takes the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    takes_effect: Option<&'static str>,
    /// What the running node did with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reloaded: Option<Reloaded>,
    /// The file that the running node reads instead of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_reads: Option<String>,
    /// The file that `restart` reads instead of this one, where no node runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_reads: Option<String>,
}

impl Config {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        match &self.action {
            Action::Show { .. } | Action::Get { .. } => "show the configuration",
            Action::Set { .. } | Action::Unset { .. } => "change the configuration",
            Action::Path => "name the configuration file",
            Action::Check { .. } => "check the configuration",
            Action::Schema => "show the schema of the configuration",
            Action::Init => "write the configuration",
        }
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        if matches!(self.action, Action::Schema) {
            schema(session)?;
            return Ok(Exit::Ok);
        }
        let FileInUse { file, node_reads, restart_reads } =
            file_in_use(session, self.config.as_deref()).await?;
        // One that was named must be there; without one, a start goes by the defaults.
        let named = file.is_named.then(|| file.path.clone());
        let answer = FileAnswer {
            path: file.path.display().to_string(),
            exists: None,
            written: None,
            warnings: None,
            takes_effect: None,
            reloaded: None,
            node_reads: node_reads.map(|path| path.display().to_string()),
            restart_reads: None,
        };
        match self.action {
            Action::Show { key, origin } => show(session, named, key.as_deref(), origin)?,
            Action::Get { key } => get(session, named, &key)?,
            Action::Set { key, value } => {
                // One key in a new file would leave all others of the file that is missing at their defaults.
                if let Some(path) = named.filter(|path| path.symlink_metadata().is_err()) {
                    return Err(failed(config::Error::Missing { path }).into());
                }
                let reload = config::edit::set(&file.path, &key, &value).map_err(failed)?;
                let restart_reads = restart_reads.map(|path| path.display().to_string());
                changed(session, FileAnswer { restart_reads, ..answer }, "Set", &key, reload).await?;
            }
            Action::Unset { key } => {
                let before = fs::read(&file.path).ok();
                let reload = config::edit::unset(&file.path, &key).map_err(failed)?;
                if before.is_some() && before == fs::read(&file.path).ok() {
                    session.print(&FileAnswer { written: Some(false), ..answer }, |answer, page| {
                        page.line(format!(
                            "{key} is not set in {}: its default holds, nothing changed.",
                            answer.path
                        ));
                    })?;
                    return Ok(Exit::Ok);
                }
                let restart_reads = restart_reads.map(|path| path.display().to_string());
                changed(session, FileAnswer { restart_reads, ..answer }, "Removed", &key, reload).await?;
            }
            Action::Path => {
                let answer = FileAnswer { exists: Some(file.path.exists()), ..answer };
                session.print(&answer, |answer, page| {
                    page.line(&answer.path);
                })?;
            }
            Action::Check { strict_config } => {
                let unknown = if strict_config { Unknown::Refuse } else { Unknown::Warn };
                let exists = file.is_named || file.path.symlink_metadata().is_ok();
                let warnings = match exists {
                    true => config::edit::check(&file.path, unknown).map_err(failed)?,
                    false => Vec::new(),
                };
                let warnings = warnings.iter().map(ToString::to_string).collect();
                let answer = FileAnswer { exists: Some(exists), warnings: Some(warnings), ..answer };
                session.print(&answer, |answer, page| {
                    if answer.exists == Some(false) {
                        page.line(format!("There is no {}: the defaults hold.", answer.path));
                        return;
                    }
                    page.warnings(answer.warnings.as_deref().unwrap_or_default());
                    page.line(format!("{} is valid.", answer.path));
                })?;
            }
            Action::Schema => {}
            Action::Init => {
                let defaults = P2PConfig::for_daemon(session.home());
                let written = config::edit::write_default(&file.path, &defaults).map_err(failed)?;
                let answer = FileAnswer { written: Some(written), ..answer };
                session.print(&answer, |answer, page| {
                    let what = if written { "Wrote" } else { "Left as it is:" };
                    page.line(format!("{what} {}", answer.path));
                })?;
            }
        }
        Ok(Exit::Ok)
    }
}

/// Tells the running node, if there is one, and then the user.
async fn changed(
    session: &Session,
    answer: FileAnswer,
    done: &str,
    key: &str,
    reload: Reload,
) -> Finished<()> {
    let reloaded = match session.client().reload().await {
        Ok(reloaded) => Some(reloaded),
        Err(failure) if failure.code == Code::NotRunning => None,
        Err(failure) => return Err(failure.into()),
    };
    // The node knows a key by one name: `topology.kind` is `topology` there.
    let name = Key::named(key).map_or(key, |key| key.name);
    let warnings = if name == STORE_LIMIT { unmet_limit(session, &answer.path).await } else { None };
    let warnings = warnings.map(|warning| vec![warning]);
    let answer = FileAnswer { takes_effect: Some(reload.as_str()), reloaded, warnings, ..answer };
    let among = |keys: &[String]| keys.iter().any(|it| it == name);
    session.print(&answer, |answer, page| {
        page.warnings(answer.warnings.as_deref().unwrap_or_default());
        page.line(format!("{done} {key} in {}.", answer.path));
        if let Some(reads) = &answer.restart_reads {
            page.line(format!(
                "A plain start reads this file; restart reads {reads}, as the last start did. To change that one: --config {reads}"
            ));
        }
        match (&answer.reloaded, &answer.node_reads) {
            (None, _) => {}
            (Some(_), Some(reads)) => {
                page.line(format!(
                    "The running node does not read this file but {reads}, and goes on as before. To change that one: --config {reads}"
                ));
            }
            (Some(reloaded), None) if among(&reloaded.applied) => {
                page.line("The running node has taken it.");
            }
            (Some(reloaded), None) if among(&reloaded.restart_needed) => {
                page.line("The running node takes it when it starts again: ggen marketplace p2p restart");
            }
            (Some(_), None) => {
                page.line(
                    "The running node goes on as before: this is its value already, or a flag or the environment \
                     decides it.",
                );
            }
        }
    })
}

/// What to say of the limit of the store, where what is here is over it and stays.
async fn unmet_limit(session: &Session, file: &str) -> Option<String> {
    let flags = Flags { config: Some(PathBuf::from(file)), ..Default::default() };
    let most = p2p_state::effective(session.home(), &flags).ok()?.config.store_bytes_max?;
    // The value is written in any case, and `status` says the same.
    p2p_state::view(session.home()).await.ok()?.unmet_limit(most).await.ok()?
}

fn failed(error: config::Error) -> Failure {
    p2p_state::config_failure(&error)
}

/// The values of a start without flags, or one of them; those of a table where there may be several.
fn values(
    session: &Session,
    file: Option<PathBuf>,
    key: Option<&str>,
    with_origin: bool,
    is_for_many: bool,
) -> Outcome<Vec<Shown>> {
    let effective = p2p_state::effective(session.home(), &Flags { config: file, ..Default::default() })?;
    for problem in &effective.warnings {
        session.warn(&problem.to_string());
    }
    let in_table: Vec<&Key> = key.into_iter().flat_map(Key::in_table).collect();
    let shown = match key {
        Some(_) if is_for_many && !in_table.is_empty() => {
            effective.show().into_iter().filter(|shown| in_table.contains(&shown.key)).collect()
        }
        Some(key) => vec![effective.get(key).map_err(failed)?],
        None => effective.show(),
    };
    let shown = shown.into_iter().map(|shown| Shown {
        key: shown.key.name,
        value: shown.value.as_ref().map(config::Value::to_json),
        origin: with_origin.then(|| shown.origin.to_string()),
        text: shown.value.map_or_else(|| "(not set)".to_owned(), |value| value.to_string()),
    });
    Ok(shown.collect())
}

fn show(session: &Session, file: Option<PathBuf>, key: Option<&str>, with_origin: bool) -> Finished<()> {
    let answer = Values { values: values(session, file, key, with_origin, true)? };
    session.print(&answer, |answer, page| {
        let header: &[&str] = if with_origin { &["KEY", "VALUE", "ORIGIN"] } else { &["KEY", "VALUE"] };
        page.table(
            header,
            answer.values.iter().map(|shown| {
                let mut row = vec![shown.key.to_owned(), shown.text.clone()];
                row.extend(shown.origin.clone());
                row
            }),
        );
    })
}

fn get(session: &Session, file: Option<PathBuf>, key: &str) -> Finished<()> {
    let mut shown = values(session, file, Some(key), true, false)?;
    let shown = shown.pop().ok_or_else(|| Failure::new(Code::NotFound, "There is no such key.", ""))?;
    session.print(&shown, |shown, page| {
        page.line(&shown.text);
    })
}

/// For people it is the document that a validator reads; for programs it carries the version of every answer, which
/// validators pass over.
fn schema(session: &Session) -> Finished<()> {
    let schema = keys::schema();
    match session.format() {
        Format::Json | Format::Yaml => session.print(&schema, |_, _| {}),
        Format::Human | Format::Table => {
            let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
            text.push('\n');
            session.print_verbatim(&text)
        }
    }
}
