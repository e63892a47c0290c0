//! How fresh the newest known state of a package is, and who else knows no newer one.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use tokio::time::Instant;

use super::{confirm, node::Node, offer::entries_here, sources::Looking};
use crate::{
    catalog,
    code::Code,
    content::ContentId,
    control::api::{self, Failure},
    fetch::{session::Session, wanted::Wanted},
    heads::Door,
    network::Answers,
    package::PackageId,
    release::{
        Freshness, Head, Kind, VerifiedConfirmation, VerifiedHead,
        choice::{Choice, compare},
        confirmation::{Digest, LIST_BYTES_MAX},
        freshness::Word,
    },
    store::{self, Store},
    sync,
    time::Timestamp,
};

/// How long others are asked for something newer.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);
/// Confirmations of one publisher that are taken at once, of all that others have: those of the latest keys.
const CONFIRMATIONS_TAKEN: usize = 4;
/// Entries of a log that are looked through for the time of a version that is listed.
const ENTRIES_LISTED: usize = 64;

/// What a user demands of the newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demand {
    /// Its publisher is not overdue.
    pub(super) promised: bool,
    /// It was confirmed within this time.
    pub(super) within: Option<Duration>,
}

impl Demand {
    fn is_met(self, freshness: &Freshness, now: Timestamp) -> bool {
        (!self.promised || !freshness.is_overdue(now))
            && self.within.is_none_or(|within| freshness.is_within(within, now))
    }
}

/// The newest head that is known of a package, and how sure that is.
pub(super) struct Newest {
    pub(super) head: VerifiedHead,
    pub(super) freshness: Freshness,
    /// Who else has this head, where others were asked.
    pub(super) answers: Option<Answers>,
    /// Whether somebody who was asked for a newer one answered; none where nobody was asked.
    pub(super) heard: Option<bool>,
}

impl Newest {
    pub(super) fn told(&self, now: Timestamp) -> api::Freshness {
        told(&self.freshness, self.answers, now)
    }

    /// The one warning of a state that nobody confirmed in time.
    pub(super) fn warning(&self, now: Timestamp) -> Option<String> {
        // Of what is frozen it is said already.
        let is_told = self.freshness.word != Word::Contested && self.freshness.is_overdue(now);
        is_told.then(|| sentence(&self.freshness, self.answers, now))
    }

    /// Refuses what is staler than was demanded.
    pub(super) fn demanded(&self, demand: Demand, now: Timestamp) -> Result<(), Failure> {
        if demand.is_met(&self.freshness, now) {
            return Ok(());
        }
        Err(Failure::new(
            Code::Stale,
            format!(
                "{} is not as fresh as was demanded: {}.",
                self.head.package_id(),
                sentence(&self.freshness, self.answers, now)
            ),
            match self.freshness.word {
                Word::Contested => {
                    "Wait until its publisher has resolved it, or name a version from before (name@1.2.3)."
                }
                _ => {
                    "Connect to more peers and try again, name a version (name@1.2.3), or demand less: a longer --fresh DURATION or \
                     install.max_age."
                }
            },
        ))
    }
}

