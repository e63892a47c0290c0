//! The addresses of other nodes, kept over restarts.
//!
//! A peer that was reached before is worth more than any number of peers that somebody told of: when there is no room, what
//! never worked goes first, so a flood of invented addresses cannot push out the way back into the network. Addresses
//! are stored without `/p2p`.

use std::collections::BTreeSet;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Error, Origin, Scope, acceptable, policy::without_peer};
use crate::{
    limits::{ADDRESSES_PER_PEER_MAX, PEERS_MAX},
    time::Timestamp,
};

/// An address that never worked is dropped after this many failures in a row.
const FAILURES_MAX: u32 = 5;

/// Where an address is from, and thereby what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The bootstrap list.
    Bootstrap,
    /// A connection that was dialled under it.
    Connected,
    /// The peer itself, which is reached at an address of this scope.
    Identify(Scope),
    /// Another peer, which is reached at an address of this scope.
    Dht(Scope),
}

impl Source {
    fn number(self) -> u8 {
        match self {
            Self::Bootstrap => 0,
            Self::Connected => 1,
            Self::Identify(_) => 2,
            Self::Dht(_) => 3,
        }
    }

    fn origin(self) -> Origin {
        match self {
            Self::Bootstrap | Self::Connected => Origin::User,
            Self::Identify(scope) | Self::Dht(scope) => Origin::Peer(scope),
        }
    }
}

/// One address of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The address, without `/p2p`.
    pub address: Multiaddr,
    /// When a connection over it last stood.
    pub last_success: Option<Timestamp>,
    /// When somebody last told of it.
    pub last_learned: Timestamp,
    /// Failures since it last worked.
    pub failures: u32,
}

/// A peer to come back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The peer.
    pub peer: PeerId,
    /// When it was last reached.
    pub last_success: Option<Timestamp>,
    /// Its addresses, the best first, without `/p2p`.
    pub addresses: Vec<Multiaddr>,
}

impl Saved {
    /// The addresses with `/p2p/<peer>`, as they are dialled.
    pub fn dialable(&self) -> impl Iterator<Item = Multiaddr> + '_ {
        self.addresses.iter().map(|address| address.clone().with(Protocol::P2p(self.peer)))
    }
}

/// Notes addresses of `peer`; those that the [`policy`](super::policy) refuses, and those over the bound, are passed over.
/// Gives how many are held of those given.
///
/// # Errors
/// [`Error::Database`].
pub fn learned(
    tx: &Transaction<'_>,
    peer: &PeerId,
    addresses: &[Multiaddr],
    source: Source,
    now: Timestamp,
) -> Result<usize, Error> {
    // What one message tells is bounded before it costs a write: the first of each that are good for something.
    let mut accepted = BTreeSet::new();
    for address in addresses.iter().take(ADDRESSES_PER_PEER_MAX * 16) {
        if accepted.len() < ADDRESSES_PER_PEER_MAX
            && let Ok(address) = without_peer(address, peer)
            && acceptable(&address, source.origin()).is_ok()
        {
            accepted.insert(address.to_vec());
        }
    }
    if accepted.is_empty() {
        return Ok(0);
    }
    let known = note_peer(tx, peer, now, source == Source::Bootstrap)?;
    for address in &accepted {
        tx.prepare_cached(
            "INSERT INTO book_addresses (peer, address, source, last_learned) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET source = min(source, ?3), last_learned = ?4",
        )?
        .execute(params![peer.to_bytes(), address, source.number(), stored(now)])?;
    }
    trim_addresses(tx, peer)?;
    if !known {
        make_room(tx, PEERS_MAX)?;
    }
    let held: BTreeSet<_> = addresses_of(tx, peer)?.into_iter().map(|known| known.address.to_vec()).collect();
    Ok(accepted.intersection(&held).count())
}

