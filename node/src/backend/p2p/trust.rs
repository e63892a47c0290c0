//! Which publisher a bare name means here, and how a person changes that knowingly.

use super::{failure::fail, meant::publisher_in, node::Node};
use crate::{
    code::Code,
    config::P2PConfig,
    control::api::{Failure, Pin, Trust, TrustAction, TrustRequest},
    identity::PublisherId,
    package::PackageName,
    store::{HomeLock, Store, pins},
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
        let before = store.read(|conn| pins::pinned(conn, &name)).map_err(fail)?;
        answer.before = before.map(|publisher| publisher.to_string());
        answer.changed = match request.action {
            TrustAction::Unpin => {
                if before.is_none() {
                    return Err(Failure::new(
                        Code::NotFound,
                        format!("The name \"{name}\" is not pinned."),
                        "See which are: ggen marketplace p2p trust list",
                    ));
                }
                store.write(|tx| pins::remove(tx, &name)).map_err(fail)?
            }
            _ => pin(store, request, &name, before, now)?,
        };
    }
    let pins = store.read(pins::list_all).map_err(fail)?;
    answer.total = pins.len();
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

fn pin(
    store: &Store,
    request: &TrustRequest,
    name: &PackageName,
    before: Option<PublisherId>,
    now: Timestamp,
) -> Result<bool, Failure> {
    let publisher = publisher_in(store, &request.publisher, Some(name))?;
    if before == Some(publisher) {
        return Ok(false);
    }
    if let Some(pinned) = before
        && request.action == TrustAction::Pin
    {
        return Err(Failure::new(
            Code::PinMismatch,
            format!(
                "The name \"{name}\" is pinned to another publisher.\n  pinned: {pinned}\n  named:  {publisher}"
            ),
            format!(
                "To accept the other one in its place, knowingly: ggen marketplace p2p trust accept {publisher}/{name}"
            ),
        ));
    }
    let replaced = store.write(|tx| {
        pins::remove(tx, name)?;
        pins::pin(tx, name, &publisher, now)
    });
    replaced.map_err(fail)
}
