//! Caps the inbound connections of one address that are still in their handshake.
//!
//! The cap over all addresses bounds memory; this one keeps whoever opens connections and says nothing from filling that
//! cap alone, so that nobody else gets in until the handshakes time out.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

/// Too many connections of one address are in their handshake.
#[derive(Debug, thiserror::Error)]
#[error("more than {max} connections of {address} are in their handshake")]
struct TooMany {
    address: IpAddr,
    max: usize,
}

/// Counts handshakes by address.
#[derive(Debug)]
pub(super) struct Behaviour {
    max: usize,
    pending: HashMap<ConnectionId, IpAddr>,
    of_address: HashMap<IpAddr, usize>,
}

impl Behaviour {
    pub(super) fn new(max: usize) -> Self {
        Self { max, pending: HashMap::new(), of_address: HashMap::new() }
    }

    fn ended(&mut self, connection: ConnectionId) {
        let Some(address) = self.pending.remove(&connection) else { return };
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(address) = address_of(remote) else { return Ok(()) };
        let count = self.of_address.entry(address).or_default();
        if *count >= self.max {
            return Err(ConnectionDenied::new(TooMany { address, max: self.max }));
        }
        *count += 1;
        self.pending.insert(connection, address);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.ended(connection);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ListenFailure(failure) = event {
            self.ended(failure.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

fn address_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_gets_it_back() {
        let mut half_open = Behaviour::new(2);
        let local: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let mut knock = |n: usize, ip: &str| {
            let remote: Multiaddr = format!("/ip4/{ip}/tcp/{n}").parse().unwrap();
            let id = ConnectionId::new_unchecked(n);
            (id, half_open.handle_pending_inbound_connection(id, &local, &remote).is_ok())
        };
        let (first, admitted) = knock(1, "192.0.2.7");
        assert!(admitted && knock(2, "192.0.2.7").1 && !knock(3, "192.0.2.7").1);
        assert!(knock(4, "192.0.2.8").1, "another address is not affected");
        half_open.ended(first);
        half_open.ended(first);
        assert_eq!(half_open.of_address.values().sum::<usize>(), 2);
    }
}
