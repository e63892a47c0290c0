//! Which publisher a bare name means here, and how a person changes that knowingly.

use std::path::Path;

use super::{failure::fail, meant::publisher_in, node::Node, signing::name_of, two_chains};
use crate::{
    catalog,
    code::Code,
    config::P2PConfig,
    control::api::{Failure, Pin, Trust, TrustAction, TrustRequest},
    identity::PublisherId,
    package::{PackageId, PackageName},
    store::{self, HomeLock, Store, heads, installed, pins},
    time::Timestamp,
};

impl Node {
    pub(super) async fn trust(&self, request: TrustRequest) -> Result<Trust, Failure> {
        let now = self.now();
        let (at_work, store) = self.at_work();
        let done = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            change(&store, &request, now)
        });
        done.await.ok_or_else(|| super::gone("the pins"))?
    }
}

/// As the node does it, on the store of a node that does not run.
///
/// # Errors
/// What the request cannot have, and [`Code::AlreadyRunning`] where the node does run.
pub fn trust_offline(config: &P2PConfig, request: &TrustRequest) -> Result<Trust, Failure> {
    let now = Timestamp::now();
    if request.action == TrustAction::List {
        // Who only asks leaves nothing behind, and need not be able to write.
        return change(&Store::open_for_reading(&config.state_dir).map_err(fail)?, request, now);
    }
    let _lock = HomeLock::acquire(&config.state_dir).map_err(fail)?;
    let (store, _) = Store::open(&config.state_dir, now).map_err(fail)?;
    change(&store, request, now)
}

fn change(store: &Store, request: &TrustRequest, now: Timestamp) -> Result<Trust, Failure> {
    let mut answer = Trust::default();
    if request.action != TrustAction::List {
        let name: PackageName = request.name.parse().map_err(|error: crate::package::name::Error| {
            Failure::new(error.code(), error.to_string(), "For example: my-package")
        })?;
        let named = match (request.action, request.publisher.is_empty()) {
            (TrustAction::Unpin, true) => None,
            _ => Some(publisher_of(store, request, &name)?),
        };
        let publisher = named.filter(|_| request.action != TrustAction::Unpin);
        if let Some(publisher) = publisher {
            answer.warnings.extend(unheard_of(store, PackageId { publisher, name: name.clone() })?);
        }
        // What is there is read and replaced in one: an installation may pin the name meanwhile.
        let changed = store.write(|tx| {
            let before = pins::pinned(tx, &name)?;
            if let Some(publisher) = publisher {
                catalog::keep(tx, &PackageId { publisher, name: name.clone() })?;
            }
            let changed = match publisher {
                None if before.is_none() => Err(Failure::new(
                    Code::NotFound,
                    format!("The name \"{name}\" is not pinned."),
                    "See which are: ggen marketplace p2p trust list",
                )),
                None if named.is_some_and(|named| before != Some(named)) => Err(Failure::new(
                    Code::PinMismatch,
                    format!("The name \"{name}\" is pinned to another publisher; nothing was changed."),
                    "See to which: ggen marketplace p2p trust list",
                )),
                None => Ok(pins::remove(tx, &name)?),
                Some(publisher) if before == Some(publisher) => Ok(false),
                Some(publisher) => match may_replace(request, &name, before, publisher) {
                    Ok(()) => {
                        pins::remove(tx, &name)?;
                        Ok(pins::pin(tx, &name, &publisher, now)?)
                    }
                    Err(failure) => Err(failure),
                },
            };
            Ok(changed.map(|changed| (before, changed)))
        });
        let (before, changed) = changed.map_err(fail)??;
        answer.before = before.map(|publisher| publisher.to_string());
        answer.changed = changed;
    }
    let pins = store.read(pins::list_all).map_err(fail)?;
    answer.total = pins.len();
    answer.disputed = two_chains::all(store)?;
    answer.pins = pins
        .into_iter()
        .map(|pin| Pin {
            name: pin.name.to_string(),
            publisher: pin.publisher.to_string(),
            pinned_at: pin.pinned_at.to_string(),
        })
        .collect();
    Ok(answer)
}

