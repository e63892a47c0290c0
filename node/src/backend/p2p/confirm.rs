//! Confirming: saying on time that our heads are still our newest.
//!
//! A publisher confirms where its heads changed, and otherwise when a third of the time that it promised is over, so that two
//! attempts may fail before anybody is kept waiting. Nothing is confirmed before the peers were read: a machine that was
//! restored from an old copy would take back what it published since.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{failure::fail, node::Node};
use crate::{
    catalog::{self, Confirming},
    control::api::Failure,
    heads::Door,
    identity::{ConfirmKey, KeyLog, Publisher, PublisherId},
    limits::CONFIRM_GRACE,
    network::Snapshot,
    release::{
        Confirmation, VerifiedConfirmation, VerifiedHead,
        confirmation::{Confirmer, Digest, Heads},
        fork,
    },
    store::{self, Store, heads},
    time::Timestamp,
};

/// How often it is looked whether something is to be confirmed.
const LOOK_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long a change is waited with: several packages are often published together, and a confirmation must not overtake the
/// heads that it confirms.
const GATHER: Duration = Duration::from_secs(5);
/// How long the peers are read at most before something is confirmed.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long telling of a confirmation may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(30);
/// Which part of the promised time goes by between two confirmations.
const PARTS: u32 = 3;

/// What became of a confirmation of ours.
struct Made {
    confirmation: VerifiedConfirmation,
    /// The block that holds its list, where it does not do so itself.
    has_block: bool,
    confirming: Confirming,
}

/// Confirms on time until the node stops.
pub(super) async fn confirm(node: Arc<Node>) {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! { biased;
            () = node.confirming.notified() => sleep(GATHER).await,
            _ = look.tick() => {}
        }
        let publishers = match node.keys.all() {
            Ok(publishers) => publishers,
            Err(failure) => {
                tracing::warn!(failure.message, "nothing is confirmed: a publisher key cannot be read");
                continue;
            }
        };
        let own: BTreeSet<PublisherId> = publishers.iter().map(Publisher::id).collect();
        for publisher in publishers {
            said(node.confirm_as(publisher).await);
        }
        match node.keys.confirming() {
            // Who has a publisher's own key confirms by that one.
            Ok(keys) => {
                for key in keys.into_iter().filter(|key| !own.contains(&key.id())) {
                    said(node.confirm_by(key).await);
                }
            }
            Err(failure) => tracing::warn!(failure.message, "a confirm key cannot be read"),
        }
    }
}

fn said(outcome: Result<(), Failure>) {
    if let Err(failure) = outcome {
        tracing::warn!(failure.message, "the heads of a publisher were not confirmed");
    }
}

impl Node {
    /// Confirms with a key that does nothing else, under the latest keys of its publisher that are known here.
    async fn confirm_by(&self, key: ConfirmKey) -> Result<(), Failure> {
        let publisher = key.id();
        let latest = self.with_store(move |store| latest_keys(store, publisher)).await?;
        // Of a publisher without heads there is nothing to confirm.
        let Some(latest) = latest else { return Ok(()) };
        match key.with(&latest) {
            Some(key) => self.confirm_as(key).await,
            None => {
                let key = key.public_key();
                tracing::warn!(%publisher, %key, "its publisher does not name this confirm key any more");
                Ok(())
            }
        }
    }

