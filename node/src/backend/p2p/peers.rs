//! Peers: who is connected, what is known of them, and connecting to more.

use std::time::Duration;

use futures::{StreamExt, stream};
use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::time::{Instant, timeout_at};

use super::{
    failure::fail,
    node::{Node, asked_time},
};
use crate::{
    code::Code,
    config::parse_dial,
    control::{
        api::{
            BootstrapRequest, Bootstrapped, DialResult, DisconnectRequest, Disconnected, Failure,
            PeerDetails, PeerEvent, PeerInfo, PeerInfoRequest, PeerList, PeerListRequest, RefusedPeer,
        },
        peer_id,
    },
    limits::{DIALLED_AT_A_TIME_MAX, PEER_EVENTS_MAX},
    network::PeerSnapshot,
    peers::address_book,
    reputation::{Score, ban, ledger},
};

/// How long `bootstrap` and `connect` take where no time was given.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Addresses that are dialled at once.
const DIALS_AT_ONCE: usize = 16;

impl Node {
    pub(super) async fn peer_list(&self, request: PeerListRequest) -> Result<PeerList, Failure> {
        let least = request.min_reputation.map(Score::try_from).transpose().map_err(fail)?;
        let snapshot = self.network.snapshot().await.map_err(fail)?;
        let now = self.now();
        let connected = snapshot.peers;
        let all = connected.len();
        let peers = self
            .with_store(move |store| {
                store.read(|conn| {
                    let mut peers = Vec::new();
                    for peer in &connected {
                        let record = ledger::get(conn, &peer.peer)?;
                        if least.is_none_or(|least| record.score() >= least) {
                            let banned = ban::is_banned(conn, &peer.peer, now)?;
                            peers.push(with_snapshot(described(&record, banned), peer, now));
                        }
                    }
                    Ok(peers)
                })
            })
            .await?;
        let refused = snapshot.refused.into_iter().map(|refused| RefusedPeer {
            peer_id: refused.peer.to_string(),
            reason: refused.reason,
            time: refused.at.to_string(),
        });
        let hidden_by_reputation = all - peers.len();
        Ok(PeerList { total: peers.len(), peers, hidden_by_reputation, refused: refused.collect() })
    }

    pub(super) async fn peer_info(&self, request: PeerInfoRequest) -> Result<PeerDetails, Failure> {
        let peer = peer_id::parse(&request.peer_id)?;
        let snapshot = self.network.snapshot().await.map_err(fail)?;
        let connected = snapshot.peers.into_iter().find(|it| it.peer == peer);
        let (now, full) = (self.now(), request.full);
        let (record, banned, known, history) = self
            .with_store(move |store| {
                store.read(|conn| {
                    let history = match full {
                        true => Some(ledger::history(conn, &peer, PEER_EVENTS_MAX)?),
                        false => None,
                    };
                    let known = address_book::addresses(conn, &peer)?;
                    Ok((ledger::get(conn, &peer)?, ban::is_banned(conn, &peer, now)?, known, history))
                })
            })
            .await?;
        if connected.is_none() && !record.is_known() && known.is_empty() {
            return Err(Failure::new(
                Code::NotFound,
                format!("Nothing is known of peer {peer}."),
                "See who is connected: ggen marketplace p2p peer-list",
            ));
        }
        let mut info = described(&record, banned);
        info.addresses = known.into_iter().map(|known| known.address.to_string()).collect();
        if let Some(connected) = connected {
            info = with_snapshot(info, &connected, now);
        }
        let history = history.map(|events| {
            events
                .into_iter()
                .map(|event| PeerEvent {
                    penalty: event.penalty(),
                    time: event.time.to_string(),
                    kind: event.kind.to_string(),
                    subject: event.subject,
                    bytes: event.bytes,
                    duration_ms: u64::try_from(event.duration.as_millis()).unwrap_or(u64::MAX),
                    outcome: event.outcome,
                })
                .collect()
        });
        Ok(PeerDetails { peer: info, history, derivation: full.then(|| record.derivation(now)) })
    }

