//! `completions`: scripts that complete the command in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{
    arguments::Cli,
    session::{Exit, Finished, Session},
};

/// Print a script that completes this command in a shell.
#[derive(Debug, Args)]
#[command(
    long_about = "Print a script that completes this command in a shell.\n\n\
        In bash, zsh and fish it completes verbs, flags, packages and their versions, peers, publisher keys, pinned names and keys of the configuration. \
        The node is asked, or its store if no node runs, for at most 100 ms. In the other shells verbs and flags are completed.",
    after_help = "\
Examples:
  ggen marketplace p2p completions bash > ~/.local/share/bash-completion/completions/ggen
  ggen marketplace p2p completions zsh > ~/.zfunc/_ggen
  ggen marketplace p2p completions fish > ~/.config/fish/completions/ggen.fish"
)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, session: &Session) -> Finished<Exit> {
        let script = match self.shell {
            Shell::Bash => include_str!("completions/ggen.bash").to_owned(),
            Shell::Zsh => include_str!("completions/ggen.zsh").to_owned(),
            Shell::Fish => include_str!("completions/ggen.fish").to_owned(),
            other => {
                let mut script = Vec::new();
                clap_complete::generate(other, &mut Cli::command(), "ggen", &mut script);
                String::from_utf8_lossy(&script).into_owned()
            }
        };
        session.print_verbatim(&script)?;
        Ok(Exit::Ok)
    }
}
