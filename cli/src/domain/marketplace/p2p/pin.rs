//! `pin`: content that is kept whatever is installed.

use clap::{Args, Subcommand};
use ggen_marketplace::{
    control::api::{Failure, KeepAction, KeepRequest, KeptList},
    package::Asked,
};

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Keep the content of packages in the store, whatever is installed.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    long_about = "Keep the content of packages in the store, whatever is installed.\n\n\
        What is pinned stays when gc runs or the store is full, and is provided to others. To say which publisher a bare name means is \
        another thing: see `trust pin`.",
    after_help = "\
Works while no node runs too.

Examples:
  ggen marketplace p2p pin add web-tools@1.2.3
  ggen marketplace p2p pin add web-tools --name release --for 30d
  ggen marketplace p2p pin list
  ggen marketplace p2p pin remove release"
)]
pub(crate) struct Pin {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with pins of content.
#[derive(Debug, Subcommand)]
enum Action {
    /// Pin a package that was installed or published here; its newest version here where none is named.
    Add {
        /// The package: [publisher/]name[@version].
        #[arg(value_name = "PACKAGE", value_parser = values::package)]
        package: Asked,
        /// The name of the pin [default: the full id with version].
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        name: String,
        /// For how long, such as 30d or 12h [default: permanently].
        #[arg(long = "for", value_name = "DURATION", value_parser = values::duration)]
        duration: Option<u64>,
    },
    /// Take a pin away, by its name or the package that it keeps; its content stays until gc runs.
    Remove {
        /// The name of the pin, or the package.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List the pins.
    List,
}

impl Pin {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        match &self.action {
            Action::Add { .. } => "pin the content",
            Action::Remove { .. } => "take the pin away",
            Action::List => "list the pins of content",
        }
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = match self.action {
            Action::Add { package, name, duration } => KeepRequest {
                action: KeepAction::Add,
                package: package.to_string(),
                name,
                for_secs: duration,
            },
            Action::Remove { name } => {
                KeepRequest { action: KeepAction::Remove, name, ..KeepRequest::default() }
            }
            Action::List => KeepRequest::default(),
        };
        let mut outcome = session.client().keep(&request).await;
        if outcome.as_ref().is_err_and(Failure::is_not_running) {
            outcome = p2p_state::keep_offline(session.home(), request.clone()).await;
        }
        let kept = outcome?;
        session.print(&kept, |kept, page| show(request.action, kept, page))?;
        Ok(Exit::Ok)
    }
}

fn show(action: KeepAction, kept: &KeptList, page: &mut Page) {
    let name = kept.changed.as_deref().unwrap_or_default();
    match action {
        KeepAction::Add => {
            let pin = kept.pins.iter().find(|pin| pin.name == name);
            page.heading(format!("Pinned {name}"));
            if let Some(before) = &kept.replaced {
                page.field("instead of", before);
            }
            if let Some(pin) = pin {
                page.field("keeps", &pin.id)
                    .field("size", page::bytes(pin.size))
                    .field("until", pin.until.as_deref().unwrap_or("you take the pin away"));
            }
            return;
        }
        KeepAction::Remove => {
            page.line(format!(
                "Took the pin {name} away; what it kept, and nothing else uses, goes when gc runs: ggen marketplace p2p gc"
            ));
            return;
        }
        KeepAction::List => {}
    }
    if kept.pins.is_empty() {
        page.line("Nothing is pinned. Pin what is here: ggen marketplace p2p pin add <package>");
        return;
    }
    page.table(
        &["NAME", "SIZE", "UNTIL", "KEEPS"],
        kept.pins.iter().map(|pin| {
            let until = pin.until.clone().unwrap_or_else(|| "-".to_owned());
            vec![pin.name.clone(), page::bytes(pin.size), until, pin.id.clone()]
        }),
    );
}
