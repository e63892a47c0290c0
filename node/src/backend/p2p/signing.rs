//! The keys that sign: which are here, which of them is meant, and what is wrong with the others.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::failure::fail;
use crate::{
    code::Code,
    control::api::Failure,
    identity::{ConfirmKey, KeyLog, Publisher, PublisherId, Replaced, documents, key_file, publisher::Lost},
    package::{PackageId, PackageName},
    store::{self, Store},
    time::Timestamp,
};

/// The name of the publisher key that is used where none is named.
pub(super) const DEFAULT_KEY: &str = "default";

/// Where the publisher keys are.
#[derive(Debug, Clone)]
pub(super) enum Keys {
    /// In files below this folder.
    Folder(PathBuf),
    /// There is one, and it was given.
    Given(Arc<Mutex<Publisher>>),
}

impl Keys {
    /// Puts a publisher that was given in the place of the one before; tells whether it did.
    pub(super) fn replace(&self, publisher: Publisher) -> bool {
        let Self::Given(before) = self else { return false };
        let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = before.id() == publisher.id();
        if is_same {
            *before = publisher;
        }
        is_same
    }

    /// All publishers whose keys are here. One that cannot be read is passed over, and told of by [`Keys::unreadable`]: it keeps
    /// nobody else from signing.
    pub(super) fn all(&self) -> Result<Vec<Publisher>, Failure> {
        match self {
            Self::Given(publisher) => Ok(vec![given(publisher)]),
            Self::Folder(folder) => {
                let names = Publisher::list(folder).map_err(fail)?;
                Ok(names.iter().filter_map(|name| Publisher::load(folder, name).ok()).collect())
            }
        }
    }

    /// What is wrong with the keys that cannot be used, one line each.
    pub(super) fn unreadable(&self) -> Vec<String> {
        let Self::Folder(folder) = self else { return Vec::new() };
        let names = match Publisher::list(folder) {
            Ok(names) => names,
            Err(error) => return vec![format!("{error}; {}", error.hint())],
        };
        let flaw = |name: &String| {
            let error = Publisher::load(folder, name).err()?;
            Some(format!("the publisher key {name} cannot be used: {error}; {}", error.hint()))
        };
        names.iter().filter_map(flaw).collect()
    }

    /// Keeps the documents of the keys that are here beside the folder of keys, and those of `others`, whose keys are not.
    pub(super) fn keep_documents(&self, others: &[KeyLog]) -> Result<(), Failure> {
        let Self::Folder(folder) = self else { return Ok(()) };
        let here = self.all()?;
        here.iter().try_for_each(|publisher| publisher.keep_documents(folder)).map_err(fail)?;
        let is_here = |log: &KeyLog| here.iter().any(|publisher| publisher.id() == log.publisher());
        let mut others = others.iter().filter(|log| !is_here(log));
        others.try_for_each(|log| documents::keep_of_lost(folder, log)).map_err(fail)
    }

    /// The documents that are kept of a publisher beside the folder of keys.
    pub(super) fn kept_documents(&self, publisher: &PublisherId) -> Option<KeyLog> {
        match self {
            Self::Given(_) => None,
            Self::Folder(folder) => documents::kept(folder, publisher).unwrap_or_else(|error| {
                tracing::warn!(%publisher, %error, "its key documents cannot be read from where they are kept");
                None
            }),
        }
    }

    /// The publishers whose keys are here and cannot be used as they are: they are not lost.
    pub(super) fn unusable(&self) -> BTreeSet<PublisherId> {
        match self {
            Self::Given(_) => BTreeSet::new(),
            // What cannot be told is told of by `unreadable`.
            Self::Folder(folder) => Publisher::unusable(folder).unwrap_or_default(),
        }
    }

    /// The publishers whose keys are gone and not missed.
    pub(super) fn forgotten(&self) -> BTreeSet<PublisherId> {
        match self {
            Self::Given(_) => BTreeSet::new(),
            // What cannot be told is told of by `lost_keys`.
            Self::Folder(folder) => Publisher::forgotten(folder).unwrap_or_default(),
        }
    }

