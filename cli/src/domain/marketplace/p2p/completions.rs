//! `completions`: scripts that complete the command in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{
    arguments::Cli,
    session::{Exit, Finished, Session},
};

/// Print a script that completes this command in a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p completions bash > ~/.local/share/bash-completion/completions/ggen
  ggen marketplace p2p completions fish > ~/.config/fish/completions/ggen.fish")]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, session: &Session) -> Finished<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ggen", &mut script);
        session.print_verbatim(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Ok)
    }
}
