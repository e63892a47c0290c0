//! `key forget`: a key that is lost is not missed any more.

use std::path::Path;

use ggen_marketplace::{
    code::Code,
    control::{api::Failure, service::Outcome},
    identity::{Publisher, PublisherId, publisher::Lost},
};
use serde::Serialize;

use super::refused;
use crate::session::{Finished, Session};

/// A key that is not missed any more.
#[derive(Debug, Serialize)]
struct Forgotten {
    publisher: String,
}

pub(super) fn forget(session: &Session, folder: &Path, name: &str) -> Finished<()> {
    let publisher = meant(folder, name)?;
    Publisher::forget(folder, &publisher).map_err(refused)?;
    session.print(&Forgotten { publisher: publisher.to_string() }, |forgotten, page| {
        page.line(format!("The key of publisher {} is not missed any more.", forgotten.publisher));
        page.line(
            "What was published with it stays, and nothing can be added to it. If the key comes back, it is used again: ggen marketplace \
             p2p key import <NAME> <FILE>",
        );
    })
}

/// Whose lost key is meant by what it was called, or by the id of its publisher. A key that is here is never meant.
fn meant(folder: &Path, name: &str) -> Outcome<PublisherId> {
    let lost: Vec<Lost> = Publisher::lost(folder).map_err(refused)?;
    let called: Vec<&Lost> = lost.iter().filter(|lost| lost.name == name).collect();
    for here in Publisher::list(folder).map_err(refused)? {
        let id = Publisher::load(folder, &here).ok().map(|publisher| publisher.id().to_string());
        if here == name || id.as_deref() == Some(name) {
            let hint = match called.first() {
                Some(lost) => {
                    format!(
                        "The lost key that was called so too: ggen marketplace p2p key forget {}",
                        lost.id
                    )
                }
                None => "See which keys are lost: ggen marketplace p2p key list".to_owned(),
            };
            return Err(Failure::new(
                Code::Conflict,
                format!("The key \"{here}\" is here, and not lost."),
                hint,
            ));
        }
    }
    let id = match called.as_slice() {
        [] => name,
        [only] => &only.id,
        several => {
            let ids: Vec<String> = several.iter().map(|lost| format!("\n  {}", lost.id)).collect();
            return Err(Failure::new(
                Code::Ambiguous,
                format!("Several lost keys were called \"{name}\":{}", ids.concat()),
                "Name the publisher: ggen marketplace p2p key forget <ID>",
            ));
        }
    };
    let unknown = || {
        Failure::new(
            Code::NotFound,
            format!("No lost publisher key is called \"{name}\"."),
            "See which are lost: ggen marketplace p2p key list",
        )
    };
    let id: PublisherId = id.parse().map_err(|_| unknown())?;
    let is_known = lost.iter().any(|lost| lost.id == id.to_string())
        || Publisher::forgotten(folder).map_err(refused)?.contains(&id);
    if is_known { Ok(id) } else { Err(unknown()) }
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::time::Timestamp;

    use super::*;

    #[test]
    fn only_a_lost_key_can_be_forgotten_and_is_missed_again_once_it_was_back() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("keys");
        let create = || Publisher::create(&folder, "default", Timestamp::now()).unwrap();
        let old = create();
        let text = old.export();
        assert_eq!(meant(&folder, "default").unwrap_err().code, Code::Conflict, "it is here");
        std::fs::remove_file(folder.join("publishers/default.key")).unwrap();
        assert_eq!(meant(&folder, "default").unwrap(), old.id());
        let new = create();
        // The name is that of the new one.
        let failure = meant(&folder, "default").unwrap_err();
        assert!(
            failure.code == Code::Conflict && failure.hint.contains(&old.id().to_string()),
            "{failure:?}"
        );
        assert_eq!(meant(&folder, &new.id().to_string()).unwrap_err().code, Code::Conflict);
        assert_eq!(meant(&folder, "never").unwrap_err().code, Code::NotFound);
        let stranger = PublisherId::from_bytes([7; 32]).to_string();
        assert_eq!(meant(&folder, &stranger).unwrap_err().code, Code::NotFound, "it never was here");

        let lost = Publisher::lost(&folder).unwrap();
        let (message, hint) = (lost[0].message(&folder), lost[0].error(&folder).hint());
        assert!(
            !message.contains(".key") && hint.contains(&format!("key forget {}", old.id())),
            "{message}: {hint}"
        );
        Publisher::forget(&folder, &meant(&folder, &old.id().to_string()).unwrap()).unwrap();
        assert_eq!(Publisher::lost(&folder).unwrap(), []);
        assert!(Publisher::forgotten(&folder).unwrap().contains(&old.id()));

        let old = Publisher::import(&text).unwrap();
        old.adopt(&folder, "old").unwrap();
        assert!(Publisher::forgotten(&folder).unwrap().is_empty());
        std::fs::remove_file(folder.join("publishers/old.key")).unwrap();
        assert_eq!(Publisher::lost(&folder).unwrap().len(), 1);
    }
}