/// Notes that a connection with `peer` stands, dialled at `address`.
///
/// # Errors
/// [`Error::Database`].
pub fn succeeded(
    tx: &Transaction<'_>,
    peer: &PeerId,
    address: &Multiaddr,
    now: Timestamp,
) -> Result<(), Error> {
    let Ok(address) = without_peer(address, peer) else { return Ok(()) };
    if acceptable(&address, Origin::User).is_err() {
        return Ok(());
    }
    let known = note_peer(tx, peer, now, false)?;
    tx.prepare_cached("UPDATE book_peers SET last_success = ?2 WHERE peer = ?1")?
        .execute(params![peer.to_bytes(), stored(now)])?;
    tx.prepare_cached(
        "INSERT INTO book_addresses (peer, address, source, last_learned, last_success) VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT DO UPDATE SET source = min(source, ?3), last_success = ?4, failures = 0",
    )?
    .execute(params![peer.to_bytes(), address.to_vec(), Source::Connected.number(), stored(now)])?;
    trim_addresses(tx, peer)?;
    if known { Ok(()) } else { make_room(tx, PEERS_MAX) }
}

/// Notes that dialling `peer` at `address` failed; one that never worked is dropped after a few times.
///
/// # Errors
/// [`Error::Database`].
pub fn failed(tx: &Transaction<'_>, peer: &PeerId, address: &Multiaddr) -> Result<(), Error> {
    let Ok(address) = without_peer(address, peer) else { return Ok(()) };
    let key = params![peer.to_bytes(), address.to_vec()];
    tx.prepare_cached(
        "UPDATE book_addresses SET failures = min(failures + 1, 1000000) WHERE peer = ?1 AND address = ?2",
    )?
    .execute(key)?;
    tx.prepare_cached(
        "DELETE FROM book_addresses
         WHERE peer = ?1 AND address = ?2 AND last_success IS NULL AND source > 0 AND failures >= ?3",
    )?
    .execute(params![peer.to_bytes(), address.to_vec(), FAILURES_MAX])?;
    drop_if_empty(tx, peer)
}

/// Forgets an address at which another peer answered.
///
/// # Errors
/// [`Error::Database`].
pub fn forget(tx: &Transaction<'_>, peer: &PeerId, address: &Multiaddr) -> Result<(), Error> {
    let Ok(address) = without_peer(address, peer) else { return Ok(()) };
    tx.execute(
        "DELETE FROM book_addresses WHERE peer = ?1 AND address = ?2",
        params![peer.to_bytes(), address.to_vec()],
    )?;
    drop_if_empty(tx, peer)
}

/// Reads the addresses of `peer`, the best first.
///
/// # Errors
/// [`Error::Database`].
pub fn addresses(conn: &Connection, peer: &PeerId) -> Result<Vec<Known>, Error> {
    addresses_of(conn, peer)
}

/// Chooses up to `limit` peers to dial at start: those reached most recently first, then those only heard of, most
/// recently first; ties by peer id. A success that lies ahead of `now` counts as one of now.
///
/// # Errors
/// [`Error::Database`].
pub fn best(conn: &Connection, limit: usize, now: Timestamp) -> Result<Vec<Saved>, Error> {
    chosen(conn, "true", limit, now)
}

/// As [`best`], of those peers that served the DHT when they were last seen.
///
/// # Errors
/// [`Error::Database`].
pub fn best_servers(conn: &Connection, limit: usize, now: Timestamp) -> Result<Vec<Saved>, Error> {
    chosen(conn, "peer IN (SELECT peer FROM book_servers)", limit, now)
}

/// Notes that `peer`, which is in the book, serves the DHT.
///
/// # Errors
/// [`Error::Database`].
pub fn serves(tx: &Transaction<'_>, peer: &PeerId, now: Timestamp) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO book_servers (peer, last_seen) SELECT ?1, ?2
         WHERE EXISTS (SELECT 1 FROM book_peers WHERE peer = ?1)
         ON CONFLICT DO UPDATE SET last_seen = ?2",
    )?
    .execute(params![peer.to_bytes(), stored(now)])?;
    // No more of them than there are peers in the book, whose number is bounded.
    tx.prepare_cached("DELETE FROM book_servers WHERE peer NOT IN (SELECT peer FROM book_peers)")?
        .execute([])?;
    Ok(())
}

fn chosen(conn: &Connection, which: &str, limit: usize, now: Timestamp) -> Result<Vec<Saved>, Error> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT peer, last_success FROM book_peers WHERE {which}
         ORDER BY last_success IS NULL, min(last_success, ?1) DESC, min(last_learned, ?1) DESC, peer LIMIT ?2",
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement
        .query_map(params![stored(now), limit], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut saved = Vec::with_capacity(rows.len());
    for (peer, last_success) in rows {
        let Ok(peer) = PeerId::from_bytes(&peer) else { continue };
        let addresses: Vec<_> = addresses_of(conn, &peer)?.into_iter().map(|known| known.address).collect();
        if !addresses.is_empty() {
            saved.push(Saved { peer, last_success: last_success.map(time), addresses });
        }
    }
    Ok(saved)
}