impl Node {
    /// How fresh a head is as far as this node knows, and where that is not enough, as far as others do.
    pub(super) async fn newest(
        &self,
        head: VerifiedHead,
        demand: Demand,
        always_ask: bool,
        deadline: Instant,
    ) -> Result<Newest, Failure> {
        let freshness = self.freshness(&head).await?;
        let now = self.now();
        if !always_ask && !freshness.is_overdue(now) && demand.is_met(&freshness, now) {
            return Ok(Newest { head, freshness, answers: None, heard: None });
        }
        let left = deadline.saturating_duration_since(Instant::now()).min(ASK_TIMEOUT);
        let (found, confirmations) = tokio::join!(
            self.network.get_newest(head.package_id(), left),
            self.network.get_confirmations(head.head().publisher, left),
        );
        let publisher = head.head().publisher;
        let confirmations = match confirmations {
            Ok((confirmations, ended)) => {
                if confirmations.is_empty() {
                    tracing::debug!(%publisher, ?ended, "nobody told of a confirmation");
                }
                confirmations
            }
            Err(error) => {
                tracing::debug!(%publisher, %error, "nobody was asked for a confirmation");
                Vec::new()
            }
        };
        self.take_confirmations(confirmations, deadline.min(Instant::now() + ASK_TIMEOUT)).await?;
        let heard = match &found {
            // What this node holds for others itself says nothing of newer ones.
            Ok(Some((_, answers))) => answers.peers > 0,
            Ok(None) => true,
            Err(error) => {
                tracing::debug!(package = %head.package_id(), %error, "nobody told of a newer head");
                false
            }
        };
        let (head, answers) = match found {
            Ok(Some((found, answers))) => match compare(&head, &found) {
                // Judged by what was seen before it is listed; what contradicts that is none.
                Choice::Second => match self.not_older(found).await {
                    Ok(found) => (found, Some(answers)),
                    Err(failure) => {
                        tracing::info!(failure.message, "a newer head that the DHT has is not taken");
                        (head, None)
                    }
                },
                Choice::Same => (head, Some(answers)),
                Choice::First | Choice::Equivocation | Choice::Fork => (head, None),
            },
            Ok(None) | Err(_) => (head, None),
        };
        let freshness = self.freshness(&head).await?;
        Ok(Newest { head, freshness, answers, heard: Some(heard) })
    }

    /// A newer head than one that is known, where the peers or the DHT have it by now.
    pub(super) async fn something_newer(
        &self,
        known: &VerifiedHead,
    ) -> Result<Option<VerifiedHead>, Failure> {
        // A peer that has only just connected can be asked for nothing until it has said who it is.
        self.network.heads_read(ASK_TIMEOUT).await;
        let deadline = Instant::now() + ASK_TIMEOUT;
        let (_, newest) = tokio::join!(
            self.network.refresh(ASK_TIMEOUT),
            self.newest(known.clone(), Demand::default(), true, deadline),
        );
        let told = self.indexed(&known.package_id()).await?;
        let newer = [Some(newest?.head), told].into_iter().flatten();
        let newer = newer.filter(|head| compare(known, head) == Choice::Second);
        Ok(newer.reduce(|a, b| if compare(&a, &b) == Choice::Second { b } else { a }))
    }

    /// What is demanded of a package: by the request, and by the configuration where it installs.
    pub(super) fn demand(&self, promised: bool, secs: Option<u64>, installs: bool) -> Demand {
        let configured =
            self.config().max_age_days.filter(|_| installs).map(|days| days.saturating_mul(24 * 3600));
        Demand { promised, within: secs.or(configured).map(Duration::from_secs) }
    }

    /// How fresh a head is as far as this node knows; nobody is asked.
    pub(super) async fn as_known(&self, head: VerifiedHead) -> Result<Newest, Failure> {
        let freshness = self.freshness(&head).await?;
        Ok(Newest { head, freshness, answers: None, heard: None })
    }

    pub(super) async fn freshness(&self, head: &VerifiedHead) -> Result<Freshness, Failure> {
        let (head, bytes) = (head.head().clone(), head.bytes().to_vec());
        self.with_store(move |store| freshness_here(store, &head, &bytes)).await
    }

    /// Keeps what counts of the confirmations of a publisher. What was seen of its keys says which do, and only of these few is a list
    /// fetched: anybody who ever had a key of the publisher can make as many as they like.
    async fn take_confirmations(
        &self,
        confirmations: Vec<VerifiedConfirmation>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let counting = self.with_store(move |store| {
            store.read(|conn| {
                let mut counting = Vec::new();
                for confirmation in confirmations {
                    if catalog::counts(conn, &confirmation)? {
                        counting.push(confirmation);
                    }
                }
                Ok(counting)
            })
        });
        let mut counting = counting.await?;
        let place = |it: &VerifiedConfirmation| (it.key_log().current().n, it.confirmation().number);
        counting.sort_by_key(|it| std::cmp::Reverse(place(it)));
        counting.truncate(CONFIRMATIONS_TAKEN);
        let roots = counting.iter().filter_map(|it| it.confirmation().root);
        join_all(roots.map(|root| self.fetch_list(root, deadline))).await;
        self.with_store(move |store| {
            counting.iter().try_for_each(|it| sync::confirm(store, Door::Answer, it).map(drop))
        })
        .await
    }

