//! A publisher key that was replaced on another machine: how a machine that was away then learns it, remembers it beside the key
//! file, and takes the new key.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    KeyLog, Publisher, PublisherId, documents,
    key_file::{self, Error, Flaw},
    publisher::{mark_adopted, path},
};
use crate::{content::ContentId, time::Timestamp};

/// The ending of the file beside a key that says which key document replaced it.
const ENDING: &str = "replaced";
/// Keys of one name that are kept aside at most.
const KEPT_MAX: usize = 100;

/// The first key document of a publisher that a key here does not stand behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// Its number.
    pub n: u64,
    /// Its fingerprint ([`KeyLog::fingerprint`]).
    pub document: ContentId,
    /// When it was made, as its maker says.
    pub created: Timestamp,
    /// Whether recovery keys can name the document after the chain that it begins.
    pub has_recovery: bool,
    /// Whether the key here is still a current one of that chain: other things than the key were changed.
    pub keeps_key: bool,
}

impl Replaced {
    /// The first document of the chain that others know which is not in our own.
    pub fn find(own: &KeyLog, others: &KeyLog) -> Option<Self> {
        if own.publisher() != others.publisher() {
            return None;
        }
        (0..=others.current().n).find_map(|n| {
            let (document, created) = (others.fingerprint(n)?, others.document(n)?.created);
            let has_recovery = !others.current().recovery.is_empty();
            let keeps_key = own.agrees_with(others) && own.current().keys == others.current().keys;
            let found = Self { n, document, created, has_recovery, keeps_key };
            (own.fingerprint(n) != Some(document)).then_some(found)
        })
    }

    /// Remembers it beside the key of a publisher that is called `name` in the folder of keys `dir`.
    ///
    /// # Errors
    /// Whatever keeps the file from being written.
    pub fn note(&self, dir: &Path, name: &str, publisher: PublisherId) -> Result<(), Error> {
        let file = path(dir, name)?.with_extension(ENDING);
        let recovery = if self.has_recovery { " recovery" } else { "" };
        let same = if self.keeps_key { " same-key" } else { "" };
        let created = self.created.as_secs();
        let line = format!("{} {} {created} {publisher}{recovery}{same}\n", self.n, self.document);
        if fs::read_to_string(&file).is_ok_and(|there| there == line) {
            return Ok(());
        }
        fs::write(&file, line).map_err(|source| Error::Write { path: file, source })
    }

    /// What is remembered of the key called `name`, unless its chain has that document by now. What is of another publisher, whose key
    /// was called so before, says nothing.
    pub fn of(dir: &Path, name: &str, keys: &KeyLog) -> Option<Self> {
        let text = fs::read_to_string(path(dir, name).ok()?.with_extension(ENDING)).ok()?;
        let mut words = text.split_whitespace();
        let n = words.next()?.parse().ok()?;
        let document = words.next()?.parse().ok()?;
        let created = Timestamp::from_secs(words.next()?.parse().ok()?);
        let publisher: PublisherId = words.next()?.parse().ok()?;
        let rest: Vec<&str> = words.collect();
        let (has_recovery, keeps_key) = (rest.contains(&"recovery"), rest.contains(&"same-key"));
        let noted = Self { n, document, created, has_recovery, keeps_key };
        (publisher == keys.publisher() && keys.fingerprint(n) != Some(document)).then_some(noted)
    }

    /// The same as an error, with the way to mend it.
    pub fn error(&self, name: &str) -> Error {
        let Self { n, created, has_recovery, keeps_key, .. } = *self;
        match keeps_key {
            true => Error::Amended { name: name.to_owned(), n, created },
            false => Error::Replaced { name: name.to_owned(), n, created, has_recovery },
        }
    }
}

impl Publisher {
    /// Writes the key in the place of the one called `name` in the folder of keys `dir`, which is of the same publisher. One that is
    /// another key, or belongs to another chain of keys, is kept aside, and the answer says where. Where its chain has more than the one
    /// that is there, that came from elsewhere: the key counts as one that was made there ([`Publisher::is_adopted`]).
    ///
    /// # Errors
    /// [`Flaw::Replaced`] where the one that is there is newer, and whatever keeps the file from being written; what is there then
    /// stays.
    pub fn supersede(&self, dir: &Path, name: &str) -> Result<Option<PathBuf>, Error> {
        let there = Self::load(dir, name)?;
        let file = path(dir, name)?;
        let (old, new) = (there.key_log(), self.key_log());
        let is_other = there.id() == self.id() && !old.agrees_with(new);
        let follows = there.id() == self.id() && old.agrees_with(new) && old.current().n <= new.current().n;
        let is_kept = is_other || (follows && there.public_key() != self.public_key());
        let kept = is_kept.then(|| keep(&file)).transpose()?;
        if is_other || (follows && old.current().n < new.current().n) {
            // The mark first: a key without it would be taken for one that published nothing elsewhere.
            mark_adopted(dir, &file)?;
        }
        if is_other {
            documents::keep(dir, new)?;
            key_file::replace(&file, &self.contents())?;
        } else {
            self.replace(dir, name)?;
        }
        match fs::remove_file(file.with_extension(ENDING)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Write { path: file.with_extension(ENDING), source: error })
            }
            _ => Ok(kept),
        }
    }
}