/// Peers in the book.
///
/// # Errors
/// [`Error::Database`].
pub fn count(conn: &Connection) -> Result<usize, Error> {
    let peers: i64 =
        conn.prepare_cached("SELECT count(*) FROM book_peers")?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(peers).unwrap_or(0))
}

/// The order in which addresses are tried, and the reverse of that in which they are dropped.
const BEST_FIRST: &str =
    "last_success IS NULL, last_success DESC, failures, source, last_learned DESC, address";

fn addresses_of(conn: &Connection, peer: &PeerId) -> Result<Vec<Known>, Error> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT address, last_success, last_learned, failures FROM book_addresses WHERE peer = ?1 ORDER BY {BEST_FIRST}"
    ))?;
    let rows = statement
        .query_map(params![peer.to_bytes()], |row| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                row.get::<_, Option<i64>>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let known = rows.into_iter().filter_map(|(address, last_success, last_learned, failures)| {
        Some(Known {
            // A damaged row is passed over; the next one that is learned replaces it.
            address: Multiaddr::try_from(address).ok()?,
            last_success: last_success.map(time),
            last_learned: time(last_learned),
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
        })
    });
    Ok(known.collect())
}

/// Makes sure that the peer has a row; tells whether it had one.
fn note_peer(tx: &Transaction<'_>, peer: &PeerId, now: Timestamp, kept: bool) -> Result<bool, Error> {
    let known = tx
        .prepare_cached("SELECT 1 FROM book_peers WHERE peer = ?1")?
        .query_row(params![peer.to_bytes()], |_| Ok(()))
        .optional()?
        .is_some();
    tx.prepare_cached(
        "INSERT INTO book_peers (peer, last_learned, kept) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET last_learned = ?2, kept = max(kept, ?3)",
    )?
    .execute(params![peer.to_bytes(), stored(now), kept])?;
    Ok(known)
}

fn trim_addresses(tx: &Transaction<'_>, peer: &PeerId) -> Result<(), Error> {
    tx.prepare_cached(&format!(
        "DELETE FROM book_addresses WHERE peer = ?1 AND address IN
         (SELECT address FROM book_addresses WHERE peer = ?1 ORDER BY {BEST_FIRST} LIMIT -1 OFFSET ?2)"
    ))?
    .execute(params![peer.to_bytes(), ADDRESSES_PER_PEER_MAX as i64])?;
    Ok(())
}

fn drop_if_empty(tx: &Transaction<'_>, peer: &PeerId) -> Result<(), Error> {
    tx.prepare_cached(
        "DELETE FROM book_peers WHERE peer = ?1 AND NOT EXISTS (SELECT 1 FROM book_addresses WHERE peer = ?1)",
    )?
    .execute(params![peer.to_bytes()])?;
    Ok(())
}

/// Forgets peers over `peers_max`: those that never worked first, then those reached or heard of longest ago; those of the
/// bootstrap list last.
fn make_room(tx: &Transaction<'_>, peers_max: usize) -> Result<(), Error> {
    let over = count(tx)?.saturating_sub(peers_max);
    if over == 0 {
        return Ok(());
    }
    let mut statement = tx.prepare_cached(
        "SELECT peer FROM book_peers
         ORDER BY kept, last_success IS NOT NULL, last_success, last_learned, peer LIMIT ?1",
    )?;
    let worst = statement
        .query_map(params![i64::try_from(over).unwrap_or(i64::MAX)], |row| row.get::<_, Vec<u8>>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for peer in worst {
        tx.execute("DELETE FROM book_addresses WHERE peer = ?1", params![peer])?;
        tx.execute("DELETE FROM book_peers WHERE peer = ?1", params![peer])?;
    }
    Ok(())
}

fn stored(time: Timestamp) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn time(stored: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(stored).unwrap_or(0))
}

#[cfg(test)]
#[path = "address_book_tests.rs"]
mod tests;