/// What a publisher is warned of who publishes under a name that means, or may mean, another package: somebody else's, or one of another key
/// in the folder `keys`.
pub(super) fn warnings(
    store: &Store,
    keys: Option<&Path>,
    name: &PackageName,
    own: Option<PublisherId>,
) -> Result<Vec<String>, store::Error> {
    store.read(|conn| {
        let is_other = |publisher: &PublisherId| Some(*publisher) != own;
        // How it is called here, and how to sign with it.
        let own_key = |publisher: &PublisherId| {
            let key = keys.and_then(|folder| name_of(folder, *publisher))?;
            Some((key.clone(), format!("to go on with that package: ggen marketplace p2p publish --key {key}")))
        };
        if let Some(pinned) = pins::pinned(conn, name)?.filter(is_other) {
            if let Some((key, way)) = own_key(&pinned) {
                return Ok(vec![format!(
                    "the name \"{name}\" is pinned to another publisher here, whose key \"{key}\" is yours too: \"{name}\" alone means \
                     {pinned}/{name}, and this package is meant only by its full id; {way}"
                )]);
            }
            return Ok(vec![format!(
                "the name \"{name}\" is pinned to another publisher here: \"{name}\" alone means {pinned}/{name}, and your package only by \
                 its full id; see: ggen marketplace p2p trust list"
            )]);
        }
        // Who goes on with a package knows of the others.
        let is_begun = match own {
            Some(publisher) => heads::get(conn, &PackageId { publisher, name: name.clone() })?.is_some(),
            None => false,
        };
        if is_begun {
            return Ok(Vec::new());
        }
        let claims = catalog::by_name(conn, name)?;
        let Some(first) = claims.listed.iter().map(|it| it.id.publisher).find(is_other) else {
            return Ok(Vec::new());
        };
        if let Some((publisher, (key, way))) = claims.listed.iter().find_map(|it| {
            let publisher = it.id.publisher;
            Some((publisher, own_key(&publisher).filter(|_| is_other(&publisher))?))
        }) {
            return Ok(vec![format!(
                "the name \"{name}\" is published by another publisher too ({publisher}), whose key \"{key}\" is yours: others have to give \
                 the full id of this package; {way}"
            )]);
        }
        let is_among = claims.listed.iter().any(|it| Some(it.id.publisher) == own);
        let more = match claims.total.saturating_sub(1 + usize::from(is_among)) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Ok(vec![format!(
            "the name \"{name}\" is published by another publisher too ({first}{more}): others have to give the full id of \
             your package; another name may be better"
        )])
    })
}

/// What is said of a package that nobody has told this machine of: the pin may be for a name that is misspelt.
fn unheard_of(store: &Store, package: PackageId) -> Result<Option<String>, Failure> {
    let known = store.read(|conn| {
        Ok(catalog::get(conn, &package)?.is_some()
            || catalog::seen(conn, &package)?.is_some()
            || installed::list_all(conn)?.iter().any(|row| row.package == package)
            || heads::get(conn, &package)?.is_some())
    });
    let warning = || {
        format!(
            "no package {package} is known here; the name is pinned all the same, so check how it is spelt"
        )
    };
    Ok((!known.map_err(fail)?).then(warning))
}

/// The publisher that a request names.
fn publisher_of(store: &Store, request: &TrustRequest, name: &PackageName) -> Result<PublisherId, Failure> {
    let verb = match request.action {
        TrustAction::Accept => "accept",
        TrustAction::Unpin => "unpin",
        _ => "pin",
    };
    if request.publisher.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            format!("\"{name}\" names no publisher."),
            format!(
                "Write the whole id: ggen marketplace p2p trust {verb} <publisher>/{name}. See who publishes it: \
                 ggen marketplace p2p search {name}"
            ),
        ));
    }
    publisher_in(store, &request.publisher, Some(name))
}

