//! `trust`: which publisher a bare name means on this machine.

use clap::{Args, Subcommand};
use ggen_marketplace::{
    code::Code,
    control::api::{DisputedSide, Trust as Answer, TrustAction, TrustRequest},
    identity::Publisher,
    package::Asked,
};

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// List and change which publisher a bare name means here.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    long_about = "List and change which publisher a bare name means here.\n\n\
        The first publisher that is accepted for a name is pinned to it. Another one is never taken in its place silently.",
    after_help = "\
Examples:
  ggen marketplace p2p trust list
  ggen marketplace p2p trust pin <publisher>/web-tools
  ggen marketplace p2p trust accept <publisher>/web-tools
  ggen marketplace p2p trust unpin web-tools"
)]
pub(crate) struct Trust {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with pins.
#[derive(Debug, Subcommand)]
enum Action {
    /// List the pins.
    List,
    /// Pin a name that is not pinned yet.
    Pin {
        /// The publisher and the name: publisher/name.
        #[arg(value_name = "PACKAGE", value_parser = values::package)]
        package: Asked,
    },
    /// Take a pin away: the next publisher that is accepted for the name is pinned.
    Unpin {
        /// The name, also with its publisher.
        #[arg(value_name = "NAME", value_parser = values::package)]
        package: Asked,
    },
    /// Pin a name to another publisher than before; check with its author that this is right.
    Accept {
        /// The publisher and the name: publisher/name.
        #[arg(value_name = "PACKAGE", value_parser = values::package)]
        package: Asked,
    },
}

impl Trust {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        match &self.action {
            Action::List => "list the pins",
            Action::Pin { .. } | Action::Accept { .. } => "pin the name",
            Action::Unpin { .. } => "unpin the name",
        }
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let of = |action, package: Asked| TrustRequest {
            action,
            name: package.name.to_string(),
            // One that is missing is refused as what it is: no publisher id.
            publisher: package.publisher.map(|publisher| publisher.to_string()).unwrap_or_default(),
        };
        let request = match self.action {
            Action::List => TrustRequest::default(),
            Action::Pin { package } => of(TrustAction::Pin, package),
            Action::Accept { package } => of(TrustAction::Accept, package),
            Action::Unpin { package } => of(TrustAction::Unpin, package),
        };
        let mut outcome = session.client().trust(&request).await;
        if outcome.as_ref().is_err_and(|failure| failure.code == Code::NotRunning) {
            outcome = p2p_state::trust_offline(session.home(), &request);
        }
        let own = own_publishers(session);
        session.print(&outcome?, |answer, page| show(&request, answer, &own, page))?;
        Ok(Exit::Ok)
    }
}

/// The publishers whose keys are here.
fn own_publishers(session: &Session) -> Vec<String> {
    let folder = p2p_state::keys_folder(session.home());
    // What is wrong with a key is told by `key list`.
    let names = Publisher::list(&folder).unwrap_or_default();
    let here = names.iter().filter_map(|name| Publisher::load(&folder, name).ok());
    here.map(|publisher| publisher.id().to_string()).collect()
}

fn show(request: &TrustRequest, answer: &Answer, own: &[String], page: &mut Page) {
    page.warnings(&answer.warnings);
    let pinned = answer.pins.iter().find(|pin| pin.name == request.name);
    match (request.action, answer.changed) {
        (TrustAction::List, _) => {}
        (TrustAction::Unpin, _) => {
            page.line(format!("{} is not pinned any more.", request.name));
        }
        (_, false) => {
            page.line(format!("{} was pinned to this publisher already.", request.name));
        }
        (_, true) => {
            page.heading(format!("Pinned {}", request.name))
                .optional("before", answer.before.as_deref())
                // What was typed may be a short id.
                .optional("now", pinned.map(|pin| pin.publisher.as_str()));
        }
    }
    if request.action != TrustAction::List {
        return;
    }
    for disputed in &answer.disputed {
        page.heading(format!("Two chains of keys: {}", disputed.publisher))
            .field("go apart at", format!("key document {}", disputed.document))
            .list("either", &disputed.sides.iter().map(side).collect::<Vec<_>>())
            .field("pinned here", if disputed.pinned { "yes" } else { "no: nothing of it is installed" })
            .optional(
                "noticed",
                Some(page::when(&disputed.noticed_at)).filter(|_| !disputed.noticed_at.is_empty()),
            );
        page.line(match own.contains(&disputed.publisher) {
            true => "  It is yours. How to end it: ggen marketplace p2p status",
            false => "  Ask its owner, over another channel, which of these keys are theirs.",
        });
    }
    if answer.pins.is_empty() {
        page.line("No name is pinned yet; the first installation of one pins it.");
        return;
    }
    page.table(
        &["NAME", "PUBLISHER", "SINCE"],
        answer
            .pins
            .iter()
            .map(|pin| vec![pin.name.clone(), pin.publisher.clone(), page::when(&pin.pinned_at)]),
    );
}

fn side(side: &DisputedSide) -> String {
    format!("of {}: {}", side.created, side.keys.join(", "))
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::control::api::DisputedKeys;

    use super::*;

    #[test]
    fn nobody_is_told_to_ask_themselves_which_keys_are_theirs() {
        let disputed = vec![DisputedKeys { publisher: "gp1own".to_owned(), ..DisputedKeys::default() }];
        let answer = Answer { disputed, ..Answer::default() };
        let text = |own: &[String]| {
            let mut page = Page::new(None);
            show(&TrustRequest::default(), &answer, own, &mut page);
            page.into_text()
        };
        assert!(text(&[]).contains("Ask its owner"));
        assert!(!text(&["gp1own".to_owned()]).contains("Ask its owner"));
    }
}