    /// All publishers whose keys are here.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub(super) fn every(&self) -> Result<Vec<Publisher>, Failure> {
        match self {
            Self::Given(publisher) => Ok(vec![given(publisher)]),
            Self::Folder(folder) => {
                let names = Publisher::list(folder).map_err(fail)?;
                names.iter().map(|name| Publisher::load(folder, name).map_err(fail)).collect()
            }
        }
    }

    /// Notes beside the key of a publisher which document replaced it; gives what the key is called.
    pub(super) fn note_replaced(&self, publisher: PublisherId, by: &Replaced) -> Result<String, Failure> {
        let Self::Folder(folder) = self else { return Ok(DEFAULT_KEY.to_owned()) };
        for name in Publisher::list(folder).map_err(fail)? {
            if Publisher::load(folder, &name).is_ok_and(|there| there.id() == publisher) {
                by.note(folder, &name, publisher).map_err(fail)?;
                return Ok(name);
            }
        }
        Ok(DEFAULT_KEY.to_owned())
    }

    /// The keys that are here to confirm and for nothing else.
    pub(super) fn confirming(&self) -> Result<Vec<ConfirmKey>, Failure> {
        match self {
            Self::Given(_) => Ok(Vec::new()),
            Self::Folder(folder) => {
                Ok(ConfirmKey::all(folder).map_err(fail)?.into_iter().map(|(_, key)| key).collect())
            }
        }
    }

    /// Whether the key is made first that signs.
    pub(super) fn is_to_be_made(&self, folder: &Path, name: Option<&str>) -> Result<bool, Failure> {
        let names = Publisher::list(folder).map_err(fail)?;
        let is_default = name.map_or(names.is_empty(), |name| name == DEFAULT_KEY);
        Ok(is_default && !names.iter().any(|it| it == DEFAULT_KEY))
    }

    /// Refuses to make a key where one is lost that published before, and is not forgotten.
    pub(super) fn refuse_lost(
        &self,
        folder: &Path,
        published: &BTreeSet<PublisherId>,
    ) -> Result<(), Failure> {
        let mut here: BTreeSet<_> = self.all()?.iter().map(Publisher::id).collect();
        here.append(&mut Publisher::forgotten(folder).map_err(fail)?);
        match published.difference(&here).next() {
            Some(lost) => Err(fail(lost_key(folder, lost))),
            None => Ok(()),
        }
    }

    /// The publisher that signs. Its key is made where there is none, unless somebody whose key is gone `published` here
    /// before: nobody is to find only later that another one signs.
    pub(super) fn publisher(
        &self,
        name: Option<&str>,
        published: &BTreeSet<PublisherId>,
    ) -> Result<Publisher, Failure> {
        match self {
            Self::Given(publisher) => Ok(given(publisher)),
            Self::Folder(folder) => {
                let names = Publisher::list(folder).map_err(fail)?;
                match (name, names.as_slice()) {
                    (Some(name), _) if names.iter().any(|it| it == name) => {
                        Publisher::load(folder, name).map_err(fail)
                    }
                    (Some(name), _) if name != DEFAULT_KEY => Err(Failure::new(
                        Code::NotFound,
                        format!("There is no publisher key \"{name}\"."),
                        "See which there are: ggen marketplace p2p key list",
                    )),
                    (None, [only]) => Publisher::load(folder, only).map_err(fail),
                    (None, [_, ..]) if !names.iter().any(|it| it == DEFAULT_KEY) => Err(Failure::new(
                        Code::Ambiguous,
                        format!("There are several publisher keys: {}.", names.join(", ")),
                        "Name the one to sign with: --key <name>",
                    )),
                    _ if !names.iter().any(|it| it == DEFAULT_KEY) => {
                        self.refuse_lost(folder, published)?;
                        // The first publication makes the key.
                        Publisher::load_or_create(folder, DEFAULT_KEY, Timestamp::now()).map_err(fail)
                    }
                    _ => Publisher::load(folder, DEFAULT_KEY).map_err(fail),
                }
            }
        }
    }
}

