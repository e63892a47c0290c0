//! `key rotate` and `key revoke` where the key file is not here, or was replaced elsewhere: recovery keys name the next key, and its
//! key documents are had from the state folder, from the node, or from a package of the publisher.

use std::path::{Path, PathBuf};

use ggen_marketplace::{
    code::Code,
    control::{
        api::{Failure, KeyDocuments, KeyDocumentsRequest},
        service::Outcome,
    },
    identity::{
        KeyDocument, KeyLog, PublicKey, Publisher, PublisherId, RecoveryKey, Replaced, documents, key_file,
        publisher::{self, Lost, free_name},
    },
};

use super::{
    change::{Target, check_recovery},
    refused,
};
use crate::{domain::marketplace::p2p_state, session::Session};

/// Where the next key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the place of the one that it replaces.
    Follows,
    /// In the place of one of the same publisher that was replaced elsewhere.
    Supersedes,
    /// Where none is.
    New,
    /// Likewise, where the packages of its publisher may have been published elsewhere.
    Adopted,
}

/// What is changed.
pub(super) struct Found {
    /// What the key is called here.
    pub(super) name: String,
    pub(super) place: Place,
    /// The key, where it is here.
    pub(super) here: Option<Publisher>,
    /// Its key documents.
    pub(super) log: KeyLog,
    /// The recovery keys that were given.
    pub(super) recovery: Vec<RecoveryKey>,
    /// A key that is here and belongs to another chain.
    pub(super) ended: Option<PublicKey>,
    /// Chains of key documents that contradict those.
    others: Vec<KeyLog>,
}

/// What is known of the one who is named.
enum Whose {
    /// The key is here.
    Key(String, Box<Publisher>),
    /// It was.
    Lost(Lost),
    /// It never was, as far as is known here.
    Other,
}

impl Found {
    /// Finds the key that is named by what it is called here, by its publisher's id or by a package of it.
    pub(super) async fn find(target: &Target, session: &Session, folder: &Path) -> Outcome<Self> {
        // A running node may have learnt that the key was replaced elsewhere: it notes that beside the file.
        let _ = session.client().renew_keys().await;
        let recovery = target.recovery_keys()?;
        match whose(folder, &target.name)? {
            Whose::Key(name, publisher) => Self::here(session, folder, name, *publisher, recovery).await,
            Whose::Lost(lost) if recovery.is_empty() => Err(refused(lost.error(folder))),
            Whose::Lost(lost) => Self::lost(session, folder, lost, recovery).await,
            Whose::Other if recovery.is_empty() => Err(unknown(&target.name)),
            Whose::Other => {
                let known = known(session, &target.name, true).await;
                let known = known.map_err(|failure| Failure {
                    message: format!(
                        "There is no publisher key \"{}\" here. {}",
                        target.name, failure.message
                    ),
                    ..failure
                })?;
                match whose(folder, &known.publisher)? {
                    Whose::Key(name, publisher) => {
                        Self::here(session, folder, name, *publisher, recovery).await
                    }
                    Whose::Lost(lost) => Self::lost(session, folder, lost, recovery).await,
                    Whose::Other => {
                        tell_unasked(session, &known);
                        let name = free_name(folder, p2p_state::KEY_DEFAULT);
                        Self::away(name, Place::Adopted, known.verified(), recovery)
                    }
                }
            }
        }
    }

    async fn here(
        session: &Session,
        folder: &Path,
        name: String,
        publisher: Publisher,
        recovery: Vec<RecoveryKey>,
    ) -> Outcome<Self> {
        let own = publisher.key_log().clone();
        let others = match known(session, &publisher.id().to_string(), false).await {
            Ok(known) => known.verified(),
            Err(failure) if failure.code == Code::NotFound => Vec::new(),
            Err(failure) => {
                session.warn(&format!(
                    "whether other keys of its publisher are known is not known here: {}",
                    failure.message
                ));
                Vec::new()
            }
        };
        if let Some(replaced) = Replaced::of(folder, &name, &own) {
            let is_by = |log: &KeyLog| log.fingerprint(replaced.n) == Some(replaced.document);
            let (by, others): (Vec<KeyLog>, Vec<KeyLog>) = others.into_iter().partition(is_by);
            if recovery.is_empty() || by.is_empty() {
                return Err(refused(replaced.error(&name)));
            }
            let mut found = Self::away(name, Place::Supersedes, by, recovery)?;
            found.others.extend(others.into_iter().filter(|other| !other.agrees_with(&own)));
            // It replaced itself before it knew: whoever heard of that is told that it does not count.
            found.ended = (!own.agrees_with(&found.log)).then(|| publisher.public_key());
            return Ok(found);
        }
        let current = own.current();
        check_recovery(current, &recovery).map_err(|failure| of_lost(folder, failure, current, &recovery))?;
        let others = others.into_iter().filter(|other| !other.agrees_with(&own)).collect();
        Ok(Self {
            name,
            place: Place::Follows,
            here: Some(publisher),
            log: own,
            recovery,
            ended: None,
            others,
        })
    }

