//! What a behaviour around one of libp2p's hands on to it unchanged.

/// Has the field `inner` answer for connections that come, and for those that stand; with `but inbound`, not for those that came and stand.
macro_rules! connections_of_inner {
    () => {
        $crate::network::inner::connections_of_inner!(but inbound);

        fn handle_established_inbound_connection(
            &mut self,
            connection: libp2p::swarm::ConnectionId,
            peer: libp2p::PeerId,
            local: &libp2p::Multiaddr,
            remote: &libp2p::Multiaddr,
        ) -> Result<libp2p::swarm::THandler<Self>, libp2p::swarm::ConnectionDenied> {
            self.inner.handle_established_inbound_connection(connection, peer, local, remote)
        }
    };
    (but inbound) => {
        fn handle_pending_inbound_connection(
            &mut self,
            connection: libp2p::swarm::ConnectionId,
            local: &libp2p::Multiaddr,
            remote: &libp2p::Multiaddr,
        ) -> Result<(), libp2p::swarm::ConnectionDenied> {
            self.inner.handle_pending_inbound_connection(connection, local, remote)
        }

        fn handle_established_outbound_connection(
            &mut self,
            connection: libp2p::swarm::ConnectionId,
            peer: libp2p::PeerId,
            address: &libp2p::Multiaddr,
            role: libp2p::core::Endpoint,
            port_use: libp2p::core::transport::PortUse,
        ) -> Result<libp2p::swarm::THandler<Self>, libp2p::swarm::ConnectionDenied> {
            self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)
        }
    };
}

/// Has the field `inner` say where peers are dialled.
macro_rules! dials_of_inner {
    () => {
        fn handle_pending_outbound_connection(
            &mut self,
            connection: libp2p::swarm::ConnectionId,
            peer: Option<libp2p::PeerId>,
            addresses: &[libp2p::Multiaddr],
            role: libp2p::core::Endpoint,
        ) -> Result<Vec<libp2p::Multiaddr>, libp2p::swarm::ConnectionDenied> {
            self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
        }
    };
}

pub(super) use {connections_of_inner, dials_of_inner};