/// What the publisher key is called that is here and has this id.
pub(super) fn name_of(folder: &Path, id: PublisherId) -> Option<String> {
    let names = Publisher::list(folder).ok()?;
    names.into_iter().find(|name| Publisher::load(folder, name).is_ok_and(|there| there.id() == id))
}

/// Refuses to sign a package with the key that is taken where none is named, if another key here published it and that one did not: it
/// would be a second package of the same name.
pub(super) fn refuse_second_package(
    keys: &Keys,
    store: &Store,
    name: &PackageName,
    key: Option<&str>,
) -> Result<(), Failure> {
    let (Keys::Folder(folder), None) = (keys, key) else { return Ok(()) };
    let names = Publisher::list(folder).map_err(fail)?;
    let published = published_packages(store).map_err(fail)?;
    let forgotten = Publisher::forgotten(folder).map_err(fail)?;
    let here: BTreeSet<PublisherId> = keys.all()?.iter().map(Publisher::id).collect();
    let of_forgotten = published.iter().filter(|it| it.name == *name && forgotten.contains(&it.publisher));
    let is_own = here.iter().any(|id| published.contains(&PackageId { publisher: *id, name: name.clone() }));
    if let (false, Some(package)) = (is_own, of_forgotten.clone().find(|it| !here.contains(&it.publisher))) {
        return Err(Failure::new(
            Code::Ambiguous,
            format!(
                "{name} was published here by {}, whose key is gone. Nothing was published: it would be a second package, which those who \
                 use the first one never get.",
                package.publisher
            ),
            format!(
                "Bring the key back from a copy: ggen marketplace p2p key import <NAME> <FILE>\nTo begin a second package of the same name: \
                 --key {}",
                names.first().map_or(DEFAULT_KEY, String::as_str)
            ),
        ));
    }
    if names.len() < 2 || !names.iter().any(|it| it == DEFAULT_KEY) {
        return Ok(());
    }
    let has_published = |key: &&String| {
        Publisher::load(folder, key)
            .is_ok_and(|it| published.contains(&PackageId { publisher: it.id(), name: name.clone() }))
    };
    let have: Vec<&String> = names.iter().filter(has_published).collect();
    let Some(first) = have.first().filter(|_| have.iter().all(|key| *key != DEFAULT_KEY)) else {
        return Ok(());
    };
    let several: Vec<String> = have.iter().map(|key| format!("\"{key}\"")).collect();
    Err(Failure::new(
        Code::Ambiguous,
        format!(
            "Your key {} published {name} here, and \"{DEFAULT_KEY}\", which signs where no key is named, did not. Nothing was published.",
            several.join(" and ")
        ),
        format!(
            "To go on with that package: --key {first}\nTo begin a second package of the same name: --key {DEFAULT_KEY}"
        ),
    ))
}