    /// Confirms the heads of one publisher, where that is due and there is somebody to hear of it.
    async fn confirm_as<C>(&self, publisher: C) -> Result<(), Failure>
    where
        C: Confirmer + Clone + Send + 'static,
    {
        let (id, interval) = (publisher.key_log().publisher(), self.config().confirm_interval());
        let now = self.now();
        let due = {
            let publisher = publisher.clone();
            self.with_store(move |store| is_due(store, &publisher, now)).await?
        };
        if !due || self.network.snapshot().await.map_err(fail)?.peers.is_empty() {
            return Ok(());
        }
        // One peer that is read without end holds nobody up, once others were read.
        if !self.network.heads_read(READ_TIMEOUT).await {
            let is_none_read = self.network.snapshot().await.map_err(fail)?.heads_complete == 0;
            let publisher = publisher.clone();
            if is_none_read || self.with_store(move |store| lacks(store, &publisher, now)).await? {
                tracing::debug!(publisher = %id, "peers that are not read yet may have more: it is confirmed later");
                return Ok(());
            }
        }
        let turn = self.publishing.clone().lock_owned().await;
        let now = self.time_to_sign()?;
        let made = self.with_store(move |store| {
            let _turn = turn;
            make(store, &publisher, now, interval)
        });
        let made = made.await?;
        let Some(Made { confirmation, has_block, confirming }) = made else { return Ok(()) };
        tracing::info!(publisher = %id, next_by = %confirmation.confirmation().next_by, "confirmed");
        let root = confirmation.confirmation().root.filter(|_| has_block);
        let deadline = Instant::now() + TELL_TIMEOUT;
        let left = deadline.saturating_duration_since(Instant::now());
        let gossip = async {
            if confirming.is_passed_on() {
                let _ = self.network.announce(confirmation.bytes().to_vec()).await;
            }
        };
        let provide = async {
            if let Some(root) = root {
                let _ = self.network.provide(root, left).await;
            }
        };
        let (stored, (), ()) =
            tokio::join!(self.network.put_confirmation(&confirmation, left), gossip, provide);
        tracing::debug!(stored = stored.unwrap_or_default(), "a confirmation was told");
        Ok(())
    }

    /// What keeps a publisher of this node from confirming, and whether this node is kept in the dark by everyone.
    pub(super) async fn confirmation_warnings(&self, snapshot: &Snapshot) -> Result<Vec<String>, Failure> {
        let now = self.now();
        let keys = self.keys.all();
        let own: BTreeSet<PublisherId> = keys.iter().flatten().map(Publisher::id).collect();
        let unusable = self.keys.unusable();
        let forgotten = self.keys.forgotten();
        let (has_keys, is_alone, is_right) =
            (keys.is_ok(), snapshot.peers.is_empty(), self.time_to_sign().is_ok());
        self.with_store(move |store| {
            let mut warnings = Vec::new();
            // Each with the time of its first release.
            let mut published: BTreeMap<PublisherId, Timestamp> = BTreeMap::new();
            for head in store.read(heads::list_all)? {
                let Ok(verified) = VerifiedHead::verify_stored(&head.bytes) else { continue };
                let first = published.entry(head.package.publisher).or_insert(Timestamp::from_secs(u64::MAX));
                *first = verified.head().released_at.min(*first);
            }
            for (publisher, first) in &published {
                let last = held(store, *publisher)?.map(|(last, _)| last);
                let is_unusable = unusable.contains(publisher);
                let is_lost = has_keys && !own.contains(publisher) && !is_unusable;
                let is_late = match &last {
                    Some(last) => now > last.confirmation().next_by,
                    None => now > first.plus(CONFIRM_GRACE),
                };
                if forgotten.contains(publisher) && is_lost || !is_lost && !is_late {
                    continue;
                }
                let since = last.map_or_else(
                    || "were never confirmed".to_owned(),
                    |last| format!("were not confirmed since {}", last.confirmation().as_of),
                );
                let why = if is_lost {
                    "its key is not here any more; how to bring it back, or replace it: ggen marketplace p2p key list"
                } else if is_unusable {
                    "its key cannot be used as it is; see: ggen marketplace p2p key list"
                } else if !is_right {
                    "the clock of this machine cannot be believed; set it right"
                } else if is_alone {
                    "no peer is connected that could hear of it"
                } else {
                    "it is tried again"
                };
                warnings.push(format!("the packages of {publisher} {since}: {why}"));
            }
            let ours: Vec<PublisherId> = own.iter().chain(published.keys()).copied().collect();
            let promises = store.read(|conn| Ok(catalog::promises(conn, &ours, now)?))?;
            if promises.are_all_overdue() {
                let publishers = promises.publishers;
                warnings.push(format!(
                    "all {publishers} publishers that are known here are overdue: this node is cut off from what they say, or \
                     its clock is wrong; compare the clock, and connect to other peers"
                ));
            }
            Ok(warnings)
        })
        .await
    }
}