    /// Brings the list of heads here that a confirmation names.
    async fn fetch_list(&self, root: ContentId, deadline: Instant) {
        let sources = self.sources(root, deadline, Looking::Once);
        let mut session =
            Session::new(self.network.clone(), self.store.clone(), self.offload, deadline, sources);
        let wanted = Wanted::Block { id: root, bytes_max: LIST_BYTES_MAX as u64 };
        if let Err(error) = session.get(vec![wanted], &mut |_| {}).await {
            tracing::debug!(%root, %error, "the list of a publisher's heads did not come");
        }
    }
}

/// When the versions of packages were released, each by one walk along its log.
#[derive(Default)]
pub(super) struct Released(BTreeMap<PackageId, BTreeMap<String, Timestamp>>);

/// What is told of how fresh the newest known state of a package is, which is named with a version; nothing where none is known.
pub(super) fn of_listed(
    store: &Store,
    id: &str,
    Released(released): &mut Released,
    now: Timestamp,
) -> Result<api::Freshness, store::Error> {
    let Some((package, version)) = id
        .rsplit_once('@')
        .and_then(|(package, version)| Some((package.parse::<PackageId>().ok()?, version)))
    else {
        return Ok(api::Freshness::default());
    };
    let Some(listed) = store.read(|conn| Ok(catalog::get(conn, &package)?))? else {
        return Ok(api::Freshness::default());
    };
    let of_package = released.entry(package).or_insert_with(|| released_here(store, &listed.bytes));
    let released_at = of_package.get(version).map(Timestamp::to_string).unwrap_or_default();
    Ok(api::Freshness {
        released_at,
        ..told(&freshness_here(store, &listed.head, &listed.bytes)?, None, now)
    })
}

/// When the versions of a package were released, as far as that is known here: the newest entries of the log are looked through.
fn released_here(store: &Store, head: &[u8]) -> BTreeMap<String, Timestamp> {
    let Ok(head) = VerifiedHead::verify_stored(head) else { return BTreeMap::new() };
    let entries = entries_here(store, &head).map_while(Result::ok).take(ENTRIES_LISTED);
    let released = entries.filter_map(|signed| match &signed.entry().kind {
        Kind::Release(release) => Some((release.version.to_string(), signed.entry().created)),
        _ => None,
    });
    let latest = head.head().latest.as_ref();
    let latest = latest.map(|latest| (latest.version.to_string(), head.head().release_time()));
    released.chain(latest).collect()
}

/// How fresh a head is as far as the store knows.
pub(super) fn freshness_here(store: &Store, head: &Head, bytes: &[u8]) -> Result<Freshness, store::Error> {
    let held = confirm::held(store, head.publisher)?;
    let (confirmation, list) = held.as_ref().map_or((None, None), |(said, list)| (Some(said), list.as_ref()));
    let freshness = Freshness::of(head, Digest::of(bytes), confirmation, list);
    let package = PackageId { publisher: head.publisher, name: head.name.clone() };
    Ok(match store.read(|conn| Ok(catalog::is_frozen(conn, &package)?))? {
        true => freshness.contested(),
        false => freshness,
    })
}

/// What is told of how fresh something is.
pub(super) fn told(freshness: &Freshness, answers: Option<Answers>, now: Timestamp) -> api::Freshness {
    let is_word = freshness.word == Word::Confirmed;
    api::Freshness {
        released_at: freshness.released_at.to_string(),
        confirmed_at: is_word.then(|| freshness.confirmed_at.to_string()),
        next_by: freshness.next_by.map(|next_by| next_by.to_string()),
        overdue: freshness.is_overdue(now),
        freshness: sentence(freshness, answers, now),
        newest_of_peers: answers.map(|answers| answers.peers),
        newest_of_networks: answers.map(|answers| answers.networks),
    }
}

