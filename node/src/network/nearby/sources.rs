//! From which address of this machine each connection comes: with the address, its connections are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use libp2p::{core::ConnectedPoint, swarm::ConnectionId};

use crate::{network::peers::ip_of, peers::policy};

/// An address of the internet that belongs to nobody.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The connections whose own address is known.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<ConnectionId, IpAddr>);

impl Sources {
    /// Notes a connection, with its own address where that is known.
    pub(super) fn opened(&mut self, connection: ConnectionId, own: Option<IpAddr>) {
        if let Some(own) = own.filter(|own| !own.is_loopback()) {
            self.0.insert(connection, own);
        }
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.0.remove(&connection);
    }

    /// The connections from addresses that this machine has no longer.
    pub(super) fn dead(&self, addresses: &BTreeSet<IpAddr>) -> Vec<ConnectionId> {
        self.0.iter().filter(|(_, own)| !addresses.contains(own)).map(|(connection, _)| *connection).collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<ConnectionId> {
        self.0.keys().copied().collect()
    }
}

/// The own address of a connection: the one that it came to, or the one from which the system sends to the other end.
pub(super) fn own_address(endpoint: &ConnectedPoint) -> Option<IpAddr> {
    if endpoint.is_relayed() {
        return None;
    }
    if let ConnectedPoint::Listener { local_addr, .. } = endpoint
        && let Some(own) = ip_of(local_addr).filter(|own| !own.is_unspecified())
    {
        return Some(own);
    }
    let remote = ip_of(endpoint.get_remote_address())
        .filter(|_| !policy::is_relayed(endpoint.get_remote_address()))?;
    let any =
        if remote.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    sends_from(any, remote)
}

/// The address from which the system sends to the rest of the world over IPv4, if it has a way there.
pub(super) fn outward() -> Option<IpAddr> {
    sends_from(Ipv4Addr::UNSPECIFIED.into(), OUTSIDE.into())
}

/// Nothing is sent: the system looks which way it would go.
fn sends_from(any: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 1)).ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::PortUse};

    use super::*;

    #[test]
    fn connections_go_with_the_address_that_they_come_from() {
        let [one, two, here] = [1, 2, 3].map(ConnectionId::new_unchecked);
        let [home, office]: [IpAddr; 2] = ["192.168.1.7", "10.0.0.7"].map(|ip| ip.parse().unwrap());
        let mut sources = Sources::default();
        sources.opened(one, Some(home));
        sources.opened(two, Some(office));
        sources.opened(here, Some(Ipv4Addr::LOCALHOST.into()));
        assert!(sources.dead(&BTreeSet::from([home, office])).is_empty());
        assert_eq!(sources.dead(&BTreeSet::from([office])), [one]);
        assert_eq!(sources.dead(&BTreeSet::new()), [one, two], "what is on this machine stays");
        sources.closed(one);
        assert_eq!(sources.all(), [two]);
    }

    #[test]
    fn the_system_says_from_where_it_sends() {
        let address = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
        let dialled =
            ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::Reuse };
        assert_eq!(own_address(&dialled), Some(Ipv4Addr::LOCALHOST.into()));
        let at = |local: &str| ConnectedPoint::Listener {
            local_addr: local.parse().unwrap(),
            send_back_addr: "/ip4/127.0.0.1/tcp/9".parse().unwrap(),
        };
        assert_eq!(own_address(&at("/ip4/192.0.2.1/tcp/1")), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(own_address(&at("/ip4/0.0.0.0/tcp/1")), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