/// The confirmation that is held of a publisher, and the list that it names, as far as that is here.
pub(super) fn held(
    store: &Store,
    publisher: PublisherId,
) -> Result<Option<(VerifiedConfirmation, Option<Heads>)>, store::Error> {
    let Some(held) = store.read(|conn| Ok(catalog::held(conn, publisher)?))? else { return Ok(None) };
    let Ok(confirmation) = VerifiedConfirmation::verify_stored(&held.bytes) else {
        tracing::warn!(%publisher, "a damaged confirmation is dropped");
        store.write(|tx| Ok(catalog::discard_confirmation(tx, &held.bytes)?))?;
        return Ok(None);
    };
    let list = match held.root {
        Some(root) => store.block(&root)?.and_then(|block| Heads::from_bytes(block.bytes()).ok()),
        None => confirmation.heads(),
    };
    Ok(Some((confirmation, list)))
}

/// The current heads of a publisher.
#[derive(Default)]
struct Current {
    /// Those that are to be confirmed.
    heads: Vec<VerifiedHead>,
    /// When each of them was listed here.
    listed_at: Vec<Timestamp>,
    /// How many more are listed: what is frozen, and what its keys as they are now do not stand behind.
    left_out: usize,
}

impl Current {
    fn of(store: &Store, keys: &KeyLog) -> Result<Self, store::Error> {
        store.read(|conn| {
            let mut current = Self::default();
            for (bytes, at) in catalog::dated_heads_of(conn, keys.publisher())? {
                let Ok(head) = VerifiedHead::verify_stored(&bytes) else { continue };
                let counts = head.key_log().agrees_with(keys) && fork::revoked_since(&head, keys).is_none();
                if counts && !catalog::is_frozen(conn, &head.package_id())? {
                    current.heads.push(head);
                    current.listed_at.push(at);
                } else {
                    current.left_out += 1;
                }
            }
            Ok(current)
        })
    }

    fn list(&self) -> Heads {
        Heads::of(&self.heads)
    }

    /// Whether a confirmation names heads that neither are here nor gave way to one that is here.
    fn lacks(&self, said: &VerifiedConfirmation, list: &Heads) -> bool {
        let (as_of, n) = (said.confirmation().as_of, said.key_log().current().n);
        let (mut confirmed, mut replaced) = (0, self.left_out);
        for (head, listed_at) in self.heads.iter().zip(&self.listed_at) {
            let (is_resigned, is_first) = (head.seen().key_n > n, head.head().sequence.get() == 0);
            match list.holds(Digest::of(head.bytes())) {
                true => confirmed += 1,
                // A package that came since then: it stands for nothing that was confirmed.
                false if *listed_at > as_of && is_first && !is_resigned => {}
                // Its publisher has a later one, unless the keys alone are later.
                false if head.head().released_at < as_of && !is_resigned => return true,
                false => replaced += usize::from(is_resigned || !is_first),
            }
        }
        list.len() > confirmed + replaced
    }
}

/// Whether this node has less than was confirmed last: it was read in part, or another machine confirms what has not come here.
///
/// What is nowhere any more is not waited for: after two thirds of the promised time what is here is confirmed.
fn lacks(store: &Store, publisher: &impl Confirmer, now: Timestamp) -> Result<bool, store::Error> {
    let keys = publisher.key_log();
    let Some((last, Some(list))) = held(store, keys.publisher())? else { return Ok(false) };
    let said = last.confirmation();
    let is_late = now >= said.as_of.plus(said.next_by.since(said.as_of) * (PARTS - 1) / PARTS);
    Ok(!is_late && Current::of(store, keys)?.lacks(&last, &list))
}