/// Refuses another publisher than the one that a name is pinned to, unless that was asked for.
fn may_replace(
    request: &TrustRequest,
    name: &PackageName,
    before: Option<PublisherId>,
    publisher: PublisherId,
) -> Result<(), Failure> {
    match before {
        Some(pinned) if request.action == TrustAction::Pin => Err(Failure::new(
            Code::PinMismatch,
            format!(
                "The name \"{name}\" is pinned to another publisher.\n  pinned: {pinned}\n  named:  {publisher}"
            ),
            format!(
                "To accept the other one in its place, knowingly: ggen marketplace p2p trust accept {publisher}/{name}"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::p2p::publish::tests::{package, published, registry},
        control::service::{Cancel, ProgressSender},
        identity::Publisher,
    };

    #[tokio::test]
    async fn a_publisher_is_warned_of_others_under_the_same_name_and_of_a_pin() {
        let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
        let (now, elsewhere) = (Timestamp::now(), Store::in_memory().unwrap());
        let other = Publisher::from_secret([9; 32], now);
        let head = published(&elsewhere, &other, &package(folder.path(), "1.0.0")).unwrap().head.unwrap();
        store.write(|tx| Ok(catalog::insert(tx, &head, &catalog::Source::unknown(), now)?)).unwrap();
        let registry = registry(store.clone()).await;
        let said = |warnings: Vec<String>| {
            let said = warnings.into_iter().find(|it| it.contains("the name \"pack\""));
            said.inspect(|it| assert!(it.contains(&other.id().to_string()), "{it}"))
        };
        let publish = async |version: &str| {
            let request = package(folder.path(), version);
            let planned = registry.node.plan_publication(request.clone(), ProgressSender::discard()).await;
            let done = registry.node.publish(request, ProgressSender::discard(), Cancel::default()).await;
            let [planned, said] = [planned.unwrap().warnings, done.unwrap().warnings].map(said);
            assert_eq!(planned, said);
            said
        };
        assert!(
            publish("1.0.0").await.is_some_and(|it| it.contains("is published by another publisher too"))
        );
        assert_eq!(publish("1.1.0").await, None, "it is known");
        let name = "pack".parse().unwrap();
        store.write(|tx| pins::pin(tx, &name, &other.id(), now)).unwrap();
        assert!(publish("1.2.0").await.is_some_and(|it| it.contains("is pinned to another publisher")));
    }

    #[test]
    fn a_name_that_was_pinned_is_never_given_up() {
        let store = Store::in_memory().unwrap();
        let publisher = Publisher::from_secret([9; 32], Timestamp::now());
        let request = TrustRequest {
            action: TrustAction::Pin,
            name: "hello".to_owned(),
            publisher: publisher.id().to_string(),
        };
        let kept = |conn: &rusqlite::Connection| {
            let kept = conn.query_row("SELECT id FROM catalog_kept", [], |row| row.get::<_, String>(0));
            Ok(kept.ok())
        };
        assert_eq!(store.read(kept).unwrap(), None);
        assert!(change(&store, &request, Timestamp::now()).unwrap().changed);
        assert_eq!(store.read(kept).unwrap(), Some(format!("{}/hello", publisher.id())));
    }

    #[test]
    fn who_only_lists_pins_leaves_nothing_in_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let config = P2PConfig::with_state_dir(folder.path());
        assert_eq!(trust_offline(&config, &TrustRequest::default()).unwrap(), Trust::default());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // It needs no lock, and so nothing that is written.
        let lock = HomeLock::acquire(folder.path()).unwrap();
        drop(Store::open(folder.path(), Timestamp::now()).unwrap());
        assert_eq!(trust_offline(&config, &TrustRequest::default()).unwrap(), Trust::default());
        drop(lock);
        for action in [TrustAction::Pin, TrustAction::Accept] {
            let request = TrustRequest { action, name: "hello".to_owned(), publisher: String::new() };
            let failure = trust_offline(&config, &request).unwrap_err();
            assert_eq!(failure.code, Code::Usage);
            assert!(failure.hint.contains("<publisher>/hello"), "{}", failure.hint);
        }
    }
}