/// One clause on how fresh something is.
fn sentence(freshness: &Freshness, answers: Option<Answers>, now: Timestamp) -> String {
    let newest = match answers {
        Some(Answers { peers, networks }) if peers > 0 => {
            let verb = if peers == 1 { "knows" } else { "know" };
            format!(": newest that {} in {} {verb}", counted(peers, "peer"), counted(networks, "network"))
        }
        Some(_) | None => String::new(),
    };
    let since = freshness.confirmed_at;
    let (date, ago) = (date(since), span(freshness.age(now)));
    match freshness.word {
        Word::Superseded => "its publisher confirmed another state, which this node has not got".to_owned(),
        Word::Contested => {
            "its publisher signed two different states, and which of them is the newest is not known"
                .to_owned()
        }
        Word::Nothing if freshness.is_overdue(now) => {
            format!("never confirmed since it was signed on {date}, {ago}{newest}")
        }
        _ if freshness.is_overdue(now) => format!("not confirmed since {date}, {ago}{newest}"),
        Word::Confirmed => format!("confirmed {ago} ago{newest}"),
        Word::Later | Word::Nothing => format!("signed {ago} ago{newest}"),
    }
}

fn date(time: Timestamp) -> String {
    let secs = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(secs) {
        Ok(time) => time.strftime("%-d %B %Y").to_string(),
        Err(_) => time.to_string(),
    }
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A time in the largest unit that it fills twice.
fn span(time: Duration) -> String {
    const HOUR: u64 = 3600;
    match time.as_secs() {
        secs if secs >= 48 * HOUR => format!("{} days", secs / (24 * HOUR)),
        secs if secs >= 2 * HOUR => format!("{} h", secs / HOUR),
        secs if secs >= 120 => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn how_fresh_it_is_is_one_clause() {
        let ago = |age: Duration, word, next_by: Option<Duration>| Freshness {
            released_at: NOW.minus(DAY * 500),
            confirmed_at: NOW.minus(age),
            next_by: next_by.map(|left| NOW.plus(left)),
            word,
        };
        let many = Some(Answers { peers: 14, networks: 6 });
        let one = Some(Answers { peers: 1, networks: 1 });
        let late = |word| Freshness { next_by: Some(NOW.minus(DAY)), ..ago(DAY * 271, word, None) };
        for (freshness, answers, expected) in [
            (ago(Duration::from_secs(3 * 3600), Word::Confirmed, Some(DAY)), None, "confirmed 3 h ago"),
            (
                ago(DAY * 5, Word::Confirmed, Some(DAY)),
                one,
                "confirmed 5 days ago: newest that 1 peer in 1 network knows",
            ),
            (
                late(Word::Confirmed),
                many,
                "not confirmed since 19 April 2026, 271 days: newest that 14 peers in 6 networks know",
            ),
            (ago(Duration::from_secs(90), Word::Later, Some(DAY)), None, "signed 90 s ago"),
            (
                ago(DAY * 400, Word::Nothing, None),
                None,
                "never confirmed since it was signed on 11 December 2025, 400 days",
            ),
            (
                ago(DAY, Word::Confirmed, Some(DAY)).contested(),
                many,
                "its publisher signed two different states, and which of them is the newest is not known",
            ),
            (
                ago(DAY, Word::Superseded, Some(DAY)),
                many,
                "its publisher confirmed another state, which this node has not got",
            ),
        ] {
            assert_eq!(sentence(&freshness, answers, NOW), expected);
        }
    }

    #[test]
    fn what_is_demanded_is_a_promise_kept_or_an_age() {
        let of = |age, word, left: Option<Duration>| Freshness {
            released_at: NOW.minus(DAY * 500),
            confirmed_at: NOW.minus(age),
            next_by: left.map(|left| NOW.plus(left)),
            word,
        };
        let promised = Demand { promised: true, within: None };
        let within = |days| Demand { promised: false, within: Some(DAY * days) };
        let kept = of(DAY * 5, Word::Confirmed, Some(DAY));
        let late = Freshness { next_by: Some(NOW.minus(DAY)), ..kept };
        let superseded = of(DAY, Word::Superseded, Some(DAY));
        for (freshness, demand, met) in [
            (&kept, Demand::default(), true),
            (&kept, promised, true),
            (&kept, within(7), true),
            (&kept, within(4), false),
            (&late, Demand::default(), true),
            (&late, promised, false),
            (&late, within(7), true),
            (&superseded, within(7), false),
            (&kept.contested(), Demand::default(), true),
            (&kept.contested(), promised, false),
            (&kept.contested(), within(7), false),
        ] {
            assert_eq!(demand.is_met(freshness, NOW), met, "{freshness:?} {demand:?}");
        }
    }
}
