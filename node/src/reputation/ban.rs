//! Bans: who is refused, until when.
//!
//! A forged block is a ban at once. Each further offence after a ban was served doubles its length; each week of peace
//! takes one doubling back. What a peer does while it is banned changes nothing: blocks that were on their way when the
//! first forged one was found are one offence, not twenty. A ban by hand lasts as long as the user said, whatever else
//! happens.

use std::time::Duration;

use libp2p::PeerId;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Error, from_stored, to_stored};
use crate::time::Timestamp;

/// Length of a first ban.
pub const FIRST: Duration = Duration::from_secs(3600);
/// Length of any ban but one by hand, at most.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Peace of this length after a ban takes one doubling back.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Doublings at most: 2¹⁰ hours are more than [`LONGEST`].
const LEVEL_MAX: u32 = 11;

/// A ban, perhaps one that has ended but is not forgiven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// How many times the length was doubled, plus one; zero for a ban by hand of a peer with a clean record.
    pub level: u32,
    /// The first moment at which the peer is welcome again.
    pub until: Timestamp,
    /// Whether the user asked for it.
    pub manual: bool,
    /// Why, in a few words.
    pub reason: String,
}

impl Ban {
    /// Whether the peer is refused at `now`.
    ///
    /// A ban that seems to have more than [`LONGEST`] to run was made under a clock that ran ahead; it is over.
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.until && (self.manual || self.until.since(now) <= LONGEST)
    }

    /// The doublings that are not forgiven at `now`.
    fn level_at(&self, now: Timestamp) -> u32 {
        let forgiven = now.since(self.until).as_secs() / FORGIVEN_AFTER.as_secs();
        self.level.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    /// The ban that an offence at `now` brings, after what was there before.
    fn after(previous: Option<Self>, reason: &str, now: Timestamp) -> Self {
        match previous {
            Some(ban) if ban.holds(now) => ban,
            previous => {
                let level = previous.map_or(0, |ban| ban.level_at(now)).saturating_add(1).min(LEVEL_MAX);
                let length = FIRST.saturating_mul(1 << (level - 1)).min(LONGEST);
                Self { level, until: now.plus(length), manual: false, reason: reason.to_owned() }
            }
        }
    }
}

/// Finds the ban of `peer` that holds at `now`.
///
/// # Errors
/// [`Error::Database`].
pub fn of(conn: &Connection, peer: &PeerId, now: Timestamp) -> Result<Option<Ban>, Error> {
    Ok(stored(conn, peer)?.filter(|ban| ban.holds(now)))
}

/// Whether `peer` is refused at `now`.
///
/// # Errors
/// [`Error::Database`].
pub fn is_banned(conn: &Connection, peer: &PeerId, now: Timestamp) -> Result<bool, Error> {
    Ok(of(conn, peer, now)?.is_some())
}

/// Lists the bans that hold at `now`, by peer.
///
/// # Errors
/// [`Error::Database`].
pub fn all(conn: &Connection, now: Timestamp) -> Result<Vec<(PeerId, Ban)>, Error> {
    let mut statement =
        conn.prepare_cached("SELECT level, until, manual, reason, peer FROM reputation_bans ORDER BY peer")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, Vec<u8>>(4)?, ban(row)?)))?;
    let mut bans = Vec::new();
    for row in rows {
        let (peer, ban) = row?;
        if let Ok(peer) = PeerId::from_bytes(&peer)
            && ban.holds(now)
        {
            bans.push((peer, ban));
        }
    }
    Ok(bans)
}

/// Refuses `peer` until `until`, as the user asked.
///
/// # Errors
/// [`Error::Database`].
pub fn by_hand(tx: &Transaction<'_>, peer: &PeerId, until: Timestamp, reason: &str) -> Result<(), Error> {
    let level = stored(tx, peer)?.map_or(0, |ban| ban.level);
    put(tx, peer, &Ban { level, until, manual: true, reason: reason.to_owned() })
}

/// Welcomes `peer` again and forgives it; tells whether there was anything to forgive.
///
/// # Errors
/// [`Error::Database`].
pub fn lift(tx: &Transaction<'_>, peer: &PeerId) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM reputation_bans WHERE peer = ?1", params![peer.to_bytes()])? > 0)
}

/// Bans `peer` for an offence; gives the ban where it is a new one.
pub(super) fn impose(
    tx: &Transaction<'_>,
    peer: &PeerId,
    reason: &str,
    now: Timestamp,
) -> Result<Option<Ban>, Error> {
    let previous = stored(tx, peer)?;
    let ban = Ban::after(previous.clone(), reason, now);
    if previous.as_ref() == Some(&ban) {
        return Ok(None);
    }
    put(tx, peer, &ban)?;
    Ok(Some(ban))
}

fn put(tx: &Transaction<'_>, peer: &PeerId, ban: &Ban) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO reputation_bans (peer, level, until, manual, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![peer.to_bytes(), ban.level, to_stored(ban.until.as_secs()), ban.manual, ban.reason])?;
    Ok(())
}

fn stored(conn: &Connection, peer: &PeerId) -> Result<Option<Ban>, Error> {
    Ok(conn
        .prepare_cached("SELECT level, until, manual, reason FROM reputation_bans WHERE peer = ?1")?
        .query_row(params![peer.to_bytes()], ban)
        .optional()?)
}

fn ban(row: &Row<'_>) -> rusqlite::Result<Ban> {
    Ok(Ban {
        level: u32::try_from(row.get::<_, i64>(0)?).unwrap_or(LEVEL_MAX).min(LEVEL_MAX),
        until: Timestamp::from_secs(from_stored(row.get(1)?)),
        manual: row.get(2)?,
        reason: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_ban_doubles_with_each_offence_and_ends() {
        let mut now = NOW;
        let mut ban: Option<Ban> = None;
        let mut lengths = Vec::new();
        for _ in 0..14 {
            let next = Ban::after(ban, "forged", now);
            assert!(next.holds(now));
            assert!(!next.holds(next.until));
            lengths.push(next.until.since(now).as_secs() / 3600);
            now = next.until;
            ban = Some(next);
        }
        assert_eq!(lengths[..5], [1, 2, 4, 8, 16]);
        assert_eq!(lengths[13], 30 * 24, "no ban but one by hand is permanent");
    }

    #[test]
    fn offences_during_a_ban_are_one_offence() {
        let first = Ban::after(None, "forged", NOW);
        assert_eq!(Ban::after(Some(first.clone()), "forged", NOW.plus(FIRST / 2)), first);
    }

    #[test]
    fn peace_takes_doublings_back() {
        let ban = Ban { level: 4, until: NOW, manual: false, reason: "forged".to_owned() };
        let length = |peace| {
            let now = NOW.plus(peace);
            Ban::after(Some(ban.clone()), "forged", now).until.since(now)
        };
        assert_eq!(length(Duration::ZERO), FIRST * 16);
        assert_eq!(length(FORGIVEN_AFTER), FIRST * 8);
        assert_eq!(length(FORGIVEN_AFTER * 4), FIRST);
        assert_eq!(length(FORGIVEN_AFTER * 400), FIRST);
    }

    #[test]
    fn a_clock_that_ran_ahead_bans_nobody_for_years() {
        let ahead = NOW.plus(Duration::from_secs(10 * 365 * 24 * 3600));
        let ban = Ban::after(None, "forged", ahead);
        assert!(ban.holds(ahead));
        assert!(!ban.holds(NOW));
        assert!(Ban { manual: true, ..ban }.holds(NOW), "a person may ban for as long as they like");
    }
}