    async fn lost(session: &Session, folder: &Path, lost: Lost, recovery: Vec<RecoveryKey>) -> Outcome<Self> {
        let id: PublisherId = lost.id.parse().map_err(|_| unknown(&lost.name))?;
        let kept = documents::kept(folder, &id).map_err(refused)?;
        let told = match known(session, &lost.id, true).await {
            Ok(known) => {
                tell_unasked(session, &known);
                known.verified()
            }
            Err(failure) if failure.code == Code::NotFound => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let chains = KeyLog::longest(kept.into_iter().chain(told));
        if chains.is_empty() {
            return Err(refused(lost.error(folder)));
        }
        let place = if folder.join(publisher::FOLDER_NAME).exists() { Place::New } else { Place::Adopted };
        Self::away(lost.free_name(folder), place, chains, recovery)
    }

    /// What is built on the first of these chains whose next document the given recovery keys may sign.
    fn away(
        name: String,
        place: Place,
        mut chains: Vec<KeyLog>,
        recovery: Vec<RecoveryKey>,
    ) -> Outcome<Self> {
        let checked: Vec<Outcome<()>> =
            chains.iter().map(|log| check_recovery(log.current(), &recovery)).collect();
        let Some(at) = checked.iter().position(Result::is_ok) else {
            let failure = checked.into_iter().find_map(Result::err);
            return Err(failure.unwrap_or_else(|| unknown(&name)));
        };
        let log = chains.remove(at);
        if log.current().recovery.is_empty() {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "Publisher {} has no recovery keys: only its own key can replace itself.",
                    log.publisher()
                ),
                "Restore the key from your backup: ggen marketplace p2p key import <name> <file>. Without one, go on as another publisher: \
                 ggen marketplace p2p key new <name> --recovery <file>, then: ggen marketplace p2p publish --key <name>",
            ));
        }
        Ok(Self { name, place, here: None, log, recovery, ended: None, others: chains })
    }

    /// Refuses a document that leaves another chain of keys standing which recovery keys named too: it would end nothing, and there is
    /// room for few.
    pub(super) fn refuse_useless(&self, next: &Publisher) -> Outcome<()> {
        let keys = next.key_log();
        let is_recovered = |other: &&KeyLog| {
            let before = other.parts_from(keys).and_then(|n| keys.document(n.checked_sub(1)?));
            before.is_some_and(|before| !before.recovery.is_empty())
        };
        let left: Vec<PublicKey> = self
            .others
            .iter()
            .filter(is_recovered)
            .filter(|other| !keys.ends(other))
            .flat_map(|other| other.current().keys.iter().copied())
            .filter(|key| !keys.is_revoked(key))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let revoked: Vec<String> = left.iter().map(|key| format!(" --public-key {key}")).collect();
        Err(Failure::new(
            Code::Equivocation,
            format!(
                "Two chains of keys of publisher {} were both named by its recovery keys, and another document on one of them does not \
                 end the other. Nothing was signed.",
                keys.publisher()
            ),
            format!(
                "Revoke the keys of the other one: ggen marketplace p2p key revoke {}{} --recovery <file>",
                self.name,
                revoked.concat()
            ),
        ))
    }

    /// Writes the next key to its place; yields where the one before is kept, if it belongs to another chain of keys.
    pub(super) fn store(&self, next: &Publisher, folder: &Path) -> Result<Option<PathBuf>, key_file::Error> {
        match self.place {
            Place::Follows => next.replace(folder, &self.name).map(|()| None),
            Place::Supersedes => next.supersede(folder, &self.name),
            Place::New => next.store(folder, &self.name).map(|()| None),
            Place::Adopted => next.adopt(folder, &self.name).map(|()| None),
        }
    }
}