/// The publisher that was given.
pub(super) fn given(publisher: &Mutex<Publisher>) -> Publisher {
    publisher.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Who published here before.
pub(super) fn published_before(store: &Store) -> Result<BTreeSet<PublisherId>, store::Error> {
    Ok(published_packages(store)?.into_iter().map(|package| package.publisher).collect())
}

/// What was published here before.
fn published_packages(store: &Store) -> Result<BTreeSet<PackageId>, store::Error> {
    store.read(|conn| {
        let heads = store::heads::list_all(conn)?.into_iter().map(|head| head.package);
        let versions = store::published::list_all(conn)?.into_iter().map(|version| version.package);
        Ok(heads.chain(versions).collect())
    })
}

/// Another key than the one that was lost would be another publisher's. What the lost one was called is known from when it was written.
fn lost_key(folder: &Path, lost: &PublisherId) -> key_file::Error {
    let known = Publisher::lost(folder).unwrap_or_default();
    let known = known.into_iter().find(|known| known.id == lost.to_string());
    known.unwrap_or_else(|| Lost { name: DEFAULT_KEY.to_owned(), id: lost.to_string() }).error(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::p2p::{
        publish::tests::{package, published},
        trust,
    };

    #[test]
    fn a_package_that_another_key_here_published_is_signed_by_none_that_was_not_named() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join(super::super::KEYS_FOLDER);
        let default = Publisher::create(&folder, DEFAULT_KEY, Timestamp::now()).unwrap();
        let work = Publisher::create(&folder, "work", Timestamp::now()).unwrap();
        let (keys, store) = (Keys::Folder(folder.clone()), Store::in_memory().unwrap());
        let name: PackageName = "pack".parse().unwrap();
        let refused = |key| refuse_second_package(&keys, &store, &name, key);
        refused(None).unwrap();
        let source = tempfile::tempdir().unwrap();
        published(&store, &work, &package(source.path(), "1.0.0")).unwrap();
        let failure = refused(None).unwrap_err();
        assert_eq!(failure.code, Code::Ambiguous);
        assert!(failure.hint.contains("--key work") && failure.hint.contains("--key default"), "{failure:?}");
        refused(Some(DEFAULT_KEY)).unwrap();
        let said = trust::warnings(&store, Some(&folder), &name, Some(default.id())).unwrap();
        assert!(matches!(said.as_slice(), [it] if it.contains("publish --key work")), "{said:?}");
        published(&store, &default, &package(source.path(), "1.0.0")).unwrap();
        refused(None).unwrap();
    }

    #[test]
    fn a_package_of_a_key_that_was_forgotten_is_begun_a_second_time_only_where_the_key_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join(super::super::KEYS_FOLDER);
        let gone = Publisher::create(&folder, DEFAULT_KEY, Timestamp::now()).unwrap();
        let (keys, store) = (Keys::Folder(folder.clone()), Store::in_memory().unwrap());
        let (name, other): (PackageName, PackageName) = ("pack".parse().unwrap(), "other".parse().unwrap());
        let source = tempfile::tempdir().unwrap();
        published(&store, &gone, &package(source.path(), "1.0.0")).unwrap();
        refuse_second_package(&keys, &store, &name, None).unwrap();
        std::fs::remove_file(folder.join("publishers/default.key")).unwrap();
        Publisher::forget(&folder, &gone.id()).unwrap();
        let failure = refuse_second_package(&keys, &store, &name, None).unwrap_err();
        assert!(failure.code == Code::Ambiguous && failure.hint.contains("--key default"), "{failure:?}");
        for (name, key) in [(&other, None), (&name, Some(DEFAULT_KEY))] {
            refuse_second_package(&keys, &store, name, key).unwrap();
        }
        let before = published_before(&store).unwrap();
        let made = keys.make_missing(Some(DEFAULT_KEY), &before).unwrap();
        assert!(made.is_some_and(|path| path.ends_with("default.key")), "it is told that a key was made");
        assert_eq!(keys.make_missing(Some(DEFAULT_KEY), &before).unwrap(), None);
        published(&store, &keys.every().unwrap()[0], &package(source.path(), "1.0.0")).unwrap();
        refuse_second_package(&keys, &store, &name, None).unwrap();
    }

    #[test]
    fn a_damaged_key_keeps_no_other_one_from_signing_and_is_told_of() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join(super::super::KEYS_FOLDER);
        let good = Publisher::create(&folder, "good", Timestamp::now()).unwrap();
        Publisher::create(&folder, "bad", Timestamp::now()).unwrap();
        let keys = Keys::Folder(folder.clone());
        assert!(keys.unreadable().is_empty() && keys.every().unwrap().len() == 2);
        std::fs::write(folder.join("publishers/bad.key"), "no key").unwrap();
        let all = keys.all().unwrap();
        assert_eq!(all.iter().map(Publisher::id).collect::<Vec<_>>(), [good.id()]);
        assert!(matches!(keys.unreadable().as_slice(), [told] if told.contains("the publisher key bad")));
        assert!(keys.every().is_err(), "what is done once is done with all of them");
    }
}
