//! The command line of the marketplace, as a library so that `main.rs` stays one line.
//!
//! Read `arguments.rs` for the grammar, `domain/marketplace/p2p.rs` for the verbs (one file each), and
//! `domain/marketplace/p2p_state.rs` for the life of a node: its state folder, its lock, its socket, and the daemon. A verb
//! asks the running node through [`ggen_marketplace::control::client::Client`] and shows the answer through `page::Page`,
//! which is the only way to the terminal: text that a peer wrote passes through it and loses its control characters.
//!
//! Answers go to stdout, everything else to stderr. A closed stdout ends a command quietly, with exit status 0.

mod arguments;
mod domain;
mod page;
mod progress;
mod session;
mod values;
mod yaml;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::{CommandFactory, FromArgMatches};
use ggen_marketplace::{code::Code, control::api::Failure};

use arguments::Cli;
use domain::marketplace::p2p_state::{daemon, descriptors};
use session::{End, Format, Session};

/// How long work on other threads may go on once the command is done.
const THREADS_GRACE: Duration = Duration::from_millis(200);

/// Runs one command line, the name of the program first, and returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = arguments::with_exclusions(arguments.into_iter().collect());
    let parsed = Cli::command()
        .try_get_matches_from(&arguments)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let status = match parsed {
        Ok(cli) => {
            if cli.command.is_node() {
                daemon::begin_again(&arguments);
            }
            execute(cli)
        }
        Err(error) => refuse(&error, &arguments),
    };
    ExitCode::from(status)
}

/// The grammar of the whole command, for those who document or test it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs a parsed command.
fn execute(cli: Cli) -> u8 {
    let format = cli.global.format;
    let verb = cli.verb();
    let result = Session::new(cli.global).and_then(|session| {
        if cli.command.starts_node() {
            // Even the threads need some descriptors, and those of a node that runs already are not to be given up first.
            descriptors::ensure()?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
            Failure::new(
                Code::Io,
                format!("Threads cannot be started: {error}."),
                "Raise the limits of processes and open files: ulimit -u 1024; ulimit -n 1024",
            )
        })?;
        // A node stops in good order on a signal; most other verbs are simply dropped.
        let result = if cli.command.is_node() || cli.command.attends_itself() {
            runtime.block_on(cli.command.run(&session))
        } else if cli.command.is_endless() {
            runtime.block_on(session.until_interrupted(cli.command.run(&session)))
        } else {
            runtime.block_on(session.attend(cli.command.after_interruption(), cli.command.run(&session)))
        };
        runtime.shutdown_timeout(THREADS_GRACE);
        result
    });
    match result {
        Ok(exit) => exit.status(),
        Err(End::StdoutClosed) => 0,
        Err(End::Failed(failure)) => {
            session::show_failure(format, verb, &failure);
            failure.exit_code()
        }
    }
}

/// Shows help, the version, or why the arguments were refused.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> u8 {
    let is_failure = error.exit_code() != 0;
    let wrong_verb = match error.get(clap::error::ContextKind::InvalidSubcommand) {
        Some(clap::error::ContextValue::String(verb)) => {
            arguments::instead_in(arguments, verb).first().map(|_| verb.clone())
        }
        _ => None,
    };
    let format = arguments::wanted_format(arguments);
    if is_failure && matches!(format, Format::Json | Format::Yaml) {
        let rendered = error.render().to_string();
        let (what, hint) = rendered.split_once("\n\n").unwrap_or((&rendered, ""));
        let ours = wrong_verb.as_deref().map(|verb| arguments::instead_in(arguments, verb).join("\n"));
        let hint = ours.as_deref().unwrap_or(hint);
        let what = what.strip_prefix("error: ").unwrap_or(what);
        let failure = Failure::new(Code::Usage, page::clean_lines(what), page::clean_lines(hint.trim()));
        session::show_failure(format, "run the command", &failure);
    } else if let Some(verb) = wrong_verb {
        let ours = arguments::instead_in(arguments, &verb).join("\n");
        let what = match ours.starts_with("ggen p2p ") {
            true => format!("\"{verb}\" is a verb of p2p."),
            false => format!("There is no verb \"{verb}\"."),
        };
        let failure = Failure::new(Code::Usage, what, ours);
        session::show_failure(format, "run the command", &failure);
    } else {
        session::show_clap(error);
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}
