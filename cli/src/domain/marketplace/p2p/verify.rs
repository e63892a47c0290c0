//! `verify`: holds an installed package against its signed manifest.

use std::path::PathBuf;

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{Verified, VerifyRequest},
    package::PackageRef,
};

use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Hold an installed package against its signed manifest, file by file.
#[derive(Debug, Args)]
#[command(after_help = "\
Where it is installed in several folders, all of them are checked.
Exits with status 6 if anything differs.

Examples:
  ggen marketplace p2p verify web-tools
  ggen marketplace p2p verify web-tools@1.2.3 ./vendor/web-tools")]
pub(crate) struct Verify {
    /// The package: [publisher/]name[@version].
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: PackageRef,
    /// The folder [default: wherever it is installed].
    #[arg(value_name = "DIR")]
    path: Option<PathBuf>,
}

impl Verify {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let path = self.path.as_deref().map(values::absolute_text).transpose()?;
        let request = VerifyRequest { package: self.package.to_string(), path };
        let verified = session.client().verify(&request).await?;
        session.print(&verified, |verified, page| {
            show(verified, page);
            for other in &verified.others {
                page.line("");
                show(other, page);
            }
        })?;
        Ok(if verified.ok && verified.others.iter().all(|other| other.ok) {
            Exit::Ok
        } else {
            Exit::Told(Code::HashMismatch)
        })
    }
}

fn show(verified: &Verified, page: &mut Page) {
    page.heading(if verified.ok {
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
            "Install it afresh into another folder: ggen marketplace p2p install {} --to <DIR>",
            verified.id
        ));
    }
}