/// The longest chain of keys that the heads of a publisher hold here; none where no head is listed.
fn latest_keys(store: &Store, publisher: PublisherId) -> Result<Option<KeyLog>, store::Error> {
    let heads = store.read(|conn| Ok(catalog::heads_of(conn, publisher)?))?;
    let heads = heads.iter().filter_map(|bytes| VerifiedHead::verify_stored(bytes).ok());
    Ok(heads.map(|head| head.key_log().clone()).max_by_key(|keys| keys.current().n))
}

fn is_due(store: &Store, publisher: &impl Confirmer, now: Timestamp) -> Result<bool, store::Error> {
    let id = publisher.key_log().publisher();
    let (keys, current) = (publisher.key_log(), Current::of(store, publisher.key_log())?);
    let heads = current.list();
    // Where only keys that were revoked signed what is listed, that they were is to be told all the same.
    if heads.is_empty() && (current.left_out == 0 || !has_revoked(keys)) {
        return Ok(false);
    }
    let Some((last, list)) = held(store, id)? else { return Ok(true) };
    let (said, keys) = (last.confirmation(), last.key_log());
    let is_old = keys.current().n < publisher.key_log().current().n;
    let has_changed = list.as_ref() != Some(&heads);
    let promised = said.next_by.since(said.as_of);
    Ok(is_old || has_changed || now >= said.as_of.plus(promised / PARTS))
}

/// Whether a chain of keys revokes any.
fn has_revoked(keys: &KeyLog) -> bool {
    (0..=keys.current().n).filter_map(|n| keys.document(n)).any(|document| !document.revoked.is_empty())
}

