//! Pins of content: what is kept whatever is installed, by name and up to a time.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    collect::PATIENCE,
    failure::fail,
    gone,
    meant::{meant_in, publisher_meant},
    node::Node,
};
use crate::{
    code::Code,
    config::P2PConfig,
    control::api::{Failure, KeepAction, KeepRequest, KeptContent, KeptList},
    limits::{KEPT_MAX, KEPT_NAME_BYTES_MAX},
    network::Offload,
    store::{
        HomeLock, Store,
        kept::{self, Kept},
        packages,
    },
    time::Timestamp,
};

impl Node {
    /// Pins content, takes a pin away, and lists what is pinned.
    pub(super) async fn keep(&self, request: KeepRequest) -> Result<KeptList, Failure> {
        let now = self.now();
        // Not while it is being evicted.
        let relied_on = self.collecting.rely(Instant::now() + PATIENCE).await?;
        self.offload_store(move |store| {
            let _relied_on = relied_on;
            change(store, &request, now)
        })
        .await
    }
}

/// Changes and lists the pins of content in the state folder of a node that does not run.
///
/// # Errors
/// As the running node, and [`Code::AlreadyRunning`] where one runs.
pub async fn keep_offline(config: P2PConfig, request: KeepRequest) -> Result<KeptList, Failure> {
    let kept = Offload::Threads.run(move || {
        if request.action == KeepAction::List {
            // Who only asks leaves nothing behind, and need not be able to write.
            let store = Store::open_for_reading(&config.state_dir).map_err(fail)?;
            return change(&store, &request, Timestamp::now());
        }
        let lock = HomeLock::acquire(&config.state_dir).map_err(fail)?;
        let store = super::open_store(&config.state_dir)?;
        let kept = change(&store, &request, Timestamp::now());
        drop((store, lock));
        kept
    });
    kept.await.ok_or_else(|| gone("the pin"))?
}

fn change(store: &Store, request: &KeepRequest, now: Timestamp) -> Result<KeptList, Failure> {
    let mut answer = KeptList::default();
    match request.action {
        KeepAction::List => {}
        KeepAction::Add => {
            let pin = wanted(store, request, now)?;
            answer.changed = Some(pin.name.clone());
            let rows = store.read(kept::list_all).map_err(fail)?;
            if rows.len() >= KEPT_MAX && !rows.iter().any(|row| row.name == pin.name) {
                return Err(Failure::new(
                    Code::Limit,
                    format!("There are {KEPT_MAX} pins already."),
                    "Take one away: ggen marketplace p2p pin remove <name>",
                ));
            }
            let before = rows.into_iter().find(|row| row.name == pin.name && !row.has_expired(now));
            if let Some(before) = before.filter(|before| before.package.root != pin.package.root) {
                if before.package.package != pin.package.package {
                    return Err(taken(&before));
                }
                answer.replaced = Some(format!("{}@{}", before.package.package, before.package.version));
            }
            store.write(|tx| kept::insert(tx, &pin)).map_err(fail)?;
        }
        KeepAction::Remove => {
            let name = named(store, &request.name)?;
            store.write(|tx| kept::remove(tx, &name)).map_err(fail)?;
            answer.changed = Some(name);
        }
    }
    let rows = store.read(kept::list_all).map_err(fail)?;
    answer.pins = rows.into_iter().filter(|row| !row.has_expired(now)).map(told).collect();
    answer.total = answer.pins.len();
    Ok(answer)
}

/// A name that keeps another package: that one would be kept no more.
fn taken(before: &Kept) -> Failure {
    let Kept { name, package, .. } = before;
    Failure::new(
        Code::Conflict,
        format!("The pin {name} keeps {}@{}; nothing was changed.", package.package, package.version),
        format!(
            "Choose another name with --name, or take that pin away first: ggen marketplace p2p pin remove {name}"
        ),
    )
}

/// The pin that is asked for: of the one package here that is meant, or of its newest version.
fn wanted(store: &Store, request: &KeepRequest, now: Timestamp) -> Result<Kept, Failure> {
    let meant = meant_in(store, &request.package)?;
    let reference = &meant.reference;
    let publisher = publisher_meant(store, reference)?;
    let here = store.read(packages::list_all).map_err(fail)?;
    let mut fitting: Vec<_> = here
        .into_iter()
        .filter(|held| {
            held.package.name == reference.name
                && publisher.is_none_or(|publisher| publisher == held.package.publisher)
                && meant.which.fits(&held.version)
        })
        .collect();
    let publishers: std::collections::BTreeSet<_> =
        fitting.iter().map(|held| held.package.publisher).collect();
    if publishers.len() > 1 {
        let list: Vec<String> =
            fitting.iter().map(|held| format!("  {}@{}", held.package, held.version)).collect();
        return Err(Failure::new(
            Code::Ambiguous,
            format!("Several publishers have a package \"{}\" here:\n{}", reference.name, list.join("\n")),
            "Name the one you mean by its full id: <publisher>/<name>",
        ));
    }
    fitting.sort_by(|a, b| a.version.cmp(&b.version));
    let Some(package) = fitting.pop() else {
        return Err(Failure::new(
            Code::NotFound,
            format!(
                "The content of {} is not here as a whole, so that it cannot be pinned{}.",
                meant.typed,
                match publisher.filter(|_| reference.publisher.is_none()) {
                    Some(publisher) =>
                        format!("; the name means {publisher}/{} on this machine", reference.name),
                    None => String::new(),
                }
            ),
            format!("Install it first: ggen marketplace p2p install {}", meant.typed),
        ));
    };
    let name = match request.name.as_str() {
        "" => format!("{}@{}", package.package, package.version),
        name if name.len() > KEPT_NAME_BYTES_MAX || name.chars().any(crate::package::is_hidden) => {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "The name of a pin has at most {KEPT_NAME_BYTES_MAX} bytes, and no control characters."
                ),
                "Choose another one with --name.",
            ));
        }
        name => name.to_owned(),
    };
    let until = request.for_secs.map(|secs| now.plus(Duration::from_secs(secs)));
    Ok(Kept { name, package, since: now, until })
}

