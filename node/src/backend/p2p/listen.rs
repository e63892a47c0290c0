//! Listening: which addresses a node cannot do without.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use futures::future::join_all;
use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::time::Instant;

use super::{
    failure::fail,
    join::{self, Entering},
    node::Node,
};
use crate::{code::Code, control::api::Failure, network};

impl Node {
    pub(super) async fn listen(self: &Arc<Self>) -> Result<Vec<Multiaddr>, Failure> {
        let mut bound = Vec::new();
        let mut failures = Vec::new();
        let config = self.config();
        let addresses = &config.listen_addresses;
        let listening = join_all(addresses.iter().map(|address| self.network.listen(address.clone()))).await;
        for (address, outcome) in addresses.iter().zip(listening) {
            match outcome {
                Ok(addresses) if addresses.is_empty() => {
                    failures.push((address.clone(), no_address(address)))
                }
                Ok(addresses) => bound.extend(addresses),
                Err(error) => failures.push((address.clone(), fail(error))),
            }
        }
        // Nobody asked for QUIC by name: where a machine has none, there is TCP.
        let is_optional = |address: &Multiaddr| config.listens_by_default() && network::is_quic(address);
        // A machine without IPv6 is no reason not to start; a port that is taken is.
        let is_taken = |(address, failure): &(Multiaddr, Failure)| {
            failure.code == Code::AddressInUse && !is_optional(address)
        };
        let taken = failures.iter().position(is_taken);
        let is_fatal = |address: &Multiaddr| bound.is_empty() || !(is_ip6(address) || is_optional(address));
        let fatal = || failures.iter().position(|(address, _)| is_fatal(address));
        if let Some(at) = taken.or_else(fatal) {
            let mut failure = failures.swap_remove(at).1;
            if bound.is_empty() {
                // Nothing can be listened on: as a port that is taken is, to those who read the exit status.
                failure.code = Code::AddressInUse;
            }
            return Err(failure);
        }
        let mut without_quic = Vec::new();
        for (address, failure) in failures {
            tracing::warn!(%address, reason = failure.message, "an address is not listened on");
            if is_optional(&address) && !(is_ip6(&address) && failure.code != Code::AddressInUse) {
                without_quic.push(address);
            }
        }
        *self.without_quic.lock().unwrap_or_else(PoisonError::into_inner) = without_quic;
        self.network.look_around().await.map_err(fail)?;
        if !self.listening.swap(true, Ordering::Relaxed) {
            self.entering.send_replace(Entering::Since(Instant::now()));
            self.spawn(join::join(self.clone()));
        }
        Ok(bound)
    }

    /// Says that this node speaks TCP alone, where it was to listen on QUIC too.
    pub(super) fn quic_warning(&self) -> Option<String> {
        let without = self.without_quic.lock().unwrap_or_else(PoisonError::into_inner);
        let list: Vec<String> = without.iter().map(ToString::to_string).collect();
        (!list.is_empty()).then(|| {
            format!(
                "this node does not listen on {}, because the port is taken or UDP is not possible here: others connect to it over \
                 TCP. Free the port, then: ggen marketplace p2p restart",
                list.join(" and ")
            )
        })
    }
}

/// Every address of a family is listened on, and this machine has none of it by now.
fn no_address(address: &Multiaddr) -> Failure {
    let source = io::Error::new(io::ErrorKind::AddrNotAvailable, "this machine has no address of this kind");
    fail(network::Error::Listen { address: address.clone(), source })
}

fn is_ip6(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(_)))
}
