//! Who told of how much, and who gives way where there is no room.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    Error,
    counts::{self, By},
    from_ordered,
    insert::remove,
    to_bits, to_ordered,
};
use crate::{
    content::ContentId,
    heads::Item,
    identity::PublisherId,
    limits::{CATALOG_PROVIDED_PER_SOURCE_MAX, CATALOG_PROVIDED_PER_TREE_MAX},
    package::PackageId,
    peers::policy::Network,
    time::Timestamp,
};

/// From whom this node has a head: from a peer, or from the peers of one public network, which may be many ids of one machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(Vec<u8>);

impl Source {
    /// This node itself, for which there is always room.
    pub fn own() -> Self {
        Self(Vec::new())
    }

    /// Somebody who cannot be named, such as whoever left a record in the DHT.
    pub fn unknown() -> Self {
        Self(vec![0])
    }

    /// A peer that is reached in a public network, or in none that is told apart.
    pub fn of(peer: &libp2p::PeerId, network: Option<Network>) -> Self {
        match network {
            Some(network) => Self([&[NETWORK][..], &network].concat()),
            None => Self(peer.to_bytes()),
        }
    }

    pub(super) fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn is_own(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a source begins with that is a network; no id of a peer does.
const NETWORK: u8 = 1;

/// Keeps a package whatever others send: there is room for it in a full catalogue, and what was seen of it is never
/// forgotten. For what this node publishes or has installed, which also pins its name.
///
/// # Errors
/// [`Error::Database`].
pub fn keep(tx: &Transaction<'_>, package: &PackageId) -> Result<(), Error> {
    tx.prepare_cached("INSERT OR IGNORE INTO catalog_kept (id) VALUES (?1)")?
        .execute(params![package.to_string()])?;
    Ok(())
}

/// Whether a package gives way to none.
pub(super) fn is_kept(tx: &Transaction<'_>, id: &str, source: &Source) -> Result<bool, Error> {
    let kept = "SELECT EXISTS (SELECT 1 FROM catalog_kept WHERE id = ?1)";
    Ok(source.is_own() || tx.prepare_cached(kept)?.query_row(params![id], |row| row.get(0))?)
}

/// The one of two sources that has the smaller share: a head counts as told by that one, so that nobody takes over the
/// packages of others by telling of them too.
pub(super) fn smaller(tx: &Transaction<'_>, first: Source, second: &Source) -> Result<Source, Error> {
    if first.is_own() || first == *second {
        return Ok(first);
    }
    let other_is_smaller = second.is_own() || heads_of(tx, second)? < heads_of(tx, &first)?;
    Ok(if other_is_smaller { second.clone() } else { first })
}

fn heads_of(tx: &Transaction<'_>, source: &Source) -> Result<u64, Error> {
    let heads: Option<i64> = tx
        .prepare_cached("SELECT heads FROM catalog_sources WHERE source = ?1")?
        .query_row(params![source.0], |row| row.get(0))
        .optional()?;
    Ok(heads.map_or(0, from_ordered))
}

/// Removes one head of the peer that has the largest share, which must be larger than that of `source`; tells whether there was
/// one. For a head that is kept, anybody gives way. Where `source` has the largest share itself, a head of it gives way that was
/// confirmed before `confirmed`, so that a catalogue which one peer filled goes on with the time.
///
/// Of a share, first goes what has no known provider, then what was confirmed longest ago, then what came last.
pub(super) fn give_way(
    tx: &Transaction<'_>,
    source: &Source,
    kept: bool,
    confirmed: Timestamp,
) -> Result<bool, Error> {
    let least = if kept { 0 } else { heads_of(tx, source)? };
    let shares =
        "SELECT source FROM catalog_sources WHERE heads > ?1 AND source <> x'' ORDER BY heads DESC, source";
    let stalest = "SELECT position FROM catalog_heads AS h
                   WHERE source = ?1 AND confirmed < ?2
                     AND NOT EXISTS (SELECT 1 FROM catalog_kept AS k WHERE k.id = h.id)
                   ORDER BY provided, confirmed, position DESC LIMIT 1";
    let goes = |of: &[u8], before: i64| -> Result<bool, Error> {
        let position: Option<i64> =
            tx.prepare_cached(stalest)?.query_row(params![of, before], |row| row.get(0)).optional()?;
        position.map(|position| remove(tx, position)).transpose().map(|removed| removed.is_some())
    };
    let mut statement = tx.prepare_cached(shares)?;
    let mut rows = statement.query(params![to_ordered(least)])?;
    while let Some(row) = rows.next()? {
        let largest: Vec<u8> = row.get(0)?;
        if goes(&largest, i64::MAX)? {
            return Ok(true);
        }
    }
    Ok(!source.is_own() && goes(&source.0, to_ordered(confirmed.as_secs()))?)
}

/// Removes the head of a publisher that is under the earliest keys, and of these was released first, where that comes before `item`, which is
/// under the key document `key_n`; tells whether there was one. A key that was replaced displaces nothing of a later one.
///
/// Which heads stay of a publisher that has too many follows from the heads alone, so that all nodes hold the same.
pub(super) fn oldest_gives_way(
    tx: &Transaction<'_>,
    publisher: &PublisherId,
    key_n: u64,
    item: &Item,
) -> Result<bool, Error> {
    let oldest = "SELECT position FROM catalog_heads AS h
                  WHERE publisher = ?1 AND (key_n, released, item) < (?2, ?3, ?4)
                    AND NOT EXISTS (SELECT 1 FROM catalog_kept AS k WHERE k.id = h.id)
                  ORDER BY key_n, released, item LIMIT 1";
    let position: Option<i64> = tx
        .prepare_cached(oldest)?
        .query_row(
            params![publisher.as_bytes(), to_bits(key_n), to_ordered(item.released), item.id.0],
            |row| row.get(0),
        )
        .optional()?;
    position.map(|position| remove(tx, position)).transpose().map(|removed| removed.is_some())
}

/// Notes that `source` provides a tree: heads that offer it are given up after those that offer what nobody has, and found before them.
///
/// Whoever says so is not believed beyond a bound, which the peers of one public network share: so many heads, and of one tree
/// a few. A head counts for the smaller share where several say so.
///
/// # Errors
/// [`Error::Database`].
pub fn provided(tx: &Transaction<'_>, root: &ContentId, source: &Source) -> Result<(), Error> {
    let share = provided_by(tx, source)?;
    let room = (CATALOG_PROVIDED_PER_SOURCE_MAX as u64).saturating_sub(share);
    let offering: Vec<(i64, Option<Vec<u8>>)> = tx
        .prepare_cached(
            "SELECT position, provider FROM catalog_heads WHERE root = ?1 ORDER BY position LIMIT ?2",
        )?
        .query_map(params![root.to_bytes(), to_ordered(CATALOG_PROVIDED_PER_TREE_MAX as u64)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut marked = 0;
    for (position, provider) in offering {
        let is_larger = |other: Vec<u8>| -> Result<bool, Error> {
            Ok(other != source.0 && provided_by(tx, &Source(other))? > share + marked)
        };
        if marked < room && provider.map_or(Ok(true), is_larger)? {
            tx.prepare_cached("UPDATE catalog_heads SET provided = 1, provider = ?2 WHERE position = ?1")?
                .execute(params![position, source.0])?;
            marked += 1;
        }
    }
    Ok(())
}

/// Heads that count as provided by a source.
fn provided_by(tx: &Transaction<'_>, source: &Source) -> Result<u64, Error> {
    let heads: i64 = tx
        .prepare_cached("SELECT count(*) FROM catalog_heads WHERE provider = ?1")?
        .query_row(params![source.0], |row| row.get(0))?;
    Ok(from_ordered(heads))
}

/// Forgets what was seen until no more than `seen_max` is left: the oldest of whoever has the largest share, and never of a
/// package that is listed or kept.
pub(super) fn forget_oldest(tx: &Transaction<'_>, seen_max: usize) -> Result<(), Error> {
    let oldest = "DELETE FROM catalog_seen WHERE id = (
                      SELECT id FROM catalog_seen AS s WHERE source = ?1
                      AND NOT EXISTS (SELECT 1 FROM catalog_heads AS h WHERE h.id = s.id)
                      AND NOT EXISTS (SELECT 1 FROM catalog_kept AS k WHERE k.id = s.id)
                      ORDER BY frozen, at, id LIMIT 1)";
    let seen: i64 = tx.prepare_cached("SELECT seen FROM catalog_totals")?.query_row([], |row| row.get(0))?;
    'over: for _ in 0..from_ordered(seen).saturating_sub(seen_max as u64) {
        let mut statement = tx
            .prepare_cached("SELECT source FROM catalog_sources WHERE seen > 0 ORDER BY seen DESC, source")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let largest: Vec<u8> = row.get(0)?;
            if tx.prepare_cached(oldest)?.execute(params![largest])? > 0 {
                counts::change(tx, &Source(largest), By { heads: 0, seen: -1 })?;
                continue 'over;
            }
        }
        break;
    }
    Ok(())
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