/// The name of a pin: as it is, or of the one pin of a package that is meant.
fn named(store: &Store, text: &str) -> Result<String, Failure> {
    let rows = store.read(kept::list_all).map_err(fail)?;
    if rows.iter().any(|row| row.name == text) {
        return Ok(text.to_owned());
    }
    let meant = meant_in(store, text).ok();
    let of_package: Vec<&Kept> = rows
        .iter()
        .filter(|row| {
            meant.as_ref().is_some_and(|it| {
                it.reference.name == row.package.package.name
                    && it
                        .reference
                        .publisher
                        .is_none_or(|publisher| publisher == row.package.package.publisher)
                    && it.which.fits(&row.package.version)
            })
        })
        .collect();
    match of_package.as_slice() {
        [one] => Ok(one.name.clone()),
        [] => Err(Failure::new(
            Code::NotFound,
            format!("There is no pin \"{text}\"."),
            "See which there are: ggen marketplace p2p pin list",
        )),
        several => Err(Failure::new(
            Code::Ambiguous,
            format!("{} pins are of \"{text}\".", several.len()),
            "Name the pin itself. See which there are: ggen marketplace p2p pin list",
        )),
    }
}

fn told(row: Kept) -> KeptContent {
    KeptContent {
        id: format!("{}@{}", row.package.package, row.package.version),
        cid: row.package.root.to_string(),
        size: row.package.size,
        since: row.since.to_string(),
        until: row.until.map(|until| until.to_string()),
        name: row.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::p2p::evict::tests::World, store::pins};

    #[test]
    fn a_bare_name_means_the_publisher_that_it_is_pinned_to() {
        let world = World::new();
        let (own, now) = (world.publish("1.0.0", &[1]), Timestamp::now());
        let mut other = own.clone();
        other.package.publisher = crate::identity::PublisherId::from_bytes([9; 32]);
        world.store.write(|tx| packages::insert(tx, &other)).unwrap();
        let name = own.package.name.to_string();
        let add = || {
            let request =
                KeepRequest { action: KeepAction::Add, package: name.clone(), ..KeepRequest::default() };
            change(&world.store, &request, now)
        };
        assert_eq!(add().unwrap_err().code, Code::Ambiguous);
        let pin =
            |publisher| world.store.write(|tx| pins::pin(tx, &own.package.name, &publisher, now)).unwrap();
        pin(own.package.publisher);
        assert_eq!(add().unwrap().pins[0].id, format!("{}@1.0.0", own.package));
        let third = crate::identity::PublisherId::from_bytes([8; 32]);
        world.store.write(|tx| pins::remove(tx, &own.package.name)).unwrap();
        pin(third);
        let failure = add().unwrap_err();
        assert!(
            failure.code == Code::NotFound && failure.message.contains(&third.to_string()),
            "{failure:?}"
        );
    }

    #[test]
    fn the_pin_of_another_package_is_not_taken_away_for_its_name() {
        let world = World::new();
        let (old, new) = (world.publish("1.0.0", &[1]), world.publish("2.0.0", &[2]));
        let now = Timestamp::now();
        let add = |version: &str| {
            let package = format!("{}@{version}", old.package);
            let request =
                KeepRequest { action: KeepAction::Add, package, name: "release".to_owned(), for_secs: None };
            change(&world.store, &request, now)
        };
        assert_eq!(add("1.0.0").unwrap().replaced, None);
        assert_eq!(add("1.0.0").unwrap().replaced, None, "the same again");
        assert_eq!(add("2.0.0").unwrap().replaced, Some(format!("{}@1.0.0", old.package)));
        let mut other = Kept { name: "release".to_owned(), package: new, since: now, until: None };
        other.package.package.name = "other".parse().unwrap();
        other.package.root = other.package.manifest;
        world.store.write(|tx| kept::insert(tx, &other)).unwrap();
        let failure = add("2.0.0").unwrap_err();
        assert_eq!(failure.code, Code::Conflict, "{failure:?}");
        assert!(failure.hint.contains("pin remove release"), "{failure:?}");
        let kept = world.store.read(|conn| kept::get(conn, "release")).unwrap().unwrap();
        assert_eq!(kept.package, other.package);
        other.until = Some(now);
        world.store.write(|tx| kept::insert(tx, &other)).unwrap();
        add("2.0.0").expect("its time is over");
    }
}