/// Whose key is called so here, or has this publisher id.
fn whose(folder: &Path, name: &str) -> Outcome<Whose> {
    match Publisher::load(folder, name) {
        Ok(publisher) => return Ok(Whose::Key(name.to_owned(), Box::new(publisher))),
        Err(key_file::Error::Missing { .. } | key_file::Error::Name { .. }) => {}
        Err(error) => return Err(refused(error)),
    }
    let lost = Publisher::lost(folder).map_err(refused)?;
    let is_meant = |lost: &Lost| lost.name == name || lost.id == name || lost.free_name(folder) == name;
    if let Some(lost) = lost.into_iter().find(is_meant) {
        return Ok(Whose::Lost(lost));
    }
    for other in Publisher::list(folder).map_err(refused)? {
        if let Ok(publisher) = Publisher::load(folder, &other)
            && publisher.id().to_string() == name
        {
            return Ok(Whose::Key(other, Box::new(publisher)));
        }
    }
    Ok(Whose::Other)
}

/// Which chains of keys are known of a publisher, or of that of a package: by the node, or in the state folder where none runs.
async fn known(session: &Session, of: &str, ask: bool) -> Outcome<KeyDocuments> {
    let request = KeyDocumentsRequest { of: of.to_owned(), ask };
    match session.client().key_documents(&request).await {
        Err(failure) if failure.is_not_running() => {
            p2p_state::view(session.home()).await?.key_documents(request).await
        }
        known => known,
    }
}

fn tell_unasked(session: &Session, known: &KeyDocuments) {
    if !known.has_asked {
        session.warn(
            "nobody could be asked whether another machine replaced the key too; if one did, the two replacements contradict each other",
        );
    }
}

/// A recovery key that is none of the publisher whose key has the name now may be one of another whose key is, or was, here.
pub(super) fn of_lost(
    folder: &Path,
    failure: Failure,
    current: &KeyDocument,
    recovery: &[RecoveryKey],
) -> Failure {
    let strangers: Vec<PublicKey> = recovery.iter().map(RecoveryKey::public_key).collect();
    let strangers: Vec<&PublicKey> = strangers.iter().filter(|key| !current.recovery.contains(key)).collect();
    let is_its = |log: &KeyLog| strangers.iter().any(|key| log.current().recovery.contains(key));
    let Some(log) = documents::all(folder).unwrap_or_default().into_iter().find(is_its) else {
        return failure;
    };
    let publisher = log.publisher();
    let keys = Publisher::list(folder).unwrap_or_default();
    let of_it = |name: &&String| Publisher::load(folder, name).is_ok_and(|key| key.id() == publisher);
    let hint = match keys.iter().find(of_it) {
        Some(name) => format!("It is one of publisher {publisher}, whose key is \"{name}\" here."),
        None => format!(
            "It is one of publisher {publisher}, whose key is not here: ggen marketplace p2p key revoke {publisher} --recovery <file>"
        ),
    };
    Failure { hint, ..failure }
}

fn unknown(name: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("There is no publisher key \"{name}\"."),
        "See which there are: ggen marketplace p2p key list\nOf a publisher whose key is lost, give the recovery keys: --recovery <file>",
    )
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::{identity::publisher::Change, time::Timestamp};

    use super::*;

    const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn a_document_that_ends_no_other_chain_is_refused_and_the_keys_to_revoke_are_named() {
        let recovery = [RecoveryKey::from_secret([9; 32])];
        let named = vec![recovery[0].public_key()];
        let first = Publisher::random_with_recovery(named, 1, THEN).unwrap();
        let next =
            |publisher: &Publisher| publisher.rotated_at_random(Change::default(), &recovery, THEN).unwrap();
        let (own, other) = (next(&first), next(&first));
        let found = Found {
            name: "me".to_owned(),
            place: Place::Follows,
            here: Some(own.clone()),
            log: own.key_log().clone(),
            recovery: recovery.to_vec(),
            ended: None,
            others: vec![other.key_log().clone()],
        };
        let failure = found.refuse_useless(&next(&own)).unwrap_err();
        assert_eq!(failure.code, Code::Equivocation);
        let way = format!("key revoke me --public-key {} --recovery <file>", other.public_key());
        assert!(failure.hint.contains(&way), "{}", failure.hint);
        let end = Change { revoked: vec![other.public_key()], ..Change::default() };
        found.refuse_useless(&own.amended(end, &recovery, THEN).unwrap()).unwrap();
        // Where release keys replaced themselves, no document ends anything, and none is refused.
        let plain = Publisher::from_secret([1; 32], THEN);
        let (own, other) = (
            plain.rotated_at_random(Change::default(), &[], THEN).unwrap(),
            plain.rotated_at_random(Change::default(), &[], THEN).unwrap(),
        );
        let found = Found { others: vec![other.key_log().clone()], log: own.key_log().clone(), ..found };
        found.refuse_useless(&own).unwrap();
    }
}
