//! Dials that somebody waits for: which are begun at all, and what became of them.

use std::{collections::HashMap, iter};

use libp2p::{
    Multiaddr, PeerId, TransportError,
    multiaddr::Protocol,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{command::Target, driver::PENDING_MAX, peers::Peers};

/// Why nobody answered under an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialFailure {
    /// Another peer answered than the address names.
    #[error("expected peer {expected}, got {obtained}")]
    WrongPeer {
        /// Whom the address names.
        expected: String,
        /// Who answered.
        obtained: PeerId,
    },
    /// The address leads back to this node.
    #[error("the address is this node's own")]
    Own,
    /// No address is known.
    #[error("no address is known for this peer")]
    NoAddress,
    /// This node refuses the connection.
    #[error("refused by this node: {0}")]
    Denied(String),
    /// The connection failed.
    #[error("{0}")]
    Failed(String),
    /// The time ran out.
    #[error("no answer in time")]
    Timeout,
}

impl DialFailure {
    /// As it is told where the address stands beside it.
    pub fn beside(&self, address: &str) -> String {
        self.to_string().replace(&format!("{address}: "), "")
    }
}

/// Who waits for the outcome of a dial.
pub(super) type Reply = oneshot::Sender<Result<PeerId, DialFailure>>;

/// The dials in progress, with the peer that each of them names.
#[derive(Default)]
pub(super) struct Dialling {
    dials: HashMap<ConnectionId, (Option<PeerId>, Reply)>,
}

/// What is to be done where somebody is to be dialled.
#[derive(Debug)]
pub(super) enum Plan {
    /// Nothing: the outcome is known.
    Known(Result<PeerId, DialFailure>),
    /// A dial, of the peer that the address names.
    Dial(Option<PeerId>, DialOpts),
}

impl Dialling {
    /// Dials in progress.
    pub(super) fn len(&self) -> usize {
        self.dials.len()
    }

    /// Says how to reach `target` from the node `local`; `met` are addresses of it that lookups found.
    pub(super) fn plan(&self, target: Target, local: PeerId, peers: &Peers, met: &[Multiaddr]) -> Plan {
        if self.dials.len() >= PENDING_MAX {
            return Plan::Known(Err(DialFailure::Denied("too many dials are in progress".to_owned())));
        }
        let named = target.named();
        match named {
            Some(peer) if peer == local => return Plan::Known(Err(DialFailure::Own)),
            Some(peer) if peers.contains_key(&peer) => return Plan::Known(Ok(peer)),
            _ => {}
        }
        if let Target::Address(address) = &target
            && let Some(peer) = peers.connected_at(address)
        {
            return Plan::Known(Ok(peer));
        }
        let options = match target {
            Target::Address(address) => DialOpts::unknown_peer_id().address(address).build(),
            Target::Peer(peer, mut addresses) => {
                let more: Vec<Multiaddr> = met.iter().filter(|it| !addresses.contains(it)).cloned().collect();
                addresses.extend(more);
                DialOpts::peer_id(peer)
                    .condition(PeerCondition::Disconnected)
                    .addresses(addresses)
                    .extend_addresses_through_behaviour()
                    .build()
            }
        };
        Plan::Dial(named, options)
    }

    /// Notes what the swarm said when it was asked to dial.
    pub(super) fn begin(
        &mut self,
        connection: ConnectionId,
        named: Option<PeerId>,
        begun: Result<(), DialError>,
        reply: Reply,
    ) {
        match begun {
            Ok(()) => drop(self.dials.insert(connection, (named, reply))),
            Err(error) => drop(reply.send(Err(dial_failure(named, &error)))),
        }
    }

    /// Tells who waits for a dial that its connection stands.
    pub(super) fn reached(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some((_, reply)) = self.dials.remove(&connection) {
            let _ = reply.send(Ok(peer));
        }
    }

    /// Tells who waits for a dial that it failed; also where another one reached that peer meanwhile.
    pub(super) fn failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
        peers: &Peers,
    ) {
        if let Some((named, reply)) = self.dials.remove(&connection) {
            let reached = named.filter(|peer| peers.contains_key(peer));
            let _ = reply.send(reached.ok_or_else(|| dial_failure(named.or(peer), error)));
        }
    }
}

impl Target {
    /// The peer that it names.
    pub(super) fn named(&self) -> Option<PeerId> {
        match self {
            Self::Peer(peer, _) => Some(*peer),
            Self::Address(address) => address.iter().last().and_then(|part| match part {
                Protocol::P2p(peer) => Some(peer),
                _ => None,
            }),
        }
    }
}