/// Signs a confirmation of the heads of a publisher, where that is still due, and keeps it.
fn make(
    store: &Store,
    publisher: &impl Confirmer,
    now: Timestamp,
    interval: Duration,
) -> Result<Option<Made>, store::Error> {
    if !is_due(store, publisher, now)? {
        return Ok(None);
    }
    let id = publisher.key_log().publisher();
    let current = Current::of(store, publisher.key_log())?;
    let heads = current.list();
    let last = held(store, id)?;
    let agrees = |last: &VerifiedConfirmation| last.key_log().current().n == publisher.key_log().current().n;
    let last = last.filter(|(last, _)| agrees(last)).map(|(last, _)| last.confirmation().number);
    let (confirmation, block) = Confirmation::make(publisher, &heads, last, now, interval)?;
    let has_block = block.is_some();
    if let Some(block) = block {
        store.put_blocks(&[block])?;
    }
    let confirming = store.write(|tx| {
        // Whoever confirms a package, also with a key that does nothing else, never gives it up.
        current.heads.iter().try_for_each(|head| catalog::keep(tx, &head.package_id()))?;
        Ok(catalog::confirm(tx, Door::Gossip, &confirmation, Some(&heads))?)
    })?;
    Ok(confirming.is_kept().then_some(Made { confirmation, has_block, confirming }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Source,
        identity::SecretKey,
        release::{
            Head,
            fixture::{DAY, NOW, draft, head, publisher, releases},
        },
    };

    #[test]
    fn it_is_confirmed_after_every_change_and_when_a_third_of_the_promise_is_over() {
        let (store, publisher) = (Store::in_memory().unwrap(), publisher(1));
        let list = |versions: &[&str]| {
            let head = head(&publisher, versions);
            store.write(|tx| Ok(catalog::insert(tx, &head, &Source::own(), NOW)?)).unwrap();
        };
        let make = |by: &Publisher, at| make(&store, by, at, DAY * 30).unwrap();
        assert!(make(&publisher, NOW).is_none(), "there is nothing to confirm");
        list(&["1.0.0"]);
        let first = make(&publisher, NOW).unwrap();
        assert!(first.confirming.is_passed_on() && !first.has_block);
        assert!(make(&publisher, NOW.plus(DAY * 9)).is_none());
        list(&["1.0.0", "1.1.0"]);
        let second = make(&publisher, NOW.plus(DAY / 2)).unwrap();
        assert!(!second.confirming.is_passed_on(), "by gossip once a day");
        assert!(second.confirmation.confirmation().number > first.confirmation.confirmation().number);
        let third = make(&publisher, NOW.plus(DAY * 21 / 2)).unwrap();
        assert!(third.confirming.is_passed_on());
        let rotated = publisher.rotated(SecretKey::from_bytes(&[9; 32]), NOW).unwrap();
        let by_new = make(&rotated, NOW.plus(DAY * 11)).unwrap();
        assert_eq!(by_new.confirmation.key_log().current().n, 1);
        assert!(make(&publisher, NOW.plus(DAY * 40)).is_none(), "a key that was replaced confirms nothing");
    }

    #[test]
    fn that_a_key_was_revoked_is_confirmed_where_nothing_could_be_signed_again() {
        let (store, old) = (Store::in_memory().unwrap(), publisher(1));
        let stolen = head(&old, &["1.0.0"]);
        store.write(|tx| Ok(catalog::insert(tx, &stolen, &Source::unknown(), NOW)?)).unwrap();
        let next = |revoked| {
            let secret = Some(SecretKey::from_bytes(&[9; 32]));
            let change = crate::identity::publisher::Change { secret, revoked, ..Default::default() };
            old.changed(change, &[], NOW.minus(DAY)).unwrap()
        };
        let owner = next(vec![old.public_key()]);
        let made = make(&store, &owner, NOW, DAY * 30).unwrap().expect("nobody would hear of it");
        assert_eq!(made.confirmation.heads().map(|heads| heads.len()), Some(0));
        assert_eq!(store.read(|conn| Ok(catalog::count(conn)?)).unwrap(), 0, "it was listed after that");
        assert!(make(&store, &owner, NOW.plus(DAY), DAY * 30).unwrap().is_none());
    }

    /// A head of a package by a publisher, whose versions were released on the day number `day`.
    fn named(by: &Publisher, name: &str, versions: &[&str], day: u32) -> VerifiedHead {
        let draft = draft(by, &releases(&publisher(1), versions));
        Head { name: name.parse().unwrap(), released_at: NOW.plus(DAY * day), ..draft }.sign(by).unwrap()
    }

    #[test]
    fn what_was_confirmed_and_has_not_come_is_waited_for() {
        let (old, first) = (publisher(1), ["1.0.0"]);
        let [web, cli] = ["web", "cli"].map(|name| named(&old, name, &first, 0));
        let both = [&web, &cli];
        let new = named(&old, "web", &["1.0.0", "1.1.0"], 2);
        let another = named(&old, "another", &first, 2);
        let late = named(&old, "late", &first, 0);
        let rotated = old.rotated(SecretKey::from_bytes(&[9; 32]), NOW).unwrap();
        let resigned = named(&rotated, "web", &first, 0);
        for (what, confirmed, here, expected) in [
            ("a new package of another machine came late", &both[..], vec![&web, &cli, &late], false),
            ("one came late, and one did not", &both, vec![&web, &late], true),
            ("nothing came", &both[..], vec![], true),
            ("part of it came", &both, vec![&web], true),
            ("all of it came", &both, vec![&web, &cli], false),
            ("a newer one is here", &both, vec![&new, &cli], false),
            ("a newer one and a new package are here", &both, vec![&new, &cli, &another], false),
            ("a new package is no other one", &both, vec![&web, &another], true),
            ("it was signed again", &both, vec![&resigned, &cli], false),
            ("an older one is here", &[&cli, &new], vec![&cli, &web], true),
        ] {
            let store = Store::in_memory().unwrap();
            // Nothing is taken where nothing is listed: that gives way again.
            store
                .write(|tx| Ok(catalog::insert(tx, &named(&old, "z", &first, 0), &Source::own(), NOW)?))
                .unwrap();
            let as_of = NOW.plus(if confirmed.contains(&&new) { DAY * 3 } else { DAY });
            let list = Heads::of(confirmed.iter().copied());
            let made = Confirmation::make(&old, &list, None, as_of, DAY * 30).unwrap().0;
            store.write(|tx| Ok(catalog::confirm(tx, Door::Gossip, &made, None)?)).unwrap();
            store.write(|tx| Ok(catalog::forget(tx, &named(&old, "z", &first, 0).package_id())?)).unwrap();
            for head in here {
                store.write(|tx| Ok(catalog::insert(tx, head, &Source::own(), NOW.plus(DAY * 3))?)).unwrap();
            }
            let lacks = |day| lacks(&store, &old, NOW.plus(DAY * day)).unwrap();
            assert_eq!(lacks(4), expected, "{what}");
            assert!(!lacks(24), "{what}: it is late");
        }
    }

    #[test]
    fn what_the_keys_do_not_stand_behind_is_not_confirmed_and_what_is_confirmed_is_kept() {
        let (store, old) = (Store::in_memory().unwrap(), publisher(1));
        let change = |seed, revoked| {
            let secret = Some(SecretKey::from_bytes(&[seed; 32]));
            let change = crate::identity::publisher::Change { secret, revoked, ..Default::default() };
            old.changed(change, &[], NOW.plus(DAY)).unwrap()
        };
        // Of two chains as long as each other the one that was seen first would count.
        let owner = change(2, vec![old.public_key()]).rotated(SecretKey::from_bytes(&[4; 32]), NOW.plus(DAY));
        let (owner, thief) = (owner.unwrap(), change(3, Vec::new()));
        let ours = named(&owner, "ours", &["1.0.0"], 0);
        for head in [&named(&old, "stolen", &["1.0.0"], 0), &named(&thief, "forked", &["1.0.0"], 0), &ours] {
            store.write(|tx| Ok(catalog::insert(tx, head, &Source::unknown(), NOW)?)).unwrap();
        }
        let made = make(&store, &owner, NOW.plus(DAY), DAY * 30).unwrap().unwrap();
        assert_eq!(made.confirmation.heads(), Some(Heads::of([&ours])));
        let kept = |conn: &rusqlite::Connection| {
            let read = conn.query_row("SELECT group_concat(id) FROM catalog_kept", [], |row| {
                row.get::<_, Option<String>>(0)
            });
            Ok(read.unwrap_or_default())
        };
        assert_eq!(store.read(kept).unwrap(), Some(ours.package_id().to_string()));
    }

    #[test]
    fn a_key_that_only_confirms_does_so_while_its_publisher_is_away() {
        let (store, publisher) = (Store::in_memory().unwrap(), publisher(1));
        let insert = |head: &VerifiedHead| {
            store.write(|tx| Ok(catalog::insert(tx, head, &Source::unknown(), NOW)?)).unwrap();
        };
        assert!(latest_keys(&store, publisher.id()).unwrap().is_none());
        let (key, named) = ConfirmKey::make(&publisher, &[], NOW).unwrap();
        insert(&head(&publisher, &["1.0.0"]));
        let log = releases(&publisher, &["1.0.0"]);
        insert(&draft(&named, &log).sign(&named).unwrap());
        let first = make(&store, &named, NOW, DAY * 30).unwrap().unwrap();
        let mut number = first.confirmation.confirmation().number;
        for month in 1..=12 {
            let latest = latest_keys(&store, publisher.id()).unwrap().unwrap();
            let key = key.with(&latest).unwrap();
            let made = make(&store, &key, NOW.plus(DAY * 30 * month), DAY * 30).unwrap().unwrap();
            assert!(made.confirming.is_passed_on());
            assert!(made.confirmation.confirmation().number > number);
            number = made.confirmation.confirmation().number;
        }
        // A head is nothing that it could sign.
        let forged = key.seal(crate::identity::canonical::encode(&draft(&named, &log))).encode();
        assert!(VerifiedHead::verify_stored(&forged).is_err());
        let rotated = named.rotated(SecretKey::from_bytes(&[9; 32]), NOW).unwrap();
        insert(&draft(&rotated, &log).sign(&rotated).unwrap());
        let key = key.with(&latest_keys(&store, publisher.id()).unwrap().unwrap()).unwrap();
        let made = make(&store, &key, NOW.plus(DAY * 400), DAY * 30).unwrap().unwrap();
        assert_eq!(made.confirmation.key_log().current().n, 2, "under the keys that its publisher has now");
    }
}
