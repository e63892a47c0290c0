//! The grammar of the command: `ggen <noun group> <noun> <verb>`, and what every verb understands.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    domain::marketplace::{Marketplace, p2p::P2p},
    session::{Exit, Finished, Format, Session},
};

/// A package registry without a server: publish, find and install signed packages between peers.
#[derive(Debug, Parser)]
#[command(
    name = "ggen",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Noun,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How to print the answer; json and yaml are for programs and carry schema_version.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, value_name = "FORMAT", help_heading = "Global options")]
    pub(crate) format: Format,
    /// The state folder: configuration, keys, packages, log, control socket [env: GGEN_HOME] [default: ~/.ggen].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) home: Option<PathBuf>,
}

/// The first word.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Packages, and the network that carries them.
    Marketplace(Marketplace),
    /// Short for `ggen marketplace p2p`.
    P2p(P2p),
}

impl Cli {
    /// What the command wants to do, as the object of "could not".
    pub(crate) fn verb(&self) -> &'static str {
        self.command.p2p().verb.purpose()
    }
}

impl Noun {
    fn p2p(&self) -> &P2p {
        match self {
            Self::Marketplace(marketplace) => marketplace.p2p(),
            Self::P2p(p2p) => p2p,
        }
    }

    /// What to do where Ctrl-C ended the command.
    pub(crate) fn after_interruption(&self) -> &'static str {
        self.p2p().verb.after_interruption()
    }

    /// Whether this process becomes the node.
    pub(crate) fn is_node(&self) -> bool {
        self.p2p().verb.is_node()
    }

    /// Whether a node runs afterwards, here or as a process of its own.
    pub(crate) fn starts_node(&self) -> bool {
        self.p2p().verb.starts_node()
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        match self {
            Self::Marketplace(marketplace) => marketplace.into_p2p().run(session).await,
            Self::P2p(p2p) => p2p.run(session).await,
        }
    }
}

/// The format that arguments which could not be parsed ask for.
pub(crate) fn wanted_format(arguments: &[OsString]) -> Format {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    let mut previous_is_format = false;
    let mut wanted = Format::Human;
    for argument in options {
        let text = argument.to_str().unwrap_or_default();
        let value = if previous_is_format { Some(text) } else { text.strip_prefix("--format=") };
        if let Some(value) = value {
            wanted = Format::from_str(value, false).unwrap_or(Format::Human);
        }
        previous_is_format = !previous_is_format && argument == "--format";
    }
    wanted
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_format_is_found_in_arguments_that_do_not_parse() {
        let wants = |text: &str| wanted_format(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        for (text, format) in [
            ("ggen p2p search --limit 0 --format json", Format::Json),
            ("ggen p2p search --limit 0 --format yaml", Format::Yaml),
            ("ggen --format=json p2p", Format::Json),
            ("ggen p2p search json --format", Format::Human),
            ("ggen p2p search -- --format json", Format::Human),
            ("ggen p2p search --format json --format human", Format::Human),
            ("ggen p2p search --format xml", Format::Human),
        ] {
            assert_eq!(wants(text), format, "{text}");
        }
    }
}