/// What a failed dial means to whoever asked for it.
fn dial_failure(named: Option<PeerId>, error: &DialError) -> DialFailure {
    match error {
        DialError::WrongPeerId { obtained, .. } => DialFailure::WrongPeer {
            expected: named.map_or_else(|| "another one".to_owned(), |peer| peer.to_string()),
            obtained: *obtained,
        },
        DialError::LocalPeerId { .. } => DialFailure::Own,
        // An address that was given is left out of the dial only where this node listens on it.
        DialError::NoAddresses if named.is_none() => DialFailure::Own,
        DialError::NoAddresses => DialFailure::NoAddress,
        DialError::Denied { cause } => DialFailure::Denied(innermost(cause)),
        DialError::Transport(errors) => {
            let reasons: Vec<String> = errors
                .iter()
                .map(|(address, error)| match error {
                    TransportError::MultiaddrNotSupported(_) => {
                        format!("{address}: this kind of address is not supported")
                    }
                    TransportError::Other(error) => {
                        let reason = innermost(error);
                        // A name that is resolved to several addresses says itself which of them failed.
                        match reason.contains(&format!("{address}: ")) {
                            true => reason,
                            false => format!("{address}: {reason}"),
                        }
                    }
                })
                .take(4)
                .collect();
            DialFailure::Failed(reasons.join("; "))
        }
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => {
            DialFailure::Failed("the dial was given up".to_owned())
        }
    }
}

/// The reason at the bottom of a chain of errors: transports wrap it many times over.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = iter::successors(Some(error), |error| error.source());
    chain.last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn known(plan: Plan) -> Result<PeerId, DialFailure> {
        match plan {
            Plan::Known(outcome) => outcome,
            Plan::Dial(named, _) => panic!("a dial of {named:?}"),
        }
    }

    #[test]
    fn nobody_dials_itself_or_a_peer_that_is_connected() {
        let (dialling, local, peer) = (Dialling::default(), PeerId::random(), PeerId::random());
        let mut peers = Peers::default();
        let at = address("/ip4/203.0.113.1/tcp/4001");
        peers.connected(peer, ConnectionId::new_unchecked(1), at.clone(), true, Instant::now());
        let plan = |target| dialling.plan(target, local, &peers, &[]);
        assert_eq!(known(plan(Target::Peer(local, Vec::new()))), Err(DialFailure::Own));
        assert_eq!(known(plan(Target::Peer(peer, Vec::new()))), Ok(peer));
        assert_eq!(known(plan(Target::Address(at))), Ok(peer), "it answered there");
        let named = address(&format!("/ip4/203.0.113.2/tcp/1/p2p/{peer}"));
        assert_eq!(known(plan(Target::Address(named))), Ok(peer));
        let other = PeerId::random();
        let Plan::Dial(named, options) = plan(Target::Peer(other, Vec::new())) else { panic!("no dial") };
        assert_eq!((named, options.get_peer_id()), (Some(other), Some(other)));
    }

    #[test]
    fn dials_are_bounded_and_each_is_answered_once() {
        let (mut dialling, peer) = (Dialling::default(), PeerId::random());
        let mut waiting = Vec::new();
        for n in 0..PENDING_MAX {
            let (reply, outcome) = oneshot::channel();
            dialling.begin(ConnectionId::new_unchecked(n), None, Ok(()), reply);
            waiting.push(outcome);
        }
        let plan = dialling.plan(Target::Peer(peer, Vec::new()), PeerId::random(), &Peers::default(), &[]);
        assert!(matches!(known(plan), Err(DialFailure::Denied(_))));
        dialling.reached(ConnectionId::new_unchecked(0), peer);
        let mut peers = Peers::default();
        dialling.failed(ConnectionId::new_unchecked(0), None, &DialError::Aborted, &peers);
        assert_eq!(waiting[0].try_recv().unwrap(), Ok(peer));
        dialling.failed(ConnectionId::new_unchecked(1), Some(peer), &DialError::NoAddresses, &peers);
        assert_eq!(waiting[1].try_recv().unwrap(), Err(DialFailure::NoAddress));
        assert_eq!(dialling.len(), PENDING_MAX - 2);
        let (reply, mut outcome) = oneshot::channel();
        dialling.begin(ConnectionId::new_unchecked(7), Some(peer), Err(DialError::NoAddresses), reply);
        assert_eq!(outcome.try_recv().unwrap(), Err(DialFailure::NoAddress));
        let (reply, mut outcome) = oneshot::channel();
        dialling.begin(ConnectionId::new_unchecked(8), None, Err(DialError::NoAddresses), reply);
        assert_eq!(outcome.try_recv().unwrap(), Err(DialFailure::Own), "it listens there itself");
        let (reply, mut outcome) = oneshot::channel();
        dialling.begin(ConnectionId::new_unchecked(9), Some(peer), Ok(()), reply);
        peers.connected(peer, ConnectionId::new_unchecked(10), Multiaddr::empty(), true, Instant::now());
        dialling.failed(ConnectionId::new_unchecked(9), Some(peer), &DialError::Aborted, &peers);
        assert_eq!(outcome.try_recv().unwrap(), Ok(peer), "another dial reached it");
    }
}