    pub(super) async fn bootstrap(&self, request: BootstrapRequest) -> Result<Bootstrapped, Failure> {
        let deadline = deadline(&request);
        let before = self.routing_table_peers().await?;
        let mut answer = self.dial_all(&request.addresses, deadline).await?;
        answer.routing_table_before = before;
        if answer.reached > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            // The table fills when the peers have said who they are.
            self.network.heads_read(left).await;
            match self.network.bootstrap(deadline.saturating_duration_since(Instant::now())).await {
                Ok(_) => {}
                Err(crate::network::Error::Timeout(_)) => answer.timed_out = true,
                Err(error) => return Err(fail(error)),
            }
        }
        answer.routing_table_after = self.routing_table_peers().await?;
        reached(answer)
    }

    pub(super) async fn connect(&self, request: BootstrapRequest) -> Result<Bootstrapped, Failure> {
        let before = self.routing_table_peers().await?;
        let mut answer = self.dial_all(&request.addresses, deadline(&request)).await?;
        answer.routing_table_before = before;
        answer.routing_table_after = self.routing_table_peers().await?;
        reached(answer)
    }

    async fn dial_all(&self, addresses: &[String], deadline: Instant) -> Result<Bootstrapped, Failure> {
        if addresses.is_empty() || addresses.len() > DIALLED_AT_A_TIME_MAX {
            return Err(Failure::new(
                Code::Usage,
                format!("{} addresses cannot be dialled at a time.", addresses.len()),
                format!("Name from 1 to {DIALLED_AT_A_TIME_MAX} addresses."),
            ));
        }
        let mut parsed = Vec::new();
        for address in addresses {
            parsed.push(parse_dial(address).map_err(|error| {
                Failure::new(Code::Usage, super::failure::sentence(&error), error.hint())
            })?);
        }
        let targets: Vec<_> = addresses.iter().cloned().zip(parsed).collect();
        let connected = self.network.snapshot().await.map_err(fail)?.peers;
        let connected = &connected;
        let results: Vec<(DialResult, bool)> = stream::iter(targets)
            .map(|(address_text, address)| async move {
                let left = deadline.saturating_duration_since(Instant::now());
                let note = connected_elsewhere(&address, connected);
                let dialled = timeout_at(deadline, self.network.dial(address, left)).await;
                let (peer, error, in_time) = match dialled {
                    Ok(Ok(peer)) => (Some(peer.to_string()), None, true),
                    Ok(Err(error)) => {
                        let in_time = error != crate::network::DialFailure::Timeout;
                        (None, Some(error.beside(&address_text)), in_time)
                    }
                    Err(_) => (None, Some("no answer in time".to_owned()), false),
                };
                let note = note.filter(|_| peer.is_some());
                (DialResult { address: address_text, peer_id: peer, error, note }, in_time)
            })
            .buffered(DIALS_AT_ONCE)
            .collect()
            .await;
        Ok(Bootstrapped {
            reached: results.iter().filter(|(result, _)| result.peer_id.is_some()).count(),
            timed_out: results.iter().any(|(_, in_time)| !in_time),
            results: results.into_iter().map(|(result, _)| result).collect(),
            ..Bootstrapped::default()
        })
    }

    pub(super) async fn disconnect(&self, request: DisconnectRequest) -> Result<Disconnected, Failure> {
        let peer = peer_id::parse(&request.peer_id)?;
        let connections = self.network.disconnect(peer).await.map_err(fail)?;
        if connections == 0 {
            return Err(Failure::new(
                Code::NotFound,
                format!("Peer {peer} is not connected."),
                "See who is: ggen marketplace p2p peer-list",
            ));
        }
        Ok(Disconnected { peer_id: peer.to_string(), connections })
    }

    async fn routing_table_peers(&self) -> Result<usize, Failure> {
        Ok(self.network.snapshot().await.map_err(fail)?.buckets.iter().sum())
    }
}

fn deadline(request: &BootstrapRequest) -> Instant {
    Instant::now() + asked_time(request.timeout_secs, CONNECT_TIMEOUT)
}

/// One address that answered is enough; none is a failure that says of each why.
fn reached(answer: Bootstrapped) -> Result<Bootstrapped, Failure> {
    if answer.reached > 0 {
        return Ok(answer);
    }
    let list: Vec<String> = answer
        .results
        .iter()
        .map(|result| format!("  {}: {}", result.address, result.error.as_deref().unwrap_or("no answer")))
        .collect();
    let own = crate::network::DialFailure::Own.to_string();
    if answer.results.iter().all(|result| result.error.as_deref() == Some(own.as_str())) {
        return Err(Failure::new(
            Code::Usage,
            format!("A node does not connect to itself:\n{}", list.join("\n")),
            "Name the address of another node; there: ggen marketplace p2p status",
        ));
    }
    let code = if answer.timed_out { Code::Timeout } else { Code::Network };
    Err(Failure::new(
        code,
        format!("None of the addresses was reached:\n{}", list.join("\n")),
        "Check the addresses and the network, or give more time with --timeout.",
    ))
}

fn described(record: &ledger::Record, banned: bool) -> PeerInfo {
    PeerInfo {
        peer_id: record.peer.to_string(),
        reputation: record.score().get(),
        successful_retrievals: record.successful,
        failed_retrievals: record.failed,
        last_seen: record.last_seen.map(|time| time.to_string()),
        packages_provided: record.packages_provided,
        packages_claimed: record.packages_claimed,
        bytes_received: record.bytes_received,
        bytes_sent: record.bytes_sent,
        banned,
        ..PeerInfo::default()
    }
}

fn with_snapshot(info: PeerInfo, peer: &PeerSnapshot, now: crate::time::Timestamp) -> PeerInfo {
    let mut addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    addresses.extend(
        info.addresses.iter().filter(|known| !addresses.contains(known)).cloned().collect::<Vec<_>>(),
    );
    PeerInfo {
        connected: true,
        addresses,
        direction: Some(if peer.outbound { "outbound" } else { "inbound" }.to_owned()),
        reached: Some(if peer.is_relayed { "relay" } else { "direct" }.to_owned()),
        transports: peer.transports.iter().map(|it| it.as_str().to_owned()).collect(),
        local_network: peer.is_neighbour,
        latency_ms: peer.round_trip.map(|round_trip| round_trip.as_secs_f64() * 1e3),
        protocols: peer.protocols.clone(),
        agent: peer.agent.clone(),
        protocol_version: peer.protocol_version.clone(),
        // A connection that stands was alive within the last ping; the books are written a moment later.
        last_seen: info.last_seen.clone().or_else(|| Some(now.to_string())),
        ..info
    }
}

/// Where a peer that an address names is connected already, at another address: this one is not dialled then.
fn connected_elsewhere(address: &Multiaddr, connected: &[PeerSnapshot]) -> Option<String> {
    let Some(Protocol::P2p(named)) = address.iter().last() else { return None };
    let peer = connected.iter().find(|it| it.peer == named)?;
    let bare: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
    let is_there = peer.addresses.iter().any(|at| *at == bare || at == address);
    if bare.is_empty() || is_there {
        return None;
    }
    let at = peer.addresses.first().map(|at| format!(" at {at}")).unwrap_or_default();
    Some(format!("it was connected already{at}; this address was not tried"))
}
