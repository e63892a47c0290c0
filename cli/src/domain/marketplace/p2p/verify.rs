//! `verify`: holds an installed package against its signed manifest.

use std::path::PathBuf;

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{Failure, Verified, VerifyRequest},
    package::Asked,
};

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Compare an installed package with its signed manifest, file by file.
#[derive(Debug, Args)]
#[command(after_help = "\
If it is installed in several folders, all of them are checked. No node has to run.
Exits with status 6 if anything differs, 4 if every folder is gone, and 9 if nothing differs but a change of the project was cut off.

Examples:
  ggen marketplace p2p verify
  ggen marketplace p2p verify web-tools
  ggen marketplace p2p verify web-tools@1.2.3 ./vendor/web-tools")]
pub(crate) struct Verify {
    /// The package: [publisher/]name[@version], also @^1.2 or @latest [default: everything that is installed].
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: Option<Asked>,
    /// The folder [default: wherever it is installed].
    #[arg(value_name = "DIR")]
    path: Option<PathBuf>,
}

impl Verify {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let path = self.path.as_deref().map(values::absolute_text).transpose()?;
        let request = VerifyRequest {
            package: self.package.map(|package| package.to_string()).unwrap_or_default(),
            path,
        };
        let mut outcome = session.client().verify(&request).await;
        if outcome.as_ref().is_err_and(Failure::is_not_running) {
            outcome = p2p_state::view(session.home()).await?.verify(request).await;
        }
        let verified = outcome?;
        session.print(&verified, |verified, page| {
            show(verified, page);
            for other in &verified.others {
                page.line("");
                show(other, page);
            }
        })?;
        let is_well = |verified: &Verified| verified.ok || verified.gone;
        let mut bad = std::iter::once(&verified).chain(&verified.others).filter(|it| !is_well(it)).peekable();
        Ok(match (bad.peek().is_some(), bad.all(|it| it.interrupted)) {
            (false, _) => Exit::Ok,
            (true, true) => Exit::Told(Code::Conflict),
            (true, false) => Exit::Told(Code::HashMismatch),
        })
    }
}

fn show(verified: &Verified, page: &mut Page) {
    if verified.gone {
        page.line(format!("{} is gone from {}", verified.id, verified.path))
            .line(format!("Forget it: ggen marketplace p2p remove {}", verified.path));
        return;
    }
    if verified.interrupted {
        page.heading(format!("{} was not compared", verified.id))
            .list("because", &verified.differences)
            .field("path", &verified.path);
        return;
    }
    page.heading(if verified.withdrawn {
        format!("{} was withdrawn by its publisher", verified.id)
    } else if verified.ok {
        format!("{} is as its publisher signed it", verified.id)
    } else {
        format!("{} is NOT as its publisher signed it", verified.id)
    });
    page.list("differs", &verified.differences)
        .field("path", &verified.path)
        .field("cid", &verified.cid)
        .field("checked", page::sizes(verified.bytes, verified.files))
        .field("signed by", &verified.signed_by)
        .field("publisher", &verified.publisher)
        .list("key path", &verified.key_path);
    if !verified.ok {
        page.line("").line(format!(
            "Restore it, and keep what was changed in a folder beside it: ggen marketplace p2p install {} --to {} --force",
            verified.id, verified.path
        ));
    }
}