/// Gives a key file a second name, which is free.
fn keep(file: &Path) -> Result<PathBuf, Error> {
    let names = (1..=KEPT_MAX).map(|number| file.with_extension(format!("key.{ENDING}-{number}")));
    for kept in names {
        match fs::hard_link(file, &kept) {
            Ok(()) => return Ok(kept),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Write { path: kept, source }),
        }
    }
    Err(Error::Flaw { path: file.to_owned(), flaw: Flaw::Replaced })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    const THEN: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn next(publisher: &Publisher, seed: u8) -> Publisher {
        publisher
            .rotated(SecretKey::from_bytes(&[seed; 32]), THEN.plus(std::time::Duration::from_secs(1)))
            .unwrap()
    }

    #[test]
    fn the_first_document_that_is_not_ours_is_named() {
        let first = Publisher::from_secret([1; 32], THEN);
        let (second, fork) = (next(&first, 2), next(&first, 8));
        let third = next(&second, 3);
        let found = |own: &Publisher, others: &Publisher| {
            Replaced::find(own.key_log(), others.key_log()).map(|it| it.n)
        };
        assert_eq!(found(&first, &third), Some(1));
        assert_eq!(found(&second, &third), Some(2));
        assert_eq!(found(&next(&fork, 9), &second), Some(1), "a longer chain that nobody else knows");
        assert_eq!(found(&third, &first), None);
        assert_eq!(found(&third, &third), None);
        assert_eq!(found(&first, &Publisher::from_secret([7; 32], THEN)), None, "another publisher");
    }

    #[test]
    fn it_is_remembered_until_the_new_key_is_here_and_the_old_one_is_kept_aside() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("keys");
        let first = Publisher::from_secret([1; 32], THEN);
        let (second, fork) = (next(&first, 2), next(&first, 8));
        first.store(&dir, "me").unwrap();
        let replaced = Replaced::find(first.key_log(), second.key_log()).unwrap();
        replaced.note(&dir, "me", first.id()).unwrap();
        assert_eq!(Replaced::of(&dir, "me", first.key_log()), Some(replaced));
        assert!(replaced.error("me").to_string().contains("key document 1"));
        assert!(replaced.error("me").hint().contains("key import me <file>"));
        assert_eq!(Replaced::of(&dir, "me", second.key_log()), None);
        let other = Publisher::from_secret([7; 32], THEN);
        assert_eq!(
            Replaced::of(&dir, "me", other.key_log()),
            None,
            "a new key took the name of the lost one"
        );
        // Of other keys than its own it is said otherwise: nobody needs to have stolen anything.
        let named = crate::identity::ConfirmKey::make(&first, &[], THEN).unwrap().1;
        let amended = Replaced::find(first.key_log(), named.key_log()).unwrap();
        amended.note(&dir, "me", first.id()).unwrap();
        assert_eq!(Replaced::of(&dir, "me", first.key_log()), Some(amended));
        let said = amended.error("me");
        assert!(said.to_string().contains("is the same as before") && said.hint().contains("key import me"));
        assert_eq!(said.code(), crate::code::Code::KeyFile);
        // It replaced its own key before it knew: that chain is no beginning of the other one.
        fork.supersede(&dir, "me").unwrap();
        let kept = second.supersede(&dir, "me").unwrap().unwrap();
        assert_eq!(Publisher::load(&dir, "me").unwrap().key_log(), second.key_log());
        assert_eq!(Publisher::list(&dir).unwrap(), ["me"]);
        let text = fs::read_to_string(kept).unwrap();
        assert_eq!(Publisher::import(&text).unwrap().public_key(), fork.public_key());
        assert!(!dir.join("publishers/me.replaced").exists());
        assert!(first.supersede(&dir, "me").is_err(), "an older key takes the place of none");
        let kept = next(&second, 3).supersede(&dir, "me").unwrap().unwrap();
        let text = fs::read_to_string(kept).unwrap();
        assert_eq!(Publisher::import(&text).unwrap().public_key(), second.public_key());
        assert!(next(&second, 3).supersede(&dir, "me").unwrap().is_none(), "it is the same key");
        // What came from elsewhere may have published there.
        for (later, is_adopted) in [(first.clone(), false), (next(&first, 2), true), (next(&first, 8), true)]
        {
            let dir = temp.path().join(later.public_key().to_string());
            first.store(&dir, "me").unwrap();
            later.supersede(&dir, "me").unwrap();
            assert_eq!(Publisher::load(&dir, "me").unwrap().is_adopted(), is_adopted);
        }
        let forked = temp.path().join("forked");
        fork.store(&forked, "me").unwrap();
        assert!(!Publisher::load(&forked, "me").unwrap().is_elsewhere());
        second.supersede(&forked, "me").unwrap();
        assert!(Publisher::load(&forked, "me").unwrap().is_adopted());
        fs::write(dir.join("publishers/me.replaced"), "nonsense").unwrap();
        assert_eq!(Replaced::of(&dir, "me", second.key_log()), None);
    }
}
